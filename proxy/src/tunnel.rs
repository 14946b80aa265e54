//! WebSocket upgrades: tunnelled to the upstream addressed, counted with their bytes, not parsed.
//!
//! Nothing flows before the upstream has answered 101.

use crate::body::ClientBody;
use crate::capture::OpenCall;
use crate::headers::remove_hop_by_hop;
use crate::refusal::failed;
use crate::relay::Relay;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use understudy_call::call::Api;
use understudy_call::record::Outcome;
use understudy_client::{SendError, SendErrorKind, Upstream, empty};

/// Whether a request asks for a WebSocket.
pub(crate) fn wanted(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Asks the upstream for the same upgrade, and joins the two connections where it agrees.
pub(crate) async fn open(
    mut call: OpenCall,
    upstream: &Upstream,
    path_and_query: &str,
    parts: Parts,
    body: Incoming,
) -> Response<ClientBody> {
    let uri = match upstream.uri(path_and_query) {
        Ok(uri) => uri,
        Err(error) => {
            return failed(
                call,
                Api::Other,
                &SendError::new(SendErrorKind::Protocol, error.to_string()),
            )
            .await;
        }
    };
    let mut upstream_request = Request::new(empty());
    *upstream_request.method_mut() = parts.method.clone();
    *upstream_request.uri_mut() = uri;
    *upstream_request.headers_mut() = parts.headers.clone();
    remove_hop_by_hop(upstream_request.headers_mut());
    let websocket = HeaderValue::from_static("websocket");
    upstream_request
        .headers_mut()
        .insert(header::UPGRADE, websocket.clone());
    upstream_request
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    call.attempt_begins(upstream.name(), None);
    let mut response = match upstream.send(upstream_request).await {
        Ok(response) => response,
        Err(error) => return failed(call, Api::Other, &error).await,
    };
    call.response_head(response.status(), response.headers());
    let mut headers = response.headers().clone();
    remove_hop_by_hop(&mut headers);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut parts, body) = response.into_parts();
        parts.headers = headers;
        let relay = Relay::new(body, call, false, upstream.idle_timeout());
        return Response::from_parts(parts, ClientBody::Relay(Box::new(relay)));
    }
    headers.insert(header::UPGRADE, websocket);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    let client_side = hyper::upgrade::on(Request::from_parts(parts, body));
    let upstream_side = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        let (Ok(client), Ok(upstream)) = tokio::join!(client_side, upstream_side) else {
            return;
        };
        let joined = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await;
        if let Ok((up, down)) = joined {
            call.tunnelled(up, down);
        }
        call.commit(Outcome::Ok);
    });
    let mut answer = Response::new(ClientBody::full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    answer
}
