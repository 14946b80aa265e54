//! What the writing thread does: seals entries, appends them to the current segment, and says what became of each.
//!
//! Never fsyncs. After a failure it rests for a moment, in which whatever comes is dropped at once: a disk that fails
//! slowly must not be asked anew for every call.

use super::disk::{append_all, is_full};
use super::segments::Segments;
use super::sync::Tail;
use super::{ASKED_EVERY, Entry, SEGMENT_AGE, Shared, SpoolError, TIDY_EVERY, Taken, lock_of};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use understudy_call::frame;
use understudy_call::keys::Key;
use understudy_call::segment::SegmentWriter;

/// Bytes that go out in one write, or one entry that is larger.
const WRITE_BYTES: usize = 1 << 20;
/// A buffer above this is given back: one large body must not hold memory for good.
const BUFFER_BYTES: usize = 8 << 20;
/// How long nothing is tried after a failure.
const REST: Duration = Duration::from_millis(250);

/// Writes entries to segments.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    segments: Segments,
    key: Key,
    open: Option<OpenSegment>,
    /// Sealed and not written yet, and where each entry's frame ends in the buffer.
    buffer: Vec<u8>,
    sealed: Vec<(Entry, usize)>,
    /// Why and until when nothing is tried.
    rest: Option<(&'static str, Instant)>,
}

struct OpenSegment {
    tail: Arc<Tail>,
    sealer: SegmentWriter,
    /// Bytes that hold whole frames.
    length: u64,
    since: Instant,
}

impl Writer {
    pub(super) fn new(segments: Segments, key: Key, shared: Arc<Shared>) -> Writer {
        Writer {
            shared,
            segments,
            key,
            open: None,
            buffer: Vec::new(),
            sealed: Vec::new(),
            rest: None,
        }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(&mut self) {
        let (mut tidied, mut asked) = (Instant::now(), Instant::now());
        loop {
            let patience = if self.rest.is_some() { REST } else { ASKED_EVERY };
            match self.shared.take(patience) {
                Taken::Entries(entries) => self.write(entries),
                Taken::Nothing => self.recover(),
                Taken::Closed => break,
            }
            if tidied.elapsed() >= TIDY_EVERY {
                tidied = Instant::now();
                self.tidy();
            }
            if asked.elapsed() >= ASKED_EVERY {
                asked = Instant::now();
                self.end_if_asked();
            }
        }
        self.close_segment();
    }

    /// Writes entries; each is kept, or dropped and counted, when this returns.
    pub(super) fn write(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if let Some(reason) = self.resting() {
                self.shared.dropped(reason, &entry);
                continue;
            }
            match self.seal(&entry) {
                Ok(()) => {
                    self.sealed.push((entry, self.buffer.len()));
                    if self.buffer.len() >= WRITE_BYTES {
                        self.flush();
                    }
                }
                Err(Refused::Entry(error)) => {
                    tracing::warn!(%error, "a call can't be written down");
                    self.shared.dropped("unwritable", &entry);
                }
                Err(Refused::Disk(reason, error)) => {
                    self.shared.dropped(reason, &entry);
                    self.fail(reason, error.as_ref());
                }
            }
        }
        self.flush();
        if self.buffer.capacity() > BUFFER_BYTES {
            self.buffer = Vec::new();
        }
    }

    /// Why nothing is tried at present, if so.
    fn resting(&self) -> Option<&'static str> {
        self.rest
            .filter(|(_, until)| Instant::now() < *until)
            .map(|(reason, _)| reason)
    }

    /// Seals an entry into the buffer. With an empty buffer this may open a new segment.
    fn seal(&mut self, entry: &Entry) -> Result<(), Refused> {
        if self.buffer.is_empty() && self.open.as_ref().is_some_and(|open| self.is_done(open)) {
            self.close_segment();
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(open_segment(&mut self.segments, &self.key, &self.shared)?),
        };
        open.sealer
            .seal::<SpoolError>(&mut self.buffer, |out| {
                let (request, response) = (entry.request.slices(), entry.response.slices());
                Ok(frame::encode(out, &entry.head, request, response)?)
            })
            .map_err(Refused::Entry)
    }

    /// Whether a segment is large or old enough, or may not last.
    fn is_done(&self, open: &OpenSegment) -> bool {
        open.length >= self.segments.segment_bytes()
            || open.since.elapsed() >= SEGMENT_AGE
            || open.tail.failed.load(Ordering::Acquire)
    }

    /// Writes what is sealed.
    fn flush(&mut self) {
        let sealed = std::mem::take(&mut self.sealed);
        if let (Some(open), false) = (&mut self.open, sealed.is_empty()) {
            let result = match self.segments.admit(self.buffer.len() as u64) {
                Ok(true) => append_all(&*open.tail.file, &self.buffer),
                Ok(false) => Err((0, std::io::ErrorKind::QuotaExceeded.into())),
                Err(error) => Err((0, std::io::Error::other(error))),
            };
            let done = match &result {
                Ok(()) => self.buffer.len(),
                Err((done, _)) => *done,
            };
            let whole = sealed.partition_point(|(_, end)| *end <= done);
            let bytes = whole.checked_sub(1).map_or(0, |last| sealed[last].1) as u64;
            open.length += bytes;
            open.tail.written.fetch_add(whole as u64, Ordering::Release);
            self.segments.grew(bytes);
            // What is half written goes. Where it can't, readers pass over it: the next frame is in a new segment.
            if result.is_err() && open.tail.file.cut(open.length).is_err() {
                self.segments.grew(done as u64 - bytes);
            }
            self.shared.kept(sealed.len().min(whole) as u64);
            let error = result.err().map(|(_, error)| error);
            let reason = error.as_ref().map(|error| reason_of(error)).unwrap_or_default();
            for (number, (entry, _)) in sealed.into_iter().enumerate() {
                match entry.written {
                    _ if number >= whole => self.shared.dropped(reason, &entry),
                    Some(written) => drop(written.send(())),
                    None => {}
                }
            }
            match error {
                Some(error) => self.fail(reason, Some(&error)),
                None => {
                    self.rest = None;
                    self.shared.set_failing(false);
                    self.shared.not_slow();
                }
            }
        }
        self.buffer.clear();
    }

    /// Rests after a failure. What was sealed before is written no more: its numbers are not used again.
    fn fail(&mut self, reason: &'static str, error: Option<&std::io::Error>) {
        let words = error.map_or_else(|| "capture.spool.max is reached".to_owned(), ToString::to_string);
        if !self.shared.failing.load(Ordering::Relaxed) {
            tracing::warn!(reason, error = words, "calls are not kept: writing to the spool failed");
        }
        for (entry, _) in std::mem::take(&mut self.sealed) {
            self.shared.dropped(reason, &entry);
        }
        self.buffer.clear();
        self.close_segment();
        self.rest = Some((reason, Instant::now() + REST));
        self.shared.set_failing(true);
    }

    /// After a failure, finds out whether writing works again: with `capture.mode: required` no call comes to tell.
    pub(super) fn recover(&mut self) {
        if self.rest.is_none() || self.resting().is_some() {
            return;
        }
        match open_segment(&mut self.segments, &self.key, &self.shared) {
            Ok(open) => {
                self.open = Some(open);
                self.rest = None;
                self.shared.set_failing(false);
            }
            Err(_) => self.rest = self.rest.map(|(reason, _)| (reason, Instant::now() + REST)),
        }
    }

    /// Time passes for a test.
    #[cfg(test)]
    pub(super) fn end_rest(&mut self) {
        self.rest = self.rest.map(|(reason, _)| (reason, Instant::now()));
    }

    /// Evicts what is too old, and closes a segment that nobody has written to for long.
    pub(super) fn tidy(&mut self) {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.sealer.frames() > 0 && self.is_done(open))
        {
            self.close_segment();
        }
        if let Err(error) = self.segments.evict_old() {
            tracing::warn!(%error, "looking for segments that are too old failed");
        }
    }

    /// Ends the segment that a collector asks for, and begins the next, by which its readers see that. One that was ended
    /// before, or by a former writer, needs the next alone.
    pub(super) fn end_if_asked(&mut self) {
        if self.rest.is_some() {
            return;
        }
        let Some(name) = self.segments.asked_to_end() else {
            return;
        };
        if self.open.as_ref().is_none_or(|open| open.tail.name == name) {
            // Where none can be had it is asked again.
            let Ok(next) = open_segment(&mut self.segments, &self.key, &self.shared) else {
                return;
            };
            self.close_segment();
            self.open = Some(next);
        }
        self.segments.was_ended();
    }

    /// Ends the current segment; the thread that fsyncs sees to its last bytes.
    pub(super) fn close_segment(&mut self) {
        if let Some(open) = self.open.take() {
            open.tail.closed.store(true, Ordering::Release);
            if open.tail.written.load(Ordering::Relaxed) == 0 {
                self.segments.discard(&open.tail.name);
            }
        }
    }
}

/// Why an entry is not sealed.
enum Refused {
    /// It can't be: the next may.
    Entry(SpoolError),
    /// No segment can be had; no error means that the spool's own limit is reached.
    Disk(&'static str, Option<std::io::Error>),
}

/// The label of `dropped_total` for a disk's error.
fn reason_of(error: &std::io::Error) -> &'static str {
    match error.kind() {
        // Ours: `capture.spool.max`.
        std::io::ErrorKind::QuotaExceeded if error.raw_os_error().is_none() => "spool_full",
        _ if is_full(error) => "disk_full",
        _ => "spool_error",
    }
}

fn open_segment(segments: &mut Segments, key: &Key, shared: &Shared) -> Result<OpenSegment, Refused> {
    let failed = |error: std::io::Error| Refused::Disk(reason_of(&error), Some(error));
    if let Err(error) = segments.evict_old() {
        return Err(failed(std::io::Error::other(error)));
    }
    let id = segments.new_id();
    let (sealer, header) = SegmentWriter::create(*id.as_bytes(), key).map_err(|error| Refused::Entry(error.into()))?;
    match segments.admit(header.len() as u64) {
        Ok(true) => {}
        Ok(false) => return Err(Refused::Disk("spool_full", None)),
        Err(error) => return Err(failed(std::io::Error::other(error))),
    }
    let (file, name) = segments.create(id, &header).map_err(failed)?;
    let tail = Arc::new(Tail::new(name, file));
    lock_of(&shared.tails).push(tail.clone());
    Ok(OpenSegment {
        tail,
        sealer,
        length: header.len() as u64,
        since: Instant::now(),
    })
}

impl Shared {
    fn kept(&self, count: u64) {
        self.ledger.kept(count);
        self.metrics.kept.inc_by(count);
        self.metrics.in_flight.sub(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
