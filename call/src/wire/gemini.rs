//! Gemini and Vertex: generateContent, streamGenerateContent, countTokens, embeddings.
//!
//! The API takes every key in camel case and in snake case, and so do we; it answers in camel case alone. Thoughts, and
//! code that the provider ran itself, are kept apart from text and tool calls.

use serde_json::{Map, Value};

use super::framing::Event;
use super::json::{arguments, integer, list, text};
use crate::call::{Message, Operation, Request, Response, ResponseFormat, Role, ToolCall, ToolOffered, Usage};

mod fold;
mod partial_args;
mod schema;

pub(super) use fold::fold;
pub(crate) use schema::json_schema;

/// Reads a request object of any of the operations. The system instruction becomes the first message; each function's
/// response one of its own.
pub(super) fn request(body: &Value) -> Request {
    // countTokens takes a whole request, or its contents alone.
    let body = field(body, "generateContentRequest", "generate_content_request").unwrap_or(body);
    let nothing = Value::Null;
    let config = field(body, "generationConfig", "generation_config").unwrap_or(&nothing);
    let mut messages = Vec::new();
    if let Some(system) = field(body, "systemInstruction", "system_instruction") {
        messages.push(Message::text(Role::System, joined_text(parts(system))));
    }
    for content in body.get("contents").map(many).unwrap_or_default() {
        push_messages(&mut messages, content);
    }
    push_texts_to_embed(&mut messages, body);
    Request {
        operation: Operation::Chat,
        // The path names it; some SDKs repeat it here, with the folder that it lies in.
        model: text(body, "model").map(|model| model.rsplit_once("models/").map_or(model, |(_, name)| name).into()),
        stream: false,
        messages,
        tools: body
            .get("tools")
            .map(many)
            .unwrap_or_default()
            .iter()
            .flat_map(offered)
            .collect(),
        response_format: response_format(config),
        max_tokens: field(config, "maxOutputTokens", "max_output_tokens").and_then(Value::as_i64),
        temperature: config.get("temperature").and_then(Value::as_f64),
        user: None,
        previous_response_id: None,
    }
}

/// The field under either of its names; null is none.
fn field<'a>(value: &'a Value, camel: &str, snake: &str) -> Option<&'a Value> {
    let found = value.get(camel).filter(|value| !value.is_null());
    found.or_else(|| value.get(snake).filter(|value| !value.is_null()))
}

/// A list, or the one item that stands for it.
fn many(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        Value::Null => &[],
        item => std::slice::from_ref(item),
    }
}

/// The parts of a content; a content that is a string is its own part.
fn parts(content: &Value) -> &[Value] {
    match content {
        Value::String(_) => std::slice::from_ref(content),
        content => content.get("parts").map(many).unwrap_or_default(),
    }
}

fn is_thought(part: &Value) -> bool {
    part.get("thought").and_then(Value::as_bool).unwrap_or(false)
}

/// What a part says, thoughts left out.
fn part_text(part: &Value) -> Option<&str> {
    match part {
        Value::String(text) => Some(text),
        part if is_thought(part) => None,
        part => part.get("text")?.as_str(),
    }
}

fn joined_text<'a>(parts: impl IntoIterator<Item = &'a Value>) -> String {
    let texts: Vec<&str> = parts.into_iter().filter_map(part_text).collect();
    texts.join("\n")
}

fn count_media<'a>(parts: impl IntoIterator<Item = &'a Value>) -> u32 {
    let is_media = |part: &&Value| {
        field(part, "inlineData", "inline_data").is_some() || field(part, "fileData", "file_data").is_some()
    };
    parts.into_iter().filter(is_media).count() as u32
}

/// Functions' responses come in front of the text beside them, as the results of other APIs do.
fn push_messages(messages: &mut Vec<Message>, content: &Value) {
    let function_response = |part| field(part, "functionResponse", "function_response");
    let (results, others): (Vec<&Value>, Vec<&Value>) = parts(content)
        .iter()
        .partition(|part| function_response(part).is_some());
    messages.extend(results.iter().copied().filter_map(function_response).map(tool_result));
    if others.is_empty() && !results.is_empty() {
        return;
    }
    let role = match text(content, "role").unwrap_or_default() {
        "model" | "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => Role::User,
    };
    messages.push(Message {
        tool_calls: tool_calls(others.iter().copied()),
        media_parts: count_media(others.iter().copied()),
        ..Message::text(role, joined_text(others))
    });
}

/// A response is an object, kept as JSON text. Without an id the function's name alone links it to its call.
fn tool_result(result: &Value) -> Message {
    let said = match result.get("response") {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(response) => response.to_string(),
    };
    Message {
        tool_call_id: text(result, "id").map(Into::into),
        media_parts: count_media(parts(result)),
        ..Message::text(Role::Tool, said)
    }
}

/// embedContent has one content, batchEmbedContents a list of such requests, predict a list of instances.
fn push_texts_to_embed(messages: &mut Vec<Message>, body: &Value) {
    let contents = list(body, "requests")
        .iter()
        .chain([body])
        .filter_map(|request| request.get("content"));
    for content in contents {
        push_messages(messages, content);
    }
    for instance in list(body, "instances") {
        let said = text(instance, "content").or_else(|| text(instance, "text"));
        let media = ["image", "video"].iter().filter(|key| instance.get(**key).is_some());
        messages.push(Message {
            media_parts: media.count() as u32,
            ..Message::text(Role::User, said.unwrap_or_default())
        });
    }
}

fn tool_calls<'a>(parts: impl IntoIterator<Item = &'a Value>) -> Vec<ToolCall> {
    let calls = parts
        .into_iter()
        .filter_map(|part| field(part, "functionCall", "function_call"));
    calls
        .map(|call| ToolCall {
            id: text(call, "id").map(Into::into),
            name: text(call, "name").unwrap_or_default().into(),
            arguments: arguments(call.get("args")),
        })
        .collect()
}

/// The functions that one entry of `tools` declares, and the provider's own tools beside them, each under its key.
fn offered(tool: &Value) -> Vec<ToolOffered> {
    let is_functions = |key: &str| matches!(key, "functionDeclarations" | "function_declarations");
    let keys = tool.as_object().into_iter().flatten();
    keys.filter(|(_, value)| !value.is_null())
        .flat_map(|(key, value)| match value {
            functions if is_functions(key) => many(functions).iter().map(offered_function).collect(),
            _ => vec![ToolOffered {
                name: key.clone(),
                description: None,
                schema: Value::Null,
            }],
        })
        .collect()
}

fn offered_function(function: &Value) -> ToolOffered {
    let in_own_words = || function.get("parameters").map(json_schema);
    let schema = field(function, "parametersJsonSchema", "parameters_json_schema").cloned();
    ToolOffered {
        name: text(function, "name").unwrap_or_default().into(),
        description: text(function, "description").map(Into::into),
        schema: schema.or_else(in_own_words).unwrap_or_default(),
    }
}

/// `text/x.enum` answers with a bare word: no JSON, whatever its schema.
fn response_format(config: &Value) -> ResponseFormat {
    let is_json = |kind: &Value| kind.as_str().is_some_and(|kind| kind.starts_with("application/json"));
    if !field(config, "responseMimeType", "response_mime_type").is_some_and(is_json) {
        return ResponseFormat::Text;
    }
    let in_own_words = || field(config, "responseSchema", "response_schema").map(json_schema);
    let schema = field(config, "responseJsonSchema", "response_json_schema").cloned();
    schema
        .or_else(in_own_words)
        .map_or(ResponseFormat::JsonObject, ResponseFormat::JsonSchema)
}

/// Reads a response object of any of the operations.
pub(super) fn response(body: &Value) -> Response {
    let candidates = list(body, "candidates");
    let nothing = Value::Null;
    let candidate = candidates.first().unwrap_or(&nothing);
    let parts = candidate.get("content").map(parts).unwrap_or_default();
    let thoughts = parts.iter().filter(|part| is_thought(part));
    let finish_reason = text(candidate, "finishReason").map(Into::into);
    Response {
        id: text(body, "responseId").map(Into::into),
        model: text(body, "modelVersion").map(Into::into),
        output_text: parts.iter().filter_map(part_text).collect(),
        reasoning_text: thoughts.filter_map(|part| text(part, "text")).collect(),
        tool_calls: tool_calls(parts),
        server_tool_calls: parts.iter().filter_map(server_tool).map(Into::into).collect(),
        finish_reason: finish_reason.or_else(|| Some(format!("blocked:{}", block_reason(body.as_object()?)?))),
        choices: candidates.len(),
        usage: usage(body),
        ..Response::default()
    }
}

/// Why the prompt was not answered at all.
fn block_reason(body: &Map<String, Value>) -> Option<&str> {
    text(body.get("promptFeedback")?, "blockReason")
}

/// A tool that the provider ran itself: code by its part's name, others by their type. What they gave is no call.
fn server_tool(part: &Value) -> Option<&str> {
    if part.get("executableCode").is_some_and(Value::is_object) {
        return Some("executableCode");
    }
    text(part.get("toolCall")?, "toolType")
}

/// Prompt and tool use are apart here, as are answer and thoughts; countTokens and predict count elsewhere.
fn usage(body: &Value) -> Usage {
    let Some(usage) = body.get("usageMetadata").filter(|usage| usage.is_object()) else {
        return Usage {
            input: integer(body, "totalTokens").or_else(|| predicted_tokens(body)),
            cached: integer(body, "cachedContentTokenCount"),
            ..Usage::default()
        };
    };
    let reasoning = integer(usage, "thoughtsTokenCount");
    Usage {
        input: sum([
            integer(usage, "promptTokenCount"),
            integer(usage, "toolUsePromptTokenCount"),
        ]),
        cached: integer(usage, "cachedContentTokenCount"),
        cache_write: None,
        output: sum([integer(usage, "candidatesTokenCount"), reasoning]),
        reasoning,
    }
}

/// The tokens of the texts that predict turned into vectors.
fn predicted_tokens(body: &Value) -> Option<i64> {
    let statistics = list(body, "predictions")
        .iter()
        .filter_map(|prediction| prediction.pointer("/embeddings/statistics"));
    sum(statistics.map(|statistics| integer(statistics, "token_count")))
}

/// The sum of the numbers that are known; absent where none is.
fn sum(numbers: impl IntoIterator<Item = Option<i64>>) -> Option<i64> {
    numbers.into_iter().flatten().reduce(i64::saturating_add)
}

/// Whether a stream's chunk carries text, thoughts, a call, code or media.
pub(super) fn carries_output(event: &Event<'_>) -> bool {
    let Ok(chunk) = super::json::parse(&event.data) else {
        return false;
    };
    let mut contents = list(&chunk, "candidates")
        .iter()
        .filter_map(|candidate| candidate.get("content"));
    contents.any(|content| parts(content).iter().any(has_output))
}

fn has_output(part: &Value) -> bool {
    let says_something = |(key, value): (&String, &Value)| match key.as_str() {
        "text" => value.as_str().is_some_and(|text| !text.is_empty()),
        "thought" | "thoughtSignature" => false,
        _ => value.is_object(),
    };
    part.as_object().is_some_and(|part| part.iter().any(says_something))
}

#[cfg(test)]
mod tests;
