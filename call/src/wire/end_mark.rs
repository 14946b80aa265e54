//! Sees an API's end mark go by in a stream, on the hot path: what follows it is no part of the answer.
//!
//! Keeps the last few bytes only and allocates nothing per piece. Never parses JSON: a mark counts at the start of a
//! line alone, and JSON text holds no raw line ends, so what a model says can't look like one.

use memchr::memchr2;
use memchr::memmem::Finder;

use crate::call::Api;

/// Longer than the longest mark with its line's beginning, spaces included.
const TAIL: usize = 48;

/// The end mark of one API: the word, what may stand between the start of its line and the word, spaces aside, and what
/// must follow the word.
struct Mark {
    word: &'static [u8],
    before: &'static [&'static [u8]],
    after: &'static [&'static [u8]],
    /// The answer is complete with the marked event's end, since the event says something.
    whole_event: bool,
}

const CHAT: Mark = Mark {
    word: b"[DONE]",
    before: &[b"data:"],
    after: &[b""],
    whole_event: false,
};
/// Some gateways leave the `event:` lines out.
const MESSAGES: Mark = Mark {
    word: b"message_stop",
    before: &[b"event:", b"data:{\"type\":\""],
    after: &[b""],
    whole_event: false,
};
/// The last event repeats the answer and has its usage.
const RESPONSES: Mark = Mark {
    word: b"response.",
    before: &[b"event:", b"data:{\"type\":\""],
    after: &[b"completed", b"incomplete", b"failed"],
    whole_event: true,
};

/// Looks for the end mark in the pieces of one streamed response.
pub struct EndMark {
    /// Absent where the API has no end mark.
    search: Option<(Finder<'static>, &'static Mark)>,
    seen: bool,
    /// The marked event, once it has begun, where all of it counts.
    event: Option<OpenEvent>,
    /// The last bytes before the next piece.
    tail: [u8; TAIL],
    tail_len: usize,
    /// Whether the tail begins where the stream began.
    at_start: bool,
}

impl EndMark {
    /// For a response of `api`; never seen where that API has none.
    pub fn new(api: Api) -> EndMark {
        let mark = match api {
            Api::OpenaiChat | Api::OpenaiCompletions => Some(&CHAT),
            Api::OpenaiResponses => Some(&RESPONSES),
            Api::AnthropicMessages => Some(&MESSAGES),
            _ => None,
        };
        let search = mark.map(|mark| (Finder::new(mark.word), mark));
        EndMark {
            search,
            seen: false,
            event: None,
            tail: [0; TAIL],
            tail_len: 0,
            at_start: true,
        }
    }

    /// Takes the next piece of the (not compressed) stream; true once the end mark has been seen.
    pub fn push(&mut self, piece: &[u8]) -> bool {
        let Some((finder, mark)) = &self.search else {
            return false;
        };
        if self.seen || piece.is_empty() {
            return self.seen;
        }
        if let Some(event) = &mut self.event {
            self.seen = event.ends_in(piece);
            return self.seen;
        }
        // The seam: a mark that began in an earlier piece.
        let mut seam = [0; 2 * TAIL];
        let head = &piece[..piece.len().min(TAIL)];
        let seam_len = self.tail_len + head.len();
        seam[..self.tail_len].copy_from_slice(&self.tail[..self.tail_len]);
        seam[self.tail_len..seam_len].copy_from_slice(head);
        let seam = &seam[..seam_len];
        let in_seam = mark_end(finder, mark, seam, self.at_start).map(|end| end.saturating_sub(self.tail_len));
        let found = match in_seam {
            None if piece.len() > TAIL => mark_end(finder, mark, piece, false),
            in_seam => in_seam,
        };
        if let Some(end) = found {
            let mut event = OpenEvent::default();
            self.seen = !mark.whole_event || event.ends_in(&piece[end..]);
            self.event = Some(event);
            return self.seen;
        }

        let last = if piece.len() < TAIL { seam } else { piece };
        let kept = &last[last.len().saturating_sub(TAIL)..];
        self.at_start &= self.tail_len + piece.len() <= TAIL;
        self.tail[..kept.len()].copy_from_slice(kept);
        self.tail_len = kept.len();
        false
    }
}

/// Where the mark ends that stands at the start of a line of `bytes`; `at_start`: whether `bytes` begins with one.
fn mark_end(finder: &Finder<'static>, mark: &Mark, bytes: &[u8], at_start: bool) -> Option<usize> {
    finder.find_iter(bytes).find_map(|found| {
        let after = &bytes[found + mark.word.len()..];
        let follower = mark.after.iter().find(|follower| after.starts_with(follower))?;
        let looked_back = &bytes[found.saturating_sub(TAIL)..found];
        let before = match looked_back.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')) {
            Some(line_end) => &looked_back[line_end + 1..],
            None if at_start && looked_back.len() == found => looked_back,
            None => return None,
        };
        let without_spaces = || before.iter().filter(|byte| **byte != b' ');
        let is_mark = mark.before.iter().any(|expected| without_spaces().eq(expected.iter()));
        is_mark.then_some(found + mark.word.len() + follower.len())
    })
}

/// An event of which more is to come: it ends with a blank line.
#[derive(Default)]
struct OpenEvent {
    line_is_empty: bool,
    after_cr: bool,
}

impl OpenEvent {
    /// Takes the next piece, which begins where the last one ended; true where the event ends in it.
    fn ends_in(&mut self, piece: &[u8]) -> bool {
        let mut at = 0;
        while let Some(length) = memchr2(b'\n', b'\r', &piece[at..]) {
            let line_end = piece[at + length];
            let is_rest_of_crlf = length == 0 && self.after_cr && line_end == b'\n';
            if self.line_is_empty && length == 0 && !is_rest_of_crlf {
                return true;
            }
            self.line_is_empty = true;
            self.after_cr = line_end == b'\r';
            at += length + 1;
        }
        if at < piece.len() {
            self.line_is_empty = false;
            self.after_cr = false;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(api: Api, stream: &str, piece_size: usize) -> bool {
        let mut end_mark = EndMark::new(api);
        stream
            .as_bytes()
            .chunks(piece_size)
            .fold(false, |_, piece| end_mark.push(piece))
    }

    fn assert_seen(api: Api, stream: &str, expected: bool) {
        for piece_size in 1..=stream.len() {
            assert_eq!(
                seen(api, stream, piece_size),
                expected,
                "{stream:?} in pieces of {piece_size}"
            );
        }
    }

    #[test]
    fn sees_marks_however_they_are_cut() {
        let filler =
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"some text that is longer than the tail\"}}]}";
        for line_end in ["\n", "\r\n", "\r"] {
            for mark in ["data: [DONE]", "data:[DONE]"] {
                assert_seen(
                    Api::OpenaiChat,
                    &format!("{filler}{line_end}{line_end}{mark}{line_end}{line_end}"),
                    true,
                );
                assert_seen(Api::OpenaiChat, &format!("{mark}{line_end}"), true);
            }
            let mark = format!("{filler}{line_end}{line_end}event: message_stop{line_end}data: {{}}{line_end}");
            assert_seen(Api::AnthropicMessages, &mark, true);
        }
        assert_seen(
            Api::AnthropicMessages,
            "data: {}\n\ndata: {\"type\": \"message_stop\"}\n\n",
            true,
        );
    }

    #[test]
    fn an_event_that_says_something_counts_when_it_has_ended() {
        for line_end in ["\n", "\r\n", "\r"] {
            for mark in [
                "event: response.completed",
                "event:response.failed",
                "event: response.incomplete",
            ] {
                let open = format!(
                    "event: response.created{line_end}data: {{}}{line_end}{line_end}\
                     {mark}{line_end}data: {{\"type\":\"response.completed\",\"text\":\"\\n\\n\"}}{line_end}"
                );
                assert_seen(Api::OpenaiResponses, &open, false);
                assert_seen(Api::OpenaiResponses, &format!("{open}{line_end}"), true);
            }
            let unnamed = format!("data: {{\"type\": \"response.completed\"}}{line_end}{line_end}");
            assert_seen(Api::OpenaiResponses, &unnamed, true);
        }
        assert_seen(Api::OpenaiResponses, "event: response.created\ndata: {}\n\n", false);
    }

    #[test]
    fn text_inside_json_is_no_mark() {
        for text in [
            "data: {\"content\":\"data: [DONE]\"}\n\n",
            "data: {\"content\":\"\\ndata: [DONE]\"}\n\n",
            "xdata: [DONE]\n\n",
            ": data: [DONE]\n\n",
            "data: [DON\nE]",
        ] {
            assert_seen(Api::OpenaiChat, text, false);
            // Also where a cut puts the words at the start of a piece.
            assert_seen(
                Api::OpenaiChat,
                &format!("data: {{\"x\":\"{}{text}", "y".repeat(100)),
                false,
            );
        }
        assert_seen(
            Api::AnthropicMessages,
            "data: {\"text\":\"event: message_stop\"}\n\n",
            false,
        );
        assert_seen(Api::AnthropicMessages, "data: [DONE]\n\n", false);
    }

    #[test]
    fn stays_seen_and_other_apis_have_none() {
        let mut end_mark = EndMark::new(Api::OpenaiChat);
        assert!(end_mark.push(b"data: [DONE]"));
        assert!(end_mark.push(b"") && end_mark.push(b"more"));
        assert!(!EndMark::new(Api::Other).push(b"data: [DONE]\n\n"));
    }

    proptest! {
        #[test]
        fn any_stream_is_marked_at_the_same_byte_however_it_is_cut(
            stream in "(data|event|:| |\n|\r|\r\n|\\{\"type\":\"|response\\.|completed|failed|message_stop|\\[DONE\\]|x{1,60}){0,30}",
            size in 2usize..80,
        ) {
            for api in [Api::OpenaiChat, Api::OpenaiResponses, Api::AnthropicMessages] {
                let seen_at = |size: usize| {
                    let mut mark = EndMark::new(api);
                    stream.as_bytes().chunks(size).position(|piece| mark.push(piece)).map(|piece| (piece + 1) * size)
                };
                let exact = seen_at(1);
                prop_assert_eq!(seen_at(size), exact.map(|at| at.div_ceil(size) * size));
            }
        }
    }
}
