//! Unit tests of the OpenAI Responses parser.

use serde_json::json;

use super::super::{Assembled, assemble, framing, output_starts_at, parse_request, parse_response};
use super::*;
use crate::call::{Api, Message, Request, ResponseFormat, Role};

mod streams;

const API: Api = Api::OpenaiResponses;

fn read(body: &Value) -> Request {
    parse_request(API, body.to_string().as_bytes()).unwrap()
}

fn messages(input: Value) -> Vec<Message> {
    read(&json!({"model": "m", "input": input})).messages
}

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        id: Some(id.into()),
        name: name.into(),
        arguments: arguments.into(),
    }
}

fn result(id: &str, text: &str) -> Message {
    Message {
        tool_call_id: Some(id.into()),
        ..Message::text(Role::Tool, text)
    }
}

#[test]
fn a_request_is_read_in_full() {
    let request = read(&json!({
        "model": "gpt-5", "instructions": "be brief", "input": "hi", "stream": true, "temperature": 0.5,
        "max_output_tokens": 9, "safety_identifier": "u", "previous_response_id": "resp_1",
        "text": {"format": {"type": "json_schema", "name": "n", "strict": true, "schema": {"type": "object"}}},
        "tools": [
            {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}},
            {"type": "custom", "name": "sh", "format": {"type": "grammar"}},
            {"type": "web_search"},
            {"type": "mcp", "server_label": "wiki"},
            {"type": "function", "function": {"name": "nested", "parameters": {"a": 1}}}]}));
    assert_eq!(
        request.messages,
        [Message::text(Role::System, "be brief"), Message::text(Role::User, "hi")]
    );
    assert_eq!(
        (
            request.model.as_deref(),
            request.stream,
            request.max_tokens,
            request.temperature
        ),
        (Some("gpt-5"), true, Some(9), Some(0.5))
    );
    assert_eq!(
        (request.user.as_deref(), request.previous_response_id.as_deref()),
        (Some("u"), Some("resp_1"))
    );
    assert_eq!(
        request.response_format,
        ResponseFormat::JsonSchema(json!({"type": "object"}))
    );
    let tools: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(tools, ["f", "sh", "web_search", "mcp", "nested"]);
    assert_eq!(
        (request.tools[0].description.as_deref(), &request.tools[0].schema),
        (Some("d"), &json!({"type": "object"}))
    );
    let object = read(&json!({"input": [], "text": {"format": {"type": "json_object"}}, "user": "v"}));
    assert_eq!(
        (object.response_format, object.user.as_deref()),
        (ResponseFormat::JsonObject, Some("v"))
    );
}

#[test]
fn messages_have_text_parts_and_media() {
    let read = messages(json!([
        {"role": "developer", "content": "be brief"},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "x"},
            {"type": "input_file", "file_id": "f"}, {"type": "input_audio", "input_audio": {}},
            {"type": "input_text", "text": "b"}]},
        {"role": "assistant", "content": "short form"},
        "bare text"]));
    let media = Message {
        media_parts: 3,
        ..Message::text(Role::User, "a\nb")
    };
    assert_eq!(
        read,
        [
            Message::text(Role::System, "be brief"),
            media,
            Message::text(Role::Assistant, "short form"),
            Message::text(Role::User, "bare text"),
        ]
    );
}

#[test]
fn the_items_of_one_turn_are_one_message_as_the_answer_was() {
    let output = json!([
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [
            {"type": "output_text", "text": "Let me", "annotations": []}, {"type": "output_text", "text": " see."}]},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"x\":1}"},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": ""}]);
    let answer = response(&json!({"output": output}));
    let mut input = output.as_array().unwrap().clone();
    input.insert(0, json!({"role": "user", "content": "go"}));
    input.push(json!({"type": "function_call_output", "call_id": "c1", "output": "1"}));
    input.push(json!({"type": "function_call_output", "call_id": "c2", "output": [
        {"type": "input_text", "text": "2"}, {"type": "input_image", "image_url": "x"}]}));
    let read = messages(Value::Array(input));
    assert_eq!(
        read[1],
        Message {
            tool_calls: answer.tool_calls,
            ..Message::text(Role::Assistant, answer.output_text)
        }
    );
    assert_eq!(read[1].text, "Let me see.");
    assert_eq!(
        read[1].tool_calls,
        [call("c1", "f", "{\"x\":1}"), call("c2", "g", "{}")]
    );
    assert_eq!(
        read[2..],
        [
            result("c1", "1"),
            Message {
                media_parts: 1,
                ..result("c2", "2")
            }
        ]
    );
}

#[test]
fn the_providers_own_kinds_of_calls_are_the_agents_where_it_runs_them() {
    let calls = json!([
        {"type": "custom_tool_call", "call_id": "c1", "name": "sh", "input": "ls -l"},
        {"type": "computer_call", "call_id": "c2", "id": "cu_1", "action": {"type": "click", "x": 1}},
        {"type": "local_shell_call", "call_id": "c3", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "shell_call", "call_id": "c4", "action": {"commands": ["ls"]}, "environment": {"type": "local"}},
        {"type": "apply_patch_call", "call_id": "c5", "operation": {"type": "delete_file", "path": "a"}}]);
    let answer = response(&json!({"output": calls}));
    assert_eq!(
        answer.tool_calls,
        [
            call("c1", "sh", "ls -l"),
            call("c2", "computer_call", "{\"type\":\"click\",\"x\":1}"),
            call("c3", "local_shell_call", "{\"type\":\"exec\",\"command\":[\"ls\"]}"),
            call("c4", "shell_call", "{\"commands\":[\"ls\"]}"),
            call("c5", "apply_patch_call", "{\"type\":\"delete_file\",\"path\":\"a\"}"),
        ]
    );
    let screenshot = json!({"type": "computer_screenshot", "image_url": "x"});
    let shell = json!([{"stdout": "a\n", "stderr": "b", "outcome": {"type": "exit", "exit_code": 0}}]);
    let results = messages(json!([
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "total 0"},
        {"type": "computer_call_output", "call_id": "c2", "output": screenshot},
        {"type": "shell_call_output", "call_id": "c4", "output": shell},
        {"type": "apply_patch_call_output", "call_id": "c5", "status": "completed"},
        {"type": "mcp_approval_response", "approval_request_id": "m1", "approve": true}]));
    assert_eq!(
        results,
        [
            result("c1", "total 0"),
            Message {
                media_parts: 1,
                ..result("c2", "")
            },
            result("c4", "a\n\nb"),
            result("c5", "\"completed\""),
            result("m1", "true"),
        ]
    );
}

#[test]
fn what_the_provider_ran_is_kept_apart_by_type() {
    let answer = response(&json!({"status": "completed", "output": [
        {"type": "mcp_list_tools", "tools": []},
        {"type": "mcp_call", "name": "ask", "arguments": "{}", "output": "x"},
        {"type": "tool_search_call", "call_id": null, "execution": "server", "arguments": {}},
        {"type": "tool_search_output", "call_id": null, "tools": []},
        {"type": "code_interpreter_call", "code": "1"},
        {"type": "shell_call", "call_id": "c", "environment": {"type": "container_reference"}},
        {"type": "image_generation_call", "result": "AA=="}]}));
    assert_eq!(answer.tool_calls, []);
    assert_eq!(
        answer.server_tool_calls,
        [
            "mcp_list_tools",
            "mcp_call",
            "tool_search_call",
            "code_interpreter_call",
            "shell_call",
            "image_generation_call"
        ]
    );
}

#[test]
fn xai_shows_its_searches_of_x_as_custom_calls_that_nobody_offered() {
    let search = json!({"type": "custom_tool_call", "call_id": "xs_1", "name": "x_keyword_search", "input": "{}"});
    let answer = response(&json!({"tools": [{"type": "x_search"}], "output": [search]}));
    assert_eq!(
        (answer.tool_calls.len(), answer.server_tool_calls),
        (0, vec!["x_keyword_search".into()])
    );
    assert_eq!(
        read(&json!({"tools": [{"type": "x_search"}], "input": [search]})).messages,
        []
    );
    let offered = response(&json!({"tools": [{"type": "x_search"}, {"type": "custom"}], "output": [search]}));
    assert_eq!(offered.tool_calls, [call("xs_1", "x_keyword_search", "{}")]);
}

#[test]
fn history_that_lies_at_the_provider_is_no_message() {
    let items = json!([
        {"type": "item_reference", "id": "msg_1"},
        {"type": "compaction", "encrypted_content": "x"},
        {"type": "reasoning", "encrypted_content": "x", "summary": []},
        {"type": "web_search_call", "id": "ws_1"},
        {"type": "tool_search_output", "call_id": null, "tools": []},
        {"type": "of the future"}, null, 7]);
    assert_eq!(messages(items), []);
}

#[test]
fn an_answer_is_read_in_full() {
    let body = json!({
        "id": "resp_1", "object": "response", "model": "gpt-5-2025", "status": "completed", "error": null,
        "incomplete_details": null,
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "no"}],
                "content": [{"type": "reasoning_text", "text": "c"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "4"}]},
            {"type": "message", "role": "assistant", "content": [
                {"type": "output_text", "text": "2"}, {"type": "refusal", "refusal": "no more"}]}],
        "usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
            "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 16}});
    let assembled = assemble(API, Some("application/json"), body.to_string().as_bytes()).unwrap();
    let expected = Response {
        id: Some("resp_1".into()),
        model: Some("gpt-5-2025".into()),
        output_text: "42".into(),
        reasoning_text: "a\nb\nc".into(),
        refusal: Some("no more".into()),
        finish_reason: Some("completed".into()),
        choices: 1,
        usage: Usage {
            input: Some(9),
            cached: Some(4),
            cache_write: Some(2),
            output: Some(7),
            reasoning: Some(3),
        },
        ..Response::default()
    };
    assert_eq!(parse_response(API, 200, &assembled), expected);
}

#[test]
fn an_answer_finishes_with_its_status_or_with_why_it_is_incomplete() {
    let finish = |body: Value| response(&body).finish_reason;
    let cut = json!({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}});
    assert_eq!(finish(cut).as_deref(), Some("max_output_tokens"));
    assert_eq!(
        finish(json!({"status": "queued", "output": []})).as_deref(),
        Some("queued")
    );
    assert_eq!(finish(json!({"error": {"code": 1}})), None);
}

#[test]
fn errors_are_the_inner_value() {
    let failed = json!({"status": "failed", "error": {"code": "server_error", "message": "m"}, "output": []});
    for (status, body) in [
        (200, failed),
        (400, json!({"error": {"code": "server_error", "message": "m"}})),
    ] {
        let assembled = assemble(API, None, body.to_string().as_bytes()).unwrap();
        let error = parse_response(API, status, &assembled).error;
        assert_eq!(error, Some(json!({"code": "server_error", "message": "m"})));
    }
}
