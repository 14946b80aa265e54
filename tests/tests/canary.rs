//! Splits: who is canaried and who is not, what a candidate gets to see, and how weights change while calls run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use understudy_call::record::CallRecord;
use understudy_tests::fixtures::{CHAT, answer_chat, chat_end, chat_event, chat_request, chat_text};
use understudy_tests::http::{Answer, Request};
use understudy_tests::program::{Home, Program};
use understudy_tests::upstream::{Gate, LAST_CHUNK, Seen, Step, Upstream, chunk, json, refusing_address, stream_head};
use understudy_tests::{contains, eventually};

const GOOD_KEY: &str = "Bearer key-of-the-client";
const CANDIDATE_KEY: &str = "key-of-the-candidate";
const MODEL: &str = "gpt-4o-mini";
const FROM_BASELINE: &str = "from the baseline";
const FROM_CANDIDATE: &str = "from the candidate";

/// A baseline that knows its client's key, a candidate, and the program between them.
struct Stage {
    baseline: Upstream,
    candidate: Upstream,
    home: Home,
    program: Program,
}

impl Stage {
    fn new(baseline_weight: u32, candidate_weight: u32) -> Stage {
        Stage::with_baseline(baseline_weight, candidate_weight, |seen| {
            answer_chat(seen, MODEL, FROM_BASELINE)
        })
    }

    fn with_baseline(
        baseline_weight: u32,
        candidate_weight: u32,
        answer: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
    ) -> Stage {
        let baseline = Upstream::start(move |seen| {
            if seen.head.header("authorization") == Some(GOOD_KEY) {
                answer(seen)
            } else {
                let error = r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error"}}"#;
                json(401, &serde_json::from_str(error).expect("JSON"))
            }
        });
        let candidate = Upstream::start(|seen| answer_chat(seen, "small-1", FROM_CANDIDATE));
        let home = Home::new();
        home.write_config(&config(&baseline, &candidate, baseline_weight, candidate_weight));
        let program = home.serve(&["--config", "understudy.yaml"], &[("CANDIDATE_KEY", CANDIDATE_KEY)]);
        Stage {
            baseline,
            candidate,
            home,
            program,
        }
    }

    fn set_weights(&self, baseline_weight: u32, candidate_weight: u32) {
        self.home.write_config(&config(
            &self.baseline,
            &self.candidate,
            baseline_weight,
            candidate_weight,
        ));
    }

    fn send(&self, conversation: &str) -> Answer {
        let answer = call(conversation, false).send(self.program.listen);
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer
    }

    /// Who answers a call of this conversation.
    fn arm(&self, conversation: &str) -> String {
        chat_text(&self.send(conversation).text())
    }

    /// Makes the client one that the baseline knows.
    fn introduce(&self) {
        assert_eq!(
            self.arm("introduction"),
            FROM_BASELINE,
            "the first call of an unknown client"
        );
    }
}

fn config(baseline: &Upstream, candidate: &Upstream, baseline_weight: u32, candidate_weight: u32) -> String {
    format!(
        "default_upstream: baseline\nupstreams:\n  baseline: {{ url: {} }}\n  \
         small: {{ url: {}, api: openai_chat, model: small-1, key_env: CANDIDATE_KEY, trusted: true }}\n\
         routes:\n  - name: canary\n    match: {{ model: 'gpt-4o*' }}\n    split: {{ baseline: {baseline_weight}, small: {candidate_weight} }}\n",
        baseline.url(),
        candidate.url(),
    )
}

fn call(conversation: &str, streamed: bool) -> Request {
    Request::post(CHAT, chat_request(MODEL, "How are you?", streamed))
        .header("authorization", GOOD_KEY)
        .header("x-understudy-conversation", conversation)
        .header("x-understudy-tag-case", conversation)
}

#[test]
fn a_client_with_a_wrong_key_never_gets_a_candidates_answer() {
    let stage = Stage::new(0, 100);
    let wrong = |conversation: &str| {
        let answer = Request::post(CHAT, chat_request(MODEL, "How are you?", false))
            .header("authorization", "Bearer wrong")
            .header("x-understudy-conversation", conversation)
            .send(stage.program.listen);
        assert_eq!(answer.status(), 401, "{}", answer.text());
        assert!(
            answer.text().contains("Incorrect API key"),
            "not the baseline's own answer: {}",
            answer.text()
        );
    };
    wrong("first");
    wrong("second");
    stage.introduce();
    // That another client is known says nothing of this one, nor of one without a key.
    wrong("third");
    let without = Request::post(CHAT, chat_request(MODEL, "How are you?", false)).send(stage.program.listen);
    assert_eq!(without.status(), 401);
    assert_eq!(stage.candidate.count(), 0, "calls at the candidate");
}

#[test]
fn a_key_that_the_baseline_refuses_is_not_canaried_any_more() {
    let is_revoked = Arc::new(AtomicBool::new(false));
    let revoke = is_revoked.clone();
    let stage = Stage::with_baseline(100, 0, move |seen| {
        if is_revoked.load(Ordering::SeqCst) {
            json(401, &serde_json::json!({"error": {"message": "revoked", "type": "x"}}))
        } else {
            answer_chat(seen, MODEL, FROM_BASELINE)
        }
    });
    stage.introduce();
    revoke.store(true, Ordering::SeqCst);
    assert_eq!(call("refused", false).send(stage.program.listen).status(), 401);
    stage.set_weights(0, 100);
    eventually("the new weights are in force", || {
        stage
            .program
            .scrape()
            .sum("understudy_split_weight", &[("arm", "small")])
            > 0.0
    });
    assert_eq!(call("after", false).send(stage.program.listen).status(), 401);
    assert_eq!(stage.candidate.count(), 0, "calls at the candidate");
}

#[test]
fn a_known_clients_next_conversation_goes_to_the_candidate_and_carries_the_model_asked_for() {
    let stage = Stage::new(0, 100);
    stage.introduce();
    let whole = stage.send("whole");
    assert_eq!(chat_text(&whole.text()), FROM_CANDIDATE);
    assert_eq!(whole.json()["model"], MODEL, "the model name that the client asked for");
    assert!(whole.complete);

    let streamed = call("streamed", true).send(stage.program.listen);
    assert_eq!(chat_text(&streamed.text()), FROM_CANDIDATE);
    assert!(
        streamed.complete && streamed.text().ends_with("data: [DONE]\n\n"),
        "{}",
        streamed.text()
    );
    assert!(
        !streamed.text().contains("small-1"),
        "the candidate's model shows: {}",
        streamed.text()
    );
    let content_type = streamed.head.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("text/event-stream"), "{content_type}");

    for seen in stage.candidate.requests() {
        let body: serde_json::Value = serde_json::from_slice(&seen.body).expect("JSON");
        assert_eq!(body["model"], "small-1", "the candidate is asked for its own model");
        assert_eq!(body["messages"][0]["content"], "How are you?");
        let key = format!("Bearer {CANDIDATE_KEY}");
        assert_eq!(
            seen.head.header("authorization"),
            Some(&key[..]),
            "the candidate's own key"
        );
        assert_eq!(seen.head.path(), CHAT);
    }
    let metrics = stage.program.scrape_at_rest();
    let arm = |arm| metrics.sum("understudy_split_calls_total", &[("route", "canary"), ("arm", arm)]);
    assert_eq!((arm("baseline"), arm("small")), (1.0, 2.0), "{}", metrics.text);
    assert_eq!(
        metrics.sum("understudy_not_canaried_total", &[("route", "canary")]),
        1.0
    );

    stage.program.terminate();
    for case in ["whole", "streamed"] {
        let row = stage.home.row(case);
        assert_eq!(row.arm.as_deref(), Some("small"), "{case}");
        assert_eq!(row.route.as_deref(), Some("canary"), "{case}");
        assert_eq!(row.request_model.as_deref(), Some(MODEL), "{case}");
        assert_eq!(row.output_text.as_deref(), Some(FROM_CANDIDATE), "{case}");
        assert_served_by(&row, "small");
    }
    assert_served_by(&stage.home.row("introduction"), "baseline");
}

fn assert_served_by(row: &CallRecord, upstream: &str) {
    let served: Vec<&str> = row
        .attempts
        .iter()
        .filter(|attempt| attempt.served)
        .map(|attempt| attempt.upstream.as_str())
        .collect();
    assert_eq!(served, [upstream], "attempts of {:?}: {:?}", row.tags, row.attempts);
}

#[test]
fn nothing_of_the_clients_but_its_words_reaches_a_candidate() {
    let stage = Stage::new(0, 100);
    let secret = "CANARY-7f3a";
    let loaded = |conversation: &str| {
        let mut request = call(conversation, false);
        for name in [
            "cookie",
            "openai-organization",
            "openai-project",
            "x-api-key",
            "api-key",
            "x-goog-api-key",
            "proxy-authorization",
            "x-forwarded-for",
            "forwarded",
            "x-real-ip",
            "user-agent",
            "referer",
            "x-anything-else",
        ] {
            request = request.header(name, secret);
        }
        request
    };
    assert_eq!(
        chat_text(&loaded("first").send(stage.program.listen).text()),
        FROM_BASELINE
    );
    // The client is known by its credential; with a query as well.
    for path in [CHAT.to_owned(), format!("{CHAT}?key={secret}")] {
        let answer = loaded("next").to(&path).send(stage.program.listen);
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
    assert!(stage.candidate.count() > 0, "no call went to the candidate");
    for seen in stage.candidate.requests() {
        for leak in [secret, "key-of-the-client", "understudy"] {
            let text = String::from_utf8_lossy(&seen.head.raw).into_owned();
            assert!(!contains(&seen.bytes(), leak), "{leak} went to the candidate:\n{text}");
        }
    }
    for seen in stage.baseline.requests() {
        assert!(
            contains(&seen.head.raw, secret),
            "the baseline gets all headers of its client"
        );
        assert!(
            !contains(&seen.head.raw, CANDIDATE_KEY),
            "the candidate's key went to the baseline"
        );
    }
}

#[test]
fn a_conversation_stays_with_its_arm() {
    let stage = Stage::new(50, 50);
    stage.introduce();
    let mut arms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for _ in 0..3 {
        for number in 0..24 {
            let conversation = format!("conversation {number}");
            arms.entry(conversation.clone())
                .or_default()
                .insert(stage.arm(&conversation));
        }
    }
    for (conversation, arms) in &arms {
        assert_eq!(arms.len(), 1, "{conversation} was answered by {arms:?}");
    }
    let all: BTreeSet<&String> = arms.values().flatten().collect();
    assert_eq!(all.len(), 2, "24 conversations at 50:50 all went to {all:?}");
}

#[test]
fn weight_0_is_never_and_100_is_always() {
    for (baseline_weight, candidate_weight, expected) in [(100, 0, FROM_BASELINE), (0, 100, FROM_CANDIDATE)] {
        let stage = Stage::new(baseline_weight, candidate_weight);
        stage.introduce();
        for number in 0..30 {
            assert_eq!(
                stage.arm(&format!("{number}")),
                expected,
                "at weight {candidate_weight}"
            );
        }
    }
}

#[test]
fn other_models_stay_with_the_baseline() {
    let stage = Stage::new(0, 100);
    stage.introduce();
    let other = Request::post(CHAT, chat_request("o3", "How are you?", false)).header("authorization", GOOD_KEY);
    assert_eq!(chat_text(&other.send(stage.program.listen).text()), FROM_BASELINE);
}

#[test]
fn a_candidate_that_fails_before_its_first_byte_is_covered_by_the_baseline() {
    let stage = Stage::new(0, 100);
    let config = config(&stage.baseline, &stage.candidate, 0, 100);
    let nobody = format!("http://{}", refusing_address());
    let Stage {
        baseline,
        candidate,
        home,
        program,
    } = stage;
    program.terminate();
    home.write_config(&config.replace(&candidate.url(), &nobody));
    let program = home.serve(&["--config", "understudy.yaml"], &[("CANDIDATE_KEY", CANDIDATE_KEY)]);
    for conversation in ["introduction", "next"] {
        let answer = call(conversation, false).send(program.listen);
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(chat_text(&answer.text()), FROM_BASELINE);
    }
    assert_eq!(baseline.count(), 2);
    program.terminate();
    let row = home.row("next");
    assert_served_by(&row, "baseline");
    assert_eq!(row.attempts.len(), 2, "the lost attempt is kept: {:?}", row.attempts);
}

#[test]
fn weights_change_while_a_stream_is_open_and_the_stream_is_not_cut() {
    let gate = Gate::default();
    let until_open = gate.clone();
    let stage = Stage::with_baseline(100, 0, move |seen| {
        if !seen.wants_stream() {
            return answer_chat(seen, MODEL, FROM_BASELINE);
        }
        vec![
            stream_head(),
            Step::Send(chunk(chat_event(MODEL, "from the ").as_bytes())),
            Step::Wait(until_open.clone()),
            Step::Send(chunk(chat_event(MODEL, "baseline").as_bytes())),
            Step::Send(chunk(chat_end(MODEL).as_bytes())),
            Step::Send(LAST_CHUNK.to_vec()),
        ]
    });
    stage.introduce();
    let mut open = call("open", true).open(stage.program.listen);
    open.read_until("from the ");
    stage.set_weights(0, 100);
    let mut number = 0;
    eventually("new conversations go to the candidate", || {
        number += 1;
        stage.arm(&format!("{number}")) == FROM_CANDIDATE
    });
    gate.open();
    let answer = open.finish();
    assert!(answer.complete, "the stream was cut by a reload: {}", answer.text());
    assert_eq!(chat_text(&answer.text()), FROM_BASELINE);
    let metrics = stage.program.scrape_at_rest();
    assert_eq!(metrics.sum("understudy_split_weight", &[("arm", "small")]), 1.0);
}

#[test]
fn a_bad_config_keeps_the_old_one_and_says_so() {
    let stage = Stage::new(0, 100);
    stage.introduce();
    let good = config(&stage.baseline, &stage.candidate, 0, 100);
    let failed = || stage.program.scrape().sum("understudy_config_reload_failed", &[]);
    assert_eq!(failed(), 0.0);
    for (number, bad) in [
        good.replace("split:", "splti:"),
        good.replace("small: 100", "nobody: 100"),
        "{ not yaml".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        stage.home.write_config(bad);
        eventually("the bad config is noticed", || failed() == 1.0);
        assert_eq!(
            stage.arm(&format!("bad {number}")),
            FROM_CANDIDATE,
            "the old config is in force"
        );
        stage.set_weights(0, 100);
        eventually("the good config is noticed", || failed() == 0.0);
    }
    stage.set_weights(100, 0);
    let mut number = 0;
    eventually("the next good config is in force", || {
        number += 1;
        stage.arm(&format!("good {number}")) == FROM_BASELINE
    });
    let stderr = stage.program.stderr();
    assert!(
        stderr.contains("splti"),
        "stderr does not say why a reload failed:\n{stderr}"
    );
}
