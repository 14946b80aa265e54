//! Unit tests of chat's streams as deltas.

use proptest::prelude::*;

use super::super::Reader as _;
use super::*;
use crate::call::Api;
use crate::wire;

fn chunk(delta: Value) -> Value {
    json!({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": null}], "usage": null})
}

fn finish(word: &str) -> Value {
    json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": word}]})
}

fn stream(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
}

fn read(body: &[u8], size: usize) -> Vec<Delta> {
    let mut reader = Reader::default();
    let mut deltas: Vec<Delta> = body.chunks(size).flat_map(|piece| reader.push(piece)).collect();
    deltas.extend(reader.finish());
    deltas
}

fn deltas(chunks: &[Value]) -> Vec<Delta> {
    let body = stream(chunks) + "data: [DONE]\n\n";
    read(body.as_bytes(), body.len())
}

fn start(id: &str) -> Delta {
    Delta::Start { id: id.into() }
}

fn text(text: &str) -> Delta {
    Delta::Text(text.into())
}

fn call(index: usize, id: &str, name: &str) -> Delta {
    Delta::ToolCall {
        index,
        id: id.into(),
        name: name.into(),
    }
}

fn arguments(index: usize, piece: &str) -> Delta {
    Delta::Arguments {
        index,
        piece: piece.into(),
    }
}

fn finished(word: &str) -> Delta {
    Delta::Finish(word.into())
}

#[test]
fn a_plain_stream_is_its_deltas_without_reasoning() {
    let read = deltas(&[
        json!({"id": "", "choices": [], "prompt_filter_results": [{}]}),
        chunk(json!({"role": "assistant", "content": "", "reasoning_content": "hm", "reasoning": "hm"})),
        chunk(json!({"content": "4"})),
        json!({"choices": [{"index": 1, "delta": {"content": "another choice"}}, {"index": 0, "delta": {"content": "2"}}]}),
        json!({"choices": [{"delta": {"refusal": "no"}}]}),
        json!({"choices": [{"index": 0, "content_filter_results": {}}]}),
        finish("stop"),
        json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
    ]);
    let usage = Usage {
        input: Some(3),
        output: Some(2),
        ..Usage::default()
    };
    let refusal = Delta::Refusal("no".into());
    assert_eq!(
        read,
        [
            start("c"),
            text("4"),
            text("2"),
            refusal,
            Delta::Usage(usage),
            finished("stop")
        ]
    );
}

#[test]
fn parallel_calls_are_told_apart_in_every_dialect() {
    let piece = |call: Value| chunk(json!({"tool_calls": [call]}));
    // OpenAI: by index; the name repeated, as some gateways do. Interleaved pieces come one call after the other.
    let by_index = deltas(&[
        piece(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}})),
        piece(json!({"index": 0, "function": {"name": "f", "arguments": "{\"x\""}})),
        piece(json!({"index": 1, "id": "b", "function": {"name": "g"}})),
        piece(json!({"index": 0, "function": {"arguments": ":1}"}})),
        finish("tool_calls"),
    ]);
    let expected = [
        start("c"),
        call(0, "a", "f"),
        arguments(0, "{\"x\""),
        arguments(0, ":1}"),
        call(1, "b", "g"),
        finished("tool_calls"),
    ];
    assert_eq!(by_index, expected);
    // Mistral: whole calls without an index. Gemini's dialect: all of them 0.
    for index in [Value::Null, 0.into()] {
        let whole =
            |id: &str, name: &str| json!({"index": index, "id": id, "function": {"name": name, "arguments": {"x": 1}}});
        let read = deltas(&[
            chunk(json!({"tool_calls": [whole("a", "f"), whole("b", "g")]})),
            finish("stop"),
        ]);
        let expected = [
            start("c"),
            call(0, "a", "f"),
            arguments(0, "{\"x\":1}"),
            call(1, "b", "g"),
            arguments(1, "{\"x\":1}"),
            finished("stop"),
        ];
        assert_eq!(read, expected);
    }
}

#[test]
fn interleaved_calls_are_told_one_after_the_other() {
    let piece = |index: usize, name: &str, arguments: &str| {
        chunk(json!({"tool_calls": [{"index": index, "id": name, "function": {"name": name, "arguments": arguments}}]}))
    };
    let more = |index: usize, arguments: &str| {
        chunk(json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}))
    };
    let read = deltas(&[
        piece(0, "a", "{"),
        piece(1, "b", ""),
        piece(2, "c", "{\"z\""),
        chunk(json!({"content": "amid"})),
        more(2, ":3}"),
        more(0, "}"),
        more(1, "{}"),
        piece(3, "d", ""),
        piece(4, "e", "{\"v\":"),
        more(4, "1"),
        finish("tool_calls"),
    ]);
    let expected = [
        start("c"),
        call(0, "a", "a"),
        arguments(0, "{"),
        arguments(0, "}"),
        call(1, "b", "b"),
        arguments(1, "{}"),
        call(2, "c", "c"),
        arguments(2, "{\"z\""),
        arguments(2, ":3}"),
        text("amid"),
        call(3, "d", "d"),
        call(4, "e", "e"),
        arguments(4, "{\"v\":1"),
        finished("tool_calls"),
    ];
    assert_eq!(read, expected);
}

#[test]
fn a_call_begins_when_its_name_is_known() {
    let read = deltas(&[
        chunk(json!({"tool_calls": [{"index": 3, "id": "a", "function": {"arguments": "{"}}]})),
        chunk(json!({"tool_calls": [{"index": 3, "function": {"name": "f", "arguments": "}"}}]})),
        chunk(json!({"function_call": {"name": "legacy", "arguments": ""}})),
        chunk(
            json!({"function_call": {"arguments": "{}"}, "tool_calls": [{"index": 7, "function": {"name": "", "arguments": ""}}]}),
        ),
    ]);
    let expected = [
        start("c"),
        call(0, "a", "f"),
        arguments(0, "{}"),
        call(1, "", "legacy"),
        arguments(1, "{}"),
    ];
    assert_eq!(read, expected);
    let nameless = deltas(&[
        chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"x\":1}"}}]})),
        finish("tool_calls"),
    ]);
    assert_eq!(nameless, [start("c"), Delta::Error(NAMELESS.into())]);
}

#[test]
fn parts_whole_messages_and_whole_answers_are_read() {
    let parts = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "reasoning", "text": "hm"}, {"type": "text", "text": "42"}]);
    let expected = [start("c"), text("42"), finished("stop")];
    assert_eq!(deltas(&[chunk(json!({"content": parts})), finish("stop")]), expected);
    let message = json!({"id": "c", "choices": [{"message": {"content": "42"}, "finish_reason": "stop"}]});
    assert_eq!(deltas(std::slice::from_ref(&message)), expected);
    let repeated = json!({"id": "c", "choices": [{"message": {"content": "42", "tool_calls": [
        {"id": "a", "function": {"name": "f", "arguments": "{}"}}]}, "finish_reason": "stop"}]});
    let call_piece = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]});
    let read_repeated = deltas(&[chunk(json!({"content": "4"})), chunk(call_piece), repeated]);
    let told = [
        start("c"),
        text("4"),
        call(0, "a", "f"),
        arguments(0, "{}"),
        text("2"),
        finished("stop"),
    ];
    assert_eq!(read_repeated, told);
    let whole = format!("{message:#}\n\n");
    assert_eq!(read(whole.as_bytes(), 5), expected);
}

#[test]
fn usage_is_found_where_groq_has_it() {
    let groq = json!({"id": "c", "choices": [], "x_groq": {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}});
    let read = deltas(&[finish("stop"), groq]);
    assert!(
        matches!(&read[1], Delta::Usage(usage) if usage.output == Some(2)),
        "{read:?}"
    );
}

#[test]
fn every_kind_of_error_ends_the_stream() {
    let begun = stream(&[chunk(json!({"content": "4"}))]);
    for (tail, error) in [
        (
            "event: error\ndata: {\"error\":{\"message\":\"m\"}}\n\n",
            json!({"message": "m"}),
        ),
        ("event: error\ndata: {\"message\":\"m\"}\n\n", json!({"message": "m"})),
        ("event: error\ndata: m\n\n", json!("m")),
        ("error: {\"detail\":\"m\"}\n\n", json!({"detail": "m"})),
        ("data: {\"error\":\"m\"}\n\n", json!("m")),
        (
            "data: {\"object\":\"error\",\"message\":\"m\"}\n\n",
            json!({"object": "error", "message": "m"}),
        ),
        ("data: {\"x_groq\":{\"error\":\"m\"},\"choices\":[]}\n\n", json!("m")),
        ("data: {\"choices\": [\n\n", json!("a chunk can't be read")),
        ("data: {\"choices\": [", json!("a chunk can't be read")),
        (
            "data: {\"choices\":[{\"finish_reason\":\"error\"}]}\n\n",
            json!("its finish reason is `error`"),
        ),
    ] {
        let body = begun.clone() + tail + &stream(&[chunk(json!({"content": "lost"})), finish("stop")]);
        let cut = begun.clone() + tail;
        let body = if tail.ends_with('\n') { body } else { cut };
        assert_eq!(
            read(body.as_bytes(), 9),
            [start("c"), text("4"), Delta::Error(error)],
            "{tail}"
        );
    }
    let flood = vec![b'x'; 3 << 20];
    assert_eq!(
        read(&[b"data: ", flood.as_slice()].concat(), 1 << 16),
        [Delta::Error("an event is too long".into())]
    );
}

#[test]
fn what_says_nothing_is_left_out() {
    let body = ": OPENROUTER PROCESSING\n\ndata: ping\n\ndata: []\n\ndata: {\"choices\":[]}\n\ndata: [DONE]\n\ndata: {\"error\":1}\n\n";
    assert_eq!(read(body.as_bytes(), 4), []);
}

#[test]
fn the_first_byte_tells_a_stream_from_one_piece_of_json() {
    let answer = json!({"id": "1", "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]});
    let whole = [start("1"), text("hi"), finished("stop")];
    for size in [1, 2, 5, 4096] {
        for before in ["", "\u{feff}", "\n\r\n", "\u{feff}\n"] {
            assert_eq!(
                read(format!("{before}{answer}").as_bytes(), size),
                whole,
                "{before:?} {size}"
            );
            assert_eq!(
                read(format!("{before}data:{answer}\n\n").as_bytes(), size),
                whole,
                "{before:?} {size}"
            );
        }
        let junk = format!("x\n{answer}\n\ndata: {answer}\n\n\u{feff}data: {answer}\n\n");
        assert_eq!(read(junk.as_bytes(), size), whole, "{size}");
    }
}

#[test]
fn a_whole_answer_is_written_so_that_it_reads_the_same() {
    let answer = Response {
        model: Some("m".into()),
        output_text: "42".into(),
        reasoning_text: "hm".into(),
        tool_calls: vec![ToolCall {
            id: Some("t".into()),
            name: "f".into(),
            arguments: "{\"x\":1}".into(),
        }],
        finish_reason: Some("tool_calls".into()),
        choices: 1,
        usage: Usage {
            input: Some(9),
            cached: Some(4),
            cache_write: Some(1),
            output: Some(5),
            reasoning: Some(2),
        },
        ..Response::default()
    };
    let body = completion("c", &answer);
    assert_eq!(body["id"], "c");
    let read = wire::assemble(Api::OpenaiChat, None, body.to_string().as_bytes()).unwrap();
    let read = wire::parse_response(Api::OpenaiChat, 200, &read);
    let expected = Response {
        id: Some("c".into()),
        reasoning_text: String::new(),
        ..answer
    };
    assert_eq!(read, expected);
    assert_eq!(completion("c", &Response::default()).get("usage"), None);
}

#[test]
fn finish_words_of_all_apis_are_chats_own() {
    for (words, expected) in [
        (
            ["stop", "end_turn", "stop_sequence", "STOP", "COMPLETE", "completed"],
            "stop",
        ),
        (
            [
                "length",
                "max_tokens",
                "MAX_TOKENS",
                "max_output_tokens",
                "model_length",
                "incomplete",
            ],
            "length",
        ),
        (
            [
                "content_filter",
                "refusal",
                "SAFETY",
                "blocked:SAFETY",
                "guardrail_intervened",
                "RECITATION",
            ],
            "content_filter",
        ),
    ] {
        for word in words {
            assert_eq!(finish_word(word, false), expected, "{word}");
            let with_calls = if expected == "stop" { "tool_calls" } else { expected };
            assert_eq!(finish_word(word, true), with_calls, "{word}");
        }
    }
    assert_eq!(finish_word("tool_use", true), "tool_calls");
}

/// Chunks as servers send them, in any order, and others.
pub(in super::super) fn any_chunk() -> impl Strategy<Value = Value> {
    prop_oneof![3 => likely_chunk(), 1 => unlikely_chunk()]
}

/// Chunks as servers send them.
fn likely_chunk() -> impl Strategy<Value = Value> {
    let word = |words: &[&'static str]| prop::sample::select(words.to_vec());
    let call = (
        0..3,
        word(&["", "a", "b"]),
        word(&["", "f", "g"]),
        word(&["", "{", "}", "{}", "\"x\":1"]),
    )
        .prop_map(|(index, id, name, piece)| {
            json!({"index": index, "id": id, "function": {"name": name, "arguments": piece}})
        });
    let delta = prop_oneof![
        word(&["", " ", "x", "é"]).prop_map(|text| json!({"content": text})),
        word(&["", "no"]).prop_map(|refusal| json!({"refusal": refusal})),
        prop::collection::vec(call, 1..3).prop_map(|calls| json!({"tool_calls": calls})),
    ];
    let choice = (
        delta,
        prop::option::weighted(0.2, word(&["stop", "length", "tool_calls"])),
    )
        .prop_map(|(delta, finish)| json!([{"index": 0, "delta": delta, "finish_reason": finish}]));
    (choice, prop::option::weighted(0.2, 0..9)).prop_map(|(choices, tokens)| {
        let usage = tokens.map(|tokens| json!({"prompt_tokens": tokens, "completion_tokens": 1}));
        json!({"id": "c", "choices": choices, "usage": usage})
    })
}

/// Chunks whose keys the reader knows and whose values are of any kind.
fn unlikely_chunk() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i8>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["", "x", "{", "é", "stop", "error"]).prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "id",
        "index",
        "choices",
        "delta",
        "message",
        "content",
        "refusal",
        "tool_calls",
        "function_call",
        "function",
        "custom",
        "arguments",
        "name",
        "finish_reason",
        "usage",
        "prompt_tokens",
        "x_groq",
        "error",
        "text",
        "object",
    ]);
    leaf.prop_recursive(6, 80, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys.clone(), inner, 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(key, value)| (key.into(), value)).collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_chunks_in_any_pieces_give_the_deltas_of_the_whole(
        chunks in prop::collection::vec(any_chunk(), 1..6),
        size in 1usize..40,
        ending in prop::sample::select(vec!["\n", "\r\n", "\r"]),
    ) {
        let body = stream(&chunks).replace('\n', ending);
        let whole = read(body.as_bytes(), body.len());
        prop_assert_eq!(read(body.as_bytes(), size), whole.clone());
        let begins = whole.first().is_none_or(|first| matches!(first, Delta::Start { .. } | Delta::Error(_)));
        prop_assert!(begins, "{:?}", whole);
        let mut calls = 0;
        let mut open = None;
        for (position, delta) in whole.iter().enumerate() {
            match delta {
                Delta::ToolCall { index, name, .. } => {
                    prop_assert!(*index == calls && !name.is_empty());
                    calls += 1;
                    open = Some(*index);
                }
                Delta::Arguments { index, piece } => prop_assert!(open == Some(*index) && !piece.is_empty()),
                Delta::Text(_) | Delta::Refusal(_) => open = None,
                Delta::Error(_) => prop_assert_eq!(position, whole.len() - 1),
                _ => {}
            }
        }
    }

    #[test]
    fn the_deltas_add_up_to_what_the_whole_stream_is_read_as(chunks in prop::collection::vec(likely_chunk(), 1..9)) {
        let body = stream(&chunks);
        let deltas = read(body.as_bytes(), body.len());
        let assembled = wire::assemble(Api::OpenaiChat, None, body.as_bytes()).unwrap();
        let whole = wire::parse_response(Api::OpenaiChat, 200, &assembled).without_padding();
        let mut added = Response { choices: 1, ..Response::default() };
        for delta in &deltas {
            match delta {
                Delta::Start { id } => added.id = Some(id.clone()),
                Delta::Text(text) => added.output_text.push_str(text),
                Delta::Refusal(refusal) => added.refusal.get_or_insert_default().push_str(refusal),
                Delta::ToolCall { name, .. } => {
                    added.tool_calls.push(ToolCall { id: None, name: name.clone(), arguments: String::new() });
                }
                Delta::Arguments { index, piece } => added.tool_calls[*index].arguments.push_str(piece),
                Delta::Finish(word) => added.finish_reason = Some(word.clone()),
                Delta::Usage(usage) => added.usage = *usage,
                Delta::Error(_) => return Ok(()),
            }
        }
        let calls = |calls: &[ToolCall]| -> Vec<(String, String)> {
            let mut calls: Vec<_> = calls
                .iter()
                .map(|call| (call.name.clone(), call.arguments.clone()))
                .map(|(name, arguments)| if arguments.is_empty() { (name, "{}".into()) } else { (name, arguments) })
                .collect();
            calls.sort();
            calls
        };
        // What comes to a call after its arguments were whole is not told.
        let is_json = |call: &ToolCall| serde_json::from_str::<Value>(&call.arguments).is_ok();
        if whole.tool_calls.iter().all(is_json) {
            prop_assert_eq!(calls(&added.tool_calls), calls(&whole.tool_calls));
        }
        added.tool_calls = whole.tool_calls.clone();
        added.partial = whole.partial;
        prop_assert_eq!(added, whole);
    }

    #[test]
    fn any_bytes_in_any_pieces_give_the_deltas_of_the_whole(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        words in prop::collection::vec(prop::sample::select(vec![
            "\n", "\r", " ", "\u{feff}", "{", "}", "data:", "error:", "x", "{\"id\":\"1\"}", "[DONE]", "\0",
        ]), 1..16),
        size in 1usize..9,
    ) {
        for body in [bytes.clone(), words.concat().into_bytes(), [words.concat().into_bytes(), bytes].concat()] {
            prop_assert_eq!(read(&body, size), read(&body, body.len().max(1)));
        }
    }
}
