//! The bytes of a spool segment: an encrypted, checksummed sequence of frames.
//!
//! A segment is a header and then frames, never appended to by a second process. Each segment has its own random data
//! key, wrapped by the spool key; a frame's number is its nonce and is authenticated together with the segment's id. So a
//! frame can't be passed off as another, and one that was moved by what was cut or doubled before it still opens. A
//! damaged frame is skipped; the next one is found by its marker and checksum. Version 1, where a frame's offset stood
//! for its number, is read as well. Does no IO: the writer appends what [`SegmentWriter`] gives, readers pass what they
//! have read to [`SegmentReader`].

mod walk;

pub use walk::{Count, Found, Walk, frame_numbers};

use crate::keys::Key;
use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// First bytes of a segment file; the version of the format follows.
const MAGIC: [u8; 7] = *b"USPOOL\x00";
/// First bytes of a frame.
const MARKER: [u8; 4] = *b"\xF5UFR";
/// AES-GCM tag.
const TAG: usize = 16;
/// Longest plain frame: more is damage (bodies are bounded far below).
const MAX_FRAME: usize = 1 << 30;
/// Magic, version, segment id, key id, nonce, wrapped key with tag, checksum.
pub const HEADER_LENGTH: usize = 8 + 16 + 8 + 12 + 32 + TAG + 4;

/// The layouts of frames, by the version in the segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// Marker, length, checksum, sealed bytes; the frame's offset is its number.
    One = 1,
    /// Marker, length, checksum, number, sealed bytes.
    Two = 2,
}

impl Version {
    /// Of a header's first bytes.
    fn of(header: &[u8]) -> Option<Version> {
        match header.strip_prefix(&MAGIC)?.first()? {
            1 => Some(Version::One),
            2 => Some(Version::Two),
            _ => None,
        }
    }

    /// Bytes of a frame before what is sealed.
    fn frame_header(self) -> usize {
        match self {
            Version::One => 12,
            Version::Two => 16,
        }
    }
}

/// What is wrong with a segment as a whole.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// Not (yet) a whole header.
    #[error("the segment has no whole header")]
    NoHeader,
    /// Another file, or a damaged header.
    #[error("this is not a spool segment of version 1 or 2, or its header is damaged")]
    BadHeader,
    /// Sealed with another key.
    #[error("the segment is sealed with spool key {0}, which is not the one given")]
    OtherKey(String),
    /// Encryption failed.
    #[error("encrypting or decrypting failed")]
    Crypto,
}

/// Seals frames of one segment.
pub struct SegmentWriter {
    id: [u8; 16],
    key: LessSafeKey,
    frames: u32,
}

impl SegmentWriter {
    /// A new segment with a random data key; also its header, which comes first in the file.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn create(id: [u8; 16], spool_key: &Key) -> Result<(SegmentWriter, Vec<u8>), SegmentError> {
        let random = SystemRandom::new();
        let mut data_key = [0; 32];
        let mut nonce = [0; 12];
        random.fill(&mut data_key).map_err(|_| SegmentError::Crypto)?;
        random.fill(&mut nonce).map_err(|_| SegmentError::Crypto)?;
        let mut header = Vec::with_capacity(HEADER_LENGTH);
        header.extend_from_slice(&MAGIC);
        header.push(Version::Two as u8);
        header.extend_from_slice(&id);
        header.extend_from_slice(spool_key.id().as_bytes());
        header.extend_from_slice(&nonce);
        let mut wrapped = data_key.to_vec();
        cipher(spool_key.bytes())
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(id), &mut wrapped)
            .map_err(|_| SegmentError::Crypto)?;
        header.extend_from_slice(&wrapped);
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        let writer = SegmentWriter {
            id,
            key: cipher(&data_key),
            frames: 0,
        };
        Ok((writer, header))
    }

    /// How many frames were sealed: the number of the next one.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Appends a sealed frame to `out`, made of what `write` appends (the plain frame).
    ///
    /// # Errors
    /// Whatever `write` says; a frame over 1 GiB is refused. On an error `out` is as it was.
    pub fn seal<E: From<SegmentError>>(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let at = out.len();
        let result = self.seal_at(out, at, write);
        match result {
            Ok(()) => self.frames += 1,
            Err(_) => out.truncate(at),
        }
        result
    }

    fn seal_at<E: From<SegmentError>>(
        &self,
        out: &mut Vec<u8>,
        at: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let number = self.frames;
        if number == u32::MAX {
            return Err(SegmentError::Crypto.into());
        }
        let body = at + Version::Two.frame_header();
        out.extend_from_slice(&MARKER);
        out.resize(body, 0);
        write(out)?;
        if out.len() - body > MAX_FRAME {
            return Err(SegmentError::Crypto.into());
        }
        let (nonce, aad) = place(&self.id, u64::from(number));
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, aad, &mut out[body..])
            .map_err(|_| SegmentError::Crypto)?;
        out.extend_from_slice(tag.as_ref());
        let length = (out.len() - body) as u32;
        out[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
        out[at + 12..body].copy_from_slice(&number.to_le_bytes());
        let checksum = frame_checksum(length, &out[at + 12..]);
        out[at + 8..at + 12].copy_from_slice(&checksum.to_le_bytes());
        Ok(())
    }
}

/// Opens frames of one segment.
pub struct SegmentReader {
    id: [u8; 16],
    key: LessSafeKey,
    version: Version,
}

impl SegmentReader {
    /// [`SegmentReader::open`] with whichever of the keys the segment is sealed with.
    ///
    /// # Errors
    /// Where it is cut, damaged, or sealed with none of them.
    pub fn open_with(header: &[u8], spool_keys: &[Key]) -> Result<SegmentReader, SegmentError> {
        let mut result = Err(SegmentError::NoHeader);
        for key in spool_keys {
            result = SegmentReader::open(header, key);
            if !matches!(result, Err(SegmentError::OtherKey(_))) {
                break;
            }
        }
        result
    }

    /// Reads the header, the first [`HEADER_LENGTH`] bytes of the file.
    ///
    /// # Errors
    /// Where it is cut, damaged, or sealed with another key.
    pub fn open(header: &[u8], spool_key: &Key) -> Result<SegmentReader, SegmentError> {
        let header = header.get(..HEADER_LENGTH).ok_or(SegmentError::NoHeader)?;
        let (content, checksum) = header.split_at(HEADER_LENGTH - 4);
        let version = Version::of(content).ok_or(SegmentError::BadHeader)?;
        if crc32fast::hash(content).to_le_bytes() != checksum {
            return Err(SegmentError::BadHeader);
        }
        let key_id = String::from_utf8_lossy(&content[24..32]).into_owned();
        if key_id != spool_key.id() {
            return Err(SegmentError::OtherKey(key_id));
        }
        let id: [u8; 16] = content[8..24].try_into().map_err(|_| SegmentError::BadHeader)?;
        let nonce: [u8; 12] = content[32..44].try_into().map_err(|_| SegmentError::BadHeader)?;
        let mut wrapped = content[44..].to_vec();
        let data_key = cipher(spool_key.bytes())
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(id), &mut wrapped)
            .map_err(|_| SegmentError::Crypto)?;
        let data_key: [u8; 32] = (&*data_key).try_into().map_err(|_| SegmentError::BadHeader)?;
        Ok(SegmentReader {
            id,
            key: cipher(&data_key),
            version,
        })
    }

    /// The id that the segment was made with.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Whether frames are numbered by their offset, as in version 1, and not one by one from 0.
    pub fn numbers_are_offsets(&self) -> bool {
        self.version == Version::One
    }

    /// The frame at the start of `bytes`, which lie at `offset` in the file.
    pub fn read_frame(&self, bytes: &[u8], offset: u64) -> Frame {
        let Some((number, length)) = (match whole_frame(self.version, bytes, offset) {
            Whole::Yes { number, length } => Some((number, length)),
            Whole::NotYet => return Frame::Incomplete,
            Whole::No => None,
        }) else {
            return Frame::Damaged {
                skip: next_marker(bytes),
            };
        };
        let mut sealed = bytes[self.version.frame_header()..length].to_vec();
        let (nonce, aad) = place(&self.id, number);
        match self.key.open_in_place(nonce, aad, &mut sealed) {
            Ok(plain) => {
                let plain_length = plain.len();
                sealed.truncate(plain_length);
                Frame::Plain {
                    number,
                    plain: sealed,
                    length,
                }
            }
            // The checksum holds but the seal does not: a frame of another segment. Skip it whole.
            Err(_) => Frame::Damaged { skip: length },
        }
    }
}

/// What lies at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole frame.
    Plain {
        /// Its number in the segment; of version 1, its offset.
        number: u64,
        /// What [`crate::frame::decode`] takes.
        plain: Vec<u8>,
        /// Bytes to go on by.
        length: usize,
    },
    /// The bytes end before the frame does: wait for more, or, in a closed segment, a torn tail.
    Incomplete,
    /// Not a frame of this segment; `skip` bytes further another may begin.
    Damaged {
        /// Bytes to go on by, at least 1.
        skip: usize,
    },
}

enum Whole {
    /// Its number and its length in the file.
    Yes {
        number: u64,
        length: usize,
    },
    NotYet,
    No,
}

/// Whether `bytes` begin with a whole frame whose checksum holds.
fn whole_frame(version: Version, bytes: &[u8], offset: u64) -> Whole {
    let marker = &bytes[..bytes.len().min(MARKER.len())];
    if !MARKER.starts_with(marker) {
        return Whole::No;
    }
    let (Some(sealed), Some(checksum)) = (u32_at(bytes, 4), u32_at(bytes, 8)) else {
        return Whole::NotYet;
    };
    if !(TAG..=MAX_FRAME + TAG).contains(&(sealed as usize)) {
        return Whole::No;
    }
    let length = version.frame_header() + sealed as usize;
    let Some(covered) = bytes.get(12..length) else {
        return Whole::NotYet;
    };
    if frame_checksum(sealed, covered) != checksum {
        return Whole::No;
    }
    let number = match version {
        Version::One => offset,
        Version::Two => u64::from(u32_at(bytes, 12).unwrap_or_default()),
    };
    Whole::Yes { number, length }
}

/// The distance to the next marker after the first byte, or to the end.
fn next_marker(bytes: &[u8]) -> usize {
    let rest = bytes.get(1..).unwrap_or_default();
    1 + memchr::memmem::find(rest, &MARKER).unwrap_or(rest.len())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)
        .and_then(|four| four.try_into().ok())
        .map(u32::from_le_bytes)
}

/// Over the length and all that follows the checksum.
fn frame_checksum(length: u32, covered: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(covered);
    hasher.finalize()
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&aead::AES_256_GCM, key).expect("AES-256 takes 32 bytes"))
}

/// The nonce of a frame, and what is authenticated with it. Numbers are unique in a segment, data keys among segments.
fn place(id: &[u8; 16], number: u64) -> (Nonce, Aad<[u8; 24]>) {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    let mut aad = [0; 24];
    aad[..16].copy_from_slice(id);
    aad[16..].copy_from_slice(&number.to_be_bytes());
    (Nonce::assume_unique_for_key(nonce), Aad::from(aad))
}

#[cfg(test)]
mod tests;
