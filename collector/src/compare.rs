//! How sure a mean of bounded differences is: betting confidence sequences and a test of a margin; Wilson's interval.
//!
//! Pure statistics. Knows no calls and no task, and decides nothing. The source is Waudby-Smith & Ramdas, "Estimating
//! means of bounded random variables by betting", JRSS B 86 (2024): hedged capital with bets that only the values before
//! them decide. Values in [−1, 1] are rescaled to [0, 1]; they must come in an order that does not depend on them.

use std::collections::HashMap;

/// Points of the grid of possible means, over [−1, 1]; the interval is widened by one step on either side.
const GRID: usize = 1000;
/// The largest share of the capital that is bet at once (c in the paper).
const BET_LIMIT: f64 = 0.5;
/// How many values the guess is worth, that the mean is 0, when the bet against a margin is chosen.
const PRIOR_VALUES: f64 = 200.0;
/// Least distance from a margin that is bet on, in [0, 1].
const LEAST_GAP: f64 = 0.005;

/// A mean with its interval, all in [−1, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The mean of what was seen; 0 where nothing was.
    pub mean: f64,
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
}

/// What the next bet is chosen by: the values so far, in [0, 1].
#[derive(Clone, Debug)]
struct Bets {
    alpha: f64,
    count: f64,
    sum: f64,
    squares: f64,
    /// The mean that it matters to rule out.
    aim: Option<f64>,
}

impl Bets {
    fn new(alpha: f64, aim: Option<f64>) -> Bets {
        Bets {
            alpha: if alpha > 0.0 { alpha.min(1.0) } else { f64::MIN_POSITIVE },
            count: 0.0,
            sum: 0.0,
            squares: 0.0,
            aim,
        }
    }

    fn take(&mut self, x: f64) {
        self.count += 1.0;
        self.sum += x;
        let deviation = x - (0.5 + self.sum) / (self.count + 1.0);
        self.squares += deviation * deviation;
    }

    /// The capital at which a mean is ruled out: half the money is bet on either side.
    fn ruled_out(&self) -> f64 {
        2.0 / self.alpha
    }

    fn mean(&self) -> f64 {
        if self.count > 0.0 { self.sum / self.count } else { 0.5 }
    }

    fn variance(&self) -> f64 {
        (0.25 + self.squares) / (self.count + 1.0)
    }

    /// The paper's predictable plug-in : good for every mean, best for none.
    fn plug_in(&self) -> f64 {
        let time = self.count + 1.0;
        ((2.0 * (2.0 / self.alpha).ln()) / (self.variance() * time * (time + 1.0).ln())).sqrt()
    }

    /// The bet that the mean is above. With an aim it is the one by which capital grows fastest there (the paper's aGRAPA),
    /// were the mean as the values so far say and, to begin with, in the middle.
    fn above(&self) -> f64 {
        let Some(aim) = self.aim else { return self.plug_in() };
        let expected = (0.5 - aim).max(LEAST_GAP);
        let mean = (0.5 * PRIOR_VALUES + self.sum) / (PRIOR_VALUES + self.count);
        let gap = (mean - aim).clamp(expected / 4.0, expected * 2.0);
        gap / (self.variance() + gap * gap)
    }
}

/// What a bet that the mean is above `null` makes of each dollar; `below` likewise.
fn factors(above: f64, below: f64, null: f64, x: f64) -> (f64, f64) {
    (
        1.0 + above.min(BET_LIMIT / null) * (x - null),
        1.0 - below.min(BET_LIMIT / (1.0 - null)) * (x - null),
    )
}

/// From [−1, 1] to [0, 1]; what lies outside is clamped.
fn rescaled(value: f64) -> f64 {
    (value.clamp(-1.0, 1.0) + 1.0) / 2.0
}

/// A confidence sequence for the mean of values in [−1, 1], valid however often one looks.
///
/// Hedged capital (theorem 3 and section 4.3 of the paper), on a grid.
#[derive(Clone, Debug)]
pub struct BettingSequence {
    bets: Bets,
    /// Capital of the bets that the mean is above, and below, each point; a ruled-out point is `None`.
    capitals: Vec<Option<(f64, f64)>>,
}

impl BettingSequence {
    /// An empty sequence whose interval misses the mean, ever, with a probability of at most `alpha`.
    pub fn new(alpha: f64) -> BettingSequence {
        BettingSequence {
            bets: Bets::new(alpha, None),
            capitals: vec![Some((1.0, 1.0)); GRID + 1],
        }
    }

    /// The same, with the lower bound made to pass −`margin` soon: it makes the bets of a [`MarginTest`].
    pub fn at_margin(alpha: f64, margin: f64) -> BettingSequence {
        BettingSequence {
            bets: Bets::new(alpha, Some(rescaled(-margin))),
            ..BettingSequence::new(alpha)
        }
    }

    /// Takes the next value; one outside [−1, 1] is clamped, one that is no number passed over.
    pub fn push(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let x = rescaled(value);
        let (up, down, ruled_out) = (self.bets.above(), self.bets.plug_in(), self.bets.ruled_out());
        for (index, slot) in self.capitals.iter_mut().enumerate() {
            let Some((above, below)) = slot else { continue };
            let (won_above, won_below) = factors(up, down, index as f64 / GRID as f64, x);
            *above *= won_above;
            *below *= won_below;
            if above.max(*below) >= ruled_out {
                *slot = None;
            }
        }
        self.bets.take(x);
    }

    /// How many values came.
    pub fn len(&self) -> usize {
        self.bets.count as usize
    }

    /// Whether none came.
    pub fn is_empty(&self) -> bool {
        self.bets.count == 0.0
    }

    /// The mean so far and the means that were never ruled out.
    ///
    /// Where all were (values in an order that depends on them) nothing is known: [−1, 1].
    pub fn interval(&self) -> Interval {
        let value_at = |index: usize| 2.0 * index as f64 / GRID as f64 - 1.0;
        let first = self.capitals.iter().position(Option::is_some);
        let last = self.capitals.iter().rposition(Option::is_some);
        let (lower, upper) = match (first, last) {
            (Some(first), Some(last)) => (value_at(first.saturating_sub(1)), value_at((last + 1).min(GRID))),
            _ => (-1.0, 1.0),
        };
        Interval {
            mean: 2.0 * self.bets.mean() - 1.0,
            lower,
            upper,
        }
    }
}

/// Whether the mean of values in [−1, 1] is above −margin, or below: one point of a [`BettingSequence`], so that a look
/// costs nothing.
#[derive(Clone, Debug)]
pub struct MarginTest {
    bets: Bets,
    null: f64,
    /// Logarithms of the capitals.
    above: f64,
    below: f64,
    was_above: bool,
    was_below: bool,
}

impl MarginTest {
    /// A test that says either wrongly, ever, with a probability of at most `alpha` (half of it for each).
    pub fn new(alpha: f64, margin: f64) -> MarginTest {
        let null = rescaled(-margin);
        MarginTest {
            bets: Bets::new(alpha, Some(null)),
            null,
            above: 0.0,
            below: 0.0,
            was_above: false,
            was_below: false,
        }
    }

    /// Takes the next value, as [`BettingSequence::push`] does.
    pub fn push(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let x = rescaled(value);
        let (won_above, won_below) = factors(self.bets.above(), self.bets.plug_in(), self.null, x);
        self.above += won_above.ln();
        self.below += won_below.ln();
        self.was_above |= self.above >= self.bets.ruled_out().ln();
        self.was_below |= self.below >= self.bets.ruled_out().ln();
        self.bets.take(x);
    }

    /// Whether the lower bound of the confidence sequence is past −margin.
    pub fn is_above(&self) -> bool {
        self.was_above && !self.was_below
    }

    /// Whether the upper bound is under −margin.
    pub fn is_below(&self) -> bool {
        self.was_below && !self.was_above
    }

    /// The mean so far, −1 to 1; 0 of none.
    pub fn mean(&self) -> f64 {
        2.0 * self.bets.mean() - 1.0
    }

    /// The evidence against "the mean is at most −margin": its expectation, whenever one looks, is at most 1 where that holds.
    pub fn e_value(&self) -> f64 {
        self.above.exp()
    }

    /// About how many more values like those so far are needed until [`MarginTest::e_value`] is `wanted`, or, where they lie
    /// below −margin, until that is told.
    ///
    /// A formula, no simulation: what is missing of ln `wanted`, by λΔ − λ²(σ²+Δ²)/2, the growth of the logarithm by a value
    /// whose mean is Δ off −margin at the bet λ = Δ/(σ²+Δ²) that is best for it. Mean and variance are themselves only
    /// estimates. `None` where the mean lies on the margin.
    pub fn more_needed(&self, wanted: f64) -> Option<f64> {
        let (mean, variance) = (self.bets.mean(), self.bets.variance());
        let (gap, room, so_far, wanted) = if mean > self.null {
            (mean - self.null, self.null, self.above, wanted)
        } else {
            (self.null - mean, 1.0 - self.null, self.below, self.bets.ruled_out())
        };
        let square = variance + gap * gap;
        let bet = (gap / square).min(BET_LIMIT / room);
        let growth = bet * gap - bet * bet * square / 2.0;
        (growth > 0.0).then(|| ((wanted.ln() - so_far) / growth).max(0.0))
    }
}

/// The interval of a mean of values in [−1, 1] in the order given, by the bets of a [`MarginTest`].
pub fn interval_at_margin(values: &[f64], alpha: f64, margin: f64) -> Interval {
    let mut sequence = BettingSequence::at_margin(alpha, margin);
    values.iter().for_each(|value| sequence.push(*value));
    sequence.interval()
}

/// The interval of a mean of values in [−1, 1] in the order given.
pub fn interval(values: &[f64], alpha: f64) -> Interval {
    let mut sequence = BettingSequence::new(alpha);
    values.iter().for_each(|value| sequence.push(*value));
    sequence.interval()
}

/// Mean of each unit's values, in the order of the units' first value.
pub fn unit_means<'a>(values: impl IntoIterator<Item = (&'a str, f64)>) -> Vec<f64> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut sums: Vec<(f64, f64)> = Vec::new();
    for (unit, value) in values {
        let place = *places.entry(unit).or_insert(sums.len());
        if place == sums.len() {
            sums.push((0.0, 0.0));
        }
        sums[place].0 += value;
        sums[place].1 += 1.0;
    }
    sums.into_iter().map(|(sum, count)| sum / count).collect()
}

/// Wilson's score interval of a share of `hits` in `total`, `z` standard errors wide (1.96 for 95 %); looked at once.
/// `None` without a trial.
pub fn wilson(hits: u64, total: u64, z: f64) -> Option<Interval> {
    if total == 0 {
        return None;
    }
    let (n, share) = (total as f64, hits.min(total) as f64 / total as f64);
    let scale = 1.0 + z * z / n;
    let centre = (share + z * z / (2.0 * n)) / scale;
    let half = z / scale * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    Some(Interval {
        mean: share,
        lower: (centre - half).max(0.0),
        upper: (centre + half).min(1.0),
    })
}

/// The mean of values; `None` of none.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The `share`-quantile of values by nearest rank (0.95 = p95); `None` of none.
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests;
