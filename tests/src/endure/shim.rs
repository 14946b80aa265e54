//! Faults of the machine for the real program: a shim, compiled here with the C compiler, that its loader puts between it
//! and the system. The program itself knows nothing of it.

use crate::program::{Home, Program};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// What is wrong with the disk of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// Nothing.
    None,
    /// It is full.
    Full,
    /// Everything that changes it fails with EIO.
    Broken,
    /// It was mounted again, read-only.
    ReadOnly,
    /// Everything that changes it hangs.
    Hanging,
}

/// Switches the faults of one program.
#[derive(Debug)]
pub struct Shim {
    folder: TempDir,
    control: File,
}

impl Shim {
    /// One that does nothing yet.
    pub fn new() -> Shim {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut control = File::create(folder.path().join("control")).expect("the folder is writable");
        control.write_all(&[0; 16]).expect("the folder is writable");
        Shim { folder, control }
    }

    /// Starts `serve` with the config, under this shim: its spool's folder is the disk.
    pub fn serve(&self, home: &Home, config: &str) -> Program {
        home.write_config(config);
        let spool = home.data().join("spool");
        let control = self.folder.path().join("control");
        let text = |path: &Path| path.to_str().expect("temporary folders are UTF-8").to_owned();
        home.serve(
            &["--config", "understudy.yaml"],
            &[
                ("LD_PRELOAD", &text(library())),
                ("FAULT_DIR", &text(&spool)),
                ("FAULT_CONTROL", &text(&control)),
            ],
        )
    }

    /// The disk is like this from now on.
    pub fn disk(&self, fault: DiskFault) {
        self.set(0, fault as i64);
    }

    /// The wall clock is so many seconds ahead from now on.
    pub fn clock(&self, seconds: i64) {
        self.set(8, seconds);
    }

    fn set(&self, at: u64, value: i64) {
        let mut control = &self.control;
        control.seek(SeekFrom::Start(at)).expect("a file can be sought in");
        control.write_all(&value.to_ne_bytes()).expect("the folder is writable");
    }
}

impl Default for Shim {
    fn default() -> Shim {
        Shim::new()
    }
}

/// The compiled shim; one for the whole process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (source, path) = (folder.path().join("shim.c"), folder.path().join("shim.so"));
        std::fs::write(&source, include_str!("shim.c")).expect("the folder is writable");
        let built = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .args([&path, &source])
            .arg("-ldl")
            .status()
            .expect("a C compiler, cc, is installed");
        assert!(built.success(), "compiling the shim failed: {built}");
        (folder, path)
    });
    path
}
