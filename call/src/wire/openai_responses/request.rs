//! Reads a Responses request: its items as messages.

use serde_json::Value;

use super::super::json::{integer, text};
use super::super::openai_chat::{message_of, offered_tool, parts, response_format, role};
use super::{Kind, kind_in, tool_call};
use crate::call::{Message, Operation, Request, Role, ToolCall};

/// Reads a request object. `instructions` become the first message.
pub(in super::super) fn request(body: &Value) -> Request {
    let format = body.pointer("/text/format").or_else(|| body.get("response_format"));
    Request {
        operation: Operation::Chat,
        model: text(body, "model").map(Into::into),
        stream: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
        messages: messages(body),
        tools: parts(body, "tools").iter().map(offered_tool).collect(),
        response_format: format.map(response_format).unwrap_or_default(),
        max_tokens: integer(body, "max_output_tokens"),
        temperature: body.get("temperature").and_then(Value::as_f64),
        user: text(body, "user")
            .or_else(|| text(body, "safety_identifier"))
            .map(Into::into),
        previous_response_id: text(body, "previous_response_id").map(Into::into),
    }
}

fn messages(body: &Value) -> Vec<Message> {
    let mut messages = Vec::new();
    let instructions = parts(body, "instructions");
    if !instructions.is_empty() {
        messages.push(message_of(Role::System, instructions));
    }
    for item in parts(body, "input") {
        if let Value::String(text) = item {
            messages.push(Message::text(Role::User, text.as_str()));
            continue;
        }
        match kind_in(body, item) {
            Kind::Message if role(item) == Role::Assistant => {
                let more = message_of(Role::Assistant, parts(item, "content"));
                let answer = open_answer(&mut messages);
                answer.text.push_str(&more.text);
                answer.media_parts = answer.media_parts.saturating_add(more.media_parts);
            }
            Kind::Message => messages.push(message_of(role(item), parts(item, "content"))),
            Kind::Call => {
                let call: ToolCall = tool_call(item);
                open_answer(&mut messages).tool_calls.push(call);
            }
            Kind::Output => messages.push(tool_result(item)),
            // Nothing that is said, or nothing that lies on the wire.
            Kind::Reasoning | Kind::ServerCall | Kind::Opaque => {}
        }
    }
    messages
}

/// An answer comes back as several items: those that follow one another are one message, as the answer was.
fn open_answer(messages: &mut Vec<Message>) -> &mut Message {
    let is_open = messages.last().is_some_and(|last| last.role == Role::Assistant);
    if !is_open {
        messages.push(Message::text(Role::Assistant, ""));
    }
    let last = messages.len() - 1;
    &mut messages[last]
}

/// The output is text, parts, what a shell wrote, or an object: a screenshot, say, or a decision.
fn tool_result(item: &Value) -> Message {
    let output = parts(item, "output");
    let mut message = message_of(Role::Tool, output);
    let written = output
        .iter()
        .flat_map(|part| ["stdout", "stderr"].into_iter().filter_map(|key| text(part, key)));
    let written: Vec<&str> = written.collect();
    if !written.is_empty() {
        message.text = written.join("\n");
    }
    if output.is_empty() {
        let decision = ["tools", "approve", "status"].iter().find_map(|key| item.get(key));
        message.text = decision.map(Value::to_string).unwrap_or_default();
    }
    let answered = text(item, "call_id").or_else(|| text(item, "approval_request_id"));
    Message {
        tool_call_id: answered.map(Into::into),
        ..message
    }
}
