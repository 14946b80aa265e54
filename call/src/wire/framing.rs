//! How a streamed body is cut into events: the framings, and one iterator over any of them.
//!
//! Knows where events begin and end, never what they say.

pub use super::event::{Event, MAX_EVENT};
use super::{array, eventstream, ndjson, sse};
use crate::call::Api;

/// How a stream frames its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// One JSON value a line (NDJSON).
    Lines,
    /// One JSON array that grows, an element an event.
    Array,
    /// AWS's binary event stream.
    EventStream,
}

/// The events of a whole streamed body.
#[derive(Clone, Debug)]
pub enum Events<'a> {
    /// Server-sent events.
    Sse(sse::Events<'a>),
    /// Lines of JSON.
    Lines(ndjson::Lines<'a>),
    /// Elements of an array.
    Array(array::Elements<'a>),
    /// Binary messages.
    EventStream(eventstream::Messages<'a>),
}

impl<'a> Events<'a> {
    /// The events of a body in this framing.
    pub fn new(framing: Framing, body: &'a [u8]) -> Events<'a> {
        match framing {
            Framing::Sse => Events::Sse(sse::Events::new(body)),
            Framing::Lines => Events::Lines(ndjson::Lines::new(body)),
            Framing::Array => Events::Array(array::Elements::new(body)),
            Framing::EventStream => Events::EventStream(eventstream::Messages::new(body)),
        }
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        match self {
            Events::Sse(events) => events.next(),
            Events::Lines(lines) => lines.next(),
            Events::Array(elements) => elements.next(),
            Events::EventStream(messages) => messages.next(),
        }
    }
}

/// The framing that a media type names, for the proxy, which must know before it has seen a byte; absent for bodies
/// that come in one piece. `path` tells the one stream that calls itself plain JSON (Gemini's growing array).
pub fn framing_named(api: Api, path: &str, content_type: Option<&str>) -> Option<Framing> {
    match essence(content_type).as_str() {
        "text/event-stream" => Some(Framing::Sse),
        "application/x-ndjson" | "application/stream+json" | "application/jsonl" => Some(Framing::Lines),
        "application/vnd.amazon.eventstream" => Some(Framing::EventStream),
        "application/json" if api == Api::Gemini && path.contains(":streamGenerateContent") => Some(Framing::Array),
        _ => None,
    }
}

/// The framing of a whole body; absent where it is no stream.
///
/// Content types lie both ways, and some servers send none: first bytes decide where they can, since no JSON body begins
/// like a stream of server-sent events, nor one of those like JSON.
pub(super) fn framing_of(api: Api, content_type: Option<&str>, body: &[u8]) -> Option<Framing> {
    if eventstream::looks_like(body) {
        return Some(Framing::EventStream);
    }
    let body = super::json::without_bom(body).trim_ascii_start();
    let begins_events = [b"data:".as_slice(), b"event:", b"id:", b"retry:", b":"];
    if begins_events.iter().any(|field| body.starts_with(field)) {
        return Some(Framing::Sse);
    }
    let named = framing_named(api, "", content_type);
    let looks_like_json = body.starts_with(b"{") || body.starts_with(b"[");
    match api {
        // No answer of this API but a stream is an array.
        Api::Gemini if body.starts_with(b"[") => Some(Framing::Array),
        Api::Ollama | Api::CohereChat if body.starts_with(b"{") => {
            let is_lines = named == Some(Framing::Lines) || ndjson::looks_like(body);
            is_lines.then_some(Framing::Lines)
        }
        _ if looks_like_json => None,
        _ => named,
    }
}

/// The media type without its parameters, in lower case.
fn essence(content_type: Option<&str>) -> String {
    let essence = content_type.unwrap_or_default().split(';').next();
    essence.unwrap_or_default().trim().to_ascii_lowercase()
}
