//! chrF: the F-score of character n-grams, for text without a right answer.

use std::collections::HashMap;

/// Longest n-gram.
const ORDER: usize = 6;
/// Recall weighs this many times as much as precision.
const BETA: f64 = 2.0;
/// Characters of each text that are compared: bounds time and memory.
const MAX_CHARS: usize = 50_000;

/// chrF2 of an answer against the recorded text, 0 to 1 (Popović 2015; as sacreBLEU computes it: n-grams of 1 to 6
/// characters without spaces, β = 2). Of long texts the first 50,000 characters count.
pub fn chrf(recorded: &str, answer: &str) -> f64 {
    let chars = |text: &str| {
        text.chars()
            .filter(|c| !c.is_whitespace())
            .take(MAX_CHARS)
            .collect::<Vec<char>>()
    };
    let (recorded, answer) = (chars(recorded), chars(answer));
    if recorded == answer {
        return 1.0;
    }
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for order in (1..=ORDER).filter(|order| *order <= recorded.len() && *order <= answer.len()) {
        let matches = common_ngrams(&recorded, &answer, order) as f64;
        precision += matches / (answer.len() + 1 - order) as f64;
        recall += matches / (recorded.len() + 1 - order) as f64;
        orders += 1.0;
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders, recall / orders);
    (1.0 + BETA * BETA) * precision * recall / (BETA * BETA * precision + recall)
}

fn common_ngrams(left: &[char], right: &[char], order: usize) -> usize {
    let mut counts: HashMap<&[char], usize> = HashMap::new();
    left.windows(order)
        .for_each(|ngram| *counts.entry(ngram).or_default() += 1);
    let mut common = 0;
    for ngram in right.windows(order) {
        if let Some(count) = counts.get_mut(ngram).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sacrebleu.CHRF().sentence_score(answer, [recorded]).score / 100`, sacrebleu 2.
    #[test]
    fn values_are_those_of_sacrebleu() {
        let cases = [
            ("the cat sat on the mat", "the cat sat", 0.495_934_840_996_600_8),
            ("goodbye moon", "hello world", 0.061_728_395_061_728_39),
            ("Grüsse aus Koeln", "Grüße aus Köln", 0.321_437_557_501_530_33),
            ("abcdefgh", "ab", 0.234_042_553_191_489_37),
        ];
        for (recorded, answer, expected) in cases {
            assert!(
                (chrf(recorded, answer) - expected).abs() < 1e-9,
                "{answer}: {}",
                chrf(recorded, answer)
            );
        }
    }

    #[test]
    fn ends_of_the_scale() {
        assert_eq!(chrf("", ""), 1.0);
        assert_eq!(chrf("same text", "same  text\n"), 1.0);
        assert_eq!(chrf("", "x"), 0.0);
        assert_eq!(chrf("abc", "xyz"), 0.0);
        let long = "ab".repeat(200_000);
        assert_eq!(chrf(&long, &(long.clone() + "tail")), 1.0);
    }
}
