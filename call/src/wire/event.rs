//! One event of a stream, whatever frames it.

use std::borrow::Cow;

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
