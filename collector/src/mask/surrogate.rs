//! Surrogates: what stands in a value's place. Equal values get equal surrogates, under one key, everywhere.
//!
//! A surrogate is a keyed hash of kind and normalised value, written in the value's own format; it names nobody:
//! reserved domains and addresses, test card prefixes, exchanges kept for fiction, years long past. It is known again by
//! that, or by a keyed seal in it, and left as it is: what was masked once does not change when it is masked again.

mod date;
mod number;
mod stream;
mod text;

use super::account::{compact, set_iban_check};
use super::kind::Kind;
use std::net::{Ipv4Addr, Ipv6Addr};
use stream::Stream;

/// What stands in a value's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SurrogateStyle {
    /// A value of the same form: equal ones for equal values.
    #[default]
    Consistent,
    /// The kind in brackets: `[EMAIL]`.
    Label,
    /// Nothing.
    Remove,
}

/// Makes surrogates under one key.
#[derive(Clone)]
pub(super) struct Surrogates {
    key: [u8; 32],
    /// The same in every scope, so that a surrogate is known wherever it comes from.
    seal_key: [u8; 32],
    style: SurrogateStyle,
}

impl Surrogates {
    pub(super) fn new(key: &[u8; 32], style: SurrogateStyle) -> Surrogates {
        Surrogates {
            key: *key,
            seal_key: blake3::derive_key("understudy 2026 seal of surrogates", key),
            style,
        }
    }

    /// Surrogates that are equal only within `scope`.
    pub(super) fn within(&self, scope: &str) -> Surrogates {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(b"understudy surrogate scope\0").update(scope.as_bytes());
        Surrogates {
            key: *hasher.finalize().as_bytes(),
            ..self.clone()
        }
    }

    /// What stands in the place of a value as it was found.
    pub(super) fn of(&self, kind: Kind, value: &str) -> String {
        match self.style {
            SurrogateStyle::Consistent => self.consistent(kind, value),
            SurrogateStyle::Label => format!("[{}]", kind.as_str()),
            SurrogateStyle::Remove => String::new(),
        }
    }

    fn consistent(&self, kind: Kind, value: &str) -> String {
        match kind {
            Kind::Email => self.email(value),
            Kind::Phone => self.phone(value),
            Kind::CreditCard => self.card(value),
            Kind::Iban => self.iban(value),
            Kind::UsSsn => self.ssn(value),
            Kind::IpAddress => self.address(value),
            Kind::Secret | Kind::Mrn | Kind::Pattern => self.code(kind, value),
            Kind::DateOfBirth => self.birth(value),
            Kind::Person | Kind::StreetAddress | Kind::Dictionary => self.words(kind, value),
        }
    }

    /// Whether what was found at `start..end` was put there by a mask of this deployment.
    pub(super) fn are_at(&self, text: &str, start: usize, end: usize, kind: Kind) -> bool {
        let value = &text[start..end];
        let is_one = match kind {
            Kind::Email => self.is_email(value),
            Kind::Phone => self.is_phone(value) || Self::is_ssn(value),
            Kind::CreditCard => self.is_card(value),
            Kind::Iban => self.is_iban(value),
            Kind::UsSsn => Self::is_ssn(value),
            Kind::IpAddress => self.is_address(value),
            Kind::Secret | Kind::Mrn | Kind::Pattern => self.is_code(value),
            Kind::DateOfBirth => Self::is_birth(value),
            Kind::Person | Kind::StreetAddress | Kind::Dictionary => false,
        };
        let is_of_words = matches!(
            kind,
            Kind::Person | Kind::StreetAddress | Kind::Dictionary | Kind::DateOfBirth
        );
        is_one || (is_of_words && self.has_sealed_word(value)) || is_label(text, start, end)
    }

    fn stream(&self, kind: Kind, normalised: &[u8]) -> Stream {
        Stream::new(&self.key, kind.as_str(), normalised)
    }

    fn seal(&self, domain: &str, body: &[u8]) -> Stream {
        Stream::new(&self.seal_key, domain, body)
    }

    /// Under RFC 2606's `example.com`; one domain gets one surrogate domain, so that colleagues stay colleagues.
    fn email(&self, value: &str) -> String {
        let plain = value.to_lowercase();
        let (local, mark, domain) = email_parts(&plain).unwrap_or((&plain, "@", ""));
        let whole = format!("{local}@{domain}");
        let host = self.stream(Kind::Email, domain.as_bytes()).word(6);
        let local = self.stream(Kind::Email, whole.as_bytes()).word(6);
        let seal = self.email_seal(&local, &host);
        format!("{local}{seal}{mark}{host}.example.com")
    }

    fn email_seal(&self, local: &str, host: &str) -> String {
        self.seal("email", format!("{local}@{host}").as_bytes()).word(4)
    }

    fn is_email(&self, value: &str) -> bool {
        let ends_right = |end: &[u8; 12]| end.eq_ignore_ascii_case(b".example.com");
        if !value.as_bytes().last_chunk().is_some_and(ends_right) {
            return false;
        }
        let plain = value.to_lowercase();
        let Some((local, _, domain)) = email_parts(&plain).filter(|_| plain.is_ascii()) else {
            return false;
        };
        domain.strip_suffix(".example.com").is_some_and(|host| {
            local.len() == 10 && host.len() == 6 && self.email_seal(&local[..6], host) == local[6..]
        })
    }

    /// Same country and grouping, with a right check.
    fn iban(&self, value: &str) -> String {
        let mut letters = compact(value.as_bytes());
        let Some(sealed) = letters.len().checked_sub(IBAN_SEAL).filter(|sealed| *sealed > 4) else {
            return self.words(Kind::Iban, value);
        };
        let mut stream = self.stream(Kind::Iban, &letters);
        for byte in &mut letters[4..] {
            *byte = like(&mut stream, *byte);
        }
        let mut seal = self.seal("iban", &letters[4..sealed]);
        for byte in &mut letters[sealed..] {
            *byte = like(&mut seal, *byte);
        }
        set_iban_check(&mut letters);
        let mut letters = letters.into_iter();
        value
            .chars()
            .map(|letter| {
                if letter.is_ascii_alphanumeric() {
                    letters.next().map_or(letter, char::from)
                } else {
                    letter
                }
            })
            .collect()
    }

    fn is_iban(&self, value: &str) -> bool {
        let letters = compact(value.as_bytes());
        let Some(sealed) = letters.len().checked_sub(IBAN_SEAL).filter(|sealed| *sealed > 4) else {
            return false;
        };
        let mut seal = self.seal("iban", &letters[4..sealed]);
        letters[sealed..].iter().all(|byte| like(&mut seal, *byte) == *byte)
    }

    /// In 240.0.0.0/5, which is given to nobody, since the documentation ranges hold too few; in 2001:db8::/32.
    fn address(&self, value: &str) -> String {
        if let Ok(address) = value.parse::<Ipv6Addr>() {
            let mut stream = self.stream(Kind::IpAddress, &address.octets());
            let mut groups = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0];
            groups[2..].fill_with(|| stream.below(0x1_0000) as u16);
            let seal = self.ipv6_seal(&groups);
            groups[6..].copy_from_slice(&seal);
            return Ipv6Addr::from(groups).to_string();
        }
        let bits = self.stream(Kind::IpAddress, value.as_bytes()).below(1 << 22);
        Ipv4Addr::from(UNUSED_NET | (bits << IPV4_SEAL_BITS) | self.ipv4_seal(bits)).to_string()
    }

    fn is_address(&self, value: &str) -> bool {
        if let Ok(address) = value.parse::<Ipv6Addr>() {
            let groups = address.segments();
            return groups[..2] == [0x2001, 0xdb8] && groups[6..] == self.ipv6_seal(&groups);
        }
        value.parse::<Ipv4Addr>().is_ok_and(|address| {
            if address.to_bits() & UNUSED_NET != UNUSED_NET {
                return false;
            }
            let bits = (address.to_bits() & !UNUSED_NET) >> IPV4_SEAL_BITS;
            address.to_bits() == (UNUSED_NET | (bits << IPV4_SEAL_BITS) | self.ipv4_seal(bits))
        })
    }

    fn ipv6_seal(&self, groups: &[u16; 8]) -> [u16; 2] {
        let body: Vec<u8> = groups[2..6].iter().flat_map(|group| group.to_be_bytes()).collect();
        let mut seal = self.seal("ipv6", &body);
        [seal.below(0x1_0000) as u16, seal.below(0x1_0000) as u16]
    }

    fn ipv4_seal(&self, bits: u32) -> u32 {
        self.seal("ipv4", &bits.to_be_bytes()).below(1 << IPV4_SEAL_BITS)
    }
}

/// Characters at an IBAN's end that are its seal.
const IBAN_SEAL: usize = 4;
/// 240.0.0.0/5.
const UNUSED_NET: u32 = 0xf000_0000;
const IPV4_SEAL_BITS: u32 = 5;

fn like(stream: &mut Stream, byte: u8) -> u8 {
    // ASCII in, ASCII out.
    stream.like(char::from(byte)) as u8
}

/// What is before the mark, the mark, what is after it.
fn email_parts(plain: &str) -> Option<(&str, &'static str, &str)> {
    let mark = if plain.contains('@') { "@" } else { "%40" };
    let (local, domain) = plain.rsplit_once(mark)?;
    Some((local, mark, domain))
}

/// `[EMAIL]`: what [`SurrogateStyle::Label`] puts in, brackets included or not.
fn is_label(text: &str, start: usize, end: usize) -> bool {
    let value = text[start..end].trim_start_matches('[').trim_end_matches(']');
    let begins = text[..start].ends_with('[') || text[start..].starts_with('[');
    let ends = text[end..].starts_with(']') || text[..end].ends_with(']');
    begins && ends && Kind::from_name(value).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind, value: &str) -> String {
        Surrogates::new(&[7; 32], SurrogateStyle::Consistent).of(kind, value)
    }

    fn shape(value: &str) -> String {
        value
            .chars()
            .map(|letter| if letter.is_ascii_digit() { '9' } else { letter })
            .collect()
    }

    #[test]
    fn the_key_decides_and_equal_values_stay_equal() {
        let other = Surrogates::new(&[8; 32], SurrogateStyle::Consistent);
        for (kind, value) in [
            (Kind::Email, "ann@example.org"),
            (Kind::Phone, "+33 6 12 34 51 83"),
            (Kind::Person, "Ann Lee"),
            (Kind::IpAddress, "195.1.2.3"),
        ] {
            assert_eq!(of(kind, value), of(kind, value));
            assert_ne!(of(kind, value), other.of(kind, value));
            assert_ne!(of(kind, value), value);
        }
        assert_eq!(of(Kind::Email, "Ann@Example.org"), of(Kind::Email, "ann@example.org"));
        assert_eq!(
            of(Kind::Email, "ann@example.org").replace('@', "%40"),
            of(Kind::Email, "ann%40example.org")
        );
        let host = |value: &str| of(Kind::Email, value).split_once('@').unwrap().1.to_owned();
        assert_eq!(host("ann@example.org"), host("bob@example.org"));
        let digits = |value: &str| -> String { value.chars().filter(char::is_ascii_digit).collect() };
        assert_eq!(
            digits(&of(Kind::CreditCard, "4111 1111 1111 1111")),
            of(Kind::CreditCard, "4111111111111111")
        );
        assert_eq!(
            digits(&of(Kind::Phone, "+1 506-233-6690")),
            format!("1{}", digits(&of(Kind::Phone, "(506) 233-6690")))
        );
    }

    #[test]
    fn formats_are_kept() {
        for value in [
            "+33 6 12 34 51 83",
            "0121 234 5517",
            "(506) 234-5636 x680",
            "506-233-6690",
            "555-1234",
            "+49 30 123778",
        ] {
            assert_eq!(shape(&of(Kind::Phone, value)), shape(value));
        }
        assert!(of(Kind::Phone, "+33 6 12 34 51 83").starts_with("+33 6 "));
        assert!(of(Kind::Phone, "506-233-6690").contains("-555-"));
        assert!(of(Kind::CreditCard, "4111-1111-1111-1111").starts_with("4000-00"));
        assert_eq!(shape(&of(Kind::UsSsn, "078-05-1120")), "999-99-9999");
        assert!(of(Kind::UsSsn, "078-05-1120").starts_with('9'));
        assert!(of(Kind::Iban, "GB29 NWBK 6016 1331 9268 19").starts_with("GB"));
        assert!(of(Kind::IpAddress, "195.1.2.3").starts_with("24"));
        assert!(of(Kind::IpAddress, "fe80::1").starts_with("2001:db8:"));
        assert!(of(Kind::Email, "a@b.io").ends_with(".example.com"));
        let words = of(Kind::Dictionary, "Acme ØSTFOLD 42");
        let parts: Vec<&str> = words.split(' ').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [10, 10, 2]);
        assert!(parts[0].chars().nth(1).is_some_and(char::is_lowercase) && parts[1] == parts[1].to_uppercase());
        // A first name alone is still the first name; words that tell nothing stay.
        let name = of(Kind::Person, "Ann van der Berg");
        assert!(
            name.starts_with(&of(Kind::Person, "Ann")) && name.contains(" van der "),
            "{name}"
        );
        assert!(of(Kind::StreetAddress, "12 Elm Street").ends_with(" Street"));
        assert!(of(Kind::DateOfBirth, "1979-03-04").starts_with("18"));
        assert!(of(Kind::DateOfBirth, "4 March 79").contains(" 18"));
    }

    #[test]
    fn secrets_keep_prefix_length_and_lines() {
        let token = format!("gh{}{}", "p_", "k3Jx9QbL2mZr7TfW0aVd5HcN8eYg4Ps6Un1x");
        let surrogate = of(Kind::Secret, &token);
        assert!(surrogate.starts_with("ghp_") && surrogate.len() == token.len() && surrogate != token);
        let pem = format!("-----BEGIN {0}-----\\nAbc9\\n-----END {0}-----", "PRIVATE KEY");
        let surrogate = of(Kind::Secret, &pem);
        let line = pem.find("Abc9").unwrap();
        assert_eq!(surrogate[..line], pem[..line]);
        assert_eq!(surrogate[line + 4..], pem[line + 4..]);
        assert!(!surrogate.contains("Abc9"));
    }
}
