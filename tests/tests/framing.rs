//! Requests that are no calls, or try to be two: refused before they reach the upstream, and no door but the data port's
//! own is open there.

use understudy_tests::contains;
use understudy_tests::fixtures::{CHAT, answer_chat};
use understudy_tests::http::{Request, Wire};
use understudy_tests::program::{Home, Program};
use understudy_tests::upstream::Upstream;

/// Asserts that the program is still well: a good call passes.
fn assert_serves(program: &Program) {
    let answer = Request::post("/good", "{}").send(program.listen);
    assert_eq!(answer.status(), 200, "the next good call: {}", answer.text());
}

#[test]
fn metrics_and_admin_are_never_on_the_data_port() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "from the upstream"));
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let paths = [
        "/metrics",
        "/healthz",
        "/readyz",
        "/admin",
        "//admin",
        "/v1/../../metrics",
        "/%2e%2e/admin",
        "/bypass",
    ];
    for path in paths {
        let answer = Request::get(path).send(program.listen);
        assert!(
            answer.text().contains("from the upstream"),
            "{path} is answered by us: {}",
            answer.text()
        );
    }
    let seen: Vec<String> = upstream
        .requests()
        .iter()
        .map(|seen| seen.head.path().to_owned())
        .collect();
    assert_eq!(seen, paths, "paths pass byte for byte");
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(
            Request::get(path).send(program.metrics).status(),
            200,
            "{path} on its own port"
        );
    }
}

/// Writes bytes on a connection of their own and gives back the status of the answer, if one came.
fn status_of(program: &Program, bytes: &[u8]) -> Option<u16> {
    let mut wire = Wire::connect(program.listen).expect("the program listens");
    // It may answer and close before it has read all.
    let _ = wire.write(bytes);
    wire.read_head().ok().flatten().map(|head| head.status())
}

#[test]
fn bad_framing_is_refused_and_never_reaches_the_upstream() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let post =
        |headers: &str, body: &str| format!("POST {CHAT} HTTP/1.1\r\nhost: h\r\n{headers}\r\n{body}").into_bytes();
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        (
            "two different lengths",
            post("content-length: 2\r\ncontent-length: 3\r\n", "{}x"),
            &[400],
        ),
        ("length +2", post("content-length: +2\r\n", "{}"), &[400]),
        ("length -1", post("content-length: -1\r\n", "{}"), &[400]),
        ("length 0x2", post("content-length: 0x2\r\n", "{}"), &[400]),
        (
            "length 2^64+2",
            post("content-length: 18446744073709551618\r\n", "{}"),
            &[400],
        ),
        ("space before the colon", post("content-length : 2\r\n", "{}"), &[400]),
        (
            "unknown coding",
            post("transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
            &[400, 501],
        ),
        (
            "chunked is not last",
            post("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"),
            &[400, 501],
        ),
        (
            "bare CR in a value",
            post("x: a\rb\r\ncontent-length: 2\r\n", "{}"),
            &[400],
        ),
        ("NUL in a value", post("x: a\0b\r\ncontent-length: 2\r\n", "{}"), &[400]),
        (
            "obsolete folding",
            post("x: a\r\n b\r\ncontent-length: 2\r\n", "{}"),
            &[400],
        ),
        ("space in a name", post("x y: a\r\ncontent-length: 2\r\n", "{}"), &[400]),
        ("no colon", post("xy\r\ncontent-length: 2\r\n", "{}"), &[400]),
        (
            "no host",
            format!("POST {CHAT} HTTP/1.1\r\ncontent-length: 2\r\n\r\n{{}}").into_bytes(),
            &[400],
        ),
        ("two hosts", post("host: other\r\ncontent-length: 2\r\n", "{}"), &[400]),
        (
            "HTTP/9.9",
            format!("GET {CHAT} HTTP/9.9\r\nhost: h\r\n\r\n").into_bytes(),
            &[400, 505],
        ),
        (
            "TLS on a plain port",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "a header of 80 KiB",
            post(&format!("x: {}\r\n", "a".repeat(80 << 10)), ""),
            &[400, 431],
        ),
        ("300 headers", post(&"x: a\r\n".repeat(300), ""), &[400, 431]),
        (
            "a URI of 20 KiB",
            format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", "a".repeat(20 << 10)).into_bytes(),
            &[414],
        ),
        (
            "CONNECT",
            b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\n\r\n".to_vec(),
            &[405],
        ),
        (
            "TRACE",
            format!("TRACE {CHAT} HTTP/1.1\r\nhost: h\r\nauthorization: k\r\n\r\n").into_bytes(),
            &[405],
        ),
    ];
    let mut faults = Vec::new();
    for (case, bytes, expected) in &cases {
        let status = status_of(&program, bytes);
        if !status.is_some_and(|status| expected.contains(&status)) {
            faults.push(format!("{case}: {status:?}, expected {expected:?}"));
        }
    }
    for seen in upstream.requests() {
        faults.push(format!(
            "reached the upstream: {:?} {:?}",
            seen.head.start, seen.head.headers
        ));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_serves(&program);
    let metrics = program.scrape_at_rest();
    let rejected = metrics.sum("understudy_rejected_total", &[]);
    assert_eq!(metrics.unaccounted(), 0.0);
    assert_eq!(
        metrics.sum("understudy_calls_total", &[]),
        1.0,
        "calls, of which only the good one is one"
    );
    assert!(rejected > 0.0, "refusals are counted: {}", metrics.text);
    program.terminate();
    assert!(
        home.rows().len() <= 1,
        "a request refused before its head was accepted has no row"
    );
}

#[test]
fn a_length_beside_chunks_never_smuggles_a_second_request() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n";
    for headers in [
        format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", smuggled.len()),
        format!("transfer-encoding: chunked\r\ncontent-length: {}\r\n", smuggled.len()),
    ] {
        let bytes = format!("POST {CHAT} HTTP/1.1\r\nhost: h\r\n{headers}\r\n{smuggled}");
        status_of(&program, bytes.as_bytes());
    }
    program.scrape_at_rest();
    for seen in upstream.requests() {
        let both = seen.head.header("content-length").is_some() && seen.head.header("transfer-encoding").is_some();
        assert!(!both, "two framings went to the upstream: {:?}", seen.head.headers);
        assert!(
            seen.complete && !contains(&seen.body, "smuggled"),
            "a request in a body: {:?}",
            seen.body
        );
    }
    assert_serves(&program);
}

#[test]
fn a_request_cut_short_is_not_completed_towards_the_upstream() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let bytes = format!("POST {CHAT} HTTP/1.1\r\nhost: h\r\ncontent-length: 50\r\n\r\n{{\"model\":");
    let wire = Wire::connect(program.listen).expect("the program listens");
    wire.write(bytes.as_bytes()).expect("the program reads");
    drop(wire);
    assert_serves(&program);
    program.scrape_at_rest();
    let whole = upstream
        .requests()
        .into_iter()
        .filter(|seen| seen.head.path() == CHAT && seen.complete);
    assert_eq!(
        whole.count(),
        0,
        "the upstream got a request that its client never finished"
    );
}
