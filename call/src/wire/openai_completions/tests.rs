//! Unit tests of the OpenAI Completions parser.

use serde_json::json;

use super::super::{assemble, output_starts_at, parse_request, parse_response};
use super::*;
use crate::call::{Api, Usage};

const API: Api = Api::OpenaiCompletions;

fn stream(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
}

fn answer(body: &str) -> Response {
    parse_response(API, 200, &assemble(API, None, body.as_bytes()).unwrap())
}

#[test]
fn a_prompt_is_text_a_list_of_texts_or_tokens() {
    let messages = |prompt: Value| {
        let body = json!({"model": "m", "prompt": prompt, "max_tokens": 7}).to_string();
        let request = parse_request(API, body.as_bytes()).unwrap();
        assert_eq!((request.operation, request.max_tokens), (Operation::Complete, Some(7)));
        request.messages
    };
    let text = |text: &str| Message::text(Role::User, text);
    let tokens = Message {
        media_parts: 1,
        ..text("")
    };
    assert_eq!(messages(json!("a")), [text("a")]);
    assert_eq!(messages(json!(["a", "b"])), [text("a"), text("b")]);
    assert_eq!(messages(json!([1, 2, 3])), std::slice::from_ref(&tokens));
    assert_eq!(messages(json!([[1, 2], [3]])), [tokens.clone(), tokens]);
    assert_eq!(messages(json!([])), []);
    assert_eq!(messages(Value::Null), []);
}

#[test]
fn a_stream_folds_to_what_would_have_been_answered_without() {
    let chunk = |index: i64, text: &str, finish: Value| {
        json!({"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m",
            "choices": [{"index": index, "text": text, "finish_reason": finish,
                "logprobs": {"tokens": [text], "text_offset": [0]}}]})
    };
    let usage = json!({"id": "cmpl-1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
    let body = stream(&[
        chunk(1, "B", Value::Null),
        chunk(0, "A", Value::Null),
        chunk(0, "a", json!("stop")),
        chunk(1, "b", json!("length")),
        usage,
    ]) + "data: [DONE]\n\n";
    let assembled = assemble(API, None, body.as_bytes()).unwrap();
    let choice = |index: i64, text: [&str; 2], finish: &str| {
        json!({"index": index, "text": text.concat(), "finish_reason": finish,
            "logprobs": {"tokens": text, "text_offset": [0, 0]}})
    };
    assert_eq!(
        assembled.body,
        json!({"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m",
            "choices": [choice(0, ["A", "a"], "stop"), choice(1, ["B", "b"], "length")],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    );
    let response = parse_response(API, 200, &assembled);
    assert_eq!(
        (response.output_text.as_str(), response.choices, response.partial),
        ("Aa", 2, false)
    );
    assert_eq!(
        (response.id.as_deref(), response.finish_reason.as_deref()),
        (Some("cmpl-1"), Some("stop"))
    );
    let expected = Usage {
        input: Some(3),
        output: Some(4),
        ..Usage::default()
    };
    assert_eq!(response.usage, expected);
}

#[test]
fn a_stream_that_broke_off_keeps_its_text() {
    let start = stream(&[json!({"choices": [{"index": 0, "text": "so far", "finish_reason": null}]})]);
    for tail in ["", "data: {\"choices\":[{\"te", "data: [DONE]\n\n"] {
        let response = answer(&format!("{start}{tail}"));
        assert_eq!(
            (response.output_text.as_str(), response.partial),
            ("so far", true),
            "{tail}"
        );
    }
    let response = answer(&format!("{start}data: {{\"error\":{{\"code\":1}}}}\n\n"));
    assert_eq!(response.error, Some(json!({"code": 1})));
}

#[test]
fn writer_streams_values_and_says_no_end() {
    let body = stream(&[json!({"value": "Su"}), json!({"value": "re"})]);
    let response = answer(&body);
    assert_eq!((response.output_text.as_str(), response.partial), ("Sure", true));
    let first = stream(&[json!({"value": "Su"})]);
    assert_eq!(output_starts_at(API, None, body.as_bytes()), Some(first.len()));
}

#[test]
fn mistral_fills_in_the_middle_with_a_message() {
    let whole = json!({"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]});
    assert_eq!(answer(&whole.to_string()).output_text, "x");
    let piece = json!({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]});
    assert_eq!(answer(&stream(&[piece.clone(), piece])).output_text, "xx");
}

#[test]
fn output_starts_with_text() {
    let empty = stream(&[json!({"choices": [{"index": 0, "text": ""}]})]);
    let text = stream(&[json!({"choices": [{"index": 0, "text": "x"}]})]);
    let body = format!("{empty}{text}{empty}");
    assert_eq!(
        output_starts_at(API, None, body.as_bytes()),
        Some(empty.len() + text.len())
    );
    assert_eq!(output_starts_at(API, None, empty.as_bytes()), None);
}
