//! Lines of JSON (NDJSON), as Ollama streams them.
//!
//! Borrows from the body; never looks into the JSON.

use std::borrow::Cow;

use super::event::{Event, MAX_EVENT};

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(body: &[u8]) -> Vec<(&[u8], usize)> {
        let borrowed = |line: Event<'_>| (line.end, line.data.len());
        let found: Vec<(usize, usize)> = Lines::new(body).map(borrowed).collect();
        let text_of = |(end, length): (usize, usize)| {
            let line = body[..end].trim_ascii_end();
            (&line[line.len() - length..], end)
        };
        found.into_iter().map(text_of).collect()
    }

    #[test]
    fn blank_lines_and_carriage_returns_are_left_out() {
        let body = b"\xef\xbb\xbf{\"a\":1}\r\n\r\n \n\t{\"b\":2} \n{\"c\":";
        let expected: [(&[u8], usize); 3] = [(b"{\"a\":1}", 12), (b"{\"b\":2}", 26), (b"{\"c\":", 31)];
        assert_eq!(lines(body), expected);
        assert_eq!(lines(b"\n \r\n"), []);
    }

    #[test]
    fn an_oversize_line_is_noted_and_the_next_one_read() {
        let body = format!("\"{}\"\n1", "x".repeat(MAX_EVENT));
        let events: Vec<Event<'_>> = Lines::new(body.as_bytes()).collect();
        assert!(events[0].oversize && events[0].data.is_empty());
        assert_eq!((events[1].data.as_ref(), events[1].end), (b"1".as_slice(), body.len()));
    }

    #[test]
    fn lines_are_known_by_the_second_one() {
        for (body, expected) in [
            ("{\"a\":1}\n{\"b\":", true),
            ("\r\n{\"a\":1}\r\n\r\n{\"b\":2}\r\n", true),
            ("{\"a\":1}\n", false),
            ("{\n  \"a\": {}\n}\n", false),
            ("{\"a\":1}\n[2]", false),
            ("", false),
        ] {
            assert_eq!(looks_like(body.as_bytes()), expected, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_text(texts in prop::collection::vec("[a-z{}\" é\r]{0,8}", 0..10), ends in any::<bool>()) {
            let body = texts.join("\n") + if ends { "\n" } else { "" };
            let expected: Vec<&[u8]> =
                texts.iter().map(|text| text.as_bytes().trim_ascii()).filter(|text| !text.is_empty()).collect();
            let found: Vec<Event<'_>> = Lines::new(body.as_bytes()).collect();
            prop_assert!(found.iter().all(|line| line.end <= body.len()));
            let found: Vec<&[u8]> = found.iter().map(|line| line.data.as_ref()).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            looks_like(&body);
            prop_assert!(Lines::new(&body).all(|line| line.end <= body.len()));
        }
    }
}
