//! WebSocket upgrades: tunnelled to the upstream addressed, counted with their bytes, not parsed.
//!
//! Nothing flows before the upstream has answered 101. A tunnel lives as long as its two ends; when the program stops, open
//! ones are let end like all calls, and then cut and recorded.

use crate::body::ClientBody;
use crate::capture::OpenCall;
use crate::headers::{expose_server, remove_hop_of_answer, remove_hop_of_request, remove_ours};
use crate::line::Upload;
use crate::proxy::Proxy;
use crate::refusal::failed;
use crate::relay::Relay;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use understudy_call::call::Api;
use understudy_call::record::Outcome;
use understudy_client::{SendError, SendErrorKind, Upstream, empty};

/// The open tunnels of a program.
#[derive(Debug)]
pub(crate) struct Tunnels {
    open: Arc<AtomicUsize>,
    cut: watch::Sender<bool>,
}

impl Default for Tunnels {
    fn default() -> Tunnels {
        Tunnels {
            open: Arc::default(),
            cut: watch::Sender::new(false),
        }
    }
}

impl Tunnels {
    /// How many there are.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Ends them all.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    fn enter(&self) -> Inside {
        self.open.fetch_add(1, Ordering::AcqRel);
        Inside(self.open.clone())
    }
}

/// Counts a tunnel while it lives.
struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether a request asks for a WebSocket. HTTP/1.0 has no upgrade: there it is a header like any other of its hop.
pub(crate) fn wanted(parts: &Parts) -> bool {
    let upgrade = parts.headers.get(header::UPGRADE);
    parts.version == Version::HTTP_11
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Asks the upstream for the same upgrade, and joins the two connections where it agrees. The request has no body.
pub(crate) async fn open(
    mut call: OpenCall,
    proxy: &Proxy,
    upstream: &Upstream,
    path_and_query: &str,
    parts: Parts,
    body: Upload,
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
    remove_hop_of_request(upstream_request.headers_mut());
    let websocket = HeaderValue::from_static("websocket");
    upstream_request
        .headers_mut()
        .insert(header::UPGRADE, websocket.clone());
    upstream_request
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    call.attempt_begins(upstream.name(), None);
    let mut response = match upstream.upgrade(upstream_request).await {
        Ok(response) => response,
        Err(error) => return failed(call, Api::Other, &error).await,
    };
    call.response_head(response.status(), response.headers());
    let mut headers = response.headers().clone();
    remove_hop_of_answer(&mut headers, response.body().size_hint().exact());
    remove_ours(&mut headers);
    if proxy.expose_headers {
        expose_server(&mut headers, upstream.name());
    }
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
    let inside = proxy.tunnels.enter();
    let mut cut = proxy.tunnels.cut.subscribe();
    tokio::spawn(async move {
        let _inside = inside;
        if let (Ok(client), Ok(upstream)) = tokio::join!(client_side, upstream_side) {
            join(call, End::new(client), End::new(upstream), &mut cut).await;
        }
    });
    let mut answer = Response::new(ClientBody::full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    answer
}

/// Carries bytes both ways until both sides have ended, one has failed, or the program stops.
async fn join(mut call: OpenCall, mut client: End, mut upstream: End, cut: &mut watch::Receiver<bool>) {
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
        _ = cut.wait_for(|cut| *cut) => {}
    }
    call.tunnelled(client.read, upstream.read);
    call.commit(match (upstream.is_broken, client.is_broken) {
        (true, _) => Outcome::UpstreamReset,
        (_, true) => Outcome::ClientClosed,
        _ => Outcome::Ok,
    });
}

/// One side of a tunnel, and what came of it so far.
struct End {
    stream: TokioIo<Upgraded>,
    read: u64,
    is_broken: bool,
}

impl End {
    fn new(stream: Upgraded) -> End {
        End {
            stream: TokioIo::new(stream),
            read: 0,
            is_broken: false,
        }
    }

    fn note<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.is_broken |= matches!(result, Poll::Ready(Err(_)));
        result
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.read += (buffer.filled().len() - before) as u64;
        self.note(result)
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.note(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A side that is gone already has nothing to be told.
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
