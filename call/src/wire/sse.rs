//! Server-sent events of a byte slice, as the WHATWG standard frames them: LF, CRLF or CR, a byte order mark, comments,
//! data of many lines.
//!
//! Borrows from the slice and copies only data of more than one line, up to [`MAX_EVENT`]. Never looks into the data.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::event::{Event, MAX_EVENT};
use super::json::without_bom;

/// Iterator over the events of a slice.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    body: &'a [u8],
    at: usize,
    /// Whether more bytes may follow the slice.
    open: bool,
}

impl<'a> Events<'a> {
    /// The events of a whole stream. An event that lacks only the blank line after it is given too: streams that break
    /// off, and a few servers, end like this.
    pub fn new(body: &'a [u8]) -> Events<'a> {
        Events {
            body,
            at: body.len() - without_bom(body).len(),
            open: false,
        }
    }

    /// The finished events of a stream of which more is to come: what lies after [`Events::position`] is to be given
    /// again, with the bytes that follow it.
    pub fn of_open_stream(body: &'a [u8]) -> Events<'a> {
        Events {
            open: true,
            ..Events::new(body)
        }
    }

    /// What follows the events given before, of a stream whose first bytes are behind: a byte order mark counts there alone.
    /// With `open`, more is to come.
    pub fn resumed(body: &'a [u8], open: bool) -> Events<'a> {
        Events { body, at: 0, open }
    }

    /// How many bytes of the slice the events given so far took up.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The line at `start` without its ending, and where the next one starts.
    fn line_at(&self, start: usize) -> Option<(&'a [u8], usize)> {
        let rest = self.body.get(start..).filter(|rest| !rest.is_empty())?;
        match memchr2(b'\n', b'\r', rest) {
            Some(length) => {
                let is_crlf = rest[length] == b'\r' && rest.get(length + 1) == Some(&b'\n');
                Some((&rest[..length], start + length + if is_crlf { 2 } else { 1 }))
            }
            None if self.open => None,
            None => Some((rest, self.body.len())),
        }
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        let mut event = Event {
            name: Cow::Borrowed(""),
            data: Cow::Borrowed(b""),
            oversize: false,
            end: 0,
        };
        let mut has_data_line = false;
        let mut next_line = self.at;
        while let Some((line, after)) = self.line_at(next_line) {
            next_line = after;
            if !line.is_empty() {
                event.take_line(line, &mut has_data_line);
                continue;
            }
            self.at = after;
            if event.has_data() {
                event.end = after;
                return Some(event);
            }
            // A blank line ends an event even where it has no data: its type must not stick to the next.
            event.name = Cow::Borrowed("");
            has_data_line = false;
        }
        if self.open || !event.has_data() {
            return None;
        }
        self.at = self.body.len();
        event.end = self.at;
        Some(event)
    }
}

impl<'a> Event<'a> {
    fn has_data(&self) -> bool {
        self.oversize || !self.data.is_empty()
    }

    fn take_line(&mut self, line: &'a [u8], has_data_line: &mut bool) {
        let (field, value) = match memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.take_data(value, has_data_line),
            b"event" => self.name = String::from_utf8_lossy(value),
            // Not in the standard: llama.cpp's servers and their kin end a broken stream with `error: {…}`.
            b"error" => {
                self.name = Cow::Borrowed("error");
                self.take_data(value, has_data_line);
            }
            _ => {}
        }
    }

    fn take_data(&mut self, value: &'a [u8], has_data_line: &mut bool) {
        if self.oversize || self.data.len() + value.len() > MAX_EVENT {
            self.oversize = true;
            self.data = Cow::Borrowed(b"");
        } else if *has_data_line {
            let data = self.data.to_mut();
            data.push(b'\n');
            data.extend_from_slice(value);
        } else {
            *has_data_line = true;
            self.data = Cow::Borrowed(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(body: &str) -> Vec<(String, String)> {
        let text = |event: Event<'_>| {
            (
                event.name.to_string(),
                String::from_utf8_lossy(&event.data).into_owned(),
            )
        };
        Events::new(body.as_bytes()).map(text).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(name, data)| (name.to_string(), data.to_string()))
            .collect()
    }

    #[test]
    fn every_line_ending_and_mix_of_them_frames_the_same() {
        let lines =
            "\u{feff}: hi\nevent: a\ndata: 1\ndata:2\ndata\n\nevent: lost\n\ndata:  x\nid: 7\nretry: 1\nfoo: 2\n\n";
        let want = pairs(&[("a", "1\n2\n"), ("", " x")]);
        for ending in ["\n", "\r\n", "\r"] {
            assert_eq!(all(&lines.replace('\n', ending)), want, "{ending:?}");
        }
        assert_eq!(
            all("data: 1\r\ndata: 2\r\rdata: 3\n\r\n"),
            pairs(&[("", "1\n2"), ("", "3")])
        );
    }

    #[test]
    fn a_last_event_needs_no_blank_line_but_needs_data() {
        assert_eq!(all("data: 1\n\ndata: 2"), pairs(&[("", "1"), ("", "2")]));
        assert_eq!(all("data: 1\n\nevent: x\n"), pairs(&[("", "1")]));
    }

    #[test]
    fn the_error_field_of_llama_servers_is_an_error_event() {
        assert_eq!(all("error: {\"code\":500}\n\n"), pairs(&[("error", "{\"code\":500}")]));
    }

    #[test]
    fn an_oversize_event_is_noted_and_the_next_one_read() {
        let line = format!("data: {}\n", "x".repeat(MAX_EVENT / 2));
        let body = format!("{line}{line}{line}\ndata: ok\n\n");
        let events: Vec<Event<'_>> = Events::new(body.as_bytes()).collect();
        assert_eq!(events.len(), 2);
        assert!(events[0].oversize && events[0].data.is_empty());
        assert_eq!((events[1].data.as_ref(), events[1].end), (b"ok".as_slice(), body.len()));
        let no_newline = vec![b'd'; 4 * MAX_EVENT];
        assert_eq!(Events::new(&no_newline).count(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_events_of_the_whole(
            body in "(data|event|error|:|x|[ \n\r]|: |é|\u{feff}){0,40}",
            cut in 1usize..9,
        ) {
            let body = body.as_bytes();
            let whole: Vec<_> = Events::of_open_stream(body).map(|e| (e.name.into_owned(), e.data.into_owned())).collect();
            let mut pieced = Vec::new();
            let mut start = 0;
            for end in (cut..body.len()).step_by(cut).chain([body.len()]) {
                let mut events = Events::resumed(&body[start..end], true);
                if start == 0 { events = Events::of_open_stream(&body[..end]); }
                pieced.extend(events.by_ref().map(|e| (e.name.into_owned(), e.data.into_owned())));
                start += events.position();
            }
            prop_assert_eq!(pieced, whole);
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            for event in Events::new(&body) {
                prop_assert!(event.end <= body.len());
            }
        }
    }
}
