//! How well an answer repeats the recorded one, in [0, 1], by what kind of answer was recorded.
//!
//! Pure. Validity (is it well-formed for the request) is kept apart from agreement (does it say the same). Fetches no
//! schema and judges no prose: its similarity is only that.

mod chrf;
mod json;
mod refusal;

pub use chrf::chrf;

use json::{call_leaves, field_f1, json_of, leaves};
use refusal::unusable;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use understudy_call::call::{Request, Response, ResponseFormat, ToolCall};
use understudy_call::check::schema::fits;

/// Most words of a label.
const LABEL_WORDS: usize = 5;
/// Most characters of a label.
const LABEL_CHARS: usize = 60;
/// Fewest answers from which a set of labels is called closed.
const CLOSED_SET_ANSWERS: usize = 10;
/// Fewest answers for each distinct one in a closed set, on average.
const CLOSED_SET_REPEATS: usize = 4;

/// Parallel tool calls that are matched; further ones count as differing.
const MATCHED_CALLS: usize = 128;

/// What a recorded answer is, and so how another one is compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnswerKind {
    /// It calls tools.
    ToolCall,
    /// It is JSON.
    Structured,
    /// It is one of few short answers.
    Label,
    /// It is free text.
    Prose,
}

impl AnswerKind {
    /// Every kind.
    pub const ALL: [AnswerKind; 4] = [
        AnswerKind::ToolCall,
        AnswerKind::Structured,
        AnswerKind::Label,
        AnswerKind::Prose,
    ];

    /// The word in the `kind` column.
    pub fn as_str(self) -> &'static str {
        match self {
            AnswerKind::ToolCall => "tool_call",
            AnswerKind::Structured => "structured",
            AnswerKind::Label => "label",
            AnswerKind::Prose => "prose",
        }
    }

    /// The kind of a word, if there is one.
    pub fn from_name(name: &str) -> Option<AnswerKind> {
        AnswerKind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// One answer against the recorded one.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Whether it is well-formed for the request.
    pub valid: bool,
    /// Agreement with the recorded answer, 0 to 1; `None` where there was no answer to compare.
    pub agreement: Option<f64>,
    /// Why it is not valid; empty where it is.
    pub reason: String,
}

/// The short answers that a task gave: whether they are a closed set.
#[derive(Clone, Debug, Default)]
pub struct LabelSet {
    answers: usize,
    distinct: HashSet<String>,
}

impl LabelSet {
    /// Counts an answer's text; only what could be a label counts.
    pub fn add(&mut self, text: &str) {
        if looks_like_label(text) {
            self.answers += 1;
            self.distinct.insert(normal_label(text));
        }
    }

    /// Whether the same few answers recur.
    pub fn is_closed(&self) -> bool {
        self.answers >= CLOSED_SET_ANSWERS && self.distinct.len() * CLOSED_SET_REPEATS <= self.answers
    }
}

/// What a recorded answer is; a short answer counts as a label.
pub fn kind_of(request: &Request, recorded: &Response) -> AnswerKind {
    if !recorded.tool_calls.is_empty() {
        AnswerKind::ToolCall
    } else if request.response_format != ResponseFormat::Text || json_of(&recorded.output_text).is_some() {
        AnswerKind::Structured
    } else if looks_like_label(&recorded.output_text) {
        AnswerKind::Label
    } else {
        AnswerKind::Prose
    }
}

/// [`kind_of`], where the task's short answers are known: an open set of them is prose.
pub fn kind_in_task(request: &Request, recorded: &Response, labels: &LabelSet) -> AnswerKind {
    match kind_of(request, recorded) {
        AnswerKind::Label if !labels.is_closed() => AnswerKind::Prose,
        kind => kind,
    }
}

/// Compares an answer with the recorded one. An empty or refused answer agrees in nothing, one that was an error is
/// not compared, and a truncated one is compared as far as it goes; all of them are invalid.
pub fn score(request: &Request, recorded: &Response, answer: &Response, kind: AnswerKind) -> Score {
    if answer.error.is_some() {
        return Score {
            valid: false,
            agreement: None,
            reason: "the answer is an error".into(),
        };
    }
    let fault = validity(request, recorded, answer, kind).err();
    let empty_or_refused = answer.is_empty() || refusal::refused(recorded, answer);
    let agreement = if empty_or_refused {
        0.0
    } else {
        agreement(recorded, answer, kind)
    };
    Score {
        valid: fault.is_none(),
        agreement: Some(agreement),
        reason: fault.unwrap_or_default(),
    }
}

/// Whether an answer is well-formed for the request; the error says why not. With the recorded answer as `answer` it
/// gives the baseline's validity.
pub fn validity(request: &Request, recorded: &Response, answer: &Response, kind: AnswerKind) -> Result<(), String> {
    if let Some(reason) = unusable(recorded, answer) {
        return Err(reason);
    }
    for call in &answer.tool_calls {
        tool_call_validity(request, call)?;
    }
    let wants_json = request.response_format != ResponseFormat::Text || kind == AnswerKind::Structured;
    if wants_json && answer.tool_calls.is_empty() {
        return structured_validity(request, recorded, answer);
    }
    Ok(())
}

fn tool_call_validity(request: &Request, call: &ToolCall) -> Result<(), String> {
    let Some(tool) = request.tools.iter().find(|tool| tool.name == call.name) else {
        return Err(format!("tool {:?} was not offered", call.name));
    };
    let arguments: Value = serde_json::from_str(&call.arguments)
        .map_err(|error| format!("arguments of {:?} are not JSON: {error}", call.name))?;
    fits(&tool.schema, &arguments).map_err(|fault| format!("arguments of {:?}: {fault}", call.name))
}

/// Who reads a bare JSON answer need not look for a fence; who reads a fenced one finds a bare one too.
fn structured_validity(request: &Request, recorded: &Response, answer: &Response) -> Result<(), String> {
    let bare = serde_json::from_str::<Value>(answer.output_text.trim()).ok();
    let fence_expected = request.response_format == ResponseFormat::Text && json::is_fenced(&recorded.output_text);
    let parsed = if fence_expected {
        bare.or_else(|| json_of(&answer.output_text))
    } else {
        bare
    };
    let Some(value) = parsed else {
        return Err("the text is not JSON".into());
    };
    match &request.response_format {
        ResponseFormat::JsonSchema(schema) => fits(schema, &value).map_err(|fault| fault.to_string()),
        ResponseFormat::JsonObject if !value.is_object() => Err("the text is not a JSON object".into()),
        _ => Ok(()),
    }
}

fn agreement(recorded: &Response, answer: &Response, kind: AnswerKind) -> f64 {
    match kind {
        AnswerKind::ToolCall => tool_call_agreement(&recorded.tool_calls, &answer.tool_calls),
        AnswerKind::Structured => match (json_of(&recorded.output_text), json_of(&answer.output_text)) {
            (Some(recorded), Some(answer)) => field_f1(&leaves(&recorded), &leaves(&answer)),
            (None, None) if answer.tool_calls.is_empty() => chrf(&recorded.output_text, &answer.output_text),
            _ => 0.0,
        },
        AnswerKind::Label => {
            let same = normal_label(&recorded.output_text) == normal_label(&answer.output_text);
            f64::from(u8::from(same && answer.tool_calls.is_empty()))
        }
        AnswerKind::Prose => chrf(&recorded.output_text, &answer.output_text),
    }
}

/// F1 over names and argument fields of all calls, in whatever order: the most alike are matched first.
fn tool_call_agreement(recorded: &[ToolCall], answer: &[ToolCall]) -> f64 {
    let flat = |calls: &[ToolCall]| calls.iter().map(call_leaves).collect::<Vec<_>>();
    let (recorded, answer) = (flat(recorded), flat(answer));
    let total: usize = recorded.iter().chain(&answer).map(json::Leaves::len).sum();
    let mut alike = Vec::new();
    for (left, wanted) in recorded.iter().enumerate().take(MATCHED_CALLS) {
        for (right, given) in answer.iter().enumerate().take(MATCHED_CALLS) {
            alike.push((wanted.common(given), left, right));
        }
    }
    alike.sort_by_key(|(common, left, right)| (std::cmp::Reverse(*common), *left, *right));
    let (mut left_taken, mut right_taken) = (HashSet::new(), HashSet::new());
    let mut hits = 0;
    for (common, left, right) in alike {
        if common > 0 && !left_taken.contains(&left) && right_taken.insert(right) {
            left_taken.insert(left);
            hits += common;
        }
    }
    if total == 0 {
        1.0
    } else {
        2.0 * hits as f64 / total as f64
    }
}

fn looks_like_label(text: &str) -> bool {
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
fn normal_label(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let around =
        |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '*' | '.' | '!' | '?' | ',' | ';' | ':' | '。');
    words.join(" ").trim_matches(around).to_owned()
}

/// Cohen's kappa of pairs of labels: agreement beyond chance; `None` without pairs or where chance alone agrees.
pub fn kappa<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<f64> {
    let mut counts: HashMap<String, (f64, f64)> = HashMap::new();
    let (mut total, mut same) = (0.0, 0.0);
    for (recorded, answer) in pairs {
        let (recorded, answer) = (normal_label(recorded), normal_label(answer));
        total += 1.0;
        same += f64::from(u8::from(recorded == answer));
        counts.entry(recorded).or_default().0 += 1.0;
        counts.entry(answer).or_default().1 += 1.0;
    }
    let chance = counts.values().map(|(left, right)| left * right).sum::<f64>() / (total * total);
    (total > 0.0 && chance < 1.0).then(|| (same / total - chance) / (1.0 - chance))
}

#[cfg(test)]
mod tests;
