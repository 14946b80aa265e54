//! Goes over the bytes of a segment frame by frame, past whatever is damaged.

use super::{Frame, HEADER_LENGTH, SegmentReader, Version, Whole, next_marker, whole_frame};
use crate::account::Numbers;

/// What a walk comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole frame.
    Frame {
        /// Its number in the segment; of version 1, its offset.
        number: u64,
        /// What [`crate::frame::decode`] takes.
        plain: Vec<u8>,
    },
    /// Bytes that are no frame were passed over.
    Damage,
}

/// The frames in a stretch of a segment. Ends at the first incomplete frame where more may be written, and passes over
/// it where nothing will be.
pub struct Walk<'a> {
    reader: &'a SegmentReader,
    bytes: &'a [u8],
    start: u64,
    at: usize,
    closed: bool,
}

impl<'a> Walk<'a> {
    /// Over `bytes`, which lie at `start` in the file; `closed` says that nothing will follow them.
    pub fn new(reader: &'a SegmentReader, bytes: &'a [u8], start: u64, closed: bool) -> Walk<'a> {
        Walk {
            reader,
            bytes,
            start,
            at: 0,
            closed,
        }
    }

    /// Where the next frame begins in the file.
    pub fn offset(&self) -> u64 {
        self.start + self.at as u64
    }
}

impl Iterator for Walk<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        match self.reader.read_frame(rest, self.offset()) {
            Frame::Plain { number, plain, length } => {
                self.at += length;
                Some(Found::Frame { number, plain })
            }
            Frame::Incomplete if !self.closed => None,
            Frame::Incomplete => {
                self.at += next_marker(rest);
                Some(Found::Damage)
            }
            Frame::Damaged { skip } => {
                self.at += skip;
                Some(Found::Damage)
            }
        }
    }
}

/// Counts the whole frames of a segment, as it grows; needs no key.
#[derive(Clone, Debug, Default)]
pub struct Count {
    version: Option<Version>,
    offset: u64,
    numbers: Numbers,
    /// Bytes of the frame at `offset`, where it was not whole yet.
    incomplete: u64,
}

impl Count {
    /// Where to read on.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes to read at least, so that a long frame is whole.
    pub fn wanted(&self) -> u64 {
        self.incomplete.saturating_mul(2)
    }

    /// Frames so far; one that was doubled counts once.
    pub fn frames(&self) -> u64 {
        self.numbers.len()
    }

    /// Adds the bytes that lie at [`Count::offset`].
    pub fn add(&mut self, bytes: &[u8]) {
        let mut at = 0;
        if self.offset == 0 {
            if bytes.len() < HEADER_LENGTH {
                return;
            }
            self.version = Version::of(bytes);
            at = HEADER_LENGTH;
        }
        let version = self.version.unwrap_or(Version::Two);
        // Where the first frame begins that is not whole yet; one that a whole frame follows is damage.
        let mut incomplete = None;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match whole_frame(version, rest, self.offset + at as u64) {
                Whole::Yes { number, length } => {
                    self.numbers.insert(number);
                    at += length;
                    incomplete = None;
                }
                Whole::NotYet => {
                    incomplete.get_or_insert(at);
                    at += next_marker(rest);
                }
                Whole::No => at += next_marker(rest),
            }
        }
        let done = incomplete.unwrap_or(at);
        self.incomplete = (bytes.len() - done.min(bytes.len())) as u64;
        self.offset += done as u64;
    }
}

/// The numbers of the whole frames in the bytes of a segment, header included; needs no key.
pub fn frame_numbers(segment: &[u8]) -> Vec<u64> {
    let version = Version::of(segment).unwrap_or(Version::Two);
    let mut at = HEADER_LENGTH;
    let mut numbers = Vec::new();
    while let Some(rest) = segment.get(at..).filter(|rest| !rest.is_empty()) {
        match whole_frame(version, rest, at as u64) {
            Whole::Yes { number, length } => {
                numbers.push(number);
                at += length;
            }
            Whole::NotYet | Whole::No => at += next_marker(rest),
        }
    }
    numbers
}
