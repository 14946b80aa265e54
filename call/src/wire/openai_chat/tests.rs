//! Unit tests of the OpenAI Chat Completions parser.
