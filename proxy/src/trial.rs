//! How the calls of a split end: the one place where the result of an arm is known, for guards and metrics.
//!
//! A call that a split took part in carries a [`Trial`] from its choice to its end; [`Trials::ended`] is told of each one
//! once. Calls that stayed with the baseline because no candidate could take them are no trials.

use crate::fallback::Reason;
use std::time::Duration;
use understudy_call::record::Outcome;

/// How the arm that a split chose did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client got this arm's answer, whole.
    Answered,
    /// The candidate's answer was not given to the client: the baseline was asked instead. Never said of the baseline.
    FellBack(Reason),
    /// The client saw the failure: a baseline that answered with an error, or an arm that broke off in mid-stream.
    Failed(Outcome),
    /// The client went away before the end; that says nothing of the arm.
    ClientClosed,
}

/// The result of one call of a split.
#[derive(Clone, Copy, Debug)]
pub struct ArmResult<'a> {
    /// The route whose split it was.
    pub route: &'a str,
    /// The task, where the route asks for tasks and the call has one.
    pub task: Option<&'a str>,
    /// The upstream that the split chose.
    pub arm: &'a str,
    /// Whether that is a candidate.
    pub is_candidate: bool,
    /// The call's affinity key.
    pub affinity_key: Option<&'a str>,
    /// How it ended.
    pub ended: Ended,
    /// HTTP status of the arm's answer, where one came.
    pub status: Option<u16>,
    /// From the call's first byte to the first byte of the answer for the client; absent where the arm gave none.
    pub first_byte: Option<Duration>,
    /// From the call's first byte to the arm's last one, or to the moment at which it lost.
    pub latency: Duration,
}

/// A call of a split on its way.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Name of the route.
    pub route: String,
    /// The upstream that the split chose.
    pub arm: String,
    /// Whether that is a candidate.
    pub is_candidate: bool,
}

/// Is told how each call of a split ended.
#[derive(Debug, Default)]
pub struct Trials;

impl Trials {
    /// The arm's part in a call is over. Called once a trial, on the hot path: never blocks.
    pub fn ended(&self, result: &ArmResult<'_>) {
        tracing::trace!(?result, "an arm's part in a call is over");
    }
}
