//! Shadows: a share of the live calls is put to candidates as well, masked, seconds after they ended.
//!
//! Ingest offers each row as it reads it; an offer never waits, and what finds no room is skipped and counted. Each rule
//! and upstream has a lane of its own, so that one that hangs holds up no other. Where `to` names the upstream that the
//! call was addressed to, that one is asked again: for a call that it answered itself this is the noise floor, for one
//! that a candidate answered a reverse shadow, by which the guard sees whether they still agree. Only a trusted upstream is
//! sent raw text, where its rule says so; what it answers is masked before it is looked at. Nothing that a client
//! waits for is in here, no tool call is ever executed, and an upstream gets its own credential and no other.

mod bench;
mod labels;
mod lane;
mod purse;
mod results;
mod rule;

pub use results::Agreement;
pub use rule::{Rule, RuleBudget, RuleJudge, RuleMatch};

use crate::mask::Values;
use crate::metrics::Metrics;
use crate::row::RowMaker;
use crate::store::Store;
use labels::Labels;
use lane::{Errand, Lane};
use purse::Purses;
use results::Results;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use understudy_call::frame::RawCall;
use understudy_call::record::CallRecord;

/// Canaried calls of a step that are all put to the baseline.
const FIRST_OF_STEP: u64 = 200;
/// Reverse agreements that wait for a slow listener.
const AGREEMENTS: usize = 1024;

/// What shadows work with.
#[derive(Clone)]
pub struct ShadowConfig {
    /// Where what was spent is written down: the spool's folder.
    pub state_dir: PathBuf,
    /// Scores become an object after this time.
    pub flush_after: Duration,
    /// The longest wait for one answer.
    pub deadline: Duration,
}

/// All that lanes share.
struct Shared {
    config: ShadowConfig,
    /// Prices, and the mask for answers to raw text.
    rows: RowMaker,
    metrics: Metrics,
    labels: Arc<Labels>,
    purses: Purses,
    results: Results,
    /// When the step began that the rollout of a route is in.
    steps: RwLock<BTreeMap<String, i64>>,
}

/// The shadows of a collector.
pub struct Shadows {
    shared: Arc<Shared>,
    lanes: RwLock<Vec<Lane>>,
    runtime: Handle,
}

impl Shadows {
    /// Starts without rules; [`Shadows::apply`] gives them.
    pub fn start(
        config: ShadowConfig,
        store: Store,
        rows: RowMaker,
        metrics: Metrics,
        runtime: Handle,
    ) -> Arc<Shadows> {
        let shared = Arc::new(Shared {
            purses: Purses::load(&config.state_dir),
            results: Results::new(store.clone(), metrics.clone(), broadcast::channel(AGREEMENTS).0),
            config,
            rows,
            metrics,
            labels: Labels::new(store),
            steps: RwLock::default(),
        });
        runtime.spawn(keep(Arc::downgrade(&shared)));
        Arc::new(Shadows {
            shared,
            lanes: RwLock::default(),
            runtime,
        })
    }

    /// Puts rules in force in place of those before. Calls that wait by a rule that is gone are not sent any more.
    pub fn apply(&self, rules: &[Rule]) {
        if !rules.is_empty() {
            self.shared.labels.begin(&self.runtime);
        }
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        let mut kept = std::mem::take(&mut *lanes);
        for rule in rules {
            for arm in &rule.to {
                let known = kept.iter().position(|lane| lane.is_of(rule, arm));
                lanes.push(match known {
                    Some(place) => kept.swap_remove(place),
                    None => Lane::open(rule, arm, self.shared.clone(), &self.runtime),
                });
            }
        }
        drop(lanes);
        kept.into_iter().for_each(Lane::close);
    }

    /// Takes note of a row that is not offered, since it was before; never waits.
    pub fn learn(&self, record: &CallRecord) {
        self.shared.labels.learn(record, &self.runtime);
    }

    /// Offers a row; never waits.
    ///
    /// `raw` is the call as it was, and `known` what its conversation told the mask: both only for rules that send raw
    /// text.
    pub fn offer(&self, record: &CallRecord, raw: &RawCall, known: &Values) {
        self.learn(record);
        let (Some(task), Some(addressed)) = (&record.task_id, &record.upstream) else {
            return;
        };
        let by_candidate = record.is_by_candidate();
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        let mut asked: Vec<&str> = Vec::new();
        for lane in lanes.iter().filter(|lane| lane.rule.matching.takes(record, task)) {
            let to_baseline = lane.arm_name() == addressed;
            let errand = match (by_candidate, to_baseline) {
                (false, false) => Errand::Candidate,
                (false, true) => Errand::Floor,
                (true, true) => Errand::Reverse,
                // What one candidate answered says nothing of another.
                (true, false) => continue,
            };
            let is_early = || self.shared.purses.step(&self.shared.step_of(record, task)) < FIRST_OF_STEP;
            let is_early = errand == Errand::Reverse && is_early();
            let drawn = is_early || lane.rule.draws(&record.call_id);
            if !drawn || asked.contains(&lane.arm_name()) {
                continue;
            }
            asked.push(lane.arm_name());
            lane.send(record, errand, raw, known);
        }
    }

    /// The rollout of a route is in a step that began then, microseconds since the epoch; 0 = in none.
    pub fn step(&self, route: &str, began_at: i64) {
        let mut steps = self.shared.steps.write().unwrap_or_else(PoisonError::into_inner);
        steps.insert(route.to_owned(), began_at);
    }

    /// What reverse shadows find, from now on. A listener that is too slow misses the oldest.
    pub fn agreements(&self) -> broadcast::Receiver<Agreement> {
        self.shared.results.agreements()
    }

    /// Ends: what is on its way is given up, what was answered is stored. Blocks; not for a thread of the runtime.
    pub fn finish(&self) {
        self.apply(&[]);
        let shared = self.shared.clone();
        let _ = self.runtime.block_on(async move {
            shared.purses.save();
            shared.results.release_before(std::time::Instant::now());
            tokio::time::timeout(Duration::from_secs(10), shared.results.flush()).await
        });
    }
}

impl Shared {
    fn skip(&self, reason: &str) {
        self.metrics.shadow_skipped.with_label_values(&[reason]).inc();
    }

    /// The rollout's step that a canaried call is of: a changed config begins a new one too.
    fn step_of(&self, record: &CallRecord, task: &str) -> String {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let route = part(&record.route);
        let steps = self.steps.read().unwrap_or_else(PoisonError::into_inner);
        let began = steps.get(&route).copied().unwrap_or_default();
        format!(
            "{route} {task} {} {} {began}",
            part(&record.arm),
            part(&record.config_hash)
        )
    }
}

/// Stores answers and writes down what was spent, until the shadows are gone.
async fn keep(shared: std::sync::Weak<Shared>) {
    let mut flushed = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Some(shared) = shared.upgrade() else { return };
        if let Some(then) = std::time::Instant::now().checked_sub(bench::WAIT) {
            shared.results.release_before(then);
        }
        let saving = shared.clone();
        let _ = tokio::task::spawn_blocking(move || saving.purses.save()).await;
        if flushed.elapsed() >= shared.config.flush_after || shared.results.is_full() {
            shared.results.flush().await;
            flushed = tokio::time::Instant::now();
        }
    }
}

fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
