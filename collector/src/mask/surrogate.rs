//! Surrogates: what stands in a value's place. Equal values get equal surrogates, under one key, everywhere.
//!
//! A surrogate is a keyed hash of kind and normalised value, written in the value's own format; it names nobody:
//! reserved domains and addresses, test card prefixes, area codes and exchanges kept for fiction.

use super::account::{compact, set_iban_check};
use super::card::{set_check_digit, test_prefix};
use super::kind::Kind;
use super::phone::plan::code_length;
use super::secret::public_prefix;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Makes surrogates under one key.
pub(super) struct Surrogates {
    key: [u8; 32],
}

/// A stream of keyed bytes, as long as needed.
struct Stream(blake3::OutputReader);

impl Stream {
    /// A number below `bound`; the bias is under 2⁻²⁴ for the bounds used here.
    fn below(&mut self, bound: u32) -> u32 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes) % bound
    }

    fn pick(&mut self, letters: &[u8]) -> u8 {
        letters[self.below(letters.len() as u32) as usize]
    }

    fn word(&mut self, length: usize) -> String {
        (0..length)
            .map(|_| char::from(self.pick(b"abcdefghijkmnpqrstuvwxyz23456789")))
            .collect()
    }

    fn digit(&mut self) -> u8 {
        self.pick(b"0123456789")
    }

    /// A letter or digit of the same class; anything else as it is.
    fn like(&mut self, byte: u8) -> u8 {
        match byte {
            b'1'..=b'9' => self.pick(b"123456789"),
            b'0' => self.digit(),
            b'a'..=b'z' => self.pick(b"abcdefghijklmnopqrstuvwxyz"),
            b'A'..=b'Z' => self.pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
            other => other,
        }
    }
}

impl Surrogates {
    pub(super) fn new(key: &[u8; 32]) -> Surrogates {
        Surrogates { key: *key }
    }

    /// The surrogate of a value as it was found.
    pub(super) fn of(&self, kind: Kind, value: &str) -> String {
        match kind {
            Kind::Email => self.email(value),
            Kind::Phone => self.phone(value),
            Kind::CreditCard => self.card(value),
            Kind::Iban => self.iban(value),
            Kind::UsSsn => self.ssn(value),
            Kind::IpAddress => self.address(value),
            Kind::Secret => self.secret(value),
            Kind::Person | Kind::StreetAddress | Kind::DateOfBirth | Kind::Mrn | Kind::Dictionary => {
                self.words(kind, value)
            }
        }
    }

    fn stream(&self, kind: Kind, normalised: &[u8]) -> Stream {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher
            .update(b"understudy surrogate 1\0")
            .update(kind.as_str().as_bytes())
            .update(b"\0")
            .update(normalised);
        Stream(hasher.finalize_xof())
    }

    /// Under RFC 2606's `example.com`; one domain gets one surrogate domain, so that colleagues stay colleagues.
    fn email(&self, value: &str) -> String {
        let plain = value.to_lowercase();
        let mark = if plain.contains('@') { "@" } else { "%40" };
        let (local, domain) = plain.rsplit_once(mark).unwrap_or((&plain, ""));
        let whole = format!("{local}@{domain}");
        let local = self.stream(Kind::Email, whole.as_bytes()).word(10);
        let host = self.stream(Kind::Email, domain.as_bytes()).word(6);
        format!("{local}{mark}{host}.example.com")
    }

    /// Keeps punctuation, country code, trunk zero and the digit after them; a North American number gets exchange 555.
    fn phone(&self, value: &str) -> String {
        let mut digits: Vec<u8> = value.bytes().filter(u8::is_ascii_digit).collect();
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        let is_international = value.starts_with(['+', '%']) || zeros >= 2;
        let code = if is_international {
            code_length(&digits[zeros..]).unwrap_or(1)
        } else {
            0
        };
        let is_north_american = match digits[zeros..] {
            [b'1', ref rest @ ..] => rest.len() == 10 && (code == 1 || value.contains(['-', ' ', '.', '('])),
            ref all => code == 0 && zeros == 0 && all.len() == 10 && all[0] > b'1' && all[3] > b'1',
        };
        let normalised = if is_north_american {
            &digits[digits.len() - 10..]
        } else {
            &digits[zeros.min(digits.len())..]
        };
        let mut stream = self.stream(Kind::Phone, normalised);
        if is_north_american {
            let start = digits.len() - 10;
            digits[start] = stream.pick(b"23456789");
            digits[start + 1..].fill_with(|| stream.digit());
            digits[start + 3..start + 6].fill(b'5');
        } else {
            let kept = (zeros + code + 1).min(digits.len().saturating_sub(5));
            digits[kept..].fill_with(|| stream.digit());
        }
        with_digits(value, &digits)
    }

    /// Same length and grouping, a test prefix of the brand, right by Luhn.
    fn card(&self, value: &str) -> String {
        let mut digits: Vec<u8> = value.bytes().filter(u8::is_ascii_digit).collect();
        let mut stream = self.stream(Kind::CreditCard, &digits);
        let prefix = test_prefix(&digits);
        let kept = prefix.len().min(digits.len());
        digits[..kept].copy_from_slice(&prefix[..kept]);
        digits[kept..].fill_with(|| stream.digit());
        set_check_digit(&mut digits);
        with_digits(value, &digits)
    }

    /// Same country and grouping, with a right check.
    fn iban(&self, value: &str) -> String {
        let mut letters = compact(value.as_bytes());
        if letters.len() < 5 {
            return self.words(Kind::Iban, value);
        }
        let mut stream = self.stream(Kind::Iban, &letters);
        for byte in &mut letters[4..] {
            *byte = stream.like(*byte);
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

    /// In 9xx with a group under 50, which is never issued.
    fn ssn(&self, value: &str) -> String {
        let mut digits: Vec<u8> = value.bytes().filter(u8::is_ascii_digit).collect();
        let mut stream = self.stream(Kind::UsSsn, &digits);
        digits.fill_with(|| stream.digit());
        if let [area, _, _, group, ..] = digits.as_mut_slice() {
            *area = b'9';
            *group = stream.pick(b"01234");
        }
        with_digits(value, &digits)
    }

    /// In 10.0.0.0/8, since the documentation ranges hold too few; in 2001:db8::/32.
    fn address(&self, value: &str) -> String {
        if let Ok(address) = value.parse::<Ipv6Addr>() {
            let mut stream = self.stream(Kind::IpAddress, &address.octets());
            let mut groups = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0];
            groups[2..].fill_with(|| stream.below(0x1_0000) as u16);
            return Ipv6Addr::from(groups).to_string();
        }
        let mut stream = self.stream(Kind::IpAddress, value.as_bytes());
        Ipv4Addr::from(0x0a00_0000 | stream.below(1 << 24)).to_string()
    }

    /// Same length, known prefix kept, each letter and digit by one of its class; the lines around a key block stay.
    fn secret(&self, value: &str) -> String {
        let mut stream = self.stream(Kind::Secret, value.as_bytes());
        let (head, tail) = if value.starts_with("-----BEGIN") {
            key_block_lines(value)
        } else {
            (public_prefix(value), value.len())
        };
        let mut is_escaped = false;
        let replaced = value[head..tail].chars().map(|letter| {
            // In escaped text the letter after a backslash is part of the escape.
            let is_kept = is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            match letter.is_ascii() {
                true if is_kept => letter,
                true => char::from(stream.like(letter as u8)),
                false => char::from(stream.like(b'a')),
            }
        });
        let mut surrogate = value[..head].to_owned();
        surrogate.extend(replaced);
        surrogate + &value[tail..]
    }

    /// Letters by letters, digits by digits; at least six, so that short entries don't fall together.
    fn words(&self, kind: Kind, value: &str) -> String {
        let mut stream = self.stream(kind, value.to_lowercase().as_bytes());
        let mut count = 0;
        let mut surrogate: String = value
            .chars()
            .map(|letter| {
                count += usize::from(letter.is_alphanumeric());
                match letter {
                    _ if letter.is_ascii() => char::from(stream.like(letter as u8)),
                    _ if letter.is_uppercase() => char::from(stream.like(b'A')),
                    _ if letter.is_alphabetic() => char::from(stream.like(b'a')),
                    _ => letter,
                }
            })
            .collect();
        let model = if value.bytes().all(|byte| byte.is_ascii_digit()) {
            b'1'
        } else {
            b'a'
        };
        surrogate.extend((count..6).map(|_| char::from(stream.like(model))));
        surrogate
    }
}

/// The value with its digits replaced in order.
fn with_digits(value: &str, digits: &[u8]) -> String {
    let mut digits = digits.iter();
    value
        .chars()
        .map(|letter| {
            if letter.is_ascii_digit() {
                digits.next().map_or(letter, |digit| char::from(*digit))
            } else {
                letter
            }
        })
        .collect()
}

/// Where the first line of a key block ends and its last begins.
fn key_block_lines(value: &str) -> (usize, usize) {
    let head = value.find("KEY").map_or(0, |at| {
        value[at..].find("-----").map_or(value.len(), |dashes| at + dashes + 5)
    });
    let tail = value
        .rfind("-----END")
        .filter(|tail| *tail >= head)
        .unwrap_or(value.len());
    (head, tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind, value: &str) -> String {
        Surrogates::new(&[7; 32]).of(kind, value)
    }

    fn shape(value: &str) -> String {
        value
            .chars()
            .map(|letter| if letter.is_ascii_digit() { '9' } else { letter })
            .collect()
    }

    #[test]
    fn the_key_decides_and_equal_values_stay_equal() {
        let other = Surrogates::new(&[8; 32]);
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
        assert!(of(Kind::IpAddress, "195.1.2.3").starts_with("10."));
        assert!(of(Kind::IpAddress, "fe80::1").starts_with("2001:db8:"));
        assert!(of(Kind::Email, "a@b.io").ends_with(".example.com"));
        let words = of(Kind::Dictionary, "Acme Østfold 42");
        assert!(
            words.len() == 15
                && words.starts_with(char::is_uppercase)
                && words.ends_with(|letter: char| letter.is_ascii_digit())
        );
        assert_eq!(of(Kind::Person, "Al").len(), 6);
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
