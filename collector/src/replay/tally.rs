//! What an arm of a replay was found to be while it is asked: how long it was at work, and whether it takes calls at all.

use super::ReplayError;
use super::ask::{Arm, Reply};
use std::time::{Duration, Instant};

/// Calls one after another that are refused before an upstream is said to take none.
const REFUSED_IN_A_ROW: usize = 32;

/// What is known of an arm so far.
#[derive(Default)]
pub(super) struct Tally {
    taken: usize,
    /// Calls since the last one that was taken.
    refused: usize,
    reason: Option<String>,
    /// When calls that are not counted yet were in flight.
    flights: Vec<(Instant, Duration)>,
    /// Until when the time is counted.
    counted: Option<Instant>,
}

impl Tally {
    pub(super) fn add(&mut self, reply: &Reply) {
        match &reply.refused {
            Some(reason) => (self.refused, self.reason) = (self.refused + 1, Some(reason.clone())),
            None => (self.taken, self.refused) = (self.taken + 1, 0),
        }
        if let (Some(started), Some(milliseconds)) = (reply.started, reply.duration_ms) {
            let length = Duration::from_secs_f64((milliseconds / 1000.0).max(0.0));
            self.flights.push((started, length));
        }
    }

    /// Whether the last call was refused: it may be that none is taken any more.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.refused > 0
    }

    /// An error where the upstream takes no calls: too many were refused one after another or, at the end, all.
    pub(super) fn check(&self, arm: &Arm, is_end: bool) -> Result<(), ReplayError> {
        let is_none = self.refused >= REFUSED_IN_A_ROW || (is_end && self.taken == 0 && self.refused > 0);
        match self.reason.as_ref().filter(|_| is_none) {
            Some(reason) => Err(ReplayError::Unusable {
                upstream: arm.name().to_owned(),
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Seconds at work since the last time this was asked, those of calls at the same time counted once.
    pub(super) fn seconds(&mut self) -> f64 {
        self.flights.sort();
        let mut busy = Duration::ZERO;
        for (started, length) in self.flights.drain(..) {
            let end = started + length;
            let from = self.counted.map_or(started, |counted| counted.max(started));
            busy += end.saturating_duration_since(from);
            self.counted = Some(self.counted.map_or(end, |counted| counted.max(end)));
        }
        busy.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_calls_at_once_counts_once() {
        let begun = Instant::now();
        let at = |milliseconds| begun + Duration::from_millis(milliseconds);
        let mut tally = Tally {
            flights: vec![
                (at(500), Duration::from_millis(500)),
                (at(0), Duration::from_millis(700)),
            ],
            ..Tally::default()
        };
        assert!((tally.seconds() - 1.0).abs() < 1e-9);
        tally.flights = vec![
            (at(900), Duration::from_millis(300)),
            (at(3000), Duration::from_millis(100)),
        ];
        assert!(
            (tally.seconds() - 0.3).abs() < 1e-9,
            "200 of the first, 100 of the second"
        );
    }
}
