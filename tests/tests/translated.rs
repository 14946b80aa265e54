//! A candidate that speaks OpenAI chat alone takes calls of other APIs: what it gets, what the client gets, what is kept;
//! and what becomes of calls that it can't take, or takes and fails.

use serde_json::{Value, json};
use understudy_call::call::Api;
use understudy_call::record::{CallRecord, Outcome};
use understudy_call::wire;
use understudy_tests::arms::{CANDIDATE_KEY, CLIENT_KEY, Canary, served};
use understudy_tests::contains;
use understudy_tests::fixtures::{CHAT, MESSAGES, answer_chat, chat_answer, chat_event};
use understudy_tests::http::{Answer, Request};
use understudy_tests::upstream::{Gate, LAST_CHUNK, Seen, Step, chunk, json as whole, stream, stream_head};

const MODEL: &str = "claude-sonnet-4-5";
const FROM_BASELINE: &str = "from the baseline";
const FROM_CANDIDATE: &str = "from the candidate";

fn baseline_answer(seen: &Seen) -> Vec<Step> {
    if seen.head.path() != MESSAGES {
        return answer_chat(seen, "gpt-5", FROM_BASELINE);
    }
    whole(
        200,
        &json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn",
            "stop_sequence": null, "content": [{"type": "text", "text": FROM_BASELINE}],
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }),
    )
}

/// All conversations go to the candidate, once the client is known.
fn stage(answer: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Canary {
    stage_with("", answer)
}

/// With more in its route.
fn stage_with(more: &str, answer: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Canary {
    let stage = Canary::new(baseline_answer, answer, Api::OpenaiChat, more);
    let hello = call("hello", &request(false)).send(stage.program.listen);
    assert_eq!(text(&hello), FROM_BASELINE, "the first call of an unknown client");
    stage
}

fn call(case: &str, body: &Value) -> Request {
    Request::post(MESSAGES, body.to_string())
        .header("x-api-key", CLIENT_KEY)
        .header("anthropic-version", "2023-06-01")
        .header("x-understudy-tag-case", case)
}

fn request(streamed: bool) -> Value {
    json!({
        "model": MODEL, "max_tokens": 100, "stream": streamed, "system": "Be brief.",
        "messages": [{"role": "user", "content": "How are you?"}],
    })
}

fn text(answer: &Answer) -> String {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let assembled = wire::assemble(Api::AnthropicMessages, answer.head.header("content-type"), &answer.body);
    let assembled = assembled.unwrap_or_else(|error| panic!("{error}: {}", answer.text()));
    wire::parse_response(Api::AnthropicMessages, 200, &assembled).output_text
}

fn assert_served_by(row: &CallRecord, upstream: &str) {
    assert_eq!(served(row), [upstream], "{:?}", row.attempts);
}

#[test]
fn an_anthropic_call_is_answered_by_a_chat_candidate_in_its_own_api() {
    let stage = stage(|seen| answer_chat(seen, "small-1.5", FROM_CANDIDATE));
    for (case, streamed, content_type) in [
        ("whole", false, "application/json"),
        ("streamed", true, "text/event-stream"),
    ] {
        let answer = call(case, &request(streamed)).send(stage.program.listen);
        assert_eq!(text(&answer), FROM_CANDIDATE);
        assert!(answer.complete);
        assert_eq!(answer.head.header("content-type"), Some(content_type));
        assert!(
            answer.text().contains(MODEL) && !answer.text().contains("small-1"),
            "{}",
            answer.text()
        );
        if streamed {
            assert!(answer.text().starts_with("event: message_start\n"), "{}", answer.text());
            assert!(
                answer.text().trim_end().ends_with(r#"{"type":"message_stop"}"#),
                "{}",
                answer.text()
            );
        }
    }
    for seen in stage.candidate.requests() {
        assert_eq!(seen.head.path(), CHAT);
        let key = format!("Bearer {CANDIDATE_KEY}");
        assert_eq!(seen.head.header("authorization"), Some(&key[..]));
        assert!(!contains(&seen.bytes(), CLIENT_KEY) && seen.head.header("anthropic-version").is_none());
        let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
        assert_eq!(body["model"], "small-1");
        assert_eq!(body["messages"][0], json!({"role": "system", "content": "Be brief."}));
        assert_eq!(body["messages"][1], json!({"role": "user", "content": "How are you?"}));
    }
    assert_eq!(stage.candidate.count(), 2);
    let home = stage.end();
    for case in ["whole", "streamed"] {
        let row = home.row(case);
        assert_eq!(
            (row.api.as_str(), row.arm.as_deref()),
            ("anthropic_messages", Some("small")),
            "{case}"
        );
        assert_eq!(row.request_model.as_deref(), Some(MODEL), "{case}");
        assert_eq!(
            row.response_model.as_deref(),
            Some("small-1.5"),
            "{case}: what the candidate says that it is"
        );
        assert_eq!(row.output_text.as_deref(), Some(FROM_CANDIDATE), "{case}");
        assert_eq!(
            (row.outcome, row.partial, row.streamed),
            (Outcome::Ok, false, case == "streamed"),
            "{case}"
        );
        assert_eq!(row.cost_usd, None, "{case}: nothing is known of the candidate's price");
        assert_served_by(&row, "small");
    }
    assert_eq!(
        (home.row("whole").input_tokens, home.row("whole").output_tokens),
        (Some(5), Some(3))
    );
}

#[test]
fn the_first_event_of_a_translated_stream_that_is_not_held_is_not_held_back() {
    let gate = Gate::default();
    let until_open = gate.clone();
    let stage = stage_with("hold: none", move |_| {
        vec![
            stream_head(),
            Step::Send(chunk(chat_event("small-1", "first ").as_bytes())),
            Step::Wait(until_open.clone()),
            Step::Send(chunk(understudy_tests::fixtures::chat_end("small-1").as_bytes())),
            Step::Send(LAST_CHUNK.to_vec()),
        ]
    });
    let mut open = call("open", &request(true)).open(stage.program.listen);
    open.read_until("first ");
    gate.open();
    assert_eq!(text(&open.finish()), "first ");
}

#[test]
fn a_candidate_that_fails_before_its_first_event_is_covered_by_the_baseline() {
    let cut_call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"cut"}});
    let mut broken = chat_answer("small-1", "");
    broken["choices"][0]["message"]["tool_calls"] = json!([cut_call]);
    let error = r#"{"error":{"message":"out of memory","type":"server_error"}}"#;
    let faults: Vec<(&str, bool, Vec<Step>)> = vec![
        ("status", false, whole(503, &json!({"error": "busy"}))),
        ("error", false, whole(200, &serde_json::from_str(error).expect("JSON"))),
        (
            "html",
            false,
            vec![Step::Send(
                b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>".to_vec(),
            )],
        ),
        ("arguments", false, whole(200, &broken)),
        ("status streamed", true, whole(503, &json!({"error": "busy"}))),
        ("error streamed", true, stream(&[format!("data: {error}\n\n")])),
        (
            "json error for a stream",
            true,
            whole(200, &serde_json::from_str(error).expect("JSON")),
        ),
        ("empty stream", true, stream(&[])),
        ("reset", true, vec![stream_head(), Step::Reset]),
    ];
    for (case, streamed, steps) in faults {
        let stage = stage(move |_| steps.clone());
        let answer = call(case, &request(streamed)).send(stage.program.listen);
        assert_eq!(text(&answer), FROM_BASELINE, "{case}");
        assert_eq!(stage.candidate.count(), 1, "{case}");
        let row = stage.end().row(case);
        assert_served_by(&row, "big");
        assert_eq!(
            row.attempts.len(),
            2,
            "{case}: the lost attempt is kept: {:?}",
            row.attempts
        );
        assert!(
            row.attempts[0]
                .reason
                .as_deref()
                .is_some_and(|reason| reason != "split"),
            "{case}: {:?}",
            row.attempts
        );
        assert_eq!((row.arm.as_deref(), row.outcome), (Some("big"), Outcome::Ok), "{case}");
        assert_eq!(row.response_model.as_deref(), Some(MODEL), "{case}");
    }
}

#[test]
fn a_whole_answer_to_a_streamed_call_becomes_a_stream() {
    let stage = stage(|_| whole(200, &chat_answer("small-1", FROM_CANDIDATE)));
    let answer = call("whole", &request(true)).send(stage.program.listen);
    assert_eq!(answer.head.header("content-type"), Some("text/event-stream"));
    assert_eq!(text(&answer), FROM_CANDIDATE);
    assert!(answer.text().contains("event: message_stop"));
    assert_served_by(&stage.end().row("whole"), "small");
}

#[test]
fn a_stream_that_breaks_off_after_its_first_event_ends_with_an_error_in_the_clients_api() {
    let half = || Step::Send(chunk(chat_event("small-1", "half").as_bytes()));
    let error = "data: {\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\"}}\n\n";
    let cut = Step::Send(chunk(b"data: {\"choi"));
    let faults = [
        (
            "error",
            vec![
                stream_head(),
                half(),
                Step::Send(chunk(error.as_bytes())),
                Step::Send(LAST_CHUNK.to_vec()),
            ],
        ),
        (
            "reset",
            vec![
                stream_head(),
                half(),
                cut,
                Step::Pause(std::time::Duration::from_millis(30)),
                Step::Reset,
            ],
        ),
    ];
    for (case, steps) in faults {
        let stage = stage_with("hold: none", move |_| steps.clone());
        let answer = call(case, &request(true)).send(stage.program.listen);
        assert_eq!(answer.status(), 200);
        let said = answer.text();
        assert!(
            said.contains("half") && said.contains("event: error\n"),
            "{case}: {said}"
        );
        assert!(!said.contains("message_stop"), "{case}: it looks complete: {said}");
        assert_eq!(
            answer.complete,
            case == "error",
            "{case}: a stream that broke off has no clean end"
        );
        assert_eq!(stage.baseline.count(), 1, "{case}: the baseline can't answer any more");
        let row = stage.end().row(case);
        assert_eq!(row.output_text.as_deref(), Some("half"), "{case}");
        assert!(row.partial && row.outcome != Outcome::Ok, "{case}: {:?}", row.outcome);
        assert_served_by(&row, "small");
    }
}

#[test]
fn calls_that_chat_cannot_say_stay_with_their_baseline_and_explain_says_why() {
    let stage = stage(|seen| answer_chat(seen, "small-1", FROM_CANDIDATE));
    let with = |key: &str, value: Value| {
        let mut body = request(false);
        body[key] = value;
        body
    };
    let search = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let stored = json!({"model": "gpt-5", "input": "hi"});
    let calls = [
        (
            "container",
            MESSAGES,
            with("container", json!("c")),
            ["not_translatable", "container"],
        ),
        (
            "tool",
            MESSAGES,
            with("tools", search),
            ["not_translatable", "tools[0]"],
        ),
        ("responses", "/v1/responses", stored, ["state_at_provider", "store"]),
        (
            "embeddings",
            "/v1/embeddings",
            json!({"model": "e", "input": "hi"}),
            ["not_a_chat", ""],
        ),
    ];
    for (case, path, body, [reason, words]) in &calls {
        let before = stage.baseline.count();
        let answer = call(case, body).to(path).send(stage.program.listen);
        assert_eq!(answer.status(), 200, "{case}: {}", answer.text());
        assert_eq!(stage.baseline.count(), before + 1, "{case} did not go to the baseline");
        std::fs::write(stage.home.path().join("request.json"), body.to_string()).expect("a writable folder");
        let explained = stage
            .home
            .run(&["explain", "request.json", "--path", path, "--config", "understudy.yaml"]);
        let said = String::from_utf8_lossy(&explained.stdout);
        assert!(
            said.contains(&reason.replace('_', " ")) && said.contains(words),
            "{case}: {said}"
        );
    }
    assert_eq!(stage.candidate.count(), 0);
    let metrics = stage.program.scrape_at_rest();
    for reason in ["state_at_provider", "not_translatable", "not_a_chat"] {
        let counted = metrics.sum(
            "understudy_not_canaried_total",
            &[("route", "canary"), ("reason", reason)],
        );
        let expected = calls.iter().filter(|(_, _, _, [it, _])| *it == reason).count();
        assert_eq!(counted, expected as f64, "{reason}: {}", metrics.text);
    }
}

/// Of the same API only names and ids are edited: white space, order and unknown fields are the candidate's own.
#[test]
fn a_candidates_chat_is_edited_in_place() {
    let long = format!("chatcmpl-tool-{}", "0f".repeat(16));
    let event = move |model: &str, id: &str| {
        format!(
            "data:  {{ \"z\":1e2, \"model\" :\"{model}\", \"choices\":[{{\"delta\":{{\"tool_calls\":[ {{\"index\":0,\"id\": \"{id}\",\"function\":{{\"name\":\"f\",\"arguments\":\"{long}\"}}}}]}}}}], \"x\":[] }}\r\n\r\n: note\n\ndata: [DONE]\n\n",
            long = "chatcmpl-tool-in-arguments"
        )
    };
    let sent = event("small-1", &long);
    let stage = stage_with("hold: none", move |_| stream(std::slice::from_ref(&sent)));
    let body = json!({"model": "gpt-5", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let answer = call("chat", &body).to(CHAT).send(stage.program.listen);
    let id = answer
        .text()
        .split("\"id\": \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .map(str::to_owned);
    let id = id.unwrap_or_else(|| panic!("no id: {}", answer.text()));
    assert!(
        id.len() <= 40 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
        "{id}"
    );
    assert_eq!(answer.text(), event("gpt-5", &id));
    let home = stage.end();
    let row = home.row("chat");
    assert_eq!(
        row.tool_calls[0].id.as_deref(),
        Some(&id[..]),
        "the id that the client got"
    );
    assert_eq!(row.response_model.as_deref(), Some("small-1"));
}
