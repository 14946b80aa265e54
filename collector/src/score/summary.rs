//! What the scores of many answers say together, kind by kind.
//!
//! Adds up; decides nothing. Validity stands beside agreement and is never part of it.

use super::{AnswerKind, Confusion, Score};
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_call::call::Response;

/// Pairs of labels that are shown.
const SHOWN_CONFUSIONS: usize = 10;

/// Scores of one candidate on one task, being added up.
#[derive(Clone, Debug, Default)]
pub struct Summary(BTreeMap<&'static str, Sums>);

#[derive(Clone, Debug, Default)]
struct Sums {
    answers: u64,
    valid: u64,
    exact: u64,
    refused: u64,
    truncated: u64,
    other_language: u64,
    agreement: Mean,
    precision: Mean,
    recall: Mean,
    chrf: Mean,
    similarity: Mean,
    length: Mean,
    confusion: Confusion,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.sum += value;
            self.count += 1.0;
        }
    }

    fn get(self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }
}

/// The answers to calls whose recorded answer is of one kind; null where the kind has no such figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KindSummary {
    /// `tool_call`, `structured`, `label` or `prose`.
    pub kind: &'static str,
    /// Answers, errors included.
    pub answers: u64,
    /// Of them, well-formed for their requests.
    pub valid: u64,
    /// Of them, in full agreement.
    pub exact: u64,
    /// Mean agreement of those that could be compared.
    pub agreement: Option<f64>,
    /// Mean share of an answer's fields that are right.
    pub precision: Option<f64>,
    /// Mean share of the recorded fields that an answer has.
    pub recall: Option<f64>,
    /// Share of labels that agree.
    pub accuracy: Option<f64>,
    /// Their agreement beyond chance.
    pub kappa: Option<f64>,
    /// The commonest pairs of labels that differ: recorded, answered, how often.
    pub confusion: Vec<(String, String, u64)>,
    /// Mean chrF++.
    pub chrf: Option<f64>,
    /// Mean similarity of words and their pieces.
    pub similarity: Option<f64>,
    /// Mean length, of the recorded one's.
    pub length: Option<f64>,
    /// Answers that refuse.
    pub refused: u64,
    /// Answers cut at a length.
    pub truncated: u64,
    /// Answers in another language.
    pub other_language: u64,
}

impl Summary {
    /// Adds the score of an answer.
    pub fn add(&mut self, kind: AnswerKind, recorded: &Response, answer: &Response, score: &Score) {
        let sums = self.0.entry(kind.as_str()).or_default();
        let measures = &score.measures;
        sums.answers += 1;
        sums.valid += u64::from(score.valid);
        sums.exact += u64::from(score.agreement.is_some_and(|agreement| agreement >= 1.0));
        sums.refused += u64::from(measures.refused);
        sums.truncated += u64::from(measures.truncated);
        sums.other_language += u64::from(measures.other_language);
        sums.agreement.add(score.agreement);
        sums.precision.add(measures.fields.map(|fields| fields.precision()));
        sums.recall.add(measures.fields.map(|fields| fields.recall()));
        sums.chrf.add(measures.chrf);
        sums.similarity.add(measures.similarity);
        sums.length.add(measures.length);
        if kind == AnswerKind::Label && score.agreement.is_some() {
            sums.confusion.add(&recorded.output_text, &answer.output_text);
        }
    }

    /// The figures, kind by kind.
    pub fn kinds(&self) -> Vec<KindSummary> {
        let of = |(kind, sums): (&&'static str, &Sums)| {
            let mut differing: Vec<(&str, &str, u64)> =
                sums.confusion.cells().filter(|cell| cell.0 != cell.1).collect();
            differing.sort_by_key(|cell| std::cmp::Reverse(cell.2));
            let shown = differing.into_iter().take(SHOWN_CONFUSIONS);
            KindSummary {
                kind,
                answers: sums.answers,
                valid: sums.valid,
                exact: sums.exact,
                agreement: sums.agreement.get(),
                precision: sums.precision.get(),
                recall: sums.recall.get(),
                accuracy: sums.confusion.accuracy(),
                kappa: sums.confusion.kappa(),
                confusion: shown
                    .map(|(recorded, answer, count)| (recorded.into(), answer.into(), count))
                    .collect(),
                chrf: sums.chrf.get(),
                similarity: sums.similarity.get(),
                length: sums.length.get(),
                refused: sums.refused,
                truncated: sums.truncated,
                other_language: sums.other_language,
            }
        };
        self.0.iter().map(of).collect()
    }
}
