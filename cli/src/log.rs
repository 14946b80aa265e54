//! Entries of the audit log: who read content, exported, erased, changed the config.

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use understudy_collector::audit_log;
use understudy_collector::store::Store;
use understudy_proxy::proxy::Proxy;

/// How often a changed config is looked for.
const EVERY: Duration = Duration::from_secs(2);
/// Until it is tried again where the store can't be written.
const RETRY: Duration = Duration::from_secs(60);

/// Notes what is about to be done; it is not to be done where this fails.
///
/// # Errors
/// Where the store can't be written.
pub(crate) async fn note(store: &Store, action: &str, details: Value) -> Result<()> {
    let by = by();
    let now = Timestamp::now().as_microsecond();
    audit_log::append(store, action, &by, now, details)
        .await
        .map(drop)
        .with_context(|| format!("writing `{action}` to the audit log, without which it is not done"))
}

/// Who runs this, as the environment says, or else by the user's number, which a container has alone.
pub(crate) fn by() -> String {
    let named = |name: &&str| std::env::var(name).ok().filter(|name| !name.is_empty());
    let by = ["LOGNAME", "USER"].iter().find_map(named);
    by.or_else(user_number).unwrap_or_else(|| "unknown".into())
}

#[cfg(target_os = "linux")]
fn user_number() -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let process = std::fs::metadata("/proc/self").ok()?;
    Some(format!("uid {}", process.uid()))
}

#[cfg(not(target_os = "linux"))]
fn user_number() -> Option<String> {
    None
}

/// Notes the config in force, at the start and whenever it changes, for as long as the future lives.
pub(crate) async fn configs(proxy: Arc<Proxy>, store: Store) {
    let mut noted = String::new();
    loop {
        let hash = proxy.config_hash();
        if hash != noted {
            match note(&store, "config", json!({ "config_hash": hash })).await {
                Ok(()) => noted = hash,
                Err(error) => {
                    tracing::warn!(%error, retry_in = ?RETRY, "the config in force could not be noted");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
