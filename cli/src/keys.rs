//! The key files of a deployment: read, or made once on a machine that keeps everything locally.

use anyhow::{Context, Result, bail};
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use understudy_call::keys::{Key, Keys, hex};
use understudy_collector::table::TableKeys;

/// Who has the first reads what was said; who has the second reads all else.
pub(crate) const TABLE_KEYS: [&str; 2] = ["content", "metrics"];

/// Who has it reads what was masked, where there is a vault.
pub(crate) const VAULT_KEY: &str = "vault";

/// Reads the four keys in `dir`. Missing ones are made where `may_create`, and that is said on stderr.
///
/// # Errors
/// Where a key is missing and may not be made, or is no key.
pub(crate) fn load(dir: &Path, may_create: bool) -> Result<Keys> {
    let missing: Vec<&str> = Keys::NAMES
        .into_iter()
        .filter(|name| !path(dir, name).exists())
        .collect();
    if !missing.is_empty() {
        // A lost key must not be replaced quietly: surrogates and pseudonyms made with it would never match again.
        if missing.len() < Keys::NAMES.len() {
            bail!(
                "{} holds some keys, but {} is missing: put it back from your copy (or move all of them away to begin anew)",
                dir.display(),
                missing.join(", ")
            );
        }
        if !may_create {
            bail!(
                "the keys {} are missing in {}: with a remote store or a collector of its own all processes must share them. \
                 Make them once (`understudy keys make`) and give the folder to every replica as `keys: {{ dir: … }}`",
                missing.join(", "),
                dir.display()
            );
        }
        make(dir, &missing)?;
    }
    Ok(Keys {
        spool: read(&path(dir, "spool"))?,
        store: read(&path(dir, "store"))?,
        origin: read(&path(dir, "origin"))?,
        surrogate: read(&path(dir, "surrogate"))?,
        older_spool: generations(dir, "spool")?.split_off(1),
    })
}

/// The keys that tables in the store are read with, and written with where `encrypt`; a missing pair is made where
/// `may_create`, and that is said on stderr.
///
/// # Errors
/// Where the store is encrypted and a key is missing that may not be made, or a file is no key.
pub(crate) fn for_tables(dir: &Path, encrypt: bool, may_create: bool) -> Result<TableKeys> {
    let is_there = |name: &&str| path(dir, name).exists();
    let missing: Vec<&str> = TABLE_KEYS.into_iter().filter(|name| !is_there(name)).collect();
    if encrypt && !missing.is_empty() {
        // One role's key alone reads; writing needs both.
        if missing.len() < TABLE_KEYS.len() || !may_create {
            bail!(
                "the store is encrypted, and {} is missing in {}: all processes that write must share both keys. Put it \
                 back from your copy, or for a new store make each once (`understudy keys make content metrics`)",
                missing.join(" and "),
                dir.display()
            );
        }
        make(dir, &missing)?;
    }
    let (content, metrics) = (generations(dir, "content")?, generations(dir, "metrics")?);
    let keys = TableKeys::reading(&content, &metrics);
    Ok(match (encrypt, content.first(), metrics.first()) {
        (true, Some(content), Some(metrics)) => keys.writing(content, metrics),
        _ => keys,
    })
}

/// The same for a command, which may have one role's key alone: then it reads, and what it would write is an error.
pub(crate) fn for_command(dir: &Path, encrypt: bool, may_create: bool) -> Result<TableKeys> {
    let there = TABLE_KEYS.iter().filter(|name| path(dir, name).exists()).count();
    if encrypt && (there == 1 || (there == 0 && !may_create)) {
        return Ok(for_tables(dir, false, false)?.only_reading());
    }
    for_tables(dir, encrypt, may_create)
}

/// All generations of the vault's key, the current one first. A missing one is made where `may_create`, and that is said on
/// stderr.
///
/// # Errors
/// Where it is missing and may not be made, or is no key.
pub(crate) fn for_vault(dir: &Path, may_create: bool) -> Result<Vec<Key>> {
    let all = generations(dir, VAULT_KEY)?;
    if !path(dir, VAULT_KEY).exists() {
        if !may_create || !all.is_empty() {
            bail!(
                "`mask.vault: on` needs vault.key in {}: all processes that mask must share it. Put it back from your copy, \
                 or for a new vault make it once (`understudy keys make vault`)",
                dir.display()
            );
        }
        make(dir, &[VAULT_KEY])?;
        return generations(dir, VAULT_KEY);
    }
    Ok(all)
}

/// Whether both keys of tables are there: without a config, that says that the store is encrypted.
pub(crate) fn are_for_tables(dir: &Path) -> bool {
    TABLE_KEYS.iter().all(|name| path(dir, name).exists())
}

/// All generations of a key, the current one first; empty where there is none. Older ones are `NAME.<id>.key`.
pub(crate) fn generations(dir: &Path, name: &str) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    if path(dir, name).exists() {
        keys.push(read(&path(dir, name))?);
    }
    let files = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(keys),
        files => files.with_context(|| format!("listing {}", dir.display()))?,
    };
    let mut older: Vec<PathBuf> = Vec::new();
    for file in files {
        let file = file.with_context(|| format!("listing {}", dir.display()))?.path();
        let file_name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let id = file_name.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        if id.and_then(|rest| rest.strip_suffix(".key")).is_some() {
            older.push(file);
        }
    }
    older.sort();
    for file in older {
        let key = read(&file)?;
        // A rotation that was cut off left the current one under its older name too.
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Makes those of the keys that are missing.
pub(crate) fn make_missing(dir: &Path, names: &[&str]) -> Result<()> {
    let missing: Vec<&str> = names.iter().copied().filter(|name| !path(dir, name).exists()).collect();
    if missing.is_empty() {
        eprintln!("none is missing in {}", dir.display());
        return Ok(());
    }
    make(dir, &missing)
}

/// Begins a new generation of a key; the ids of the old one and the new one.
///
/// # Errors
/// Where there is no such key yet, or the folder can't be written.
pub(crate) fn rotate(dir: &Path, name: &str) -> Result<(String, String)> {
    let current = path(dir, name);
    if !current.exists() {
        bail!(
            "there is no {} to rotate: `understudy keys make {name}`",
            current.display()
        );
    }
    let old = read(&current)?.id();
    // First kept under its older name, then replaced in one step: never is there no current key.
    let kept = dir.join(format!("{name}.{old}.key"));
    match std::fs::hard_link(&current, &kept) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("making {}", kept.display()));
        }
        _ => {}
    }
    let draft = draft(dir, name)?;
    std::fs::rename(&draft, &current).with_context(|| format!("replacing {}", current.display()))?;
    sync(dir)?;
    Ok((old, read(&current)?.id()))
}

fn make(dir: &Path, names: &[&str]) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("making {}", dir.display()))?;
    for name in names {
        create(dir, name)?;
    }
    eprintln!(
        "made the keys {} in {}. Keep a copy: what they protect can't be read without them. \
         Keys beside the data protect copies of it, not this machine.",
        names.join(", "),
        dir.display()
    );
    Ok(())
}

fn path(dir: &Path, name: &str) -> std::path::PathBuf {
    dir.join(format!("{name}.key"))
}

/// Another process may be making it at the same moment: whoever comes second uses the first one's.
fn create(dir: &Path, name: &str) -> Result<()> {
    let draft = draft(dir, name)?;
    let linked = std::fs::hard_link(&draft, path(dir, name));
    std::fs::remove_file(&draft).with_context(|| format!("removing {}", draft.display()))?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("making {}", path(dir, name).display()))
        }
        _ => sync(dir),
    }
}

/// A new key's file, beside its place: linked or moved there, so that nobody reads half a key.
fn draft(dir: &Path, name: &str) -> Result<PathBuf> {
    let mut bytes = [0; 32];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        bail!("the system gives no random bytes");
    }
    let temporary = dir.join(format!(".{name}.{}.new", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(|| format!("making {}", temporary.display()))?;
    writeln!(file, "{}", hex(&bytes))
        .and_then(|()| file.sync_all())
        .with_context(|| format!("writing {}", temporary.display()))?;
    Ok(temporary)
}

fn sync(dir: &Path) -> Result<()> {
    let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.with_context(|| format!("syncing {}", dir.display()))
}

fn read(path: &Path) -> Result<Key> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let Some(bytes) = unhex(text.trim()) else {
        bail!("{} is no key: it must hold 64 hexadecimal digits", path.display());
    };
    Ok(Key::new(bytes))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_made_once_and_only_for_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("keys");
        assert!(
            load(&dir, false)
                .unwrap_err()
                .to_string()
                .contains("understudy keys make")
        );
        let first = load(&dir, true).unwrap();
        let second = load(&dir, false).unwrap();
        assert_eq!(first.spool, second.spool);
        assert_ne!(first.spool, first.store);
        let mode = std::fs::metadata(dir.join("spool.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 4);
    }

    #[test]
    fn a_lost_key_is_not_replaced_quietly() {
        let dir = tempfile::tempdir().unwrap();
        load(dir.path(), true).unwrap();
        std::fs::remove_file(dir.path().join("surrogate.key")).unwrap();
        assert!(
            load(dir.path(), true)
                .unwrap_err()
                .to_string()
                .contains("surrogate is missing")
        );
    }

    #[test]
    fn a_rotated_key_is_another_and_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert!(
            rotate(dir, "origin")
                .unwrap_err()
                .to_string()
                .contains("keys make origin")
        );
        let first = load(dir, true).unwrap();
        let (old, new) = rotate(dir, "origin").unwrap();
        let (second, _) = rotate(dir, "origin").unwrap();
        assert_eq!((old, second), (first.origin.id(), new.clone()));
        let all = generations(dir, "origin").unwrap();
        assert_eq!(all.len(), 3);
        assert!(all.contains(&first.origin) && all[0] == load(dir, false).unwrap().origin);
        rotate(dir, "spool").unwrap();
        assert_eq!(load(dir, false).unwrap().older_spool, [first.spool]);
    }

    #[test]
    fn what_is_no_key_is_an_error_that_says_so() {
        let dir = tempfile::tempdir().unwrap();
        load(dir.path(), true).unwrap();
        std::fs::write(dir.path().join("store.key"), "hello").unwrap();
        assert!(
            load(dir.path(), true)
                .unwrap_err()
                .to_string()
                .contains("64 hexadecimal digits")
        );
    }
}
