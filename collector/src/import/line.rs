//! One line of an import: what it says, and the captured call that it stands for.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use understudy_call::call::Api;
use understudy_call::frame::{FrameHead, RawCall};
use understudy_call::record::Outcome;

/// The longest id or session, bytes.
const MAX_NAME: usize = 1024;

/// A line, checked.
#[derive(Debug)]
pub(super) struct ImportLine {
    /// Unique within the source.
    pub(super) id: String,
    /// Calls of one session are one conversation.
    pub(super) session: Option<String>,
    /// Place in the session.
    pub(super) step: Option<i32>,
    /// The model, for requests that don't say it.
    pub(super) model: Option<String>,
    /// Whether the answer was streamed.
    pub(super) stream: Option<bool>,
    latency_s: Option<f64>,
    tags: BTreeMap<String, String>,
    request: Value,
    response: Value,
}

#[derive(Deserialize)]
struct Fields {
    id: Option<Value>,
    session: Option<Value>,
    step: Option<Value>,
    model: Option<Value>,
    stream: Option<Value>,
    latency_s: Option<Value>,
    source: Option<Value>,
    agent: Option<Value>,
    request: Option<Value>,
    response: Option<Value>,
}

impl ImportLine {
    /// Reads a line; the error is a reason for people.
    pub(super) fn parse(line: &[u8]) -> Result<ImportLine, String> {
        let fields: Fields = serde_json::from_slice(line).map_err(|error| format!("not a JSON object: {error}"))?;
        let id = name("id", fields.id)?.ok_or("it has no `id`, which tells it from others when it comes again")?;
        let request = fields
            .request
            .filter(Value::is_object)
            .ok_or("it has no `request` object")?;
        if !request.get("messages").is_some_and(Value::is_array) {
            return Err("`request` has no list of `messages`: it must be an OpenAI chat body".into());
        }
        let response = fields
            .response
            .filter(Value::is_object)
            .ok_or("it has no `response` object")?;
        let tags = [("source", fields.source), ("agent", fields.agent)];
        Ok(ImportLine {
            id,
            session: name("session", fields.session)?,
            step: fields
                .step
                .as_ref()
                .and_then(Value::as_i64)
                .and_then(|step| i32::try_from(step).ok()),
            model: text(fields.model),
            stream: fields.stream.as_ref().and_then(Value::as_bool),
            latency_s: fields.latency_s.as_ref().and_then(Value::as_f64),
            tags: tags
                .into_iter()
                .filter_map(|(tag, value)| Some((tag.to_owned(), text(value)?)))
                .collect(),
            request,
            response,
        })
    }

    /// The call as a proxy would have captured it, as far as a line can tell.
    pub(super) fn into_raw(self, call_id: String) -> RawCall {
        let is_error = self.response.get("choices").is_none() && self.response.get("error").is_some();
        let micros = |seconds: f64| (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1e6) as u64);
        RawCall {
            head: FrameHead {
                call_id,
                api: Some(Api::OpenaiChat),
                outcome: if is_error { Outcome::UpstreamStatus } else { Outcome::Ok },
                duration_us: self.latency_s.and_then(micros),
                tags: self.tags,
                ..FrameHead::default()
            },
            request: self.request.to_string().into_bytes(),
            response: self.response.to_string().into_bytes(),
        }
    }
}

/// A field that names something: a text that is not empty, or a number.
fn name(field: &str, value: Option<Value>) -> Result<Option<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_NAME => Ok(Some(text)),
        Some(Value::String(_)) => Err(format!("`{field}` is longer than {MAX_NAME} bytes")),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(format!("`{field}` is neither a string nor a number")),
    }
}

fn text(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}
