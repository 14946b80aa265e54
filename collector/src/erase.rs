//! What was erased, and stays so: tombstones in the store, which readers honour at once and ingest and jobs from then on.
//!
//! A tombstone (`erasures/<id>.json`) is never changed or removed: rows that come back, from a spool, a backup or a
//! second import, are left out again. It holds pseudonyms and ids, nothing of what was said.

mod spools;
mod sweep;

pub(crate) use spools::TELL_EVERY;
pub use spools::{Collector, Drained, Spools, collectors, wait_for_spools};
pub use sweep::{Erased, Receipt, Wanted, erase, sweep_object, sweep_scores};

use crate::store::{Store, StoreError};
use crate::table::call_micros;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use understudy_call::account::Numbers;
use understudy_call::record::{CallRecord, ScoreRecord};

/// The store's folder of tombstones and receipts.
pub const ERASURES: &str = "erasures";
/// The folder among them of notes of what was left out.
const LEFT_OUT: &str = "left-out";
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
fn note_number(numbers: &mut BTreeMap<String, Numbers>, call: &CallRecord) {
    let number = call.sequence.and_then(|number| u64::try_from(number).ok());
    if let (Some(boot_id), Some(number)) = (&call.boot_id, number) {
        numbers.entry(boot_id.clone()).or_default().insert(number);
    }
}

/// All tombstones of a store.
#[derive(Clone, Debug, Default)]
pub struct Tombstones {
    /// Keys of the tombstones that were read.
    names: BTreeSet<String>,
    /// Keys of the notes of what was left out since.
    notes: BTreeSet<String>,
    /// Ids of the tombstones that nobody took note of yet, and when they were made.
    new: BTreeMap<String, i64>,
    all: Vec<Tombstone>,
    calls: HashSet<String>,
}

/// What an object among the erasures is.
enum Kind<'a> {
    /// A tombstone, and its id.
    Tombstone(&'a str),
    /// A note of calls that were left out.
    Note,
}

fn kind_of(key: &str) -> Option<Kind<'_>> {
    let name = key.strip_prefix(ERASURES)?.strip_prefix('/')?.strip_suffix(".json")?;
    match name.split_once('/') {
        None if name.ends_with(".receipt") => None,
        None => Some(Kind::Tombstone(name)),
        Some((LEFT_OUT, _)) => Some(Kind::Note),
        Some(_) => None,
    }
}

impl Tombstones {
    /// Reads them.
    ///
    /// # Errors
    /// Where the store fails, or one can't be read: what it covers must not be shown.
    pub async fn load(store: &Store) -> Result<Tombstones, StoreError> {
        let mut tombstones = Tombstones::default();
        tombstones.refresh(store).await?;
        Ok(tombstones)
    }

    /// Reads those that were made since: none is ever changed.
    ///
    /// # Errors
    /// As [`Tombstones::load`]; what was read until then is kept.
    pub(crate) async fn refresh(&mut self, store: &Store) -> Result<(), StoreError> {
        for object in store.list(ERASURES).await? {
            let name = object.key;
            let Some(kind) = kind_of(&name) else { continue };
            if self.names.contains(&name) || self.notes.contains(&name) {
                continue;
            }
            let json = store.get(&name).await?;
            let tombstone: Tombstone = serde_json::from_slice(&json)
                .map_err(|error| StoreError::unreadable(&name, format!("it is no tombstone: {error}")))?;
            self.calls.extend(tombstone.calls.iter().cloned());
            match kind {
                Kind::Tombstone(id) => {
                    self.new.insert(id.to_owned(), tombstone.at);
                    self.all.push(tombstone);
                    self.names.insert(name);
                }
                Kind::Note => drop(self.notes.insert(name)),
            }
        }
        Ok(())
    }

    /// Those of a list, as [`Tombstones::for_workers`] gave it.
    pub fn of(all: Vec<Tombstone>) -> Tombstones {
        Tombstones {
            calls: all
                .iter()
                .flat_map(|tombstone| tombstone.calls.iter().cloned())
                .collect(),
            all,
            ..Tombstones::default()
        }
    }

    /// What tells whether a call is covered, for a process that does not see the store.
    pub fn for_workers(&self) -> Vec<Tombstone> {
        let without_lists = |tombstone: &Tombstone| Tombstone {
            calls: BTreeSet::new(),
            numbers: BTreeMap::new(),
            ..tombstone.clone()
        };
        let listed = Tombstone {
            calls: self.calls.iter().cloned().collect(),
            ..Tombstone::default()
        };
        self.all.iter().map(without_lists).chain([listed]).collect()
    }

    /// Whether [`Tombstones::take_new`] has some.
    pub(crate) fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    /// Whether there are any.
    pub(crate) fn was_read(&self) -> bool {
        !self.names.is_empty()
    }

    /// The ids of those that were read since this was asked before, and when they were made, microseconds since the epoch.
    pub(crate) fn take_new(&mut self) -> BTreeMap<String, i64> {
        std::mem::take(&mut self.new)
    }

    /// Whether another one was made since these were read.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn are_outdated(&self, store: &Store) -> Result<bool, StoreError> {
        let objects = store.list(ERASURES).await?;
        let is_new = |key: &str| matches!(kind_of(key), Some(Kind::Tombstone(_))) && !self.names.contains(key);
        Ok(objects.iter().any(|object| is_new(&object.key)))
    }

    /// A digest of which they are; empty where there are none.
    pub fn digest(&self) -> String {
        if self.names.is_empty() {
            return String::new();
        }
        let mut hasher = blake3::Hasher::new();
        for name in &self.names {
            hasher.update(name.as_bytes()).update(b"\n");
        }
        hasher.finalize().to_hex().to_string()
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

/// Calls that were left out: noted for the accounts, and so that scores of them are erased as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct LeftOut {
    calls: BTreeSet<String>,
    numbers: BTreeMap<String, Numbers>,
}

impl LeftOut {
    /// Adds a call that these tombstones cover.
    pub(crate) fn add(&mut self, call: &CallRecord, tombstones: &Tombstones) {
        note_number(&mut self.numbers, call);
        let score = ScoreRecord {
            call_id: call.call_id.clone(),
            conversation_id: call.conversation_id.clone(),
            ..ScoreRecord::default()
        };
        if !tombstones.covers_score(&score) {
            self.calls.insert(score.call_id);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.numbers.is_empty()
    }

    /// Puts the note; `name` is the same for the same calls.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn put(&self, store: &Store, name: &str) -> Result<(), StoreError> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        store
            .put(&format!("{ERASURES}/{LEFT_OUT}/{name}.json"), json.into())
            .await
    }
}

#[cfg(test)]
mod tests;
