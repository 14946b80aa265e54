//! A baseline that is as strict as real ones about the history that an agent sends back: ids in a form that it takes and
//! none twice, every tool call answered, nothing signed that it did not sign, no item that it did not issue.
//!
//! Speaks every API that is translated, whole and streamed, and calls a tool in each of its turns but the last.

use crate::upstream::{LAST_CHUNK, Seen, Step, chunk, head, json as whole};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use understudy_call::call::Api;
use understudy_call::wire;
use understudy_call::wire::eventstream::write_event;

/// The tool of all these conversations.
pub const TOOL: &str = "look_up";

/// What it has issued, and what it has refused.
#[derive(Debug, Default)]
pub struct Strict {
    issued: Mutex<HashSet<String>>,
    refused: Mutex<Vec<String>>,
    counter: AtomicUsize,
    turns: usize,
    /// Also refuses any form that its API refuses: its requests are all written by us.
    is_candidate: bool,
}

/// A turn of the model, whatever the API.
struct Turn {
    text: String,
    calls: Vec<(String, Value)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Checked = Result<usize, String>;

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

impl Strict {
    /// One whose answer is final after so many turns of the model.
    pub fn new(turns: usize) -> Strict {
        Strict {
            turns,
            ..Strict::default()
        }
    }

    /// A candidate, which speaks whatever API it is asked in, and is strict about the form of what it is asked.
    pub fn candidate(turns: usize) -> Strict {
        Strict {
            is_candidate: true,
            // Its ids are not the baseline's.
            counter: 500_000.into(),
            ..Strict::new(turns)
        }
    }

    /// Why requests were refused, in their order.
    pub fn refused(&self) -> Vec<String> {
        lock(&self.refused).clone()
    }

    /// Answers a request, or refuses its history.
    pub fn answer(&self, seen: &Seen) -> Vec<Step> {
        let path = seen.head.path();
        let bare_path = path.split('?').next().unwrap_or_default();
        let api = wire::detect(bare_path);
        let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        match self.check(api, path, &body) {
            Ok(turns) => {
                let turn = self.turn(turns);
                let streams = wants_stream(api, bare_path, &body);
                self.say(api, path, &body, turn, streams)
            }
            Err(why) => {
                lock(&self.refused).push(format!("{}: {why}: {body}", api.as_str()));
                whole(
                    400,
                    &json!({"error": {"message": why, "type": "invalid_request_error"}}),
                )
            }
        }
    }

    fn check(&self, api: Api, path: &str, body: &Value) -> Checked {
        if self.is_candidate {
            match api {
                Api::AnthropicMessages => rules::messages(body)?,
                Api::OpenaiResponses => rules::responses(body)?,
                Api::Gemini => rules::gemini(body)?,
                Api::Ollama => rules::ollama(body)?,
                Api::CohereChat => rules::cohere(body)?,
                Api::BedrockConverse => rules::converse(body)?,
                other => return Err(format!("no such API here: {}", other.as_str())),
            }
        }
        match api {
            Api::OpenaiChat => check_chat(body),
            Api::AnthropicMessages => self.check_messages(body),
            Api::OpenaiResponses => self.check_responses(body),
            Api::Gemini => self.check_gemini(path, body),
            Api::Ollama => check_ollama(body),
            Api::CohereChat => check_cohere(body),
            Api::BedrockConverse => check_converse(body),
            other => Err(format!("no such API here: {}", other.as_str())),
        }
    }

    fn next(&self, prefix: &str) -> String {
        let id = format!("{prefix}{:06}", self.counter.fetch_add(1, Ordering::Relaxed));
        lock(&self.issued).insert(id.clone());
        id
    }

    fn is_issued(&self, id: &str) -> bool {
        lock(&self.issued).contains(id)
    }

    fn turn(&self, before: usize) -> Turn {
        if before + 1 >= self.turns {
            return Turn {
                text: "All done.".into(),
                calls: Vec::new(),
            };
        }
        // Two calls at once in every third turn.
        let calls = 1 + usize::from(before % 3 == 2);
        Turn {
            text: if before.is_multiple_of(2) {
                "Let me see.".into()
            } else {
                String::new()
            },
            calls: (0..calls)
                .map(|call| {
                    (
                        self.next("call_"),
                        json!({"q": format!("é {before}.{call}"), "n": [before, null]}),
                    )
                })
                .collect(),
        }
    }

    fn say(&self, api: Api, path: &str, body: &Value, turn: Turn, streams: bool) -> Vec<Step> {
        match api {
            Api::OpenaiChat => say_chat(&turn, "big", "", streams),
            Api::AnthropicMessages => self.say_messages(body, &turn, streams),
            Api::OpenaiResponses => self.say_responses(&turn, streams),
            Api::Gemini => self.say_gemini(path, &turn, streams),
            Api::Ollama => say_ollama(&turn, streams),
            Api::BedrockConverse => self.say_converse(&turn, streams),
            _ => say_cohere(&turn, streams),
        }
    }
}

fn wants_stream(api: Api, bare_path: &str, body: &Value) -> bool {
    // Ollama streams unless it is told not to.
    let by_body = body["stream"] == true || (api == Api::Ollama && body["stream"] != false);
    by_body || bare_path.ends_with(":streamGenerateContent") || bare_path.ends_with("/converse-stream")
}

/// A server that says this text, or calls [`TOOL`] with these arguments, in whatever API it is asked.
pub fn say(seen: &Seen, text: &str, arguments: Option<Value>) -> Vec<Step> {
    let strict = Strict::new(1);
    let path = seen.head.path();
    let bare_path = path.split('?').next().unwrap_or_default();
    let api = wire::detect(bare_path);
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let turn = Turn {
        text: text.to_owned(),
        calls: arguments
            .into_iter()
            .map(|given| (strict.next("call_"), given))
            .collect(),
    };
    strict.say(api, path, &body, turn, wants_stream(api, bare_path, &body))
}

/// The tool calls that wait for their results, and all that there were.
#[derive(Default)]
struct Pending {
    open: Vec<String>,
    all: HashSet<String>,
}

impl Pending {
    fn call(&mut self, id: &str, longest: usize) -> Result<(), String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !(1..=longest).contains(&id.len()) || !id.bytes().all(is_plain) {
            return Err(format!("the id `{id}` has no valid form"));
        }
        if !self.all.insert(id.to_owned()) {
            return Err(format!("the id `{id}` is there twice"));
        }
        self.open.push(id.to_owned());
        Ok(())
    }

    fn result(&mut self, id: &str) -> Result<(), String> {
        let place = self.open.iter().position(|open| open == id);
        let place = place.ok_or_else(|| format!("a result for `{id}`, which no call before it has"))?;
        self.open.remove(place);
        Ok(())
    }

    fn none_open(&self) -> Result<(), String> {
        match self.open.first() {
            Some(id) => Err(format!("the call `{id}` has no result")),
            None => Ok(()),
        }
    }
}

fn only_keys(value: &Value, keys: &[&str]) -> Result<(), String> {
    let unknown = value
        .as_object()
        .into_iter()
        .flatten()
        .find(|(key, _)| !keys.contains(&key.as_str()));
    unknown.map_or(Ok(()), |(key, _)| Err(format!("unknown field `{key}`")))
}

fn is_object_text(arguments: &Value) -> bool {
    let text = arguments.as_str().unwrap_or_default();
    serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
}

fn check_chat(body: &Value) -> Checked {
    let (mut pending, mut turns) = (Pending::default(), 0);
    for message in list(body, "messages") {
        only_keys(
            message,
            &["role", "content", "tool_calls", "tool_call_id", "name", "refusal"],
        )?;
        if message["role"] == "tool" {
            pending.result(text(message, "tool_call_id"))?;
            continue;
        }
        pending.none_open()?;
        if message["role"] == "assistant" {
            turns += 1;
            for call in list(message, "tool_calls") {
                pending.call(text(call, "id"), 40)?;
                if call["type"] != "function" || !is_object_text(&call["function"]["arguments"]) {
                    return Err("a tool call of no known form".into());
                }
            }
        }
    }
    pending.none_open().map(|()| turns)
}

/// A chat turn, with text of the model's reasoning where there is some.
fn say_chat(turn: &Turn, model: &str, reasoning: &str, streams: bool) -> Vec<Step> {
    let finish = if turn.calls.is_empty() { "stop" } else { "tool_calls" };
    let usage = json!({"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18});
    let id = "chatcmpl-0f";
    let call = |(id, arguments): &(String, Value)| json!({"id": id, "type": "function", "function": {"name": TOOL, "arguments": arguments.to_string()}});
    if !streams {
        let content = if turn.text.is_empty() {
            Value::Null
        } else {
            turn.text.clone().into()
        };
        let mut message = json!({"role": "assistant", "content": content});
        if !reasoning.is_empty() {
            message["reasoning_content"] = reasoning.into();
        }
        if !turn.calls.is_empty() {
            message["tool_calls"] = turn.calls.iter().map(call).collect();
        }
        let choice = json!({"index": 0, "finish_reason": finish, "message": message});
        let answer = json!({"id": id, "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage});
        return whole(200, &answer);
    }
    let event = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        json!({"id": id, "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]})
    };
    let mut events = vec![event(json!({"role": "assistant", "content": ""}), Value::Null)];
    if !reasoning.is_empty() {
        events.push(event(json!({"reasoning_content": reasoning}), Value::Null));
    }
    for piece in pieces(&turn.text) {
        events.push(event(json!({"content": piece}), Value::Null));
    }
    for (index, (id, arguments)) in turn.calls.iter().enumerate() {
        let function = json!({"name": TOOL, "arguments": ""});
        let start = json!({"index": index, "id": id, "type": "function", "function": function});
        events.push(event(json!({"tool_calls": [start]}), Value::Null));
        for piece in pieces(&arguments.to_string()) {
            let more = json!({"index": index, "function": {"arguments": piece}});
            events.push(event(json!({"tool_calls": [more]}), Value::Null));
        }
    }
    events.push(event(json!({}), finish.into()));
    events.push(json!({"id": id, "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [], "usage": usage}));
    events.push(DONE.into());
    stream_of(Api::OpenaiChat, &events)
}

/// A candidate's turn in chat: ids as small servers make them, and reasoning that nobody may get.
pub fn candidate(seen: &Seen, turns: usize) -> Vec<Step> {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let before = match check_candidate(&body) {
        Ok(before) => before,
        Err(why) => return whole(400, &json!({"error": {"message": why}})),
    };
    let strict = Strict::new(turns);
    let mut turn = strict.turn(before);
    for (place, (id, _)) in turn.calls.iter_mut().enumerate() {
        *id = match before % 4 {
            0 => format!("chatcmpl-tool-{:032x}", before * 16 + place),
            1 => format!("call_{place}"),
            2 => format!("functions.{TOOL}:{place}"),
            _ => String::new(),
        };
    }
    say_chat(&turn, "small-1", "I think, so nobody sees it.", body["stream"] == true)
}

/// A small server takes any id, but roles and pairs must be right.
fn check_candidate(body: &Value) -> Checked {
    let (mut open, mut turns) = (Vec::new(), 0);
    for message in list(body, "messages") {
        match text(message, "role") {
            "assistant" => {
                turns += 1;
                open = list(message, "tool_calls")
                    .iter()
                    .map(|call| text(call, "id"))
                    .collect();
            }
            "tool" => {
                let id = text(message, "tool_call_id");
                let place = open
                    .iter()
                    .position(|open| *open == id)
                    .ok_or("a result without a call")?;
                open.remove(place);
            }
            "system" | "user" | "developer" => {}
            other => return Err(format!("role {other}")),
        }
    }
    if open.is_empty() {
        Ok(turns)
    } else {
        Err("a call without a result".into())
    }
}

/// The end of some streams, which is no JSON.
const DONE: &str = "[DONE]";
/// Letters of a piece of a text in a stream.
const PIECE: usize = 5;

/// A text in pieces of a few letters, so that hardly a word stands whole in one event.
pub fn pieces(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(PIECE).map(|piece| piece.iter().collect()).collect()
}

/// A whole streamed answer in the framing of its API, an event a chunk. Events of AWS are objects of one key, their name.
pub fn stream_of(api: Api, events: &[Value]) -> Vec<Step> {
    let content_type = match api {
        Api::Ollama => "application/x-ndjson",
        Api::BedrockConverse | Api::BedrockInvoke => "application/vnd.amazon.eventstream",
        _ => "text/event-stream",
    };
    streamed(content_type, events.iter().map(|event| framed(api, event)))
}

fn framed(api: Api, event: &Value) -> Vec<u8> {
    let framed = match (api, event) {
        (Api::Ollama, _) => format!("{event}\n"),
        (Api::BedrockConverse | Api::BedrockInvoke, _) => {
            let mut message = Vec::new();
            for (name, payload) in event.as_object().into_iter().flatten() {
                write_event(name, payload, &mut message);
            }
            return message;
        }
        (Api::Gemini, _) => format!("data: {event}\r\n\r\n"),
        (_, Value::String(word)) => format!("data: {word}\n\n"),
        _ => match text(event, "type") {
            "" => format!("data: {event}\n\n"),
            name => format!("event: {name}\ndata: {event}\n\n"),
        },
    };
    framed.into_bytes()
}

fn streamed(content_type: &str, pieces: impl Iterator<Item = Vec<u8>>) -> Vec<Step> {
    let head = head(200, &[("content-type", content_type), ("transfer-encoding", "chunked")]);
    let mut steps = vec![Step::Send(head)];
    steps.extend(pieces.map(|piece| Step::Send(chunk(&piece))));
    steps.push(Step::Send(LAST_CHUNK.to_vec()));
    steps
}

mod bedrock;
mod cohere;
mod gemini;
mod messages;
mod ollama;
mod responses;
pub mod rules;

use bedrock::check_converse;
use cohere::{check_cohere, say_cohere};
use ollama::{check_ollama, say_ollama};
