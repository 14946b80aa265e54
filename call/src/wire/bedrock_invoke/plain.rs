//! Models on Bedrock that answer in plain text, each under its maker's keys: no turns, no tools.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::json::{integer, list};
use super::METRICS;
use crate::call::{Response, Usage};

/// Where a maker puts what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The list of answers; none where the answer lies in the body itself.
    list: Option<&'static str>,
    /// The path to the text, within an answer.
    text: &'static str,
    /// The path to the word why it ended.
    finish: &'static str,
    /// The keys of a streamed chunk that belong to the answer, not to the body.
    of_answer: &'static [&'static str],
}

/// Titan text. Its chunks have no list.
static TITAN: Shape = Shape {
    list: Some("results"),
    text: "/outputText",
    finish: "/completionReason",
    of_answer: &["outputText", "completionReason", TITAN_TOTAL],
};
/// What the tokens of Titan's answer are called in its last chunk, and in a list.
const TITAN_TOTAL: &str = "totalOutputTextTokenCount";
const TITAN_COUNT: &str = "tokenCount";

/// Meta's Llama, and models of one's own import that speak like it.
static LLAMA: Shape = Shape {
    list: None,
    text: "/generation",
    finish: "/stop_reason",
    of_answer: &[],
};

/// Mistral's text completion.
static MISTRAL: Shape = Shape {
    list: Some("outputs"),
    text: "/text",
    finish: "/stop_reason",
    of_answer: &[],
};

/// AI21's Jurassic.
static JURASSIC: Shape = Shape {
    list: Some("completions"),
    text: "/data/text",
    finish: "/finishReason/reason",
    of_answer: &[],
};

impl Shape {
    /// The shape of an answer or a chunk, if it is plain text.
    pub(super) fn of(body: &Value) -> Option<&'static Shape> {
        if body.get("outputText").is_some() {
            return Some(&TITAN);
        }
        let lists = [&TITAN, &MISTRAL, &JURASSIC];
        let listed = |shape: &&Shape| shape.list.is_some_and(|key| body.get(key).is_some_and(Value::is_array));
        let is_llama = body.get("generation").is_some_and(|text| text.is_string());
        lists.into_iter().find(listed).or(is_llama.then_some(&LLAMA))
    }

    /// Reads a response object.
    pub(super) fn response(&'static self, body: &Value) -> Response {
        let answers = self.answers(body);
        let first = answers.first();
        let text_at = |path: &str| first?.pointer(path)?.as_str().filter(|text| !text.is_empty());
        let finish_reason = text_at(self.finish);
        Response {
            output_text: text_at(self.text).unwrap_or_default().into(),
            finish_reason: finish_reason.map(Into::into),
            choices: answers.len(),
            // Where a guardrail answered in the model's place, what is counted is words of its own.
            usage: if finish_reason.is_some() {
                usage(body)
            } else {
                Usage::default()
            },
            ..Response::default()
        }
    }

    fn answers<'a>(&self, body: &'a Value) -> &'a [Value] {
        let listed = self
            .list
            .map(|key| list(body, key))
            .filter(|answers| !answers.is_empty());
        listed.unwrap_or(std::slice::from_ref(body))
    }

    /// Whether a chunk has text.
    pub(super) fn has_output(&self, chunk: &Value) -> bool {
        let has_text = |answer: &Value| {
            let text = answer.pointer(self.text).and_then(Value::as_str);
            text.is_some_and(|text| !text.is_empty())
        };
        self.answers(chunk).iter().any(has_text)
    }

    /// Folds chunks to the answer that they add up to, and whether it ended.
    pub(super) fn fold(&self, chunks: Vec<Map<String, Value>>) -> (Map<String, Value>, bool) {
        let mut top = Map::new();
        let mut answers: BTreeMap<usize, Map<String, Value>> = BTreeMap::new();
        for mut chunk in chunks {
            let listed = self.list.and_then(|key| chunk.remove(key));
            if let Some(Value::Array(pieces)) = listed {
                for (position, piece) in pieces.into_iter().enumerate() {
                    if let Value::Object(piece) = piece {
                        piece
                            .into_iter()
                            .for_each(|(key, value)| self.take(answers.entry(position).or_default(), key, value));
                    }
                }
            }
            let index = chunk.get("index").and_then(Value::as_f64).unwrap_or(0.0) as usize;
            for (key, value) in chunk {
                match key.as_str() {
                    "index" => {}
                    key_ if self.of_answer.contains(&key_) => self.take(answers.entry(index).or_default(), key, value),
                    _ => self.take(&mut top, key, value),
                }
            }
        }
        let ended = top.contains_key(METRICS)
            || std::iter::once(&top)
                .chain(answers.values())
                .any(|answer| self.ended(answer));
        if let Some(key) = self.list {
            let answers = answers.into_values().map(as_listed).collect();
            top.insert(key.into(), Value::Array(answers));
        }
        (top, ended)
    }

    /// Text grows; of all else the last that says something counts.
    fn take(&self, answer: &mut Map<String, Value>, key: String, value: Value) {
        let is_text = self.text.strip_prefix('/') == Some(key.as_str());
        match (answer.get_mut(&key), value) {
            (Some(Value::String(text)), Value::String(piece)) if is_text => text.push_str(&piece),
            (Some(_), Value::Null) => {}
            (_, value) => {
                answer.insert(key, value);
            }
        }
    }

    fn ended(&self, answer: &Map<String, Value>) -> bool {
        let finish = self.finish.trim_start_matches('/');
        // Titan tells the total in its last chunk, also where a guardrail spoke in its place.
        answer.get(finish).is_some_and(|reason| !reason.is_null()) || answer.contains_key(TITAN_TOTAL)
    }
}

/// An answer as it is in a list: there Titan's count has another name.
fn as_listed(mut answer: Map<String, Value>) -> Value {
    if let Some(total) = answer.remove(TITAN_TOTAL) {
        answer.insert(TITAN_COUNT.into(), total);
    }
    Value::Object(answer)
}

/// Titan counts in each answer, Llama in the body; the others leave it to Bedrock.
fn usage(body: &Value) -> Usage {
    let results = list(body, "results").iter();
    let of_titan = results
        .filter_map(|result| integer(result, TITAN_COUNT))
        .reduce(i64::saturating_add);
    Usage {
        input: integer(body, "inputTextTokenCount").or_else(|| integer(body, "prompt_token_count")),
        output: of_titan.or_else(|| integer(body, "generation_token_count")),
        ..Usage::default()
    }
}
