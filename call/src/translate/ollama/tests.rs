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
        api: Api::Ollama,
        model: "llama".into(),
        stream: true,
        as_array: false,
        request: json!({}),
    }
}

/// The lines that the client gets of a chat stream of these chunks.
fn streamed(chunks: &[Value]) -> Vec<Value> {
    let mut stream = back().stream().unwrap();
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend(stream.push(format!("data: {chunk}\n\n").as_bytes()));
    }
    out.extend(stream.push(b"data: [DONE]\n\n"));
    out.extend(stream.finish());
    let text = String::from_utf8(out).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn piece(delta: Value) -> Value {
    json!({"id": "chatcmpl-1", "created": 1_795_249_800, "choices": [{"index": 0, "delta": delta}]})
}

fn finish(word: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": word}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
}

#[test]
fn a_whole_request_is_said_in_chat() {
    let body = json!({
        "model": "llama", "stream": false, "think": true, "keep_alive": "5m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is this?", "images": ["iVBORw0KGgoAAA=="]},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [
                {"function": {"name": "a", "arguments": {"x": 1}}},
                {"id": "own", "type": "function", "function": {"index": 1, "name": "b", "arguments": {}}},
            ]},
            {"role": "tool", "content": "of b", "tool_name": "b"},
            {"role": "tool", "content": "of a"},
            {"role": "assistant", "content": "done", "tool_calls": []},
            {"role": "user", "content": "thanks", "images": null},
        ],
        "tools": [{"type": "function", "function": {"name": "a", "description": "d", "parameters": {"type": "object"}}}],
        "format": {"type": "object", "properties": {}},
        "options": {
            "temperature": 0.1, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "seed": 1, "num_predict": 100, "stop": "END",
            "presence_penalty": 0.1, "frequency_penalty": 0.2, "num_thread": 4, "mirostat": 0, "mirostat_tau": 5.0,
            "repeat_penalty": 1.0, "repeat_last_n": 64, "num_gpu": 1,
        },
    });
    let expected = json!({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgoAAA=="}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call00000", "type": "function", "function": {"name": "a", "arguments": "{\"x\":1}"}},
                {"id": "own", "type": "function", "function": {"name": "b", "arguments": "{}"}},
            ]},
            {"role": "tool", "tool_call_id": "own", "content": "of b"},
            {"role": "tool", "tool_call_id": "call00000", "content": "of a"},
            {"role": "assistant", "content": "done"},
            {"role": "user", "content": "thanks"},
        ],
        "tools": [{"type": "function", "function": {"name": "a", "description": "d", "parameters": {"type": "object"}}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "response", "schema": {"type": "object", "properties": {}}}},
        "temperature": 0.1, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "seed": 1,
        "presence_penalty": 0.1, "frequency_penalty": 0.2, "max_tokens": 100, "stop": ["END"],
    });
    assert_eq!(chat(body), expected);
}

#[test]
fn what_says_nothing_adds_nothing() {
    let body = json!({
        "model": "llama", "messages": [{"role": "user", "content": "hi"}], "stream": true, "format": "", "options": {"num_predict": -1},
        "keep_alive": null, "tools": [], "logprobs": false, "top_logprobs": 0,
    });
    assert_eq!(chat(body), json!({"messages": [{"role": "user", "content": "hi"}]}));
    let json = json!({"messages": [], "format": "json"});
    assert_eq!(chat(json)["response_format"], json!({"type": "json_object"}));
}

#[test]
fn what_chat_cannot_say_is_refused_where_it_stands() {
    for (name, value, at) in [
        ("options", json!({"num_ctx": 4096}), "options.num_ctx"),
        ("options", json!({"mirostat": 2}), "options.mirostat"),
        ("options", json!({"repeat_penalty": 1.1}), "options.repeat_penalty"),
        ("options", json!({"repeat_last_n": 3}), "options.repeat_last_n"),
        ("options", json!({"something_new": true}), "options.something_new"),
        ("format", json!("xml"), "format"),
        ("raw", json!(true), "raw"),
        ("template", json!("{{ .Prompt }}"), "template"),
        ("suffix", json!("x"), "suffix"),
        ("prompt", json!("of /api/generate"), "prompt"),
        ("logprobs", json!(true), "logprobs"),
        ("tools", json!([{"type": "web_search"}]), "tools[0].type"),
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
            json!([{"role": "assistant", "content": "Well,"}]),
            "messages",
        ),
        (
            "messages",
            json!([{"role": "user", "content": "x", "images": ["JVBERi0x"]}]),
            "messages[0].images[0]",
        ),
        (
            "messages",
            json!([{"role": "system", "content": "x", "images": ["iVBORw0KGgo"]}]),
            "messages[0].images",
        ),
        (
            "messages",
            json!([{"role": "user", "content": "x", "new": 1}]),
            "messages[0].new",
        ),
        ("messages", json!([{"role": "tool", "content": "x"}]), "messages[0]"),
    ] {
        let mut body = json!({"model": "llama", "messages": [{"role": "user", "content": "hi"}]});
        body[name] = value;
        match request(&body) {
            Err(Refusal::Inexpressible { at: found, .. }) => assert_eq!(found, at),
            other => panic!("{at}: {other:?}"),
        }
    }
}

#[test]
fn the_whole_answer_is_a_line_that_is_done() {
    let completion = json!({
        "id": "chatcmpl-1", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "content": null, "reasoning": "hm",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "a", "arguments": "{\"x\": 1}"}}],
        }}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    });
    let answer = back().response(completion.to_string().as_bytes()).unwrap();
    let message =
        json!({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "a", "arguments": {"x": 1}}}]});
    assert_eq!((&answer["model"], &answer["message"]), (&json!("llama"), &message));
    assert_eq!(
        (&answer["done"], &answer["done_reason"]),
        (&json!(true), &json!("stop"))
    );
    assert_eq!(
        (&answer["prompt_eval_count"], &answer["eval_count"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(answer["created_at"], "1970-01-01T00:00:00Z");
    let mut dated = completion.clone();
    dated["created"] = 1_795_249_800.into();
    let dated = back().response(dated.to_string().as_bytes()).unwrap();
    assert_eq!(dated["created_at"], "2026-11-21T08:30:00Z");
    let malformed = completion.to_string().replace("{\\\"x\\\": 1}", "{\\\"x\\\"");
    assert!(back().response(malformed.as_bytes()).is_err());
}

#[test]
fn a_stream_is_lines_with_whole_calls() {
    let lines = streamed(&[
        piece(json!({"role": "assistant", "content": ""})),
        piece(json!({"reasoning": "hm"})),
        piece(json!({"content": "Hi"})),
        piece(json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "a", "arguments": "{\"x\""}}]})),
        piece(json!({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]})),
        finish("tool_calls"),
    ]);
    let made = "2026-11-21T08:30:00Z";
    let expected = [
        json!({"model": "llama", "created_at": made, "message": {"role": "assistant", "content": "Hi"}, "done": false}),
        json!({"model": "llama", "created_at": made, "message": {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "a", "arguments": {"x": 1}}},
        ]}, "done": false}),
        json!({
            "model": "llama", "created_at": made, "message": {"role": "assistant", "content": ""}, "done": true,
            "done_reason": "stop", "total_duration": 0, "load_duration": 0, "prompt_eval_count": 3,
            "prompt_eval_duration": 0, "eval_count": 2, "eval_duration": 0,
        }),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_stream_that_breaks_off_or_fails_is_never_done() {
    let text = piece(json!({"content": "a"}));
    let call =
        piece(json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{\"x\""}}]}));
    let cut = streamed(&[text.clone(), call.clone()]);
    assert_eq!(
        (&cut[0]["done"], &cut[1..]),
        (&json!(false), [json!({"error": "the answer broke off"})].as_slice())
    );
    let failed = streamed(&[text.clone(), json!({"error": {"message": "busy"}}), finish("stop")]);
    assert_eq!((failed.len(), &failed[1]), (2, &json!({"error": "busy"})));
    let malformed = streamed(&[call.clone(), finish("tool_calls")]);
    assert_eq!(
        malformed,
        [json!({"error": "the arguments of the tool call `f` are no JSON object"})]
    );
    let short = streamed(&[text, call, finish("length")]);
    assert_eq!((short.len(), &short[1]["done_reason"]), (2, &json!("length")));
}
