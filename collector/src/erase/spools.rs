//! Who reads which spool into this store, and who of them has taken an erasure through what waited there.
//!
//! A collector says now and then that it is there (`collectors/<id>.json`), and takes that back when it ends with an empty
//! spool. Once nothing waits any more of what waited when it saw an erasure, it puts a word beside the tombstone
//! (`erasures/drained/<erasure>/<id>.json`). What can't be told to be gone is named.

use super::ERASURES;
use crate::store::{Store, StoreError};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The store's folder of those that put calls into it.
const COLLECTORS: &str = "collectors";
/// The folder among the erasures of words on spools.
const DRAINED: &str = "drained";
/// How often a collector says that it is there.
pub(crate) const TELL_EVERY: Duration = Duration::from_secs(60);
/// One that was silent for so long is not waited for.
const SILENT: Duration = Duration::from_secs(180);
/// How often words are looked for.
const POLL: Duration = Duration::from_millis(500);

/// One reader of one spool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Collector {
    /// Its id, which stays with its folder.
    pub id: String,
    /// The machine.
    pub host: String,
    /// The spool's folder there.
    pub spool: String,
    /// The name of a further reader; none for the first.
    pub reader: Option<String>,
    /// When it was last heard of, microseconds since the epoch.
    pub seen: i64,
    /// It ended then, and records were left.
    pub ended: bool,
}

/// That nothing which waited in a spool when its reader saw an erasure waits any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drained {
    /// Who says so, and when.
    #[serde(flatten)]
    pub collector: Collector,
    /// The last segment that was there when it saw the erasure.
    pub through: Option<String>,
    /// Records that it left out since then.
    pub left_out: u64,
    /// Segments that it can't read, and left where they are.
    pub unreadable: u64,
    /// Segments that wait for other readers of the spool, by their names; the first reader has an empty one.
    pub others: BTreeMap<String, u64>,
}

/// What became of an erasure in the spools of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spools {
    /// Where nothing of it waits any more.
    pub drained: Vec<Drained>,
    /// Where that is not known, in words.
    pub not_reached: Vec<String>,
}

impl Collector {
    /// The collector of this folder, here and now.
    pub(crate) fn here(id: &str, spool: &std::path::Path, reader: Option<&str>) -> Collector {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
        let spool = spool.canonicalize().unwrap_or_else(|_| spool.to_owned());
        Collector {
            id: id.to_owned(),
            host: host.map_or_else(|_| "an unknown host".into(), |host| host.trim().to_owned()),
            spool: spool.display().to_string(),
            reader: reader.map(str::to_owned),
            seen: now(),
            ended: false,
        }
    }

    /// Says that it is there.
    pub(crate) async fn tell(&self, store: &Store) -> Result<(), StoreError> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        store.put(&self.key(), json.into()).await
    }

    /// Says that it is gone, and nothing waits for it.
    pub(crate) async fn leave(&self, store: &Store) -> Result<(), StoreError> {
        store.delete(&self.key()).await
    }

    fn key(&self) -> String {
        format!("{COLLECTORS}/{}.json", self.id)
    }

    fn is_alive(&self) -> bool {
        let silent = i64::try_from(SILENT.as_micros()).unwrap_or(i64::MAX);
        !self.ended && now().saturating_sub(self.seen) < silent
    }

    /// The spool, in words.
    fn place(&self) -> String {
        let reader = self.reader.as_ref();
        let reader = reader.map_or_else(String::new, |name| format!(", for its reader `{name}`"));
        format!("the spool {} on {}{reader}", self.spool, self.host)
    }

    fn silence(&self, limit: Duration) -> String {
        let why = if self.is_alive() {
            format!("its collector has not answered within {limit:?}")
        } else {
            let at = Timestamp::from_microsecond(self.seen).unwrap_or_default();
            format!("its collector was last heard of at {at:.0}")
        };
        format!(
            "{}: {why}. What waits there is left out when it is stored; if the machine is gone for good, destroy its disk and delete {}",
            self.place(),
            self.key()
        )
    }
}

impl Drained {
    /// Says so of an erasure; once is enough.
    pub(crate) async fn tell(&self, store: &Store, erasure: &str) -> Result<(), StoreError> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        let key = format!("{}/{}.json", folder(erasure), self.collector.id);
        store.create(&key, json.into()).await.map(drop)
    }

    /// What it could not do, in words.
    fn left(&self) -> Vec<String> {
        let place = self.collector.place();
        let unreadable = (self.unreadable > 0).then(|| {
            let many = self.unreadable;
            format!("{place}: {many} segments can't be read: sealed with another spool key, or damaged")
        });
        let others = self.others.iter().map(|(name, many)| {
            let reader = match name.as_str() {
                "" => "the first reader".to_owned(),
                name => format!("the reader `{name}`"),
            };
            let waits = match many {
                0 => String::new(),
                many => format!(", for which {many} segments wait"),
            };
            format!("{place}: {reader} of it{waits} has a store of its own: erase there too")
        });
        unreadable.into_iter().chain(others).collect()
    }
}

/// Those that put calls into a store.
///
/// # Errors
/// Where the store fails.
pub async fn collectors(store: &Store) -> Result<Vec<Collector>, StoreError> {
    read_all(store, COLLECTORS).await
}

/// Waits until all collectors that live have taken an erasure through their spools, so long at most.
///
/// # Errors
/// Where the store fails.
pub async fn wait_for_spools(store: &Store, erasure: &str, limit: Duration) -> Result<Spools, StoreError> {
    let began = Instant::now();
    // Those that come later know the tombstone from their start.
    let known = collectors(store).await?;
    let missing = loop {
        let (there, told) = (ids(store, COLLECTORS).await?, ids(store, &folder(erasure)).await?);
        // One that went has stored all that waited, or left it out.
        let is_missing = |collector: &&Collector| there.contains(&collector.id) && !told.contains(&collector.id);
        let missing: Vec<&Collector> = known.iter().filter(is_missing).collect();
        if !missing.iter().any(|collector| collector.is_alive()) || began.elapsed() >= limit {
            break missing;
        }
        tokio::time::sleep(POLL).await;
    };
    let drained: Vec<Drained> = read_all(store, &folder(erasure)).await?;
    let silent = missing.iter().map(|collector| collector.silence(limit));
    let not_reached = silent.chain(drained.iter().flat_map(Drained::left)).collect();
    Ok(Spools { drained, not_reached })
}

fn folder(erasure: &str) -> String {
    format!("{ERASURES}/{DRAINED}/{erasure}")
}

/// The names of a folder's objects, without extension.
async fn ids(store: &Store, folder: &str) -> Result<BTreeSet<String>, StoreError> {
    let objects = store.list(folder).await?;
    let name = |key: &str| Some(key.rsplit('/').next()?.strip_suffix(".json")?.to_owned());
    Ok(objects.iter().filter_map(|object| name(&object.key)).collect())
}

async fn read_all<T: DeserializeOwned>(store: &Store, folder: &str) -> Result<Vec<T>, StoreError> {
    let mut all = Vec::new();
    for object in store.list(folder).await? {
        match store.get(&object.key).await {
            Ok(json) => {
                let read = serde_json::from_slice(&json);
                all.push(read.map_err(|error| StoreError::unreadable(&object.key, error.to_string()))?);
            }
            // It went meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

fn now() -> i64 {
    Timestamp::now().as_microsecond()
}
