//! Where the deployment's keys are, as `keys` in config says. Reads none of them.

use super::raw;
use std::fmt;
use std::path::PathBuf;

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A folder with a file for each.
    Dir(PathBuf),
    /// An environment variable that holds all of them as `name=…`, 64 hexadecimal digits each.
    Env(String),
    /// A file that holds them in the same way.
    File(PathBuf),
}

impl KeySource {
    /// As config says; without a word there, the folder `default`.
    pub(super) fn of(raw: Option<raw::Keys>, default: PathBuf) -> Result<KeySource, &'static str> {
        match raw.map(|raw::Keys { dir, env, file }| (dir, env, file)) {
            None => Ok(KeySource::Dir(default)),
            Some((Some(dir), None, None)) => Ok(KeySource::Dir(dir)),
            Some((None, Some(env), None)) if !env.is_empty() => Ok(KeySource::Env(env)),
            Some((None, None, Some(file))) => Ok(KeySource::File(file)),
            Some(_) => Err("keys: give `dir`, `env` or `file`, one of them"),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Dir(path) | KeySource::File(path) => path.display().fmt(out),
            KeySource::Env(variable) => write!(out, "the variable {variable}"),
        }
    }
}
