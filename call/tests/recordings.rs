//! Recorded provider traffic against its oracle, field by field; and no input makes the parsers panic.
//!
//! Every recorded format is covered whose API has a parser. The recordings are not part of the repository: without them
//! the oracle tests say so and pass, except in CI.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::Value;
use understudy_call::call::{Api, Operation, Request, Response, Usage};
use understudy_call::wire::{self, Assembled, EndMark};

/// How often each field must agree over all formats, and all fields of each format; known differences aside.
const FIELD_FLOOR: f64 = 0.99;
const FORMAT_FLOOR: f64 = 0.97;

/// APIs that no parser reads yet: their formats are left out, out loud, until it does.
const NOT_YET_READ: [Api; 0] = [];

/// Where the oracle and we differ on purpose: format, field, in how many exchanges at most, and why.
const KNOWN_DIFFERENCES: [(&str, &str, usize, &str); 19] = [
    (
        "gpustack-chat",
        "error",
        1,
        "the oracle ignores the `error:` line that ends a broken stream of llama.cpp",
    ),
    (
        "openrouter-chat",
        "error",
        1,
        "the oracle ignores an error in a chunk that has choices too",
    ),
    ("snowflake-chat", "model", 1, "to us an empty name is none"),
    ("gemini-openai-chat", "tool_calls", 1, "to us an empty id is none"),
    (
        "gemini-openai-chat",
        "n_tools_offered",
        2,
        "the oracle counts the keys of a tool, as in Gemini's own API",
    ),
    ("gemini-openai-chat", "tool_names_offered", 2, "as above"),
    (
        "mistral-chat",
        "cached_tokens",
        3,
        "the oracle looks for the number in the details alone",
    ),
    (
        "writer-completions",
        "output_text_len",
        1,
        "the oracle does not know Writer's stream of `value`",
    ),
    ("writer-completions", "output_text_sha256", 1, "as above"),
    ("writer-completions", "n_choices", 1, "as above"),
    (
        "bedrock-converse-stream",
        "tool_names_offered",
        1,
        "the oracle leaves the names of tools out that the provider runs",
    ),
    (
        "bedrock-invoke",
        "n_choices",
        1,
        "the oracle counts no choices of Titan's and Nova's own formats",
    ),
    ("bedrock-invoke-stream", "n_choices", 8, "as above"),
    (
        "anthropic-complete",
        "n_choices",
        1,
        "the oracle counts no choices of a legacy completion",
    ),
    (
        "anthropic-messages",
        "reasoning_tokens",
        2,
        "the oracle leaves the thinking tokens in its raw usage",
    ),
    (
        "cohere-chat",
        "n_choices",
        25,
        "the oracle counts no choices in this API",
    ),
    (
        "gemini-embeddings",
        "input_tokens",
        3,
        "the oracle does not look for the tokens of vectors",
    ),
    ("vertex-embeddings", "input_tokens", 2, "as above"),
    (
        "gemini-stream",
        "stream",
        1,
        "an error is plain JSON, whatever its content type says",
    ),
];

struct Exchange {
    name: String,
    format: String,
    api: Api,
    path: String,
    request: Vec<u8>,
    status: u16,
    content_type: Option<String>,
    /// What the response's headers count.
    header_usage: Usage,
    body: Vec<u8>,
    expected: Value,
}

/// All recorded exchanges in a format whose API is read; none where the recordings are missing.
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
    for api in Api::ALL {
        let is_read = exchanges
            .iter()
            .filter(|exchange| exchange.api == api)
            .any(Exchange::is_read);
        if !is_read && exchanges.iter().any(|exchange| exchange.api == api) {
            assert!(NOT_YET_READ.contains(&api), "{api:?} is not read");
            eprintln!("SKIPPED: {api:?} has no parser");
            exchanges.retain(|exchange| exchange.api != api);
        }
    }
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
    assert_ne!(api, Api::Other, "{name}: no API has the path {path}");
    Some(Exchange {
        format: format.to_owned(),
        api,
        path,
        request: body(&recorded["request"]),
        status: recorded["response"]["status"].as_u64().expect("a status") as u16,
        content_type: recorded["response"]["headers"]["content-type"].as_str().map(Into::into),
        header_usage: wire::usage_in_headers(|header| recorded["response"]["headers"][header].as_str()),
        body: body(&recorded["response"]),
        expected: read_json(Path::new(&format!("{name}.expect.json"))),
        name,
    })
}

impl Exchange {
    fn assembled(&self) -> Assembled {
        wire::assemble(self.api, self.content_type.as_deref(), &self.body).unwrap_or_default()
    }

    /// Whether the parser finds anything in the answer.
    fn is_read(&self) -> bool {
        let assembled = Assembled {
            error: None,
            partial: false,
            ..self.assembled()
        };
        let response = wire::parse_response(self.api, 200, &assembled);
        response
            != Response {
                error: response.error.clone(),
                ..Response::default()
            }
    }
}

fn body(message: &Value) -> Vec<u8> {
    match message["body_b64"].as_str() {
        Some(binary) => STANDARD.decode(binary).expect("base64"),
        None => message["body_text"].as_str().unwrap_or_default().into(),
    }
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
    let usage = response.usage.or(exchange.header_usage);
    let calls = response.tool_calls.iter().map(|call| {
        let arguments = serde_json::from_str(&call.arguments).unwrap_or(Value::String(call.arguments.clone()));
        serde_json::json!({"id": call.id, "name": call.name, "arguments": arguments})
    });
    let names = offered_names(exchange, request);
    let model = request.model.as_deref();
    // Neither of an error response nor of vectors does the oracle count choices.
    let has_choices = exchange.status < 400 && !matches!(request.operation, Operation::Embed | Operation::CountTokens);
    let choices = if has_choices {
        response.choices.into()
    } else {
        Value::Null
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

/// The oracle leaves a provider-side tool without a name out; we keep it under its type, in Gemini's API under its key.
fn offered_names(exchange: &Exchange, request: &Request) -> Vec<String> {
    let body: Value = serde_json::from_slice(&exchange.request).unwrap_or_default();
    let tools = body["tools"].as_array().cloned().unwrap_or_default();
    let is_key = |tool: &Value, name: &str| exchange.api == Api::Gemini && tool.get(name).is_some();
    let is_type = |tool: &Value, name: &str| tool["type"] == name && tool["name"].is_null();
    let is_nameless = |name: &str| tools.iter().any(|tool| is_key(tool, name) || is_type(tool, name));
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
        let assembled = exchange.assembled();
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
    let by_format = sums(&tally, |(format, _)| format.as_str());
    let by_field = sums(&tally, |(_, field)| *field);
    report(&tally, &by_format);
    report(&tally, &by_field);
    for (sums, floor) in [(by_format, FORMAT_FLOOR), (by_field, FIELD_FLOOR)] {
        for (name, sum) in sums {
            let misses = sum.all - sum.agreed - sum.known;
            assert!(
                misses as f64 <= (1.0 - floor) * sum.all as f64,
                "{name}: {misses} of {} differ",
                sum.all
            );
        }
    }
    let formats: BTreeSet<&str> = tally.keys().map(|(format, _)| format.as_str()).collect();
    for (format, field, _, why) in KNOWN_DIFFERENCES.iter().filter(|known| formats.contains(known.0)) {
        let (agreed, all) = tally[&(format.to_string(), *field)];
        assert!(agreed < all, "{format}, {field}: no difference any more ({why})");
    }
}

#[derive(Default)]
struct Sum {
    agreed: usize,
    all: usize,
    /// Differences that [`KNOWN_DIFFERENCES`] allows.
    known: usize,
}

fn sums<'a>(
    tally: &'a BTreeMap<(String, &'static str), (usize, usize)>,
    name: impl Fn(&'a (String, &'static str)) -> &'a str,
) -> BTreeMap<&'a str, Sum> {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for (key, (agreed, all)) in tally {
        let known = KNOWN_DIFFERENCES
            .iter()
            .find(|known| known.0 == key.0 && known.1 == key.1);
        let sum = sums.entry(name(key)).or_default();
        sum.agreed += agreed;
        sum.all += all;
        sum.known += known.map_or(0, |known| known.2.min(all - agreed));
    }
    sums
}

fn report(tally: &BTreeMap<(String, &'static str), (usize, usize)>, sums: &BTreeMap<&str, Sum>) {
    eprintln!();
    for (name, sum) in sums {
        let rate = 100.0 * sum.agreed as f64 / sum.all as f64;
        let missed: Vec<String> = tally
            .iter()
            .filter(|((format, field), (agreed, all))| (format == name || field == name) && agreed < all)
            .map(|((format, field), (agreed, all))| format!("{format} {field} {agreed}/{all}"))
            .collect();
        let Sum { agreed, all, known } = sum;
        eprintln!(
            "{name:24} {agreed:5}/{all:5} = {rate:6.2} % ({known} known)  {}",
            missed.join(", ")
        );
    }
}

#[test]
fn a_kept_body_reads_the_same_again() {
    for exchange in exchanges() {
        let assembled = exchange.assembled();
        let again = wire::assemble(exchange.api, None, assembled.body.to_string().as_bytes()).unwrap();
        assert_eq!(again.body, assembled.body, "{}", exchange.name);
        assert!(!again.streamed, "{}", exchange.name);
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
        let marks: &[&str] = match exchange.api {
            Api::OpenaiChat | Api::OpenaiCompletions => &["\ndata: [DONE]"],
            Api::OpenaiResponses => &["response.completed\"", "response.incomplete\"", "response.failed\""],
            Api::AnthropicMessages => &["\nevent: message_stop"],
            _ => &[],
        };
        if !marks.is_empty() {
            let has_mark = marks.iter().any(|mark| text.contains(mark));
            assert_eq!(whole, has_mark, "{}", exchange.name);
        }
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
        let assembled = exchange.assembled();
        let response = wire::parse_response(exchange.api, exchange.status, &assembled);
        match start {
            Some(end) => {
                let before = wire::assemble(exchange.api, content_type, &exchange.body[..end]).unwrap();
                let first = wire::parse_response(exchange.api, 200, &before);
                let has_some = has_output(&first) || !first.server_tool_calls.is_empty();
                assert!(assembled.streamed && has_some, "{}: no output yet", exchange.name);
                assert!(
                    first.output_text.len() <= response.output_text.len(),
                    "{}",
                    exchange.name
                );
            }
            None => assert!(
                !assembled.streamed || !has_output(&response),
                "{}: no output found",
                exchange.name
            ),
        }
    }
}

fn has_output(response: &Response) -> bool {
    !response.is_empty() || !response.reasoning_text.is_empty() || response.refusal.is_some()
}

#[test]
fn a_stream_cut_anywhere_yields_the_text_that_had_come() {
    let family = [
        Api::OpenaiChat,
        Api::OpenaiResponses,
        Api::OpenaiCompletions,
        Api::AnthropicMessages,
    ];
    for exchange in exchanges().iter().filter(|exchange| family.contains(&exchange.api)) {
        let whole = exchange.assembled();
        let text = wire::parse_response(exchange.api, exchange.status, &whole).output_text;
        let mut last = 0;
        for cut in (1..=20)
            .filter(|_| whole.streamed)
            .map(|part| exchange.body.len() * part / 20)
        {
            let assembled =
                wire::assemble(exchange.api, exchange.content_type.as_deref(), &exchange.body[..cut]).unwrap();
            let so_far = wire::parse_response(exchange.api, exchange.status, &assembled).output_text;
            assert!(text.starts_with(&so_far), "{} at {cut}", exchange.name);
            assert!(so_far.len() >= last, "{} at {cut}: text was lost", exchange.name);
            last = so_far.len();
        }
        assert!(!whole.streamed || last == text.len(), "{}", exchange.name);
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
        content_type in prop::option::of(prop::sample::select(vec![
            "application/json",
            "application/x-ndjson",
            "text/event-stream",
            "application/vnd.amazon.eventstream",
        ])),
        status in 0u16..600,
    ) {
        for api in Api::ALL {
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
            "error",
            "message",
            "function_call",
            "reasoning",
            "x_output",
            "response.created",
            "response.completed",
            "response.output_item.added",
            "response.output_item.done",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.output_text.annotation.added",
            "response.reasoning_summary_text.delta",
            "response.function_call_arguments.delta",
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
        "response",
        "item",
        "item_id",
        "part",
        "output",
        "output_index",
        "content_index",
        "summary",
        "call_id",
        "annotation",
        "annotations",
        "status",
        "prompt",
        "value",
        "timings",
        "reasoning_details",
        "reasoning_content",
        "instructions",
        "tools",
        "messages",
        "role",
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
