//! Candidates that speak another API than chat, and than the call: tool loops of every agent moved there and back at every
//! turn, against strict fakes of both sides; what such a candidate gets, what the client gets, and what is kept.

use serde_json::{Value, json};
use std::sync::Arc;
use understudy_call::call::Api;
use understudy_call::record::Outcome;
use understudy_call::translate::{SPOKEN, is_needed};
use understudy_tests::agents::{Agent, UNSIGNED};
use understudy_tests::arms::{CANDIDATE_KEY, CLIENT_KEY, Canary, alternate, assert_whole, pinned, served};
use understudy_tests::contains;
use understudy_tests::fixtures::{CHAT, MESSAGES, answer_chat, chat_text};
use understudy_tests::http::{Answer, Request};
use understudy_tests::program::{Home, Program};
use understudy_tests::strict::{Strict, say};
use understudy_tests::upstream::{Seen, Step, Upstream, chunk, json as whole, stream, stream_head};

const TURNS: usize = 9;

/// All APIs but chat, whose candidates `turns.rs` has.
fn candidates() -> impl Iterator<Item = Api> {
    SPOKEN.into_iter().filter(|spoken| *spoken != Api::OpenaiChat)
}

/// A baseline that speaks every API, and a candidate for each of [`candidates`].
struct Loops {
    baseline: Arc<Strict>,
    candidate: Arc<Strict>,
    home: Home,
    program: Program,
}

impl Loops {
    fn new() -> Loops {
        let (baseline, candidate) = (Arc::new(Strict::new(TURNS)), Arc::new(Strict::candidate(TURNS)));
        let (answering, acting) = (baseline.clone(), candidate.clone());
        let big = Upstream::start(move |seen| answering.answer(seen));
        let small = Upstream::start(move |seen| acting.answer(seen));
        let candidate_of = |api: Api| {
            let (name, url) = (api.as_str(), small.url());
            format!("  {name}: {{ url: {url}, api: {name}, model: small-1, trusted: true }}\n")
        };
        let home = Home::new();
        let program = home.serve_config(&format!(
            "default_upstream: baseline\nallow_pins: true\nexpose_headers: true\nupstreams:\n  baseline: {{ url: {} }}\n{}",
            big.url(),
            candidates().map(candidate_of).collect::<String>()
        ));
        Loops {
            baseline,
            candidate,
            home,
            program,
        }
    }

    /// A whole conversation, whose arm changes at every turn.
    fn converse(&self, agent: Agent, arms: [&str; 2]) {
        let why = || format!("{:#?}", (self.baseline.refused(), self.candidate.refused()));
        alternate(&self.program, agent, arms, TURNS, &why);
    }
}

#[test]
fn every_agents_tool_loop_changes_its_arm_at_every_turn_whatever_the_candidate_speaks() {
    let stage = Loops::new();
    for (api, way) in UNSIGNED {
        for streams in [false, true] {
            let agent = Agent { api, way, streams };
            let hello = [agent.first_message("Hello.")];
            let answer = pinned(&stage.program, agent, "baseline", "hello at baseline", &hello);
            assert_eq!(answer.status(), 200);
            for candidate in candidates().filter(|candidate| is_needed(api, *candidate)) {
                stage.converse(agent, ["baseline", candidate.as_str()]);
                stage.converse(agent, [candidate.as_str(), "baseline"]);
            }
        }
    }
    assert_eq!(
        (stage.baseline.refused(), stage.candidate.refused()),
        (Vec::new(), Vec::new())
    );
    assert_eq!(stage.program.scrape_at_rest().unaccounted(), 0.0);
    stage.program.terminate();
    for row in stage.home.rows() {
        let case = row.tags.get("case").cloned().unwrap_or_default();
        let served = served(&row);
        assert!(case.ends_with(served[0]) && served.len() == 1, "{case}: {served:?}");
        assert_whole(&row);
        if served[0] != "baseline" {
            // These two say nothing of it.
            let is_untold = matches!(served[0], "cohere_chat" | "bedrock_converse");
            assert_eq!(
                row.response_model.as_deref(),
                Some(if is_untold { "small-1" } else { "big" }),
                "{case}: what the candidate says that it is"
            );
        }
    }
}

/// A chat baseline and an Anthropic candidate, which takes all conversations once the client is known.
fn stage(more: &str, answer: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Canary {
    let big = |seen: &Seen| answer_chat(seen, "gpt-5", "from the baseline");
    let stage = Canary::new(big, answer, Api::AnthropicMessages, more);
    let hello = send(&stage, "hello", &request(false));
    let said = chat_text(&hello.text());
    assert_eq!(said, "from the baseline", "the first call of an unknown client");
    stage
}

fn send(stage: &Canary, case: &str, body: &Value) -> Answer {
    Request::post(CHAT, body.to_string())
        .header("authorization", &format!("Bearer {CLIENT_KEY}"))
        .header("openai-organization", "org-of-the-client")
        .header("x-understudy-tag-case", case)
        .send(stage.program.listen)
}

fn request(streamed: bool) -> Value {
    json!({"model": "gpt-5", "stream": streamed, "messages": [
        {"role": "developer", "content": "Be brief."}, {"role": "user", "content": "How are you?"}]})
}

fn message(text: &str) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "haiku-4.5", "stop_reason": "end_turn",
        "stop_sequence": null, "content": [{"type": "text", "text": text}],
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 4}})
}

/// The first `count` events of [`message`], streamed.
fn events(text: &str, count: usize) -> Vec<String> {
    let mut start = message("");
    (start["content"], start["stop_reason"]) = (json!([]), Value::Null);
    let events = [
        json!({"type": "message_start", "message": start}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}),
        json!({"type": "message_stop"}),
    ];
    let events = events.iter().take(count);
    events
        .map(|data| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default()))
        .collect()
}

fn answer_messages(seen: &Seen) -> Vec<Step> {
    match seen.wants_stream() {
        true => stream(&events("from the candidate", 6)),
        false => whole(200, &message("from the candidate")),
    }
}

#[test]
fn a_chat_call_is_answered_by_an_anthropic_candidate_in_chat() {
    let stage = stage("", answer_messages);
    let asks_usage = json!({"include_usage": true});
    for (case, streamed, usage) in [
        ("whole", false, false),
        ("streamed", true, false),
        ("with usage", true, true),
    ] {
        let mut body = request(streamed);
        if usage {
            body["stream_options"] = asks_usage.clone();
        }
        let answer = send(&stage, case, &body);
        let said = answer.text();
        assert_eq!(
            (answer.status(), chat_text(&said).as_str()),
            (200, "from the candidate"),
            "{case}: {said}"
        );
        assert!(said.contains("gpt-5") && !said.contains("haiku"), "{case}: {said}");
        assert_eq!(
            said.contains("\"usage\":{\"prompt_tokens\":5"),
            usage || !streamed,
            "{case}: {said}"
        );
        assert_eq!(said.ends_with("data: [DONE]\n\n"), streamed, "{case}: {said}");
        assert!(!said.contains("\"created\":0"), "{case}: {said}");
    }
    for seen in stage.candidate.requests() {
        assert_eq!(seen.head.path(), MESSAGES);
        assert_eq!(seen.head.header("x-api-key"), Some(CANDIDATE_KEY));
        assert_eq!(seen.head.header("anthropic-version"), Some("2023-06-01"));
        assert!(!contains(&seen.bytes(), CLIENT_KEY) && seen.head.header("openai-organization").is_none());
        let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
        assert_eq!(
            (&body["model"], &body["system"]),
            (&json!("small-1"), &json!("Be brief."))
        );
        assert!(body["max_tokens"].as_i64() > Some(0), "{body}");
    }
    assert_eq!(stage.candidate.count(), 3);
    let home = stage.end();
    for case in ["whole", "streamed", "with usage"] {
        let row = home.row(case);
        assert_eq!(
            (row.api.as_str(), row.arm.as_deref(), row.outcome),
            ("openai_chat", Some("small"), Outcome::Ok),
            "{case}"
        );
        assert_eq!(row.response_model.as_deref(), Some("haiku-4.5"), "{case}");
        assert_eq!(row.output_text.as_deref(), Some("from the candidate"), "{case}");
        // Kept, though only one of the streams told its client.
        assert_eq!(
            (row.input_tokens, row.cached_tokens, row.output_tokens),
            (Some(5), Some(2), Some(4)),
            "{case}"
        );
    }
}

#[test]
fn an_anthropic_candidate_that_fails_before_its_first_event_is_covered_by_the_chat_baseline() {
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let cut = message("cut");
    let cut = |stop: &str| {
        let mut cut = cut.clone();
        cut["stop_reason"] = stop.into();
        cut
    };
    let faults: Vec<(&str, bool, Vec<Step>)> = vec![
        ("status", false, whole(529, &error)),
        ("truncated", false, whole(200, &cut("max_tokens"))),
        ("refused", false, whole(200, &cut("refusal"))),
        ("status streamed", true, whole(529, &error)),
        (
            "error streamed",
            true,
            stream(&[format!("event: error\ndata: {error}\n\n")]),
        ),
        ("broken off", true, stream(&events("half", 4))),
        ("empty", true, stream(&[])),
    ];
    for (case, streamed, steps) in faults {
        let stage = stage("", move |_| steps.clone());
        let answer = send(&stage, case, &request(streamed));
        assert_eq!(
            chat_text(&answer.text()),
            "from the baseline",
            "{case}: {}",
            answer.text()
        );
        assert_eq!((stage.candidate.count(), stage.baseline.count()), (1, 2), "{case}");
        let row = stage.end().row(case);
        assert_eq!(
            (row.attempts.len(), row.arm.as_deref()),
            (2, Some("big")),
            "{case}: {:?}",
            row.attempts
        );
    }
}

#[test]
fn an_anthropic_stream_that_breaks_off_after_its_first_event_ends_with_an_error_in_chat() {
    let begun = events("half", 3).concat();
    let stage = stage("hold: none", move |_| {
        let piece = Step::Send(chunk(begun.as_bytes()));
        let pause = Step::Pause(std::time::Duration::from_millis(30));
        vec![
            stream_head(),
            piece,
            Step::Send(chunk(b"event: content_bl")),
            pause,
            Step::Reset,
        ]
    });
    let answer = send(&stage, "reset", &request(true));
    let said = answer.text();
    assert!(
        said.contains("half") && said.contains("\"error\":{") && !said.contains("[DONE]"),
        "{said}"
    );
    let row = stage.end().row("reset");
    assert!(row.partial && row.outcome != Outcome::Ok, "{:?}", row.outcome);
}

#[test]
fn chat_calls_that_anthropic_cannot_say_stay_with_their_baseline() {
    let stage = stage("", answer_messages);
    let with = |key: &str, value: Value| {
        let mut body = request(false);
        body[key] = value;
        body
    };
    let calls = [
        ("several", with("n", json!(2)), "not_translatable"),
        ("chances", with("logprobs", json!(true)), "not_translatable"),
        (
            "no schema",
            with("response_format", json!({"type": "json_object"})),
            "not_translatable",
        ),
        ("unknown", with("some_new_field", json!(1)), "not_translatable"),
        ("stored", with("store", json!(true)), "state_at_provider"),
    ];
    for (case, body, _) in &calls {
        let answer = send(&stage, case, body);
        assert_eq!(
            chat_text(&answer.text()),
            "from the baseline",
            "{case}: {}",
            answer.text()
        );
    }
    assert_eq!(stage.candidate.count(), 0);
    let metrics = stage.program.scrape_at_rest();
    for (reason, expected) in [("not_translatable", 4.0), ("state_at_provider", 1.0)] {
        let labels = [("route", "canary"), ("reason", reason)];
        assert_eq!(
            metrics.sum("understudy_not_canaried_total", &labels),
            expected,
            "{}",
            metrics.text
        );
    }
}

#[test]
fn a_candidate_at_bedrock_is_asked_with_a_signature_of_the_operators() {
    let baseline = Upstream::start(|seen| answer_chat(seen, "gpt-5", "from the baseline"));
    let candidate = Upstream::start(|seen| say(seen, "from the candidate", None));
    let home = Home::new();
    home.write_config(&format!(
        "default_upstream: big\nupstreams:\n  big: {{ url: {} }}\n  small:\n    url: {}\n    api: bedrock_converse\n    \
         model: eu.amazon.nova-micro-v1:0\n    sign: aws\n    aws: {{ region: eu-west-1, service: bedrock }}\n    trusted: true\n\
         routes: [{{ split: {{ big: 0, small: 100 }} }}]\n",
        baseline.url(),
        candidate.url()
    ));
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIDOFTHEOPERATOR"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let program = home.serve(&["--config", "understudy.yaml"], &keys);
    for (case, streamed, expected) in [
        ("hello", false, "from the baseline"),
        ("whole", false, "from the candidate"),
        ("streamed", true, "from the candidate"),
    ] {
        let answer = Request::post(CHAT, request(streamed).to_string())
            .header("authorization", &format!("Bearer {CLIENT_KEY}"))
            .header("x-understudy-tag-case", case)
            .send(program.listen);
        assert_eq!(chat_text(&answer.text()), expected, "{case}: {}", answer.text());
    }
    let paths: Vec<String> = candidate
        .requests()
        .iter()
        .map(|seen| seen.head.path().to_owned())
        .collect();
    assert_eq!(
        paths,
        ["converse", "converse-stream"].map(|verb| format!("/model/eu.amazon.nova-micro-v1%3A0/{verb}"))
    );
    for seen in candidate.requests() {
        let signed = seen.head.header("authorization").unwrap_or_default();
        assert!(
            signed.starts_with("AWS4-HMAC-SHA256 Credential=AKIDOFTHEOPERATOR/")
                && signed.contains("/eu-west-1/bedrock/aws4_request"),
            "{signed}"
        );
        assert!(!contains(&seen.bytes(), CLIENT_KEY));
    }
    program.terminate();
    assert_eq!(
        home.row("streamed").response_model.as_deref(),
        Some("eu.amazon.nova-micro-v1:0"),
        "the API's answers name none"
    );
}
