//! Reads the spool's segments in order, also the one that is still being written.
//!
//! A segment that can't be read now (sealed with another key, on a broken sector) is set aside, so that those after it
//! are not held up; it is tried again at the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirEntry, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use understudy_call::account::{Account, EXTENSION, Numbers, Written};
use understudy_call::frame::{self, RawCall};
use understudy_call::keys::{Key, hex};
use understudy_call::segment::{Found, HEADER_LENGTH, SegmentError, SegmentReader, Walk, frame_numbers};
use understudy_call::spool::{END_SEGMENT, Position, READERS, SEGMENT_EXTENSION, WRITER_LOCK};

/// Bytes read at once; a longer frame is read whole.
const READ_BYTES: u64 = 8 << 20;
/// The longest stretch read for one frame.
const MAX_READ: u64 = 1 << 30;

/// The spool can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {source}")]
pub struct SpoolReadError {
    /// What was attempted.
    action: &'static str,
    /// On what.
    path: PathBuf,
    /// What the system says.
    source: std::io::Error,
}

impl SpoolReadError {
    /// Whether the file is gone: evicted by the spool's writer.
    pub(super) fn is_gone(&self) -> bool {
        self.source.kind() == ErrorKind::NotFound
    }
}

/// Frames read from one segment.
#[derive(Default)]
pub(super) struct Chunk {
    /// Number and call of each frame; no call where it can't be decoded.
    pub(super) frames: Vec<(u64, Option<RawCall>)>,
    /// Where the next frame begins.
    pub(super) end: u64,
    /// Stretches that are no frames.
    pub(super) damaged: u64,
    /// No writer will append, and all is read.
    pub(super) segment_ended: bool,
}

/// A segment that is being read.
pub(super) struct OpenSegment {
    /// Its file's name.
    pub(super) name: String,
    /// Its id: the name that its writer gave it.
    pub(super) id: String,
    /// `None` where its header is lost.
    reader: Option<SegmentReader>,
    /// Numbers of the frames read.
    seen: Numbers,
    /// Stretches that were no frames.
    damaged: u64,
    /// Whole frames that hold no call that can be read.
    pub(super) unreadable: u64,
    /// Calls that could not be masked.
    pub(super) unmasked: u64,
    /// The boot that its calls are of, once known.
    pub(super) boot_id: String,
    /// It was there before this collector.
    pub(super) was_there: bool,
}

impl OpenSegment {
    /// Takes note of frames; the calls in them that were not seen before.
    pub(super) fn take(&mut self, chunk: Chunk) -> Vec<(u64, RawCall)> {
        self.damaged += chunk.damaged;
        let mut calls = Vec::new();
        for (number, call) in chunk.frames {
            if self.seen.contains(number) {
                continue;
            }
            self.seen.insert(number);
            match call {
                Some(call) => {
                    if self.boot_id.is_empty() {
                        self.boot_id.clone_from(&call.head.boot_id);
                    }
                    calls.push((number, call));
                }
                None => self.unreadable += 1,
            }
        }
        calls
    }

    /// How many records were in it by all that is known, and can't be read. `told` is what the account says was written.
    pub(super) fn lost(&self, told: u64) -> u64 {
        if self.reader.as_ref().is_some_and(SegmentReader::numbers_are_offsets) {
            return self.damaged + self.unreadable;
        }
        let written = self.seen.last().map_or(0, |last| last.saturating_add(1)).max(told);
        written.saturating_sub(self.seen.len()) + self.unreadable
    }
}

/// The segments of one folder.
pub(super) struct Segments {
    dir: PathBuf,
    /// The spool's folder: its writer's lock and accounts. That of a further reader holds links to segments alone.
    spool_dir: PathBuf,
    keys: Vec<Key>,
    set_aside: BTreeSet<String>,
    /// Copies that were deleted, with how many frames were in each.
    copies: Vec<(String, u64)>,
    /// Whether the writer is in this process, and ends before the collector is asked to finish.
    own_writer: bool,
}

impl Segments {
    pub(super) fn new(dir: PathBuf, spool_dir: PathBuf, keys: Vec<Key>, own_writer: bool) -> Segments {
        Segments {
            dir,
            spool_dir,
            keys,
            set_aside: BTreeSet::new(),
            copies: Vec::new(),
            own_writer,
        }
    }

    /// Begins, or goes on, as a further reader: from now on the writer links each new segment into the folder, and what is
    /// there already is linked here, but for what was stored.
    pub(super) fn join(&self, finished: &[String]) -> Result<(), SpoolReadError> {
        let failed = |source| SpoolReadError {
            action: "making a further reader's folder",
            path: self.dir.clone(),
            source,
        };
        std::fs::create_dir_all(&self.dir).map_err(failed)?;
        for name in names_in(&self.spool_dir, SEGMENT_EXTENSION).map_err(failed)? {
            let file = format!("{name}.{SEGMENT_EXTENSION}");
            if finished.contains(&name) {
                continue;
            }
            match std::fs::hard_link(self.spool_dir.join(&file), self.dir.join(&file)) {
                Ok(()) => {}
                // Linked before, or stored by the first reader meanwhile.
                Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    fn path(&self, segment: &str) -> PathBuf {
        self.dir.join(format!("{segment}.{SEGMENT_EXTENSION}"))
    }

    /// The spool's folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of all segments, oldest first.
    pub(super) fn names(&self) -> Result<Vec<String>, SpoolReadError> {
        let mut names = names_in(&self.dir, SEGMENT_EXTENSION).map_err(|source| SpoolReadError {
            action: "listing the spool",
            path: self.dir.clone(),
            source,
        })?;
        names.sort();
        Ok(names)
    }

    /// The copies deleted since this was asked before.
    pub(super) fn take_copies(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.copies)
    }

    /// Leaves a segment for the next start.
    pub(super) fn set_aside(&mut self, segment: &str) {
        self.set_aside.insert(segment.to_owned());
    }

    /// Whether a segment is left for the next start.
    pub(super) fn is_set_aside(&self, segment: &str) -> bool {
        self.set_aside.contains(segment)
    }

    /// Asks the spool's writer to end a segment, if that is the one that it writes to.
    pub(super) fn ask_to_end(&self, segment: &str) -> Result<(), SpoolReadError> {
        let path = self.spool_dir.join(END_SEGMENT);
        std::fs::write(&path, segment).map_err(|source| SpoolReadError {
            action: "asking the spool's writer by",
            path,
            source,
        })
    }

    /// The newest segment of all that wait for any reader of the spool.
    pub(super) fn newest_of_all(&self) -> Result<Option<String>, SpoolReadError> {
        let others = self.of_others()?.into_values().flatten();
        Ok(self.names()?.into_iter().chain(others).max())
    }

    /// The segments that wait for other readers of the spool, by their names; the first reader has an empty one.
    pub(super) fn of_others(&self) -> Result<BTreeMap<String, Vec<String>>, SpoolReadError> {
        let readers = self.spool_dir.join(READERS);
        let failed = |source| SpoolReadError {
            action: "listing the readers of",
            path: self.spool_dir.clone(),
            source,
        };
        let mut dirs = vec![(String::new(), self.spool_dir.clone())];
        for name in folders_in(&readers).map_err(failed)? {
            dirs.push((name.clone(), readers.join(name)));
        }
        dirs.retain(|(_, dir)| *dir != self.dir);
        let segments = |(reader, dir): (String, PathBuf)| Ok((reader, names_in(&dir, SEGMENT_EXTENSION)?));
        dirs.into_iter()
            .map(segments)
            .collect::<std::io::Result<_>>()
            .map_err(failed)
    }

    /// Whether nothing will be appended: a newer segment exists, or there is no writer.
    fn is_closed(&self, segment: &str, finishing: bool) -> Result<bool, SpoolReadError> {
        if (finishing && self.own_writer) || self.names()?.iter().any(|name| name.as_str() > segment) {
            return Ok(true);
        }
        Ok(!has_writer(&self.spool_dir))
    }

    /// The segment at hand, by its id, if it is still there, or else the oldest; `None` where there is none, or none yet.
    /// Deletes copies of what was stored before.
    pub(super) fn next(
        &mut self,
        current: Option<&str>,
        finished: &[String],
        finishing: bool,
    ) -> Result<Option<OpenSegment>, SpoolReadError> {
        let names = self.names()?;
        let at_hand = current.and_then(|current| self.file_of(current, &names));
        let others = names.into_iter().filter(|name| at_hand.as_ref() != Some(name));
        for name in at_hand.iter().cloned().chain(others) {
            if self.set_aside.contains(&name) {
                continue;
            }
            match self.open(&name, finishing)? {
                Opened::Segment(segment) if self.is_copy(&segment, finished) => {
                    tracing::warn!(segment = name, of = segment.id, "a copy of a segment: deleted");
                    let bytes = self.read_bytes(&name, 0, MAX_READ)?;
                    self.delete(&name)?;
                    self.copies.push((name, frame_numbers(&bytes).len() as u64));
                }
                Opened::Segment(segment) => return Ok(Some(*segment)),
                Opened::NotYet => return Ok(None),
                Opened::Empty => self.delete(&name)?,
                Opened::OtherKey(key) => {
                    tracing::error!(
                        segment = name,
                        key,
                        "a segment is sealed with another spool key: it is left where it is"
                    );
                    self.set_aside(&name);
                }
            }
        }
        Ok(None)
    }

    /// The file of a segment: of its name, or one that was renamed.
    fn file_of(&self, id: &str, names: &[String]) -> Option<String> {
        let is_other = |name: &str| self.id_of(name).is_some_and(|of_file| of_file != id);
        if names.iter().any(|name| name == id) && !is_other(id) {
            return Some(id.to_owned());
        }
        names
            .iter()
            .find(|name| self.id_of(name).as_deref() == Some(id))
            .cloned()
    }

    /// The id in a segment's header, where that is whole.
    fn id_of(&self, name: &str) -> Option<String> {
        let header = self.read_bytes(name, 0, HEADER_LENGTH as u64).ok()?;
        let reader = SegmentReader::open_with(&header, &self.keys).ok()?;
        Some(hex(&reader.id()))
    }

    /// Whether a segment is a copy of another, or of one that is stored. One that was renamed is none.
    fn is_copy(&self, segment: &OpenSegment, finished: &[String]) -> bool {
        if finished.contains(&segment.id) {
            return true;
        }
        if segment.id == segment.name {
            return false;
        }
        self.id_of(&segment.id).as_ref() == Some(&segment.id)
    }

    fn open(&self, name: &str, finishing: bool) -> Result<Opened, SpoolReadError> {
        // Asked before reading: what is written after the answer is read next time.
        let closed = self.is_closed(name, finishing)?;
        let header = self.read_bytes(name, 0, HEADER_LENGTH as u64)?;
        let mut segment = OpenSegment {
            name: name.to_owned(),
            id: name.to_owned(),
            reader: None,
            seen: Numbers::default(),
            damaged: 0,
            unreadable: 0,
            unmasked: 0,
            boot_id: String::new(),
            was_there: false,
        };
        match SegmentReader::open_with(&header, &self.keys) {
            Ok(reader) => segment.reader = Some(reader),
            Err(SegmentError::OtherKey(key)) => return Ok(Opened::OtherKey(key)),
            Err(_) if !closed => return Ok(Opened::NotYet),
            Err(error) => {
                let account = self.account_of(name);
                let written = account.as_ref().and_then(|account| account.segments.get(name));
                let is_torn = matches!(error, SegmentError::NoHeader);
                if is_torn && written.is_none_or(|written| written.frames == 0) {
                    // Before its first frame: nothing is in it.
                    return Ok(Opened::Empty);
                }
                let copy = written.and_then(Written::header_bytes);
                segment.reader = copy.and_then(|header| SegmentReader::open_with(&header, &self.keys).ok());
                tracing::warn!(
                    segment = name,
                    mended = segment.reader.is_some(),
                    "a segment's header is damaged"
                );
            }
        }
        if let Some(reader) = &segment.reader {
            segment.id = hex(&reader.id());
        }
        Ok(Opened::Segment(Box::new(segment)))
    }

    /// The account that tells of a segment.
    pub(super) fn account_of(&self, segment: &str) -> Option<Account> {
        accounts(&self.spool_dir)
            .into_iter()
            .find(|account| account.segments.contains_key(segment))
    }

    /// Marks as read what is stored. All is read again, as the file may have been tampered with.
    pub(super) fn skip_stored(&self, segment: &mut OpenSegment, position: &Position) -> Result<(), SpoolReadError> {
        segment.seen = position.stored.clone();
        if position.stored.is_empty() && position.offset > 0 {
            let before = self.read_bytes(&segment.name, 0, position.offset)?;
            segment.seen = frame_numbers(&before).into_iter().collect();
        }
        Ok(())
    }

    /// The next frames of a segment from `offset` on, and before `end`. `finishing` says that the collector is to end.
    pub(super) fn read(
        &self,
        segment: &OpenSegment,
        offset: u64,
        end: Option<u64>,
        finishing: bool,
    ) -> Result<Chunk, SpoolReadError> {
        let closed = end.is_some() || self.is_closed(&segment.name, finishing)?;
        let path = self.path(&segment.name);
        let length = std::fs::metadata(&path)
            .map_err(|source| SpoolReadError {
                action: "reading",
                path,
                source,
            })?
            .len()
            .min(end.unwrap_or(u64::MAX));
        let start = offset.max(HEADER_LENGTH as u64);
        let Some(reader) = &segment.reader else {
            let all = self.read_bytes(&segment.name, 0, length)?;
            return Ok(Chunk {
                // Whole, and sealed for good.
                frames: frame_numbers(&all).into_iter().map(|number| (number, None)).collect(),
                end: length,
                damaged: 1,
                segment_ended: true,
            });
        };
        let mut wanted = READ_BYTES;
        loop {
            let bytes = self.read_bytes(&segment.name, start, wanted.min(length.saturating_sub(start)))?;
            let at_end = start + bytes.len() as u64 >= length;
            let chunk = frames(reader, &bytes, start, closed && at_end);
            // One frame longer than what was read: read more of it.
            if chunk.end == start && !at_end && wanted < MAX_READ {
                wanted *= 4;
                continue;
            }
            return Ok(chunk);
        }
    }

    /// Bytes of a segment; fewer at its end.
    pub(super) fn read_bytes(&self, segment: &str, start: u64, length: u64) -> Result<Vec<u8>, SpoolReadError> {
        let path = self.path(segment);
        let read = || {
            let mut file = File::open(&path)?;
            let rest = file.metadata()?.len().saturating_sub(start);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::with_capacity(usize::try_from(length.min(rest)).unwrap_or_default());
            file.take(length).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|source| SpoolReadError {
            action: "reading",
            path: path.clone(),
            source,
        })
    }

    /// Deletes a segment that is stored.
    pub(super) fn delete(&self, segment: &str) -> Result<(), SpoolReadError> {
        let path = self.path(segment);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(SpoolReadError {
                action: "deleting",
                path,
                source,
            }),
            _ => Ok(()),
        }
    }
}

enum Opened {
    Segment(Box<OpenSegment>),
    /// Its header is still being written.
    NotYet,
    /// It has none.
    Empty,
    OtherKey(String),
}

/// Whether a process writes to a spool.
pub(crate) fn has_writer(spool_dir: &Path) -> bool {
    File::open(spool_dir.join(WRITER_LOCK)).is_ok_and(|lock| lock.try_lock_shared().is_err())
}

/// The accounts of all boots in a spool's folder; damaged ones are left out.
pub(crate) fn accounts(spool_dir: &Path) -> Vec<Account> {
    let names = names_in(spool_dir, EXTENSION).unwrap_or_default();
    let read = |name: String| std::fs::read(spool_dir.join(format!("{name}.{EXTENSION}"))).ok();
    names
        .into_iter()
        .filter_map(read)
        .filter_map(|bytes| Account::from_lines(&bytes))
        .collect()
}

/// The names, without extension, of the files of a folder that have this one; none where there is no folder.
pub(crate) fn names_in(dir: &Path, wanted: &str) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in entries_of(dir)? {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == wanted)
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The names of a folder's folders; none where there is no folder.
fn folders_in(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in entries_of(dir)? {
        if entry.file_type()?.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

fn entries_of(dir: &Path) -> std::io::Result<Vec<DirEntry>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The frames in `bytes`, which lie at `start`; `last` says that nothing follows them.
fn frames(reader: &SegmentReader, bytes: &[u8], start: u64, last: bool) -> Chunk {
    let mut chunk = Chunk::default();
    let mut walk = Walk::new(reader, bytes, start, last);
    for found in walk.by_ref() {
        match found {
            Found::Frame { number, plain } => {
                let call = frame::decode(&plain)
                    .inspect_err(|error| tracing::warn!(%error, "a frame of the spool can't be decoded"));
                chunk.frames.push((number, call.ok()));
            }
            Found::Damage => chunk.damaged += 1,
        }
    }
    chunk.end = walk.offset();
    chunk.segment_ended = last && chunk.end >= start + bytes.len() as u64;
    chunk
}
