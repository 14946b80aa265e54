//! What a task takes, on the baseline and on a candidate: money, time, and from how many calls a day a machine pays.
//!
//! What is not known is `None`, never 0: a price that no table has, a first token that was not streamed, a throughput that
//! was not measured.

use crate::compare::{mean, percentile};
use understudy_call::record::{CallRecord, ScoreRecord};

/// Days of a month.
const MONTH: f64 = 30.0;
/// The shortest time from which calls a day are told.
const LEAST_OBSERVED_MICROS: i64 = 3_600_000_000;
/// Microseconds of a day.
const DAY_MICROS: f64 = 86_400e6;

/// What a call took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Milliseconds to the last byte.
    pub duration_ms: Option<f64>,
    /// Milliseconds to the first token, where streamed.
    pub first_token_ms: Option<f64>,
    /// US dollars.
    pub cost_usd: Option<f64>,
}

impl From<&CallRecord> for Spent {
    fn from(call: &CallRecord) -> Spent {
        Spent {
            duration_ms: call.duration_ms,
            first_token_ms: call.first_token_ms,
            cost_usd: call.cost_usd,
        }
    }
}

impl From<&ScoreRecord> for Spent {
    fn from(score: &ScoreRecord) -> Spent {
        Spent {
            duration_ms: score.duration_ms,
            first_token_ms: score.first_token_ms,
            cost_usd: score.cost_usd,
        }
    }
}

/// How many calls a task has, and over what time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Volume {
    calls: u64,
    /// First and last beginning, microseconds since the epoch.
    between: Option<(i64, i64)>,
}

impl Volume {
    /// Counts a call in that began then.
    pub fn add(&mut self, started_at: Option<i64>) {
        let Some(at) = started_at else { return };
        self.calls += 1;
        let (first, last) = self.between.unwrap_or((at, at));
        self.between = Some((first.min(at), last.max(at)));
    }

    /// Calls a day; `None` where less than an hour was observed.
    pub fn per_day(&self) -> Option<f64> {
        let (first, last) = self.between?;
        let observed = last.saturating_sub(first);
        (observed >= LEAST_OBSERVED_MICROS).then(|| self.calls as f64 * DAY_MICROS / observed as f64)
    }
}

/// The machine that serves a candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    /// US dollars for one hour of it.
    pub gpu_hour: Option<f64>,
    /// Answers that it gave in an hour of work, as measured.
    pub calls_per_hour: Option<f64>,
}

impl Machine {
    /// US dollars a call at the measured throughput.
    fn cost(&self) -> Option<f64> {
        Some(self.gpu_hour? / self.calls_per_hour.filter(|calls| *calls > 0.0)?)
    }

    /// US dollars for a month of as many machines as that many calls a day keep busy, at least one.
    fn month(&self, calls_per_day: f64) -> Option<f64> {
        let per_machine = 24.0 * self.calls_per_hour.filter(|calls| *calls > 0.0)?;
        let machines = (calls_per_day / per_machine).ceil().max(1.0);
        Some(machines * 24.0 * MONTH * self.gpu_hour?)
    }

    /// Calls a day from which a machine costs less than the baseline; `None` where it never does, since it answers too few.
    fn break_even(&self, cost_of_baseline: f64) -> Option<f64> {
        let calls = 24.0 * self.gpu_hour? / cost_of_baseline;
        (calls <= 24.0 * self.calls_per_hour?).then_some(calls)
    }
}

/// What the calls of one side took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Side {
    pub(super) cost_per_1k: Option<f64>,
    pub(super) cost_per_month: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) first_token_p50_ms: Option<f64>,
    pub(super) first_token_p95_ms: Option<f64>,
}

impl Side {
    pub(super) fn of(spent: &[Spent], calls_per_day: Option<f64>) -> Side {
        let of = |value: fn(&Spent) -> Option<f64>| spent.iter().filter_map(value).collect::<Vec<f64>>();
        let (durations, first_tokens) = (of(|call| call.duration_ms), of(|call| call.first_token_ms));
        let cost = mean(&of(|call| call.cost_usd));
        Side {
            cost_per_1k: cost.map(|cost| 1000.0 * cost),
            cost_per_month: cost.zip(calls_per_day).map(|(cost, calls)| cost * calls * MONTH),
            p50_ms: percentile(&durations, 0.5),
            p95_ms: percentile(&durations, 0.95),
            first_token_p50_ms: percentile(&first_tokens, 0.5),
            first_token_p95_ms: percentile(&first_tokens, 0.95),
        }
    }

    /// A machine's own price and throughput, where they are known, go before what single answers were said to cost.
    pub(super) fn on(self, machine: &Machine, calls_per_day: Option<f64>) -> Side {
        let month = calls_per_day.and_then(|calls| machine.month(calls));
        Side {
            cost_per_1k: machine.cost().map(|cost| 1000.0 * cost).or(self.cost_per_1k),
            cost_per_month: month.or(self.cost_per_month),
            ..self
        }
    }
}

/// Calls a day from which the machine pays.
pub(super) fn break_even(machine: &Machine, baseline: &Side) -> Option<f64> {
    let cost = baseline.cost_per_1k.filter(|cost| *cost > 0.0)? / 1000.0;
    machine.break_even(cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_pays_from_so_many_calls_a_day_or_never() {
        let machine = Machine {
            gpu_hour: Some(0.8),
            calls_per_hour: Some(3600.0),
        };
        let baseline = |cost_usd: f64| {
            Side::of(
                &[Spent {
                    cost_usd: Some(cost_usd),
                    ..Spent::default()
                }],
                Some(10_000.0),
            )
        };
        let dear = baseline(0.01);
        assert!(
            (break_even(&machine, &dear).unwrap() - 1920.0).abs() < 1e-6,
            "24 × 0.80 / 0.01"
        );
        assert_eq!(
            break_even(&machine, &baseline(0.0001)),
            None,
            "192,000 calls a day are more than it can answer"
        );
        assert_eq!(break_even(&machine, &Side::default()), None, "unknown is not free");
        assert!((dear.cost_per_month.unwrap() - 3000.0).abs() < 1e-6);
        let own = Side::default().on(&machine, Some(100_000.0));
        assert!((own.cost_per_1k.unwrap() - 0.8 / 3.6).abs() < 1e-9);
        assert!(
            (own.cost_per_month.unwrap() - 2.0 * 720.0 * 0.8).abs() < 1e-6,
            "two machines"
        );
        assert_eq!(Side::default().on(&Machine::default(), Some(1.0)), Side::default());
    }

    #[test]
    fn a_day_is_not_told_from_minutes() {
        let mut volume = Volume::default();
        assert_eq!(volume.per_day(), None);
        (0..100).for_each(|minute| volume.add(Some(minute * 6_000_000)));
        volume.add(None);
        assert_eq!(volume.per_day(), None);
        volume.add(Some(12 * 3_600_000_000));
        assert_eq!(volume.per_day(), Some(202.0));
    }
}
