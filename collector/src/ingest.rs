//! Spool → store: reads frames as they are written, makes rows of them, puts objects, and only then forgets the frames.
//!
//! Each object covers rows of one segment and is named by them. Name and range are journalled before the put, so that
//! after a crash the same range is read again and put under the same name: nothing is lost and nothing doubled. A store
//! that is down holds up nothing but this thread.

mod accounts;
mod drain;
mod known;
mod position;
pub(crate) mod segments;
mod storing;
mod waiting;

pub use accounts::ACCOUNTS;

use crate::drift::{Drifted, Watch};
use crate::erase::{LeftOut, Tombstones};
use crate::metrics::Metrics;
use crate::row::RowMaker;
use crate::scan::ScanError;
use crate::shadow::Shadows;
use crate::store::{Store, StoreError, jittered};
use crate::table::TableError;
use crate::thread::{Threads, Trail};
use crate::vault::{self, Vault};
use accounts::Accounts;
use drain::Drain;
use known::Known;
use position::{Journal, PositionError};
use segments::{Chunk, OpenSegment, Segments, SpoolReadError};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use understudy_call::account::Numbers;
use understudy_call::keys::Key;
use understudy_call::record::CallRecord;
use understudy_call::spool::{COLLECTOR_LOCK, READERS};
use understudy_call::taskbook::TaskBook;
use waiting::Gauge;

/// How often new frames are looked for.
const POLL: Duration = Duration::from_millis(100);
/// Between two tries of a put.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// How long a finishing ingest tries to reach the store.
const FINISH_TRIES: Duration = Duration::from_secs(20);
/// How often a newer task book is looked for.
const BOOK_EVERY: Duration = Duration::from_secs(5);
/// A segment that can't be read so often is set aside.
const READ_TRIES: u32 = 5;

/// How ingest works.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// The spool's folder.
    pub spool_dir: PathBuf,
    /// The name of a further reader, which has a position of its own and tells no accounts; none for the first.
    pub reader: Option<String>,
    /// Rows become an object after this time.
    pub flush_after: Duration,
    /// Or when their frames have this many bytes.
    pub flush_bytes: u64,
    /// Whether the spool's writer is in this process, and has ended when ingest is asked to finish.
    pub own_writer: bool,
}

/// Why ingest can't go on at present.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The spool can't be read.
    #[error(transparent)]
    Spool(#[from] SpoolReadError),
    /// The journal beside the spool.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Rows that can't be written as Parquet.
    #[error(transparent)]
    Table(#[from] TableError),
    /// What was erased meanwhile could not be taken out.
    #[error(transparent)]
    Erase(#[from] Box<ScanError>),
    /// The lock that keeps other collectors away.
    #[error("locking {path}, which keeps other collectors of this spool away: {source}")]
    Lock {
        /// The lock's file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl IngestConfig {
    /// The folder whose segments are read.
    fn dir(&self) -> PathBuf {
        match &self.reader {
            Some(name) => self.spool_dir.join(READERS).join(name),
            None => self.spool_dir.clone(),
        }
    }
}

impl IngestError {
    /// One word, for a metric's label: one of [`REASONS`](crate::metrics::REASONS).
    fn reason(&self) -> &'static str {
        match self {
            IngestError::Spool(_) | IngestError::Lock { .. } => "spool",
            IngestError::Position(_) => "journal",
            IngestError::Store(error) => error.kind().as_str(),
            IngestError::Table(_) => "table",
            IngestError::Erase(_) => "erase",
        }
    }
}

/// Reads a spool into a store.
pub struct Ingest {
    config: IngestConfig,
    segments: Segments,
    store: Store,
    rows: RowMaker,
    threads: Threads,
    metrics: Metrics,
    runtime: Handle,
    journal: Journal,
    reading: Option<OpenSegment>,
    batch: Batch,
    known: Known,
    gauge: Gauge,
    watch: Watch,
    drifted: Drifted,
    accounts: Accounts,
    shadows: Option<Arc<Shadows>>,
    vault: Option<Vault>,
    book_asked: Option<Instant>,
    /// What is erased, as far as it was looked.
    tombstones: Tombstones,
    looked: Option<Instant>,
    draining: Option<Drain>,
    /// When the store was told that this collector is there.
    told: Option<Instant>,
    read_failures: u32,
    /// Held while this is the one collector of the spool.
    lock: Option<File>,
    /// It was said that another one is.
    waits_for_other: bool,
}

/// Rows read and not stored yet: all of one segment.
#[derive(Default)]
struct Batch {
    rows: Vec<CallRecord>,
    /// What was masked in them, sealed.
    vault: Vec<vault::Line>,
    /// Numbers of their frames.
    numbers: Numbers,
    /// Where the frames after the last row begin.
    end: u64,
    bytes: u64,
    since: Option<Instant>,
    /// Nothing comes after it in its segment.
    segment_ended: bool,
    /// Rows of it that are erased: it may have none left, and is to be forgotten all the same.
    left_out: LeftOut,
    /// It was read after a restart, for a put that was journalled.
    reread: bool,
}

impl Ingest {
    /// The tasks that it sees to drift.
    pub fn drifted(&self) -> Drifted {
        self.drifted.clone()
    }

    /// Opens the spool's folder for reading, with all keys that its segments may be sealed with; finishes what a crash left half done at the first turn.
    ///
    /// # Errors
    /// Where the journal beside the spool, or the spool, can't be read.
    pub fn open(
        config: IngestConfig,
        spool_keys: Vec<Key>,
        store: Store,
        rows: RowMaker,
        metrics: Metrics,
        runtime: Handle,
    ) -> Result<Ingest, IngestError> {
        let dir = config.dir();
        let segments = Segments::new(dir.clone(), config.spool_dir.clone(), spool_keys, config.own_writer);
        let journal = Journal::load(&dir)?;
        if config.reader.is_some() {
            segments.join(&journal.position.finished)?;
        }
        let known = Known::new(segments.names()?);
        let gauge = Gauge::new(metrics.clone());
        let mut ingest = Ingest {
            config,
            segments,
            store,
            rows,
            threads: Threads::default(),
            metrics,
            runtime,
            journal,
            reading: None,
            batch: Batch::default(),
            known,
            gauge,
            watch: Watch::new(),
            drifted: Drifted::default(),
            accounts: Accounts::default(),
            shadows: None,
            vault: None,
            book_asked: None,
            tombstones: Tombstones::default(),
            looked: None,
            draining: None,
            told: None,
            read_failures: 0,
            lock: None,
            waits_for_other: false,
        };
        ingest.gauge_now();
        ingest.metrics.recovered.set(ingest.metrics.waiting.get());
        Ok(ingest)
    }

    /// Offers each row to these as it is read.
    pub fn with_shadows(mut self, shadows: Arc<Shadows>) -> Ingest {
        self.shadows = Some(shadows);
        self
    }

    /// Keeps what is masked in this, too.
    pub fn with_vault(mut self, vault: Option<Vault>) -> Ingest {
        self.vault = vault;
        self
    }

    /// Works until `finish` is set, and then until the spool is empty or the store stays unreachable. Blocks; for a
    /// thread of its own.
    pub fn run(mut self, finish: &AtomicBool) {
        let mut retry = RETRY_FIRST;
        let mut finishing_since = None;
        loop {
            let finishing = finish.load(Ordering::Acquire);
            if finishing {
                finishing_since.get_or_insert_with(Instant::now);
            }
            match self.turn(finish) {
                Ok(true) => retry = RETRY_FIRST,
                Ok(false) if finishing => break,
                Ok(false) => std::thread::sleep(POLL),
                Err(error) => {
                    self.metrics.store_errors.with_label_values(&[error.reason()]).inc();
                    let retry_in = jittered(retry);
                    tracing::warn!(%error, ?retry_in, "storing failed: the records wait in the spool");
                    if finishing_since.is_some_and(|since: Instant| since.elapsed() >= FINISH_TRIES) {
                        tracing::error!("the store stays out of reach: the spool is kept and stored at the next start");
                        return;
                    }
                    let until = Instant::now() + retry_in;
                    while Instant::now() < until && (finishing || !finish.load(Ordering::Acquire)) {
                        self.gauge();
                        std::thread::sleep(POLL.min(retry));
                    }
                    retry = (retry * 2).min(if finishing { Duration::from_secs(2) } else { RETRY_MOST });
                }
            }
        }
        self.gauge_now();
        self.tell_the_end(finish);
    }

    /// The last words to the store.
    fn tell_the_end(&mut self, finish: &AtomicBool) {
        let told = self.publish(finish, true);
        if let Err(error) = told.and_then(|()| self.tell_presence(finish, true)) {
            tracing::warn!(%error, "the accounts could not be stored: they are at the next start");
        }
    }

    /// Reads what there is and stores what is due. False when there was nothing to do.
    fn turn(&mut self, finish: &AtomicBool) -> Result<bool, IngestError> {
        if !self.is_alone()? {
            return Ok(false);
        }
        self.look_for_task_book();
        self.look_for_erasures();
        if let Some(pending) = self.journal.position.pending.clone() {
            self.finish_pending(&pending, finish)?;
            return Ok(true);
        }
        let finishing = finish.load(Ordering::Acquire);
        let read = !self.is_full() && self.read_or_set_aside(finishing)?;
        let due = self
            .batch
            .since
            .is_some_and(|since| since.elapsed() >= self.config.flush_after);
        let flush =
            !self.batch.rows.is_empty() && (due || self.is_full() || self.batch.segment_ended || (finishing && !read));
        if flush {
            self.store_batch(finish)?;
        } else if self.batch.segment_ended && self.batch.rows.is_empty() {
            self.next_segment()?;
            return Ok(true);
        }
        self.gauge();
        self.drain(finish)?;
        self.publish(finish, false)?;
        Ok(read || flush)
    }

    /// Whether no other collector reads this spool: two would store each call twice. The second one waits, so that it
    /// takes over when the first ends.
    fn is_alone(&mut self) -> Result<bool, IngestError> {
        let dir = self.config.dir();
        if self.lock.is_some() || !dir.exists() {
            return Ok(self.lock.is_some());
        }
        let path = dir.join(COLLECTOR_LOCK);
        let failed = |source| IngestError::Lock {
            path: path.clone(),
            source,
        };
        let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut self.waits_for_other, true) {
                    tracing::warn!(
                        lock = %path.display(),
                        "another collector reads this spool: this one waits until that one ends"
                    );
                }
                return Ok(false);
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        if std::mem::take(&mut self.waits_for_other) {
            tracing::info!("the other collector has ended: this one goes on");
        }
        self.lock = Some(file);
        // The former one may have come further since this one was opened.
        self.journal = Journal::load(&dir)?;
        Ok(true)
    }

    fn is_full(&self) -> bool {
        self.batch.bytes >= self.config.flush_bytes
    }

    /// Reads; a segment that fails again and again must not hold up those after it.
    fn read_or_set_aside(&mut self, finishing: bool) -> Result<bool, IngestError> {
        match self.read(finishing) {
            Err(IngestError::Spool(error)) if error.is_gone() => {
                // Evicted by the spool's writer, which has counted it.
                self.leave_segment();
                Ok(true)
            }
            Err(error) => {
                self.read_failures += 1;
                if self.read_failures >= READ_TRIES
                    && self.batch.rows.is_empty()
                    && let Some(segment) = self.reading.as_ref().map(|segment| segment.name.clone())
                {
                    tracing::error!(%error, segment, "a segment can't be read: it is left for the next start");
                    self.segments.set_aside(&segment);
                    self.leave_segment();
                }
                Err(error)
            }
            result => {
                self.read_failures = 0;
                result
            }
        }
    }

    /// Reads the next frames of the current segment into the batch.
    fn read(&mut self, finishing: bool) -> Result<bool, IngestError> {
        if self.batch.segment_ended {
            return Ok(false);
        }
        if self.reading.is_none() && !self.open_segment(finishing)? {
            return Ok(false);
        }
        let Some(segment) = &mut self.reading else {
            return Ok(false);
        };
        let from = self.batch.end;
        let chunk = self.segments.read(segment, from, None, finishing)?;
        let moved = chunk.end > from || chunk.segment_ended;
        self.take(chunk);
        Ok(moved)
    }

    /// Opens the segment at hand, or the next.
    fn open_segment(&mut self, finishing: bool) -> Result<bool, IngestError> {
        let position = &self.journal.position;
        let current = position.segment.clone();
        let next = self.segments.next(current.as_deref(), &position.finished, finishing);
        for (name, records) in self.segments.take_copies() {
            if self.known.opened(&name, "") {
                let records = i64::try_from(records).unwrap_or(i64::MAX);
                self.metrics.recovered.sub(records);
            }
        }
        let Some(mut segment) = next? else {
            return Ok(false);
        };
        segment.was_there = self.known.opened(&segment.name, &segment.id);
        if current.as_deref() == Some(&segment.id) {
            self.segments.skip_stored(&mut segment, position)?;
        } else {
            self.journal.begin(&segment.id)?;
        }
        self.batch = Batch::default();
        self.reading = Some(segment);
        Ok(true)
    }

    fn take(&mut self, chunk: Chunk) {
        self.batch.bytes += chunk.end.saturating_sub(self.batch.end);
        self.batch.end = chunk.end;
        self.batch.segment_ended = chunk.segment_ended;
        let Some(segment) = &mut self.reading else { return };
        let mut holds_erased = false;
        for (number, call) in segment.take(chunk) {
            let named = call.head.conversation.as_deref();
            let told = |trail: &Trail| self.threads.told_before(trail, named).cloned();
            // What can't be masked is not stored, and holds up nothing.
            let Ok(mut row) = catch_unwind(AssertUnwindSafe(|| self.rows.row(&call, told))) else {
                tracing::error!(call = call.head.call_id, "a call could not be masked: it is given up");
                segment.unmasked += 1;
                continue;
            };
            let shadows = self.shadows.as_ref().filter(|_| !self.batch.reread);
            let mut known = row.told.clone();
            if let Some(before) = shadows.and(self.threads.told_before(&row.trail, named)) {
                known.add(before, usize::MAX);
            }
            self.threads.place(&mut row.record, &row.trail, named);
            self.threads.tell(&row.record.conversation_id, &row.told);
            if let (Some(book), Some(look)) = (&self.rows.book, &row.look)
                && let Some((task, drift)) = self.watch.push(book, &row.record.conversation_id, look)
            {
                tracing::warn!(task, %drift, "a task has drifted: see `tasks show`, and fit again");
                self.metrics.count_drift(task);
                self.drifted.add(task, book.version(), drift);
            }
            let is_erased = self.tombstones.covers_call(&row.record);
            holds_erased |= is_erased;
            match (shadows, &self.shadows) {
                _ if is_erased => {}
                (Some(shadows), _) => shadows.offer(&row.record, &call, &known),
                // What is read again was offered before.
                (None, Some(shadows)) => shadows.learn(&row.record),
                (None, None) => {}
            }
            match self.vault.as_ref().map(|vault| vault.seal(&row.record, &row.replaced)) {
                Some(Ok(line)) => self.batch.vault.extend(line),
                Some(Err(error)) => tracing::error!(%error, call = row.record.call_id, "a call can't be restored"),
                None => {}
            }
            self.batch.rows.push(row.record);
            self.batch.numbers.insert(number);
        }
        if !self.batch.rows.is_empty() {
            self.batch.since.get_or_insert_with(Instant::now);
        }
        // A call that was under way when it was erased.
        if holds_erased && let Err(error) = self.begin_drain(BTreeSet::new()) {
            tracing::warn!(%error, "what is erased waits in the spool until its segment is full or old");
        }
    }

    /// The current segment is stored to its end: its file goes. May be asked again where a step of it failed.
    fn next_segment(&mut self) -> Result<(), IngestError> {
        if let Some(segment) = &self.reading {
            if self.journal.position.finished.last() != Some(&segment.id) {
                let account = self.segments.account_of(&segment.id);
                let told = account
                    .as_ref()
                    .map_or(0, |account| account.segments[&segment.id].frames);
                let lost = segment.lost(told);
                let boot_id = account.as_ref().map_or(&segment.boot_id, |account| &account.boot_id);
                let given_up = [("corrupt", lost), ("mask_failed", segment.unmasked)];
                self.journal.finish_segment(&segment.id, boot_id, given_up)?;
                self.metrics
                    .evicted
                    .with_label_values(&["mask_failed"])
                    .inc_by(segment.unmasked);
                if lost > 0 {
                    if segment.was_there {
                        // They could not be counted at the start.
                        let uncounted = lost.saturating_sub(segment.unreadable);
                        self.metrics.recovered.add(i64::try_from(uncounted).unwrap_or(i64::MAX));
                    }
                    self.metrics.evicted.with_label_values(&["corrupt"]).inc_by(lost);
                    tracing::warn!(segment = segment.name, records = lost, "damaged records were skipped");
                }
            }
            self.segments.delete(&segment.name)?;
            self.known.forget(&segment.id);
        }
        self.reading = None;
        self.batch = Batch::default();
        Ok(())
    }

    /// The current segment is gone, or can't be read.
    fn leave_segment(&mut self) {
        self.reading = None;
        self.batch = Batch::default();
        self.journal.leave_segment();
    }

    fn gauge(&mut self) {
        self.gauge
            .look(&self.segments, &self.journal.position, &self.batch.rows);
    }

    fn gauge_now(&mut self) {
        self.gauge
            .look_now(&self.segments, &self.journal.position, &self.batch.rows);
    }

    /// Puts the accounts of boots into the store, now and then.
    fn publish(&mut self, finish: &AtomicBool, now: bool) -> Result<(), IngestError> {
        if self.lock.is_none() {
            return Ok(());
        }
        if !now && let Err(error) = self.tell_presence(finish, false) {
            tracing::warn!(%error, "the store could not be told of this collector: erasures do not wait for it");
        }
        if !(now || self.accounts.is_due()) {
            return Ok(());
        }
        let publishing = self
            .accounts
            .publish(&self.store, &self.segments, &self.journal.position);
        let mut meanwhile = || {
            self.gauge
                .look(&self.segments, &self.journal.position, &self.batch.rows)
        };
        let over = within(&self.runtime, finish, &mut meanwhile, publishing)?;
        for boot_id in over {
            self.journal.forget_boot(&boot_id)?;
        }
        Ok(())
    }

    /// Rows of calls that the proxy did not assign are assigned by the newest task book.
    fn look_for_task_book(&mut self) {
        if self.book_asked.is_some_and(|asked| asked.elapsed() < BOOK_EVERY) {
            return;
        }
        self.book_asked = Some(Instant::now());
        let known = self.rows.book.as_ref().map_or(0, |book| book.version());
        let newer = async { tokio::time::timeout(BOOK_EVERY, newer_book(&self.store, known)).await };
        match self.runtime.block_on(newer) {
            Ok(Ok(Some(book))) => {
                self.rows.book = Some(Arc::new(book.compile()));
                self.watch = Watch::new();
                self.drifted.clear();
                self.metrics.task_drifted.reset();
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(error, "no newer task book could be read"),
            Err(_) => tracing::debug!("the store did not say in time whether there is a newer task book"),
        }
    }
}

/// Waits for the store, and does something else now and then meanwhile; once `finish` is set, for [`FINISH_TRIES`] at
/// most.
fn within<T>(
    runtime: &Handle,
    finish: &AtomicBool,
    mut meanwhile: impl FnMut(),
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let gives_up = async {
        let mut finishing_since: Option<Instant> = None;
        while finishing_since.is_none_or(|since| since.elapsed() < FINISH_TRIES) {
            tokio::time::sleep(POLL).await;
            meanwhile();
            if finish.load(Ordering::Acquire) {
                finishing_since.get_or_insert_with(Instant::now);
            }
        }
    };
    runtime.block_on(async {
        tokio::select! {
            result = work => result,
            () = gives_up => Err(StoreError::timed_out("reach", FINISH_TRIES)),
        }
    })
}

/// The newest task book of a store, if its version is above `known`.
///
/// # Errors
/// In words: the store can't be read, or the book can't.
pub async fn newer_book(store: &Store, known: i32) -> Result<Option<TaskBook>, String> {
    let Some((number, key)) = store.latest("taskbooks").await.map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    if i64::from(number) <= i64::from(known) {
        return Ok(None);
    }
    let json = store.get(&key).await.map_err(|error| error.to_string())?;
    let mut book = TaskBook::from_json(&json).map_err(|error| format!("{key}: {error}"))?;
    // The object's number is the version, whatever the file says of itself.
    book.version = i32::try_from(number).unwrap_or(i32::MAX);
    Ok(Some(book))
}

#[cfg(test)]
mod tests;
