//! Answers that we make ourselves, in the error shape of the API that was called.

use crate::body::ClientBody;
use crate::capture::OpenCall;
use crate::line::UploadFault;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;
use understudy_call::call::Api;
use understudy_call::record::Outcome;
use understudy_call::translate;
use understudy_client::{SendError, SendErrorKind, chain};

/// An answer of ours with a status, an error type and a message.
pub(crate) fn error(api: Api, status: StatusCode, kind: &str, message: &str) -> Response<Bytes> {
    let body = match api {
        Api::AnthropicMessages => json!({"type": "error", "error": {"type": kind, "message": message}}),
        Api::Gemini | Api::Ollama | Api::CohereChat => translate::error_body(api, status.as_u16(), message),
        Api::BedrockConverse | Api::BedrockInvoke => json!({"message": message}),
        _ => json!({"error": {"message": message, "type": kind, "param": null, "code": null}}),
    };
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A refusal by policy: clients should not try again.
pub(crate) fn policy(api: Api, status: StatusCode, message: &str) -> Response<Bytes> {
    let mut response = error(api, status, "understudy_refused", message);
    response
        .headers_mut()
        .insert("x-should-retry", HeaderValue::from_static("false"));
    response
}

/// Says that this connection ends with the answer.
pub(crate) fn close(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// The client's body did not come whole: the client, if it is still there, is told why.
pub(crate) async fn broken_off(
    mut call: OpenCall,
    api: Api,
    fault: Option<UploadFault>,
    error: &(dyn std::error::Error + Send + Sync),
) -> Response<ClientBody> {
    let (status, outcome) = match fault {
        Some(UploadFault::TooLong) => (StatusCode::PAYLOAD_TOO_LARGE, Outcome::Refused),
        Some(UploadFault::Framing) => (StatusCode::BAD_REQUEST, Outcome::Refused),
        Some(UploadFault::Broken) | None => (StatusCode::BAD_REQUEST, Outcome::ClientClosed),
    };
    let message = format!("the request's body did not come whole: {}", chain(error));
    if outcome == Outcome::Refused {
        call.head.status = Some(status.as_u16());
    }
    call.head.error = Some(message.clone());
    let written = call.commit(outcome);
    call.wait(written).await;
    let mut response = policy(api, status, &message);
    close(response.headers_mut());
    response.map(ClientBody::full)
}

/// No response came: the client gets an error of ours, and the record says why.
pub(crate) async fn failed(mut call: OpenCall, api: Api, error: &SendError) -> Response<ClientBody> {
    let status = match error.kind() {
        SendErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    let message = format!("upstream {}: {error}", call.head.upstream);
    call.head.status = Some(status.as_u16());
    call.head.error = Some(message.clone());
    let written = call.commit(error.kind().outcome());
    call.wait(written).await;
    self::error(api, status, "upstream_error", &message).map(ClientBody::full)
}
