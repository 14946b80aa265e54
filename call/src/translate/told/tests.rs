//! Unit tests of the streams of candidates of other APIs than chat, read and written as chat.

use proptest::prelude::*;
use serde_json::json;

use super::super::{Back, SPOKEN};
use super::*;
use crate::wire::framing::Events as Framed;
use crate::wire::framing::Framing;

fn back(spoken: Api) -> Back {
    Back {
        api: Api::OpenaiChat,
        spoken,
        model: "asked-for".into(),
        stream: true,
        as_array: false,
        created: 7,
        request: json!({"stream_options": {"include_usage": true}}),
    }
}

fn written(spoken: Api, stream: &[u8], size: usize) -> Vec<u8> {
    let mut translation = back(spoken).stream().unwrap();
    let mut out: Vec<u8> = stream.chunks(size).flat_map(|piece| translation.push(piece)).collect();
    out.extend(translation.finish());
    assert!(translation.finish().is_empty() && translation.push(b"data: {}\n\n").is_empty());
    out
}

fn events(stream: &[Value]) -> String {
    let events = stream
        .iter()
        .map(|data| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()));
    events.collect()
}

/// The chunks of a chat stream, `[DONE]` as a text.
fn chunks(body: &[u8]) -> Vec<Value> {
    let events = Framed::new(Framing::Sse, body);
    events
        .map(|event| serde_json::from_slice(&event.data).unwrap_or_else(|_| "[DONE]".into()))
        .collect()
}

fn message(blocks: &[Value], stop: &str) -> Vec<Value> {
    let mut events = vec![
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-1", "content": [],
            "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 1}}}),
        json!({"type": "ping"}),
    ];
    for (index, block) in blocks.iter().enumerate() {
        let mut start = block.clone();
        let deltas = start["deltas"].take();
        start.as_object_mut().unwrap().remove("deltas");
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        for delta in deltas.as_array().into_iter().flatten() {
            events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 9}}));
    events.push(json!({"type": "message_stop"}));
    events
}

#[test]
fn a_message_becomes_chunks_with_usage_and_an_end() {
    let blocks = [
        json!({"type": "thinking", "thinking": "", "deltas": [{"type": "thinking_delta", "thinking": "hm"}]}),
        json!({"type": "text", "text": "", "deltas": [{"type": "text_delta", "text": "Let "}, {"type": "text_delta", "text": "me."}]}),
        json!({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}, "deltas": [
            {"type": "input_json_delta", "partial_json": ""}, {"type": "input_json_delta", "partial_json": "{\"a\":"},
            {"type": "input_json_delta", "partial_json": "1}"}]}),
        json!({"type": "tool_use", "id": "toolu_2", "name": "g", "input": {},
            "deltas": [{"type": "input_json_delta", "partial_json": ""}]}),
        json!({"type": "tool_use", "id": "toolu_3", "name": "h", "input": {"whole": true}, "deltas": []}),
    ];
    let stream = events(&message(&blocks, "tool_use"));
    let out = written(Api::AnthropicMessages, stream.as_bytes(), stream.len());
    let chunks = chunks(&out);
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    let start = |index: usize, id: &str, name: &str| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]});
    let more = |index: usize, piece: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]});
    let expected = [
        json!({"role": "assistant", "content": ""}),
        json!({"content": "Let "}),
        json!({"content": "me."}),
        start(0, "toolu_1", "f"),
        more(0, "{\"a\":"),
        more(0, "1}"),
        start(1, "toolu_2", "g"),
        more(1, "{}"),
        start(2, "toolu_3", "h"),
        more(2, "{\"whole\":true}"),
        json!({}),
        Value::Null,
        Value::Null,
    ];
    assert_eq!(deltas, expected.iter().collect::<Vec<_>>());
    let finish = &chunks[10];
    assert_eq!(finish["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(
        (&finish["id"], &finish["model"], &finish["created"]),
        (&json!("msg_1"), &json!("asked-for"), &json!(7))
    );
    assert_eq!(finish["usage"], Value::Null);
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16, "prompt_tokens_details": {"cached_tokens": 4}});
    assert_eq!((&chunks[11]["usage"], &chunks[11]["choices"]), (&usage, &json!([])));
    assert_eq!(chunks[12], "[DONE]");
}

#[test]
fn the_model_is_told_as_soon_as_it_is_named() {
    for (spoken, first) in [
        (
            Api::AnthropicMessages,
            json!({"type": "message_start", "message": {"model": "m-1"}}),
        ),
        (
            Api::OpenaiResponses,
            json!({"type": "response.created", "response": {"model": "m-1"}}),
        ),
    ] {
        let mut translation = back(spoken).stream().unwrap();
        translation.push(events(&[first]).as_bytes());
        assert_eq!(translation.model(), Some("m-1"));
    }
    for (spoken, first) in [
        (Api::Gemini, "data: {\"modelVersion\":\"m-1\"}\r\n\r\n"),
        (Api::Ollama, "{\"model\":\"m-1\"}\n"),
    ] {
        let mut translation = back(spoken).stream().unwrap();
        translation.push(first.as_bytes());
        assert_eq!(translation.model(), Some("m-1"));
    }
}

fn binary(events: &[(&str, Value)]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (name, payload) in events {
        eventstream::write_event(name, payload, &mut stream);
    }
    stream
}

/// What a stream says: text, calls, finish word, and tokens.
type Said = (String, Vec<(String, String)>, Option<String>, [Option<i64>; 2]);

fn said(spoken: Api, stream: &[u8]) -> Said {
    let out = written(spoken, stream, stream.len());
    for size in [1, 7, 100] {
        assert_eq!(written(spoken, stream, size), out, "cut at {size}");
    }
    let assembled = wire::assemble(Api::OpenaiChat, Some("text/event-stream"), &out).unwrap();
    let answer = wire::parse_response(Api::OpenaiChat, 200, &assembled);
    assert!(answer.error.is_none(), "{:?}", answer.error);
    let calls = answer.tool_calls.into_iter().map(|call| (call.name, call.arguments));
    (
        answer.output_text,
        calls.collect(),
        answer.finish_reason,
        [answer.usage.input, answer.usage.output],
    )
}

#[test]
fn events_of_converse_become_chunks_without_reasoning_and_the_providers_own_calls() {
    let delta = |block: i64, delta: Value| {
        let event = json!({"contentBlockIndex": block, "delta": delta, "p": "abc"});
        ("contentBlockDelta", event)
    };
    let start = |block: i64, call: Value| {
        let event = json!({"contentBlockIndex": block, "start": {"toolUse": call}});
        ("contentBlockStart", event)
    };
    let stop = |block: i64| ("contentBlockStop", json!({"contentBlockIndex": block}));
    let events = [
        ("messageStart", json!({"role": "assistant"})),
        delta(0, json!({"reasoningContent": {"text": "hm"}})),
        stop(0),
        delta(1, json!({"text": "Let "})),
        delta(1, json!({"text": "mé."})),
        stop(1),
        start(
            2,
            json!({"toolUseId": "s", "name": "search", "type": "server_tool_use"}),
        ),
        delta(2, json!({"toolUse": {"input": "{\"q\":1}"}})),
        stop(2),
        start(3, json!({"toolUseId": "t", "name": "f"})),
        delta(3, json!({"toolUse": {"input": "{\"a\":"}})),
        delta(3, json!({"toolUse": {"input": "1}"}})),
        stop(3),
        start(4, json!({"toolUseId": "u", "name": "g"})),
        stop(4),
        ("messageStop", json!({"stopReason": "tool_use"})),
        (
            "metadata",
            json!({"usage": {"inputTokens": 3, "cacheReadInputTokens": 4, "outputTokens": 2}, "metrics": {"latencyMs": 1}}),
        ),
    ];
    let calls = [("f", "{\"a\":1}"), ("g", "{}")].map(|(name, given)| (name.to_owned(), given.to_owned()));
    let expected = (
        "Let mé.".to_owned(),
        calls.to_vec(),
        Some("tool_calls".to_owned()),
        [Some(7), Some(2)],
    );
    assert_eq!(said(Api::BedrockConverse, &binary(&events)), expected);
    // The last message, which tells the tokens, may be missing; a finish word may not.
    let cut = said(Api::BedrockConverse, &binary(&events[..16]));
    assert_eq!((cut.2.as_deref(), cut.3), (Some("tool_calls"), [None, None]));
    let mut broken = binary(&events[..5]);
    assert!(fails(Api::BedrockConverse, &broken, "broke off"));
    let whole = broken.len();
    eventstream::write_exception("throttlingException", &json!({"message": "too many"}), &mut broken);
    assert!(fails(Api::BedrockConverse, &broken, "too many"));
    assert!(fails(Api::BedrockConverse, &broken[..whole + 9], "broke off"));
    broken[whole - 9] ^= 1;
    assert!(fails(Api::BedrockConverse, &broken, "too long or damaged"));
    assert!(fails(Api::BedrockConverse, b"{\"message\":\"denied\"}", "broke off"));
}

#[test]
fn events_of_cohere_become_chunks_without_plans_and_thinking() {
    let message =
        |kind: &str, index: i64, message: Value| json!({"type": kind, "index": index, "delta": {"message": message}});
    let call = |piece: Value| json!({"tool_calls": piece});
    let begun =
        |id: &str, name: &str| call(json!({"id": id, "type": "function", "function": {"name": name, "arguments": ""}}));
    let more = |piece: &str| call(json!({"function": {"arguments": piece}}));
    let end = |finish: &str| {
        let usage = json!({"billed_units": {"input_tokens": 1, "output_tokens": 2}, "tokens": {"input_tokens": 7, "output_tokens": 2}});
        json!({"type": "message-end", "delta": {"finish_reason": finish, "usage": usage}})
    };
    let stream = [
        json!({"type": "message-start", "id": "c-1", "delta": {"message": {"role": "assistant", "content": [], "tool_calls": []}}}),
        message("tool-plan-delta", 0, json!({"tool_plan": "I will."})),
        message(
            "content-start",
            0,
            json!({"content": {"type": "thinking", "thinking": ""}}),
        ),
        message("content-delta", 0, json!({"content": {"thinking": "hm"}})),
        message("content-start", 1, json!({"content": {"type": "text", "text": ""}})),
        message("content-delta", 1, json!({"content": {"text": "Let mé."}})),
        json!({"type": "content-end", "index": 1}),
        message("tool-call-start", 0, begun("f_1", "f")),
        message("tool-call-delta", 0, more("{\"a\":")),
        message("tool-call-delta", 0, more("1}")),
        json!({"type": "tool-call-end", "index": 0}),
        message("tool-call-start", 1, begun("g_1", "g")),
        json!({"type": "tool-call-end", "index": 1}),
        end("TOOL_CALL"),
    ];
    let calls = [("f", "{\"a\":1}"), ("g", "{}")].map(|(name, given)| (name.to_owned(), given.to_owned()));
    let expected = (
        "Let mé.".to_owned(),
        calls.to_vec(),
        Some("tool_calls".to_owned()),
        [Some(7), Some(2)],
    );
    let whole = events(&stream) + "data: [DONE]\n\n";
    assert_eq!(said(Api::CohereChat, whole.as_bytes()), expected);
    assert_fails(Api::CohereChat, &events(&stream[..6]), "broke off");
    assert_fails(
        Api::CohereChat,
        &events(&[stream[0].clone(), end("TOOL_CALL")]),
        "calls none",
    );
    assert_fails(Api::CohereChat, &events(&[stream[0].clone(), end("ERROR")]), "ERROR");
    let error = json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "out of memory"}});
    assert_fails(Api::CohereChat, &events(&[stream[0].clone(), error]), "out of memory");
    assert_fails(Api::CohereChat, "data: {\"message\":\"internal\"}\n\n", "internal");
    let mixed = [&stream[..12], &[message("tool-call-delta", 0, more("}"))]].concat();
    assert_fails(Api::CohereChat, &events(&mixed), "mixed");
}

/// An answer that fails has an error, and nothing that says that it is whole.
fn assert_fails(spoken: Api, stream: &str, words: &str) {
    assert!(fails(spoken, stream.as_bytes(), words), "{stream}: {words}");
}

fn fails(spoken: Api, stream: &[u8], words: &str) -> bool {
    let out = String::from_utf8(written(spoken, stream, 5)).unwrap();
    let last = out.rsplit("data: ").next().unwrap();
    let is_told = last.contains("\"error\"") && last.contains(words);
    let looks_whole = out.contains("[DONE]") || out.contains("finish_reason\":\"s");
    if !is_told || looks_whole {
        eprintln!("{out}");
    }
    is_told && !looks_whole
}

#[test]
fn what_fails_or_breaks_off_ends_with_an_error() {
    let whole = message(
        &[json!({"type": "text", "text": "", "deltas": [{"type": "text_delta", "text": "half"}]})],
        "end_turn",
    );
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let (first, cut) = (events(&whole[..4]), &events(&whole)[..400]);
    assert_fails(
        Api::AnthropicMessages,
        &(first.clone() + &events(&[overloaded])),
        "Overloaded",
    );
    assert_fails(Api::AnthropicMessages, &first, "broke off");
    assert_fails(Api::AnthropicMessages, cut, "can't be read");
    assert_fails(
        Api::AnthropicMessages,
        &(first.clone() + "data: {\"cut\n\n"),
        "can't be read",
    );
    assert_fails(Api::AnthropicMessages, "", "broke off");
    assert_fails(Api::AnthropicMessages, "{\"error\":{\"message\":\"no\"}}", "no");
    let nameless = message(
        &[json!({"type": "tool_use", "id": "t", "name": "", "input": {}, "deltas": []})],
        "tool_use",
    );
    assert_fails(Api::AnthropicMessages, &events(&nameless), "no name");
    assert_fails(Api::AnthropicMessages, &events(&message(&[], "tool_use")), "calls none");
    let failed = json!({"type": "response.failed", "response": {"error": {"code": "server_error", "message": "oh"}}});
    assert_fails(Api::OpenaiResponses, &events(&[failed]), "oh");
    assert_fails(
        Api::OpenaiResponses,
        "event: error\ndata: {\"type\":\"error\",\"message\":\"oh\"}\n\n",
        "oh",
    );
    assert_fails(
        Api::Gemini,
        "data: {\"error\":{\"code\":503,\"message\":\"busy\"}}\r\n\r\n",
        "busy",
    );
    assert_fails(
        Api::Gemini,
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"half\"}]}}]}\r\n\r\n",
        "broke off",
    );
    assert_fails(
        Api::Ollama,
        "{\"message\":{\"content\":\"half\"},\"done\":false}\n{\"error\":\"out of memory\"}\n",
        "out of memory",
    );
    let mut translation = back(Api::AnthropicMessages).stream().unwrap();
    let told = [
        translation.push(first.as_bytes()),
        translation.fail("it was reset"),
        translation.finish(),
    ]
    .concat();
    let told = String::from_utf8(told).unwrap();
    assert!(
        told.contains("half") && told.contains("it was reset") && !told.contains("[DONE]"),
        "{told}"
    );
}

#[test]
fn a_whole_answer_to_a_streamed_call_becomes_a_stream() {
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "hi"}], "usage": {"input_tokens": 3, "output_tokens": 2}});
    let out = written(Api::AnthropicMessages, answer.to_string().as_bytes(), 9);
    let chunks = chunks(&out);
    assert_eq!(chunks[1]["choices"][0]["delta"]["content"], "hi");
    assert_eq!(chunks.last().unwrap(), "[DONE]");
}

#[test]
fn ids_that_are_taken_or_of_another_form_are_replaced() {
    let mut back = back(Api::AnthropicMessages);
    back.request = json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "toolu_1"}]}]});
    let answer = json!({"id": "m", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
        {"type": "tool_use", "id": "a.b", "name": "f", "input": {"x": 1}}], "stop_reason": "tool_use"});
    let chat = back.response(answer.to_string().as_bytes()).unwrap();
    let calls = &chat["choices"][0]["message"]["tool_calls"];
    for (place, given) in ["toolu_1", "a.b"].into_iter().enumerate() {
        let id = calls[place]["id"].as_str().unwrap();
        assert!(id != given && id.starts_with("call_") && id.len() <= 40, "{id}");
    }
    assert_eq!(calls[0]["function"]["arguments"], "{}");
    assert_eq!(chat["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!((&chat["model"], &chat["created"]), (&json!("asked-for"), &json!(7)));
}

/// Bytes of JSON and framing that the readers know.
fn any_stream() -> impl Strategy<Value = String> {
    let words = "data: |event: |error|\n|\n\n|\r\n\r\n|{|}|[|]|,|:|\"type\":|\"message_start\"|\"content_block_start\"|\
        \"content_block_delta\"|\"message_delta\"|\"message_stop\"|{\"type\":\"message_stop\"}|\"index\":0|\"delta\":|\
        {\"type\":\"text_delta\",\"text\":\"é\"}|{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}|\"content_block\":|\
        {\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}|\"done\":true|\"message\":{\"content\":\"a\"}|\"response\":|\
        \"response.completed\"|\"output\":[]|\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"finishReason\":\"STOP\"}]|null";
    let words: Vec<&str> = words.split('|').collect();
    prop::collection::vec(prop::sample::select(words), 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_in_any_pieces_is_one_chat_that_is_whole_or_failed(stream in any_stream(), size in 1usize..40) {
        for spoken in SPOKEN.into_iter().filter(|spoken| *spoken != Api::OpenaiChat) {
            let whole = written(spoken, stream.as_bytes(), stream.len().max(1));
            prop_assert_eq!(&written(spoken, stream.as_bytes(), size), &whole);
            let chunks = chunks(&whole);
            let is_whole = chunks.last().is_some_and(|last| last == "[DONE]");
            prop_assert!(is_whole != chunks.iter().any(|chunk| chunk.get("error").is_some()), "{:?}", chunks);
        }
    }

    #[test]
    fn blank_lines_are_seen_however_a_stream_is_cut(stream in "(a|\n|\r|\r\n){0,12}", size in 1usize..5) {
        let mut ends = Ends::default();
        let seen = stream.as_bytes().chunks(size).filter(|piece| ends.see(piece)).count();
        let normal = stream.replace("\r\n", "\n").replace('\r', "\n");
        let has_blank = normal.starts_with('\n') || normal.contains("\n\n");
        prop_assert_eq!(seen > 0, has_blank);
    }
}
