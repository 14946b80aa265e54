//! Folds a stream of generateContent answers, each a piece of the whole, to the one that they add up to.
//!
//! The stream has no end mark: it is whole where every candidate has its finish reason, or the prompt was blocked.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::Assembled;
use super::super::event::Said;
use super::super::framing::Events;
use super::block_reason;
use super::partial_args::PartialArgs;

/// Folds a whole streamed body.
pub(in super::super) fn fold(events: Events<'_>) -> Assembled {
    let mut fold = Fold::default();
    for event in events {
        match event.said() {
            Said::Object(chunk) => fold.take_chunk(chunk, event.name == "error"),
            Said::Error(error) => fold.error = Some(error),
            Said::Done => {}
            Said::Unreadable => fold.skipped_events += 1,
        }
    }
    fold.finish()
}

#[derive(Default)]
struct Fold {
    top: Map<String, Value>,
    candidates: BTreeMap<i64, Candidate>,
    error: Option<Value>,
    skipped_events: u32,
}

impl Fold {
    fn take_chunk(&mut self, mut chunk: Map<String, Value>, is_error: bool) {
        if let Some(error) = chunk.remove("error").filter(|error| !error.is_null()) {
            self.error = Some(error);
        } else if is_error {
            self.error = Some(Value::Object(chunk));
            return;
        }
        if let Some(Value::Array(candidates)) = chunk.remove("candidates") {
            for (position, candidate) in candidates.into_iter().enumerate() {
                let index = candidate.get("index").and_then(Value::as_i64);
                let whole = self.candidates.entry(index.unwrap_or(position as i64)).or_default();
                whole.take(candidate);
            }
        }
        for (key, value) in chunk {
            // Vertex's chunks before the last may tell the kind of traffic, and no tokens.
            let says_less = key == "usageMetadata" && !counts_tokens(&value) && self.top.contains_key(&key);
            if !value.is_null() && !says_less {
                self.top.insert(key, value);
            }
        }
    }

    fn finish(mut self) -> Assembled {
        let is_finished = |candidate: &Candidate| candidate.rest.contains_key("finishReason");
        let partial = if self.candidates.is_empty() {
            block_reason(&self.top).is_none()
        } else {
            !self.candidates.values().all(is_finished)
        };
        let mut body = Map::new();
        if !self.candidates.is_empty() {
            let candidates = self.candidates.into_iter();
            let candidates = candidates.map(|(index, candidate)| candidate.finish(index)).collect();
            body.insert("candidates".into(), Value::Array(candidates));
        }
        body.append(&mut self.top);
        if let Some(error) = self.error.as_ref().filter(|_| body.is_empty()) {
            body.insert("error".into(), error.clone());
        }
        Assembled {
            body: Value::Object(body),
            streamed: true,
            partial,
            error: self.error,
            skipped_events: self.skipped_events,
        }
    }
}

fn counts_tokens(usage: &Value) -> bool {
    let keys = usage.as_object().into_iter().flat_map(Map::keys);
    keys.into_iter().any(|key| key.ends_with("TokenCount"))
}

/// One candidate as far as it has come.
#[derive(Default)]
struct Candidate {
    parts: Vec<Value>,
    /// The call whose arguments still come.
    open_call: Option<OpenCall>,
    content: Map<String, Value>,
    rest: Map<String, Value>,
}

struct OpenCall {
    part: Map<String, Value>,
    call: Map<String, Value>,
    args: PartialArgs,
}

impl Candidate {
    fn take(&mut self, candidate: Value) {
        let Value::Object(mut candidate) = candidate else {
            return;
        };
        if let Some(Value::Object(mut content)) = candidate.remove("content") {
            if let Some(Value::Array(parts)) = content.remove("parts") {
                parts.into_iter().for_each(|part| self.take_part(part));
            }
            content
                .into_iter()
                .for_each(|(key, value)| set(&mut self.content, key, value));
        }
        for (key, value) in candidate {
            match (key.as_str(), value) {
                ("index", _) => {}
                ("logprobsResult" | "citationMetadata", Value::Object(piece)) => {
                    let whole = self.rest.entry(key).or_insert_with(|| json!({}));
                    extend_lists(whole, piece);
                }
                // Sent empty at first, then in parts, then whole.
                ("groundingMetadata" | "urlContextMetadata", Value::Object(piece)) => {
                    if let Value::Object(whole) = self.rest.entry(key).or_insert_with(|| json!({})) {
                        piece.into_iter().for_each(|(key, value)| set(whole, key, value));
                    }
                }
                (_, value) => set(&mut self.rest, key, value),
            }
        }
    }

    /// Text grows the text before it, a thought the thought before it; all else stays apart.
    fn take_part(&mut self, part: Value) {
        let Value::Object(mut part) = part else { return };
        if let Some(Value::Object(call)) = part.get_mut("functionCall") {
            let call = std::mem::take(call);
            self.take_call(part, call);
            return;
        }
        let last = self.parts.last_mut().and_then(Value::as_object_mut);
        let grew = last.is_some_and(|last| grow(last, &part));
        let says_nothing = part.len() == 1 && part.get("text").and_then(Value::as_str) == Some("");
        if !grew && (!says_nothing || self.parts.is_empty()) {
            self.parts.push(Value::Object(part));
        }
    }

    /// A call comes whole, or, where the request asked for it, in pieces: its name, then values for its arguments.
    fn take_call(&mut self, part: Map<String, Value>, mut call: Map<String, Value>) {
        let will_continue = call.remove("willContinue").is_some_and(|it| it == true);
        let pieces = call.remove("partialArgs");
        let continues = !call.contains_key("name") && self.open_call.is_some();
        if !continues {
            self.close_call();
        }
        let open = self.open_call.get_or_insert_with(|| OpenCall {
            part: Map::new(),
            call: Map::new(),
            args: PartialArgs::default(),
        });
        part.into_iter()
            .for_each(|(key, value)| set(&mut open.part, key, value));
        call.into_iter()
            .for_each(|(key, value)| set(&mut open.call, key, value));
        if let Some(Value::Array(pieces)) = pieces {
            pieces.iter().for_each(|piece| open.args.take(piece));
        }
        if !will_continue {
            self.close_call();
        }
    }

    fn close_call(&mut self) {
        let Some(mut open) = self.open_call.take() else { return };
        if let Some(args) = open.args.finish() {
            open.call.insert("args".into(), args);
        }
        open.part.insert("functionCall".into(), Value::Object(open.call));
        self.parts.push(Value::Object(open.part));
    }

    fn finish(mut self, index: i64) -> Value {
        self.close_call();
        let mut candidate = Map::new();
        self.content.insert("parts".into(), Value::Array(self.parts));
        self.content.entry("role").or_insert_with(|| "model".into());
        candidate.insert("content".into(), Value::Object(self.content));
        candidate.insert("index".into(), index.into());
        candidate.append(&mut self.rest);
        Value::Object(candidate)
    }
}

/// Appends a piece of text to a part of its kind. A signature stays where it came, and only one fits a part.
fn grow(part: &mut Map<String, Value>, piece: &Map<String, Value>) -> bool {
    let is_text = |part: &Map<String, Value>| {
        part.keys()
            .all(|key| matches!(key.as_str(), "text" | "thought" | "thoughtSignature"))
    };
    let is_signed = |part: &Map<String, Value>| part.contains_key("thoughtSignature");
    let is_alike = is_text(part) && is_text(piece) && part.get("thought") == piece.get("thought");
    if !is_alike || (is_signed(part) && is_signed(piece)) {
        return false;
    }
    let (Some(Value::String(text)), Some(Value::String(more))) = (part.get_mut("text"), piece.get("text")) else {
        return false;
    };
    text.push_str(more);
    if let Some(signature) = piece.get("thoughtSignature") {
        part.insert("thoughtSignature".into(), signature.clone());
    }
    true
}

/// Sets a field that says something.
fn set(whole: &mut Map<String, Value>, key: String, value: Value) {
    if !value.is_null() {
        whole.insert(key, value);
    }
}

/// Lists of the same key grow; all else is set.
fn extend_lists(whole: &mut Value, piece: Map<String, Value>) {
    let Value::Object(whole) = whole else { return };
    for (key, value) in piece {
        match (whole.get_mut(&key), value) {
            (Some(Value::Array(whole)), Value::Array(more)) => whole.extend(more),
            (_, value) => set(whole, key, value),
        }
    }
}
