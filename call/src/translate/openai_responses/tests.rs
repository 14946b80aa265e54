//! Unit tests of Responses in chat.

use serde_json::json;

use super::super::{Refusal, Translated, request as translate};
use super::*;
use crate::call::Api;

fn translated(body: &Value) -> Result<Translated, Refusal> {
    translate(Api::OpenaiResponses, "/v1/responses", body.to_string().as_bytes())
}

/// A request with these fields beside the needed ones.
fn asking(fields: Value) -> Value {
    let mut body = json!({"model": "gpt", "input": "hi", "store": false});
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn chunk(delta: Value) -> Value {
    json!({"id": "c", "created": 7, "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(word: &str) -> Value {
    json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": word}], "usage": usage()})
}

fn usage() -> Value {
    json!({"prompt_tokens": 12, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}})
}

/// The events that a chat stream becomes, without their numbers, which are checked.
fn events(request: &Value, chunks: &[Value]) -> Vec<Value> {
    let translated = translated(request).unwrap();
    let mut stream = translated.back.stream().unwrap();
    let body: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    let mut out = stream.push(body.as_bytes());
    out.extend(stream.finish());
    let text = String::from_utf8(out).unwrap();
    let events = text.split_terminator("\n\n").enumerate().map(|(number, event)| {
        let (name, data) = event.split_once('\n').unwrap();
        let mut data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name, format!("event: {}", data["type"].as_str().unwrap()));
        assert_eq!(
            data.as_object_mut().unwrap().remove("sequence_number"),
            Some(number.into())
        );
        data
    });
    events.collect()
}

fn streaming() -> Value {
    asking(json!({"stream": true}))
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let kinds = events.iter().map(|event| event["type"].as_str().unwrap());
    kinds
        .map(|kind| kind.strip_prefix("response.").unwrap_or(kind))
        .collect()
}

fn answered(request: &Value, message: Value, finish: &str) -> Result<Value, Refusal> {
    let body = json!({"id": "c", "created": 7, "usage": usage(),
        "choices": [{"index": 0, "message": message, "finish_reason": finish}]});
    translated(request).unwrap().back.response(body.to_string().as_bytes())
}

fn message(status: &str, content: Value) -> Value {
    json!({"type": "message", "status": status, "role": "assistant", "content": content})
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

fn function_call(status: &str, call_id: &str, name: &str, arguments: &str) -> Value {
    json!({"type": "function_call", "status": status, "call_id": call_id, "name": name, "arguments": arguments})
}

#[test]
fn a_request_says_the_same_in_chat() {
    let body = json!({
        "model": "gpt", "instructions": "be brief", "store": false, "stream": true, "temperature": 0.5, "top_p": 0.9,
        "max_output_tokens": 100, "parallel_tool_calls": false, "user": "u", "metadata": {"k": "v"}, "background": false,
        "include": ["reasoning.encrypted_content"], "reasoning": {"effort": "high"}, "truncation": "disabled",
        "previous_response_id": null, "prompt_cache_key": "k", "service_tier": "flex", "top_logprobs": 0,
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "city", "strict": true, "schema": {"type": "object"}}},
        "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": false}],
        "tool_choice": {"type": "function", "name": "f"},
        "input": [
            {"role": "developer", "content": "dev"},
            {"role": "user", "content": [{"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "phase": "commentary", "content": [
                {"type": "output_text", "text": "o", "annotations": []}, {"type": "output_text", "text": "k", "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "t1", "name": "f", "arguments": "{\"x\":1}", "status": "completed"},
            {"type": "function_call", "id": null, "call_id": "t2", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "t1", "output": "42"},
            {"type": "function_call_output", "call_id": "t2", "output": [{"type": "input_text", "text": "4"}, {"type": "input_text", "text": "3"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "user", "content": [{"type": "input_text", "text": "and?"}]}]});
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
    let expected = json!({
        "model": "gpt", "temperature": 0.5, "top_p": 0.9, "max_tokens": 100, "user": "u", "parallel_tool_calls": false,
        "stream": true, "stream_options": {"include_usage": true}, "verbosity": "low",
        "tools": [{"type": "function", "function":
            {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": false}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema",
            "json_schema": {"name": "city", "strict": true, "schema": {"type": "object"}}},
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "system", "content": "dev"},
            {"role": "user", "content": [{"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}]},
            {"role": "assistant", "content": "ok", "tool_calls": [call("t1", "{\"x\":1}"), call("t2", "{}")]},
            {"role": "tool", "tool_call_id": "t1", "content": "42"},
            {"role": "tool", "tool_call_id": "t2", "content": "4\n3"},
            {"role": "assistant", "content": "", "refusal": "no"},
            {"role": "user", "content": "and?"}]});
    assert_eq!(translated(&body).unwrap().body, expected);
}

#[test]
fn a_choice_of_some_tools_offers_these_alone() {
    let function = |name: &str| json!({"type": "function", "name": name, "parameters": {"type": "object"}});
    let choice = json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]});
    let body = asking(json!({"tools": [function("f"), function("g")], "tool_choice": choice}));
    let chat = translated(&body).unwrap().body;
    assert_eq!(chat["tools"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&chat["tools"][0]["function"]["name"], &chat["tool_choice"]),
        (&json!("g"), &json!("required"))
    );
}

#[test]
fn what_the_provider_holds_stays_with_it() {
    let mut kept = asking(json!({}));
    kept.as_object_mut().unwrap().remove("store");
    let items = |item: Value| asking(json!({"input": [item]}));
    for (body, place) in [
        (kept, "store"),
        (asking(json!({"store": true})), "store"),
        (asking(json!({"store": null})), "store"),
        (
            asking(json!({"previous_response_id": "resp_1"})),
            "previous_response_id",
        ),
        (asking(json!({"conversation": "conv_1"})), "conversation"),
        (asking(json!({"prompt": {"id": "p"}})), "prompt"),
        (asking(json!({"background": true})), "background"),
        (items(json!({"type": "item_reference", "id": "msg_1"})), "input[0]"),
        (items(json!({"id": "msg_1"})), "input[0]"),
    ] {
        assert_eq!(
            translated(&body).unwrap_err(),
            Refusal::StateAtProvider(place.into()),
            "{body}"
        );
    }
}

#[test]
fn what_chat_cant_say_is_refused_with_its_place() {
    let tool = |tool: Value| asking(json!({"tools": [tool]}));
    let item = |item: Value| asking(json!({"input": [item]}));
    let said = |role: &str, part: Value| item(json!({"role": role, "content": [part]}));
    for (body, place) in [
        (asking(json!({"truncation": "auto"})), "truncation"),
        (asking(json!({"top_logprobs": 2})), "top_logprobs"),
        (
            asking(json!({"include": ["message.output_text.logprobs"]})),
            "include[0]",
        ),
        (
            asking(json!({"context_management": [{"type": "compaction"}]})),
            "context_management",
        ),
        (asking(json!({"some_new_field": 0})), "some_new_field"),
        (asking(json!({"n": 2})), "n"),
        (
            asking(json!({"text": {"format": {"type": "grammar"}}})),
            "text.format.type",
        ),
        (
            asking(json!({"tool_choice": {"type": "file_search"}})),
            "tool_choice.type",
        ),
        (
            asking(json!({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}})),
            "tool_choice.tools[0]",
        ),
        (tool(json!({"type": "web_search"})), "tools[0]"),
        (tool(json!({"type": "custom", "name": "c"})), "tools[0]"),
        (
            tool(json!({"type": "function", "name": "f", "defer_loading": true})),
            "tools[0].defer_loading",
        ),
        (item(json!({"type": "web_search_call", "id": "ws_1"})), "input[0]"),
        (item(json!({"type": "custom_tool_call", "call_id": "c"})), "input[0]"),
        (
            item(json!({"type": "compaction", "encrypted_content": "x"})),
            "input[0]",
        ),
        (
            said("user", json!({"type": "input_file", "file_id": "f"})),
            "input[0].content[0]",
        ),
        (said("user", json!({"type": "input_audio"})), "input[0].content[0]"),
        (
            said("user", json!({"type": "input_image", "file_id": "f"})),
            "input[0].content[0].file_id",
        ),
        (
            said("system", json!({"type": "input_image", "image_url": "u"})),
            "input[0].content[0]",
        ),
        (
            said("critic", json!({"type": "input_text", "text": "x"})),
            "input[0].role",
        ),
        (
            said(
                "assistant",
                json!({"type": "output_text", "text": "x", "annotations": [{"type": "url_citation"}]}),
            ),
            "input[0].content[0].annotations",
        ),
        (
            item(
                json!({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": "u"}]}),
            ),
            "input[0].output[0]",
        ),
    ] {
        match translated(&body) {
            Err(Refusal::Inexpressible { at, .. }) => assert_eq!(at, place, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    for broken in [
        json!({"input": 1}),
        json!({"input": [1]}),
        json!({"instructions": {"a": 1}}),
    ] {
        assert!(matches!(translated(&asking(broken)), Err(Refusal::Unreadable(_))));
    }
}

#[test]
fn an_answer_comes_back_as_a_response_that_repeats_the_request() {
    let tools = json!([{"type": "function", "name": "f", "parameters": {}, "strict": true}]);
    let request =
        asking(json!({"instructions": "be brief", "temperature": 0.5, "tools": tools, "metadata": {"k": "v"}}));
    let spoken = json!({"content": "ok", "reasoning_content": "hm", "tool_calls": [
        {"id": "a", "function": {"name": "f", "arguments": "{\"x\":1}"}}]});
    let expected = json!({
        "id": "c", "object": "response", "created_at": 7, "status": "completed", "background": false, "error": null,
        "incomplete_details": null, "model": "gpt", "previous_response_id": null, "top_logprobs": 0,
        "output": [message("completed", json!([text_part("ok")])), function_call("completed", "a", "f", "{\"x\":1}")],
        "usage": {"input_tokens": 12, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
            "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 19},
        "instructions": "be brief", "max_output_tokens": null, "max_tool_calls": null, "metadata": {"k": "v"},
        "parallel_tool_calls": true, "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null},
        "safety_identifier": null, "store": false, "temperature": 0.5, "text": {"format": {"type": "text"}},
        "tool_choice": "auto", "tools": tools, "top_p": 1.0, "truncation": "disabled", "user": null});
    assert_eq!(answered(&request, spoken, "tool_calls").unwrap(), expected);
}

#[test]
fn an_answer_that_was_cut_is_incomplete() {
    for (finish, reason) in [("length", "max_output_tokens"), ("content_filter", "content_filter")] {
        let answer = answered(&asking(json!({})), json!({"content": "x"}), finish).unwrap();
        assert_eq!(
            (&answer["status"], &answer["incomplete_details"]),
            (&json!("incomplete"), &json!({"reason": reason}))
        );
        assert_eq!(
            answer["output"],
            json!([message("incomplete", json!([text_part("x")]))])
        );
    }
    let refused = answered(&asking(json!({})), json!({"content": null, "refusal": "no"}), "stop").unwrap();
    let part = json!([{"type": "refusal", "refusal": "no"}]);
    assert_eq!(refused["output"], json!([message("completed", part)]));
    let empty = answered(&asking(json!({})), json!({"content": ""}), "stop").unwrap();
    assert_eq!(empty["output"], json!([message("completed", json!([text_part("")]))]));
    let nameless = json!({"tool_calls": [{"function": {"name": "a b", "arguments": "{}"}}]});
    assert!(answered(&asking(json!({})), nameless, "tool_calls").is_err());
}

#[test]
fn a_stream_comes_back_as_events() {
    let piece = |delta: Value| chunk(json!({"tool_calls": [delta]}));
    let read = events(
        &streaming(),
        &[
            chunk(json!({"role": "assistant", "content": ""})),
            chunk(json!({"reasoning_content": "hm"})),
            chunk(json!({"content": "o"})),
            chunk(json!({"content": "k"})),
            piece(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"x\""}})),
            piece(json!({"index": 0, "function": {"arguments": ":1}"}})),
            piece(json!({"index": 1, "id": "b", "function": {"name": "g", "arguments": ""}})),
            finish("tool_calls"),
        ],
    );
    let opened = read[0]["response"].clone();
    assert_eq!(
        (
            &opened["id"],
            &opened["status"],
            &opened["created_at"],
            &opened["output"]
        ),
        (&json!("c"), &json!("in_progress"), &json!(7), &json!([]))
    );
    let mut closed = opened.clone();
    closed["status"] = "completed".into();
    closed["output"] = json!([
        message("completed", json!([text_part("ok")])),
        function_call("completed", "a", "f", "{\"x\":1}"),
        function_call("completed", "b", "g", "{}")
    ]);
    closed["usage"] = json!({"input_tokens": 12, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 19});
    let item = |kind: &str, index: u64, item: &Value| json!({"type": kind, "output_index": index, "item": item});
    let added = |index: u64, value: Value| item("response.output_item.added", index, &value);
    let done = |index: u64| item("response.output_item.done", index, &closed["output"][index as usize]);
    let of = |kind: &str, index: u64, fields: Value| {
        let mut event = json!({"type": kind, "output_index": index, "item_id": format!("item_{index}")});
        event
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        event
    };
    let text = |kind: &str, mut fields: Value| {
        fields["content_index"] = 0.into();
        of(kind, 0, fields)
    };
    let arguments =
        |index: u64, piece: &str| of("response.function_call_arguments.delta", index, json!({"delta": piece}));
    let all = |index: u64, name: &str, whole: &str| {
        of(
            "response.function_call_arguments.done",
            index,
            json!({"name": name, "arguments": whole}),
        )
    };
    let expected = [
        json!({"type": "response.created", "response": opened}),
        json!({"type": "response.in_progress", "response": opened}),
        added(0, message("in_progress", json!([]))),
        text("response.content_part.added", json!({"part": text_part("")})),
        text("response.output_text.delta", json!({"delta": "o", "logprobs": []})),
        text("response.output_text.delta", json!({"delta": "k", "logprobs": []})),
        text("response.output_text.done", json!({"text": "ok", "logprobs": []})),
        text("response.content_part.done", json!({"part": text_part("ok")})),
        done(0),
        added(1, function_call("in_progress", "a", "f", "")),
        arguments(1, "{\"x\""),
        arguments(1, ":1}"),
        all(1, "f", "{\"x\":1}"),
        done(1),
        added(2, function_call("in_progress", "b", "g", "")),
        arguments(2, "{}"),
        all(2, "g", "{}"),
        done(2),
        json!({"type": "response.completed", "response": closed}),
    ];
    for (read, expected) in read.iter().zip(&expected) {
        assert_eq!(read, expected);
    }
    assert_eq!(read.len(), expected.len());
}

#[test]
fn text_and_a_refusal_are_parts_of_one_message() {
    let read = events(
        &streaming(),
        &[
            chunk(json!({"content": "I"})),
            chunk(json!({"refusal": "no"})),
            finish("stop"),
        ],
    );
    let part = [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
    ];
    let second = [
        "content_part.added",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
    ];
    let expected = [&["created", "in_progress"], &part[..], &second, &["completed"]].concat();
    assert_eq!(kinds(&read), expected);
    assert_eq!(read[8]["content_index"], 1);
    let parts = json!([text_part("I"), {"type": "refusal", "refusal": "no"}]);
    assert_eq!(
        read.last().unwrap()["response"]["output"],
        json!([message("completed", parts)])
    );
}

#[test]
fn a_stream_that_is_no_whole_answer_fails() {
    let text = chunk(json!({"content": "ok"}));
    let named =
        |name: &str| chunk(json!({"tool_calls": [{"index": 0, "function": {"name": name, "arguments": "{}"}}]}));
    for (tail, code) in [
        (vec![], "server_error"),
        (
            vec![json!({"error": {"message": "m", "code": 429}})],
            "rate_limit_exceeded",
        ),
        (vec![named("a b"), finish("tool_calls")], "server_error"),
    ] {
        let read = events(&streaming(), &[vec![text.clone()], tail].concat());
        let [error, failed] = read.last_chunk().unwrap();
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)));
        assert_eq!(
            (&failed["type"], &failed["response"]["status"]),
            (&json!("response.failed"), &json!("failed"))
        );
        assert!(!kinds(&read).contains(&"completed"));
    }
    assert_eq!(kinds(&events(&streaming(), &[])), ["error"]);
    let cut = events(&streaming(), &[text, finish("length")]);
    assert_eq!(*kinds(&cut).last().unwrap(), "incomplete");
    let empty = events(&streaming(), &[chunk(json!({"content": ""})), finish("stop")]);
    assert_eq!(
        empty.last().unwrap()["response"]["output"],
        json!([message("completed", json!([text_part("")]))])
    );
}

#[test]
fn no_item_has_an_id_that_an_agent_would_send_back() {
    let called = chunk(
        json!({"content": "x", "tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]}),
    );
    let read = events(&streaming(), &[called, finish("tool_calls")]);
    let items = read.iter().filter_map(|event| event.get("item"));
    let outputs = read
        .iter()
        .filter_map(|event| event.pointer("/response/output")?.as_array())
        .flatten();
    let items: Vec<&Value> = items.chain(outputs).collect();
    assert_eq!(items.len(), 6);
    assert!(items.iter().all(|item| item.get("id").is_none()));
}

#[test]
fn errors_have_the_words_of_the_api() {
    for (status, kind, code) in [
        (400, "invalid_request_error", Value::Null),
        (401, "authentication_error", Value::Null),
        (429, "rate_limit_error", "rate_limit_exceeded".into()),
        (502, "server_error", "server_error".into()),
    ] {
        let expected = json!({"error": {"message": "m", "type": kind, "param": null, "code": code}});
        assert_eq!(error(status, "m"), expected);
    }
}
