//! The two side doors: `metrics` for Prometheus and probes, `admin` for operators. No content of any call.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Which door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `/metrics`, `/healthz`, `/readyz`.
    Metrics,
    /// The same, and a note where the operator's page will be.
    Admin,
}

/// Binds a door; port 0 takes a free one.
///
/// # Errors
/// Where the address can't be bound.
pub fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), crate::listener::BindError> {
    let fail = |source| crate::listener::BindError { address, source };
    let socket = TcpListener::bind(address).map_err(fail)?;
    socket.set_nonblocking(true).map_err(fail)?;
    let address = socket.local_addr().map_err(fail)?;
    Ok((socket, address))
}

/// Serves a door for as long as the future lives.
pub async fn serve(door: Door, socket: TcpListener, registry: Registry) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a side door can't be opened"),
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let registry = registry.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(door, &request, &registry);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .max_headers(64);
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(door: Door, request: &Request<Incoming>, registry: &Registry) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match (request.uri().path(), door) {
        ("/healthz" | "/readyz", _) => text(StatusCode::OK, "ok\n"),
        ("/metrics", _) => match TextEncoder::new().encode_to_string(&registry.gather()) {
            Ok(metrics) => text(StatusCode::OK, metrics),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        ("/", Door::Admin) => text(
            StatusCode::OK,
            "The operator's page is not built yet; /metrics is here.\n",
        ),
        _ => text(StatusCode::NOT_FOUND, "not found\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
