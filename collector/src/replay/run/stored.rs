//! How a run's answers are stored: judged where there is a judge, an object for each arm, and the run's commit.

use super::super::ask::Arm;
use super::super::judge::CALIBRATED;
use super::super::sample::Drawn;
use super::super::{Progress, ReplayError, Replayed};
use super::Run;
use super::asking::{Answered, Asked, Todo};
use crate::score::AnswerKind;
use crate::table::{score_key, scores_to_parquet};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use understudy_call::record::{Outcome, ScoreRecord};

/// `_commits/<job>.json`; put again with every object until the run has ended.
#[derive(Serialize)]
struct Commit<'a> {
    #[serde(flatten)]
    replayed: &'a Replayed,
    calls_sent: u64,
    spent_usd: f64,
    ended: bool,
}

impl<P: FnMut(&Progress)> Run<'_, P> {
    /// Puts what was answered, an object for each arm, and the run's commit.
    pub(super) async fn store_answers(&mut self, answers: Vec<Asked>, number: u64) -> Result<(), ReplayError> {
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
    pub(super) async fn put(&mut self, key: String, rows: Vec<(usize, ScoreRecord)>) -> Result<(), ReplayError> {
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

    pub(super) fn replayed(&self) -> Replayed {
        let candidate = &self.asking.candidate;
        Replayed {
            job: self.job.clone(),
            task: self.config.task.clone(),
            candidate: candidate.name().to_owned(),
            candidate_version: candidate.version.clone(),
            candidate_model: candidate.model().map(str::to_owned),
            progress: self.done,
            scores: self.summary.kinds(),
            judged: candidate.judge().map(|judge| self.judged.clone().by(judge)),
            objects: self.objects.clone(),
        }
    }

    pub(super) async fn commit(&mut self, ended: bool) -> Result<(), ReplayError> {
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
