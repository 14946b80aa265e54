//! Unit tests of the OpenAI Embeddings parser.

use serde_json::json;

use super::super::{assemble, parse_request, parse_response};
use super::*;
use crate::call::{Api, Message, Role};

const API: Api = Api::OpenaiEmbeddings;

#[test]
fn inputs_are_messages_of_the_user() {
    let messages = |input: Value| {
        let body = json!({"model": "m", "input": input, "encoding_format": "base64", "user": "u"}).to_string();
        let request = parse_request(API, body.as_bytes()).unwrap();
        assert_eq!(
            (request.operation, request.model.as_deref(), request.user.as_deref()),
            (Operation::Embed, Some("m"), Some("u"))
        );
        request.messages
    };
    let text = |text: &str| Message::text(Role::User, text);
    assert_eq!(messages(json!("a")), [text("a")]);
    assert_eq!(messages(json!(["a", "b"])), [text("a"), text("b")]);
    let tokens = messages(json!([[1, 2], [3]]));
    assert_eq!(tokens.iter().map(|message| message.media_parts).sum::<u32>(), 2);
    let parts = messages(json!([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": "x"}]));
    assert_eq!(
        (parts[0].text.as_str(), parts[1].media_parts),
        ("a", 1),
        "multimodal inputs"
    );
}

#[test]
fn vectors_as_floats_and_as_base64_are_answers_alike() {
    for vector in [json!([0.5, -0.25]), json!("AAAAPwAAgL4=")] {
        let body = json!({"object": "list", "model": "m-1", "data": [{"index": 0, "embedding": vector}],
            "usage": {"prompt_tokens": 4, "total_tokens": 4, "completion_tokens": 0}});
        let assembled = assemble(API, Some("application/json"), body.to_string().as_bytes()).unwrap();
        assert_eq!(assembled.body, body);
        let response = parse_response(API, 200, &assembled);
        assert_eq!(
            (response.model.as_deref(), response.usage.input),
            (Some("m-1"), Some(4))
        );
        assert_eq!(
            (response.usage.output, response.choices, response.is_empty()),
            (None, 0, true)
        );
    }
    let voyage = response(&json!({"data": [], "usage": {"total_tokens": 9}}));
    assert_eq!(voyage.usage.input, Some(9));
}

#[test]
fn errors_and_what_looks_like_a_stream_are_no_answers() {
    let refused = assemble(API, None, b"{\"error\":{\"code\":\"model_not_found\"}}").unwrap();
    assert_eq!(
        parse_response(API, 404, &refused).error,
        Some(json!({"code": "model_not_found"}))
    );
    let stream = assemble(API, None, b"data: {}\n\ndata: {}\n\n").unwrap();
    assert_eq!((stream.skipped_events, stream.streamed), (2, true));
}
