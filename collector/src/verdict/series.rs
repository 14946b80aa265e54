//! How the chance of a wrong promote is shared: among all that was ever tried on a task, and among tasks.
//!
//! Derived from scores alone, in the order of first trials, so that looking again, or trying more, changes nothing of what
//! was spent before.

use super::Evidence;
use std::collections::BTreeMap;
use std::time::Duration;

/// A candidate's version that was tried on a task, whether or not its scores are still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The candidate.
    pub candidate: String,
    /// Its version.
    pub version: String,
    /// When, microseconds since the epoch.
    pub at: i64,
}

/// The share of alpha that the `rank`-th trial of a task may spend, from 1: 6 / (π² rank²). All shares together are 1.
pub fn share(rank: usize) -> f64 {
    let rank = rank.max(1) as f64;
    6.0 / (std::f64::consts::PI * rank).powi(2)
}

/// The trial that a candidate is in.
pub(super) struct Current<'a> {
    /// The version that was scored last.
    pub(super) version: &'a str,
    /// Its place among the trials of the task, from 1.
    pub(super) rank: usize,
    /// Scores before this are too old.
    pub(super) since: i64,
    /// When the newest score was judged.
    pub(super) newest: i64,
}

/// Evidence ages. A window that slid on with every look would start the sequence anew with every look, so it moves in steps
/// of half the greatest age, from a version's first score on, and each stretch that begins a sequence is a trial of its own.
struct Stretches {
    first: i64,
    half: i64,
}

impl Stretches {
    fn of(first: i64, max_age: Duration) -> Stretches {
        let half = i64::try_from(max_age.as_micros() / 2).unwrap_or(i64::MAX).max(1);
        Stretches { first, half }
    }

    fn number(&self, at: i64) -> i64 {
        at.saturating_sub(self.first) / self.half
    }

    fn begin(&self, number: i64) -> i64 {
        self.first.saturating_add(number.saturating_mul(self.half))
    }
}

/// The trial of a candidate's newest version; `None` where it has no scores.
pub(super) fn current<'a>(evidence: &Evidence<'a>, max_age: Duration) -> Option<Current<'a>> {
    let rows = || evidence.rows.iter().filter(|row| row.task_id == evidence.task);
    let of_rows = rows().map(|row| (row.candidate.as_str(), row.candidate_version.as_str(), row.judged_at));
    let of_tried = evidence
        .tried
        .iter()
        .map(|tried| (tried.candidate.as_str(), tried.version.as_str(), tried.at));
    let sightings: Vec<(&str, &str, i64)> = of_rows.chain(of_tried).collect();
    let mut firsts: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for (candidate, version, at) in &sightings {
        let first = firsts.entry((candidate, version)).or_insert(*at);
        *first = (*first).min(*at);
    }
    let mut trials: BTreeMap<(&str, &str, i64), i64> = BTreeMap::new();
    for (candidate, version, at) in sightings {
        let stretch = Stretches::of(firsts[&(candidate, version)], max_age).number(at);
        let begun = trials.entry((candidate, version, stretch)).or_insert(at);
        *begun = (*begun).min(at);
    }

    let own_rows = rows().filter(|row| row.candidate == evidence.candidate);
    let newest = own_rows.max_by_key(|row| row.judged_at)?;
    let version = newest.candidate_version.as_str();
    let stretches = Stretches::of(firsts[&(evidence.candidate, version)], max_age);
    let oldest = stretches.number(evidence.now).saturating_sub(1).max(0);
    let own = trials.range((evidence.candidate, version, oldest)..=(evidence.candidate, version, i64::MAX));
    let (own_stretch, begun) = match own.map(|(trial, begun)| (trial.2, *begun)).next() {
        Some(found) => found,
        None => (oldest, evidence.now),
    };
    let this = (begun, evidence.candidate, version, own_stretch);
    let earlier = trials
        .iter()
        .filter(|((candidate, version, stretch), begun)| (**begun, *candidate, *version, *stretch) < this)
        .count();
    Some(Current {
        version,
        rank: earlier + 1,
        since: stretches.begin(oldest),
        newest: newest.judged_at,
    })
}

/// The least e-value that e-BH (Wang & Ramdas, "False discovery rate control with e-values", JRSS B 84 (2022)) selects at
/// level `alpha`, of `hypotheses` among which these e-values are: hypotheses / (alpha · selected).
pub fn least_selected(e_values: &[f64], hypotheses: usize, alpha: f64) -> f64 {
    let mut sorted = e_values.to_vec();
    sorted.sort_by(|left, right| right.total_cmp(left));
    let bar = |selected: usize| hypotheses.max(1) as f64 / (alpha * selected as f64);
    let selected = (1..=sorted.len()).rev().find(|count| sorted[count - 1] >= bar(*count));
    bar(selected.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_are_one() {
        let spent: f64 = (1..100_000).map(share).sum();
        assert!(spent < 1.0 && spent > 0.9999, "{spent}");
        assert!((share(1) - 0.6079).abs() < 1e-4 && (share(10) - 0.006_079).abs() < 1e-6);
    }

    #[test]
    fn the_bar_is_lower_the_more_are_over_it_and_higher_the_more_are_asked() {
        assert_eq!(least_selected(&[], 0, 0.05), 20.0);
        assert_eq!(least_selected(&[30.0], 1, 0.05), 20.0);
        assert_eq!(least_selected(&[30.0, 1.0], 2, 0.05), 40.0, "one of two");
        assert_eq!(least_selected(&[30.0, 25.0], 2, 0.05), 20.0, "both");
        assert_eq!(
            least_selected(&[900.0, 150.0, 60.0, 3.0], 10, 0.05),
            100.0,
            "two of ten"
        );
    }
}
