//! Unit tests of end marks: each stream in pieces of every size.

use proptest::prelude::*;
use serde_json::json;

use super::super::eventstream::{event_message, message};
use super::*;

/// How many bytes of the stream had come when its mark was seen, byte by byte; and pieces of any size agree.
fn seen_at(api: Api, stream: &[u8]) -> Option<usize> {
    let seen = |size: usize| {
        let mut end_mark = EndMark::new(api);
        stream.chunks(size).position(|piece| end_mark.push(piece))
    };
    let exact = seen(1).map(|last| last + 1);
    for size in 2..=stream.len() + 1 {
        let piece = exact.map(|at| (at - 1) / size);
        assert_eq!(
            seen(size),
            piece,
            "{:?} in pieces of {size}",
            String::from_utf8_lossy(stream)
        );
    }
    // And two pieces, the first of any size.
    for cut in 0..=stream.len() {
        let mut end_mark = EndMark::new(api);
        let (first, second) = stream.split_at(cut);
        assert_eq!(end_mark.push(first), exact.is_some_and(|at| at <= cut), "cut at {cut}");
        assert_eq!(end_mark.push(second), exact.is_some());
    }
    exact
}

/// Asserts that the mark is seen right after `before`, and what follows is no part of it.
fn assert_seen(api: Api, before: &str, after: &str) {
    let stream = format!("{before}{after}");
    assert_eq!(seen_at(api, stream.as_bytes()), Some(before.len()), "{stream:?}");
}

fn assert_never(api: Api, stream: &str) {
    assert_eq!(seen_at(api, stream.as_bytes()), None, "{stream:?}");
}

const FILLER: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"text\"}}]}\n\n: comment\nevent: ping\ndata: {}\n\n";

#[test]
fn chat_and_completions_end_with_done() {
    for api in [Api::OpenaiChat, Api::OpenaiCompletions] {
        for line_end in ["\n", "\r\n", "\r"] {
            for mark in ["data: [DONE]", "data:[DONE]", "data:      [DONE]"] {
                let filler = FILLER.replace('\n', line_end);
                assert_seen(api, &format!("{filler}{mark}"), &format!("{line_end}{line_end}"));
                assert_seen(api, mark, " ");
            }
        }
        let many_spaces = format!("{FILLER}data:{}[DONE]", " ".repeat(300));
        assert_seen(api, &many_spaces, "\n\n");
    }
}

#[test]
fn messages_end_with_message_stop() {
    for mark in [
        "event: message_stop",
        "data: {\"type\":\"message_stop",
        "data: {\"type\": \"message_stop",
    ] {
        assert_seen(Api::AnthropicMessages, &format!("{FILLER}{mark}"), "\"}\n\n");
    }
    assert_never(Api::AnthropicMessages, "data: [DONE]\n\n");
}

#[test]
fn responses_and_cohere_end_with_the_blank_line_after_their_last_event() {
    let whole = format!("{{\"text\":\"{}\\n\\nevent: x\"}}", "long ".repeat(40));
    for (api, name) in [
        (Api::OpenaiResponses, "response.completed"),
        (Api::OpenaiResponses, "response.incomplete"),
        (Api::OpenaiResponses, "response.failed"),
        (Api::CohereChat, "message-end"),
    ] {
        for event in [
            format!("event: {name}\ndata: {whole}\n"),
            format!("event:{name} \ndata: {whole}\ndata: {whole}\n: x\n"),
            format!("data: {{\"type\":\"{name}\",\"response\":{whole}}}\n"),
            format!("id: 1\ndata: {{\"type\": \"{name}\", \"response\":{whole}}}\n"),
        ] {
            assert_seen(api, &format!("{FILLER}{event}\n"), "data: [DONE]\n\n");
            let carriage_returns = format!("{FILLER}{event}").replace('\n', "\r");
            assert_seen(api, &format!("{carriage_returns}\r"), "");
            // Of a blank line that ends with CRLF, the CR is enough.
            let both = format!("{FILLER}{event}").replace('\n', "\r\n");
            assert_seen(api, &format!("{both}\r"), "\n");
            assert_never(api, &format!("{FILLER}{event}"));
        }
    }
}

#[test]
fn other_events_of_responses_and_cohere_are_no_mark() {
    for text in [
        "event: response.completed.now\ndata: {}\n\n",
        "event: response.complete\ndata: {}\n\n",
        "data: {\"type\":\"response.completed_\"}\n\n",
        "data: {\"response\":{\"type\":\"response.completed\"}}\n\n",
        "event: message-end\ndata: {}\n\n",
        "data: [DONE]\n\n\n",
        ": event: response.completed\n\n",
        "\n\n\r\n\r\n",
    ] {
        assert_never(Api::OpenaiResponses, text);
    }
    assert_never(
        Api::CohereChat,
        "event: message-ending\ndata: {}\n\nevent: response.completed\n\n",
    );
}

#[test]
fn text_inside_json_is_no_mark() {
    for text in [
        "data: {\"content\":\"data: [DONE]\"}\n\n",
        "data: {\"content\":\"\\ndata: [DONE]\"}\n\n",
        "xdata: [DONE]\n\n",
        ": data: [DONE]\n\n",
        "data: [DON\nE]",
        "data: [DO NE]",
        "data: [DON\n[DONE]",
        "data: data: [DONE]\n\n",
    ] {
        assert_never(Api::OpenaiChat, text);
        assert_never(Api::OpenaiChat, &format!("data: {{\"x\":\"{}{text}", "y".repeat(100)));
    }
    assert_never(Api::AnthropicMessages, "data: {\"text\":\"event: message_stop\"}\n\n");
    assert_never(
        Api::OpenaiResponses,
        "data: {\"text\":\"event: response.completed\"}\n\n",
    );
    assert_never(Api::CohereChat, "data: {\"text\":\"\\nevent: message-end\\n\\n\"}\n\n");
    let said = r#"{"message":{"content":"{\"done\":true}"},"done":false}"#;
    assert_never(Api::Ollama, &format!("{said}\n{said}\n"));
}

#[test]
fn converse_ends_with_the_metadata_message() {
    let delta = json!({"contentBlockIndex": 0, "delta": {"text": "event: metadata"}, "p": "abc"});
    let usage = json!({"usage": {"inputTokens": 1}});
    let start = [
        event_message("messageStart", &json!({"role": "assistant"})),
        event_message("contentBlockDelta", &delta),
        event_message("messageStop", &json!({"stopReason": "end_turn"})),
    ]
    .concat();
    let whole = [start.clone(), event_message("metadata", &usage)].concat();
    let more = [whole.clone(), event_message("contentBlockDelta", &delta)].concat();
    assert_eq!(seen_at(Api::BedrockConverse, &start), None);
    assert_eq!(seen_at(Api::BedrockConverse, &whole), Some(whole.len()));
    assert_eq!(seen_at(Api::BedrockConverse, &more), Some(whole.len()));
    assert_eq!(seen_at(Api::BedrockInvoke, &more), None);
    // Messages without headers, with many, and an exception of that name.
    let long = "x".repeat(300);
    let odd = [
        message(&[], b"{}"),
        message(&[("h", &long), (":event-type", "metadata")], b"{}"),
        message(&[(":message-type", "exception"), (":event-type", "metadata")], b"{}"),
    ]
    .concat();
    assert_eq!(seen_at(Api::BedrockConverse, &odd), None);
    assert_eq!(
        seen_at(Api::BedrockConverse, &[odd.clone(), whole.clone()].concat()),
        Some(odd.len() + whole.len())
    );
    // After a damaged prelude nobody knows where messages begin.
    let mut damaged = whole;
    damaged[9] ^= 1;
    assert_eq!(seen_at(Api::BedrockConverse, &damaged), None);
    assert_never(Api::BedrockConverse, "{\"output\":{\"message\":{}}}");
}

#[test]
fn ollama_ends_with_the_line_that_says_done() {
    let line = r#"{"model":"m","message":{"role":"assistant","content":"a\\\"b {["},"done":false}"#;
    for last in [
        r#"{"model":"m","message":{"content":""},"done":true,"context":[1,2,3],"eval_count":4}"#,
        r#"{"done":true}"#,
        r#" { "model" : "m" , "done" : true , "x" : "}" } "#,
        "{\"a\":[[{\"done\":false}]],\t\"done\":\ttrue\r",
    ] {
        let last = if last.ends_with('\r') {
            format!("{last}}}")
        } else {
            last.to_owned()
        };
        assert_seen(Api::Ollama, &format!("{line}\n\n{line}\r\n{last}\n"), "more\n");
        assert_never(Api::Ollama, &format!("{line}\n{last}"));
    }
    for other in [
        r#"{"message":{"done":true},"done":false}"#,
        r#"{"x":[{"done":true}],"done":"true"}"#,
        r#"{"done_reason":true,"not_done":true,"don":true,"DONE":true}"#,
        r#"{"a":"done","b":true}"#,
        r#"{"done":truest}"#,
        "{\"done\":tru\t\te}",
        r#"{"done":tru e}"#,
        r#"{"done":[true]}"#,
        r#"{"done":null,"x":true}"#,
        r#"["done",true]"#,
        "{\"done\":true",
        "{\"done\":\ntrue}",
        "\"done\":true",
    ] {
        assert_never(Api::Ollama, &format!("{other}\n"));
    }
}

#[test]
fn a_mark_stays_seen_and_other_apis_have_none() {
    let mut end_mark = EndMark::new(Api::OpenaiChat);
    assert!(end_mark.push(b"data: [DONE]"));
    assert!(end_mark.push(b"") && end_mark.push(b"more"));
    let all = "data: [DONE]\n\nevent: message_stop\n\nevent: response.completed\n\n{\"done\":true}\n";
    for api in [Api::Other, Api::Gemini, Api::BedrockInvoke, Api::OpenaiEmbeddings] {
        assert_never(api, all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_is_seen_to_end_at_the_same_byte_however_it_is_cut(
        lines in prop::collection::vec(prop::sample::select(vec![
            "\n", "\r", " ", "data:", "[DONE]", "event:", "message_stop", "response.completed", "message-end",
            "{\"type\":\"", "{", "}", "\"done\"", ":", "true", "tru", "e", "\t", ",", "\"", "\\", "x", "é",
        ]), 0..24),
    ) {
        for api in Api::ALL {
            seen_at(api, lines.concat().as_bytes());
        }
    }

    #[test]
    fn any_bytes_are_seen_to_end_at_the_same_byte_however_they_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        name in prop::sample::select(vec!["metadata", "x"]),
    ) {
        let whole = event_message(name, &json!({}));
        for stream in [bytes.clone(), [whole.clone(), bytes.clone()].concat(), [bytes, whole].concat()] {
            seen_at(Api::BedrockConverse, &stream);
        }
    }
}
