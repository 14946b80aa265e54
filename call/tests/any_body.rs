//! No body of any shape makes a parser panic, and a folded stream reads the same as the answer that it stands for.
//!
//! Streams as the APIs send them are taken apart: events lost, repeated and out of order, values replaced by others.

use proptest::prelude::*;
use serde_json::{Value, json};
use understudy_call::call::Api;
use understudy_call::wire;

/// APIs whose streams are of JSON, with the content types of their framings.
const FRAMINGS: [(Api, &str); 6] = [
    (Api::AnthropicMessages, "text/event-stream"),
    (Api::Gemini, "text/event-stream"),
    (Api::Gemini, "application/json"),
    (Api::Ollama, "application/x-ndjson"),
    (Api::CohereChat, "text/event-stream"),
    (Api::CohereChat, "application/stream+json"),
];

/// Events of each API, with every field that its fold looks at.
fn events(api: Api) -> Vec<Value> {
    let events = match api {
        Api::AnthropicMessages => json!([
            {"type": "message_start", "message": {"id": "m", "model": "c", "content": [], "usage": {"input_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
            {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "", "citations": null}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "42"}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {"url": "u"}}},
            {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
            {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{\"x\":1}"}},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
            {"type": "message_stop"},
            {"type": "error", "error": {"type": "overloaded_error"}},
            {"type": "completion", "completion": " 42", "stop_reason": null, "id": "c"}]),
        Api::Gemini => json!([
            {"candidates": [{"content": {"parts": [{"text": "hm", "thought": true, "thoughtSignature": "s"}]}, "index": 0}]},
            {"candidates": [{"content": {"parts": [{"text": "42"}, {"executableCode": {"code": "1"}}], "role": "model"}}]},
            {"candidates": [{"content": {"parts": [{"functionCall": {"id": "c", "name": "f", "args": {"x": 1}}}]}}, {"index": 1}]},
            {"candidates": [{"content": {"parts": [{"functionCall": {"name": "g", "willContinue": true}}]}, "index": 0}]},
            {"candidates": [{"content": {"parts": [{"functionCall": {"willContinue": true, "partialArgs":
                [{"jsonPath": "$.a[0]['b']", "stringValue": "c", "willContinue": true}]}}]}, "index": 0}]},
            {"candidates": [{"groundingMetadata": {"a": 1}, "logprobsResult": {"chosenCandidates": [1]}, "finishReason": "STOP"}],
                "modelVersion": "g", "responseId": "r", "usageMetadata": {"promptTokenCount": 1, "thoughtsTokenCount": 2}},
            {"promptFeedback": {"blockReason": "OTHER"}},
            {"error": {"code": 500}}]),
        Api::Ollama => json!([
            {"model": "m", "message": {"role": "assistant", "content": "4", "thinking": "hm"}, "done": false},
            {"model": "m", "message": {"content": "2", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {}}}]}},
            {"model": "m", "response": "42", "thinking": "hm", "done": false},
            {"model": "m", "message": {"content": ""}, "done": true, "done_reason": "stop", "prompt_eval_count": 1, "eval_count": 2},
            {"error": "broken"}]),
        _ => json!([
            {"type": "message-start", "id": "a", "delta": {"message": {"role": "assistant", "content": [], "tool_plan": ""}}},
            {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will"}}},
            {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "42"}}}, "logprobs": {"a": 1}},
            {"type": "citation-start", "index": 0, "delta": {"message": {"citations": {"start": 0}}}},
            {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls":
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}}}},
            {"type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls": {"function": {"arguments": "{}"}}}}},
            {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {"tokens": {"input_tokens": 1}}, "error": "e"}},
            {"event_type": "text-generation", "text": "42", "is_finished": false},
            {"event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0, "name": "f", "parameters": "{}"}},
            {"event_type": "tool-calls-generation", "text": "p", "tool_calls": [{"name": "f", "parameters": {"x": 1}}]},
            {"event_type": "stream-end", "is_finished": true, "finish_reason": "COMPLETE",
                "response": {"text": "42", "generations": [{"text": "42"}], "meta": {"billed_units": {"input_tokens": 1}}}},
            {"message": "broken"}]),
    };
    serde_json::from_value(events).expect("a list")
}

/// A request of each API, with every field that its reader looks at.
fn request(api: Api) -> Value {
    match api {
        Api::AnthropicMessages => json!({"system": [{"type": "text", "text": "s"}], "messages": [
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}]}],
            "tools": [{"name": "f", "input_schema": {}}], "prompt": "p", "output_config": {"format": {"schema": {}}}}),
        Api::Gemini => {
            json!({"systemInstruction": {"parts": [{"text": "s"}]}, "contents": [{"role": "model", "parts": [
            {"text": "a"}, {"functionCall": {"name": "f", "args": {}}}, {"inlineData": {}}]},
            {"parts": [{"functionResponse": {"name": "f", "response": {"x": 1}, "parts": [{"fileData": {}}]}}]}],
            "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "nullable": true, "enum": ["a"],
                "minItems": "1", "properties": {"x": {"anyOf": [{"type": "STRING"}], "items": {"type": "ARRAY"}}}}}]}],
            "generationConfig": {"responseMimeType": "application/json", "responseSchema": {"type": "STRING"}},
            "requests": [{"content": {"parts": [{"text": "a"}]}}], "instances": [{"content": "a", "image": {}}]})
        }
        Api::Ollama => {
            json!({"system": "s", "prompt": "p", "images": ["a"], "input": ["a"], "messages": [{"role": "tool",
            "content": "a", "images": ["b"], "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}],
            "tools": [{"function": {"name": "f", "parameters": {}}}], "format": {"type": "object"}, "options": {"num_predict": 1}})
        }
        _ => {
            json!({"messages": [{"role": "tool", "tool_call_id": "c", "content": [{"type": "document", "document": {"data": "a"}}],
            "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}], "preamble": "s", "message": "a", "texts": ["a"],
            "chat_history": [{"role": "TOOL", "message": "a", "tool_results": [{"outputs": [{"x": 1}]}]}], "documents": ["a"],
            "inputs": [{"content": [{"type": "text", "text": "a"}]}], "response_format": {"type": "json_object", "schema": {}},
            "tools": [{"name": "f", "parameter_definitions": {"x": {"type": "int", "required": true}}}]})
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "",
        "{",
        "text",
        "error",
        "$.a",
        "$.a[0].b",
        "STOP",
        "message_stop",
        "7",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Of few digits: a parser may round the others.
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, move |inner| {
        let object = prop::collection::vec((word.clone(), inner.clone()), 0..4);
        let object = object.prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(Value::Object)
        ]
    })
}

/// Puts `new` in place of the value that comes `nth` when counting all of them, parents first.
fn replace(value: &mut Value, nth: &mut usize, new: &Value) {
    if *nth == 0 {
        *value = new.clone();
    }
    let Some(left) = nth.checked_sub(1) else {
        *nth = usize::MAX;
        return;
    };
    *nth = left;
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, nth, new)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, nth, new)),
        _ => {}
    }
}

fn framed(content_type: &str, values: &[Value]) -> String {
    match content_type {
        "text/event-stream" => values.iter().map(|value| format!("data: {value}\r\n\r\n")).collect(),
        "application/json" => format!("{:#}", Value::from(values.to_vec())),
        _ => values.iter().map(|value| format!("{value}\n")).collect(),
    }
}

fn check_response(api: Api, content_type: &str, status: u16, body: &[u8]) -> Result<(), TestCaseError> {
    let starts_at = wire::output_starts_at(api, Some(content_type), body);
    prop_assert!(starts_at.is_none_or(|offset| offset <= body.len()));
    let Ok(assembled) = wire::assemble(api, Some(content_type), body) else {
        return Ok(());
    };
    let streamed = wire::parse_response(api, status, &assembled);
    if assembled.streamed {
        // As the collector reads it again, later.
        let kept = assembled.body.to_string();
        let again = wire::assemble(api, None, kept.as_bytes()).expect("an assembled body is JSON");
        prop_assert!(!again.streamed, "{}", kept);
        let mut again = wire::parse_response(api, status, &again);
        again.error = streamed.error.clone();
        again.partial = streamed.partial;
        prop_assert_eq!(streamed, again);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streams_taken_apart_are_read_and_read_again(
        (api, content_type) in prop::sample::select(FRAMINGS.to_vec()),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..16),
        changes in prop::collection::vec((0usize..120, value()), 0..6),
        status in prop::sample::select(vec![0, 200, 500]),
        cut in any::<prop::sample::Index>(),
    ) {
        let events = events(api);
        let mut stream = Value::Array(order.iter().map(|index| index.get(&events).clone()).collect());
        let mut asked = request(api);
        for (nth, new) in &changes {
            replace(&mut stream, &mut (nth + 1), new);
            replace(&mut asked, &mut (nth + 1), new);
        }
        prop_assert!(wire::parse_request(api, asked.to_string().as_bytes()).is_ok());
        let body = framed(content_type, stream.as_array().expect("a list"));
        let cut = cut.index(body.len() + 1);
        check_response(api, content_type, status, body.as_bytes())?;
        check_response(api, content_type, status, &body.as_bytes()[..cut])?;
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(
        (api, content_type) in prop::sample::select(FRAMINGS.to_vec()),
        begin in prop::sample::select(vec!["", "[", "{", "data:"]),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let body = [begin.as_bytes(), &body].concat();
        let _ = wire::parse_request(api, &body);
        check_response(api, content_type, 200, &body)?;
    }
}
