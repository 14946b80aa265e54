//! A call of one API, put to a candidate that speaks another: request, answer, streamed answer.
//!
//! OpenAI chat, which SLM servers speak, lies between any two: a request is said in chat, and then in the candidate's API
//! (`asking`); an answer is read as chat would say it, whole ([`Response`]) or as it comes (`Delta`), and written in the
//! client's API.
//!
//! Pure. What the other API can't express is a typed [`Refusal`], never a silent loss: such a call stays with its baseline. Never
//! makes up thinking, signatures, encrypted reasoning or a provider's ids, so that a conversation can go back to its
//! baseline at any turn: a candidate's reasoning is left out, and a tool call keeps the candidate's id where the
//! baseline takes it, else gets one that it takes ([`ids`]).

use serde_json::Value;

use crate::call::{Api, Operation, Response};
use crate::check::Demands;
use crate::wire::{self, Assembled};

mod anthropic_messages;
mod bedrock_converse;
mod blocks;
mod chat;
mod cohere_chat;
mod fields;
mod gemini;
pub mod ids;
mod ollama;
mod openai_responses;
mod parts;
mod schema;
mod stream;
mod told;
mod tool_calls;

use chat::Asked;
pub use stream::Stream;
use stream::{Ending, Reader, UNSAYABLE, Writer, Written};

/// The APIs that agents speak whose calls are translated, and those that candidates speak: they are the same.
pub const SPOKEN: [Api; 7] = [
    Api::OpenaiChat,
    Api::AnthropicMessages,
    Api::OpenaiResponses,
    Api::Gemini,
    Api::Ollama,
    Api::CohereChat,
    Api::BedrockConverse,
];

/// Why a call can't be put to a candidate that speaks another API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The API has no translation.
    #[error("the API `{}` is not translated", .0.as_str())]
    Api(Api),
    /// The body can't be read.
    #[error("the body can't be read: {0}")]
    Unreadable(String),
    /// Something that the other API can't say; where (a path of keys) and what.
    #[error("`{at}` can't be translated: {what}")]
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

/// A request in the candidate's API, and what its answer needs to go back.
#[derive(Clone, Debug)]
pub struct Translated {
    /// The body of the request; `model`, where the API has it there, is as the client asked, for the caller to replace.
    pub body: Value,
    /// What the request demands of its answer.
    pub demands: Demands,
    /// Translates the answer.
    pub back: Back,
}

/// What the answer's translation must know of the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Back {
    /// The client's API.
    pub api: Api,
    /// The candidate's API.
    pub spoken: Api,
    /// The model that the client asked for: the answer names it.
    pub model: String,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// Gemini's growing array instead of server-sent events.
    pub as_array: bool,
    /// When the answer is made, in seconds since 1970, where the candidate does not say it; 0 where nobody knows.
    pub created: i64,
    /// The request, in the client's API: some APIs repeat parts of it in their answers.
    pub request: Value,
}

/// Translates a request to OpenAI chat: [`between`] for candidates that speak it.
///
/// # Errors
/// As there.
pub fn request(api: Api, path_and_query: &str, body: &[u8]) -> Result<Translated, Refusal> {
    between(api, Api::OpenaiChat, path_and_query, body)
}

/// Translates a request of OpenAI chat for an upstream that speaks `spoken`.
///
/// # Errors
/// As [`between`].
pub fn request_for(spoken: Api, chat: &[u8]) -> Result<Translated, Refusal> {
    between(Api::OpenaiChat, spoken, "/v1/chat/completions", chat)
}

/// Whether a call of `api` has to be translated for a candidate that speaks `spoken`. Of the same API, calls of OpenAI chat
/// and Anthropic are edited in place; in the others a candidate's model, ids or signatures can't be told from its baseline's
/// so, and the call goes by chat as between any two.
pub fn is_needed(api: Api, spoken: Api) -> bool {
    api != spoken || !matches!(api, Api::OpenaiChat | Api::AnthropicMessages)
}

/// Whether an API's path names the model, and says whether the answer is streamed; its body then does neither.
pub fn path_says_model(api: Api) -> bool {
    matches!(api, Api::Gemini | Api::BedrockConverse)
}

/// Translates a request of `api` for a candidate that speaks `spoken`; `path` with its query, since Gemini names model and
/// framing there.
///
/// # Errors
/// Where the candidate's API can't say what the request says.
pub fn between(api: Api, spoken: Api, path_and_query: &str, body: &[u8]) -> Result<Translated, Refusal> {
    if !is_needed(api, spoken) {
        return Err(Refusal::Api(api));
    }
    let translate: fn(&Value) -> Result<Value, Refusal> = match api {
        Api::OpenaiChat => |chat| Ok(chat.clone()),
        Api::AnthropicMessages => anthropic_messages::request,
        Api::OpenaiResponses => openai_responses::request,
        Api::Gemini => gemini::request,
        Api::Ollama => ollama::request,
        Api::CohereChat => cohere_chat::request,
        Api::BedrockConverse => bedrock_converse::request,
        _ => return Err(Refusal::Api(api)),
    };
    let say: fn(&Asked) -> Result<Value, Refusal> = match spoken {
        Api::OpenaiChat => |_| Ok(Value::Null),
        Api::AnthropicMessages => anthropic_messages::asking,
        Api::OpenaiResponses => openai_responses::asking,
        Api::Gemini => gemini::asking,
        Api::Ollama => ollama::asking,
        Api::CohereChat => cohere_chat::asking,
        Api::BedrockConverse => bedrock_converse::asking,
        _ => return Err(Refusal::Api(spoken)),
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
    let demands = Demands::of_parsed(wire::openai_chat::request(&chat), &chat);
    let said = match spoken {
        Api::OpenaiChat => chat,
        _ => {
            let mut said = say(&Asked::of(&chat)?)?;
            if !path_says_model(spoken) {
                said["model"] = model.clone().into();
                said["stream"] = parsed.stream.into();
            }
            said
        }
    };
    Ok(Translated {
        body: said,
        demands,
        back: Back {
            api,
            spoken,
            model,
            stream: parsed.stream,
            as_array: api == Api::Gemini
                && parsed.stream
                && !query
                    .split('&')
                    .any(|pair| matches!(pair, "alt=sse" | "$alt=sse" | "%24alt=sse")),
            created: 0,
            request: original,
        },
    })
}

/// Where a request of `api` for this model goes, below the base URL of its provider; none where the API is not spoken to
/// candidates.
pub fn path(api: Api, model: &str, stream: bool) -> Option<String> {
    const UNSAFE: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    let fixed = match api {
        Api::OpenaiChat => "/v1/chat/completions",
        Api::AnthropicMessages => "/v1/messages",
        Api::OpenaiResponses => "/v1/responses",
        Api::Ollama => "/api/chat",
        Api::CohereChat => "/v2/chat",
        Api::BedrockConverse => {
            let model = percent_encoding::utf8_percent_encode(model, UNSAFE);
            let verb = if stream { "converse-stream" } else { "converse" };
            return Some(format!("/model/{model}/{verb}"));
        }
        Api::Gemini => {
            let model = percent_encoding::utf8_percent_encode(model, UNSAFE);
            let verb = if stream {
                "streamGenerateContent?alt=sse"
            } else {
                "generateContent"
            };
            return Some(format!("/v1beta/models/{model}:{verb}"));
        }
        _ => return None,
    };
    Some(fixed.to_owned())
}

impl Back {
    /// The media type of the client's answer.
    pub fn content_type(&self) -> &'static str {
        match (self.api, self.stream) {
            (Api::Ollama, true) => "application/x-ndjson",
            (Api::BedrockConverse, true) => "application/vnd.amazon.eventstream",
            (_, true) if !self.as_array => "text/event-stream",
            _ => "application/json",
        }
    }

    /// Whether the stream tells the usage although the client did not ask for it: only a client of chat has to ask.
    pub fn adds_usage(&self) -> bool {
        let asked = self.request.pointer("/stream_options/include_usage");
        self.api == Api::OpenaiChat && asked != Some(&Value::Bool(true))
    }

    /// Translates a whole answer of the candidate to the client's API.
    ///
    /// # Errors
    /// Where the answer can't be read or said in the client's API.
    pub fn response(&self, body: &[u8]) -> Result<Value, Refusal> {
        let unreadable = |error: wire::WireError| Refusal::Unreadable(error.to_string());
        let assembled: Assembled = wire::assemble(self.spoken, None, body).map_err(unreadable)?;
        let answer = wire::parse_response(self.spoken, 200, &assembled);
        if let Some(error) = &answer.error {
            return Err(Refusal::Unreadable(format!("an error: {error}")));
        }
        if let Some(fault) = chat::fault(&answer) {
            return Err(Refusal::Unreadable(fault));
        }
        let mut translated = self.answer(answer.id.as_deref().unwrap_or_default(), &answer)?;
        let said = ["created", "created_at"]
            .iter()
            .find_map(|key| assembled.body.get(key)?.as_i64());
        if let Some(created) = said.or((self.created > 0).then_some(self.created)) {
            match self.api {
                Api::OpenaiChat => translated["created"] = created.into(),
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
            Api::OpenaiChat => chat::answer(self, id, answer),
            Api::AnthropicMessages => anthropic_messages::answer(self, id, answer),
            Api::OpenaiResponses => openai_responses::answer(self, id, answer),
            Api::Gemini => gemini::answer(self, id, answer),
            Api::Ollama => ollama::answer(self, id, answer),
            Api::CohereChat => cohere_chat::answer(self, id, answer),
            Api::BedrockConverse => bedrock_converse::answer(self, id, answer),
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
}

/// An error body of an API, with its own words for a status.
pub fn error_body(api: Api, status: u16, message: &str) -> Value {
    match api {
        Api::AnthropicMessages => anthropic_messages::error(status, message),
        Api::Gemini => gemini::error(status, message),
        Api::Ollama => ollama::error(status, message),
        Api::CohereChat => cohere_chat::error(status, message),
        Api::BedrockConverse => bedrock_converse::error(status, message),
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

#[cfg(test)]
mod tests;
