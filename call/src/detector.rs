//! Tells whether one stream of calls has become worse than a concurrent one by more than it may be, looking after every
//! call: the guard's statistics.
//!
//! What is counted is a loss in 0..=1 a call: 1 for a call that failed, or 1 − agreement. The unknown rate of the baseline
//! may be anything and may change at any time; only calls of the same moment are compared. Pure: no IO, no clock.
//!
//! Between two steps, let `a` calls of the canary have losses x, and `b` calls of the baseline losses y. With any m and any
//! stake u ≥ 0 chosen before they are seen, and v = u·a/b,
//!
//! ```text
//! e = Π (1 + u (x − m − tolerance)) · Π (1 − v (y − m))
//! ```
//!
//! has a mean of at most 1 as long as the canary's mean loss is at most the baseline's + tolerance: by the inequality of
//! arithmetic and geometric means, E e ≤ (1 + a u (E x − E y − tolerance) / (a + b))^(a + b). So for each stake `M ←
//! max(M, 1) · e` is an e-detector (Shin, Ramdas, Rinaldo 2024), and so is the mean of several: where nothing is wrong,
//! the mean number of steps to an alarm at the level A is at least A, and an alarm within n steps has a probability of at
//! most n / A. A step takes at least one call of each side; how many it takes is counted, and does not depend on what
//! they were like.

/// How much more than the limit the losses are that the stakes are best for.
const EXCESS: [f64; 4] = [0.03, 0.1, 0.25, 0.5];
/// Most calls of a side in a step; of more the baseline's latest count, and the canary's first.
const BLOCK: usize = 128;
/// Calls of the baseline, for each of the canary's, that allow any stake; and calls of the canary that wait for them.
const PER_STEP: (usize, usize) = (8, 4);
/// Calls that the baseline's known loss counts for in a step.
const ALONE: usize = 20;
/// Calls of the baseline from which its usual loss is reckoned.
const MEMORY: f64 = 500.0;
/// Calls that the guess before the first call counts for.
const PRIOR_CALLS: f64 = 20.0;
/// That guess.
const PRIOR_LOSS: f64 = 0.01;
/// Share of a stake's limit that is used: at the limit one call could end the bet for ever.
const CAUTION: f64 = 0.9;
/// The least level that alike calls lower one to.
const LEAST_LEVEL: f64 = 1e3;

/// Compares a canary with its concurrent baseline.
#[derive(Clone, Debug)]
pub struct Detector {
    tolerance: f64,
    level: f64,
    usual: f64,
    usual_calls: f64,
    share: f64,
    canary: Vec<f64>,
    baseline: Vec<f64>,
    /// Logarithm of M, by stake.
    bets: [f64; EXCESS.len()],
    counted: Tally,
}

/// An alarm, and what it is raised upon.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Calls of the canary since it last looked well.
    pub canary_calls: u64,
    /// Sum of their losses.
    pub canary_loss: f64,
    /// Calls of the baseline meanwhile.
    pub baseline_calls: u64,
    /// Sum of their losses.
    pub baseline_loss: f64,
}

impl Tally {
    /// Mean loss of the canary.
    pub fn canary_rate(&self) -> f64 {
        self.canary_loss / (self.canary_calls.max(1) as f64)
    }

    /// Mean loss of the baseline.
    pub fn baseline_rate(&self) -> f64 {
        self.baseline_loss / (self.baseline_calls.max(1) as f64)
    }
}

impl Detector {
    /// Nothing seen yet. The canary may be worse by `tolerance` (0 ≤ tolerance < 1); `run_length` is the least mean number of
    /// calls to a false alarm.
    pub fn new(tolerance: f64, run_length: f64) -> Detector {
        Detector {
            tolerance: tolerance.clamp(0.0, 0.95),
            level: run_length.max(1.0).ln(),
            usual: PRIOR_LOSS,
            usual_calls: PRIOR_CALLS,
            share: 1.0,
            canary: Vec::new(),
            baseline: Vec::new(),
            bets: [0.0; EXCESS.len()],
            counted: Tally::default(),
        }
    }

    /// From now on a call counts for this share of one (0 < share ≤ 1), where calls resemble one another.
    pub fn count_as(&mut self, share: f64) {
        self.share = share.clamp(0.001, 1.0);
    }

    /// A call of the canary ended.
    pub fn canary(&mut self, loss: f64) -> Option<Tally> {
        if self.canary.len() < BLOCK {
            self.canary.push(bounded(loss));
        }
        self.step()
    }

    /// A call of the canary ended, where the baseline's loss is 0 whatever it does: told also where it answers no call.
    pub fn canary_alone(&mut self, loss: f64) -> Option<Tally> {
        self.baseline.clear();
        self.baseline.resize(ALONE, 0.0);
        self.canary(loss)
    }

    /// A call of the baseline ended.
    pub fn baseline(&mut self, loss: f64) -> Option<Tally> {
        if self.baseline.len() == BLOCK {
            self.baseline.remove(0);
        }
        self.baseline.push(bounded(loss));
        self.step()
    }

    fn step(&mut self) -> Option<Tally> {
        if !is_step(self.canary.len(), self.baseline.len()) {
            return None;
        }
        let (canary, baseline) = (std::mem::take(&mut self.canary), std::mem::take(&mut self.baseline));
        let sum = |losses: &[f64]| losses.iter().sum::<f64>();
        if self.bets.iter().all(|bet| *bet <= 0.0) {
            self.counted = Tally::default();
        }
        self.counted.canary_calls += canary.len() as u64;
        self.counted.canary_loss += sum(&canary);
        self.counted.baseline_calls += baseline.len() as u64;
        self.counted.baseline_loss += sum(&baseline);
        // What is expected may be anything; the limit must be expressible.
        let usual = self.usual.min(0.97 - self.tolerance);
        let limit = usual + self.tolerance;
        let ratio = canary.len() as f64 / baseline.len() as f64;
        for (bet, excess) in self.bets.iter_mut().zip(EXCESS) {
            let worse = (limit + excess).min(0.99);
            let stake = ((worse - limit) / (limit * (1.0 - limit)))
                .min(CAUTION / limit)
                .min(CAUTION / (ratio * (1.0 - usual)));
            let against = log_growth(&canary, stake, limit);
            let for_it = log_growth(&baseline, -stake * ratio, usual);
            *bet = bet.max(0.0) + self.share * (against + for_it);
        }
        // Only now: what is bet on must not depend on what it is bet against.
        let calls = baseline.len() as f64;
        self.usual = (self.usual * self.usual_calls + sum(&baseline)) / (self.usual_calls + calls);
        self.usual = self.usual.clamp(0.001, 0.9);
        self.usual_calls = (self.usual_calls + calls).min(MEMORY);
        // Their buffers are used again.
        (self.canary, self.baseline) = (canary, baseline);
        self.canary.clear();
        self.baseline.clear();
        (self.evidence() >= level(self.level, self.share)).then_some(self.counted)
    }

    /// Logarithm of the evidence: of the mean of all bets.
    pub fn evidence(&self) -> f64 {
        mean_of_logarithms(&self.bets)
    }
}

/// Whether so many calls of the canary and of the baseline make a step. Against few calls of the baseline only little can be
/// staked, so where it has most of the calls some of them are waited for; what calls were like plays no part.
pub(crate) fn is_step(canary: usize, baseline: usize) -> bool {
    canary > 0 && baseline > 0 && (baseline >= PER_STEP.0 * canary || canary >= PER_STEP.1)
}

/// The logarithm of the level where a call counts for this share of one. An alarm within n calls has a probability of at most
/// share · n / level then, so for as many calls to a false alarm a level that is lower by the share does.
pub(crate) fn level(level: f64, share: f64) -> f64 {
    (level + share.ln()).max(level.min(LEAST_LEVEL.ln()))
}

/// Logarithm of Π (1 + stake (loss − from)); most losses are 0 or 1.
fn log_growth(losses: &[f64], stake: f64, from: f64) -> f64 {
    let growth = |loss: f64| (stake * (loss - from)).ln_1p();
    let (mut nothing, mut whole, mut rest) = (0.0, 0.0, 0.0);
    for loss in losses {
        match *loss {
            0.0 => nothing += 1.0,
            1.0 => whole += 1.0,
            loss => rest += growth(loss),
        }
    }
    // No call, no growth: also where one could end the bet.
    let of = |count: f64, loss: f64| if count > 0.0 { count * growth(loss) } else { 0.0 };
    of(nothing, 0.0) + of(whole, 1.0) + rest
}

/// Logarithm of the mean of what these are logarithms of.
pub(crate) fn mean_of_logarithms(logarithms: &[f64]) -> f64 {
    let most = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logarithms.iter().map(|one| (one - most).exp()).sum();
    most + (sum / logarithms.len() as f64).ln()
}

/// What is no number says nothing good.
fn bounded(loss: f64) -> f64 {
    if loss.is_nan() { 1.0 } else { loss.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests;
