//! The two side doors: `metrics` for Prometheus and probes, `admin` for operators. Content of calls comes with the pages
//! that are handed in, if at all.

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
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A page that somebody else makes.
#[derive(Clone, Debug)]
pub struct Page {
    /// Status of the answer.
    pub status: StatusCode,
    /// Its content type.
    pub content_type: &'static str,
    /// Its body.
    pub body: Bytes,
}

/// A future of a page; `None` where there is none at that path.
pub type PageFuture<'a> = Pin<Box<dyn Future<Output = Option<Page>> + Send + 'a>>;

/// The operator's pages: all paths of the admin door but the door's own.
pub trait Pages: Send + Sync {
    /// The page at a path, for somebody of this role.
    fn page<'a>(&'a self, path: &'a str, role: Role) -> PageFuture<'a>;
}

/// Which door.
#[derive(Clone)]
pub enum Door {
    /// `/metrics`, `/healthz`, `/readyz`.
    Metrics,
    /// The same, `/session`, and the operator's pages; for those whom the gate lets pass.
    Admin(Arc<Gate>, Arc<dyn Pages>),
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

/// Serves a door for as long as the future lives. Once `ending` turns true, `/readyz` says that no new calls should come.
pub async fn serve(door: Door, socket: TcpListener, registry: Registry, ending: watch::Receiver<bool>) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a side door can't be opened"),
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (door, registry, ending) = (door.clone(), registry.clone(), ending.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let (door, registry, is_ending) = (door.clone(), registry.clone(), *ending.borrow());
                async move {
                    Ok::<_, Infallible>(match &door {
                        _ if is_ending && request.uri().path() == "/readyz" => {
                            text(StatusCode::SERVICE_UNAVAILABLE, "ending\n")
                        }
                        Door::Metrics => answer(&request, &registry, None),
                        Door::Admin(gate, pages) => sealed(admit(gate, pages.as_ref(), &request, &registry).await),
                    })
                }
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
async fn admit(
    gate: &Gate,
    pages: &dyn Pages,
    request: &Request<Incoming>,
    registry: &Registry,
) -> Response<Full<Bytes>> {
    let role = match gate.pass(request.method(), request.headers()) {
        Ok(role) => role,
        Err(stopped) => {
            let mut response = text(stopped.status, stopped.words);
            if stopped.status == StatusCode::UNAUTHORIZED {
                // A browser asks for a name and a password: the token is the password.
                for way in [
                    "Bearer",
                    "Basic realm=\"understudy: any name, and the token as password\"",
                ] {
                    let way = HeaderValue::from_static(way);
                    response.headers_mut().append(header::WWW_AUTHENTICATE, way);
                }
            }
            return response;
        }
    };
    let own = answer(request, registry, Some((gate, role)));
    if own.status() != StatusCode::NOT_FOUND {
        return own;
    }
    match pages.page(request.uri().path(), role).await {
        Some(page) => {
            let mut response = Response::new(Full::new(page.body));
            *response.status_mut() = page.status;
            let content_type = HeaderValue::from_static(page.content_type);
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            response
        }
        None => own,
    }
}

/// With the headers that let a browser do nothing with an answer but show it, in the style and with the script of this
/// very door.
fn sealed(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    const SEALS: [(&str, &str); 6] = [
        (
            "content-security-policy",
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
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
