//! One call in flight, as far as its record is concerned: from its first byte to its frame in the spool.
//!
//! Every accepted call becomes an [`OpenCall`], and every `OpenCall` ends in exactly one of `kept` and
//! `dropped{reason}`: by [`OpenCall::commit`] where the call ended, or by being dropped where the client went away.

use crate::config::{Bodies, CaptureConfig};
use crate::form::ModelScan;
use crate::guard::Watched;
use crate::headers;
use crate::hold::Lost;
use crate::metrics::{Metrics, status_class};
use crate::spool::{Entry, Ledger, Spool, Submitted};
use crate::tee::{BodyCopy, Budget, RequestCopy};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use understudy_call::call::{Api, Usage};
use understudy_call::frame::{BodyNote, FrameHead, MAX_PIECES};
use understudy_call::keys::Origins;
use understudy_call::record::{Attempt, Outcome};
use understudy_call::wire;
use uuid::Uuid;

/// What all calls share that are captured.
pub struct Capture {
    /// The spool; `None` = nothing is captured.
    spool: Option<Arc<Spool>>,
    /// Makes the pseudonyms of clients and conversations.
    pub origins: Origins,
    /// The longest that a call waits for its record.
    pub wait: Duration,
    /// Whether a call that can't be kept is refused.
    pub required: bool,
    bodies: Bodies,
    copy_limit: u64,
    budget: Arc<Budget>,
    /// Numbers the calls.
    ledger: Arc<Ledger>,
    metrics: Metrics,
}

/// Why a call is not to be kept, by config or by the client; the label of `dropped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// `capture.exclude`, or the client's wish.
    Excluded,
    /// Not in the sample.
    SampledOut,
    /// The kill switch is on.
    Bypassed,
}

impl NotKept {
    fn as_str(self) -> &'static str {
        match self {
            NotKept::Excluded => "excluded",
            NotKept::SampledOut => "sampled_out",
            NotKept::Bypassed => "bypass",
        }
    }
}

impl Capture {
    /// Captures into `spool`; copies keep `copy_limit` bytes of a body at most.
    pub fn new(
        spool: Option<Arc<Spool>>,
        origins: Origins,
        config: &CaptureConfig,
        copy_limit: u64,
        metrics: Metrics,
    ) -> Capture {
        let ledger = match &spool {
            Some(spool) => spool.ledger().clone(),
            None => Arc::new(Ledger::new(config.sample)),
        };
        Capture {
            spool,
            ledger,
            origins,
            wait: config.wait,
            required: config.required,
            bodies: config.bodies,
            copy_limit,
            budget: Budget::new(config.memory),
            metrics,
        }
    }

    /// Whether the spool is known to be slow, full or failing: with `required`, calls are refused meanwhile.
    pub fn is_slow(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| spool.in_trouble())
    }

    /// A call ended without a record.
    fn drop_call(&self, reason: &str, sequence: u64) {
        self.metrics.dropped.with_label_values(&[reason]).inc();
        self.metrics.in_flight.dec();
        self.ledger.dropped(reason, sequence);
    }

    /// An empty copy of a body, or one that stays empty.
    fn copy(&self, copied: bool) -> BodyCopy {
        BodyCopy::new(self.budget.clone(), if copied { self.copy_limit } else { 0 })
    }

    /// Begins a call: from here on it is counted.
    pub fn begin(self: &Arc<Self>, started: Instant, upstream: &str, api: Api) -> OpenCall {
        let call_id = Uuid::now_v7();
        let sequence = self.ledger.begin();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.metrics.calls.with_label_values(&[upstream, api.as_str()]).inc();
        self.metrics.in_flight.inc();
        let copied = api != Api::Other && self.bodies != Bodies::None && self.spool.is_some();
        let copy = || self.copy(copied);
        OpenCall {
            head: FrameHead {
                call_id: call_id.to_string(),
                boot_id: self.ledger.boot_id().to_owned(),
                sequence,
                started_at: i64::try_from(now.as_micros()).unwrap_or(i64::MAX),
                upstream: upstream.to_owned(),
                api: Some(api),
                body_note: (self.bodies == Bodies::None).then_some(BodyNote::Excluded),
                ..FrameHead::default()
            },
            not_kept: (!self.ledger.in_sample(sequence)).then_some(NotKept::SampledOut),
            started,
            request: Arc::new(Mutex::new(RequestCopy {
                body: copy(),
                model: None,
            })),
            response: copy(),
            attempt: None,
            answered: None,
            committed: false,
            watched: None,
            permit: None,
            capture: self.clone(),
        }
    }
}

/// A call in flight.
pub struct OpenCall {
    /// What is known so far.
    pub head: FrameHead,
    /// Why it is not to be kept, if it is not.
    pub not_kept: Option<NotKept>,
    /// When its first byte came.
    pub started: Instant,
    /// What the guard is to be told at its end, where its route is guarded.
    watched: Option<Watched>,
    /// Held while a candidate with `max_in_flight` works on it.
    pub permit: Option<tokio::sync::OwnedSemaphorePermit>,
    request: Arc<Mutex<RequestCopy>>,
    response: BodyCopy,
    attempt: Option<(Attempt, Instant)>,
    /// When the attempt's last byte came, where more was done with its answer then.
    answered: Option<Instant>,
    committed: bool,
    capture: Arc<Capture>,
}

impl OpenCall {
    /// Looks for the model in a request's body of this media type, which is not copied.
    pub fn look_for_model(&self, content_type: &str) {
        self.lock_request().model = ModelScan::of(content_type);
    }

    fn lock_request(&self) -> MutexGuard<'_, RequestCopy> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The copy of the request's body, for the stream that carries it.
    pub fn request_copy(&self) -> Arc<Mutex<RequestCopy>> {
        self.request.clone()
    }

    /// Takes note of a piece of the request's body.
    pub fn request_piece(&self, piece: &Bytes) {
        self.lock_request().push(piece);
    }

    /// The guard is to be told of the call. Where bodies are not kept they are copied all the same if it looks at them, and
    /// let go of once it did.
    pub(crate) fn watch(&mut self, watched: Watched, request: Option<&Bytes>) {
        if self.capture.bodies == Bodies::None && watched.looks_at_bodies() {
            let mut copy = self.capture.copy(true);
            request.into_iter().for_each(|body| copy.push(body));
            self.lock_request().body = copy;
            self.response = self.capture.copy(true);
        }
        self.watched = Some(watched);
    }

    /// An attempt at an upstream begins.
    pub fn attempt_begins(&mut self, upstream: &str, reason: Option<&str>) {
        let reason = reason.map(str::to_owned);
        self.attempt = Some((
            Attempt {
                upstream: upstream.to_owned(),
                reason,
                ..Attempt::default()
            },
            Instant::now(),
        ));
    }

    /// The attempt's response head came.
    fn attempt_status(&mut self, status: u16) {
        if let Some((attempt, _)) = &mut self.attempt {
            attempt.status = Some(i32::from(status));
        }
    }

    /// Puts into the record what the head of the response tells.
    pub fn response_head(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.attempt_status(status.as_u16());
        self.head.status = Some(status.as_u16());
        self.head.content_type = headers::text(headers, header::CONTENT_TYPE);
        let encoding = headers::text(headers, header::CONTENT_ENCODING);
        self.head.content_encoding = encoding.filter(|encoding| encoding != "identity");
        let mut names = headers.keys().map(|name| name.as_str());
        let is_told = names.any(|name| name.starts_with(wire::USAGE_HEADERS));
        let counted = is_told.then(|| wire::usage_in_headers(|name| headers.get(name)?.to_str().ok()));
        self.head.header_usage = counted.filter(|counted| *counted != Usage::default());
    }

    /// The last byte of the attempt's answer came: what is done with it from now on is no time of the upstream's.
    pub(crate) fn attempt_answered(&mut self) {
        self.answered = Some(Instant::now());
    }

    /// The attempt ended; `served` says whether the client got its answer.
    pub fn attempt_ends(&mut self, outcome: Outcome, served: bool, reason: Option<String>) {
        let ended = self.answered.take().unwrap_or_else(Instant::now);
        if let Some((mut attempt, began)) = self.attempt.take() {
            attempt.outcome = outcome;
            attempt.served = served;
            attempt.duration_ms = Some(ended.saturating_duration_since(began).as_secs_f64() * 1000.0);
            attempt.reason = reason.or(attempt.reason);
            self.head.attempts.push(attempt);
        }
    }

    /// What the open attempt used and cost, as far as it is known: for one that loses, since its answer is not kept.
    pub fn attempt_used(&mut self, output_tokens: Option<i64>, cost_usd: Option<f64>) {
        if let Some((attempt, _)) = &mut self.attempt {
            attempt.output_tokens = output_tokens;
            attempt.cost_usd = cost_usd;
        }
    }

    /// The candidate's answer is not the client's: the open attempt ends, all that the record says of its answer is
    /// forgotten, and the baseline is next.
    pub(crate) fn falls_back(&mut self, lost: Lost) {
        let Lost {
            reason,
            outcome,
            cause,
            words,
            ..
        } = lost;
        let candidate = self.attempt.as_ref().map(|(attempt, _)| attempt.upstream.clone());
        let route = self.head.route.as_deref().unwrap_or("none");
        let labels = [route, candidate.as_deref().unwrap_or_default(), reason.as_str()];
        self.capture.metrics.fallbacks.with_label_values(&labels).inc();
        if let Some(watched) = &mut self.watched {
            watched.lost = Some((reason, cause));
        }
        self.attempt_ends(outcome, false, Some(format!("{}: {words}", reason.as_str())));
        self.permit = None;
        let head = &mut self.head;
        head.arm = Some(head.upstream.clone());
        head.status = None;
        head.content_type = None;
        head.content_encoding = None;
        head.response_model = None;
        head.header_usage = None;
    }

    /// Takes note of a piece of the response's body. `streamed` keeps its arrival too.
    pub fn response_piece(&mut self, piece: &Bytes, streamed: bool) {
        let now = self.micros();
        self.head.first_chunk_us.get_or_insert(now);
        if streamed {
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            if self.head.pieces.len() < MAX_PIECES {
                self.head.pieces.push((length, now));
            } else if let Some(last) = self.head.pieces.last_mut() {
                last.0 = last.0.saturating_add(length);
            }
        }
        self.response.push(piece);
    }

    /// Notes the bytes of a tunnel, which are not copied.
    pub fn tunnelled(&mut self, up: u64, down: u64) {
        self.lock_request().body.skip(up);
        self.response.skip(down);
    }

    /// Adds to the call's own time.
    pub fn add_overhead(&mut self, time: Duration) {
        *self.head.overhead_us.get_or_insert(0) += u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The call ended: its frame goes to the spool. Returns what to wait for before the client sees the end.
    pub fn commit(&mut self, outcome: Outcome) -> Option<oneshot::Receiver<()>> {
        if self.committed {
            return None;
        }
        self.committed = true;
        self.permit = None;
        self.attempt_ends(outcome, true, None);
        self.head.outcome = match (outcome, self.head.status) {
            (Outcome::Ok, Some(400..)) => Outcome::UpstreamStatus,
            (outcome, _) => outcome,
        };
        let duration = self.micros();
        self.head.duration_us = Some(duration);
        self.head.response_bytes = self.response.seen();
        let scanned = self.lock_request().model.take().and_then(|scan| scan.model());
        self.head.request_model = self.head.request_model.take().or(scanned);
        let (mut request, mut response) = self.take_copies();
        if let Some(watched) = self.watched.take() {
            watched.ended(&self.head, &request, &response);
        }
        if self.capture.bodies == Bodies::None {
            request.clear();
            response.clear();
        }
        self.head.request_bytes = request.seen();
        self.head.body_note = self.head.body_note.or(request.note()).or(response.note());
        self.count(duration);
        let spool = match (self.not_kept, &self.capture.spool) {
            (None, Some(spool)) => spool,
            (not_kept, _) => {
                let reason = not_kept.map_or("capture_off", NotKept::as_str);
                self.capture.drop_call(reason, self.head.sequence);
                return None;
            }
        };
        match spool.submit(Entry::new(std::mem::take(&mut self.head), request, response)) {
            Submitted::Waiting(written) => Some(written),
            Submitted::Slow | Submitted::Dropped => None,
        }
    }

    fn take_copies(&mut self) -> (BodyCopy, BodyCopy) {
        let empty = || self.capture.copy(false);
        let request = {
            let mut shared = self.lock_request();
            std::mem::replace(&mut shared.body, empty())
        };
        let response = empty();
        (request, std::mem::replace(&mut self.response, response))
    }

    fn count(&self, duration_us: u64) {
        let (metrics, head) = (&self.capture.metrics, &self.head);
        let api = head.api.unwrap_or(Api::Other).as_str();
        let seconds = |micros: u64| micros as f64 / 1e6;
        let served = head.arm.as_deref().unwrap_or(&head.upstream);
        metrics
            .ended
            .with_label_values(&[&head.upstream, api, head.outcome.as_str()])
            .inc();
        metrics
            .responses
            .with_label_values(&[served, status_class(head.status)])
            .inc();
        metrics
            .duration
            .with_label_values(&[served])
            .observe(seconds(duration_us));
        if let Some(first) = head.first_chunk_us {
            metrics.first_chunk.with_label_values(&[served]).observe(seconds(first));
        }
        if let Some(overhead) = head.overhead_us {
            metrics.overhead.observe(seconds(overhead));
        }
        metrics
            .request_bytes
            .with_label_values(&[&head.upstream])
            .inc_by(head.request_bytes);
        metrics
            .response_bytes
            .with_label_values(&[served])
            .inc_by(head.response_bytes);
    }

    /// Says how long a wait for the record took, and whether it timed out.
    pub fn waited(&self, time: Duration, timed_out: bool) {
        self.capture.metrics.capture_wait.observe(time.as_secs_f64());
        if timed_out && let Some(spool) = &self.capture.spool {
            spool.is_slow();
        }
    }

    /// The longest that this call waits for its record.
    pub fn wait_limit(&self) -> Duration {
        self.capture.wait
    }

    /// Waits for the record to be written, for `capture.wait` at most.
    pub async fn wait(&mut self, written: Option<oneshot::Receiver<()>>) {
        let Some(written) = written else { return };
        let began = Instant::now();
        let timed_out = tokio::time::timeout(self.capture.wait, written).await.is_err();
        self.waited(began.elapsed(), timed_out);
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        // Dropped before its end: the client went away, and with it the upstream call.
        let _ = self.commit(Outcome::ClientClosed);
    }
}
