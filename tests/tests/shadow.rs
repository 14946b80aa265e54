//! Shadows: who is asked what, with whose key, for how much; and that a client notices nothing of it.

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use understudy_call::record::ScoreRecord;
use understudy_tests::fixtures::{CHAT, answer_chat, chat_text};
use understudy_tests::http::Request;
use understudy_tests::program::{Home, Program};
use understudy_tests::upstream::{Seen, Step, Upstream, head};
use understudy_tests::{contains, eventually};

/// Made-up calls of three tasks; `mood` is one of labels.
const CALLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/agent-calls.jsonl");
const CLIENT_KEY: &str = "key-of-the-client";
const BASELINE_KEY: &str = "key-of-the-baseline";
const CANDIDATE_KEY: &str = "key-of-the-candidate";
const JUDGE_KEY: &str = "key-of-the-judge";
const MODEL: &str = "gpt-4o-2024-08-06";
const SECRET: &str = "ann.miller@example.org";

struct Stage {
    baseline: Upstream,
    candidate: Upstream,
    judge: Upstream,
    home: Home,
}

/// What a baseline says that writes prose.
const WRITTEN: &str = "The parcel left our house on Monday morning, and it will be with you by Wednesday.";

impl Stage {
    fn new(candidate: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Stage {
        Stage::of("positive", candidate, |seen| answer_chat(seen, "judge-1", "TIE"))
    }

    fn of(
        baseline: &'static str,
        candidate: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
        judge: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
    ) -> Stage {
        let home = Home::new();
        let data = home.data();
        for arguments in [&["import", CALLS][..], &["tasks", "fit"]] {
            let output = home.run(&[arguments, &["--data", &data.to_string_lossy()]].concat());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Stage {
            baseline: Upstream::start(move |seen| answer_chat(seen, MODEL, baseline)),
            candidate: Upstream::start(candidate),
            judge: Upstream::start(judge),
            home,
        }
    }

    fn config(&self, rest: &str) -> String {
        format!(
            "default_upstream: baseline\nupstreams:\n  baseline: {{ url: {}, key_env: BASELINE_KEY }}\n  \
             small: {{ url: {}, api: openai_chat, model: small-1, key_env: CANDIDATE_KEY, trusted: true }}\n  \
             third: {{ url: {}, api: openai_chat, model: judge-1, key_env: JUDGE_KEY }}\n\
             store: {{ flush: {{ after: 300ms }} }}\n{rest}",
            self.baseline.url(),
            self.candidate.url(),
            self.judge.url()
        )
    }

    fn serve(&self, rest: &str) -> Program {
        self.home.write_config(&self.config(rest));
        let keys = [
            ("CANDIDATE_KEY", CANDIDATE_KEY),
            ("BASELINE_KEY", BASELINE_KEY),
            ("JUDGE_KEY", JUDGE_KEY),
        ];
        let program = self.home.serve(&["--config", "understudy.yaml"], &keys);
        // Tasks are known once the proxy has polled the book.
        eventually("a call has a task", || {
            ask(&program, "warm-up");
            std::thread::sleep(Duration::from_millis(50));
            program.scrape().sum("understudy_task_calls_total", &[]) > 0.0
        });
        program
    }
}

/// A call of the task `mood`.
fn ask(program: &Program, text: &str) -> String {
    let answer = request(text).send(program.listen);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    chat_text(&answer.text())
}

fn request(text: &str) -> Request {
    let body = json!({"model": "gpt-4o", "temperature": 0, "messages": [
        {"role": "system", "content": "Classify the review of a customer as positive, negative or neutral. Answer with that one word."},
        {"role": "user", "content": format!("Review of order 501: {text} {SECRET}")},
    ]});
    Request::post(CHAT, body.to_string()).header("authorization", &format!("Bearer {CLIENT_KEY}"))
}

/// The same in a conversation of this name: splits are by conversation.
fn ask_in(program: &Program, conversation: &str) -> String {
    let answer = request(conversation)
        .header("x-understudy-conversation", conversation)
        .send(program.listen);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    chat_text(&answer.text())
}

/// Requests that hold a text.
fn about(upstream: &Upstream, text: &str) -> Vec<Seen> {
    let requests = upstream.requests().into_iter();
    requests.filter(|seen| contains(&seen.body, text)).collect()
}

#[test]
fn a_live_call_is_put_to_the_candidate_and_to_the_baseline_again_masked_and_with_their_own_keys() {
    let stage = Stage::new(|seen| answer_chat(seen, "small-1", "Positive."));
    let program = stage.serve("shadow: [{ match: { task: '*' }, to: [small, baseline], sample: 100% }]\n");
    // A set of labels is closed when enough of them were seen.
    (0..12).for_each(|_| drop(ask(&program, "warm-up")));
    ask(&program, "Best of all!");
    eventually("the candidate is asked", || {
        about(&stage.candidate, "Best of all!").len() == 1
    });
    eventually("the baseline is asked again", || {
        about(&stage.baseline, "Best of all!").len() == 2
    });
    let shadow = &about(&stage.candidate, "Best of all!")[0];
    assert_eq!(shadow.head.header("authorization"), Some("Bearer key-of-the-candidate"));
    let body: Value = serde_json::from_slice(&shadow.body).expect("JSON");
    assert_eq!((&body["model"], &body["temperature"]), (&json!("small-1"), &json!(0)));
    let keys = about(&stage.baseline, "Best of all!");
    let keys: Vec<_> = keys
        .iter()
        .filter_map(|seen| seen.head.header("authorization"))
        .collect();
    assert_eq!(keys, ["Bearer key-of-the-client", "Bearer key-of-the-baseline"]);
    for seen in stage.candidate.requests() {
        assert!(!contains(&seen.bytes(), SECRET) && !contains(&seen.bytes(), CLIENT_KEY));
    }
    assert!(
        !contains(&about(&stage.baseline, "Best of all!")[1].bytes(), SECRET),
        "masked there too"
    );
    eventually("both are counted", || {
        let scrape = program.scrape();
        ["small", "baseline"].iter().all(|name| {
            scrape.sum(
                "understudy_shadow_calls_total",
                &[("candidate", name), ("outcome", "ok")],
            ) > 0.0
        })
    });
    program.terminate();
    let call = stage.home.rows().into_iter().find(|row| {
        row.request_body
            .as_ref()
            .is_some_and(|body| body.contains("Best of all!"))
    });
    let call = call.expect("the call is kept");
    let rows: Vec<ScoreRecord> = stage
        .home
        .scores()
        .into_iter()
        .filter(|row| row.call_id == call.call_id)
        .collect();
    let of = |name: &str| rows.iter().find(|row| row.candidate == name).expect("a row");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(
        (of("small").source.as_deref(), of("small").agreement),
        (Some("shadow"), Some(1.0))
    );
    assert_eq!((of("small").kind.as_str(), of("small").valid), ("label", true));
    assert_eq!(of("baseline").floor_agreement, Some(1.0));
    assert_eq!(Some(of("small").task_id.as_str()), call.task_id.as_deref());
}

#[test]
fn a_candidate_that_hangs_changes_nothing_for_clients_or_for_what_is_stored() {
    let stage = Stage::new(|_| vec![Step::Hang]);
    let program = stage.serve("shadow: [{ to: [small], sample: 100%, budget: { concurrency: 2 } }]\n");
    let calls = 400;
    for number in 0..calls {
        assert_eq!(ask(&program, &format!("number {number}")), "positive");
    }
    let scrape = program.scrape_when_stored();
    assert_eq!(stage.candidate.count(), 2, "in flight at the candidate");
    assert!(
        scrape.sum("understudy_shadow_skipped_total", &[("reason", "busy")]) > 0.0,
        "the queue has a bound"
    );
    assert_eq!((scrape.unaccounted(), scrape.mislaid()), (0.0, 0.0));
    let begun = Instant::now();
    program.terminate();
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "it does not wait for the shadow"
    );
    assert!(stage.home.rows().len() > calls);
}

#[test]
fn a_candidate_that_fails_or_redirects_is_a_row_and_nobody_else_is_asked() {
    let elsewhere = Upstream::start(|seen| answer_chat(seen, "small-1", "positive"));
    let there = format!("{}/v1/chat/completions", elsewhere.url());
    let stage = Stage::new(move |_| vec![Step::Send(head(307, &[("location", &there), ("content-length", "0")]))]);
    let program = stage.serve("shadow: [{ to: [small], sample: 100% }]\n");
    ask(&program, "Somewhere else.");
    eventually("the candidate is asked", || {
        !about(&stage.candidate, "Somewhere else.").is_empty()
    });
    eventually("it is counted", || {
        program.scrape().sum("understudy_shadow_calls_total", &[]) > 0.0
    });
    program.terminate();
    assert_eq!(elsewhere.count(), 0, "a redirect is not followed");
    assert!(
        stage
            .home
            .scores()
            .iter()
            .all(|row| !row.valid && row.agreement.is_none())
    );
    assert!(!stage.home.scores().is_empty());
}

#[test]
fn the_budget_of_a_day_outlives_a_restart() {
    let stage = Stage::new(|seen| answer_chat(seen, "small-1", "positive"));
    let rules = "shadow: [{ to: [small], sample: 100%, budget: { calls_per_day: 3 } }]\n";
    let program = stage.serve(rules);
    let spent = |program: &Program| {
        program
            .scrape()
            .sum("understudy_shadow_skipped_total", &[("reason", "budget_calls")])
    };
    eventually("the budget is spent", || {
        ask(&program, "again");
        spent(&program) > 0.0
    });
    assert_eq!(stage.candidate.count(), 3);
    program.terminate();
    let program = stage.serve(rules);
    eventually("the budget is still spent", || {
        ask(&program, "once more");
        spent(&program) > 0.0
    });
    assert_eq!(stage.candidate.count(), 3);
}

#[test]
fn shadows_begin_and_end_with_the_config() {
    let stage = Stage::new(|seen| answer_chat(seen, "small-1", "positive"));
    let program = stage.serve("");
    ask(&program, "before");
    program.scrape_when_stored();
    stage
        .home
        .write_config(&stage.config("shadow: [{ to: [small], sample: 100% }]\n"));
    eventually("the candidate is asked", || {
        ask(&program, "during");
        stage.candidate.count() > 0
    });
    assert!(about(&stage.candidate, "before").is_empty());
    stage.home.write_config(&stage.config("shadow: [{ to: [nobody] }]\n"));
    let asked = stage.candidate.count();
    eventually("a bad file changes nothing", || {
        ask(&program, "still");
        stage.candidate.count() > asked
    });
    stage.home.write_config(&stage.config(""));
    eventually("nobody is asked any more", || {
        let asked = stage.candidate.count();
        for _ in 0..3 {
            ask(&program, "after");
        }
        std::thread::sleep(Duration::from_millis(700));
        stage.candidate.count() == asked
    });
}

#[test]
fn what_a_canary_answered_is_held_against_the_baseline() {
    let stage = Stage::new(|seen| answer_chat(seen, "small-1", "negative"));
    let route = "routes: [{ name: canary, match: { model: 'gpt-4o*' }, split: { baseline: 0, small: 100 } }]\n";
    // The sample is nothing: the first calls of a step are asked all the same.
    let program = stage.serve(&format!("{route}shadow: [{{ to: [baseline, small], sample: 0% }}]\n"));
    eventually("the client is known", || ask(&program, "introduction") == "negative");
    assert_eq!(ask(&program, "The canary's own."), "negative");
    eventually("the baseline is asked", || {
        about(&stage.baseline, "The canary's own.").len() == 1
    });
    let shadow = &about(&stage.baseline, "The canary's own.")[0];
    assert_eq!(shadow.head.header("authorization"), Some("Bearer key-of-the-baseline"));
    assert!(!contains(&shadow.bytes(), SECRET));
    program.terminate();
    let rows = stage.home.scores();
    let reverse: Vec<&ScoreRecord> = rows
        .iter()
        .filter(|row| row.source.as_deref() == Some("reverse"))
        .collect();
    assert!(!reverse.is_empty() && reverse.len() == rows.len(), "{rows:?}");
    for row in reverse {
        assert_eq!(row.candidate, "small");
        assert!(row.agreement.is_some_and(|agreement| agreement < 0.5), "{row:?}");
        assert_eq!(row.output_text.as_deref(), Some("positive"), "the baseline's word");
    }
}

#[test]
fn raw_text_goes_to_a_trusted_upstream_alone_and_its_answer_is_kept_masked() {
    let stage = Stage::new(|seen| {
        let text = String::from_utf8_lossy(&seen.body).into_owned();
        answer_chat(
            seen,
            "small-1",
            if text.contains(SECRET) {
                "Write to ann.miller@example.org."
            } else {
                "masked"
            },
        )
    });
    let refused = stage.config("shadow: [{ to: [baseline], text: raw }]\n");
    stage.home.write_config(&refused);
    let output = stage.home.run(&["check", "understudy.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("trusted: true"));
    let program = stage.serve("shadow: [{ to: [small], sample: 100%, text: raw }]\n");
    ask(&program, "As it is.");
    eventually("the candidate is asked", || {
        !about(&stage.candidate, "As it is.").is_empty()
    });
    assert!(contains(&about(&stage.candidate, "As it is.")[0].body, SECRET));
    eventually("it is counted", || {
        program.scrape().sum("understudy_shadow_calls_total", &[]) > 0.0
    });
    program.terminate();
    let rows = stage.home.scores();
    let said: Vec<&str> = rows.iter().filter_map(|row| row.output_text.as_deref()).collect();
    assert!(
        !said.is_empty()
            && said
                .iter()
                .all(|text| text.starts_with("Write to ") && !text.contains("miller")),
        "{said:?}"
    );
}

#[test]
fn a_candidate_that_agrees_too_little_with_its_baseline_is_taken_out() {
    let stage = Stage::new(|seen| answer_chat(seen, "small-1", "negative"));
    let route = "routes: [{ name: canary, match: { model: 'gpt-4o*' }, split: { baseline: 50, small: 50 }, guard: { agreement: 5% } }]\n";
    let program = stage.serve(&format!("{route}shadow: [{{ to: [baseline], sample: 100% }}]\n"));
    let mut canaried = 0;
    eventually("the guard takes it out", || {
        for number in 0..10 {
            canaried += usize::from(ask_in(&program, &format!("c-{canaried}-{number}")) == "negative");
        }
        program.stderr().contains("the guard tripped on agreement")
    });
    assert!(canaried > 0);
    eventually("the baseline answers everything", || {
        (0..20).all(|number| ask_in(&program, &format!("after-{number}")) == "positive")
    });
    assert!(
        stage.home.data().join("control").exists(),
        "it is in the store, for the other replicas"
    );
}

#[test]
fn a_restart_scores_as_before() {
    let stage = Stage::new(|seen| answer_chat(seen, "small-1", "negative"));
    let mut after = Vec::new();
    for round in ["first", "second"] {
        // What is kept says which the labels are: the very first call is scored by them.
        let program = stage.serve("shadow: [{ to: [small], sample: 100% }]\n");
        ask(&program, round);
        eventually("the candidate is asked", || !about(&stage.candidate, round).is_empty());
        eventually("it is scored", || {
            program.scrape().sum("understudy_shadow_calls_total", &[]) > 1.0
        });
        program.terminate();
        after.push(stage.home.scores());
    }
    assert!(after[0].len() > 1 && after[1].len() > after[0].len() + 1);
    for row in &after[1] {
        let scored = (row.kind.as_str(), row.agreement, row.valid);
        assert_eq!(scored, ("label", Some(0.0), true), "{row:?}");
    }
}

#[test]
fn a_third_model_compares_live_answers_blind_in_both_orders_and_within_its_budget() {
    // It finds the shorter answer better, wherever it stands.
    let stage = Stage::of(
        WRITTEN,
        |seen| answer_chat(seen, "small-1", "It left on Monday, and will be there on Wednesday."),
        |seen| {
            let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
            let about = body["messages"][1]["content"].as_str().expect("text");
            let shown: Value = serde_json::from_str(about).expect("JSON");
            let is_first = shown["second"] == WRITTEN;
            answer_chat(seen, "judge-1", if is_first { "FIRST" } else { "SECOND" })
        },
    );
    let rule =
        "shadow: [{ to: [small, baseline], sample: 100%, judge: { by: third, budget: { calls_per_day: 4 } } }]\n";
    let program = stage.serve(rule);
    let said = |said: &str| {
        let labels = [("judge", "third"), ("said", said)];
        program.scrape().sum("understudy_shadow_judged_total", &labels)
    };
    eventually("the budget is spent", || {
        ask(&program, "Where is my parcel?");
        said("budget") > 0.0
    });
    assert_eq!((said("better"), stage.judge.count()), (2.0, 4));
    let checks = |check: &str| {
        let labels = [("judge", "third"), ("check", check)];
        program.scrape().sum("understudy_shadow_judge_checks_total", &labels)
    };
    assert_eq!(
        (checks("decided"), checks("first_place"), checks("inconsistent")),
        (4.0, 2.0, 0.0)
    );
    for request in stage.judge.requests() {
        assert_eq!(request.head.header("authorization"), Some("Bearer key-of-the-judge"));
        let bytes = request.bytes();
        assert!(!contains(&bytes, SECRET) && !contains(&bytes, "small") && !contains(&bytes, "candidate"));
    }
    program.terminate();
    let rows = stage.home.scores();
    let judged: Vec<&ScoreRecord> = rows.iter().filter(|row| row.judge.is_some()).collect();
    assert_eq!(judged.len(), 2, "{rows:?}");
    assert!(
        judged
            .iter()
            .all(|row| row.judge == Some(1.0) && row.candidate == "small")
    );
    assert!(
        rows.iter().any(|row| row.judge.is_none()),
        "those beyond the budget are kept"
    );
}

#[test]
fn a_judge_that_hangs_changes_nothing_but_a_metric() {
    let stage = Stage::of(
        WRITTEN,
        |seen| answer_chat(seen, "small-1", "It left on Monday, and will be there on Wednesday."),
        |_| vec![Step::Hang],
    );
    let program = stage.serve("shadow: [{ to: [small], sample: 100%, judge: { by: third } }]\n");
    let calls = 120;
    for number in 0..calls {
        assert_eq!(ask(&program, &format!("number {number}")), WRITTEN);
    }
    let shadows = || {
        program
            .scrape()
            .sum("understudy_shadow_calls_total", &[("outcome", "ok")])
    };
    eventually("the candidate has answered all", || shadows() > f64::from(calls));
    assert_eq!(stage.judge.count(), 1, "in flight at the judge");
    let labels = [("judge", "third"), ("said", "busy")];
    assert!(program.scrape().sum("understudy_shadow_judged_total", &labels) > 0.0);
    let asked = shadows();
    let begun = Instant::now();
    program.terminate();
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "it does not wait for the judge"
    );
    let rows = stage.home.scores();
    assert!(rows.len() as f64 >= asked, "each answer is kept");
    assert!(rows.iter().all(|row| row.judge.is_none() && row.agreement.is_some()));
}
