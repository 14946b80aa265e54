//! Undoes content encodings piece by piece: gzip, deflate, br, zstd, and stacks of them.
//!
//! What a piece decodes to is given at once, so that a stream's arrival times keep their meaning. Bounded: a few buffers,
//! and a limit on what comes out, which stops bombs. Never panics, whatever comes in.

use codec::Codec;

mod codec;

/// More encodings one over the other than this are not undone.
const MAX_LAYERS: usize = 4;

/// Bytes decoded at once.
const BUFFER: usize = 16 * 1024;

/// An encoding that can't be undone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("decode a body: the encoding `{0}` is not known")]
pub struct UnknownEncoding(pub String);

/// Why a body could not be decoded to its end. What came before is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The decoded body, or what lies between two encodings, is longer than the limit, in bytes.
    #[error("decode a body: it is longer than {0} bytes")]
    TooLong(u64),
    /// The bytes are not of the encoding, or damaged.
    #[error("decode a body: its {0} is damaged")]
    Damaged(&'static str),
    /// The body ended before the encoding did.
    #[error("decode a body: it ends before its {0} does")]
    Truncated(&'static str),
}

/// Decodes one body.
pub struct Decoder {
    /// The encoding that was applied last comes first.
    layers: Vec<Layer>,
    limit: u64,
    failed: Option<DecodeError>,
}

/// One encoding, and how much it gave.
struct Layer {
    codec: Codec,
    buffer: Vec<u8>,
    given: u64,
}

impl Decoder {
    /// For a body of this `content-encoding`; none where nothing is to be undone. No more than `limit` bytes come out.
    ///
    /// # Errors
    /// Where an encoding is not known, or there are more than four.
    pub fn new(content_encoding: &str, limit: u64) -> Result<Option<Decoder>, UnknownEncoding> {
        let names = content_encoding.split(',').map(|name| name.trim().to_ascii_lowercase());
        let names: Vec<String> = names.filter(|name| !matches!(name.as_str(), "" | "identity")).collect();
        if names.len() > MAX_LAYERS {
            return Err(unknown(content_encoding));
        }
        let layer = |name: &String| {
            let codec = Codec::new(name).ok_or_else(|| unknown(name))?;
            Ok(Layer {
                codec,
                buffer: vec![0; BUFFER],
                given: 0,
            })
        };
        let layers: Vec<Layer> = names.iter().rev().map(layer).collect::<Result<_, _>>()?;
        Ok((!layers.is_empty()).then_some(Decoder {
            layers,
            limit,
            failed: None,
        }))
    }

    /// Takes the next piece of the encoded body, and appends what it decodes to.
    ///
    /// # Errors
    /// Where the body is damaged or too long: what could be decoded before is appended, and every later call fails.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let decoded = decode(&mut self.layers, piece, self.limit, out);
        self.failed = decoded.err();
        decoded
    }

    /// The body has ended.
    ///
    /// # Errors
    /// Where its encoding has not, or an earlier piece failed.
    pub fn finish(self) -> Result<(), DecodeError> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let open = self.layers.iter().find(|layer| !layer.codec.may_end());
        open.map_or(Ok(()), |layer| Err(DecodeError::Truncated(layer.codec.name())))
    }
}

fn unknown(name: &str) -> UnknownEncoding {
    UnknownEncoding(name.chars().take(40).collect())
}

/// Sends a piece through the first layer, and what it gives through the others; at most [`MAX_LAYERS`] deep.
fn decode(layers: &mut [Layer], piece: &[u8], limit: u64, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let Some((layer, others)) = layers.split_first_mut() else {
        out.extend_from_slice(piece);
        return Ok(());
    };
    let mut rest = piece;
    loop {
        let step = layer.codec.step(rest, &mut layer.buffer);
        rest = &rest[step.read..];
        let room = usize::try_from(limit - layer.given).unwrap_or(usize::MAX);
        let allowed = step.written.min(room);
        layer.given += allowed as u64;
        decode(others, &layer.buffer[..allowed], limit, out)?;
        if allowed < step.written {
            return Err(DecodeError::TooLong(limit));
        }
        if step.damaged {
            return Err(DecodeError::Damaged(layer.codec.name()));
        }
        if step.read == 0 && step.written == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
