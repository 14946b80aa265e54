//! Reads requests in the formats of the models that Bedrock hosts.

use serde_json::Value;

use super::super::json::{integer, list, text};
use super::super::{anthropic_messages, bedrock_converse, cohere_chat, openai_chat};
use crate::call::{Message, Operation, Request, Role};

/// Reads a request object.
pub(in super::super) fn request(body: &Value) -> Request {
    let has = |key: &str| body.get(key).is_some();
    if has("anthropic_version") || has("max_tokens_to_sample") {
        let is_legacy = has("prompt") && !has("messages");
        return Request {
            operation: if is_legacy {
                Operation::Complete
            } else {
                Operation::Chat
            },
            ..anthropic_messages::request(body)
        };
    }
    if has("messages") {
        return if is_nova(body) {
            bedrock_converse::conversation(body)
        } else {
            openai_chat::request(body)
        };
    }
    if has("texts") || has("input_type") {
        return Request {
            operation: Operation::Embed,
            ..cohere_chat::request(body)
        };
    }
    if has("message") || has("chat_history") {
        return cohere_chat::request(body);
    }
    if has("inputText") || has("inputImage") {
        return titan(body);
    }
    match body
        .pointer("/singleEmbeddingParams")
        .or_else(|| body.pointer("/segmentedEmbeddingParams"))
    {
        Some(embedded) => nova_embedding(embedded),
        None => prompt(body),
    }
}

/// Nova's parts have no type, and its settings lie together.
fn is_nova(body: &Value) -> bool {
    let settings = ["schemaVersion", "inferenceConfig", "toolConfig"];
    let first_part = || list(list(body, "messages").first()?, "content").first();
    settings.iter().any(|key| body.get(key).is_some())
        || first_part().is_some_and(|part| part.is_object() && part.get("type").is_none())
}

/// Titan text, or Titan embeddings.
fn titan(body: &Value) -> Request {
    const OF_EMBEDDINGS: [&str; 5] = [
        "normalize",
        "dimensions",
        "embeddingTypes",
        "embeddingConfig",
        "inputImage",
    ];
    let config = body.get("textGenerationConfig").unwrap_or(&Value::Null);
    let embeds = OF_EMBEDDINGS.iter().any(|key| body.get(key).is_some());
    Request {
        operation: if embeds { Operation::Embed } else { Operation::Complete },
        messages: vec![Message {
            media_parts: u32::from(body.get("inputImage").is_some()),
            ..Message::text(Role::User, text(body, "inputText").unwrap_or_default())
        }],
        max_tokens: integer(config, "maxTokenCount"),
        temperature: config.get("temperature").and_then(Value::as_f64),
        ..Request::default()
    }
}

fn nova_embedding(embedded: &Value) -> Request {
    let said = embedded.get("text").and_then(|part| text(part, "value"));
    let media = ["image", "audio", "video"]
        .iter()
        .filter(|kind| embedded.get(**kind).is_some());
    Request {
        operation: Operation::Embed,
        messages: vec![Message {
            media_parts: media.count() as u32,
            ..Message::text(Role::User, said.unwrap_or_default())
        }],
        ..Request::default()
    }
}

/// One text to go on from, as Llama, DeepSeek, Jurassic and older Mistral and Cohere take it.
fn prompt(body: &Value) -> Request {
    let Some(prompt) = text(body, "prompt") else {
        return Request::default();
    };
    let limits = ["max_gen_len", "max_tokens", "max_new_tokens", "maxTokens"];
    Request {
        operation: Operation::Complete,
        messages: vec![Message::text(Role::User, prompt)],
        max_tokens: limits.iter().find_map(|key| integer(body, key)),
        temperature: body.get("temperature").and_then(Value::as_f64),
        ..Request::default()
    }
}
