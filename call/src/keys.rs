//! The deployment's secret keys and what is derived from them. Never printed, never serialised.

use ring::{digest, hmac};
use std::fmt;

/// 32 secret bytes; its `Debug` shows none of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Key {
        Key(bytes)
    }

    /// The bytes, for a cipher or a MAC.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A short public name of the key: the first 8 hex digits of its SHA-256.
    pub fn id(&self) -> String {
        hex(&digest::digest(&digest::SHA256, &self.0).as_ref()[..4])
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({}…)", self.id())
    }
}

/// The four keys of a deployment.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Wraps the data key of each spool segment.
    pub spool: Key,
    /// Wraps the data keys of stored objects, and keys the digests in records.
    pub store: Key,
    /// HMAC of clients, users, sessions and addresses.
    pub origin: Key,
    /// HMAC that surrogates of masked values are made from.
    pub surrogate: Key,
    /// Spool keys of before: they open segments that were sealed with them.
    pub older_spool: Vec<Key>,
}

impl Keys {
    /// All keys that a segment may be sealed with.
    pub fn all_of_spool(&self) -> Vec<Key> {
        std::iter::once(&self.spool).chain(&self.older_spool).cloned().collect()
    }
}

impl Keys {
    /// The names of the keys, which are the names of their files too.
    pub const NAMES: [&'static str; 4] = ["spool", "store", "origin", "surrogate"];
}

/// Pseudonyms of origins: HMAC-SHA-256 with the origin key, 32 hex digits.
pub struct Origins {
    key: hmac::Key,
    /// Public name of the origin key, kept beside each pseudonym.
    pub key_id: String,
}

impl Origins {
    /// Pseudonyms under this key.
    pub fn new(key: &Key) -> Origins {
        Origins {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.bytes()),
            key_id: key.id(),
        }
    }

    /// The pseudonym of a value of a kind (`client`, `user`, `conversation`, …); kinds never collide.
    pub fn pseudonym(&self, kind: &str, value: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(kind.as_bytes());
        context.update(&[0]);
        context.update(value);
        hex(&context.sign().as_ref()[..16])
    }
}

/// Keyed blake3 digest of the parts, 32 hex digits; parts are length-prefixed, so that cuts matter.
pub fn keyed_digest<'a>(key: &Key, parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = blake3::Hasher::new_keyed(key.bytes());
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex(&hasher.finalize().as_bytes()[..16])
}

/// Lower-case hex of the bytes.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// The bytes of a hex text of exactly `N` of them.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonyms_are_stable_keyed_and_apart_by_kind() {
        let one = Origins::new(&Key::new([1; 32]));
        let two = Origins::new(&Key::new([2; 32]));
        assert_eq!(one.pseudonym("client", b"k"), one.pseudonym("client", b"k"));
        assert_ne!(one.pseudonym("client", b"k"), two.pseudonym("client", b"k"));
        assert_ne!(one.pseudonym("client", b"k"), one.pseudonym("user", b"k"));
    }

    #[test]
    fn digests_depend_on_where_parts_end() {
        let key = Key::new([7; 32]);
        assert_ne!(
            keyed_digest(&key, [b"ab".as_slice(), b"c"]),
            keyed_digest(&key, [b"a".as_slice(), b"bc"])
        );
    }

    #[test]
    fn debug_shows_no_key_bytes() {
        let shown = format!("{:?}", Key::new([0xab; 32]));
        assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
    }
}
