//! The judge's bench: answers of live candidates wait here for the word of an upstream that is neither arm.
//!
//! Asked as in a replay: blind, in both orders, ties allowed, only masked text. A row is held back for a bounded time and
//! stored without a word after that, so that a judge that fails or hangs changes nothing but a metric.

use super::Shared;
use super::rule::{RuleJudge, is_drawn};
use crate::replay::{Budget, Drawn, Judged, Pace};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use understudy_call::record::ScoreRecord;

/// The longest time that a row is held back.
pub(super) const WAIT: Duration = Duration::from_secs(60);
/// The longest wait for one of the two answers.
const DEADLINE: Duration = Duration::from_secs(25);
/// Answers that wait.
const QUEUE: usize = 64;
/// Share of the exactly scored answers that the judge is tried on; those of prose are all shown to it.
const TRIED: f64 = 0.05;
/// Changes which those are against the sample of shadows.
const SEED: u64 = 0x006a_7564_6765;

/// A queue to a judge, and as many askers as may be in flight.
pub(super) struct Bench {
    rule: RuleJudge,
    queue: mpsc::Sender<Case>,
    clerks: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// An answer that waits.
struct Case {
    call: Drawn,
    /// Where its row is held.
    place: (Instant, u64),
}

impl Bench {
    pub(super) fn open(rule: &RuleJudge, purse: &str, shared: &Arc<Shared>, runtime: &Handle) -> Bench {
        let (queue, cases) = mpsc::channel(QUEUE);
        let cases = Arc::new(Mutex::new(cases));
        let clerks = (0..rule.budget.concurrency.max(1)).map(|_| {
            let purse = format!("judge={} {purse}", rule.judge.name());
            runtime.spawn(judge_all(rule.clone(), purse, shared.clone(), cases.clone()))
        });
        Bench {
            clerks: clerks.collect(),
            rule: rule.clone(),
            queue,
            shared: shared.clone(),
        }
    }

    /// Has a row judged, and stores it then; at once where it is not to be judged, or there is no room.
    pub(super) fn offer(&self, call: Drawn, row: ScoreRecord) {
        let (judge, results) = (&self.rule.judge, &self.shared.results);
        let is_tried = is_drawn(SEED, &row.call_id, TRIED);
        // A judge of its own answers is none.
        let is_arm = call.upstream.as_deref() == Some(judge.name()) || row.candidate == judge.name();
        if is_arm || !judge.wants(&row, is_tried) {
            return results.add(row);
        }
        let Ok(room) = self.queue.try_reserve() else {
            self.shared.count_judged(judge.name(), "busy");
            return results.add(row);
        };
        let place = results.hold(row);
        room.send(Case { call, place });
    }

    /// Gives up what waits and what is on its way; the rows are stored without a word.
    pub(super) fn close(&self) {
        self.clerks.iter().for_each(JoinHandle::abort);
    }
}

async fn judge_all(rule: RuleJudge, purse: String, shared: Arc<Shared>, cases: Arc<Mutex<mpsc::Receiver<Case>>>) {
    // The purse bounds calls and money.
    let pace = Pace::new(Budget::default());
    loop {
        let case = cases.lock().await.recv().await;
        let Some(case) = case else { return };
        judge_one(&rule, &purse, &shared, &pace, case).await;
    }
}

async fn judge_one(rule: &RuleJudge, purse: &str, shared: &Shared, pace: &Pace, case: Case) {
    let (judge, results) = (&rule.judge, &shared.results);
    // It may have gone while it waited.
    let Some(row) = results.held_at(case.place) else {
        return shared.count_judged(judge.name(), "busy");
    };
    if shared.purses.begin(purse, &rule.budget, 2).is_err() {
        shared.count_judged(judge.name(), "budget");
        results.release(case.place, None);
        return;
    }
    let prices = &shared.rows.prices;
    let (both, spent) = judge.compare(&case.call, &row, DEADLINE, pace, prices).await;
    shared.purses.end(purse, Some(spent));
    let mut judged = Judged::default();
    let score = judged.add(&row, both);
    results.release(case.place, score);
    let said = match score {
        None => "unread",
        Some(score) if score > 0.5 => "better",
        Some(score) if score < 0.5 => "worse",
        Some(_) => "as_good",
    };
    shared.count_judged(judge.name(), said);
    let metrics = &shared.metrics;
    for (check, count) in judged.checks() {
        let checks = metrics.shadow_judge_checks.with_label_values(&[judge.name(), check]);
        checks.inc_by(count as u64);
    }
    metrics
        .shadow_cost
        .with_label_values(&[judge.name()])
        .inc_by(spent.max(0.0));
}

impl Shared {
    fn count_judged(&self, judge: &str, said: &str) {
        self.metrics.shadow_judged.with_label_values(&[judge, said]).inc();
    }
}
