//! Takes erased rows out of the store's objects, which keep their keys, and says what was done and what was not reached.

use super::{Aged, Drained, ERASURE_COLUMNS, ERASURES, LeftOut, Tombstone, Tombstones};
use crate::scan::{CallFilter, ScanError, for_each_call};
use crate::store::Store;
use crate::table::{
    Columns, TableError, calls_from_parquet, calls_from_parquet_columns, calls_to_parquet, hour_partition,
    scores_from_parquet, scores_to_parquet,
};
use crate::vault::{self, VAULT};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Times that a sweep begins anew because another erasure was made meanwhile.
const ROUNDS: u32 = 16;

/// What is to be erased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Pseudonyms of clients.
    pub clients: BTreeSet<String>,
    /// Pseudonyms of users.
    pub users: BTreeSet<String>,
    /// Conversations.
    pub conversations: BTreeSet<String>,
    /// Whatever is older.
    pub aged: Vec<Aged>,
}

/// What an erasure did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The erasure, which is the name of its tombstone.
    pub erasure: String,
    /// When, microseconds since the epoch.
    pub at: i64,
    /// Pseudonyms of the clients erased.
    pub clients: BTreeSet<String>,
    /// Pseudonyms of the users erased.
    #[serde(default)]
    pub users: BTreeSet<String>,
    /// The conversations erased.
    pub conversations: BTreeSet<String>,
    /// The ages erased.
    pub aged: Vec<Aged>,
    /// Rows and objects.
    pub erased: Erased,
    /// Lines taken out of exported data sets.
    pub export_lines: u64,
    /// Spools in which nothing of it waits any more.
    #[serde(default)]
    pub drained: Vec<Drained>,
    /// What could not be reached, in words.
    pub not_reached: Vec<String>,
}

/// Rows that were taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Rows of `calls`.
    pub calls: u64,
    /// Rows of `scores`.
    pub scores: u64,
    /// Calls in the vault.
    #[serde(default)]
    pub vault: u64,
    /// Objects written anew without them.
    pub rewritten: u64,
    /// Objects that held nothing else.
    pub deleted: u64,
    #[serde(skip)]
    left_out: LeftOut,
}

/// Erases: a tombstone first, then the rows; also the ids of the calls that were found. `None` where `only_if_found` and there is nothing.
///
/// # Errors
/// Where the store fails, or an object that must be written anew can't be read: the tombstone holds all the same, and
/// the next erasure goes on with it.
pub async fn erase(
    store: &Store,
    wanted: &Wanted,
    now: i64,
    only_if_found: bool,
) -> Result<Option<(Receipt, BTreeSet<String>)>, ScanError> {
    let mut tombstone = Tombstone {
        at: now,
        clients: wanted.clients.clone(),
        users: wanted.users.clone(),
        conversations: wanted.conversations.clone(),
        aged: wanted.aged.clone(),
        ..Tombstone::default()
    };
    let filter = CallFilter {
        columns: Columns::only(ERASURE_COLUMNS),
        ..CallFilter::default()
    };
    let mut found = Vec::new();
    for_each_call(store, &filter, |call| {
        if tombstone.covers_call(&call) {
            found.push(call);
        }
    })
    .await?;
    if found.is_empty() && only_if_found {
        return Ok(None);
    }
    found.iter().for_each(|call| tombstone.note(call));
    let id = uuid::Uuid::now_v7().simple().to_string();
    let json = serde_json::to_vec(&tombstone).unwrap_or_default();
    store.create(&format!("{ERASURES}/{id}.json"), json.into()).await?;
    let mut erased = Erased::default();
    for _ in 0..ROUNDS {
        let tombstones = Tombstones::load(store).await?;
        sweep(store, &tombstones, &mut erased).await?;
        if !tombstones.are_outdated(store).await? {
            break;
        }
    }
    // What came between the look and the tombstone.
    if !erased.left_out.is_empty() {
        erased.left_out.put(store, &id).await?;
    }
    let receipt = Receipt {
        erasure: id,
        at: now,
        clients: tombstone.clients,
        users: tombstone.users,
        conversations: tombstone.conversations,
        aged: tombstone.aged,
        erased,
        export_lines: 0,
        drained: Vec::new(),
        not_reached: vec![
            "versions of objects that the store keeps, and its backups".into(),
            "copies of a spool".into(),
        ],
    };
    let calls = found.into_iter().map(|call| call.call_id).collect();
    Ok(Some((receipt, calls)))
}

impl Receipt {
    /// Puts it beside its tombstone.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn put(&self, store: &Store) -> Result<(), ScanError> {
        let json = serde_json::to_vec_pretty(self).unwrap_or_default();
        let key = format!("{ERASURES}/{}.receipt.json", self.erasure);
        Ok(store.put(&key, json.into()).await?)
    }
}

async fn sweep(store: &Store, tombstones: &Tombstones, erased: &mut Erased) -> Result<(), ScanError> {
    let last = hour_partition(tombstones.until());
    let in_time = |key: &str, last: &str| key.rsplit_once('/').is_none_or(|(hour, _)| hour <= last);
    // First, since it holds the most and needs no key.
    let last_of_vault = last.replacen("calls", VAULT, 1);
    for object in store.list(VAULT).await? {
        if in_time(&object.key, &last_of_vault) {
            erased.vault += vault::sweep(store, &object.key, tombstones).await?;
        }
    }
    for object in store.list("calls").await? {
        if object.key.ends_with(".parquet") && in_time(&object.key, &last) {
            sweep_calls(store, &object.key, tombstones, erased).await?;
        }
    }
    sweep_all_scores(store, tombstones, erased).await
}

async fn sweep_all_scores(store: &Store, tombstones: &Tombstones, erased: &mut Erased) -> Result<(), ScanError> {
    let mut objects = store.list("scores").await?;
    objects.extend(store.list("feedback").await?);
    for object in objects {
        if object.key.ends_with(".parquet") {
            sweep_scores_of(store, &object.key, tombstones, erased).await?;
        }
    }
    Ok(())
}

/// Takes scores of all that is erased out: once more where collectors have left out calls meanwhile that were shadowed.
///
/// # Errors
/// Where the store fails, or an object can't be read or written.
pub async fn sweep_scores(store: &Store, erased: &mut Erased) -> Result<(), ScanError> {
    let tombstones = Tombstones::load(store).await?;
    sweep_all_scores(store, &tombstones, erased).await
}

/// Takes what is erased out of one object of `calls`.
///
/// # Errors
/// Where the store fails, or the object can't be read or written.
pub async fn sweep_object(store: &Store, key: &str, tombstones: &Tombstones) -> Result<(), ScanError> {
    let mut erased = Erased::default();
    sweep_calls(store, key, tombstones, &mut erased).await?;
    if !erased.left_out.is_empty() {
        let name = uuid::Uuid::now_v7().simple().to_string();
        erased.left_out.put(store, &name).await?;
    }
    Ok(())
}

async fn sweep_calls(store: &Store, key: &str, tombstones: &Tombstones, erased: &mut Erased) -> Result<(), ScanError> {
    let bytes = match store.get(key).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let (keys, whole) = (store.table_keys().clone(), bytes.clone());
    let columns = Columns::only(ERASURE_COLUMNS);
    let rows = decode(key, move || calls_from_parquet_columns(bytes, &columns, &keys)).await?;
    let all = rows.len();
    let covered: Vec<_> = rows.into_iter().filter(|row| tombstones.covers_call(row)).collect();
    if covered.is_empty() {
        return Ok(());
    }
    if covered.len() == all {
        store.delete(key).await?;
        erased.deleted += 1;
    } else {
        let (keys, covering) = (store.table_keys().clone(), tombstones.clone());
        let parquet = decode(key, move || {
            let mut rows = calls_from_parquet(whole, &keys)?;
            rows.retain(|row| !covering.covers_call(row));
            calls_to_parquet(&rows, &keys)
        });
        store.put(key, parquet.await?).await?;
        erased.rewritten += 1;
    }
    erased.calls += covered.len() as u64;
    covered.iter().for_each(|call| erased.left_out.add(call, tombstones));
    Ok(())
}

async fn sweep_scores_of(
    store: &Store,
    key: &str,
    tombstones: &Tombstones,
    erased: &mut Erased,
) -> Result<(), ScanError> {
    let bytes = store.get(key).await?;
    let (keys, whole) = (store.table_keys().clone(), bytes.clone());
    let rows = decode(key, move || scores_from_parquet(bytes, &Columns::Metrics, &keys)).await?;
    let left = rows.iter().filter(|row| !tombstones.covers_score(row)).count();
    if left == rows.len() {
        return Ok(());
    }
    if left == 0 {
        store.delete(key).await?;
        erased.deleted += 1;
    } else {
        let (keys, tombstones) = (store.table_keys().clone(), tombstones.clone());
        let parquet = decode(key, move || {
            let mut rows = scores_from_parquet(whole, &Columns::All, &keys)?;
            rows.retain(|row| !tombstones.covers_score(row));
            scores_to_parquet(&rows, &keys)
        });
        store.put(key, parquet.await?).await?;
        erased.rewritten += 1;
    }
    erased.scores += (rows.len() - left) as u64;
    Ok(())
}

/// Off the runtime's threads, as all decoding.
async fn decode<T: Send + 'static>(
    key: &str,
    work: impl FnOnce() -> Result<T, TableError> + Send + 'static,
) -> Result<T, ScanError> {
    let decoded = tokio::task::spawn_blocking(work).await;
    decoded
        .map_err(|_| ScanError::Decoder { key: key.into() })?
        .map_err(|source| ScanError::Table {
            key: key.into(),
            source,
        })
}
