//! What the fuzz targets check, beyond not panicking. The first byte of an input chooses among its variants.

use serde_json::Value;
use understudy_call::call::Api;
use understudy_call::check::{Demands, schema::fits};
use understudy_call::translate::{self, SPOKEN};
use understudy_call::translate::ids::tool_call_id;
use understudy_call::wire::encoding::Decoder;
use understudy_call::wire::splice::{self, Renames};
use understudy_call::wire::{self, EndMark, Events, Framing};

const CONTENT_TYPES: [Option<&str>; 7] = [
    None,
    Some("application/json"),
    Some("text/event-stream; charset=utf-8"),
    Some("application/x-ndjson"),
    Some("application/stream+json"),
    Some("application/vnd.amazon.eventstream"),
    Some("text/html"),
];

/// A path of each API, those that name model and framing included.
const PATHS: [&str; 4] = [
    "/v1/x",
    "/v1beta/models/m:streamGenerateContent?alt=sse",
    "/v1beta/models/m:streamGenerateContent",
    "/model/a.b-v1%3A0/converse-stream",
];

/// Events lie one after the other inside the body.
pub fn framing(framing: Framing, body: &[u8]) {
    let mut last = 0;
    for event in Events::new(framing, body) {
        assert!(event.end > last && event.end <= body.len());
        last = event.end;
    }
}

/// Requests and answers of one API are read, and its end mark is seen alike however the stream is cut.
pub fn parser(api: Api, data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let choice = usize::from(*choice);
    let content_type = CONTENT_TYPES[choice % CONTENT_TYPES.len()];
    let path = PATHS[choice / 64];
    let _ = wire::parse_request_at(api, path, body);
    if let Some(end) = wire::output_starts_at(api, content_type, body) {
        assert!(end <= body.len());
    }
    if let Ok(assembled) = wire::assemble(api, content_type, body) {
        let response = wire::parse_response(api, 200, &assembled);
        let _ = wire::parse_response(api, 500, &assembled);
        // A kept body is read again, by readers and by rehearsals.
        let again = wire::assemble(api, None, assembled.body.to_string().as_bytes());
        assert!(again.is_ok() || !assembled.body.is_object());
        let _ = translate::to_chat("id", &response);
    }
    let seen_at = |size: usize| {
        let mut mark = EndMark::new(api);
        body.chunks(size).position(|piece| mark.push(piece)).map(|piece| (piece + 1) * size)
    };
    let exact = seen_at(1);
    for size in [3, 64, 4096] {
        assert_eq!(seen_at(size), exact.map(|at| at.div_ceil(size) * size), "pieces of {size}");
    }
}

/// A request of one API is translated or refused; a candidate's answer to it, whole or streamed, goes back, the same
/// bytes however it is cut. The input is a request and an answer, apart by a NUL byte.
pub fn translation(api: Api, data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let (request, answer) = match rest.iter().position(|byte| *byte == 0) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &b""[..]),
    };
    let path = PATHS[usize::from(*choice) / 64];
    let spoken = SPOKEN[usize::from(*choice) % 64 % SPOKEN.len()];
    let Ok(translated) = translate::between(api, spoken, path, request) else { return };
    assert!(translated.body.is_object());
    let _ = translated.back.response(answer);
    let streamed = |size: usize| {
        let mut stream = translated.back.stream().expect("a translated API streams");
        let mut out: Vec<u8> = answer.chunks(size).flat_map(|piece| stream.push(piece)).collect();
        out.extend(stream.finish());
        out
    };
    let whole = streamed(1 << 20);
    assert!(whole == streamed(1) && whole == streamed(7));
}

/// An answer is checked against its request, and a value against a schema, in any case. The input is a request and an
/// answer, apart by a NUL byte; as JSON they are a schema and a value too.
pub fn check(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let (request, answer) = match rest.iter().position(|byte| *byte == 0) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &b""[..]),
    };
    let choice = usize::from(*choice);
    let api = Api::ALL[choice % Api::ALL.len()];
    if let Ok(demands) = Demands::of(api, request)
        && let Ok(assembled) = wire::assemble(api, CONTENT_TYPES[choice % CONTENT_TYPES.len()], answer)
        && let Err(fault) = demands.check(api, &assembled)
    {
        assert!(!fault.to_string().is_empty());
    }
    let (schema, value) = (wire::parse_json(request), wire::parse_json(answer));
    if let (Ok(schema), Ok(value)) = (schema, value) {
        let _ = fits(&schema, &value);
    }
}

/// What is edited in place stays JSON where it was, and an edit changes nothing else.
pub fn splice(data: &[u8]) {
    let before: Option<Value> = serde_json::from_slice(data).ok();
    let _ = (splice::model_named(data), splice::is_usage_event(data));
    if let (Some(asking), Some(before)) = (splice::ask_usage(data), &before) {
        let mut after: Value = serde_json::from_slice(&asking).expect("JSON");
        assert_eq!(after["stream_options"]["include_usage"], true);
        let mut before = before.clone();
        for value in [&mut before, &mut after] {
            value["stream_options"] = Value::Null;
        }
        assert_eq!(before, after);
    }
    for api in [Api::OpenaiChat, Api::AnthropicMessages] {
        let mut renames = Renames {
            model: Some("a \"model\""),
            tool_call_id: &mut tool_call_id,
        };
        let edited = renames.apply(api, data);
        if let (Some(edited), true) = (edited, before.is_some()) {
            assert!(serde_json::from_slice::<Value>(&edited).is_ok());
        }
    }
}

/// A compressed body is decoded alike however it is cut (as far as it goes, where it is damaged), and never to more than the limit.
pub fn encoding(data: &[u8]) {
    const NAMES: [&str; 6] = ["gzip", "deflate", "br", "zstd", "gzip, br", "deflate, gzip, zstd"];
    const LIMIT: u64 = 1 << 20;
    let Some((choice, body)) = data.split_first() else { return };
    let decoded = |size: usize| {
        let mut decoder = Decoder::new(NAMES[usize::from(*choice) % NAMES.len()], LIMIT)
            .expect("a known encoding")
            .expect("an encoding");
        let mut out = Vec::new();
        let pushed = body.chunks(size).try_for_each(|piece| decoder.push(piece, &mut out));
        let ended = pushed.and_then(|()| decoder.finish());
        (out, ended.is_ok())
    };
    let (whole, ok) = decoded(1 << 20);
    assert!(whole.len() as u64 <= LIMIT);
    let (cut, cut_ok) = decoded(5);
    assert_eq!(cut_ok, ok);
    // Of damaged data the decoders give what they had decoded by then.
    assert!(if ok { cut == whole } else { cut.starts_with(&whole) || whole.starts_with(&cut) });
}
