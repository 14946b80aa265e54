//! What people did with what is kept, as a chain in the store: each entry holds the hash of the one before it.
//!
//! Entries (`audit-log/v000007.json`) are create-only and never changed. An entry that was altered, or taken out, breaks
//! the chain at that place; one that is missing at the end shows only to who knows a later head. Holds no text of calls
//! and no credential.

use crate::store::{Store, StoreError, numbered_key};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The store's folder of entries.
pub(crate) const FOLDER: &str = "audit-log";
/// Entries tried before an append gives up: others took the numbers meanwhile.
const TRIES: u32 = 64;

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without gaps.
    pub number: u32,
    /// When, microseconds since the epoch.
    pub at: i64,
    /// What was done: `read_content`, `export`, `erase`, `config`.
    pub action: String,
    /// Who, as the operating system says.
    pub by: String,
    /// What more there is to say.
    pub details: Value,
    /// BLAKE3 of the entry before, as it is stored; null for the first.
    pub previous: Option<String>,
}

/// A log that was read and checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verified {
    /// Its entries that can be read, in order.
    pub entries: Vec<Entry>,
    /// BLAKE3 of the last: who keeps it elsewhere sees later whether entries before it were changed or cut off.
    pub head: Option<String>,
    /// The hashes of all entries.
    pub hashes: Vec<String>,
    /// Where the chain is broken, in words; empty where it holds.
    pub faults: Vec<String>,
}

/// Appends an entry; of several writers each gets a number of its own.
///
/// # Errors
/// Where the store fails, or others append all the time.
pub async fn append(store: &Store, action: &str, by: &str, at: i64, details: Value) -> Result<Entry, StoreError> {
    for _ in 0..TRIES {
        let (number, previous) = match store.latest(FOLDER).await? {
            Some((number, key)) => (number, Some(hash(&store.get(&key).await?))),
            None => (0, None),
        };
        let entry = Entry {
            number: number.saturating_add(1),
            at,
            action: action.to_owned(),
            by: by.to_owned(),
            details: details.clone(),
            previous,
        };
        let json = serde_json::to_vec(&entry).unwrap_or_default();
        if store.create(&numbered_key(FOLDER, entry.number), json.into()).await? {
            return Ok(entry);
        }
    }
    Err(StoreError::unreadable(
        FOLDER,
        "others append to it all the time".into(),
    ))
}

/// Reads the log and follows its chain.
///
/// # Errors
/// Where the store fails.
pub async fn verify(store: &Store) -> Result<Verified, StoreError> {
    let mut log = Verified::default();
    for (at, object) in store.list(FOLDER).await?.into_iter().enumerate() {
        let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let bytes = store.get(&object.key).await?;
        let expected = numbered_key(FOLDER, number);
        if object.key != expected {
            log.faults.push(format!("{} is where {expected} should be", object.key));
            break;
        }
        match serde_json::from_slice::<Entry>(&bytes) {
            Ok(entry) => {
                if entry.number != number || entry.previous != log.head {
                    let message =
                        format!("entry {number} does not continue the one before it: one of them was changed");
                    log.faults.push(message);
                }
                log.entries.push(entry);
            }
            Err(error) => log.faults.push(format!("entry {number} can't be read: {error}")),
        }
        let hash = hash(&bytes);
        log.head = Some(hash.clone());
        log.hashes.push(hash);
    }
    Ok(log)
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    async fn filled() -> Store {
        let store = Store::in_memory();
        for number in 1..=4 {
            append(&store, "erase", "ann", number, json!({ "n": number }))
                .await
                .unwrap();
        }
        store
    }

    #[tokio::test]
    async fn a_log_that_nobody_touched_verifies() {
        let store = filled().await;
        let log = verify(&store).await.unwrap();
        assert_eq!((log.entries.len(), log.faults.as_slice()), (4, &[] as &[String]));
        assert_eq!(log.hashes.last(), log.head.as_ref());
        assert_eq!(log.entries[2].details, json!({ "n": 3 }));
        assert_eq!(verify(&Store::in_memory()).await.unwrap(), Verified::default());
    }

    #[tokio::test]
    async fn an_entry_that_was_altered_or_dropped_breaks_the_chain() {
        for number in 1..=3 {
            let key = numbered_key(FOLDER, number);
            let store = filled().await;
            let text = String::from_utf8(store.get(&key).await.unwrap().to_vec()).unwrap();
            store.put(&key, text.replace("ann", "bob").into()).await.unwrap();
            assert!(!verify(&store).await.unwrap().faults.is_empty(), "{number} altered");
            let store = filled().await;
            store.delete(&key).await.unwrap();
            assert!(!verify(&store).await.unwrap().faults.is_empty(), "{number} dropped");
        }
        // At the end only a head that was kept elsewhere tells.
        let store = filled().await;
        let head = verify(&store).await.unwrap().head.unwrap();
        store.delete(&numbered_key(FOLDER, 4)).await.unwrap();
        let cut = verify(&store).await.unwrap();
        assert!(cut.faults.is_empty() && !cut.hashes.contains(&head));
    }

    #[tokio::test]
    async fn writers_at_once_make_one_chain() {
        let store = Store::in_memory();
        let writers = (0..8).map(|number| append(&store, "erase", "ann", number, Value::Null));
        for entry in futures_util::future::join_all(writers).await {
            entry.unwrap();
        }
        let log = verify(&store).await.unwrap();
        assert_eq!((log.entries.len(), log.faults.len()), (8, 0));
    }
}
