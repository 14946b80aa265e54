//! Recorded calls of Gemini, Vertex, Ollama and Cohere to OpenAI chat and back: nothing said gets lost on the way.
//!
//! The recordings are not part of the repository: without them the tests over them say so and pass, except in CI.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};
use understudy_call::call::{Api, Operation, Request, Response, Role};
use understudy_call::translate::{self, Back, Refusal};
use understudy_call::wire;

const FORMATS: [&str; 6] = [
    "gemini-generate",
    "gemini-stream",
    "vertex-generate",
    "vertex-stream",
    "ollama-chat",
    "cohere-chat",
];

struct Exchange {
    name: String,
    format: &'static str,
    api: Api,
    path: String,
    request: Vec<u8>,
    status: u16,
    content_type: Option<String>,
    response: Vec<u8>,
}

impl Exchange {
    fn plain_path(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// What the recorded answer says; none where it is an error.
    fn answer(&self) -> Option<Response> {
        let assembled = wire::assemble(self.api, self.content_type.as_deref(), &self.response).ok()?;
        let answer = wire::parse_response(self.api, self.status, &assembled);
        (self.status < 400 && answer.error.is_none()).then_some(answer)
    }
}

fn exchanges() -> Vec<Exchange> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/recordings"));
    let mut exchanges = Vec::new();
    for format in FORMATS {
        let Ok(files) = fs::read_dir(folder.join(format)) else {
            assert!(
                std::env::var_os("CI").is_none(),
                "the recordings are missing: {}",
                folder.display()
            );
            eprintln!("SKIPPED: no recordings of {format} at {}", folder.display());
            continue;
        };
        let mut files: Vec<PathBuf> = files.map(|file| file.expect("a readable folder").path()).collect();
        files.retain(|file| !file.to_string_lossy().ends_with(".expect.json"));
        files.sort();
        exchanges.extend(files.iter().filter_map(|file| exchange(format, file)));
    }
    exchanges
}

/// A chat that the recording holds as text.
fn exchange(format: &'static str, file: &PathBuf) -> Option<Exchange> {
    let recorded: Value = serde_json::from_slice(&fs::read(file).expect("a readable recording")).expect("JSON");
    let path = recorded["request"]["path"].as_str()?.to_owned();
    let endpoint = wire::endpoint(path.split('?').next()?)?;
    (endpoint.operation == Operation::Chat).then_some(())?;
    Some(Exchange {
        name: file.display().to_string(),
        format,
        api: endpoint.api,
        path,
        request: recorded["request"]["body_text"].as_str()?.into(),
        status: recorded["response"]["status"].as_u64()? as u16,
        content_type: recorded["response"]["headers"]["content-type"].as_str().map(Into::into),
        response: recorded["response"]["body_text"].as_str().unwrap_or_default().into(),
    })
}

/// Text of all messages of a role, without the line ends that join parts.
fn said(request: &Request, role: Role) -> String {
    let texts = request.messages.iter().filter(|message| message.role == role);
    texts.map(|message| message.text.replace('\n', "")).collect()
}

/// Name and arguments of every call of a history.
fn called(request: &Request) -> Vec<(String, Value)> {
    let calls = request.messages.iter().flat_map(|message| &message.tool_calls);
    calls
        .map(|call| (call.name.clone(), json_of(&call.arguments)))
        .collect()
}

fn json_of(arguments: &str) -> Value {
    serde_json::from_str(arguments).unwrap_or_else(|_| arguments.into())
}

fn names(request: &Request) -> Vec<&str> {
    request.tools.iter().map(|tool| tool.name.as_str()).collect()
}

fn assert_same_request(name: &str, before: &Request, after: &Request) {
    for role in [Role::System, Role::User, Role::Assistant] {
        assert_eq!(said(before, role), said(after, role), "{name}: {role:?}");
    }
    let results = |request: &Request| {
        request
            .messages
            .iter()
            .filter(|message| message.role == Role::Tool)
            .count()
    };
    assert_eq!(results(before), results(after), "{name}");
    assert_eq!(called(before), called(after), "{name}");
    let media = |request: &Request| request.messages.iter().map(|message| message.media_parts).sum::<u32>();
    assert_eq!(media(before), media(after), "{name}");
    let offered = names(before);
    assert!(names(after).iter().all(|name| offered.contains(name)), "{name}");
    assert_eq!(after.response_format, before.response_format, "{name}");
    assert_eq!(
        (after.max_tokens, after.temperature),
        (before.max_tokens, before.temperature),
        "{name}"
    );
    assert_eq!((&after.model, after.stream), (&before.model, before.stream), "{name}");
    let mut ids = Vec::new();
    for message in &after.messages {
        ids.extend(message.tool_calls.iter().map(|call| call.id.clone().expect("an id")));
        if message.role == Role::Tool {
            let answered = message.tool_call_id.as_ref().expect("an id");
            assert!(ids.contains(answered), "{name}: {answered}");
        }
    }
}

/// A refusal without the places in lists, to count by.
fn reason(refusal: &Refusal) -> String {
    let text = refusal.to_string();
    text.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

#[test]
fn recorded_requests_say_the_same_in_chat_or_are_refused_with_a_reason() {
    let mut tally: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let mut translated = 0;
    let exchanges = exchanges();
    for exchange in &exchanges {
        let outcome = match translate::request(exchange.api, &exchange.path, &exchange.request) {
            Ok(request) => {
                translated += 1;
                let before = wire::parse_request_at(exchange.api, exchange.plain_path(), &exchange.request).unwrap();
                let body = serde_json::to_vec(&request.body).unwrap();
                let after = wire::parse_request(Api::OpenaiChat, &body).unwrap();
                assert_same_request(&exchange.name, &before, &after);
                "translated".to_owned()
            }
            Err(refusal) => reason(&refusal),
        };
        *tally.entry((exchange.format, outcome)).or_default() += 1;
    }
    for ((format, outcome), count) in &tally {
        eprintln!("{format:16} {count:3} {outcome}");
    }
    // Most of what agents ask has words in chat; this fails where a rule begins to refuse what it should not.
    assert!(
        translated * 2 >= exchanges.len(),
        "{translated} of {} translated",
        exchanges.len()
    );
}

fn back(exchange: &Exchange, stream: bool, as_array: bool) -> Back {
    Back {
        api: exchange.api,
        spoken: Api::OpenaiChat,
        created: 0,
        model: "asked-for".into(),
        stream,
        as_array,
        request: json!({}),
    }
}

/// What a candidate must answer so that a client of this API can be given it.
fn is_plain(answer: &Response) -> bool {
    let are_objects = answer
        .tool_calls
        .iter()
        .all(|call| json_of(&call.arguments).is_object());
    answer.choices == 1 && are_objects && !answer.partial && answer.finish_reason.is_some()
}

fn assert_same_answer(name: &str, before: &Response, after: &Response) {
    assert_eq!(after.output_text, before.output_text, "{name}");
    let calls = |answer: &Response| {
        let calls = answer.tool_calls.iter();
        calls
            .map(|call| (call.name.clone(), json_of(&call.arguments)))
            .collect::<Vec<_>>()
    };
    assert_eq!(calls(after), calls(before), "{name}");
    assert_eq!(
        (after.usage.input, after.usage.output),
        (before.usage.input, before.usage.output),
        "{name}"
    );
    assert_eq!(
        (&after.reasoning_text, after.partial),
        (&String::new(), false),
        "{name}"
    );
    assert_eq!(after.error, None, "{name}");
    // Words that no chat server has come back as the plain end.
    let word = before.finish_reason.as_deref().unwrap_or_default();
    if [
        "STOP",
        "MAX_TOKENS",
        "SAFETY",
        "stop",
        "length",
        "COMPLETE",
        "TOOL_CALL",
    ]
    .contains(&word)
    {
        assert_eq!(after.finish_reason.as_deref(), Some(word), "{name}");
    }
}

#[test]
fn recorded_answers_come_back_whole() {
    let mut tally: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for exchange in exchanges() {
        let count = tally.entry(exchange.format).or_default();
        let Some(before) = exchange.answer().filter(is_plain) else {
            count.1 += 1;
            continue;
        };
        count.0 += 1;
        let chat = translate::to_chat("chatcmpl-1", &before).to_string();
        let body = back(&exchange, false, false).response(chat.as_bytes());
        let body = body.unwrap_or_else(|refusal| panic!("{}: {refusal}", exchange.name));
        let assembled = wire::assemble(exchange.api, Some("application/json"), body.to_string().as_bytes()).unwrap();
        let after = wire::parse_response(exchange.api, 200, &assembled);
        assert_same_answer(&exchange.name, &before, &after);
        if exchange.api != Api::Ollama {
            assert_eq!(after.id.as_deref(), Some("chatcmpl-1"), "{}", exchange.name);
        }
    }
    report(&tally);
}

#[test]
fn recorded_answers_come_back_as_streams_however_they_are_cut() {
    let mut tally: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for exchange in exchanges() {
        let count = tally.entry(exchange.format).or_default();
        let Some(before) = exchange.answer().filter(is_plain) else {
            count.1 += 1;
            continue;
        };
        count.0 += 1;
        let chat = chat_stream(&translate::to_chat("chatcmpl-1", &before));
        let framings: &[bool] = if exchange.api == Api::Gemini {
            &[false, true]
        } else {
            &[false]
        };
        for as_array in framings {
            let back = back(&exchange, true, *as_array);
            let whole = through(&back, &chat, chat.len());
            for size in [1, 7] {
                assert_eq!(through(&back, &chat, size), whole, "{} cut at {size}", exchange.name);
            }
            let read = |body: &[u8]| {
                let assembled = wire::assemble(exchange.api, Some(back.content_type()), body).unwrap();
                wire::parse_response(exchange.api, 200, &assembled)
            };
            assert_same_answer(&exchange.name, &before, &read(&whole));
            // Up to the chunk with the finish word.
            let cut = chat.len()
                - chat
                    .rsplit("data: ")
                    .take(3)
                    .map(|event| event.len() + 6)
                    .sum::<usize>();
            let broken = through(&back, &chat[..cut], chat.len());
            let broken = read(&broken);
            assert!(
                broken.error.is_some() && broken.finish_reason.is_none_or(|word| word == "ERROR"),
                "{}",
                exchange.name
            );
        }
    }
    report(&tally);
}

fn report(tally: &BTreeMap<&str, (usize, usize)>) {
    for (format, (back, other)) in tally {
        eprintln!(
            "{format:16} {back:3} there and back, {other:3} errors and answers without an end or of many choices"
        );
    }
}

/// A whole chat answer as a stream of small pieces: three characters of text or arguments each.
fn chat_stream(completion: &Value) -> String {
    let choice = &completion["choices"][0];
    let message = &choice["message"];
    let pieces = |text: &Value| {
        let letters: Vec<char> = text.as_str().unwrap_or_default().chars().collect();
        letters
            .chunks(3)
            .map(|piece| piece.iter().collect::<String>())
            .collect::<Vec<_>>()
    };
    let mut deltas = vec![json!({"role": "assistant", "content": ""})];
    deltas.extend(
        pieces(&message["content"])
            .into_iter()
            .map(|piece| json!({"content": piece})),
    );
    for (index, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let function = json!({"name": call["function"]["name"], "arguments": ""});
        deltas.push(
            json!({"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": function}]}),
        );
        for piece in pieces(&call["function"]["arguments"]) {
            deltas.push(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}));
        }
    }
    let chunk = |choices: Value, usage: &Value| {
        let chunk = json!({"id": completion["id"], "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "slm", "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let mut stream = String::new();
    for delta in deltas {
        stream += &chunk(
            json!([{"index": 0, "delta": delta, "finish_reason": null}]),
            &Value::Null,
        );
    }
    stream += &chunk(
        json!([{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]),
        &Value::Null,
    );
    stream += &chunk(json!([]), &completion["usage"]);
    stream + "data: [DONE]\n\n"
}

fn through(back: &Back, chat: &str, size: usize) -> Vec<u8> {
    let mut stream = back.stream().expect("an API with a translation");
    let mut out: Vec<u8> = chat
        .as_bytes()
        .chunks(size.max(1))
        .flat_map(|piece| stream.push(piece))
        .collect();
    out.extend(stream.finish());
    out
}

/// A server that says late when its answer was made.
#[test]
fn times_do_not_depend_on_the_cuts() {
    let (_, path) = APIS[1];
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let back = translate::request(Api::Ollama, path, body.as_bytes()).unwrap().back;
    let chat = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n\
                data: {\"created\":1700000000,\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\n";
    let read = |size: usize| String::from_utf8(through(&back, chat, size)).unwrap();
    assert_eq!(read(1), read(chat.len()));
}

const APIS: [(Api, &str); 3] = [
    (Api::Gemini, "/v1beta/models/g:streamGenerateContent"),
    (Api::Ollama, "/api/chat"),
    (Api::CohereChat, "/v2/chat"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_request_makes_a_translation_panic(body in value_like(REQUEST_KEYS)) {
        for (api, path) in APIS {
            if let Ok(translated) = translate::request(api, path, body.to_string().as_bytes()) {
                prop_assert!(translated.body["messages"].is_array());
            }
        }
    }

    #[test]
    fn no_answer_makes_a_translation_panic(body in value_like(ANSWER_KEYS)) {
        for (api, _) in APIS {
            let back = Back { api, spoken: Api::OpenaiChat, created: 0, model: String::new(), stream: false, as_array: false, request: json!({}) };
            let _ = back.response(body.to_string().as_bytes());
        }
    }

    #[test]
    fn the_stream_is_the_same_however_the_candidates_is_cut(
        chunks in prop::collection::vec(value_like(ANSWER_KEYS), 0..8),
        size in 1usize..40,
        as_array in any::<bool>(),
    ) {
        let chat: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        for (api, _) in APIS {
            let back = Back { api, spoken: Api::OpenaiChat, created: 0, model: String::new(), stream: true, as_array, request: json!({}) };
            let whole = through(&back, &chat, chat.len());
            prop_assert_eq!(through(&back, &chat, size), whole);
        }
    }
}

const REQUEST_KEYS: &str = "contents parts role text functionCall function_response name args response id tools \
    functionDeclarations parameters type properties items anyOf nullable propertyOrdering toolConfig mode data stop \
    functionCallingConfig generationConfig responseSchema responseMimeType inlineData mimeType systemInstruction format \
    messages content images tool_calls function arguments tool_call_id options temperature image_url document \
    response_format json_schema";

const ANSWER_KEYS: &str = "id created choices delta message content tool_calls index function name arguments \
    finish_reason usage prompt_tokens completion_tokens error refusal code";

const WORDS: &str = "user model assistant tool system text function { {\"a\":1} stop length tool_calls ANY OBJECT \
    application/json image/png iVBORw0KGgo json_object image_url héllo";

/// Objects of keys that the translations know and values of any kind.
fn value_like(keys: &'static str) -> impl Strategy<Value = Value> {
    let words: Vec<&str> = WORDS.split_whitespace().chain([""]).collect();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0i64..3).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(words).prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object_of(keys, inner),
        ]
    });
    object_of(keys, value.boxed())
}

fn object_of(keys: &'static str, value: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    let keys: Vec<&str> = keys.split_whitespace().collect();
    let fields = prop::collection::vec((prop::sample::select(keys), value), 0..7);
    fields.prop_map(|fields| Value::Object(fields.into_iter().map(|(key, value)| (key.into(), value)).collect()))
}
