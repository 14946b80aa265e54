//! The scan: every rule over one text, and one answer where they overlap.
//!
//! Knows the order of the rules and nothing of what they look for.

use super::digits::{Digits, end_of_run};
use super::kind::Kind;
use super::scene::Scene;
use super::secret::Secrets;
use super::{account, card, email, network, phone};

/// A value found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: Kind,
    /// Found by what stands around it, so that the same value elsewhere may not be found by itself.
    pub(super) by_context: bool,
}

impl Hit {
    pub(super) fn sure(start: usize, end: usize, kind: Kind) -> Hit {
        Hit {
            start,
            end,
            kind,
            by_context: false,
        }
    }

    pub(super) fn by_context(start: usize, end: usize, kind: Kind) -> Hit {
        Hit {
            start,
            end,
            kind,
            by_context: true,
        }
    }
}

/// Runs the built-in rules; hits come in no order and may overlap.
pub(super) fn find(scene: &Scene<'_>, secrets: &Secrets, hits: &mut Vec<Hit>) {
    secrets.find(scene, hits);
    email::find(scene.text, hits);
    network::find_ipv6(scene.text, hits);
    find_numbers(scene, hits);
}

/// Everything that has digits in groups, in one pass over the runs of digits.
fn find_numbers(scene: &Scene<'_>, hits: &mut Vec<Hit>) {
    let bytes = scene.bytes();
    let mut at = 0;
    while let Some(offset) = bytes[at..].iter().position(u8::is_ascii_digit) {
        let start = at + offset;
        at = end_of_run(bytes, start);
        if let Some(hit) = number_at(scene, start, at) {
            at = at.max(hit.end);
            hits.push(hit);
        }
    }
}

fn number_at(scene: &Scene<'_>, start: usize, run_end: usize) -> Option<Hit> {
    let bytes = scene.bytes();
    let follows_letter = start > 0 && bytes[start - 1].is_ascii_alphabetic();
    if follows_letter {
        if let Some(iban) = account::iban_at(scene, start) {
            return Some(iban);
        }
        // Only `\n5…` in escaped text and `%2B5…` in a URL begin a number after a letter.
        if start < 2 || !matches!(bytes[start - 2], b'\\' | b'2') {
            return None;
        }
    }
    // A digit of a word, or a short number that nothing goes on from, is told without reading on.
    let goes_on = bytes
        .get(run_end)
        .is_some_and(|next| !matches!(next, b',' | b'"' | b':' | b'}' | b']' | b'\n'));
    if run_end - start < 7 && !goes_on {
        return None;
    }
    let digits = Digits::read(bytes, start);
    network::ipv4_at(scene, &digits)
        .or_else(|| card::at(scene, &digits))
        .or_else(|| account::ssn_at(scene, &digits))
        .or_else(|| phone::at(scene, &digits))
}

/// Sorts hits and joins those that overlap: what any of them covers stays covered, under the kind of the longest.
pub(super) fn settle(hits: &mut Vec<Hit>) {
    if hits.len() < 2 {
        return;
    }
    hits.sort_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end)));
    let mut settled: Vec<Hit> = Vec::with_capacity(hits.len());
    let mut longest = 0;
    for hit in hits.drain(..) {
        match settled.last_mut() {
            Some(last) if hit.start < last.end => {
                if hit.end - hit.start > longest {
                    longest = hit.end - hit.start;
                    last.kind = hit.kind;
                }
                last.by_context &= hit.by_context;
                last.end = last.end.max(hit.end);
            }
            _ => {
                longest = hit.end - hit.start;
                settled.push(hit);
            }
        }
    }
    *hits = settled;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_joined_under_the_longest() {
        let mut hits = vec![
            Hit::sure(8, 12, Kind::Phone),
            Hit::sure(0, 4, Kind::Email),
            Hit::sure(2, 9, Kind::Secret),
            Hit::sure(12, 13, Kind::Iban),
        ];
        settle(&mut hits);
        assert_eq!(hits, [Hit::sure(0, 12, Kind::Secret), Hit::sure(12, 13, Kind::Iban)]);
    }
}
