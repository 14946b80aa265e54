//! The end of the `metadata` message, the last of a Bedrock Converse stream.
//!
//! Follows the framing by its lengths and looks at headers alone; where a prelude is damaged, it gives up.

use crate::wire::eventstream::{Lengths, Names, PRELUDE};

const LAST_EVENT: &str = "metadata";

/// Headers longer than this are not looked at; those of Bedrock's messages are some 90 bytes.
const MAX_HEADERS: usize = 256;

/// Where a stream stands.
pub(super) struct Scan {
    /// Prelude and headers of the message that comes in.
    head: [u8; PRELUDE + MAX_HEADERS],
    filled: usize,
    lengths: Option<Lengths>,
    /// Bytes of the message to come after what was looked at.
    left: usize,
    message_is_last: bool,
    lost: bool,
}

impl Scan {
    pub(super) fn new() -> Scan {
        Scan {
            head: [0; PRELUDE + MAX_HEADERS],
            filled: 0,
            lengths: None,
            left: 0,
            message_is_last: false,
            lost: false,
        }
    }

    /// Whether the last message ends within this piece.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> bool {
        while !piece.is_empty() && !self.lost {
            if self.left > 0 {
                let passed = self.left.min(piece.len());
                self.left -= passed;
                piece = &piece[passed..];
                if self.left == 0 && self.message_is_last {
                    return true;
                }
                continue;
            }
            let wanted = PRELUDE + self.lengths.map_or(0, |lengths| lengths.headers);
            let taken = (wanted - self.filled).min(piece.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&piece[..taken]);
            self.filled += taken;
            piece = &piece[taken..];
            if self.filled == wanted {
                self.take_head();
            }
        }
        false
    }

    /// The prelude is there, or the headers too.
    fn take_head(&mut self) {
        let (prelude, headers) = self.head[..self.filled].split_at(PRELUDE);
        match self.lengths.take() {
            Some(lengths) => {
                self.message_is_last = Names::of(headers).is_some_and(|names| names.is_event(LAST_EVENT));
                self.pass(lengths.total - self.filled);
            }
            None => match prelude.first_chunk().and_then(Lengths::of) {
                None => self.lost = true,
                Some(lengths) if (1..=MAX_HEADERS).contains(&lengths.headers) => self.lengths = Some(lengths),
                Some(lengths) => {
                    self.message_is_last = false;
                    self.pass(lengths.total - self.filled);
                }
            },
        }
    }

    fn pass(&mut self, bytes: usize) {
        self.left = bytes;
        self.filled = 0;
    }
}
