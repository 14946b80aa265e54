//! Splits that move: the guard takes a failing candidate out, people and the collector move weights, a ConfigMap is swapped.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use understudy_tests::eventually;
use understudy_tests::fixtures::{CHAT, answer_chat, chat_request, chat_text};
use understudy_tests::http::Request;
use understudy_tests::program::{Home, Program};
use understudy_tests::upstream::{Step, Upstream, json};

const MODEL: &str = "gpt-4o-mini";
const FROM_BASELINE: &str = "from the baseline";
const FROM_CANDIDATE: &str = "from the candidate";

/// A baseline, a candidate that can be made to fail, and where the program lives.
struct Stage {
    baseline: Upstream,
    candidate: Upstream,
    is_broken: Arc<AtomicBool>,
    /// Whether the baseline is.
    is_out: Arc<AtomicBool>,
    home: Home,
}

impl Stage {
    fn new() -> Stage {
        let (is_broken, is_out) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (broken, out) = (is_broken.clone(), is_out.clone());
        Stage {
            baseline: Upstream::start(move |seen| match out.load(Ordering::SeqCst) {
                true => json(
                    503,
                    &serde_json::json!({"error": {"message": "overloaded", "type": "x"}}),
                ),
                false => answer_chat(seen, MODEL, FROM_BASELINE),
            }),
            candidate: Upstream::start(move |seen| match broken.load(Ordering::SeqCst) {
                true => json(
                    500,
                    &serde_json::json!({"error": {"message": "no memory left", "type": "server_error"}}),
                ),
                false => answer_chat(seen, "small-1", FROM_CANDIDATE),
            }),
            is_broken,
            is_out,
            home: Home::new(),
        }
    }

    fn config(&self, split: &str, more: &str) -> String {
        format!(
            "default_upstream: baseline\ndata: {}\nstore: {{ flush: {{ after: 1s }} }}\nupstreams:\n  baseline: {{ url: {} }}\n  \
             small: {{ url: {}, api: openai_chat, model: small-135m, trusted: true }}\n\
             routes:\n  - name: canary\n    match: {{ model: 'gpt-4o*' }}\n    split: {{ {split} }}\n{more}",
            self.home.data().display(),
            self.baseline.url(),
            self.candidate.url(),
        )
    }

    fn serve(&self, split: &str, more: &str) -> Program {
        self.home.serve_config(&self.config(split, more))
    }

    /// Runs `rollout …` and gives the rows that it prints.
    fn rollout(&self, command: &str) -> Vec<serde_json::Value> {
        let arguments = ["rollout", command, "--config", "understudy.yaml", "--format", "json"];
        let ran = self.home.run(&arguments);
        assert!(
            ran.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
        serde_json::from_slice(&ran.stdout).expect("rows of JSON")
    }

    fn weight(&self) -> u64 {
        self.rollout("status")[0]["weight"].as_u64().expect("a weight")
    }
}

/// Who answers a call of this conversation.
fn arm(program: &Program, conversation: &str) -> String {
    let answer = Request::post(CHAT, chat_request(MODEL, "How are you?", false))
        .header("authorization", "Bearer k")
        .header("x-understudy-conversation", conversation)
        .send(program.listen);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    chat_text(&answer.text())
}

/// An answer that says nothing.
fn empty() -> Vec<Step> {
    let choice =
        serde_json::json!({"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"});
    json(
        200,
        &serde_json::json!({"id": "x", "object": "chat.completion", "model": "small-1", "choices": [choice]}),
    )
}

fn gauge(program: &Program) -> f64 {
    program.scrape().sum("understudy_split_weight", &[("arm", "small")])
}

/// Calls until the candidate is taken out; each gets the baseline's answer.
fn until_taken_out_unnoticed(program: &Program) {
    let mut number = 0;
    eventually("it is taken out", || {
        for _ in 0..10 {
            number += 1;
            assert_eq!(arm(program, &format!("{number}")), FROM_BASELINE);
        }
        gauge(program) == 0.0
    });
}

#[test]
fn a_candidate_that_fails_is_taken_out_within_200_of_its_calls_and_stays_out_until_resumed() {
    let stage = Stage::new();
    let program = stage.serve("baseline: 90, small: 10", "    guard: { error: 2% }\n");
    for number in 0..600 {
        arm(&program, &format!("well {number}"));
    }
    assert!(stage.candidate.count() > 20, "canaried: {}", stage.candidate.count());
    assert_eq!(program.scrape().sum("understudy_guard_trips_total", &[]), 0.0);
    stage.is_broken.store(true, Ordering::SeqCst);
    let before = stage.candidate.count();
    let mut number = 0;
    let tripped = || program.scrape().sum("understudy_guard_tripped", &[("route", "canary")]) == 1.0;
    while !tripped() {
        for _ in 0..10 {
            number += 1;
            // Each of them is answered well all the same: by the baseline.
            arm(&program, &format!("ill {number}"));
        }
        assert!(
            stage.candidate.count() - before <= 200,
            "it was asked more than 200 times"
        );
    }
    let asked = stage.candidate.count();
    for number in 0..100 {
        assert_eq!(arm(&program, &format!("after {number}")), FROM_BASELINE);
    }
    assert_eq!(stage.candidate.count(), asked, "it was asked after the trip");
    assert_eq!(gauge(&program), 0.0);

    // In the store for other replicas, in the audit log, and for people.
    let objects = stage.home.data().join("control/canary");
    eventually("the trip is written", || objects.join("v000001.json").exists());
    let row = &stage.rollout("status")[0];
    assert_eq!(
        (row["weight"].as_u64(), row["trips"][0]["metric"].as_str()),
        (Some(0), Some("error")),
        "{row}"
    );
    let noted = || {
        let log = stage
            .home
            .run(&["audit", "--log", "--config", "understudy.yaml", "--format", "jsonl"]);
        String::from_utf8_lossy(&log.stdout).contains("\"trip\"")
    };
    eventually("the trip is in the audit log", noted);

    // A restart knows it, and so does a start without the local copy.
    program.terminate();
    let program = stage.home.serve(&["--config", "understudy.yaml"], &[]);
    assert_eq!(gauge(&program), 0.0);
    program.terminate();
    std::fs::remove_file(stage.home.data().join("spool/control.json")).expect("a local copy of controls");
    let program = stage.home.serve(&["--config", "understudy.yaml"], &[]);
    assert_eq!(gauge(&program), 0.0);

    stage.is_broken.store(false, Ordering::SeqCst);
    stage.rollout("resume");
    eventually("it is back", || gauge(&program) == 0.1);
    arm(&program, "introduction");
    let mut number = 0;
    eventually("it answers", || {
        number += 1;
        arm(&program, &format!("resumed {number}")) == FROM_CANDIDATE
    });
}

#[test]
fn a_trip_ends_with_a_changed_split_and_an_outage_of_the_baseline_trips_nothing() {
    let stage = Stage::new();
    let guard = "    guard: { error: 2% }\n";
    let program = stage.serve("baseline: 50, small: 50", guard);
    arm(&program, "introduction");
    stage.is_broken.store(true, Ordering::SeqCst);
    let mut number = 0;
    eventually("it is taken out", || {
        for _ in 0..10 {
            number += 1;
            arm(&program, &format!("{number}"));
        }
        gauge(&program) == 0.0
    });
    stage.is_broken.store(false, Ordering::SeqCst);
    stage.home.write_config(&stage.config("baseline: 60, small: 40", guard));
    eventually("the new split is in force", || gauge(&program) == 0.4);
    program.terminate();

    // The other way about: everything at the baseline fails, and the candidate goes on answering.
    let program = stage.home.serve(&["--config", "understudy.yaml"], &[]);
    arm(&program, "another introduction");
    stage.is_out.store(true, Ordering::SeqCst);
    let before = stage.candidate.count();
    let mut failed = 0;
    for number in 0..300 {
        let request = Request::post(CHAT, chat_request(MODEL, "How are you?", false));
        let request = request.header("x-understudy-conversation", &format!("during {number}"));
        let answer = request.header("authorization", "Bearer k").send(program.listen);
        failed += usize::from(answer.status() == 503);
    }
    let canaried = stage.candidate.count() - before;
    assert!(canaried > 60 && failed > 100, "{canaried} canaried, {failed} failed");
    assert_eq!(program.scrape().sum("understudy_guard_trips_total", &[]), 0.0);

    // Both are out: neither is that the candidate's fault. It is, once the baseline is back.
    stage.is_broken.store(true, Ordering::SeqCst);
    for number in 0..200 {
        let request = Request::post(CHAT, chat_request(MODEL, "How are you?", false));
        let request = request.header("x-understudy-conversation", &format!("both {number}"));
        request.header("authorization", "Bearer k").send(program.listen);
    }
    assert_eq!(program.scrape().sum("understudy_guard_trips_total", &[]), 0.0);
    stage.is_out.store(false, Ordering::SeqCst);
    eventually("it is taken out", || {
        for _ in 0..10 {
            number += 1;
            arm(&program, &format!("{number}"));
        }
        gauge(&program) == 0.0
    });
}

#[test]
fn a_candidate_whose_answers_are_not_valid_is_taken_out_and_no_client_sees_one() {
    let stage = Stage::new();
    let wrong = Upstream::start(|_| {
        let call = serde_json::json!({"id": "c1", "type": "function", "function": {"name": "nobody_offered_it", "arguments": "{}"}});
        let message = serde_json::json!({"role": "assistant", "content": null, "tool_calls": [call]});
        let choice = serde_json::json!({"index": 0, "message": message, "finish_reason": "tool_calls"});
        json(
            200,
            &serde_json::json!({"id": "x", "object": "chat.completion", "model": "small-1", "choices": [choice]}),
        )
    });
    let config = stage.config(
        "baseline: 80, small: 20",
        "    guard: { error: 2%, invalid: 1%, p95_latency: 9x }\n",
    );
    let program = stage
        .home
        .serve_config(&config.replace(&stage.candidate.url(), &wrong.url()));
    let mut number = 0;
    eventually("it is taken out", || {
        for _ in 0..10 {
            number += 1;
            assert_eq!(arm(&program, &format!("{number}")), FROM_BASELINE);
        }
        program.scrape().sum("understudy_guard_tripped", &[("route", "canary")]) == 1.0
    });
    assert!(wrong.count() <= 200, "it was asked {} times", wrong.count());
    let trips = program.scrape();
    assert_eq!(
        trips.sum("understudy_guard_trips_total", &[("metric", "invalid")]),
        1.0,
        "{}",
        trips.text
    );
}

#[test]
fn a_trip_on_fallbacks_says_what_for_calls_fell_back() {
    let stage = Stage::new();
    let asked = AtomicUsize::new(0);
    let wrong = Upstream::start(move |_| {
        if asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
            return json(
                503,
                &serde_json::json!({"error": {"message": "overloaded", "type": "x"}}),
            );
        }
        empty()
    });
    let config = stage.config("baseline: 80, small: 20", "    guard: { fallback: 5% }\n");
    let program = stage
        .home
        .serve_config(&config.replace(&stage.candidate.url(), &wrong.url()));
    until_taken_out_unnoticed(&program);
    let written = stage.home.data().join("control/canary/v000001.json");
    eventually("the trip is written", || written.exists());
    let trip = &stage.rollout("status")[0]["trips"][0];
    assert_eq!(trip["metric"], "fallback", "{trip}");
    let why = trip["why"].as_str().unwrap_or_default();
    let [empty, status] = ["for `empty`", "for `status 503`"].map(|words| why.find(words));
    assert!(empty.is_some() && empty < status, "the most frequent first: {why}");
    assert!(program.stderr().contains("for `empty`"), "the log says it too");
}

#[test]
fn what_the_guard_needs_of_answers_it_sees_also_where_none_is_kept() {
    let stage = Stage::new();
    let silent = Upstream::start(|_| empty());
    let guard = "    guard: { invalid: 1%, agreement: 5%, cost: 1.2x }\ncapture: { bodies: none, sample: 50% }\n";
    let config = stage.config("baseline: 80, small: 20", guard);
    let config = config.replace(&stage.candidate.url(), &silent.url());
    let program = stage.home.serve_config(&config);
    until_taken_out_unnoticed(&program);
    assert!(silent.count() <= 200, "it was asked {} times", silent.count());
    let trips = program.scrape();
    assert_eq!(trips.sum("understudy_guard_trips_total", &[("metric", "invalid")]), 1.0);

    // What it can't see is said wherever somebody looks.
    let seen = |words: &str| {
        assert!(
            words.contains("not guarded on cost: the price of small-135m"),
            "{words}"
        );
        assert!(words.contains("not guarded on agreement"), "{words}");
        assert!(words.contains("capture.bodies: none"), "{words}");
    };
    let checked = stage.home.run(&["check", "understudy.yaml"]);
    assert!(checked.status.success());
    seen(&String::from_utf8_lossy(&checked.stderr));
    seen(stage.rollout("status")[0]["unguarded"].as_str().unwrap_or_default());
    eventually("rows are kept", || {
        let calls = stage
            .home
            .run(&["calls", "--config", "understudy.yaml", "--format", "jsonl"]);
        String::from_utf8_lossy(&calls.stdout).lines().count() > 5
    });
    let calls = stage
        .home
        .run(&["calls", "--config", "understudy.yaml", "--format", "jsonl"]);
    for line in String::from_utf8_lossy(&calls.stdout).lines() {
        let call: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(
            call["request_body"].is_null() && call["response_body"].is_null(),
            "{call}"
        );
        assert!(call["request_bytes"].as_i64() > Some(20), "{call}");
        assert!(call["response_bytes"].as_i64() > Some(20), "{call}");
    }
}

#[test]
fn a_split_leaves_calls_to_another_provider_alone() {
    let stage = Stage::new();
    let other = Upstream::start(|seen| answer_chat(seen, MODEL, "from another provider"));
    let config = stage.config("baseline: 50, small: 50", "");
    let config = config.replace(
        "upstreams:\n",
        &format!("upstreams:\n  other: {{ url: {} }}\n", other.url()),
    );
    let program = stage.home.serve_config(&config);
    arm(&program, "introduction");
    for number in 0..40 {
        let path = format!("/other{CHAT}");
        let answer = Request::post(&path, chat_request(MODEL, "How are you?", false))
            .header("authorization", "Bearer k")
            .header("x-understudy-conversation", &format!("{number}"))
            .send(program.listen);
        assert_eq!(chat_text(&answer.text()), "from another provider");
    }
    assert_eq!(stage.candidate.count(), 0);
}

#[test]
fn a_candidate_that_costs_more_is_taken_out_and_one_without_a_price_is_told_as_not_guarded() {
    let stage = Stage::new();
    let prices = r#"{"models": [{"model": "small-1", "input": 1e-3, "output": 1e-3}]}"#;
    std::fs::write(stage.home.path().join("prices.json"), prices).expect("a writable folder");
    let config = stage.config("baseline: 70, small: 30", "    guard: { cost: 1.2x }\n");
    let unpriced = stage.home.serve_config(&config);
    let row = &stage.rollout("status")[0];
    let words = row["unguarded"].as_str().unwrap_or_default();
    assert!(words.contains("cost") && words.contains("small-135m"), "{row}");
    for number in 0..200 {
        arm(&unpriced, &format!("unpriced {number}"));
    }
    assert_eq!(unpriced.scrape().sum("understudy_guard_trips_total", &[]), 0.0);
    unpriced.terminate();

    let priced = config.replace("small-135m", "small-1");
    let program = stage
        .home
        .serve_config(&format!("prices: prices.json\n{priced}capture: {{ bodies: none }}\n"));
    assert!(stage.rollout("status")[0]["unguarded"].is_null());
    let (before, mut number) = (stage.candidate.count(), 0);
    eventually("it is taken out", || {
        for _ in 0..10 {
            number += 1;
            arm(&program, &format!("priced {number}"));
        }
        gauge(&program) == 0.0
    });
    assert!(
        stage.candidate.count() - before <= 200,
        "it was asked more than 200 times"
    );
    eventually("the trip is written", || {
        !stage.rollout("status")[0]["trips"].as_array().is_none_or(Vec::is_empty)
    });
    let trip = &stage.rollout("status")[0]["trips"][0];
    assert_eq!(trip["metric"], "cost", "{trip}");
    assert!(
        trip["why"].as_str().is_some_and(|why| why.contains("at least $")),
        "{trip}"
    );
}

#[test]
fn people_move_a_rollout_and_a_running_proxy_follows() {
    let stage = Stage::new();
    let rollout = "    rollout: { stepWeight: 20, maxWeight: 50, interval: 10m, promote: manual }\n";
    let program = stage.serve("baseline: 95, small: 5", rollout);
    assert_eq!(stage.weight(), 5);
    for (command, weight) in [
        ("promote", 25),
        ("promote", 45),
        ("promote", 50),
        ("rollback", 0),
        ("resume", 5),
    ] {
        stage.rollout(command);
        assert_eq!(stage.weight(), weight, "{command}");
        eventually("the proxy follows", || {
            gauge(&program) == f64::from(weight as u32) / 100.0
        });
    }
    stage.rollout("pause");
    let refused = stage.home.run(&["rollout", "promote", "--config", "understudy.yaml"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("frozen"));
    let wrong = stage
        .home
        .run(&["rollout", "promote", "nothing", "--config", "understudy.yaml"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&wrong.stderr).contains("canary"),
        "the routes that there are"
    );
    let log = stage
        .home
        .run(&["audit", "--log", "--config", "understudy.yaml", "--format", "jsonl"]);
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(log.matches("\"rollout\"").count() >= 6, "{log}");

    // A weight that is in force but for the kill switch is not told without it.
    let status = ["rollout", "status", "--config", "understudy.yaml"];
    assert!(!String::from_utf8_lossy(&stage.home.run(&status).stderr).contains("bypass"));
    stage.home.run(&["bypass", "on", "--config", "understudy.yaml"]);
    assert!(String::from_utf8_lossy(&stage.home.run(&status).stderr).contains("bypass is on"));
    stage.home.run(&["bypass", "off", "--config", "understudy.yaml"]);

    // `explain` sees what a live call would.
    stage.rollout("rollback");
    stage.home.run(&["check", "understudy.yaml"]);
    std::fs::write(stage.home.path().join("request.json"), chat_request(MODEL, "hi", false))
        .expect("a writable folder");
    let arguments = [
        "explain",
        "request.json",
        "--config",
        "understudy.yaml",
        "--format",
        "json",
    ];
    let explained = stage.home.run(&arguments);
    let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).expect("JSON");
    assert_eq!(explained["upstream"], "baseline");
    assert_eq!(explained["weights"][1], serde_json::json!(["small", 0]), "{explained}");
    assert!(
        explained["control"]
            .as_str()
            .is_some_and(|text| text.contains("rollback")),
        "{explained}"
    );
}

#[test]
fn an_automatic_rollout_steps_to_its_highest_weight_and_a_restart_goes_on() {
    let stage = Stage::new();
    let rollout = "    rollout: { stepWeight: 20, maxWeight: 45, interval: 1s, minCalls: 1, promote: auto }\n";
    let mut program = stage.serve("baseline: 95, small: 5", rollout);
    let mut number = 0;
    for weight in [0.05, 0.25, 0.45] {
        eventually("the next step", || {
            number += 1;
            arm(&program, &format!("{number}"));
            gauge(&program) >= weight
        });
        program.terminate();
        program = stage.home.serve(&["--config", "understudy.yaml"], &[]);
    }
    assert_eq!(gauge(&program), 0.45);
}

#[test]
fn a_verdict_that_grows_too_old_freezes_its_split_and_one_that_was_renewed_does_so_again() {
    let stage = Stage::new();
    let run = |arguments: &[&str]| {
        let ran = stage.home.run(arguments);
        let words = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{arguments:?}: {words}");
        String::from_utf8(ran.stdout).expect("data is text")
    };
    let data = stage.home.data();
    let data = data.to_string_lossy();
    let calls = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/agent-calls.jsonl");
    run(&["import", calls, "--data", &data]);
    run(&["tasks", "fit", "--data", &data]);
    let tasks = run(&["tasks", "list", "--format", "json", "--data", &data]);
    let tasks: serde_json::Value = serde_json::from_str(&tasks).expect("JSON");
    let task = tasks[0]["id"].as_str().expect("a task");
    let rollout = "    rollout: { stepWeight: 5, maxWeight: 50, interval: 1s, minCalls: 1000, threshold: 1000, promote: manual }\nverdict: { max_age: 4s }\n";
    let config = stage.config("baseline: 95, small: 5", rollout);
    let config = config.replace("model: 'gpt-4o*'", &format!("task: {task}"));
    stage.home.write_config(&config);
    let replay = || {
        let config = "understudy.yaml";
        run(&[
            "replay",
            "--task",
            task,
            "--to",
            "small",
            "--max-calls",
            "8",
            "--config",
            config,
        ]);
    };
    replay();
    let _program = stage.home.serve_config(&config);
    let frozen = || {
        let mut why = None;
        eventually("it is frozen", || {
            why = stage.rollout("status")[0]["frozen"].as_str().map(str::to_owned);
            why.is_some()
        });
        why.unwrap_or_default()
    };
    let first = frozen();
    assert!(first.contains("small is older than `verdict.max_age`"), "{first}");
    assert!(stage.rollout("resume")[0]["frozen"].is_null());
    replay();
    let again = frozen();
    assert!(again.contains("small is older than `verdict.max_age`"), "{again}");
    assert_ne!(first, again, "it is another verdict's age");
}

#[test]
fn a_swapped_config_map_is_picked_up() {
    let stage = Stage::new();
    let mount = stage.home.path().join("mount");
    std::fs::create_dir(&mount).expect("a writable folder");
    swap(&mount, "..one", &stage.config("baseline: 100, small: 0", ""));
    std::os::unix::fs::symlink("..data/understudy.yaml", mount.join("understudy.yaml")).expect("a link");
    let program = stage.home.serve(&["--config", "mount/understudy.yaml"], &[]);
    assert_eq!(gauge(&program), 0.0);
    swap(&mount, "..two", &stage.config("baseline: 70, small: 30", ""));
    eventually("the new weights are in force", || gauge(&program) == 0.3);
    std::fs::remove_dir_all(mount.join("..one")).expect("as the kubelet does");
    swap(&mount, "..three", &stage.config("baseline: 40, small: 60", ""));
    eventually("the newest weights are in force", || gauge(&program) == 0.6);
    assert_eq!(program.scrape().sum("understudy_config_reload_failed", &[]), 0.0);
}

#[test]
fn two_replicas_split_alike_follow_one_anothers_trips_and_come_back_together() {
    let stage = Stage::new();
    let config = stage.config("baseline: 50, small: 50", "    guard: { error: 2% }\n");
    let one = stage.home.serve_config(&config);
    let spool = stage.home.path().join("spool-of-two");
    let second = format!("{config}capture: {{ spool: {{ dir: {} }} }}\n", spool.display());
    std::fs::write(stage.home.path().join("two.yaml"), second).expect("a writable folder");
    let two = stage.home.serve(&["--config", "two.yaml", "--no-collect"], &[]);
    for program in [&one, &two] {
        arm(program, "introduction");
    }
    for number in 0..50 {
        let conversation = format!("{number}");
        assert_eq!(arm(&one, &conversation), arm(&two, &conversation), "{conversation}");
    }
    stage.is_broken.store(true, Ordering::SeqCst);
    let mut number = 0;
    eventually("the first takes it out", || {
        for _ in 0..10 {
            number += 1;
            arm(&one, &format!("ill {number}"));
        }
        gauge(&one) == 0.0
    });
    eventually("the second follows", || gauge(&two) == 0.0);
    assert_eq!(
        two.scrape().sum("understudy_guard_trips_total", &[]),
        0.0,
        "it was not its own"
    );
    stage.is_broken.store(false, Ordering::SeqCst);
    stage.rollout("resume");
    for program in [&one, &two] {
        eventually("it is back", || gauge(program) == 0.5);
        eventually("it answers", || {
            number += 1;
            arm(program, &format!("resumed {number}")) == FROM_CANDIDATE
        });
    }

    // A route that is taken out while it is tripped or rolled back leaves nothing behind, and comes back as it was.
    stage.rollout("rollback");
    eventually("it is rolled back", || gauge(&two) == 0.0);
    let bare = config.split("routes:").next().unwrap_or_default();
    stage.home.write_config(bare);
    eventually("the route is gone", || {
        !one.scrape().text.contains("understudy_split_weight{")
    });
    assert_eq!(arm(&one, "without a route"), FROM_BASELINE);
    stage.home.write_config(&config);
    eventually("the route is back", || {
        one.scrape().text.contains("understudy_split_weight{")
    });
    assert_eq!(gauge(&one), 0.0, "what was done to it holds");
}

/// Changes a mounted ConfigMap as the kubelet does: a new folder, and a link to it that is put over the old one.
fn swap(mount: &Path, folder: &str, config: &str) {
    let made = mount.join(folder);
    std::fs::create_dir(&made).expect("a writable folder");
    std::fs::write(made.join("understudy.yaml"), config).expect("a writable folder");
    std::os::unix::fs::symlink(folder, mount.join("..data_tmp")).expect("a link");
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("a rename");
}
