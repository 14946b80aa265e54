use super::*;
use proptest::prelude::*;

/// What client and copy get of a stream that comes in pieces of this size.
fn run(filter: &mut EventFilter, stream: &str, size: usize) -> (String, String) {
    let (mut client, mut kept) = (Vec::new(), Vec::new());
    let mut take = |passed: Passed| {
        client.extend_from_slice(&passed.client);
        kept.extend_from_slice(&passed.kept);
    };
    for piece in stream.as_bytes().chunks(size) {
        take(filter.push(piece));
    }
    take(filter.finish());
    (String::from_utf8(client).unwrap(), String::from_utf8(kept).unwrap())
}

fn candidate() -> EventFilter {
    answering(r#"{"model":"big","messages":[]}"#)
}

fn answering(request: &str) -> EventFilter {
    EventFilter::of_candidate(Api::OpenaiChat, request.as_bytes(), false)
}

const USAGE: &str = r#"data: {"choices":[],"usage":{"prompt_tokens":3}}"#;

#[test]
fn the_model_is_renamed_however_the_stream_is_cut() {
    let stream = "data: {\"model\":\"small\",\"x\":\"model\"}\r\n\r\n: note\n\ndata: [DONE]\n\n";
    for size in [1, 7, 1000] {
        let mut filter = candidate();
        let (client, kept) = run(&mut filter, stream, size);
        assert_eq!(client, stream.replace("small", "big"));
        assert_eq!(kept, client);
        assert_eq!(filter.model.as_deref(), Some("small"));
    }
}

#[test]
fn long_tool_call_ids_become_short_ones() {
    let long = format!("chatcmpl-tool-{}", "0f".repeat(16));
    let event = |id: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":1,\"id\":\"{id}\",\"type\":\"function\"}}]}}}}]}}\n\n"
        )
    };
    let (client, _) = run(&mut candidate(), &(event(&long) + &event("call_1")), 9);
    assert_eq!(client, event(&tool_call_id(&long, 1)) + &event("call_1"));
}

#[test]
fn an_id_that_the_conversation_has_already_is_not_given_again() {
    let request = r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"call_0","function":{"name":"f"}}]}]}"#;
    let piece = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_0\"}]}}]}\n\n";
    let (client, _) = run(&mut answering(request), &piece.repeat(2), 9);
    let expected = piece.replace("call_0", &tool_call_id("call_0#1", 0));
    assert_eq!(client, expected.repeat(2), "the same new id in every piece of the call");
    assert_eq!(run(&mut candidate(), piece, 9).0, piece);
}

#[test]
fn the_usage_event_is_taken_out_and_kept_however_the_stream_is_cut() {
    for end in ["\n", "\r\n"] {
        let blank = end.repeat(2);
        let before = format!("data: {{\"choices\":[{{}}],\"usage\":null}}{blank}: hm{blank}");
        let after = format!("data: [DONE]{blank}");
        let stream = format!("{before}{USAGE}{blank}{after}");
        for size in 1..=stream.len() {
            let mut filter = EventFilter::without_usage(true);
            let (client, kept) = run(&mut filter, &stream, size);
            assert_eq!(client, format!("{before}{after}"), "pieces of {size}");
            assert_eq!(kept, stream, "pieces of {size}");
        }
    }
}

#[test]
fn a_usage_event_that_the_client_asked_for_stays() {
    let stream = format!("{USAGE}\n\ndata: [DONE]\n\n");
    let (client, _) = run(&mut candidate(), &stream, 5);
    assert_eq!(client, stream);
}

#[test]
fn an_event_passes_in_the_push_that_completes_it() {
    let mut filter = candidate();
    assert!(filter.push(b"data: {\"a\":1}\n").client.is_empty());
    assert_eq!(&filter.push(b"\ndata: {").client[..], b"data: {\"a\":1}\n\n");
    assert_eq!(&filter.finish().client[..], b"data: {");
}

#[test]
fn an_event_that_is_too_long_passes_as_it_is_and_the_next_one_is_edited() {
    let long = format!(
        "data: {{\"model\":\"small\",\"x\":\"{}\"}}\n\n",
        "y".repeat(2 * MAX_EVENT)
    );
    let stream = format!("{long}data: {{\"model\":\"small\"}}\n\n");
    let (client, _) = run(&mut candidate(), &stream, 100_000);
    assert_eq!(client, format!("{long}data: {{\"model\":\"big\"}}\n\n"));
}

proptest! {
    #[test]
    fn what_has_nothing_to_change_passes_byte_for_byte(
        parts in prop::collection::vec(r"data: \{\}|data: x|: c|event: e|\r\n|\n|\r|\{|\[DONE\]|é", 0..30),
        size in 1usize..9,
    ) {
        let stream = parts.concat();
        for mut filter in [candidate(), EventFilter::without_usage(true)] {
            let (client, kept) = run(&mut filter, &stream, size);
            prop_assert_eq!(&client, &stream);
            prop_assert_eq!(&kept, &stream);
        }
    }
}
