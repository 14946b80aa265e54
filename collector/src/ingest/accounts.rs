//! Puts the accounts of boots beside the calls, so that an audit finds them when the spool's machine is gone.

use super::segments::{Segments, accounts, has_writer};
use crate::store::{Store, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use understudy_call::account::{Account, EXTENSION};
use understudy_call::spool::Position;

/// The store's folder of accounts: `accounts/<boot id>.json`.
pub const ACCOUNTS: &str = "accounts";
/// How often they are put.
const EVERY: Duration = Duration::from_secs(60);

/// What the store has of them.
#[derive(Default)]
pub(super) struct Accounts {
    published: Option<Instant>,
    stored: BTreeMap<String, Account>,
}

impl Accounts {
    /// Whether it is time.
    pub(super) fn is_due(&self) -> bool {
        self.published.is_none_or(|published| published.elapsed() >= EVERY)
    }

    /// Puts those that have changed. Boots that are over, and all of whose segments are stored, are told by the store from
    /// then on: their files go, and their ids come back.
    pub(super) async fn publish(
        &mut self,
        store: &Store,
        segments: &Segments,
        position: &Position,
    ) -> Result<Vec<String>, StoreError> {
        self.published = Some(Instant::now());
        let mut local = accounts(segments.dir());
        local.sort_by(|one, other| one.boot_id.cmp(&other.boot_id));
        // Asked after the accounts: the boot that writes has the newest of those.
        let running = has_writer(segments.dir());
        let newest = local.last().map(|account| account.boot_id.clone());
        let Ok(names) = segments.names() else {
            return Ok(Vec::new());
        };
        let mut over = Vec::new();
        for mut account in local {
            if let Some(given_up) = position.evicted.get(&account.boot_id) {
                let of_boot = account.evicted.entry(account.boot_id.clone()).or_default();
                of_boot.extend(given_up.clone());
            }
            let has_ended = account.ended || !running || newest.as_ref() != Some(&account.boot_id);
            account.drained = has_ended && !names.iter().any(|name| account.segments.contains_key(name));
            if self.stored.get(&account.boot_id) != Some(&account) {
                put(store, &account).await?;
            }
            if account.drained {
                let path = segments.dir().join(format!("{}.{EXTENSION}", account.boot_id));
                if std::fs::remove_file(path).is_ok() {
                    self.stored.remove(&account.boot_id);
                    over.push(account.boot_id);
                }
            } else {
                self.stored.insert(account.boot_id.clone(), account);
            }
        }
        Ok(over)
    }
}

async fn put(store: &Store, account: &Account) -> Result<(), StoreError> {
    // The copies of headers are of no use away from their segments.
    let mut told = account.clone();
    told.segments.clear();
    let json = serde_json::to_vec(&told).unwrap_or_default();
    store
        .put(&format!("{ACCOUNTS}/{}.json", account.boot_id), Bytes::from(json))
        .await
}
