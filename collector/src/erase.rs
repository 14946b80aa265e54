//! What was erased, and stays so: tombstones in the store, which readers honour at once and ingest and jobs from then on.
//!
//! A tombstone (`erasures/<id>.json`) is never changed or removed: rows that come back, from a spool, a backup or a
//! second import, are left out again. It holds pseudonyms and ids, nothing of what was said.

mod sweep;

pub use sweep::{Erased, Receipt, Wanted, erase, sweep_object};

use crate::store::{Store, StoreError};
use crate::table::call_micros;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use understudy_call::account::Numbers;
use understudy_call::record::{CallRecord, ScoreRecord};

/// The store's folder of tombstones and receipts.
pub const ERASURES: &str = "erasures";
/// Columns that say whether a call is erased, and which it was.
pub const ERASURE_COLUMNS: [&str; 8] = [
    "call_id",
    "client_id",
    "user_id",
    "conversation_id",
    "started_at",
    "route",
    "boot_id",
    "sequence",
];

/// Calls that began before a time, of some routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Aged {
    /// Microseconds since the epoch.
    pub before: i64,
    /// Only calls of this route.
    pub route: Option<String>,
    /// Not calls of these routes: they have ages of their own.
    pub except: Vec<String>,
}

impl Aged {
    fn is_of_all_routes(&self) -> bool {
        self.route.is_none() && self.except.is_empty()
    }

    fn covers(&self, begun: i64, route: Option<&str>) -> bool {
        let is_meant = match (&self.route, route) {
            (Some(only), route) => route == Some(only),
            (None, Some(route)) => !self.except.iter().any(|except| except == route),
            (None, None) => true,
        };
        // Calls of an unknown time (imported ones) are of no age: their ids are of the epoch.
        begun >= 1_000_000 && begun < self.before && is_meant
    }
}

/// One erasure: what is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tombstone {
    /// When, microseconds since the epoch: calls begun later are not covered.
    pub at: i64,
    /// Pseudonyms of clients.
    pub clients: BTreeSet<String>,
    /// Pseudonyms of users.
    pub users: BTreeSet<String>,
    /// Conversations.
    pub conversations: BTreeSet<String>,
    /// Whatever is older.
    pub aged: Vec<Aged>,
    /// The calls that were found, for scores and exports of them.
    pub calls: BTreeSet<String>,
    /// Their numbers, by boot, for the accounts.
    pub numbers: BTreeMap<String, Numbers>,
}

impl Tombstone {
    fn covers_call(&self, call: &CallRecord) -> bool {
        let (begun, route) = (call_micros(call), call.route.as_deref());
        self.names(call) || self.aged.iter().any(|aged| aged.covers(begun, route))
    }

    /// Whether it is of a client, a user or a conversation that is erased.
    fn names(&self, call: &CallRecord) -> bool {
        let is_one = |id: &Option<String>, erased: &BTreeSet<String>| id.as_ref().is_some_and(|id| erased.contains(id));
        let is_named = is_one(&call.client_id, &self.clients)
            || is_one(&call.user_id, &self.users)
            || self.conversations.contains(&call.conversation_id);
        is_named && call_micros(call) <= self.at
    }

    fn note(&mut self, call: &CallRecord) {
        // Scores tell their conversation and, by their call's id, their age: the rest is listed.
        let begun_by_id = call_micros(&CallRecord {
            call_id: call.call_id.clone(),
            ..CallRecord::default()
        });
        let is_told = self
            .aged
            .iter()
            .any(|aged| aged.is_of_all_routes() && aged.covers(begun_by_id, None));
        if self.names(call) || !is_told {
            self.calls.insert(call.call_id.clone());
        }
        note_number(&mut self.numbers, call);
    }
}

/// Adds a call's number to those of its boot.
pub(crate) fn note_number(numbers: &mut BTreeMap<String, Numbers>, call: &CallRecord) {
    let number = call.sequence.and_then(|number| u64::try_from(number).ok());
    if let (Some(boot_id), Some(number)) = (&call.boot_id, number) {
        numbers.entry(boot_id.clone()).or_default().insert(number);
    }
}

/// All tombstones of a store.
#[derive(Clone, Debug, Default)]
pub struct Tombstones {
    names: BTreeSet<String>,
    all: Vec<Tombstone>,
    calls: HashSet<String>,
}

impl Tombstones {
    /// Reads them.
    ///
    /// # Errors
    /// Where the store fails, or one can't be read: what it covers must not be shown.
    pub async fn load(store: &Store) -> Result<Tombstones, StoreError> {
        let mut tombstones = Tombstones {
            names: Tombstones::names(store).await?,
            ..Tombstones::default()
        };
        for name in &tombstones.names {
            let json = store.get(name).await?;
            let tombstone: Tombstone = serde_json::from_slice(&json)
                .map_err(|error| StoreError::unreadable(name, format!("it is no tombstone: {error}")))?;
            tombstones.calls.extend(tombstone.calls.iter().cloned());
            tombstones.all.push(tombstone);
        }
        Ok(tombstones)
    }

    /// Whether another one was made since these were read.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn are_outdated(&self, store: &Store) -> Result<bool, StoreError> {
        Ok(Tombstones::names(store).await? != self.names)
    }

    async fn names(store: &Store) -> Result<BTreeSet<String>, StoreError> {
        let objects = store.list(ERASURES).await?;
        let is_tombstone = |key: &String| {
            let name = key.strip_prefix(ERASURES).and_then(|rest| rest.strip_prefix('/'));
            name.is_some_and(|name| name.ends_with(".json") && !name.ends_with(".receipt.json") && !name.contains('/'))
        };
        Ok(objects
            .into_iter()
            .map(|object| object.key)
            .filter(is_tombstone)
            .collect())
    }

    /// Whether nothing was ever erased.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a call is erased; it needs [`ERASURE_COLUMNS`].
    pub fn covers_call(&self, call: &CallRecord) -> bool {
        self.calls.contains(&call.call_id) || self.all.iter().any(|tombstone| tombstone.covers_call(call))
    }

    /// Whether a score is of a call that is erased.
    pub fn covers_score(&self, score: &ScoreRecord) -> bool {
        self.calls.contains(&score.call_id) || {
            let call = CallRecord {
                call_id: score.call_id.clone(),
                conversation_id: score.conversation_id.clone(),
                ..CallRecord::default()
            };
            let begun = call_micros(&call);
            let in_conversation = |tombstone: &Tombstone| {
                tombstone.conversations.contains(&call.conversation_id) && begun <= tombstone.at
            };
            let is_aged = |aged: &Aged| aged.is_of_all_routes() && aged.covers(begun, None);
            let by_age = |tombstone: &Tombstone| tombstone.aged.iter().any(is_aged);
            self.all
                .iter()
                .any(|tombstone| in_conversation(tombstone) || by_age(tombstone))
        }
    }

    /// Ids of the calls that were found when they were erased.
    pub fn calls(&self) -> &HashSet<String> {
        &self.calls
    }

    /// The latest time that any of them reaches to, microseconds since the epoch.
    fn until(&self) -> i64 {
        let reaches = |tombstone: &Tombstone| {
            let aged = tombstone.aged.iter().map(|aged| aged.before).max();
            tombstone.at.max(aged.unwrap_or_default())
        };
        self.all.iter().map(reaches).max().unwrap_or_default()
    }
}

/// The numbers of all calls that were erased, by boot.
///
/// # Errors
/// Where the store fails.
pub async fn erased_numbers(store: &Store) -> Result<BTreeMap<String, Numbers>, StoreError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Numbered {
        numbers: BTreeMap<String, Numbers>,
    }
    let mut all: BTreeMap<String, Numbers> = BTreeMap::new();
    for object in store.list(ERASURES).await? {
        let json = store.get(&object.key).await?;
        let numbered: Numbered = serde_json::from_slice(&json).unwrap_or_default();
        for (boot_id, numbers) in numbered.numbers {
            all.entry(boot_id).or_default().extend(&numbers);
        }
    }
    Ok(all)
}

/// Says for the accounts that these were left out; `name` is the same for the same calls.
///
/// # Errors
/// Where the store fails.
pub(crate) async fn note_left_out(
    store: &Store,
    name: &str,
    numbers: &BTreeMap<String, Numbers>,
) -> Result<(), StoreError> {
    let json = serde_json::json!({ "numbers": numbers }).to_string();
    store
        .put(&format!("{ERASURES}/left-out/{name}.json"), json.into())
        .await
}

#[cfg(test)]
mod tests;
