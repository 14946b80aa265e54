//! How long a store is waited for, and how often it is asked again.
//!
//! One place for all kinds of store: the client beneath neither retries nor times out by itself. A create-only put is
//! never asked twice, as the first may have been done though its answer was an error.

use super::error::{StoreErrorKind, kind_of};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// How long a store may take for an answer that is not large.
const ANSWER: Duration = Duration::from_secs(30);
/// What is large may take longer, by this rate.
const SLOWEST_BYTES_PER_SECOND: f64 = 128.0 * 1024.0;
/// Tries of a verb at a store over the network.
const TRIES: u32 = 3;
/// Between the first two tries; four times that between the next.
const FIRST_WAIT: Duration = Duration::from_millis(150);

/// Why one try failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// No answer in this time.
    TimedOut(Duration),
    /// The store said no, or could not be reached.
    Store(object_store::Error),
}

impl Failure {
    pub(super) fn kind(&self) -> StoreErrorKind {
        match self {
            Failure::TimedOut(_) => StoreErrorKind::Timeout,
            Failure::Store(error) => kind_of(error),
        }
    }
}

/// How long, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Tries of a verb that may be asked again.
    pub(super) tries: u32,
    /// For an answer that is not large.
    pub(super) answer: Duration,
}

impl Patience {
    /// With what is in this machine: what failed once fails again.
    pub(super) fn local() -> Patience {
        Patience {
            tries: 1,
            answer: ANSWER,
        }
    }

    /// With what is behind a network.
    pub(super) fn remote() -> Patience {
        Patience {
            tries: TRIES,
            answer: ANSWER,
        }
    }

    /// Waits for a part of a verb that moves so many bytes.
    pub(super) async fn wait<T>(
        &self,
        bytes: u64,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Failure> {
        let limit = self.answer + Duration::from_secs_f64(bytes as f64 / SLOWEST_BYTES_PER_SECOND);
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result.map_err(Failure::Store),
            Err(_) => Err(Failure::TimedOut(limit)),
        }
    }

    /// Asks until it succeeds, or was asked often enough. What did not answer in time is not asked again: its caller has
    /// waited long enough.
    pub(super) async fn ask<T, W>(&self, mut work: impl FnMut() -> W) -> Result<T, Failure>
    where
        W: Future<Output = Result<T, Failure>>,
    {
        let mut wait = FIRST_WAIT;
        for _ in 1..self.tries {
            match work().await {
                Err(failure) if failure.kind() == StoreErrorKind::Retryable => {
                    tokio::time::sleep(jittered(wait)).await;
                    wait *= 4;
                }
                result => return result,
            }
        }
        work().await
    }
}

/// Between half and all of a delay, by chance, so that many that failed together do not come back together.
pub(crate) fn jittered(delay: Duration) -> Duration {
    let chance = RandomState::new().build_hasher().finish() >> 40;
    let share = chance as f64 / f64::from(1 << 24);
    delay.mul_f64(0.5 + share / 2.0)
}
