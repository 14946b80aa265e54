//! Wire bodies to calls: which API a path speaks, what its bodies say, and where its streams begin and end.
//!
//! Every function is pure and takes whole (already decompressed) bodies; none fails on unknown fields, and none panics
//! or recurses on untrusted depth. Never changes a byte that goes over the wire, except [`replace_model`] on request.
//! An API is one file below this one, with one line in each `match` here.

use serde_json::Value;

use crate::call::{Api, Request, Response};

mod anthropic_messages;
pub mod end_mark;
mod json;
mod openai_chat;
pub mod sse;

pub use end_mark::EndMark;
pub use json::replace_model;

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The API is passed through, not parsed.
    #[error("parse a body of the API `{}`: it has no parser", .0.as_str())]
    NotParsed(Api),
    /// The body is no JSON, or is cut.
    #[error("parse a body as JSON")]
    NotJson(#[source] serde_json::Error),
    /// The body nests more deeply than 128 levels.
    #[error("parse a body as JSON: it nests too deeply")]
    TooDeep,
    /// The body is JSON, but not an object.
    #[error("parse a request body: it is not a JSON object")]
    NotAnObject,
}

/// A response body in its API's non-streamed form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assembled {
    /// What the provider would have answered without streaming; `[DONE]`, pings and padding left out.
    pub body: Value,
    /// Whether the body came as a stream.
    pub streamed: bool,
    /// A stream that ended before it said that it was finished.
    pub partial: bool,
    /// An error sent inside a stream: the inner `error` value where there is one, text where it is no JSON.
    pub error: Option<Value>,
    /// Stream events left out: over [`sse::MAX_EVENT`], or no JSON object.
    pub skipped_events: u32,
}

/// The API that a request path speaks, without its query; prefixes, doubled slashes and a trailing `:port` are allowed.
///
/// Matched on the last segments, so that `/openai/v1/chat/completions` and `/deployments/x/chat/completions` are both
/// chat, while what lies below a known path (`…/messages/batches`) is [`Api::Other`].
pub fn detect(path: &str) -> Api {
    let mut segments = path.rsplit('/').filter(|segment| !segment.is_empty());
    let last = without_port(segments.next().unwrap_or_default());
    match (segments.next(), last) {
        (Some("chat"), "completions") => Api::OpenaiChat,
        // OpenAI's `/v1/threads/{id}/messages` is another API: only a version may stand before `messages`.
        (None, "messages") => Api::AnthropicMessages,
        (Some(before), "messages") if is_version(before) => Api::AnthropicMessages,
        _ => Api::Other,
    }
}

/// The model or deployment named in a path; absent for APIs that name it in the body alone.
pub fn model_in_path(path: &str) -> Option<&str> {
    let mut segments = path.split('/').skip_while(|segment| *segment != "deployments").skip(1);
    segments.find(|segment| !segment.is_empty())
}

/// Whether a content type is that of server-sent events.
pub fn is_event_stream(content_type: Option<&str>) -> bool {
    let essence = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    essence.eq_ignore_ascii_case("text/event-stream")
}

/// Reads a request body. Unknown fields and parts are left out, never an error.
///
/// # Errors
/// Where the body is no JSON object, nests too deeply, or the API has no parser.
pub fn parse_request(api: Api, body: &[u8]) -> Result<Request, WireError> {
    let parse: fn(&Value) -> Request = match api {
        Api::OpenaiChat => openai_chat::request,
        Api::AnthropicMessages => anthropic_messages::request,
        _ => return Err(WireError::NotParsed(api)),
    };
    let body = json::parse(body)?;
    if body.is_object() {
        Ok(parse(&body))
    } else {
        Err(WireError::NotAnObject)
    }
}

/// Brings a response body, streamed or not, into its API's non-streamed form.
///
/// # Errors
/// Where the API has no parser, or a body that is not a stream is no JSON (an error page, say) or nests too deeply. A
/// stream never fails: what could not be read is counted in [`Assembled::skipped_events`].
pub fn assemble(api: Api, content_type: Option<&str>, body: &[u8]) -> Result<Assembled, WireError> {
    let fold: fn(&[u8]) -> Assembled = match api {
        Api::OpenaiChat => openai_chat::fold,
        Api::AnthropicMessages => anthropic_messages::fold,
        _ => return Err(WireError::NotParsed(api)),
    };
    if is_streamed(content_type, body) {
        let mut assembled = fold(body);
        // A copy ends with the end mark, inside an event that has not ended.
        if api == Api::AnthropicMessages && EndMark::new(api).push(body) {
            assembled.partial = false;
        }
        return Ok(assembled);
    }
    Ok(Assembled {
        body: json::parse(body)?,
        ..Assembled::default()
    })
}

/// Reads an assembled response; `status` is the HTTP status, 0 where it is not known.
pub fn parse_response(api: Api, status: u16, assembled: &Assembled) -> Response {
    let body = &assembled.body;
    let mut response = match api {
        Api::OpenaiChat => openai_chat::response(body),
        Api::AnthropicMessages => anthropic_messages::response(body),
        _ => Response::default(),
    };
    response.error = assembled.error.clone().or_else(|| error_in(status, body));
    response.partial = assembled.partial;
    response
}

/// Where a streamed response begins to carry output (text, reasoning, a tool call): the offset of the byte after the
/// first such event. Absent where nothing was output, or the body is not a stream.
pub fn output_starts_at(api: Api, content_type: Option<&str>, body: &[u8]) -> Option<usize> {
    let carries_output: fn(&Value) -> bool = match api {
        Api::OpenaiChat => openai_chat::carries_output,
        Api::AnthropicMessages => anthropic_messages::carries_output,
        _ => return None,
    };
    if !is_streamed(content_type, body) {
        return None;
    }
    let mut events = sse::Events::new(body);
    let first = events.find(|event| json::parse(&event.data).is_ok_and(|data| carries_output(&data)))?;
    Some(first.end)
}

/// Content types lie both ways, and some servers send none; no JSON body begins like a stream, nor a stream like JSON.
fn is_streamed(content_type: Option<&str>, body: &[u8]) -> bool {
    let body = json::without_bom(body).trim_ascii_start();
    let looks_like_json = body.starts_with(b"{") || body.starts_with(b"[");
    let looks_like_events = [b"data:".as_slice(), b"event:", b"id:", b"retry:", b":"]
        .iter()
        .any(|f| body.starts_with(f));
    looks_like_events || (is_event_stream(content_type) && !looks_like_json)
}

/// The error that a non-streamed body states: its `error` value, else, for an error status, the whole body.
fn error_in(status: u16, body: &Value) -> Option<Value> {
    match body.get("error") {
        Some(error) if !error.is_null() => Some(error.clone()),
        _ if status >= 400 && !body.is_null() => Some(body.clone()),
        _ => None,
    }
}

fn without_port(segment: &str) -> &str {
    match segment.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => segment,
    }
}

fn is_version(segment: &str) -> bool {
    let mut bytes = segment.bytes();
    bytes.next() == Some(b'v') && bytes.next().is_some_and(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
