//! A call of another API ⇄ OpenAI chat, which SLM servers speak: request, answer, streamed answer.
//!
//! Pure. What chat can't express is a typed [`Refusal`], never a silent loss: such a call stays with its baseline. Never
//! makes up thinking, signatures, encrypted reasoning or a provider's ids, so that a conversation can go back to its
//! baseline at any turn: a candidate's reasoning is left out, and a tool call keeps the candidate's id where the
//! baseline takes it, else gets one that it takes ([`ids`]).

use serde_json::Value;

use crate::call::{Api, Operation, Response};
use crate::wire::{self, Assembled};

mod anthropic_messages;
mod chat;
mod cohere_chat;
mod fields;
mod gemini;
pub mod ids;
mod ollama;
mod openai_responses;
mod parts;
mod tool_calls;

use chat::Delta;

/// Why a call can't be put to a candidate that speaks OpenAI chat.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The API has no translation.
    #[error("the API `{}` is not translated", .0.as_str())]
    Api(Api),
    /// The body can't be read.
    #[error("the body can't be read: {0}")]
    Unreadable(String),
    /// Something that OpenAI chat can't say; where (a path of keys) and what.
    #[error("`{at}` can't be said in OpenAI chat: {what}")]
    Inexpressible {
        /// Where it stands in the request, as `messages[2].content[0]`.
        at: String,
        /// What it is.
        what: String,
    },
    /// The provider holds, or is asked to hold, state of the call.
    #[error("`{0}` is state at the provider")]
    StateAtProvider(String),
}

/// A request in OpenAI chat, and what its answer needs to go back.
#[derive(Clone, Debug)]
pub struct Translated {
    /// The body of the chat request; `model` is as the client asked, for the caller to replace.
    pub body: Value,
    /// Translates the answer.
    pub back: Back,
}

/// What the answer's translation must know of the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Back {
    /// The client's API.
    pub api: Api,
    /// The model that the client asked for: the answer names it.
    pub model: String,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// Gemini's growing array instead of server-sent events.
    pub as_array: bool,
    /// The request, in the client's API: some APIs repeat parts of it in their answers.
    pub request: Value,
}

/// Translates a request; `path` with its query, since Gemini names model and framing there.
///
/// # Errors
/// Where chat can't say what the request says.
pub fn request(api: Api, path_and_query: &str, body: &[u8]) -> Result<Translated, Refusal> {
    let translate: fn(&Value) -> Result<Value, Refusal> = match api {
        Api::AnthropicMessages => anthropic_messages::request,
        Api::OpenaiResponses => openai_responses::request,
        Api::Gemini => gemini::request,
        Api::Ollama => ollama::request,
        Api::CohereChat => cohere_chat::request,
        _ => return Err(Refusal::Api(api)),
    };
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let parsed = wire::parse_request_at(api, path, body).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    let original = wire::parse_json(body).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    let model = parsed.model.unwrap_or_default();
    if parsed.operation != Operation::Chat {
        return Err(Refusal::Inexpressible {
            at: path.to_owned(),
            what: "it asks for no chat".into(),
        });
    }
    let mut chat = translate(&original)?;
    if api == Api::Gemini {
        gemini::refuse_unsigned_calls(&model, &chat)?;
    }
    chat["model"] = model.clone().into();
    if parsed.stream {
        chat["stream"] = true.into();
        chat["stream_options"] = serde_json::json!({"include_usage": true});
    }
    Ok(Translated {
        body: chat,
        back: Back {
            api,
            model,
            stream: parsed.stream,
            as_array: api == Api::Gemini
                && parsed.stream
                && !query
                    .split('&')
                    .any(|pair| matches!(pair, "alt=sse" | "$alt=sse" | "%24alt=sse")),
            request: original,
        },
    })
}

impl Back {
    /// The media type of the client's answer.
    pub fn content_type(&self) -> &'static str {
        match (self.api, self.stream) {
            (Api::Ollama, true) => "application/x-ndjson",
            (_, true) if !self.as_array => "text/event-stream",
            _ => "application/json",
        }
    }

    /// Translates a whole chat answer (`chat.completion`) to the client's API.
    ///
    /// # Errors
    /// Where the answer can't be read or said in the client's API.
    pub fn response(&self, body: &[u8]) -> Result<Value, Refusal> {
        let unreadable = |error: wire::WireError| Refusal::Unreadable(error.to_string());
        let assembled: Assembled = wire::assemble(Api::OpenaiChat, None, body).map_err(unreadable)?;
        let answer = wire::parse_response(Api::OpenaiChat, 200, &assembled);
        if let Some(error) = &answer.error {
            return Err(Refusal::Unreadable(format!("an error: {error}")));
        }
        if let Some(fault) = chat::fault(&answer) {
            return Err(Refusal::Unreadable(fault));
        }
        let id = assembled.body.get("id").and_then(Value::as_str).unwrap_or_default();
        let mut translated = self.answer(id, &answer)?;
        if let Some(created) = assembled.body.get("created").and_then(Value::as_i64) {
            match self.api {
                Api::OpenaiResponses => openai_responses::set_created(&mut translated, created),
                Api::Ollama => ollama::set_created(&mut translated, created),
                _ => {}
            }
        }
        Ok(translated)
    }

    /// As [`Back::response`], for an answer at hand; `id` is the candidate's id of it.
    ///
    /// # Errors
    /// Where the answer can't be said in the client's API.
    pub fn answer(&self, id: &str, answer: &Response) -> Result<Value, Refusal> {
        let answer = &answer.clone().without_padding();
        match self.api {
            Api::AnthropicMessages => anthropic_messages::answer(self, id, answer),
            Api::OpenaiResponses => openai_responses::answer(self, id, answer),
            Api::Gemini => gemini::answer(self, id, answer),
            Api::Ollama => ollama::answer(self, id, answer),
            Api::CohereChat => cohere_chat::answer(self, id, answer),
            other => Err(Refusal::Api(other)),
        }
    }

    /// Translates an error of the proxy or the candidate to the client's API: the body of a response of `status`.
    pub fn error(&self, status: u16, message: &str) -> Value {
        let error = error_body(self.api, status, message);
        if self.as_array {
            Value::Array(vec![error])
        } else {
            error
        }
    }

    /// Translates a streamed chat answer as it comes.
    ///
    /// # Errors
    /// Where the API has no translation.
    pub fn stream(&self) -> Result<Stream, Refusal> {
        let writer: Box<dyn Writer> = match self.api {
            Api::AnthropicMessages => Box::new(anthropic_messages::Events::new(self)),
            Api::OpenaiResponses => Box::new(openai_responses::Events::new(self)),
            Api::Gemini => Box::new(gemini::Chunks::new(self)),
            Api::Ollama => Box::new(ollama::Lines::new(self)),
            Api::CohereChat => Box::new(cohere_chat::Events::new(self)),
            other => return Err(Refusal::Api(other)),
        };
        Ok(Stream {
            reader: chat::Reader::default(),
            writer,
            is_closed: false,
        })
    }
}

/// An error body of an API, with its own words for a status.
pub fn error_body(api: Api, status: u16, message: &str) -> Value {
    match api {
        Api::AnthropicMessages => anthropic_messages::error(status, message),
        Api::Gemini => gemini::error(status, message),
        Api::Ollama => ollama::error(status, message),
        Api::CohereChat => cohere_chat::error(status, message),
        _ => openai_responses::error(status, message),
    }
}

/// The answer of any API as a whole chat answer (`chat.completion`): reasoning left out, tool-call ids as they are.
pub fn to_chat(id: &str, answer: &Response) -> Value {
    chat::completion(id, &answer.clone().without_padding())
}

/// Appends a server-sent event, named by its `type`.
fn sse_event(data: &Value, out: &mut Vec<u8>) {
    let name = data.get("type").and_then(Value::as_str).unwrap_or_default();
    out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
}

/// What a client is told where the candidate's stream ends without a finish word.
const BROKE_OFF: &str = "the answer broke off";

/// What an error inside a chat stream says: an HTTP status, 500 where it names none, and words.
fn error_said(error: &Value) -> (u16, String) {
    let status = ["code", "status", "status_code"].iter().find_map(|key| {
        let status = error.get(key)?;
        let status = status.as_u64().or_else(|| status.as_str()?.parse().ok())?;
        u16::try_from(status).ok().filter(|status| (400..600).contains(status))
    });
    let message = ["message", "detail", "error"]
        .iter()
        .find_map(|key| error.get(key)?.as_str());
    let message = message.or(error.as_str()).map_or_else(|| error.to_string(), Into::into);
    (status.unwrap_or(500), message)
}

/// Writes one API's stream.
trait Writer: Send {
    /// Appends what `delta` becomes; the first delta opens the stream.
    fn write(&mut self, delta: Delta, out: &mut Vec<u8>);
    /// When the answer was made, in seconds since 1970; told before the first delta, where the candidate says it.
    fn set_created(&mut self, _seconds: i64) {}
    /// Appends what closes the stream. Where the chat stream ended without a finish reason, nothing that says that the
    /// answer is complete.
    ///
    /// Called once, at `[DONE]` or at the end; nothing is written after it.
    fn finish(&mut self, out: &mut Vec<u8>);
}

/// A streamed chat answer on its way to another API. Holds at most one unfinished event of the candidate's.
pub struct Stream {
    reader: chat::Reader,
    writer: Box<dyn Writer>,
    is_closed: bool,
}

impl Stream {
    /// Takes the next piece of the candidate's stream, gives what the client gets.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let deltas = self.reader.push(piece);
        self.write(deltas, self.reader.is_done())
    }

    /// What is left when the candidate's stream has ended.
    pub fn finish(&mut self) -> Vec<u8> {
        let deltas = self.reader.finish();
        self.write(deltas, true)
    }

    fn write(&mut self, deltas: Vec<Delta>, is_end: bool) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(seconds) = self.reader.created() {
            self.writer.set_created(seconds);
        }
        for delta in deltas {
            self.writer.write(delta, &mut out);
        }
        if is_end && !std::mem::replace(&mut self.is_closed, true) {
            self.writer.finish(&mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests;
