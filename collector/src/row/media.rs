//! Leaves media out of bodies: long runs of base64 become a short marker with their kind, size and keyed digest.
//!
//! Looks at bytes, not at any API's shape: nothing in JSON but data has thousands of base64 characters in a row. All
//! other bytes stay as they are, and JSON stays JSON. Takes time linear in the body, and mostly far less.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use understudy_call::keys::{Key, keyed_digest};

/// The longest base64, in characters, that stays.
pub(super) const LIMIT: usize = 4096;

/// Base64 over several lines has lines no shorter than this; words one below the other are shorter.
const SHORTEST_LINE: usize = 60;

/// How far back the beginning of a data URL may be.
const LONGEST_TYPE: usize = 128;

/// What else is base64 and long, is no media, and is needed to go on with a conversation.
const OPAQUE_KEYS: [&[u8]; 5] = [
    b"signature",
    b"thoughtSignature",
    b"thought_signature",
    b"encrypted_content",
    b"redactedContent",
];

/// Where the APIs put media. Elsewhere base64 must look like it, not like one letter repeated.
const MEDIA_KEYS: [&[u8]; 6] = [b"data", b"bytes", b"b64_json", b"file_data", b"images", b"image"];

const DECODER: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The body with markers such as `media:image/png;bytes=12345;digest=0123456789abcdef0123456789abcdef`.
pub(super) fn left_out<'a>(key: &Key, body: &'a [u8]) -> Cow<'a, [u8]> {
    let mut out = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    while at < body.len() {
        // Base64 that begins within the limit and is longer than that goes on here.
        let ahead = at + LIMIT;
        if !body.get(ahead).is_some_and(is_inside) {
            at = ahead + 1;
            continue;
        }
        let start = body[at..ahead]
            .iter()
            .rposition(|byte| !is_inside(byte))
            .map_or(at, |last| at + last + 1);
        let end = body[ahead..]
            .iter()
            .position(|byte| !is_inside(byte))
            .map_or(body.len(), |first| ahead + first);
        let runs = Runs { body, at: start, end };
        for run in runs.filter(|run| run.len() > LIMIT && is_media(body, run)) {
            let (url, kind) = data_url(&body[copied..run.start]).unwrap_or((run.start - copied, None));
            out.extend_from_slice(&body[copied..copied + url]);
            out.extend_from_slice(marker(key, kind, &body[run.clone()]).as_bytes());
            copied = run.end;
        }
        at = end + 1;
    }
    if copied == 0 {
        return Cow::Borrowed(body);
    }
    out.extend_from_slice(&body[copied..]);
    Cow::Owned(out)
}

/// Whether a kept body has lost media: it can't be sent again.
pub(crate) fn is_missing_in(body: &str) -> bool {
    body.match_indices("media:").any(|(start, _)| {
        let marker = body.as_bytes()[start..].iter().take(2 * LONGEST_TYPE).copied();
        let marker: Vec<u8> = marker.take_while(|byte| *byte != b'"').collect();
        let holds = |word: &[u8]| memchr::memmem::find(&marker, word).is_some();
        holds(b";bytes=") && holds(b";digest=")
    })
}

/// Of base64, of either alphabet, or of the escapes that JSON puts in between.
fn is_inside(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'\\')
}

/// The runs of base64 in a stretch of bytes that are all inside. Slashes may be escaped, and line ends lie between lines.
struct Runs<'a> {
    body: &'a [u8],
    at: usize,
    end: usize,
}

impl Iterator for Runs<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if self.at >= self.end {
            return None;
        }
        let start = self.at;
        let mut line = 0;
        while self.at < self.end {
            if self.body[self.at] != b'\\' {
                self.at += 1;
                line += 1;
                continue;
            }
            let run_end = self.at;
            while self.at < self.end && self.body[self.at] == b'\\' {
                self.at += 1;
            }
            let escaped = self.body[self.at..self.end].first();
            self.at += 1;
            match escaped {
                Some(b'/') => line += 1,
                // Of CR and LF the second ends an empty line.
                Some(b'n' | b'r') if line == 0 || line >= SHORTEST_LINE => line = 0,
                _ => return Some(start..run_end),
            }
        }
        self.at = self.end;
        let padding = self.body[self.end..]
            .iter()
            .take(2)
            .take_while(|byte| **byte == b'=')
            .count();
        Some(start..self.end + padding)
    }
}

fn is_media(body: &[u8], run: &Range<usize>) -> bool {
    let before = &body[..run.start];
    if before.ends_with(b"base64,") {
        return true;
    }
    let key = key_of(before);
    if OPAQUE_KEYS.contains(&key) {
        return false;
    }
    let run = &body[run.clone()];
    let looks_random = run.iter().any(u8::is_ascii_uppercase)
        && run.iter().any(u8::is_ascii_lowercase)
        && run.iter().any(u8::is_ascii_digit);
    looks_random || MEDIA_KEYS.contains(&key)
}

/// The key of the string that begins after `before`, where it is told; JSON may lie in a string, quotes escaped.
fn key_of(before: &[u8]) -> &[u8] {
    let is_between = |byte: &u8| matches!(byte, b'"' | b'\\' | b':' | b'[' | b' ' | b'\n' | b'\r' | b'\t');
    let end = before
        .iter()
        .rposition(|byte| !is_between(byte))
        .map_or(0, |last| last + 1);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let looked_at = &before[end.saturating_sub(LONGEST_TYPE)..end];
    let start = looked_at
        .iter()
        .rposition(|byte| !is_name(byte))
        .map_or(0, |last| last + 1);
    if before[end..].contains(&b':') {
        &looked_at[start..]
    } else {
        &[]
    }
}

/// Where a data URL begins whose base64 begins after `before`, and the type that it names.
fn data_url(before: &[u8]) -> Option<(usize, Option<String>)> {
    let floor = before.len().saturating_sub(LONGEST_TYPE);
    let head = before[floor..].strip_suffix(b";base64,")?;
    let start = memchr::memmem::rfind(head, b"data:")?;
    let kind = head[start + 5..].split(|byte| *byte == b';').next().unwrap_or_default();
    let kind: String = kind
        .iter()
        .filter(|byte| **byte != b'\\')
        .map(|byte| char::from(*byte))
        .collect();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/.+-".contains(c);
    let is_kind = !kind.is_empty() && kind.chars().all(is_plain);
    Some((floor + start, is_kind.then_some(kind)))
}

/// What stands for media: the same for the same bytes, however they were written.
fn marker(key: &Key, kind: Option<String>, run: &[u8]) -> String {
    let characters = without_escapes(run);
    let bytes = DECODER.decode(&characters).unwrap_or(characters);
    let kind = kind.as_deref().unwrap_or_else(|| kind_of(&bytes));
    let digest = keyed_digest(key, [bytes.as_slice()]);
    format!("media:{kind};bytes={};digest={digest}", bytes.len())
}

/// The characters of standard base64 alone.
fn without_escapes(run: &[u8]) -> Vec<u8> {
    let mut characters = Vec::with_capacity(run.len());
    let mut escaped = false;
    for byte in run {
        let after_escape = std::mem::replace(&mut escaped, *byte == b'\\');
        match byte {
            b'\\' | b'=' => {}
            b'n' | b'r' if after_escape => {}
            b'-' => characters.push(b'+'),
            b'_' => characters.push(b'/'),
            byte => characters.push(*byte),
        }
    }
    characters
}

/// The media type that the first bytes tell.
fn kind_of(bytes: &[u8]) -> &'static str {
    const KINDS: [(usize, &[u8], &str); 12] = [
        (0, b"\x89PNG", "image/png"),
        (0, b"\xff\xd8\xff", "image/jpeg"),
        (0, b"GIF8", "image/gif"),
        (8, b"WEBP", "image/webp"),
        (8, b"WAVE", "audio/wav"),
        (0, b"ID3", "audio/mpeg"),
        (0, b"\xff\xfb", "audio/mpeg"),
        (0, b"OggS", "audio/ogg"),
        (4, b"ftyp", "video/mp4"),
        (0, b"\x1a\x45\xdf\xa3", "video/webm"),
        (0, b"%PDF", "application/pdf"),
        (0, b"PK\x03\x04", "application/zip"),
    ];
    let has = |(at, magic, _): &&(usize, &[u8], &str)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic));
    KINDS
        .iter()
        .find(has)
        .map_or("application/octet-stream", |(_, _, kind)| kind)
}

#[cfg(test)]
mod tests;
