//! Unit tests of errors inside a candidate's stream: what kind of error the agent's API is told of.

use serde_json::json;

use super::*;
use crate::translate::SPOKEN;
use crate::wire::eventstream;

/// What an agent of `api` gets of a stream.
fn written(api: Api, spoken: Api, stream: &[u8]) -> String {
    let back = Back {
        api,
        spoken,
        model: "asked-for".into(),
        stream: true,
        as_array: false,
        created: 7,
        request: Value::Null,
    };
    let mut translation = back.stream().unwrap();
    let written = [translation.push(stream), translation.finish()].concat();
    String::from_utf8_lossy(&written).into_owned()
}

/// A stream of Converse that ends with an exception after its first words.
fn broken_converse(exception: &str) -> Vec<u8> {
    let mut stream = Vec::new();
    eventstream::write_event("messageStart", &json!({"role": "assistant"}), &mut stream);
    let delta = json!({"contentBlockIndex": 0, "delta": {"text": "half"}});
    eventstream::write_event("contentBlockDelta", &delta, &mut stream);
    eventstream::write_exception(exception, &json!({"message": "it was told so"}), &mut stream);
    stream
}

#[test]
fn an_exception_of_bedrock_is_the_same_kind_of_error_in_every_api() {
    for (exception, chat, responses, messages, gemini, converse) in [
        (
            "throttlingException",
            "\"rate_limit_error\"",
            "\"rate_limit_exceeded\"",
            "\"rate_limit_error\"",
            "\"RESOURCE_EXHAUSTED\"",
            "throttlingException",
        ),
        (
            "validationException",
            "\"invalid_request_error\"",
            "\"invalid_prompt\"",
            "\"invalid_request_error\"",
            "\"INVALID_ARGUMENT\"",
            "validationException",
        ),
        (
            "modelStreamErrorException",
            "\"server_error\"",
            "\"server_error\"",
            "\"api_error\"",
            "\"code\":502",
            "modelStreamErrorException",
        ),
        (
            "modelTimeoutException",
            "\"server_error\"",
            "\"server_error\"",
            "\"timeout_error\"",
            "\"DEADLINE_EXCEEDED\"",
            "internalServerException",
        ),
        (
            "serviceUnavailableException",
            "\"server_error\"",
            "\"server_error\"",
            "\"overloaded_error\"",
            "\"code\":503",
            "serviceUnavailableException",
        ),
        (
            "internalServerException",
            "\"server_error\"",
            "\"server_error\"",
            "\"api_error\"",
            "\"code\":500",
            "internalServerException",
        ),
        // Of a kind that no document names.
        (
            "someNewException",
            "\"server_error\"",
            "\"server_error\"",
            "\"api_error\"",
            "\"INTERNAL\"",
            "internalServerException",
        ),
    ] {
        for api in SPOKEN {
            let kind = match api {
                Api::OpenaiChat => chat,
                Api::OpenaiResponses => responses,
                Api::AnthropicMessages => messages,
                Api::Gemini => gemini,
                Api::BedrockConverse => converse,
                // These say words alone.
                _ => "error",
            };
            let written = written(api, Api::BedrockConverse, &broken_converse(exception));
            let is_told = written.contains(kind) && written.contains("it was told so") && written.contains("half");
            assert!(is_told, "{exception} to {api:?}: {written}");
        }
    }
}

#[test]
fn errors_of_anthropic_and_openai_keep_their_kind() {
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let overloaded = format!("event: error\ndata: {overloaded}\n\n");
    let told = written(Api::BedrockConverse, Api::AnthropicMessages, overloaded.as_bytes());
    assert!(told.contains("serviceUnavailableException"), "{told}");
    let error = json!({"code": "rate_limit_exceeded", "message": "slow down"});
    let failed = json!({"type": "response.failed", "response": {"error": error}});
    let failed = format!("event: response.failed\ndata: {failed}\n\n");
    let told = written(Api::AnthropicMessages, Api::OpenaiResponses, failed.as_bytes());
    assert!(told.contains("\"rate_limit_error\""), "{told}");
    // A status that is told outranks the kind.
    let error = json!({"error": {"type": "invalid_request_error", "code": 503, "message": "busy"}});
    let told = written(
        Api::AnthropicMessages,
        Api::OpenaiChat,
        format!("data: {error}\n\n").as_bytes(),
    );
    assert!(told.contains("\"overloaded_error\""), "{told}");
}
