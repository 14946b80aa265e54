//! One version of a candidate on one task, score by score: what it was seen to do, and where it stands by the rules.
//!
//! A look costs next to nothing, so that it may follow every score, here and where the rules are simulated. Says nothing in
//! words, and knows no store, no money and no other task.

use super::VerdictConfig;
use crate::compare::{Interval, MarginTest, interval_at_margin};
use std::collections::{HashMap, HashSet};

/// Share of prose among the pairs from which similarity decides too much for an automatic promote.
const PROSE_SHARE: f64 = 0.1;

/// One scored answer.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What it is one of: its conversation, or all calls that are the same.
    pub unit: &'a str,
    /// The candidate's agreement with the recorded answer; of an answer that failed, 0.
    pub agreement: f64,
    /// The baseline's, asked again.
    pub floor: Option<f64>,
    /// Whether the candidate's answer is valid.
    pub valid: bool,
    /// Whether the recorded one is.
    pub valid_baseline: Option<bool>,
    /// Whether the recorded one is prose.
    pub is_prose: bool,
}

/// Where a trial stands: the first of the rules that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No answer was scored.
    Unseen,
    /// The baseline was not asked again.
    FloorUnknown,
    /// It is worse than the margin allows, for certain.
    Worse,
    /// Its answers are valid less often than the margin allows.
    Invalid,
    /// Whether the baseline's answers are valid is not known.
    ValidityUnknown,
    /// The baseline agrees too little with itself.
    FloorTooLow,
    /// Too few pairs or conversations.
    TooFew,
    /// The bounds lie on both sides of the margin.
    Open,
    /// It is good enough, by similarity of prose.
    ProseAlone,
    /// It is good enough.
    Ready,
}

/// A trial of a version, score by score in the order of sampling.
///
/// A unit is bet on once, by the mean of its scores that come one after another, when a score of another unit follows: what
/// was bet on never changes later, so that the test is valid at every look. Scores of a unit that comes up again count for
/// what is shown, and not for the test.
#[derive(Clone, Debug)]
pub struct Trial {
    config: VerdictConfig,
    alpha: f64,
    open: Option<Unit>,
    settled: HashSet<String>,
    difference: MarginTest,
    differences: Vec<f64>,
    validity: MarginTest,
    agreement: UnitMeans,
    floor: UnitMeans,
    agreement_of_all: UnitMeans,
    rows: usize,
    pairs: usize,
    prose_rows: usize,
    prose_pairs: usize,
    valid: usize,
    valid_baseline: usize,
    valid_baseline_known: usize,
}

/// Sums over the scores of a unit so far.
#[derive(Clone, Debug, Default)]
struct Unit {
    name: String,
    difference: (f64, f64),
    validity: (f64, f64),
}

fn mean_of((sum, count): (f64, f64)) -> Option<f64> {
    (count > 0.0).then(|| sum / count)
}

/// The mean of units' means, kept up to date.
#[derive(Clone, Debug, Default)]
struct UnitMeans {
    units: HashMap<String, (f64, f64)>,
    sum: f64,
}

impl UnitMeans {
    fn add(&mut self, unit: &str, value: f64) {
        match self.units.get_mut(unit) {
            Some(known) => {
                let before = known.0 / known.1;
                *known = (known.0 + value, known.1 + 1.0);
                self.sum += known.0 / known.1 - before;
            }
            None => {
                self.units.insert(unit.to_owned(), (value, 1.0));
                self.sum += value;
            }
        }
    }

    fn mean(&self) -> Option<f64> {
        mean_of((self.sum, self.units.len() as f64))
    }
}

impl Trial {
    /// A trial that may spend `alpha` of the chance to be promoted wrongly.
    pub fn new(config: &VerdictConfig, alpha: f64) -> Trial {
        Trial {
            config: config.clone(),
            alpha,
            open: None,
            settled: HashSet::new(),
            difference: MarginTest::new(alpha, config.margin),
            differences: Vec::new(),
            validity: MarginTest::new(alpha, config.margin),
            agreement: UnitMeans::default(),
            floor: UnitMeans::default(),
            agreement_of_all: UnitMeans::default(),
            rows: 0,
            pairs: 0,
            prose_rows: 0,
            prose_pairs: 0,
            valid: 0,
            valid_baseline: 0,
            valid_baseline_known: 0,
        }
    }

    /// Takes the next score.
    pub fn push(&mut self, seen: &Seen<'_>) {
        self.count(seen);
        if self.open.as_ref().is_some_and(|open| open.name != seen.unit) {
            self.settle();
        }
        if self.open.is_none() && self.settled.contains(seen.unit) {
            return;
        }
        let open = self.open.get_or_insert_with(|| Unit {
            name: seen.unit.to_owned(),
            ..Unit::default()
        });
        if let Some(floor) = seen.floor {
            open.difference.0 += seen.agreement - floor;
            open.difference.1 += 1.0;
        }
        if let Some(valid_baseline) = seen.valid_baseline {
            open.validity.0 += f64::from(u8::from(seen.valid)) - f64::from(u8::from(valid_baseline));
            open.validity.1 += 1.0;
        }
    }

    fn count(&mut self, seen: &Seen<'_>) {
        let prose = usize::from(seen.is_prose);
        self.rows += 1;
        self.prose_rows += prose;
        self.valid += usize::from(seen.valid);
        self.valid_baseline += usize::from(seen.valid_baseline == Some(true));
        self.valid_baseline_known += usize::from(seen.valid_baseline.is_some());
        self.agreement_of_all.add(seen.unit, seen.agreement);
        if let Some(floor) = seen.floor {
            self.pairs += 1;
            self.prose_pairs += prose;
            self.agreement.add(seen.unit, seen.agreement);
            self.floor.add(seen.unit, floor);
        }
    }

    /// Bets on the unit that is over.
    fn settle(&mut self) {
        let Some(unit) = self.open.take() else { return };
        if let Some(difference) = mean_of(unit.difference) {
            self.difference.push(difference);
            self.differences.push(difference);
        }
        if let Some(validity) = mean_of(unit.validity) {
            self.validity.push(validity);
        }
        self.settled.insert(unit.name);
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        if self.pairs == 0 {
            return if self.rows == 0 {
                Standing::Unseen
            } else {
                Standing::FloorUnknown
            };
        }
        let enough = self.is_enough();
        if self.difference.is_below() {
            return Standing::Worse;
        }
        if self.validity.is_below() || (enough && self.validity.mean() < -self.config.margin) {
            return Standing::Invalid;
        }
        if enough && self.valid_baseline_known == 0 {
            return Standing::ValidityUnknown;
        }
        if enough && self.floor().is_some_and(|floor| floor < self.config.min_floor) {
            return Standing::FloorTooLow;
        }
        if !enough {
            return Standing::TooFew;
        }
        if !self.difference.is_above() {
            return Standing::Open;
        }
        if self.prose() >= PROSE_SHARE {
            return Standing::ProseAlone;
        }
        Standing::Ready
    }

    /// Whether pairs and conversations are as many as are asked for.
    pub fn is_enough(&self) -> bool {
        self.pairs >= self.config.min_pairs && self.conversations() >= self.config.min_conversations
    }

    /// Scores with both the candidate's and the baseline's new answer.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Independent units among the pairs.
    pub fn conversations(&self) -> usize {
        self.floor.units.len()
    }

    /// Mean agreement of the candidate: of the pairs, where there are any.
    pub fn agreement(&self) -> Option<f64> {
        self.agreement.mean().or(self.agreement_of_all.mean())
    }

    /// Mean agreement of the baseline with itself.
    pub fn floor(&self) -> Option<f64> {
        self.floor.mean()
    }

    /// Share of valid answers.
    pub fn valid(&self) -> Option<f64> {
        mean_of((self.valid as f64, self.rows as f64))
    }

    /// The same of the baseline.
    pub fn valid_baseline(&self) -> Option<f64> {
        mean_of((self.valid_baseline as f64, self.valid_baseline_known as f64))
    }

    /// Share of prose among what is compared.
    pub fn prose(&self) -> f64 {
        match self.pairs {
            0 => self.prose_rows as f64 / self.rows.max(1) as f64,
            pairs => self.prose_pairs as f64 / pairs as f64,
        }
    }

    /// Mean difference of the units with its bounds; `None` without a pair.
    pub fn interval(&self) -> Option<Interval> {
        let mut found = match (self.pairs, self.differences.is_empty()) {
            (0, _) => return None,
            (_, true) => Interval {
                mean: self.agreement.mean()? - self.floor.mean()?,
                lower: -1.0,
                upper: 1.0,
            },
            _ => interval_at_margin(&self.differences, self.alpha, self.config.margin),
        };
        // The grid rounds outwards; the test knows better.
        if self.difference.is_above() {
            found.lower = found.lower.max(-self.config.margin);
        }
        if self.difference.is_below() {
            found.upper = found.upper.min(-self.config.margin);
        }
        Some(found)
    }

    /// The evidence that it is good enough, before its share of alpha is taken into account; 1 is none.
    pub fn e_value(&self) -> f64 {
        self.difference.e_value()
    }

    /// About how many more pairs are needed until it is told where it stands, or until the e-value is `wanted`; `None` where
    /// the scores so far tell nothing of that.
    pub fn more_pairs(&self, wanted: Option<f64>) -> Option<f64> {
        let wanted = wanted.unwrap_or(2.0 / self.alpha.max(f64::MIN_POSITIVE));
        Some(self.difference.more_needed(wanted)? * self.pairs_per_unit())
    }

    /// Pairs that came with each unit.
    pub fn pairs_per_unit(&self) -> f64 {
        self.pairs as f64 / self.conversations().max(1) as f64
    }
}
