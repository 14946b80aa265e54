//! Work over all kept calls, row by row: assign, mask again, sum up. In this process (`local`), or as a worker that some
//! other engine pipes rows through (`worker`).
//!
//! A job is a map over rows, plus sums that add up in any order; so how rows are divided, and who divides them, changes
//! nothing, and the [`Digest`] of the results tells so. Nothing here schedules, shuffles or retries.

mod digest;
mod local;
mod mask;
mod rows;
mod stats;
mod step;
mod worker;

pub use digest::Digest;
pub use local::{Done, JobError, LocalOptions, Plan, Progress, plan, run, sums};
pub use rows::{Assigned, Digested, Sum};
pub use stats::{TaskStats, summary};
pub use step::{Counts, StepName, Work};
pub use worker::{digest, work};

#[cfg(test)]
mod tests;
