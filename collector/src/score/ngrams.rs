//! How alike two texts are by their words and pieces of words, in whatever order: a model-free stand-in for embeddings.

use std::collections::HashMap;

/// Buckets that features are hashed into.
const BUCKETS: u64 = 1 << 16;
/// Lengths of the pieces of a word.
const PIECES: std::ops::RangeInclusive<usize> = 3..=5;
/// Characters of each text that are looked at.
const MAX_CHARS: usize = 50_000;

/// Cosine of two texts' hashed features, 0 to 1: lower-case words, pairs of them, and pieces of 3 to 5 characters of
/// words with their ends marked (Bojanowski et al. 2017), hashed (Weinberger et al. 2009), counts dampened by their
/// logarithm. Two empty texts are alike.
pub fn similarity(left: &str, right: &str) -> f64 {
    let (left, right) = (features(left), features(right));
    if left == right {
        return 1.0;
    }
    let norm = |features: &HashMap<u64, f64>| features.values().map(|weight| weight * weight).sum::<f64>().sqrt();
    let dot: f64 = left
        .iter()
        .filter_map(|(feature, weight)| Some(weight * right.get(feature)?))
        .sum();
    match norm(&left) * norm(&right) {
        0.0 => 0.0,
        norms => (dot / norms).clamp(0.0, 1.0),
    }
}

fn features(text: &str) -> HashMap<u64, f64> {
    let limited = text.char_indices().nth(MAX_CHARS).map_or(text, |(end, _)| &text[..end]);
    let lower = limited.to_lowercase();
    let words = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let mut counts: HashMap<u64, f64> = HashMap::new();
    let mut add = |kind: u8, parts: &[&str]| *counts.entry(bucket(kind, parts)).or_default() += 1.0;
    let mut before: Option<&str> = None;
    for word in words {
        add(0, &[word]);
        if let Some(before) = before {
            add(1, &[before, word]);
        }
        before = Some(word);
        let marked = format!("<{word}>");
        let starts: Vec<usize> = marked
            .char_indices()
            .map(|(start, _)| start)
            .chain([marked.len()])
            .collect();
        for length in PIECES {
            for ends in starts.windows(length + 1) {
                add(2, &[&marked[ends[0]..ends[length]]]);
            }
        }
    }
    counts.values_mut().for_each(|count| *count = 1.0 + count.ln());
    counts
}

/// FNV-1a: the same on every machine.
fn bucket(kind: u8, parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let hash = [kind]
        .into_iter()
        .chain(bytes)
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    (hash ^ (hash >> 32)) % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_case_count_little_and_other_words_much() {
        let text = "The invoice of March was paid twice by the client.";
        assert!((similarity(text, text) - 1.0).abs() < 1e-12);
        let moved = similarity(text, "by the client the invoice of march was paid TWICE");
        let other = similarity(text, "Please restart your router and wait for two minutes.");
        assert!(moved > 0.85 && other < 0.3, "{moved} {other}");
        assert_eq!(
            (similarity("", ""), similarity("a", ""), similarity("…", "a")),
            (1.0, 0.0, 0.0)
        );
    }
}
