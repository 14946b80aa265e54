//! Unit tests of the Anthropic Messages parser.

use serde_json::json;

use super::super::{Assembled, assemble, output_starts_at, parse_request, parse_request_at, parse_response};
use super::*;
use crate::call::Api;

const API: Api = Api::AnthropicMessages;

/// A stream as the API sends it: named events, data padded with spaces.
fn stream(events: &[Value]) -> String {
    events
        .iter()
        .map(|data| format!("event: {}\ndata: {data}     \n\n", data["type"].as_str().unwrap()))
        .collect()
}

fn start() -> Value {
    json!({"type": "message_start", "message": {"type": "message", "id": "msg", "role": "assistant", "model": "claude",
        "content": [], "stop_reason": null, "usage": {"input_tokens": 0, "cache_read_input_tokens": 7, "output_tokens": 1}}})
}

fn block(index: u64, content_block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": content_block})
}

fn delta(index: u64, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn folded(events: &[Value]) -> Assembled {
    assemble(API, None, stream(events).as_bytes()).unwrap()
}

#[test]
fn a_stream_folds_to_the_message_that_it_stands_for() {
    let assembled = folded(&[
        start(),
        json!({"type": "ping"}),
        block(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
        delta(0, json!({"type": "thinking_delta", "thinking": "m"})),
        delta(0, json!({"type": "signature_delta", "signature": "sig"})),
        block(1, json!({"type": "text", "text": "", "citations": null})),
        delta(1, json!({"type": "citations_delta", "citation": {"url": "u"}})),
        delta(1, json!({"type": "text_delta", "text": "4"})),
        delta(1, json!({"type": "text_delta", "text": "2"})),
        block(2, json!({"type": "tool_use", "id": "t", "name": "f", "input": {}})),
        delta(2, json!({"type": "input_json_delta", "partial_json": ""})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "{\"x\":"})),
        block(
            3,
            json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
        ),
        delta(2, json!({"type": "input_json_delta", "partial_json": "1}"})),
        block(4, json!({"type": "tool_use", "id": "e", "name": "g", "input": {}})),
        delta(4, json!({"type": "input_json_delta", "partial_json": ""})),
        json!({"type": "content_block_stop", "index": 4}),
        json!({"type": "brand_new_event", "index": 9}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null, "container": {"id": "c"}},
            "usage": {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": null,
                "output_tokens_details": {"thinking_tokens": 2}}, "context_management": {"applied_edits": []}}),
        json!({"type": "message_stop"}),
    ]);
    let expected = json!({"type": "message", "id": "msg", "role": "assistant", "model": "claude",
        "content": [
            {"type": "thinking", "thinking": "hmm", "signature": "sig"},
            {"type": "text", "text": "42", "citations": [{"url": "u"}]},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "tool_use", "id": "e", "name": "g", "input": {}}],
        "stop_reason": "tool_use", "stop_sequence": null, "container": {"id": "c"}, "context_management": {"applied_edits": []},
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 7, "output_tokens": 5, "cache_creation_input_tokens": null,
            "output_tokens_details": {"thinking_tokens": 2}}});
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
        ("42", "hmm")
    );
    let call = |id: &str, name: &str, arguments: &str| ToolCall {
        id: Some(id.into()),
        name: name.into(),
        arguments: arguments.into(),
    };
    assert_eq!(response.tool_calls, [call("t", "f", "{\"x\":1}"), call("e", "g", "{}")]);
    assert_eq!(response.server_tool_calls, ["web_search"]);
    assert_eq!(
        (response.choices, response.finish_reason.as_deref()),
        (1, Some("tool_use"))
    );
    let usage = Usage {
        input: Some(17),
        cached: Some(7),
        cache_write: None,
        output: Some(5),
        reasoning: Some(2),
    };
    assert_eq!(response.usage, usage);
}

#[test]
fn a_stream_that_broke_off_keeps_what_came() {
    let cut_call = [
        block(0, json!({"type": "tool_use", "id": "t", "name": "f", "input": {}})),
        delta(0, json!({"type": "input_json_delta", "partial_json": "{\"x\":"})),
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}),
    ];
    let response = parse_response(API, 200, &folded(&cut_call));
    assert!(response.partial);
    assert_eq!(response.tool_calls[0].arguments, "{\"x\":");
    assert_eq!(
        response.error,
        Some(json!({"type": "overloaded_error", "message": "m"}))
    );
    assert_eq!(response.usage, Usage::default());
}

#[test]
fn gateways_without_event_names_or_with_whole_inputs_are_read() {
    let events = [
        start(),
        block(
            0,
            json!({"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}),
        ),
        json!({"type": "message_stop"}),
    ];
    let body: String = events.iter().map(|event| format!("data:{event}\r\n\r\n")).collect();
    let assembled = assemble(
        API,
        Some("text/event-stream"),
        (body + "data: [DONE]\r\n\r\n").as_bytes(),
    )
    .unwrap();
    assert_eq!((assembled.partial, assembled.skipped_events), (false, 0));
    assert_eq!(
        parse_response(API, 200, &assembled).tool_calls[0].arguments,
        "{\"x\":1}"
    );
}

#[test]
fn output_starts_with_text_thinking_or_a_call() {
    let before = stream(&[
        start(),
        json!({"type": "ping"}),
        block(0, json!({"type": "text", "text": ""})),
    ]);
    for event in [
        delta(0, json!({"type": "text_delta", "text": "x"})),
        delta(0, json!({"type": "thinking_delta", "thinking": "x"})),
        delta(0, json!({"type": "input_json_delta", "partial_json": "{"})),
        block(1, json!({"type": "tool_use", "id": "t", "name": "f", "input": {}})),
    ] {
        let body = before.clone() + &stream(&[event]);
        let more = body.clone() + &stream(&[json!({"type": "message_stop"})]);
        assert_eq!(output_starts_at(API, None, more.as_bytes()), Some(body.len()));
    }
    assert_eq!(output_starts_at(API, None, before.as_bytes()), None);
}

#[test]
fn requests_are_read_in_every_form() {
    let body = json!({
        "model": "claude", "max_tokens": 10, "temperature": 1, "stream": true, "metadata": {"user_id": "u"},
        "system": [{"type": "text", "text": "be"}, {"type": "text", "text": "brief"}],
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "ok"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "42"}, {"type": "image", "source": {}}]},
                {"type": "tool_result", "tool_use_id": "t2", "content": "43"},
                {"type": "text", "text": "and?"}, {"type": "document", "source": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t3"}]}],
        "tools": [
            {"name": "f", "description": "d", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search"}],
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}});
    let request = parse_request(API, body.to_string().as_bytes()).unwrap();
    assert_eq!(
        (request.model.as_deref(), request.user.as_deref()),
        (Some("claude"), Some("u"))
    );
    assert_eq!(
        (request.stream, request.max_tokens, request.temperature),
        (true, Some(10), Some(1.0))
    );
    assert_eq!(
        request.response_format,
        ResponseFormat::JsonSchema(json!({"type": "object"}))
    );
    let tools: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(tools, ["f", "web_search"]);
    let call = ToolCall {
        id: Some("t".into()),
        name: "f".into(),
        arguments: "{\"x\":1}".into(),
    };
    let result = |id: &str, text: &str| Message {
        tool_call_id: Some(id.into()),
        ..Message::text(Role::Tool, text)
    };
    let expected = [
        Message::text(Role::System, "be\nbrief"),
        Message::text(Role::User, "hi"),
        Message {
            tool_calls: vec![call],
            ..Message::text(Role::Assistant, "ok")
        },
        Message {
            media_parts: 1,
            ..result("t", "42")
        },
        result("t2", "43"),
        Message {
            media_parts: 1,
            ..Message::text(Role::User, "and?")
        },
        result("t3", ""),
    ];
    assert_eq!(request.messages, expected);
}

#[test]
fn an_answer_of_several_texts_comes_back_as_it_was_read() {
    let content = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    let answer = response(&json!({"content": content}));
    let request = request(&json!({"messages": [{"role": "assistant", "content": content}]}));
    assert_eq!(request.messages[0].text, answer.output_text);
}

#[test]
fn a_count_of_tokens_is_usage_without_an_answer() {
    let whole = |status, body: Value| {
        let assembled = assemble(API, Some("application/json"), body.to_string().as_bytes()).unwrap();
        parse_response(API, status, &assembled)
    };
    let counted = whole(
        200,
        json!({"input_tokens": 16, "context_management": {"original_input_tokens": 20}}),
    );
    let expected = Usage {
        input: Some(16),
        ..Usage::default()
    };
    assert_eq!(
        (counted.usage, counted.choices, counted.is_empty()),
        (expected, 0, true)
    );
    let error = json!({"type": "not_found_error", "message": "model: x"});
    let refused = whole(404, json!({"type": "error", "error": error, "request_id": "r"}));
    assert_eq!(
        (refused.error, refused.usage, refused.choices),
        (Some(error), Usage::default(), 0)
    );
    let path = "/v1/messages/count_tokens";
    let request = parse_request_at(
        API,
        path,
        br#"{"model": "claude", "messages": [{"role": "user", "content": "hi"}]}"#,
    );
    assert_eq!(request.unwrap().operation, Operation::CountTokens);
}

#[test]
fn legacy_completions_are_read_whole_and_in_pieces() {
    let piece = |text: &str, stop_reason: Value| {
        json!({"type": "completion", "id": "compl", "completion": text, "stop_reason": stop_reason, "model": "claude-2",
            "stop": null, "log_id": "compl"})
    };
    let pieces = [
        piece(" 4", json!(null)),
        json!({"type": "ping"}),
        piece("2", json!(null)),
    ];
    let end = piece("", json!("stop_sequence"));
    let assembled = folded(&[&pieces[..], &[end]].concat());
    assert_eq!(assembled.body, piece(" 42", json!("stop_sequence")));
    let response = parse_response(API, 200, &assembled);
    let whole = assemble(API, None, assembled.body.to_string().as_bytes()).unwrap();
    assert_eq!(
        (parse_response(API, 200, &whole), response.partial),
        (response.clone(), false)
    );
    assert_eq!((response.output_text.as_str(), response.choices), (" 42", 1));
    assert_eq!(response.finish_reason.as_deref(), Some("stop_sequence"));
    assert_eq!(
        (response.id.as_deref(), response.model.as_deref()),
        (Some("compl"), Some("claude-2"))
    );
    let cut = folded(&pieces);
    assert_eq!((cut.partial, &cut.body["completion"]), (true, &json!(" 42")));
    let failed = folded(&[
        pieces[0].clone(),
        json!({"type": "error", "error": {"type": "overloaded_error"}}),
    ]);
    assert_eq!(
        (failed.partial, failed.error),
        (true, Some(json!({"type": "overloaded_error"})))
    );
    assert_eq!(
        output_starts_at(API, None, stream(&pieces).as_bytes()),
        Some(stream(&pieces[..1]).len())
    );

    let body = json!({"model": "claude-2", "prompt": "\n\nHuman: hi\n\nAssistant:", "max_tokens_to_sample": 7});
    let request = parse_request_at(API, "/v1/complete", body.to_string().as_bytes()).unwrap();
    assert_eq!((request.operation, request.max_tokens), (Operation::Complete, Some(7)));
    assert_eq!(
        request.messages,
        [Message::text(Role::User, "\n\nHuman: hi\n\nAssistant:")]
    );
}

#[test]
fn vertex_names_the_model_in_the_path_and_has_the_same_body() {
    let models = "/v1/projects/p/locations/l/publishers/anthropic/models";
    let body = json!({"anthropic_version": "vertex-2023-10-16", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let at = |verb: &str, body: &Value| {
        parse_request_at(API, &format!("{models}/{verb}"), body.to_string().as_bytes()).unwrap()
    };
    let request = at("claude-x@1:streamRawPredict", &body);
    assert_eq!((request.model.as_deref(), request.stream), (Some("claude-x@1"), true));
    assert_eq!((request.operation, request.messages.len()), (Operation::Chat, 1));
    assert!(!at("claude-x@1:rawPredict", &body).stream);
    let mut counting = body;
    counting["model"] = "claude-x".into();
    let request = at("count-tokens:rawPredict", &counting);
    assert_eq!(
        (request.operation, request.model.as_deref()),
        (Operation::CountTokens, Some("claude-x"))
    );
}

#[test]
fn tools_of_the_provider_and_hidden_thoughts_are_no_text_and_no_calls() {
    let server =
        |index, kind: &str, name: &str| block(index, json!({"type": kind, "id": "s", "name": name, "input": {}}));
    let assembled = folded(&[
        start(),
        block(0, json!({"type": "redacted_thinking", "data": "opaque"})),
        server(1, "server_tool_use", "web_search"),
        delta(
            1,
            json!({"type": "input_json_delta", "partial_json": "{\"query\": \"q\"}"}),
        ),
        block(
            2,
            json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result"}]}),
        ),
        server(3, "mcp_tool_use", "ask"),
        block(
            4,
            json!({"type": "mcp_tool_result", "content": [{"type": "text", "text": "no"}]}),
        ),
        block(5, json!({"type": "text", "text": ""})),
        delta(5, json!({"type": "text_delta", "text": "42"})),
        json!({"type": "message_delta", "delta": {"stop_reason": "pause_turn"}, "usage": {"output_tokens": 5}}),
        json!({"type": "message_stop"}),
    ]);
    assert_eq!(
        assembled.body["content"][0],
        json!({"type": "redacted_thinking", "data": "opaque"})
    );
    assert_eq!(assembled.body["content"][1]["input"], json!({"query": "q"}));
    let response = parse_response(API, 200, &assembled);
    assert_eq!(
        (response.output_text.as_str(), response.reasoning_text.as_str()),
        ("42", "")
    );
    assert_eq!(response.server_tool_calls, ["web_search", "ask"]);
    assert!(response.tool_calls.is_empty());
    // The last figures stand in place of the first ones.
    assert_eq!((response.usage.input, response.usage.output), (Some(7), Some(5)));
}
