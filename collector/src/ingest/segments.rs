//! Reads the spool's segments in order, also the one that is still being written.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use understudy_call::frame::{self, RawCall};
use understudy_call::keys::Key;
use understudy_call::segment::{Frame, HEADER_LENGTH, SegmentError, SegmentReader, next_marker};

/// Bytes read at once; a longer frame is read whole.
const READ_BYTES: u64 = 8 << 20;
/// The longest stretch read for one frame.
const MAX_READ: u64 = 1 << 30;

/// The spool can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SpoolReadError {
    /// A file or the folder.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Sealed with another key, or no segment.
    #[error("segment {path}: {source}")]
    Segment {
        /// The segment's file.
        path: PathBuf,
        /// What is wrong.
        source: SegmentError,
    },
}

/// Frames read from one segment.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) calls: Vec<RawCall>,
    /// Where the next frame begins.
    pub(super) end: u64,
    /// Stretches that are no frames.
    pub(super) damaged: u64,
    /// No writer will append, and all is read.
    pub(super) segment_ended: bool,
}

/// The segments of one folder.
pub(super) struct Segments {
    dir: PathBuf,
    key: Key,
}

impl Segments {
    pub(super) fn new(dir: PathBuf, key: Key) -> Segments {
        Segments { dir, key }
    }

    fn path(&self, segment: &str) -> PathBuf {
        self.dir.join(format!("{segment}.seg"))
    }

    /// Names of all segments, oldest first.
    fn names(&self) -> Result<Vec<String>, SpoolReadError> {
        let io = |source| SpoolReadError::Io {
            action: "listing the spool",
            path: self.dir.clone(),
            source,
        };
        let mut names = Vec::new();
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(names),
            Err(error) => return Err(io(error)),
        };
        for entry in entries {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|extension| extension == "seg")
                && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The segment at hand if it is still there, or else the oldest.
    pub(super) fn current_or_next(&self, current: Option<&str>) -> Result<Option<String>, SpoolReadError> {
        let names = self.names()?;
        let here = current.filter(|current| names.iter().any(|name| name == current));
        Ok(here.map(str::to_owned).or_else(|| names.into_iter().next()))
    }

    /// Whether nothing will be appended: a newer segment exists, or there is no writer.
    fn is_closed(&self, segment: &str) -> Result<bool, SpoolReadError> {
        if self.names()?.iter().any(|name| name.as_str() > segment) {
            return Ok(true);
        }
        match File::open(self.dir.join("writer.lock")) {
            Ok(lock) => Ok(lock.try_lock_shared().is_ok()),
            Err(_) => Ok(true),
        }
    }

    /// The next frames of a segment from `offset` on. `finishing` says that the writer has ended.
    pub(super) fn read(&self, segment: &str, offset: u64, finishing: bool) -> Result<Chunk, SpoolReadError> {
        // Asked before reading: what is written after the answer is read next time.
        let closed = finishing || self.is_closed(segment)?;
        self.read_range(segment, offset, u64::MAX, closed)
    }

    /// The frames of a segment from `offset` to `end`, which are known to be there.
    pub(super) fn read_until(&self, segment: &str, offset: u64, end: u64) -> Result<Chunk, SpoolReadError> {
        self.read_range(segment, offset, end, true)
    }

    fn read_range(&self, segment: &str, offset: u64, end: u64, closed: bool) -> Result<Chunk, SpoolReadError> {
        let path = self.path(segment);
        let io = |source| SpoolReadError::Io {
            action: "reading",
            path: path.clone(),
            source,
        };
        let mut file = File::open(&path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len().min(end);
        let mut header = Vec::new();
        file.by_ref()
            .take(HEADER_LENGTH as u64)
            .read_to_end(&mut header)
            .map_err(io)?;
        let reader = match SegmentReader::open(&header, &self.key) {
            Ok(reader) => reader,
            // Torn before its first frame: nothing is in it.
            Err(SegmentError::NoHeader) => {
                return Ok(Chunk {
                    segment_ended: closed,
                    ..Chunk::default()
                });
            }
            Err(SegmentError::BadHeader) if closed => {
                return Ok(Chunk {
                    damaged: 1,
                    segment_ended: true,
                    end: length,
                    ..Chunk::default()
                });
            }
            Err(source) => return Err(SpoolReadError::Segment { path, source }),
        };
        let start = offset.max(HEADER_LENGTH as u64);
        let mut wanted = READ_BYTES;
        loop {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(start)).map_err(io)?;
            file.by_ref()
                .take(wanted.min(length.saturating_sub(start)))
                .read_to_end(&mut bytes)
                .map_err(io)?;
            let at_end = start + bytes.len() as u64 >= length;
            let chunk = frames(&reader, &bytes, start, closed && at_end);
            // One frame longer than what was read: read more of it.
            if chunk.end == start && !at_end && wanted < MAX_READ {
                wanted *= 4;
                continue;
            }
            return Ok(chunk);
        }
    }

    /// Deletes a segment that is stored.
    pub(super) fn delete(&self, segment: &str) -> Result<(), SpoolReadError> {
        let path = self.path(segment);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(SpoolReadError::Io {
                action: "deleting",
                path,
                source: error,
            }),
            _ => Ok(()),
        }
    }
}

/// The frames in `bytes`, which lie at `start`; `last` says that nothing follows them.
fn frames(reader: &SegmentReader, bytes: &[u8], start: u64, last: bool) -> Chunk {
    let mut chunk = Chunk::default();
    let mut at = 0;
    while at < bytes.len() {
        match reader.read_frame(&bytes[at..], start + at as u64) {
            Frame::Plain { plain, length } => {
                match frame::decode(&plain) {
                    Ok(call) => chunk.calls.push(call),
                    Err(error) => {
                        tracing::warn!(%error, "a frame of the spool can't be decoded");
                        chunk.damaged += 1;
                    }
                }
                at += length;
            }
            Frame::Incomplete if last => {
                chunk.damaged += 1;
                at += next_marker(&bytes[at..]);
            }
            Frame::Incomplete => break,
            Frame::Damaged { skip } => {
                chunk.damaged += 1;
                at += skip;
            }
        }
    }
    chunk.end = start + at as u64;
    chunk.segment_ended = last && at >= bytes.len();
    chunk
}
