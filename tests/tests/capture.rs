//! Nothing is lost: over kill -9, over restarts and over a stop in the middle of a stream, every call that its client
//! saw complete is kept exactly once, and the counters add up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use understudy_call::record::Outcome;
use understudy_tests::fixtures::{CHAT, answer_chat, chat_end, chat_event, chat_request};
use understudy_tests::http::{Head, Request, Wire};
use understudy_tests::program::Home;
use understudy_tests::upstream::{Gate, LAST_CHUNK, Step, Upstream, chunk, stream_head};
use understudy_tests::{Dice, contains, eventually};

const KILLS: u64 = 8;
const CLIENTS: usize = 6;

/// A wait that never times out here: what is promised is promised for waits that completed.
fn config(upstream: &Upstream) -> String {
    format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ncapture: {{ wait: 10s }}\nstore: {{ flush: {{ after: 100ms }} }}\n",
        upstream.url()
    )
}

fn call(case: &str, streamed: bool) -> Request {
    Request::post(CHAT, chat_request("gpt-4o", "How are you?", streamed))
        .header("authorization", "Bearer k")
        .header("x-understudy-tag-case", case)
}

/// How often each case is in the rows.
fn kept(home: &Home) -> BTreeMap<String, usize> {
    let mut kept = BTreeMap::new();
    for row in home.rows() {
        *kept
            .entry(row.tags.get("case").cloned().unwrap_or_default())
            .or_default() += 1;
    }
    kept
}

/// Calls until the connection fails, and notes each case that was seen complete.
fn call_until_it_fails(address: SocketAddr, name: &str, completed: &Mutex<Vec<String>>, stop: &AtomicBool) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let case = format!("{name}-{number}");
        let streamed = number % 2 == 0;
        let Ok(open) = call(&case, streamed).try_open(address) else {
            return;
        };
        let answer = open.finish();
        // A stream is complete to a client once it has seen the end mark, whether or not the framing's end follows.
        if answer.complete || (streamed && contains(&answer.body, "data: [DONE]\n\n")) {
            assert_eq!(answer.status(), 200, "{case}: {}", answer.text());
            completed.lock().expect("no client panicked").push(case);
        }
    }
}

#[test]
fn kill_9_under_load_loses_no_call_that_its_client_saw_complete() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "I am very well, thank you"));
    let home = Home::new();
    let completed = Mutex::new(Vec::new());
    let mut dice = Dice::new(20261121);
    for round in 0..KILLS {
        let begun = Instant::now();
        let program = home.serve_config(&config(&upstream));
        let start = begun.elapsed();
        assert!(start < Duration::from_secs(5), "start {round} took {start:?}");
        let address = program.listen;
        let stop = AtomicBool::new(false);
        let before = completed.lock().expect("no client panicked").len();
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (completed, stop) = (&completed, &stop);
                scope.spawn(move || call_until_it_fails(address, &format!("{round}-{client}"), completed, stop));
            }
            eventually("calls complete", || {
                completed.lock().expect("no client panicked").len() > before + CLIENTS
            });
            std::thread::sleep(Duration::from_millis(dice.roll(400)));
            program.kill_9();
            stop.store(true, Ordering::Relaxed);
        });
    }
    home.serve_config(&config(&upstream)).terminate();

    let completed = completed.into_inner().expect("no client panicked");
    let kept = kept(&home);
    let lost: Vec<&String> = completed.iter().filter(|case| !kept.contains_key(*case)).collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), completed.len());
    let twice: Vec<_> = kept.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "kept more than once: {twice:?}");
    assert!(completed.len() > 100, "only {} calls completed", completed.len());
    let audit = home.run(&[
        "audit",
        "--config",
        "understudy.yaml",
        "--data",
        &home.data().to_string_lossy(),
    ]);
    assert_eq!(
        audit.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&audit.stdout)
    );
    eprintln!(
        "{} calls completed over {KILLS} kills, {} kept",
        completed.len(),
        kept.len()
    );
}

#[test]
fn sigterm_lets_an_open_stream_end_and_stores_it() {
    let gate = Gate::default();
    let until_open = gate.clone();
    let upstream = Upstream::start(move |_| {
        vec![
            stream_head(),
            Step::Send(chunk(chat_event("gpt-4o", "first ").as_bytes())),
            Step::Wait(until_open.clone()),
            Step::Send(chunk(chat_event("gpt-4o", "last").as_bytes())),
            Step::Send(chunk(chat_end("gpt-4o").as_bytes())),
            Step::Send(LAST_CHUNK.to_vec()),
        ]
    });
    let home = Home::new();
    let program = home.serve_config(&config(&upstream));
    let mut open = call("open", true).open(program.listen);
    open.read_until("first");
    let address = program.listen;
    program.begin_to_terminate();
    eventually("no new connection is taken", || Wire::connect(address).is_err());
    gate.open();
    let answer = open.finish();
    assert!(
        answer.complete && answer.text().contains("[DONE]"),
        "the stream was cut: {}",
        answer.text()
    );
    let ended = program.wait();
    assert_eq!(ended.code, Some(0), "after SIGTERM; stderr:\n{}", ended.stderr);
    let row = home.row("open");
    assert_eq!(row.outcome, Outcome::Ok);
    assert_eq!(row.output_text.as_deref(), Some("first last"));
    assert!(!row.partial, "a stream with its end mark is not partial");
}

/// Sends a call on an open connection; the answer's head, its body read.
fn call_on(wire: &mut Wire, address: SocketAddr, case: &str) -> Option<Head> {
    wire.write(&call(case, false).bytes(address)).ok()?;
    let head = wire.read_head().ok()??;
    let length = head.header("content-length")?.parse().ok()?;
    wire.read_bytes(length).ok()?;
    Some(head)
}

#[test]
fn a_request_that_is_on_its_way_at_sigterm_is_answered_as_its_connections_last() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    // A machine that is busy may let a connection's time run out before the test gets to it.
    for _ in 0..10 {
        let home = Home::new();
        let program = home.serve_config(&config(&upstream));
        let address = program.listen;
        let mut used = Wire::connect(address).expect("the program listens");
        let head = call_on(&mut used, address, "before").expect("an answer");
        assert_eq!(head.header("connection"), None);
        let mut unused = Wire::connect(address).expect("the program listens");
        let sent = Instant::now();
        program.begin_to_terminate();
        eventually("it says that it ends", || {
            Request::get("/readyz").send(program.metrics).status() == 503
        });
        // Who finds no kept connection left opens a new one.
        let mut new = Wire::connect(address).expect("the program listens for a while");
        let heads = [("used", &mut used), ("unused", &mut unused), ("new", &mut new)]
            .map(|(case, wire)| call_on(wire, address, case));
        if sent.elapsed() > Duration::from_secs(1) {
            continue;
        }
        for head in heads {
            let head = head.expect("an answer after SIGTERM");
            assert_eq!((head.status(), head.header("connection")), (200, Some("close")));
        }
        [used, unused, new]
            .into_iter()
            .for_each(|mut wire| wire.wait_until_closed());
        assert_eq!(program.wait().code, Some(0));
        assert_eq!(
            kept(&home),
            ["before", "used", "unused", "new"]
                .map(|case| (case.to_owned(), 1))
                .into()
        );
        return;
    }
    panic!("the machine is too busy for this test");
}

#[test]
fn calls_cut_at_the_end_of_the_drain_are_kept_as_far_as_they_came() {
    let gate = Gate::default();
    let until_open = gate.clone();
    let upstream = Upstream::start(move |seen| {
        let mut steps = vec![Step::Wait(until_open.clone())];
        if seen.wants_stream() {
            let first = chunk(chat_event("gpt-4o", "first").as_bytes());
            steps.splice(0..0, [stream_head(), Step::Send(first)]);
        }
        steps
    });
    let home = Home::new();
    let program = home.serve_config(&(config(&upstream) + "timeouts: { drain: 1s }\n"));
    let mut begun = call("begun", true).open(program.listen);
    begun.read_until("first");
    let mut silent = Wire::connect(program.listen).expect("the program listens");
    let request = call("silent", false).bytes(program.listen);
    silent.write(&request).expect("the program reads");
    eventually("both are at the upstream", || upstream.count() == 2);
    program.begin_to_terminate();
    assert!(!begun.finish().complete, "a cut stream is whole");
    assert!(
        !matches!(silent.read_head(), Ok(Some(_))),
        "a call without an answer got one"
    );
    let ended = program.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    gate.open();
    let rows = home.rows();
    assert_eq!(rows.len(), 2, "{}", ended.stderr);
    for case in ["begun", "silent"] {
        let row = home.row(case);
        assert_eq!(
            (row.outcome, row.partial),
            (Outcome::ClientClosed, case == "begun"),
            "{case}"
        );
    }
    let data = home.data();
    let audit = home.run(&["audit", "--data", &data.to_string_lossy(), "--format", "json"]);
    assert_eq!(
        audit.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&audit.stdout)
    );
    let boots: serde_json::Value = serde_json::from_slice(&audit.stdout).expect("JSON");
    assert_eq!(
        (&boots[0]["kept"], &boots[0]["stored"], &boots[0]["missing_count"]),
        (&2.into(), &2.into(), &0.into())
    );
}

#[test]
fn sigterm_right_after_the_start_ends_it_well() {
    let home = Home::new();
    for _ in 0..10 {
        // As soon as it says that it listens, a signal is taken as one.
        home.serve_upstream("http://127.0.0.1:9").terminate();
    }
}

#[test]
fn sigterm_stores_calls_that_came_just_before() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    let home = Home::new();
    // The default flush is a minute away: the stop itself has to store them.
    let program = home.serve_upstream(&upstream.url());
    for case in ["a", "b", "c"] {
        assert_eq!(call(case, false).send(program.listen).status(), 200);
    }
    program.terminate();
    assert_eq!(kept(&home), ["a", "b", "c"].map(|case| (case.to_owned(), 1)).into());
}

#[test]
fn rows_are_there_exactly_once_over_restarts() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    let home = Home::new();
    let mut cases = BTreeMap::new();
    for round in 0..4 {
        let program = home.serve_config(&config(&upstream));
        for number in 0..10 {
            let case = format!("{round}-{number}");
            assert_eq!(call(&case, number % 2 == 0).send(program.listen).status(), 200);
            cases.insert(case, 1);
        }
        if round % 2 == 0 {
            program.terminate();
        } else {
            program.kill_9();
        }
    }
    home.serve_config(&config(&upstream)).terminate();
    assert_eq!(kept(&home), cases);
    // What was stored does not wait in the spool any more, and is not stored again.
    home.serve_config(&config(&upstream)).terminate();
    assert_eq!(kept(&home), cases, "after a restart with nothing new");
}

#[test]
fn rows_appear_without_a_stop() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    let home = Home::new();
    let program = home.serve_config(&config(&upstream));
    assert_eq!(call("a", false).send(program.listen).status(), 200);
    eventually("the call is stored", || kept(&home).contains_key("a"));
    program.terminate();
    assert_eq!(kept(&home), [("a".to_owned(), 1)].into());
}

#[test]
fn calls_are_in_flight_kept_or_dropped_for_a_reason() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    let home = Home::new();
    let config = config(&upstream) + "limits: { max_routed_body: 1MiB }\n";
    let config = config.replace("wait: 10s", "wait: 10s, exclude: [{ model: 'private*' }]");
    let program = home.serve_config(&config);
    let completed = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (completed, stop, address) = (&completed, &stop, program.listen);
            scope.spawn(move || call_until_it_fails(address, &format!("{client}"), completed, stop));
        }
        for _ in 0..20 {
            // A scrape reads one counter after the other, so a call may move in between.
            let unaccounted = program.scrape().unaccounted();
            assert!(
                unaccounted.abs() <= CLIENTS as f64,
                "{unaccounted} calls unaccounted for under load"
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
    let quiet = call("quiet", false).header("x-understudy-capture", "none");
    assert_eq!(quiet.send(program.listen).status(), 200);
    let private = Request::post(CHAT, chat_request("private-1", "secret", false));
    assert_eq!(private.send(program.listen).status(), 200);

    let metrics = program.scrape_at_rest();
    let completed = completed.into_inner().expect("no client panicked");
    assert_eq!(metrics.unaccounted(), 0.0, "{}", metrics.text);
    assert_eq!(metrics.sum("understudy_calls_total", &[]), completed.len() as f64 + 2.0);
    assert_eq!(metrics.sum("understudy_kept_total", &[]), completed.len() as f64);
    assert_eq!(metrics.sum("understudy_dropped_total", &[]), 2.0, "{}", metrics.text);
    assert_eq!(
        metrics.sum("understudy_calls_ended_total", &[("outcome", "ok")]),
        completed.len() as f64 + 2.0
    );
    // The collector reads the spool a moment later.
    eventually("kept = stored + waiting + evicted", || {
        program.scrape().mislaid() == 0.0
    });
    program.terminate();
    let kept = kept(&home);
    assert_eq!(kept.len(), completed.len(), "rows, of calls kept");
    assert!(kept.values().all(|times| *times == 1), "a call is kept twice");
    for seen in upstream.requests() {
        assert!(
            !contains(&seen.head.raw, "x-understudy"),
            "our headers went to the upstream"
        );
    }
}
