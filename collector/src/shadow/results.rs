//! What came of shadows: rows on their way to the store, and the word for the guard.

use crate::erase::Tombstones;
use crate::metrics::Metrics;
use crate::replay::{is_floor, is_reverse};
use crate::store::{Store, StoreError};
use crate::table::{score_key, scores_to_parquet};
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::broadcast;
use understudy_call::record::ScoreRecord;

/// Rows that become objects before their time.
const FULL: usize = 512;
/// Rows that wait while the store is out of reach; more are given up.
const MOST: usize = 8192;

/// How an answer that a client got agrees with what the baseline says to the same request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// The route that split the call.
    pub route: Option<String>,
    /// The task.
    pub task: String,
    /// The candidate that answered; `None` = the baseline itself: its agreement with itself, to hold the others against.
    pub candidate: Option<String>,
    /// 0 to 1.
    pub agreement: f64,
    /// Microseconds since the epoch.
    pub at: i64,
}

pub(super) struct Results {
    store: Store,
    metrics: Metrics,
    rows: Mutex<Vec<ScoreRecord>>,
    /// Rows that a judge looks at, by when they came.
    held: Mutex<BTreeMap<(Instant, u64), ScoreRecord>>,
    /// (task, candidate, version) whose trial is told.
    tried: Mutex<BTreeSet<(String, String, String)>>,
    /// Version → the model that it is asked for.
    models: Mutex<BTreeMap<String, String>>,
    agreements: broadcast::Sender<Agreement>,
    /// What is erased: a call may be while its shadow is asked. Locked for a whole flush, so that who waits for one waits
    /// for what is on its way, too.
    tombstones: tokio::sync::Mutex<Tombstones>,
}

impl Results {
    pub(super) fn new(store: Store, metrics: Metrics, agreements: broadcast::Sender<Agreement>) -> Results {
        Results {
            store,
            metrics,
            rows: Mutex::default(),
            held: Mutex::default(),
            tried: Mutex::default(),
            models: Mutex::default(),
            agreements,
            tombstones: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn agreements(&self) -> broadcast::Receiver<Agreement> {
        self.agreements.subscribe()
    }

    /// Whoever listens; nobody need.
    pub(super) fn tell(&self, agreement: Agreement) {
        let _ = self.agreements.send(agreement);
    }

    pub(super) fn add(&self, row: ScoreRecord) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.len() < MOST {
            rows.push(row);
        } else {
            self.metrics.shadow_skipped.with_label_values(&["store"]).inc();
        }
    }

    /// Holds a row back until [`Results::release`], under the place that this gives.
    pub(super) fn hold(&self, row: ScoreRecord) -> (Instant, u64) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let place = (Instant::now(), NUMBER.fetch_add(1, Ordering::Relaxed));
        self.held().insert(place, row);
        place
    }

    /// A row that is held back.
    pub(super) fn held_at(&self, place: (Instant, u64)) -> Option<ScoreRecord> {
        self.held().get(&place).cloned()
    }

    /// Lets a row go, with the judge's word where there is one; nothing where it went before.
    pub(super) fn release(&self, place: (Instant, u64), judge: Option<f64>) {
        let row = self.held().remove(&place);
        row.into_iter().for_each(|row| self.add(ScoreRecord { judge, ..row }));
    }

    /// Lets all rows go that came before then, without a word of the judge.
    pub(super) fn release_before(&self, then: Instant) {
        let mut held = self.held();
        let young = held.split_off(&(then, 0));
        let late = std::mem::replace(&mut *held, young);
        drop(held);
        late.into_values().for_each(|row| self.add(row));
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<(Instant, u64), ScoreRecord>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears which model a version is asked for.
    pub(super) fn asks(&self, version: &str, model: &str) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.insert(version.to_owned(), model.to_owned());
    }

    fn model_of(&self, version: &str) -> Option<String> {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.get(version).cloned()
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).len() >= FULL
    }

    /// Tells of each candidate's version once: verdicts count what was ever tried.
    async fn commit(&self, job: &str, rows: &[ScoreRecord]) -> Result<(), StoreError> {
        for row in rows.iter().filter(|row| !is_floor(row) && !is_reverse(row)) {
            let trial = (
                row.task_id.clone(),
                row.candidate.clone(),
                row.candidate_version.clone(),
            );
            let told = || self.tried.lock().unwrap_or_else(PoisonError::into_inner);
            if told().contains(&trial) {
                continue;
            }
            let (task, candidate, version) = &trial;
            let commit = json!({"job": job, "task": task, "candidate": candidate, "candidate_version": version,
                "candidate_model": self.model_of(version)});
            let name = format!("_commits/{job}-{}.json", told().len());
            self.store.put(&name, commit.to_string().into()).await?;
            told().insert(trial);
        }
        Ok(())
    }

    /// Puts all rows but those of erased calls, an object for each task and candidate; what can't be put waits.
    pub(super) async fn flush(&self) {
        let mut tombstones = self.tombstones.lock().await;
        let mut rows = std::mem::take(&mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner));
        if rows.is_empty() {
            return;
        }
        if let Err(error) = tombstones.refresh(&self.store).await {
            tracing::warn!(%error, "scores of shadows wait: what is erased is not known");
            rows.into_iter().for_each(|row| self.add(row));
            return;
        }
        rows.retain(|row| !tombstones.covers_score(row));
        let mut objects: BTreeMap<(String, String), Vec<ScoreRecord>> = BTreeMap::new();
        for row in rows {
            let key = (row.task_id.clone(), row.candidate.clone());
            objects.entry(key).or_default().push(row);
        }
        let job = format!("shadow-{}", uuid::Uuid::now_v7());
        for (number, ((task, candidate), rows)) in (0..).zip(objects) {
            let key = score_key(&task, &candidate, &job, number);
            let put = match scores_to_parquet(&rows, self.store.table_keys()) {
                Ok(parquet) => self.store.put(&key, parquet).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let put = match put {
                Ok(()) => self.commit(&job, &rows).await.map_err(|error| error.to_string()),
                failed => failed,
            };
            if let Err(error) = put {
                tracing::warn!(error, "scores of shadows could not be stored: they are tried again");
                rows.into_iter().for_each(|row| self.add(row));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faulty::{Fault, Faulty};
    use prometheus::Registry;
    use std::sync::Arc;
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_flush_waits_for_the_rows_of_the_one_before() {
        let faulty = Faulty::new();
        // A store that takes its time.
        faulty.plan(|_, _| {
            std::thread::sleep(Duration::from_millis(200));
            Fault::None
        });
        let metrics = Metrics::register(&Registry::new(), None).unwrap();
        let results = Arc::new(Results::new(faulty.store(), metrics, broadcast::channel(1).0));
        results.add(ScoreRecord {
            task_id: "task".into(),
            candidate: "small".into(),
            ..ScoreRecord::default()
        });
        let first = results.clone();
        let first = tokio::spawn(async move { first.flush().await });
        while !results.rows.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        results.flush().await;
        faulty.plan(|_, _| Fault::None);
        assert_eq!(faulty.store().list("scores").await.unwrap().len(), 1);
        first.await.unwrap();
    }

    #[test]
    fn a_row_that_a_judge_looks_at_goes_once_with_its_word_or_late_without() {
        let metrics = Metrics::register(&Registry::new(), None).unwrap();
        let results = Results::new(Store::in_memory(), metrics, broadcast::channel(1).0);
        let row = |call: &str| ScoreRecord {
            call_id: call.into(),
            ..ScoreRecord::default()
        };
        let (told, late) = (results.hold(row("told")), results.hold(row("late")));
        assert!(results.rows.lock().unwrap().is_empty() && results.held_at(told).is_some());
        results.release(told, Some(1.0));
        results.release_before(Instant::now() + Duration::from_secs(1));
        results.release(late, Some(0.0));
        let rows = results.rows.lock().unwrap();
        let words: Vec<(&str, Option<f64>)> = rows.iter().map(|row| (row.call_id.as_str(), row.judge)).collect();
        assert_eq!(words, [("told", Some(1.0)), ("late", None)]);
    }
}
