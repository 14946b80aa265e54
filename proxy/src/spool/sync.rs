//! What the fsyncing thread does: makes written frames last, and writes the boot's account down.
//!
//! A frame counts as synced only after its file and its folder's entry were. A file whose fsync failed is never trusted
//! again: the kernel may have dropped what it could not write, and would say nothing the next time.

use super::disk::{Disk, DiskFile, append_all};
use super::{Shared, lock_of};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use understudy_call::account::{Account, EXTENSION};

/// An account's file of this size is written anew, shorter.
const ACCOUNT_BYTES: u64 = 1 << 20;

/// A segment that has, or may get, bytes that do not last yet.
pub(super) struct Tail {
    pub(super) name: String,
    pub(super) file: Arc<dyn DiskFile>,
    /// Whole frames written.
    pub(super) written: AtomicU64,
    /// Frames known to last.
    pub(super) synced: AtomicU64,
    /// Frames that the account tells of.
    told: AtomicU64,
    /// Nothing more is written.
    pub(super) closed: AtomicBool,
    /// An fsync failed.
    pub(super) failed: AtomicBool,
    /// The folder's entry lasts.
    placed: AtomicBool,
}

impl Tail {
    pub(super) fn new(name: String, file: Arc<dyn DiskFile>) -> Tail {
        Tail {
            name,
            file,
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            told: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            placed: AtomicBool::new(false),
        }
    }
}

/// Fsyncs a spool.
pub(super) struct Syncer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    shared: Arc<Shared>,
    account: AccountFile,
}

impl Syncer {
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, shared: Arc<Shared>) -> Syncer {
        let path = dir.join(shared.ledger.boot_id()).with_extension(EXTENSION);
        Syncer {
            account: AccountFile::new(disk.clone(), path),
            disk,
            dir: dir.to_owned(),
            shared,
        }
    }

    /// Works until the writer has ended.
    pub(super) fn run(&mut self, interval: Duration) {
        // At once, so that the numbers given have a bound that lasts.
        self.turn(false);
        let shared = self.shared.clone();
        loop {
            // The lock is free again while the disk is asked.
            let ended = {
                let ended = lock_of(&shared.writer_ended);
                *shared
                    .writer_ends
                    .wait_timeout_while(ended, interval, |ended| !*ended)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            };
            self.turn(ended);
            if ended {
                return;
            }
        }
    }

    /// Makes last what is written by now, and writes the account; `ended` says that no more will come.
    pub(super) fn turn(&mut self, ended: bool) {
        let tails = lock_of(&self.shared.tails).clone();
        for tail in &tails {
            self.sync(tail);
        }
        self.write_account(ended);
    }

    fn sync(&self, tail: &Arc<Tail>) {
        // Asked before the count: what is written after the answer is seen next time.
        let closed = tail.closed.load(Ordering::Acquire);
        let written = tail.written.load(Ordering::Acquire);
        let synced = tail.synced.load(Ordering::Relaxed);
        if written > tail.told.swap(written, Ordering::Relaxed) {
            self.shared.ledger.segment_grew(&tail.name, written);
        }
        let mut lasts = written == synced;
        if !lasts && !tail.failed.load(Ordering::Relaxed) {
            match self.make_last(tail) {
                Ok(()) => {
                    tail.synced.store(written, Ordering::Relaxed);
                    self.shared.metrics.synced.inc_by(written - synced);
                    lasts = true;
                }
                Err(error) => {
                    // The writer goes on in another segment.
                    tail.failed.store(true, Ordering::Release);
                    self.shared.metrics.sync_errors.inc();
                    tracing::warn!(
                        %error,
                        segment = tail.name,
                        "fsync of the spool failed: what was written there since the last one may not survive power loss"
                    );
                }
            }
        }
        if closed && (lasts || tail.failed.load(Ordering::Relaxed)) {
            lock_of(&self.shared.tails).retain(|other| !Arc::ptr_eq(other, tail));
        }
    }

    fn make_last(&self, tail: &Tail) -> std::io::Result<()> {
        if !tail.placed.load(Ordering::Relaxed) {
            self.disk.sync_dir(&self.dir)?;
            tail.placed.store(true, Ordering::Relaxed);
        }
        tail.file.sync()
    }

    fn write_account(&mut self, ended: bool) {
        let Some(line) = self.shared.ledger.line(ended) else {
            return;
        };
        let result = if self.account.is_long() {
            self.account.replace(&self.shared.ledger.whole())
        } else {
            self.account.append(&line)
        };
        if let Err(error) = result {
            tracing::debug!(%error, "the spool's account could not be written");
            self.shared.ledger.not_written(&line);
        }
    }
}

/// The file with the account of this boot.
struct AccountFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    length: u64,
    /// Of the whole account when it was last written anew.
    shortest: u64,
    mark: u64,
}

impl AccountFile {
    fn new(disk: Arc<dyn Disk>, path: PathBuf) -> AccountFile {
        AccountFile {
            disk,
            path,
            file: None,
            length: 0,
            shortest: 0,
            mark: 0,
        }
    }

    fn is_long(&self) -> bool {
        self.length > ACCOUNT_BYTES + 2 * self.shortest
    }

    fn append(&mut self, line: &Account) -> std::io::Result<()> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => {
                let file = self.disk.create(&self.path)?;
                self.file = Some(file.clone());
                self.disk.sync_dir(self.path.parent().unwrap_or(Path::new(".")))?;
                file
            }
        };
        // A line feed first: what a failed write left behind must not spoil this line.
        let bytes = [b"\n", &line.to_line()[..]].concat();
        append_all(&*file, &bytes).map_err(|(_, error)| error)?;
        self.length += bytes.len() as u64;
        // Counts alone can do without: after power loss they are told by what is there.
        let must_last = line.mark > self.mark
            || line.ended
            || !line.dropped.is_empty()
            || !line.evicted.is_empty()
            || line.segments.values().any(|written| !written.header.is_empty());
        if must_last {
            file.sync()?;
            self.mark = line.mark;
        }
        Ok(())
    }

    /// Puts one line in the place of all.
    fn replace(&mut self, whole: &Account) -> std::io::Result<()> {
        let temporary = self.path.with_extension("account-new");
        let _ = self.disk.remove(&temporary);
        let line = whole.to_line();
        let file = self.disk.create(&temporary)?;
        append_all(&*file, &line).map_err(|(_, error)| error)?;
        file.sync()?;
        self.disk.rename(&temporary, &self.path)?;
        self.file = Some(file);
        self.length = line.len() as u64;
        self.shortest = self.length;
        self.mark = whole.mark;
        self.disk.sync_dir(self.path.parent().unwrap_or(Path::new(".")))
    }
}
