//! The only file that knows pingora: it supervises and shuts down; connections are accepted here and served by
//! `connection.rs`.
//!
//! pingora's grace period is a fixed sleep, so the end of the drain is decided here: when the last connection has
//! ended, or `drain` has passed, whichever comes first.

use crate::connection::Stage;
use crate::proxy::Proxy;
use crate::workers::Workers;
use async_trait::async_trait;
use listenfd::ListenFd;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::Service;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

/// A bound address, not yet accepting.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    /// A service manager holds the socket too.
    is_held: bool,
}

/// Why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listening on {address}: {source}{}", advice(source.kind()))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    pub source: std::io::Error,
}

/// What to do about it.
fn advice(kind: std::io::ErrorKind) -> &'static str {
    match kind {
        std::io::ErrorKind::AddrInUse => ": another program listens there: stop it, or use another address",
        std::io::ErrorKind::AddrNotAvailable => ": this machine has no such address",
        _ => "",
    }
}

/// The longest that tunnels take to end once they are cut.
const CUT: Duration = Duration::from_secs(1);

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// How long nothing is accepted after the system has refused to: it has no file descriptor or memory left.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// How long connections are accepted and kept ones served while the process ends. A server that closes a kept connection
/// at once may find that a request had just been sent on it, which then fails; after a while its client has used those it
/// keeps.
const LAST_CALL: Duration = Duration::from_secs(2);

/// How often the drain looks whether connections are left.
const DRAIN_POLL: Duration = Duration::from_millis(5);

impl Listener {
    /// Takes the socket that a service manager holds (`LISTEN_FDS`), or else binds; port 0 takes a free one.
    ///
    /// A socket that is held outlives this process: connections wait in it while one instance ends and the next starts,
    /// and several instances may accept from it.
    ///
    /// # Errors
    /// Where the address is taken or not ours, or what was handed over is no TCP socket.
    pub fn bind(address: SocketAddr) -> Result<Listener, BindError> {
        let fail = |source| BindError { address, source };
        let held = ListenFd::from_env().take_tcp_listener(0).map_err(fail)?;
        let is_held = held.is_some();
        if is_held {
            tracing::info!("the listening socket was handed over: `listen` is not used");
        }
        let socket = held.map_or_else(|| TcpListener::bind(address), Ok).map_err(fail)?;
        socket.set_nonblocking(true).map_err(fail)?;
        socket2::SockRef::from(&socket).listen(BACKLOG).map_err(fail)?;
        let address = socket.local_addr().map_err(fail)?;
        Ok(Listener {
            socket,
            address,
            is_held,
        })
    }

    /// The address bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop` turns true, then lets open calls end for `drain` at most. Blocks until then.
    pub fn run(self, proxy: Arc<Proxy>, threads: usize, drain: Duration, stop: watch::Receiver<bool>) {
        let (stopped, has_stopped) = mpsc::channel();
        let workers = match Workers::start(&proxy, threads) {
            Ok(workers) => Arc::new(workers),
            Err(error) => return tracing::error!(%error, "starting the threads of calls failed"),
        };
        let accepting = Accepting {
            proxy: proxy.clone(),
            workers: workers.clone(),
            socket: Some(self.socket),
            is_held: self.is_held,
            stopped,
        };
        let conf = ServerConf {
            // For accepting alone.
            threads: 1,
            // Longer than any drain: the process ends when `run` returns, not when pingora wakes.
            grace_period_seconds: Some(drain.as_secs() + 3600),
            ..ServerConf::default()
        };
        let mut server = Server::new_with_opt_and_conf(None, conf);
        server.bootstrap();
        server.add_service(accepting);
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
        let left = || workers.open() + proxy.tunnels.open();
        let began = Instant::now();
        while left() > 0 && began.elapsed() < drain {
            std::thread::sleep(DRAIN_POLL);
        }
        match left() {
            0 => tracing::info!("all calls have ended"),
            left => tracing::warn!(connections = left, "timeouts.drain has passed: open calls are cut"),
        }
        // What is still open ends here rather than with the process, so that its record is written.
        workers.cut.send_replace(true);
        proxy.tunnels.cut();
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
struct Accepting {
    proxy: Arc<Proxy>,
    workers: Arc<Workers>,
    socket: Option<TcpListener>,
    is_held: bool,
    stopped: mpsc::Sender<()>,
}

impl Accepting {
    async fn accept(&self, socket: TcpListener, mut shutdown: ShutdownWatch) -> io::Result<()> {
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let (stage, at) = watch::channel(Stage::Open);
        let mut over = pin!(self.over(&mut shutdown, &stage));
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = &mut over => break,
            };
            match accepted {
                Ok((stream, _)) => self.serve(stream, &at),
                Err(error) => {
                    tracing::error!(%error, "accepting a connection failed");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
        // Connections that wait in a socket that others hold are theirs; in our own they would be reset with it.
        while !self.is_held
            && let Ok(Ok((stream, _))) = timeout(Duration::ZERO, socket.accept()).await
        {
            self.serve(stream, &at);
        }
        Ok(())
    }

    /// Waits until the process is to end and its kept connections have ended or had time for a last call each.
    /// Each answer closes one then, and who finds none left opens a new one, which is served here as well.
    async fn over(&self, shutdown: &mut ShutdownWatch, stage: &watch::Sender<Stage>) {
        // A sender that is gone means that the process is ending anyway.
        let _ = shutdown.wait_for(|down| *down).await;
        stage.send_replace(Stage::LastCall);
        let began = Instant::now();
        while self.workers.open() > 0 && began.elapsed() < LAST_CALL {
            tokio::time::sleep(DRAIN_POLL).await;
        }
        stage.send_replace(Stage::Closing);
    }

    fn serve(&self, stream: TcpStream, stage: &watch::Receiver<Stage>) {
        if self.workers.open() >= self.proxy.limits.connections {
            self.proxy.metrics.rejected.with_label_values(&["connections"]).inc();
            return;
        }
        match stream.into_std() {
            Ok(stream) => self.workers.take(stream, stage.clone()),
            Err(error) => tracing::error!(%error, "an accepted connection can't be served"),
        }
    }
}

#[async_trait]
impl Service for Accepting {
    async fn start_service(&mut self, _: Option<ListenFds>, shutdown: ShutdownWatch, _: usize) {
        if let Some(socket) = self.socket.take()
            && let Err(error) = self.accept(socket, shutdown).await
        {
            tracing::error!(%error, "listening failed");
        }
        let _ = self.stopped.send(());
    }

    fn name(&self) -> &str {
        "proxy"
    }
}
