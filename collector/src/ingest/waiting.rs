//! How many records wait in the spool, and since when, whether or not they were read yet.
//!
//! Whole frames are counted without a key; each byte is looked at once.

use super::segments::{Segments, SpoolReadError};
use crate::metrics::Metrics;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use understudy_call::record::CallRecord;
use understudy_call::segment::Count;
use understudy_call::spool::Position;

/// Bytes looked at in one go.
const READ_BYTES: u64 = 8 << 20;
/// The longest stretch read for one frame.
const MAX_READ: u64 = 1 << 30;
/// How often waiting records are counted.
const GAUGE_EVERY: Duration = Duration::from_millis(250);

/// Says how much waits, and for how long: also while a store is waited for.
pub(super) struct Gauge {
    waiting: Waiting,
    metrics: Metrics,
    looked: Option<Instant>,
}

impl Gauge {
    pub(super) fn new(metrics: Metrics) -> Gauge {
        Gauge {
            waiting: Waiting::default(),
            metrics,
            looked: None,
        }
    }

    /// Looks now and then. `rows` were read, and are not stored.
    pub(super) fn look(&mut self, segments: &Segments, position: &Position, rows: &[CallRecord]) {
        if self.looked.is_none_or(|looked| looked.elapsed() >= GAUGE_EVERY) {
            self.look_now(segments, position, rows);
        }
    }

    /// Looks at once.
    pub(super) fn look_now(&mut self, segments: &Segments, position: &Position, rows: &[CallRecord]) {
        self.looked = Some(Instant::now());
        if let Err(error) = self.waiting.look(segments) {
            tracing::debug!(%error, "waiting records could not be counted");
            return;
        }
        let records = self.waiting.records(position);
        let bytes = if records == 0 { 0 } else { self.waiting.bytes(position) };
        self.metrics.waiting.set(i64::try_from(records).unwrap_or(i64::MAX));
        self.metrics.waiting_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let ended = |row: &CallRecord| {
            let duration = row.duration_ms.unwrap_or_default() * 1000.0;
            row.started_at.map(|began| began as f64 + duration)
        };
        let unread = self.waiting.oldest_but(position.segment.as_deref());
        let oldest = rows
            .iter()
            .filter_map(ended)
            .chain(unread.map(|micros| micros as f64))
            .reduce(f64::min);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros() as f64;
        self.metrics
            .lag
            .set(oldest.map_or(0.0, |oldest| ((now - oldest) / 1e6).max(0.0)));
    }
}

/// Records in each segment, as far as counted.
#[derive(Default)]
struct Waiting {
    counts: BTreeMap<String, Count>,
}

impl Waiting {
    /// Counts what is new, and forgets segments that are gone.
    fn look(&mut self, segments: &Segments) -> Result<(), SpoolReadError> {
        let names: BTreeSet<String> = segments.names()?.into_iter().collect();
        self.counts.retain(|name, _| names.contains(name));
        for name in names {
            let count = self.counts.entry(name.clone()).or_default();
            loop {
                let wanted = READ_BYTES.max(count.wanted());
                let bytes = match segments.read_bytes(&name, count.offset(), wanted) {
                    Ok(bytes) => bytes,
                    Err(error) if error.is_gone() => break,
                    Err(error) => return Err(error),
                };
                count.add(&bytes);
                if (bytes.len() as u64) < wanted || wanted > MAX_READ {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Records in all segments, less those that are stored.
    fn records(&self, position: &Position) -> u64 {
        let of_segment = |(name, count): (&String, &Count)| {
            let is_current = position.segment.as_ref() == Some(name);
            count.frames().saturating_sub(if is_current { position.row } else { 0 })
        };
        self.counts.iter().map(of_segment).sum()
    }

    /// Bytes of all segments, less those that are stored.
    fn bytes(&self, position: &Position) -> u64 {
        let of_segment = |(name, count): (&String, &Count)| {
            let is_current = position.segment.as_ref() == Some(name);
            count
                .offset()
                .saturating_sub(if is_current { position.offset } else { 0 })
        };
        self.counts.iter().map(of_segment).sum()
    }

    /// Microseconds since the epoch at which the oldest segment with records was begun, but for one; by its name.
    fn oldest_but(&self, current: Option<&str>) -> Option<u64> {
        let others = self
            .counts
            .iter()
            .filter(|(name, count)| Some(name.as_str()) != current && count.frames() > 0);
        others.filter_map(|(name, _)| began(name)).min()
    }
}

/// The time in a UUIDv7.
fn began(segment: &str) -> Option<u64> {
    let (seconds, nanos) = uuid::Uuid::try_parse(segment).ok()?.get_timestamp()?.to_unix();
    seconds.checked_mul(1_000_000)?.checked_add(u64::from(nanos / 1000))
}
