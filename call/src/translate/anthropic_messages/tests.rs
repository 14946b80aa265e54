//! Unit tests of Anthropic Messages in chat.

use serde_json::json;

use super::super::ids::tool_call_id;
use super::super::{Refusal, Translated, request as translate};
use super::*;
use crate::call::Api;

fn translated(body: &Value) -> Result<Translated, Refusal> {
    translate(Api::AnthropicMessages, "/v1/messages", body.to_string().as_bytes())
}

/// A request with these fields beside the needed ones.
fn asking(fields: Value) -> Value {
    let mut body = json!({"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn with_content(role: &str, content: Value) -> Value {
    asking(json!({"messages": [{"role": role, "content": content}, {"role": "user", "content": "and?"}]}))
}

fn chunk(delta: Value) -> Value {
    json!({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(word: &str) -> Value {
    json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": word}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}})
}

fn call_piece(name: &str, arguments: &str) -> Value {
    chunk(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": name, "arguments": arguments}}]}))
}

/// The events that a chat stream becomes.
fn events(chunks: &[Value]) -> Vec<Value> {
    let translated = translated(&asking(json!({"stream": true}))).unwrap();
    let mut stream = translated.back.stream().unwrap();
    let body: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    let mut out = stream.push(body.as_bytes());
    out.extend(stream.finish());
    let text = String::from_utf8(out).unwrap();
    let events = text.split_terminator("\n\n").map(|event| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name, format!("event: {}", data["type"].as_str().unwrap()));
        data
    });
    events.collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

fn completion(message: Value, finish: &str) -> Value {
    json!({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}})
}

fn answered(message: Value, finish: &str) -> Result<Value, Refusal> {
    let translated = translated(&asking(json!({}))).unwrap();
    translated
        .back
        .response(completion(message, finish).to_string().as_bytes())
}

#[test]
fn a_request_says_the_same_in_chat() {
    let body = json!({
        "model": "claude", "max_tokens": 100, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop_sequences": ["END"], "stream": true,
        "metadata": {"user_id": "u"}, "service_tier": "auto", "cache_control": {"type": "ephemeral"},
        "thinking": {"type": "adaptive"}, "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "mcp_servers": [], "container": null,
        "system": [{"type": "text", "text": "be", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "brief"}],
        "tools": [
            {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": true, "cache_control": {"type": "ephemeral"}},
            {"type": "custom", "name": "g", "input_schema": {"type": "object"}, "allowed_callers": ["direct"], "defer_loading": false}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "ok"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}, "caller": {"type": "direct"}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]},
                {"type": "tool_result", "tool_use_id": "t2", "content": "no such file", "is_error": true},
                {"type": "text", "text": "and?"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t3", "name": "g", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t3"}]}]});
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let expected = json!({
        "model": "claude", "max_tokens": 100, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop": ["END"], "user": "u",
        "stream": true, "stream_options": {"include_usage": true},
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true}},
            {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}}],
        "tool_choice": "required", "parallel_tool_calls": false,
        "response_format": {"type": "json_schema",
            "json_schema": {"name": "answer", "strict": true, "schema": {"type": "object"}}},
        "messages": [
            {"role": "system", "content": "be\nbrief"},
            {"role": "user", "content": [{"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
            {"role": "assistant", "content": "ok", "tool_calls": [call("t1", "f", "{\"x\":1}"), call("t2", "g", "{}")]},
            {"role": "tool", "tool_call_id": "t1", "content": "4\n2"},
            {"role": "tool", "tool_call_id": "t2", "content": "Error: no such file"},
            {"role": "user", "content": "and?"},
            {"role": "assistant", "content": null, "tool_calls": [call("t3", "g", "{}")]},
            {"role": "tool", "tool_call_id": "t3", "content": ""}]});
    let translated = translated(&body).unwrap();
    assert_eq!(translated.body, expected);
    assert_eq!(translated.back.content_type(), "text/event-stream");
}

#[test]
fn every_tool_choice_and_both_names_of_the_format_are_said() {
    let choice = |choice: Value| translated(&asking(json!({"tool_choice": choice}))).unwrap().body;
    for (given, expected) in [
        (json!({"type": "auto"}), json!("auto")),
        (json!({"type": "none"}), json!("none")),
        (
            json!({"type": "tool", "name": "f"}),
            json!({"type": "function", "function": {"name": "f"}}),
        ),
    ] {
        let body = choice(given);
        assert_eq!(
            (&body["tool_choice"], body.get("parallel_tool_calls")),
            (&expected, None)
        );
    }
    let format = json!({"type": "json_schema", "schema": {"type": "array"}});
    let body = translated(&asking(json!({"output_format": format}))).unwrap().body;
    assert_eq!(
        body["response_format"]["json_schema"]["schema"],
        json!({"type": "array"})
    );
}

#[test]
fn what_chat_cant_say_is_refused_with_its_place() {
    let tool = |tool: Value| asking(json!({"tools": [tool]}));
    let result = |content: Value| {
        with_content(
            "user",
            json!([{"type": "tool_result", "tool_use_id": "t", "content": content}]),
        )
    };
    let source = |source: Value| with_content("user", json!([{"type": "image", "source": source}]));
    for (body, place) in [
        (asking(json!({"container": "c"})), "container"),
        (asking(json!({"mcp_servers": [{"name": "m"}]})), "mcp_servers"),
        (asking(json!({"inference_geo": "us"})), "inference_geo"),
        (asking(json!({"some_new_field": 0})), "some_new_field"),
        (
            asking(json!({"context_management": {"edits": [{"type": "compact_20260112"}]}})),
            "context_management.edits[0]",
        ),
        (
            asking(json!({"output_config": {"task_budget": {"total": 1}}})),
            "output_config.task_budget",
        ),
        (
            asking(json!({"output_format": {"type": "regex", "schema": {"a": 1}}})),
            "output_format.type",
        ),
        (asking(json!({"tool_choice": {"type": "new"}})), "tool_choice.type"),
        (asking(json!({"system": [{"type": "image"}]})), "system[0]"),
        (
            asking(json!({"thinking": {"type": "enabled"}, "tools": [{"name": "f", "input_schema": {}}]})),
            "thinking",
        ),
        (
            tool(json!({"type": "web_search_20250305", "name": "web_search"})),
            "tools[0]",
        ),
        (tool(json!({"type": "bash_20250124", "name": "bash"})), "tools[0]"),
        (
            tool(json!({"name": "f", "defer_loading": true})),
            "tools[0].defer_loading",
        ),
        (
            tool(json!({"name": "f", "allowed_callers": ["code_execution_20250825"]})),
            "tools[0].allowed_callers",
        ),
        (
            tool(json!({"name": "f", "input_examples": [{"x": 1}]})),
            "tools[0].input_examples",
        ),
        (
            with_content("user", json!([{"type": "document", "source": {"type": "text"}}])),
            "messages[0].content[0]",
        ),
        (
            with_content("user", json!([{"type": "search_result"}])),
            "messages[0].content[0]",
        ),
        (
            with_content("user", json!([{"type": "container_upload", "file_id": "f"}])),
            "messages[0].content[0]",
        ),
        (
            with_content("assistant", json!([{"type": "server_tool_use"}])),
            "messages[0].content[0]",
        ),
        (
            with_content(
                "assistant",
                json!([{"type": "text", "text": "x", "citations": [{"url": "u"}]}]),
            ),
            "messages[0].content[0].citations",
        ),
        (
            with_content(
                "assistant",
                json!([{"type": "tool_use", "id": "t", "name": "f", "caller": {"type": "code_execution_20250825"}}]),
            ),
            "messages[0].content[0].caller",
        ),
        (with_content("critic", json!("x")), "messages[0].role"),
        (
            source(json!({"type": "file", "file_id": "f"})),
            "messages[0].content[0].source",
        ),
        (
            result(json!([{"type": "image", "source": {"type": "url", "url": "u"}}])),
            "messages[0].content[0].content[0]",
        ),
        (
            asking(json!({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "{"}]})),
            "messages",
        ),
    ] {
        match translated(&body) {
            Err(Refusal::Inexpressible { at, .. }) => assert_eq!(at, place, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    for broken in [
        json!({"messages": ["hi"]}),
        json!({"messages": [{"content": "hi"}]}),
        json!({"system": 1}),
    ] {
        assert!(matches!(translated(&asking(broken)), Err(Refusal::Unreadable(_))));
    }
}

#[test]
fn an_answer_comes_back_as_a_message() {
    let message = json!({"role": "assistant", "content": "ok", "reasoning_content": "hm", "tool_calls": [
        {"id": "a", "function": {"name": "f", "arguments": "{\"x\":1}"}},
        {"id": "functions.g:1", "function": {"name": "g", "arguments": ""}}]});
    let expected = json!({"id": "c", "type": "message", "role": "assistant", "model": "claude", "content": [
            {"type": "text", "text": "ok"},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
            {"type": "tool_use", "id": tool_call_id("functions.g:1", 1), "name": "g", "input": {}}],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 7}});
    // Servers say `stop` of forced calls.
    assert_eq!(answered(message, "stop").unwrap(), expected);
    for (finish, reason) in [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
    ] {
        let answer = answered(json!({"content": "x"}), finish).unwrap();
        assert_eq!(answer["stop_reason"], reason);
    }
    let refused = answered(json!({"content": null, "refusal": "no"}), "stop").unwrap();
    assert_eq!(
        (&refused["stop_reason"], &refused["content"]),
        (&json!("refusal"), &json!([{"type": "text", "text": "no"}]))
    );
}

#[test]
fn an_answer_that_the_baseline_would_not_take_back_is_none() {
    let calling = |name: &str, arguments: &str| json!({"content": "\n\n", "tool_calls": [{"id": "a", "function": {"name": name, "arguments": arguments}}]});
    // Blank text is left out.
    assert_eq!(
        answered(calling("f", "{}"), "stop").unwrap()["content"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    for (name, arguments) in [("f", "[1]"), ("f", "{\"x\":"), ("a b", "{}"), ("", "{\"x\":1}")] {
        assert!(
            answered(calling(name, arguments), "tool_calls").is_err(),
            "{name} {arguments}"
        );
    }
    // A call that was cut off can't be called.
    let cut = answered(calling("f", "{\"x\":"), "length").unwrap();
    assert_eq!(
        (&cut["content"], &cut["stop_reason"]),
        (&json!([]), &json!("max_tokens"))
    );
    for finish in ["error", "abort"] {
        assert!(answered(json!({"content": "x"}), finish).is_err(), "{finish}");
    }
}

#[test]
fn a_stream_comes_back_as_events() {
    let read = events(&[
        chunk(json!({"role": "assistant", "content": ""})),
        chunk(json!({"reasoning_content": "hm"})),
        chunk(json!({"content": "\n"})),
        chunk(json!({"content": "o"})),
        chunk(json!({"content": "k"})),
        call_piece("f", ""),
        call_piece("", "{\"x\""),
        call_piece("", ":1}"),
        chunk(json!({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g"}}]})),
        finish("tool_calls"),
    ]);
    let block =
        |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let text =
        |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    let input = |index: u64, piece: &str| json!({"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": piece}});
    let stop = |index: u64| json!({"type": "content_block_stop", "index": index});
    let expected = [
        json!({"type": "message_start", "message": {"id": "c", "type": "message", "role": "assistant", "model": "claude",
            "content": [], "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 0, "output_tokens": 0}}}),
        block(0, json!({"type": "text", "text": ""})),
        text("\no"),
        text("k"),
        stop(0),
        block(1, json!({"type": "tool_use", "id": "a", "name": "f", "input": {}})),
        input(1, ""),
        input(1, "{\"x\""),
        input(1, ":1}"),
        stop(1),
        block(2, json!({"type": "tool_use", "id": "b", "name": "g", "input": {}})),
        input(2, ""),
        stop(2),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage":
            {"input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 7}}),
        json!({"type": "message_stop"}),
    ];
    assert_eq!(read, expected);
}

#[test]
fn a_stream_that_is_no_whole_answer_ends_with_an_error() {
    let text = chunk(json!({"content": "ok"}));
    for (tail, kind) in [
        (vec![], "api_error"),
        (
            vec![json!({"error": {"message": "m", "code": 429}})],
            "rate_limit_error",
        ),
        (vec![json!({"error": {"message": "m"}})], "api_error"),
        (vec![call_piece("f", "{\"x\":"), finish("tool_calls")], "api_error"),
        (vec![call_piece("a b", "{}"), finish("tool_calls")], "api_error"),
    ] {
        let read = events(&[vec![text.clone()], tail].concat());
        let last = read.last().unwrap();
        assert_eq!((&last["type"], &last["error"]["type"]), (&json!("error"), &json!(kind)));
        assert!(!kinds(&read).contains(&"message_stop") && !kinds(&read).contains(&"message_delta"));
    }
    assert_eq!(kinds(&events(&[])), ["error"]);
    // Cut by its length it is whole, as the API's own answers are.
    let cut = events(&[call_piece("f", "{\"x\":"), finish("length")]);
    assert_eq!(cut[cut.len() - 2]["delta"]["stop_reason"], "max_tokens");
}

#[test]
fn blank_text_is_not_told() {
    let read = events(&[
        chunk(json!({"content": "\n\n"})),
        call_piece("f", "{}"),
        finish("tool_calls"),
    ]);
    assert_eq!(read[1]["content_block"]["type"], "tool_use");
    assert_eq!(
        kinds(&events(&[chunk(json!({"content": " "})), finish("stop")])),
        ["message_start", "message_delta", "message_stop"]
    );
}

#[test]
fn a_call_never_repeats_an_id_of_the_history() {
    let body = json!({"model": "claude", "max_tokens": 9, "messages": [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_0", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_0", "content": "x"}]}]});
    let message =
        json!({"content": null, "tool_calls": [{"id": "call_0", "function": {"name": "f", "arguments": "{}"}}]});
    let back = translated(&body).unwrap().back;
    let answer = back
        .response(completion(message, "tool_calls").to_string().as_bytes())
        .unwrap();
    let id = answer["content"][0]["id"].as_str().unwrap();
    assert!(id.starts_with("call_") && id != "call_0", "{id}");
}

#[test]
fn errors_have_the_words_of_the_api() {
    for (status, kind) in [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (502, "api_error"),
        (529, "overloaded_error"),
    ] {
        let expected = json!({"type": "error", "error": {"type": kind, "message": "m"}});
        assert_eq!(error(status, "m"), expected);
    }
}
