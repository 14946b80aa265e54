//! How far the spool is stored: a small file beside it, replaced atomically and fsynced.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A put that is journalled and not known to have succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// Offset of the first frame.
    pub(super) from: u64,
    /// Offset after the last frame.
    pub(super) to: u64,
    /// Number of the first row in its segment.
    pub(super) first: u64,
    /// Number of the last row.
    pub(super) last: u64,
}

/// All frames before `offset` of `segment` are stored; so are all earlier segments.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) segment: Option<String>,
    pub(super) offset: u64,
    /// Rows of this segment stored so far: the number of the next.
    pub(super) row: u64,
    pub(super) pending: Option<Pending>,
    #[serde(skip)]
    path: PathBuf,
}

/// The journal can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the collector's position {path}: {reason}")]
pub struct PositionError {
    path: PathBuf,
    reason: String,
}

impl Position {
    pub(super) fn load(spool_dir: &Path) -> Result<Position, PositionError> {
        let path = spool_dir.join("collector.json");
        let fail = |reason: String| PositionError {
            path: path.clone(),
            reason,
        };
        let mut position: Position = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Position::default(),
            Err(error) => return Err(fail(error.to_string())),
        };
        position.path = path;
        Ok(position)
    }

    /// Goes to the start of a segment; saved with the first put.
    pub(super) fn begin(&mut self, segment: &str) {
        self.segment = Some(segment.to_owned());
        self.offset = 0;
        self.row = 0;
    }

    /// Journals a put.
    pub(super) fn begin_put(&mut self, pending: Pending) -> Result<(), PositionError> {
        self.pending = Some(pending);
        self.save()
    }

    /// The journalled put has happened.
    pub(super) fn end_put(&mut self) -> Result<(), PositionError> {
        if let Some(pending) = self.pending.take() {
            self.offset = pending.to;
            self.row = pending.last + 1;
        }
        self.save()
    }

    /// The segment is stored and deleted.
    pub(super) fn forget_segment(&mut self) -> Result<(), PositionError> {
        self.segment = None;
        self.offset = 0;
        self.row = 0;
        self.save()
    }

    fn save(&self) -> Result<(), PositionError> {
        let fail = |error: std::io::Error| PositionError {
            path: self.path.clone(),
            reason: error.to_string(),
        };
        let temporary = self.path.with_extension("json.new");
        let json = serde_json::to_vec(self).map_err(|error| fail(error.into()))?;
        let mut file = File::create(&temporary).map_err(fail)?;
        file.write_all(&json).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        std::fs::rename(&temporary, &self.path).map_err(fail)?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journalled_put_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut position = Position::load(dir.path()).unwrap();
        position.begin("s1");
        let pending = Pending {
            from: 0,
            to: 500,
            first: 0,
            last: 9,
        };
        position.begin_put(pending.clone()).unwrap();
        let mut again = Position::load(dir.path()).unwrap();
        assert_eq!(
            (again.segment.as_deref(), again.pending.clone()),
            (Some("s1"), Some(pending))
        );
        again.end_put().unwrap();
        let after = Position::load(dir.path()).unwrap();
        assert_eq!((after.offset, after.row, after.pending), (500, 10, None));
    }
}
