//! The keys of a deployment: read, or made once on a machine that keeps everything locally.

mod given;

use anyhow::{Context, Result, bail};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use understudy_call::keys::{Key, Keys, hex, unhex};
use understudy_collector::table::TableKeys;
use understudy_proxy::config::KeySource;

/// Who has the first reads what was said; who has the second reads all else.
pub(crate) const TABLE_KEYS: [&str; 2] = ["content", "metrics"];

/// Who has it reads what was masked, where there is a vault.
pub(crate) const VAULT_KEY: &str = "vault";

/// Reads the four keys. Missing ones are made in a folder where `may_create`, and that is said on stderr.
///
/// # Errors
/// Where a key is missing and may not be made, or is no key.
pub(crate) fn load(source: &KeySource, may_create: bool) -> Result<Keys> {
    let place = Place::open(source)?;
    let missing: Vec<&str> = Keys::NAMES.into_iter().filter(|name| !place.has(name)).collect();
    if !missing.is_empty() {
        // A lost key must not be replaced quietly: surrogates and pseudonyms made with it would never match again.
        if missing.len() < Keys::NAMES.len() {
            bail!(
                "{source} holds some keys, but {} is missing: put it back from your copy (or move all of them away to begin anew)",
                missing.join(", ")
            );
        }
        let KeySource::Dir(dir) = source else {
            bail!(
                "the keys {} are missing in {source}: it must hold each as `name=…`, 64 hexadecimal digits",
                missing.join(", ")
            );
        };
        if !may_create {
            bail!(
                "the keys {} are missing in {source}: with a remote store or a collector of its own all processes must share \
                 them. Make them once (`understudy keys make`) and give the folder to every replica as `keys: {{ dir: … }}`",
                missing.join(", ")
            );
        }
        make(dir, &missing)?;
    }
    Ok(Keys {
        spool: place.read("spool")?,
        store: place.read("store")?,
        origin: place.read("origin")?,
        surrogate: place.read("surrogate")?,
        older_spool: place.older("spool")?,
    })
}

/// The keys that tables in the store are read with, and written with where `encrypt`; a missing pair is made where
/// `may_create`, and that is said on stderr.
///
/// # Errors
/// Where the store is encrypted and a key is missing that may not be made, or a file is no key.
pub(crate) fn for_tables(source: &KeySource, encrypt: bool, may_create: bool) -> Result<TableKeys> {
    let place = Place::open(source)?;
    let missing: Vec<&str> = TABLE_KEYS.into_iter().filter(|name| !place.has(name)).collect();
    if encrypt && !missing.is_empty() {
        // One role's key alone reads; writing needs both.
        match source {
            KeySource::Dir(dir) if may_create && missing.len() == TABLE_KEYS.len() => make(dir, &missing)?,
            _ => bail!(
                "the store is encrypted, and {} is missing in {source}: all processes that write must share both keys. Put it \
                 back from your copy, or for a new store make each once (`understudy keys make content metrics`)",
                missing.join(" and ")
            ),
        }
    }
    let (content, metrics) = (place.generations("content")?, place.generations("metrics")?);
    let keys = TableKeys::reading(&content, &metrics);
    Ok(match (encrypt, content.first(), metrics.first()) {
        (true, Some(content), Some(metrics)) => keys.writing(content, metrics),
        _ => keys,
    })
}

/// The same for a command, which may have one role's key alone: then it reads, and what it would write is an error.
pub(crate) fn for_command(source: &KeySource, encrypt: bool, may_create: bool) -> Result<TableKeys> {
    let place = Place::open(source)?;
    let there = TABLE_KEYS.iter().filter(|name| place.has(name)).count();
    if encrypt && (there == 1 || (there == 0 && !may_create)) {
        return Ok(for_tables(source, false, false)?.only_reading());
    }
    for_tables(source, encrypt, may_create)
}

/// All generations of the vault's key, the current one first. A missing one is made where `may_create`, and that is said on
/// stderr.
///
/// # Errors
/// Where it is missing and may not be made, or is no key.
pub(crate) fn for_vault(source: &KeySource, may_create: bool) -> Result<Vec<Key>> {
    let place = Place::open(source)?;
    let all = place.generations(VAULT_KEY)?;
    if place.has(VAULT_KEY) {
        return Ok(all);
    }
    match source {
        KeySource::Dir(dir) if may_create && all.is_empty() => make(dir, &[VAULT_KEY])?,
        _ => bail!(
            "`mask.vault: on` needs the vault's key in {source}: all processes that mask must share it. Put it back from your \
             copy, or for a new vault make it once (`understudy keys make vault`)"
        ),
    }
    place.generations(VAULT_KEY)
}

/// Whether both keys of tables are there: without a config, that says that the store is encrypted.
pub(crate) fn are_for_tables(source: &KeySource) -> Result<bool> {
    let place = Place::open(source)?;
    Ok(TABLE_KEYS.iter().all(|name| place.has(name)))
}

/// All generations of a key, the current one first; empty where there is none.
pub(crate) fn generations(source: &KeySource, name: &str) -> Result<Vec<Key>> {
    Place::open(source)?.generations(name)
}

/// What keys are read from.
enum Place<'a> {
    /// A file each: `NAME.key`, older generations `NAME.<id>.key`.
    Folder(&'a Path),
    /// By name; older generations as `NAME.<id>`.
    Given(BTreeMap<String, Key>),
}

impl Place<'_> {
    fn open(source: &KeySource) -> Result<Place<'_>> {
        let text = match source {
            KeySource::Dir(dir) => return Ok(Place::Folder(dir)),
            KeySource::File(path) => std::fs::read_to_string(path).with_context(|| format!("reading {source}"))?,
            KeySource::Env(variable) => match std::env::var(variable) {
                Ok(text) => text,
                Err(_) => bail!("keys.env: {source} is not set, or is no text"),
            },
        };
        Ok(Place::Given(given::parse(&text, &source.to_string())?))
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Place::Folder(dir) => path(dir, name).exists(),
            Place::Given(keys) => keys.contains_key(name),
        }
    }

    fn read(&self, name: &str) -> Result<Key> {
        match self {
            Place::Folder(dir) => read(&path(dir, name)),
            Place::Given(keys) => keys
                .get(name)
                .cloned()
                .with_context(|| format!("there is no key {name}")),
        }
    }

    /// All generations of a key, the current one first.
    fn generations(&self, name: &str) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        if self.has(name) {
            keys.push(self.read(name)?);
        }
        keys.extend(self.older(name)?);
        Ok(keys)
    }

    /// The generations of a key before the current one.
    fn older(&self, name: &str) -> Result<Vec<Key>> {
        let of_name = |stem: &str| stem.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        let mut keys = match self {
            Place::Given(keys) => {
                let older = keys.iter().filter(|(stem, _)| of_name(stem));
                older.map(|(_, key)| key.clone()).collect()
            }
            Place::Folder(dir) => {
                let mut files = Vec::new();
                let found = match std::fs::read_dir(dir) {
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                    found => found.with_context(|| format!("listing {}", dir.display()))?,
                };
                for file in found {
                    let file = file.with_context(|| format!("listing {}", dir.display()))?.path();
                    let file_name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    if file_name.strip_suffix(".key").is_some_and(of_name) {
                        files.push(file);
                    }
                }
                files.sort();
                files.iter().map(|file| read(file)).collect::<Result<Vec<Key>>>()?
            }
        };
        // A rotation that was cut off left the current one under its older name too.
        if self.has(name) {
            let current = self.read(name)?;
            keys.retain(|key| *key != current);
        }
        Ok(keys)
    }
}

/// The folder, for what makes keys.
fn folder<'a>(source: &'a KeySource, names: &str) -> Result<&'a Path> {
    match source {
        KeySource::Dir(dir) => Ok(dir),
        KeySource::Env(_) | KeySource::File(_) => bail!(
            "keys in {source} are not made here: give {names} there as `name=…` (`openssl rand -hex 32` prints a new one), and \
             what was there before as `name.<id>=…`"
        ),
    }
}

/// Makes those of the keys that are missing.
pub(crate) fn make_missing(source: &KeySource, names: &[&str]) -> Result<()> {
    let dir = folder(source, &names.join(", "))?;
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
pub(crate) fn rotate(source: &KeySource, name: &str) -> Result<(String, String)> {
    let dir = folder(source, name)?;
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

/// Makes a directory, and those above it that are missing, for its owner alone; one that is there stays as it is.
pub(crate) fn make_private(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("making {}", dir.display()))
}

fn make(dir: &Path, names: &[&str]) -> Result<()> {
    make_private(dir)?;
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

fn path(dir: &Path, name: &str) -> PathBuf {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder_of(dir: &tempfile::TempDir) -> KeySource {
        KeySource::Dir(dir.path().into())
    }

    #[test]
    fn keys_are_made_once_and_only_for_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("keys");
        let source = KeySource::Dir(dir.clone());
        assert!(
            load(&source, false)
                .unwrap_err()
                .to_string()
                .contains("understudy keys make")
        );
        let first = load(&source, true).unwrap();
        let second = load(&source, false).unwrap();
        assert_eq!(first.spool, second.spool);
        assert_ne!(first.spool, first.store);
        let mode = std::fs::metadata(dir.join("spool.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 4);
    }

    #[test]
    fn a_lost_key_is_not_replaced_quietly() {
        let dir = tempfile::tempdir().unwrap();
        load(&folder_of(&dir), true).unwrap();
        std::fs::remove_file(dir.path().join("surrogate.key")).unwrap();
        assert!(
            load(&folder_of(&dir), true)
                .unwrap_err()
                .to_string()
                .contains("surrogate is missing")
        );
    }

    #[test]
    fn a_rotated_key_is_another_and_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let dir = &folder_of(&dir);
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
        load(&folder_of(&dir), true).unwrap();
        std::fs::write(dir.path().join("store.key"), "hello").unwrap();
        assert!(
            load(&folder_of(&dir), true)
                .unwrap_err()
                .to_string()
                .contains("64 hexadecimal digits")
        );
    }

    #[test]
    fn keys_in_one_file_are_read_with_their_generations_and_never_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.txt");
        let source = KeySource::File(path.clone());
        let told = |result: Result<Keys>| format!("{:#}", result.unwrap_err());
        assert!(told(load(&source, true)).contains("keys.txt"));
        let line = |name: &str, digits: &str| format!("{name}={}\n", digits.repeat(32));
        std::fs::write(&path, line("spool", "01")).unwrap();
        assert!(told(load(&source, true)).contains("store, origin, surrogate is missing"));
        std::fs::write(&path, "").unwrap();
        assert!(told(load(&source, true)).contains("it must hold each as `name=…`"));
        let all = ["spool", "store", "origin", "surrogate", "spool.old"];
        let text: String = all
            .iter()
            .zip(["01", "02", "03", "04", "05"])
            .map(|(n, d)| line(n, d))
            .collect();
        std::fs::write(&path, text).unwrap();
        let keys = load(&source, false).unwrap();
        assert_eq!((keys.spool, keys.surrogate), (Key::new([1; 32]), Key::new([4; 32])));
        assert_eq!(keys.older_spool, [Key::new([5; 32])]);
        assert!(
            rotate(&source, "spool")
                .unwrap_err()
                .to_string()
                .contains("openssl rand -hex 32")
        );
        assert!(make_missing(&source, &["vault"]).is_err() && for_vault(&source, true).is_err());
        assert!(!are_for_tables(&source).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made");
    }

    #[test]
    fn what_is_made_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let new = home.path().join("a/b");
        make_private(&new).unwrap();
        make_private(&new).unwrap();
        assert_eq!(std::fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
