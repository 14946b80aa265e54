//! Where objects live: a local directory or an object store, behind one small set of verbs.
//!
//! Knows nothing of columns or of what an object means; it only carries the keys that its tables are written with. A put that returned survives power loss (local: temporary
//! file, fsync, rename, fsync of the directory); a create-only put has one winner.

use crate::table::TableKeys;
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use std::fmt;
use std::sync::Arc;

/// Numbers tried by [`Store::create_numbered`] before it gives up: other writers took them all meanwhile.
const NUMBER_ATTEMPTS: u32 = 256;

/// What kind of failure a [`StoreError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// No such object, bucket or directory.
    NotFound,
    /// A create-only put found an object there.
    Exists,
    /// May pass: network, overload, a server's fault, a full disk.
    Retryable,
    /// Credentials are missing, wrong or not enough.
    Denied,
    /// A location or key that can't be.
    Invalid,
    /// A kind of store, or an ability, that is not built in.
    Unsupported,
}

/// A failed verb of a [`Store`]: its kind decides what the caller does.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {key:?}: {message}")]
pub struct StoreError {
    kind: StoreErrorKind,
    action: &'static str,
    key: String,
    message: String,
}

impl StoreError {
    /// What kind of failure it is.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the same verb may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.kind == StoreErrorKind::Retryable
    }

    /// Whether there was no such object.
    pub fn is_not_found(&self) -> bool {
        self.kind == StoreErrorKind::NotFound
    }

    /// A verb that was given up after so long.
    pub(crate) fn timed_out(action: &'static str, after: std::time::Duration) -> StoreError {
        let message = format!("no answer within {after:?}");
        StoreError::refused(StoreErrorKind::Retryable, action, "the store", message)
    }

    /// An object that is there, and is not what it should be.
    pub(crate) fn unreadable(key: &str, message: String) -> StoreError {
        StoreError::refused(StoreErrorKind::Invalid, "read", key, message)
    }

    fn refused(kind: StoreErrorKind, action: &'static str, key: &str, message: impl Into<String>) -> StoreError {
        StoreError {
            kind,
            action,
            key: key.into(),
            message: message.into(),
        }
    }

    fn failed(action: &'static str, key: &str, source: object_store::Error) -> StoreError {
        StoreError::refused(kind_of(&source), action, key, source.to_string())
    }
}

fn kind_of(error: &object_store::Error) -> StoreErrorKind {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => StoreErrorKind::NotFound,
        Error::AlreadyExists { .. } => StoreErrorKind::Exists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreErrorKind::Denied,
        Error::InvalidPath { .. } | Error::UnknownConfigurationKey { .. } => StoreErrorKind::Invalid,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => StoreErrorKind::Unsupported,
        _ => StoreErrorKind::Retryable,
    }
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Key, relative to the store's location.
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// An object store at a location; cheap to clone.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    location: String,
    table_keys: TableKeys,
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Store")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The store at a location: a directory (made if missing), `file:///dir`, or `s3://bucket/prefix` with credentials,
    /// region and endpoint from the usual `AWS_*` variables.
    pub fn open(location: &str) -> Result<Store, StoreError> {
        Store::open_with(
            location,
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        )
    }

    /// [`Store::open`] with these variables instead of the environment's.
    pub fn open_with(
        location: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Store, StoreError> {
        match location.split_once("://") {
            None => open_directory(location, location),
            Some(("file", path)) => open_directory(location, file_path(location, path)?),
            Some(("s3" | "s3a", rest)) => open_s3(location, rest, variables),
            Some(("az" | "azure" | "abfs" | "abfss" | "adl" | "gs", _)) => Err(StoreError::refused(
                StoreErrorKind::Unsupported,
                "open the store at",
                location,
                "this kind of object store is not built in yet; use a directory or s3://bucket/prefix",
            )),
            Some((scheme, _)) => {
                let message = format!("unknown scheme {scheme:?}; use a directory or s3://bucket/prefix");
                Err(StoreError::refused(
                    StoreErrorKind::Invalid,
                    "open the store at",
                    location,
                    message,
                ))
            }
        }
    }

    /// A store in memory, empty; gone with its last clone.
    pub fn in_memory() -> Store {
        Store {
            objects: Arc::new(InMemory::new()),
            prefix: Path::default(),
            location: "memory".into(),
            table_keys: TableKeys::default(),
        }
    }

    /// The same store, whose tables are written and read with these keys.
    #[must_use]
    pub fn with_table_keys(self, table_keys: TableKeys) -> Store {
        Store { table_keys, ..self }
    }

    /// The keys that tables here are written and read with.
    pub fn table_keys(&self) -> &TableKeys {
        &self.table_keys
    }

    /// Where it is, as it was opened.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The store beneath and the prefix of all keys, for readers that bring their own engine.
    pub fn object_store(&self) -> (Arc<dyn ObjectStore>, Path) {
        (self.objects.clone(), self.prefix.clone())
    }

    /// Puts an object, over whatever is there: a retry puts the same key again.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.path("put", key)?;
        let put = self.objects.put(&path, bytes.into()).await;
        put.map(drop).map_err(|error| StoreError::failed("put", key, error))
    }

    /// Puts an object only where none is; `false` = one is there. Of several writers one gets `true`.
    ///
    /// After a retryable error the object may be there all the same: the answer was lost, not the request.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, StoreError> {
        let path = self.path("create", key)?;
        match self.objects.put_opts(&path, bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            // Azurite and some S3 servers answer "precondition failed".
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(StoreError::failed("create", key, error)),
        }
    }

    /// The whole object.
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let path = self.path("get", key)?;
        let failed = |error| StoreError::failed("get", key, error);
        self.objects
            .get(&path)
            .await
            .map_err(failed)?
            .bytes()
            .await
            .map_err(failed)
    }

    /// All objects in a folder and below it, sorted by key; the empty folder is the whole store.
    pub async fn list(&self, folder: &str) -> Result<Vec<Object>, StoreError> {
        let path = self.path("list", folder.trim_end_matches('/'))?;
        let prefix_len = self.prefix.as_ref().len();
        let listed: Vec<_> = self
            .objects
            .list(Some(&path))
            .try_collect()
            .await
            .map_err(|error| StoreError::failed("list", folder, error))?;
        let key_of = |path: &Path| path.as_ref()[prefix_len..].trim_start_matches('/').to_owned();
        let mut objects: Vec<Object> = listed
            .into_iter()
            .map(|meta| Object {
                key: key_of(&meta.location),
                size: meta.size,
            })
            .collect();
        objects.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(objects)
    }

    /// Deletes an object; one that is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path("delete", key)?;
        match self.objects.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(StoreError::failed("delete", key, error)),
        }
    }

    /// The highest number in a folder of `v000007.json` objects, and its key.
    pub async fn latest(&self, folder: &str) -> Result<Option<(u32, String)>, StoreError> {
        let objects = self.list(folder).await?;
        let numbered = objects
            .into_iter()
            .filter_map(|object| Some((number_of(folder, &object.key)?, object.key)));
        Ok(numbered.max())
    }

    /// Creates the object of the next free number in a folder, and returns the number; numbers begin at 1.
    pub async fn create_numbered(&self, folder: &str, bytes: Bytes) -> Result<u32, StoreError> {
        let highest = self.latest(folder).await?.map_or(0, |(number, _)| number);
        for number in (1..=NUMBER_ATTEMPTS).filter_map(|ahead| highest.checked_add(ahead)) {
            if self.create(&numbered_key(folder, number), bytes.clone()).await? {
                return Ok(number);
            }
        }
        let message = format!(
            "numbers {highest} to {} are all taken",
            highest.saturating_add(NUMBER_ATTEMPTS)
        );
        Err(StoreError::refused(
            StoreErrorKind::Retryable,
            "create a number in",
            folder,
            message,
        ))
    }

    fn path(&self, action: &'static str, key: &str) -> Result<Path, StoreError> {
        let parsed = Path::parse(key)
            .map_err(|error| StoreError::refused(StoreErrorKind::Invalid, action, key, error.to_string()))?;
        Ok(self.prefix.parts().chain(parsed.parts()).collect())
    }
}

/// The key of a number: `folder/v000007.json`.
pub fn numbered_key(folder: &str, number: u32) -> String {
    format!("{}/v{number:06}.json", folder.trim_end_matches('/'))
}

fn number_of(folder: &str, key: &str) -> Option<u32> {
    let name = key.strip_prefix(folder.trim_end_matches('/'))?.strip_prefix('/')?;
    let number = name.strip_prefix('v')?.strip_suffix(".json")?.parse().ok()?;
    (numbered_key(folder, number) == key).then_some(number)
}

fn open_directory(location: &str, directory: impl AsRef<std::path::Path>) -> Result<Store, StoreError> {
    let directory = directory.as_ref();
    let refused = |kind, message: String| StoreError::refused(kind, "open the store at", location, message);
    if directory.as_os_str().is_empty() {
        return Err(refused(StoreErrorKind::Invalid, "the location is empty".into()));
    }
    std::fs::create_dir_all(directory).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => refused(StoreErrorKind::Denied, error.to_string()),
        std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => {
            refused(StoreErrorKind::Invalid, "it is not a directory".into())
        }
        _ => refused(StoreErrorKind::Retryable, error.to_string()),
    })?;
    let objects = LocalFileSystem::new_with_prefix(directory)
        .map_err(|error| StoreError::failed("open the store at", location, error))?
        .with_fsync(true);
    Ok(Store {
        objects: Arc::new(objects),
        prefix: Path::default(),
        location: location.into(),
        table_keys: TableKeys::default(),
    })
}

/// The path in a `file://` location; percent-encoding is decoded, a host is refused.
fn file_path(location: &str, path: &str) -> Result<std::path::PathBuf, StoreError> {
    let invalid = || {
        StoreError::refused(
            StoreErrorKind::Invalid,
            "open the store at",
            location,
            "write it as file:///directory",
        )
    };
    if !path.starts_with('/') {
        return Err(invalid());
    }
    url::Url::parse(location)
        .ok()
        .and_then(|url| url.to_file_path().ok())
        .ok_or_else(invalid)
}

fn open_s3(
    location: &str,
    rest: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Store, StoreError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let refused =
        |message: String| StoreError::refused(StoreErrorKind::Invalid, "open the store at", location, message);
    if bucket.is_empty() {
        return Err(refused("write it as s3://bucket/prefix".into()));
    }
    let prefix = Path::parse(prefix).map_err(|error| refused(error.to_string()))?;
    let mut builder = AmazonS3Builder::new();
    for (name, value) in variables {
        let Some(key) = name
            .starts_with("AWS_")
            .then(|| name.to_ascii_lowercase().parse().ok())
            .flatten()
        else {
            continue;
        };
        if matches!(key, AmazonS3ConfigKey::Endpoint) && value.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
        builder = builder.with_config(key, value);
    }
    // The client panics without a process-wide provider. `main` installs the same one; a second install changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    let objects = builder
        .with_bucket_name(bucket)
        .build()
        .map_err(|error| refused(error.to_string()))?;
    Ok(Store {
        objects: Arc::new(objects),
        prefix,
        location: location.into(),
        table_keys: TableKeys::default(),
    })
}

#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
mod tests;
