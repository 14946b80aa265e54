//! A fake upstream for many calls at once: what a request's model says is what it does.
//!
//! `plain` answers whole, `slow-MS` after a time, `wide-MS` after times spread exponentially around that mean,
//! `stream-EVENTS-MS` streams events at that pace, `silent` never answers. Each event carries the wall clock's microseconds at
//! which it was sent. It can fall ill ([`Illness`]). Lives as long as its runtime.

use crate::fixtures::{chat_answer, chat_end, chat_event};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// Header that names a call to the origin.
pub const CASE: &str = "x-case";

/// A running upstream.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    requests: AtomicU64,
    open: AtomicI64,
    left: Mutex<Vec<(String, Instant)>>,
    illness: Mutex<Option<Illness>>,
}

/// What may be wrong with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Illness {
    /// Every fifth call fails.
    Errors,
    /// Every fifth answer says nothing.
    Empty,
    /// Answers take twice as long.
    Slow,
}

/// A request that is answered; one that is dropped before its end was left.
struct Answering {
    shared: Arc<Shared>,
    case: String,
    done: bool,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        if !self.done {
            let mut left = self.shared.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.push((std::mem::take(&mut self.case), Instant::now()));
        }
    }
}

/// What a model's name asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Plain,
    Slow(u64),
    Wide(u64),
    Stream(u64, u64),
    Silent,
}

impl Plan {
    fn of(model: &str) -> Plan {
        let mut words = model.split('-');
        let kind = words.next();
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
        match kind {
            Some("slow") => Plan::Slow(number()),
            Some("wide") => Plan::Wide(number()),
            Some("stream") => Plan::Stream(number(), number()),
            Some("silent") => Plan::Silent,
            _ => Plan::Plain,
        }
    }
}

impl Origin {
    /// Starts one on a free port.
    pub fn start(runtime: &Handle) -> Origin {
        let shared: Arc<Shared> = Arc::default();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let origin = Origin {
            address,
            shared: shared.clone(),
        };
        runtime.spawn(accept(listener, shared));
        origin
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// From now on this is wrong with it.
    pub fn fall_ill(&self, illness: Illness) {
        *self.shared.illness.lock().unwrap_or_else(PoisonError::into_inner) = Some(illness);
    }

    /// Requests being answered.
    pub fn open(&self) -> i64 {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// When the request of this case was given up by its peer, if it was.
    pub fn left_at(&self, case: &str) -> Option<Instant> {
        let left = self.shared.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.iter().find(|(of, _)| of == case).map(|(_, at)| *at)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let _ = socket.set_nodelay(true);
            let service = service_fn(move |request| answer(shared.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let number = shared.requests.fetch_add(1, Ordering::Relaxed);
    shared.open.fetch_add(1, Ordering::Relaxed);
    let case = request.headers().get(CASE).and_then(|case| case.to_str().ok());
    let illness = *shared.illness.lock().unwrap_or_else(PoisonError::into_inner);
    let is_fifth = number.is_multiple_of(5);
    let mut answering = Answering {
        case: case.unwrap_or_default().to_owned(),
        shared,
        done: false,
    };
    #[expect(clippy::disallowed_methods, reason = "bounded by Limited")]
    let body = Limited::new(request.into_body(), 64 << 20).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let asked: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let model = asked["model"].as_str().unwrap_or_default().to_owned();
    match Plan::of(&model) {
        Plan::Silent => std::future::pending().await,
        Plan::Slow(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        Plan::Wide(millis) => {
            let times = if illness == Some(Illness::Slow) { 2.0 } else { 1.0 };
            let millis = millis as f64 * times * waiting(number);
            tokio::time::sleep(Duration::from_secs_f64(millis / 1000.0)).await;
        }
        Plan::Stream(events, millis) => return Ok(stream_of(answering, model, events, millis)),
        Plan::Plain => {}
    }
    answering.done = true;
    let (status, said) = match illness {
        Some(Illness::Errors) if is_fifth => (500, "I am not well"),
        Some(Illness::Empty) if is_fifth => (200, ""),
        _ => (200, "I am very well, thank you"),
    };
    let body = Full::new(chat_answer(&model, said).to_string().into());
    let head = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json");
    Ok(head.body(body.boxed_unsync()).expect("a well-formed head"))
}

/// A time of the exponential distribution of mean 1, for this number (SplitMix64).
fn waiting(number: u64) -> f64 {
    let mut mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let unit = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
    -(1.0 - unit).ln()
}

fn stream_of(answering: Answering, model: String, events: u64, millis: u64) -> Response<Body> {
    let begun = tokio::time::Instant::now();
    let pieces = stream::unfold(
        (answering, model, 0),
        move |(mut answering, model, number)| async move {
            if number > events {
                return None;
            }
            tokio::time::sleep_until(begun + Duration::from_millis(millis * number)).await;
            let text = if number == events {
                answering.done = true;
                chat_end(&model)
            } else {
                chat_event(&model, &format!("@{} ", micros()))
            };
            Some((Ok(Frame::data(text.into())), (answering, model, number + 1)))
        },
    );
    let head = Response::builder().header(header::CONTENT_TYPE, "text/event-stream");
    head.body(StreamBody::new(pieces).boxed_unsync())
        .expect("a well-formed head")
}

/// Microseconds of the wall clock, which two processes of one machine share.
pub fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
