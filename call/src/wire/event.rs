//! One event of a stream, whatever frames it.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::json;

/// The most data bytes of one event; a longer one is yielded empty, marked [`Event::oversize`].
pub const MAX_EVENT: usize = 1 << 20;

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event's type, invalid UTF-8 replaced; empty where the framing or the sender gives none. Of a binary event
    /// stream `:event-type`, or `exception:` and `:exception-type`.
    pub name: Cow<'a, str>,
    /// The event's data; of server-sent events the data lines, joined by LF.
    pub data: Cow<'a, [u8]>,
    /// The data is left out: it was longer than [`MAX_EVENT`], or a binary message was damaged on its way.
    pub oversize: bool,
    /// Offset in the body of the byte after the event.
    pub end: usize,
}

/// What an event says, in an API whose events are JSON objects.
pub(super) enum Said {
    /// An object, of which the API decides.
    Object(Map<String, Value>),
    /// An error event that is no object.
    Error(Value),
    /// `[DONE]`, which gateways between OpenAI's API and others send too.
    Done,
    /// Nothing that can be read.
    Unreadable,
}

impl Event<'_> {
    /// The error that an exception in a binary stream is: what it says, and its type.
    pub(crate) fn exception(&self) -> Option<Value> {
        let kind = self.name.strip_prefix("exception:")?;
        match json::parse(&self.data) {
            Ok(Value::Object(mut said)) => {
                said.entry("type").or_insert_with(|| kind.into());
                Some(Value::Object(said))
            }
            _ => Some(serde_json::json!({"type": kind, "message": String::from_utf8_lossy(&self.data)})),
        }
    }

    /// Reads the data.
    pub(super) fn said(&self) -> Said {
        match json::parse(&self.data) {
            _ if self.oversize => Said::Unreadable,
            Ok(Value::Object(object)) => Said::Object(object),
            _ if self.data.trim_ascii() == b"[DONE]" => Said::Done,
            _ if self.name == "error" => Said::Error(String::from_utf8_lossy(&self.data).into()),
            _ => Said::Unreadable,
        }
    }
}
