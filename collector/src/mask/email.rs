//! E-mail addresses, by the shape people use: `local@label.label.tld`, letters of any script.
//!
//! Not the whole of RFC 5322: quoted local parts, comments and address literals are not looked for.

use super::hit::Hit;
use super::kind::Kind;
use super::scene::is_escape_letter;
use memchr::memchr_iter;

const LOCAL_BYTES: usize = 64;
const DOMAIN_BYTES: usize = 253;

/// Finds every address, `%40` written for `@` included.
pub(super) fn find(text: &str, hits: &mut Vec<Hit>) {
    for at in memchr_iter(b'@', text.as_bytes()) {
        hits.extend(address_around(text, at, at + 1));
    }
    for at in memchr_iter(b'%', text.as_bytes()) {
        if text.as_bytes()[at..].starts_with(b"%40") {
            hits.extend(address_around(text, at, at + 3));
        }
    }
}

fn address_around(text: &str, local_end: usize, domain_start: usize) -> Option<Hit> {
    let start = local_start(text, local_end)?;
    let end = domain_end(text, domain_start)?;
    // `git@host:path` names a repository, not a person.
    let is_repository = &text[start..local_end] == "git" && text[end..].starts_with([':', '/']);
    (!is_repository && !is_user_of_a_url(text, start)).then(|| Hit::sure(start, end, Kind::Email))
}

/// `https://token@host`, `postgres://user:password@host`: who logs in where, not an address.
fn is_user_of_a_url(text: &str, start: usize) -> bool {
    let before = &text.as_bytes()[start.saturating_sub(LOCAL_BYTES)..start];
    let user = before
        .iter()
        .rposition(|byte| *byte == b'/')
        .map(|slash| &before[..=slash]);
    let is_user_info = |byte: &u8| byte.is_ascii_alphanumeric() || b"._~%!$&'()*+,;=:-".contains(byte);
    user.is_some_and(|head| head.ends_with(b"://") && before[head.len()..].iter().all(is_user_info))
}

fn local_start(text: &str, end: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut start = end;
    for (at, letter) in text[..end].char_indices().rev() {
        if !is_local(letter) || end - at > LOCAL_BYTES {
            break;
        }
        start = at;
    }
    if is_escape_letter(bytes, start) {
        start += 1;
    } else if start > 0 && bytes[start - 1] == b'\\' && is_unicode_escape(&bytes[start..end]) {
        start += 5;
    }
    let lead = text[start..end].find(|letter: char| letter.is_alphanumeric() || letter == '_')?;
    Some(start + lead)
}

fn is_local(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '.' | '_' | '+' | '-' | '\'' | '!' | '#' | '$' | '&' | '*' | '~')
}

fn is_unicode_escape(bytes: &[u8]) -> bool {
    bytes.len() >= 5 && bytes[0] == b'u' && bytes[1..5].iter().all(u8::is_ascii_hexdigit)
}

fn domain_end(text: &str, start: usize) -> Option<usize> {
    let mut end = start;
    for (at, letter) in text[start..].char_indices() {
        if !(letter.is_alphanumeric() || letter == '-' || letter == '.') || at > DOMAIN_BYTES {
            break;
        }
        end = start + at + letter.len_utf8();
    }
    let mut domain = text[start..end].trim_end_matches(['.', '-']);
    // A sentence may go on after the stop without a space: only the part up to an empty label is the domain.
    if let Some(cut) = domain.find("..") {
        domain = &domain[..cut];
    }
    let (host, top) = domain.rsplit_once('.')?;
    let labels_hold = host
        .split('.')
        .all(|label| !label.is_empty() && !label.starts_with('-'));
    (labels_hold && is_top_level(top) && !is_image_scale(host)).then_some(start + domain.len())
}

fn is_top_level(top: &str) -> bool {
    let is_letters = top.chars().all(char::is_alphabetic) && top.chars().nth(1).is_some();
    is_letters || (top.len() > 4 && top.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--")))
}

/// `icon@2x.png` is a file.
fn is_image_scale(host: &str) -> bool {
    matches!(host.as_bytes(), [b'1'..=b'9', b'x'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut hits = Vec::new();
        find(text, &mut hits);
        hits.iter().map(|hit| &text[hit.start..hit.end]).collect()
    }

    #[test]
    fn addresses_are_found_whole() {
        for (text, address) in [
            (
                "mail bob.o'neil+news@mail.acme-inc.io.",
                "bob.o'neil+news@mail.acme-inc.io",
            ),
            ("(KBEST@OUTLOOK.COM)", "KBEST@OUTLOOK.COM"),
            ("<a_b@xn--bcher-kva.example>,", "a_b@xn--bcher-kva.example"),
            ("x='jörg@bücher.de';", "jörg@bücher.de"),
            ("mailto:ann@example.co.uk?subject=x", "ann@example.co.uk"),
            ("?email=ann%40example.com&x=1", "ann%40example.com"),
            ("line\\nann@example.com", "ann@example.com"),
            ("\\u003cann@example.com\\u003e", "ann@example.com"),
            ("你好ann@example.com", "你好ann@example.com"),
        ] {
            assert_eq!(found(text), [address], "{text}");
        }
    }

    #[test]
    fn what_only_holds_an_at_sign_stays() {
        for text in [
            "lodash@4.17.21",
            "@app.route('/')",
            "user@localhost",
            "git@github.com:org/repo",
            "icon@2x.png",
            "a @ b.c",
            "actions/checkout@v4",
            "x@y.c",
            "@@",
            "a@.com",
            "a@-b.com",
        ] {
            assert!(found(text).is_empty(), "{text}: {:?}", found(text));
        }
    }
}
