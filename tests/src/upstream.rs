//! A fake upstream: a thread per connection that reads requests and plays the steps that a script answers with.
//!
//! Keeps every request as it came. Lives until the test process ends; never cares what a request means.

use crate::http::{Head, Wire};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A request as the upstream received it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its head.
    pub head: Head,
    /// Its body, without framing.
    pub body: Vec<u8>,
    /// False where the body was cut short.
    pub complete: bool,
}

impl Seen {
    /// Head and body, to look for what must not be there.
    pub fn bytes(&self) -> Vec<u8> {
        [&self.head.raw[..], &self.body].concat()
    }

    /// Whether the body asks for a stream.
    pub fn wants_stream(&self) -> bool {
        serde_json::from_slice::<serde_json::Value>(&self.body).is_ok_and(|body| body["stream"] == true)
    }
}

/// What a fake upstream does next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Writes these bytes at once.
    Send(Vec<u8>),
    /// Waits so long.
    Pause(Duration),
    /// Waits until the test opens the gate.
    Wait(Gate),
    /// Says nothing until the peer closes.
    Hang,
    /// Writes the bytes again and again, at this interval, until the peer is gone.
    Repeat(Vec<u8>, Duration),
    /// Writes back all that comes, until the peer closes: the other end of a tunnel.
    Echo,
    /// Closes the connection by a reset.
    Reset,
    /// Closes the connection.
    Close,
}

/// A door that a test opens.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets everybody through.
    pub fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let (is_open, changed) = &*self.0;
        let waited = changed.wait_timeout_while(lock(is_open), 2 * crate::PATIENCE, |is_open| !*is_open);
        drop(waited);
    }
}

type Script = dyn Fn(&Seen) -> Vec<Step> + Send + Sync;

/// A fake upstream on a port of its own.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    closed: Mutex<Vec<Instant>>,
}

impl Upstream {
    /// Starts one; `script` says how each request is answered.
    pub fn start(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            seen: Mutex::default(),
            closed: Mutex::default(),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = accepting.clone();
                std::thread::spawn(move || {
                    if let Ok(wire) = Wire::new(stream) {
                        shared.serve(wire);
                    }
                });
            }
        });
        Upstream { address, shared }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        lock(&self.shared.seen).len()
    }

    /// When peers closed on a [`Step::Hang`], [`Step::Repeat`] or [`Step::Echo`].
    pub fn closed(&self) -> Vec<Instant> {
        lock(&self.shared.closed).clone()
    }
}

impl Shared {
    fn serve(&self, mut wire: Wire) {
        while let Ok(Some((head, body, complete))) = wire.read_request() {
            let seen = Seen { head, body, complete };
            lock(&self.seen).push(seen.clone());
            for step in (self.script)(&seen) {
                match step {
                    Step::Send(bytes) => {
                        if wire.write(&bytes).is_err() {
                            return;
                        }
                    }
                    Step::Pause(time) => std::thread::sleep(time),
                    Step::Wait(gate) => gate.wait(),
                    Step::Hang => {
                        wire.wait_until_closed();
                        lock(&self.closed).push(Instant::now());
                        return;
                    }
                    Step::Repeat(bytes, every) => {
                        while wire.write(&bytes).is_ok() {
                            std::thread::sleep(every);
                        }
                        lock(&self.closed).push(Instant::now());
                        return;
                    }
                    Step::Echo => {
                        wire.echo();
                        lock(&self.closed).push(Instant::now());
                        return;
                    }
                    Step::Reset => return reset(wire.into_stream()),
                    Step::Close => return,
                }
            }
        }
    }
}

/// Closes by a reset; std has no stable call for it.
pub fn reset(stream: TcpStream) {
    stream.set_nonblocking(true).expect("a socket's mode can change");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream).expect("a nonblocking socket");
        stream.set_zero_linger().expect("a socket's linger can be set");
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An address where nobody listens.
pub fn refusing_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}

/// One chunk in chunked framing.
pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// The end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A response's head from its status and header lines.
pub fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// A whole JSON answer.
pub fn json(status: u16, body: &serde_json::Value) -> Vec<Step> {
    let body = body.to_string();
    let length = body.len().to_string();
    let head = head(
        status,
        &[("content-type", "application/json"), ("content-length", &length)],
    );
    vec![Step::Send([&head, body.as_bytes()].concat())]
}

/// The head of a streamed answer.
pub fn stream_head() -> Step {
    let headers = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")];
    Step::Send(head(200, &headers))
}

/// A whole streamed answer, an event a chunk.
pub fn stream(events: &[String]) -> Vec<Step> {
    let chunks = events.iter().map(|event| Step::Send(chunk(event.as_bytes())));
    std::iter::once(stream_head())
        .chain(chunks)
        .chain([Step::Send(LAST_CHUNK.to_vec())])
        .collect()
}
