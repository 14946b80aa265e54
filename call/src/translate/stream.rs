//! A streamed answer on its way from a candidate's API to its client's: a reader tells deltas, a writer writes them.
//!
//! Keeps the order: nothing follows an error, and only an answer with a finish word ends as a whole one.

use serde_json::Value;

use super::blocks::Blocks;
use super::chat::{self, Delta};
use super::ids::CallIds;
use super::told::{Cut, Pieces, SmallAnswers};
use super::tool_calls::Collected;
use super::{Back, Refusal, anthropic_messages, bedrock_converse, cohere_chat, gemini, ollama, openai_responses};
use crate::call::{Api, Usage};

impl Back {
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

/// What a client is told of a call that its API could not take back in a history.
pub(super) const UNSAYABLE: &str = "the model called a tool by a name that can't be said";

/// What a client is told where the candidate's stream ends without a finish word.
const BROKE_OFF: &str = "the answer broke off";

/// What an error inside a stream says: an HTTP status and words. Where it names no status its kind tells one, else it is 500.
fn error_said(error: &Value) -> (u16, String) {
    let status = ["code", "status", "status_code"].iter().find_map(|key| {
        let status = error.get(key)?;
        let status = status.as_u64().or_else(|| status.as_str()?.parse().ok())?;
        u16::try_from(status).ok().filter(|status| (400..600).contains(status))
    });
    let mut kinds = ["type", "code"].iter().filter_map(|key| error.get(key)?.as_str());
    let status = status.or_else(|| kinds.find_map(status_of));
    let message = ["message", "detail", "error"]
        .iter()
        .find_map(|key| error.get(key)?.as_str());
    let message = message.or(error.as_str()).map_or_else(|| error.to_string(), Into::into);
    (status.unwrap_or(500), message)
}

/// The HTTP status that the documents of Bedrock, Anthropic and OpenAI give a kind of error.
///
/// But for two of Bedrock's: a model that failed in its stream (424) or was too slow (408) is a gateway's fault here, since
/// an agent would read either status as its own.
fn status_of(kind: &str) -> Option<u16> {
    let status = match kind.to_ascii_lowercase().as_str() {
        "validationexception" | "servicequotaexceededexception" | "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "accessdeniedexception" | "permission_error" => 403,
        "resourcenotfoundexception" | "not_found_error" => 404,
        "request_too_large" => 413,
        "throttlingexception" | "modelnotreadyexception" | "rate_limit_error" | "rate_limit_exceeded" => 429,
        "modelstreamerrorexception" | "modelerrorexception" => 502,
        "serviceunavailableexception" | "overloaded_error" => 503,
        "modeltimeoutexception" | "timeout_error" => 504,
        _ => return None,
    };
    Some(status)
}

/// Reads one API's stream in pieces of any size.
pub(super) trait Reader: Send {
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
pub(super) trait Writer: Send {
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
    /// Where calls are collected by a writer that can only say them whole, at the end. Any other has `call` and `arguments`
    /// of its own.
    fn calls(&mut self) -> Option<&mut Collected> {
        None
    }
    /// A tool call begins; its id is one that is free in the conversation.
    fn call(&mut self, _index: usize, _id: &str, name: &str, _out: &mut Vec<u8>) -> Written {
        if let Some(calls) = self.calls() {
            calls.start(name.to_owned());
        }
        Ok(())
    }
    /// More of the arguments of the call that began last; never empty.
    fn arguments(&mut self, index: usize, piece: &str, _out: &mut Vec<u8>) {
        if let Some(calls) = self.calls() {
            calls.push(index, piece);
        }
    }
    /// The answer failed, before or after it began.
    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>);
    /// The answer is whole.
    fn finish(&mut self, ending: &Ending<'_>, out: &mut Vec<u8>) -> Written;
}

/// Why the client's API can't say what the model says, if it can't.
pub(super) type Written = Result<(), String>;

/// How an answer ended.
pub(super) struct Ending<'a> {
    /// The candidate's finish word.
    pub(super) word: &'a str,
    pub(super) has_calls: bool,
    pub(super) is_refused: bool,
    pub(super) usage: &'a Usage,
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
