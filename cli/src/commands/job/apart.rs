//! Results must not come to lie in the store, nor around it: whatever way the two places are written.

use crate::place::Wrong;
use anyhow::Result;
use std::path::{Component, Path, PathBuf};
use url::Url;

/// Refuses results that are the store, in it, or above it; each by all names that it goes by.
pub(super) fn check(store: [Option<&str>; 2], out: [Option<&str>; 2]) -> Result<()> {
    for out in out.into_iter().flatten() {
        for store in store.into_iter().flatten() {
            let (results, calls) = (Spot::of(out), Spot::of(store));
            if results.touches(&calls) {
                let message = format!(
                    "--out {out}: the store, {store}, is there, below or above: say another folder, which has nothing to do \
                     with the store"
                );
                return Err(Wrong(message).into());
            }
        }
    }
    Ok(())
}

/// The directory that a location names; `None` where it is no local one.
pub(super) fn directory(location: &str) -> Option<PathBuf> {
    let decoded = || Url::parse(location).ok()?.to_file_path().ok();
    match location.strip_prefix("file:") {
        Some(path) => Some(decoded().unwrap_or_else(|| path.trim_start_matches("//").into())),
        None => (!location.contains("://")).then(|| location.into()),
    }
}

/// A place, whatever way it is written.
#[derive(Debug, PartialEq, Eq)]
struct Spot {
    /// The kind of store and its bucket, empty for directories.
    bucket: String,
    path: PathBuf,
}

impl Spot {
    fn of(location: &str) -> Spot {
        if let Some(directory) = directory(location) {
            return Spot {
                bucket: String::new(),
                path: real(&directory),
            };
        }
        let (scheme, rest) = location.split_once("://").unwrap_or_default();
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        let scheme = match scheme.to_lowercase().as_str() {
            "s3" | "s3a" | "s3n" => "s3",
            "az" | "azure" | "abfs" | "abfss" | "wasb" | "wasbs" => "az",
            "gs" | "gcs" => "gs",
            _ => scheme,
        }
        .to_owned();
        // Of `container@account.dfs.core.windows.net` the container.
        let bucket = bucket.split_once('@').map_or(bucket, |(container, _)| container);
        Spot {
            bucket: format!("{scheme}://{}", bucket.to_lowercase()),
            path: folded(Path::new(&format!("/{path}")), |path| path),
        }
    }

    fn touches(&self, other: &Spot) -> bool {
        self.bucket == other.bucket && (self.path.starts_with(&other.path) || other.path.starts_with(&self.path))
    }
}

/// A directory that may be missing yet, without links and `..`.
fn real(directory: &Path) -> PathBuf {
    let whole = std::path::absolute(directory).unwrap_or_else(|_| directory.into());
    folded(&whole, |path| path.canonicalize().unwrap_or(path))
}

/// Goes down a path part by part, so that `..` leads out of where a link leads to.
fn folded(path: &Path, follow: impl Fn(PathBuf) -> PathBuf) -> PathBuf {
    let mut folded = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(folded.pop()),
            part => folded = follow(folded.join(part)),
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(store: &str, out: &str) -> bool {
        check([Some(store), None], [Some(out), None]).is_err()
    }

    #[test]
    fn results_in_the_store_or_around_it_are_refused_however_they_are_written() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path).to_str().unwrap().to_owned();
        std::fs::create_dir_all(at("data/calls")).unwrap();
        std::fs::create_dir_all(at("other/deep")).unwrap();
        let data = at("data");
        for inside in [
            "data",
            "data/",
            "data/.",
            "data/scores",
            "data/_compactions",
            "data/calls/again",
            "other/../data/x",
            "missing/../data",
            ".",
            "data/..",
        ] {
            assert!(is_refused(&data, &at(inside)), "{inside}");
            assert!(is_refused(&data, &format!("file://{}", at(inside))), "{inside}");
            assert!(is_refused(&format!("file:{data}"), &at(inside)), "{inside}");
        }
        for apart in ["data2", "other", "data/../results", "other/data"] {
            assert!(!is_refused(&data, &at(apart)), "{apart}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&data, at("link")).unwrap();
            std::os::unix::fs::symlink(at("other/deep"), at("away")).unwrap();
            assert!(is_refused(&data, &at("link/new")));
            assert!(is_refused(&at("link"), &at("data/new")));
            // Out of where the link leads to, not of where it lies.
            assert!(is_refused(&at("other"), &at("away/../new")));
            assert!(!is_refused(&data, &at("away/../data")));
        }
    }

    #[test]
    fn object_stores_are_compared_by_bucket_and_prefix_whatever_the_scheme() {
        for (store, out) in [
            ("s3://bucket/live", "s3a://bucket/live/stats"),
            ("s3a://bucket/live/", "s3://bucket//live"),
            ("s3://bucket/live/calls", "s3://bucket/live"),
            ("s3://bucket", "s3://bucket/x"),
            ("s3://bucket/live", "s3://bucket/jobs/../live/x"),
            ("az://box/live", "abfss://box@account.dfs.core.windows.net/live/x"),
            ("gs://bucket/a", "gs://bucket/a"),
        ] {
            assert!(is_refused(store, out), "{store} {out}");
            let by_url = check([Some("/data"), Some(store)], [Some("/results"), Some(out)]);
            assert!(by_url.is_err(), "{store} {out}");
        }
        for (store, out) in [
            ("s3://bucket/live", "s3://bucket/live-2"),
            ("s3://bucket/live", "s3://other/live"),
            ("s3://bucket/live", "gs://bucket/live"),
            ("s3://bucket/live", "/bucket/live"),
        ] {
            assert!(!is_refused(store, out), "{store} {out}");
        }
    }
}
