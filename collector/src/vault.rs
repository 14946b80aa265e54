//! The vault (`mask.vault: on`): what stood where surrogates stand, so that who has its key can put it back.
//!
//! An object for each batch of calls (`vault/dt=…/hour=…/<segment>-<first>-<last>.jsonl`), a line a call: whose it is as in
//! `calls`, and what was replaced in it, sealed with the vault key (AES-256-GCM; the call's id is authenticated). So
//! erasing needs no key, and reading does. Credentials are never in it: the mask does not give them out.

use crate::erase::Tombstones;
use crate::mask::{MaskError, Replaced, Restorer};
use crate::store::{Store, StoreError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use understudy_call::keys::Key;
use understudy_call::record::CallRecord;

/// The store's folder of it.
pub const VAULT: &str = "vault";

/// Seals and opens under the vault's keys.
#[derive(Clone, Debug)]
pub struct Vault {
    /// The first one seals; all open.
    keys: Vec<Key>,
}

/// What was replaced in one call, sealed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Line {
    pub(crate) call_id: String,
    client_id: Option<String>,
    user_id: Option<String>,
    conversation_id: String,
    started_at: Option<i64>,
    route: Option<String>,
    /// Which vault key.
    key_id: String,
    /// Base64 of nonce, bytes and tag.
    sealed: String,
}

/// What the vault holds that could be opened.
#[derive(Default)]
pub struct Contents {
    /// Surrogate and value, by call.
    calls: HashMap<String, Vec<(String, String)>>,
    /// How many calls are sealed with keys that are not there, by the key's id.
    pub locked: BTreeMap<String, u64>,
}

/// Why a call could not be sealed.
#[derive(Debug, thiserror::Error)]
#[error("sealing what was masked: the system gives no random bytes")]
pub struct SealError;

impl Vault {
    /// A vault of these keys, the current one first; `None` where there is none.
    pub fn new(keys: Vec<Key>) -> Option<Vault> {
        (!keys.is_empty()).then_some(Vault { keys })
    }

    /// Seals what was replaced in a call; nothing where nothing was.
    pub(crate) fn seal(&self, call: &CallRecord, replaced: &Replaced) -> Result<Option<Line>, SealError> {
        let pairs = replaced.pairs();
        let Some(key) = self.keys.first().filter(|_| !pairs.is_empty()) else {
            return Ok(None);
        };
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError)?;
        let mut bytes = serde_json::to_vec(&pairs).map_err(|_| SealError)?;
        cipher(key)
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                cipher.seal_in_place_append_tag(nonce, Aad::from(call.call_id.as_bytes()), &mut bytes)
            })
            .map_err(|_| SealError)?;
        Ok(Some(Line {
            call_id: call.call_id.clone(),
            client_id: call.client_id.clone(),
            user_id: call.user_id.clone(),
            conversation_id: call.conversation_id.clone(),
            started_at: call.started_at,
            route: call.route.clone(),
            key_id: key.id(),
            sealed: STANDARD.encode([&nonce[..], &bytes].concat()),
        }))
    }

    /// Opens all that is there, but what is erased.
    ///
    /// # Errors
    /// Where the store fails, or a line can't be read: it was altered, or is none.
    pub async fn open(&self, store: &Store) -> Result<Contents, StoreError> {
        let tombstones = Tombstones::load(store).await?;
        let mut contents = Contents::default();
        for object in store.list(VAULT).await? {
            for line in lines(store, &object.key).await? {
                if tombstones.covers_call(&line.call()) {
                    continue;
                }
                let Some(key) = self.keys.iter().find(|key| key.id() == line.key_id) else {
                    *contents.locked.entry(line.key_id).or_default() += 1;
                    continue;
                };
                let altered = || {
                    let words = format!("the entry of the call {} was altered", line.call_id);
                    StoreError::unreadable(&object.key, words)
                };
                let pairs = line.open(key).ok_or_else(altered)?;
                contents.calls.insert(line.call_id, pairs);
            }
        }
        Ok(contents)
    }
}

impl Line {
    fn open(&self, key: &Key) -> Option<Vec<(String, String)>> {
        let sealed = STANDARD.decode(&self.sealed).ok()?;
        let (nonce, bytes) = sealed.split_at_checked(NONCE_LEN)?;
        let (nonce, mut bytes) = (Nonce::try_assume_unique_for_key(nonce).ok()?, bytes.to_vec());
        let aad = Aad::from(self.call_id.as_bytes());
        let plain = cipher(key).ok()?.open_in_place(nonce, aad, &mut bytes).ok()?;
        serde_json::from_slice(plain).ok()
    }

    /// Whose it is.
    fn call(&self) -> CallRecord {
        CallRecord {
            call_id: self.call_id.clone(),
            client_id: self.client_id.clone(),
            user_id: self.user_id.clone(),
            conversation_id: self.conversation_id.clone(),
            started_at: self.started_at,
            route: self.route.clone(),
            ..CallRecord::default()
        }
    }
}

impl Contents {
    /// How many calls.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// What puts back the values of one call.
    ///
    /// # Errors
    /// Where there are too many.
    pub fn of_call(&self, call_id: &str) -> Result<Option<Restorer>, MaskError> {
        let pairs = self.calls.get(call_id);
        pairs.map(|pairs| Restorer::new(pairs.iter().cloned())).transpose()
    }

    /// What puts back the values of all calls. Of values that share a surrogate, as spellings of one do, the least is taken.
    ///
    /// # Errors
    /// Where there are too many.
    pub fn of_all(&self) -> Result<Restorer, MaskError> {
        let mut pairs: Vec<&(String, String)> = self.calls.values().flatten().collect();
        pairs.sort();
        pairs.dedup_by(|one, before| one.0 == before.0);
        Restorer::new(pairs.into_iter().cloned())
    }
}

/// The key of the vault's object beside an object of `calls`.
pub(crate) fn key_beside(calls: &str) -> String {
    let rest = calls.strip_prefix("calls/").unwrap_or(calls);
    format!("{VAULT}/{}.jsonl", rest.strip_suffix(".parquet").unwrap_or(rest))
}

/// The bytes of an object.
pub(crate) fn to_bytes<'l>(lines: impl IntoIterator<Item = &'l Line>) -> Bytes {
    let mut bytes = Vec::new();
    for line in lines {
        // Strings and numbers alone: nothing of it can fail.
        bytes.extend(serde_json::to_vec(line).unwrap_or_default());
        bytes.push(b'\n');
    }
    bytes.into()
}

/// Takes what is erased out of one object; how many calls that were. Needs no key.
///
/// # Errors
/// Where the store fails, or the object is none of the vault's.
pub(crate) async fn sweep(store: &Store, key: &str, tombstones: &Tombstones) -> Result<u64, StoreError> {
    let all = match lines(store, key).await {
        Err(error) if error.is_not_found() => return Ok(0),
        lines => lines?,
    };
    let left: Vec<&Line> = all
        .iter()
        .filter(|line| !tombstones.covers_call(&line.call()))
        .collect();
    if left.is_empty() {
        store.delete(key).await?;
    } else if left.len() < all.len() {
        store.put(key, to_bytes(left.iter().copied())).await?;
    }
    Ok((all.len() - left.len()) as u64)
}

async fn lines(store: &Store, key: &str) -> Result<Vec<Line>, StoreError> {
    let bytes = store.get(key).await?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let read = serde_json::from_slice(line);
            read.map_err(|error| StoreError::unreadable(key, format!("it is none of the vault: {error}")))
        })
        .collect()
}

fn cipher(key: &Key) -> Result<LessSafeKey, ring::error::Unspecified> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.bytes())?))
}

#[cfg(test)]
mod tests;
