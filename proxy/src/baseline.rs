//! The upstream that a call was addressed to answers: request and response travel unchanged, but for what the upstream's
//! own config asks for (`ask_usage`, `sign`).

use crate::body::{ClientBody, Held};
use crate::capture::OpenCall;
use crate::end::End;
use crate::filter::{EventFilter, Filter};
use crate::headers;
use crate::line::Line;
use crate::proxy::Proxy;
use crate::refusal;
use crate::relay::Relay;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Instant;
use understudy_call::call::Api;
use understudy_call::record::Outcome;
use understudy_call::wire;
use understudy_call::wire::splice::ask_usage;
use understudy_client::{RequestBody, SendError, SendErrorKind, Upstream, empty};

/// How often a request that may be sent twice is sent again: each time, a connection that was kept has ended.
const MAX_REPEATS: u8 = 3;

/// A call on its way to the upstream that it was addressed to.
pub(crate) struct Addressed<'a> {
    /// That upstream.
    pub(crate) upstream: &'a Upstream,
    /// The wire format.
    pub(crate) api: Api,
    /// Path and query below the upstream.
    pub(crate) path_and_query: &'a str,
    /// The request's head, without the headers of its hop.
    pub(crate) parts: Parts,
    /// The request's body.
    pub(crate) held: Held,
    /// The connection that it comes by.
    pub(crate) line: Arc<Line>,
}

/// Whether the upstream's config needs the body of a call whole.
pub(crate) fn needs_body(upstream: &Upstream, api: Api, headers: &HeaderMap) -> bool {
    asks_usage(upstream, api) || upstream.signs(headers)
}

/// Whether calls of this API at this upstream are made to tell their usage.
fn asks_usage(upstream: &Upstream, api: Api) -> bool {
    upstream.config.ask_usage && matches!(api, Api::OpenaiChat | Api::OpenaiCompletions)
}

impl Addressed<'_> {
    /// Sends the request on and relays the answer.
    pub(crate) async fn answer(mut self, proxy: &Proxy, mut call: OpenCall) -> Response<ClientBody> {
        let uri = match self.upstream.uri(self.path_and_query) {
            Ok(uri) => uri,
            Err(error) => {
                let error = SendError::new(SendErrorKind::Protocol, format!("the path can't be forwarded: {error}"));
                return refusal::failed(call, self.api, &error).await;
            }
        };
        let drops_usage = self.ask_usage();
        if self.upstream.signs(&self.parts.headers) {
            let Some(body) = self.held.whole() else {
                return self.refuse_unsigned(call).await;
            };
            self.upstream
                .sign(&self.parts.method, &uri, &mut self.parts.headers, body);
        }
        let body = self.held.into_body(call.request_copy());
        // hyper takes it that these have no body unless a header says so.
        if matches!(self.parts.method, Method::GET | Method::HEAD) && body.size_hint().exact().is_none() {
            let chunked = HeaderValue::from_static("chunked");
            self.parts.headers.insert(header::TRANSFER_ENCODING, chunked);
        }
        let may_repeat = self.parts.method.is_idempotent() && body.is_end_stream();
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.parts.headers;
        let again = may_repeat.then(|| head_of(&request));
        let reason = (!call.head.attempts.is_empty()).then_some("fallback");
        call.attempt_begins(self.upstream.name(), reason);
        let mut response = self.upstream.send(request).await;
        let mut left = MAX_REPEATS;
        // A kept connection may be closed just as a request goes out on it: one that may be sent twice is sent again.
        while let (Some(again), Err(error)) = (&again, &response)
            && error.is_of_kept_connection()
            && left > 0
        {
            left -= 1;
            call.attempt_ends(error.kind().outcome(), false, None);
            call.attempt_begins(self.upstream.name(), Some("kept connection closed"));
            response = self.upstream.send(again.clone().map(|()| empty())).await;
        }
        match response {
            // To what was not asked for nothing can be switched.
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let words = "it switched protocols without being asked to";
                refusal::failed(call, self.api, &SendError::new(SendErrorKind::Protocol, words)).await
            }
            Ok(response) => relay(proxy, call, self.api, response, self.upstream, drops_usage).await,
            // Where the client's side broke off, what the upstream said of it is beside the point.
            Err(error) if self.line.fault().is_some() => {
                refusal::broken_off(call, self.api, self.line.fault(), &error).await
            }
            Err(error) => refusal::failed(call, self.api, &error).await,
        }
    }

    /// A signature covers the whole body, which is longer than what may be held.
    async fn refuse_unsigned(self, mut call: OpenCall) -> Response<ClientBody> {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        let message = format!(
            "upstream {}: the body is longer than limits.max_routed_body, and `sign: aws` needs all of it",
            self.upstream.name()
        );
        call.head.status = Some(status.as_u16());
        call.head.error = Some(message.clone());
        let written = call.commit(Outcome::Refused);
        call.wait(written).await;
        refusal::policy(self.api, status, &message).map(ClientBody::full)
    }

    /// Makes a streamed call tell its usage, where config wants it; whether it did. An answer that is encoded could not be
    /// edited, so none is asked for then.
    fn ask_usage(&mut self) -> bool {
        let asks = asks_usage(self.upstream, self.api);
        let Some(asking) = self.held.whole().filter(|_| asks).and_then(|body| ask_usage(body)) else {
            return false;
        };
        self.held = Held::Whole(asking.into());
        self.parts.headers.remove(header::CONTENT_LENGTH);
        let identity = HeaderValue::from_static("identity");
        self.parts.headers.insert(header::ACCEPT_ENCODING, identity);
        true
    }
}

/// The same request without its body.
fn head_of(request: &Request<RequestBody>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.headers_mut() = request.headers().clone();
    head
}

/// The response's head goes to the client, and its body is relayed.
async fn relay(
    proxy: &Proxy,
    mut call: OpenCall,
    api: Api,
    response: Response<Incoming>,
    upstream: &Upstream,
    drops_usage: bool,
) -> Response<ClientBody> {
    let began = Instant::now();
    let (mut parts, body) = response.into_parts();
    headers::remove_hop_of_answer(
        &mut parts.headers,
        body.size_hint().exact().filter(|_| !body.is_end_stream()),
    );
    headers::remove_ours(&mut parts.headers);
    call.response_head(parts.status, &parts.headers);
    if proxy.expose_headers {
        headers::expose_server(&mut parts.headers, upstream.name());
    }
    if body.is_end_stream() {
        let written = call.commit(Outcome::Ok);
        call.wait(written).await;
        return Response::from_parts(parts, ClientBody::full(Bytes::new()));
    }
    let streamed = wire::framing_named(api, &call.head.path, call.head.content_type.as_deref()).is_some();
    call.add_overhead(began.elapsed());
    let encoding = call.head.content_encoding.clone();
    let mut relay = Relay::new(body, call, streamed, upstream.idle_timeout());
    if streamed && api != Api::Other {
        relay = relay.with_end(End::new(api, encoding.as_deref()));
    }
    if streamed && drops_usage && encoding.is_none() {
        parts.headers.remove(header::CONTENT_LENGTH);
        relay = relay.with_filter(Filter::Events(EventFilter::without_usage(true)));
    }
    let body = match relay.at_once().await {
        Ok(whole) => ClientBody::full(whole),
        Err(relay) => ClientBody::Relay(Box::new(relay)),
    };
    Response::from_parts(parts, body)
}
