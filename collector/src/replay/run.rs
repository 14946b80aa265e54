//! One run of a replay: many calls in flight, their answers taken in the order of the sample, stored as they come in.
//!
//! An answer is stored only after those of all calls before it: what verdicts see at any time is the beginning of the
//! sample, and does not depend on which answers came soon. A run that is broken off loses what was on its way and the last
//! moments; its part of the budget is told in its commit, and the next run goes on from there.

use super::ask::{Arm, Reply};
use super::judge::{CALIBRATED, Judged};
use super::pace::Pace;
use super::sample::{Drawn, Sample};
use super::tally::Tally;
use super::{
    Progress, ReplayConfig, ReplayError, Replayed, answer_row, floors, is_reverse, judged, row_of, was_reached,
};
use crate::compare::{interval, unit_means};
use crate::scan::{ScoreFilter, scores};
use crate::score::{AnswerKind, LabelSet, Score, Summary};
use crate::store::{Store, StoreError};
use crate::table::{score_key, scores_to_parquet};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
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

/// What those that ask need, each on a thread of its own.
struct Asking {
    candidate: Arm,
    baseline: Option<Arm>,
    prices: PriceTable,
    labels: LabelSet,
    config: ReplayConfig,
    pace: Pace,
    free: Semaphore,
    /// The baseline need not be asked any more.
    floor_is_known: AtomicBool,
}

/// A call to ask: of the candidate, of the baseline, or both.
#[derive(Clone)]
struct Todo {
    call: Arc<Drawn>,
    /// Place in the sample: rows are in the order of sampling, which depends on no answer.
    place: usize,
    ask_candidate: bool,
    ask_baseline: bool,
}

/// What came of it.
struct Asked {
    todo: Todo,
    candidate: Option<Answered>,
    baseline: Option<Answered>,
}

/// A reply, scored.
struct Answered {
    reply: Reply,
    kind: AnswerKind,
    score: Score,
    row: ScoreRecord,
}

/// `_commits/<job>.json`; put again with every object until the run has ended.
#[derive(Serialize)]
struct Commit<'a> {
    #[serde(flatten)]
    replayed: &'a Replayed,
    calls_sent: u64,
    spent_usd: f64,
    ended: bool,
}

impl Asking {
    async fn ask(self: Arc<Asking>, todo: Todo) -> Asked {
        let Ok(_permit) = self.free.acquire().await else {
            return Asked {
                todo,
                candidate: None,
                baseline: None,
            };
        };
        let baseline = self.baseline.as_ref().filter(|_| todo.ask_baseline);
        let baseline = baseline.filter(|_| !self.floor_is_known.load(Ordering::Relaxed));
        let (candidate, baseline) = tokio::join!(
            self.answer(Some(&self.candidate).filter(|_| todo.ask_candidate), &todo.call),
            self.answer(baseline, &todo.call)
        );
        Asked {
            todo,
            candidate,
            baseline,
        }
    }

    async fn answer(&self, arm: Option<&Arm>, call: &Drawn) -> Option<Answered> {
        let arm = arm?;
        let reply = arm.ask(call, &self.config, &self.pace).await?;
        if reply.was_sent() {
            self.pace.settle(arm.cost(call, &reply, &self.prices));
        }
        let (kind, score) = judged(call, reply.answer.as_ref(), &self.labels);
        let row = row_of(&self.config.task, call, &reply, arm, &self.prices, kind, &score);
        Some(Answered {
            reply,
            kind,
            score,
            row,
        })
    }
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

    /// Puts what was answered, an object for each arm, and the run's commit.
    async fn store_answers(&mut self, answers: Vec<Asked>, number: u64) -> Result<(), ReplayError> {
        let (mut own_rows, mut floor_rows, mut calls) = (Vec::new(), Vec::new(), HashMap::new());
        for asked in answers {
            let Todo { call, place, .. } = asked.todo;
            let floor_agreement = self.floor.get(&call.call_id).copied().flatten();
            let with_floor = |answered: Answered| {
                let row = ScoreRecord {
                    floor_agreement,
                    ..answered.row
                };
                (place, row)
            };
            floor_rows.extend(asked.baseline.map(with_floor));
            own_rows.extend(asked.candidate.map(with_floor));
            calls.insert(place, call);
        }
        if own_rows.is_empty() && floor_rows.is_empty() {
            return Ok(());
        }
        self.judge(&calls, &mut own_rows).await;
        let asking = self.asking.clone();
        let busy = self.candidate.seconds();
        self.done.busy_seconds += busy;
        self.put_arm(&asking.candidate, own_rows, number, busy).await?;
        if let Some(baseline) = &asking.baseline {
            let busy = self.baseline.seconds();
            self.put_arm(baseline, floor_rows, number, busy).await?;
        }
        (self.progress)(&self.done);
        self.commit(false).await
    }

    /// Has the answers compared with the recorded ones, where there is a judge.
    async fn judge(&mut self, calls: &HashMap<usize, Arc<Drawn>>, rows: &mut [(usize, ScoreRecord)]) {
        let asking = self.asking.clone();
        let Some(judge) = asking.candidate.judge() else { return };
        let mut tried = self.judged.calibrated_on;
        let (pace, prices, deadline) = (&asking.pace, &asking.prices, self.config.deadline);
        let mut asks = Vec::new();
        for (at, (place, row)) in rows.iter().enumerate() {
            let Some(call) = calls.get(place).filter(|_| judge.wants(row, tried < CALIBRATED)) else {
                continue;
            };
            tried += usize::from(row.kind != AnswerKind::Prose.as_str());
            asks.push(async move { (at, judge.compare(call, row, deadline, pace, prices).await) });
        }
        let said: Vec<_> = stream::iter(asks)
            .buffer_unordered(asking.config.concurrency)
            .collect()
            .await;
        for (at, (both, spent)) in said {
            let row = &mut rows[at].1;
            row.judge = self.judged.add(row, both);
            self.judged.cost_usd += spent;
            self.done.cost_usd += spent;
        }
    }

    async fn put_arm(
        &mut self,
        arm: &Arm,
        mut rows: Vec<(usize, ScoreRecord)>,
        number: u64,
        seconds: f64,
    ) -> Result<(), ReplayError> {
        arm.share_machine_cost(&mut rows, seconds);
        self.done.cost_usd += rows.iter().filter_map(|(_, row)| row.cost_usd).sum::<f64>();
        self.done.unpriced += rows
            .iter()
            .filter(|(_, row)| row.cost_usd.is_none() && row.outcome == Outcome::Ok)
            .count();
        self.put(score_key(&self.config.task, arm.name(), &self.job, number), rows)
            .await
    }

    /// Rows in the order of sampling.
    async fn put(&mut self, key: String, rows: Vec<(usize, ScoreRecord)>) -> Result<(), ReplayError> {
        if rows.is_empty() {
            return Ok(());
        }
        let at = |place: usize| self.began.saturating_add(i64::try_from(place).unwrap_or(i64::MAX));
        let rows: Vec<ScoreRecord> = rows
            .into_iter()
            .map(|(place, row)| ScoreRecord {
                judged_at: at(place),
                ..row
            })
            .collect();
        self.store
            .put(&key, scores_to_parquet(&rows, self.store.table_keys())?)
            .await?;
        self.objects.push(key);
        Ok(())
    }

    fn replayed(&self) -> Replayed {
        let candidate = &self.asking.candidate;
        Replayed {
            job: self.job.clone(),
            task: self.config.task.clone(),
            candidate: candidate.name().to_owned(),
            candidate_version: candidate.version.clone(),
            progress: self.done,
            scores: self.summary.kinds(),
            judged: candidate.judge().map(|judge| self.judged.clone().by(judge)),
            objects: self.objects.clone(),
        }
    }

    async fn commit(&mut self, ended: bool) -> Result<(), ReplayError> {
        let (calls_sent, spent_usd) = self.asking.pace.spent();
        let mut replayed = self.replayed();
        if !ended {
            // A long run puts many of them: only the last commit lists them.
            replayed.objects.clear();
        }
        let commit = Commit {
            replayed: &replayed,
            calls_sent,
            spent_usd,
            ended,
        };
        let json = serde_json::to_vec(&commit).expect("counts and names have a JSON form");
        self.store
            .put(&format!("_commits/{}.json", self.job), json.into())
            .await?;
        for (key, mut commit) in std::mem::take(&mut self.broken_off) {
            commit["ended"] = true.into();
            self.store.put(&key, commit.to_string().into()).await?;
        }
        Ok(())
    }
}

fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
