//! Endurance: each goal for faults and long runs, by a command that does the thing, prints the figures, and says whether
//! the goal holds. `cargo test` calls the same with small arguments.
//!
//! Commands return a [`Report`]; they panic only where they can't go on.

pub mod clock;
pub mod crash;
pub mod disk;
pub mod guard;
pub mod hold;
pub mod leave;
pub mod load;
pub mod models;
pub mod origin;
pub mod regress;
pub mod reload;
pub mod replay;
pub mod report;
pub mod restart;
pub mod shim;
pub mod soak;
pub mod streams;
pub mod weights;

pub use report::Report;

use crate::program::Home;
use std::collections::BTreeMap;
use tokio::runtime::Runtime;

/// A runtime for load and origins.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// How often each case is among the stored calls.
pub fn kept(home: &Home) -> BTreeMap<String, usize> {
    let mut kept = BTreeMap::new();
    for row in home.rows() {
        *kept
            .entry(row.tags.get("case").cloned().unwrap_or_default())
            .or_default() += 1;
    }
    kept
}

/// Seconds and milliseconds, for people.
pub fn millis(time: std::time::Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
