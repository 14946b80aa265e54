//! The scan: every rule over one text.
//!
//! Knows the order of the rules and nothing of what they look for.

use super::digits::{Digits, end_of_run};
use super::hit::Hit;
use super::lexicon::Lexicon;
use super::scene::Scene;
use super::secret::Secrets;
use super::word::{Page, Paper, Role};
use super::{account, birth, card, email, network, person, phone, record, street};

/// Runs the built-in rules; hits come in no order and may overlap.
pub(super) fn find(scene: &Scene<'_>, secrets: &Secrets, paper: &mut Paper, hits: &mut Vec<Hit>) {
    let mut numbers = Numbers::default();
    if is_short_and_plain(scene.text) {
        find_words(scene, paper, hits, &mut numbers);
        return;
    }
    secrets.find(scene, hits);
    email::find(scene.text, hits);
    let values = places(hits);
    let scene = &Scene {
        values: &values,
        ..*scene
    };
    find_words(scene, paper, hits, &mut numbers);
    network::find_ipv6(scene.text, hits);
    hits.append(&mut numbers.hits);
}

/// Where hits are, sorted, those that overlap as one.
fn places(hits: &[Hit]) -> Vec<(usize, usize)> {
    let mut places: Vec<(usize, usize)> = hits.iter().map(|hit| (hit.start, hit.end)).collect();
    places.sort_unstable();
    places.dedup_by(|next, last| {
        let is_part = next.0 < last.1;
        if is_part {
            last.1 = last.1.max(next.1);
        }
        is_part
    });
    places
}

/// Too short for anything but a name, or a few plain words.
fn is_short_and_plain(text: &str) -> bool {
    let is_word_byte = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b' ' | b'_' | b'-' | b'.' | b',');
    text.len() < 6 || (text.len() < 20 && text.bytes().all(is_word_byte))
}

/// Bytes whose words are read at once, and how many of them are read again with the next.
const WINDOW: usize = 64 * 1024;
const OVERLAP: usize = 1024;

/// Everything that is told by its words, window by window; numbers too, since digits stand in words.
fn find_words(scene: &Scene<'_>, paper: &mut Paper, hits: &mut Vec<Hit>, numbers: &mut Numbers) {
    let lexicon = Lexicon::shared();
    let mut start = 0;
    loop {
        let end = boundary(scene.text, (start + WINDOW).min(scene.text.len()));
        let page = Page::on(std::mem::take(paper), &scene.text[start..end], lexicon);
        let label = if start == 0 { scene.label } else { "" };
        let first = hits.len();
        person::find(&page, label, hits);
        birth::find(&page, label, hits);
        record::find(&page, label, hits);
        street::find(&page, label, hits);
        for hit in &mut hits[first..] {
            hit.start += start;
            hit.end += start;
        }
        for index in page.places(Role::DIGITS) {
            numbers.find(scene, start + page.start(index), start + page.end(index));
        }
        *paper = page.into_paper();
        if end == scene.text.len() {
            return;
        }
        start = boundary(scene.text, end - OVERLAP);
    }
}

/// The space or sign boundary at `at` or a little before it.
fn boundary(text: &str, at: usize) -> usize {
    if at == text.len() {
        return at;
    }
    let near = &text.as_bytes()[at - OVERLAP / 2..at];
    let space = near.iter().rposition(u8::is_ascii_whitespace);
    space.map_or_else(
        || (0..=at).rev().find(|place| text.is_char_boundary(*place)).unwrap_or(0),
        |space| at - OVERLAP / 2 + space,
    )
}

/// Everything that has digits in groups.
#[derive(Default)]
struct Numbers {
    hits: Vec<Hit>,
    /// Up to where digits were looked at: groups go over many words, and windows overlap.
    done: usize,
}

impl Numbers {
    /// Looks at the runs of digits in a word.
    fn find(&mut self, scene: &Scene<'_>, start: usize, end: usize) {
        let bytes = scene.bytes();
        let mut at = self.done.max(start);
        while let Some(offset) = bytes
            .get(at..end)
            .and_then(|rest| rest.iter().position(u8::is_ascii_digit))
        {
            let first = at + offset;
            at = end_of_run(bytes, first);
            if let Some(hit) = number_at(scene, first, at) {
                at = at.max(hit.end);
                self.hits.push(hit);
            }
            self.done = at;
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
