//! Unit tests of detection, dispatch and errors.
