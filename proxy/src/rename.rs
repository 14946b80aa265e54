//! The model's name in a candidate's streamed answer: the client gets the one that it asked for.

use bytes::{Bytes, BytesMut};
use understudy_call::wire::replace_model;

/// The longest line that is held for rewriting; a longer one passes as it is.
const MAX_LINE: usize = 1 << 20;

/// Rewrites the `model` of each event of an event stream, line by line.
pub(crate) struct Renamer {
    model: String,
    line: BytesMut,
}

impl Renamer {
    /// Puts `model` in.
    pub(crate) fn new(model: impl Into<String>) -> Renamer {
        Renamer {
            model: model.into(),
            line: BytesMut::new(),
        }
    }

    /// Takes a piece, gives all lines that are complete.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(self.line.len() + piece.len() + 32);
        let mut rest = piece;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(at + 1);
            self.line.extend_from_slice(line);
            self.flush_line(&mut out);
            rest = after;
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > MAX_LINE {
            out.extend_from_slice(&self.line.split());
        }
        out.freeze()
    }

    /// What is left when the stream has ended.
    pub(crate) fn finish(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        self.flush_line(&mut out);
        out.freeze()
    }

    fn flush_line(&mut self, out: &mut BytesMut) {
        let line = self.line.split();
        match data_of(&line).and_then(|(at, json)| Some((at, json.len(), replace_model(json, &self.model)?))) {
            Some((at, length, renamed)) => {
                out.extend_from_slice(&line[..at]);
                out.extend_from_slice(&renamed);
                out.extend_from_slice(&line[at + length..]);
            }
            None => out.extend_from_slice(&line),
        }
    }
}

/// The JSON of a `data:` line, and where it begins.
fn data_of(line: &[u8]) -> Option<(usize, &[u8])> {
    let rest = line.strip_prefix(b"data:")?;
    let start = line.len() - rest.trim_ascii_start().len();
    let json = line[start..].trim_ascii_end();
    json.starts_with(b"{").then_some((start, json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_replaced_however_the_stream_is_cut() {
        let stream = "data: {\"model\":\"small\",\"x\":\"model\"}\r\n\r\n: note\n\ndata: [DONE]\n\n";
        let expected = "data: {\"model\":\"big\",\"x\":\"model\"}\r\n\r\n: note\n\ndata: [DONE]\n\n";
        for size in [1, 7, 1000] {
            let mut renamer = Renamer::new("big");
            let mut out: Vec<u8> = Vec::new();
            stream
                .as_bytes()
                .chunks(size)
                .for_each(|piece| out.extend_from_slice(&renamer.push(piece)));
            out.extend_from_slice(&renamer.finish());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
