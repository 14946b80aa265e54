//! Secrets that a stream tells in pieces, so that none stands whole in an event: of every API, and in its odd forms.

use super::{assert_nowhere, shapes};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use understudy_call::call::Api;
use understudy_call::record::CallRecord;
use understudy_call::translate::SPOKEN;
use understudy_tests::agents::Agent;
use understudy_tests::fixtures::{CHAT, MESSAGES};
use understudy_tests::http::Request;
use understudy_tests::program::Home;
use understudy_tests::strict::{TOOL, pieces, say, stream_of};
use understudy_tests::upstream::{Seen, Step, Upstream};
use understudy_tests::{Dice, contains};

/// Secrets of this seed, with what each is.
fn secrets(seed: u64) -> Vec<(String, String)> {
    let shapes = shapes(&mut Dice::new(seed)).into_iter();
    shapes.map(|secret| ("a key in pieces".to_owned(), secret)).collect()
}

/// The answers that a fake upstream streams to requests with a secret in `x-secret`, and that secret.
fn telling(answer: impl Fn(&Seen, &str) -> Vec<Step> + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |seen| answer(seen, seen.head.header("x-secret").expect("a secret")))
}

#[test]
fn a_secret_that_a_stream_of_any_api_tells_in_pieces_is_not_kept() {
    let secrets = secrets(17);
    let upstream = telling(|seen, secret| {
        let mut steps = say(
            seen,
            &format!("It is {secret}."),
            Some(json!({"q": secret, "n": [secret]})),
        );
        if seen.head.header("x-cut").is_some() {
            // Without the events at the end, in which some APIs repeat all of it.
            steps.truncate(steps.len() - 4);
            steps.push(Step::Close);
        }
        steps
    });
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let agents = SPOKEN.map(|api| (api, "")).into_iter().chain([(Api::Gemini, "array")]);
    let agents: Vec<Agent> = agents
        .map(|(api, way)| Agent {
            api,
            way,
            streams: true,
        })
        .collect();
    for agent in &agents {
        let body = agent.request(&[agent.first_message("log in")]).to_string();
        for (_, secret) in &secrets {
            let request = Request::post(&agent.path(), &body[..]).header("x-secret", secret);
            let answer = request.header("x-understudy-tag-case", "whole").send(program.listen);
            assert_eq!(answer.status(), 200, "{}", agent.name());
            // These say every word in pieces; the others say arguments whole, or all of it once more.
            let is_cut_up = !matches!(agent.api, Api::Gemini | Api::Ollama | Api::OpenaiResponses);
            assert!(!is_cut_up || !contains(&answer.body, secret), "{}", agent.name());
            let request = Request::post(&agent.path(), &body[..]).header("x-secret", secret);
            let cut = request.header("x-understudy-tag-case", "cut").header("x-cut", "yes");
            assert!(!cut.send(program.listen).complete, "{}", agent.name());
        }
    }
    let ended = program.terminate();
    assert_nowhere(&home, &secrets, &[("stderr", &ended.stderr)]);
    let (whole, cut): (Vec<CallRecord>, Vec<CallRecord>) =
        home.rows().into_iter().partition(|row| row.tags["case"] == "whole");
    assert_eq!(
        (whole.len(), cut.len()),
        (agents.len() * secrets.len(), agents.len() * secrets.len())
    );
    for row in whole {
        // Pieces were put together, or there was nothing to find.
        let arguments: Value = serde_json::from_str(&row.tool_calls[0].arguments).expect("JSON");
        assert_eq!(arguments["q"], arguments["n"][0], "{arguments}");
        let said = format!("It is {}.", arguments["q"].as_str().expect("text"));
        // Beside a call it is a plan at Cohere.
        let body = row.response_body.expect("it is kept");
        assert!(body.contains(&said), "{}: {said} is not in {body}", row.api);
    }
    for row in cut {
        let body = row.response_body.expect("it is kept");
        assert!(body.contains("It is "), "{}: {body}", row.api);
    }
}

/// Streams in forms that the agents' own answers don't have: the path of the call, its API, and the events, with the secret
/// in pieces.
fn odd_streams(secret: &str) -> Vec<(&'static str, Api, Vec<Value>)> {
    const INVOKE: &str = "/model/anthropic.claude-v1%3A0/invoke-with-response-stream";
    const CONVERSE: &str = "/model/big/converse-stream";
    const GEMINI: &str = "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse";
    let each = |event: &dyn Fn(String) -> Value| -> Vec<Value> { pieces(secret).into_iter().map(event).collect() };
    let block = |kind: &str, key: &str| {
        each(&|piece| json!({"type": "content_block_delta", "index": 0, "delta": {"type": kind, key: piece}}))
    };
    let begun = |block: Value| json!({"type": "content_block_start", "index": 0, "content_block": block});
    let message = |begun: Value, deltas: Vec<Value>| -> Vec<Value> {
        let start = json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "content": []}});
        let stop = json!({"type": "content_block_stop", "index": 0});
        [vec![start, begun], deltas, vec![stop, json!({"type": "message_stop"})]].concat()
    };
    // In base64, in an envelope.
    let enveloped = message(begun(json!({"type": "text", "text": ""})), block("text_delta", "text"));
    let enveloped = enveloped
        .iter()
        .map(|event| json!({"chunk": {"bytes": STANDARD.encode(event.to_string())}}));
    let call = |call: Value| json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"functionCall": call}]}}]});
    let argument = each(&|piece| {
        let pieces = json!([{"jsonPath": "$.q", "stringValue": piece, "willContinue": true}]);
        call(json!({"partialArgs": pieces, "willContinue": true}))
    });
    let argument = [vec![call(json!({"name": TOOL, "willContinue": true}))], argument].concat();
    let custom = json!({"type": "custom_tool_call", "id": "c", "call_id": "c", "name": TOOL, "input": ""});
    let custom = json!({"type": "response.output_item.added", "output_index": 0, "item": custom});
    let input = each(
        &|piece| json!({"type": "response.custom_tool_call_input.delta", "output_index": 0, "item_id": "c", "delta": piece}),
    );
    let summary = each(
        &|piece| json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "item_id": "r", "summary_index": 0, "delta": piece}),
    );
    let reasoning = json!({"type": "reasoning", "id": "r", "summary": []});
    let reasoning = json!({"type": "response.output_item.added", "output_index": 0, "item": reasoning});
    vec![
        (INVOKE, Api::BedrockInvoke, enveloped.collect()),
        (GEMINI, Api::Gemini, argument),
        (
            GEMINI,
            Api::Gemini,
            each(&|piece| {
                let parts = json!([{"text": piece, "thought": true}]);
                json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": parts}}]})
            }),
        ),
        ("/v1/responses", Api::OpenaiResponses, [vec![custom], input].concat()),
        (
            "/v1/responses",
            Api::OpenaiResponses,
            [vec![reasoning], summary].concat(),
        ),
        (
            MESSAGES,
            Api::AnthropicMessages,
            message(
                begun(json!({"type": "thinking", "thinking": ""})),
                block("thinking_delta", "thinking"),
            ),
        ),
        (
            CONVERSE,
            Api::BedrockConverse,
            each(&|piece| {
                let delta = json!({"reasoningContent": {"text": piece}});
                json!({"contentBlockDelta": {"contentBlockIndex": 0, "delta": delta}})
            }),
        ),
        (
            CHAT,
            Api::OpenaiChat,
            each(&|piece| json!({"id": "c", "choices": [{"index": 0, "delta": {"reasoning_content": piece}}]})),
        ),
        (
            CHAT,
            Api::OpenaiChat,
            each(
                &|piece| json!({"id": "c", "choices": [{"index": 0, "delta": {"function_call": {"arguments": piece}}}]}),
            ),
        ),
        (
            "/api/chat",
            Api::Ollama,
            each(&|piece| json!({"message": {"role": "assistant", "content": "", "thinking": piece}, "done": false})),
        ),
        (
            "/v2/chat",
            Api::CohereChat,
            each(&|piece| {
                let content = json!({"message": {"content": {"thinking": piece}}});
                json!({"type": "content-delta", "index": 0, "delta": content})
            }),
        ),
    ]
}

#[test]
fn a_secret_in_pieces_of_reasoning_or_of_odd_forms_is_not_kept_either() {
    let secrets = secrets(19);
    let upstream = telling(|seen, secret| {
        let form = seen.head.header("x-form").expect("a form");
        let form: usize = form.parse().expect("a number");
        let (_, api, events) = odd_streams(secret).swap_remove(form);
        stream_of(api, &events)
    });
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let request =
        json!({"model": "m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "log in"}]});
    for (_, secret) in &secrets {
        for (form, (path, api, _)) in odd_streams(secret).into_iter().enumerate() {
            let sent = Request::post(path, request.to_string())
                .header("x-secret", secret)
                .header("x-form", &form.to_string())
                .header("x-understudy-tag-api", api.as_str());
            assert_eq!(sent.send(program.listen).status(), 200, "{path}");
        }
    }
    let ended = program.terminate();
    assert_nowhere(&home, &secrets, &[("stderr", &ended.stderr)]);
    for row in home.rows() {
        assert_eq!(row.api, row.tags["api"]);
        // Its pieces were found, and put together.
        let kinds: Vec<&str> = row.masked.iter().map(|count| count.kind.as_str()).collect();
        assert!(!kinds.is_empty(), "{}: {:?}", row.api, row.response_body);
    }
}
