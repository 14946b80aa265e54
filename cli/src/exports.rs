//! Which calls lie in which line of an exported data set: kept in the store, so that erasing finds them again.
//!
//! Only a file that is as it was exported is written anew; one that was moved or changed is named, never touched.

use crate::draft::Whole;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use understudy_collector::store::Store;

/// The store's folder of what was exported.
const EXPORTS: &str = "exports";

/// One export.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Export {
    /// When, microseconds since the epoch.
    pub(crate) at: i64,
    /// Whose calls.
    pub(crate) task: String,
    /// Where the files were put.
    pub(crate) folder: PathBuf,
    /// The files.
    pub(crate) files: BTreeMap<String, Lines>,
}

/// One file of an export.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Lines {
    /// The call of each line, in order.
    pub(crate) calls: Vec<String>,
    /// BLAKE3 of the file.
    digest: String,
}

impl Lines {
    /// The lines of a file that was just written.
    pub(crate) fn of(file: &Path, calls: Vec<String>) -> Result<Lines> {
        let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let digest = digest(&bytes);
        Ok(Lines { calls, digest })
    }
}

impl Export {
    /// Keeps it.
    pub(crate) async fn put(&self, store: &Store) -> Result<()> {
        let id = uuid::Uuid::now_v7().simple();
        put(store, &format!("{EXPORTS}/{id}.json"), self).await
    }

    fn paths(&self) -> impl Iterator<Item = (PathBuf, &Lines)> {
        self.files.iter().map(|(name, file)| (self.folder.join(name), file))
    }
}

async fn put(store: &Store, key: &str, export: &Export) -> Result<()> {
    let json = serde_json::to_vec(export)?;
    Ok(store.put(key, json.into()).await?)
}

/// Takes the lines of these calls out of all exports: how many, and in words what could not be reached.
pub(crate) async fn erase(store: &Store, calls: &BTreeSet<String>) -> Result<(u64, Vec<String>)> {
    let (mut lines, mut not_reached) = (0, Vec::new());
    let mut exports = Vec::new();
    for object in store.list(EXPORTS).await? {
        let json = store.get(&object.key).await?;
        let export: Export =
            serde_json::from_slice(&json).with_context(|| format!("{} is no record of an export", object.key))?;
        exports.push((object.key, export));
    }
    // Where a later export took a file's place, what the earlier one wrote is gone.
    let files = exports.iter().flat_map(|(_, export)| export.paths());
    let as_told: BTreeSet<PathBuf> = files
        .filter(|(path, file)| std::fs::read(path).is_ok_and(|bytes| digest(&bytes) == file.digest))
        .map(|(path, _)| path)
        .collect();
    for (key, mut export) in exports {
        let mut taken = 0;
        for (name, file) in &mut export.files {
            let held = file.calls.iter().filter(|call| calls.contains(*call)).count();
            if held == 0 {
                continue;
            }
            let path = export.folder.join(name);
            if take_out(&export.folder, name, file, calls)? {
                taken += held as u64;
            } else if !as_told.contains(&path) {
                not_reached.push(format!(
                    "{held} examples in {}: it is not there as it was exported; and whatever was trained with it",
                    path.display()
                ));
            }
        }
        if taken > 0 {
            lines += taken;
            put(store, &key, &export).await?;
            not_reached.push(format!(
                "copies of the data set in {}, and whatever was trained with it",
                export.folder.display()
            ));
        }
    }
    Ok((lines, not_reached))
}

/// Writes a file anew without the lines of these calls; false where it is not as it was.
fn take_out(folder: &Path, name: &str, file: &mut Lines, calls: &BTreeSet<String>) -> Result<bool> {
    let Ok(bytes) = std::fs::read(folder.join(name)) else {
        return Ok(false);
    };
    if digest(&bytes) != file.digest {
        return Ok(false);
    }
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').zip(&file.calls);
    let left: Vec<(&[u8], &String)> = lines.filter(|(_, call)| !calls.contains(*call)).collect();
    let text: Vec<u8> = left.iter().flat_map(|(line, _)| line.iter().copied()).collect();
    let mut whole = Whole::create(folder, name)?;
    whole.write(&text)?;
    whole.finish()?;
    *file = Lines {
        calls: left.into_iter().map(|(_, call)| call.clone()).collect(),
        digest: digest(&text),
    };
    Ok(true)
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
