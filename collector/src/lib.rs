//! Placeholder.

pub mod mask;
