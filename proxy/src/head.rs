//! Sees two framings in one request's head: a length beside a transfer coding.
//!
//! hyper drops the length of such a head and does not say so; somebody before or after us might read the length. Pure.

/// As long as `transfer-encoding:`.
const LONGEST: usize = 18;

/// What was seen of one head, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    /// The beginning of the line at hand.
    start: [u8; LONGEST],
    filled: usize,
    has_begun: bool,
    has_ended: bool,
    has_length: bool,
    has_coding: bool,
}

impl HeadScan {
    /// Takes the next piece of the connection; what follows the head is ignored.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !self.has_ended && !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let line = &bytes[..end.unwrap_or(bytes.len())];
            let taken = line.len().min(LONGEST - self.filled);
            self.start[self.filled..self.filled + taken].copy_from_slice(&line[..taken]);
            self.filled += taken;
            let Some(end) = end else { return };
            self.end_line();
            bytes = &bytes[end + 1..];
        }
    }

    fn end_line(&mut self) {
        let line = self.start[..self.filled].trim_ascii_end();
        // Empty lines before a request's first one are none.
        self.has_ended = line.is_empty() && self.has_begun;
        self.has_begun |= !line.is_empty();
        if let Some(colon) = memchr::memchr(b':', line) {
            let name = &line[..colon];
            self.has_length |= name.eq_ignore_ascii_case(b"content-length");
            self.has_coding |= name.eq_ignore_ascii_case(b"transfer-encoding");
        }
        self.filled = 0;
    }

    /// Whether the head has both framings.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.has_length && self.has_coding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_framings_are_seen_however_the_head_is_cut() {
        let both = b"\r\nPOST / HTTP/1.1\r\nhost: h\r\nCONTENT-Length: 2\r\nx: y\r\nTransfer-Encoding:chunked\r\n\r\n";
        for cut in 0..both.len() {
            let mut scan = HeadScan::default();
            scan.push(&both[..cut]);
            scan.push(&both[cut..]);
            assert!(scan.is_ambiguous(), "cut at {cut}");
        }
        for one in [
            &b"POST / HTTP/1.1\r\ncontent-length: 2\r\nx: transfer-encoding:\r\n\r\n"[..],
            b"POST / HTTP/1.1\ntransfer-encoding: chunked\n\ncontent-length: 2\r\n",
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nx-content-length: 2\r\ncontent-lengths: 2\r\n\r\n",
            b"",
        ] {
            let mut scan = HeadScan::default();
            scan.push(one);
            assert!(!scan.is_ambiguous(), "{}", String::from_utf8_lossy(one));
        }
    }
}
