//! The spool: frames on disk between proxy and collector, written by a thread of its own.
//!
//! Callers queue entries and may wait for the write; they never touch the disk. Queued entries go out in few writes per
//! turn; a second thread fsyncs at `commit_interval`, so that a slow fsync holds up no write. After a wait that timed
//! out the spool is *slow*: calls stop waiting until a write completes again. Entries are bounded by number here and by
//! bytes in the budget of their copies.

pub mod disk;
mod ledger;
mod segments;
mod sync;
mod writer;

pub use ledger::Ledger;

use crate::config::WhenFull;
use crate::metrics::Metrics;
use crate::tee::BodyCopy;
use disk::{Disk, RealDisk};
use segments::Segments;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use sync::{Syncer, Tail};
use tokio::sync::oneshot;
use understudy_call::frame::{FrameError, FrameHead};
use understudy_call::keys::Key;
use understudy_call::segment::SegmentError;
use understudy_call::spool::WRITER_LOCK;
use writer::Writer;

/// The most entries that wait for the writer.
const MAX_QUEUED: usize = 65_536;
/// A segment of this size is closed.
const SEGMENT_BYTES: u64 = 32 << 20;
/// A segment of this age is closed, so that it can be deleted once it is stored.
const SEGMENT_AGE: Duration = Duration::from_secs(60);
/// How often an idle writer looks after what is too old.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether a collector asks for a segment to be ended.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// How long the writer's lock is tried for: a collector looks at it now and then, and a former writer may be ending.
const LOCK_TRIES: Duration = Duration::from_millis(500);
/// The longest that closing waits for a disk that hangs.
const CLOSE_WAIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

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
    /// Share of calls that are kept, for the account.
    pub sample: f64,
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
    _lock: Box<dyn Send + Sync>,
}

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    slow: AtomicBool,
    /// The last write failed: calls can't be kept at present.
    failing: AtomicBool,
    metrics: Metrics,
    ledger: Arc<Ledger>,
    /// Segments with bytes that may not last yet, for the thread that fsyncs.
    tails: Mutex<Vec<Arc<Tail>>>,
    /// Whether the writer has written its last.
    writer_ended: Mutex<bool>,
    writer_ends: Condvar,
}

#[derive(Default)]
struct Queue {
    entries: Vec<Entry>,
    closed: bool,
}

/// What the writer finds in the queue.
enum Taken {
    Entries(Vec<Entry>),
    Nothing,
    Closed,
}

impl Spool {
    /// Opens the folder and starts the writer.
    ///
    /// # Errors
    /// Where the folder can't be made or locked.
    pub fn open(config: SpoolConfig, key: Key, metrics: Metrics) -> Result<Spool, SpoolError> {
        Spool::open_on(Arc::new(RealDisk), config, key, metrics)
    }

    /// As [`Spool::open`], on another file system.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_on(disk: Arc<dyn Disk>, config: SpoolConfig, key: Key, metrics: Metrics) -> Result<Spool, SpoolError> {
        let interval = config.commit_interval;
        let lock_path = config.dir.join(WRITER_LOCK);
        let (lock, mut writer, mut syncer) = open_parts(disk, config, key, metrics)?;
        let shared = writer.shared.clone();
        let closing = shared.clone();
        let write = move || {
            writer.run();
            *lock_of(&closing.writer_ended) = true;
            closing.writer_ends.notify_all();
        };
        let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.into())
                .spawn(work)
                .map_err(|source| SpoolError::Io {
                    action: "starting a thread for",
                    path: lock_path.clone(),
                    source,
                })
        };
        let threads = vec![
            start("spool-write", Box::new(write))?,
            start("spool-sync", Box::new(move || syncer.run(interval)))?,
        ];
        Ok(Spool {
            shared,
            threads: Mutex::new(threads),
            _lock: lock,
        })
    }

    /// What numbers the calls and notes their fates.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.shared.ledger
    }

    /// Queues an entry. Never blocks on the disk.
    pub fn submit(&self, mut entry: Entry) -> Submitted {
        let waiting = if self.slow() {
            None
        } else {
            let (sender, receiver) = oneshot::channel();
            entry.written = Some(sender);
            Some(receiver)
        };
        let mut queue = lock_of(&self.shared.queue);
        if queue.closed || queue.entries.len() >= MAX_QUEUED {
            let reason = if queue.closed { "spool_closed" } else { "queue_full" };
            drop(queue);
            self.shared.dropped(reason, &entry);
            return Submitted::Dropped;
        }
        queue.entries.push(entry);
        // The writer takes all that is queued at once: only the first entry need wake it.
        let is_first = queue.entries.len() == 1;
        drop(queue);
        if is_first {
            self.shared.arrived.notify_one();
        }
        waiting.map_or(Submitted::Slow, Submitted::Waiting)
    }

    /// Says that a wait timed out: nobody waits until a write completes again.
    pub fn is_slow(&self) {
        self.shared.slow.store(true, Ordering::Relaxed);
        self.shared.metrics.spool_slow.set(1);
        // A writer that has finished meanwhile takes it back.
        self.shared.arrived.notify_one();
    }

    /// Whether calls do not wait at present.
    pub fn slow(&self) -> bool {
        self.shared.slow.load(Ordering::Relaxed)
    }

    /// Whether a call that ended now would not be kept: the disk is slow, full or failing.
    pub fn in_trouble(&self) -> bool {
        self.slow() || self.shared.failing.load(Ordering::Relaxed)
    }

    /// Writes what is queued, fsyncs, and ends the threads. Entries submitted later are dropped and counted. A disk that
    /// hangs is waited for ten seconds at most.
    pub fn close(&self) {
        lock_of(&self.shared.queue).closed = true;
        self.shared.arrived.notify_all();
        let threads = std::mem::take(&mut *lock_of(&self.threads));
        let began = Instant::now();
        while !threads.iter().all(JoinHandle::is_finished) {
            if began.elapsed() >= CLOSE_WAIT {
                tracing::error!("the spool's disk hangs: what is not written by now is not kept");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the spool panicked");
            }
        }
    }
}

/// The parts of a spool, not running yet.
fn open_parts(
    disk: Arc<dyn Disk>,
    config: SpoolConfig,
    key: Key,
    metrics: Metrics,
) -> Result<(Box<dyn Send + Sync>, Writer, Syncer), SpoolError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| SpoolError::Io { action, path, source }
    };
    disk.make_dir(&config.dir)
        .map_err(io("making the folder", &config.dir))?;
    let lock_path = config.dir.join(WRITER_LOCK);
    let began = Instant::now();
    let lock = loop {
        match disk.lock(&lock_path).map_err(io("locking", &lock_path))? {
            Some(lock) => break lock,
            None if began.elapsed() >= LOCK_TRIES => return Err(SpoolError::Locked(config.dir)),
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let ledger = Arc::new(Ledger::new(config.sample));
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        arrived: Condvar::new(),
        slow: AtomicBool::new(false),
        failing: AtomicBool::new(false),
        metrics: metrics.clone(),
        ledger: ledger.clone(),
        tails: Mutex::default(),
        writer_ended: Mutex::new(false),
        writer_ends: Condvar::new(),
    });
    let syncer = Syncer::open(disk.clone(), &config.dir, shared.clone());
    let segments = Segments::open(disk, config, key.clone(), ledger, metrics)?;
    Ok((lock, Writer::new(segments, key, shared), syncer))
}

impl Shared {
    fn dropped(&self, reason: &str, entry: &Entry) {
        self.metrics.dropped.with_label_values(&[reason]).inc();
        self.metrics.in_flight.dec();
        self.ledger.dropped(reason, entry.head.sequence);
    }

    /// All queued entries; nothing where none comes within `patience`.
    fn take(&self, patience: Duration) -> Taken {
        let mut queue = lock_of(&self.queue);
        if queue.entries.is_empty() && !queue.closed {
            // All that was queued is written: whoever found the writer slow need not do so any more.
            self.not_slow();
            (queue, _) = self
                .arrived
                .wait_timeout(queue, patience)
                .unwrap_or_else(PoisonError::into_inner);
        }
        match (queue.entries.is_empty(), queue.closed) {
            (false, _) => Taken::Entries(std::mem::take(&mut queue.entries)),
            (true, false) => Taken::Nothing,
            (true, true) => Taken::Closed,
        }
    }

    fn not_slow(&self) {
        if self.slow.swap(false, Ordering::Relaxed) {
            self.metrics.spool_slow.set(0);
        }
    }

    fn set_failing(&self, failing: bool) {
        if self.failing.swap(failing, Ordering::Relaxed) != failing {
            self.metrics.spool_failing.set(i64::from(failing));
        }
    }
}

fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
