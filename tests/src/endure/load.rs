//! Load as a fleet of agents makes it: calls at a steady rate over kept connections, whatever the answers take.
//!
//! Nothing is sent twice: a call that fails has failed, also where a client library would have tried again.

use super::origin::{CASE, micros};
use crate::contains;
use crate::fixtures::{CHAT, chat_request};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The longest that a call may take: against hanging.
const CALL_LIMIT: Duration = Duration::from_secs(120);
/// The most calls open at once.
const MAX_OPEN: usize = 15_000;

/// The most connections that are kept idle: about what client libraries keep.
const MAX_IDLE: usize = 32;

/// Agents that share connections.
#[derive(Clone, Debug)]
pub struct Agents {
    client: Client<HttpConnector, Full<Bytes>>,
    /// Where they send to.
    pub address: SocketAddr,
    /// What a user says in each call.
    text: Arc<str>,
    /// Whether each call is a conversation of its own.
    apart: bool,
}

/// How one call went.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Its name, in the row's tags.
    pub case: String,
    /// Status, 0 where none came.
    pub status: u16,
    /// The answer came to its proper end.
    pub complete: bool,
    /// A stream's end mark came.
    pub end_mark: bool,
    /// What went wrong.
    pub error: Option<String>,
    /// When it began.
    pub began: Option<Instant>,
    /// From its start to its end.
    pub took: Duration,
    /// Microseconds from the sending of each event to its arrival.
    pub delays: Vec<u64>,
}

impl Done {
    /// Whether the client has all that it asked for.
    pub fn is_whole(&self) -> bool {
        self.status == 200 && (self.complete || self.end_mark)
    }
}

impl Agents {
    /// Agents of this address.
    pub fn new(address: SocketAddr) -> Agents {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(MAX_IDLE)
            .retry_canceled_requests(false)
            .build(connector);
        Agents {
            client,
            address,
            text: "How are you?".into(),
            apart: false,
        }
    }

    /// Agents that say so many bytes in each call.
    pub fn saying(mut self, bytes: usize) -> Agents {
        self.text = "word ".repeat(bytes.div_ceil(5)).into();
        self
    }

    /// Agents each of whose calls is a conversation of its own.
    pub fn apart(mut self) -> Agents {
        self.apart = true;
        self
    }

    /// One call of this model, which says what the origin does.
    pub async fn call(&self, case: &str, model: &str) -> Done {
        let began = Instant::now();
        let mut done = Done {
            case: case.to_owned(),
            began: Some(began),
            ..Done::default()
        };
        match tokio::time::timeout(CALL_LIMIT, self.send(model, &mut done)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => done.error = Some(error),
            Err(_) => done.error = Some("no end within the limit".into()),
        }
        done.took = began.elapsed();
        done
    }

    async fn send(&self, model: &str, done: &mut Done) -> Result<(), String> {
        let body = chat_request(model, &self.text, model.starts_with("stream"));
        let mut request = Request::post(format!("http://{}{CHAT}", self.address))
            .header("content-type", "application/json")
            .header("authorization", "Bearer k")
            .header("x-understudy-tag-case", &done.case)
            .header(CASE, &done.case);
        if self.apart {
            request = request.header("x-understudy-conversation", &done.case);
        }
        let request = request
            .body(Full::new(body.into()))
            .map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| words(&error))?;
        done.status = response.status().as_u16();
        let mut body = response.into_body();
        // The end mark may be cut in two.
        let mut tail = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| words(&error))?;
            let Some(piece) = frame.data_ref() else { continue };
            note_delays(piece, &mut done.delays);
            tail.extend_from_slice(piece);
            done.end_mark |= contains(&tail, "data: [DONE]\n\n");
            tail.drain(..tail.len().saturating_sub(16));
        }
        done.complete = true;
        Ok(())
    }
}

/// An error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// How long the events in a piece were on their way.
fn note_delays(piece: &[u8], delays: &mut Vec<u64>) {
    let now = micros();
    for (at, _) in piece.iter().enumerate().filter(|(_, byte)| **byte == b'@') {
        let digits: String = piece[at + 1..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .map(|byte| char::from(*byte))
            .collect();
        delays.extend(digits.parse::<u64>().map(|sent| now.saturating_sub(sent)));
    }
}

/// Calls that are over, as they end.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Done>>>);

impl Log {
    fn lock(&self) -> MutexGuard<'_, Vec<Done>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are over.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// All of them; none are left.
    pub fn take(&self) -> Vec<Done> {
        std::mem::take(&mut *self.lock())
    }
}

/// Makes calls at a rate until told to stop, and waits for the last; `model_of` says what each asks for.
pub async fn drive(
    agents: Agents,
    rate: u64,
    prefix: String,
    model_of: fn(u64) -> &'static str,
    log: Log,
    mut stop: watch::Receiver<bool>,
) {
    let begun = Instant::now();
    let mut made = 0;
    let mut open = tokio::task::JoinSet::new();
    while !*stop.borrow_and_update() {
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
        while made < due && open.len() < MAX_OPEN {
            let (agents, log) = (agents.clone(), log.clone());
            let (case, model) = (format!("{prefix}-{made}"), model_of(made));
            open.spawn(async move {
                let done = agents.call(&case, model).await;
                log.lock().push(done);
            });
            made += 1;
        }
        while open.try_join_next().is_some() {}
        let _ = tokio::time::timeout(Duration::from_millis(2), stop.changed()).await;
    }
    while open.join_next().await.is_some() {}
}

/// Load that runs beside what a command does.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<bool>,
    driver: tokio::task::JoinHandle<()>,
    /// Calls that are over.
    pub log: Log,
    begun: Instant,
}

/// Starts load.
pub fn start(
    runtime: &tokio::runtime::Runtime,
    agents: Agents,
    rate: u64,
    prefix: &str,
    model_of: fn(u64) -> &'static str,
) -> Running {
    let (stop, stopped) = watch::channel(false);
    let log = Log::default();
    let driver = runtime.spawn(drive(agents, rate, prefix.to_owned(), model_of, log.clone(), stopped));
    Running {
        stop,
        driver,
        log,
        begun: Instant::now(),
    }
}

impl Running {
    /// Stops it, waits for open calls, and gives all that are over, and calls per second.
    pub fn finish(self, runtime: &tokio::runtime::Runtime) -> (Vec<Done>, f64) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let _ = self.stop.send(true);
        runtime.block_on(self.driver).expect("the load does not panic");
        let done = self.log.take();
        let rate = done.len() as f64 / seconds;
        (done, rate)
    }
}

/// The calls that are not whole, as a few words.
pub fn failures(calls: &[Done]) -> (usize, String) {
    let failed: Vec<&Done> = calls.iter().filter(|call| !call.is_whole()).collect();
    let first = failed.first().map_or(String::new(), |call| {
        let error = call.error.as_deref().unwrap_or("cut short");
        format!(" (first: {} status {} {error})", call.case, call.status)
    });
    (failed.len(), format!("{} of {}{first}", failed.len(), calls.len()))
}

/// A quantile of numbers; 0 of none.
pub fn quantile(values: &mut [u64], share: f64) -> u64 {
    values.sort_unstable();
    let at = (values.len() as f64 * share) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// A quantile of the time that whole calls took.
pub fn time_quantile(calls: &[Done], share: f64) -> Duration {
    let whole = calls.iter().filter(|call| call.is_whole());
    let mut micros: Vec<u64> = whole.map(|call| call.took.as_micros() as u64).collect();
    Duration::from_micros(quantile(&mut micros, share))
}
