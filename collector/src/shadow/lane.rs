//! One rule and one of its upstreams: a bounded queue, and as many askers as may be in flight.

use super::Shared;
use super::bench::Bench;
use super::results::Agreement;
use super::rule::Rule;
use crate::mask::Values;
use crate::replay::{Arm, Budget, Drawn, Pace, REVERSE, ReplayConfig, Reply, reply_row};
use crate::row::{RowMaker, request_text};
use crate::score::{kind_in_task, score};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use understudy_call::frame::{FrameHead, RawCall};
use understudy_call::record::{CallRecord, Outcome, ScoreRecord};
use understudy_call::wire;

/// Calls that wait in a lane.
const QUEUE: usize = 256;
/// Bytes of their bodies.
const QUEUE_BYTES: usize = 32 << 20;
/// Tries of a call that fails in a way that may pass.
const TRIES: u32 = 2;
/// The wait between them.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The `source` of rows of shadows.
const SHADOW: &str = "shadow";

/// Why an upstream is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// A candidate, to compare it with the baseline.
    Candidate,
    /// The baseline, to compare it with itself.
    Floor,
    /// The baseline, to compare a candidate's answer that a client got with it.
    Reverse,
}

/// A call to ask.
struct Job {
    record: CallRecord,
    errand: Errand,
    raw: Option<Box<Raw>>,
    /// Text that it holds.
    bytes: usize,
}

fn text_bytes(record: &CallRecord) -> usize {
    let texts = [&record.request_body, &record.response_body, &record.output_text];
    texts.into_iter().flatten().map(String::len).sum()
}

/// A call as it was, for an upstream that may see it.
struct Raw {
    call: RawCall,
    /// What its conversation told the mask.
    known: Values,
}

impl Raw {
    fn of(call: &RawCall, known: &Values) -> Raw {
        let call = RawCall {
            head: call.head.clone(),
            request: call.request.clone(),
            response: Vec::new(),
        };
        Raw {
            call,
            known: known.clone(),
        }
    }

    /// The call with its request as it was.
    fn asked(&self, call: &Drawn) -> Option<Drawn> {
        Some(Drawn {
            request_body: request_text(&self.call)?,
            ..call.clone()
        })
    }

    /// Puts the mask's words in place of what was answered: the same surrogates as in the recorded answer.
    fn mask(self, rows: &RowMaker, call: &Drawn, reply: &mut Reply) {
        let body = reply.body.take().unwrap_or_default();
        let answered = reply.answer.take();
        if reply.outcome != Outcome::Ok {
            // What an error says is not needed, and may quote the request.
            return;
        }
        let head = FrameHead {
            content_type: Some("application/json".into()),
            content_encoding: None,
            status: Some(200),
            pieces: Vec::new(),
            error: None,
            ..self.call.head
        };
        let raw = RawCall {
            head,
            request: self.call.request,
            response: body.into_bytes(),
        };
        let Some(masked) = rows.row(&raw, |_| Some(self.known)).record.response_body else {
            return;
        };
        let Ok(assembled) = wire::assemble(call.api, None, masked.as_bytes()) else {
            return;
        };
        reply.body = Some(masked);
        reply.answer = answered.map(|_| wire::parse_response(call.api, 200, &assembled).without_padding());
    }
}

/// A lane, seen from where calls are offered.
pub(super) struct Lane {
    pub(super) rule: Rule,
    arm: Arm,
    queue: mpsc::Sender<Job>,
    waiting: Arc<AtomicUsize>,
    askers: Vec<JoinHandle<()>>,
    /// Where its answers are judged, if they are.
    bench: Option<Arc<Bench>>,
    shared: Arc<Shared>,
}

impl Lane {
    pub(super) fn open(rule: &Rule, arm: &Arm, shared: Arc<Shared>, runtime: &Handle) -> Lane {
        if let Some(model) = arm.model() {
            shared.results.asks(&arm.version, model);
        }
        let (queue, jobs) = mpsc::channel(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        let waiting = Arc::new(AtomicUsize::new(0));
        let bench = rule.judge.as_ref();
        let bench = bench.map(|judge| Arc::new(Bench::open(judge, &rule.purse(), &shared, runtime)));
        let most = arm.max_in_flight().unwrap_or(usize::MAX);
        let askers = (0..rule.budget.concurrency.min(most).max(1)).map(|_| {
            let asker = Asker::new(rule, arm, bench.clone(), shared.clone());
            runtime.spawn(asker.ask_all(jobs.clone(), waiting.clone()))
        });
        let askers = askers.collect();
        Lane {
            rule: rule.clone(),
            arm: arm.clone(),
            queue,
            waiting,
            askers,
            bench,
            shared,
        }
    }

    pub(super) fn arm_name(&self) -> &str {
        self.arm.name()
    }

    /// Whether it serves this rule and arm as they are.
    pub(super) fn is_of(&self, rule: &Rule, arm: &Arm) -> bool {
        let own = &self.rule;
        own.matching == rule.matching
            && own.sample == rule.sample
            && own.raw == rule.raw
            && own.budget == rule.budget
            && own.purse() == rule.purse()
            && own.judge_key() == rule.judge_key()
            && self.arm.name() == arm.name()
            && self.arm.version == arm.version
    }

    /// Queues a call; skips it where there is no room.
    pub(super) fn send(&self, record: &CallRecord, errand: Errand, raw: &RawCall, known: &Values) {
        let bytes = text_bytes(record) + if self.rule.raw { raw.request.len() } else { 0 };
        let room = QUEUE_BYTES.saturating_sub(self.waiting.load(Ordering::Relaxed));
        if bytes > room || self.queue.capacity() == 0 {
            return self.shared.skip("busy");
        }
        let job = Job {
            record: record.clone(),
            errand,
            raw: self.rule.raw.then(|| Box::new(Raw::of(raw, known))),
            bytes,
        };
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        if self.queue.try_send(job).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.skip("busy");
        }
    }

    /// Gives up what waits and what is on its way.
    pub(super) fn close(self) {
        self.askers.iter().for_each(JoinHandle::abort);
        if let Some(bench) = self.bench {
            bench.close();
        }
    }
}

struct Asker {
    rule: Rule,
    arm: Arm,
    bench: Option<Arc<Bench>>,
    shared: Arc<Shared>,
    purse: String,
    pace: Pace,
    replay: ReplayConfig,
}

impl Asker {
    fn new(rule: &Rule, arm: &Arm, bench: Option<Arc<Bench>>, shared: Arc<Shared>) -> Asker {
        Asker {
            purse: rule.purse(),
            // The purse bounds calls and money; a lane of its own bounds what is in flight.
            pace: Pace::new(Budget::default()),
            replay: ReplayConfig {
                deadline: shared.config.deadline,
                tries: TRIES,
                retry_after: RETRY_AFTER,
                ..ReplayConfig::new("")
            },
            rule: rule.clone(),
            arm: arm.clone(),
            bench,
            shared,
        }
    }

    async fn ask_all(self, jobs: Arc<Mutex<mpsc::Receiver<Job>>>, waiting: Arc<AtomicUsize>) {
        loop {
            let job = jobs.lock().await.recv().await;
            let Some(job) = job else { return };
            waiting.fetch_sub(job.bytes, Ordering::Relaxed);
            self.ask(job).await;
        }
    }

    async fn ask(&self, job: Job) {
        let shared = &self.shared;
        // The guard does not wait: what it hears is no score of a candidate's.
        if job.errand != Errand::Reverse {
            shared.labels.ready().await;
        }
        let task = job.record.task_id.clone().unwrap_or_default();
        let served = (job.record.arm.clone(), job.record.route.clone());
        let drawn = match job.errand {
            Errand::Reverse => Drawn::of_candidate(job.record),
            Errand::Candidate | Errand::Floor => Drawn::of(job.record),
        };
        let asked = match (&drawn, &job.raw) {
            (Some(call), Some(raw)) => raw.asked(call),
            (drawn, None) => drawn.clone(),
            (None, Some(_)) => None,
        };
        let (Some(call), Some(asked)) = (drawn, asked) else {
            return shared.skip("not_replayable");
        };
        if let Err(reason) = shared.purses.begin(&self.purse, &self.rule.budget, 1) {
            return shared.skip(reason);
        }
        let arm = match job.errand {
            Errand::Candidate => self.arm.clone(),
            Errand::Floor | Errand::Reverse => self.arm.as_baseline(),
        };
        let reply = arm.ask(&asked, &self.replay, &self.pace).await;
        let cost = reply
            .as_ref()
            .and_then(|reply| arm.cost(&call, reply, &shared.rows.prices));
        shared.purses.end(&self.purse, cost);
        let Some(mut reply) = reply else { return };
        if let Some(raw) = job.raw {
            raw.mask(&shared.rows, &call, &mut reply);
        }
        let row = match job.errand {
            Errand::Candidate => Some(self.row(&task, &call, &reply, &arm)),
            Errand::Floor => {
                let row = self.row(&task, &call, &reply, &arm);
                let floor = row.agreement.filter(|_| call.same_model(&reply));
                if let Some(agreement) = floor {
                    shared.results.tell(Agreement {
                        route: served.1,
                        task: task.clone(),
                        candidate: None,
                        agreement,
                        at: super::now_micros(),
                    });
                }
                Some(ScoreRecord {
                    floor_agreement: floor,
                    ..row
                })
            }
            Errand::Reverse => self.reverse(&task, &call, &reply, &arm, served),
        };
        if let Some(row) = row {
            let row = ScoreRecord {
                judged_at: super::now_micros(),
                ..row
            };
            match self.bench.as_ref().filter(|_| job.errand == Errand::Candidate) {
                Some(bench) => bench.offer(call, row),
                None => shared.results.add(row),
            }
        }
        // What is counted is on its way to the store.
        let metrics = &shared.metrics;
        let labels = [arm.name(), reply.outcome.as_str()];
        metrics.shadow_calls.with_label_values(&labels).inc();
        if let Some(cost) = cost.filter(|cost| *cost >= 0.0) {
            metrics.shadow_cost.with_label_values(&[arm.name()]).inc_by(cost);
        }
    }

    fn row(&self, task: &str, call: &Drawn, reply: &Reply, arm: &Arm) -> ScoreRecord {
        let labels = self.shared.labels.of(task);
        ScoreRecord {
            source: Some(SHADOW.to_owned()),
            ..reply_row(task, call, reply, arm, &self.shared.rows.prices, &labels)
        }
    }

    /// The candidate's answer that the client got, against what the baseline says to the same; told to the guard.
    fn reverse(
        &self,
        task: &str,
        call: &Drawn,
        reply: &Reply,
        arm: &Arm,
        (candidate, route): (Option<String>, Option<String>),
    ) -> Option<ScoreRecord> {
        let candidate = candidate?;
        let baselines = reply.answer.as_ref().filter(|_| reply.outcome == Outcome::Ok)?;
        let labels = self.shared.labels.of(task);
        let kind = kind_in_task(&call.request, baselines, &labels);
        let judged = score(&call.request, baselines, &call.recorded, kind, &labels);
        let row = reply_row(task, call, reply, arm, &self.shared.rows.prices, &labels);
        let at = super::now_micros();
        if let Some(agreement) = judged.agreement {
            self.shared.results.tell(Agreement {
                route,
                task: task.to_owned(),
                candidate: Some(candidate.clone()),
                agreement,
                at,
            });
        }
        Some(ScoreRecord {
            candidate,
            candidate_version: REVERSE.to_owned(),
            kind: kind.as_str().to_owned(),
            valid: judged.valid,
            agreement: judged.agreement,
            reason: Some(judged.reason).filter(|reason| !reason.is_empty()),
            valid_baseline: None,
            source: Some(REVERSE.to_owned()),
            ..row
        })
    }
}
