//! A kept call as an example: what was asked, in OpenAI chat shape whatever the API, and the answer to learn.
//!
//! Adds nothing to what is kept but right answers that feedback tells. Knows no other call.

use super::{LeftOut, Shape};
use crate::feedback::right_answer;
use crate::row::is_media_missing_in;
use crate::score::{AnswerKind, kind_of};
use serde_json::{Map, Value, json};
use understudy_call::call::{Api, Message, Request, Response, Role, ToolCall, ToolOffered};
use understudy_call::check::{truncated, withheld};
use understudy_call::record::{CallRecord, Outcome};
use understudy_call::wire;

/// What a call asked, as trainers read it.
#[derive(Debug)]
pub(super) struct Prompt {
    request: Request,
    messages: Vec<Value>,
    tools: Vec<Value>,
}

impl Prompt {
    /// Of a call whose request can be read, and has no media that this shape would lose.
    pub(super) fn of(call: &CallRecord) -> Result<Prompt, LeftOut> {
        let body = call.request_body.as_deref().ok_or(LeftOut::NoBody)?;
        let api = Api::from_name(&call.api).unwrap_or(Api::Other);
        let path = call.path.as_deref().unwrap_or_default();
        let request = wire::parse_request_at(api, path, body.as_bytes()).map_err(|_| LeftOut::Unreadable)?;
        if is_media_missing_in(body) {
            return Err(LeftOut::Media);
        }
        let (messages, tools) = match api {
            Api::OpenaiChat => verbatim(body).ok_or(LeftOut::Unreadable)?,
            _ => translated(&request)?,
        };
        match messages.is_empty() {
            true => Err(LeftOut::Unreadable),
            false => Ok(Prompt {
                request,
                messages,
                tools,
            }),
        }
    }

    /// Equal for calls that show a model the same, in whatever order fields stand.
    pub(super) fn key(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        for value in self.messages.iter().chain(&self.tools) {
            let mut value = value.clone();
            value.sort_all_objects();
            let text = value.to_string();
            hasher
                .update(&(text.len() as u64).to_le_bytes())
                .update(text.as_bytes());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        key
    }
}

/// A prompt and the answer to it.
#[derive(Debug)]
pub(super) struct Example {
    pub(super) prompt: Prompt,
    answer: Value,
    /// What it answers: the tools that it calls, a label, or else its kind.
    pub(super) class: String,
}

impl Example {
    /// The answer of a call, or the right one where feedback knows it.
    pub(super) fn of(
        prompt: Result<Prompt, LeftOut>,
        call: &CallRecord,
        label: Option<&str>,
    ) -> Result<Example, LeftOut> {
        let (text, tool_calls) = match label {
            // Whatever became of the recorded answer: it is not the one to learn.
            Some(_) if call.body_note.is_some() => return Err(LeftOut::NoBody),
            Some(label) => labelled(label, call),
            None => {
                check(call)?;
                let text = call.output_text.clone().unwrap_or_default();
                (text, call.tool_calls.clone())
            }
        };
        let prompt = prompt?;
        let answer = assistant(&text, &tool_calls);
        let response = Response {
            output_text: text,
            tool_calls,
            ..Response::default()
        };
        let class = class_of(&prompt.request, &response.without_padding());
        Ok(Example { prompt, answer, class })
    }

    /// Equal for the same prompt with the same answer.
    pub(super) fn key(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&self.prompt.key())
            .update(self.answer.to_string().as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        key
    }

    /// A line of the data set, without its newline.
    pub(super) fn line(self, shape: Shape) -> String {
        let Prompt {
            mut messages, tools, ..
        } = self.prompt;
        let mut line = Map::new();
        match shape {
            Shape::Chat => {
                messages.push(self.answer);
                line.insert("messages".into(), Value::Array(messages));
            }
            Shape::PromptCompletion => {
                line.insert("prompt".into(), Value::Array(messages));
                line.insert("completion".into(), json!([self.answer]));
            }
        }
        if !tools.is_empty() {
            line.insert("tools".into(), Value::Array(tools));
        }
        Value::Object(line).to_string()
    }

    /// Tokens, about: four bytes of English, or of JSON, are one.
    pub(super) fn estimated_tokens(&self) -> i64 {
        let texts = self.prompt.messages.iter().chain(&self.prompt.tools);
        let bytes: usize = texts.chain([&self.answer]).map(|value| value.to_string().len()).sum();
        i64::try_from(bytes.div_ceil(4)).unwrap_or(i64::MAX)
    }
}

fn class_of(request: &Request, answer: &Response) -> String {
    match kind_of(request, answer) {
        AnswerKind::ToolCall => {
            let names: Vec<&str> = answer.tool_calls.iter().map(|call| call.name.as_str()).collect();
            format!("tool:{}", names.join("+"))
        }
        AnswerKind::Label => answer.output_text.trim().to_lowercase(),
        kind => kind.as_str().to_owned(),
    }
}

/// A right answer: tool calls where it names tools that were offered, else text.
fn labelled(label: &str, call: &CallRecord) -> (String, Vec<ToolCall>) {
    let calls = right_answer(label, AnswerKind::ToolCall).tool_calls;
    let are_offered = calls.iter().all(|tool| call.tools_offered.contains(&tool.name));
    match !calls.is_empty() && are_offered {
        true => (String::new(), calls),
        false => (label.to_owned(), Vec::new()),
    }
}

/// Whether a call's answer is one to learn from.
fn check(call: &CallRecord) -> Result<(), LeftOut> {
    let finish = call.finish_reason.as_deref();
    let text_is_blank = call.output_text.as_ref().is_none_or(|text| text.trim().is_empty());
    if call.outcome != Outcome::Ok || call.error.is_some() {
        Err(LeftOut::NotOk)
    } else if call.partial || truncated(finish) {
        Err(LeftOut::Truncated)
    } else if withheld(finish) {
        Err(LeftOut::Withheld)
    } else if call.is_by_candidate() {
        Err(LeftOut::Candidate)
    } else if call.body_note.is_some() {
        Err(LeftOut::NoBody)
    } else if text_is_blank && call.tool_calls.iter().all(ToolCall::is_padding) {
        Err(LeftOut::Empty)
    } else {
        Ok(())
    }
}

/// Messages and tools of an OpenAI chat body as they are; its older `functions` as tools.
fn verbatim(body: &str) -> Option<(Vec<Value>, Vec<Value>)> {
    let mut body: Map<String, Value> = serde_json::from_str(body).ok()?;
    let Some(Value::Array(mut messages)) = body.remove("messages") else {
        return None;
    };
    messages.iter_mut().for_each(join_text);
    let tools = match (body.remove("tools"), body.remove("functions")) {
        (Some(Value::Array(tools)), _) => tools,
        (_, Some(Value::Array(functions))) => functions
            .into_iter()
            .map(|function| json!({"type": "function", "function": function}))
            .collect(),
        _ => Vec::new(),
    };
    Some((messages, tools))
}

/// Puts text in place of a list of text parts: readers of JSON lines want one type in one place.
fn join_text(message: &mut Value) {
    let Some(Value::Array(parts)) = message.get("content") else {
        return;
    };
    let texts: Option<Vec<&str>> = parts.iter().map(|part| part["text"].as_str()).collect();
    if let Some(texts) = texts {
        message["content"] = texts.join("\n").into();
    }
}

fn translated(request: &Request) -> Result<(Vec<Value>, Vec<Value>), LeftOut> {
    if request.messages.iter().any(|message| message.media_parts > 0) {
        return Err(LeftOut::Media);
    }
    Ok((
        request.messages.iter().map(message_of).collect(),
        request.tools.iter().map(tool_of).collect(),
    ))
}

fn message_of(message: &Message) -> Value {
    match message.role {
        Role::System => json!({"role": "system", "content": message.text}),
        Role::User => json!({"role": "user", "content": message.text}),
        Role::Assistant => assistant(&message.text, &message.tool_calls),
        Role::Tool => json!({"role": "tool", "tool_call_id": message.tool_call_id, "content": message.text}),
    }
}

fn tool_of(tool: &ToolOffered) -> Value {
    let mut function = Map::new();
    function.insert("name".into(), json!(tool.name));
    if let Some(description) = &tool.description {
        function.insert("description".into(), json!(description));
    }
    if tool.schema.is_object() {
        function.insert("parameters".into(), tool.schema.clone());
    }
    json!({"type": "function", "function": function})
}

/// An assistant's message; calls without an id are numbered, as the shape asks for one.
fn assistant(text: &str, tool_calls: &[ToolCall]) -> Value {
    let tool_calls: Vec<&ToolCall> = tool_calls.iter().filter(|call| !call.is_padding()).collect();
    if tool_calls.is_empty() {
        return json!({"role": "assistant", "content": text});
    }
    let call = |(index, call): (usize, &&ToolCall)| {
        let id = call.id.clone().unwrap_or_else(|| format!("call_{index}"));
        json!({"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
    };
    let calls: Vec<Value> = tool_calls.iter().enumerate().map(call).collect();
    let content = if text.is_empty() { Value::Null } else { json!(text) };
    json!({"role": "assistant", "content": content, "tool_calls": calls})
}
