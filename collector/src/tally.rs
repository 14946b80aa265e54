//! What the calls of a task took together: tokens, money, time.

use understudy_call::record::CallRecord;

/// Sums over calls; those of what only some calls say are of these.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many calls.
    pub calls: u64,
    /// Null where no call says it.
    pub input_tokens: Option<i64>,
    /// Null where no call says it.
    pub output_tokens: Option<i64>,
    /// US dollars of the calls whose cost is known; null where that is none.
    pub cost_usd: Option<f64>,
    /// How many those are.
    pub cost_known_calls: u64,
    /// Milliseconds of the calls that were timed.
    durations: Vec<f32>,
}

impl Tally {
    /// The columns that a tally reads.
    pub const COLUMNS: [&str; 4] = ["input_tokens", "output_tokens", "cost_usd", "duration_ms"];

    /// Counts a call in.
    pub fn add(&mut self, call: &CallRecord) {
        self.calls += 1;
        self.input_tokens = sum(self.input_tokens, call.input_tokens);
        self.output_tokens = sum(self.output_tokens, call.output_tokens);
        if let Some(cost) = call.cost_usd {
            self.cost_known_calls += 1;
            self.cost_usd = Some(self.cost_usd.unwrap_or(0.0) + cost);
        }
        self.durations.extend(call.duration_ms.map(|duration| duration as f32));
    }

    /// The duration, in milliseconds, that this share of the timed calls (0..=1) did not exceed.
    pub fn duration_ms(&mut self, share: f64) -> Option<f64> {
        let last = self.durations.len().checked_sub(1)?;
        let at = (last as f64 * share.clamp(0.0, 1.0)).round() as usize;
        let (_, duration, _) = self.durations.select_nth_unstable_by(at, f32::total_cmp);
        Some(f64::from(*duration))
    }
}

fn sum(total: Option<i64>, more: Option<i64>) -> Option<i64> {
    match (total, more) {
        (Some(total), Some(more)) => Some(total.saturating_add(more)),
        (total, more) => total.or(more),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_call_says_is_unknown_and_the_rest_is_summed() {
        let mut tally = Tally::default();
        tally.add(&CallRecord::default());
        assert_eq!((tally.calls, tally.input_tokens, tally.cost_usd), (1, None, None));
        assert_eq!(tally.duration_ms(0.5), None);
        for tokens in 1..=10 {
            tally.add(&CallRecord {
                input_tokens: Some(tokens),
                cost_usd: (tokens > 5).then_some(0.5),
                duration_ms: Some(tokens as f64 * 100.0),
                ..CallRecord::default()
            });
        }
        assert_eq!(
            (tally.calls, tally.input_tokens, tally.output_tokens),
            (11, Some(55), None)
        );
        assert_eq!((tally.cost_usd, tally.cost_known_calls), (Some(2.5), 5));
        assert_eq!(
            (tally.duration_ms(0.0), tally.duration_ms(1.0)),
            (Some(100.0), Some(1000.0))
        );
        assert_eq!(tally.duration_ms(0.5), Some(600.0));
    }
}
