//! The spool on this machine, where an erasure finds no collector that reads it: one pass is made here.
//!
//! What else waits in it is stored as a collector stores it, by the config's mask; so without the config nothing is done, and
//! that is said.

use crate::parts;
use crate::place::Place;
use anyhow::{Context, Result};
use prometheus::Registry;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Handle;
use understudy_call::spool::{COLLECTOR_LOCK, POSITION, Position, SEGMENT_EXTENSION};
use understudy_collector::erase::collectors;
use understudy_collector::ingest::{Ingest, IngestConfig};
use understudy_collector::metrics::Metrics;
use understudy_collector::store::Store;

/// Stores what waits in this machine's spool, but for what is erased; in words where that can't be.
///
/// # Errors
/// Where the spool, its keys or the store can't be read.
pub(crate) async fn here(place: &Place, store: &Store, limit: Duration) -> Result<Option<String>> {
    let dir = place.spool_dir();
    let segments = segments_in(&dir).with_context(|| format!("listing the spool {}", dir.display()))?;
    if segments == 0 {
        return Ok(None);
    }
    let place_of = format!("the spool {}, in which {segments} segments wait", dir.display());
    let id = position_of(&dir).id;
    let is_known = collectors(store).await?.iter().any(|collector| collector.id == id);
    let is_read = is_read(&dir).with_context(|| format!("locking the spool {}", dir.display()))?;
    let why = match (is_read, is_known, &place.config) {
        // Its collector answers for itself.
        (true, true, _) => return Ok(None),
        (true, false, _) => {
            "its collector has not told this store of itself: it fills another, or is of a former version"
        }
        (false, false, _) => {
            "no collector runs, and none has filled this store from it: start the one that is meant to"
        }
        (false, true, None) => {
            "no collector runs: start it, or erase with --config FILE, by which the rest can be masked and stored"
        }
        (false, true, Some(_)) => "not all of it could be stored in time",
    };
    let words = Some(format!("{place_of}: {why}"));
    let Some(config) = place.config.as_ref().filter(|_| is_known && !is_read) else {
        return Ok(words);
    };
    let keys = place.existing_keys()?;
    let ingest = Ingest::open(
        IngestConfig {
            spool_dir: dir.clone(),
            reader: None,
            flush_after: config.flush.after,
            flush_bytes: config.flush.bytes,
            own_writer: false,
        },
        keys.all_of_spool(),
        store.clone(),
        parts::row_maker(config, &keys, true)?,
        Metrics::register(&Registry::new(), None)?,
        Handle::current(),
    )?
    .with_vault(parts::vault(config, false)?);
    let drained = tokio::task::spawn_blocking(move || ingest.drain_within(limit)).await;
    let is_drained = drained.context("draining the spool")?;
    Ok(words.filter(|_| !is_drained))
}

fn segments_in(dir: &Path) -> std::io::Result<usize> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut segments = 0;
    for entry in entries {
        let is_segment = entry?.path().extension().is_some_and(|end| end == SEGMENT_EXTENSION);
        segments += usize::from(is_segment);
    }
    Ok(segments)
}

/// Whether a collector reads a spool.
fn is_read(dir: &Path) -> std::io::Result<bool> {
    match File::open(dir.join(COLLECTOR_LOCK)) {
        Ok(lock) => match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn position_of(dir: &Path) -> Position {
    let json = std::fs::read(dir.join(POSITION)).unwrap_or_default();
    serde_json::from_slice(&json).unwrap_or_default()
}
