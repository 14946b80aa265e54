//! The only file that knows pingora: it accepts, supervises and shuts down; hyper speaks HTTP on its streams.
//!
//! pingora's grace period is a fixed sleep, so the end of the drain is decided here: when the last connection has
//! ended, or `drain` has passed, whichever comes first.

use crate::exchange::exchange;
use crate::proxy::Proxy;
use async_trait::async_trait;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pingora_core::apps::ServerApp;
use pingora_core::protocols::Stream;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::Service;
use pingora_core::services::listening;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A bound address, not yet accepting.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// Why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listening on {address}: {source}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    pub source: std::io::Error,
}

/// The longest that tunnels take to end once they are cut.
const CUT: Duration = Duration::from_secs(1);

/// How often the drain looks whether connections are left.
const DRAIN_POLL: Duration = Duration::from_millis(5);

impl Listener {
    /// Binds; port 0 takes a free one.
    ///
    /// # Errors
    /// Where the address is taken or not ours.
    pub fn bind(address: SocketAddr) -> Result<Listener, BindError> {
        let fail = |source| BindError { address, source };
        let socket = TcpListener::bind(address).map_err(fail)?;
        socket.set_nonblocking(true).map_err(fail)?;
        let address = socket.local_addr().map_err(fail)?;
        Ok(Listener { socket, address })
    }

    /// The address bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop` turns true, then lets open calls end for `drain` at most. Blocks until then.
    pub fn run(self, proxy: Arc<Proxy>, threads: usize, drain: Duration, stop: watch::Receiver<bool>) {
        let open = Arc::new(AtomicUsize::new(0));
        let waited_for = proxy.clone();
        let (stopped, has_stopped) = mpsc::channel();
        let (cut, is_cut) = watch::channel(false);
        let app = App {
            proxy,
            open: open.clone(),
            cut: is_cut,
        };
        let mut service = listening::Service::new("proxy".into(), app);
        let address = self.address.to_string();
        service.add_tcp(&address);
        let bound = Bound {
            inner: service,
            address,
            socket: Some(self.socket),
            stopped,
        };
        let conf = ServerConf {
            threads,
            // Longer than any drain: the process ends when `run` returns, not when pingora wakes.
            grace_period_seconds: Some(drain.as_secs() + 3600),
            ..ServerConf::default()
        };
        let mut server = Server::new_with_opt_and_conf(None, conf);
        server.bootstrap();
        server.add_service(bound);
        let started = std::thread::Builder::new().name("pingora".into()).spawn(move || {
            server.run(RunArgs {
                shutdown_signal: Box::new(Stop(stop)),
            })
        });
        if let Err(error) = started {
            tracing::error!(%error, "starting the server's thread failed");
            return;
        }
        // Blocks while calls are accepted; a sender that is gone means that the server's thread has ended.
        let _ = has_stopped.recv();
        // What is left are connections, and tunnels that were connections.
        let left = || open.load(Ordering::Acquire) + waited_for.tunnels.open();
        let began = Instant::now();
        while left() > 0 && began.elapsed() < drain {
            std::thread::sleep(DRAIN_POLL);
        }
        match left() {
            0 => tracing::info!("all calls have ended"),
            left => tracing::warn!(connections = left, "timeouts.drain has passed: open calls are cut"),
        }
        // What is still open ends here rather than with the process, so that its record is written.
        cut.send_replace(true);
        waited_for.tunnels.cut();
        while left() > 0 && began.elapsed() < drain + CUT {
            std::thread::sleep(DRAIN_POLL);
        }
    }
}

/// Who waits for signals registered for them before the socket was announced.
struct Stop(watch::Receiver<bool>);

#[async_trait]
impl ShutdownSignalWatch for Stop {
    async fn recv(&self) -> ShutdownSignal {
        // A sender that is gone means that the process is ending anyway.
        let _ = self.0.clone().wait_for(|stop| *stop).await;
        ShutdownSignal::GracefulTerminate
    }
}

/// pingora's service over a socket that is bound already, so that a free port is known before it accepts.
struct Bound {
    inner: listening::Service<App>,
    address: String,
    socket: Option<TcpListener>,
    stopped: mpsc::Sender<()>,
}

#[async_trait]
impl Service for Bound {
    async fn start_service(&mut self, fds: Option<ListenFds>, shutdown: ShutdownWatch, listeners_per_fd: usize) {
        if let (Some(fds), Some(socket)) = (&fds, self.socket.take()) {
            fds.lock().add(self.address.clone(), socket.into_raw_fd());
        }
        Service::start_service(&mut self.inner, fds, shutdown, listeners_per_fd).await;
        let _ = self.stopped.send(());
    }

    fn name(&self) -> &str {
        "proxy"
    }
}

struct App {
    proxy: Arc<Proxy>,
    open: Arc<AtomicUsize>,
    /// Turns true when the drain is over.
    cut: watch::Receiver<bool>,
}

/// Counts a connection while it lives.
struct Connection(Arc<AtomicUsize>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl ServerApp for App {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let before = self.open.fetch_add(1, Ordering::AcqRel);
        let _connection = Connection(self.open.clone());
        let proxy = self.proxy.clone();
        if before >= proxy.limits.connections {
            proxy.metrics.rejected.with_label_values(&["connections"]).inc();
            return None;
        }
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(proxy.header_read)
            .max_headers(proxy.limits.headers)
            .max_buf_size(proxy.limits.head.max(8192));
        http.http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(proxy.limits.head).unwrap_or(u32::MAX));
        let service = {
            let proxy = proxy.clone();
            service_fn(move |request: Request<Incoming>| {
                let proxy = proxy.clone();
                async move { Ok::<_, Infallible>(exchange(proxy, request).await) }
            })
        };
        let mut connection = std::pin::pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let mut shutdown = shutdown.clone();
        let going_down = async move { shutdown.wait_for(|down| *down).await.is_ok() };
        let ends = async {
            tokio::select! {
                result = connection.as_mut() => result,
                _ = going_down => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        let mut cut = self.cut.clone();
        let result = tokio::select! {
            result = ends => result,
            _ = cut.wait_for(|cut| *cut) => Ok(()),
        };
        if let Err(error) = result
            && let Some(reason) = refused_head(&*error)
        {
            proxy.metrics.rejected.with_label_values(&[reason]).inc();
        }
        None
    }
}

/// Why hyper refused a request's head, if that is why the connection ended.
fn refused_head(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let error = error.downcast_ref::<hyper::Error>()?;
    if error.is_parse_too_large() {
        Some("limits")
    } else if error.is_parse() {
        Some("framing")
    } else if error.is_timeout() {
        Some("header_read")
    } else {
        None
    }
}
