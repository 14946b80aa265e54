//! Sums by task that add up in any order: whole numbers only, and durations by buckets.

use super::rows::Sum;
use crate::books::assign_by;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use understudy_call::record::{CallRecord, Outcome};
use understudy_call::taskbook::CompiledBook;

/// What is summed.
pub(super) const COLUMNS: [&str; 5] = ["outcome", "input_tokens", "output_tokens", "cost_usd", "duration_ms"];
/// More than any call took of anything; so that sums of millions of calls fit 64 bits.
const MOST: i64 = 1 << 40;
/// Billionths of a dollar in one.
const NANOS: f64 = 1e9;
/// A bucket is a power of two, divided into so many bits' worth of equal parts: it is at most 1/32 wide.
const BUCKET_BITS: u32 = 5;

/// Sums up calls, assigned anew where there is a book.
pub(super) struct Stats(pub(super) Option<Arc<CompiledBook>>);

impl Stats {
    pub(super) fn sums(&self, mut calls: Vec<CallRecord>) -> Vec<Sum> {
        if let Some(book) = &self.0 {
            calls.par_iter_mut().for_each(|call| assign_by(call, book));
        }
        gather(calls.iter().flat_map(of_call).collect())
    }
}

/// Sums of the same task, measure and bucket as one.
pub(super) fn gather(rows: Vec<Sum>) -> Vec<Sum> {
    let mut sums: BTreeMap<(Option<String>, String, Option<i32>), i64> = BTreeMap::new();
    for row in rows {
        let sum = sums.entry((row.task_id, row.measure, row.bucket)).or_default();
        *sum = sum.saturating_add(row.value);
    }
    let row = |((task_id, measure, bucket), value)| Sum {
        task_id,
        measure,
        bucket,
        value,
    };
    sums.into_iter().map(row).collect()
}

/// What is not known adds nothing, and a measure that no call tells has no row.
fn of_call(call: &CallRecord) -> Vec<Sum> {
    let nanos = call.cost_usd.map(|usd| bounded(usd * NANOS));
    let duration = call.duration_ms.map(|ms| bucket(bounded(ms * 1000.0)));
    let sums = [
        ("calls", None, Some(1)),
        ("failed_calls", None, Some(i64::from(call.outcome != Outcome::Ok))),
        ("input_tokens", None, call.input_tokens),
        ("output_tokens", None, call.output_tokens),
        ("cost_nanousd", None, nanos),
        ("cost_known_calls", None, nanos.map(|_| 1)),
        ("duration_us", duration, duration.map(|_| 1)),
    ];
    let sum = |(measure, bucket, value): (&str, Option<i32>, Option<i64>)| {
        Some(Sum {
            task_id: call.task_id.clone(),
            measure: measure.to_owned(),
            bucket,
            value: value?.clamp(0, MOST),
        })
    };
    sums.into_iter().filter_map(sum).collect()
}

/// The nearest whole number from 0 to [`MOST`]; 0 for what is no number.
#[expect(clippy::cast_possible_truncation, reason = "it is bounded before")]
fn bounded(value: f64) -> i64 {
    value.round().clamp(0.0, MOST as f64) as i64
}

/// The bucket of a value, by whole numbers alone: no two machines round it apart.
fn bucket(value: i64) -> i32 {
    let value = value.clamp(0, MOST).unsigned_abs();
    let power = value.checked_ilog2().unwrap_or(0).saturating_sub(BUCKET_BITS);
    // Below 2^(bits + 1) each value is a bucket of its own.
    let place = (u64::from(power) << BUCKET_BITS) + (value >> power);
    i32::try_from(place).unwrap_or(i32::MAX)
}

/// The middle of a bucket.
fn middle(bucket: i32) -> f64 {
    let place = u64::try_from(bucket).unwrap_or(0);
    let power = (place >> BUCKET_BITS).saturating_sub(1).min(62);
    let low = (place - (power << BUCKET_BITS)) << power;
    low as f64 + ((1u64 << power) - 1) as f64 / 2.0
}

/// What the calls of a task took together; null = no call tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TaskStats {
    /// The task; null = none or `other`.
    pub task_id: Option<String>,
    /// How many calls.
    pub calls: i64,
    /// Of these, those that did not end well.
    pub failed_calls: i64,
    /// Input tokens.
    pub input_tokens: Option<i64>,
    /// Output tokens.
    pub output_tokens: Option<i64>,
    /// US dollars of the calls whose cost is known.
    pub cost_usd: Option<f64>,
    /// How many those are.
    pub cost_known_calls: i64,
    /// The median duration in milliseconds, to 1/64.
    pub p50_ms: Option<f64>,
    /// What 95 of 100 calls did not exceed, to 1/64.
    pub p95_ms: Option<f64>,
}

/// Sums as a line a task, the task with the most calls first.
pub fn summary(sums: &[Sum]) -> Vec<TaskStats> {
    let mut tasks: BTreeMap<&Option<String>, (TaskStats, BTreeMap<i32, i64>)> = BTreeMap::new();
    for sum in sums {
        let (stats, durations) = tasks.entry(&sum.task_id).or_default();
        stats.task_id.clone_from(&sum.task_id);
        match sum.measure.as_str() {
            "calls" => stats.calls += sum.value,
            "failed_calls" => stats.failed_calls += sum.value,
            "input_tokens" => *stats.input_tokens.get_or_insert(0) += sum.value,
            "output_tokens" => *stats.output_tokens.get_or_insert(0) += sum.value,
            "cost_nanousd" => *stats.cost_usd.get_or_insert(0.0) += sum.value as f64 / NANOS,
            "cost_known_calls" => stats.cost_known_calls += sum.value,
            _ => *durations.entry(sum.bucket.unwrap_or_default()).or_default() += sum.value,
        }
    }
    let with_quantiles = |(mut stats, durations): (TaskStats, BTreeMap<i32, i64>)| {
        stats.p50_ms = quantile(&durations, 0.5);
        stats.p95_ms = quantile(&durations, 0.95);
        stats
    };
    let mut all: Vec<TaskStats> = tasks.into_values().map(with_quantiles).collect();
    all.sort_by_key(|stats| std::cmp::Reverse(stats.calls));
    all
}

/// In milliseconds.
fn quantile(durations: &BTreeMap<i32, i64>, share: f64) -> Option<f64> {
    let all: i64 = durations.values().sum();
    let mut before = 0;
    let within = durations.iter().find(|(_, calls)| {
        before += **calls;
        before as f64 > share * (all - 1) as f64
    });
    within.map(|(bucket, _)| middle(*bucket) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_with_their_values_and_their_middles_are_near() {
        let mut last = -1;
        for value in (0..5000).chain((13..40).flat_map(|power| [(1 << power) - 1, 1 << power, 3 << (power - 1)])) {
            let found = bucket(value);
            if value < 5000 {
                assert!(found == last || found == last + 1, "{value}: {last} then {found}");
                last = found;
            }
            let off = (middle(found) - value as f64).abs();
            assert!(off <= value as f64 / 64.0, "{value} is told as {}", middle(found));
        }
        assert_eq!((bucket(-5), bucket(i64::MAX)), (0, bucket(MOST)));
    }

    #[test]
    fn numbers_that_are_none_and_odd_ones_are_bounded() {
        assert_eq!([f64::NAN, -1.0, f64::INFINITY, 0.5].map(bounded), [0, 0, MOST, 1]);
        assert!(summary(&[]).is_empty());
        let odd = Sum {
            measure: "duration_us".into(),
            bucket: Some(i32::MAX),
            value: 1,
            ..Sum::default()
        };
        assert!(summary(&[odd])[0].p50_ms.is_some());
    }
}
