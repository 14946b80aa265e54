//! Lines of JSON (NDJSON), as Ollama streams them.
//!
//! Borrows from the body; never looks into the JSON.

use std::borrow::Cow;

use super::framing::{Event, MAX_EVENT};

/// Iterator over the lines of a body that are not blank.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    /// The lines of a whole body.
    pub fn new(body: &'a [u8]) -> Lines<'a> {
        Lines {
            body,
            at: body.len() - super::json::without_bom(body).len(),
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        loop {
            let rest = self.body.get(self.at..).filter(|rest| !rest.is_empty())?;
            let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |found| found + 1);
            self.at += length;
            let line = rest[..length].trim_ascii();
            if line.is_empty() {
                continue;
            }
            let oversize = line.len() > MAX_EVENT;
            return Some(Event {
                name: Cow::Borrowed(""),
                data: Cow::Borrowed(if oversize { b"" } else { line }),
                oversize,
                end: self.at,
            });
        }
    }
}

/// Whether a body is a line of JSON and the beginning of another.
pub(super) fn looks_like(body: &[u8]) -> bool {
    let mut lines = Lines::new(body);
    let is_object = |line: Event<'_>| line.data.starts_with(b"{") && line.data.ends_with(b"}");
    lines.next().is_some_and(is_object) && lines.next().is_some_and(|line| line.data.starts_with(b"{"))
}
