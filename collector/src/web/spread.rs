//! How a time is spread over calls, small enough to keep for each task and hour, and to add up.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A class's upper end over its lower end: percentiles are right to about 2.5 %.
const STEP: f64 = 1.05;
/// The lower end of the first class, milliseconds.
const LEAST: f64 = 0.01;

/// Calls by time, in classes on a logarithmic scale.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spread(BTreeMap<u16, u32>);

impl Spread {
    /// Counts a call in; `None` was not timed.
    pub fn add(&mut self, milliseconds: Option<f64>) {
        if let Some(time) = milliseconds.filter(|time| time.is_finite()) {
            let class = ((time.max(LEAST) / LEAST).ln() / STEP.ln()).round();
            *self.0.entry(class as u16).or_default() += 1;
        }
    }

    /// Counts other calls in.
    pub fn merge(&mut self, other: &Spread) {
        for (class, calls) in &other.0 {
            *self.0.entry(*class).or_default() += calls;
        }
    }

    /// The time, in milliseconds, that this share of the calls (0..=1) did not exceed; `None` where none was timed.
    pub fn at(&self, share: f64) -> Option<f64> {
        let all: u64 = self.0.values().map(|calls| u64::from(*calls)).sum();
        let wanted = (all.checked_sub(1)? as f64 * share.clamp(0.0, 1.0)).round() as u64;
        let mut below = 0;
        self.0.iter().find_map(|(class, calls)| {
            below += u64::from(*calls);
            (below > wanted).then(|| LEAST * STEP.powi(i32::from(*class)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_a_few_per_cent_and_add_up() {
        let (mut low, mut high) = (Spread::default(), Spread::default());
        assert_eq!(low.at(0.5), None);
        for time in 1..=500 {
            low.add(Some(f64::from(time)));
            high.add(Some(f64::from(time + 500)));
        }
        low.add(None);
        low.add(Some(f64::NAN));
        low.merge(&high);
        for (share, right) in [(0.0, 1.0), (0.5, 500.0), (0.95, 950.0), (1.0, 1000.0)] {
            let found = low.at(share).unwrap();
            assert!((found / right - 1.0).abs() < 0.03, "{share}: {found}");
        }
        let text = serde_json::to_string(&low).unwrap();
        assert_eq!(serde_json::from_str::<Spread>(&text).unwrap(), low);
    }
}
