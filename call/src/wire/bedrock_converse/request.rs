//! Reads Converse requests, and the requests whose tokens are to be counted.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::json::{self, integer, list, text};
use super::super::{anthropic_messages, bedrock_invoke, openai_chat};
use super::{is_server_tool, texts, tool_call};
use crate::call::{Message, Operation, Request, ResponseFormat, Role, ToolOffered};

/// Reads a request object.
pub(in super::super) fn request(body: &Value) -> Request {
    match body.get("input").filter(|input| input.is_object()) {
        Some(counted) => request_to_count(counted),
        None => conversation(body),
    }
}

/// Reads a request for an answer. Each tool result becomes a message of its own.
pub(in super::super) fn conversation(body: &Value) -> Request {
    let mut messages: Vec<Message> = Vec::new();
    let system: Vec<&str> = list(body, "system").iter().flat_map(texts).collect();
    if !system.is_empty() {
        messages.push(Message::text(Role::System, system.join("\n")));
    }
    for message in list(body, "messages") {
        push_messages(&mut messages, message);
    }
    let nothing = Value::Null;
    let inference = body.get("inferenceConfig").unwrap_or(&nothing);
    let tools = body.get("toolConfig").map_or(&[][..], |config| list(config, "tools"));
    Request {
        operation: Operation::Chat,
        messages,
        tools: tools.iter().filter_map(offered_tool).collect(),
        response_format: response_format(body),
        max_tokens: ["maxTokens", "max_new_tokens"]
            .iter()
            .find_map(|key| integer(inference, key)),
        temperature: inference.get("temperature").and_then(Value::as_f64),
        ..Request::default()
    }
}

/// Opens the InvokeModel body in base64 that a request to count tokens holds, so that its text can be masked and read:
/// its JSON takes the place of the string. None where there is none.
pub fn open_request_to_count(body: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(body, b"\"invokeModel\"")?;
    let mut request = json::parse(body).ok()?;
    let inner = request.pointer_mut("/input/invokeModel/body")?;
    *inner = opened(inner)?;
    serde_json::to_vec(&request).ok()
}

fn opened(body: &Value) -> Option<Value> {
    let opened = json::parse(&STANDARD.decode(body.as_str()?).ok()?).ok()?;
    opened.is_object().then_some(opened)
}

/// What a call asks to count: a Converse request, or an InvokeModel body in base64, or opened.
fn request_to_count(counted: &Value) -> Request {
    let converse = counted.get("converse");
    let invoked = counted.pointer("/invokeModel/body");
    let invoked = invoked.and_then(|body| opened(body).or_else(|| body.is_object().then(|| body.clone())));
    let request = match (converse, invoked) {
        (Some(converse), _) => conversation(converse),
        (None, Some(body)) => bedrock_invoke::request(&body),
        _ => Request::default(),
    };
    Request {
        operation: Operation::CountTokens,
        ..request
    }
}

/// Tool results come first in a user's message, and stay in front of its text.
fn push_messages(messages: &mut Vec<Message>, message: &Value) {
    let is_answer = text(message, "role") == Some("assistant");
    let blocks = list(message, "content");
    let results = || blocks.iter().filter_map(|block| block.get("toolResult"));
    if !is_answer {
        messages.extend(results().map(tool_result));
    }
    let others: Vec<&Value> = blocks
        .iter()
        .filter(|block| block.get("toolResult").is_none())
        .collect();
    if !is_answer && others.iter().all(|block| is_no_content(block)) && results().next().is_some() {
        return;
    }
    let said: Vec<&str> = others.iter().flat_map(|block| texts(block)).collect();
    let uses = others.iter().filter_map(|block| block.get("toolUse"));
    messages.push(Message {
        tool_calls: uses
            .filter(|tool_use| !is_server_tool(tool_use))
            .map(tool_call)
            .collect(),
        media_parts: count_media(others),
        ..Message::text(if is_answer { Role::Assistant } else { Role::User }, said.join("\n"))
    });
}

/// A mark of what is to be cached.
fn is_no_content(block: &Value) -> bool {
    block.get("cachePoint").is_some()
}

fn tool_result(result: &Value) -> Message {
    let parts = list(result, "content");
    let said = |part: &Value| match part.get("json") {
        Some(json) => vec![json.to_string()],
        None => texts(part).into_iter().map(Into::into).collect(),
    };
    let texts: Vec<String> = parts.iter().flat_map(said).collect();
    Message {
        tool_call_id: text(result, "toolUseId").map(Into::into),
        media_parts: count_media(parts),
        ..Message::text(Role::Tool, texts.join("\n"))
    }
}

fn count_media<'a>(blocks: impl IntoIterator<Item = &'a Value>) -> u32 {
    const MEDIA: [&str; 4] = ["image", "document", "video", "audio"];
    let is_media = |block: &&Value| {
        MEDIA.iter().any(|kind| block.get(kind).is_some()) || block.pointer("/guardContent/image").is_some()
    };
    blocks.into_iter().filter(is_media).count() as u32
}

/// A tool, or one that the provider runs; marks of what is to be cached lie between them.
fn offered_tool(tool: &Value) -> Option<ToolOffered> {
    let tool = tool.get("toolSpec").or_else(|| tool.get("systemTool"))?;
    Some(ToolOffered {
        name: text(tool, "name").unwrap_or_default().into(),
        description: text(tool, "description").map(Into::into),
        schema: tool.pointer("/inputSchema/json").cloned().unwrap_or_default(),
    })
}

/// Bedrock's own `outputConfig`, with the schema as text; else what the model's own API calls it.
fn response_format(body: &Value) -> ResponseFormat {
    match body.pointer("/outputConfig/textFormat/structure/jsonSchema/schema") {
        Some(Value::String(schema)) => {
            return ResponseFormat::JsonSchema(json::parse(schema.as_bytes()).unwrap_or_default());
        }
        Some(schema) => return ResponseFormat::JsonSchema(schema.clone()),
        None => {}
    }
    let Some(additional) = body.get("additionalModelRequestFields") else {
        return ResponseFormat::Text;
    };
    match anthropic_messages::request(additional).response_format {
        ResponseFormat::Text => openai_chat::request(additional).response_format,
        format => format,
    }
}
