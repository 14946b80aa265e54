//! How sure a mean of bounded differences is: a betting confidence sequence, and Wilson's interval for a share.
//!
//! Pure statistics. Knows no calls and no task, and decides nothing.

use std::collections::HashMap;

/// Points of the grid of possible means, over [−1, 1]; the interval is widened by one step on either side.
const GRID: usize = 1000;
/// The largest share of the capital that is bet at once (c in the paper).
const BET_LIMIT: f64 = 0.5;

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

/// A confidence sequence for the mean of values in [−1, 1], valid however often one looks.
///
/// Hedged capital with predictable plug-in bets, Waudby-Smith & Ramdas, "Estimating means of bounded random variables
/// by betting", JRSS B 86 (2024), theorem 3 and section 4.3, on a grid. Values must come in an order that does not
/// depend on them.
#[derive(Clone, Debug)]
pub struct BettingSequence {
    alpha: f64,
    count: f64,
    sum: f64,
    squares: f64,
    /// Capital of the bets that the mean is above, and below, each point; a ruled-out point is `None`.
    capitals: Vec<Option<(f64, f64)>>,
}

impl BettingSequence {
    /// An empty sequence whose interval misses the mean, ever, with a probability of at most `alpha`.
    pub fn new(alpha: f64) -> BettingSequence {
        BettingSequence {
            alpha: if alpha > 0.0 { alpha.min(1.0) } else { f64::MIN_POSITIVE },
            count: 0.0,
            sum: 0.0,
            squares: 0.0,
            capitals: vec![Some((1.0, 1.0)); GRID + 1],
        }
    }

    /// Takes the next value; one outside [−1, 1] is clamped, one that is no number passed over.
    pub fn push(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let x = (value.clamp(-1.0, 1.0) + 1.0) / 2.0;
        let bet = self.next_bet();
        let ruled_out = 2.0 / self.alpha;
        for (index, slot) in self.capitals.iter_mut().enumerate() {
            let Some((above, below)) = slot else { continue };
            let mean = index as f64 / GRID as f64;
            *above *= 1.0 + bet.min(BET_LIMIT / mean) * (x - mean);
            *below *= 1.0 - bet.min(BET_LIMIT / (1.0 - mean)) * (x - mean);
            if above.max(*below) >= ruled_out {
                *slot = None;
            }
        }
        self.count += 1.0;
        self.sum += x;
        let deviation = x - (0.5 + self.sum) / (self.count + 1.0);
        self.squares += deviation * deviation;
    }

    /// The bet on the next value, from those before it alone.
    fn next_bet(&self) -> f64 {
        let variance = (0.25 + self.squares) / (self.count + 1.0);
        let time = self.count + 1.0;
        ((2.0 * (2.0 / self.alpha).ln()) / (variance * time * (time + 1.0).ln())).sqrt()
    }

    /// How many values came.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether none came.
    pub fn is_empty(&self) -> bool {
        self.count == 0.0
    }

    /// The mean so far and the means that were never ruled out.
    ///
    /// Where all were (values in an order that depends on them) nothing is known: [−1, 1].
    pub fn interval(&self) -> Interval {
        let mean = if self.is_empty() {
            0.0
        } else {
            2.0 * self.sum / self.count - 1.0
        };
        let value_at = |index: usize| 2.0 * index as f64 / GRID as f64 - 1.0;
        let first = self.capitals.iter().position(Option::is_some);
        let last = self.capitals.iter().rposition(Option::is_some);
        let (lower, upper) = match (first, last) {
            (Some(first), Some(last)) => (value_at(first.saturating_sub(1)), value_at((last + 1).min(GRID))),
            _ => (-1.0, 1.0),
        };
        Interval { mean, lower, upper }
    }
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
