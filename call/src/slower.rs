//! Tells whether one stream of calls takes longer than a concurrent one by more than so many times, looking after every call.
//!
//! What a duration says is read off the baseline's own durations of lately, by rank: how much oftener one like it would be
//! seen if all of them were 1.4 or 1.9 times as long (the likelihood ratio of a change of scale, made to grow with the
//! duration, and capped). The canary's durations are divided by the limit first. So for both
//!
//! ```text
//! e = Π (1 + u (score(x / limit) − m)) · Π (1 − v (score(y) − m)),   v = u · canary's calls / baseline's calls
//! ```
//!
//! has a mean of at most 1 as long as no percentile of the canary's is beyond limit × that of the baseline's, whatever the
//! scores are, as they were fixed before the calls: as in [`crate::detector`]. Calls of one conversation resemble one another;
//! so e is taken to the power of n / (what n calls of the baseline's conversations scatter like), which is 1 where they
//! don't. Pure: no IO, no clock.

use crate::detector::{is_step, mean_of_logarithms};
use crate::recent::{Call, Recent, likeness};
use std::collections::VecDeque;
use std::sync::Arc;

/// How many times as long as the limit.
const RATIOS: [f64; 2] = [1.4, 1.9];
/// The most that one call says: of a hiccup of a few calls no regression is made.
const MOST: f64 = 4.0;
/// Share of a stake's limit that is used: at the limit one call could end the bet for ever.
const CAUTION: f64 = 0.95;
/// Ranges of durations that are told apart, at most, and calls in each of them, at least.
const RANGES: (usize, usize) = (40, 12);
/// Steps that a hiccup may last.
const HICCUP: usize = 12;
/// Most calls of a side in a step; of more the baseline's latest count, and the canary's first.
const BLOCK: usize = 128;

/// The baseline's durations of lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usual {
    recent: Recent,
    scores: Option<Arc<Scores>>,
}

impl Usual {
    pub(crate) fn push(&mut self, duration: f64, conversation: u64) {
        if self.recent.push((duration, conversation)) {
            let mut scores = Scores::of(self.recent.lately().map(|(duration, _)| *duration));
            scores.share = match &self.scores {
                Some(known) if !self.recent.is_time_for_likeness() => known.share,
                _ => scores.share_of(&self.recent),
            };
            self.scores = Some(Arc::new(scores));
        }
    }

    /// What durations say; `None` = too few are known.
    pub(crate) fn scores(&self) -> Option<&Arc<Scores>> {
        self.scores.as_ref()
    }
}

/// What durations say, for each of [`RATIOS`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scores {
    /// The 95th percentile.
    pub(crate) p95: f64,
    /// What one call counts for, in 0..=1.
    pub(crate) share: f64,
    /// Where ranges end, the last excepted.
    edges: Vec<f64>,
    by_range: Vec<[f64; RATIOS.len()]>,
    means: [f64; RATIOS.len()],
}

impl Scores {
    fn of(durations: impl Iterator<Item = f64>) -> Scores {
        let mut sorted: Vec<f64> = durations.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)];
        let ranges = (sorted.len() / RANGES.1).clamp(4, RANGES.0);
        let mut edges: Vec<f64> = Vec::new();
        for edge in (1..ranges).map(|range| at(range as f64 / ranges as f64)) {
            // Where many durations are the same, what is longer is told apart from them.
            let next = if edges.last() == Some(&edge) {
                edge.next_up()
            } else {
                edge
            };
            if edges.last().is_none_or(|last| *last < next) {
                edges.push(next);
            }
        }
        let mut scores = Scores {
            p95: at(0.95),
            share: 1.0,
            by_range: vec![[1.0; RATIOS.len()]; edges.len() + 1],
            means: [1.0; RATIOS.len()],
            edges,
        };
        let usual = scores.counts(&sorted, 1.0);
        for (index, ratio) in RATIOS.iter().enumerate() {
            let told = growing(&scores.counts(&sorted, *ratio), &usual);
            let capped = told.iter().map(|score| score.min(MOST));
            scores
                .by_range
                .iter_mut()
                .zip(capped)
                .for_each(|(all, score)| all[index] = score);
            let sum: f64 = usual
                .iter()
                .zip(&scores.by_range)
                .map(|(calls, all)| calls * all[index])
                .sum();
            scores.means[index] = sum / sorted.len() as f64;
        }
        scores
    }

    /// What one call counts for, as far as calls of one conversation score alike.
    fn share_of(&self, recent: &Recent) -> f64 {
        let told: Vec<Call> = recent
            .all()
            .map(|(duration, conversation)| (self.told(duration)[0], conversation))
            .collect();
        let mean = told.iter().map(|(score, _)| score).sum::<f64>() / told.len().max(1) as f64;
        1.0 / likeness(told.into_iter(), mean)
    }

    /// How many of these, times a ratio, are in each range.
    fn counts(&self, sorted: &[f64], ratio: f64) -> Vec<f64> {
        let shorter = |edge: &f64| sorted.partition_point(|duration| duration * ratio < *edge);
        let ends = self.edges.iter().map(shorter).chain([sorted.len()]);
        let mut before = 0;
        ends.map(|end| (end - std::mem::replace(&mut before, end)) as f64)
            .collect()
    }

    fn range(&self, duration: f64) -> usize {
        self.edges.partition_point(|edge| *edge <= duration)
    }

    fn told(&self, duration: f64) -> &[f64; RATIOS.len()] {
        &self.by_range[self.range(duration)]
    }
}

/// How many times as often as `usual` each range is met, such that it never falls (by pooling adjacent violators).
fn growing(longer: &[f64], usual: &[f64]) -> Vec<f64> {
    // Pools: how often, how often usually, and how many ranges. One of either is added: few calls say little.
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    for (longer, usual) in longer.iter().zip(usual) {
        let mut pool = (longer + 1.0, usual + 1.0, 1);
        while let Some(before) = pools.last().filter(|before| before.0 * pool.1 >= pool.0 * before.1) {
            pool = (before.0 + pool.0, before.1 + pool.1, before.2 + pool.2);
            pools.pop();
        }
        pools.push(pool);
    }
    let spread = |(longer, usual, ranges): (f64, f64, usize)| std::iter::repeat_n(longer / usual, ranges);
    pools.into_iter().flat_map(spread).collect()
}

/// Compares a canary's durations with its concurrent baseline's.
#[derive(Clone, Debug)]
pub(crate) struct Slower {
    limit: f64,
    scores: Option<Arc<Scores>>,
    canary: Vec<f64>,
    baseline: Vec<f64>,
    /// Logarithm of the evidence, by ratio.
    bets: [f64; RATIOS.len()],
    /// Logarithm of all evidence, after each of the last [`HICCUP`] steps.
    past: VecDeque<f64>,
}

impl Slower {
    /// Nothing seen yet. The canary may take `limit` times as long.
    pub(crate) fn new(limit: f64) -> Slower {
        Slower {
            limit: limit.max(f64::MIN_POSITIVE),
            scores: None,
            canary: Vec::new(),
            baseline: Vec::new(),
            bets: [0.0; RATIOS.len()],
            past: VecDeque::with_capacity(HICCUP),
        }
    }

    /// A call of either side took so many milliseconds.
    pub(crate) fn saw(&mut self, duration: f64, is_canary: bool, scores: &Arc<Scores>) {
        // Scores are those from before the step: what is bet on must not depend on what it is bet against.
        if self.canary.is_empty() && self.baseline.is_empty() {
            self.scores = Some(scores.clone());
        }
        if !is_canary {
            if self.baseline.len() == BLOCK {
                self.baseline.remove(0);
            }
            self.baseline.push(duration);
        } else if self.canary.len() < BLOCK {
            self.canary.push(duration / self.limit);
        }
        self.step();
    }

    fn step(&mut self) {
        let Some(scores) = self.scores.as_ref() else { return };
        if !is_step(self.canary.len(), self.baseline.len()) {
            return;
        }
        let ratio = self.canary.len() as f64 / self.baseline.len() as f64;
        for (index, bet) in self.bets.iter_mut().enumerate() {
            let mean = scores.means[index];
            let stake = (CAUTION / mean).min(CAUTION / (ratio * (MOST - mean).max(1.0)));
            let growth = |durations: &[f64], stake: f64| -> f64 {
                let told = durations.iter().map(|duration| scores.told(*duration)[index]);
                told.map(|score| (stake * (score - mean)).ln_1p()).sum()
            };
            let e = growth(&self.canary, stake) + growth(&self.baseline, -stake * ratio);
            *bet = bet.max(0.0) + e * scores.share;
        }
        self.canary.clear();
        self.baseline.clear();
        if self.past.len() == HICCUP {
            self.past.pop_front();
        }
        self.past.push_back(self.evidence());
    }

    /// Whether the evidence has come to this level, two thirds of it before the last steps: a hiccup is no regression.
    pub(crate) fn is_longer(&self, level: f64) -> bool {
        let before = self.past.front().filter(|_| self.past.len() == HICCUP);
        self.evidence() >= level && before.is_some_and(|before| *before >= level * 2.0 / 3.0)
    }

    /// Logarithm of the mean of all bets.
    fn evidence(&self) -> f64 {
        mean_of_logarithms(&self.bets)
    }
}
