//! WebSockets: tunnelled, and counted with their bytes, their time and the model in their query.

use std::time::{Duration, Instant};
use understudy_call::record::Outcome;
use understudy_tests::eventually;
use understudy_tests::http::{Request, Wire};
use understudy_tests::program::{Home, Program};
use understudy_tests::upstream::{Step, Upstream, head, json};

fn switching() -> Step {
    let headers = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ];
    Step::Send(head(101, &headers))
}

fn request(path: &str, case: &str) -> Request {
    Request::new("GET", path)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "realtime, openai-insecure-api-key.k")
        .header("authorization", "Bearer k")
        .header("x-understudy-tag-case", case)
}

/// An open tunnel through which `bytes` have gone there and back.
fn tunnel(program: &Program, path: &str, case: &str, bytes: &[u8]) -> Wire {
    let mut wire = Wire::connect(program.listen).expect("the program listens");
    wire.write(&request(path, case).bytes(program.listen))
        .expect("the program reads");
    let head = wire.read_head().expect("an answer").expect("an answer");
    assert_eq!(head.status(), 101, "{head:?}");
    assert_eq!(
        head.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    wire.write(bytes).expect("an open tunnel");
    assert!(
        wire.read_bytes(bytes.len()).expect("an open tunnel") == bytes,
        "{case}: other bytes came back"
    );
    wire
}

#[test]
fn a_socket_is_one_call_with_its_bytes_its_time_and_its_model() {
    let upstream = Upstream::start(|_| vec![switching(), Step::Echo]);
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let frames: Vec<u8> = (0..70_000u32).map(|number| (number % 251) as u8).collect();
    let paths = [
        ("realtime", "/v1/realtime?model=gpt-realtime", Some("gpt-realtime")),
        ("responses", "/v1/responses", None),
        (
            "live",
            "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=k",
            None,
        ),
    ];
    for (case, path, _) in paths {
        let wire = tunnel(&program, path, case, &frames);
        std::thread::sleep(Duration::from_millis(60));
        drop(wire);
    }
    let metrics = program.scrape_at_rest();
    assert_eq!(metrics.unaccounted(), 0.0);
    assert_eq!(
        metrics.sum("understudy_request_bytes_total", &[]),
        3.0 * frames.len() as f64
    );
    let heads: Vec<String> = upstream
        .requests()
        .iter()
        .map(|seen| seen.head.path().to_owned())
        .collect();
    assert_eq!(
        heads,
        paths.map(|(_, path, _)| path),
        "paths and queries pass byte for byte"
    );
    let protocols = upstream.requests()[0]
        .head
        .header("sec-websocket-protocol")
        .map(str::to_owned);
    assert_eq!(protocols.as_deref(), Some("realtime, openai-insecure-api-key.k"));
    program.terminate();
    for (case, path, model) in paths {
        let row = home.row(case);
        let bytes = Some(frames.len() as i64);
        assert_eq!((row.request_bytes, row.response_bytes), (bytes, bytes), "{case}");
        assert_eq!(
            (row.api.as_str(), row.status, row.outcome),
            ("other", Some(101), Outcome::Ok),
            "{case}"
        );
        assert_eq!(row.request_model.as_deref(), model, "{case}");
        assert_eq!(
            row.path.as_deref(),
            path.split('?').next(),
            "{case}: the query is not kept"
        );
        assert!(row.duration_ms >= Some(60.0), "{case} took {:?}", row.duration_ms);
        assert!(row.request_body.is_none() && row.response_body.is_none(), "{case}");
    }
}

#[test]
fn an_upstream_that_does_not_switch_answers_as_it_likes() {
    let upstream = Upstream::start(|_| json(403, &serde_json::json!({"error": {"message": "no"}})));
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let answer = request("/v1/realtime?model=m", "refused").send(program.listen);
    assert_eq!(answer.status(), 403, "{}", answer.text());
    program.terminate();
    let row = home.row("refused");
    assert_eq!((row.status, row.outcome), (Some(403), Outcome::UpstreamStatus));
}

#[test]
fn a_stop_lets_an_open_socket_be_and_then_cuts_and_records_it() {
    let upstream = Upstream::start(|_| vec![switching(), Step::Echo]);
    let home = Home::new();
    let program = home.serve_config(&format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ntimeouts: {{ drain: 1s }}\n",
        upstream.url()
    ));
    let mut wire = tunnel(&program, "/v1/realtime", "open", b"first");
    let begun = Instant::now();
    program.begin_to_terminate();
    std::thread::sleep(Duration::from_millis(300));
    wire.write(b"more").expect("an open tunnel");
    assert_eq!(wire.read_bytes(4).expect("a stop cuts no open tunnel at once"), b"more");
    let ended = program.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let took = begun.elapsed();
    assert!(
        took > Duration::from_millis(900) && took < Duration::from_secs(5),
        "it took {took:?}"
    );
    eventually("the upstream's side is closed", || upstream.closed().len() == 1);
    let row = home.row("open");
    assert_eq!((row.request_bytes, row.response_bytes), (Some(9), Some(9)));
}
