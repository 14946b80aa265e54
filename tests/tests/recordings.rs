//! Recorded provider traffic through the program: the same bytes both ways however they are cut, one row per call, and
//! in each row what the oracle found.

use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use understudy_call::record::CallRecord;
use understudy_tests::http::{Answer, Request};
use understudy_tests::program::Home;
use understudy_tests::recordings::{Exchange, exchanges};
use understudy_tests::sha256;
use understudy_tests::upstream::{LAST_CHUNK, Seen, Step, Upstream, chunk, head};

/// Share of exchanges in which each field must agree with the oracle.
const FLOOR: f64 = 0.99;
const CLIENTS: usize = 8;
const CUTS: [Cut; 4] = [Cut::Whole, Cut::Sevens, Cut::Bytes, Cut::Seams];
/// Pieces of a body that travel in writes of their own; the pieces after them share a write, to save the time.
const PIECES_ALONE: usize = 400;
const PIECES_TOGETHER: usize = 64;
/// Bytes of the event that holds the end mark, at most.
const LAST_EVENT: i64 = 64;
/// Headers that a recording holds and a replay makes anew.
const FRAMING: [&str; 5] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "transfer-encoding",
];

/// Where both bodies are cut into pieces that are written one by one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// Nowhere.
    Whole,
    /// Every seven bytes.
    Sevens,
    /// Every byte.
    Bytes,
    /// Inside each character of several bytes, each CRLF, and each line end that is followed by another.
    Seams,
}

impl Cut {
    /// The offsets after which a body is cut.
    fn offsets(self, body: &[u8]) -> Vec<usize> {
        let is_seam = |at: &usize| {
            let pair = (body[at - 1], body[*at]);
            (0x80..0xc0).contains(&pair.1) || matches!(pair, (b'\r' | b'\n', b'\n' | b'\r'))
        };
        let inside = 1..body.len().max(1);
        match self {
            Cut::Whole => Vec::new(),
            Cut::Sevens => inside.step_by(7).skip(1).map(|at| at - 1).collect(),
            Cut::Bytes => inside.collect(),
            Cut::Seams => inside.filter(is_seam).collect(),
        }
    }

    fn of_name(name: &str) -> Cut {
        let cut = CUTS.into_iter().find(|cut| format!("{cut:?}") == name);
        cut.expect("a cut of this test")
    }
}

#[test]
fn recorded_calls_pass_byte_for_byte_and_are_kept_as_the_oracle_reads_them() {
    let exchanges: Arc<HashMap<String, Exchange>> = Arc::new(
        exchanges(None)
            .into_iter()
            .map(|exchange| (exchange.name.clone(), exchange))
            .collect(),
    );
    if exchanges.is_empty() {
        return;
    }
    let recorded = exchanges.clone();
    let upstream = Upstream::start(move |seen| replay(&recorded[header(seen, "x-case")], seen));
    let home = Home::new();
    let program = home.serve_config(&format!(
        "upstreams: {{ recorded: {{ url: {url} }} }}\n\
         mask: {{ rules: none }}\ncapture: {{ wait: 5s }}\nstore: {{ flush: {{ after: 1s }} }}\n",
        url = upstream.url()
    ));

    let cases: Vec<(&Exchange, Cut)> = exchanges
        .values()
        .flat_map(|exchange| CUTS.map(|cut| (exchange, cut)))
        .collect();
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some((exchange, cut)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answer = request(exchange, *cut).send(program.listen);
                    let found = response_faults(exchange, &answer);
                    let found = found
                        .into_iter()
                        .map(|fault| format!("{} {cut:?}: {fault}", exchange.name));
                    faults.lock().expect("no client panicked").extend(found);
                }
            });
        }
    });
    let mut faults = faults.into_inner().expect("no client panicked");
    for seen in upstream.requests() {
        let exchange = &exchanges[header(&seen, "x-case")];
        faults.extend(request_faults(exchange, &seen).map(|fault| format!("{}: {fault}", exchange.name)));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert_eq!(upstream.count(), cases.len(), "requests at the upstream");

    program.terminate();
    let rows: BTreeMap<String, CallRecord> = home
        .rows()
        .into_iter()
        .map(|row| (row.tags.get("case").cloned().unwrap_or_default(), row))
        .collect();
    assert_eq!(home.rows().len(), cases.len(), "one row per call");
    let mut tally: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (exchange, cut) in &cases {
        let row = rows
            .get(&tag(exchange, *cut))
            .unwrap_or_else(|| panic!("{} {cut:?} has no row", exchange.name));
        count_agreement(&mut tally, exchange, row);
    }
    for (field, (agreed, all)) in &tally {
        eprintln!("{field}: {agreed} of {all} agree");
    }
    for (field, (agreed, all)) in tally {
        assert!(
            agreed as f64 / all as f64 >= FLOOR,
            "{field}: only {agreed} of {all} agree"
        );
    }
}

fn header<'a>(seen: &'a Seen, name: &str) -> &'a str {
    seen.head
        .header(name)
        .unwrap_or_else(|| panic!("header {name} did not pass"))
}

fn tag(exchange: &Exchange, cut: Cut) -> String {
    format!("{} {cut:?}", exchange.name)
}

fn request(exchange: &Exchange, cut: Cut) -> Request {
    let mut cuts = cut.offsets(&exchange.request);
    cuts.truncate(PIECES_ALONE);
    let mut request = Request::new("POST", &exchange.path)
        .body(exchange.request.clone())
        .cut(cuts);
    for (name, value) in end_to_end(&exchange.request_headers) {
        request = request.header(name, value);
    }
    request
        .header("authorization", "Bearer of-the-client")
        .header("x-case", &exchange.name)
        .header("x-cut", &format!("{cut:?}"))
        .header("x-understudy-tag-case", &tag(exchange, cut))
}

fn end_to_end(headers: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    pairs.filter(|(name, _)| !FRAMING.contains(name))
}

/// The recorded response in pieces of the size that the request asks for.
fn replay(exchange: &Exchange, seen: &Seen) -> Vec<Step> {
    let cut = Cut::of_name(header(seen, "x-cut"));
    let is_chunked = exchange
        .response_headers
        .iter()
        .any(|(name, _)| name == "transfer-encoding");
    let length = exchange.response.len().to_string();
    let mut headers: Vec<(&str, &str)> = end_to_end(&exchange.response_headers).collect();
    headers.push(if is_chunked {
        ("transfer-encoding", "chunked")
    } else {
        ("content-length", &length)
    });

    let framed = |piece: &[u8]| if is_chunked { chunk(piece) } else { piece.to_vec() };
    let ends = cut
        .offsets(&exchange.response)
        .into_iter()
        .chain([exchange.response.len()]);
    let pieces: Vec<Vec<u8>> = ends
        .scan(0, |start, end| {
            Some(framed(&exchange.response[std::mem::replace(start, end)..end]))
        })
        .collect();
    let (alone, together) = pieces.split_at(pieces.len().min(PIECES_ALONE));
    let mut steps = vec![Step::Send(head(exchange.status, &headers))];
    steps.extend(alone.iter().cloned().map(Step::Send));
    steps.extend(
        together
            .chunks(PIECES_TOGETHER)
            .map(|pieces| Step::Send(pieces.concat())),
    );
    if is_chunked {
        steps.push(Step::Send(LAST_CHUNK.to_vec()));
    }
    steps
}

/// What differs between the recorded request and the one at the upstream.
fn request_faults(exchange: &Exchange, seen: &Seen) -> impl Iterator<Item = String> {
    let mut found = seen.head.end_to_end();
    for ours in ["host", "x-case", "x-cut"] {
        found.remove(ours);
    }
    let length = exchange.request.len().to_string();
    let expected: BTreeMap<String, Vec<String>> = end_to_end(&exchange.request_headers)
        .chain([("authorization", "Bearer of-the-client"), ("content-length", &length)])
        .map(|(name, value)| (name.to_owned(), vec![value.to_owned()]))
        .collect();
    [
        (seen.head.path() != exchange.path).then(|| format!("path {}, not {}", seen.head.path(), exchange.path)),
        (seen.body != exchange.request).then(|| "the upstream got another request body".to_owned()),
        (!seen.complete).then(|| "the upstream got a request cut short".to_owned()),
        (found != expected).then(|| format!("request headers {found:?}, not {expected:?}")),
    ]
    .into_iter()
    .flatten()
}

/// What differs between the recorded response and the one that the client got.
fn response_faults(exchange: &Exchange, answer: &Answer) -> Vec<String> {
    let mut faults = Vec::new();
    if answer.status() != exchange.status {
        faults.push(format!(
            "status {}, not {}: {}",
            answer.status(),
            exchange.status,
            answer.text()
        ));
    }
    if !answer.complete {
        faults.push("the response was not complete".to_owned());
    }
    if answer.body != exchange.response {
        faults.push(format!(
            "another body: {} bytes, not {}",
            answer.body.len(),
            exchange.response.len()
        ));
    }
    let mut found = answer.head.end_to_end();
    let expected: BTreeMap<String, Vec<String>> = end_to_end(&exchange.response_headers)
        .map(|(name, value)| (name.to_owned(), vec![value.to_owned()]))
        .collect();
    // Framing may change.
    found.remove("content-length");
    if found != expected {
        faults.push(format!("response headers {found:?}, not {expected:?}"));
    }
    faults
}

fn count_agreement(tally: &mut BTreeMap<&'static str, (usize, usize)>, exchange: &Exchange, row: &CallRecord) {
    for (field, ours, expected) in fields(exchange, row) {
        let (agreed, all) = tally.entry(field).or_default();
        *all += 1;
        if ours == expected {
            *agreed += 1;
        } else {
            eprintln!("{}: {field} is {ours}, expected {expected}", exchange.name);
        }
    }
}

/// Each field as the row has it, and as the oracle has it. Of no text the oracle says null or nothing at all.
fn fields(exchange: &Exchange, row: &CallRecord) -> Vec<(&'static str, Value, Value)> {
    let oracle = &exchange.expected;
    let text = row.output_text.as_deref().unwrap_or_default();
    let tool_calls = row.tool_calls.iter().map(|call| {
        let arguments = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!(call.arguments));
        json!({"id": call.id, "name": call.name, "arguments": arguments})
    });
    // A record is written before the end mark is released, so it can't count what follows in later pieces.
    let length = exchange.response.len() as i64;
    let unmarked = if row.response_bytes >= Some(length - LAST_EVENT) {
        length
    } else {
        0
    };
    let or = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
    let field = |name: &'static str, ours: Value| (name, ours, oracle[name].clone());
    vec![
        field("request_model", json!(row.request_model)),
        field("model", json!(row.response_model)),
        field("input_tokens", json!(row.input_tokens)),
        field("cached_tokens", json!(row.cached_tokens)),
        field("cache_write_tokens", json!(row.cache_write_tokens)),
        field("output_tokens", json!(row.output_tokens)),
        field("reasoning_tokens", json!(row.reasoning_tokens)),
        field("finish_reason", json!(row.finish_reason)),
        field("partial", json!(row.partial)),
        field("status", json!(row.status)),
        field("stream", json!(row.streamed)),
        (
            "output_text_sha256",
            json!(sha256(text.as_bytes())),
            or(&oracle["output_text_sha256"], json!(sha256(b""))),
        ),
        (
            "output_text_len",
            json!(text.chars().count()),
            or(&oracle["output_text_len"], json!(0)),
        ),
        ("tool_calls", tool_calls.collect(), or(&oracle["tool_calls"], json!([]))),
        (
            "tool_names_offered",
            json!(offered_names(exchange, row)),
            or(&oracle["tool_names_offered"], json!([])),
        ),
        (
            "is_error",
            json!(row.error.is_some()),
            json!(!oracle["error"].is_null()),
        ),
        (
            "response_bytes",
            json!(row.response_bytes.map(|bytes| bytes.max(unmarked))),
            json!(length),
        ),
        // All of it could be read.
        ("body_note", json!(row.body_note), Value::Null),
        ("request_bytes", json!(row.request_bytes), json!(exchange.request.len())),
    ]
}

/// The oracle leaves a provider-side tool without a name out; it is kept under its type.
fn offered_names<'a>(exchange: &Exchange, row: &'a CallRecord) -> Vec<&'a str> {
    let body: Value = serde_json::from_slice(&exchange.request).unwrap_or_default();
    let tools = body["tools"].as_array().cloned().unwrap_or_default();
    let is_nameless = |name: &str| tools.iter().any(|tool| tool["type"] == name && tool["name"].is_null());
    let names = row.tools_offered.iter().map(String::as_str);
    names.filter(|name| !is_nameless(name)).collect()
}
