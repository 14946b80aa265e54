//! The hot path: takes calls, routes them, streams them through, copies them to the spool.
//!
//! Never fails or delays a call because capture failed, and never imports the collector.

pub mod config;
pub mod headers;
pub mod metrics;
pub mod route;
pub mod split;
pub mod spool;
pub mod tee;
