//! Unit tests of Bedrock InvokeModel: a call of each maker.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::super::eventstream::{event_message, message};
use super::super::{Assembled, assemble, output_starts_at, parse_request_at, parse_response};
use super::*;
use crate::call::{Api, Operation, Request, Role};

const API: Api = Api::BedrockInvoke;
const PATH: &str = "/model/vendor.model-v1%3A0/invoke";

fn chunk(inner: &Value) -> Vec<u8> {
    let bytes = STANDARD.encode(inner.to_string());
    event_message("chunk", &json!({"bytes": bytes, "p": "abcdef"}))
}

fn folded(chunks: &[Value]) -> Assembled {
    let body: Vec<u8> = chunks.iter().flat_map(chunk).collect();
    assemble(API, Some("application/vnd.amazon.eventstream"), &body).unwrap()
}

fn answer(chunks: &[Value]) -> Response {
    parse_response(API, 200, &folded(chunks))
}

fn read(body: &Value) -> Request {
    parse_request_at(API, PATH, body.to_string().as_bytes()).unwrap()
}

fn metrics(input: i64, output: i64) -> Value {
    json!({"inputTokenCount": input, "outputTokenCount": output, "invocationLatency": 9, "firstByteLatency": 3})
}

fn tokens(response: &Response) -> (Option<i64>, Option<i64>) {
    (response.usage.input, response.usage.output)
}

#[test]
fn answers_of_every_maker_are_read() {
    let titan = json!({"inputTextTokenCount": 9, "results": [{"tokenCount": 17, "outputText": "hi", "completionReason": "FINISH"}]});
    let llama =
        json!({"generation": "hi", "prompt_token_count": 9, "generation_token_count": 17, "stop_reason": "stop"});
    let mistral = json!({"outputs": [{"text": "hi", "stop_reason": "stop"}]});
    let jurassic = json!({"id": 7, "prompt": {"text": "x"}, "completions": [{"data": {"text": "hi"}, "finishReason": {"reason": "endoftext"}}]});
    let command =
        json!({"generations": [{"id": "g", "text": "hi", "finish_reason": "COMPLETE"}], "id": "i", "prompt": "x"});
    let command_r = json!({"response_id": "r", "text": "hi", "generation_id": "g", "chat_history": [], "finish_reason": "COMPLETE"});
    let jamba = json!({"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 17, "total_tokens": 26}});
    let mistral_large =
        json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "stop_reason": "stop"}]});
    let deepseek = json!({"choices": [{"text": "hi", "stop_reason": "stop"}]});
    let anthropic = json!({"type": "message", "model": "claude", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 4, "cache_read_input_tokens": 5, "output_tokens": 17}});
    let legacy = json!({"completion": "hi", "stop_reason": "stop_sequence", "stop": "\n\nHuman:"});
    let nova = json!({"output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}}, "stopReason": "end_turn",
        "usage": {"inputTokens": 9, "outputTokens": 17, "totalTokens": 26}});
    let counted = (Some(9), Some(17));
    for (body, finish, usage) in [
        (titan, "FINISH", counted),
        (llama, "stop", counted),
        (mistral, "stop", (None, None)),
        (jurassic, "endoftext", (None, None)),
        (command, "COMPLETE", (None, None)),
        (command_r, "COMPLETE", (None, None)),
        (jamba, "stop", counted),
        (mistral_large, "stop", (None, None)),
        (deepseek, "stop", (None, None)),
        (anthropic, "end_turn", counted),
        (legacy, "stop_sequence", (None, None)),
        (nova, "end_turn", counted),
    ] {
        let assembled = assemble(API, Some("application/json"), body.to_string().as_bytes()).unwrap();
        let response = parse_response(API, 200, &assembled);
        assert_eq!((response.output_text.as_str(), response.choices), ("hi", 1), "{body}");
        assert_eq!(response.finish_reason.as_deref(), Some(finish), "{body}");
        assert_eq!(tokens(&response), usage, "{body}");
    }
}

#[test]
fn streams_of_every_maker_fold_to_the_whole_answer() {
    let bedrock = "amazon-bedrock-invocationMetrics";
    let titan = [
        json!({"outputText": "so ", "index": 0, "inputTextTokenCount": 9}),
        json!({"outputText": "far", "index": 0.0, "totalOutputTextTokenCount": 17, "completionReason": "length", bedrock: metrics(9, 17)}),
    ];
    let llama = [
        json!({"generation": "so ", "prompt_token_count": 9, "generation_token_count": 1, "stop_reason": null}),
        json!({"generation": "far", "prompt_token_count": null, "generation_token_count": 17, "stop_reason": "length"}),
    ];
    let mistral = [
        json!({"outputs": [{"text": "so ", "stop_reason": null}]}),
        json!({"outputs": [{"text": "far", "stop_reason": "length"}], bedrock: metrics(9, 17)}),
    ];
    let mistral_large = [
        json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "so "}, "stop_reason": null}]}),
        json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "far"}, "stop_reason": "length"}], bedrock: metrics(9, 17)}),
    ];
    let command = [
        json!({"text": "so ", "is_finished": false, "index": 0}),
        json!({"text": "far", "is_finished": false, "index": 0}),
        json!({"finish_reason": "length", "is_finished": true, bedrock: metrics(9, 17)}),
    ];
    let command_r = [
        json!({"event_type": "text-generation", "text": "so ", "is_finished": false}),
        json!({"event_type": "text-generation", "text": "far", "is_finished": false}),
        json!({"event_type": "stream-end", "finish_reason": "length", "is_finished": true,
            "response": {"response_id": "r", "text": "so far", "generation_id": "g"}, bedrock: metrics(9, 17)}),
    ];
    let deepseek = [
        json!({"choices": [{"index": 0, "text": "so ", "stop_reason": null}]}),
        json!({"choices": [{"index": 0, "text": "far", "stop_reason": "length"}], bedrock: metrics(9, 17)}),
    ];
    let gpt_oss = [
        json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "so "}, "finish_reason": null}]}),
        json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "far"}, "finish_reason": "length"}], bedrock: metrics(9, 17)}),
    ];
    let anthropic = [
        json!({"type": "message_start", "message": {"model": "claude", "content": [], "usage": {"input_tokens": 9, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "so far"}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "length"}, "usage": {"output_tokens": 17}}),
        json!({"type": "message_stop", bedrock: metrics(1, 1)}),
    ];
    let legacy = [
        json!({"completion": "so ", "stop_reason": null, "stop": null}),
        json!({"completion": "far", "stop_reason": "length", "stop": null, bedrock: metrics(9, 17)}),
    ];
    let nova = [
        json!({"messageStart": {"role": "assistant"}}),
        json!({"contentBlockDelta": {"delta": {"text": "so "}, "contentBlockIndex": 0}}),
        json!({"contentBlockStop": {"contentBlockIndex": 0}}),
        json!({"contentBlockDelta": {"delta": {"text": "far"}, "contentBlockIndex": 1}}),
        json!({"messageStop": {"stopReason": "length"}}),
        json!({"metadata": {"usage": {"inputTokens": 9, "outputTokens": 17}}, bedrock: metrics(9, 17)}),
    ];
    let streams: [&[Value]; 11] = [
        &titan,
        &llama,
        &mistral,
        &mistral_large,
        &command,
        &command_r,
        &deepseek,
        &gpt_oss,
        &anthropic,
        &legacy,
        &nova,
    ];
    for chunks in streams {
        let assembled = folded(chunks);
        assert_eq!((assembled.partial, assembled.skipped_events), (false, 0), "{chunks:?}");
        let response = parse_response(API, 200, &assembled);
        assert_eq!(response.output_text, "so far", "{chunks:?}");
        assert_eq!(response.finish_reason.as_deref(), Some("length"), "{chunks:?}");
        assert_eq!(tokens(&response), (Some(9), Some(17)), "{chunks:?}");
        // What is kept reads the same again.
        let kept = assemble(API, None, assembled.body.to_string().as_bytes()).unwrap();
        assert_eq!(parse_response(API, 200, &kept), response);
        let cut = folded(&chunks[..1]);
        assert!(cut.partial, "{chunks:?}");
        let mut body = Vec::new();
        let first = chunks.iter().position(|inner| {
            let is_first = output_starts_at(API, None, &chunk(inner)).is_some();
            body.extend(chunk(inner));
            is_first
        });
        assert!(first.is_some(), "{chunks:?}");
        assert_eq!(output_starts_at(API, None, &body), Some(body.len()));
    }
}

#[test]
fn tool_calls_of_the_makers_are_read() {
    let anthropic = answer(&[
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "a", "name": "f", "input": {}}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ""}}),
        json!({"type": "message_stop"}),
    ]);
    let nova = answer(&[
        json!({"contentBlockStart": {"start": {"toolUse": {"toolUseId": "a", "name": "f"}}, "contentBlockIndex": 0}}),
        json!({"contentBlockDelta": {"delta": {"toolUse": {"input": "{}"}}, "contentBlockIndex": 0}}),
        json!({"messageStop": {"stopReason": "tool_use"}}),
    ]);
    let chat = answer(&[
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]}, "finish_reason": "tool_calls"}]}),
    ]);
    for response in [anthropic, nova, chat] {
        let [call] = response.tool_calls.as_slice() else {
            panic!("{response:?}")
        };
        assert_eq!(
            (call.id.as_deref(), call.name.as_str(), call.arguments.as_str()),
            (Some("a"), "f", "{}")
        );
        assert!(!response.partial);
    }
}

#[test]
fn words_of_a_guardrail_in_titans_place_are_no_tokens_of_the_model() {
    let blocked = folded(&[
        json!({"outputText": "Blocked", "index": 0.0, "totalOutputTextTokenCount": 3.0,
        "inputTextTokenCount": 6.0, "amazon-bedrock-guardrailAction": "INTERVENED"}),
    ]);
    assert!(!blocked.partial);
    assert_eq!(blocked.body["amazon-bedrock-guardrailAction"], "INTERVENED");
    let response = parse_response(API, 200, &blocked);
    assert_eq!(
        (response.output_text.as_str(), tokens(&response)),
        ("Blocked", (None, None))
    );
}

#[test]
fn vectors_have_no_output_and_titan_counts_their_input() {
    let titan = json!({"embedding": [0.1], "embeddingsByType": {"float": [0.1]}, "inputTextTokenCount": 5});
    let cohere =
        json!({"embeddings": {"float": [[0.1]]}, "id": "i", "response_type": "embeddings_by_type", "texts": ["a"]});
    for (body, input) in [
        (titan, Some(5)),
        (cohere, None),
        (json!({"embeddings": [[0.1]], "texts": ["a"]}), None),
    ] {
        let response = response(&body);
        assert_eq!(tokens(&response), (input, Some(0)), "{body}");
        assert_eq!((response.output_text.as_str(), response.choices), ("", 0));
    }
}

#[test]
fn headers_tell_what_the_answer_does_not() {
    let headers = |told: &'static [(&str, &str)]| {
        usage_in_headers(|name| told.iter().find(|(key, _)| *key == name).map(|(_, value)| *value))
    };
    let cached = headers(&[
        ("x-amzn-bedrock-input-token-count", "4"),
        ("x-amzn-bedrock-output-token-count", "2"),
        ("x-amzn-bedrock-cache-read-input-token-count", "10"),
        ("x-amzn-bedrock-cache-write-input-token-count", "0"),
    ]);
    assert_eq!(
        (cached.input, cached.cached, cached.cache_write, cached.output),
        (Some(14), Some(10), None, Some(2))
    );
    assert_eq!(
        headers(&[("x-amzn-bedrock-input-token-count", "many")]),
        Usage::default()
    );
    let embedding = Usage {
        output: Some(0),
        ..Usage::default()
    };
    let whole = embedding.or(headers(&[("x-amzn-bedrock-input-token-count", "4")]));
    assert_eq!((whole.input, whole.output), (Some(4), Some(0)));
    let known = Usage {
        input: Some(1),
        ..Usage::default()
    };
    assert_eq!(
        known.or(cached).cached,
        None,
        "one count's cache is no part of another's input"
    );
}

#[test]
fn exceptions_and_odd_chunks_are_told() {
    let headers = [
        (":message-type", "exception"),
        (":exception-type", "modelTimeoutException"),
    ];
    let body = [
        chunk(&json!({"outputText": "so far", "index": 0})),
        event_message("chunk", &json!({"bytes": "!"})),
        event_message("chunk", &json!({})),
        chunk(&json!([1])),
        message(&headers, b"{\"message\":\"too slow\"}"),
    ]
    .concat();
    let assembled = assemble(API, None, &body).unwrap();
    assert_eq!((assembled.skipped_events, assembled.partial), (3, true));
    assert_eq!(
        assembled.error,
        Some(json!({"message": "too slow", "type": "modelTimeoutException"}))
    );
    assert_eq!(parse_response(API, 200, &assembled).output_text, "so far");
    // An unknown maker's chunks are kept, and said to be nothing known.
    let unknown = folded(&[json!({"a": 1}), json!({"b": 2})]);
    assert_eq!(unknown.body, json!({"a": 1, "b": 2}));
}

#[test]
fn requests_of_every_maker_are_read() {
    use Operation::{Chat, Complete, Embed};
    let said = json!([{"role": "user", "content": "hi"}]);
    let parts = json!([{"role": "user", "content": [{"text": "hi"}]}]);
    for (body, operation, max_tokens) in [
        (
            json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5, "messages": said}),
            Chat,
            Some(5),
        ),
        (json!({"prompt": "hi", "max_tokens_to_sample": 5}), Complete, Some(5)),
        (
            json!({"schemaVersion": "messages-v1", "messages": parts, "inferenceConfig": {"max_new_tokens": 5}}),
            Chat,
            Some(5),
        ),
        (
            json!({"messages": parts, "inferenceConfig": {"maxTokens": 5}}),
            Chat,
            Some(5),
        ),
        (json!({"messages": parts}), Chat, None),
        (json!({"messages": said, "max_completion_tokens": 5}), Chat, Some(5)),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "max_tokens": 5}),
            Chat,
            Some(5),
        ),
        (
            json!({"inputText": "hi", "textGenerationConfig": {"maxTokenCount": 5}}),
            Complete,
            Some(5),
        ),
        (
            json!({"inputText": "hi", "normalize": true, "dimensions": 256}),
            Embed,
            None,
        ),
        (json!({"texts": ["hi"], "input_type": "search_query"}), Embed, None),
        (
            json!({"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": {"text": {"value": "hi"}}}),
            Embed,
            None,
        ),
        (json!({"prompt": "hi", "max_gen_len": 5}), Complete, Some(5)),
        (json!({"prompt": "hi", "max_tokens": 5}), Complete, Some(5)),
        (json!({"prompt": "hi", "maxTokens": 5}), Complete, Some(5)),
        (
            json!({"message": "hi", "chat_history": [], "max_tokens": 5}),
            Chat,
            Some(5),
        ),
    ] {
        let request = read(&body);
        assert_eq!(
            request.messages,
            [crate::call::Message::text(Role::User, "hi")],
            "{body}"
        );
        assert_eq!(
            (request.operation, request.max_tokens),
            (operation, max_tokens),
            "{body}"
        );
        assert_eq!(request.model.as_deref(), Some("vendor.model-v1:0"));
        assert!(!request.stream);
    }
    let by_name = parse_request_at(
        API,
        "/model/amazon.titan-embed-text-v1/invoke",
        b"{\"inputText\":\"hi\"}",
    )
    .unwrap();
    assert_eq!(by_name.operation, Embed);
    let image = read(&json!({"inputImage": "AAAA"}));
    assert_eq!((image.operation, image.messages[0].media_parts), (Embed, 1));
    assert!(read(&json!({})).messages.is_empty());
    let tools = read(
        &json!({"messages": parts, "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}]}}),
    );
    assert_eq!(tools.tools[0].name, "f");
}
