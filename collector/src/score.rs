//! How well an answer repeats the recorded one, in [0, 1], by what kind of answer was recorded.
//!
//! Pure. Validity (is it well-formed for the request) is kept apart from agreement (does it say the same). Fetches no
//! schema and judges no prose: its similarity is only that. What each score means, and its limits: docs/scores.md.

mod calls;
mod chrf;
mod fields;
mod json;
mod label;
mod language;
mod ngrams;
mod refusal;
mod summary;

pub use chrf::chrf;
pub use fields::FieldCounts;
pub use label::{Confusion, LabelSet};
pub use language::language;
pub use ngrams::similarity;
pub use summary::{KindSummary, Summary};
use understudy_call::check::truncated;

pub(crate) use json::json_of;

use icu_normalizer::ComposingNormalizerBorrowed;
use json::json_within;
use label::{looks_like_label, normal_label};
use refusal::unusable;
use serde_json::Value;
use std::borrow::Cow;
use understudy_call::call::{Request, Response, ResponseFormat, ToolCall};
use understudy_call::check::schema::fits;

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
    /// What the agreement is made of.
    pub measures: Measures,
}

/// What an agreement is made of, as far as its kind has it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measures {
    /// Fields of tool calls or of JSON.
    pub fields: Option<FieldCounts>,
    /// chrF++ of prose, 0 to 1.
    pub chrf: Option<f64>,
    /// [`similarity`] of prose, 0 to 1.
    pub similarity: Option<f64>,
    /// Characters of the answer for each of the recorded one, in prose.
    pub length: Option<f64>,
    /// It refuses, and the recorded answer does not.
    pub refused: bool,
    /// It was cut at a length.
    pub truncated: bool,
    /// It is in another language than the recorded answer.
    pub other_language: bool,
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
/// not compared, and a truncated one is compared as far as it goes; all of them are invalid. `labels` are the task's.
pub fn score(request: &Request, recorded: &Response, answer: &Response, kind: AnswerKind, labels: &LabelSet) -> Score {
    if answer.error.is_some() {
        return Score {
            valid: false,
            agreement: None,
            reason: "the answer is an error".into(),
            measures: Measures::default(),
        };
    }
    let fault = validity(request, recorded, answer, kind, labels).err();
    let refused = refusal::refused(recorded, answer);
    let mut measures = if answer.is_empty() || refused {
        Measures::default()
    } else {
        measures(request, recorded, answer, kind)
    };
    measures.refused = refused;
    measures.truncated = answer.partial || truncated(answer.finish_reason.as_deref());
    measures.other_language = kind == AnswerKind::Prose && other_language(recorded, answer).is_some();
    let agreement = match kind {
        _ if answer.is_empty() || refused => 0.0,
        AnswerKind::Label => {
            let same = normal_label(&recorded.output_text) == normal_label(&answer.output_text);
            f64::from(u8::from(same && answer.tool_calls.is_empty()))
        }
        _ => measures.agreement(),
    };
    Score {
        valid: fault.is_none(),
        agreement: Some(agreement),
        reason: fault.unwrap_or_default(),
        measures,
    }
}

impl Score {
    /// Where there is no answer.
    pub(crate) fn of_none() -> Score {
        Score {
            valid: false,
            agreement: None,
            reason: "there is no answer".into(),
            measures: Measures::default(),
        }
    }
}

impl Measures {
    /// F1 of fields; of prose the mean of what its pieces and what its words say.
    fn agreement(&self) -> f64 {
        match (self.fields, self.chrf, self.similarity) {
            (Some(fields), ..) => fields.f1(),
            (None, Some(chrf), Some(similarity)) => (chrf + similarity) / 2.0,
            _ => 0.0,
        }
    }

    fn of_prose(recorded: &str, answer: &str) -> Measures {
        let (recorded, answer) = (&*composed(recorded), &*composed(answer));
        let length = |text: &str| text.trim().chars().count() as f64;
        Measures {
            chrf: Some(chrf(recorded, answer)),
            similarity: Some(similarity(recorded, answer)),
            length: Some(length(answer) / length(recorded).max(1.0)),
            ..Measures::default()
        }
    }
}

/// An answer that calls tools where the recorded one calls none does something else, whatever it says besides.
fn measures(request: &Request, recorded: &Response, answer: &Response, kind: AnswerKind) -> Measures {
    let of_fields = |fields| Measures {
        fields: Some(fields),
        ..Measures::default()
    };
    match kind {
        AnswerKind::ToolCall => of_fields(calls::compare(request, &recorded.tool_calls, &answer.tool_calls)),
        _ if !answer.tool_calls.is_empty() => Measures::default(),
        AnswerKind::Label => Measures::default(),
        AnswerKind::Prose => Measures::of_prose(&recorded.output_text, &answer.output_text),
        AnswerKind::Structured => {
            let schema = match &request.response_format {
                ResponseFormat::JsonSchema(schema) => schema,
                _ => &Value::Null,
            };
            let read = |value: Option<Value>| value.map(|value| fields::normal(&value, schema));
            // JSON with words around it is a fault of form, which validity tells.
            match (
                read(json_of(&recorded.output_text)),
                read(json_within(&answer.output_text)),
            ) {
                (Some(recorded), Some(answer)) => of_fields(fields::compare(&recorded, &answer)),
                (None, None) => Measures::of_prose(&recorded.output_text, &answer.output_text),
                _ => Measures::default(),
            }
        }
    }
}

/// A text as Unicode composes it (NFC): what is written in several ways there is the same text.
fn composed(text: &str) -> Cow<'_, str> {
    match text.is_ascii() {
        true => Cow::Borrowed(text),
        false => ComposingNormalizerBorrowed::new_nfc().normalize(text),
    }
}

/// The two languages, where both are known and differ.
fn other_language(recorded: &Response, answer: &Response) -> Option<(&'static str, &'static str)> {
    let both = language(&recorded.output_text).zip(language(&answer.output_text));
    both.filter(|(recorded, answer)| recorded != answer)
}

/// Whether an answer is well-formed for the request; the error says why not. With the recorded answer as `answer` it
/// gives the baseline's validity.
pub fn validity(
    request: &Request,
    recorded: &Response,
    answer: &Response,
    kind: AnswerKind,
    labels: &LabelSet,
) -> Result<(), String> {
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
    if kind == AnswerKind::Label
        && answer.tool_calls.is_empty()
        && labels.is_closed()
        && !labels.has(&answer.output_text)
    {
        return Err("the answer is none of the task's labels".into());
    }
    match other_language(recorded, answer) {
        Some((first, second)) if kind == AnswerKind::Prose => {
            Err(format!("the answer is in {second}, the recorded one in {first}"))
        }
        _ => Ok(()),
    }
}

fn tool_call_validity(request: &Request, call: &ToolCall) -> Result<(), String> {
    let Some(tool) = request.tools.iter().find(|tool| tool.name == call.name) else {
        return Err(format!("tool {:?} was not offered", call.name));
    };
    let arguments: Value = serde_json::from_str(&call.arguments)
        .map_err(|error| format!("arguments of {:?} are not JSON: {error}", call.name))?;
    if !arguments.is_object() {
        return Err(format!("arguments of {:?} are not a JSON object", call.name));
    }
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

#[cfg(test)]
mod benchmark;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
