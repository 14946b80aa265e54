//! How far the spool is stored: a small file beside it, replaced atomically and fsynced.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use understudy_call::account::Numbers;
use understudy_call::spool::{POSITION, Pending, Position};

/// Segments remembered after they were stored.
const MAX_FINISHED: usize = 256;

/// The journal can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the collector's position {path}: {reason}")]
pub struct PositionError {
    path: PathBuf,
    reason: String,
}

/// The position, and the file that it is in.
#[derive(Debug)]
pub(super) struct Journal {
    /// How far the spool is stored.
    pub(super) position: Position,
    path: PathBuf,
}

impl Journal {
    /// Reads the file. One that is damaged is begun anew: what is stored already is told by the store then.
    pub(super) fn load(spool_dir: &Path) -> Result<Journal, PositionError> {
        let path = spool_dir.join(POSITION);
        let position = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %path.display(), "the collector's position is damaged: the store is asked what it has");
                Position::default()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Position::default(),
            Err(error) => {
                return Err(PositionError {
                    path,
                    reason: error.to_string(),
                });
            }
        };
        Ok(Journal { position, path })
    }

    /// Whose position it is; found the first time.
    pub(super) fn id(&mut self) -> Result<&str, PositionError> {
        if self.position.id.is_empty() {
            self.position.id = uuid::Uuid::now_v7().simple().to_string();
            self.save().inspect_err(|_| self.position.id.clear())?;
        }
        Ok(&self.position.id)
    }

    /// Goes to the start of a segment.
    pub(super) fn begin(&mut self, segment: &str) -> Result<(), PositionError> {
        self.leave_segment();
        self.position.segment = Some(segment.to_owned());
        // Said at once: the spool's writer evicts no segment that is being read.
        self.save()
    }

    /// Journals a put.
    pub(super) fn begin_put(&mut self, pending: Pending) -> Result<(), PositionError> {
        self.position.pending = Some(pending);
        self.save()
    }

    /// The journalled put has happened; these frames are stored.
    pub(super) fn end_put(&mut self, numbers: &Numbers) -> Result<(), PositionError> {
        if let Some(pending) = self.position.pending.take() {
            self.position.offset = pending.to;
            self.position.row += numbers.len();
            self.position.stored.extend(numbers);
        }
        self.save()
    }

    /// The segment of this id is stored to its end; so many of its records were given up, by reason. Where that can't be
    /// written down it is not so yet.
    pub(super) fn finish_segment(
        &mut self,
        id: &str,
        boot_id: &str,
        given_up: [(&str, u64); 2],
    ) -> Result<(), PositionError> {
        let before = self.position.clone();
        let position = &mut self.position;
        for (reason, lost) in given_up.into_iter().filter(|(_, lost)| *lost > 0) {
            let reasons = position.evicted.entry(boot_id.to_owned()).or_default();
            reasons.entry(reason.to_owned()).or_default().count += lost;
        }
        position.finished.push(id.to_owned());
        let too_many = position.finished.len().saturating_sub(MAX_FINISHED);
        position.finished.drain(..too_many);
        self.leave_segment();
        self.save().inspect_err(|_| self.position = before)
    }

    /// The segment is gone without having been stored to its end.
    pub(super) fn leave_segment(&mut self) {
        let position = &mut self.position;
        position.segment = None;
        position.offset = 0;
        position.row = 0;
        position.stored = Numbers::default();
        position.pending = None;
    }

    /// What was given up of a boot is told elsewhere from now on.
    pub(super) fn forget_boot(&mut self, boot_id: &str) -> Result<(), PositionError> {
        match self.position.evicted.remove(boot_id) {
            Some(_) => self.save(),
            None => Ok(()),
        }
    }

    fn save(&self) -> Result<(), PositionError> {
        let fail = |error: std::io::Error| PositionError {
            path: self.path.clone(),
            reason: error.to_string(),
        };
        let temporary = self.path.with_extension("json.new");
        let json = serde_json::to_vec(&self.position).map_err(|error| fail(error.into()))?;
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
        let mut journal = Journal::load(dir.path()).unwrap();
        journal.begin("s1").unwrap();
        let pending = Pending {
            from: 0,
            to: 500,
            first: 0,
            last: 9,
            numbers: Numbers::range(0, 9),
        };
        journal.begin_put(pending.clone()).unwrap();
        let mut again = Journal::load(dir.path()).unwrap();
        assert_eq!(
            (again.position.segment.as_deref(), again.position.pending.clone()),
            (Some("s1"), Some(pending))
        );
        again.end_put(&Numbers::range(0, 9)).unwrap();
        let after = Journal::load(dir.path()).unwrap().position;
        assert_eq!((after.offset, after.row, after.pending), (500, 10, None));
        assert_eq!(after.stored.to_string(), "0-9");
    }

    #[test]
    fn what_was_stored_and_what_was_given_up_is_remembered_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::load(dir.path()).unwrap();
        for number in 0..300 {
            journal.begin(&format!("s{number}")).unwrap();
            journal
                .finish_segment(&format!("s{number}"), "b", [("corrupt", 1), ("mask_failed", 0)])
                .unwrap();
        }
        let position = Journal::load(dir.path()).unwrap().position;
        assert_eq!(
            (position.finished.len(), position.evicted["b"]["corrupt"].count),
            (MAX_FINISHED, 300)
        );
        assert_eq!(position.finished.last().map(String::as_str), Some("s299"));
        std::fs::write(dir.path().join(POSITION), b"{\"segment\":").unwrap();
        assert_eq!(Journal::load(dir.path()).unwrap().position, Position::default());
    }
}
