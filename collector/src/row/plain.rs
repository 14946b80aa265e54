//! Bodies as they were before their content encoding, and when each part of them arrived.

use std::borrow::Cow;
use understudy_call::wire::encoding::{DecodeError, Decoder};

/// A body that decodes to more is kept up to here, so that a small one can't fill the memory.
pub(super) const MAX_DECODED: u64 = 64 << 20;

/// A body without content encoding.
pub(super) struct Plain<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// `(bytes, microseconds since start)` of its pieces, in decoded bytes.
    pub(super) pieces: Cow<'a, [(u32, u64)]>,
    /// The encoding is unknown, damaged, or decodes to too much: the bytes are as far as it went.
    pub(super) at_fault: bool,
}

impl<'a> Plain<'a> {
    /// A copied body, which came in these pieces. That it breaks off is no fault of its encoding.
    pub(super) fn of(body: &'a [u8], encoding: Option<&str>, pieces: &'a [(u32, u64)]) -> Plain<'a> {
        match Decoder::new(encoding.unwrap_or_default(), MAX_DECODED) {
            Ok(None) => Plain {
                bytes: Cow::Borrowed(body),
                pieces: Cow::Borrowed(pieces),
                at_fault: false,
            },
            Ok(Some(decoder)) => decoded(decoder, body, pieces),
            Err(_) => Plain {
                bytes: Cow::Borrowed(&[]),
                pieces: Cow::Borrowed(&[]),
                at_fault: true,
            },
        }
    }
}

/// Pieces that decoded to nothing brought nothing, and are left out.
fn decoded<'a>(mut decoder: Decoder, body: &[u8], pieces: &[(u32, u64)]) -> Plain<'a> {
    let mut bytes = Vec::new();
    let mut arrived = Vec::new();
    let mut rest = body;
    let mut ended = Ok(());
    for (length, at) in pieces {
        let (piece, after) = rest.split_at(rest.len().min(*length as usize));
        rest = after;
        let before = bytes.len();
        ended = decoder.push(piece, &mut bytes);
        // Never more than the limit, so it fits.
        let length = (bytes.len() - before) as u32;
        if length > 0 {
            arrived.push((length, *at));
        }
        if ended.is_err() {
            break;
        }
    }
    let ended = ended
        .and_then(|()| decoder.push(rest, &mut bytes))
        .and_then(|()| decoder.finish());
    let at_fault = match ended {
        Ok(()) => false,
        Err(DecodeError::Truncated(_)) => bytes.is_empty(),
        Err(DecodeError::TooLong(_) | DecodeError::Damaged(_)) => true,
    };
    Plain {
        bytes: Cow::Owned(bytes),
        pieces: Cow::Owned(arrived),
        at_fault,
    }
}
