//! The segment files of a spool folder: their names, their sizes, and what gives way when there are too many.

use super::disk::{Disk, DiskFile, Listed};
use super::ledger::Ledger;
use super::{SpoolConfig, SpoolError};
use crate::config::WhenFull;
use crate::metrics::Metrics;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use understudy_call::account::Numbers;
use understudy_call::frame;
use understudy_call::keys::Key;
use understudy_call::segment::{Found, HEADER_LENGTH, SegmentReader, Walk, frame_numbers};
use understudy_call::spool::{END_SEGMENT, POSITION, Position, READERS, SEGMENT_EXTENSION};
use uuid::Uuid;

/// The files of one spool, for its writer.
pub(super) struct Segments {
    disk: Arc<dyn Disk>,
    config: SpoolConfig,
    key: Key,
    ledger: Arc<Ledger>,
    metrics: Metrics,
    current: Option<PathBuf>,
    /// Bytes of all segments, or more: the collector deletes what is stored.
    total: u64,
    /// The highest id in the folder: ids only grow, whatever the wall clock does.
    last_id: u128,
    /// How old each segment was when first seen. From then on its age is by the monotonic clock: a wall clock that jumps
    /// evicts nothing.
    first_seen: HashMap<PathBuf, (Duration, Instant)>,
}

impl Segments {
    /// Looks at what is there.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        config: SpoolConfig,
        key: Key,
        ledger: Arc<Ledger>,
        metrics: Metrics,
    ) -> Result<Segments, SpoolError> {
        let mut segments = Segments {
            disk,
            config,
            key,
            ledger,
            metrics,
            current: None,
            total: 0,
            last_id: 0,
            first_seen: HashMap::new(),
        };
        let there = segments.list()?;
        segments.last_id = there
            .iter()
            .filter_map(|segment| id_of(&segment.path))
            .max()
            .unwrap_or(0);
        Ok(segments)
    }

    /// Bytes at which a segment is closed: small beside the whole, since whole segments give way.
    pub(super) fn segment_bytes(&self) -> u64 {
        (self.config.max / 8).min(super::SEGMENT_BYTES)
    }

    /// Says that the current segment has grown.
    pub(super) fn grew(&mut self, bytes: u64) {
        self.total += bytes;
        self.metrics.spool_bytes.add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The id of a new segment: a UUIDv7 above all that are there, so that names sort by age.
    pub(super) fn new_id(&mut self) -> Uuid {
        let mut id = Uuid::now_v7().as_u128();
        if id <= self.last_id {
            // The next millisecond after the highest, with the random bits of the new one.
            let time = (self.last_id >> 80) + 1;
            id = (time << 80) | (id & ((1 << 80) - 1));
        }
        self.last_id = id;
        Uuid::from_u128(id)
    }

    /// A new segment file with its header, and its name.
    pub(super) fn create(&mut self, id: Uuid, header: &[u8]) -> std::io::Result<(Arc<dyn DiskFile>, String)> {
        let name = id.simple().to_string();
        let path = self.config.dir.join(&name).with_extension(SEGMENT_EXTENSION);
        let file = self.disk.create(&path)?;
        if let Err((_, error)) = super::disk::append_all(&*file, header) {
            // A disk that is full must not fill with empty files as well.
            let _ = self.disk.remove(&path);
            return Err(error);
        }
        self.link_to_readers(&path);
        self.current = Some(path);
        self.grew(header.len() as u64);
        self.ledger.segment_began(&name, header);
        Ok((file, name))
    }

    /// Gives a new segment to all further readers. One that does not keep up loses its oldest, at the size that the spool
    /// itself may have: it must not fill the disk.
    fn link_to_readers(&self, path: &Path) {
        // Without further readers there is no folder.
        let Ok(readers) = self.disk.list(&self.config.dir.join(READERS)) else {
            return;
        };
        for reader in readers {
            let Some(name) = path.file_name() else { continue };
            if let Err(error) = self.disk.link(path, &reader.path.join(name)) {
                tracing::warn!(%error, reader = %reader.path.display(), "a further reader misses a segment");
            }
            let mut segments = self.disk.list(&reader.path).unwrap_or_default();
            segments.retain(|file| is_segment(&file.path));
            segments.sort_by(|a, b| a.path.cmp(&b.path));
            let mut total: u64 = segments.iter().map(|segment| segment.bytes).sum();
            for segment in segments {
                if total <= self.config.max || self.disk.remove(&segment.path).is_err() {
                    break;
                }
                total -= segment.bytes;
                tracing::warn!(segment = %segment.path.display(), "a further reader does not keep up: it lost a segment");
            }
        }
    }

    /// The segment that a collector asks to be ended.
    pub(super) fn asked_to_end(&self) -> Option<String> {
        let name = self.disk.read(&self.config.dir.join(END_SEGMENT)).ok()?;
        Some(String::from_utf8_lossy(&name).trim().to_owned())
    }

    /// What a collector asked for is done.
    pub(super) fn was_ended(&self) {
        let _ = self.disk.remove(&self.config.dir.join(END_SEGMENT));
    }

    /// Takes back a segment that holds no frame.
    pub(super) fn discard(&mut self, name: &str) {
        let path = self.config.dir.join(name).with_extension(SEGMENT_EXTENSION);
        let _ = self.disk.remove(&path);
        // Further readers find an empty segment, which is none.
    }

    /// Whether so many bytes more may be written; evicts where that helps and is wanted.
    pub(super) fn admit(&mut self, bytes: u64) -> Result<bool, SpoolError> {
        if self.total + bytes <= self.config.max {
            return Ok(true);
        }
        let mut segments = self.list()?;
        if self.config.when_full == WhenFull::DropOldest {
            let being_read = self.position().segment;
            segments.retain(|segment| {
                let name = segment.path.file_stem().and_then(|name| name.to_str());
                // What the collector has in hand may be stored already; it goes by age only.
                self.current.as_ref() != Some(&segment.path) && name != being_read.as_deref()
            });
            for segment in &segments {
                if self.total + bytes <= self.config.max {
                    break;
                }
                self.evict(segment, "spool_full");
            }
        }
        Ok(self.total + bytes <= self.config.max)
    }

    /// Evicts what is too old.
    pub(super) fn evict_old(&mut self) -> Result<(), SpoolError> {
        let segments = self.list()?;
        self.first_seen
            .retain(|path, _| segments.iter().any(|segment| segment.path == *path));
        for segment in &segments {
            let (age, since) = *self
                .first_seen
                .entry(segment.path.clone())
                .or_insert_with(|| (segment.age, Instant::now()));
            if age + since.elapsed() > self.config.max_age && self.current.as_ref() != Some(&segment.path) {
                self.evict(segment, "age");
            }
        }
        Ok(())
    }

    fn evict(&mut self, segment: &Listed, reason: &str) {
        let records = self.records(&segment.path);
        match self.disk.remove(&segment.path) {
            Ok(()) => {
                self.total = self.total.saturating_sub(segment.bytes);
                self.metrics
                    .spool_bytes
                    .set(i64::try_from(self.total).unwrap_or(i64::MAX));
                let mut all = 0;
                for (boot, (numbers, count)) in records {
                    all += count;
                    self.ledger.evicted(&boot, reason, numbers, count);
                }
                self.metrics.evicted.with_label_values(&[reason]).inc_by(all);
                tracing::warn!(segment = %segment.path.display(), records = all, reason, "evicted a spool segment");
            }
            // The collector was faster: it is stored.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, segment = %segment.path.display(), "evicting a segment failed"),
        }
    }

    /// The calls in a segment that are not stored yet, by boot. Those that can't be read are counted without a boot.
    fn records(&self, path: &Path) -> BTreeMap<String, (Numbers, u64)> {
        let mut records: BTreeMap<String, (Numbers, u64)> = BTreeMap::new();
        let Ok(bytes) = self.disk.read(path) else {
            return records;
        };
        let Ok(reader) = SegmentReader::open(&bytes, &self.key) else {
            let count = frame_numbers(&bytes).len() as u64;
            return [(String::new(), (Numbers::default(), count))].into();
        };
        let position = self.position();
        let name = path.file_stem().and_then(|name| name.to_str());
        let stored = if name == position.segment.as_deref() {
            position.offset
        } else {
            0
        };
        let start = stored.max(HEADER_LENGTH as u64);
        let rest = usize::try_from(start)
            .ok()
            .and_then(|start| bytes.get(start..))
            .unwrap_or_default();
        for found in Walk::new(&reader, rest, start, true) {
            let Found::Frame { plain, .. } = found else { continue };
            let head = frame::decode_head(&plain).unwrap_or_default();
            let (numbers, count) = records.entry(head.boot_id).or_default();
            numbers.insert(head.sequence);
            *count += 1;
        }
        records
    }

    /// How far the collector says it is.
    fn position(&self) -> Position {
        let read = self.disk.read(&self.config.dir.join(POSITION));
        read.ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default()
    }

    /// All segments, oldest first; with that the total is exact.
    fn list(&mut self) -> Result<Vec<Listed>, SpoolError> {
        let mut segments = self.disk.list(&self.config.dir).map_err(|source| SpoolError::Io {
            action: "listing",
            path: self.config.dir.clone(),
            source,
        })?;
        segments.retain(|file| is_segment(&file.path));
        segments.sort_by(|a, b| a.path.cmp(&b.path));
        self.total = segments.iter().map(|segment| segment.bytes).sum();
        self.metrics
            .spool_bytes
            .set(i64::try_from(self.total).unwrap_or(i64::MAX));
        self.ledger
            .keep_segments(|name| segments.iter().any(|segment| is_named(&segment.path, name)));
        Ok(segments)
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == SEGMENT_EXTENSION)
}

fn is_named(path: &Path, name: &str) -> bool {
    path.file_stem().is_some_and(|stem| stem == name)
}

fn id_of(path: &Path) -> Option<u128> {
    let name = path.file_stem()?.to_str()?;
    Uuid::try_parse(name).ok().map(|id| id.as_u128())
}
