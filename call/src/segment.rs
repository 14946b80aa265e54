//! The bytes of a spool segment: an encrypted, checksummed sequence of frames.
//!
//! A segment is a header and then frames, never appended to by a second process. Each segment has its own random data
//! key, wrapped by the spool key; frame n's place (segment id, offset) is its nonce and is authenticated, so frames
//! can't be moved or swapped. A damaged frame is skipped and counted; the next one is found by its marker and checksum.
//! Does no IO: the writer appends what [`SegmentWriter`] gives, readers pass what they have read to [`SegmentReader::read_frame`].

use crate::keys::Key;
use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// First bytes of a segment file: its magic and the version of the format.
const MAGIC: [u8; 8] = *b"USPOOL\x00\x01";
/// First bytes of a frame.
const MARKER: [u8; 4] = *b"\xF5UFR";
/// Marker, length, checksum.
const FRAME_HEADER: usize = 12;
/// AES-GCM tag.
const TAG: usize = 16;
/// Longest plain frame: more is damage (bodies are bounded far below).
const MAX_FRAME: usize = 1 << 30;
/// Magic, segment id, key id, nonce, wrapped key with tag, checksum.
pub const HEADER_LENGTH: usize = 8 + 16 + 8 + 12 + 32 + TAG + 4;

/// What is wrong with a segment as a whole.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// Not (yet) a whole header.
    #[error("the segment has no whole header")]
    NoHeader,
    /// Another file, or a damaged header.
    #[error("this is not a spool segment of version 1, or its header is damaged")]
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
    offset: u64,
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
        header.extend_from_slice(&id);
        header.extend_from_slice(spool_key.id().as_bytes());
        header.extend_from_slice(&nonce);
        let mut wrapped = data_key.to_vec();
        cipher(spool_key.bytes())
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(id), &mut wrapped)
            .map_err(|_| SegmentError::Crypto)?;
        header.extend_from_slice(&wrapped);
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        Ok((
            SegmentWriter {
                id,
                key: cipher(&data_key),
                offset: header.len() as u64,
            },
            header,
        ))
    }

    /// The length of the segment so far: where the next frame begins.
    pub fn offset(&self) -> u64 {
        self.offset
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
            Ok(()) => self.offset += (out.len() - at) as u64,
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
        out.extend_from_slice(&MARKER);
        out.extend_from_slice(&[0; FRAME_HEADER - MARKER.len()]);
        let body = at + FRAME_HEADER;
        write(out)?;
        if out.len() - body > MAX_FRAME {
            return Err(SegmentError::Crypto.into());
        }
        let (nonce, aad) = place(&self.id, self.offset);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, aad, &mut out[body..])
            .map_err(|_| SegmentError::Crypto)?;
        out.extend_from_slice(tag.as_ref());
        let length = (out.len() - body) as u32;
        out[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
        let checksum = frame_checksum(length, &out[body..]);
        out[at + 8..at + 12].copy_from_slice(&checksum.to_le_bytes());
        Ok(())
    }
}

/// Opens frames of one segment.
pub struct SegmentReader {
    id: [u8; 16],
    key: LessSafeKey,
}

impl SegmentReader {
    /// Reads the header, the first [`HEADER_LENGTH`] bytes of the file.
    ///
    /// # Errors
    /// Where it is cut, damaged, or sealed with another key.
    pub fn open(header: &[u8], spool_key: &Key) -> Result<SegmentReader, SegmentError> {
        let header = header.get(..HEADER_LENGTH).ok_or(SegmentError::NoHeader)?;
        let (content, checksum) = header.split_at(HEADER_LENGTH - 4);
        if content[..8] != MAGIC || crc32fast::hash(content).to_le_bytes() != checksum {
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
        })
    }

    /// The frame at the start of `bytes`, which lie at `offset` in the file.
    pub fn read_frame(&self, bytes: &[u8], offset: u64) -> Frame {
        match whole_frame(bytes) {
            Whole::Yes(length) => {
                let mut sealed = bytes[FRAME_HEADER..FRAME_HEADER + length].to_vec();
                let (nonce, aad) = place(&self.id, offset);
                match self.key.open_in_place(nonce, aad, &mut sealed) {
                    Ok(plain) => {
                        let plain_length = plain.len();
                        sealed.truncate(plain_length);
                        Frame::Plain {
                            plain: sealed,
                            length: FRAME_HEADER + length,
                        }
                    }
                    // The checksum holds but the seal does not: a frame that was moved here. Skip it whole.
                    Err(_) => Frame::Damaged {
                        skip: FRAME_HEADER + length,
                    },
                }
            }
            Whole::NotYet => Frame::Incomplete,
            Whole::No => Frame::Damaged {
                skip: next_marker(bytes),
            },
        }
    }
}

/// What lies at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole frame: its plain bytes, and its length in the file.
    Plain {
        /// What [`crate::frame::decode`] takes.
        plain: Vec<u8>,
        /// Bytes to go on by.
        length: usize,
    },
    /// The bytes end before the frame does: wait for more, or, in a closed segment, a torn tail.
    Incomplete,
    /// Not a frame of this place; `skip` bytes further another may begin.
    Damaged {
        /// Bytes to go on by, at least 1.
        skip: usize,
    },
}

enum Whole {
    Yes(usize),
    NotYet,
    No,
}

/// Whether `bytes` begin with a whole frame whose checksum holds; its sealed length if so.
fn whole_frame(bytes: &[u8]) -> Whole {
    let marker = &bytes[..bytes.len().min(MARKER.len())];
    if !MARKER.starts_with(marker) {
        return Whole::No;
    }
    let (Some(length), Some(checksum)) = (u32_at(bytes, 4), u32_at(bytes, 8)) else {
        return Whole::NotYet;
    };
    if !(TAG..=MAX_FRAME + TAG).contains(&(length as usize)) {
        return Whole::No;
    }
    let Some(sealed) = bytes[FRAME_HEADER..].get(..length as usize) else {
        return Whole::NotYet;
    };
    if frame_checksum(length, sealed) == checksum {
        Whole::Yes(length as usize)
    } else {
        Whole::No
    }
}

/// How many whole frames the bytes of a segment hold, without a key.
pub fn count_frames(segment: &[u8]) -> u64 {
    let mut at = HEADER_LENGTH;
    let mut frames = 0;
    while let Some(rest) = segment.get(at..).filter(|rest| !rest.is_empty()) {
        match whole_frame(rest) {
            Whole::Yes(length) => {
                frames += 1;
                at += FRAME_HEADER + length;
            }
            Whole::NotYet | Whole::No => at += next_marker(rest),
        }
    }
    frames
}

/// The distance to the next marker after the first byte, or to the end. For readers that must get past an
/// [`Frame::Incomplete`] in a closed segment as well.
pub fn next_marker(bytes: &[u8]) -> usize {
    let rest = bytes.get(1..).unwrap_or_default();
    1 + memchr::memmem::find(rest, &MARKER).unwrap_or(rest.len())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)
        .and_then(|four| four.try_into().ok())
        .map(u32::from_le_bytes)
}

fn frame_checksum(length: u32, sealed: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(sealed);
    hasher.finalize()
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&aead::AES_256_GCM, key).expect("AES-256 takes 32 bytes"))
}

/// The nonce and the authenticated place of a frame. Offsets are unique in a segment, data keys among segments.
fn place(id: &[u8; 16], offset: u64) -> (Nonce, Aad<[u8; 24]>) {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&offset.to_be_bytes());
    let mut aad = [0; 24];
    aad[..16].copy_from_slice(id);
    aad[16..].copy_from_slice(&offset.to_be_bytes());
    (Nonce::assume_unique_for_key(nonce), Aad::from(aad))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(frames: &[&[u8]]) -> Vec<u8> {
        let (mut writer, mut bytes) = SegmentWriter::create([9; 16], &Key::new([1; 32])).unwrap();
        for frame in frames {
            writer
                .seal::<SegmentError>(&mut bytes, |out| {
                    out.extend_from_slice(frame);
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(writer.offset(), bytes.len() as u64);
        bytes
    }

    /// All frames of a closed segment, and how many stretches were skipped.
    fn read_all(bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let reader = SegmentReader::open(bytes, &Key::new([1; 32])).unwrap();
        let (mut at, mut frames, mut skipped) = (HEADER_LENGTH, Vec::new(), 0);
        while at < bytes.len() {
            match reader.read_frame(&bytes[at..], at as u64) {
                Frame::Plain { plain, length } => {
                    frames.push(plain);
                    at += length;
                }
                Frame::Incomplete => {
                    skipped += 1;
                    at += next_marker(&bytes[at..]);
                }
                Frame::Damaged { skip } => {
                    skipped += 1;
                    at += skip;
                }
            }
        }
        (frames, skipped)
    }

    #[test]
    fn frames_come_back_in_order_and_plain_text_is_not_in_the_file() {
        let bytes = segment(&[b"first canary", b"", b"third"]);
        assert_eq!(
            read_all(&bytes),
            (vec![b"first canary".to_vec(), vec![], b"third".to_vec()], 0)
        );
        assert!(memchr::memmem::find(&bytes, b"canary").is_none());
        assert_eq!(count_frames(&bytes), 3);
    }

    #[test]
    fn another_key_is_told_apart_from_damage() {
        let bytes = segment(&[b"x"]);
        assert!(matches!(
            SegmentReader::open(&bytes, &Key::new([2; 32])),
            Err(SegmentError::OtherKey(_))
        ));
        assert!(matches!(
            SegmentReader::open(&bytes[..40], &Key::new([1; 32])),
            Err(SegmentError::NoHeader)
        ));
    }

    #[test]
    fn swapped_frames_are_refused() {
        let bytes = segment(&[b"aaaa", b"bbbb"]);
        let (head, frames) = bytes.split_at(HEADER_LENGTH);
        let (first, second) = frames.split_at(frames.len() / 2);
        let swapped = [head, second, first].concat();
        assert_eq!(read_all(&swapped).0, Vec::<Vec<u8>>::new());
    }

    proptest! {
        #[test]
        fn one_damaged_byte_costs_one_frame_at_most(at in HEADER_LENGTH..HEADER_LENGTH + 3 * 40, flip in 1u8..) {
            let plain: Vec<Vec<u8>> = (0..4u8).map(|n| vec![n; 12]).collect();
            let mut bytes = segment(&plain.iter().map(Vec::as_slice).collect::<Vec<_>>());
            bytes[at] ^= flip;
            let (frames, skipped) = read_all(&bytes);
            prop_assert!(frames.len() >= 3 && skipped >= 1);
            prop_assert!(frames.iter().all(|frame| plain.contains(frame)));
        }

        #[test]
        fn a_cut_segment_gives_the_frames_before_the_cut(cut in HEADER_LENGTH..HEADER_LENGTH + 4 * 40) {
            let bytes = segment(&[&[1; 12], &[2; 12], &[3; 12], &[4; 12]]);
            let (frames, _) = read_all(&bytes[..cut]);
            prop_assert_eq!(frames.len(), (cut - HEADER_LENGTH) / 40);
        }
    }
}
