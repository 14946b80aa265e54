//! IP addresses, told from four-part versions and from paths of code.
//!
//! Addresses that name nobody (loopback, unspecified, broadcast, netmasks) stay.

use super::digits::{Digits, Gap};
use super::hit::Hit;
use super::kind::Kind;
use super::scene::{Cues, Scene, is_escape_letter, is_free_before};
use memchr::memchr_iter;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Parts under it are usual in versions; at least one part of nearly every address is not.
const LOW: u8 = 64;

const VERSION_CUES: &Cues = &Cues::new(&[
    "version", "versions", "ver", "v", "release", "released", "build", "firmware", "driver", "patch", "sdk", "upgrade",
    "upgraded", "oid", "section", "chapter",
]);
const ADDRESS_CUES: &Cues = &Cues::new(&[
    "ip",
    "ips",
    "ipv4",
    "ipaddr",
    "ipaddress",
    "addr",
    "address",
    "adresse",
    "dirección",
    "host",
    "hostname",
    "client",
    "ssh",
    "ping",
    "remote",
    "peer",
    "gateway",
    "dns",
    "nameserver",
    "subnet",
    "inet",
    "listen",
    "bind",
    "router",
    "forwarded",
    "traceroute",
    "telnet",
    "vpn",
    "cidr",
    "src",
    "dst",
]);

/// The IPv4 address that begins at `digits`.
pub(super) fn ipv4_at(scene: &Scene<'_>, digits: &Digits<'_>) -> Option<Hit> {
    let groups = digits.groups();
    if groups.len() < 4 || groups[1..4].iter().any(|group| group.gap != Gap::Dot) {
        return None;
    }
    let bytes = scene.bytes();
    let (start, end) = (groups[0].start, groups[3].end);
    // The standard parser refuses leading zeros and parts over 255.
    let address: Ipv4Addr = scene.text[start..end].parse().ok()?;
    let follows_dot = matches!(bytes[..start], [.., digit, b'.'] if digit.is_ascii_alphanumeric());
    if follows_dot || !is_free_before(scene.text, start) || !ends_free(bytes, end) || names_nobody(address) {
        return None;
    }
    if scene.follows(start, VERSION_CUES) {
        return None;
    }
    let is_high = address.octets().iter().any(|part| *part >= LOW);
    if is_high || is_well_known(address) {
        return Some(Hit::sure(start, end, Kind::IpAddress));
    }
    let is_addressed =
        is_in_authority(bytes, start) || has_port_or_mask(bytes, end) || scene.follows(start, ADDRESS_CUES);
    is_addressed.then(|| Hit::by_context(start, end, Kind::IpAddress))
}

fn ends_free(bytes: &[u8], end: usize) -> bool {
    match (bytes.get(end), bytes.get(end + 1)) {
        (Some(b'.'), Some(next)) => !next.is_ascii_digit(),
        // `1.2.3.4-rc1` is a version; `1.2.3.4-1.2.3.9` is a range.
        (Some(b'-'), Some(next)) => !next.is_ascii_alphabetic(),
        (Some(next), _) => !next.is_ascii_alphanumeric() && *next != b'_',
        (None, _) => true,
    }
}

fn names_nobody(address: Ipv4Addr) -> bool {
    let is_netmask =
        address.to_bits().leading_ones() >= 8 && address.to_bits().count_ones() == address.to_bits().leading_ones();
    address.is_loopback() || address.is_unspecified() || is_netmask
}

fn is_well_known(address: Ipv4Addr) -> bool {
    matches!(
        address.octets(),
        [10, 0, ..] | [8, 8, 8, 8] | [8, 8, 4, 4] | [1, 1, 1, 1] | [1, 0, 0, 1] | [9, 9, 9, 9]
    )
}

/// `https://10.1.2.3`, `root@10.1.2.3`.
fn is_in_authority(bytes: &[u8], start: usize) -> bool {
    bytes[..start].ends_with(b"://") || bytes[..start].ends_with(b"@")
}

/// `10.1.2.3:8080`, `10.1.2.3/24`.
fn has_port_or_mask(bytes: &[u8], end: usize) -> bool {
    let rest = bytes.get(end + 1..).unwrap_or_default();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match bytes.get(end) {
        Some(b':') => (2..=5).contains(&digits),
        Some(b'/') => (1..=2).contains(&digits),
        _ => false,
    }
}

/// Longest text form of an IPv6 address.
const V6_BYTES: usize = 45;

/// Finds every IPv6 address.
pub(super) fn find_ipv6(text: &str, hits: &mut Vec<Hit>) {
    let bytes = text.as_bytes();
    let mut done = 0;
    for colon in memchr_iter(b':', bytes) {
        let next = bytes.get(colon + 1).copied().unwrap_or(b' ');
        if colon < done || !(next.is_ascii_hexdigit() || next == b':') {
            continue;
        }
        if let Some(hit) = ipv6_around(text, colon) {
            done = hit.end;
            hits.push(hit);
        }
    }
}

fn ipv6_around(text: &str, colon: usize) -> Option<Hit> {
    let bytes = text.as_bytes();
    let before = bytes[..colon]
        .iter()
        .rev()
        .take(5)
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let mut start = colon - before;
    if is_escape_letter(bytes, start) {
        start += 1;
    }
    if start == colon && bytes.get(colon + 1) != Some(&b':') {
        return None;
    }
    if !is_free_before(text, start) || follows_group(bytes, start) || colon - start > 4 {
        return None;
    }
    let is_part = |byte: &&u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let mut end = start + bytes[start..].iter().take(V6_BYTES).take_while(is_part).count();
    while end > start && (bytes[end - 1] == b'.' || (bytes[end - 1] == b':' && bytes[end - 2] != b':')) {
        end -= 1;
    }
    let goes_on = bytes
        .get(end)
        .is_some_and(|next| next.is_ascii_alphanumeric() || *next == b'_');
    let value = &text[start..end];
    (!goes_on && is_ipv6(value)).then(|| Hit::sure(start, end, Kind::IpAddress))
}

/// Whether the address would begin inside a longer row of groups: `…:ab:` stands before, rather than a word as in `ip:`.
fn follows_group(bytes: &[u8], start: usize) -> bool {
    let Some(before) = bytes[..start].strip_suffix(b":") else {
        return false;
    };
    let group = before
        .iter()
        .rev()
        .take(6)
        .take_while(|byte| byte.is_ascii_alphanumeric());
    let length = group.clone().count();
    length <= 4 && group.into_iter().all(u8::is_ascii_hexdigit)
}

fn is_ipv6(value: &str) -> bool {
    let Ok(address) = value.parse::<Ipv6Addr>() else {
        return false;
    };
    if address.is_loopback() || address.is_unspecified() {
        return false;
    }
    let mut groups = value.split(':').filter(|group| !group.is_empty());
    if !value.contains("::") {
        // Eight pairs of hex digits are a hardware address.
        return groups.any(|group| group.len() != 2);
    }
    // `fe::ed` may be code; an address has a digit, and a first group as long as the ranges in use have, or many groups.
    let has_digit = value.bytes().any(|byte| byte.is_ascii_digit());
    let count = groups.clone().count();
    has_digit && (groups.next().is_some_and(|group| group.len() >= 3) || count >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> Option<&str> {
        let first = text.find(|letter: char| letter.is_ascii_digit())?;
        let scene = Scene::new(text, "");
        ipv4_at(&scene, &Digits::read(text.as_bytes(), first)).map(|hit| &text[hit.start..hit.end])
    }

    fn v6(text: &str) -> Vec<&str> {
        let mut hits = Vec::new();
        find_ipv6(text, &mut hits);
        hits.iter().map(|hit| &text[hit.start..hit.end]).collect()
    }

    #[test]
    fn addresses_are_found() {
        for (text, value) in [
            ("from 195.116.200.75 at", "195.116.200.75"),
            ("client=87.230.62.144", "87.230.62.144"),
            ("http://12.4.5.6/x", "12.4.5.6"),
            ("12.4.5.6:8080", "12.4.5.6"),
            ("ip: 12.4.5.6", "12.4.5.6"),
            ("10.0.3.7.", "10.0.3.7"),
            ("195.116.200.75-195.116.200.99", "195.116.200.75"),
        ] {
            assert_eq!(v4(text), Some(value), "{text}");
        }
        for (text, value) in [
            ("ssh 2001:db8::7d76:9457 &&", "2001:db8::7d76:9457"),
            (
                "at f79b:3453:2074:7062:59d:3952:8c3c:b153.",
                "f79b:3453:2074:7062:59d:3952:8c3c:b153",
            ),
            ("[fe80::1]:443", "fe80::1"),
            ("ip:fe80::1%eth0", "fe80::1"),
            ("::ffff:192.0.2.128", "::ffff:192.0.2.128"),
            ("\\n2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(v6(text), [value], "{text}");
        }
    }

    #[test]
    fn look_alikes_stay() {
        for text in [
            "tokio 14.13.4.17",
            "v195.1.2.3",
            "version 195.1.2.3",
            "1.2.3.4.5",
            "300.1.2.3",
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.0",
            "01.02.103.104",
            "195.1.2.3-rc1",
            "1.2.3",
        ] {
            assert_eq!(v4(text), None, "{text}");
        }
        for text in [
            "std::vec",
            "a::b",
            "12:34:56",
            "::1",
            "::",
            "00:1b:44:11:3a:b7",
            "aa:bb:cc:dd:ee:ff:00:11",
            "Foo::add1",
            "fee::add",
            "\"a\":1",
        ] {
            assert!(v6(text).is_empty(), "{text}: {:?}", v6(text));
        }
    }
}
