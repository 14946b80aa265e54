//! Unit tests of the Cohere parser.

use serde_json::json;

use super::super::{Assembled, assemble, output_starts_at, parse_request, parse_response};
use super::*;
use crate::call::{Api, Message, Request, ResponseFormat, Role};

const API: Api = Api::CohereChat;

/// Version 2's stream: named events, then `[DONE]`.
fn events(values: &[Value]) -> String {
    let event = |value: &Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    values.iter().map(event).collect::<String>() + "data: [DONE]\n\n"
}

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

fn of(kind: &str, index: u64, message: Value) -> Value {
    json!({"type": kind, "index": index, "delta": {"message": message}})
}

fn start() -> Value {
    json!({"type": "message-start", "id": "a", "delta": {"message":
        {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}})
}

fn end(finish_reason: &str) -> Value {
    json!({"type": "message-end", "delta": {"finish_reason": finish_reason, "usage": {
        "billed_units": {"input_tokens": 5, "output_tokens": 2},
        "tokens": {"input_tokens": 71.0, "output_tokens": 9}, "cached_tokens": 64}}})
}

fn folded(body: &str) -> Assembled {
    assemble(API, None, body.as_bytes()).unwrap()
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
fn a_stream_of_text_folds_to_the_answer_that_it_stands_for() {
    let stream = events(&[
        start(),
        of(
            "content-start",
            0,
            json!({"content": {"type": "thinking", "thinking": ""}}),
        ),
        of("content-delta", 0, json!({"content": {"thinking": "h"}})),
        of("content-delta", 0, json!({"content": {"thinking": "m"}})),
        json!({"type": "content-end", "index": 0}),
        of("content-start", 1, json!({"content": {"type": "text", "text": ""}})),
        of("content-delta", 1, json!({"content": {"text": "4"}})),
        of(
            "citation-start",
            0,
            json!({"citations": {"start": 0, "end": 1, "text": "4", "sources": []}}),
        ),
        json!({"type": "citation-end", "index": 0}),
        of("content-delta", 1, json!({"content": {"text": "2"}})),
        json!({"type": "content-end", "index": 1}),
        json!({"type": "debug", "prompt": null}),
        end("COMPLETE"),
    ]);
    let expected = json!({"id": "a", "finish_reason": "COMPLETE", "usage": end("")["delta"]["usage"],
        "message": {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "42"}],
            "citations": [{"start": 0, "end": 1, "text": "4", "sources": []}]}});
    let assembled = folded(&stream);
    let whole = Assembled {
        body: expected,
        streamed: true,
        ..Assembled::default()
    };
    assert_eq!(assembled, whole);
    let response = parse_response(API, 200, &assembled);
    assert_eq!(response, read(200, &assembled.body.to_string()));
    assert_eq!(
        (response.output_text.as_str(), response.reasoning_text.as_str()),
        ("42", "hm")
    );
    assert_eq!(
        (response.id.as_deref(), response.finish_reason.as_deref()),
        (Some("a"), Some("COMPLETE"))
    );
    let usage = Usage {
        input: Some(71),
        cached: Some(64),
        output: Some(9),
        ..Usage::default()
    };
    assert_eq!((response.choices, response.usage), (1, usage));
}

#[test]
fn a_stream_of_calls_keeps_the_plan_apart() {
    let start_call = |index, id: &str, name: &str| {
        let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": ""}});
        of("tool-call-start", index, json!({"tool_calls": call}))
    };
    let piece = |index, text: &str| {
        of(
            "tool-call-delta",
            index,
            json!({"tool_calls": {"function": {"arguments": text}}}),
        )
    };
    let mut all = vec![
        start(),
        of("tool-plan-delta", 0, json!({"tool_plan": "I will"})),
        of("tool-plan-delta", 0, json!({"tool_plan": " look."})),
        start_call(0, "f_1", "f"),
        piece(0, "{\n  \"x\""),
        start_call(1, "g_1", "g"),
        // Pieces belong to their index, not to the last call.
        piece(0, ": 1}"),
        json!({"type": "tool-call-end", "index": 0}),
        json!({"type": "tool-call-end", "index": 1}),
    ];
    let cut = read(200, events(&all).trim_end_matches("data: [DONE]\n\n"));
    all.push(end("TOOL_CALL"));
    let response = read(200, &events(&all));
    assert_eq!(
        (response.output_text.as_str(), response.reasoning_text.as_str()),
        ("", "I will look.")
    );
    let calls = [call(Some("f_1"), "f", "{\n  \"x\": 1}"), call(Some("g_1"), "g", "{}")];
    assert_eq!((&response.tool_calls[..], response.partial), (&calls[..], false));
    assert_eq!(
        (cut.tool_calls, cut.partial, cut.finish_reason),
        (calls.to_vec(), true, None)
    );
}

#[test]
fn the_kind_of_an_event_may_stand_in_its_name_or_in_its_data() {
    let all = [
        start(),
        of("content-delta", 0, json!({"content": {"text": "42"}})),
        of("brand-new-event", 0, json!({})),
        json!({"type": "another-event", "text": "no"}),
        end("COMPLETE"),
    ];
    let whole = folded(&events(&all));
    let in_data: String = all.iter().map(|event| format!("data: {event}\n\n")).collect();
    let in_name = all.map(|mut event| {
        let kind = event.as_object_mut().and_then(|event| event.remove("type")).unwrap();
        format!("event: {}\ndata: {event}\n\n", kind.as_str().unwrap())
    });
    assert_eq!(
        (folded(&in_data), folded(&in_name.concat())),
        (whole.clone(), whole.clone())
    );
    assert_eq!(
        (parse_response(API, 200, &whole).output_text.as_str(), whole.partial),
        ("42", false)
    );
}

#[test]
fn lines_of_version_1_end_with_the_whole_answer() {
    let whole = json!({"response_id": "r", "text": "42", "generation_id": "g", "finish_reason": "COMPLETE",
        "meta": {"billed_units": {"input_tokens": 7, "output_tokens": 2}, "tokens": {"input_tokens": 70, "output_tokens": 3}}});
    let pieces = [
        json!({"is_finished": false, "event_type": "stream-start", "generation_id": "g"}),
        json!({"is_finished": false, "event_type": "text-generation", "text": "4"}),
        json!({"is_finished": false, "event_type": "text-generation", "text": "2"}),
        json!({"is_finished": false, "event_type": "citation-generation", "citations": [{"start": 0}]}),
    ];
    let last = json!({"is_finished": true, "event_type": "stream-end", "response": whole, "finish_reason": "COMPLETE"});
    let all = [&pieces[..], &[last]].concat();
    let as_events: String = all.iter().map(|line| format!("data: {line}\n\n")).collect();
    for body in [lines(&all), as_events] {
        let assembled = folded(&body);
        assert_eq!(
            (&assembled.body, assembled.partial, assembled.streamed),
            (&whole, false, true)
        );
        let response = parse_response(API, 200, &assembled);
        assert_eq!((response.output_text.as_str(), response.choices), ("42", 1));
        assert_eq!(
            (response.id.as_deref(), response.finish_reason.as_deref()),
            (Some("r"), Some("COMPLETE"))
        );
        assert_eq!((response.usage.input, response.usage.output), (Some(70), Some(3)));
    }
    let cut = folded(&lines(&pieces));
    let kept = json!({"generation_id": "g", "text": "42", "citations": [{"start": 0}]});
    assert_eq!((cut.body, cut.partial), (kept, true));
}

#[test]
fn calls_of_version_1_have_objects_and_no_ids() {
    let calls = json!([{"name": "f", "parameters": {"x": 1}}, {"name": "g", "parameters": {}}]);
    let expected = [call(None, "f", "{\"x\":1}"), call(None, "g", "{}")];
    let whole = json!({"text": "I will look.", "tool_calls": calls, "finish_reason": "COMPLETE"});
    assert_eq!(read(200, &whole.to_string()).tool_calls, expected);
    let chunk = |delta: Value| json!({"event_type": "tool-calls-chunk", "tool_call_delta": delta});
    let pieces = [
        json!({"event_type": "tool-calls-chunk", "text": "I will"}),
        json!({"event_type": "tool-calls-chunk", "text": " look."}),
        chunk(json!({"index": 0, "name": "f"})),
        chunk(json!({"index": 0, "parameters": "{\"x\":"})),
        chunk(json!({"index": 0, "parameters": "1}"})),
        chunk(json!({"index": 1, "name": "g"})),
    ];
    let cut = read(200, &lines(&pieces));
    assert_eq!(
        (&cut.tool_calls[..], cut.output_text.as_str(), cut.partial),
        (&expected[..], "I will look.", true)
    );
    let all = json!({"event_type": "tool-calls-generation", "text": "I will look.", "tool_calls": calls});
    let end = json!({"event_type": "stream-end", "is_finished": true, "finish_reason": "COMPLETE"});
    let response = read(200, &lines(&[&pieces[..], &[all, end]].concat()));
    assert_eq!(
        (&response.tool_calls[..], response.output_text.as_str()),
        (&expected[..], "I will look.")
    );
    assert_eq!(
        (response.partial, response.finish_reason.as_deref()),
        (false, Some("COMPLETE"))
    );
}

#[test]
fn generate_and_embed_are_read_too() {
    let generations = json!([{"id": "1", "text": " 42", "finish_reason": "MAX_TOKENS"}, {"id": "2", "text": " 43"}]);
    let whole = json!({"id": "g", "generations": generations, "prompt": "p",
        "meta": {"billed_units": {"input_tokens": 4, "output_tokens": 2}}});
    let stream = lines(&[
        json!({"text": " 4", "is_finished": false}),
        json!({"text": "2", "is_finished": false}),
        json!({"is_finished": true, "finish_reason": "COMPLETE", "response": whole}),
    ]);
    for (body, finish) in [(whole.to_string(), "MAX_TOKENS"), (stream, "COMPLETE")] {
        let response = read(200, &body);
        assert_eq!((response.output_text.as_str(), response.choices), (" 42", 2));
        assert_eq!(response.finish_reason.as_deref(), Some(finish));
        // What is billed stands in where nothing else is told.
        assert_eq!((response.usage.input, response.usage.output), (Some(4), Some(2)));
    }
    let vectors = json!({"id": "e", "embeddings": [[0.5]], "meta": {"billed_units": {"input_tokens": 3}}});
    let response = read(200, &vectors.to_string());
    assert_eq!(
        (response.choices, response.usage.input, response.usage.output),
        (0, Some(3), None)
    );
}

#[test]
fn errors_are_found_in_every_form() {
    let body = json!({"id": "x", "message": "invalid request"});
    let response = read(400, &body.to_string());
    assert_eq!((response.error.as_ref(), response.choices), (Some(&body), 0));
    let text = of("content-delta", 0, json!({"content": {"text": "4"}}));
    let failed = json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "went wrong"}});
    let response = read(200, &events(&[start(), text.clone(), failed]));
    assert_eq!(
        (response.error, response.finish_reason.as_deref()),
        (Some("went wrong".into()), Some("ERROR"))
    );
    assert_eq!((response.output_text.as_str(), response.partial), ("4", false));
    for broken in [
        format!("data: {start}\n\ndata: {body}\n\n", start = start()),
        format!("data: {text}\n\nevent: error\ndata: {body}\n\n"),
        format!("data: {text}\n\nevent: error\ndata: oops\n\n"),
        format!("{}\n{body}\n", json!({"event_type": "text-generation", "text": "4"})),
        format!("{{}}\n{}\n", json!({"is_finished": false, "error": "oops"})),
    ] {
        let response = read(200, &broken);
        assert!(response.error.is_some() && response.partial, "{broken}");
    }
}

#[test]
fn output_starts_with_text_thinking_a_plan_or_a_call() {
    let before = events(&[
        start(),
        of("content-start", 0, json!({"content": {"type": "text", "text": ""}})),
    ])
    .replace("data: [DONE]\n\n", "");
    let line = |value: Value| format!("data: {value}\n\n");
    for output in [
        of("content-delta", 0, json!({"content": {"text": "x"}})),
        of("content-delta", 0, json!({"content": {"thinking": "x"}})),
        of("tool-plan-delta", 0, json!({"tool_plan": "x"})),
        of(
            "tool-call-start",
            0,
            json!({"tool_calls": {"function": {"name": "f", "arguments": ""}}}),
        ),
        json!({"event_type": "text-generation", "text": "x"}),
        json!({"event_type": "tool-calls-chunk", "tool_call_delta": {"name": "f"}}),
    ] {
        let body = before.clone() + &line(output);
        let more = body.clone() + &line(end("COMPLETE"));
        assert_eq!(output_starts_at(API, None, more.as_bytes()), Some(body.len()));
    }
    assert_eq!(
        output_starts_at(API, None, (before + &line(end("COMPLETE"))).as_bytes()),
        None
    );
}

fn parsed(body: Value) -> Request {
    parse_request(API, body.to_string().as_bytes()).unwrap()
}

#[test]
fn chats_of_version_2_are_read_in_every_form() {
    let request = parsed(json!({
        "model": "command", "stream": true, "max_tokens": 10, "temperature": 0.5,
        "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
        "documents": ["d", {"data": {"text": "e"}}],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "you"},
                {"type": "image_url", "image_url": {"url": "u"}}]},
            {"role": "assistant", "tool_plan": "p", "content": [{"type": "thinking", "thinking": "t"}],
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "document", "document": {"data": "42"}},
                {"type": "document", "document": {"id": "2", "data": {"y": 1}}}]},
            {"role": "tool", "tool_call_id": "d", "content": "43"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]}));
    let result = |id: &str, text: &str| Message {
        tool_call_id: Some(id.into()),
        ..Message::text(Role::Tool, text)
    };
    let expected = [
        Message::text(Role::System, "be brief"),
        // The image, and the documents that came with the question.
        Message {
            media_parts: 3,
            ..Message::text(Role::User, "hi\nyou")
        },
        Message {
            tool_calls: vec![call(Some("c"), "f", "{\"x\": 1}")],
            ..Message::text(Role::Assistant, "")
        },
        result("c", "42\n{\"y\":1}"),
        result("d", "43"),
    ];
    assert_eq!(request.messages, expected);
    assert_eq!((request.model.as_deref(), request.stream), (Some("command"), true));
    assert_eq!((request.max_tokens, request.temperature), (Some(10), Some(0.5)));
    assert_eq!(
        request.response_format,
        ResponseFormat::JsonSchema(json!({"type": "object"}))
    );
    assert_eq!(
        (request.tools[0].name.as_str(), &request.tools[0].schema),
        ("f", &json!({"type": "object"}))
    );
    let object = parsed(json!({"response_format": {"type": "json_object"}}));
    assert_eq!(
        (object.response_format, object.stream),
        (ResponseFormat::JsonObject, false)
    );
}

#[test]
fn chats_of_version_1_have_their_parts_put_in_order() {
    let f = json!({"name": "f", "parameters": {"x": 1}});
    let request = parsed(json!({
        "model": "command", "preamble": "be brief", "message": "and now?",
        "chat_history": [
            {"role": "System", "message": "be kind"},
            {"role": "USER", "message": "hi"},
            {"role": "CHATBOT", "message": "ok", "tool_calls": [f]},
            {"role": "TOOL", "tool_results": [{"call": f, "outputs": [{"y": 1}, "2"]}]}],
        "tool_results": [{"call": f, "outputs": [{"y": 2}]}],
        "response_format": {"type": "json_object", "schema": {"type": "object"}},
        "tools": [{"name": "f", "description": "d", "parameter_definitions": {
            "x": {"type": "int", "description": "n", "required": true}, "y": {"type": "List[str]"}, "z": {"type": "Any"}}}]}));
    let expected = [
        Message::text(Role::System, "be brief"),
        Message::text(Role::System, "be kind"),
        Message::text(Role::User, "hi"),
        Message {
            tool_calls: vec![call(None, "f", "{\"x\":1}")],
            ..Message::text(Role::Assistant, "ok")
        },
        Message::text(Role::Tool, "{\"y\":1}\n2"),
        Message::text(Role::Tool, "{\"y\":2}"),
        Message::text(Role::User, "and now?"),
    ];
    assert_eq!(request.messages, expected);
    let schema = json!({"type": "object", "required": ["x"],
        "properties": {"x": {"type": "integer", "description": "n"}, "y": {"type": "array"}, "z": {}}});
    assert_eq!(request.tools[0].schema, schema);
    assert_eq!(
        request.response_format,
        ResponseFormat::JsonSchema(json!({"type": "object"}))
    );
    let user = |text: &str| Message::text(Role::User, text);
    assert_eq!(parsed(json!({"prompt": "p"})).messages, [user("p")]);
    assert_eq!(parsed(json!({"texts": ["a", "b"]})).messages, [user("a"), user("b")]);
    let inputs = json!({"inputs": [{"content": [{"type": "text", "text": "a"}]}]});
    assert_eq!(parsed(inputs).messages, [user("a")]);
}
