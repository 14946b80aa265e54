//! Unit tests of the Gemini parser.

use proptest::prelude::*;
use serde_json::json;

use super::super::{Assembled, assemble, output_starts_at, parse_request, parse_request_at, parse_response};
use super::*;
use crate::call::Api;

mod requests;

const API: Api = Api::Gemini;

/// Server-sent events as the API sends them: data alone, CRLF.
fn events(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect()
}

/// The growing array as the API sends it: pretty-printed, the comma on a line of its own, CRLF.
fn array(chunks: &[Value]) -> String {
    let printed: Vec<String> = chunks.iter().map(|chunk| format!("{chunk:#}")).collect();
    format!("[{}\n]", printed.join("\n,\n")).replace('\n', "\r\n")
}

fn chunk(parts: Value) -> Value {
    json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0}], "modelVersion": "gemini-x",
        "responseId": "r", "usageMetadata": {"promptTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 5}})
}

fn last_chunk(parts: Value) -> Value {
    let mut last = chunk(parts);
    last["candidates"][0]["finishReason"] = "STOP".into();
    last["usageMetadata"] = json!({"promptTokenCount": 3, "candidatesTokenCount": 4, "thoughtsTokenCount": 2,
        "cachedContentTokenCount": 1, "toolUsePromptTokenCount": 10, "totalTokenCount": 19});
    last
}

fn folded(body: &str) -> Assembled {
    assemble(API, None, body.as_bytes()).unwrap()
}

fn read(status: u16, body: &str) -> Response {
    parse_response(API, status, &folded(body))
}

fn call(id: Option<&str>, name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        id: id.map(Into::into),
        name: name.into(),
        arguments: arguments.into(),
    }
}

#[test]
fn both_framings_fold_to_the_answer_that_they_stand_for() {
    let chunks = [
        chunk(json!([{"text": "hm", "thought": true}])),
        chunk(json!([{"text": "m", "thought": true, "thoughtSignature": "s1"}])),
        chunk(json!([{"text": "The answer"}, {"executableCode": {"language": "PYTHON", "code": "6*7"}}])),
        chunk(json!([{"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42"}}, {"text": " is"}])),
        chunk(json!([{"text": " 42"}, {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "s2"}])),
        chunk(json!([{"functionCall": {"id": "c", "name": "f", "args": {"x": 2}}}, {"functionCall": {"name": "g"}}])),
        last_chunk(json!([{"text": "", "thoughtSignature": "s3"}])),
    ];
    let expected = json!({
        "candidates": [{"content": {"role": "model", "parts": [
            {"text": "hmm", "thought": true, "thoughtSignature": "s1"},
            {"text": "The answer"},
            {"executableCode": {"language": "PYTHON", "code": "6*7"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42"}},
            {"text": " is 42"},
            {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "s2"},
            {"functionCall": {"id": "c", "name": "f", "args": {"x": 2}}},
            {"functionCall": {"name": "g"}},
            {"text": "", "thoughtSignature": "s3"}]}, "index": 0, "finishReason": "STOP"}],
        "modelVersion": "gemini-x", "responseId": "r", "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4,
            "thoughtsTokenCount": 2, "cachedContentTokenCount": 1, "toolUsePromptTokenCount": 10, "totalTokenCount": 19}});
    for body in [events(&chunks), array(&chunks)] {
        let assembled = folded(&body);
        let whole = Assembled {
            body: expected.clone(),
            streamed: true,
            ..Assembled::default()
        };
        assert_eq!(assembled, whole, "{body}");
        // The same answer, not streamed, reads the same.
        assert_eq!(parse_response(API, 200, &assembled), read(200, &expected.to_string()));
    }

    let response = read(200, &expected.to_string());
    assert_eq!(
        (response.output_text.as_str(), response.reasoning_text.as_str()),
        ("The answer is 42", "hmm")
    );
    assert_eq!(
        response.tool_calls,
        [
            call(None, "f", "{\"x\":1}"),
            call(Some("c"), "f", "{\"x\":2}"),
            call(None, "g", "{}")
        ]
    );
    assert_eq!(response.server_tool_calls, ["executableCode"]);
    assert_eq!(
        (response.id.as_deref(), response.model.as_deref()),
        (Some("r"), Some("gemini-x"))
    );
    let usage = Usage {
        input: Some(13),
        cached: Some(1),
        cache_write: None,
        output: Some(6),
        reasoning: Some(2),
    };
    assert_eq!((response.choices, response.usage), (1, usage));
}

#[test]
fn a_finish_reason_of_stop_says_nothing_of_calls() {
    let response = read(
        200,
        &last_chunk(json!([{"functionCall": {"name": "f", "args": {}}}])).to_string(),
    );
    assert_eq!(response.finish_reason.as_deref(), Some("STOP"));
    assert_eq!(response.tool_calls, [call(None, "f", "{}")]);
}

#[test]
fn the_model_that_answers_may_be_another_than_the_one_asked_for() {
    let path = "/v1beta/models/gemini-flash-latest:generateContent";
    let request = parse_request_at(API, path, b"{\"contents\": []}").unwrap();
    let response = read(200, &last_chunk(json!([{"text": "hi"}])).to_string());
    assert_eq!(request.model.as_deref(), Some("gemini-flash-latest"));
    assert_eq!(response.model.as_deref(), Some("gemini-x"));
}

#[test]
fn without_a_finish_reason_a_stream_is_partial() {
    let chunks = [chunk(json!([{"text": "a"}])), chunk(json!([{"text": "b"}]))];
    for (body, text, skipped) in [
        (events(&chunks), "ab", 0),
        (array(&chunks), "ab", 0),
        (events(&chunks).replace("\"b\"}]", ""), "a", 1),
        (
            array(&chunks)
                .trim_end_matches(']')
                .trim_end()
                .trim_end_matches('}')
                .to_owned(),
            "a",
            1,
        ),
        ("[\r\n".into(), "", 0),
    ] {
        let assembled = folded(&body);
        let response = parse_response(API, 200, &assembled);
        assert_eq!(
            (
                response.partial,
                response.output_text.as_str(),
                assembled.skipped_events
            ),
            (true, text, skipped)
        );
    }
}

#[test]
fn candidates_fold_apart_and_all_must_finish() {
    let two = |first: Value, second: Value| json!({"candidates": [first, second]});
    let candidate = |text: &str, index: Option<i64>| {
        let mut candidate = json!({"content": {"parts": [{"text": text}]}});
        if let Some(index) = index {
            candidate["index"] = index.into();
        }
        candidate
    };
    let finished = |mut candidate: Value| {
        candidate["finishReason"] = "STOP".into();
        candidate
    };
    let chunks = [
        two(candidate("b1", Some(1)), candidate("a1", Some(0))),
        two(finished(candidate("a2", None)), candidate("b2", None)),
    ];
    let assembled = folded(&events(&chunks));
    let texts: Vec<&Value> = list(&assembled.body, "candidates")
        .iter()
        .map(|candidate| &candidate["content"]["parts"][0]["text"])
        .collect();
    assert_eq!((texts, assembled.partial), (vec![&json!("a1a2"), &json!("b1b2")], true));
    let response = parse_response(API, 200, &assembled);
    assert_eq!((response.output_text.as_str(), response.choices), ("a1a2", 2));
    let end = json!({"candidates": [{"index": 1, "finishReason": "MAX_TOKENS"}]});
    assert!(!folded(&events(&[chunks[0].clone(), chunks[1].clone(), end])).partial);
}

#[test]
fn what_grows_beside_the_parts_is_kept_whole() {
    let with = |fields: Value| {
        let mut chunk = last_chunk(json!([{"text": "a"}]));
        let candidate = chunk["candidates"][0].as_object_mut().unwrap();
        candidate.extend(fields.as_object().unwrap().clone());
        chunk
    };
    let assembled = folded(&events(&[
        with(json!({"groundingMetadata": {"webSearchQueries": ["q"]}, "logprobsResult": {"chosenCandidates": [1]}})),
        with(
            json!({"groundingMetadata": {"groundingChunks": [1]}, "logprobsResult": {"chosenCandidates": [2], "x": 1}}),
        ),
        with(json!({"groundingMetadata": {}, "citationMetadata": {"citations": [{"uri": "u"}]}, "avgLogprobs": -1})),
    ]));
    let candidate = &assembled.body["candidates"][0];
    assert_eq!(
        candidate["groundingMetadata"],
        json!({"webSearchQueries": ["q"], "groundingChunks": [1]})
    );
    assert_eq!(candidate["logprobsResult"], json!({"chosenCandidates": [1, 2], "x": 1}));
    assert_eq!(
        (
            &candidate["citationMetadata"]["citations"][0]["uri"],
            &candidate["avgLogprobs"]
        ),
        (&json!("u"), &json!(-1))
    );
}

#[test]
fn two_signatures_keep_two_texts_apart() {
    let assembled = folded(&events(&[
        chunk(json!([{"text": "a", "thoughtSignature": "s1"}])),
        chunk(json!([{"text": "b"}])),
        last_chunk(json!([{"text": "c", "thoughtSignature": "s2"}])),
    ]));
    let expected = json!([{"text": "ab", "thoughtSignature": "s1"}, {"text": "c", "thoughtSignature": "s2"}]);
    assert_eq!(assembled.body["candidates"][0]["content"]["parts"], expected);
    assert_eq!(parse_response(API, 200, &assembled).output_text, "abc");
}

#[test]
fn arguments_that_come_in_pieces_become_one_call() {
    let piece = |path: &str, text: &str, more: bool| {
        json!([{"functionCall": {"willContinue": true,
            "partialArgs": [{"jsonPath": path, "stringValue": text, "willContinue": more}]}}])
    };
    let chunks = [
        chunk(json!([{"functionCall": {"name": "f", "willContinue": true}, "thoughtSignature": "s"}])),
        chunk(piece("$.city", "New ", true)),
        chunk(piece("$.city", "Delhi", false)),
        chunk(json!([{"functionCall": {}}])),
        chunk(json!([{"functionCall": {"name": "g", "willContinue": true}}])),
        chunk(piece("$.x", "cut", true)),
    ];
    let assembled = folded(&events(&chunks));
    let expected = json!([
        {"thoughtSignature": "s", "functionCall": {"name": "f", "args": {"city": "New Delhi"}}},
        {"functionCall": {"name": "g", "args": {"x": "cut"}}}]);
    assert_eq!(assembled.body["candidates"][0]["content"]["parts"], expected);
    let calls = parse_response(API, 200, &assembled).tool_calls;
    assert_eq!(
        calls,
        [
            call(None, "f", "{\"city\":\"New Delhi\"}"),
            call(None, "g", "{\"x\":\"cut\"}")
        ]
    );
}

#[test]
fn a_blocked_prompt_is_a_finish_of_its_own() {
    let blocked = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 7},
        "modelVersion": "gemini-x"});
    for body in [
        blocked.to_string(),
        events(std::slice::from_ref(&blocked)),
        array(std::slice::from_ref(&blocked)),
    ] {
        let response = read(200, &body);
        assert_eq!(response.finish_reason.as_deref(), Some("blocked:PROHIBITED_CONTENT"));
        assert_eq!(
            (response.choices, response.partial, response.usage.input),
            (0, false, Some(7))
        );
        assert_eq!(response.usage.output, None);
    }
    // A feedback that blocks nothing says nothing of the end.
    assert!(folded(&events(&[json!({"promptFeedback": {"safetyRatings": []}})])).partial);
}

#[test]
fn errors_are_found_in_every_form() {
    let error = json!({"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"});
    let body = json!({"error": error});
    for whole in [
        body.to_string(),
        array(std::slice::from_ref(&body)),
        format!("[{body}\n]"),
    ] {
        let response = read(429, &whole);
        assert_eq!(
            (response.error.as_ref(), response.partial, response.choices),
            (Some(&error), false, 0),
            "{whole}"
        );
        // What is kept of it reads the same.
        assert_eq!(read(429, &folded(&whole).body.to_string()).error, Some(error.clone()));
    }
    let after_output = [chunk(json!([{"text": "a"}])), body];
    for stream in [events(&after_output), array(&after_output)] {
        let response = read(200, &stream);
        assert_eq!(
            (response.error.as_ref(), response.partial, response.output_text.as_str()),
            (Some(&error), true, "a")
        );
    }
    for stream in ["event: error\ndata: {\"code\":1}\n\n", "event: error\ndata: oops\n\n"] {
        assert!(read(200, stream).error.is_some());
    }
}

#[test]
fn chunks_that_count_no_tokens_do_not_hide_those_that_do() {
    let mut traffic = chunk(json!([{"text": "a"}]));
    traffic["usageMetadata"] = json!({"trafficType": "ON_DEMAND"});
    let usage = |chunks: &[Value]| read(200, &events(chunks)).usage;
    let last = last_chunk(json!([{"text": "b"}]));
    assert_eq!(usage(&[traffic.clone(), last.clone()]).input, Some(13));
    assert_eq!(usage(&[last, traffic.clone()]).input, Some(13));
    assert_eq!(usage(&[traffic]), Usage::default());
}

#[test]
fn counts_and_vectors_have_usage_and_no_choices() {
    for (body, input, cached) in [
        (
            json!({"totalTokens": 31, "cachedContentTokenCount": 4}),
            Some(31),
            Some(4),
        ),
        (
            json!({"embedding": {"values": [0.5]}, "usageMetadata": {"promptTokenCount": 11}}),
            Some(11),
            None,
        ),
        (json!({"embeddings": [{"values": [0.5]}]}), None, None),
        (
            json!({"predictions": [{"embeddings": {"statistics": {"token_count": 4.0}}}, {"embeddings": {"statistics": {"token_count": 5}}}]}),
            Some(9),
            None,
        ),
    ] {
        let response = read(200, &body.to_string());
        assert_eq!(
            (response.usage.input, response.usage.cached, response.usage.output),
            (input, cached, None),
            "{body}"
        );
        assert_eq!((response.choices, response.is_empty()), (0, true));
    }
}

#[test]
fn output_starts_with_text_thoughts_or_a_call() {
    let before = events(&[json!({"usageMetadata": {}}), chunk(json!([{"text": ""}]))]);
    for part in [
        json!({"text": "x"}),
        json!({"text": "x", "thought": true}),
        json!({"functionCall": {"name": "f"}}),
        json!({"inlineData": {"data": "AA=="}}),
    ] {
        let body = before.clone() + &events(&[chunk(json!([part]))]);
        let more = body.clone() + &events(&[last_chunk(json!([]))]);
        assert_eq!(output_starts_at(API, None, more.as_bytes()), Some(body.len()));
    }
    assert_eq!(output_starts_at(API, None, before.as_bytes()), None);
    let body = array(&[chunk(json!([{"text": ""}])), chunk(json!([{"text": "x"}]))]);
    assert_eq!(
        output_starts_at(API, None, body.as_bytes()),
        Some(body.len() - "\r\n]".len())
    );
}

proptest! {
    /// Text of three kinds, cut anywhere and framed either way, adds up to what was said.
    #[test]
    fn text_cut_anywhere_adds_up(
        said in prop::collection::vec(("[a-c é\"\\\\\\[\\]{},]{0,6}", 0u8..3), 0..12),
        as_array in any::<bool>(),
    ) {
        let mut chunks: Vec<Value> = said
            .iter()
            .map(|(text, kind)| match kind {
                0 => chunk(json!([{"text": text, "thought": true}])),
                1 => chunk(json!([{"text": text, "thoughtSignature": "s"}])),
                _ => chunk(json!([{"text": text}])),
            })
            .collect();
        chunks.push(last_chunk(json!([])));
        let response = read(200, &if as_array { array(&chunks) } else { events(&chunks) });
        let of = |is_thought: bool| -> String {
            said.iter().filter(|(_, kind)| (*kind == 0) == is_thought).map(|(text, _)| text.as_str()).collect()
        };
        prop_assert_eq!(response.output_text, of(false));
        prop_assert_eq!(response.reasoning_text, of(true));
        prop_assert!(!response.partial);
    }
}
