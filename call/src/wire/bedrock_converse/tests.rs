//! Unit tests of the Bedrock Converse parser.

use serde_json::json;

use super::super::eventstream::{event_message, message};
use super::super::{
    Assembled, assemble, open_request_to_count, output_starts_at, parse_request, parse_request_at, parse_response,
};
use super::*;
use crate::call::{Api, Message, Operation, Request, ResponseFormat, Role};

const API: Api = Api::BedrockConverse;

fn stream(events: &[(&str, Value)]) -> Vec<u8> {
    events
        .iter()
        .flat_map(|(name, data)| event_message(name, data))
        .collect()
}

fn folded(events: &[(&str, Value)]) -> Assembled {
    assemble(API, None, &stream(events)).unwrap()
}

fn delta(index: i64, delta: Value) -> (&'static str, Value) {
    (
        "contentBlockDelta",
        json!({"contentBlockIndex": index, "delta": delta, "p": "abcdef"}),
    )
}

fn start(index: i64, start: Value) -> (&'static str, Value) {
    (
        "contentBlockStart",
        json!({"contentBlockIndex": index, "start": start, "p": "abc"}),
    )
}

fn stop(reason: &str) -> (&'static str, Value) {
    ("messageStop", json!({"stopReason": reason, "p": "ab"}))
}

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        id: Some(id.into()),
        name: name.into(),
        arguments: arguments.into(),
    }
}

fn read(body: &Value) -> Request {
    parse_request(API, body.to_string().as_bytes()).unwrap()
}

#[test]
fn a_stream_folds_to_what_bedrock_would_have_answered_without_its_padding() {
    let assembled = folded(&[
        ("initial-response", json!({})),
        ("messageStart", json!({"role": "assistant", "p": "abcd"})),
        delta(0, json!({"reasoningContent": {"text": "let "}})),
        delta(0, json!({"reasoningContent": {"text": "me"}})),
        delta(0, json!({"reasoningContent": {"signature": "sig"}})),
        ("contentBlockStop", json!({"contentBlockIndex": 0, "p": "a"})),
        delta(1, json!({"reasoningContent": {"redactedContent": "AAAA"}})),
        delta(2, json!({"text": "Hi "})),
        delta(2, json!({"text": "there"})),
        start(4, json!({"toolUse": {"toolUseId": "b", "name": "g"}})),
        start(3, json!({"toolUse": {"toolUseId": "a", "name": "f"}})),
        delta(3, json!({"toolUse": {"input": "{\"x\":"}})),
        delta(4, json!({"toolUse": {"input": ""}})),
        delta(3, json!({"toolUse": {"input": "1}"}})),
        ("somethingNew", json!({"x": 1})),
        (
            "messageStop",
            json!({"stopReason": "tool_use", "additionalModelResponseFields": {"stop_sequence": "x"}, "p": "a"}),
        ),
        (
            "metadata",
            json!({"usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, "metrics": {"latencyMs": 7}, "p": "a"}),
        ),
    ]);
    let content = json!([
        {"reasoningContent": {"reasoningText": {"text": "let me", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "AAAA"}},
        {"text": "Hi there"},
        {"toolUse": {"toolUseId": "a", "name": "f", "input": {"x": 1}}},
        {"toolUse": {"toolUseId": "b", "name": "g", "input": {}}}]);
    let expected = json!({
        "stopReason": "tool_use", "additionalModelResponseFields": {"stop_sequence": "x"},
        "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, "metrics": {"latencyMs": 7},
        "output": {"message": {"role": "assistant", "content": content}}});
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
        ("Hi there", "let me")
    );
    assert_eq!(response.tool_calls, [call("a", "f", "{\"x\":1}"), call("b", "g", "{}")]);
    assert_eq!(
        (response.finish_reason.as_deref(), response.choices),
        (Some("tool_use"), 1)
    );
    assert_eq!((response.usage.input, response.usage.output), (Some(3), Some(2)));
}

#[test]
fn what_the_provider_runs_itself_is_kept_apart() {
    let assembled = folded(&[
        start(
            0,
            json!({"toolUse": {"toolUseId": "s", "name": "code", "type": "server_tool_use"}}),
        ),
        delta(0, json!({"toolUse": {"input": "{\"snippet\":\"1\"}"}})),
        start(
            1,
            json!({"toolResult": {"toolUseId": "s", "type": "code_result", "status": "success"}}),
        ),
        delta(1, json!({"toolResult": [{"json": {"stdOut": "1"}}]})),
        delta(1, json!({"toolResult": [{"text": "more"}]})),
        start(
            2,
            json!({"toolUse": {"toolUseId": "a", "name": "f", "type": "tool_use"}}),
        ),
        delta(3, json!({"text": "cited"})),
        delta(3, json!({"citation": {"title": "t"}})),
        delta(4, json!({"newKind": {"a": 1}})),
        stop("tool_use"),
    ]);
    let content = &assembled.body["output"]["message"]["content"];
    let result = json!({"toolUseId": "s", "type": "code_result", "status": "success",
        "content": [{"json": {"stdOut": "1"}}, {"text": "more"}]});
    assert_eq!(content[1], json!({ "toolResult": result }));
    assert_eq!(
        content[3],
        json!({"citationsContent": {"citations": [{"title": "t"}], "content": [{"text": "cited"}]}})
    );
    assert_eq!(content[4], json!({"newKind": {"a": 1}}));
    let response = parse_response(API, 200, &assembled);
    assert_eq!(response.server_tool_calls, ["code"]);
    assert_eq!(response.tool_calls, [call("a", "f", "{}")]);
    assert_eq!(response.output_text, "cited");
}

#[test]
fn arguments_that_are_no_json_stay_text() {
    let assembled = folded(&[
        start(0, json!({"toolUse": {"toolUseId": "a", "name": "f"}})),
        delta(0, json!({"toolUse": {"input": "{\"x\":"}})),
        stop("max_tokens"),
    ]);
    let response = parse_response(API, 200, &assembled);
    assert_eq!(response.tool_calls, [call("a", "f", "{\"x\":")]);
}

#[test]
fn an_exception_in_a_stream_is_its_error() {
    let exception = |payload: &str| {
        let headers = [
            (":message-type", "exception"),
            (":exception-type", "modelStreamErrorException"),
        ];
        let body = [
            stream(&[delta(0, json!({"text": "so far"}))]),
            message(&headers, payload.as_bytes()),
        ]
        .concat();
        parse_response(API, 200, &assemble(API, None, &body).unwrap())
    };
    let told = exception("{\"message\":\"oh no\",\"originalStatusCode\":500}");
    assert_eq!((told.output_text.as_str(), told.partial), ("so far", true));
    assert_eq!(
        told.error,
        Some(json!({"message": "oh no", "originalStatusCode": 500, "type": "modelStreamErrorException"}))
    );
    assert_eq!(
        exception("oh no").error,
        Some(json!({"message": "oh no", "type": "modelStreamErrorException"}))
    );
}

#[test]
fn a_stream_that_broke_off_is_partial_and_damage_is_counted() {
    let events = [
        delta(0, json!({"text": "a"})),
        delta(0, json!({"text": "b"})),
        stop("end_turn"),
    ];
    let whole = stream(&events);
    let last = event_message("messageStop", &events[2].1).len();
    let cut = assemble(API, None, &whole[..whole.len() - 1]).unwrap();
    assert_eq!((cut.partial, cut.skipped_events), (true, 0));
    assert_eq!(parse_response(API, 200, &cut).output_text, "ab");
    let mut damaged = whole.clone();
    damaged[whole.len() - last - 6] ^= 1;
    let damaged = assemble(API, None, &damaged).unwrap();
    assert_eq!((damaged.partial, damaged.skipped_events), (false, 1));
    assert_eq!(parse_response(API, 200, &damaged).output_text, "a");
    let odd = folded(&[
        delta(0, json!([])),
        ("contentBlockDelta", json!(7)),
        delta(1, json!({})),
    ]);
    assert_eq!((odd.skipped_events, odd.partial), (1, true));
}

#[test]
fn input_includes_what_the_cache_read_and_wrote() {
    let body = json!({"usage": {"inputTokens": 1, "cacheReadInputTokens": 20, "cacheWriteInputTokens": 300, "outputTokens": 4}});
    let expected = Usage {
        input: Some(321),
        cached: Some(20),
        cache_write: Some(300),
        output: Some(4),
        reasoning: None,
    };
    assert_eq!(response(&body).usage, expected);
    let of_nova = json!({"usage": {"inputTokens": 1, "cacheReadInputTokenCount": 20, "cacheWriteInputTokenCount": 0, "outputTokens": 4}});
    let usage = response(&of_nova).usage;
    assert_eq!(
        (usage.input, usage.cached, usage.cache_write),
        (Some(21), Some(20), None)
    );
    assert_eq!(response(&json!({})).usage, Usage::default());
}

#[test]
fn an_error_body_is_the_error_of_its_status() {
    let assembled = assemble(
        API,
        Some("application/json"),
        b"{\"message\":\"The model is invalid.\"}",
    )
    .unwrap();
    let response = parse_response(API, 400, &assembled);
    assert_eq!(response.error, Some(json!({"message": "The model is invalid."})));
    assert_eq!((response.choices, assembled.streamed), (0, false));
}

#[test]
fn a_guardrail_is_told_by_the_stop_reason_and_its_trace_is_kept() {
    let assembled = folded(&[
        delta(0, json!({"text": "Sorry."})),
        stop("guardrail_intervened"),
        (
            "metadata",
            json!({"usage": {"inputTokens": 1}, "trace": {"guardrail": {"action": "x"}}}),
        ),
    ]);
    assert_eq!(assembled.body["trace"], json!({"guardrail": {"action": "x"}}));
    let response = parse_response(API, 200, &assembled);
    assert_eq!(response.finish_reason.as_deref(), Some("guardrail_intervened"));
}

#[test]
fn requests_are_read_in_every_form() {
    let schema = json!({"type": "object"});
    let body = json!({
        "system": [{"text": "be brief"}, {"cachePoint": {"type": "default"}}, {"guardContent": {"text": {"text": "guarded"}}}],
        "messages": [
            {"role": "user", "content": [{"text": "a"}, {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
                {"guardContent": {"text": {"text": "b", "qualifiers": ["query"]}}}, {"cachePoint": {"type": "default"}}]},
            {"role": "assistant", "content": [{"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
                {"text": "I'll look."}, {"toolUse": {"toolUseId": "1", "name": "f", "input": {"x": 1}}},
                {"toolUse": {"toolUseId": "s", "name": "code", "type": "server_tool_use", "input": {}}},
                {"toolResult": {"toolUseId": "s", "content": [{"text": "ran"}]}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "1", "status": "success", "content": [
                {"text": "42"}, {"json": {"y": 2}}, {"document": {"name": "d", "source": {"text": "x"}}}]}},
                {"cachePoint": {"type": "default"}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "2", "content": []}}, {"text": "and?"},
                {"searchResult": {"title": "t", "content": [{"text": "found"}]}}]}],
        "toolConfig": {"tools": [
            {"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": schema}}},
            {"systemTool": {"name": "code"}}, {"cachePoint": {"type": "default"}}]},
        "inferenceConfig": {"maxTokens": 20, "temperature": 0.5}});
    let path = "/model/us.amazon.nova-lite-v1%3A0/converse-stream";
    let request = parse_request_at(API, path, body.to_string().as_bytes()).unwrap();
    assert_eq!(
        (request.model.as_deref(), request.stream),
        (Some("us.amazon.nova-lite-v1:0"), true)
    );
    assert_eq!((request.max_tokens, request.temperature), (Some(20), Some(0.5)));
    let tools: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(
        (tools.as_slice(), &request.tools[0].schema),
        (["f", "code"].as_slice(), &schema)
    );
    let tool = |id: &str, text: &str| Message {
        tool_call_id: Some(id.into()),
        ..Message::text(Role::Tool, text)
    };
    assert_eq!(
        request.messages,
        [
            Message::text(Role::System, "be brief\nguarded"),
            Message {
                media_parts: 1,
                ..Message::text(Role::User, "a\nb")
            },
            Message {
                tool_calls: vec![call("1", "f", "{\"x\":1}")],
                ..Message::text(Role::Assistant, "I'll look.")
            },
            Message {
                media_parts: 1,
                ..tool("1", "42\n{\"y\":2}")
            },
            tool("2", ""),
            Message::text(Role::User, "and?\nfound"),
        ]
    );
}

#[test]
fn a_shape_of_answer_is_asked_for_in_bedrocks_words_or_the_models() {
    let schema = json!({"type": "object"});
    for body in [
        json!({"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{\"type\":\"object\"}"}}}}}),
        json!({"additionalModelRequestFields": {"output_config": {"format": {"type": "json_schema", "schema": schema}}}}),
        json!({"additionalModelRequestFields": {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}}),
    ] {
        assert_eq!(
            read(&body).response_format,
            ResponseFormat::JsonSchema(schema.clone()),
            "{body}"
        );
    }
    let thinks = json!({"additionalModelRequestFields": {"thinking": {"type": "enabled"}}});
    assert_eq!(read(&thinks).response_format, ResponseFormat::Text);
}

#[test]
fn requests_to_count_tokens_are_read_as_what_they_count() {
    let converse = json!({"input": {"converse": {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}}});
    // {"anthropic_version":"x","messages":[{"role":"user","content":"hi"}]}
    let invoked = "eyJhbnRocm9waWNfdmVyc2lvbiI6IngiLCJtZXNzYWdlcyI6W3sicm9sZSI6InVzZXIiLCJjb250ZW50IjoiaGkifV19";
    for body in [converse, json!({"input": {"invokeModel": {"body": invoked}}})] {
        let request = read(&body);
        assert_eq!(request.operation, Operation::CountTokens);
        assert_eq!(request.messages, [Message::text(Role::User, "hi")]);
    }
    let closed = json!({"input": {"invokeModel": {"body": invoked}}}).to_string();
    let opened = open_request_to_count(closed.as_bytes()).unwrap();
    let inner = json!({"anthropic_version": "x", "messages": [{"role": "user", "content": "hi"}]});
    let opened: Value = serde_json::from_slice(&opened).unwrap();
    assert_eq!(opened, json!({"input": {"invokeModel": {"body": inner}}}));
    assert_eq!(read(&opened), read(&serde_json::from_str(&closed).unwrap()));
    assert_eq!(open_request_to_count(opened.to_string().as_bytes()), None);
    for odd in [json!({"input": {}}), json!({"input": {"invokeModel": {"body": "!"}}})] {
        assert_eq!(read(&odd).messages, []);
    }
    let assembled = assemble(API, None, b"{\"inputTokens\":15}").unwrap();
    assert_eq!(parse_response(API, 200, &assembled).usage.input, Some(15));
}

#[test]
fn output_starts_with_text_reasoning_or_a_call() {
    let first = stream(&[
        ("messageStart", json!({"role": "assistant"})),
        delta(0, json!({"text": ""})),
    ]);
    for output in [
        delta(0, json!({"text": "x"})),
        delta(0, json!({"reasoningContent": {"text": "x"}})),
        delta(0, json!({"toolUse": {"input": "{"}})),
        start(0, json!({"toolUse": {"name": "f", "toolUseId": "a"}})),
    ] {
        let until = [first.clone(), stream(&[output])].concat();
        let body = [until.clone(), first.clone()].concat();
        assert_eq!(output_starts_at(API, None, &body), Some(until.len()));
    }
    assert_eq!(output_starts_at(API, None, &first), None);
}
