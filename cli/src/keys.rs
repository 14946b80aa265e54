//! The key files of a deployment: read, or made once on a machine that keeps everything locally.

use anyhow::{Context, Result, bail};
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use understudy_call::keys::{Key, Keys, hex};
use understudy_collector::table::TableKeys;

/// Who has the first reads what was said; who has the second reads all else.
const TABLE_KEYS: [&str; 2] = ["content", "metrics"];

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
                 Make each once (`openssl rand -hex 32 > NAME.key`) and give the folder to every replica as `keys: {{ dir: … }}`",
                missing.join(", "),
                dir.display()
            );
        }
        make(dir, &missing)?;
    }
    Ok(Keys {
        spool: read(dir, "spool")?,
        store: read(dir, "store")?,
        origin: read(dir, "origin")?,
        surrogate: read(dir, "surrogate")?,
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

/// Whether both keys of tables are there: without a config, that says that the store is encrypted.
pub(crate) fn are_for_tables(dir: &Path) -> bool {
    TABLE_KEYS.iter().all(|name| path(dir, name).exists())
}

/// All generations of a key, the current one first; empty where there is none.
fn generations(dir: &Path, name: &str) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    if path(dir, name).exists() {
        keys.push(read(dir, name)?);
    }
    Ok(keys)
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
    let mut bytes = [0; 32];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        bail!("the system gives no random bytes");
    }
    // Written aside and linked into place, so that nobody reads half a key.
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
    let linked = std::fs::hard_link(&temporary, path(dir, name));
    std::fs::remove_file(&temporary).with_context(|| format!("removing {}", temporary.display()))?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("making {}", path(dir, name).display()))
        }
        _ => Ok(()),
    }
}

fn read(dir: &Path, name: &str) -> Result<Key> {
    let path = path(dir, name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
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
                .contains("openssl rand -hex 32")
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
