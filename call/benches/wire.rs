//! How fast each API's bodies are read, in bytes a second on one core, and that a stream's reading stays linear in its
//! length: the rate at 2 MiB is that at 32 KiB.
//!
//! Each case checks its answer before the clock starts.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};
use std::hint::black_box;
use understudy_call::call::Api;
use understudy_call::wire::{assemble, parse_request, parse_response};

const WORD: &str = "understudies learn ";

/// One API's stream: its media type, its first events, one per word, its last.
struct Stream {
    api: Api,
    content_type: &'static str,
    begin: Vec<u8>,
    word: Vec<u8>,
    end: Vec<u8>,
}

impl Stream {
    /// A stream of about so many bytes, and the text that it says.
    fn of_bytes(&self, bytes: usize) -> (Vec<u8>, String) {
        let words = bytes / self.word.len();
        let mut body = self.begin.clone();
        (0..words).for_each(|_| body.extend_from_slice(&self.word));
        body.extend_from_slice(&self.end);
        (body, WORD.repeat(words))
    }
}

fn event(data: &Value) -> Vec<u8> {
    let name = data["type"]
        .as_str()
        .map_or_else(String::new, |name| format!("event: {name}\n"));
    format!("{name}data: {data}\n\n").into_bytes()
}

fn line(data: &Value) -> Vec<u8> {
    format!("{data}\n").into_bytes()
}

/// A message of AWS's event stream.
fn message(name: &str, payload: &Value) -> Vec<u8> {
    let mut headers = Vec::new();
    for (key, value) in [(":event-type", name), (":message-type", "event")] {
        headers.push(key.len() as u8);
        headers.extend_from_slice(key.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let total = (16 + headers.len() + payload.len()) as u32;
    let mut message = [total.to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
    message.extend_from_slice(&crc32fast::hash(&message).to_be_bytes());
    message.extend_from_slice(&headers);
    message.extend_from_slice(payload.as_bytes());
    message.extend_from_slice(&crc32fast::hash(&message).to_be_bytes());
    message
}

fn streams() -> Vec<Stream> {
    let chat = |delta: Value, finish: Value| {
        json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    };
    let gemini = |text: &str, finish: Value| {
        json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish}],
            "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 7}, "modelVersion": "m"})
    };
    let ollama = |text: &str, done: bool| json!({"model": "m", "message": {"role": "assistant", "content": text}, "done": done, "done_reason": "stop"});
    vec![
        Stream {
            api: Api::OpenaiChat,
            content_type: "text/event-stream",
            begin: Vec::new(),
            word: event(&chat(json!({"content": WORD}), Value::Null)),
            end: [event(&chat(json!({}), "stop".into())), b"data: [DONE]\n\n".to_vec()].concat(),
        },
        Stream {
            api: Api::OpenaiResponses,
            content_type: "text/event-stream",
            begin: [
                event(&json!({"type": "response.created", "response": {"id": "r", "model": "m", "output": []}})),
                event(&json!({"type": "response.output_item.added", "output_index": 0,
                    "item": {"type": "message", "id": "msg_1", "role": "assistant", "content": []}})),
                event(
                    &json!({"type": "response.content_part.added", "item_id": "msg_1", "output_index": 0,
                    "content_index": 0, "part": {"type": "output_text", "text": ""}}),
                ),
            ]
            .concat(),
            word: event(
                &json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0,
                "content_index": 0, "delta": WORD}),
            ),
            // Cut: the final event, which repeats all, would leave nothing to fold.
            end: Vec::new(),
        },
        Stream {
            api: Api::OpenaiCompletions,
            content_type: "text/event-stream",
            begin: Vec::new(),
            word: event(&json!({"id": "cmpl-1", "model": "m", "choices": [{"index": 0, "text": WORD}]})),
            end: b"data: [DONE]\n\n".to_vec(),
        },
        Stream {
            api: Api::AnthropicMessages,
            content_type: "text/event-stream",
            begin: [
                event(
                    &json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "model": "m",
                    "role": "assistant", "content": [], "usage": {"input_tokens": 5, "output_tokens": 1}}}),
                ),
                event(&json!({"type": "content_block_start", "index": 0,
                    "content_block": {"type": "text", "text": ""}})),
            ]
            .concat(),
            word: event(&json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": WORD}})),
            end: event(&json!({"type": "message_stop"})),
        },
        Stream {
            api: Api::Gemini,
            content_type: "text/event-stream",
            begin: Vec::new(),
            word: event(&gemini(WORD, Value::Null)),
            end: event(&gemini("", "STOP".into())),
        },
        Stream {
            api: Api::Gemini,
            content_type: "application/json",
            begin: b"[".to_vec(),
            word: format!("{:#},\r\n", gemini(WORD, Value::Null)).into_bytes(),
            end: format!("{:#}\r\n]", gemini("", "STOP".into())).into_bytes(),
        },
        Stream {
            api: Api::Ollama,
            content_type: "application/x-ndjson",
            begin: Vec::new(),
            word: line(&ollama(WORD, false)),
            end: line(&ollama("", true)),
        },
        Stream {
            api: Api::BedrockConverse,
            content_type: "application/vnd.amazon.eventstream",
            begin: Vec::new(),
            word: message(
                "contentBlockDelta",
                &json!({"contentBlockIndex": 0, "delta": {"text": WORD}, "p": "abcdef"}),
            ),
            end: message("messageStop", &json!({"stopReason": "end_turn"})),
        },
        Stream {
            api: Api::CohereChat,
            content_type: "text/event-stream",
            begin: Vec::new(),
            word: event(&json!({"type": "content-delta", "index": 0,
                "delta": {"message": {"content": {"type": "text", "text": WORD}}}})),
            end: event(&json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}})),
        },
    ]
}

/// What a stream says once it is read.
fn text(stream: &Stream, body: &[u8]) -> String {
    let assembled = assemble(stream.api, Some(stream.content_type), body).expect("a stream");
    parse_response(stream.api, 200, &assembled).output_text
}

fn assembling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream");
    group.sample_size(20);
    for stream in streams() {
        for kilobytes in [32, 256, 2048] {
            let (body, said) = stream.of_bytes(kilobytes << 10);
            assert_eq!(text(&stream, &body), said, "{}", stream.api.as_str());
            let framing = stream.content_type.rsplit(['/', '-', '.']).next().unwrap_or_default();
            let name = format!("{}/{framing}", stream.api.as_str());
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_with_input(
                BenchmarkId::new(name, format!("{kilobytes}K")),
                &body,
                |bencher, body| {
                    bencher.iter(|| text(&stream, black_box(body)).len());
                },
            );
        }
    }
    group.finish();
}

/// A request of each API whose conversation holds so many turns.
fn request(api: Api, turns: usize) -> Value {
    let say = |turn: usize| format!("Turn {turn}: {}", WORD.repeat(20));
    let user_or = |model: &str, turn: usize| {
        if turn.is_multiple_of(2) {
            "user".to_owned()
        } else {
            model.to_owned()
        }
    };
    let messages = |content: &dyn Fn(String) -> Value| -> Value {
        (0..turns)
            .map(|turn| json!({"role": user_or("assistant", turn), "content": content(say(turn))}))
            .collect()
    };
    match api {
        Api::OpenaiResponses => json!({"model": "m", "input": messages(&Value::String)}),
        Api::OpenaiCompletions => json!({"model": "m", "prompt": (0..turns).map(say).collect::<String>()}),
        Api::OpenaiEmbeddings => json!({"model": "m", "input": (0..turns).map(say).collect::<Vec<_>>()}),
        Api::Gemini => {
            let contents: Value = (0..turns)
                .map(|turn| json!({"role": user_or("model", turn), "parts": [{"text": say(turn)}]}))
                .collect();
            json!({"contents": contents})
        }
        Api::BedrockConverse => json!({"messages": messages(&|text| json!([{"text": text}]))}),
        _ => json!({"model": "m", "messages": messages(&Value::String), "max_tokens": 5}),
    }
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    group.sample_size(20);
    for api in Api::ALL.into_iter().filter(|api| *api != Api::Other) {
        let body = request(api, 80).to_string();
        let parsed = parse_request(api, body.as_bytes()).expect("a request");
        let said: usize = parsed.messages.iter().map(|message| message.text.len()).sum();
        assert!(said > 80 * 380, "{}: {said} bytes of text", api.as_str());
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(api.as_str(), |bencher| {
            bencher.iter(|| parse_request(api, black_box(body.as_bytes())).map(|request| request.messages.len()));
        });
    }
    group.finish();
}

criterion_group!(benches, assembling, requests);
criterion_main!(benches);
