//! The spool: frames on disk between proxy and collector, written by a thread of its own.
//!
//! Callers queue entries and may wait for the write; they never touch the disk. Queued entries go out in one write per
//! turn; a second thread fsyncs at `commit_interval`, so that a slow fsync holds up no write. After a wait that timed
//! out the spool is *slow*: calls stop waiting until a write completes again. Entries are bounded by number here and by
//! bytes in the budget of their copies.

mod segments;

use crate::config::WhenFull;
use crate::metrics::Metrics;
use crate::tee::BodyCopy;
use segments::Segments;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use understudy_call::frame::{self, FrameError, FrameHead};
use understudy_call::keys::Key;
use understudy_call::segment::{SegmentError, SegmentWriter};

/// The most entries that wait for the writer.
const MAX_QUEUED: usize = 65_536;
/// A segment of this size is closed.
const SEGMENT_BYTES: u64 = 32 << 20;
/// A segment of this age is closed, so that it can be deleted once it is stored.
const SEGMENT_AGE: Duration = Duration::from_secs(60);

/// How the spool is kept.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// Its folder.
    pub dir: PathBuf,
    /// The most bytes of all segments.
    pub max: u64,
    /// Age at which a segment is evicted.
    pub max_age: Duration,
    /// Time between fsyncs.
    pub commit_interval: Duration,
    /// What gives way at the limit.
    pub when_full: WhenFull,
}

/// Why a spool can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The folder or a file in it.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Two writers would overwrite each other's accounts.
    #[error("another process writes to the spool {0}: stop it, or give this one a `capture.spool.dir` of its own")]
    Locked(PathBuf),
    /// A frame can't be made.
    #[error("sealing a frame: {0}")]
    Segment(#[from] SegmentError),
    /// A frame can't be made.
    #[error("encoding a frame: {0}")]
    Frame(#[from] FrameError),
}

/// One call on its way to disk.
pub struct Entry {
    /// What is known of it.
    pub head: FrameHead,
    /// Its request.
    pub request: BodyCopy,
    /// Its response.
    pub response: BodyCopy,
    /// Told when the entry is written; dropped untold where it could not be.
    written: Option<oneshot::Sender<()>>,
}

impl Entry {
    /// An entry that nobody waits for yet.
    pub fn new(head: FrameHead, request: BodyCopy, response: BodyCopy) -> Entry {
        Entry {
            head,
            request,
            response,
            written: None,
        }
    }
}

/// What became of a submitted entry.
pub enum Submitted {
    /// Wait for this, for `capture.wait` at most.
    Waiting(oneshot::Receiver<()>),
    /// Queued; the spool is slow, so do not wait.
    Slow,
    /// Dropped and counted: the queue is full or the spool closed.
    Dropped,
}

/// The handle that calls submit to; the writer ends when [`Spool::close`] is called.
pub struct Spool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: File,
}

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    slow: AtomicBool,
    metrics: Metrics,
    /// The segment being written, for the thread that fsyncs, and whether it has unsynced bytes.
    current: Mutex<Option<Arc<File>>>,
    dirty: AtomicBool,
}

#[derive(Default)]
struct Queue {
    entries: Vec<Entry>,
    closed: bool,
}

impl Spool {
    /// Opens the folder and starts the writer.
    ///
    /// # Errors
    /// Where the folder can't be made or locked.
    pub fn open(config: SpoolConfig, key: Key, metrics: Metrics) -> Result<Spool, SpoolError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| SpoolError::Io { action, path, source }
        };
        std::fs::create_dir_all(&config.dir).map_err(io("making the folder", &config.dir))?;
        let lock_path = config.dir.join("writer.lock");
        let lock = File::create(&lock_path).map_err(io("making", &lock_path))?;
        lock.try_lock().map_err(|_| SpoolError::Locked(config.dir.clone()))?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            arrived: Condvar::new(),
            slow: AtomicBool::new(false),
            metrics,
            current: Mutex::new(None),
            dirty: AtomicBool::new(false),
        });
        let interval = config.commit_interval;
        let writer = Writer {
            segments: Segments::new(config, shared.metrics.clone()),
            key,
            open: None,
            shared: shared.clone(),
        };
        let syncing = shared.clone();
        let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.into())
                .spawn(work)
                .map_err(io("starting a thread for", &lock_path))
        };
        let threads = vec![
            start("spool-write", Box::new(move || writer.run()))?,
            start("spool-sync", Box::new(move || syncing.sync_until_closed(interval)))?,
        ];
        Ok(Spool {
            shared,
            threads: Mutex::new(threads),
            _lock: lock,
        })
    }

    /// Queues an entry. Never blocks on the disk.
    pub fn submit(&self, mut entry: Entry) -> Submitted {
        let slow = self.shared.slow.load(Ordering::Relaxed);
        let waiting = if slow {
            None
        } else {
            let (sender, receiver) = oneshot::channel();
            entry.written = Some(sender);
            Some(receiver)
        };
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed || queue.entries.len() >= MAX_QUEUED {
            let reason = if queue.closed { "spool_closed" } else { "queue_full" };
            drop(queue);
            self.shared.dropped(reason, 1);
            return Submitted::Dropped;
        }
        queue.entries.push(entry);
        // The writer takes all that is queued at once: only the first entry need wake it.
        if queue.entries.len() == 1 {
            self.shared.arrived.notify_one();
        }
        drop(queue);
        waiting.map_or(Submitted::Slow, Submitted::Waiting)
    }

    /// Says that a wait timed out: nobody waits until a write completes again.
    pub fn is_slow(&self) {
        self.shared.slow.store(true, Ordering::Relaxed);
        self.shared.metrics.spool_slow.set(1);
    }

    /// Whether calls do not wait at present.
    pub fn slow(&self) -> bool {
        self.shared.slow.load(Ordering::Relaxed)
    }

    /// Writes what is queued, fsyncs, and ends the threads. Entries submitted later are dropped and counted.
    pub fn close(&self) {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.arrived.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the spool panicked");
            }
        }
    }
}

impl Shared {
    fn dropped(&self, reason: &str, count: u64) {
        self.metrics.dropped.with_label_values(&[reason]).inc_by(count);
        self.metrics.in_flight.sub(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// All queued entries, once there are any; `None` when closed and empty.
    fn take(&self) -> Option<Vec<Entry>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while queue.entries.is_empty() {
            if queue.closed {
                return None;
            }
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        Some(std::mem::take(&mut queue.entries))
    }

    fn sync_until_closed(&self, interval: Duration) {
        loop {
            std::thread::sleep(interval);
            let closed = self.queue.lock().unwrap_or_else(PoisonError::into_inner).closed;
            if self.dirty.swap(false, Ordering::AcqRel) {
                let file = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(file) = file
                    && let Err(error) = file.sync_data()
                {
                    tracing::warn!(%error, "fsync of the spool failed");
                }
            }
            if closed {
                return;
            }
        }
    }
}

struct Writer {
    segments: Segments,
    key: Key,
    open: Option<OpenSegment>,
    shared: Arc<Shared>,
}

struct OpenSegment {
    file: Arc<File>,
    sealer: SegmentWriter,
    since: Instant,
}

impl Writer {
    fn run(mut self) {
        let mut buffer = Vec::new();
        while let Some(entries) = self.shared.take() {
            let count = entries.len() as u64;
            buffer.clear();
            match self.write(&entries, &mut buffer) {
                Ok(()) => {
                    self.shared.metrics.kept.inc_by(count);
                    self.shared
                        .metrics
                        .in_flight
                        .sub(i64::try_from(count).unwrap_or(i64::MAX));
                    if self.shared.slow.swap(false, Ordering::Relaxed) {
                        self.shared.metrics.spool_slow.set(0);
                    }
                    for entry in entries {
                        if let Some(written) = entry.written {
                            let _ = written.send(());
                        }
                    }
                }
                Err(Refused::Full) => self.shared.dropped("spool_full", count),
                Err(Refused::Failed(error)) => {
                    tracing::warn!(%error, calls = count, "writing to the spool failed: these calls are not kept");
                    self.shared.dropped("spool_error", count);
                    // What is half written is skipped by readers; the next frame begins in a new segment.
                    self.close_segment();
                }
            }
            // One large body must not hold memory for good.
            if buffer.capacity() > (8 << 20) {
                buffer = Vec::new();
            }
        }
        self.close_segment();
    }

    fn write(&mut self, entries: &[Entry], buffer: &mut Vec<u8>) -> Result<(), Refused> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.sealer.offset() >= SEGMENT_BYTES || open.since.elapsed() >= SEGMENT_AGE)
        {
            self.close_segment();
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(open_segment(&mut self.segments, &self.key, &self.shared)?),
        };
        for entry in entries {
            open.sealer.seal::<SpoolError>(buffer, |out| {
                Ok(frame::encode(
                    out,
                    &entry.head,
                    entry.request.slices(),
                    entry.response.slices(),
                )?)
            })?;
        }
        (&*open.file).write_all(buffer).map_err(|source| SpoolError::Io {
            action: "writing to",
            path: self.segments.dir().to_owned(),
            source,
        })?;
        self.shared.dirty.store(true, Ordering::Release);
        self.segments.grew(buffer.len() as u64);
        Ok(())
    }

    fn close_segment(&mut self) {
        if let Some(open) = self.open.take() {
            *self.shared.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
            // The last bytes of a closed segment are synced by a thread of their own: this one writes.
            std::thread::spawn(move || open.file.sync_data());
        }
    }
}

enum Refused {
    Full,
    Failed(SpoolError),
}

impl<E: Into<SpoolError>> From<E> for Refused {
    fn from(error: E) -> Refused {
        Refused::Failed(error.into())
    }
}

fn open_segment(segments: &mut Segments, key: &Key, shared: &Shared) -> Result<OpenSegment, Refused> {
    if !segments.make_room()? {
        return Err(Refused::Full);
    }
    let (file, id) = segments.create()?;
    let (sealer, header) = SegmentWriter::create(id, key)?;
    (&file).write_all(&header).map_err(|source| SpoolError::Io {
        action: "writing to",
        path: segments.dir().to_owned(),
        source,
    })?;
    segments.grew(header.len() as u64);
    let file = Arc::new(file);
    *shared.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(file.clone());
    Ok(OpenSegment {
        file,
        sealer,
        since: Instant::now(),
    })
}

#[cfg(test)]
mod tests;
