//! Files and folders that appear under their names only when they are whole, for their owner alone.
//!
//! What is written may be prompts: what a killed run left of them goes with the next one, so that nothing stays that nobody
//! knows of.

use crate::keys::make_private;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What the names of drafts begin with.
const DRAFT: &str = ".draft-";

/// A folder to write in, that is moved to its place, or gone.
pub(crate) struct Draft {
    path: PathBuf,
    /// Locked as long as somebody works in it.
    _folder: File,
}

impl Draft {
    /// A new one in `parent`, which is made where it is missing. Those that nobody works in any more are removed.
    pub(crate) fn create(parent: &Path) -> Result<Draft> {
        make_private(parent)?;
        sweep(parent)?;
        let path = parent.join(format!("{DRAFT}{}", uuid::Uuid::now_v7().simple()));
        make_private(&path)?;
        let folder = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        folder.lock().with_context(|| format!("locking {}", path.display()))?;
        Ok(Draft { path, _folder: folder })
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It is not there any more where it was moved to its place.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn sweep(parent: &Path) -> Result<()> {
    let entries = std::fs::read_dir(parent).with_context(|| format!("reading {}", parent.display()))?;
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(DRAFT) {
            continue;
        }
        let path = entry.path();
        let is_left = File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok());
        if is_left {
            std::fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// A file that appears under its name only when it is whole.
pub(crate) struct Whole {
    file: BufWriter<File>,
    temporary: PathBuf,
    path: PathBuf,
}

impl Whole {
    pub(crate) fn create(folder: &Path, name: &str) -> Result<Whole> {
        let temporary = folder.join(format!(".{name}.{}", uuid::Uuid::now_v7().simple()));
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options
            .open(&temporary)
            .with_context(|| format!("making {}", temporary.display()))?;
        Ok(Whole {
            file: BufWriter::new(file),
            temporary,
            path: folder.join(name),
        })
    }

    pub(crate) fn line(&mut self, line: &str) -> Result<()> {
        self.write(line.as_bytes())?;
        self.write(b"\n")
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.with_context(|| format!("writing {}", self.temporary.display()))
    }

    pub(crate) fn finish(mut self) -> Result<PathBuf> {
        self.file
            .flush()
            .with_context(|| format!("writing {}", self.temporary.display()))?;
        std::fs::rename(&self.temporary, &self.path).with_context(|| format!("making {}", self.path.display()))?;
        Ok(self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_that_nobody_works_in_are_removed_and_others_stay() {
        let home = tempfile::tempdir().unwrap();
        let left = home.path().join(format!("{DRAFT}0"));
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("train.jsonl"), "{}").unwrap();
        let first = Draft::create(home.path()).unwrap();
        assert!(!left.exists());
        let second = Draft::create(home.path()).unwrap();
        assert!(first.path().is_dir() && second.path().is_dir());
        let place = home.path().join("whole");
        std::fs::rename(second.path(), &place).unwrap();
        drop((first, second));
        let names: Vec<_> = std::fs::read_dir(home.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(names, [place]);
    }
}
