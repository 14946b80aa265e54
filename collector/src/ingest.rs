//! Spool → store: reads frames as they are written, makes rows of them, puts objects, and only then forgets the frames.
//!
//! Each object covers rows of one segment and is named by them. Name and range are journalled before the put, so that
//! after a crash the same range is read again and put under the same name: nothing is lost and nothing doubled. A store
//! that is down holds up nothing but this thread.

mod position;
mod segments;

use crate::metrics::Metrics;
use crate::row::RowMaker;
use crate::store::{Store, StoreError};
use crate::table::{TableError, call_key, call_partition, calls_to_parquet};
use crate::thread::Threads;
use position::{Pending, Position, PositionError};
use segments::{Chunk, Segments, SpoolReadError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use understudy_call::keys::Key;
use understudy_call::record::CallRecord;
use understudy_call::taskbook::TaskBook;

/// How often new frames are looked for.
const POLL: Duration = Duration::from_millis(100);
/// Between two tries of a put.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// How long a finishing ingest tries to reach the store.
const FINISH_TRIES: Duration = Duration::from_secs(20);
/// How often a newer task book is looked for.
const BOOK_EVERY: Duration = Duration::from_secs(5);

/// How ingest works.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// The spool's folder.
    pub spool_dir: PathBuf,
    /// Rows become an object after this time.
    pub flush_after: Duration,
    /// Or when their frames have this many bytes.
    pub flush_bytes: u64,
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
    position: Position,
    batch: Batch,
    book_asked: Option<Instant>,
}

/// Rows read and not stored yet: all of one segment.
#[derive(Default)]
struct Batch {
    rows: Vec<CallRecord>,
    /// Where the frames after the last row begin.
    end: u64,
    bytes: u64,
    since: Option<Instant>,
    /// Nothing comes after it in its segment.
    segment_ended: bool,
}

impl Ingest {
    /// Opens the spool's folder for reading; finishes what a crash left half done at the first turn.
    ///
    /// # Errors
    /// Where the journal beside the spool can't be read.
    pub fn open(
        config: IngestConfig,
        spool_key: Key,
        store: Store,
        rows: RowMaker,
        metrics: Metrics,
        runtime: Handle,
    ) -> Result<Ingest, IngestError> {
        let segments = Segments::new(config.spool_dir.clone(), spool_key);
        let position = Position::load(&config.spool_dir)?;
        Ok(Ingest {
            config,
            segments,
            store,
            rows,
            threads: Threads::default(),
            metrics,
            runtime,
            position,
            batch: Batch::default(),
            book_asked: None,
        })
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
            match self.turn(finishing) {
                Ok(true) => retry = RETRY_FIRST,
                Ok(false) if finishing => return,
                Ok(false) => std::thread::sleep(POLL),
                Err(error) => {
                    self.metrics.store_errors.inc();
                    tracing::warn!(%error, retry_in = ?retry, "storing failed: the records wait in the spool");
                    if finishing_since.is_some_and(|since: Instant| since.elapsed() >= FINISH_TRIES) {
                        tracing::error!("the store stays out of reach: the spool is kept and stored at the next start");
                        return;
                    }
                    let until = Instant::now() + jittered(retry);
                    while Instant::now() < until && (finishing || !finish.load(Ordering::Acquire)) {
                        std::thread::sleep(POLL.min(retry));
                    }
                    retry = (retry * 2).min(if finishing { Duration::from_secs(2) } else { RETRY_MOST });
                }
            }
        }
    }

    /// Reads what there is and stores what is due. False when there was nothing to do.
    fn turn(&mut self, finishing: bool) -> Result<bool, IngestError> {
        self.look_for_task_book();
        if let Some(pending) = self.position.pending.clone() {
            self.finish_pending(&pending)?;
            return Ok(true);
        }
        let read = !self.is_full() && self.read(finishing)?;
        let due = self
            .batch
            .since
            .is_some_and(|since| since.elapsed() >= self.config.flush_after);
        let flush =
            !self.batch.rows.is_empty() && (due || self.is_full() || self.batch.segment_ended || (finishing && !read));
        if flush {
            self.store_batch()?;
        } else if self.batch.segment_ended {
            self.next_segment()?;
            return Ok(true);
        }
        self.gauge();
        Ok(read || flush)
    }

    fn is_full(&self) -> bool {
        self.batch.bytes >= self.config.flush_bytes
    }

    /// Reads the next frames of the current segment into the batch.
    fn read(&mut self, finishing: bool) -> Result<bool, IngestError> {
        if self.batch.segment_ended {
            return Ok(false);
        }
        let Some(segment) = self.segments.current_or_next(self.position.segment.as_deref())? else {
            return Ok(false);
        };
        if self.position.segment.as_deref() != Some(&segment) {
            self.position.begin(&segment);
            self.batch = Batch::default();
        }
        let from = self.batch.end.max(self.position.offset);
        let chunk = self.segments.read(&segment, from, finishing)?;
        let before = self.batch.rows.len();
        self.take(&chunk);
        self.batch.bytes += chunk.end.saturating_sub(from);
        self.batch.end = chunk.end;
        self.batch.segment_ended = chunk.segment_ended;
        if chunk.damaged > 0 {
            self.metrics
                .evicted
                .with_label_values(&["corrupt"])
                .inc_by(chunk.damaged);
            tracing::warn!(segment, frames = chunk.damaged, "damaged frames were skipped");
        }
        if !self.batch.rows.is_empty() {
            self.batch.since.get_or_insert_with(Instant::now);
        }
        Ok(self.batch.rows.len() > before || chunk.end > from || chunk.segment_ended)
    }

    fn take(&mut self, chunk: &Chunk) {
        for call in &chunk.calls {
            let mut row = self.rows.row(call);
            self.threads
                .place(&mut row.record, &row.trail, call.head.conversation.as_deref());
            self.batch.rows.push(row.record);
        }
    }

    /// Journals, puts, and moves on.
    fn store_batch(&mut self) -> Result<(), IngestError> {
        let first = self.position.row;
        let last = first + self.batch.rows.len() as u64 - 1;
        let segment = self.position.segment.clone().unwrap_or_default();
        let pending = Pending {
            from: self.position.offset,
            to: self.batch.end,
            first,
            last,
        };
        self.position.begin_put(pending)?;
        self.put_rows(&segment, first, last)?;
        self.position.end_put()?;
        self.forget_batch()
    }

    /// Puts the rows of the batch, one object a partition.
    fn put_rows(&self, segment: &str, first: u64, last: u64) -> Result<(), IngestError> {
        let mut partitions: BTreeMap<String, Vec<CallRecord>> = BTreeMap::new();
        for row in &self.batch.rows {
            partitions.entry(call_partition(row)).or_default().push(row.clone());
        }
        for rows in partitions.values() {
            let key = call_key(&rows[0], segment, first, last);
            let parquet = calls_to_parquet(rows)?;
            self.runtime.block_on(self.store.put(&key, parquet))?;
            self.metrics.objects.inc();
        }
        Ok(())
    }

    /// A put that may or may not have happened: the same range is read and put again under the same names.
    fn finish_pending(&mut self, pending: &Pending) -> Result<(), IngestError> {
        let segment = self.position.segment.clone().unwrap_or_default();
        if self.batch.rows.is_empty() {
            let mut at = pending.from;
            while at < pending.to {
                let chunk = self.segments.read_until(&segment, at, pending.to)?;
                self.take(&chunk);
                if chunk.end <= at {
                    break;
                }
                at = chunk.end;
            }
            self.batch.end = pending.to;
        }
        if !self.batch.rows.is_empty() {
            self.put_rows(&segment, pending.first, pending.last)?;
        }
        self.position.end_put()?;
        self.forget_batch()
    }

    fn forget_batch(&mut self) -> Result<(), IngestError> {
        self.metrics.stored.inc_by(self.batch.rows.len() as u64);
        self.batch.rows.iter().for_each(|row| self.metrics.count(row));
        let ended = self.batch.segment_ended;
        self.batch = Batch {
            end: self.position.offset,
            ..Batch::default()
        };
        self.gauge();
        if ended { self.next_segment() } else { Ok(()) }
    }

    /// The current segment is stored to its end: its file goes.
    fn next_segment(&mut self) -> Result<(), IngestError> {
        if let Some(segment) = self.position.segment.clone() {
            self.segments.delete(&segment)?;
        }
        self.position.forget_segment()?;
        self.batch = Batch::default();
        Ok(())
    }

    fn gauge(&self) {
        self.metrics
            .waiting
            .set(i64::try_from(self.batch.rows.len()).unwrap_or(i64::MAX));
        let oldest = self.batch.rows.iter().filter_map(|row| row.started_at).min();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros() as f64;
        self.metrics
            .lag
            .set(oldest.map_or(0.0, |oldest| ((now - oldest as f64) / 1e6).max(0.0)));
    }

    /// Rows of calls that the proxy did not assign are assigned by the newest task book.
    fn look_for_task_book(&mut self) {
        if self.book_asked.is_some_and(|asked| asked.elapsed() < BOOK_EVERY) {
            return;
        }
        self.book_asked = Some(Instant::now());
        let known = self.rows.book.as_ref().map_or(0, |book| book.version());
        match self.runtime.block_on(newer_book(&self.store, known)) {
            Ok(Some(book)) => self.rows.book = Some(Arc::new(book.compile())),
            Ok(None) => {}
            Err(error) => tracing::debug!(error, "no newer task book could be read"),
        }
    }
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

/// Between half and all of a delay, so that collectors do not retry in step.
fn jittered(delay: Duration) -> Duration {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    delay.mul_f64(0.5 + f64::from(nanos % 1000) / 2000.0)
}
