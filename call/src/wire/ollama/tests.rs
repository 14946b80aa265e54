//! Unit tests of the Ollama parser.

use serde_json::json;

use super::super::{assemble, output_starts_at, parse_request, parse_request_at, parse_response};
use super::*;
use crate::call::Api;

const API: Api = Api::Ollama;

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

fn piece(message: Value) -> Value {
    json!({"model": "m", "created_at": "t", "message": message, "done": false})
}

fn done() -> Value {
    json!({"model": "m", "created_at": "t9", "message": {"role": "assistant", "content": ""}, "done": true,
        "done_reason": "stop", "total_duration": 9, "prompt_eval_count": 17, "eval_count": 5})
}

fn folded(body: &str) -> Assembled {
    assemble(API, Some("application/x-ndjson"), body.as_bytes()).unwrap()
}

fn read(status: u16, body: &str) -> Response {
    parse_response(API, status, &folded(body))
}

fn call(id: Option<&str>, name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        id: id.map(Into::into),
        name: name.into(),
        arguments: arguments.into(),
    }
}

#[test]
fn a_stream_folds_to_the_answer_that_it_stands_for() {
    let stream = lines(&[
        piece(json!({"role": "assistant", "content": "", "thinking": "h"})),
        piece(json!({"role": "assistant", "content": "", "thinking": "m"})),
        piece(json!({"role": "assistant", "content": "4"})),
        piece(json!({"role": "assistant", "content": "2"})),
        piece(
            json!({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}),
        ),
        piece(json!({"role": "assistant", "content": "",
            "tool_calls": [{"id": "c", "function": {"index": 1, "name": "g", "arguments": {}}}]})),
        done(),
    ]);
    let expected = json!({"model": "m", "created_at": "t9", "message": {"role": "assistant", "content": "42", "thinking": "hm",
        "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}},
            {"id": "c", "function": {"index": 1, "name": "g", "arguments": {}}}]},
        "done": true, "done_reason": "stop", "total_duration": 9, "prompt_eval_count": 17, "eval_count": 5});
    let assembled = folded(&stream);
    assert_eq!(
        assembled,
        Assembled {
            body: expected.clone(),
            streamed: true,
            ..Assembled::default()
        }
    );
    // Known by its lines alone, and read as the answer that was not streamed.
    assert_eq!(assemble(API, None, stream.as_bytes()).unwrap(), assembled);
    let response = parse_response(API, 200, &assembled);
    let whole = assemble(API, Some("application/json"), expected.to_string().as_bytes()).unwrap();
    assert_eq!(
        (parse_response(API, 200, &whole), whole.streamed),
        (response.clone(), false)
    );

    assert_eq!(
        (response.output_text.as_str(), response.reasoning_text.as_str()),
        ("42", "hm")
    );
    assert_eq!(
        response.tool_calls,
        [call(None, "f", "{\"x\":1}"), call(Some("c"), "g", "{}")]
    );
    assert_eq!((response.choices, response.model.as_deref()), (1, Some("m")));
    assert_eq!((response.usage.input, response.usage.output), (Some(17), Some(5)));
}

#[test]
fn a_finish_word_of_stop_says_nothing_of_calls() {
    let calling = piece(json!({"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}));
    let response = read(200, &lines(&[calling, done()]));
    assert_eq!(response.finish_reason.as_deref(), Some("stop"));
    assert_eq!(response.tool_calls, [call(None, "f", "{}")]);
}

#[test]
fn generate_answers_with_a_text_of_its_own_and_may_leave_the_prompt_uncounted() {
    let stream = lines(&[
        json!({"model": "m", "response": "", "thinking": "hm", "done": false}),
        json!({"model": "m", "response": "4", "done": false}),
        json!({"model": "m", "response": "2", "done": false}),
        json!({"model": "m", "response": "", "done": true, "done_reason": "length", "context": [1, 2], "eval_count": 2}),
    ]);
    let response = read(200, &stream);
    assert_eq!(
        (response.output_text.as_str(), response.reasoning_text.as_str()),
        ("42", "hm")
    );
    assert_eq!(
        (response.choices, response.finish_reason.as_deref(), response.partial),
        (1, Some("length"), false)
    );
    assert_eq!((response.usage.input, response.usage.output), (None, Some(2)));
    let empty = json!({"model": "m", "response": "", "done": true, "done_reason": "load"}).to_string();
    assert_eq!((read(200, &empty).choices, read(200, &empty).is_empty()), (1, true));
}

#[test]
fn a_stream_that_broke_off_keeps_what_came() {
    let start = lines(&[piece(json!({"role": "assistant", "content": "4"}))]);
    let cut = start.clone() + "{\"model\":\"m\",\"message\":{\"content\":\"2";
    let assembled = folded(&cut);
    assert_eq!((assembled.partial, assembled.skipped_events), (true, 1));
    assert_eq!(parse_response(API, 200, &assembled).output_text, "4");
    let failed = read(
        200,
        &(start + "{\"error\":\"model runner has unexpectedly stopped\"}\n"),
    );
    assert_eq!(failed.error, Some("model runner has unexpectedly stopped".into()));
    assert_eq!((failed.partial, failed.output_text.as_str()), (true, "4"));
    assert!(folded("").partial);
}

#[test]
fn an_error_is_text_in_one_line_or_in_a_body() {
    for content_type in ["application/x-ndjson", "application/json; charset=utf-8"] {
        let assembled = assemble(API, Some(content_type), b"{\"error\":\"model 'm' not found\"}").unwrap();
        let response = parse_response(API, 404, &assembled);
        assert_eq!(response.error, Some("model 'm' not found".into()));
        assert_eq!((response.partial, response.choices), (false, 0));
        assert_eq!(assembled.body, json!({"error": "model 'm' not found"}));
    }
}

#[test]
fn vectors_have_no_choices() {
    let embed = read(
        200,
        &json!({"model": "m", "embeddings": [[0.5]], "prompt_eval_count": 8}).to_string(),
    );
    assert_eq!(
        (embed.choices, embed.usage.input, embed.usage.output),
        (0, Some(8), None)
    );
    assert_eq!(read(200, &json!({"embedding": [0.5]}).to_string()).choices, 0);
}

#[test]
fn output_starts_with_text_thinking_or_a_call() {
    let before = lines(&[piece(json!({"role": "assistant", "content": "", "thinking": ""}))]);
    for line in [
        piece(json!({"content": "x"})),
        piece(json!({"content": "", "thinking": "x"})),
        piece(json!({"content": "", "tool_calls": [{"function": {"name": "f"}}]})),
        json!({"response": "x"}),
    ] {
        let body = before.clone() + &lines(&[line]);
        let more = body.clone() + &lines(&[done()]);
        assert_eq!(output_starts_at(API, None, more.as_bytes()), Some(body.len()));
    }
    assert_eq!(
        output_starts_at(API, None, (before + &lines(&[done()])).as_bytes()),
        None
    );
}

#[test]
fn chats_are_read_in_every_form() {
    let body = json!({
        "model": "m", "keep_alive": null, "think": true, "format": {"type": "object"},
        "options": {"num_predict": 10, "temperature": 0.5},
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hi", "images": ["AA==", "AA=="]},
            {"role": "assistant", "thinking": "hm", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}},
                {"id": "c", "function": {"name": "g", "arguments": "{\"y\": 2}"}}]},
            {"role": "tool", "content": "42", "tool_name": "f"},
            {"role": "tool", "content": "43", "tool_call_id": "c"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]});
    let request = parse_request(API, body.to_string().as_bytes()).unwrap();
    let expected = [
        Message::text(Role::System, "be brief"),
        Message {
            media_parts: 2,
            ..Message::text(Role::User, "hi")
        },
        Message {
            tool_calls: vec![call(None, "f", "{\"x\":1}"), call(Some("c"), "g", "{\"y\": 2}")],
            ..Message::text(Role::Assistant, "")
        },
        Message::text(Role::Tool, "42"),
        Message {
            tool_call_id: Some("c".into()),
            ..Message::text(Role::Tool, "43")
        },
    ];
    assert_eq!(request.messages, expected);
    assert_eq!((request.model.as_deref(), request.stream), (Some("m"), true));
    assert_eq!((request.max_tokens, request.temperature), (Some(10), Some(0.5)));
    assert_eq!(
        request.response_format,
        ResponseFormat::JsonSchema(json!({"type": "object"}))
    );
    assert_eq!(
        (request.tools[0].name.as_str(), &request.tools[0].schema),
        ("f", &json!({"type": "object"}))
    );
}

#[test]
fn nothing_said_of_streaming_asks_for_a_stream_where_there_is_one() {
    let streams = |path: &str, body: Value| parse_request_at(API, path, body.to_string().as_bytes()).unwrap().stream;
    assert!(streams("/api/chat", json!({})) && streams("/api/generate", json!({"stream": null})));
    assert!(!streams("/api/chat", json!({"stream": false})));
    assert!(!streams("/api/embed", json!({"input": "x"})) && !streams("/api/embeddings", json!({"prompt": "x"})));
}

#[test]
fn formats_and_limits_may_be_empty_words() {
    let request = |body: Value| parse_request(API, body.to_string().as_bytes()).unwrap();
    assert_eq!(
        request(json!({"format": "json"})).response_format,
        ResponseFormat::JsonObject
    );
    for none in [json!(""), json!(null)] {
        assert_eq!(request(json!({"format": none})).response_format, ResponseFormat::Text);
    }
    assert_eq!(request(json!({"options": {"num_predict": -1}})).max_tokens, None);
}

#[test]
fn prompts_and_texts_to_embed_are_messages() {
    let messages = |body: Value| parse_request(API, body.to_string().as_bytes()).unwrap().messages;
    let generate = json!({"system": "be", "prompt": "hi", "images": ["AA=="], "template": "", "context": [1]});
    let prompt = Message {
        media_parts: 1,
        ..Message::text(Role::User, "hi")
    };
    assert_eq!(messages(generate), [Message::text(Role::System, "be"), prompt]);
    let user = |text: &str| Message::text(Role::User, text);
    assert_eq!(
        messages(json!({"system": "", "prompt": "hi", "images": []})),
        [user("hi")]
    );
    assert_eq!(messages(json!({"input": ["a", "b"]})), [user("a"), user("b")]);
    assert_eq!(messages(json!({"input": "a"})), [user("a")]);
}
