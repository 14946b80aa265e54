use serde_json::json;

use super::super::super::Stream;
use super::super::*;
use crate::call::Api;

fn back(as_array: bool) -> Back {
    Back {
        spoken: crate::call::Api::OpenaiChat,
        created: 0,
        api: Api::Gemini,
        model: "gemini-x".into(),
        stream: true,
        as_array,
        request: json!({}),
    }
}

/// What the client gets of a chat stream of these chunks.
fn streamed(as_array: bool, chunks: &[Value], is_done: bool) -> String {
    let mut stream: Stream = back(as_array).stream().unwrap();
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend(stream.push(format!("data: {chunk}\n\n").as_bytes()));
    }
    if is_done {
        out.extend(stream.push(b"data: [DONE]\n\n"));
    }
    out.extend(stream.finish());
    String::from_utf8(out).unwrap()
}

fn piece(delta: Value) -> Value {
    json!({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta}]})
}

fn finish(word: &str) -> Value {
    json!({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": word}]})
}

fn call(index: usize, name: &str, arguments: &str) -> Value {
    let function = json!({"name": name, "arguments": arguments});
    piece(
        json!({"tool_calls": [{"index": index, "id": format!("c{index}"), "type": "function", "function": function}]}),
    )
}

#[test]
fn the_whole_answer_is_a_candidate() {
    let completion = json!({
        "id": "chatcmpl-1", "model": "slm", "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "Looking.", "reasoning_content": "hm",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{\"a\": 1}"}}],
        }}],
        "usage": {
            "prompt_tokens": 10, "completion_tokens": 8, "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 3},
        },
    });
    let answer = back(false).response(completion.to_string().as_bytes()).unwrap();
    let expected = json!({
        "candidates": [{
            "content": {"parts": [{"text": "Looking."}, {"functionCall": {"name": "look", "args": {"a": 1}}}], "role": "model"},
            "finishReason": "STOP",
            "index": 0,
        }],
        "usageMetadata": {
            "promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 18,
            "cachedContentTokenCount": 4, "thoughtsTokenCount": 3,
        },
        "modelVersion": "gemini-x",
        "responseId": "chatcmpl-1",
    });
    assert_eq!(answer, expected);
}

#[test]
fn finish_words_are_geminis() {
    let finish = |message: Value, word: &str| {
        let completion = json!({"choices": [{"index": 0, "message": message, "finish_reason": word}]});
        let answer = back(false).response(completion.to_string().as_bytes()).unwrap();
        answer["candidates"][0].clone()
    };
    for (word, expected) in [
        ("stop", "STOP"),
        ("tool_calls", "STOP"),
        ("length", "MAX_TOKENS"),
        ("content_filter", "SAFETY"),
    ] {
        let candidate = finish(json!({"content": "a"}), word);
        assert_eq!(candidate["finishReason"], expected);
        assert!(candidate.get("finishMessage").is_none());
    }
    let cut = json!({"content": "a", "tool_calls": [
        {"function": {"name": "f", "arguments": "{}"}}, {"function": {"name": "g", "arguments": "{\"a\": "}},
    ]});
    let malformed = finish(cut.clone(), "tool_calls");
    assert_eq!(malformed["finishReason"], "MALFORMED_FUNCTION_CALL");
    assert!(malformed["finishMessage"].as_str().unwrap().ends_with(": g"));
    assert_eq!(malformed["content"]["parts"], json!([{"text": "a"}]));
    let odd_name = json!({"content": "a", "tool_calls": [{"function": {"name": "not plain", "arguments": "{}"}}]});
    assert_eq!(
        finish(odd_name, "tool_calls")["finishReason"],
        "MALFORMED_FUNCTION_CALL"
    );
    let short = finish(cut, "length");
    assert_eq!(
        (&short["finishReason"], &short["content"]["parts"]),
        (&json!("MAX_TOKENS"), &json!([{"text": "a"}]))
    );
    let refused = finish(json!({"content": null, "refusal": "No."}), "stop");
    assert_eq!(refused["content"]["parts"], json!([{"text": "No."}]));
}

#[test]
fn a_stream_is_chunks_with_crlf_and_calls_in_the_last() {
    let chunks = [
        piece(json!({"role": "assistant", "content": ""})),
        piece(json!({"reasoning_content": "hm"})),
        piece(json!({"content": "Hél"})),
        piece(json!({"content": "lo"})),
        call(0, "a", ""),
        call(1, "b", "{\"x\""),
        piece(json!({"tool_calls": [{"index": 1, "function": {"arguments": ": 1}"}}]})),
        finish("tool_calls"),
        json!({"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
    ];
    let out = streamed(false, &chunks, true);
    let events: Vec<&str> = out.split_terminator("\r\n\r\n").collect();
    let chunks: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    let text = |text: &str| {
        json!({
            "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}],
            "modelVersion": "gemini-x", "responseId": "chatcmpl-1",
        })
    };
    let last = json!({
        "candidates": [{
            "content": {"parts": [{"functionCall": {"name": "a", "args": {}}}, {"functionCall": {"name": "b", "args": {"x": 1}}}], "role": "model"},
            "finishReason": "STOP",
            "index": 0,
        }],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
        "modelVersion": "gemini-x", "responseId": "chatcmpl-1",
    });
    assert_eq!(chunks, [text("Hél"), text("lo"), last]);
    assert!(!out.contains("hm") && !out.contains("thought"));
}

#[test]
fn a_stream_without_sse_is_one_growing_array() {
    let chunks = [
        piece(json!({"content": "a"})),
        piece(json!({"content": "b"})),
        finish("stop"),
    ];
    let out = streamed(true, &chunks, false);
    let array: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(array.as_array().unwrap().len(), 3);
    assert!(out.lines().any(|line| line == ","), "a comma stands alone: {out}");
    let cut = streamed(true, &chunks[..2], false);
    let cut: Value = serde_json::from_str(&cut).unwrap();
    assert_eq!(cut[2]["error"]["message"], "the answer broke off");
}

#[test]
fn a_stream_that_breaks_off_never_looks_complete() {
    for as_array in [false, true] {
        let chunks = [piece(json!({"content": "a"})), call(0, "f", "{}")];
        let out = streamed(as_array, &chunks, true);
        assert!(!out.contains("finishReason") && !out.contains("functionCall"), "{out}");
        assert!(out.contains("the answer broke off"), "{out}");
    }
    let malformed = streamed(false, &[call(0, "f", "{\"a\""), finish("tool_calls")], true);
    assert!(malformed.contains("MALFORMED_FUNCTION_CALL") && !malformed.contains("functionCall\""));
}

#[test]
fn an_error_in_the_stream_is_the_last_chunk() {
    let error = json!({"error": {"message": "too long", "code": 400}});
    let chunks = [piece(json!({"content": "a"})), error, finish("stop")];
    let out = streamed(false, &chunks, true);
    let last = out.trim_end().rsplit("data: ").next().unwrap();
    let expected = json!({"error": {"code": 400, "message": "too long", "status": "INVALID_ARGUMENT"}});
    assert_eq!(serde_json::from_str::<Value>(last).unwrap(), expected);
    let array: Value = serde_json::from_str(&streamed(true, &chunks, true)).unwrap();
    assert_eq!(array[1], expected);
}

#[test]
fn errors_have_googles_words() {
    for (status, word) in [
        (400, "INVALID_ARGUMENT"),
        (413, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ] {
        let expected = json!({"error": {"code": status, "message": "m", "status": word}});
        assert_eq!(error(status, "m"), expected);
    }
}
