//! Bedrock InvokeModel: the model's own format inside Bedrock's envelope.
//!
//! The body doesn't name its model, so the shape decides which format it has: Anthropic's, Nova's (as Converse), that of
//! OpenAI's chat or completions (gpt-oss, DeepSeek, Mistral, Jamba, Qwen, …), Cohere's, or plain text of its maker's own
//! (Titan, Llama, older Mistral and Jurassic); or vectors.

use serde_json::Value;

use super::json::{integer, list, text};
use super::{anthropic_messages, bedrock_converse, cohere_chat, openai_chat, openai_completions};
use crate::call::{Response, Usage};

mod fold;
mod plain;
mod request;

pub(super) use fold::{carries_output, fold};
pub(super) use request::request;

/// What Bedrock counted, in the last chunk of a stream.
const METRICS: &str = "amazon-bedrock-invocationMetrics";

/// Whose format an answer, or a chunk of one, has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Anthropic,
    Converse,
    Chat,
    Completions,
    Cohere,
    Plain(&'static plain::Shape),
    Embedding,
}

impl Format {
    /// None where the shape is known of no format.
    fn of(body: &Value) -> Option<Format> {
        let has = |key: &str| body.get(key).is_some();
        let kind = text(body, "type").unwrap_or_default();
        if has("completion") || kind == "message" || is_anthropic_event(kind) {
            return Some(Format::Anthropic);
        }
        if body.pointer("/output/message").is_some() || converse_event(body).is_some() {
            return Some(Format::Converse);
        }
        if let Some(shape) = plain::Shape::of(body) {
            return Some(Format::Plain(shape));
        }
        if let Some(choice) = list(body, "choices").first() {
            let is_text = choice.get("text").is_some();
            return Some(if is_text { Format::Completions } else { Format::Chat });
        }
        if has("embedding") || has("embeddings") || has("embeddingsByType") {
            return Some(Format::Embedding);
        }
        let of_cohere = ["text", "generations", "event_type", "is_finished"];
        let is_cohere = of_cohere.iter().any(|key| has(key));
        is_cohere.then_some(Format::Cohere)
    }
}

fn is_anthropic_event(kind: &str) -> bool {
    kind.starts_with("message_") || kind.starts_with("content_block_") || matches!(kind, "ping" | "error")
}

/// The Converse event that a chunk of Nova's is, under the event's name.
fn converse_event(chunk: &Value) -> Option<(&'static str, &Value)> {
    const EVENTS: [&str; 6] = [
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
    ];
    let named = |name: &'static str| Some((name, chunk.get(name).filter(|event| event.is_object())?));
    EVENTS.into_iter().find_map(named)
}

/// Reads a response object.
pub(super) fn response(body: &Value) -> Response {
    let of_openai = |response: Response| Response {
        // Mistral and DeepSeek say why they stopped in Anthropic's word.
        finish_reason: response
            .finish_reason
            .or_else(|| text(list(body, "choices").first()?, "stop_reason").map(Into::into)),
        ..response
    };
    let response = match Format::of(body) {
        Some(Format::Anthropic) => anthropic_messages::response(body),
        Some(Format::Converse) => bedrock_converse::response(body),
        Some(Format::Chat) => of_openai(openai_chat::response(body)),
        Some(Format::Completions) => of_openai(openai_completions::response(body)),
        Some(Format::Cohere) => cohere_chat::response(body),
        Some(Format::Plain(shape)) => shape.response(body),
        Some(Format::Embedding) => embedding(body),
        None => Response::default(),
    };
    Response {
        // What the model itself did not count, Bedrock did.
        usage: response
            .usage
            .or(body.get(METRICS).map(bedrock_converse::usage).unwrap_or_default()),
        ..response
    }
}

/// Vectors are no output of tokens. Titan counts its input; Cohere leaves that to the headers.
fn embedding(body: &Value) -> Response {
    let response = cohere_chat::response(body);
    Response {
        output_text: String::new(),
        choices: 0,
        usage: Usage {
            input: response.usage.input.or_else(|| integer(body, "inputTextTokenCount")),
            output: Some(0),
            ..response.usage
        },
        ..response
    }
}

/// What the names of all headers begin with in which Bedrock says what it counted.
pub const USAGE_HEADERS: &str = "x-amzn-bedrock-";

/// What Bedrock counted for an answer that doesn't say, from the headers of the response (`header` gives the one of a
/// lower-case name); nothing for other providers.
pub fn usage_in_headers<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Usage {
    let count = |name: &str| {
        header(&format!("{USAGE_HEADERS}{name}-token-count"))?
            .trim()
            .parse()
            .ok()
    };
    let of_cache = |name: &str| count(name).filter(|tokens: &i64| *tokens > 0);
    let (cached, cache_write) = (of_cache("cache-read-input"), of_cache("cache-write-input"));
    Usage {
        input: count("input").map(|fresh| bedrock_converse::all_input(fresh, cached, cache_write)),
        cached,
        cache_write,
        output: count("output"),
        reasoning: None,
    }
}

#[cfg(test)]
mod tests;
