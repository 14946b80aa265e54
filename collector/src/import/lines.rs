//! Lines of a file or pipe, plain or zstd, each bounded.
//!
//! Never holds more than one line, nor unpacks more of one than the bound.

use std::io::{BufRead, BufReader, Read};

/// The longest line.
const MAX_LINE: usize = 64 << 20;
/// Windows of up to 128 MiB, as `zstd --long=27` makes them.
const WINDOW_LOG_MAX: u32 = 27;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// An input that can't be read at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The input gives nothing.
    #[error("could not read: {0}")]
    Read(#[source] std::io::Error),
    /// Another compression.
    #[error("the file is compressed with gzip, which is not read: unpack it, or use zstd")]
    Gzip,
}

/// What comes next.
pub(super) enum Taken {
    /// A line that is not blank, without its end.
    Line(Vec<u8>),
    /// A line over so many bytes; it was passed over.
    TooLong(usize),
    /// Nothing.
    End,
}

/// Lines of an input.
pub(super) struct Lines {
    input: Box<dyn BufRead + Send>,
    number: u64,
}

impl Lines {
    /// Begins to read; tells zstd by its first bytes.
    pub(super) fn open(input: Box<dyn Read + Send>) -> Result<Lines, OpenError> {
        let mut buffered = BufReader::with_capacity(256 << 10, input);
        let mut start = [0; 4];
        let mut length = 0;
        while length < start.len() {
            match buffered.read(&mut start[length..]).map_err(OpenError::Read)? {
                0 => break,
                read => length += read,
            }
        }
        let start = &start[..length];
        if start.starts_with(&GZIP_MAGIC) {
            return Err(OpenError::Gzip);
        }
        let whole = std::io::Cursor::new(start.to_vec()).chain(buffered);
        let input: Box<dyn BufRead + Send> = if start == ZSTD_MAGIC {
            let mut decoder = zstd::Decoder::with_buffer(whole).map_err(OpenError::Read)?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(OpenError::Read)?;
            Box::new(BufReader::with_capacity(256 << 10, decoder))
        } else {
            Box::new(whole)
        };
        Ok(Lines { input, number: 0 })
    }

    /// The number of the line last taken, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next line that is not blank.
    pub(super) fn take(&mut self) -> std::io::Result<Taken> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.input)
                .take(MAX_LINE as u64 + 1)
                .read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(Taken::End);
            }
            self.number += 1;
            if read > MAX_LINE && !line.ends_with(b"\n") {
                self.skip_rest()?;
                return Ok(Taken::TooLong(MAX_LINE));
            }
            if self.number == 1 && line.starts_with(b"\xef\xbb\xbf") {
                line.drain(..3);
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Taken::Line(line));
            }
        }
    }

    fn skip_rest(&mut self) -> std::io::Result<()> {
        loop {
            let buffer = self.input.fill_buf()?;
            let end = memchr::memchr(b'\n', buffer);
            let (length, is_last) = (
                end.map_or(buffer.len(), |at| at + 1),
                end.is_some() || buffer.is_empty(),
            );
            self.input.consume(length);
            if is_last {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: Vec<u8>) -> Vec<(u64, String)> {
        let mut lines = Lines::open(Box::new(std::io::Cursor::new(bytes))).unwrap();
        let mut all = Vec::new();
        loop {
            match lines.take().unwrap() {
                Taken::Line(line) => all.push((lines.number(), String::from_utf8(line).unwrap().trim().to_owned())),
                Taken::TooLong(_) => all.push((lines.number(), "too long".into())),
                Taken::End => return all,
            }
        }
    }

    #[test]
    fn plain_and_packed_lines_are_the_same_and_blank_ones_only_count() {
        let text = b"\xef\xbb\xbf{}\r\n\n  \n[1]".to_vec();
        let expected = vec![(1, "{}".to_owned()), (4, "[1]".to_owned())];
        assert_eq!(all(text.clone()), expected);
        assert_eq!(all(zstd::encode_all(text.as_slice(), 3).unwrap()), expected);
        assert_eq!(all(b"{".to_vec()), vec![(1, "{".to_owned())]);
        assert_eq!(all(Vec::new()), vec![]);
    }

    #[test]
    fn a_line_over_the_bound_is_passed_over() {
        let mut text = vec![b'x'; MAX_LINE + 10];
        text.extend_from_slice(b"\nnext");
        assert_eq!(all(text), vec![(1, "too long".to_owned()), (2, "next".to_owned())]);
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes() {
        let opened = Lines::open(Box::new(std::io::Cursor::new(vec![0x1f, 0x8b, 8, 0])));
        assert!(matches!(opened, Err(OpenError::Gzip)));
    }
}
