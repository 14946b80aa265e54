//! Reads kept calls and scores out of a store: lists objects, skips what the filter rules out by name, decodes the rest.
//!
//! Never writes. One object is held at a time; calls come out object by object, in key order, and within an object
//! conversation by conversation.

use crate::compact::{CompactError, hidden};
use crate::erase::{ERASURE_COLUMNS, Tombstones};
use crate::store::{Store, StoreError};
use crate::table::{
    Columns, TableError, TableKeys, call_batches, call_micros, hour_partition, score_partition, scores_from_parquet,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use tokio::sync::mpsc;
use understudy_call::record::{CallRecord, ScoreRecord};

/// Batches decoded ahead of the reader.
const BATCHES_AHEAD: usize = 2;
/// A call's id and its begin are no further apart than this, microseconds.
const ID_MICROS: i64 = 60_000_000;

/// Why a scan stopped.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It can't be told which objects are merged.
    #[error(transparent)]
    Compact(#[from] CompactError),
    /// An object is no table.
    #[error("could not scan {key:?}: {source}")]
    Table {
        /// The object.
        key: String,
        /// What is wrong with it.
        source: TableError,
    },
    /// An object is no record of what it should be.
    #[error("could not read {key:?}: {source}")]
    Record {
        /// The object.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The decoder broke on an object.
    #[error("could not scan {key:?}: the decoder failed")]
    Decoder {
        /// The object.
        key: String,
    },
}

/// Which calls to read; the default is all of them, with all columns.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// Only this task.
    pub task: Option<String>,
    /// Only this conversation.
    pub conversation: Option<String>,
    /// Only calls begun at or after this, microseconds since the epoch.
    pub since: Option<i64>,
    /// Only calls begun before this, microseconds since the epoch.
    pub until: Option<i64>,
    /// Which columns to read. Those that the filter itself looks at are read as well.
    pub columns: Columns,
}

impl CallFilter {
    fn matches(&self, call: &CallRecord) -> bool {
        let task_fits = self
            .task
            .as_ref()
            .is_none_or(|task| call.task_id.as_ref() == Some(task));
        let conversation_fits = self
            .conversation
            .as_ref()
            .is_none_or(|wanted| &call.conversation_id == wanted);
        let begun = call_micros(call);
        let time_fits = self.since.is_none_or(|since| begun >= since) && self.until.is_none_or(|until| begun < until);
        task_fits && conversation_fits && time_fits
    }

    /// Whether a partition's calls can match; object names order as their hours do.
    fn reaches(&self, key: &str) -> bool {
        let Some((partition, _)) = key.rsplit_once('/') else {
            return true;
        };
        self.since
            .is_none_or(|since| partition >= hour_partition(since).as_str())
            && self
                .until
                .is_none_or(|until| partition <= hour_partition(until).as_str())
    }

    fn columns(&self) -> Columns {
        match &self.columns {
            Columns::Only(names) => {
                let filtered = ERASURE_COLUMNS.into_iter().chain(["task_id"]).map(str::to_owned);
                Columns::Only(names.iter().cloned().chain(filtered).collect())
            }
            whole => whole.clone(),
        }
    }
}

/// Which scores to read; the default is all of them.
#[derive(Clone, Debug, Default)]
pub struct ScoreFilter {
    /// Only this task.
    pub task: Option<String>,
    /// Only this candidate, by its upstream's name.
    pub candidate: Option<String>,
    /// Only this version of it.
    pub candidate_version: Option<String>,
}

impl ScoreFilter {
    fn matches(&self, score: &ScoreRecord) -> bool {
        self.task.as_ref().is_none_or(|task| &score.task_id == task)
            && self
                .candidate
                .as_ref()
                .is_none_or(|candidate| &score.candidate == candidate)
            && self
                .candidate_version
                .as_ref()
                .is_none_or(|version| &score.candidate_version == version)
    }
}

/// All calls that match. For more than fits memory see [`for_each_call`].
pub async fn calls(store: &Store, filter: &CallFilter) -> Result<Vec<CallRecord>, ScanError> {
    let mut calls = Vec::new();
    for_each_call(store, filter, |call| calls.push(call)).await?;
    Ok(calls)
}

/// Hands each matching call to `visit`; holds one object and a few hundred rows at a time.
pub async fn for_each_call(
    store: &Store,
    filter: &CallFilter,
    mut visit: impl FnMut(CallRecord),
) -> Result<(), ScanError> {
    let objects = store.list("calls").await?;
    // Asked after the listing: what is merged from now on was listed unmerged.
    let hidden = hidden(store).await?;
    let tombstones = Tombstones::load(store).await?;
    let mut visit = |call: CallRecord| {
        if !tombstones.covers_call(&call) {
            visit(call);
        }
    };
    for object in objects {
        if !object.key.ends_with(".parquet") || !filter.reaches(&object.key) || hidden.contains(&object.key) {
            continue;
        }
        let bytes = store.get(&object.key).await?;
        for_each_row(&object.key, bytes, filter, store.table_keys().clone(), &mut visit).await?;
    }
    Ok(())
}

/// The calls of these ids, as far as they are kept, with all columns. Looks into the hours that the ids tell, and no more.
pub async fn calls_by_id(store: &Store, ids: &BTreeSet<String>) -> Result<Vec<CallRecord>, ScanError> {
    let mut hours = BTreeSet::new();
    for id in ids {
        let made = call_micros(&CallRecord {
            call_id: id.clone(),
            ..CallRecord::default()
        });
        // An id is made a moment before or after the call's time.
        hours.extend([made - ID_MICROS, made + ID_MICROS].map(hour_partition));
    }
    let hidden = hidden(store).await?;
    let tombstones = Tombstones::load(store).await?;
    let (filter, mut found) = (CallFilter::default(), Vec::new());
    for hour in hours {
        for object in store.list(&hour).await? {
            if !object.key.ends_with(".parquet") || hidden.contains(&object.key) {
                continue;
            }
            let bytes = store.get(&object.key).await?;
            let mut visit = |call: CallRecord| {
                if ids.contains(&call.call_id) && !tombstones.covers_call(&call) {
                    found.push(call);
                }
            };
            for_each_row(&object.key, bytes, &filter, store.table_keys().clone(), &mut visit).await?;
        }
    }
    Ok(found)
}

/// Decodes off the runtime's threads: unpacking a large object would hold up whatever else runs there.
async fn for_each_row(
    key: &str,
    bytes: Bytes,
    filter: &CallFilter,
    keys: TableKeys,
    visit: &mut impl FnMut(CallRecord),
) -> Result<(), ScanError> {
    let (sender, mut batches) = mpsc::channel(BATCHES_AHEAD);
    let columns = filter.columns();
    let decoder = tokio::task::spawn_blocking(move || -> Result<(), TableError> {
        for batch in call_batches(bytes, &columns, &keys)? {
            if sender.blocking_send(batch?).is_err() {
                break;
            }
        }
        Ok(())
    });
    while let Some(batch) = batches.recv().await {
        batch
            .into_iter()
            .filter(|call| filter.matches(call))
            .for_each(&mut *visit);
    }
    let decoded = decoder.await.map_err(|_| ScanError::Decoder { key: key.into() })?;
    decoded.map_err(|source| ScanError::Table {
        key: key.into(),
        source,
    })
}

/// All scores that match.
pub async fn scores(store: &Store, filter: &ScoreFilter) -> Result<Vec<ScoreRecord>, ScanError> {
    let folder = match &filter.task {
        Some(task) => score_partition(task, filter.candidate.as_deref()),
        None => "scores".into(),
    };
    // Verdicts are made of figures: the metrics key is enough for them.
    let columns = match store.table_keys().are_of_metrics_alone() {
        true => Columns::Metrics,
        false => Columns::All,
    };
    let tombstones = Tombstones::load(store).await?;
    let mut scores = Vec::new();
    for object in store
        .list(&folder)
        .await?
        .into_iter()
        .filter(|object| object.key.ends_with(".parquet"))
    {
        let bytes = store.get(&object.key).await?;
        let (columns, keys) = (columns.clone(), store.table_keys().clone());
        let rows = tokio::task::spawn_blocking(move || scores_from_parquet(bytes, &columns, &keys)).await;
        let rows = rows.map_err(|_| ScanError::Decoder {
            key: object.key.clone(),
        })?;
        let rows = rows.map_err(|source| ScanError::Table {
            key: object.key,
            source,
        })?;
        let is_meant = |score: &ScoreRecord| filter.matches(score) && !tombstones.covers_score(score);
        scores.extend(rows.into_iter().filter(is_meant));
    }
    Ok(scores)
}

#[cfg(test)]
mod tests;
