//! End marks at the start of a line of server-sent events. JSON text holds no raw line ends, so what a model says can't
//! stand there.

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;
use memchr::memmem::Finder;
use memchr::{memchr2, memrchr2};

/// The end marks of one API.
pub(super) struct Marks {
    /// At most eight.
    marks: &'static [Mark],
    /// None where the processor lacks what it takes: then every line is looked at.
    words: LazyLock<Option<Words>>,
    /// Whether the mark counts only at the blank line after its event: where the event carries the whole answer.
    after_event: bool,
}

/// How a line begins that is a mark: `before`, spaces aside, and then the word.
struct Mark {
    before: &'static [u8],
    word: &'static [u8],
    /// Whether nothing but spaces may follow in the line.
    ends_line: bool,
}

const fn event(word: &'static [u8], ends_line: bool) -> Mark {
    Mark {
        before: b"event:",
        word,
        ends_line,
    }
}

const DATA: &[u8] = b"data:{\"type\":";

/// Some gateways leave the `event:` lines out.
const fn data(word: &'static [u8]) -> Mark {
    Mark {
        before: DATA,
        word,
        ends_line: false,
    }
}

const fn marks(marks: &'static [Mark], words: fn() -> Option<Words>, after_event: bool) -> Marks {
    Marks {
        marks,
        words: LazyLock::new(words),
        after_event,
    }
}

pub(super) static CHAT: Marks = marks(&CHAT_MARKS, || Words::of(&CHAT_MARKS), false);
static CHAT_MARKS: [Mark; 1] = [Mark {
    before: b"data:",
    word: b"[DONE]",
    ends_line: false,
}];

pub(super) static MESSAGES: Marks = marks(&MESSAGES_MARKS, || Words::of(&MESSAGES_MARKS), false);
static MESSAGES_MARKS: [Mark; 2] = [event(b"message_stop", false), data(b"\"message_stop")];

/// The last event repeats the whole answer, maybe megabytes in many pieces.
pub(super) static RESPONSES: Marks = marks(&RESPONSES_MARKS, || Words::of(&RESPONSES_MARKS), true);
static RESPONSES_MARKS: [Mark; 6] = [
    event(b"response.completed", true),
    event(b"response.incomplete", true),
    event(b"response.failed", true),
    data(b"\"response.completed\""),
    data(b"\"response.incomplete\""),
    data(b"\"response.failed\""),
];

/// The last event holds finish reason and usage.
pub(super) static COHERE: Marks = marks(&COHERE_MARKS, || Words::of(&COHERE_MARKS), true);
static COHERE_MARKS: [Mark; 2] = [event(b"message-end", true), data(b"\"message-end\"")];

/// Finds the words of marks: lines without any are passed over.
enum Words {
    One(Finder<'static>),
    Any(Searcher),
}

impl Words {
    fn of(marks: &'static [Mark]) -> Option<Words> {
        let mut events = marks.iter().filter(|mark| mark.before != DATA).map(|mark| mark.word);
        match (events.next()?, events.next()) {
            (word, None) => Some(Words::One(Finder::new(word))),
            (first, Some(second)) => {
                // Every event of Responses begins with `response.`: what follows is rarer.
                let rare = |word: &'static [u8]| word.strip_prefix(b"response.").unwrap_or(word);
                Searcher::new([first, second].into_iter().chain(events).map(rare)).map(Words::Any)
            }
        }
    }

    fn find(&self, bytes: &[u8]) -> Option<usize> {
        match self {
            Words::One(finder) => finder.find(bytes),
            Words::Any(searcher) => Some(searcher.find(bytes)?.start()),
        }
    }
}

/// Where a stream stands.
pub(super) struct Scan {
    marks: &'static Marks,
    /// Which marks the line may still be, a bit each.
    possible: u8,
    /// How many bytes of the line were compared with them, spaces left out.
    compared: usize,
    /// Whether the line has no byte yet.
    line_begins: bool,
    /// A CR came last: an LF now is part of the same line end.
    after_cr: bool,
    /// A mark was in the event that has not ended.
    event_is_last: bool,
}

impl Scan {
    pub(super) fn new(marks: &'static Marks) -> Scan {
        let mut scan = Scan {
            marks,
            possible: 0,
            compared: 0,
            line_begins: true,
            after_cr: false,
            event_is_last: false,
        };
        scan.begin_line();
        scan
    }

    fn begin_line(&mut self) {
        self.possible = u8::MAX >> (8 - self.marks.marks.len());
        self.compared = 0;
        self.line_begins = true;
    }

    /// Whether the mark counts within this piece.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> bool {
        loop {
            if self.line_begins && !self.event_is_last {
                piece = self.pass_lines(piece);
            } else if self.possible == 0 {
                let Some(line_end) = memchr2(b'\n', b'\r', piece) else {
                    return false;
                };
                piece = &piece[line_end..];
            }
            let Some((&byte, rest)) = piece.split_first() else {
                return false;
            };
            piece = rest;
            if self.take(byte) {
                return true;
            }
        }
    }

    /// Passes over whole lines without a mark's word: what is left begins with the end of the last one of them.
    fn pass_lines<'a>(&self, piece: &'a [u8]) -> &'a [u8] {
        let Some(words) = LazyLock::force(&self.marks.words) else {
            return piece;
        };
        let without_word = words.find(piece).unwrap_or(piece.len());
        match memrchr2(b'\n', b'\r', &piece[..without_word]) {
            // An LF right here may be the second half of a line end.
            Some(line_end) if line_end > 0 => &piece[line_end..],
            _ => piece,
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let ends_crlf = std::mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n';
        match byte {
            b'\n' if ends_crlf => false,
            b'\n' | b'\r' => {
                if self.line_begins && self.event_is_last {
                    return true;
                }
                self.event_is_last |= self.is_a_mark();
                self.begin_line();
                false
            }
            byte => {
                self.line_begins = false;
                self.compare(byte)
            }
        }
    }

    /// Compares a byte of the line; true where it completes a mark that counts at once.
    fn compare(&mut self, byte: u8) -> bool {
        let mut advances = false;
        for (number, mark) in self.marks.marks.iter().enumerate() {
            let bit = 1 << number;
            if self.possible & bit == 0 {
                continue;
            }
            if mark.byte(self.compared) == Some(byte) {
                advances = true;
                if self.compared + 1 == mark.len() && !mark.ends_line {
                    self.possible = 0;
                    self.event_is_last = true;
                    return !self.marks.after_event;
                }
            } else if !(byte == b' ' && mark.may_have_space_at(self.compared)) {
                self.possible &= !bit;
            }
        }
        self.compared += usize::from(advances);
        false
    }

    /// Whether the line so far is the whole of a mark.
    fn is_a_mark(&self) -> bool {
        let is_possible = |number: usize| self.possible & (1 << number) != 0;
        let mut numbered = self.marks.marks.iter().enumerate();
        numbered.any(|(number, mark)| is_possible(number) && mark.len() == self.compared)
    }
}

impl Mark {
    fn len(&self) -> usize {
        self.before.len() + self.word.len()
    }

    fn byte(&self, at: usize) -> Option<u8> {
        let of_word = at.checked_sub(self.before.len());
        let byte = of_word.map_or_else(|| self.before.get(at), |at| self.word.get(at));
        byte.copied()
    }

    fn may_have_space_at(&self, compared: usize) -> bool {
        compared <= self.before.len() || compared == self.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mark_holds_a_space_and_all_fit_the_bits() {
        for marks in [&CHAT, &MESSAGES, &RESPONSES, &COHERE] {
            assert!((1..=8).contains(&marks.marks.len()));
            assert!(LazyLock::force(&marks.words).is_some());
            for mark in marks.marks {
                assert!(!mark.before.contains(&b' ') && !mark.word.contains(&b' '));
            }
        }
    }
}
