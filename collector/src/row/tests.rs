//! Rows of chat calls: streamed or not, cut, encoded, in error; and what is masked in them.

use super::*;
use crate::mask::MaskConfig;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};

fn maker() -> RowMaker {
    RowMaker {
        mask: Arc::new(Mask::new(&MaskConfig::default(), &[3; 32]).unwrap()),
        prices: Arc::new(PriceTable::builtin()),
        store_key: Key::new([4; 32]),
        origins: Arc::new(Origins::new(&Key::new([5; 32]))),
        book: None,
    }
}

fn chat(request: &Value, response: &[u8]) -> RawCall {
    RawCall {
        head: FrameHead {
            call_id: "c".into(),
            api: Some(Api::OpenaiChat),
            status: Some(200),
            ..FrameHead::default()
        },
        request: request.to_string().into_bytes(),
        response: response.to_vec(),
    }
}

fn question() -> Value {
    json!({"model": "gpt-4o", "messages": [{"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Write to ann.lee@corp.example"}]})
}

fn answer() -> Value {
    json!({"model": "gpt-4o-2024-08-06", "choices": [{"index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": "Wrote to ann.lee@corp.example"}}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 10}})
}

const STREAM: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi \"}}]}\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ann.lee@corp.example\"},\"finish_reason\":\"stop\"}]}\n\n\
    data: [DONE]\n\n";

#[test]
fn both_bodies_are_masked_alike_then_parsed_and_priced() {
    let record = maker()
        .row(&chat(&question(), answer().to_string().as_bytes()), |_| None)
        .record;
    let whole = serde_json::to_string(&record).unwrap();
    assert!(!whole.contains("ann.lee"), "{whole}");
    let text = record.output_text.as_deref().unwrap();
    let surrogate = text.strip_prefix("Wrote to ").unwrap();
    assert!(record.request_body.as_deref().unwrap().contains(surrogate));
    assert_eq!((record.masked[0].kind.as_str(), record.masked[0].count), ("EMAIL", 2));
    assert_eq!((record.input_tokens, record.output_tokens), (Some(1000), Some(10)));
    assert!((record.cost_usd.unwrap() - (1000.0 * 2.5e-6 + 10.0 * 1e-5)).abs() < 1e-9);
    assert_eq!(record.outcome, Outcome::Ok);
    assert!(record.system_digest.is_some() && record.tools_digest.is_none());
    assert_eq!(record.body_note, None);
}

#[test]
fn a_stream_is_kept_assembled_with_its_times() {
    let mut raw = chat(&question(), STREAM.as_bytes());
    raw.head.content_type = Some("text/event-stream".into());
    let sizes: Vec<u32> = STREAM.split_inclusive("\n\n").map(|event| event.len() as u32).collect();
    raw.head.pieces = sizes.into_iter().zip([10_000, 30_000, 35_000, 95_000]).collect();
    let record = maker().row(&raw, |_| None).record;
    let body: Value = serde_json::from_str(record.response_body.as_deref().unwrap()).unwrap();
    let text = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(
        text.starts_with("Hi ") && text.contains('@') && !text.contains("ann.lee"),
        "{text}"
    );
    assert!(record.streamed && !record.partial);
    assert_eq!(record.outcome, Outcome::Ok);
    assert_eq!(record.first_token_ms, Some(30.0));
    assert_eq!(
        (record.inter_token_p50_ms, record.longest_stall_ms),
        (Some(5.0), Some(60.0))
    );
    assert_eq!(record.cost_usd, None, "tokens that nobody counted cost nothing known");
}

#[test]
fn a_stream_without_its_end_is_truncated_unless_the_copy_was_cut() {
    let half = &STREAM.as_bytes()[..STREAM.len() / 2];
    let mut raw = chat(&question(), half);
    raw.head.content_type = Some("text/event-stream".into());
    let record = maker().row(&raw, |_| None).record;
    assert_eq!((record.outcome, record.partial), (Outcome::UpstreamTruncated, true));
    raw.head.body_note = Some(BodyNote::Cut);
    let cut = maker().row(&raw, |_| None).record;
    assert_eq!((cut.outcome, cut.partial), (Outcome::Ok, false));
    assert_eq!(cut.body_note.as_deref(), Some("cut"));
}

#[test]
fn an_error_inside_a_stream_is_one() {
    let body = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n\
        data: {\"error\":{\"message\":\"overloaded, mail bo@corp.example\"}}\n\n";
    let mut raw = chat(&question(), body.as_bytes());
    raw.head.content_type = Some("text/event-stream".into());
    let record = maker().row(&raw, |_| None).record;
    assert_eq!(record.outcome, Outcome::InStreamError);
    let error = record.error.unwrap();
    assert!(error.contains("overloaded") && !error.contains("bo@corp"), "{error}");
}

#[test]
fn what_can_not_be_read_is_said_and_still_masked() {
    let page = chat(&question(), b"<html>502, mail ann.lee@corp.example</html>");
    let record = maker().row(&page, |_| None).record;
    assert_eq!(record.body_note.as_deref(), Some("parse_error"));
    assert!(record.response_body.as_deref().unwrap().starts_with("<html>502"));
    assert!(!record.response_body.unwrap().contains("ann.lee"));
}

#[test]
fn encoded_bodies_are_decoded_then_masked_and_read() {
    let zip = |body: &str| zstd::encode_all(body.as_bytes(), 3).unwrap();
    let mut raw = chat(&question(), &zip(&answer().to_string()));
    raw.request = zip(&question().to_string());
    raw.head.request_encoding = Some("zstd".into());
    raw.head.content_encoding = Some("ZSTD, identity".into());
    let record = maker().row(&raw, |_| None).record;
    let plain = maker()
        .row(&chat(&question(), answer().to_string().as_bytes()), |_| None)
        .record;
    assert_eq!(record, plain);
    assert!(record.request_body.is_some() && record.output_text.is_some());
}

#[test]
fn an_encoded_stream_has_the_times_of_what_it_decodes_to() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    let mut raw = chat(&question(), b"");
    let mut sent = 0;
    for (event, at) in STREAM.split_inclusive("\n\n").zip([10_000, 30_000, 35_000, 95_000]) {
        encoder.write_all(event.as_bytes()).unwrap();
        encoder.flush().unwrap();
        // The first byte of what one event became comes alone: it brings nothing yet.
        raw.head.pieces.push((1, at - 1000));
        raw.head.pieces.push(((encoder.get_ref().len() - sent - 1) as u32, at));
        sent = encoder.get_ref().len();
    }
    raw.response = encoder.finish().unwrap();
    raw.head.content_type = Some("text/event-stream".into());
    raw.head.content_encoding = Some("zstd".into());
    let record = maker().row(&raw, |_| None).record;
    assert!(record.streamed && !record.partial && record.body_note.is_none());
    assert_eq!(record.first_token_ms, Some(30.0));
    assert_eq!(
        (record.inter_token_p50_ms, record.longest_stall_ms),
        (Some(5.0), Some(60.0))
    );
    // One that breaks off is partial, and no fault of its encoding.
    let half = raw.response.len() / 2;
    raw.response.truncate(half);
    let record = maker().row(&raw, |_| None).record;
    assert_eq!((record.outcome, record.partial), (Outcome::UpstreamTruncated, true));
    assert_eq!(record.body_note, None);
}

#[test]
fn what_can_not_be_decoded_is_kept_as_far_as_it_went_and_said() {
    let with = |encoding: &str, body: &[u8]| {
        let mut raw = chat(&question(), body);
        raw.head.content_encoding = Some(encoding.into());
        maker().row(&raw, |_| None).record
    };
    let unknown = with("aes128gcm", b"anything");
    assert_eq!(
        (unknown.response_body, unknown.body_note.as_deref()),
        (None, Some("encoding"))
    );
    assert!(unknown.request_body.is_some());
    let nothing = with("gzip", &[0x1f, 0x8b, 0x08]);
    assert_eq!(
        (nothing.response_body, nothing.body_note.as_deref()),
        (None, Some("encoding"))
    );
    let mut damaged = zstd::encode_all(answer().to_string().as_bytes(), 3).unwrap();
    damaged.extend_from_slice(b"no frame");
    let damaged = with("zstd", &damaged);
    assert_eq!(damaged.body_note.as_deref(), Some("encoding"));
    assert_eq!((damaged.output_tokens, damaged.outcome), (Some(10), Outcome::Ok));
    let bomb = zstd::encode_all(std::io::repeat(b' ').take(plain::MAX_DECODED + 1), 3).unwrap();
    let mut raw = chat(&question(), b"");
    raw.request = bomb;
    raw.head.request_encoding = Some("zstd".into());
    let bomb = maker().row(&raw, |_| None).record;
    assert_eq!(bomb.body_note.as_deref(), Some("encoding"));
    assert_eq!(
        bomb.request_body.map(|body| body.len() as u64),
        Some(plain::MAX_DECODED)
    );
}

#[test]
fn media_is_left_out_and_still_counted() {
    let image = format!("data:image/png;base64,iVBORw0KGgo{}", "Ab1+".repeat(2000));
    let asked = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is it? Tell ann.lee@corp.example"}, {"type": "image_url", "image_url": {"url": image}}]}]});
    let record = maker()
        .row(&chat(&asked, answer().to_string().as_bytes()), |_| None)
        .record;
    let body = record.request_body.unwrap();
    assert!(
        body.contains("\"url\":\"media:image/png;bytes=") && !body.contains("Ab1+"),
        "{body}"
    );
    let request = wire::parse_request(Api::OpenaiChat, body.as_bytes()).unwrap();
    assert_eq!(request.messages[0].media_parts, 1);
    assert!(is_media_missing_in(&body) && !is_media_missing_in(&question().to_string()));
    // In a stream too, and in its error.
    let piece = json!({"choices": [{"index": 0, "delta": {"content": image}, "finish_reason": "stop"}]});
    let stream = format!("data: {piece}\n\ndata: {{\"error\":{{\"data\":\"{image}\"}}}}\n\n");
    let record = maker().row(&chat(&asked, stream.as_bytes()), |_| None).record;
    for text in [record.response_body, record.output_text, record.error] {
        let text = text.unwrap();
        assert!(text.contains("media:image/png;bytes=") && text.len() < 1000, "{text}");
    }
}

#[test]
fn tokens_are_taken_from_headers_where_the_answer_does_not_tell() {
    let vectors = json!({"embeddings": {"float": [[0.1]]}, "id": "i", "response_type": "embeddings_by_type"});
    let mut raw = chat(
        &json!({"texts": ["a"], "input_type": "search_query"}),
        vectors.to_string().as_bytes(),
    );
    raw.head.api = Some(Api::BedrockInvoke);
    raw.head.path = "/model/cohere.embed-v4%3A0/invoke".into();
    raw.head.header_usage = Some(Usage {
        input: Some(4),
        ..Usage::default()
    });
    let record = maker().row(&raw, |_| None).record;
    assert_eq!((record.input_tokens, record.output_tokens), (Some(4), Some(0)));
    assert_eq!(record.request_model.as_deref(), Some("cohere.embed-v4:0"));
}

#[test]
fn bodies_of_other_apis_are_not_kept() {
    let mut raw = chat(&question(), b"anything");
    raw.head.api = None;
    raw.head.tags.insert("team".into(), "ann.lee@corp.example".into());
    let record = maker().row(&raw, |_| None).record;
    assert_eq!(
        (record.request_body, record.response_body, record.body_note),
        (None, None, None)
    );
    assert_eq!(record.api, "other");
    assert!(!record.tags["team"].contains("ann.lee"));
}

#[test]
fn failed_attempts_are_free_and_the_served_one_is_priced() {
    let mut raw = chat(&question(), answer().to_string().as_bytes());
    let attempt = |status, served| Attempt {
        status,
        served,
        ..Attempt::default()
    };
    raw.head.attempts = vec![attempt(Some(503), false), attempt(Some(200), true)];
    let record = maker().row(&raw, |_| None).record;
    assert_eq!(record.cost_usd, record.attempts[1].cost_usd);
    assert_eq!(record.attempts[1].output_tokens, Some(10));
    raw.head.attempts = vec![attempt(Some(200), false), attempt(Some(200), true)];
    assert_eq!(
        maker().row(&raw, |_| None).record.cost_usd,
        None,
        "the losing answer's tokens are not known"
    );
}

#[test]
fn a_candidate_has_not_the_price_of_the_model_asked_for() {
    let mut body = answer();
    body["model"] = "some-small-model".into();
    let mut raw = chat(&question(), body.to_string().as_bytes());
    raw.head.upstream = "llm".into();
    assert!(maker().row(&raw, |_| None).record.cost_usd.is_some());
    raw.head.arm = Some("small".into());
    assert_eq!(maker().row(&raw, |_| None).record.cost_usd, None);
}

#[test]
fn a_response_that_names_the_one_before_continues_its_conversation() {
    let call = |id: &str, previous: Option<&str>| {
        let asked = json!({"model": "gpt-4o", "input": "Go on.", "previous_response_id": previous});
        let answered = json!({"id": format!("resp_{id}"), "object": "response", "status": "completed", "model": "gpt-4o",
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Well."}]}]});
        let mut raw = chat(&asked, answered.to_string().as_bytes());
        raw.head.api = Some(Api::OpenaiResponses);
        raw.head.path = "/v1/responses".into();
        raw.head.call_id = id.into();
        maker().row(&raw, |_| None)
    };
    let mut threads = crate::thread::Threads::default();
    let mut place = |mut row: Row| {
        threads.place(&mut row.record, &row.trail, None);
        row.record
    };
    let first = place(call("1", None));
    let second = place(call("2", Some("resp_1")));
    let third = place(call("3", Some("resp_2")));
    assert_eq!((first.step, second.step, third.step), (0, 1, 2));
    assert_eq!(third.parent_call_id.as_deref(), Some("2"));
    assert_eq!(third.conversation_id, "1");
    assert_eq!(place(call("4", Some("resp_0"))).conversation_id, "4");
}

#[test]
fn a_name_that_one_side_tells_is_masked_bare_in_all_of_the_call() {
    let request = json!({"model": "gpt-4o", "messages": [
        {"role": "system", "content": "You help Kowalski and others."},
        {"role": "user", "content": "look it up"},
        {"role": "tool", "tool_call_id": "c", "content": "{\"log\": \"seen kowalski? no: Kowalski\"}"},
    ], "tools": [{"type": "function", "function": {"name": "find", "description": "e.g. Kowalski", "parameters": {"type": "object"}}}]});
    let mut response = answer();
    response["choices"][0]["message"]["content"] = json!("The customer's name is Anna Kowalski.");
    let mut raw = chat(&request, response.to_string().as_bytes());
    raw.head.tags.insert("case".into(), "Anna Kowalski".into());
    raw.head.error = Some("broke off at Kowalski".into());
    raw.head.path = "/v1/chat/completions?user=Kowalski".into();
    let row = maker().row(&raw, |_| None);
    let text = serde_json::to_string(&row.record).unwrap();
    assert!(!text.contains("Kowalski") && !text.contains("Anna"), "{text}");
    let whole = row.record.output_text.unwrap();
    let columns: std::collections::BTreeSet<&str> =
        row.record.masked_in.iter().map(|one| one.column.as_str()).collect();
    assert_eq!(
        columns.into_iter().collect::<Vec<_>>(),
        ["error", "path", "request_body", "response_body", "tags"]
    );
    let in_columns: i32 = row.record.masked_in.iter().map(|one| one.count).sum();
    assert_eq!(row.record.masked.iter().map(|one| one.count).sum::<i32>(), in_columns);
    let surname = whole.trim_end_matches('.').rsplit(' ').next().unwrap();
    let request = row.record.request_body.unwrap();
    assert_eq!(request.matches(surname).count(), 3, "{request}");
    assert!(row.record.tags["case"].ends_with(surname) && row.record.error.unwrap().ends_with(surname));
}

#[test]
fn a_name_learnt_late_is_masked_in_later_calls_and_parts_no_conversation() {
    let mut threads = crate::thread::Threads::default();
    let mut place = |id: &str, raw: &RawCall| {
        let mut row = maker().row(raw, |trail| threads.told_before(trail, None).cloned());
        row.record.call_id = id.into();
        row.record.conversation_id = id.into();
        threads.place(&mut row.record, &row.trail, None);
        threads.tell(&row.record.conversation_id, &row.told);
        row.record
    };
    let says = |role: &str, content: &str| json!({"role": role, "content": content});
    let answering = |content: &str| {
        let mut answer = answer();
        answer["choices"][0]["message"] = says("assistant", content);
        answer["choices"][0]["finish_reason"] = json!("stop");
        answer.to_string()
    };
    let system = says("system", "Ask Kowalski where in doubt.");
    let mut messages = vec![system, says("user", "please help kowalski")];
    let ask = |messages: &[Value]| json!({"model": "gpt-4o", "messages": messages});
    let first = place("c1", &chat(&ask(&messages), answering("Seen Kowalski.").as_bytes()));
    messages.extend([
        says("assistant", "Seen Kowalski."),
        says("user", "Hi, my name is Anna Kowalski"),
    ]);
    let second = place("c2", &chat(&ask(&messages), answering("Hello").as_bytes()));
    assert_eq!((second.conversation_id.as_str(), second.step), ("c1", 1));
    assert!(!second.request_body.unwrap().contains("Kowalski"));
    // What was masked otherwise is the same system prompt and the same history.
    assert_eq!(first.system_digest, second.system_digest);
    messages.extend([says("assistant", "Hello"), says("user", "go on")]);
    let third = place("c3", &chat(&ask(&messages), answering("Bye").as_bytes()));
    assert_eq!((third.conversation_id.as_str(), third.step), ("c1", 2));
    // An agent that shortens its history keeps the conversation by name alone; here by its last answer.
    let mut short = vec![messages[0].clone()];
    short.extend(messages[messages.len() - 2..].iter().cloned());
    drop(short);
    let resumed = chat(
        &ask(&messages),
        answering("The ticket of Kowalski is closed.").as_bytes(),
    );
    assert!(!place("c4", &resumed).output_text.unwrap().contains("Kowalski"));
}
