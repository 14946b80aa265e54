//! `ask_usage`: a stream is made to tell its tokens, and the client gets exactly the stream that it asked for.

use serde_json::{Value, json};
use understudy_tests::fixtures::{CHAT, chat_event};
use understudy_tests::http::Request;
use understudy_tests::program::Home;
use understudy_tests::upstream::{LAST_CHUNK, Seen, Step, Upstream, chunk, stream_head};

const COMPLETIONS: &str = "/v1/completions";
const DONE: &str = "data: [DONE]\n\n";

fn usage_event() -> String {
    let event = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
        "usage": {"prompt_tokens": 41, "completion_tokens": 2, "total_tokens": 43},
    });
    format!("data: {event}\n\n")
}

/// The stream without its usage event; odd line ends and a comment are part of it.
fn before() -> String {
    let last = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#;
    format!(
        ": hello\r\n\r\n{}{}data: {last}\n\n",
        chat_event("m", "Hé "),
        chat_event("m", "there")
    )
}

fn asks(seen: &Seen) -> bool {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    body["stream_options"]["include_usage"] == true
}

/// Tells its usage where asked, in pieces of the size that the header `x-cut` gives.
fn answer(seen: &Seen) -> Vec<Step> {
    let size = seen
        .head
        .header("x-cut")
        .and_then(|size| size.parse().ok())
        .unwrap_or(usize::MAX);
    let usage = if asks(seen) { usage_event() } else { String::new() };
    let whole = format!("{}{usage}{DONE}", before());
    let pieces = whole.as_bytes().chunks(size).map(|piece| Step::Send(chunk(piece)));
    std::iter::once(stream_head())
        .chain(pieces)
        .chain([Step::Send(LAST_CHUNK.to_vec())])
        .collect()
}

fn config(upstream: &Upstream, more: &str) -> String {
    format!("upstreams: {{ llm: {{ url: {}, {more} }} }}\n", upstream.url())
}

const BODY: &str = "{ \"model\":\"m\", \"stream\" : true,\"messages\":[{\"role\":\"user\",\"content\":\"h\u{e9}\"}]}";

fn call(case: &str, body: &str) -> Request {
    Request::post(CHAT, body)
        .header("accept-encoding", "gzip, br")
        .header("x-understudy-tag-case", case)
}

#[test]
fn the_row_has_tokens_and_the_client_the_stream_without_that_one_event_however_it_is_cut() {
    let upstream = Upstream::start(answer);
    let home = Home::new();
    let program = home.serve_config(&config(&upstream, "ask_usage: true"));
    for size in ["1", "2", "7", "64", "100000"] {
        for path in [CHAT, COMPLETIONS] {
            let case = format!("{path} {size}");
            let answer = call(&case, BODY).to(path).header("x-cut", size).send(program.listen);
            assert_eq!(answer.text(), before() + DONE, "{case}");
            assert!(answer.complete, "{case}");
        }
    }
    for seen in upstream.requests() {
        let expected = BODY.replacen('{', "{\"stream_options\":{\"include_usage\":true},", 1);
        assert_eq!(String::from_utf8_lossy(&seen.body), expected, "all other bytes stay");
        assert_eq!(seen.head.header("accept-encoding"), Some("identity"));
        assert!(seen.complete);
    }
    program.terminate();
    for size in ["1", "64", "100000"] {
        let row = home.row(&format!("{CHAT} {size}"));
        assert_eq!(
            (row.input_tokens, row.output_tokens),
            (Some(41), Some(2)),
            "pieces of {size}"
        );
        assert_eq!(row.output_text.as_deref(), Some("Hé there"));
        assert!(!row.partial);
        assert_eq!(row.request_bytes, Some(BODY.len() as i64), "the client's own request");
        assert!(!row.request_body.unwrap_or_default().contains("stream_options"));
    }
}

#[test]
fn a_client_that_asks_itself_gets_what_it_asked_for() {
    let upstream = Upstream::start(answer);
    let home = Home::new();
    let program = home.serve_config(&config(&upstream, "ask_usage: true"));
    let body = BODY.replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
    let answer = call("own", &body).send(program.listen);
    assert_eq!(answer.text(), before() + &usage_event() + DONE);
    let seen = upstream.requests().pop().expect("a request");
    assert_eq!(seen.body, body.as_bytes());
    assert_eq!(seen.head.header("accept-encoding"), Some("gzip, br"));
}

#[test]
fn what_is_not_streamed_or_too_long_or_at_another_upstream_is_left_alone() {
    let upstream = Upstream::start(answer);
    let home = Home::new();
    let program = home.serve_config(&format!(
        "default_upstream: asked\nlimits: {{ max_routed_body: 10KiB }}\nupstreams: {{ asked: {{ url: {url}, ask_usage: true }}, plain: {{ url: {url} }} }}\n",
        url = upstream.url()
    ));
    let whole = BODY.replace("true", "false");
    let long = BODY.replace("h\u{e9}", &"x".repeat(11 << 10));
    for (case, path, body) in [
        ("whole", CHAT, whole.as_str()),
        ("long", CHAT, &long),
        ("plain", "/plain/v1/chat/completions", BODY),
        ("other", "/v1/responses", BODY),
    ] {
        let answer = call(case, body).to(path).send(program.listen);
        assert_eq!(answer.text(), before() + DONE, "{case}");
        let seen = upstream.requests().pop().expect("a request");
        assert!(seen.body == body.as_bytes(), "{case}: the upstream got other bytes");
        assert_eq!(seen.head.header("accept-encoding"), Some("gzip, br"), "{case}");
    }
}

#[test]
fn an_error_of_an_upstream_that_does_not_take_it_passes() {
    let upstream = Upstream::start(|_| understudy_tests::upstream::json(422, &json!({"detail": "extra inputs"})));
    let home = Home::new();
    let program = home.serve_config(&config(&upstream, "ask_usage: true"));
    let answer = call("refused", BODY).send(program.listen);
    assert_eq!(
        (answer.status(), answer.text()),
        (422, r#"{"detail":"extra inputs"}"#.to_owned())
    );
}
