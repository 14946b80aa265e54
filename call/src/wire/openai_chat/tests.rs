//! Unit tests of the OpenAI Chat Completions parser.

use serde_json::json;

use super::super::{Assembled, assemble, output_starts_at, parse_request, parse_response};
use super::*;
use crate::call::{Api, Usage};

mod dialects;

const API: Api = Api::OpenaiChat;

fn stream(chunks: &[Value]) -> String {
    let events: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    events + "data: [DONE]\n\n"
}

fn delta(delta: Value) -> Value {
    json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": null}], "usage": null})
}

fn finish(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn folded(chunks: &[Value]) -> Assembled {
    assemble(API, None, stream(chunks).as_bytes()).unwrap()
}

fn answer(chunks: &[Value]) -> Response {
    parse_response(API, 200, &folded(chunks))
}

fn call(id: Option<&str>, name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        id: id.map(Into::into),
        name: name.into(),
        arguments: arguments.into(),
    }
}

#[test]
fn a_stream_folds_to_what_the_provider_would_have_answered() {
    let assembled = folded(&[
        json!({"id": "", "model": "", "object": "", "created": 0, "choices": [], "prompt_filter_results": [{"i": 0}]}),
        json!({"id": "c1", "model": "m-1", "object": "chat.completion.chunk", "created": 7, "system_fingerprint": null,
            "obfuscation": "xx", "choices": [
                {"index": 1, "delta": {"role": "assistant", "content": "B"}, "finish_reason": null},
                {"index": 0, "delta": {"role": "assistant", "content": "", "reasoning_content": "think"},
                    "logprobs": {"content": [{"token": "a"}], "refusal": null}, "finish_reason": null}]}),
        delta(json!({"role": "assistant", "content": "A", "reasoning_content": "ing", "channel": "final"})),
        json!({"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [{"token": "b"}]}, "finish_reason": "stop"}]}),
        json!({"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}, {"index": 0, "content_filter_offsets": {"x": 1}}]}),
        json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}, "service_tier": "default"}),
    ]);
    let expected = json!({
        "prompt_filter_results": [{"i": 0}], "id": "c1", "model": "m-1", "created": 7, "object": "chat.completion",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2}, "service_tier": "default",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Aa", "reasoning_content": "thinking", "channel": "final"},
                "finish_reason": "stop", "logprobs": {"content": [{"token": "a"}, {"token": "b"}]},
                "content_filter_offsets": {"x": 1}},
            {"index": 1, "message": {"role": "assistant", "content": "B"}, "finish_reason": "length"}]});
    assert_eq!(
        assembled,
        Assembled {
            body: expected,
            streamed: true,
            ..Assembled::default()
        }
    );
    let response = parse_response(API, 200, &assembled);
    assert_eq!(
        (response.output_text.as_str(), response.reasoning_text.as_str()),
        ("Aa", "thinking")
    );
    assert_eq!((response.choices, response.finish_reason.as_deref()), (2, Some("stop")));
    assert_eq!(
        response.usage,
        Usage {
            input: Some(3),
            output: Some(2),
            ..Usage::default()
        }
    );
}

#[test]
fn parallel_calls_interleaved_over_500_deltas_come_out_whole() {
    let arguments: Vec<String> = (0..2)
        .map(|n| json!({"n": n, "text": "\u{e9}\"\\ ".repeat(400)}).to_string())
        .collect();
    let mut chunks = vec![
        delta(
            json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
        ),
        delta(
            json!({"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]}),
        ),
    ];
    let letters: Vec<Vec<char>> = arguments.iter().map(|text| text.chars().collect()).collect();
    let size = letters[0].len().div_ceil(250);
    for (first, second) in letters[0].chunks(size).zip(letters[1].chunks(size)) {
        for (index, piece) in [first, second].into_iter().enumerate() {
            let piece: String = piece.iter().collect();
            chunks.push(delta(
                json!({"tool_calls": [{"index": index, "id": null, "function": {"name": "", "arguments": piece}}]}),
            ));
        }
    }
    chunks.push(finish("tool_calls"));
    assert!(chunks.len() > 400);
    assert_eq!(
        answer(&chunks).tool_calls,
        [call(Some("a"), "f", &arguments[0]), call(Some("b"), "g", &arguments[1])]
    );
}

#[test]
fn dialects_of_tool_calls_are_all_read() {
    let function = |name: &str, arguments: Value| json!({"name": name, "arguments": arguments});
    // No index (Mistral 2024), then pieces without an id; arguments null or missing.
    let calls = answer(&[
        delta(
            json!({"tool_calls": [{"id": "a", "function": function("f", json!("{\"x\":1}"))}, {"id": "b", "function": function("g", Value::Null)}]}),
        ),
        delta(json!({"tool_calls": [{"id": "c", "function": {"name": "h"}}]})),
        delta(json!({"tool_calls": [{"function": {"arguments": "{\"y\":"}}]})),
        delta(json!({"tool_calls": [{"id": "c", "function": {"arguments": "2}"}}]})),
        finish("stop"),
    ]);
    let expected = [
        call(Some("a"), "f", "{\"x\":1}"),
        call(Some("b"), "g", "{}"),
        call(Some("c"), "h", "{\"y\":2}"),
    ];
    assert_eq!(
        (calls.tool_calls.as_slice(), calls.finish_reason.as_deref()),
        (expected.as_slice(), Some("stop"))
    );
    // A name that every delta repeats, with the same or a fresh id.
    let repeated = answer(&[
        delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": function("f", json!("{\"x\""))}]})),
        delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": function("f", json!(":"))}]})),
        delta(json!({"tool_calls": [{"index": 0, "id": "fresh", "function": {"arguments": "1}"}}]})),
    ]);
    assert_eq!(repeated.tool_calls, [call(Some("a"), "f", "{\"x\":1}")]);
    // Parallel calls that all say index 0, and arguments as an object.
    let same_index = answer(&[
        delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": function("f", json!("{}"))}]})),
        delta(json!({"tool_calls": [{"index": 0, "id": "b", "function": function("f", json!({"x": 1}))}]})),
    ]);
    assert_eq!(
        same_index.tool_calls,
        [call(Some("a"), "f", "{}"), call(Some("b"), "f", "{\"x\":1}")]
    );
    // Legacy, custom, and padding that is no call.
    let legacy = answer(&[
        delta(json!({"function_call": function("f", json!("{\"x\""))})),
        delta(json!({"function_call": {"arguments": ":1}"}, "tool_calls": null})),
    ]);
    assert_eq!(legacy.tool_calls, [call(None, "f", "{\"x\":1}")]);
    let padded = json!({"choices": [{"message": {"content": null, "function_call": {"name": "", "arguments": ""}, "tool_calls": [
        {"id": "a", "type": "custom", "custom": {"name": "sh", "input": "ls"}, "function": {"name": "", "arguments": ""}}]}}]});
    assert_eq!(
        response(&padded).without_padding().tool_calls,
        [call(Some("a"), "sh", "ls")]
    );
}

#[test]
fn content_parts_of_mistral_grow_together() {
    let thinking =
        |text: &str| delta(json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}));
    let assembled = folded(&[
        delta(json!({"content": ""})),
        thinking("Let me"),
        thinking(" see"),
        delta(json!({"content": [{"type": "text", "text": "4"}]})),
        delta(json!({"content": "2"})),
    ]);
    let content = &assembled.body["choices"][0]["message"]["content"];
    let thought = json!({"type": "thinking", "thinking": [{"type": "text", "text": "Let me see"}]});
    assert_eq!(*content, json!([thought, {"type": "text", "text": "42"}]));
    let response = parse_response(API, 200, &assembled);
    assert_eq!(
        (response.output_text.as_str(), response.reasoning_text.as_str()),
        ("42", "Let me see")
    );
}

#[test]
fn a_stream_that_broke_off_is_partial_and_keeps_its_error() {
    let start = delta(json!({"content": "so far"}));
    let cut = |tail: &str| {
        let assembled = assemble(
            API,
            Some("text/event-stream"),
            format!("data: {start}\n\n{tail}").as_bytes(),
        )
        .unwrap();
        parse_response(API, 200, &assembled)
    };
    for (tail, error) in [
        ("", None),
        ("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" an", None),
        (
            "event: error\ndata: {\"error\":{\"code\":\"x\"}}\n\n",
            Some(json!({"code": "x"})),
        ),
        ("data: {\"error\":\"overloaded\"}\n\n", Some(json!("overloaded"))),
        ("event: error\ndata: overloaded\n\n", Some(json!("overloaded"))),
        (
            "error: {\"code\":500,\"message\":\"m\"}\n\n",
            Some(json!({"code": 500, "message": "m"})),
        ),
        ("data: [DONE]\n\n", None),
    ] {
        let response = cut(tail);
        assert_eq!(
            (response.output_text.as_str(), response.partial),
            ("so far", true),
            "{tail}"
        );
        assert_eq!(response.error, error, "{tail}");
    }
    assert!(
        !cut(&format!("data: {}\n\n", finish("stop"))).partial,
        "not all servers send [DONE]"
    );
}

#[test]
fn usage_is_found_where_dialects_put_it() {
    let details = json!({"prompt_tokens": 9.0, "completion_tokens": 5, "prompt_cache_hit_tokens": 4,
        "prompt_tokens_details": {"cache_write_tokens": 2}, "completion_tokens_details": {"reasoning_tokens": 3}});
    let expected = Usage {
        input: Some(9),
        cached: Some(4),
        cache_write: Some(2),
        output: Some(5),
        reasoning: Some(3),
    };
    let groq = folded(&[json!({"choices": [], "x_groq": {"id": "r", "usage": details}})]);
    assert_eq!(
        (&groq.body["usage"], &groq.body["x_groq"]),
        (&details, &json!({"id": "r"}))
    );
    assert_eq!(response(&groq.body).usage, expected);
    let moonshot =
        answer(&[json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": details}]})]);
    assert_eq!(moonshot.usage, expected);
    assert_eq!(answer(&[delta(json!({"content": "x"}))]).usage, Usage::default());
}

#[test]
fn output_starts_with_text_reasoning_or_a_call() {
    let first = format!(
        "data: {}\n\n",
        delta(json!({"role": "assistant", "content": "", "tool_calls": null}))
    );
    for output in [
        json!({"content": "x"}),
        json!({"reasoning": "x"}),
        json!({"content": [{"type": "text", "text": "x"}]}),
        json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]}),
        json!({"function_call": {"name": "f"}}),
    ] {
        let second = format!("data: {}\r\n\r\n", delta(output));
        let body = format!("{first}{second}{first}");
        assert_eq!(
            output_starts_at(API, None, body.as_bytes()),
            Some(first.len() + second.len())
        );
    }
    assert_eq!(output_starts_at(API, None, first.as_bytes()), None);
    assert_eq!(
        output_starts_at(API, Some("application/json"), b"{\"choices\":[]}"),
        None
    );
}

#[test]
fn requests_are_read_in_every_form() {
    let body = json!({
        "model": "m", "stream": true, "temperature": 0.5, "max_tokens": 10, "max_completion_tokens": 20, "user": "u",
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "42"}]}],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
            {"type": "custom", "custom": {"name": "sh"}},
            {"type": "openrouter:web_search", "parameters": {}}],
        "functions": [{"name": "old"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}});
    let request = parse_request(API, body.to_string().as_bytes()).unwrap();
    assert_eq!(
        (request.model.as_deref(), request.stream, request.max_tokens),
        (Some("m"), true, Some(20))
    );
    assert_eq!((request.temperature, request.user.as_deref()), (Some(0.5), Some("u")));
    assert_eq!(
        request.response_format,
        ResponseFormat::JsonSchema(json!({"type": "object"}))
    );
    let tools: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(tools, ["f", "sh", "openrouter:web_search", "old"]);
    assert_eq!(request.tools[0].schema, json!({"type": "object"}));
    assert_eq!(request.messages[0], Message::text(Role::System, "be brief"));
    assert_eq!(
        request.messages[1],
        Message {
            media_parts: 1,
            ..Message::text(Role::User, "a\nb")
        }
    );
    assert_eq!(request.messages[2].tool_calls, [call(Some("1"), "f", "{}")]);
    assert_eq!(
        request.messages[3],
        Message {
            tool_call_id: Some("1".into()),
            ..Message::text(Role::Tool, "42")
        }
    );
}

#[test]
fn media_parts_are_counted_and_refusals_are_not_text() {
    let body = json!({"messages": [
        {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            {"type": "file", "file": {"file_id": "f"}},
            {"type": "video_url", "video_url": {"url": "v"}},
            {"type": "text", "text": "what is it?"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "I won't"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": " answer"}]},
        {"role": "function", "name": "f", "content": "1"}]});
    let messages = parse_request(API, body.to_string().as_bytes()).unwrap().messages;
    let read = |message: &Message| (message.role, message.text.clone(), message.media_parts);
    assert_eq!(
        messages.iter().map(read).collect::<Vec<_>>(),
        [
            (Role::User, "what is it?".into(), 4),
            (Role::Assistant, String::new(), 0),
            (Role::Assistant, "one answer".into(), 0),
            (Role::Tool, "1".into(), 0),
        ]
    );
}

#[test]
fn a_refusal_is_read_as_a_field_as_a_part_and_in_pieces() {
    let field = json!({"choices": [{"message": {"content": null, "refusal": "no"}}]});
    let part = json!({"choices": [{"message": {"content": [{"type": "refusal", "refusal": "no"}]}}]});
    let pieces = folded(&[delta(json!({"refusal": "n"})), delta(json!({"refusal": "o"}))]).body;
    for body in [field, part, pieces] {
        let response = response(&body);
        assert_eq!(
            (response.refusal.as_deref(), response.output_text.as_str()),
            (Some("no"), ""),
            "{body}"
        );
    }
}

#[test]
fn of_several_choices_the_one_numbered_0_counts() {
    let body = json!({"id": "c", "choices": [
        {"index": 1, "message": {"content": "second"}, "finish_reason": "length"},
        {"index": 0, "message": {"content": "first"}, "finish_reason": "stop"}]});
    let response = response(&body);
    assert_eq!((response.choices, response.output_text.as_str()), (2, "first"));
    assert_eq!(
        (response.finish_reason.as_deref(), response.id.as_deref()),
        (Some("stop"), Some("c"))
    );
}

#[test]
fn streams_framed_by_crlf_or_cr_or_without_a_space_fold_the_same() {
    let chunks = [
        delta(json!({"content": "a\n"})),
        delta(json!({"content": "b"})),
        finish("stop"),
    ];
    let usual = stream(&chunks);
    let want = folded(&chunks);
    for framed in [
        usual.replace('\n', "\r\n"),
        usual.replace('\n', "\r"),
        usual.replace("data: ", "data:"),
        usual.replace("data: ", "event: message\r\ndata:"),
    ] {
        assert_eq!(assemble(API, None, framed.as_bytes()).unwrap(), want, "{framed:?}");
    }
    assert_eq!(parse_response(API, 200, &want).output_text, "a\nb");
}
