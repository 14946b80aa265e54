//! Unit tests of Responses streams: whole ones, ones that broke off, and those of single servers.

use super::*;

/// Events as OpenAI frames them.
fn stream(events: &[Value]) -> String {
    let event = |data: &Value| {
        format!(
            "event: {}\ndata: {data}\n\n",
            data["type"].as_str().unwrap_or("message")
        )
    };
    events.iter().map(event).collect()
}

fn folded(events: &[Value]) -> Assembled {
    assemble(API, Some("text/event-stream"), stream(events).as_bytes()).unwrap()
}

fn created() -> Value {
    json!({"type": "response.created", "sequence_number": 0, "response":
        {"id": "resp_1", "model": "m-1", "status": "in_progress", "output": [], "usage": null, "error": null}})
}

fn message_item(status: &str, content: Value) -> Value {
    json!({"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": content})
}

/// A message of two deltas, then a function call of two.
fn body_events() -> Vec<Value> {
    let text = |piece: &str| {
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "msg_1",
            "delta": piece, "obfuscation": "xyz"})
    };
    let arguments = |piece: &str| json!({"type": "response.function_call_arguments.delta", "output_index": 1, "item_id": "fc_1", "delta": piece});
    let announced = json!({"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": ""});
    vec![
        json!({"type": "response.output_item.added", "output_index": 0, "item": message_item("in_progress", json!([]))}),
        json!({"type": "response.content_part.added", "output_index": 0, "content_index": 0, "item_id": "msg_1",
            "part": {"type": "output_text", "text": "", "annotations": []}}),
        text("Hel"),
        text("lo"),
        json!({"type": "response.output_text.annotation.added", "output_index": 0, "content_index": 0,
            "annotation_index": 0, "annotation": {"type": "url_citation", "url": "u"}}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": announced}),
        arguments("{\"x\":"),
        arguments("1}"),
    ]
}

fn completed() -> Value {
    let call = json!({"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{\"x\":1}"});
    json!({"type": "response.completed", "response": {"id": "resp_1", "model": "m-1", "object": "response",
        "status": "completed", "error": null,
        "output": [message_item("completed", json!([{"type": "output_text", "text": "Hello", "annotations": [
            {"type": "url_citation", "url": "u"}]}])), call],
        "usage": {"input_tokens": 3, "output_tokens": 2}}})
}

#[test]
fn the_last_event_is_the_answer() {
    let mut events = vec![created()];
    events.extend(body_events());
    events.push(completed());
    let assembled = folded(&events);
    assert_eq!(assembled.body, completed()["response"]);
    assert!(assembled.streamed && !assembled.partial);
    let response = parse_response(API, 200, &assembled);
    assert_eq!(
        (response.output_text.as_str(), response.usage.input),
        ("Hello", Some(3))
    );
    assert_eq!(response.tool_calls, [call("c1", "f", "{\"x\":1}")]);
}

#[test]
fn a_stream_cut_anywhere_yields_what_had_come() {
    let mut events = vec![created()];
    events.extend(body_events());
    let texts = ["", "", "", "Hel", "Hello", "Hello", "Hello", "Hello", "Hello"];
    let arguments = [
        None,
        None,
        None,
        None,
        None,
        None,
        Some("{}"),
        Some("{\"x\":"),
        Some("{\"x\":1}"),
    ];
    for (number, (text, arguments)) in texts.into_iter().zip(arguments).enumerate() {
        let assembled = folded(&events[..=number]);
        let response = parse_response(API, 200, &assembled);
        assert!(response.partial);
        assert_eq!(
            (response.id.as_deref(), response.model.as_deref()),
            (Some("resp_1"), Some("m-1"))
        );
        assert_eq!(
            (response.output_text.as_str(), response.finish_reason.as_deref()),
            (text, None)
        );
        let calls: Vec<ToolCall> = arguments
            .map(|arguments| call("c1", "f", arguments))
            .into_iter()
            .collect();
        assert_eq!(response.tool_calls, calls, "after event {number}");
    }
    assert_eq!(
        folded(&events).body["output"][0]["content"][0]["annotations"],
        json!([{"type": "url_citation", "url": "u"}])
    );
}

#[test]
fn items_that_are_done_say_more_than_their_deltas() {
    let mut events = vec![created()];
    events.extend(body_events());
    let done = message_item(
        "completed",
        json!([{"type": "output_text", "text": "Hello!", "annotations": []}]),
    );
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": done}));
    events.push(json!({"type": "response.function_call_arguments.done", "output_index": 1, "arguments": "{\"x\":2}"}));
    // Done, but without what it has.
    events.push(json!({"type": "response.output_item.done", "output_index": 1, "item":
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "", "status": "completed"}}));
    let response = parse_response(API, 200, &folded(&events));
    assert_eq!(response.output_text, "Hello!");
    assert_eq!(response.tool_calls, [call("c1", "f", "{\"x\":2}")]);
}

#[test]
fn reasoning_refusals_and_custom_input_come_in_pieces_too() {
    let piece = |kind: &str, index: i64, delta: &str| {
        json!({"type": format!("response.{kind}.delta"), "output_index": index, "content_index": 0, "summary_index": 0,
            "delta": delta})
    };
    let summary = json!({"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 1,
        "part": {"type": "summary_text", "text": "then"}});
    let custom = json!({"type": "response.output_item.added", "output_index": 3, "item":
        {"type": "custom_tool_call", "call_id": "c1", "name": "sh", "input": ""}});
    let response = response(
        &folded(&[
            piece("reasoning_summary_text", 0, "fi"),
            piece("reasoning_summary_text", 0, "rst"),
            summary,
            piece("reasoning_text", 1, "shown"),
            piece("refusal", 2, "no"),
            custom,
            piece("custom_tool_call_input", 3, "ls"),
            piece("mcp_call_arguments", 4, "{}"),
        ])
        .body,
    );
    assert_eq!(response.reasoning_text, "first\nthen\nshown");
    assert_eq!(
        (response.refusal.as_deref(), response.output_text.as_str()),
        (Some("no"), "")
    );
    assert_eq!(response.tool_calls, [call("c1", "sh", "ls")]);
    assert_eq!(response.server_tool_calls, ["mcp_call"]);
}

#[test]
fn a_last_event_without_output_is_filled_from_what_came_before() {
    let mut events = vec![created()];
    events.extend(body_events());
    events.push(json!({"type": "response.completed", "response":
        {"id": "resp_1", "status": "completed", "output": [], "usage": {"input_tokens": 3, "output_tokens": 2}}}));
    let response = parse_response(API, 200, &folded(&events));
    assert_eq!((response.output_text.as_str(), response.partial), ("Hello", false));
    assert_eq!(
        (response.model.as_deref(), response.usage.output),
        (Some("m-1"), Some(2))
    );
    assert_eq!(response.finish_reason.as_deref(), Some("completed"));
}

#[test]
fn incomplete_and_failed_answers_have_ended_and_say_why() {
    let incomplete = json!({"type": "response.incomplete", "response": {"id": "r", "status": "incomplete",
        "incomplete_details": {"reason": "content_filter"}, "output": []}});
    let response = parse_response(API, 200, &folded(&[created(), incomplete]));
    assert_eq!(
        (response.finish_reason.as_deref(), response.partial, response.error),
        (Some("content_filter"), false, None)
    );
    let error = json!({"code": "server_error", "message": "m"});
    let failed = json!({"type": "response.failed", "response": {"id": "r", "status": "failed", "error": error}});
    let response = parse_response(API, 200, &folded(&[created(), failed]));
    assert_eq!(
        (response.finish_reason.as_deref(), response.partial, response.error),
        (Some("failed"), false, Some(error))
    );
}

#[test]
fn an_error_event_after_a_200_is_the_answers_error() {
    let flat = json!({"type": "error", "code": "rate_limit", "message": "m", "param": null});
    let nested = json!({"type": "error", "error": {"code": "rate_limit"}});
    for (event, expected) in [(flat.clone(), flat), (nested, json!({"code": "rate_limit"}))] {
        let mut events = vec![created()];
        events.extend(body_events());
        events.push(event);
        let response = parse_response(API, 200, &folded(&events));
        assert_eq!(response.error, Some(expected));
        assert_eq!((response.output_text.as_str(), response.partial), ("Hello", true));
    }
    let body = stream(&[created()]);
    for (tail, expected) in [
        ("data: {\"error\":\"overloaded\"}\n\n", json!("overloaded")),
        ("event: error\ndata: overloaded\n\n", json!("overloaded")),
        ("error: {\"code\":500}\n\n", json!({"code": 500})),
    ] {
        let assembled = assemble(API, None, format!("{body}{tail}").as_bytes()).unwrap();
        assert_eq!(parse_response(API, 200, &assembled).error, Some(expected), "{tail}");
    }
}

#[test]
fn openrouter_leaves_the_event_lines_out_and_says_done() {
    let events = [created(), completed()];
    let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let body = format!(": OPENROUTER PROCESSING\n\n{body}data: [DONE]\n\n");
    let assembled = assemble(API, None, body.as_bytes()).unwrap();
    assert_eq!((assembled.partial, assembled.skipped_events), (false, 0));
    assert_eq!(assembled.body, completed()["response"]);
}

#[test]
fn items_that_are_all_numbered_0_and_items_without_a_number_stay_apart() {
    let added = |item: &str| {
        json!({"type": "response.output_item.added", "output_index": 0, "item":
            {"type": "function_call", "id": item, "call_id": item, "name": "f", "arguments": ""}})
    };
    let arguments = |index: Option<i64>, item: Option<&str>, delta: &str| json!({"type": "response.function_call_arguments.delta", "output_index": index, "item_id": item, "delta": delta});
    let same = [
        added("a"),
        arguments(Some(0), None, "1"),
        added("b"),
        arguments(Some(0), None, "2"),
    ];
    let unnumbered = [
        added("a"),
        added("b"),
        arguments(None, Some("a"), "1"),
        arguments(None, Some("b"), ""),
        arguments(None, None, "2"),
    ];
    for events in [same.as_slice(), &unnumbered] {
        let calls = parse_response(API, 200, &folded(events)).tool_calls;
        assert_eq!(calls, [call("a", "f", "1"), call("b", "f", "2")]);
    }
    // Other ids in each event of one item, as behind some gateways.
    let renamed = [
        added("a"),
        arguments(Some(0), Some("other"), "1"),
        json!({"type": "response.output_item.done", "output_index": 0, "item":
            {"type": "function_call", "id": "another", "call_id": "a", "name": "f", "arguments": "1"}}),
    ];
    assert_eq!(
        parse_response(API, 200, &folded(&renamed)).tool_calls,
        [call("a", "f", "1")]
    );
}

#[test]
fn a_last_event_too_long_to_read_still_ends_the_stream() {
    let mut body = stream(&[created()]);
    body += &stream(&body_events());
    body += &format!(
        "event: response.completed\ndata: {}\n\n",
        "x".repeat(framing::MAX_EVENT + 1)
    );
    let assembled = assemble(API, None, body.as_bytes()).unwrap();
    assert_eq!((assembled.partial, assembled.skipped_events), (false, 1));
    let response = parse_response(API, 200, &assembled);
    assert_eq!(
        (response.output_text.as_str(), response.finish_reason.as_deref()),
        ("Hello", Some("completed"))
    );
    assert_eq!(response.usage, Usage::default(), "not said, so not known");
}

#[test]
fn streams_framed_by_crlf_or_cr_or_without_a_space_fold_the_same() {
    let mut events = vec![created()];
    events.extend(body_events());
    let usual = stream(&events);
    let want = folded(&events);
    for framed in [
        usual.replace('\n', "\r\n"),
        usual.replace('\n', "\r"),
        usual.replace(": ", ":"),
    ] {
        assert_eq!(assemble(API, None, framed.as_bytes()).unwrap(), want, "{framed:?}");
    }
}

#[test]
fn output_starts_with_text_reasoning_or_a_call() {
    let before = stream(&[created(), body_events()[0].clone(), body_events()[1].clone()]);
    assert_eq!(output_starts_at(API, None, before.as_bytes()), None);
    let search = json!({"type": "response.output_item.added", "item": {"type": "web_search_call", "id": "ws"}});
    let before = before
        + &stream(&[
            search,
            json!({"type": "response.mcp_call_arguments.delta", "delta": "{}"}),
        ]);
    for first in [
        body_events()[2].clone(),
        body_events()[5].clone(),
        body_events()[6].clone(),
        json!({"type": "response.reasoning_summary_text.delta", "delta": "hm"}),
        json!({"type": "response.refusal.delta", "delta": "no"}),
        json!({"type": "response.output_item.done", "item": message_item("completed", json!([{"type": "output_text", "text": "x"}]))}),
        completed(),
    ] {
        let first = stream(&[first]);
        let body = format!("{before}{first}{before}");
        assert_eq!(
            output_starts_at(API, None, body.as_bytes()),
            Some(before.len() + first.len()),
            "{first}"
        );
    }
}

#[test]
fn a_long_stream_of_tiny_pieces_folds_in_time_linear_in_its_length() {
    let pieces = 50_000;
    let mut body = stream(&[created()]);
    for number in 0..pieces {
        let index = number % 9;
        for kind in ["output_text", "reasoning_summary_text", "function_call_arguments"] {
            body += &stream(
                &[json!({"type": format!("response.{kind}.delta"), "output_index": index,
                "item_id": format!("i{number}"), "content_index": number % 5, "delta": "x"})],
            );
        }
    }
    let started = std::time::Instant::now();
    let assembled = assemble(API, None, body.as_bytes()).unwrap();
    // Some seconds without optimisation; a quadratic fold takes minutes.
    assert!(started.elapsed().as_secs() < 60);
    assert_eq!(assembled.body["output"].as_array().unwrap().len(), 9);
}
