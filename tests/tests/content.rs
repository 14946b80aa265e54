//! Bodies that lie or break off, in every API that is read: the wire stays untouched, and the row says what was wrong.

use understudy_call::call::Api;
use understudy_tests::http::Request;
use understudy_tests::program::Home;
use understudy_tests::upstream::{LAST_CHUNK, Seen, Step, Upstream, chunk, head};

/// A path of each API.
const PATHS: [(&str, Api); 10] = [
    ("/v1/chat/completions", Api::OpenaiChat),
    ("/v1/responses", Api::OpenaiResponses),
    ("/v1/completions", Api::OpenaiCompletions),
    ("/v1/embeddings", Api::OpenaiEmbeddings),
    ("/v1/messages", Api::AnthropicMessages),
    ("/v1beta/models/m:streamGenerateContent", Api::Gemini),
    ("/api/chat", Api::Ollama),
    ("/model/m%3A0/converse-stream", Api::BedrockConverse),
    ("/model/m%3A0/invoke-with-response-stream", Api::BedrockInvoke),
    ("/v2/chat", Api::CohereChat),
];
const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";
const BINARY: &str = "application/vnd.amazon.eventstream";

/// One answer, and what its row must say.
struct Fault {
    name: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    said: Said,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    /// The body could not be read: `body_note`.
    Note(&'static str),
    /// A stream that broke off.
    Partial,
    /// A stream that broke off, and events that could not be read.
    PartialAnd(&'static str),
}

fn faults() -> Vec<Fault> {
    let deep = "{\"a\":".repeat(100_000);
    let event = |data: &str| format!("data: {data}\n\n").into_bytes();
    let fault = |name, content_type, body: Vec<u8>, said| Fault {
        name,
        content_type,
        body,
        said,
    };
    vec![
        fault("deep", JSON, deep.clone().into_bytes(), Said::Note("parse_error:depth")),
        fault(
            "deep events",
            SSE,
            event(&deep).repeat(2),
            Said::PartialAnd("parse_error"),
        ),
        fault(
            "an event of 1.5 MiB",
            SSE,
            event(&format!("{{\"x\":\"{}\"}}", "y".repeat(3 << 19))),
            Said::PartialAnd("parse_error"),
        ),
        fault(
            "no line end ever",
            SSE,
            [b"data: {".as_slice(), &vec![b'z'; 3 << 19]].concat(),
            Said::PartialAnd("parse_error"),
        ),
        fault(
            "no text",
            JSON,
            b"{\"x\": \"\xff\xfe\x80".to_vec(),
            Said::Note("parse_error"),
        ),
        fault(
            "a page",
            "text/html",
            b"<!doctype html><h1>Log in</h1>".to_vec(),
            Said::Note("parse_error"),
        ),
        fault(
            "a page that says JSON",
            JSON,
            b"<html>".to_vec(),
            Said::Note("parse_error"),
        ),
        fault("events that say JSON", JSON, event("{\"x\": 1}"), Said::Partial),
        fault(
            "JSON cut short",
            JSON,
            b"{\"id\": \"x\", \"choices\": [{".to_vec(),
            Said::Note("parse_error"),
        ),
        fault(
            "noise that says binary events",
            BINARY,
            vec![0x9d; 5000],
            Said::PartialAnd("parse_error"),
        ),
    ]
}

fn answer(seen: &Seen) -> Vec<Step> {
    let faults = faults();
    let number: usize = seen
        .head
        .header("x-fault")
        .and_then(|number| number.parse().ok())
        .expect("a fault's number");
    let fault = &faults[number];
    let headers = [("content-type", fault.content_type), ("transfer-encoding", "chunked")];
    let mut steps = vec![Step::Send(head(200, &headers))];
    steps.extend(fault.body.chunks(40_000).map(|piece| Step::Send(chunk(piece))));
    steps.push(Step::Send(LAST_CHUNK.to_vec()));
    steps
}

#[test]
fn what_cant_be_read_passes_untouched_and_its_row_says_so() {
    let upstream = Upstream::start(answer);
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let faults = faults();
    let case = |api: Api, fault: &Fault| format!("{}, {}", api.as_str(), fault.name);
    for (path, api) in PATHS {
        for (number, fault) in faults.iter().enumerate() {
            let answer = Request::post(path, format!("{{\"model\":\"m\",\"n\":{number}}}"))
                .header("x-fault", &number.to_string())
                .header("x-understudy-tag-case", &case(api, fault))
                .send(program.listen);
            assert!(
                answer.complete && answer.body == fault.body,
                "{}: other bytes",
                case(api, fault)
            );
        }
    }
    program.terminate();
    let rows = home.rows();
    assert_eq!(rows.len(), PATHS.len() * faults.len());
    let mut wrong = Vec::new();
    for (_, api) in PATHS {
        for fault in &faults {
            let case = case(api, fault);
            let row = rows
                .iter()
                .find(|row| row.tags.get("case") == Some(&case))
                .expect("a row for each call");
            assert_eq!((row.api.as_str(), row.status), (api.as_str(), Some(200)), "{case}");
            let expected = match fault.said {
                Said::Note(note) => (Some(note), false),
                Said::Partial => (None, true),
                Said::PartialAnd(note) => (Some(note), true),
            };
            // Embeddings never stream, and events are no event stream of Bedrock's.
            let expected = match (api, fault.name) {
                (Api::OpenaiEmbeddings, _) => (expected.0.or(Some("parse_error")), false),
                (Api::BedrockInvoke, "events that say JSON") => (Some("parse_error"), true),
                _ => expected,
            };
            if (row.body_note.as_deref(), row.partial) != expected {
                wrong.push(format!("{case}: note {:?}, partial {}", row.body_note, row.partial));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} rows say something else:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn requests_that_cant_be_read_pass_untouched_in_every_api() {
    let upstream = Upstream::start(|_| {
        vec![
            Step::Send(head(200, &[("content-length", "2")])),
            Step::Send(b"{}".to_vec()),
        ]
    });
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let deep = "[".repeat(100_000);
    let bodies: [(&[u8], &str); 4] = [
        (deep.as_bytes(), "parse_error:depth"),
        (b"\xff\xfe{\x00", "parse_error"),
        (b"{\"messages\": [", "parse_error"),
        (b"[1, 2]", "parse_error"),
    ];
    for (path, api) in PATHS {
        for (number, (body, _)) in bodies.iter().enumerate() {
            let case = format!("{} {number}", api.as_str());
            let request = Request::post(path, *body)
                .header("x-case", &case)
                .header("x-understudy-tag-case", &case);
            assert_eq!(request.send(program.listen).text(), "{}", "{case}");
            let requests = upstream.requests();
            let seen = requests
                .iter()
                .find(|seen| seen.head.header("x-case") == Some(&case))
                .expect("it arrived");
            assert!(seen.body == *body, "{case}: the upstream got other bytes");
        }
    }
    program.terminate();
    let rows = home.rows();
    for (_, api) in PATHS {
        for (number, (_, note)) in bodies.iter().enumerate() {
            let case = format!("{} {number}", api.as_str());
            let row = rows
                .iter()
                .find(|row| row.tags.get("case") == Some(&case))
                .expect("a row for each call");
            assert_eq!(row.body_note.as_deref(), Some(*note), "{} {number}", api.as_str());
        }
    }
}
