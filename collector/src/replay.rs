//! Replay: kept calls of a task, masked as they are, sent to a candidate and, for the noise floor, to the baseline again.
//!
//! One step at a time with the recorded history pinned, so nothing has side effects. Bounded, resumable (what is scored
//! is not asked again), and honest: a failure is a row with its outcome. Sends only masked text, with the credential of
//! the upstream that is asked and no other.

mod ask;
mod sample;

pub use ask::{Arm, candidate_version};
pub use sample::{Drawn, Sample, draw, lot};

use crate::scan::{ScanError, ScoreFilter, scores};
use crate::score::{AnswerKind, kind_in_task, score, validity};
use crate::store::{Store, StoreError};
use crate::table::{TableError, score_key, scores_to_parquet};
use ask::Reply;
use futures_util::StreamExt;
use futures_util::stream;
use serde::Serialize;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use understudy_call::price::PriceTable;
use understudy_call::record::{Outcome, ScoreRecord};

/// Versions of the baseline, asked again, begin with this.
const FLOOR: &str = "floor-";
/// Fewest calls whose scores become one object.
const CHUNK: usize = 32;

/// How to replay.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayConfig {
    /// The task.
    pub task: String,
    /// Calls in flight at once.
    pub concurrency: usize,
    /// The longest wait for one answer.
    pub deadline: Duration,
    /// Tries of a call that fails in a way that may pass.
    pub tries: u32,
    /// The wait before the second try; it doubles from then on.
    pub retry_after: Duration,
}

impl ReplayConfig {
    /// The defaults, for a task.
    pub fn new(task: impl Into<String>) -> ReplayConfig {
        ReplayConfig {
            task: task.into(),
            concurrency: 4,
            deadline: Duration::from_secs(120),
            tries: 4,
            retry_after: Duration::from_millis(250),
        }
    }
}

/// Why a replay stopped; what was scored stays.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Earlier scores can't be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Scores can't be written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Not one of several calls got through to an upstream: going on would only repeat it.
    #[error("upstream {upstream} takes no calls: {reason}")]
    Unusable {
        /// The upstream.
        upstream: String,
        /// What it, or the way to it, says.
        reason: String,
    },
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// Calls of the sample.
    pub calls: usize,
    /// Of them, scored by an earlier run.
    pub already: usize,
    /// Asked of the candidate so far.
    pub asked: usize,
    /// Of them, without an answer.
    pub failed: usize,
    /// Asked of the baseline again.
    pub floor_asked: usize,
    /// US dollars so far, of those answers whose price is known.
    pub cost_usd: f64,
    /// Answers whose price is not known.
    pub unpriced: usize,
}

/// What a replay did; the content of `_commits/<job>.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replayed {
    /// The job's id; its objects are named by it.
    pub job: String,
    /// The task.
    pub task: String,
    /// The candidate.
    pub candidate: String,
    /// Its version.
    pub candidate_version: String,
    /// Counts and cost.
    #[serde(flatten)]
    pub progress: Progress,
    /// Objects written.
    pub objects: Vec<String>,
}

/// Whether a row of scores is of the baseline asked again, and not of a candidate.
pub fn is_floor(score: &ScoreRecord) -> bool {
    score.candidate_version.starts_with(FLOOR)
}

/// Sends the sample to `candidate`, and to `baseline` what it was not asked yet, and puts the scores. `progress` hears
/// after each call.
///
/// # Errors
/// Where the store fails, or an upstream takes no call at all.
pub async fn replay(
    store: &Store,
    sample: &Sample,
    candidate: &Arm,
    baseline: Option<&Arm>,
    prices: &PriceTable,
    config: &ReplayConfig,
    progress: impl FnMut(&Progress),
) -> Result<Replayed, ReplayError> {
    let job = format!("replay-{}", uuid::Uuid::now_v7());
    let mut run = Run {
        store,
        sample,
        candidate,
        baseline,
        prices,
        config,
        progress,
        done: Progress {
            calls: sample.calls.len(),
            ..Progress::default()
        },
        objects: Vec::new(),
        job: job.clone(),
    };
    run.all().await?;
    let replayed = Replayed {
        job: run.job,
        task: config.task.clone(),
        candidate: candidate.name().to_owned(),
        candidate_version: candidate.version.clone(),
        progress: run.done,
        objects: run.objects,
    };
    let json = serde_json::to_vec(&replayed).expect("counts and names have a JSON form");
    store.put(&format!("_commits/{job}.json"), json.into()).await?;
    Ok(replayed)
}

struct Run<'a, P> {
    store: &'a Store,
    sample: &'a Sample,
    candidate: &'a Arm,
    baseline: Option<&'a Arm>,
    prices: &'a PriceTable,
    config: &'a ReplayConfig,
    progress: P,
    done: Progress,
    objects: Vec<String>,
    job: String,
}

/// A call to ask: of the candidate, of the baseline, or both.
struct Todo<'a> {
    call: &'a Drawn,
    /// Place in the sample: rows are in the order of sampling, which depends on no answer.
    place: usize,
    ask_candidate: bool,
    ask_baseline: bool,
}

impl<P: FnMut(&Progress)> Run<'_, P> {
    async fn all(&mut self) -> Result<(), ReplayError> {
        let candidate_done = self.scored(self.candidate).await?;
        let mut floor = match self.baseline {
            Some(baseline) => self.scored(baseline).await?,
            None => HashMap::new(),
        };
        let sample = self.sample;
        let todo: Vec<Todo<'_>> = sample
            .calls
            .iter()
            .enumerate()
            .map(|(place, call)| Todo {
                call,
                place,
                ask_candidate: !candidate_done.contains_key(&call.call_id),
                ask_baseline: self.baseline.is_some() && !floor.contains_key(&call.call_id),
            })
            .collect();
        self.done.already = todo.iter().filter(|todo| !todo.ask_candidate).count();
        let todo: Vec<Todo<'_>> = todo
            .into_iter()
            .filter(|todo| todo.ask_candidate || todo.ask_baseline)
            .collect();
        (self.progress)(&self.done);
        let began = now_micros();
        let concurrency = self.concurrency();
        for (number, chunk) in todo.chunks(CHUNK.max(4 * concurrency)).enumerate() {
            self.chunk(chunk, number as u64, began, concurrency, &mut floor).await?;
        }
        Ok(())
    }

    fn concurrency(&self) -> usize {
        let arms = [Some(self.candidate), self.baseline];
        let limits = arms.into_iter().flatten().filter_map(Arm::max_in_flight);
        limits.min().unwrap_or(usize::MAX).min(self.config.concurrency).max(1)
    }

    /// What an arm was asked by earlier runs and need not be asked again: call id → the floor's agreement.
    async fn scored(&self, arm: &Arm) -> Result<HashMap<String, Option<f64>>, ReplayError> {
        let filter = ScoreFilter {
            task: Some(self.config.task.clone()),
            candidate: Some(arm.name().to_owned()),
            candidate_version: Some(arm.version.clone()),
        };
        let rows = scores(self.store, &filter).await?;
        let answered = |row: &ScoreRecord| !matches!(row.outcome, Outcome::UpstreamConnect | Outcome::UpstreamReset);
        Ok(rows
            .into_iter()
            .filter(answered)
            .map(|row| (row.call_id, row.floor_agreement))
            .collect())
    }

    async fn chunk(
        &mut self,
        chunk: &[Todo<'_>],
        number: u64,
        began: i64,
        concurrency: usize,
        floor: &mut HashMap<String, Option<f64>>,
    ) -> Result<(), ReplayError> {
        let started = Instant::now();
        let (candidate, baseline, config) = (self.candidate, self.baseline, self.config);
        let asks = chunk.iter().map(|todo| async move {
            let of_candidate = async {
                match todo.ask_candidate {
                    true => Some(candidate.ask(todo.call, config).await),
                    false => None,
                }
            };
            let of_baseline = async {
                match baseline {
                    Some(baseline) if todo.ask_baseline => Some(baseline.ask(todo.call, config).await),
                    _ => None,
                }
            };
            let (answer, again) = tokio::join!(of_candidate, of_baseline);
            (todo, answer, again)
        });
        let mut answers = stream::iter(asks).buffer_unordered(concurrency);
        let (mut candidate_rows, mut floor_rows) = (Vec::new(), Vec::new());
        let (mut candidate_fault, mut floor_fault) = (Faults::default(), Faults::default());
        while let Some((todo, answer, again)) = answers.next().await {
            if let Some(reply) = again {
                floor_fault.note(&reply);
                self.done.floor_asked += 1;
                let mut row = self.row(todo.call, &reply, baseline.unwrap_or(candidate));
                row.floor_agreement = row.agreement.filter(|_| todo.call.same_model(&reply));
                floor.insert(row.call_id.clone(), row.floor_agreement);
                floor_rows.push((todo.place, row));
            }
            if let Some(reply) = answer {
                candidate_fault.note(&reply);
                self.done.asked += 1;
                self.done.failed += usize::from(reply.outcome != Outcome::Ok);
                let row = self.row(todo.call, &reply, candidate);
                candidate_rows.push((todo.place, row));
            }
            (self.progress)(&self.done);
        }
        drop(answers);
        candidate_fault.check(candidate)?;
        if let Some(baseline) = baseline {
            floor_fault.check(baseline)?;
        }
        let seconds = started.elapsed().as_secs_f64();
        for (_, row) in &mut candidate_rows {
            row.floor_agreement = floor.get(&row.call_id).copied().flatten();
        }
        self.put(candidate, candidate_rows, number, began, seconds).await?;
        if let Some(baseline) = baseline {
            self.put(baseline, floor_rows, number, began, seconds).await?;
        }
        (self.progress)(&self.done);
        Ok(())
    }

    async fn put(
        &mut self,
        arm: &Arm,
        mut rows: Vec<(usize, ScoreRecord)>,
        number: u64,
        began: i64,
        seconds: f64,
    ) -> Result<(), ReplayError> {
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_by_key(|(place, _)| *place);
        let mut rows: Vec<ScoreRecord> = rows
            .into_iter()
            .map(|(place, row)| ScoreRecord {
                judged_at: began.saturating_add(i64::try_from(place).unwrap_or(i64::MAX)),
                ..row
            })
            .collect();
        arm.share_machine_cost(&mut rows, seconds);
        self.done.cost_usd += rows.iter().filter_map(|row| row.cost_usd).sum::<f64>();
        self.done.unpriced += rows
            .iter()
            .filter(|row| row.cost_usd.is_none() && row.outcome == Outcome::Ok)
            .count();
        let key = score_key(&self.config.task, arm.name(), &self.job, number);
        self.store
            .put(&key, scores_to_parquet(&rows, self.store.table_keys())?)
            .await?;
        self.objects.push(key);
        Ok(())
    }

    fn row(&self, call: &Drawn, reply: &Reply, arm: &Arm) -> ScoreRecord {
        let kind = kind_in_task(&call.request, &call.recorded, &self.sample.labels);
        let judged = match &reply.answer {
            Some(answer) => score(&call.request, &call.recorded, answer, kind),
            None => crate::score::Score {
                valid: false,
                agreement: None,
                reason: String::new(),
            },
        };
        let answer = reply.answer.clone().unwrap_or_default();
        let model = [answer.model.as_deref(), arm.model(), arm.asked_model(call)];
        let price = model.into_iter().flatten().find_map(|model| self.prices.lookup(model));
        ScoreRecord {
            call_id: call.call_id.clone(),
            conversation_id: call.conversation_id.clone(),
            task_id: self.config.task.clone(),
            candidate: arm.name().to_owned(),
            candidate_version: arm.version.clone(),
            kind: kind.as_str().to_owned(),
            valid: judged.valid,
            valid_baseline: Some(is_valid(call, kind)),
            agreement: judged.agreement,
            input_tokens: answer.usage.input,
            output_tokens: answer.usage.output,
            cost_usd: price.and_then(|price| price.cost(&answer.usage)),
            duration_ms: reply.duration_ms,
            outcome: reply.outcome,
            response_body: reply.body.clone(),
            output_text: reply.answer.is_some().then_some(answer.output_text),
            tool_calls: answer.tool_calls,
            ..ScoreRecord::default()
        }
    }
}

fn is_valid(call: &Drawn, kind: AnswerKind) -> bool {
    validity(&call.request, &call.recorded, &call.recorded, kind).is_ok()
}

/// Whether an upstream took any call of a chunk.
#[derive(Default)]
struct Faults {
    taken: usize,
    refused: Option<String>,
}

impl Faults {
    fn note(&mut self, reply: &Reply) {
        match &reply.refused {
            Some(reason) => self.refused = Some(reason.clone()),
            None => self.taken += 1,
        }
    }

    fn check(self, arm: &Arm) -> Result<(), ReplayError> {
        match self.refused {
            Some(reason) if self.taken == 0 => Err(ReplayError::Unusable {
                upstream: arm.name().to_owned(),
                reason,
            }),
            _ => Ok(()),
        }
    }
}

fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
