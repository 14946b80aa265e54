//! When a streamed answer came: first output, gaps, stalls, from the arrival of its pieces.
//!
//! A call whose pieces were not noted has no figures; nothing is made up.

use understudy_call::call::Api;
use understudy_call::wire;

/// Times of a streamed answer, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Timing {
    /// From the call's start to the piece that holds the first output.
    pub(crate) first_token_ms: Option<f64>,
    /// Median gap between the pieces from there on.
    pub(crate) gap_p50_ms: Option<f64>,
    /// 99th percentile of those gaps.
    pub(crate) gap_p99_ms: Option<f64>,
    /// The longest of them.
    pub(crate) longest_ms: Option<f64>,
}

impl Timing {
    /// The times of an answer that came in these pieces: bytes, and microseconds since the call's start.
    pub(crate) fn of(api: Api, content_type: Option<&str>, body: &[u8], pieces: &[(u32, u64)]) -> Timing {
        let Some(starts_at) = wire::output_starts_at(api, content_type, body) else {
            return Timing::default();
        };
        let mut arrived = 0u64;
        let first = pieces.iter().position(|(bytes, _)| {
            arrived = arrived.saturating_add(u64::from(*bytes));
            arrived >= starts_at as u64
        });
        let Some(first) = first else {
            return Timing::default();
        };
        let mut gaps: Vec<u64> = pieces[first..]
            .windows(2)
            .map(|pair| pair[1].1.saturating_sub(pair[0].1))
            .collect();
        gaps.sort_unstable();
        Timing {
            first_token_ms: Some(milliseconds(pieces[first].1)),
            gap_p50_ms: nearest_rank(&gaps, 0.50),
            gap_p99_ms: nearest_rank(&gaps, 0.99),
            longest_ms: nearest_rank(&gaps, 1.0),
        }
    }
}

fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

fn nearest_rank(sorted: &[u64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).map(|micros| milliseconds(*micros))
}
