//! A store that is down, hangs, is slow, tears, loses answers or refuses: calls go on, and every record is stored once.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use understudy_call::taskbook::{SCHEMA, TaskBook};
use understudy_tests::eventually;
use understudy_tests::fixtures::{CHAT, answer_chat, chat_request};
use understudy_tests::http::Request;
use understudy_tests::objects::{Fault, Objects, SECRET, TOKEN};
use understudy_tests::program::{Home, Program, rows_of};
use understudy_tests::upstream::Upstream;

/// What a store can do wrong, the reason that counts it, and words that say what to do about it.
const FAULTS: [(Fault, &str, &str); 8] = [
    (
        Fault::Refuses(503, "SlowDown", "Please reduce your request rate."),
        "unavailable",
        "503",
    ),
    (
        Fault::Refuses(500, "InternalError", "We encountered an internal error."),
        "unavailable",
        "500",
    ),
    (Fault::Refuses(403, "AccessDenied", "Access Denied"), "denied", "s3:"),
    (
        Fault::Refuses(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        ),
        "denied",
        "set the clock",
    ),
    (Fault::Hangs, "timeout", "could not"),
    (Fault::Slow, "timeout", "could not"),
    (Fault::Tears, "unavailable", "could not"),
    (Fault::LosesAnswers, "unavailable", "could not"),
];

/// A program that stores into a faulty store, and what it was sent.
struct Stage {
    objects: Objects,
    upstream: Upstream,
    home: Home,
    sent: usize,
}

impl Stage {
    fn new() -> Stage {
        let home = Home::new();
        let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
        // A local start makes the keys, which a remote store asks for.
        home.serve_upstream(&upstream.url()).terminate();
        Stage {
            objects: Objects::start(),
            upstream,
            home,
            sent: 0,
        }
    }

    fn serve(&self) -> Program {
        let data = self.home.data();
        self.home.write_config(&format!(
            "upstreams: {{ llm: {{ url: {} }} }}\nkeys: {{ dir: {data}/keys }}\n\
             capture: {{ wait: 10s, spool: {{ dir: {data}/spool, commit_interval: 20ms }} }}\n\
             store: {{ flush: {{ after: 50ms }} }}\nlog: {{ level: trace }}\n",
            self.upstream.url(),
            data = data.display(),
        ));
        let variables = self.objects.variables();
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
        let arguments = ["--config", "understudy.yaml"];
        self.home.serve_at(&self.objects.location(), &arguments, &variables)
    }

    fn call(&mut self, program: &Program, times: usize) {
        for _ in 0..times {
            self.sent += 1;
            let call = Request::post(CHAT, chat_request("gpt-4o", "Hello", self.sent.is_multiple_of(2)));
            let answer = call
                .header("x-understudy-tag-case", &self.sent.to_string())
                .send(program.listen);
            assert!(answer.status() == 200 && answer.complete);
        }
    }

    /// Waits until all of this boot's calls are stored.
    fn all_stored(&self, program: &Program) {
        let metrics = program.scrape_when_stored();
        assert_eq!(metrics.sum("understudy_waiting_bytes", &[]), 0.0);
        assert_eq!(metrics.sum("understudy_ingest_lag_seconds", &[]), 0.0);
        assert_eq!(metrics.sum("understudy_dropped_total", &[]), 0.0, "{}", metrics.text);
    }

    /// Asserts that every call is in the store once, and that the audit says so.
    fn assert_accounted(&self, what: &str) {
        let mut stored: BTreeMap<String, usize> = BTreeMap::new();
        for row in rows_of(&self.objects.store()) {
            *stored.entry(row.tags["case"].clone()).or_default() += 1;
        }
        let expected: BTreeMap<String, usize> = (1..=self.sent).map(|case| (case.to_string(), 1)).collect();
        assert_eq!(stored, expected, "{what}");
        let location = self.objects.location();
        let arguments = [
            "audit",
            "--config",
            "understudy.yaml",
            "--data",
            &location,
            "--format",
            "json",
        ];
        let output = self.home.run_with(&arguments, &self.objects.variables());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{what}: {said}");
        let boots: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
        let sum = |name: &str| boots.iter().filter_map(|boot| boot[name].as_u64()).sum::<u64>();
        assert_eq!(
            (sum("stored"), sum("missing_count")),
            (self.sent as u64, 0),
            "{what}: {boots:?}"
        );
    }
}

#[test]
fn a_store_that_fails_in_any_way_holds_up_no_call_and_gets_every_record_once() {
    let mut stage = Stage::new();
    let program = stage.serve();
    for (fault, reason, words) in FAULTS {
        stage.call(&program, 2);
        stage.all_stored(&program);
        let failed = |program: &Program| {
            program
                .scrape()
                .sum("understudy_store_errors_total", &[("reason", reason)])
        };
        let (before, said_before) = (failed(&program), program.stderr().len());
        stage.objects.misbehave(Some(fault));
        stage.call(&program, 5);
        eventually(&format!("a failure is counted: {fault:?}"), || {
            failed(&program) > before
        });
        stage.call(&program, 5);
        eventually("all that waits is counted", || {
            let metrics = program.scrape();
            // A record that was put is not known to be stored before the store says so.
            metrics.sum("understudy_waiting", &[]) == 10.0 && metrics.mislaid() == 0.0
        });
        let metrics = program.scrape();
        assert!(metrics.sum("understudy_waiting_bytes", &[]) > 0.0, "{fault:?}");
        assert!(metrics.sum("understudy_ingest_lag_seconds", &[]) > 0.0, "{fault:?}");
        assert_eq!(metrics.sum("understudy_spool_slow", &[]), 0.0, "{fault:?}");
        let said = program.stderr()[said_before..].to_owned();
        let warning = said.lines().find(|line| line.contains("storing failed"));
        let warning = warning.unwrap_or_else(|| panic!("{fault:?} is not said"));
        assert!(
            warning.contains(words) && warning.contains("s3://"),
            "{fault:?}: {warning}"
        );
        stage.objects.misbehave(None);
        stage.all_stored(&program);
    }
    let ended = program.terminate();
    for canary in [SECRET, TOKEN] {
        assert!(!ended.stderr.contains(canary), "{canary} is in the log");
    }
    stage.assert_accounted("after all faults");
}

#[test]
fn a_program_killed_while_its_store_fails_stores_every_record_once_when_it_is_back() {
    let mut stage = Stage::new();
    for fault in [Fault::LosesAnswers, Fault::Tears, Fault::Hangs] {
        // It starts while the store fails.
        stage.objects.misbehave(Some(fault));
        let puts = stage.objects.puts();
        let program = stage.serve();
        stage.call(&program, 6);
        eventually("the store is asked", || stage.objects.puts() > puts);
        program.kill_9();
        stage.objects.misbehave(None);
        let program = stage.serve();
        stage.call(&program, 1);
        stage.all_stored(&program);
        program.kill_9();
        stage.assert_accounted(&format!("after {fault:?} and kill -9"));
    }
}

#[test]
fn replicas_share_a_store() {
    let (mut first, mut second) = (Stage::new(), Stage::new());
    second.objects = first.objects.clone();
    let (one, other) = (first.serve(), second.serve());
    first.call(&one, 10);
    second.call(&other, 10);
    first.all_stored(&one);
    second.all_stored(&other);
    one.terminate();
    other.terminate();
    let rows = rows_of(&first.objects.store());
    let ids: BTreeSet<&str> = rows.iter().map(|row| &*row.call_id).collect();
    assert_eq!((rows.len(), ids.len()), (20, 20));
}

#[test]
fn conflicts_pass_and_a_create_that_may_be_done_is_not_asked_again() {
    let objects = Objects::start();
    let store = objects.store();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let refuses = |status, code| objects.misbehave(Some(Fault::Refuses(status, code, "as the test wants it")));
    let create = |key: &str| {
        let before = objects.puts();
        let created = runtime.block_on(store.create(key, b"x".as_slice().into()));
        (created, objects.puts() - before)
    };
    refuses(409, "ConditionalRequestConflict");
    let (created, asked) = create("one");
    assert!(created.is_err_and(|error| error.is_retryable()) && asked == 3);
    refuses(503, "SlowDown");
    let (created, asked) = create("one");
    assert!(created.is_err_and(|error| error.is_retryable()) && asked == 1);
    refuses(409, "OperationAborted");
    let put = runtime.block_on(store.put("one", b"x".as_slice().into()));
    assert!(put.is_err_and(|error| error.is_retryable()));
    objects.misbehave(None);
    assert!(matches!(create("one"), (Ok(true), 1)));
    assert!(matches!(create("one"), (Ok(false), 1)));
}

#[test]
fn a_proxy_starts_with_the_last_task_book_where_the_store_does_not_answer() {
    let stage = Stage::new();
    let publish = || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let mut book = TaskBook {
            schema: SCHEMA,
            ..TaskBook::default()
        };
        let published = runtime.block_on(understudy_collector::books::publish(&stage.objects.store(), &mut book));
        published.expect("a store that works");
    };
    let version = |program: &Program| program.scrape().sum("understudy_taskbook_version", &[]);
    let age = |program: &Program| program.scrape().sum("understudy_taskbook_age_seconds", &[]);
    publish();
    publish();
    let program = stage.serve();
    eventually("the book is in force", || version(&program) == 2.0);
    program.terminate();

    stage.objects.misbehave(Some(Fault::Hangs));
    let program = stage.serve();
    assert_eq!(version(&program), 2.0, "the local copy's");
    eventually("its age shows", || age(&program) > 3.0);
    stage.objects.misbehave(None);
    publish();
    eventually("the newest is in force", || version(&program) == 3.0);
    eventually("it is young again", || age(&program) < 3.0);
    program.terminate();

    // A copy that was damaged is no reason not to start.
    let copy = stage.home.data().join("spool/taskbook.json");
    std::fs::write(&copy, "{").expect("a writable folder");
    let program = stage.serve();
    eventually("the store's is in force", || version(&program) == 3.0);
    eventually("the copy is whole again", || {
        std::fs::read(&copy).is_ok_and(|json| TaskBook::from_json(&json).is_ok())
    });
}
