//! Placeholder.

pub mod scan;
pub mod store;
pub mod table;
