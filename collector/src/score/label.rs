//! Labels: short answers of a closed set, how they are compared, and what counts of them say.

use super::composed;
use std::collections::{BTreeMap, HashMap};

/// Most words of a label.
const LABEL_WORDS: usize = 5;
/// Most characters of a label.
const LABEL_CHARS: usize = 60;
/// Fewest answers from which a set of labels is called closed.
const CLOSED_SET_ANSWERS: usize = 10;
/// Fewest answers for each distinct one in a closed set, on average.
const CLOSED_SET_REPEATS: usize = 4;
/// Quotes, marks of emphasis and punctuation around a label.
const AROUND: &str = "\"'`*.!?,;:“”„‘’«»。！？，；：、「」";
/// Distinct answers that are remembered; a set of more is open whatever comes.
const MAX_DISTINCT: usize = 10_000;

/// The short answers that a task gave: whether they are a closed set, and which.
#[derive(Clone, Debug, Default)]
pub struct LabelSet {
    answers: usize,
    counts: HashMap<String, usize>,
}

impl LabelSet {
    /// Counts an answer's text; only what could be a label counts.
    pub fn add(&mut self, text: &str) {
        if !looks_like_label(text) {
            return;
        }
        self.answers += 1;
        let label = normal_label(text);
        if self.counts.len() < MAX_DISTINCT || self.counts.contains_key(&label) {
            *self.counts.entry(label).or_default() += 1;
        }
    }

    /// Whether the same few answers recur.
    pub fn is_closed(&self) -> bool {
        self.answers >= CLOSED_SET_ANSWERS && self.counts.len() * CLOSED_SET_REPEATS <= self.answers
    }

    /// Whether a text is one of the answers seen.
    pub fn has(&self, text: &str) -> bool {
        self.counts.contains_key(&normal_label(text))
    }
}

pub(super) fn looks_like_label(text: &str) -> bool {
    let text = text.trim();
    let words = text.split_whitespace().count();
    let ends_sentence = |c: char| matches!(c, '.' | '!' | '?' | ':' | ';' | ',' | '。' | '！' | '？');
    let bare = if words == 1 { text.trim_end_matches('.') } else { text };
    (1..=LABEL_WORDS).contains(&words)
        && text.chars().count() <= LABEL_CHARS
        && !text.contains(['\n', '{', '}', '[', ']'])
        && !bare.ends_with(ends_sentence)
        && !bare.contains(". ")
}

/// A label as it is compared: lower case, single spaces, no quotes, fences or punctuation around it.
pub(super) fn normal_label(text: &str) -> String {
    let text = composed(text);
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let around = |c: char| c.is_whitespace() || AROUND.contains(c);
    words.join(" ").trim_matches(around).to_owned()
}

/// How often each recorded label was answered by each label, both as they are compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Confusion(BTreeMap<(String, String), u64>);

impl Confusion {
    /// Counts a pair.
    pub fn add(&mut self, recorded: &str, answer: &str) {
        *self
            .0
            .entry((normal_label(recorded), normal_label(answer)))
            .or_default() += 1;
    }

    /// Each (recorded, answered) pair with its count, in order.
    pub fn cells(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.0
            .iter()
            .map(|((recorded, answer), count)| (recorded.as_str(), answer.as_str(), *count))
    }

    /// Pairs counted.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Share of pairs that agree; `None` of none.
    pub fn accuracy(&self) -> Option<f64> {
        let same: u64 = self
            .cells()
            .filter(|(left, right, _)| left == right)
            .map(|(.., count)| count)
            .sum();
        (self.total() > 0).then(|| same as f64 / self.total() as f64)
    }

    /// Cohen's kappa (Cohen 1960): agreement beyond chance; `None` without pairs or where chance alone agrees.
    pub fn kappa(&self) -> Option<f64> {
        let (accuracy, total) = (self.accuracy()?, self.total() as f64);
        let mut counts: HashMap<&str, (f64, f64)> = HashMap::new();
        for (recorded, answer, count) in self.cells() {
            counts.entry(recorded).or_default().0 += count as f64;
            counts.entry(answer).or_default().1 += count as f64;
        }
        let chance = counts.values().map(|(left, right)| left * right).sum::<f64>() / (total * total);
        (chance < 1.0).then(|| (accuracy - chance) / (1.0 - chance))
    }
}
