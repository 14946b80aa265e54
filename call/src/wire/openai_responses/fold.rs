//! Folds a stream of Responses events to the response that they add up to.
//!
//! The last event repeats everything, and is taken as it is. What came before it counts where it is missing: in a
//! stream that broke off, or from a server whose last event leaves the output out.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::framing::Events;
use super::super::openai_chat::grow::{append_text, says_nothing};
use super::super::{Assembled, json as tolerant};
use super::response;

/// Folds a whole streamed body.
pub(in super::super) fn fold(events: Events<'_>) -> Assembled {
    let mut fold = Fold::default();
    for event in events {
        if event.oversize {
            fold.skipped_events += 1;
            // The response is lost, but not that it ended, nor what came before.
            fold.end(&event.name);
        } else if event.data.trim_ascii() != b"[DONE]" {
            match tolerant::parse(&event.data) {
                Ok(Value::Object(data)) => fold.take(&event.name, data),
                _ if event.name == "error" => fold.error = Some(String::from_utf8_lossy(&event.data).into()),
                _ => fold.skipped_events += 1,
            }
        }
        if fold.ended {
            break;
        }
    }
    fold.finish()
}

/// Where a delta's text belongs.
struct Target {
    /// The event's type without `response.` and `.delta` or `.done`.
    stem: &'static str,
    /// The type of the item, where it was not announced.
    item: &'static str,
    /// The list of parts within the item, and the part's type; absent where the text is the item's own.
    part: Option<(&'static str, &'static str)>,
    /// The key of the text.
    key: &'static str,
    /// Whether the model says it to the agent.
    is_output: bool,
}

const TARGETS: [Target; 10] = [
    of_part("output_text", "message", ("content", "output_text"), "text"),
    of_part("refusal", "message", ("content", "refusal"), "refusal"),
    of_part("reasoning_text", "reasoning", ("content", "reasoning_text"), "text"),
    of_part(
        "reasoning_summary_text",
        "reasoning",
        ("summary", "summary_text"),
        "text",
    ),
    of_item("function_call_arguments", "function_call", "arguments", true),
    of_item("custom_tool_call_input", "custom_tool_call", "input", true),
    of_item("mcp_call_arguments", "mcp_call", "arguments", false),
    of_item("mcp_call.arguments", "mcp_call", "arguments", false),
    of_item("code_interpreter_call_code", "code_interpreter_call", "code", false),
    of_item("code_interpreter_call.code", "code_interpreter_call", "code", false),
];

const fn of_part(
    stem: &'static str,
    item: &'static str,
    part: (&'static str, &'static str),
    key: &'static str,
) -> Target {
    Target {
        stem,
        item,
        part: Some(part),
        key,
        is_output: true,
    }
}

const fn of_item(stem: &'static str, item: &'static str, key: &'static str, is_output: bool) -> Target {
    Target {
        stem,
        item,
        part: None,
        key,
        is_output,
    }
}

/// The target of an event's text, the key under which the event has it, and whether that is all of the text.
fn target(kind: &str) -> Option<(&'static Target, &'static str, bool)> {
    let (stem, is_whole) = match kind.strip_suffix(".delta") {
        Some(stem) => (stem, false),
        None => (kind.strip_suffix(".done")?, true),
    };
    let stem = stem.strip_prefix("response.")?;
    let target = TARGETS.iter().find(|target| target.stem == stem)?;
    Some((target, if is_whole { target.key } else { "delta" }, is_whole))
}

/// Events that end a stream, and the status that they stand for.
fn final_status(kind: &str) -> Option<&str> {
    match kind.strip_prefix("response.")? {
        "done" => Some("completed"),
        status @ ("completed" | "incomplete" | "failed" | "cancelled") => Some(status),
        _ => None,
    }
}

/// Whether an event carries text, reasoning, a refusal or a part of a tool call.
pub(super) fn has_output(data: &Value) -> bool {
    let kind = data.get("type").and_then(Value::as_str).unwrap_or_default();
    if let Some((target, key, _)) = target(kind) {
        return target.is_output && data.get(key).is_some_and(|text| !says_nothing(text));
    }
    let answer = match (data.get("item"), data.get("response")) {
        (Some(item), _) => response(&json!({"output": [item]})),
        (None, Some(whole)) => response(whole),
        (None, None) => return false,
    };
    !answer.is_empty() || !answer.reasoning_text.is_empty() || answer.refusal.is_some()
}

#[derive(Default)]
struct Fold {
    /// The response as the events last told it.
    response: Map<String, Value>,
    items: Vec<Item>,
    by_index: BTreeMap<i64, usize>,
    by_id: BTreeMap<String, usize>,
    error: Option<Value>,
    ended: bool,
    skipped_events: u32,
}

impl Fold {
    fn take(&mut self, name: &str, mut data: Map<String, Value>) {
        let kind = match data.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            _ => name.to_owned(),
        };
        if let Some(Value::Object(response)) = data.remove("response") {
            set_all(&mut self.response, response);
        }
        if let Some((target, key, is_whole)) = target(&kind) {
            if let Some(Value::String(text)) = data.remove(key) {
                self.item_of(&data, target.item)
                    .take_text(&data, target, text, is_whole);
            }
            return;
        }
        match kind.as_str() {
            "response.output_item.added" | "response.output_item.done" => {
                if let Some(Value::Object(item)) = data.remove("item") {
                    self.take_item(&data, item, kind.ends_with(".done"));
                }
            }
            "response.content_part.added" | "response.content_part.done" => {
                if let Some(part) = data.remove("part") {
                    let kind = if is_of_type(&part, "reasoning_text") {
                        "reasoning"
                    } else {
                        "message"
                    };
                    self.item_of(&data, kind)
                        .take_part("content", integer(&data, "content_index"), part);
                }
            }
            "response.reasoning_summary_part.added" | "response.reasoning_summary_part.done" => {
                if let Some(part) = data.remove("part") {
                    self.item_of(&data, "reasoning")
                        .take_part("summary", integer(&data, "summary_index"), part);
                }
            }
            "response.output_text.annotation.added" => {
                if let Some(annotation) = data.remove("annotation") {
                    self.item_of(&data, "message").take_annotation(&data, annotation);
                }
            }
            kind => self.take_other(kind, data),
        }
    }

    /// An end, an error, or what says nothing of the answer.
    fn take_other(&mut self, kind: &str, mut data: Map<String, Value>) {
        self.end(kind);
        match data.remove("error").filter(|error| !error.is_null()) {
            Some(error) => self.error = Some(error),
            None if kind == "error" => self.error = Some(Value::Object(data)),
            None => {}
        }
    }

    /// Takes note of an event that ends the stream.
    fn end(&mut self, kind: &str) {
        if let Some(status) = final_status(kind) {
            self.ended = true;
            if !self.has_final_status() {
                self.response.insert("status".into(), status.into());
            }
        }
    }

    fn has_final_status(&self) -> bool {
        let status = self.response.get("status").and_then(Value::as_str);
        !matches!(status, None | Some("in_progress" | "queued"))
    }

    /// An item announced, or done: which then has all that its deltas had, though some servers leave that out.
    fn take_item(&mut self, data: &Map<String, Value>, item: Map<String, Value>, is_done: bool) {
        let id = item.get("id").and_then(Value::as_str).map(ToOwned::to_owned);
        let known = self.known(integer(data, "output_index"), id.as_deref());
        // Some servers number all items 0: what is announced is another item.
        let known = known.filter(|position| is_done || !self.items[*position].is_announced);
        let position = known.unwrap_or_else(|| self.add(data));
        if let Some(id) = id {
            self.by_id.insert(id, position);
        }
        let known = &mut self.items[position];
        known.is_announced = true;
        known.take_fields(item);
    }

    fn known(&self, index: Option<i64>, id: Option<&str>) -> Option<usize> {
        let by_index = index.and_then(|index| self.by_index.get(&index));
        by_index.or_else(|| self.by_id.get(id?)).copied()
    }

    fn add(&mut self, data: &Map<String, Value>) -> usize {
        let position = self.items.len();
        let index = integer(data, "output_index");
        self.items.push(Item {
            index: index.unwrap_or(position as i64),
            ..Item::default()
        });
        if let Some(index) = index {
            self.by_index.insert(index, position);
        }
        if let Some(Value::String(id)) = data.get("item_id") {
            self.by_id.insert(id.clone(), position);
        }
        position
    }

    /// The item that an event is about: by index, else by id, else the last one.
    fn item_of(&mut self, data: &Map<String, Value>, kind: &str) -> &mut Item {
        let index = integer(data, "output_index");
        let id = data.get("item_id").and_then(Value::as_str);
        let last = self
            .items
            .len()
            .checked_sub(1)
            .filter(|_| index.is_none() && id.is_none());
        let position = self.known(index, id).or(last).unwrap_or_else(|| self.add(data));
        let item = &mut self.items[position];
        item.fields.entry("type").or_insert_with(|| kind.into());
        item
    }

    fn finish(mut self) -> Assembled {
        // In a stream that broke off the provider did not say how it finished.
        if !self.ended && !self.has_final_status() {
            self.response.remove("status");
        }
        let has_output = |output: &Value| output.as_array().is_some_and(|output| !output.is_empty());
        if !self.response.get("output").is_some_and(has_output) {
            self.items.sort_by_key(|item| item.index);
            let output = self.items.into_iter().map(Item::finish).collect();
            self.response.insert("output".into(), Value::Array(output));
        }
        self.response.insert("object".into(), "response".into());
        Assembled {
            body: Value::Object(self.response),
            streamed: true,
            partial: !self.ended,
            error: self.error,
            skipped_events: self.skipped_events,
        }
    }
}

/// One item as far as it has come.
#[derive(Default)]
struct Item {
    index: i64,
    is_announced: bool,
    fields: Map<String, Value>,
    content: BTreeMap<i64, Value>,
    summary: BTreeMap<i64, Value>,
}

impl Item {
    fn take_fields(&mut self, fields: Map<String, Value>) {
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("content" | "summary", Value::Array(parts)) if !parts.is_empty() => {
                    *self.parts(&key) = (0..).zip(parts).collect();
                }
                (_, value) => set(&mut self.fields, key, value),
            }
        }
    }

    fn parts(&mut self, list: &str) -> &mut BTreeMap<i64, Value> {
        if list == "summary" {
            &mut self.summary
        } else {
            &mut self.content
        }
    }

    fn take_part(&mut self, list: &str, index: Option<i64>, part: Value) {
        let known = self.parts(list).entry(index.unwrap_or(0)).or_insert(Value::Null);
        match (known, part) {
            (Value::Object(known), Value::Object(part)) => set_all(known, part),
            (known, part) => *known = part,
        }
    }

    fn take_text(&mut self, data: &Map<String, Value>, target: &Target, text: String, is_whole: bool) {
        let whole = match target.part {
            None => self.fields.entry(target.key).or_insert(Value::Null),
            Some((list, kind)) => {
                let index = integer(
                    data,
                    if list == "summary" {
                        "summary_index"
                    } else {
                        "content_index"
                    },
                );
                let part = self.parts(list).entry(index.unwrap_or(0)).or_insert(Value::Null);
                if !part.is_object() {
                    *part = json!({"type": kind});
                }
                &mut part[target.key]
            }
        };
        if is_whole {
            *whole = Value::String(text);
        } else {
            append_text(whole, text);
        }
    }

    fn take_annotation(&mut self, data: &Map<String, Value>, annotation: Value) {
        let index = integer(data, "content_index").unwrap_or(0);
        if let Some(Value::Object(part)) = self.content.get_mut(&index) {
            match part.entry("annotations").or_insert(Value::Null) {
                Value::Array(annotations) => annotations.push(annotation),
                annotations => *annotations = Value::Array(vec![annotation]),
            }
        }
    }

    fn finish(mut self) -> Value {
        for (key, parts) in [("content", self.content), ("summary", self.summary)] {
            if !parts.is_empty() {
                self.fields.insert(key.into(), parts.into_values().collect());
            }
        }
        Value::Object(self.fields)
    }
}

fn is_of_type(part: &Value, kind: &str) -> bool {
    tolerant::text(part, "type") == Some(kind)
}

fn integer(data: &Map<String, Value>, key: &str) -> Option<i64> {
    data.get(key)?.as_i64()
}

/// Sets a field, except that nothing doesn't unset something.
fn set(whole: &mut Map<String, Value>, key: String, value: Value) {
    let is_nothing = says_nothing(&value) || value.as_array().is_some_and(Vec::is_empty);
    if !is_nothing || !whole.contains_key(&key) {
        whole.insert(key, value);
    }
}

fn set_all(whole: &mut Map<String, Value>, fields: Map<String, Value>) {
    for (key, value) in fields {
        set(whole, key, value);
    }
}
