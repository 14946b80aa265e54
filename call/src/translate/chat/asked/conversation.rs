//! The messages of a chat request as turns, each tool call with its result right after it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use super::{Asked, Call, Part, ToolResult, Turn};
use crate::call::ToolCall;
use crate::translate::Refusal;
use crate::translate::fields::{Fields, inexpressible, is_off, unreadable};
use crate::translate::ids::{CallIds, is_tool_name};
use crate::translate::parts::{data_url, image_type};
use crate::translate::tool_calls::arguments;

/// The conversation as it is read.
#[derive(Default)]
pub(super) struct Conversation {
    system: Vec<String>,
    turns: Vec<Turn>,
    ids: CallIds,
    /// How many calls there were.
    calls: usize,
    /// Calls without a result yet, by the id given: the id here, and the tool's name.
    open: HashMap<String, VecDeque<(String, String)>>,
}

/// Reasoning and notes that an assistant's message may carry; its own baseline's.
const OWN_NOTES: [&str; 8] = [
    "name",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "thinking",
    "thinking_blocks",
    "annotations",
    "cache_control",
];

impl Conversation {
    /// Takes the next message.
    pub(super) fn message(&mut self, message: &Value, at: String) -> Result<(), Refusal> {
        let mut fields = Fields::of(message, at.clone())?;
        let role_at = fields.path("role");
        let role = fields.needed_text("role")?;
        if role != "tool" {
            self.refuse_open(&at)?;
        }
        match role {
            "system" | "developer" => {
                fields.leave_out(&["name", "cache_control"]);
                let text = texts(&mut fields)?.join("\n");
                self.say_system(text);
            }
            "user" => {
                fields.leave_out(&["name", "cache_control"]);
                let mut parts = Vec::new();
                for (at, given) in fields.items("content") {
                    parts.extend(part(given, at)?);
                }
                self.say_user(parts);
            }
            "assistant" => self.answer(&mut fields)?,
            "tool" => {
                fields.leave_out(&["name", "cache_control"]);
                self.result(&mut fields, &at)?;
            }
            _ => return Err(inexpressible(role_at, "an unknown role")),
        }
        fields.end_as("the candidate's API has no such field")
    }

    fn refuse_open(&self, at: &str) -> Result<(), Refusal> {
        match self.open.is_empty() {
            false => Err(inexpressible(at, "a tool call before it has no result")),
            true => Ok(()),
        }
    }

    fn say_system(&mut self, text: String) {
        if text.trim().is_empty() {
        } else if self.turns.is_empty() {
            self.system.push(text);
        } else {
            self.turns.push(Turn::System(text));
        }
    }

    fn say_user(&mut self, parts: Vec<Part>) {
        match self.turns.last_mut() {
            _ if parts.is_empty() => {}
            Some(Turn::User(said)) => said.extend(parts),
            _ => self.turns.push(Turn::User(parts)),
        }
    }

    fn answer(&mut self, fields: &mut Fields<'_>) -> Result<(), Refusal> {
        fields.leave_out(&OWN_NOTES);
        fields.refuse_unless("audio", "an answer other than text", is_off)?;
        fields.refuse_unless("function_call", "the legacy form of tools", is_off)?;
        // Pieces of one answer.
        let mut said = texts(fields)?.concat();
        said.extend(fields.text("refusal")?);
        let mut calls = Vec::new();
        for (at, call) in fields.items("tool_calls") {
            calls.push(self.call(call, at)?);
        }
        match self.turns.last_mut() {
            _ if said.trim().is_empty() && calls.is_empty() => {}
            // An answer told in several messages.
            Some(Turn::Assistant { text, calls: before }) => {
                if !text.is_empty() && !said.is_empty() {
                    text.push('\n');
                }
                text.push_str(&said);
                before.extend(calls);
            }
            _ => self.turns.push(Turn::Assistant { text: said, calls }),
        }
        Ok(())
    }

    fn call(&mut self, call: &Value, at: String) -> Result<Call, Refusal> {
        let mut fields = Fields::of(call, at.clone())?;
        fields.leave_out(&["index", "extra_content", "cache_control"]);
        match fields.text("type")? {
            None | Some("function") => {}
            Some(kind) => return Err(inexpressible(at, format!("a call of type `{kind}`"))),
        }
        let given = fields.text("id")?.unwrap_or_default().to_owned();
        let function_at = fields.path("function");
        let mut function = fields
            .object("function")?
            .ok_or_else(|| unreadable(&function_at, "missing"))?;
        let (name_at, arguments_at) = (function.path("name"), function.path("arguments"));
        let name = function.needed_text("name")?.to_owned();
        if !is_tool_name(&name) {
            return Err(inexpressible(name_at, "a name that not every API takes"));
        }
        let text = function.text("arguments")?.unwrap_or_default().to_owned();
        let read = arguments(&ToolCall {
            id: None,
            name: String::new(),
            arguments: text,
        });
        let arguments = read.ok_or_else(|| inexpressible(arguments_at, "arguments that are no object"))?;
        function.end()?;
        fields.end()?;
        let id = self.ids.next(&given, self.calls);
        self.calls += 1;
        self.open
            .entry(given)
            .or_default()
            .push_back((id.clone(), name.clone()));
        Ok(Call { id, name, arguments })
    }

    fn result(&mut self, fields: &mut Fields<'_>, at: &str) -> Result<(), Refusal> {
        let given = fields.needed_text("tool_call_id")?;
        let text = texts(fields)?.join("\n");
        let Entry::Occupied(mut open) = self.open.entry(given.to_owned()) else {
            return Err(inexpressible(at, "it answers no tool call"));
        };
        let called = open.get_mut().pop_front();
        if open.get().is_empty() {
            open.remove();
        }
        let (id, name) = called.ok_or_else(|| inexpressible(at, "it answers no tool call"))?;
        let result = ToolResult { id, name, text };
        match self.turns.last_mut() {
            Some(Turn::Results(results)) => results.push(result),
            _ => self.turns.push(Turn::Results(vec![result])),
        }
        Ok(())
    }

    /// The turns, and the system messages before them.
    pub(super) fn end(self) -> Result<Asked, Refusal> {
        self.refuse_open("messages")?;
        match self.turns.last() {
            None => return Err(inexpressible("messages", "nothing but instructions")),
            Some(Turn::Assistant { .. }) => {
                return Err(inexpressible(
                    "messages",
                    "the answer goes on from a text of the client's",
                ));
            }
            Some(_) => {}
        }
        Ok(Asked {
            system: self.system,
            turns: self.turns,
            ..Asked::default()
        })
    }
}

/// Content that may be text alone. Parts of thinking are left out.
fn texts<'a>(fields: &mut Fields<'a>) -> Result<Vec<&'a str>, Refusal> {
    let mut texts = Vec::new();
    for (at, given) in fields.items("content") {
        if !matches!(given["type"].as_str(), Some("thinking" | "reasoning")) {
            texts.push(text(given, at)?);
        }
    }
    Ok(texts)
}

/// A part of text, or a text in place of a list of parts.
fn text(part: &Value, at: String) -> Result<&str, Refusal> {
    if let Some(text) = part.as_str() {
        return Ok(text);
    }
    let mut part = Fields::of(part, at.clone())?;
    let key = match part.needed_text("type")? {
        "text" => "text",
        "refusal" => "refusal",
        kind => return Err(inexpressible(at, format!("a part of type `{kind}`"))),
    };
    part.leave_out(&["cache_control"]);
    let text = part.needed_text(key)?;
    part.end()?;
    Ok(text)
}

/// A part of a user's message; none where it is blank.
fn part(given: &Value, at: String) -> Result<Option<Part>, Refusal> {
    if given["type"] != "image_url" {
        let text = text(given, at)?;
        return Ok((!text.trim().is_empty()).then(|| Part::Text(text.to_owned())));
    }
    let mut fields = Fields::of(given, at)?;
    fields.leave_out(&["type", "cache_control"]);
    let url_at = fields.path("image_url");
    // A few clients give the URL in place of the object.
    let (url, detail) = match fields.take("image_url") {
        Some(Value::String(url)) => (url.clone(), None),
        Some(object) => {
            let mut object = Fields::of(object, url_at.clone())?;
            let said = (
                object.needed_text("url")?.to_owned(),
                object.text("detail")?.map(Into::into),
            );
            object.end()?;
            said
        }
        None => return Err(unreadable(&url_at, "missing")),
    };
    fields.end()?;
    let Some(data) = url.strip_prefix("data:") else {
        return match url.starts_with("https://") || url.starts_with("http://") {
            true => Ok(Some(Part::ImageUrl { url, detail })),
            false => Err(inexpressible(
                url_at,
                "an image that is neither in the request nor on the web",
            )),
        };
    };
    let (head, data) = data.split_once(',').unwrap_or_default();
    let media_type = head.strip_suffix(";base64");
    let media_type = media_type.ok_or_else(|| inexpressible(url_at.as_str(), "an image that is not in base64"))?;
    let media_type = image_type(media_type, &url_at)?;
    let normal = data_url(media_type, data, &url_at)?;
    let data = normal
        .split_once(',')
        .map(|(_, data)| data.to_owned())
        .unwrap_or_default();
    Ok(Some(Part::Image {
        media_type,
        data,
        detail,
    }))
}
