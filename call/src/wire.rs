//! Wire bodies to calls: which API a path speaks, what its bodies say, and where its streams begin and end.
//!
//! Every function is pure and takes whole (already decompressed) bodies; none fails on unknown fields, and none panics
//! or recurses on untrusted depth. Never changes a byte that goes over the wire, except [`replace_model`] on request.
//! An API is one file below this one, with one line in `parser`.

use serde_json::Value;

use crate::call::{Api, Operation, Request, Response};

mod anthropic_messages;
mod array;
mod bedrock_converse;
mod bedrock_invoke;
mod cohere_chat;
mod detect;
pub mod encoding;
pub mod end_mark;
mod event;
pub mod eventstream;
pub mod framing;
pub(crate) mod gemini;
pub(crate) mod json;
mod ndjson;
mod ollama;
pub(crate) mod openai_chat;
mod openai_completions;
mod openai_embeddings;
mod openai_responses;
pub mod splice;
pub mod sse;

pub use bedrock_converse::open_request_to_count;
pub use bedrock_invoke::{USAGE_HEADERS, usage_in_headers};
pub use detect::{Endpoint, detect, endpoint, model_in_path, streams_by_path};
pub use end_mark::EndMark;
pub use framing::{Event, Events, Framing, framing_named};
pub use json::{escaped_unit, replace_model};

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
    /// Stream events left out: over [`framing::MAX_EVENT`], damaged, or no JSON object.
    pub skipped_events: u32,
}

/// The functions of one API's file.
struct Parser {
    request: fn(&Value) -> Request,
    fold: fn(Events<'_>) -> Assembled,
    response: fn(&Value) -> Response,
    carries_output: fn(&Event<'_>) -> bool,
}

/// The parser of an API; absent for what is passed through unread.
fn parser(api: Api) -> Option<Parser> {
    macro_rules! of {
        ($file:ident) => {
            Some(Parser {
                request: $file::request,
                fold: $file::fold,
                response: $file::response,
                carries_output: $file::carries_output,
            })
        };
    }
    match api {
        Api::OpenaiChat => of!(openai_chat),
        Api::OpenaiResponses => of!(openai_responses),
        Api::OpenaiCompletions => of!(openai_completions),
        Api::OpenaiEmbeddings => of!(openai_embeddings),
        Api::AnthropicMessages => of!(anthropic_messages),
        Api::Gemini => of!(gemini),
        Api::Ollama => of!(ollama),
        Api::BedrockConverse => of!(bedrock_converse),
        Api::BedrockInvoke => of!(bedrock_invoke),
        Api::CohereChat => of!(cohere_chat),
        Api::Other => None,
    }
}

/// Any body as JSON, read as tolerantly as the parsers read it.
///
/// # Errors
/// Where it is no JSON, or nests too deeply.
pub fn parse_json(body: &[u8]) -> Result<Value, WireError> {
    json::parse(body)
}

/// Reads a request body. Unknown fields and parts are left out, never an error. What only the path tells
/// ([`model_in_path`], [`streams_by_path`]) is added by [`parse_request_at`].
///
/// # Errors
/// Where the body is no JSON object, nests too deeply, or the API has no parser.
pub fn parse_request(api: Api, body: &[u8]) -> Result<Request, WireError> {
    let parser = parser(api).ok_or(WireError::NotParsed(api))?;
    let body = json::parse(body)?;
    if body.is_object() {
        let request = (parser.request)(&body);
        let operation = match api {
            Api::OpenaiCompletions => Operation::Complete,
            Api::OpenaiEmbeddings => Operation::Embed,
            // The shape of the body tells.
            Api::BedrockConverse | Api::BedrockInvoke => request.operation,
            _ => Operation::Chat,
        };
        Ok(Request { operation, ..request })
    } else {
        Err(WireError::NotAnObject)
    }
}

/// Reads a request body, and from its path what the body leaves out.
///
/// # Errors
/// As [`parse_request`].
pub fn parse_request_at(api: Api, path: &str, body: &[u8]) -> Result<Request, WireError> {
    let mut request = parse_request(api, body)?;
    request.model = request
        .model
        .or_else(|| model_in_path(path).map(std::borrow::Cow::into_owned));
    request.stream |= streams_by_path(path);
    if let Some(endpoint) = endpoint(path) {
        // To Bedrock's `invoke` any operation may be sent.
        if api != Api::BedrockInvoke || endpoint.operation != Operation::Chat {
            request.operation = endpoint.operation;
        }
        // Ollama streams unless told not to, but these can't be streamed.
        request.stream &= !matches!(endpoint.operation, Operation::Embed | Operation::CountTokens);
    }
    Ok(request)
}

/// Brings a response body, streamed or not, into its API's non-streamed form.
///
/// # Errors
/// Where the API has no parser, or a body that is not a stream is no JSON (an error page, say) or nests too deeply. A
/// stream never fails: what could not be read is counted in [`Assembled::skipped_events`].
pub fn assemble(api: Api, content_type: Option<&str>, body: &[u8]) -> Result<Assembled, WireError> {
    let parser = parser(api).ok_or(WireError::NotParsed(api))?;
    if let Some(framing) = framing::framing_of(api, content_type, body) {
        let mut assembled = (parser.fold)(Events::new(framing, body));
        assembled.streamed = true;
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
    let mut response = parser(api).map_or_else(Response::default, |parser| (parser.response)(body));
    response.error = assembled.error.clone().or_else(|| error_in(api, status, body));
    // An error that HTTP tells is whole, also where it takes the form of a stream.
    response.partial = assembled.partial && status < 400;
    response
}

/// Where a streamed response begins to carry output (text, reasoning, a tool call): the offset of the byte after the
/// first such event. Absent where nothing was output, or the body is not a stream.
pub fn output_starts_at(api: Api, content_type: Option<&str>, body: &[u8]) -> Option<usize> {
    let parser = parser(api)?;
    let framing = framing::framing_of(api, content_type, body)?;
    let first = Events::new(framing, body).find(|event| (parser.carries_output)(event))?;
    Some(first.end)
}

/// The error that a non-streamed body states: its `error` value, else, for an error status, the whole body.
fn error_in(_api: Api, status: u16, body: &Value) -> Option<Value> {
    match body.get("error") {
        Some(error) if !error.is_null() => Some(error.clone()),
        _ if status >= 400 && !body.is_null() => Some(body.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
