//! A file system in memory that forgets as a real one may: on power loss, what was not fsynced; after a failed fsync,
//! what that one should have made last, without a word at the next. It fails, fills up and hangs on demand.

use crate::spool::disk::{Disk, DiskFile, Listed};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// The file system; clones are the same one.
#[derive(Clone, Default)]
pub(super) struct ModelDisk(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

/// What goes wrong from now on.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// Bytes that are free; more fail with "no space".
    pub(super) room: Option<u64>,
    /// Appends fail.
    pub(super) append: bool,
    /// Fsyncs fail.
    pub(super) sync: bool,
    /// Appends hang.
    pub(super) append_hangs: bool,
    /// Fsyncs hang.
    pub(super) sync_hangs: bool,
    /// Every write takes one piece of this size, as a signal or a full pipe may have it.
    pub(super) short: Option<usize>,
}

#[derive(Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    lasting_names: BTreeMap<PathBuf, usize>,
    ages: BTreeMap<PathBuf, Duration>,
    locked: Vec<PathBuf>,
    faults: Faults,
    /// Counts crashes: a lock or file of before does nothing any more.
    era: u64,
}

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    /// This much survives power loss.
    lasting: usize,
    /// But not what lies here: an fsync of it failed.
    forgotten: Vec<(usize, usize)>,
}

struct ModelFile {
    disk: ModelDisk,
    index: usize,
    era: u64,
}

struct ModelLock {
    disk: ModelDisk,
    path: PathBuf,
    era: u64,
}

impl Drop for ModelLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.era == self.era {
            state.locked.retain(|path| *path != self.path);
        }
    }
}

impl ModelDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Waits while something hangs.
    fn unhung(&self, hangs: impl Fn(&Faults) -> bool) -> MutexGuard<'_, State> {
        self.0
            .changed
            .wait_while(self.state(), |state| hangs(&state.faults))
            .unwrap()
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
        self.0.changed.notify_all();
    }

    /// Whether nothing goes wrong at present.
    pub(super) fn works(&self) -> bool {
        let faults = &self.state().faults;
        !faults.append && !faults.sync && faults.room.is_none()
    }

    /// Says how old a file is.
    pub(super) fn age(&self, path: &Path, age: Duration) {
        self.state().ages.insert(path.to_owned(), age);
    }

    /// The kernel writes back some of what was not fsynced, unasked.
    pub(super) fn write_back(&self, mut choose: impl FnMut(usize) -> usize) {
        let mut state = self.state();
        for content in &mut state.files {
            let unsynced = content.bytes.len() - content.lasting;
            content.lasting += choose(unsynced + 1);
        }
        // Names may come to last too.
        if choose(2) == 0 {
            state.lasting_names = state.names.clone();
        }
    }

    /// The process is gone; the machine goes on.
    pub(super) fn kill(&self) {
        let mut state = self.state();
        state.era += 1;
        state.locked.clear();
    }

    /// The machine is gone, and what did not last. Of the rest of a file some may be there, or zeroes in its place.
    pub(super) fn lose_power(&self, mut choose: impl FnMut(usize) -> usize) {
        self.kill();
        let mut state = self.state();
        let State {
            files,
            names,
            lasting_names,
            ..
        } = &mut *state;
        // A name that was not fsynced may have lasted all the same, and one removed may be back.
        let fresh: Vec<_> = names
            .iter()
            .filter(|(path, _)| !lasting_names.contains_key(*path))
            .map(|(path, index)| (path.clone(), *index))
            .collect();
        for (path, index) in fresh {
            if choose(2) == 0 {
                lasting_names.insert(path, index);
            }
        }
        for content in files.iter_mut() {
            for (from, to) in std::mem::take(&mut content.forgotten) {
                content.bytes[from..to].fill(0);
            }
            let unsynced = content.bytes.len() - content.lasting;
            match choose(3) {
                0 => content.bytes.truncate(content.lasting),
                1 => {
                    let there = content.lasting + choose(unsynced + 1);
                    content.bytes.truncate(there);
                }
                _ => {
                    let zeroes = content.lasting + choose(unsynced + 1);
                    content.bytes[zeroes..].fill(0);
                }
            }
            content.lasting = content.bytes.len();
        }
        *names = lasting_names.clone();
    }

    /// The names of all files with this ending.
    pub(super) fn files(&self, ending: &str) -> Vec<PathBuf> {
        let state = self.state();
        let ends = |path: &&PathBuf| path.to_string_lossy().ends_with(ending);
        state.names.keys().filter(ends).cloned().collect()
    }
}

impl Disk for ModelDisk {
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let mut state = self.state();
        if state.locked.contains(&path.to_owned()) {
            return Ok(None);
        }
        state.locked.push(path.to_owned());
        Ok(Some(Box::new(ModelLock {
            disk: self.clone(),
            path: path.to_owned(),
            era: state.era,
        })))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let index = state.files.len();
        state.files.push(Content::default());
        state.names.insert(path.to_owned(), index);
        Ok(Arc::new(ModelFile {
            disk: self.clone(),
            index,
            era: state.era,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let state = self.state();
        let listed = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(listed
            .map(|(path, index)| Listed {
                path: path.clone(),
                bytes: state.files[*index].bytes.len() as u64,
                age: state.ages.get(path).copied().unwrap_or_default(),
            })
            .collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        let index = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.files[*index].bytes.clone())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.state().names.remove(path);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let index = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let index = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.unhung(|faults| faults.sync_hangs);
        if state.faults.sync {
            return Err(io::Error::other("fsync of the folder failed"));
        }
        state.lasting_names = state.names.clone();
        Ok(())
    }
}

impl DiskFile for ModelFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.unhung(|faults| faults.append_hangs);
        if state.era != self.era || state.faults.append {
            return Err(io::Error::other("the write failed"));
        }
        let mut count = bytes.len();
        if let Some(room) = &mut state.faults.room {
            if *room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            count = count.min(usize::try_from(*room).unwrap());
            *room -= count as u64;
        }
        count = count.min(state.faults.short.unwrap_or(count));
        state.files[self.index].bytes.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.faults.append {
            return Err(io::Error::other("the cut failed"));
        }
        let content = &mut state.files[self.index];
        content.bytes.truncate(usize::try_from(length).unwrap());
        content.lasting = content.lasting.min(content.bytes.len());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.unhung(|faults| faults.sync_hangs);
        let fails = state.faults.sync;
        let content = &mut state.files[self.index];
        let (from, to) = (content.lasting, content.bytes.len());
        content.lasting = to;
        if fails {
            // The pages are marked clean all the same.
            content.forgotten.push((from, to));
            return Err(io::Error::other("fsync failed"));
        }
        Ok(())
    }
}
