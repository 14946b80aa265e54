//! One run of a replay: many calls in flight, their answers taken in the order of the sample, stored as they come in.
//!
//! An answer is stored only after those of all calls before it: what verdicts see at any time is the beginning of the
//! sample, and does not depend on which answers came soon. A run that is broken off loses what was on its way and the last
//! moments; its part of the budget is told in its commit, and the next run goes on from there.

mod asking;
mod stored;

use super::ask::Arm;
use super::judge::Judged;
use super::pace::Pace;
use super::sample::{Drawn, Sample};
use super::tally::Tally;
use super::{Progress, ReplayConfig, ReplayError, Replayed, answer_row, floors, is_reverse, judged, was_reached};
use crate::compare::{interval, unit_means};
use crate::scan::{ScoreFilter, scores};
use crate::score::Summary;
use crate::store::{Store, StoreError};
use crate::table::score_key;
use asking::{Asked, Asking, Todo};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use understudy_call::price::PriceTable;
use understudy_call::record::{Outcome, ScoreRecord};

/// The version of floor pairs that the traffic itself held.
const FREE_FLOOR: &str = "floor-traffic";
/// The name of a baseline that the calls don't tell.
const UNNAMED: &str = "baseline";
/// How sure the floor's interval is.
const FLOOR_ALPHA: f64 = 0.05;
/// The number of the object of a job's free pairs; others count from 0.
const FREE_OBJECT: u64 = u64::MAX;
/// Commits read at once.
const COMMITS_AT_ONCE: usize = 16;
/// Calls that are begun ahead of the first unanswered one, for each in flight: a slow answer holds up nobody for a while.
const AHEAD: usize = 4;
/// Calls that become an object as soon as [`STORED_EVERY`] is over.
const ENOUGH: usize = 32;
/// The least time between two objects.
const STORED_EVERY: Duration = Duration::from_secs(1);
/// Fewer calls become an object after this time.
const STORED_AFTER: Duration = Duration::from_secs(10);

/// A replay on its way.
pub(super) struct Run<'a, P> {
    store: &'a Store,
    sample: &'a Sample,
    config: &'a ReplayConfig,
    progress: P,
    asking: Arc<Asking>,
    floor: HashMap<String, Option<f64>>,
    /// Pairs of which the floor's interval was last made.
    measured: usize,
    done: Progress,
    objects: Vec<String>,
    candidate: Tally,
    baseline: Tally,
    summary: Summary,
    judged: Judged,
    /// When it began, microseconds since the epoch.
    began: i64,
    job: String,
    /// Commits of runs that this one goes on with, until its own commit tells of it.
    broken_off: Vec<(String, Value)>,
}

impl<'a, P: FnMut(&Progress)> Run<'a, P> {
    pub(super) fn new(
        store: &'a Store,
        sample: &'a Sample,
        (candidate, baseline): (&Arm, Option<&Arm>),
        prices: &PriceTable,
        config: &'a ReplayConfig,
        progress: P,
    ) -> Run<'a, P> {
        let limits = [Some(candidate), baseline].into_iter().flatten();
        let limit = limits.filter_map(Arm::max_in_flight).min().unwrap_or(usize::MAX);
        let concurrency = limit.min(config.concurrency).clamp(1, Semaphore::MAX_PERMITS);
        let asking = Asking {
            candidate: candidate.clone(),
            baseline: baseline.cloned(),
            prices: prices.clone(),
            labels: sample.labels.clone(),
            config: ReplayConfig {
                concurrency,
                ..config.clone()
            },
            pace: Pace::new(config.budget),
            free: Semaphore::new(concurrency),
            floor_is_known: AtomicBool::new(false),
        };
        Run {
            store,
            sample,
            config,
            progress,
            asking: Arc::new(asking),
            floor: HashMap::new(),
            measured: 0,
            done: Progress {
                calls: sample.calls.len(),
                ..Progress::default()
            },
            objects: Vec::new(),
            candidate: Tally::default(),
            baseline: Tally::default(),
            summary: Summary::default(),
            judged: Judged::default(),
            began: now_micros(),
            job: format!("replay-{}", uuid::Uuid::now_v7()),
            broken_off: Vec::new(),
        }
    }

    /// All of it.
    pub(super) async fn all(mut self) -> Result<Replayed, ReplayError> {
        self.go_on().await?;
        let filter = ScoreFilter {
            task: Some(self.config.task.clone()),
            ..ScoreFilter::default()
        };
        let earlier = scores(self.store, &filter).await?;
        let own = &self.asking.candidate;
        let is_own = |row: &&ScoreRecord| {
            row.candidate == own.name() && row.candidate_version == own.version && was_reached(row) && !is_reverse(row)
        };
        let scored: HashSet<String> = earlier.iter().filter(is_own).map(|row| row.call_id.clone()).collect();
        let floor = floors(&earlier).into_iter();
        self.floor = floor.map(|(call, floor)| (call, floor.agreement)).collect();
        self.free_floor().await?;
        self.measure_floor(true);
        let has_baseline = self.asking.baseline.is_some();
        let todo = self.sample.calls.iter().enumerate().map(|(place, call)| Todo {
            call: call.clone(),
            place,
            ask_candidate: !scored.contains(&call.call_id),
            ask_baseline: has_baseline && !self.floor.contains_key(&call.call_id),
        });
        let todo: Vec<Todo> = todo.collect();
        self.done.already = todo.iter().filter(|todo| !todo.ask_candidate).count();
        (self.progress)(&self.done);
        let todo = todo.into_iter().filter(|todo| todo.ask_candidate || todo.ask_baseline);
        self.ask_all(todo.collect()).await?;
        self.measure_floor(true);
        self.done.stopped = self.asking.pace.stopped();
        (self.progress)(&self.done);
        self.commit(true).await?;
        Ok(self.replayed())
    }

    /// Takes over the part of the budget that runs of the same had spent when they were broken off.
    async fn go_on(&mut self) -> Result<(), ReplayError> {
        let own = &self.asking.candidate;
        let objects = self.store.list("_commits").await?.into_iter().map(|object| object.key);
        let replays = objects.filter(|key| key.starts_with("_commits/replay-"));
        let reads = replays.map(|key| async {
            let bytes = self.store.get(&key).await?;
            Ok::<_, StoreError>((key, serde_json::from_slice::<Value>(&bytes).unwrap_or_default()))
        });
        let commits: Vec<(String, Value)> = stream::iter(reads)
            .buffer_unordered(COMMITS_AT_ONCE)
            .try_collect()
            .await?;
        for (key, commit) in commits {
            let is_same = commit["task"] == *self.config.task
                && commit["candidate"] == *own.name()
                && commit["candidate_version"] == *own.version;
            // Commits of older versions were put at the end, and don't say so.
            if is_same && commit["ended"] == false {
                self.done.carried_calls += commit["calls_sent"].as_u64().unwrap_or(0);
                self.done.carried_usd += commit["spent_usd"].as_f64().unwrap_or(0.0);
                self.broken_off.push((key, commit));
            }
        }
        self.asking.pace.carry(self.done.carried_calls, self.done.carried_usd);
        Ok(())
    }

    /// Pairs that the traffic itself holds: nobody need be asked for them.
    async fn free_floor(&mut self) -> Result<(), ReplayError> {
        let mut rows: BTreeMap<&str, Vec<(usize, ScoreRecord)>> = BTreeMap::new();
        for (place, call) in self.sample.calls.iter().enumerate() {
            let known = self.floor.contains_key(&call.call_id);
            let Some(twin) = self.sample.twins.get(&call.call_id).filter(|_| !known) else {
                continue;
            };
            let baseline = call.upstream.as_deref().unwrap_or(UNNAMED);
            let (kind, score) = judged(call, Some(twin), &self.sample.labels);
            let row = ScoreRecord {
                candidate: baseline.to_owned(),
                candidate_version: FREE_FLOOR.to_owned(),
                floor_agreement: score.agreement,
                cost_usd: Some(0.0),
                ..answer_row(&self.config.task, call, kind, &score, Some(twin))
            };
            self.floor.insert(row.call_id.clone(), row.floor_agreement);
            rows.entry(baseline).or_default().push((place, row));
        }
        for (baseline, rows) in rows {
            self.done.floor_free += rows.len();
            let key = score_key(&self.config.task, baseline, &self.job, FREE_OBJECT);
            self.put(key, rows).await?;
        }
        Ok(())
    }

    /// Asks, a bounded number of calls ahead of the first that is not answered yet.
    async fn ask_all(&mut self, todo: Vec<Todo>) -> Result<(), ReplayError> {
        let ahead = self.asking.config.concurrency.saturating_mul(AHEAD);
        let mut next = todo.into_iter().enumerate();
        let mut asks: JoinSet<(usize, Asked)> = JoinSet::new();
        let mut early: BTreeMap<usize, Asked> = BTreeMap::new();
        let mut taken = 0;
        let mut answers: Vec<Asked> = Vec::new();
        // How many of them were taken for certain.
        let mut settled = 0;
        let mut stored_at = Instant::now();
        let mut number = 0;
        loop {
            while asks.len() + early.len() < ahead && self.asking.pace.stopped().is_none() {
                let Some((at, todo)) = next.next() else { break };
                let asking = self.asking.clone();
                asks.spawn(async move { (at, asking.ask(todo).await) });
            }
            let wait = if settled < ENOUGH { STORED_AFTER } else { STORED_EVERY };
            let mut is_due = false;
            tokio::select! {
                biased;
                () = sleep_until(stored_at + wait), if settled > 0 => is_due = true,
                joined = asks.join_next() => match joined {
                    Some(joined) => {
                        let (at, asked) = joined?;
                        early.insert(at, asked);
                    }
                    None => break,
                },
            }
            while let Some(asked) = early.remove(&taken) {
                taken += 1;
                let counted = self.count(&asked);
                answers.push(asked);
                if let Err(error) = counted {
                    answers.truncate(settled);
                    self.store_answers(answers, number).await?;
                    return Err(error);
                }
                if !self.candidate.is_in_doubt() && !self.baseline.is_in_doubt() {
                    settled = answers.len();
                }
            }
            if is_due {
                let rest = answers.split_off(settled);
                self.store_answers(std::mem::replace(&mut answers, rest), number)
                    .await?;
                (settled, stored_at, number) = (0, Instant::now(), number + 1);
            }
        }
        self.check(true)?;
        self.store_answers(answers, number).await
    }

    /// Counts an answer in, and hears whether an arm takes none.
    fn count(&mut self, asked: &Asked) -> Result<(), ReplayError> {
        if let Some(again) = &asked.baseline {
            self.baseline.add(&again.reply);
            self.done.floor_asked += 1;
            self.done.retried += u64::from(again.reply.retries);
            let counts = again.row.agreement.filter(|_| asked.todo.call.same_model(&again.reply));
            self.floor.insert(again.row.call_id.clone(), counts);
            self.done.floor_pairs += usize::from(counts.is_some());
            self.measure_floor(false);
        }
        if let Some(answer) = &asked.candidate {
            self.candidate.add(&answer.reply);
            self.done.asked += 1;
            self.done.failed += usize::from(answer.reply.outcome != Outcome::Ok);
            self.done.retried += u64::from(answer.reply.retries);
            if let Some(text) = &answer.reply.answer {
                self.summary
                    .add(answer.kind, &asked.todo.call.recorded, text, &answer.score);
            }
        }
        (self.progress)(&self.done);
        self.check(false)
    }

    fn check(&self, is_end: bool) -> Result<(), ReplayError> {
        self.candidate.check(&self.asking.candidate, is_end)?;
        match &self.asking.baseline {
            Some(baseline) => self.baseline.check(baseline, is_end),
            None => Ok(()),
        }
    }

    /// How well the floor is known. The interval costs time that grows with the pairs: it is made again when there are some
    /// more of them, not with each.
    fn measure_floor(&mut self, exactly: bool) {
        let is_time = exactly || self.done.floor_pairs > self.measured + self.measured / 16 + 8;
        if !is_time || (!exactly && self.asking.floor_is_known.load(Ordering::Relaxed)) {
            return;
        }
        let calls = self.sample.calls.iter();
        let floor_of = |call: &Drawn| self.floor.get(&call.call_id).copied().flatten();
        let pairs: Vec<(&str, f64)> = calls
            .filter_map(|call| Some((call.conversation_id.as_str(), floor_of(call)?)))
            .collect();
        (self.done.floor_pairs, self.measured) = (pairs.len(), pairs.len());
        let interval = interval(&unit_means(pairs.iter().copied()), FLOOR_ALPHA);
        self.done.floor_half_width = (pairs.len() > 1).then(|| (interval.upper - interval.lower) / 2.0);
        let wide = self.done.floor_half_width.unwrap_or(f64::INFINITY);
        let is_known = self
            .config
            .floor_enough
            .is_some_and(|enough| self.done.floor_pairs >= enough.min_pairs && wide <= enough.half_width);
        self.asking.floor_is_known.store(is_known, Ordering::Relaxed);
    }
}

fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
