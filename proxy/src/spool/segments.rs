//! The segment files of a spool folder: their names, their sizes, and what gives way when there are too many.

use super::{SpoolConfig, SpoolError};
use crate::config::WhenFull;
use crate::metrics::Metrics;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use understudy_call::segment::count_frames;
use uuid::Uuid;

/// The files of one spool, for its writer.
pub(super) struct Segments {
    config: SpoolConfig,
    metrics: Metrics,
    current: Option<PathBuf>,
}

struct Segment {
    path: PathBuf,
    bytes: u64,
    age: Duration,
}

impl Segments {
    pub(super) fn new(config: SpoolConfig, metrics: Metrics) -> Segments {
        Segments {
            config,
            metrics,
            current: None,
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.config.dir
    }

    /// Says that the current segment has grown.
    pub(super) fn grew(&self, bytes: u64) {
        self.metrics.spool_bytes.add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A new segment file, named by a UUIDv7 so that names sort by time; also its id.
    pub(super) fn create(&mut self) -> Result<(File, [u8; 16]), SpoolError> {
        let id = Uuid::now_v7();
        let path = self.config.dir.join(format!("{}.seg", id.simple()));
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| SpoolError::Io {
                action: "making",
                path: path.clone(),
                source,
            })?;
        self.current = Some(path);
        Ok((file, *id.as_bytes()))
    }

    /// Evicts what is too old or too much. False where the limit forbids a new segment.
    pub(super) fn make_room(&mut self) -> Result<bool, SpoolError> {
        let mut segments = self.list()?;
        segments.sort_by(|a, b| a.path.cmp(&b.path));
        let mut total: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let mut kept = Vec::new();
        for segment in segments {
            let too_old = segment.age > self.config.max_age;
            let too_much = total >= self.config.max && self.config.when_full == WhenFull::DropOldest;
            if (too_old || too_much) && self.current.as_ref() != Some(&segment.path) {
                self.evict(&segment, if too_old { "age" } else { "spool_full" });
                total = total.saturating_sub(segment.bytes);
            } else {
                kept.push(segment);
            }
        }
        self.metrics.spool_bytes.set(i64::try_from(total).unwrap_or(i64::MAX));
        Ok(total < self.config.max)
    }

    fn evict(&self, segment: &Segment, reason: &str) {
        let frames = std::fs::read(&segment.path).map_or(0, |bytes| count_frames(&bytes));
        match std::fs::remove_file(&segment.path) {
            Ok(()) => {
                self.metrics.evicted.with_label_values(&[reason]).inc_by(frames);
                tracing::warn!(segment = %segment.path.display(), frames, reason, "evicted a spool segment");
            }
            // The collector was faster: it is stored.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, segment = %segment.path.display(), "evicting a segment failed"),
        }
    }

    fn list(&self) -> Result<Vec<Segment>, SpoolError> {
        let io = |source| SpoolError::Io {
            action: "listing",
            path: self.config.dir.clone(),
            source,
        };
        let now = SystemTime::now();
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(&self.config.dir).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_none_or(|extension| extension != "seg") {
                continue;
            }
            // A file that the collector deletes meanwhile is gone, not an error.
            let Ok(metadata) = path.metadata() else { continue };
            let age = metadata
                .modified()
                .ok()
                .and_then(|at| now.duration_since(at).ok())
                .unwrap_or_default();
            segments.push(Segment {
                path,
                bytes: metadata.len(),
                age,
            });
        }
        Ok(segments)
    }
}
