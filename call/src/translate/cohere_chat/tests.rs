use serde_json::json;

use super::*;
use crate::call::Api;

fn chat(body: Value) -> Value {
    request(&body).unwrap_or_else(|refusal| panic!("{refusal}: {body}"))
}

fn back() -> Back {
    Back {
        spoken: crate::call::Api::OpenaiChat,
        created: 0,
        api: Api::CohereChat,
        model: "command".into(),
        stream: true,
        as_array: false,
        request: json!({}),
    }
}

/// What the client gets of a chat stream of these chunks.
fn streamed(chunks: &[Value]) -> String {
    let mut stream = back().stream().unwrap();
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend(stream.push(format!("data: {chunk}\n\n").as_bytes()));
    }
    out.extend(stream.push(b"data: [DONE]\n\n"));
    out.extend(stream.finish());
    String::from_utf8(out).unwrap()
}

/// Types of the events, in order.
fn types(stream: &str) -> Vec<&str> {
    stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect()
}

fn piece(delta: Value) -> Value {
    json!({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta}]})
}

fn call(index: usize, name: &str, arguments: &str) -> Value {
    let function = json!({"name": name, "arguments": arguments});
    piece(
        json!({"tool_calls": [{"index": index, "id": format!("c{index}"), "type": "function", "function": function}]}),
    )
}

fn finish(word: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": word}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
}

#[test]
fn a_whole_request_is_said_in_chat() {
    let function = json!({"name": "a", "description": "d", "parameters": {"type": "object"}});
    let body = json!({
        "model": "command", "stream": true, "priority": 3, "thinking": {"type": "enabled", "token_budget": 10},
        "safety_mode": "CONTEXTUAL", "citation_options": {"mode": "OFF"}, "documents": [],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            ]},
            {"role": "assistant", "tool_plan": "I will look.", "tool_calls": [
                {"id": "a_1", "type": "function", "function": {"name": "a", "arguments": "{\"x\":1}"}},
                {"id": "a_2", "type": "function", "function": {"name": "a", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "a_1", "content": "one"},
            {"role": "tool", "tool_call_id": "a_2", "content": [
                {"type": "text", "text": "two"},
                {"type": "document", "document": {"data": {"three": 3}}},
                {"type": "document", "document": {"id": "4", "data": "four"}},
            ]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "done"}],
             "citations": [{"start": 0, "end": 1, "text": "d"}]},
            {"role": "user", "content": "thanks"},
        ],
        "tools": [{"type": "function", "function": function}],
        "strict_tools": true, "tool_choice": "REQUIRED",
        "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
        "max_tokens": 10, "stop_sequences": ["END"], "temperature": 0.3, "seed": 1, "k": 5, "p": 0.7,
        "frequency_penalty": 0.1, "presence_penalty": 0.2, "logprobs": false,
    });
    let expected = json!({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a_1", "type": "function", "function": {"name": "a", "arguments": "{\"x\":1}"}},
                {"id": "a_2", "type": "function", "function": {"name": "a", "arguments": "{}"}},
            ]},
            {"role": "tool", "tool_call_id": "a_1", "content": "one"},
            {"role": "tool", "tool_call_id": "a_2", "content": "two\n{\"three\":3}\n{\"id\":\"4\",\"data\":\"four\"}"},
            {"role": "assistant", "content": "done"},
            {"role": "user", "content": "thanks"},
        ],
        "tools": [{"type": "function", "function":
            {"name": "a", "description": "d", "parameters": {"type": "object"}, "strict": true}}],
        "tool_choice": "required",
        "response_format": {"type": "json_schema", "json_schema": {"name": "response", "schema": {"type": "object"}}},
        "max_tokens": 10, "temperature": 0.3, "top_p": 0.7, "seed": 1, "frequency_penalty": 0.1,
        "presence_penalty": 0.2, "top_k": 5, "stop": ["END"],
    });
    assert_eq!(chat(body), expected);
}

#[test]
fn what_says_nothing_adds_nothing() {
    let messages = json!([{"role": "user", "content": "hi"}]);
    let body = json!({
        "model": "command", "messages": messages, "k": 0, "tools": [], "tool_choice": "NONE",
        "response_format": {"type": "text"}, "safety_mode": "OFF", "strict_tools": false, "stop_sequences": [],
    });
    assert_eq!(chat(body), json!({"messages": messages}));
}

#[test]
fn what_chat_cannot_say_is_refused_where_it_stands() {
    for (name, value, at) in [
        ("documents", json!(["a"]), "documents"),
        ("citation_options", json!({"mode": "FAST"}), "citation_options.mode"),
        ("safety_mode", json!("STRICT"), "safety_mode"),
        (
            "messages",
            json!([{"role": "assistant", "content": "Well,"}]),
            "messages",
        ),
        ("logprobs", json!(true), "logprobs"),
        ("raw_prompting", json!(true), "raw_prompting"),
        ("message", json!("of v1"), "message"),
        ("chat_history", json!([]), "chat_history"),
        ("something_new", json!(1), "something_new"),
        ("tool_choice", json!("REQUIRED"), "tool_choice"),
        ("tool_choice", json!("MAYBE"), "tool_choice"),
        ("response_format", json!({"type": "xml"}), "response_format.type"),
        (
            "tools",
            json!([{"type": "function", "function": {"name": "a", "new": 1}}]),
            "tools[0].function.new",
        ),
        (
            "messages",
            json!([{"role": "critic", "content": "x"}]),
            "messages[0].role",
        ),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "audio"}]}]),
            "messages[0].content[0].type",
        ),
        (
            "messages",
            json!([{"role": "user", "content": "x", "new": 1}]),
            "messages[0].new",
        ),
        (
            "messages",
            json!([{"role": "tool", "tool_call_id": "a", "content": "x"}]),
            "messages[0].tool_call_id",
        ),
    ] {
        let mut body = json!({"model": "command", "messages": [{"role": "user", "content": "hi"}]});
        body[name] = value;
        match request(&body) {
            Err(Refusal::Inexpressible { at: found, .. }) => assert_eq!(found, at),
            other => panic!("{at}: {other:?}"),
        }
    }
}

#[test]
fn the_whole_answer_has_text_calls_and_usage() {
    let completion = |message: Value, word: &str| {
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}});
        let choices = json!([{"index": 0, "finish_reason": word, "message": message}]);
        json!({"id": "chatcmpl-1", "choices": choices, "usage": usage}).to_string()
    };
    let calls = json!({"content": "Looking.", "reasoning": "hm", "tool_calls": [
        {"id": "c 1", "type": "function", "function": {"name": "a", "arguments": "{\"x\": 1}"}},
    ]});
    let answer = back().response(completion(calls, "stop").as_bytes()).unwrap();
    let tokens = json!({"input_tokens": 3, "output_tokens": 2});
    let expected = json!({
        "id": "chatcmpl-1",
        "message": {
            "role": "assistant",
            "tool_calls": [{"id": super::super::ids::tool_call_id("c 1", 0), "type": "function", "function": {"name": "a", "arguments": "{\"x\": 1}"}}],
            "content": [{"type": "text", "text": "Looking."}],
        },
        "finish_reason": "TOOL_CALL",
        "usage": {"billed_units": tokens, "tokens": tokens, "cached_tokens": 1},
    });
    assert_eq!(answer, expected);
    for (word, expected) in [
        ("stop", "COMPLETE"),
        ("length", "MAX_TOKENS"),
        ("content_filter", "ERROR"),
    ] {
        let answer = back()
            .response(completion(json!({"content": "a"}), word).as_bytes())
            .unwrap();
        assert_eq!(answer["finish_reason"], expected);
    }
}

#[test]
fn a_stream_is_events_one_after_the_other() {
    let stream = streamed(&[
        piece(json!({"role": "assistant", "content": ""})),
        piece(json!({"reasoning": "hm"})),
        piece(json!({"content": "Hi"})),
        piece(json!({"content": "!"})),
        call(0, "a", "{\"x\""),
        piece(json!({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]})),
        call(1, "b", ""),
        finish("tool_calls"),
    ]);
    let expected = [
        "message-start",
        "content-start",
        "content-delta",
        "content-delta",
        "content-end",
        "tool-call-start",
        "tool-call-delta",
        "tool-call-delta",
        "tool-call-end",
        "tool-call-start",
        "tool-call-delta",
        "tool-call-end",
        "message-end",
    ];
    assert_eq!(types(&stream), expected);
    assert!(stream.ends_with("\n\ndata: [DONE]\n\n") && !stream.contains("hm"));
    for event in [
        json!({"id": "chatcmpl-1", "type": "message-start", "delta": {"message":
            {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}}),
        json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hi"}}}}),
        json!({"type": "tool-call-start", "index": 1, "delta": {"message": {"tool_calls":
            {"id": "c1", "type": "function", "function": {"name": "b", "arguments": ""}}}}}),
        json!({"type": "tool-call-delta", "index": 1, "delta": {"message": {"tool_calls": {"function": {"arguments": "{}"}}}}}),
        json!({"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": {
            "billed_units": {"input_tokens": 3, "output_tokens": 2}, "tokens": {"input_tokens": 3, "output_tokens": 2}}}}),
    ] {
        assert!(stream.contains(&format!("data: {event}\n\n")), "{event} in {stream}");
    }
}

#[test]
fn a_stream_that_breaks_off_or_fails_never_looks_complete() {
    let text = piece(json!({"content": "a"}));
    let cut = streamed(&[text.clone(), call(0, "f", "{")]);
    assert!(!cut.contains("usage") && !cut.contains("tool-call-end") && !cut.contains("[DONE]"));
    assert!(
        cut.ends_with("{\"finish_reason\":\"ERROR\",\"error\":\"the answer broke off\"}}\n\n"),
        "{cut}"
    );
    let failed = streamed(&[text, json!({"error": {"message": "busy"}}), finish("stop")]);
    assert!(
        failed.ends_with("\"delta\":{\"finish_reason\":\"ERROR\",\"error\":\"busy\"}}\n\n"),
        "{failed}"
    );
}

#[test]
fn a_call_that_cohere_would_not_take_back_is_an_error() {
    for (name, arguments) in [("f", "{\"a\""), ("f", "[]"), ("not plain", "{}")] {
        let malformed = streamed(&[call(0, name, arguments), finish("tool_calls")]);
        assert!(
            malformed.contains("ERROR") && !malformed.contains("tool-call-end"),
            "{malformed}"
        );
        let function = json!({"name": name, "arguments": arguments});
        let message = json!({"content": null, "tool_calls": [{"id": "c", "function": function}]});
        let choices = json!([{"index": 0, "finish_reason": "tool_calls", "message": message}]);
        assert!(
            back()
                .response(json!({"choices": choices}).to_string().as_bytes())
                .is_err()
        );
    }
    let short = streamed(&[call(0, "f", "{\"a\""), finish("length")]);
    assert!(short.contains("\"finish_reason\":\"MAX_TOKENS\""), "{short}");
}

#[test]
fn a_call_gets_an_id_that_no_call_of_the_history_has() {
    let mut back = back();
    back.request = json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "c0", "type": "function"}]}]});
    let mut stream = back.stream().unwrap();
    let out = stream.push(format!("data: {}\n\ndata: [DONE]\n\n", call(0, "a", "{}")).as_bytes());
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("\"id\":\"call_") && !out.contains("\"c0\""), "{out}");
}
