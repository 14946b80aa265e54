//! The two side doors: `metrics` for Prometheus and probes, `admin` for operators. No content of any call.

mod gate;

pub use gate::{AdminToken, CSRF_HEADER, Gate, Role};

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
use std::sync::Arc;
use std::time::Duration;

/// Which door.
#[derive(Clone)]
pub enum Door {
    /// `/metrics`, `/healthz`, `/readyz`.
    Metrics,
    /// The same, `/session`, and a note where the operator's page will be; for those whom the gate lets pass.
    Admin(Arc<Gate>),
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
        let (door, registry) = (door.clone(), registry.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = match &door {
                    Door::Metrics => answer(&request, &registry, None),
                    Door::Admin(gate) => sealed(admit(gate, &request, &registry)),
                };
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

/// What the admin door answers.
fn admit(gate: &Gate, request: &Request<Incoming>, registry: &Registry) -> Response<Full<Bytes>> {
    match gate.pass(request.method(), request.headers()) {
        Ok(role) => answer(request, registry, Some((gate, role))),
        Err(stopped) => {
            let mut response = text(stopped.status, stopped.words);
            if stopped.status == StatusCode::UNAUTHORIZED {
                let bearer = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
            }
            response
        }
    }
}

/// With the headers that let a browser do nothing with an answer but show it.
fn sealed(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    const SEALS: [(&str, &str); 6] = [
        (
            "content-security-policy",
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ];
    for (name, value) in SEALS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn answer(request: &Request<Incoming>, registry: &Registry, admitted: Option<(&Gate, Role)>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match (request.uri().path(), admitted) {
        ("/healthz" | "/readyz", _) => text(StatusCode::OK, "ok\n"),
        ("/metrics", _) => match TextEncoder::new().encode_to_string(&registry.gather()) {
            Ok(metrics) => text(StatusCode::OK, metrics),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        ("/session", Some((gate, role))) => text(
            StatusCode::OK,
            format!("{{\"role\":\"{}\",\"csrf\":\"{}\"}}\n", role.as_str(), gate.csrf()),
        ),
        ("/", Some(_)) => text(
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
