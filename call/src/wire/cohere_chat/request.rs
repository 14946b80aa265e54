//! Reads Cohere's requests.

use serde_json::Value;

use super::super::json::{integer, list, text};
use super::{contents, part_text, tool_calls};
use crate::call::{Message, Operation, Request, ResponseFormat, Role, ToolOffered};

/// Reads a request object. Version 1 has the history, the preamble and the newest message apart.
pub(in super::super) fn request(body: &Value) -> Request {
    let mut messages: Vec<Message> = list(body, "messages").iter().map(message).collect();
    if let Some(preamble) = text(body, "preamble") {
        messages.push(Message::text(Role::System, preamble));
    }
    for turn in list(body, "chat_history") {
        push_turn(&mut messages, turn);
    }
    push_results(&mut messages, body);
    let newest = text(body, "message").or_else(|| text(body, "prompt"));
    messages.extend(newest.map(|said| Message::text(Role::User, said)));
    messages.extend(texts_to_embed(body).map(|said| Message::text(Role::User, said)));
    // Documents belong to the question that they are sent with.
    if let Some(question) = messages.iter_mut().rfind(|message| message.role == Role::User) {
        question.media_parts += list(body, "documents").len() as u32;
    }
    Request {
        operation: Operation::Chat,
        model: text(body, "model").map(Into::into),
        stream: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
        messages,
        tools: list(body, "tools").iter().map(offered_tool).collect(),
        response_format: body.get("response_format").map(response_format).unwrap_or_default(),
        max_tokens: integer(body, "max_tokens"),
        temperature: body.get("temperature").and_then(Value::as_f64),
        user: None,
        previous_response_id: None,
    }
}

/// Version 1 writes roles in capitals, and calls the assistant a chatbot.
fn role(message: &Value) -> Role {
    let role = text(message, "role").unwrap_or_default().to_ascii_lowercase();
    match role.as_str() {
        "system" | "developer" => Role::System,
        "assistant" | "chatbot" => Role::Assistant,
        "tool" => Role::Tool,
        _ => Role::User,
    }
}

fn message(message: &Value) -> Message {
    let parts = contents(message);
    let texts: Vec<String> = parts.iter().filter_map(said).collect();
    let is_media = |part: &&Value| {
        let is_other = part.is_object() && part.get("thinking").is_none();
        is_other && said(part).is_none()
    };
    Message {
        tool_calls: tool_calls(message),
        tool_call_id: text(message, "tool_call_id").map(Into::into),
        media_parts: parts.iter().filter(is_media).count() as u32,
        ..Message::text(role(message), texts.join("\n"))
    }
}

/// The text of a part; a document, as tools return them, says its data.
fn said(part: &Value) -> Option<String> {
    let document = || {
        part.get("document")
            .map(|document| document.get("data").unwrap_or(document))
    };
    let text = part_text(part).map(Into::into);
    text.or_else(|| Some(plain(document()?)))
}

/// Text as it is, other values as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

/// A turn of version 1's history: what was said, or the results of tools.
fn push_turn(messages: &mut Vec<Message>, turn: &Value) {
    push_results(messages, turn);
    let said = text(turn, "message");
    let calls = tool_calls(turn);
    if said.is_some() || !calls.is_empty() {
        messages.push(Message {
            tool_calls: calls,
            ..Message::text(role(turn), said.unwrap_or_default())
        });
    }
}

/// Version 1's results repeat the call that they answer, since calls have no id.
fn push_results(messages: &mut Vec<Message>, turn: &Value) {
    for result in list(turn, "tool_results") {
        let outputs: Vec<String> = list(result, "outputs").iter().map(plain).collect();
        messages.push(Message::text(Role::Tool, outputs.join("\n")));
    }
}

fn texts_to_embed(body: &Value) -> impl Iterator<Item = &str> {
    let inputs = list(body, "inputs").iter().flat_map(contents);
    list(body, "texts").iter().chain(inputs).filter_map(part_text)
}

fn offered_tool(tool: &Value) -> ToolOffered {
    let function = tool.get("function").unwrap_or(tool);
    let schema = function.get("parameters").cloned();
    ToolOffered {
        name: text(function, "name").unwrap_or_default().into(),
        description: text(function, "description").map(Into::into),
        schema: schema
            .or_else(|| Some(schema_of(function.get("parameter_definitions")?)))
            .unwrap_or_default(),
    }
}

/// Version 1 lists parameters with the names of Python's types.
fn schema_of(definitions: &Value) -> Value {
    let definitions = definitions.as_object().into_iter().flatten();
    let mut required = Vec::new();
    let mut properties = serde_json::Map::new();
    for (name, definition) in definitions {
        if definition.get("required").and_then(Value::as_bool) == Some(true) {
            required.push(Value::from(name.as_str()));
        }
        let kind = text(definition, "type").unwrap_or_default().to_ascii_lowercase();
        let mut property = serde_json::Map::new();
        let kind = match kind.split(['[', ' ']).next().unwrap_or_default() {
            "str" | "string" => Some("string"),
            "int" | "integer" => Some("integer"),
            "float" | "number" => Some("number"),
            "bool" | "boolean" => Some("boolean"),
            "list" | "array" | "tuple" => Some("array"),
            "dict" | "object" => Some("object"),
            _ => None,
        };
        if let Some(kind) = kind {
            property.insert("type".into(), kind.into());
        }
        if let Some(description) = definition.get("description") {
            property.insert("description".into(), description.clone());
        }
        properties.insert(name.clone(), Value::Object(property));
    }
    serde_json::json!({"type": "object", "properties": properties, "required": required})
}

/// The schema lies under `json_schema` in version 2, under `schema` in version 1.
fn response_format(format: &Value) -> ResponseFormat {
    let schema = format.get("json_schema").or_else(|| format.get("schema"));
    match (text(format, "type"), schema.filter(|schema| schema.is_object())) {
        (Some("json_object" | "json_schema"), Some(schema)) => ResponseFormat::JsonSchema(schema.clone()),
        (Some("json_object"), None) => ResponseFormat::JsonObject,
        _ => ResponseFormat::Text,
    }
}
