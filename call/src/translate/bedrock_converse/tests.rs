//! Unit tests of Converse in chat.

use serde_json::json;

use super::*;
use crate::call::Api;
use crate::translate::{Translated, request as translate};
use crate::wire;

const STREAM: &str = "/model/eu.anthropic.claude-v1%3A0/converse-stream";

fn translated(path: &str, body: &Value) -> Result<Translated, Refusal> {
    translate(Api::BedrockConverse, path, body.to_string().as_bytes())
}

fn asking() -> Value {
    json!({
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
        "messages": [
            {"role": "user", "content": [{"text": "look"}, {"image": {"format": "png", "source": {"bytes": "AAAA"}}}]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}, {"text": "ok"},
                {"toolUse": {"toolUseId": "tooluse_1", "name": "f", "input": {"x": 1}}},
                {"toolUse": {"toolUseId": "tooluse_2", "name": "f", "input": {}}}]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "tooluse_1", "content": [{"json": {"a": 1}}, {"text": "b"}], "status": "success"}},
                {"toolResult": {"toolUseId": "tooluse_2", "content": [{"text": "gone"}], "status": "error"}}]}],
        "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
        "toolConfig": {"tools": [{"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": {"type": "object"}}}}],
            "toolChoice": {"any": {}}},
        "additionalModelRequestFields": {"top_k": 5}})
}

#[test]
fn a_request_says_the_same_in_chat() {
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
    let expected = json!({
        "model": "eu.anthropic.claude-v1:0", "stream": true, "stream_options": {"include_usage": true},
        "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "top_k": 5, "tool_choice": "required",
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "content": "ok", "tool_calls": [call("tooluse_1", "{\"x\":1}"), call("tooluse_2", "{}")]},
            {"role": "tool", "tool_call_id": "tooluse_1", "content": "{\"a\":1}\nb"},
            {"role": "tool", "tool_call_id": "tooluse_2", "content": "Error: gone"}]});
    let translated = translated(STREAM, &asking()).unwrap();
    assert_eq!(translated.body, expected);
    assert_eq!(translated.back.content_type(), "application/vnd.amazon.eventstream");
}

#[test]
fn what_chat_cant_say_is_refused_with_its_place() {
    let with = |key: &str, value: Value| {
        let mut body = asking();
        body[key] = value;
        body
    };
    let user = |block: Value| with("messages", json!([{"role": "user", "content": [block]}]));
    for (body, place) in [
        (
            with("guardrailConfig", json!({"guardrailIdentifier": "g"})),
            "guardrailConfig",
        ),
        (with("some_new_field", json!(0)), "some_new_field"),
        (
            with("additionalModelRequestFields", json!({"thinking": {"type": "enabled"}})),
            "additionalModelRequestFields.thinking",
        ),
        (
            with(
                "toolConfig",
                json!({"tools": [{"systemTool": {"name": "nova_grounding"}}]}),
            ),
            "toolConfig.tools[0].toolSpec",
        ),
        (
            user(json!({"document": {"name": "d"}})),
            "messages[0].content[0].document",
        ),
        (
            user(json!({"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/k"}}}})),
            "messages[0].content[0].image.source.s3Location",
        ),
        (
            with("messages", json!([{"role": "assistant", "content": [{"text": "{"}]}])),
            "messages",
        ),
    ] {
        match translated(STREAM, &body) {
            Err(Refusal::Inexpressible { at, .. }) => assert_eq!(at, place, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
}

fn call_piece(id: &str, name: &str, arguments: &str) -> Value {
    let call = json!({"index": 0, "id": id, "function": {"name": name, "arguments": arguments}});
    json!({"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null}]})
}

fn streamed(chunks: &[Value], size: usize) -> Vec<u8> {
    let translated = translated(STREAM, &asking()).unwrap();
    let mut stream = translated.back.stream().unwrap();
    let chat: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    let mut out: Vec<u8> = chat
        .as_bytes()
        .chunks(size)
        .flat_map(|piece| stream.push(piece))
        .collect();
    out.extend(stream.finish());
    out
}

#[test]
fn an_answer_comes_back_whole_and_as_messages_with_checksums() {
    let usage = json!({"prompt_tokens": 12, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}});
    let chunks = [
        json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "Let me – "}, "finish_reason": null}]}),
        json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "see."}, "finish_reason": null}]}),
        call_piece("tooluse_1", "f", "{\"x\":"),
        call_piece("", "", "2}"),
        json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "usage": usage}),
    ];
    let stream = streamed(&chunks, 1 << 20);
    assert_eq!(streamed(&chunks, 3), stream);
    let names: Vec<String> = eventstream::Messages::new(&stream)
        .map(|event| event.name.into_owned())
        .collect();
    assert_eq!(
        names,
        [
            "messageStart",
            "contentBlockDelta",
            "contentBlockDelta",
            "contentBlockStop",
            "contentBlockStart",
            "contentBlockDelta",
            "contentBlockDelta",
            "contentBlockStop",
            "messageStop",
            "metadata"
        ]
    );
    let chat = json!({"id": "c", "object": "chat.completion", "usage": usage, "choices": [{"index": 0, "finish_reason": "tool_calls",
        "message": {"role": "assistant", "content": "Let me – see.",
            "tool_calls": [{"id": "tooluse_1", "function": {"name": "f", "arguments": "{\"x\":2}"}}]}}]});
    let back = translated(STREAM, &asking()).unwrap().back;
    let whole = back.response(chat.to_string().as_bytes()).unwrap().to_string();
    for body in [whole.as_bytes(), &stream] {
        let assembled = wire::assemble(Api::BedrockConverse, None, body).unwrap();
        assert!(!assembled.partial && assembled.skipped_events == 0 && assembled.error.is_none());
        let read = wire::parse_response(Api::BedrockConverse, 200, &assembled);
        assert_eq!(read.output_text, "Let me – see.");
        assert_eq!(read.finish_reason.as_deref(), Some("tool_use"));
        assert_eq!(
            (read.usage.input, read.usage.cached, read.usage.output),
            (Some(12), Some(4), Some(7))
        );
        let call = &read.tool_calls[0];
        assert_eq!((call.name.as_str(), call.arguments.as_str()), ("f", "{\"x\":2}"));
        // The history has that id already.
        assert_ne!(call.id.as_deref(), Some("tooluse_1"));
    }
}

#[test]
fn a_stream_that_fails_ends_with_an_exception() {
    let chunks = [call_piece("a", "f", "{\"x\":")];
    let stream = streamed(&chunks, 9);
    let last = eventstream::Messages::new(&stream).last().unwrap();
    assert_eq!(last.name, "exception:internalServerException");
    let error = json!({"error": {"message": "slow down", "code": 429}});
    let stream = streamed(&[error], 9);
    let last = eventstream::Messages::new(&stream).last().unwrap();
    assert_eq!(last.name, "exception:throttlingException");
}
