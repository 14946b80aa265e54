//! chrF++: the F-score of n-grams of characters and words, for text without a right answer.

use std::collections::HashMap;
use std::hash::Hash;

/// Longest n-gram of characters.
const CHARACTER_ORDER: usize = 6;
/// Longest n-gram of words.
const WORD_ORDER: usize = 2;
/// Recall weighs this many times as much as precision.
const BETA: f64 = 2.0;
/// Characters of each text that are compared: bounds time and memory.
const MAX_CHARS: usize = 50_000;

/// chrF++ of an answer against the recorded text, 0 to 1 (Popović 2015, 2017; as sacreBLEU computes it with a word order
/// of 2: n-grams of 1 to 6 characters without spaces and of 1 and 2 words, β = 2). Of long texts the first 50,000
/// characters count.
pub fn chrf(recorded: &str, answer: &str) -> f64 {
    let (recorded, answer) = (limited(recorded), limited(answer));
    let (left_words, right_words) = (words(recorded), words(answer));
    if left_words == right_words {
        return 1.0;
    }
    let chars = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<char>>();
    let mut sums = Sums::default();
    sums.add(&chars(recorded), &chars(answer), CHARACTER_ORDER);
    sums.add(&left_words, &right_words, WORD_ORDER);
    sums.f_score()
}

/// Precision and recall summed over the orders that both texts are long enough for.
#[derive(Default)]
struct Sums {
    precision: f64,
    recall: f64,
    orders: f64,
}

impl Sums {
    fn add<T: Eq + Hash>(&mut self, recorded: &[T], answer: &[T], most: usize) {
        for order in (1..=most).filter(|order| *order <= recorded.len() && *order <= answer.len()) {
            let matches = common_ngrams(recorded, answer, order) as f64;
            self.precision += matches / (answer.len() + 1 - order) as f64;
            self.recall += matches / (recorded.len() + 1 - order) as f64;
            self.orders += 1.0;
        }
    }

    fn f_score(&self) -> f64 {
        if self.precision + self.recall == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (self.precision / self.orders, self.recall / self.orders);
        (1.0 + BETA * BETA) * precision * recall / (BETA * BETA * precision + recall)
    }
}

fn limited(text: &str) -> &str {
    text.char_indices().nth(MAX_CHARS).map_or(text, |(end, _)| &text[..end])
}

/// Words, with one mark of punctuation at the end, else at the beginning, as a word of its own.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        let (first, last) = (
            word.chars().next().unwrap_or(' '),
            word.chars().next_back().unwrap_or(' '),
        );
        if first.len_utf8() == word.len() {
            words.push(word);
        } else if last.is_ascii_punctuation() {
            words.extend([&word[..word.len() - 1], &word[word.len() - 1..]]);
        } else if first.is_ascii_punctuation() {
            words.extend([&word[..1], &word[1..]]);
        } else {
            words.push(word);
        }
    }
    words
}

fn common_ngrams<T: Eq + Hash>(left: &[T], right: &[T], order: usize) -> usize {
    let mut counts: HashMap<&[T], usize> = HashMap::new();
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

    /// `sacrebleu.CHRF(word_order=2).sentence_score(answer, [recorded]).score / 100`, sacrebleu 2.
    #[test]
    fn values_are_those_of_sacrebleu() {
        let cases = [
            ("the cat sat on the mat", "the cat sat", 0.498_359_534_704_388_9),
            ("goodbye moon", "hello world", 0.046_296_296_296_296_3),
            ("Grüsse aus Koeln", "Grüße aus Köln", 0.282_897_319_759_405_46),
            ("abcdefgh", "ab", 0.156_028_368_794_326_24),
            ("It's done, (really).", "It is done (really)!", 0.449_565_340_986_339_16),
            ("a b", "b a", 0.5),
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
