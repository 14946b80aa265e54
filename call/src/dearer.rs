//! Tells whether one stream of calls costs more on average than a concurrent one by more than so many times.
//!
//! A call's loss is its cost, the canary's divided by the limit, over eight times the baseline's mean cost of lately; what
//! costs more than that counts as that. The rest is [`Detector`]'s. Calls of one conversation cost alike, as it grows; so a
//! call counts for as much less as the baseline's conversations scatter more than calls of their own would. Pure: no IO, no
//! clock.

use crate::detector::{Detector, Tally};
use crate::recent::{Recent, likeness};

/// Times the baseline's mean cost that a call may count for.
const MOST: f64 = 8.0;

/// The baseline's costs of lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent {
    recent: Recent,
    scale: Option<Scale>,
}

/// What costs are measured by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// The baseline's mean, in US dollars.
    mean: f64,
    /// What one call counts for, in 0..=1.
    share: f64,
}

impl Spent {
    pub(crate) fn push(&mut self, cost: f64, conversation: u64) {
        if !self.recent.push((cost, conversation)) {
            return;
        }
        let mean = |costs: &mut dyn Iterator<Item = f64>| {
            let (sum, calls) = costs.fold((0.0, 0.0), |(sum, calls), cost| (sum + cost, calls + 1.0));
            sum / f64::max(calls, 1.0)
        };
        let share = match self.scale {
            Some(scale) if !self.recent.is_time_for_likeness() => scale.share,
            _ => 1.0 / likeness(self.recent.all(), mean(&mut self.recent.all().map(|(cost, _)| cost))),
        };
        let mean = mean(&mut self.recent.lately().map(|(cost, _)| *cost));
        self.scale = Some(Scale { mean, share });
    }

    /// What costs are measured by; `None` = too few are known.
    pub(crate) fn scale(&self) -> Option<Scale> {
        self.scale
    }
}

/// Compares a canary's costs with its concurrent baseline's.
#[derive(Clone, Debug)]
pub(crate) struct Dearer {
    limit: f64,
    detector: Detector,
}

impl Dearer {
    /// Nothing seen yet. The canary may cost `limit` times as much; `run_length` as [`Detector::new`].
    pub(crate) fn new(limit: f64, run_length: f64) -> Dearer {
        Dearer {
            limit: limit.max(f64::MIN_POSITIVE),
            detector: Detector::new(0.0, run_length),
        }
    }

    /// A call of either side cost so much: the mean costs since it last looked well (of the canary, of the baseline), in US
    /// dollars, where it is dearer than it may be.
    pub(crate) fn saw(&mut self, cost: f64, is_canary: bool, scale: Scale) -> Option<(Tally, [f64; 2])> {
        let most = (MOST * scale.mean).max(f64::MIN_POSITIVE);
        self.detector.count_as(scale.share);
        let alarm = if is_canary {
            self.detector.canary(cost / self.limit / most)
        } else {
            self.detector.baseline(cost / most)
        };
        alarm.map(|tally| {
            (
                tally,
                [tally.canary_rate() * most * self.limit, tally.baseline_rate() * most],
            )
        })
    }
}
