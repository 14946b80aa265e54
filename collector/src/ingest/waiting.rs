//! How many records wait in the spool, and since when, whether or not they were read yet.
//!
//! Whole frames are counted without a key; each byte is looked at once.

use super::segments::{Segments, SpoolReadError};
use std::collections::{BTreeMap, BTreeSet};
use understudy_call::segment::Count;
use understudy_call::spool::Position;

/// Bytes looked at in one go.
const READ_BYTES: u64 = 8 << 20;
/// The longest stretch read for one frame.
const MAX_READ: u64 = 1 << 30;

/// Records in each segment, as far as counted.
#[derive(Default)]
pub(super) struct Waiting {
    counts: BTreeMap<String, Count>,
}

impl Waiting {
    /// Counts what is new, and forgets segments that are gone.
    pub(super) fn look(&mut self, segments: &Segments) -> Result<(), SpoolReadError> {
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
    pub(super) fn records(&self, position: &Position) -> u64 {
        let of_segment = |(name, count): (&String, &Count)| {
            let is_current = position.segment.as_ref() == Some(name);
            count.frames().saturating_sub(if is_current { position.row } else { 0 })
        };
        self.counts.iter().map(of_segment).sum()
    }

    /// Microseconds since the epoch at which the oldest segment with records was begun, but for one; by its name.
    pub(super) fn oldest_but(&self, current: Option<&str>) -> Option<u64> {
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
