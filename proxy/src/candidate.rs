//! A canaried arm answers: with headers of its own, its own credential and model, and the asked model's name.
//!
//! Where it fails before the client has seen a byte, the call goes back with its body, and the baseline answers.
//! Nothing of the client but the body travels here.

use crate::body::ClientBody;
use crate::capture::OpenCall;
use crate::proxy::Proxy;
use crate::relay::Relay;
use crate::rename::Renamer;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use understudy_call::call::Api;
use understudy_call::record::Outcome;
use understudy_call::wire::{self, EndMark, replace_model};
use understudy_client::{BoxError, RequestBody, Upstream, full};

/// The longest plain answer of a candidate.
const MAX_ANSWER: usize = 32 << 20;

/// Lets `candidate` answer a call whose body was read whole.
///
/// # Errors
/// The call back, with the failed attempt noted, where the candidate gave no answer.
pub(crate) async fn answer(
    proxy: &Proxy,
    mut call: OpenCall,
    candidate: &Upstream,
    api: Api,
    body: &Bytes,
) -> Result<Response<ClientBody>, Box<OpenCall>> {
    call.attempt_begins(candidate.name(), Some("split"));
    match attempt(proxy, &mut call, candidate, api, body).await {
        Ok(Reply::Whole(mut parts, answer)) => {
            let renamed = asked_model(body)
                .and_then(|model| replace_model(&answer, &model))
                .map(Bytes::from);
            call.response_piece(&answer, false);
            let written = call.commit(Outcome::Ok);
            call.wait(written).await;
            let answer = renamed.unwrap_or(answer);
            parts
                .headers
                .insert(header::CONTENT_LENGTH, HeaderValue::from(answer.len()));
            Ok(Response::from_parts(parts, ClientBody::full(answer)))
        }
        Ok(Reply::Stream(parts, stream)) => {
            let rename = asked_model(body).map(Renamer::new);
            let mark = Some(EndMark::new(api));
            let relay = Relay::new(stream, call, true, mark, rename, candidate.idle_timeout());
            Ok(Response::from_parts(parts, ClientBody::Relay(Box::new(relay))))
        }
        Err((outcome, reason)) => {
            call.attempt_ends(outcome, false, Some(reason));
            call.permit = None;
            call.head.arm = Some(call.head.upstream.clone());
            call.head.status = None;
            call.head.content_type = None;
            Err(Box::new(call))
        }
    }
}

enum Reply {
    Whole(http::response::Parts, Bytes),
    Stream(http::response::Parts, Incoming),
}

async fn attempt(
    proxy: &Proxy,
    call: &mut OpenCall,
    candidate: &Upstream,
    api: Api,
    body: &Bytes,
) -> Result<Reply, (Outcome, String)> {
    let request = request(candidate, api, body).map_err(|error| (Outcome::Refused, error.to_string()))?;
    let response = candidate
        .send(request)
        .await
        .map_err(|error| (error.kind().outcome(), error.to_string()))?;
    let (mut parts, incoming) = response.into_parts();
    call.response_head(parts.status, &parts.headers);
    if !parts.status.is_success() {
        return Err((Outcome::UpstreamStatus, format!("status {}", parts.status.as_u16())));
    }
    // Of the candidate's own headers the client gets what describes the body, and nothing else.
    let content_type = parts.headers.get(header::CONTENT_TYPE).cloned();
    parts.headers = HeaderMap::new();
    parts
        .headers
        .extend(content_type.map(|value| (header::CONTENT_TYPE, value)));
    if proxy.expose_headers {
        call.expose(&mut parts.headers, candidate.name());
    }
    if wire::framing_named(api, &call.head.path, call.head.content_type.as_deref()).is_some() {
        return Ok(Reply::Stream(parts, incoming));
    }
    #[expect(clippy::disallowed_methods, reason = "bounded by MAX_ANSWER")]
    let whole = Limited::new(incoming, MAX_ANSWER).collect().await;
    let whole = whole.map_err(|error: BoxError| (Outcome::UpstreamTruncated, error.to_string()))?;
    Ok(Reply::Whole(parts, whole.to_bytes()))
}

/// The request for a candidate: a fresh set of headers, its own credential, its own model.
fn request(candidate: &Upstream, api: Api, body: &Bytes) -> Result<Request<RequestBody>, http::Error> {
    let path = candidate.call_path(api).unwrap_or("/");
    let model = candidate
        .config
        .model
        .as_deref()
        .and_then(|model| replace_model(body, model));
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(candidate.uri(path)?)
        .header(header::CONTENT_TYPE, "application/json")
        .body(full(model.map_or_else(|| body.clone(), Bytes::from)))?;
    request.headers_mut().extend(candidate.credential_headers());
    Ok(request)
}

fn asked_model(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Asked {
        model: Option<String>,
    }
    serde_json::from_slice::<Asked>(body).ok()?.model
}
