//! Request targets with raw characters that no URI may hold and that clients send all the same.
//!
//! The HTTP library refuses `<`, `>`, `"`, backticks and bytes that are no UTF-8; other proxies pass them. They go on
//! percent-encoded, which every server takes for the same. Pure.

/// The beginning of a head with such characters of its target encoded; `None` where there are none, or where the first
/// line has not come whole.
pub(crate) fn mended(head: &[u8]) -> Option<Vec<u8>> {
    let end = memchr::memchr(b'\n', head)?;
    let line = &head[..end];
    let from = memchr::memchr(b' ', line)? + 1;
    let to = memchr::memrchr(b' ', line).filter(|to| *to > from)?;
    let target = &line[from..to];
    let is_text = std::str::from_utf8(target).is_ok();
    let is_odd = |byte: u8| matches!(byte, b'<' | b'>' | b'"' | b'`') || (byte >= 0x80 && !is_text);
    if !target.iter().any(|byte| is_odd(*byte)) {
        return None;
    }
    let mut mended = Vec::with_capacity(head.len() + 32);
    mended.extend_from_slice(&head[..from]);
    for byte in target {
        if is_odd(*byte) {
            mended.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            mended.push(*byte);
        }
    }
    mended.extend_from_slice(&head[to..]);
    Some(mended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_odd_characters_of_the_target_are_encoded() {
        let mended = |text: &[u8]| mended(text).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let whole = mended(b"GET /a<b>?q=\"`{|} HTTP/1.1\r\nx: <\r\n\r\n<").unwrap();
        assert_eq!(whole, "GET /a%3Cb%3E?q=%22%60{|} HTTP/1.1\r\nx: <\r\n\r\n<");
        assert_eq!(mended(b"GET /\xe9 HTTP/1.1\r\n").unwrap(), "GET /%E9 HTTP/1.1\r\n");
        for plain in [
            &b"GET /a{b}|\\^[]'%3C HTTP/1.1\r\n"[..],
            "GET /é HTTP/1.1\r\n".as_bytes(),
            b"G<T / HTTP/1.1\r\n",
            b"GET /a HTTP/1.1<\r\n",
            b"GET /<\r\n",
            b"GET /a< HTTP/1.1",
            b"\n",
            b"",
        ] {
            assert_eq!(mended(plain), None, "{}", String::from_utf8_lossy(plain));
        }
    }
}
