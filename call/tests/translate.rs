//! Recorded calls of other APIs, there and back: the request in OpenAI chat says the same, and the recorded answer, put
//! into chat and translated back, whole or as a stream cut anyhow, reads the same.
//!
//! The recordings are not part of the repository: without them the tests say so and pass, except in CI.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use understudy_call::call::{Api, Message, Request, Response, Role};
use understudy_call::translate::ids::tool_call_id;
use understudy_call::translate::{self, Refusal, Translated};
use understudy_call::wire;

struct Exchange {
    name: String,
    path: String,
    request: Vec<u8>,
    status: u16,
    content_type: Option<String>,
    body: Vec<u8>,
}

/// The recorded exchanges of the folders that end with `format`; none where the recordings are missing.
fn exchanges(format: &str) -> Vec<Exchange> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/recordings"));
    let Ok(formats) = fs::read_dir(&folder) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "the recordings are missing: {}",
            folder.display()
        );
        eprintln!("SKIPPED: no recordings at {}", folder.display());
        return Vec::new();
    };
    let formats = formats.filter_map(|entry| Some(entry.ok()?.path()));
    let folders = formats.filter(|folder| folder.to_string_lossy().ends_with(format));
    let files = folders.flat_map(|folder| fs::read_dir(folder).expect("a readable folder"));
    let mut files: Vec<PathBuf> = files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|file| file.extension().is_some_and(|kind| kind == "json"))
        .filter(|file| !file.to_string_lossy().ends_with(".expect.json"))
        .collect();
    files.sort();
    files.into_iter().map(exchange).collect()
}

fn exchange(file: PathBuf) -> Exchange {
    let bytes = fs::read(&file).expect("a readable recording");
    let recorded: Value = serde_json::from_slice(&bytes).expect("a recording in JSON");
    Exchange {
        name: file.to_string_lossy().into_owned(),
        path: recorded["request"]["path"].as_str().expect("a path").to_owned(),
        request: recorded["request"]["body_text"].as_str().unwrap_or_default().into(),
        status: recorded["response"]["status"].as_u64().expect("a status") as u16,
        content_type: recorded["response"]["headers"]["content-type"].as_str().map(Into::into),
        body: recorded["response"]["body_text"].as_str().unwrap_or_default().into(),
    }
}

/// Why a request was refused, without what differs from call to call.
fn reason(refusal: &Refusal) -> String {
    let text = refusal.to_string();
    let without_numbers: String = text.chars().filter(|char| !char.is_ascii_digit()).collect();
    without_numbers.replace("[]", "")
}

/// Translates all recorded requests of an API; says how many were refused, and why.
fn translated(api: Api, exchanges: &[Exchange], edit: fn(&mut Value)) -> Vec<(&Exchange, Translated)> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut translated = Vec::new();
    for exchange in exchanges {
        let mut body: Value = serde_json::from_slice(&exchange.request).expect("a request in JSON");
        edit(&mut body);
        let body = body.to_string();
        match translate::request(api, &exchange.path, body.as_bytes()) {
            Ok(done) => {
                assert_says_the_same(
                    exchange,
                    &wire::parse_request(api, body.as_bytes()).expect("a request"),
                    &done.body,
                );
                translated.push((exchange, done));
            }
            Err(refusal) => *reasons.entry(reason(&refusal)).or_default() += 1,
        }
    }
    eprintln!(
        "{}: {} of {} translated",
        api.as_str(),
        translated.len(),
        exchanges.len()
    );
    for (reason, count) in &reasons {
        eprintln!("  {count:3} refused: {reason}");
    }
    translated
}

/// The chat request, read by the parser of chat, is the request, read by the parser of its API.
fn assert_says_the_same(exchange: &Exchange, asked: &Request, chat: &Value) {
    let said = wire::parse_request(Api::OpenaiChat, chat.to_string().as_bytes()).expect("a request");
    let name = &exchange.name;
    assert_eq!(spoken(&said.messages), spoken(&asked.messages), "{name}");
    assert_eq!(said.response_format, asked.response_format, "{name}");
    assert_eq!(said.max_tokens, asked.max_tokens, "{name}");
    assert_eq!(
        (said.temperature, &said.user),
        (asked.temperature, &asked.user),
        "{name}"
    );
    assert_eq!((said.stream, &said.model), (asked.stream, &asked.model), "{name}");
    for tool in &said.tools {
        assert!(asked.tools.contains(tool), "{name}: {tool:?}");
    }
    assert_eq!(said.tools.is_empty(), asked.tools.is_empty(), "{name}");
}

/// What each role says, however its words are spread over messages.
fn spoken(messages: &[Message]) -> BTreeMap<&'static str, Vec<String>> {
    let mut spoken: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for message in messages {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        // A tool's failure is said in its text.
        let text = message.text.strip_prefix("Error: ").unwrap_or(&message.text);
        if !text.is_empty() {
            spoken.entry(role).or_default().push(text.to_owned());
        }
        let calls = message.tool_calls.iter().map(|call| format!("{call:?}"));
        spoken.entry("calls").or_default().extend(calls);
        spoken
            .entry("answers")
            .or_default()
            .extend(message.tool_call_id.clone());
        let media = (0..message.media_parts).map(|_| role.to_owned());
        spoken.entry("media").or_default().extend(media);
    }
    spoken
}

/// A chat answer as a stream of small pieces.
fn chat_stream(completion: &Value) -> Vec<u8> {
    let message = &completion["choices"][0]["message"];
    let mut deltas = vec![json!({"role": "assistant", "content": ""})];
    let pieces = |text: &Value| -> Vec<String> {
        let chars: Vec<char> = text.as_str().unwrap_or_default().chars().collect();
        chars.chunks(5).map(String::from_iter).collect()
    };
    deltas.extend(
        pieces(&message["content"])
            .iter()
            .map(|piece| json!({"content": piece})),
    );
    deltas.extend(
        pieces(&message["refusal"])
            .iter()
            .map(|piece| json!({"refusal": piece})),
    );
    let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
    for (index, call) in calls.iter().enumerate() {
        let name = &call["function"]["name"];
        deltas.push(
            json!({"tool_calls": [{"index": index, "id": call["id"], "type": "function",
            "function": {"name": name, "arguments": ""}}]}),
        );
        deltas.extend(
            pieces(&call["function"]["arguments"])
                .iter()
                .map(|piece| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})),
        );
    }
    let chunk = |choices: Value, usage: &Value| json!({"id": completion["id"], "object": "chat.completion.chunk", "created": 1, "choices": choices, "usage": usage});
    let finish = &completion["choices"][0]["finish_reason"];
    let mut chunks: Vec<Value> = deltas
        .iter()
        .map(|delta| {
            chunk(
                json!([{"index": 0, "delta": delta, "finish_reason": null}]),
                &Value::Null,
            )
        })
        .collect();
    chunks.push(chunk(
        json!([{"index": 0, "delta": {}, "finish_reason": finish}]),
        &Value::Null,
    ));
    chunks.push(chunk(json!([]), &completion["usage"]));
    let events: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    (events + "data: [DONE]\n\n").into_bytes()
}

/// The answer of a translated stream, cut in pieces of `size` bytes.
fn streamed_back(translated: &Translated, chat: &[u8], size: usize) -> Vec<u8> {
    let mut stream = translated.back.stream().expect("a translated API");
    let mut out: Vec<u8> = chat.chunks(size).flat_map(|piece| stream.push(piece)).collect();
    out.extend(stream.finish());
    out
}

fn read(api: Api, body: &[u8]) -> Response {
    let assembled = wire::assemble(api, None, body).expect("an answer");
    wire::parse_response(api, 200, &assembled)
}

/// What a candidate's answer can say of a recorded one.
fn expected(api: Api, recorded: &Response) -> Response {
    let has_calls = !recorded.tool_calls.is_empty();
    let word = recorded.finish_reason.as_deref().unwrap_or_default();
    let word = match (api, word) {
        (Api::AnthropicMessages, "stop_sequence" | "pause_turn" | "end_turn" | "tool_use") if has_calls => "tool_use",
        (Api::AnthropicMessages, "stop_sequence" | "pause_turn") => "end_turn",
        (Api::AnthropicMessages, "model_context_window_exceeded") => "max_tokens",
        (_, word) => word,
    };
    let mut expected = recorded.clone();
    // An id that some API would not take is another one.
    for (index, call) in expected.tool_calls.iter_mut().enumerate() {
        let own = call.id.as_deref().unwrap_or_default();
        call.id = Some(tool_call_id(own, index));
    }
    expected.finish_reason = Some(word.into());
    expected.reasoning_text = String::new();
    expected
}

fn assert_reads_the_same(name: &str, api: Api, translated: &Translated, body: &[u8], recorded: &Response) {
    let back = read(api, body);
    let expected = expected(api, recorded);
    assert_eq!(back.output_text, expected.output_text, "{name}");
    assert_eq!(back.refusal, expected.refusal, "{name}");
    assert_eq!(back.tool_calls, expected.tool_calls, "{name}");
    assert_eq!(back.finish_reason, expected.finish_reason, "{name}");
    assert_eq!(
        (back.usage.input, back.usage.output),
        (expected.usage.input, expected.usage.output),
        "{name}"
    );
    assert_eq!(
        back.usage.cached.unwrap_or(0),
        expected.usage.cached.unwrap_or(0),
        "{name}"
    );
    assert_eq!(
        back.usage.cache_write.unwrap_or(0),
        expected.usage.cache_write.unwrap_or(0),
        "{name}"
    );
    assert_eq!(
        (back.error, back.partial, back.reasoning_text.as_str()),
        (None, false, ""),
        "{name}"
    );
    assert_eq!(back.model.as_deref(), Some(translated.back.model.as_str()), "{name}");
}

/// Puts every recorded answer of the translated calls there and back; how many.
fn round_trips(api: Api, translated: &[(&Exchange, Translated)]) -> usize {
    let mut round_trips = 0;
    for (exchange, translated) in translated {
        let assembled = wire::assemble(api, exchange.content_type.as_deref(), &exchange.body).expect("an answer");
        let recorded = wire::parse_response(api, exchange.status, &assembled);
        if recorded.error.is_some() || recorded.partial || recorded.finish_reason.is_none() {
            continue;
        }
        let name = &exchange.name;
        let chat = translate::to_chat("chatcmpl-1", &recorded);
        let whole = translated
            .back
            .response(chat.to_string().as_bytes())
            .expect("an answer");
        assert_eq!(whole["id"], "chatcmpl-1", "{name}");
        assert_reads_the_same(name, api, translated, whole.to_string().as_bytes(), &recorded);

        let chat = chat_stream(&chat);
        let streamed = streamed_back(translated, &chat, chat.len());
        assert_eq!(streamed_back(translated, &chat, 7), streamed, "{name}");
        assert_eq!(streamed_back(translated, &chat, 1), streamed, "{name}");
        assert_reads_the_same(name, api, translated, &streamed, &recorded);
        round_trips += 1;
    }
    eprintln!("{}: {round_trips} answers there and back", api.as_str());
    round_trips
}

#[test]
fn anthropic_messages_go_there_and_back() {
    let api = Api::AnthropicMessages;
    let exchanges = exchanges("anthropic-messages");
    let translated = translated(api, &exchanges, |_| {});
    let round_trips = round_trips(api, &translated);
    assert!(exchanges.is_empty() || translated.len() * 10 >= exchanges.len() * 6);
    assert!(exchanges.is_empty() || round_trips * 10 >= translated.len() * 8);
}

#[test]
fn responses_go_there_and_back() {
    let api = Api::OpenaiResponses;
    let exchanges = exchanges("responses");
    let as_recorded = translated(api, &exchanges, |_| {});
    let as_recorded = round_trips(api, &as_recorded);
    // Most were recorded with their state at the provider: as if they had asked it to keep none.
    let stateless = translated(api, &exchanges, |body| body["store"] = false.into());
    let round_trips = round_trips(api, &stateless);
    assert!(exchanges.is_empty() || as_recorded > 5);
    assert!(exchanges.is_empty() || stateless.len() * 10 >= exchanges.len() * 6);
    assert!(exchanges.is_empty() || round_trips * 10 >= stateless.len() * 6);
}
