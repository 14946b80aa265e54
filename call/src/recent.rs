//! The latest calls of a baseline, by which others are measured, and how far those of one conversation resemble one another.
//! Pure: no IO, no clock.

use std::collections::VecDeque;

/// Calls that are remembered.
const MEMORY: usize = 800;
/// Fewest that anything is reckoned from.
const FEWEST: u64 = 60;
/// Calls after which it is reckoned anew.
const RENEW_EVERY: u64 = 100;

/// A call's figure (a duration, a cost) and the conversation that it is of.
pub(crate) type Call = (f64, u64);

/// The latest calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    calls: VecDeque<Call>,
    /// How many there were in all.
    seen: u64,
}

impl Recent {
    /// Takes a call; the latest ones where it is time to reckon with them.
    pub(crate) fn push(&mut self, call: Call) -> Option<&VecDeque<Call>> {
        if self.calls.len() == MEMORY {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
        self.seen += 1;
        let is_time = self.seen >= FEWEST && (self.seen - FEWEST).is_multiple_of(RENEW_EVERY);
        is_time.then_some(&self.calls)
    }
}

/// How far calls of one conversation resemble one another: what n of these values scatter like, over what n independent
/// ones would. At least 1.
pub(crate) fn likeness(calls: impl Iterator<Item = Call>, mean: f64) -> f64 {
    let mut calls: Vec<Call> = calls
        .map(|(value, conversation)| (value - mean, conversation))
        .collect();
    calls.sort_unstable_by_key(|(_, conversation)| *conversation);
    let squares: f64 = calls.iter().map(|(value, _)| value * value).sum();
    let conversations = calls.chunk_by(|one, other| one.1 == other.1);
    let sums = conversations.map(|calls| calls.iter().map(|(value, _)| value).sum::<f64>());
    let clustered: f64 = sums.map(|sum| sum * sum).sum();
    if squares > 0.0 {
        (clustered / squares).max(1.0)
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_are_alike_in_tens_scatter_like_a_tenth_as_many() {
        let value = |number: u64| f64::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 1);
        let tens = (0..800).map(|call| (value(call / 10), call / 10));
        assert!((likeness(tens, 0.5) - 10.0).abs() < 0.1);
        let alone = (0..800).map(|call| (value(call), call));
        assert!((likeness(alone, 0.5) - 1.0).abs() < 1e-9);
        assert_eq!(likeness([(1.0, 1), (1.0, 1)].into_iter(), 1.0), 1.0);
        assert_eq!(likeness([].into_iter(), 0.0), 1.0);
    }

    #[test]
    fn it_is_reckoned_from_60_calls_on_and_then_every_100_calls() {
        let mut recent = Recent::default();
        let told = (1..=1_000).filter(|call| recent.push((1.0, *call)).is_some());
        assert_eq!(told.take(4).collect::<Vec<u64>>(), [60, 160, 260, 360]);
        assert_eq!(recent.calls.len(), 360);
    }
}
