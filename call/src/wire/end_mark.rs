//! Sees an API's end mark go by in a stream, on the hot path: what follows it is no part of the answer.
//!
//! Keeps the last few bytes only and allocates nothing per piece. Never parses JSON: a mark counts at the start of a
//! line alone, and JSON text holds no raw line ends, so what a model says can't look like one.

use memchr::memmem::Finder;

use crate::call::Api;

/// Longer than the longest mark with its line's beginning, spaces included.
const TAIL: usize = 48;

/// The end mark of one API: the word, and what may stand between the start of its line and the word, spaces aside.
struct Mark {
    word: &'static [u8],
    before: &'static [&'static [u8]],
}

const CHAT: Mark = Mark {
    word: b"[DONE]",
    before: &[b"data:"],
};
/// Some gateways leave the `event:` lines out.
const MESSAGES: Mark = Mark {
    word: b"message_stop",
    before: &[b"event:", b"data:{\"type\":\""],
};

/// Looks for the end mark in the pieces of one streamed response.
pub struct EndMark {
    /// Absent where the API has no end mark.
    search: Option<(Finder<'static>, &'static Mark)>,
    seen: bool,
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
            Api::OpenaiChat => Some(&CHAT),
            Api::AnthropicMessages => Some(&MESSAGES),
            _ => None,
        };
        let search = mark.map(|mark| (Finder::new(mark.word), mark));
        EndMark {
            search,
            seen: false,
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
        // The seam: a mark that began in an earlier piece.
        let mut seam = [0; 2 * TAIL];
        let head = &piece[..piece.len().min(TAIL)];
        let seam_len = self.tail_len + head.len();
        seam[..self.tail_len].copy_from_slice(&self.tail[..self.tail_len]);
        seam[self.tail_len..seam_len].copy_from_slice(head);
        let seam = &seam[..seam_len];
        self.seen = holds_mark(finder, mark, seam, self.at_start)
            || (piece.len() > TAIL && holds_mark(finder, mark, piece, false));

        let last = if piece.len() < TAIL { seam } else { piece };
        let kept = &last[last.len().saturating_sub(TAIL)..];
        self.at_start &= self.tail_len + piece.len() <= TAIL;
        self.tail[..kept.len()].copy_from_slice(kept);
        self.tail_len = kept.len();
        self.seen
    }
}

/// Whether the mark stands at the start of a line of `bytes`; `at_start`: whether `bytes` begins with one.
fn holds_mark(finder: &Finder<'static>, mark: &Mark, bytes: &[u8], at_start: bool) -> bool {
    finder.find_iter(bytes).any(|found| {
        let looked_back = &bytes[found.saturating_sub(TAIL)..found];
        let before = match looked_back.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')) {
            Some(line_end) => &looked_back[line_end + 1..],
            None if at_start && looked_back.len() == found => looked_back,
            None => return false,
        };
        let without_spaces = || before.iter().filter(|byte| **byte != b' ');
        mark.before.iter().any(|expected| without_spaces().eq(expected.iter()))
    })
}

#[cfg(test)]
mod tests {
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
}
