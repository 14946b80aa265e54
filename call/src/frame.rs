//! What the proxy hands to the collector: a [`RawCall`], one frame of the spool.
//!
//! Holds unmasked bodies, so it exists only in memory and inside encrypted segments ([`crate::segment`]).
//! Headers are not in it: what is kept of them are the fields of [`FrameHead`], none of which can hold a credential.

use crate::call::{Api, Usage};
use crate::record::{Attempt, Outcome};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the frame's layout; readers know this one and the one before.
pub const FRAME_VERSION: u8 = 1;

/// The most response pieces whose arrival is kept; later ones count into the last.
pub const MAX_PIECES: usize = 8192;

/// Why a copied body is missing or not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyNote {
    /// The budget for copies was used up.
    Budget,
    /// Longer than `max_routed_body`: cut there.
    Cut,
    /// Excluded by config or by the client.
    Excluded,
    /// Not parsed, or not whole, kept as text.
    ParseError,
    /// As [`BodyNote::ParseError`]: JSON that nests too deeply.
    TooDeep,
    /// The content encoding is unknown, damaged, or decodes to too much: kept as far as it could be decoded.
    Encoding,
}

impl BodyNote {
    /// The word in the `body_note` column.
    pub fn as_str(self) -> &'static str {
        match self {
            BodyNote::Budget => "budget",
            BodyNote::Cut => "cut",
            BodyNote::Excluded => "excluded",
            BodyNote::ParseError => "parse_error",
            BodyNote::TooDeep => "parse_error:depth",
            BodyNote::Encoding => "encoding",
        }
    }
}

/// All that the proxy knows of a call besides its bodies. Times are monotonic, from the request's first byte.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FrameHead {
    /// UUIDv7 of the call.
    pub call_id: String,
    /// UUID of the proxy process.
    pub boot_id: String,
    /// Number of the call within the boot, from 1.
    pub sequence: u64,
    /// Microseconds since the epoch at the call's start, by the wall clock.
    pub started_at: i64,
    /// The upstream that the call was addressed to.
    pub upstream: String,
    /// The wire format, as the path tells.
    pub api: Option<Api>,
    /// The model asked for, where the body is not kept: of a form, a query, or the beginning of a JSON body.
    pub request_model: Option<String>,
    /// The model that answered, where the kept response names the one asked for: a candidate's.
    pub response_model: Option<String>,
    /// The route that matched.
    pub route: Option<String>,
    /// The upstream of the split that served, where there is a split.
    pub arm: Option<String>,
    /// HTTP method.
    pub method: String,
    /// Path without the upstream's segment; the query is left out.
    pub path: String,
    /// Status that the client saw.
    pub status: Option<u16>,
    /// The response's media type.
    pub content_type: Option<String>,
    /// The response's content encoding: the copied body is still encoded.
    pub content_encoding: Option<String>,
    /// The request's content encoding.
    pub request_encoding: Option<String>,
    /// How the call ended, as far as HTTP tells.
    pub outcome: Outcome,
    /// Our own error text, where we answered.
    pub error: Option<String>,
    /// Request body bytes on the wire.
    pub request_bytes: u64,
    /// Response body bytes on the wire.
    pub response_bytes: u64,
    /// Tokens that the response's headers tell, where they do.
    pub header_usage: Option<Usage>,
    /// Why a copied body is not whole.
    pub body_note: Option<BodyNote>,
    /// Microseconds to the first piece of the response body.
    pub first_chunk_us: Option<u64>,
    /// Microseconds to the upstream's last byte.
    pub duration_us: Option<u64>,
    /// Own time, microseconds.
    pub overhead_us: Option<u64>,
    /// `(bytes, microseconds since start)` of each piece of a streamed response, at most [`MAX_PIECES`].
    pub pieces: Vec<(u32, u64)>,
    /// HMAC of the client's credential.
    pub client_id: Option<String>,
    /// HMAC of the IP address that the call came from.
    pub address_id: Option<String>,
    /// Which key made the HMACs.
    pub key_id: Option<String>,
    /// Keyed hash that decides the bucket of a split.
    pub affinity_key: Option<String>,
    /// Pseudonym of the conversation, where the client names one.
    pub conversation: Option<String>,
    /// Trace id of the client's `traceparent`.
    pub trace_id: Option<String>,
    /// `x-understudy-tag-<name>`.
    pub tags: BTreeMap<String, String>,
    /// The task by which the proxy routed.
    pub task_id: Option<String>,
    /// How sure it was.
    pub task_confidence: Option<f64>,
    /// Version of its task book; set also where the book gave no task.
    pub taskbook_version: Option<i32>,
    /// Hash of the config in force.
    pub config_hash: Option<String>,
    /// All attempts in order; empty where none was made.
    pub attempts: Vec<Attempt>,
}

/// One call as captured: head and unmasked bodies as they were on the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawCall {
    /// What the proxy knows.
    pub head: FrameHead,
    /// Copied request body.
    pub request: Vec<u8>,
    /// Copied response body.
    pub response: Vec<u8>,
}

/// A frame that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its own lengths say.
    #[error("the frame is shorter than its lengths say")]
    Short,
    /// Written by another version.
    #[error("the frame has version {0}, this program reads version {FRAME_VERSION}")]
    Version(u8),
    /// The head is not the JSON of a [`FrameHead`].
    #[error("the frame's head can't be read: {0}")]
    Head(#[from] serde_json::Error),
}

/// Appends the frame's plain bytes to `out`: version, head length, head (JSON), request length, request, response.
///
/// # Errors
/// Where the head can't be serialised, or a length is over 4 GiB.
pub fn encode<'a>(
    out: &mut Vec<u8>,
    head: &FrameHead,
    request: impl IntoIterator<Item = &'a [u8]>,
    response: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), FrameError> {
    out.push(FRAME_VERSION);
    append_with_length(out, |out| serde_json::to_writer(out, head).map_err(FrameError::from))?;
    append_with_length(out, |out| {
        request.into_iter().for_each(|piece| out.extend_from_slice(piece));
        Ok(())
    })?;
    response.into_iter().for_each(|piece| out.extend_from_slice(piece));
    Ok(())
}

/// Appends four bytes of length, and then what `write` appends.
fn append_with_length(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), FrameError>,
) -> Result<(), FrameError> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let length = u32::try_from(out.len() - at - 4).map_err(|_| FrameError::Short)?;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// The call in a frame's plain bytes.
///
/// # Errors
/// Where the bytes are not those of [`encode`].
pub fn decode(bytes: &[u8]) -> Result<RawCall, FrameError> {
    let (&version, rest) = bytes.split_first().ok_or(FrameError::Short)?;
    if version != FRAME_VERSION {
        return Err(FrameError::Version(version));
    }
    let (head, rest) = take_with_length(rest)?;
    let (request, response) = take_with_length(rest)?;
    Ok(RawCall {
        head: serde_json::from_slice(head)?,
        request: request.to_vec(),
        response: response.to_vec(),
    })
}

/// What the proxy knows of a call, without its bodies.
///
/// # Errors
/// As [`decode`].
pub fn decode_head(bytes: &[u8]) -> Result<FrameHead, FrameError> {
    let (&version, rest) = bytes.split_first().ok_or(FrameError::Short)?;
    if version != FRAME_VERSION {
        return Err(FrameError::Version(version));
    }
    Ok(serde_json::from_slice(take_with_length(rest)?.0)?)
}

fn take_with_length(bytes: &[u8]) -> Result<(&[u8], &[u8]), FrameError> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(FrameError::Short)?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
        .ok_or(FrameError::Short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_comes_back() {
        let head = FrameHead {
            call_id: "c".into(),
            sequence: 7,
            pieces: vec![(3, 9)],
            ..Default::default()
        };
        let mut bytes = Vec::new();
        encode(&mut bytes, &head, [b"req".as_slice()], [b"res".as_slice(), b"ponse"]).unwrap();
        let call = decode(&bytes).unwrap();
        assert_eq!(
            call,
            RawCall {
                head,
                request: b"req".to_vec(),
                response: b"response".to_vec()
            }
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_a_call_but_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
