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

use crate::call::{Api, Operation, Response, Usage};
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
mod told;
mod tool_calls;

use blocks::Blocks;
use chat::{Asked, Delta};
use ids::CallIds;
use told::{Cut, Pieces, SmallAnswers};

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

    /// Translates a streamed answer as it comes.
    ///
    /// # Errors
    /// Where the API has no translation.
    pub fn stream(&self) -> Result<Stream, Refusal> {
        let mut writer: Box<dyn Writer> = match self.api {
            Api::OpenaiChat => Box::new(chat::Chunks::new(self)),
            Api::AnthropicMessages => Box::new(Blocks::new(anthropic_messages::Events::new(self))),
            Api::OpenaiResponses => Box::new(openai_responses::Events::new(self)),
            Api::Gemini => Box::new(gemini::Chunks::new(self)),
            Api::Ollama => Box::new(ollama::Lines::new(self)),
            Api::CohereChat => Box::new(cohere_chat::Events::default()),
            Api::BedrockConverse => Box::new(Blocks::new(bedrock_converse::Messages)),
            other => return Err(Refusal::Api(other)),
        };
        let spoken = self.spoken;
        let reader: Box<dyn Reader> = match spoken {
            Api::OpenaiChat => Box::new(chat::Reader::default()),
            Api::AnthropicMessages => {
                let events = anthropic_messages::MessageEvents::default();
                Box::new(Pieces::new(spoken, Cut::Events, events))
            }
            Api::OpenaiResponses => {
                let events = openai_responses::ResponseEvents::default();
                Box::new(Pieces::new(spoken, Cut::Events, events))
            }
            Api::Gemini => Box::new(Pieces::new(spoken, Cut::Events, SmallAnswers(spoken))),
            Api::Ollama => Box::new(Pieces::new(spoken, Cut::Lines, SmallAnswers(spoken))),
            Api::CohereChat => {
                let events = cohere_chat::ChatEvents::default();
                Box::new(Pieces::new(spoken, Cut::Events, events))
            }
            Api::BedrockConverse => {
                let events = bedrock_converse::ConverseEvents::default();
                Box::new(Pieces::new(spoken, Cut::Messages, events))
            }
            other => return Err(Refusal::Api(other)),
        };
        writer.set_created(self.created);
        Ok(Stream {
            reader,
            writer,
            ids: CallIds::of_history(&self.request),
            has_calls: false,
            is_refused: false,
            finish: None,
            usage: Usage::default(),
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

/// What a client is told of a call that its API could not take back in a history.
const UNSAYABLE: &str = "the model called a tool by a name that can't be said";

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

/// Reads one API's stream in pieces of any size.
trait Reader: Send {
    /// The deltas that a piece completes.
    fn push(&mut self, piece: &[u8]) -> Vec<Delta>;
    /// The deltas of what is left at the end.
    fn finish(&mut self) -> Vec<Delta>;
    /// Ends the answer with an error, unless it is at its end; what was held back, and that.
    fn fail(&mut self, error: Value) -> Vec<Delta>;
    /// When the answer was made, in seconds since 1970, where the stream has said so.
    fn created(&self) -> Option<i64>;
    /// The model that answers, where the stream has said so.
    fn model(&self) -> Option<&str>;
    /// Whether the stream has said that it is at its end, or failed: what follows is not read.
    fn is_done(&self) -> bool;
}

/// Writes one API's stream; where it fails, [`Writer::fail`] follows, and nothing after it.
trait Writer: Send {
    /// When the answer was made, in seconds since 1970; told before the first piece, where the candidate says it.
    fn set_created(&mut self, _seconds: i64) {}
    /// The answer begins.
    fn start(&mut self, id: &str, out: &mut Vec<u8>);
    /// More text; never empty.
    fn text(&mut self, piece: &str, out: &mut Vec<u8>) -> Written;
    /// More of a refusal; never empty.
    fn refusal(&mut self, piece: &str, out: &mut Vec<u8>) -> Written {
        self.text(piece, out)
    }
    /// A tool call begins; its id is one that is free in the conversation.
    fn call(&mut self, index: usize, id: &str, name: &str, out: &mut Vec<u8>) -> Written;
    /// More of the arguments of the call that began last; never empty.
    fn arguments(&mut self, index: usize, piece: &str, out: &mut Vec<u8>);
    /// The answer failed, before or after it began.
    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>);
    /// The answer is whole.
    fn finish(&mut self, ending: &Ending<'_>, out: &mut Vec<u8>) -> Written;
}

/// Why the client's API can't say what the model says, if it can't.
type Written = Result<(), String>;

/// How an answer ended.
struct Ending<'a> {
    /// The candidate's finish word.
    word: &'a str,
    has_calls: bool,
    is_refused: bool,
    usage: &'a Usage,
}

/// A streamed answer on its way to another API. Holds at most one unfinished event of the candidate's.
pub struct Stream {
    reader: Box<dyn Reader>,
    writer: Box<dyn Writer>,
    ids: CallIds,
    has_calls: bool,
    is_refused: bool,
    finish: Option<String>,
    usage: Usage,
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

    /// Ends what the client gets with an error, since the candidate's stream broke off.
    pub fn fail(&mut self, why: &str) -> Vec<u8> {
        let deltas = self
            .reader
            .fail(serde_json::json!({"message": why, "type": "upstream_error"}));
        self.write(deltas, true)
    }

    /// The candidate's own name of its model, once it is known.
    pub fn model(&self) -> Option<&str> {
        self.reader.model()
    }

    fn write(&mut self, deltas: Vec<Delta>, is_end: bool) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(seconds) = self.reader.created() {
            self.writer.set_created(seconds);
        }
        for delta in deltas {
            if self.is_closed {
                break;
            }
            if let Err((status, message)) = self.say(delta, &mut out) {
                self.is_closed = true;
                self.writer.fail(status, &message, &mut out);
            }
        }
        if is_end && !std::mem::replace(&mut self.is_closed, true) {
            let ended = match self.finish.as_deref() {
                Some(word) => {
                    let ending = Ending {
                        word,
                        has_calls: self.has_calls,
                        is_refused: self.is_refused,
                        usage: &self.usage,
                    };
                    self.writer.finish(&ending, &mut out)
                }
                None => Err(BROKE_OFF.into()),
            };
            if let Err(message) = ended {
                self.writer.fail(500, &message, &mut out);
            }
        }
        out
    }

    /// Writes a delta; the status and words of an error where the answer fails with it.
    fn say(&mut self, delta: Delta, out: &mut Vec<u8>) -> Result<(), (u16, String)> {
        let written = match delta {
            Delta::Start { id } => {
                self.writer.start(&id, out);
                Ok(())
            }
            Delta::Text(piece) => self.writer.text(&piece, out),
            Delta::Refusal(piece) => {
                self.is_refused = true;
                self.writer.refusal(&piece, out)
            }
            Delta::ToolCall { index, id, name } => {
                self.has_calls = true;
                let id = self.ids.next(&id, index);
                self.writer.call(index, &id, &name, out)
            }
            Delta::Arguments { index, piece } => {
                self.writer.arguments(index, &piece, out);
                Ok(())
            }
            Delta::Finish(word) => {
                self.finish = Some(word);
                Ok(())
            }
            Delta::Usage(usage) => {
                self.usage = usage;
                Ok(())
            }
            Delta::Error(error) => return Err(error_said(&error)),
        };
        written.map_err(|message| (500, message))
    }
}

#[cfg(test)]
mod tests;
