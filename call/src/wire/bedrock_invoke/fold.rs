//! Opens the envelopes of a stream, and lets the model's own format fold what is in them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::super::bedrock_converse;
use super::super::framing::{Event, Events, Framing};
use super::super::{Assembled, anthropic_messages, cohere_chat, json, openai_chat, openai_completions};
use super::{Format, METRICS, converse_event};

/// Folds a whole streamed body.
pub(in super::super) fn fold(events: Events<'_>) -> Assembled {
    let mut chunks = Vec::new();
    let mut error = None;
    let mut skipped_events = 0;
    for event in events {
        match opened(&event) {
            Some(Value::Object(chunk)) => chunks.push(chunk),
            _ => match event.exception() {
                Some(exception) => error = Some(exception),
                None => skipped_events += 1,
            },
        }
    }
    let metrics = chunks.iter_mut().rev().find_map(|chunk| chunk.remove(METRICS));
    let mut assembled = folded(chunks);
    if let (Value::Object(body), Some(metrics)) = (&mut assembled.body, metrics) {
        body.insert(METRICS.into(), metrics);
        // They are in the last chunk.
        assembled.partial = false;
    }
    assembled.streamed = true;
    assembled.error = error.or(assembled.error);
    assembled.skipped_events += skipped_events;
    assembled
}

/// What an event's envelope holds: JSON in base64. Padding beside it is dropped.
fn opened(event: &Event<'_>) -> Option<Value> {
    let envelope = json::parse(&event.data).ok()?;
    let inner = STANDARD.decode(json::text(&envelope, "bytes")?).ok()?;
    json::parse(&inner).ok()
}

/// Folds the model's own chunks; all of a stream have one format.
fn folded(chunks: Vec<Map<String, Value>>) -> Assembled {
    let chunks: Vec<Value> = chunks.into_iter().map(Value::Object).collect();
    match chunks.iter().find_map(Format::of) {
        Some(Format::Anthropic) => of_lines(&chunks, anthropic_messages::fold),
        Some(Format::Chat) => of_lines(&chunks, openai_chat::fold),
        Some(Format::Completions) => of_lines(&chunks, openai_completions::fold),
        Some(Format::Cohere) => of_lines(&chunks, cohere_chat::fold),
        Some(Format::Converse) => converse(chunks),
        Some(Format::Plain(shape)) => {
            let objects = chunks.into_iter().filter_map(into_object);
            let (body, ended) = shape.fold(objects.collect());
            Assembled {
                body: Value::Object(body),
                partial: !ended,
                ..Assembled::default()
            }
        }
        // Of an unknown format the chunks are kept, later fields over earlier ones.
        Some(Format::Embedding) | None => {
            let partial = chunks.is_empty();
            let body = chunks.into_iter().filter_map(into_object).flatten().collect();
            Assembled {
                body: Value::Object(body),
                partial,
                ..Assembled::default()
            }
        }
    }
}

fn into_object(chunk: Value) -> Option<Map<String, Value>> {
    match chunk {
        Value::Object(chunk) => Some(chunk),
        _ => None,
    }
}

/// Gives the chunks to a fold as lines of JSON.
fn of_lines(chunks: &[Value], fold: fn(Events<'_>) -> Assembled) -> Assembled {
    let mut lines = String::new();
    for chunk in chunks {
        lines.push_str(&line(chunk));
        lines.push('\n');
    }
    fold(Events::new(Framing::Lines, lines.as_bytes()))
}

/// A chunk as the model's own API streams it: legacy completions lack their type here.
fn line(chunk: &Value) -> String {
    if chunk.get("completion").is_none() || chunk.get("type").is_some() {
        return chunk.to_string();
    }
    let mut chunk = chunk.clone();
    if let Value::Object(fields) = &mut chunk {
        fields.insert("type".into(), "completion".into());
    }
    chunk.to_string()
}

fn converse(chunks: Vec<Value>) -> Assembled {
    let mut fold = bedrock_converse::Fold::default();
    for chunk in chunks {
        let Some((name, Value::Object(event))) = converse_event(&chunk) else {
            continue;
        };
        fold.take_event(name, event.clone());
    }
    fold.finish()
}

/// Whether a stream's event carries text, reasoning, a refusal or a part of a tool call.
pub(in super::super) fn carries_output(event: &Event<'_>) -> bool {
    let Some(chunk) = opened(event) else { return false };
    let of_line = |carries_output: fn(&Event<'_>) -> bool| {
        let line = line(&chunk);
        Events::new(Framing::Lines, line.as_bytes()).any(|event| carries_output(&event))
    };
    match Format::of(&chunk) {
        Some(Format::Anthropic) => of_line(anthropic_messages::carries_output),
        Some(Format::Chat) => of_line(openai_chat::carries_output),
        Some(Format::Completions) => of_line(openai_completions::carries_output),
        Some(Format::Cohere) => of_line(cohere_chat::carries_output),
        Some(Format::Converse) => {
            converse_event(&chunk).is_some_and(|(name, event)| bedrock_converse::has_output(name, event))
        }
        Some(Format::Plain(shape)) => shape.has_output(&chunk),
        Some(Format::Embedding) | None => false,
    }
}
