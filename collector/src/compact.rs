//! Closed hours in few objects: merges the small ones that ingest left, each row exactly once.
//!
//! A plan (which objects become which) is written before anything else, and a commit before anything is deleted; so a
//! run that was cut off is finished, or undone, by the next. [`hidden`] tells readers which objects not to read in
//! between. A reader that knows no plans may see rows twice for the moment between put and deletes, never none.

use crate::erase::{Tombstones, sweep_object};
use crate::scan::ScanError;
use crate::store::{Store, StoreError};
use crate::table::{TableError, calls_from_parquet, calls_to_parquet, hour_partition};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;
use understudy_call::keys::hex;

/// How the names of merged objects begin.
pub const COMPACTED: &str = "compact-";
/// Where plans are, while they are carried out.
const PLANS: &str = "_compactions";
/// Where it is said that a plan's output holds all of its rows.
const COMMITS: &str = "_commits";

/// What is merged.
#[derive(Clone, Copy, Debug)]
pub struct CompactOptions {
    /// Microseconds since the epoch, UTC.
    pub now: i64,
    /// An hour is closed so long after its end.
    pub closed_after: Duration,
    /// Bytes of objects merged into one.
    pub bytes: u64,
    /// A plan of this age was cut off: its process is gone.
    pub cut_off_after: Duration,
}

/// Objects that became one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// The folder of the hour.
    pub partition: String,
    /// The objects that were merged.
    pub objects: usize,
    /// Their rows.
    pub rows: usize,
    /// The object that holds them now.
    pub output: String,
}

/// Why merging stopped.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object can't be read: it is left as it is, with all that would have been merged with it. All else is merged.
    #[error("could not merge {key:?}: {source}")]
    Table {
        /// The object.
        key: String,
        /// What is wrong with it.
        source: TableError,
    },
    /// What was erased meanwhile could not be taken out.
    #[error(transparent)]
    Erase(#[from] Box<ScanError>),
    /// A plan can't be read.
    #[error("the plan {0:?} can't be read: look at it, and delete it where its inputs are all there")]
    Plan(String),
}

/// Which objects become which.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plan {
    /// Microseconds since the epoch.
    at: i64,
    partition: String,
    inputs: Vec<String>,
    output: String,
}

impl Plan {
    fn new(at: i64, partition: &str, inputs: Vec<String>) -> Plan {
        let mut hasher = blake3::Hasher::new();
        for input in &inputs {
            hasher.update(input.as_bytes()).update(b"\n");
        }
        let name = hex(&hasher.finalize().as_bytes()[..12]);
        Plan {
            at,
            partition: partition.to_owned(),
            output: format!("{partition}/{COMPACTED}{name}.parquet"),
            inputs,
        }
    }

    fn name(&self) -> &str {
        let name = self.output.rsplit('/').next().unwrap_or_default();
        name.trim_end_matches(".parquet")
    }

    fn key(&self) -> String {
        format!("{PLANS}/{}.json", self.name())
    }

    fn commit_key(&self) -> String {
        format!("{COMMITS}/{}.json", self.name())
    }

    fn json(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// Merges the objects of closed hours, and finishes what was cut off.
///
/// # Errors
/// Where the store fails or holds an object that can't be read. What was merged by then stays merged.
pub async fn compact(store: &Store, options: &CompactOptions) -> Result<Vec<Compacted>, CompactError> {
    let mut done = Vec::new();
    let mut unreadable = None;
    let mut busy = BTreeSet::new();
    for plan in plans(store).await? {
        if plan.at.saturating_add(micros(options.cut_off_after)) <= options.now {
            keep(finish(store, &plan).await, &mut done, &mut unreadable)?;
        } else {
            busy.insert(plan.partition);
        }
    }
    let open = hour_partition(options.now.saturating_sub(micros(options.closed_after)));
    let mut partitions: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for object in store.list("calls").await? {
        if let Some((partition, _)) = object.key.rsplit_once('/')
            && object.key.ends_with(".parquet")
            && partition < open.as_str()
            && !busy.contains(partition)
        {
            partitions
                .entry(partition.to_owned())
                .or_default()
                .push((object.key, object.size));
        }
    }
    for (partition, objects) in partitions {
        for inputs in groups(objects, options.bytes) {
            let plan = Plan::new(options.now, &partition, inputs);
            // Another run that is at it has made the same plan.
            if store.create(&plan.key(), plan.json()).await? {
                keep(finish(store, &plan).await, &mut done, &mut unreadable)?;
            }
        }
    }
    unreadable.map_or(Ok(done), Err)
}

/// Notes what came of a plan. An object that can't be read does not stop the others.
fn keep(
    result: Result<Option<Compacted>, CompactError>,
    done: &mut Vec<Compacted>,
    unreadable: &mut Option<CompactError>,
) -> Result<(), CompactError> {
    match result {
        Ok(compacted) => done.extend(compacted),
        Err(error @ CompactError::Table { .. }) => {
            unreadable.get_or_insert(error);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Objects that must not be read at present: the inputs of plans that are committed, the outputs of those that are not.
///
/// # Errors
/// Where the store fails.
pub async fn hidden(store: &Store) -> Result<HashSet<String>, CompactError> {
    let mut hidden = HashSet::new();
    for plan in plans(store).await? {
        if is_committed(store, &plan).await? {
            hidden.extend(plan.inputs);
        } else {
            hidden.insert(plan.output);
        }
    }
    Ok(hidden)
}

async fn plans(store: &Store) -> Result<Vec<Plan>, CompactError> {
    let mut plans = Vec::new();
    for object in store.list(PLANS).await? {
        match store.get(&object.key).await {
            Ok(json) => plans.push(serde_json::from_slice(&json).map_err(|_| CompactError::Plan(object.key))?),
            // Carried out meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(plans)
}

async fn is_committed(store: &Store, plan: &Plan) -> Result<bool, StoreError> {
    match store.get(&plan.commit_key()).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Carries out a plan, or what is left of it; nothing where it was put off because an input is gone.
async fn finish(store: &Store, plan: &Plan) -> Result<Option<Compacted>, CompactError> {
    let committed = is_committed(store, plan).await?;
    let tombstones = Tombstones::load(store).await?;
    let mut rows = 0;
    if !committed {
        let merged = match merge(store, plan, &tombstones).await {
            Ok(Some(merged)) => merged,
            Err(error @ CompactError::Store(_)) => return Err(error),
            // Never committed, and can't be carried out as planned.
            result => {
                store.delete(&plan.output).await?;
                store.delete(&plan.key()).await?;
                return result.map(|_| None);
            }
        };
        rows = merged.len();
        let failed = |source| CompactError::Table {
            key: plan.output.clone(),
            source,
        };
        let parquet = calls_to_parquet(&merged, store.table_keys()).map_err(failed)?;
        store.put(&plan.output, parquet).await?;
        store.create(&plan.commit_key(), plan.json()).await?;
    }
    // An erasure that began while rows were merged may have looked before the output was there.
    if committed || tombstones.are_outdated(store).await? {
        let tombstones = Tombstones::load(store).await?;
        sweep_object(store, &plan.output, &tombstones).await.map_err(Box::new)?;
    }
    for input in &plan.inputs {
        store.delete(input).await?;
    }
    store.delete(&plan.key()).await?;
    Ok(Some(Compacted {
        partition: plan.partition.clone(),
        objects: plan.inputs.len(),
        rows,
        output: plan.output.clone(),
    }))
}

/// The rows of a plan's inputs, each once, without those that are erased; `None` where an input is gone.
async fn merge(
    store: &Store,
    plan: &Plan,
    tombstones: &Tombstones,
) -> Result<Option<Vec<understudy_call::record::CallRecord>>, CompactError> {
    let mut rows = Vec::new();
    let mut ids = HashSet::new();
    for input in &plan.inputs {
        let bytes = match store.get(input).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let failed = |source| CompactError::Table {
            key: input.clone(),
            source,
        };
        let keys = store.table_keys().clone();
        let read = tokio::task::spawn_blocking(move || calls_from_parquet(bytes, &keys));
        let read = read
            .await
            .unwrap_or_else(|_| Err(TableError::Read("the decoder failed".into())))
            .map_err(failed)?;
        let kept = read.into_iter().filter(|row| !tombstones.covers_call(row));
        rows.extend(kept.filter(|row| ids.insert(row.call_id.clone())));
    }
    Ok(Some(rows))
}

/// Objects that are merged with one another: at least two, of so many bytes together.
fn groups(objects: Vec<(String, u64)>, bytes: u64) -> Vec<Vec<String>> {
    let mut groups: Vec<(Vec<String>, u64)> = Vec::new();
    for (key, size) in objects.into_iter().filter(|(_, size)| *size < bytes) {
        match groups.last_mut() {
            Some((group, total)) if *total + size <= bytes => {
                group.push(key);
                *total += size;
            }
            _ => groups.push((vec![key], size)),
        }
    }
    let of_several = groups.into_iter().map(|(group, _)| group);
    of_several.filter(|group| group.len() > 1).collect()
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
