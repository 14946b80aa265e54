//! The latest calls of a baseline, by which others are measured, and how far those of one conversation resemble one another.
//! Pure: no IO, no clock.

use std::collections::VecDeque;

/// Calls that are remembered: enough that conversations are seen whole.
const MEMORY: usize = 4000;
/// Of them, those that say what calls are like now.
const LATELY: usize = 2000;
/// Calls after which it is reckoned anew how far conversations are alike, once there are many.
const RARELY: u64 = 500;
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
    /// Takes a call; whether it is time to reckon.
    pub(crate) fn push(&mut self, call: Call) -> bool {
        if self.calls.len() == MEMORY {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
        self.seen += 1;
        self.seen >= FEWEST && (self.seen - FEWEST).is_multiple_of(RENEW_EVERY)
    }

    /// All that are remembered.
    pub(crate) fn all(&self) -> impl Iterator<Item = Call> {
        self.calls.iter().copied()
    }

    /// Those that say what calls are like now.
    pub(crate) fn lately(&self) -> impl Iterator<Item = &Call> + Clone {
        self.calls.range(self.calls.len().saturating_sub(LATELY)..)
    }

    /// Whether it is time to reckon how far conversations are alike, when it is time to reckon.
    pub(crate) fn is_time_for_likeness(&self) -> bool {
        self.seen < 2 * RARELY || (self.seen - FEWEST).is_multiple_of(RARELY)
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
        let told = (1..=1_000).filter(|call| recent.push((1.0, *call)));
        assert_eq!(told.take(4).collect::<Vec<u64>>(), [60, 160, 260, 360]);
        assert_eq!(recent.calls.len(), 360);
    }
}
