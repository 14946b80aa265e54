//! Folds a stream of `chat.completion.chunk` objects to the `chat.completion` that they add up to; streams of legacy
//! completions too, whose choices have `text` where these have a `delta`.
//!
//! Chunks may lack choices, deltas, ids and indexes, and may repeat names; nothing that they hold is an error.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::Assembled;
use super::super::event::Said;
use super::super::framing::Events;
use super::grow::{append_content, append_detail, append_lists, append_text, extend_list, keep_first, keep_last};
use super::places::Places;

/// Folds a whole streamed body.
pub(in super::super) fn fold(events: Events<'_>) -> Assembled {
    fold_to("chat.completion", events)
}

/// Folds a whole streamed body to an `object` of this name.
pub(in super::super) fn fold_to(object: &str, events: Events<'_>) -> Assembled {
    let mut fold = Fold::default();
    for event in events {
        match event.said() {
            Said::Object(chunk) => fold.take_chunk(chunk, event.name == "error"),
            Said::Error(error) => fold.error = Some(error),
            Said::Done => {
                fold.done = true;
                break;
            }
            Said::Unreadable => fold.skipped_events += 1,
        }
    }
    fold.finish(object)
}

/// What a chunk's choice adds; a few servers send a whole `message` instead of a `delta`.
pub(super) fn delta(choice: &Value) -> Option<&Value> {
    ["delta", "message"]
        .iter()
        .filter_map(|key| choice.get(key))
        .find(|delta| delta.is_object())
}

#[derive(Default)]
struct Fold {
    top: Map<String, Value>,
    choices: BTreeMap<i64, Choice>,
    error: Option<Value>,
    done: bool,
    skipped_events: u32,
}

impl Fold {
    fn take_chunk(&mut self, mut chunk: Map<String, Value>, is_error: bool) {
        // An error may lie beside a last choice. Old vLLM sends the error as the chunk itself.
        if let Some(error) = chunk.remove("error").filter(|error| !error.is_null()) {
            self.error = Some(error);
        } else if is_error || chunk.get("object").is_some_and(|object| object == "error") {
            self.error = Some(Value::Object(chunk));
            return;
        }
        if let Some(Value::Array(choices)) = chunk.remove("choices") {
            for (position, choice) in choices.into_iter().enumerate() {
                let index = choice.get("index").and_then(Value::as_i64).unwrap_or(position as i64);
                self.choices.entry(index).or_default().take(choice);
            }
        } else if let Some(Value::String(piece)) = chunk.remove("value") {
            // Writer's legacy completions.
            let choice = self.choices.entry(0).or_default();
            append_text(choice.rest.entry("text").or_insert(Value::Null), piece);
        }
        for (key, value) in chunk {
            match key.as_str() {
                // Padding against length attacks.
                "object" | "obfuscation" | "p" => {}
                "id" | "model" | "created" => keep_first(&mut self.top, key, value),
                _ => keep_last(&mut self.top, key, value),
            }
        }
    }

    fn finish(mut self, object: &str) -> Assembled {
        // Some servers never send `[DONE]`, and some send it after an answer that broke off: the finish reason decides.
        let is_finished = self
            .choices
            .values()
            .all(|choice| choice.rest.contains_key("finish_reason"));
        let partial = !is_finished || (self.choices.is_empty() && !self.done);
        if !self.top.contains_key("usage")
            && let Some(usage) = self
                .top
                .get_mut("x_groq")
                .and_then(|groq| groq.as_object_mut()?.remove("usage"))
        {
            self.top.insert("usage".into(), usage);
        }
        self.top.insert("object".into(), object.into());
        let choices = self
            .choices
            .into_iter()
            .map(|(index, choice)| choice.finish(index))
            .collect();
        self.top.insert("choices".into(), Value::Array(choices));
        Assembled {
            body: Value::Object(self.top),
            streamed: true,
            partial,
            error: self.error,
            skipped_events: self.skipped_events,
        }
    }
}

/// One choice as far as it has come.
#[derive(Default)]
struct Choice {
    message: Map<String, Value>,
    calls: Vec<Map<String, Value>>,
    places: Places,
    rest: Map<String, Value>,
}

impl Choice {
    fn take(&mut self, choice: Value) {
        let Value::Object(mut choice) = choice else { return };
        match (choice.remove("delta"), choice.remove("message")) {
            (Some(Value::Object(delta)), _) => {
                delta.into_iter().for_each(|(key, value)| self.take_delta(key, value));
            }
            (_, Some(Value::Object(message))) => {
                message.into_iter().for_each(|(key, value)| self.take_whole(key, value));
            }
            _ => {}
        }
        for (key, value) in choice {
            match (key.as_str(), value) {
                ("index", _) => {}
                ("logprobs", value) => append_lists(&mut self.rest, key, value),
                ("text" | "reasoning" | "reasoning_content", Value::String(piece)) => {
                    append_text(self.rest.entry(key).or_insert(Value::Null), piece);
                }
                (_, value) => keep_last(&mut self.rest, key, value),
            }
        }
    }

    /// A field of a `message`, which mostly repeats all that came before it (the last chunk of MiniMax, say).
    fn take_whole(&mut self, key: String, value: Value) {
        let known = self.message.get(&key);
        match (key.as_str(), known, value) {
            ("tool_calls", _, Value::Array(calls)) if !calls.is_empty() => {
                self.calls.clear();
                self.places = Places::default();
                self.take_delta(key, Value::Array(calls));
            }
            (_, Some(Value::String(known)), Value::String(whole)) if !whole.starts_with(known.as_str()) => {
                self.take_delta(key, Value::String(whole));
            }
            (_, _, value) => keep_last(&mut self.message, key, value),
        }
    }

    fn take_delta(&mut self, key: String, value: Value) {
        match (key.as_str(), value) {
            (_, Value::Null) => {}
            ("tool_calls", Value::Array(calls)) => calls.into_iter().for_each(|call| self.take_call(call)),
            ("function_call", Value::Object(function)) => {
                let whole = self.message.entry(key).or_insert_with(|| json!({}));
                if let Value::Object(whole) = whole {
                    take_function(whole, function);
                }
            }
            ("content", value) => {
                let content = self.message.entry(key).or_insert(Value::Null);
                append_content(content, value);
            }
            ("refusal" | "reasoning_content" | "reasoning" | "thinking", Value::String(piece)) => {
                append_text(self.message.entry(key).or_insert(Value::Null), piece);
            }
            ("audio", Value::Object(audio)) => take_audio(&mut self.message, audio),
            ("reasoning_details", Value::Array(pieces)) => {
                let details = self.message.entry(key).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(details) = details {
                    pieces.into_iter().for_each(|piece| append_detail(details, piece));
                }
            }
            (_, Value::Array(items)) => extend_list(self.message.entry(key).or_insert(Value::Null), items),
            ("role", value) => keep_first(&mut self.message, key, value),
            (_, value) => keep_last(&mut self.message, key, value),
        }
    }

    fn take_call(&mut self, call: Value) {
        let Value::Object(call) = call else { return };
        let whole = self.call_of(&call);
        for (key, value) in call {
            match (key.as_str(), value) {
                ("index", _) => {}
                ("function" | "custom", Value::Object(function)) => {
                    if let Value::Object(whole) = whole.entry(key).or_insert_with(|| json!({})) {
                        take_function(whole, function);
                    }
                }
                (_, value) => keep_first(whole, key, value),
            }
        }
    }

    fn call_of(&mut self, piece: &Map<String, Value>) -> &mut Map<String, Value> {
        let place = self.places.of(piece);
        if place == self.calls.len() {
            self.calls.push(Map::new());
        }
        &mut self.calls[place]
    }

    fn finish(mut self, index: i64) -> Value {
        let mut choice = Map::new();
        choice.insert("index".into(), index.into());
        let is_legacy = self.rest.contains_key("text") && self.message.is_empty() && self.calls.is_empty();
        if !is_legacy {
            choice.insert("message".into(), Value::Object(self.finish_message()));
        }
        choice.insert(
            "finish_reason".into(),
            self.rest.remove("finish_reason").unwrap_or_default(),
        );
        choice.append(&mut self.rest);
        Value::Object(choice)
    }

    fn finish_message(&mut self) -> Map<String, Value> {
        let role = self.message.remove("role").unwrap_or_else(|| "assistant".into());
        let content = self.message.remove("content").unwrap_or_default();
        let mut message = Map::from_iter([("role".into(), role), ("content".into(), content)]);
        message.append(&mut self.message);
        if !self.calls.is_empty() {
            let calls = self.calls.drain(..).map(Value::Object).collect();
            message.insert("tool_calls".into(), Value::Array(calls));
        }
        message
    }
}

/// The name comes once, though some servers repeat it; arguments come in pieces.
fn take_function(whole: &mut Map<String, Value>, piece: Map<String, Value>) {
    for (key, value) in piece {
        match (key.as_str(), value) {
            ("arguments" | "input", Value::String(piece)) => {
                append_text(whole.entry(key).or_insert(Value::Null), piece)
            }
            (_, value) => keep_first(whole, key, value),
        }
    }
}

fn take_audio(message: &mut Map<String, Value>, piece: Map<String, Value>) {
    let Value::Object(audio) = message.entry("audio").or_insert_with(|| json!({})) else {
        return;
    };
    for (key, value) in piece {
        match (key.as_str(), value) {
            ("data" | "transcript", Value::String(piece)) => {
                append_text(audio.entry(key).or_insert(Value::Null), piece)
            }
            (_, value) => keep_last(audio, key, value),
        }
    }
}
