//! Unit tests of the Anthropic Messages parser.
