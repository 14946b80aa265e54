//! Unit tests of the streams of candidates of other APIs than chat, read and written as chat.

use proptest::prelude::*;
use serde_json::json;

use super::super::Back;
use super::*;
use crate::wire::framing::Events as Framed;
use crate::wire::framing::Framing;

const SPOKEN: [Api; 4] = [Api::AnthropicMessages, Api::OpenaiResponses, Api::Gemini, Api::Ollama];

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

/// An answer that fails has an error, and nothing that says that it is whole.
fn assert_fails(spoken: Api, stream: &str, words: &str) {
    let out = String::from_utf8(written(spoken, stream.as_bytes(), 5)).unwrap();
    let last = out.rsplit("data: ").next().unwrap();
    assert!(last.contains("\"error\"") && last.contains(words), "{stream}: {out}");
    assert!(
        !out.contains("[DONE]") && !out.contains("finish_reason\":\"s"),
        "{stream}: {out}"
    );
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
        for spoken in SPOKEN {
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
