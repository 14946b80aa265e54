//! The hot path: takes calls, routes them, streams them through, copies them to the spool.
//!
//! Never fails or delays a call because capture failed, and never imports the collector. Read `exchange.rs` first.

pub mod accepted;
pub mod admin;
mod baseline;
mod bill;
mod body;
mod candidate;
pub mod capture;
pub mod certificate;
pub mod choose;
pub mod config;
mod connection;
pub mod control;
mod easy;
mod end;
mod exchange;
pub mod fallback;
mod filter;
mod form;
mod gate;
pub mod guard;
mod head;
pub mod headers;
mod hold;
mod line;
pub mod listener;
pub mod metrics;
pub mod proxy;
mod refusal;
mod relay;
mod reload;
pub mod route;
mod socket;
pub mod split;
pub mod spool;
mod state;
mod target;
pub mod tee;
mod tunnel;
mod valid;
mod workers;

pub use control::{
    ControlSource, ControlWritten, ControlsRead, NewestBook, TaskBookSource, load_controls, load_task_book,
    read_controls, watch_controls, watch_task_book,
};
pub use reload::{watch_certificate, watch_config};
