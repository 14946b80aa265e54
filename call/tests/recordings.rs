//! Recorded provider traffic against its oracle, field by field; and no input makes the parsers panic.
//!
//! The recordings are not part of the repository: without them the oracle tests say so and pass, except in CI.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;
use understudy_call::call::{Api, Request, Response};
use understudy_call::wire::{self, EndMark};

/// Formats whose every field must agree with the oracle (nearly) always.
const FIRST_CLASS: [&str; 2] = ["openai-chat", "anthropic-messages"];
const FIRST_CLASS_FLOOR: f64 = 0.97;

/// Fields of other dialects where the oracle follows another rule than ours, with the rate measured.
const KNOWN_DIFFERENCES: [(&str, &str, f64); 7] = [
    // The oracle ignores the `error:` field that ends a broken llama.cpp stream.
    ("gpustack-chat", "error", 0.9),
    // One stream carries an error beside an answer that was cut by its length.
    ("openrouter-chat", "error", 0.96),
    // The oracle counts an empty `function_call` (no name, no arguments) as a call.
    ("snowflake-chat", "tool_calls", 0.2),
    // To us an empty name or id is none.
    ("snowflake-chat", "model", 0.9),
    ("gemini-openai-chat", "tool_calls", 0.5),
    // The oracle reads the tools of this OpenAI dialect as Gemini's own: two keys, no names.
    ("gemini-openai-chat", "n_tools_offered", 0.0),
    ("gemini-openai-chat", "tool_names_offered", 0.0),
];

struct Exchange {
    name: String,
    format: String,
    api: Api,
    path: String,
    request: Vec<u8>,
    status: u16,
    content_type: Option<String>,
    body: Vec<u8>,
    expected: Value,
}

/// All recorded exchanges in a format that has a parser; none where the recordings are missing.
fn exchanges() -> Vec<Exchange> {
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
    let mut exchanges = Vec::new();
    for format in formats.filter_map(Result::ok).filter(|entry| entry.path().is_dir()) {
        let files = fs::read_dir(format.path())
            .expect("a readable folder")
            .filter_map(|entry| Some(entry.ok()?.path()));
        let name = format.file_name().to_string_lossy().into_owned();
        exchanges.extend(files.filter_map(|file| exchange(&name, file)));
    }
    exchanges.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(exchanges.len() > 300, "only {} exchanges found", exchanges.len());
    exchanges
}

fn exchange(format: &str, file: PathBuf) -> Option<Exchange> {
    let name = file
        .to_str()?
        .strip_suffix(".json")
        .filter(|name| !name.ends_with(".expect"))?
        .to_owned();
    let recorded = read_json(&file);
    let path = recorded["request"]["path"].as_str()?.split('?').next()?.to_owned();
    let api = wire::detect(&path);
    let has_parser = api != Api::Other;
    has_parser.then(|| Exchange {
        format: format.to_owned(),
        api,
        path,
        request: recorded["request"]["body_text"].as_str().unwrap_or_default().into(),
        status: recorded["response"]["status"].as_u64().expect("a status") as u16,
        content_type: recorded["response"]["headers"]["content-type"].as_str().map(Into::into),
        body: recorded["response"]["body_text"].as_str().unwrap_or_default().into(),
        expected: read_json(Path::new(&format!("{name}.expect.json"))),
        name,
    })
}

fn read_json(file: &Path) -> Value {
    let bytes = fs::read(file).expect("a readable recording");
    serde_json::from_slice(&bytes).expect("a recording in JSON")
}

fn sha256(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Our value of each oracle field, in the oracle's words.
fn fields(
    exchange: &Exchange,
    request: &Request,
    response: &Response,
    streamed: bool,
) -> BTreeMap<&'static str, Value> {
    let usage = &response.usage;
    let calls = response.tool_calls.iter().map(|call| {
        let arguments = serde_json::from_str(&call.arguments).unwrap_or(Value::String(call.arguments.clone()));
        serde_json::json!({"id": call.id, "name": call.name, "arguments": arguments})
    });
    let names = offered_names(exchange, request);
    let model = request.model.as_deref();
    // The oracle gives no answer's fields for an error response.
    let choices = if exchange.status >= 400 {
        Value::Null
    } else {
        response.choices.into()
    };
    BTreeMap::from([
        ("model", response.model.clone().into()),
        ("request_model", model.into()),
        ("input_tokens", usage.input.into()),
        ("output_tokens", usage.output.into()),
        ("cached_tokens", usage.cached.into()),
        ("cache_write_tokens", usage.cache_write.into()),
        ("reasoning_tokens", usage.reasoning.into()),
        ("finish_reason", response.finish_reason.clone().into()),
        ("output_text_sha256", sha256(&response.output_text).into()),
        ("output_text_len", response.output_text.chars().count().into()),
        ("tool_calls", Value::Array(calls.collect())),
        ("server_tool_calls", response.server_tool_calls.clone().into()),
        ("n_choices", choices),
        ("n_tools_offered", request.tools.len().into()),
        ("tool_names_offered", names.into()),
        ("error", response.error.clone().unwrap_or_default()),
        ("partial", response.partial.into()),
        ("stream", streamed.into()),
    ])
}

/// The oracle leaves a provider-side tool without a name out; we keep it under its type.
fn offered_names(exchange: &Exchange, request: &Request) -> Vec<String> {
    let body: Value = serde_json::from_slice(&exchange.request).unwrap_or_default();
    let tools = body["tools"].as_array().cloned().unwrap_or_default();
    let is_nameless = |name: &str| tools.iter().any(|tool| tool["type"] == name && tool["name"].is_null());
    request
        .tools
        .iter()
        .map(|tool| tool.name.clone())
        .filter(|name| !is_nameless(name))
        .collect()
}

/// Null and empty mean the same where the oracle had nothing to look at.
fn agree(field: &str, ours: &Value, expected: &Value) -> bool {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match field {
        // Of no text the oracle says null or nothing at all.
        "output_text_sha256" => ours == expected || (expected.is_null() && *ours == sha256("")),
        "output_text_len" => ours == expected || (expected.is_null() && *ours == 0),
        "tool_calls" | "server_tool_calls" | "tool_names_offered" => {
            ours == expected || (is_nothing(ours) && is_nothing(expected))
        }
        _ => ours == expected,
    }
}

#[test]
fn recordings_agree_with_the_oracle() {
    let mut tally: BTreeMap<(String, &str), (usize, usize)> = BTreeMap::new();
    for exchange in exchanges() {
        let request = wire::parse_request_at(exchange.api, &exchange.path, &exchange.request).unwrap();
        let assembled = wire::assemble(exchange.api, exchange.content_type.as_deref(), &exchange.body).unwrap();
        let response = wire::parse_response(exchange.api, exchange.status, &assembled);
        for (field, ours) in fields(&exchange, &request, &response, assembled.streamed) {
            let expected = &exchange.expected[field];
            let (agreed, all) = tally.entry((exchange.format.clone(), field)).or_default();
            *all += 1;
            if agree(field, &ours, expected) {
                *agreed += 1;
            } else {
                eprintln!("{}: {field} is {ours}, expected {expected}", exchange.name);
            }
        }
    }
    report(&tally);
    for ((format, field), (agreed, all)) in &tally {
        let floor = KNOWN_DIFFERENCES
            .iter()
            .find(|(f, name, _)| f == format && name == field)
            .map_or(1.0, |known| known.2);
        let floor = if FIRST_CLASS.contains(&format.as_str()) {
            FIRST_CLASS_FLOOR
        } else {
            floor
        };
        let rate = *agreed as f64 / *all as f64;
        assert!(rate >= floor, "{format}, {field}: {agreed} of {all} agree");
    }
}

fn report(tally: &BTreeMap<(String, &str), (usize, usize)>) {
    let mut formats: BTreeMap<&str, (usize, usize, usize, Vec<String>)> = BTreeMap::new();
    for ((format, field), (agreed, all)) in tally {
        let line = formats.entry(format).or_default();
        line.0 = *all;
        line.1 += agreed;
        line.2 += all;
        if agreed < all {
            line.3.push(format!("{field} {agreed}/{all}"));
        }
    }
    for (format, (exchanges, agreed, all, missed)) in formats {
        let rate = 100.0 * agreed as f64 / all as f64;
        eprintln!(
            "{format:20} {exchanges:3} exchanges, {agreed:4}/{all:4} fields = {rate:6.2} %  {}",
            missed.join(", ")
        );
    }
}

#[test]
fn end_marks_are_seen_however_the_stream_is_cut() {
    let mut streams = 0;
    for exchange in exchanges()
        .iter()
        .filter(|exchange| exchange.expected["stream"] == true)
    {
        let seen = |size: usize| {
            let mut end_mark = EndMark::new(exchange.api);
            exchange
                .body
                .chunks(size.max(1))
                .fold(false, |_, piece| end_mark.push(piece))
        };
        let whole = seen(exchange.body.len());
        let text = String::from_utf8_lossy(&exchange.body);
        assert_eq!(
            whole,
            text.contains("\ndata: [DONE]") || text.contains("\nevent: message_stop"),
            "{}",
            exchange.name
        );
        assert_eq!((seen(7), seen(1)), (whole, whole), "{}", exchange.name);
        streams += 1;
    }
    assert!(streams == 0 || streams > 100, "only {streams} streams");
}

#[test]
fn output_starts_after_the_first_event_that_has_some() {
    for exchange in exchanges() {
        let content_type = exchange.content_type.as_deref();
        let start = wire::output_starts_at(exchange.api, content_type, &exchange.body);
        let assembled = wire::assemble(exchange.api, content_type, &exchange.body).unwrap();
        let response = wire::parse_response(exchange.api, exchange.status, &assembled);
        let has_output = !response.is_empty() || !response.reasoning_text.is_empty();
        if !assembled.streamed {
            assert_eq!(start, None, "{}", exchange.name);
        } else if has_output {
            let end = start.unwrap_or_else(|| panic!("{}: no output found", exchange.name));
            let before = wire::assemble(exchange.api, Some("text/event-stream"), &exchange.body[..end]).unwrap();
            let first = wire::parse_response(exchange.api, 200, &before);
            assert!(
                first.output_text.len() <= response.output_text.len(),
                "{}",
                exchange.name
            );
            assert!(
                end <= exchange.body.len() && exchange.body[..end].ends_with(b"\n\n"),
                "{}",
                exchange.name
            );
        }
    }
}

#[test]
fn replacing_the_model_changes_nothing_else() {
    for exchange in exchanges() {
        let Some(replaced) = wire::replace_model(&exchange.request, "the-candidate") else {
            continue;
        };
        let mut expected: Value = serde_json::from_slice(&exchange.request).unwrap();
        let model = expected["model"].as_str().unwrap().to_owned();
        expected["model"] = "the-candidate".into();
        assert_eq!(
            serde_json::from_slice::<Value>(&replaced).unwrap(),
            expected,
            "{}",
            exchange.name
        );
        let back = wire::replace_model(&replaced, &model).unwrap();
        assert_eq!(back, exchange.request, "{}", exchange.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_parsers_panic(
        body in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), stream_like()],
        is_stream in any::<bool>(),
        status in 0u16..600,
    ) {
        let content_type = is_stream.then_some("text/event-stream");
        for api in [Api::OpenaiChat, Api::AnthropicMessages, Api::Other] {
            let _ = wire::parse_request(api, &body);
            wire::output_starts_at(api, content_type, &body);
            if let Ok(assembled) = wire::assemble(api, content_type, &body) {
                wire::parse_response(api, status, &assembled);
            }
        }
        wire::replace_model(&body, "x");
    }
}

/// Streams of events whose keys the parsers know and whose values are of any kind.
fn stream_like() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "text",
            "{",
            "message_start",
            "content_block_delta",
            "content_block_start",
            "message_delta",
            "error"
        ])
        .prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "type",
        "index",
        "choices",
        "delta",
        "message",
        "content",
        "tool_calls",
        "function",
        "arguments",
        "name",
        "id",
        "usage",
        "error",
        "text",
        "thinking",
        "content_block",
        "partial_json",
        "citation",
        "audio",
        "logprobs",
        "x_groq",
        "finish_reason",
        "function_call",
        "input",
        "model",
    ]);
    let value = leaf.prop_recursive(5, 60, 6, move |inner| {
        let object = prop::collection::vec((keys.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(key, value)| (key.into(), value)).collect())),
        ]
    });
    prop::collection::vec(value, 0..8).prop_map(|events| {
        events
            .iter()
            .map(|event| format!("data: {event}\n\n"))
            .collect::<String>()
            .into_bytes()
    })
}
