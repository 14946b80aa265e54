//! Answers that we make ourselves, in the error shape of the API that was called.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;
use understudy_call::call::Api;

/// An answer of ours with a status, an error type and a message.
pub(crate) fn error(api: Api, status: StatusCode, kind: &str, message: &str) -> Response<Bytes> {
    let body = match api {
        Api::AnthropicMessages => json!({"type": "error", "error": {"type": kind, "message": message}}),
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
