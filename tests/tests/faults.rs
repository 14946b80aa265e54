//! Faults on both sides of a call: what the client sees, what the upstream sees, and what the row says of it; and that
//! the next good call passes.

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use understudy_call::record::{CallRecord, Outcome};
use understudy_tests::fixtures::{CHAT, MESSAGES, answer_chat, chat_event, chat_request};
use understudy_tests::http::{Answer, Request, Wire};
use understudy_tests::program::{Home, Program};
use understudy_tests::upstream::{LAST_CHUNK, Step, Upstream, chunk, head, refusing_address, stream_head};
use understudy_tests::{eventually, sha256};

fn call(case: &str) -> Request {
    Request::post(CHAT, chat_request("gpt-4o", "How are you?", false)).header("x-understudy-tag-case", case)
}

/// An upstream that plays these steps on path `/v1/chat/completions` and answers well elsewhere.
fn faulty(steps: Vec<Step>) -> Upstream {
    Upstream::start(move |seen| match seen.head.path() {
        CHAT => steps.clone(),
        _ => answer_chat(seen, "gpt-4o", "well"),
    })
}

/// Asserts that the program is still well: a good call passes.
fn assert_serves(program: &Program) {
    let answer = Request::post("/good", "{}").send(program.listen);
    assert_eq!(answer.status(), 200, "the next good call: {}", answer.text());
}

/// One call against a faulty upstream: what the client got, and the row.
fn one_call(steps: Vec<Step>) -> (Answer, CallRecord) {
    let upstream = faulty(steps);
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let answer = call("it").send(program.listen);
    let requests = upstream.requests();
    let tries = requests.iter().filter(|seen| seen.head.path() == CHAT).count();
    assert_eq!(tries, 1, "a call is sent once, and never again unasked");
    assert_serves(&program);
    program.terminate();
    (answer, home.row("it"))
}

/// Asserts an error in the shape of OpenAI's API.
fn assert_openai_error(answer: &Answer, status: u16) {
    assert_eq!(answer.status(), status, "{}", answer.text());
    assert!(answer.complete, "an error answer cut short");
    let body = answer.json();
    assert!(
        body["error"]["message"].is_string() && body["error"]["type"].is_string(),
        "not the shape of OpenAI's errors: {body}"
    );
}

#[test]
fn an_unknown_config_key_is_refused_with_file_line_and_the_nearest_key() {
    let home = Home::new();
    home.write_config("upstreams:\n  llm: { url: 'http://127.0.0.1:9' }\ncapture:\n  wiat: 5ms\n");
    for arguments in [
        &["serve", "--config", "understudy.yaml"][..],
        &["check", "understudy.yaml"],
    ] {
        let output = home.run(arguments);
        let words = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert!(
            matches!(code, Some(1 | 2)),
            "{arguments:?} ended with {code:?}: {words}"
        );
        assert!(
            words.contains("understudy.yaml:4"),
            "{arguments:?} does not say where: {words}"
        );
        assert!(
            words.contains("`wait`"),
            "{arguments:?} does not name the nearest key: {words}"
        );
        assert!(output.stdout.is_empty(), "{arguments:?} has words on stdout");
    }
}

#[test]
fn an_upstream_that_cannot_be_reached_is_a_502_at_once_in_the_providers_error_shape() {
    let home = Home::new();
    let program = home.serve_upstream(&format!("http://{}", refusing_address()));
    let begun = Instant::now();
    let chat = call("chat").send(program.listen);
    let messages = Request::post(MESSAGES, r#"{"model":"claude","max_tokens":1,"messages":[]}"#)
        .header("x-understudy-tag-case", "messages")
        .send(program.listen);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "two refusals took {:?}",
        begun.elapsed()
    );
    assert_openai_error(&chat, 502);
    assert_eq!(messages.status(), 502);
    let body = messages.json();
    assert!(
        body["type"] == "error" && body["error"]["type"].is_string() && body["error"]["message"].is_string(),
        "not the shape of Anthropic's errors: {body}"
    );
    program.terminate();
    for case in ["chat", "messages"] {
        let row = home.row(case);
        assert_eq!(row.outcome, Outcome::UpstreamConnect, "{case}");
        assert!(row.error.is_some(), "{case}: the row does not say what failed");
        assert_eq!(row.input_tokens, None, "{case}: unknown is never 0");
    }
}

#[test]
fn an_upstream_that_hangs_is_a_504_when_the_deadline_passes() {
    let upstream = faulty(vec![Step::Hang]);
    let home = Home::new();
    let program = home.serve_config(&format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ntimeouts: {{ first_byte: 300ms }}\n",
        upstream.url()
    ));
    let begun = Instant::now();
    let answer = call("it").send(program.listen);
    let took = begun.elapsed();
    assert_openai_error(&answer, 504);
    assert!(
        took > Duration::from_millis(290) && took < Duration::from_secs(3),
        "it took {took:?}"
    );
    eventually("the upstream's connection is closed", || upstream.closed().len() == 1);
    assert_serves(&program);
    program.terminate();
    assert_eq!(home.row("it").outcome, Outcome::Timeout);
}

#[test]
fn an_upload_that_goes_on_is_no_silence_of_the_upstream() {
    let upstream = Upstream::start(|_| understudy_tests::upstream::json(200, &json!({})));
    let home = Home::new();
    let program = home.serve_config(&format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ntimeouts: {{ first_byte: 1s }}\n",
        upstream.url()
    ));
    let mut wire = Wire::connect(program.listen).expect("it listens");
    wire.write(b"POST /v1/files HTTP/1.1\r\nhost: h\r\ncontent-length: 80\r\n\r\n")
        .expect("it reads");
    for _ in 0..8 {
        wire.write(b"0123456789").expect("it reads");
        std::thread::sleep(Duration::from_millis(250));
    }
    let head = wire.read_head().expect("an answer").expect("an answer");
    assert_eq!(head.status(), 200, "{head:?}");
    let request = &upstream.requests()[0];
    assert_eq!(
        (request.body.len(), request.head.header("content-length")),
        (80, Some("80"))
    );
}

#[test]
fn a_stream_that_falls_silent_is_cut_when_the_idle_deadline_passes() {
    let upstream = faulty(vec![
        stream_head(),
        Step::Send(chunk(chat_event("gpt-4o", "half").as_bytes())),
        Step::Hang,
    ]);
    let home = Home::new();
    let program = home.serve_config(&format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ntimeouts: {{ idle: 300ms }}\n",
        upstream.url()
    ));
    let answer = call("it").send(program.listen);
    assert!(!answer.complete, "a cut stream must not look whole: {}", answer.text());
    program.terminate();
    let row = home.row("it");
    assert_eq!((row.outcome, row.partial), (Outcome::Timeout, true));
    assert_eq!(row.output_text.as_deref(), Some("half"));
}

#[test]
fn a_request_that_is_no_json_is_forwarded_as_it_is() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let deep = "[".repeat(100_000);
    let bodies: [(&str, &[u8]); 6] = [
        ("cut", br#"{"model": "gpt-4o", "messages": [{"role": "user""#),
        ("bytes", b"\xff\xfe\x00{\x80\x81}"),
        (
            "order",
            b"{ \"model\" :\"gpt-4o\",\"messages\":[ ],\"z\":1e999, \"a\":-0, \"a\":18446744073709551616}",
        ),
        ("bom", b"\xef\xbb\xbf{\"model\":\"gpt-4o\",\"messages\":[]}"),
        ("empty", b""),
        ("deep", deep.as_bytes()),
    ];
    for (case, body) in bodies {
        let request = Request::post(CHAT, body)
            .header("x-understudy-tag-case", case)
            .header("x-case", case);
        assert_eq!(request.send(program.listen).status(), 200, "{case}");
        let requests = upstream.requests();
        let seen = requests.iter().find(|seen| seen.head.header("x-case") == Some(case));
        let seen = seen.unwrap_or_else(|| panic!("{case} did not reach the upstream"));
        assert!(seen.body == body, "{case}: the upstream got other bytes");
    }
    program.terminate();
    for case in ["cut", "bytes", "deep"] {
        let row = home.row(case);
        let note = if case == "deep" {
            "parse_error:depth"
        } else {
            "parse_error"
        };
        assert_eq!(row.body_note.as_deref(), Some(note), "{case}");
        assert_eq!(
            row.output_text.as_deref(),
            Some("well"),
            "{case}: the answer is parsed all the same"
        );
    }
    assert_eq!(home.rows().len(), bodies.len());
}

#[test]
fn a_body_of_100_mb_streams_through_and_its_copy_is_cut() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    assert_eq!(call("warm").send(program.listen).status(), 200);
    let before = program.peak_memory();
    let body = chat_request("gpt-4o", &"All work and no play. ".repeat(100_000_000 / 22), false);
    let answer = Request::post(CHAT, body.as_bytes())
        .header("x-understudy-tag-case", "long")
        .send(program.listen);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let grown = program.peak_memory() - before;
    let seen = upstream.requests().pop().expect("the request arrived");
    assert_eq!(
        sha256(&seen.body),
        sha256(body.as_bytes()),
        "the upstream got other bytes"
    );
    // Twice `max_routed_body` (8 MiB) for copies, and as much again for buffers and what the allocator holds.
    assert!(grown < 48 << 20, "memory grew by {} MiB for one long body", grown >> 20);
    program.terminate();
    let row = home.row("long");
    assert_eq!(row.body_note.as_deref(), Some("cut"));
    assert_eq!(row.request_bytes, Some(body.len() as i64));
    assert_eq!(row.outcome, Outcome::Ok);
    assert_eq!(row.output_text.as_deref(), Some("well"));
}

/// A stream's first words, and then what follows.
fn half_a_stream(then: Step) -> Vec<Step> {
    vec![
        stream_head(),
        Step::Send(chunk(chat_event("gpt-4o", "half").as_bytes())),
        then,
    ]
}

#[test]
fn a_client_that_hangs_up_cancels_the_upstream_call_and_what_came_is_kept() {
    let tick = chunk(chat_event("gpt-4o", ".").as_bytes());
    let ticking = Step::Repeat(tick, Duration::from_millis(10));
    for (case, then) in [("silent", Step::Hang), ("ticking", ticking)] {
        let upstream = faulty(half_a_stream(then));
        let home = Home::new();
        let program = home.serve_upstream(&upstream.url());
        let mut open = call(case).open(program.listen);
        open.read_until("half");
        drop(open);
        let hung_up = Instant::now();
        eventually("the upstream call is cancelled", || !upstream.closed().is_empty());
        let took = upstream.closed()[0].saturating_duration_since(hung_up);
        assert!(took < Duration::from_millis(500), "{case}: cancelled after {took:?}");
        assert_serves(&program);
        assert_eq!(program.scrape_at_rest().unaccounted(), 0.0, "{case}");
        program.terminate();
        let row = home.row(case);
        assert_eq!((row.outcome, row.partial), (Outcome::ClientClosed, true), "{case}");
        let text = row.output_text.unwrap_or_default();
        assert!(text.starts_with("half"), "{case}: what came is not kept: {text:?}");
    }
}

#[test]
fn a_client_that_hangs_up_before_the_answer_cancels_the_upstream_call() {
    let upstream = faulty(vec![Step::Hang]);
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let wire = Wire::connect(program.listen).expect("the program listens");
    wire.write(&call("it").bytes(program.listen))
        .expect("the program reads");
    eventually("the request arrives", || upstream.count() == 1);
    drop(wire);
    let hung_up = Instant::now();
    eventually("the upstream call is cancelled", || !upstream.closed().is_empty());
    let took = upstream.closed()[0].saturating_duration_since(hung_up);
    assert!(took < Duration::from_millis(500), "cancelled after {took:?}");
    program.terminate();
    assert_eq!(home.row("it").outcome, Outcome::ClientClosed);
}

#[test]
fn a_hang_up_after_the_end_mark_is_no_fault_of_the_client() {
    let end = understudy_tests::fixtures::chat_end("gpt-4o");
    let upstream = faulty(
        half_a_stream(Step::Send(chunk(end.as_bytes())))
            .into_iter()
            .chain([Step::Hang])
            .collect(),
    );
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let mut open = call("it").open(program.listen);
    open.read_until("[DONE]");
    drop(open);
    program.scrape_at_rest();
    program.terminate();
    let row = home.row("it");
    assert_eq!((row.outcome, row.partial), (Outcome::Ok, false));
}

#[test]
fn a_stream_that_the_upstream_resets_has_no_clean_end() {
    let (answer, row) = one_call(
        half_a_stream(Step::Pause(Duration::from_millis(50)))
            .into_iter()
            .chain([Step::Reset])
            .collect(),
    );
    assert_eq!(answer.status(), 200);
    assert!(
        !answer.complete,
        "the client must not take a reset stream for a whole one: {}",
        answer.text()
    );
    assert!(
        matches!(row.outcome, Outcome::UpstreamReset | Outcome::UpstreamTruncated),
        "{:?}",
        row.outcome
    );
    assert!(
        row.partial && row.output_text.as_deref() == Some("half"),
        "{:?}",
        row.output_text
    );
}

#[test]
fn an_answer_that_the_upstream_cuts_short_has_no_clean_end() {
    let (chunked, row) = one_call(half_a_stream(Step::Close));
    assert!(!chunked.complete, "a stream cut short looks whole: {}", chunked.text());
    assert_eq!((row.outcome, row.partial), (Outcome::UpstreamTruncated, true));

    let short = head(200, &[("content-type", "application/json"), ("content-length", "1000")]);
    let (sized, row) = one_call(vec![Step::Send([&short[..], b"{\"id\":"].concat()), Step::Close]);
    assert!(!sized.complete, "a short answer looks whole: {}", sized.text());
    assert_eq!(row.outcome, Outcome::UpstreamTruncated);
}

#[test]
fn what_came_before_a_fault_reaches_the_client() {
    let upstream = faulty(half_a_stream(Step::Close));
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    for number in 0..30 {
        let answer = call("it").send(program.listen);
        assert_eq!(answer.status(), 200, "call {number}");
        assert!(
            answer.text().contains("half"),
            "call {number}: what came is not passed on: {:?}",
            answer.text()
        );
    }
}

#[test]
fn a_whole_message_without_the_end_mark_is_partial() {
    let (answer, row) = one_call(half_a_stream(Step::Send(LAST_CHUNK.to_vec())));
    assert!(answer.complete, "framing was whole");
    assert!(row.partial, "a stream without its end mark is partial");
}

#[test]
fn an_upstream_that_hangs_up_before_its_answer_is_a_502() {
    let (answer, row) = one_call(vec![Step::Close]);
    assert_openai_error(&answer, 502);
    assert!(
        matches!(row.outcome, Outcome::UpstreamReset | Outcome::UpstreamTruncated),
        "{:?}",
        row.outcome
    );
    let (answer, row) = one_call(vec![Step::Reset]);
    assert_openai_error(&answer, 502);
    assert_eq!(row.outcome, Outcome::UpstreamReset);
}

#[test]
fn an_upstream_that_does_not_speak_http_is_a_502() {
    let garbage: [&[u8]; 3] = [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header line\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
    ];
    for bytes in garbage {
        let (answer, row) = one_call(vec![Step::Send(bytes.to_vec()), Step::Close]);
        assert_openai_error(&answer, 502);
        assert_eq!(
            row.outcome,
            Outcome::UpstreamProtocol,
            "{}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn errors_of_the_provider_pass_unchanged() {
    let body = json!({"error": {"message": "slow down", "type": "rate_limit_error", "code": "x"}});
    let text = body.to_string();
    let length = text.len().to_string();
    let headers = [
        ("content-type", "application/json"),
        ("retry-after", "7"),
        ("content-length", &length),
    ];
    let (answer, row) = one_call(vec![Step::Send(
        [head(429, &headers), text.clone().into_bytes()].concat(),
    )]);
    assert_eq!((answer.status(), answer.text()), (429, text));
    assert_eq!(answer.head.header("retry-after"), Some("7"));
    assert_eq!((row.outcome, row.status), (Outcome::UpstreamStatus, Some(429)));
    let kept: Value = serde_json::from_str(&row.error.expect("the provider's error is kept")).expect("JSON");
    assert!(kept.to_string().contains("slow down"), "{kept}");
}

#[test]
fn an_error_inside_a_stream_is_seen() {
    let error = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
    let steps = half_a_stream(Step::Send(chunk(error.as_bytes())));
    let (answer, row) = one_call(steps.into_iter().chain([Step::Send(LAST_CHUNK.to_vec())]).collect());
    assert!(answer.complete && answer.text().contains("overloaded"));
    assert_eq!(row.outcome, Outcome::InStreamError);
}
