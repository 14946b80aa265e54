//! J: bodies that are odd, and streams that are cut at odd places. `content.rs` beside the lab holds the other cases.

use super::Lab;
use serde_json::{Value, json};
use understudy_call::record::Outcome;
use understudy_tests::fixtures::{CHAT, chat_end, chat_event};
use understudy_tests::http::Request;
use understudy_tests::upstream::{LAST_CHUNK, Seen, Step, chunk, json as answer, stream_head};

#[test]
fn j1_j3_bodies_of_odd_texts_and_sizes_pass_as_they_are() {
    let utf16: Vec<u8> = "\u{feff}{\"model\":\"m\"}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let bodies: [(&str, Vec<u8>); 4] = [
        ("utf-16", utf16),
        (
            "a million elements",
            format!("{{\"model\":\"m\",\"x\":[{}1]}}", "1,".repeat(1_000_000)).into_bytes(),
        ),
        (
            "a string of 7 MB",
            format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "y".repeat(7_000_000)).into_bytes(),
        ),
        (
            "keys twice",
            b"{\"model\":\"a\",\"model\":\"b\",\"n\":-0,\"big\":18446744073709551616}".to_vec(),
        ),
    ];
    let lab = Lab::new("", |_| answer(200, &json!({"ok": true})));
    for (case, body) in &bodies {
        let request = Request::post(CHAT, body.clone()).header("x-understudy-tag-case", case);
        assert_eq!(request.send(lab.address()).status(), 200, "{case}");
        let seen = lab.seen().pop().expect("a request");
        assert!(
            seen.complete && &seen.body == body,
            "{case}: the upstream got other bytes"
        );
    }
    let rows = lab.finish("j1, j3");
    assert_eq!(rows.len(), bodies.len());
    for (case, body) in &bodies {
        let row = rows
            .iter()
            .find(|row| row.tags["case"] == *case)
            .expect("a row for each call");
        assert_eq!(
            (row.outcome, row.request_bytes),
            (Outcome::Ok, Some(body.len() as i64)),
            "{case}"
        );
    }
}

/// Streams a chat's tool calls in many pieces, two at once, each event in two chunks.
fn tool_calls(arguments: [&str; 2]) -> Vec<Step> {
    let delta = |delta: Value| {
        let event = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": null}],
        });
        format!("data: {event}\n\n")
    };
    let mut events: Vec<String> = (0..2)
        .map(|index| {
            delta(json!({"tool_calls": [{
                "index": index, "id": format!("call_{index}"), "type": "function",
                "function": {"name": format!("tool_{index}"), "arguments": ""},
            }]}))
        })
        .collect();
    let pieces: Vec<Vec<char>> = arguments.iter().map(|text| text.chars().collect()).collect();
    for at in 0..pieces.iter().map(Vec::len).max().unwrap_or(0) {
        for (index, piece) in pieces.iter().enumerate() {
            if let Some(letter) = piece.get(at) {
                events.push(delta(
                    json!({"tool_calls": [{"index": index, "function": {"arguments": letter.to_string()}}]}),
                ));
            }
        }
    }
    events.push(chat_end("m"));
    let halves = events.iter().flat_map(|event| {
        let (first, second) = event.as_bytes().split_at(event.len() / 2);
        [Step::Send(chunk(first)), Step::Send(chunk(second))]
    });
    std::iter::once(stream_head())
        .chain(halves)
        .chain([Step::Send(LAST_CHUNK.to_vec())])
        .collect()
}

#[test]
fn j6_tool_calls_in_500_pieces_interleaved_come_together_in_the_row() {
    let long = json!({"query": "ü".repeat(200), "n": [1, 2.50]}).to_string();
    let short = json!({"city": "Zürich \"old\" town"}).to_string();
    let sent = [long.clone(), short.clone()];
    let lab = Lab::new("", move |_: &Seen| tool_calls([&sent[0], &sent[1]]));
    let request = Request::post(CHAT, r#"{"model":"m","stream":true,"messages":[]}"#);
    let heard = request.header("x-understudy-tag-case", "it").send(lab.address());
    assert!(heard.complete && heard.text().matches("data: ").count() > 200);
    let row = lab.finish_one("j6");
    let calls: Vec<_> = row
        .tool_calls
        .iter()
        .map(|call| (call.name.as_str(), call.arguments.as_str()))
        .collect();
    assert_eq!(calls, [("tool_0", long.as_str()), ("tool_1", short.as_str())]);
}

#[test]
fn j5_streams_without_spaces_marks_or_ends_pass_and_are_read() {
    let event = chat_event("m", "well");
    let failed = "event: error\ndata: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    let cases: [(&str, String, bool); 3] = [
        (
            "no space",
            [&event, chat_end("m").as_str()].concat().replace("data: ", "data:"),
            false,
        ),
        ("no end mark", event.clone(), true),
        ("an error event", [&event, failed].concat(), true),
    ];
    let sent = cases.clone();
    let lab = Lab::new("", move |seen| {
        let wanted = |case: &&(&str, String, bool)| seen.head.header("x-case") == Some(case.0);
        let (_, text, _) = sent.iter().find(wanted).expect("a case of these");
        vec![
            stream_head(),
            Step::Send(chunk(text.as_bytes())),
            Step::Send(LAST_CHUNK.to_vec()),
        ]
    });
    for (case, text, _) in &cases {
        let request = Request::post(CHAT, r#"{"model":"m","stream":true,"messages":[]}"#).header("x-case", case);
        let heard = request.header("x-understudy-tag-case", case).send(lab.address());
        assert_eq!(&heard.text(), text, "{case}");
    }
    let rows = lab.finish("j5");
    for (case, _, partial) in cases {
        let row = rows
            .iter()
            .find(|row| row.tags["case"] == case)
            .expect("a row for each call");
        assert_eq!(
            (row.output_text.as_deref(), row.partial),
            (Some("well"), partial),
            "{case}"
        );
    }
}
