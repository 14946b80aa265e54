//! Properties of every translation.

use proptest::prelude::*;
use serde_json::json;

use super::chat::tests::any_chunk;
use super::*;

/// A small request that asks for a stream.
fn asked(api: Api) -> Translated {
    let body = match api {
        Api::AnthropicMessages => {
            json!({"model": "m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]})
        }
        _ => json!({"model": "m", "store": false, "stream": true, "input": "hi"}),
    };
    request(api, "/", body.to_string().as_bytes()).unwrap()
}

fn written(translated: &Translated, chat: &[u8], size: usize) -> Vec<u8> {
    let mut stream = translated.back.stream().unwrap();
    let mut out: Vec<u8> = chat.chunks(size).flat_map(|piece| stream.push(piece)).collect();
    out.extend(stream.finish());
    assert!(stream.finish().is_empty());
    out
}

/// Requests of the keys and words that the translations know, with values of any kind.
fn any_request() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "x",
            "user",
            "assistant",
            "system",
            "text",
            "message",
            "tool_use",
            "tool_result",
            "image",
            "base64",
            "function",
            "function_call",
            "function_call_output",
            "input_text",
            "output_text",
            "input_image",
            "json_schema",
            "auto",
            "tool",
            "allowed_tools",
            "reasoning",
            "thinking",
        ])
        .prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "type",
        "role",
        "content",
        "text",
        "messages",
        "input",
        "system",
        "instructions",
        "tools",
        "tool_choice",
        "name",
        "id",
        "call_id",
        "tool_use_id",
        "arguments",
        "output",
        "source",
        "data",
        "media_type",
        "url",
        "image_url",
        "format",
        "schema",
        "output_config",
        "thinking",
        "metadata",
        "user_id",
        "is_error",
        "mode",
        "include",
    ]);
    let value = leaf.prop_recursive(6, 80, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys.clone(), inner, 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(key, value)| (key.into(), value)).collect())),
        ]
    });
    value.prop_map(|mut value| {
        if let Value::Object(fields) = &mut value {
            fields.insert("store".into(), false.into());
        }
        value
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_chat_stream_in_any_pieces_gives_one_stream_that_is_whole_or_failed(
        chunks in prop::collection::vec(any_chunk(), 1..6),
        size in 1usize..40,
    ) {
        let chat: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        for api in [Api::AnthropicMessages, Api::OpenaiResponses] {
            let translated = asked(api);
            let whole = written(&translated, chat.as_bytes(), chat.len());
            prop_assert_eq!(written(&translated, chat.as_bytes(), size), whole.clone());
            let assembled = wire::assemble(api, Some("text/event-stream"), &whole).unwrap();
            let read = wire::parse_response(api, 200, &assembled);
            prop_assert_eq!(assembled.skipped_events, 0);
            let is_whole = read.finish_reason.as_deref().is_some_and(|word| word != "failed");
            prop_assert!(is_whole != read.error.is_some(), "{:?}", read);
        }
    }

    #[test]
    fn no_request_makes_a_translation_panic(body in any_request(), chat in any_chunk()) {
        for api in [Api::AnthropicMessages, Api::OpenaiResponses] {
            if let Ok(translated) = request(api, "/", body.to_string().as_bytes()) {
                prop_assert!(translated.body["messages"].is_array());
                let _ = translated.back.response(chat.to_string().as_bytes());
            }
        }
    }
}
