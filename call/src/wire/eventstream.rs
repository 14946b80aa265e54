//! AWS's binary event stream, as Bedrock streams: framed messages with headers and checksums.
//!
//! A message is a prelude (total length, length of the headers, CRC of the two), headers, a payload and a CRC of all
//! before it; numbers are big-endian. Borrows the payloads; never looks into them. Writes such messages too.

use std::borrow::Cow;

use serde_json::json;

use super::event::{Event, MAX_EVENT};

/// Bytes of a prelude.
pub(super) const PRELUDE: usize = 12;
/// Bytes of the checksum that ends a message.
const CHECKSUM: usize = 4;

/// Iterator over the messages of a body.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Messages<'a> {
    /// The messages of a whole body.
    pub fn new(body: &'a [u8]) -> Messages<'a> {
        Messages { body, at: 0 }
    }

    /// Where the next message begins.
    pub(crate) fn position(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Event<'a>;

    /// A message whose checksum is wrong is noted and the next one read. Where a prelude is damaged, nobody knows where
    /// the next message begins: what is left is noted as one.
    fn next(&mut self) -> Option<Event<'a>> {
        let rest = self.body.get(self.at..)?;
        let (prelude, _) = rest.split_first_chunk::<PRELUDE>()?;
        let Some(lengths) = Lengths::of(prelude) else {
            self.at = self.body.len();
            return Some(damaged(self.at));
        };
        let message = rest.get(..lengths.total)?;
        self.at += lengths.total;
        Some(
            event(message, &lengths)
                .unwrap_or_else(|| damaged(self.at))
                .ending(self.at),
        )
    }
}

impl Event<'_> {
    fn ending(self, end: usize) -> Self {
        Event { end, ..self }
    }
}

/// A message that could not be read, as one that was too long.
fn damaged<'a>(end: usize) -> Event<'a> {
    Event {
        name: Cow::Borrowed(""),
        data: Cow::Borrowed(b""),
        oversize: true,
        end,
    }
}

/// The lengths that a prelude states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    /// Bytes of the whole message.
    pub(super) total: usize,
    /// Bytes of its headers.
    pub(super) headers: usize,
}

impl Lengths {
    /// None where the prelude's checksum is wrong, or its lengths contradict each other.
    pub(super) fn of(prelude: &[u8; PRELUDE]) -> Option<Lengths> {
        let total = number(prelude, 0)?;
        let headers = number(prelude, 4)?;
        let is_whole = u32::try_from(number(prelude, 8)?).ok()? == crc32fast::hash(&prelude[..8]);
        let fits = headers.checked_add(PRELUDE + CHECKSUM)? <= total;
        (is_whole && fits).then_some(Lengths { total, headers })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let digits = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes(*digits)).ok()
}

/// The event of a whole message; none where it is damaged.
fn event<'a>(message: &'a [u8], lengths: &Lengths) -> Option<Event<'a>> {
    let (checked, checksum) = message.split_last_chunk::<CHECKSUM>()?;
    if crc32fast::hash(checked) != u32::from_be_bytes(*checksum) {
        return None;
    }
    let (headers, payload) = checked.get(PRELUDE..)?.split_at_checked(lengths.headers)?;
    let names = Names::of(headers)?;
    let data = match &names.error_message {
        // Errors of the transport have no payload: their message is a header.
        Some(message) if payload.is_empty() => {
            Cow::Owned(json!({ "message": message.as_ref() }).to_string().into_bytes())
        }
        _ => Cow::Borrowed(payload),
    };
    let oversize = data.len() > MAX_EVENT;
    Some(Event {
        name: names.event_name(),
        data: if oversize { Cow::Borrowed(b"") } else { data },
        oversize,
        end: 0,
    })
}

/// What the headers of a message say that it is.
#[derive(Default)]
pub(super) struct Names<'a> {
    message_type: Cow<'a, str>,
    event_type: Cow<'a, str>,
    exception_type: Cow<'a, str>,
    error_message: Option<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    /// None where the headers are no headers.
    pub(super) fn of(headers: &'a [u8]) -> Option<Names<'a>> {
        let mut names = Names::default();
        let mut rest = headers;
        while !rest.is_empty() {
            let (name, value, after) = header(rest)?;
            rest = after;
            let value = String::from_utf8_lossy(value);
            match name {
                b":message-type" => names.message_type = value,
                b":event-type" => names.event_type = value,
                b":exception-type" | b":error-code" => names.exception_type = value,
                b":error-message" => names.error_message = Some(value),
                _ => {}
            }
        }
        Some(names)
    }

    /// Whether the message is the event of this name.
    pub(super) fn is_event(&self, name: &str) -> bool {
        self.event_type == name && !self.is_exception()
    }

    fn is_exception(&self) -> bool {
        matches!(self.message_type.as_ref(), "exception" | "error")
    }

    /// The name of the event, of an exception with `exception:` in front.
    pub(super) fn event_name(self) -> Cow<'a, str> {
        if self.is_exception() {
            Cow::Owned(format!("exception:{}", self.exception_type))
        } else {
            self.event_type
        }
    }
}

/// The first header: its name, its value's bytes, and what follows it.
fn header(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&name_length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(name_length))?;
    let (&kind, rest) = rest.split_first()?;
    let (length, rest) = match kind {
        // True and false are kinds of their own.
        0 | 1 => (0, rest),
        2 => (1, rest),
        3 => (2, rest),
        4 => (4, rest),
        // A 64-bit number, and a time in milliseconds.
        5 | 8 => (8, rest),
        // Bytes and text say how long they are.
        6 | 7 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        // A UUID.
        9 => (16, rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((name, value, rest))
}

/// Whether a body begins with the prelude of a message.
pub(super) fn looks_like(body: &[u8]) -> bool {
    body.first_chunk().and_then(Lengths::of).is_some()
}

/// Whether a body begins with a message that is whole, or with what is none.
pub(crate) fn begins_whole(body: &[u8]) -> bool {
    body.first_chunk()
        .is_some_and(|prelude| Lengths::of(prelude).is_none_or(|lengths| lengths.total <= body.len()))
}

/// Appends an event as Bedrock sends it.
pub fn write_event(name: &str, payload: &serde_json::Value, out: &mut Vec<u8>) {
    let headers = [
        (":event-type", name),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    out.extend(message(&headers, payload.to_string().as_bytes()));
}

/// Appends an exception, which ends a stream.
pub fn write_exception(name: &str, payload: &serde_json::Value, out: &mut Vec<u8>) {
    let headers = [
        (":exception-type", name),
        (":content-type", "application/json"),
        (":message-type", "exception"),
    ];
    out.extend(message(&headers, payload.to_string().as_bytes()));
}

/// A message of these headers; what is longer than a length can say is cut.
pub(super) fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut written = Vec::new();
    for (name, value) in headers {
        let name = &name.as_bytes()[..name.len().min(usize::from(u8::MAX))];
        let value = &value.as_bytes()[..value.len().min(usize::from(u16::MAX))];
        written.push(name.len() as u8);
        written.extend_from_slice(name);
        written.push(7);
        written.extend_from_slice(&(value.len() as u16).to_be_bytes());
        written.extend_from_slice(value);
    }
    framed(&written, payload)
}

/// An event as Bedrock sends it, for tests of what is built on this framing.
#[cfg(test)]
pub(super) fn event_message(name: &str, payload: &serde_json::Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_event(name, payload, &mut out);
    out
}

fn framed(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = PRELUDE + headers.len() + payload.len() + CHECKSUM;
    let mut message = Vec::new();
    message.extend_from_slice(&(total as u32).to_be_bytes());
    message.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    message.extend_from_slice(&crc32fast::hash(&message).to_be_bytes());
    message.extend_from_slice(headers);
    message.extend_from_slice(payload);
    message.extend_from_slice(&crc32fast::hash(&message).to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn named(body: &[u8]) -> Vec<(String, String, bool, usize)> {
        Messages::new(body)
            .map(|event| {
                let data = String::from_utf8_lossy(&event.data).into_owned();
                (event.name.into_owned(), data, event.oversize, event.end)
            })
            .collect()
    }

    fn row(name: &str, data: &str, oversize: bool, end: usize) -> (String, String, bool, usize) {
        (name.into(), data.into(), oversize, end)
    }

    #[test]
    fn messages_are_named_by_event_exception_or_error() {
        let event = event_message("messageStart", &json!({"role": "assistant"}));
        let exception = message(
            &[
                (":message-type", "exception"),
                (":exception-type", "throttlingException"),
            ],
            b"{\"message\":\"slow down\"}",
        );
        let error = message(
            &[
                (":message-type", "error"),
                (":error-code", "InternalError"),
                (":error-message", "oh \"no\""),
            ],
            b"",
        );
        let body = [event.as_slice(), &exception, &error].concat();
        assert!(looks_like(&body));
        assert_eq!(
            named(&body),
            [
                row("messageStart", "{\"role\":\"assistant\"}", false, event.len()),
                row(
                    "exception:throttlingException",
                    "{\"message\":\"slow down\"}",
                    false,
                    event.len() + exception.len()
                ),
                row(
                    "exception:InternalError",
                    "{\"message\":\"oh \\\"no\\\"\"}",
                    false,
                    body.len()
                ),
            ]
        );
    }

    #[test]
    fn headers_of_every_kind_are_skipped() {
        let mut headers = Vec::new();
        for (kind, value) in [
            (0u8, vec![]),
            (1, vec![]),
            (2, vec![7]),
            (3, vec![0; 2]),
            (4, vec![0; 4]),
            (5, vec![0; 8]),
            (6, vec![0, 3, 1, 2, 3]),
            (7, vec![0, 1, b'x']),
            (8, vec![0; 8]),
            (9, vec![0; 16]),
        ] {
            headers.extend_from_slice(b"\x01h");
            headers.push(kind);
            headers.extend(value);
        }
        headers.extend_from_slice(b"\x0b:event-type\x07\x00\x01e");
        let body = framed(&headers, b"{}");
        assert_eq!(named(&body), [row("e", "{}", false, body.len())]);
        headers.extend_from_slice(b"\x01h\x0a");
        let unknown_kind = framed(&headers, b"{}");
        assert_eq!(named(&unknown_kind), [row("", "", true, unknown_kind.len())]);
    }

    #[test]
    fn a_damaged_message_is_noted_and_the_next_one_read() {
        let first = event_message("a", &json!({"text": "abc"}));
        let second = event_message("b", &json!({}));
        let mut body = [first.as_slice(), &second].concat();
        let end = body.len();
        body[first.len() - 6] ^= 1;
        assert_eq!(
            named(&body),
            [row("", "", true, first.len()), row("b", "{}", false, end)]
        );
        // Without a whole prelude nobody knows where the next message begins.
        body[first.len() + 9] ^= 1;
        assert_eq!(named(&body), [row("", "", true, first.len()), row("", "", true, end)]);
        body[9] ^= 1;
        assert_eq!(named(&body), [row("", "", true, end)]);
        assert!(!looks_like(&body));
    }

    #[test]
    fn a_cut_message_ends_the_stream() {
        let first = event_message("a", &json!({}));
        let body = [first.as_slice(), &event_message("b", &json!({}))].concat();
        for length in 0..body.len() {
            let whole = usize::from(length >= first.len());
            assert_eq!(Messages::new(&body[..length]).count(), whole, "cut at {length}");
        }
    }

    #[test]
    fn an_oversize_message_is_noted() {
        let long = event_message("a", &json!("x".repeat(MAX_EVENT)));
        let body = [long.as_slice(), &event_message("b", &json!({}))].concat();
        assert_eq!(
            named(&body),
            [row("a", "", true, long.len()), row("b", "{}", false, body.len())]
        );
    }

    #[test]
    fn json_and_events_are_no_binary_stream() {
        for body in [
            "",
            "{\"message\":\"no\"}",
            "data: {}\n\ndata: {}\n\n",
            "[{\"a\":1}]            ",
        ] {
            assert!(!looks_like(body.as_bytes()), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            body in prop::collection::vec(any::<u8>(), 0..300),
            headers in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            for event in Messages::new(&body) {
                prop_assert!(event.end <= body.len());
            }
            let whole = framed(&headers, &body);
            prop_assert_eq!(Messages::new(&whole).count(), 1);
        }
    }
}
