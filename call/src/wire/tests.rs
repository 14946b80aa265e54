//! Unit tests of detection, dispatch and errors.

use serde_json::json;

use super::*;

#[test]
fn paths_are_detected_by_their_last_segments() {
    let chat = [
        "/v1/chat/completions",
        "/chat/completions",
        "//openai/deployments/gpt-4o/chat/completions",
        "/openai/v1/chat/completions",
        "/api/v1/chat/completions",
        "/api/paas/v4/chat/completions/",
        "/v1beta/openai/chat/completions",
        "/v1/chat/completions:443",
    ];
    for path in chat {
        assert_eq!(detect(path), Api::OpenaiChat, "{path}");
    }
    for path in [
        "/v1/messages",
        "/messages",
        "/anthropic//v1/messages",
        "/v1/messages:8080",
    ] {
        assert_eq!(detect(path), Api::AnthropicMessages, "{path}");
    }
    let others = [
        "",
        "/",
        "/v1/messages/batches",
        "/v1/threads/thread_1/messages",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/chat/completionsx",
        "/v1/messages:batch",
    ];
    for path in others {
        assert_eq!(detect(path), Api::Other, "{path}");
    }
}

#[test]
fn azure_names_its_model_in_the_path() {
    assert_eq!(
        model_in_path("/openai//deployments//gpt-4o/chat/completions").as_deref(),
        Some("gpt-4o")
    );
    assert_eq!(model_in_path("/v1/chat/completions"), None);
    assert_eq!(model_in_path("/deployments/"), None);
}

#[test]
fn event_streams_are_known_by_type_then_by_first_bytes() {
    let named = |content_type| framing_named(Api::OpenaiChat, "", content_type);
    assert_eq!(named(Some("Text/Event-Stream ; charset=utf-8")), Some(Framing::Sse));
    assert_eq!((named(Some("text/event-streams")), named(None)), (None, None));
    let streamed =
        |content_type, body: &str| assemble(Api::OpenaiChat, content_type, body.as_bytes()).map(|a| a.streamed);
    assert!(streamed(None, "data: {}\n\n").unwrap());
    assert!(streamed(Some("application/json"), ": hi\n\ndata: {}\n\n").unwrap());
    assert!(streamed(Some("text/event-stream"), "").unwrap());
    assert!(!streamed(Some("text/event-stream"), " {\"error\":\"no\"}").unwrap());
    assert!(matches!(
        streamed(Some("text/html"), "<html>"),
        Err(WireError::NotJson(_))
    ));
}

#[test]
fn bodies_that_cant_be_read_say_why() {
    let deep = "[".repeat(100_000);
    for api in [Api::OpenaiChat, Api::AnthropicMessages] {
        assert!(matches!(parse_request(api, b""), Err(WireError::NotJson(_))));
        assert!(matches!(parse_request(api, b"[1]"), Err(WireError::NotAnObject)));
        assert!(matches!(
            parse_request(api, format!("{{\"a\":{deep}").as_bytes()),
            Err(WireError::TooDeep)
        ));
        assert!(matches!(assemble(api, None, deep.as_bytes()), Err(WireError::TooDeep)));
        let stream = assemble(api, None, format!("data: {deep}\n\ndata: [1]\n\n").as_bytes()).unwrap();
        assert_eq!((stream.skipped_events, stream.partial), (2, true));
        // Any shape of JSON is read as far as it makes sense.
        for odd in [
            "{}",
            "{\"messages\":{},\"tools\":7,\"system\":7}",
            "{\"messages\":[null,7,{\"content\":[[[]]]}],\"tools\":[7]}",
        ] {
            assert!(parse_request(api, odd.as_bytes()).is_ok(), "{odd}");
        }
    }
    assert!(matches!(
        parse_request(Api::Other, b"{}"),
        Err(WireError::NotParsed(Api::Other))
    ));
    assert!(matches!(
        assemble(Api::Other, None, b"{}"),
        Err(WireError::NotParsed(Api::Other))
    ));
}

#[test]
fn an_oversize_event_is_counted_and_the_rest_is_read() {
    let big = "x".repeat(framing::MAX_EVENT);
    let body = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{big}\"}}}}]}}\n\n\
         data: {{\"choices\":[{{\"delta\":{{\"content\":\"hi\"}},\"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]\n\n"
    );
    let assembled = assemble(Api::OpenaiChat, None, body.as_bytes()).unwrap();
    assert_eq!((assembled.skipped_events, assembled.partial), (1, false));
    assert_eq!(parse_response(Api::OpenaiChat, 200, &assembled).output_text, "hi");
}

#[test]
fn errors_are_the_inner_value_or_the_whole_body_of_an_error_status() {
    let error = |status, body: Value| {
        let assembled = Assembled {
            body,
            ..Assembled::default()
        };
        parse_response(Api::OpenaiChat, status, &assembled).error
    };
    assert_eq!(error(404, json!({"error": {"code": 1}})), Some(json!({"code": 1})));
    assert_eq!(error(401, json!({"detail": "no"})), Some(json!({"detail": "no"})));
    assert_eq!(error(200, json!({"error": {"code": 1}})), Some(json!({"code": 1})));
    assert_eq!(error(200, json!({"error": null, "detail": "x"})), None);
}
