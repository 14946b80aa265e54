//! Rows of chat calls: streamed or not, cut, encoded, in error; and what is masked in them.

use super::*;
use crate::mask::MaskConfig;
use serde_json::{Value, json};

fn maker() -> RowMaker {
    RowMaker {
        mask: Arc::new(Mask::new(&MaskConfig::default(), &[3; 32]).unwrap()),
        prices: Arc::new(PriceTable::builtin()),
        store_key: Key::new([4; 32]),
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
    let record = maker().row(&chat(&question(), answer().to_string().as_bytes())).record;
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
    let record = maker().row(&raw).record;
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
    let record = maker().row(&raw).record;
    assert_eq!((record.outcome, record.partial), (Outcome::UpstreamTruncated, true));
    raw.head.body_note = Some(BodyNote::Cut);
    let cut = maker().row(&raw).record;
    assert_eq!((cut.outcome, cut.partial), (Outcome::Ok, false));
    assert_eq!(cut.body_note.as_deref(), Some("cut"));
}

#[test]
fn an_error_inside_a_stream_is_one() {
    let body = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n\
        data: {\"error\":{\"message\":\"overloaded, mail bo@corp.example\"}}\n\n";
    let mut raw = chat(&question(), body.as_bytes());
    raw.head.content_type = Some("text/event-stream".into());
    let record = maker().row(&raw).record;
    assert_eq!(record.outcome, Outcome::InStreamError);
    let error = record.error.unwrap();
    assert!(error.contains("overloaded") && !error.contains("bo@corp"), "{error}");
}

#[test]
fn what_can_not_be_read_is_said_and_still_masked() {
    let page = chat(&question(), b"<html>502, mail ann.lee@corp.example</html>");
    let record = maker().row(&page).record;
    assert_eq!(record.body_note.as_deref(), Some("parse_error"));
    assert!(record.response_body.as_deref().unwrap().starts_with("<html>502"));
    assert!(!record.response_body.unwrap().contains("ann.lee"));
    let mut zipped = chat(&question(), &[0x1f, 0x8b, 0x00]);
    zipped.head.content_encoding = Some("gzip".into());
    let record = maker().row(&zipped).record;
    assert_eq!(
        (record.response_body, record.body_note.as_deref()),
        (None, Some("parse_error"))
    );
}

#[test]
fn bodies_of_other_apis_are_not_kept() {
    let mut raw = chat(&question(), b"anything");
    raw.head.api = None;
    raw.head.tags.insert("team".into(), "ann.lee@corp.example".into());
    let record = maker().row(&raw).record;
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
    let record = maker().row(&raw).record;
    assert_eq!(record.cost_usd, record.attempts[1].cost_usd);
    assert_eq!(record.attempts[1].output_tokens, Some(10));
    raw.head.attempts = vec![attempt(Some(200), false), attempt(Some(200), true)];
    assert_eq!(
        maker().row(&raw).record.cost_usd,
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
    assert!(maker().row(&raw).record.cost_usd.is_some());
    raw.head.arm = Some("small".into());
    assert_eq!(maker().row(&raw).record.cost_usd, None);
}
