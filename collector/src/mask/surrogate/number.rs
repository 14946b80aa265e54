//! Surrogates of telephone, card and social security numbers: the value's own punctuation around other digits.
//!
//! Of a phone or card number the last free digits are a seal over those before them.

use super::Surrogates;
use super::stream::Stream;
use crate::mask::card::{set_check_digit, test_prefix};
use crate::mask::kind::Kind;
use crate::mask::phone::plan::code_length;

/// The exchange that is kept for fiction.
const FICTION: &[u8] = b"555";
/// Digits of a card number that are its seal, before the check digit.
const CARD_SEAL: usize = 3;

/// The parts of a telephone number: what stays, what is drawn, what is the seal.
struct Plan {
    digits: Vec<u8>,
    /// Where the number begins that makes it the same number, however it is dialled.
    normal: usize,
    is_north_american: bool,
    kept: usize,
    sealed: usize,
}

impl Plan {
    fn of(value: &str) -> Plan {
        Plan::north_american(value).unwrap_or_else(|| Plan::other(value))
    }

    fn north_american(value: &str) -> Option<Plan> {
        let Parts { digits, zeros, code } = Parts::of(value);
        let is_north_american = match digits[zeros..] {
            [b'1', ref rest @ ..] => rest.len() == 10 && (code == 1 || value.contains(['-', ' ', '.', '('])),
            ref all => code == 0 && zeros == 0 && all.len() == 10 && all[0] > b'1' && all[3] > b'1',
        };
        is_north_american.then(|| Plan {
            normal: digits.len() - 10,
            is_north_american,
            kept: digits.len() - 10,
            sealed: 2,
            digits,
        })
    }

    fn other(value: &str) -> Plan {
        let Parts { digits, zeros, code } = Parts::of(value);
        let length = digits.len();
        let kept = (zeros + code + 1).min(length.saturating_sub(5));
        let sealed = if length - kept >= 8 { 3 } else { 2 };
        Plan {
            normal: zeros,
            is_north_american: false,
            kept,
            sealed: sealed.min(length - kept),
            digits,
        }
    }

    /// The digits without their seal, and the seal.
    fn split(&self) -> (&[u8], &[u8]) {
        let (body, seal) = self.digits.split_at(self.digits.len() - self.sealed);
        (body.get(self.normal..).unwrap_or_default(), seal)
    }
}

/// A number's digits, how many zeros they begin with, and how long the country code after them is.
struct Parts {
    digits: Vec<u8>,
    zeros: usize,
    code: usize,
}

impl Parts {
    fn of(value: &str) -> Parts {
        let digits = digits_of(value);
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        let is_international = value.starts_with(['+', '%']) || zeros >= 2;
        let code = if is_international {
            code_length(&digits[zeros..]).unwrap_or(1)
        } else {
            0
        };
        Parts { digits, zeros, code }
    }
}

impl Surrogates {
    /// Keeps punctuation, country code, trunk zero and the digit after them; a North American number gets exchange 555.
    pub(super) fn phone(&self, value: &str) -> String {
        let mut plan = Plan::of(value);
        let mut stream = self.stream(Kind::Phone, &plan.digits[plan.normal..]);
        plan.digits[plan.kept..].fill_with(|| stream.digit());
        if plan.is_north_american {
            plan.digits[plan.kept] = stream.pick(b"23456789");
            plan.digits[plan.kept + 3..plan.kept + 6].copy_from_slice(FICTION);
        }
        let seal = self.digit_seal("phone", plan.split().0, plan.sealed);
        let end = plan.digits.len() - plan.sealed;
        plan.digits[end..].copy_from_slice(&seal);
        with_digits(value, &plan.digits)
    }

    pub(super) fn is_phone(&self, value: &str) -> bool {
        // What was drawn for another number may look North American.
        let plans = [Plan::north_american(value), Some(Plan::other(value))];
        plans.into_iter().flatten().any(|plan| {
            let (body, seal) = plan.split();
            let is_fiction = !plan.is_north_american || body.get(3..6) == Some(FICTION);
            body.len() >= 4 && is_fiction && self.digit_seal("phone", body, plan.sealed) == seal
        })
    }

    /// Same length and grouping, a test prefix of the brand, right by Luhn.
    pub(super) fn card(&self, value: &str) -> String {
        let mut digits = digits_of(value);
        let mut stream = self.stream(Kind::CreditCard, &digits);
        let prefix = test_prefix(&digits);
        let kept = prefix.len().min(digits.len());
        digits[..kept].copy_from_slice(&prefix[..kept]);
        digits[kept..].fill_with(|| stream.digit());
        if let Some(body) = digits.len().checked_sub(CARD_SEAL + 1) {
            let seal = self.digit_seal("card", &digits[..body], CARD_SEAL);
            digits[body..body + CARD_SEAL].copy_from_slice(&seal);
        }
        set_check_digit(&mut digits);
        with_digits(value, &digits)
    }

    pub(super) fn is_card(&self, value: &str) -> bool {
        let digits = digits_of(value);
        let Some(body) = digits.len().checked_sub(CARD_SEAL + 1).filter(|body| *body >= 8) else {
            return false;
        };
        digits.starts_with(test_prefix(&digits))
            && self.digit_seal("card", &digits[..body], CARD_SEAL) == digits[body..body + CARD_SEAL]
    }

    /// In 9xx with a group under 50, which is never issued, so it needs no seal.
    pub(super) fn ssn(&self, value: &str) -> String {
        let mut digits = digits_of(value);
        let mut stream = self.stream(Kind::UsSsn, &digits);
        digits.fill_with(|| stream.digit());
        if let [area, _, _, group, ..] = digits.as_mut_slice() {
            *area = b'9';
            *group = stream.pick(b"01234");
        }
        with_digits(value, &digits)
    }

    /// A number written as social security numbers are, which none is.
    pub(super) fn is_ssn(value: &str) -> bool {
        let mut groups = value.split(['-', ' ']);
        let mut next = |length: usize| {
            groups
                .next()
                .filter(|group| group.len() == length && group.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let is_unissued = next(3).is_some_and(|area| area.starts_with('9'))
            && next(2).is_some_and(|group| group < "50")
            && next(4).is_some();
        is_unissued && groups.next().is_none()
    }

    fn digit_seal(&self, domain: &str, body: &[u8], count: usize) -> Vec<u8> {
        let mut stream: Stream = self.seal(domain, body);
        (0..count).map(|_| stream.digit()).collect()
    }
}

fn digits_of(value: &str) -> Vec<u8> {
    value.bytes().filter(u8::is_ascii_digit).collect()
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
