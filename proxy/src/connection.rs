//! One connection of a client, from its first byte to its end: TLS where config asks for it, the HTTP version, its calls.

use crate::exchange::exchange;
use crate::line::{Download, Line, Phase, Upload};
use crate::proxy::Proxy;
use crate::socket::{ClientSocket, Late, Patience, Transport};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// What an HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// Streams that an HTTP/2 client may reset before they were begun, and errors that it may provoke, before it is cut.
const MAX_RESETS: usize = 64;
/// Bytes that may wait in a client's socket before they are sent: those on their way don't count.
#[cfg(target_os = "linux")]
const MAX_UNSENT: u32 = 64 << 10;
/// The least that hyper reads a head into.
const MIN_BUFFER: usize = 8 * 1024;
/// Once nothing more is accepted, a connection on which nothing happened for so long is closed.
const QUIET: Duration = Duration::from_millis(500);

/// How far the process is in ending, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It serves.
    Open,
    /// It is to end: each connection is told so with its next answer.
    LastCall,
    /// It accepts no more: who has no call open is closed.
    Closing,
}

/// Serves a connection until it ends; from the last call on it ends with the calls at hand,
/// and with those that are on their way.
pub(crate) async fn serve(stream: TcpStream, proxy: Arc<Proxy>, stage: watch::Receiver<Stage>) {
    // Small pieces of a stream go out as they come; what a client does not take stays at its upstream.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT);
    // Once a connection: what is kept of an address is the same for all of its calls.
    let address = stream.peer_addr().ok().map(|peer| peer.ip().to_canonical().to_string());
    let origins = &proxy.capture.origins;
    let address_id: AddressId = address.map(|address| origins.pseudonym("address", address.as_bytes()).into());
    let reason = match proxy.certificate.as_ref().map(|certificate| certificate.in_force()) {
        None => sniff(stream, address_id, &proxy, stage).await.err(),
        Some(config) => {
            let handshake = TlsAcceptor::from(config).accept(stream);
            match timeout(proxy.patience.header_read, handshake).await {
                Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                    speak_http2(stream, Bytes::new(), address_id, &proxy, stage).await.err()
                }
                Ok(Ok(stream)) => sniff(stream, address_id, &proxy, stage).await.err(),
                Ok(Err(_)) => Some("tls"),
                Err(_) => Some("header_read"),
            }
        }
    };
    if let Some(reason) = reason {
        proxy.metrics.rejected.with_label_values(&[reason]).inc();
    }
}

/// The pseudonym of the address that a connection came from, where the system tells it.
type AddressId = Option<Arc<str>>;

/// Why a request was refused before it was a call, as a label.
type Refused = &'static str;

/// Tells HTTP/2 by its first bytes.
async fn sniff<T: Transport + 'static>(
    mut stream: T,
    address_id: AddressId,
    proxy: &Arc<Proxy>,
    stage: watch::Receiver<Stage>,
) -> Result<(), Refused> {
    let mut ahead = BytesMut::with_capacity(1024);
    let mut ending = stage.clone();
    let first = async {
        while ahead.len() < PREFACE.len() && PREFACE.starts_with(&ahead) {
            let read = tokio::select! {
                read = stream.read_buf(&mut ahead) => read?,
                () = linger(&mut ending), if ahead.is_empty() => 0,
            };
            if read == 0 {
                return Ok(false);
            }
        }
        Ok::<_, io::Error>(true)
    };
    match timeout(proxy.patience.header_read, first).await {
        Err(_) => return Err("header_read"),
        // A client that has said nothing, or left: nothing to serve.
        Ok(Ok(false)) if ahead.is_empty() => {
            let _ = stream.shutdown().await;
            return Ok(());
        }
        Ok(Err(_)) => return Ok(()),
        Ok(Ok(_)) => {}
    }
    if ahead.starts_with(PREFACE) {
        speak_http2(stream, ahead.freeze(), address_id, proxy, stage).await
    } else {
        speak_http1(stream, ahead.freeze(), address_id, proxy, stage).await
    }
}

async fn speak_http1<T: Transport + 'static>(
    stream: T,
    ahead: Bytes,
    address_id: AddressId,
    proxy: &Arc<Proxy>,
    stage: watch::Receiver<Stage>,
) -> Result<(), Refused> {
    let mut http = http1::Builder::new();
    // Deadlines are the socket's, a FIN is its affair too.
    http.timer(TokioTimer::new())
        .header_read_timeout(None)
        // An answer has the headers that its upstream gave it.
        .auto_date_header(false)
        .max_headers(proxy.limits.headers)
        .max_header_size(proxy.limits.head)
        .max_buf_size(proxy.limits.head.max(MIN_BUFFER));
    let line = Arc::new(Line::from_address(address_id));
    let socket = ClientSocket::new(stream, ahead, line.clone(), proxy.patience);
    let service = service_fn(|request| answer(proxy.clone(), line.clone(), stage.clone(), request));
    let connection = http.serve_connection(TokioIo::new(socket), service).with_upgrades();
    let may_end = until_idle(&line, stage.clone());
    until_end(connection, |connection| connection.graceful_shutdown(), may_end).await
}

async fn speak_http2<T: Transport + 'static>(
    stream: T,
    ahead: Bytes,
    address_id: AddressId,
    proxy: &Arc<Proxy>,
    stage: watch::Receiver<Stage>,
) -> Result<(), Refused> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .auto_date_header(false)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .max_concurrent_streams(proxy.limits.streams)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .max_header_list_size(u32::try_from(proxy.limits.head).unwrap_or(u32::MAX));
    let line = Arc::new(Line::default());
    line.free();
    let of_call = move || Arc::new(Line::from_address(address_id.clone()));
    let socket = ClientSocket::new(stream, ahead, line.clone(), proxy.patience);
    let service = service_fn(|request| answer(proxy.clone(), of_call(), stage.clone(), request));
    let connection = http.serve_connection(TokioIo::new(socket), service);
    // HTTP/2 says for itself which requests it still takes.
    let mut ending = stage.clone();
    let may_end = async move { drop(ending.wait_for(|stage| *stage >= Stage::LastCall).await) };
    until_end(connection, |connection| connection.graceful_shutdown(), may_end).await
}

/// Waits until nothing more is accepted, and then for as long as a request may still be on its way.
async fn linger(stage: &mut watch::Receiver<Stage>) {
    // A sender that is gone means that the process is ending anyway.
    let _ = stage.wait_for(|stage| *stage == Stage::Closing).await;
    tokio::time::sleep(QUIET).await;
}

/// Waits until nothing more is accepted and nothing happens on a connection.
async fn until_idle(line: &Line, mut stage: watch::Receiver<Stage>) {
    let _ = stage.wait_for(|stage| *stage == Stage::Closing).await;
    loop {
        let before = (line.phase(), line.accepted());
        tokio::time::sleep(QUIET).await;
        if before.0 == Phase::Head && before == (line.phase(), line.accepted()) {
            return;
        }
    }
}

/// Answers a request. Its begin is on the line when this returns, before the future is first polled: hyper reads on.
fn answer(
    proxy: Arc<Proxy>,
    line: Arc<Line>,
    stage: watch::Receiver<Stage>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Download>, Infallible>> {
    let (method, version) = (request.method().clone(), request.version());
    let request = Upload::of(request, line.clone(), proxy.limits.max_body);
    async move {
        let mut response = Download::of(exchange(proxy, request).await, line, &method, version);
        let is_last = *stage.borrow() >= Stage::LastCall && version <= Version::HTTP_11;
        if is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // The client sends its next request elsewhere.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response)
    }
}

async fn until_end<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    end: impl FnOnce(Pin<&mut C>),
    may_end: impl Future<Output = ()>,
) -> Result<(), Refused> {
    let mut connection = pin!(connection);
    let result = tokio::select! {
        // What the client has sent is read first: with that the connection may be idle no more.
        biased;
        result = connection.as_mut() => result,
        () = may_end => {
            end(connection.as_mut());
            connection.await
        }
    };
    result
        .map_err(|error| refused_head(&error))
        .or_else(|reason| reason.map_or(Ok(()), Err))
}

/// Why a request's head was refused, if that is why the connection ended.
fn refused_head(error: &hyper::Error) -> Option<Refused> {
    if error.is_parse_too_large() {
        return Some("limits");
    }
    if error.is_parse() {
        return Some("framing");
    }
    let cause = error.source()?.downcast_ref::<io::Error>()?;
    let late = cause.get_ref()?.downcast_ref::<Late>()?;
    (*late == Late::Head).then_some("header_read")
}

impl Proxy {
    /// What clients are waited for, from config.
    pub(crate) fn patience_of(timeouts: &crate::config::TimeoutConfig) -> Patience {
        Patience {
            header_read: timeouts.header_read,
            keep_alive: timeouts.keep_alive,
            body_read: timeouts.body_read,
            idle: timeouts.upstream.idle,
        }
    }
}
