//! Where objects live: a local directory or an object store, behind one small set of verbs.
//!
//! Knows nothing of columns or of what an object means; it only carries the keys that its tables are written with. A put that returned survives power loss (local: temporary
//! file, fsync, rename, fsync of the directory); a create-only put has one winner.

mod error;
mod open;
mod patience;

pub use error::{StoreError, StoreErrorKind};
pub(crate) use patience::jittered;

use crate::table::TableKeys;
use bytes::Bytes;
use error::code;
use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use patience::{Failure, Patience};
use std::fmt;
use std::sync::Arc;

/// Numbers tried by [`Store::create_numbered`] before it gives up: other writers took them all meanwhile.
const NUMBER_ATTEMPTS: u32 = 256;

/// Objects taken from a listing in one go: about a page.
const LISTED_AT_ONCE: usize = 1000;
/// What S3 answers to a create-only put that met another one under way: neither may have won.
const CONFLICT: &str = "ConditionalRequestConflict";

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
    patience: Patience,
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
    /// The store at a location: a directory (made if missing), `file:///dir`, `s3://bucket/prefix`,
    /// `az://container/prefix` or `gs://bucket/prefix`, with credentials, region and endpoint from the usual `AWS_*`,
    /// `AZURE_*` or `GOOGLE_*` variables. Does not ask the store anything yet.
    ///
    /// # Errors
    /// Where it can't be a location, the directory can't be made, or the variables can't be right.
    pub fn open(location: &str) -> Result<Store, StoreError> {
        Store::open_with(
            location,
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        )
    }

    /// [`Store::open`] with these variables instead of the environment's.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub fn open_with(
        location: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Store, StoreError> {
        open::open(location, variables)
    }

    /// A store in memory, empty; gone with its last clone.
    pub fn in_memory() -> Store {
        Store::of(Arc::new(InMemory::new()), Path::default(), "memory", Patience::local())
    }

    fn of(objects: Arc<dyn ObjectStore>, prefix: Path, location: &str, patience: Patience) -> Store {
        Store {
            objects,
            prefix,
            location: location.into(),
            patience,
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
    ///
    /// # Errors
    /// Where the store fails. After a retryable error the object may be there all the same.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = &self.path("put", key)?;
        let put = || async {
            let put = async { self.objects.put(path, bytes.clone().into()).await.map_err(as_passing) };
            self.patience.wait(bytes.len() as u64, put).await.map(drop)
        };
        self.ask("put", key, put).await
    }

    /// Puts an object only where none is; `false` = one is there. Of several writers one gets `true`.
    ///
    /// # Errors
    /// Where the store fails. After a retryable error the object may be there all the same: the answer was lost, not the
    /// request.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, StoreError> {
        let path = &self.path("create", key)?;
        let create = || async {
            let put = self
                .objects
                .put_opts(path, bytes.clone().into(), PutMode::Create.into());
            match self.patience.wait(bytes.len() as u64, put).await {
                Ok(_) => Ok(true),
                Err(Failure::Store(error)) if code(&error).as_deref() == Some(CONFLICT) => {
                    Err(Failure::Store(as_passing(error)))
                }
                // Azurite and some S3 servers answer "precondition failed".
                Err(Failure::Store(
                    object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. },
                )) => Ok(false),
                // Not asked again: it may be done, and would then be lost to itself.
                Err(failure) => return Ok(Err(failure)),
            }
            .map(Ok)
        };
        let created = self.ask("create", key, create).await?;
        created.map_err(|failure| self.failed("create", key, failure))
    }

    /// The whole object.
    ///
    /// # Errors
    /// Where there is none, or the store fails.
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let path = &self.path("get", key)?;
        let get = || async {
            let found = self.patience.wait(0, self.objects.get(path)).await?;
            self.patience.wait(found.meta.size, found.bytes()).await
        };
        self.ask("get", key, get).await
    }

    /// All objects in a folder and below it, sorted by key; the empty folder is the whole store.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn list(&self, folder: &str) -> Result<Vec<Object>, StoreError> {
        let path = &self.path("list", folder.trim_end_matches('/'))?;
        let list = || async {
            let mut listing = self.objects.list(Some(path)).try_ready_chunks(LISTED_AT_ONCE);
            let mut listed = Vec::new();
            loop {
                let more = async { listing.try_next().await.map_err(|error| error.1) };
                match self.patience.wait(0, more).await? {
                    Some(more) => listed.extend(more),
                    None => return Ok(listed),
                }
            }
        };
        let listed = self.ask("list", folder, list).await?;
        let prefix_len = self.prefix.as_ref().len();
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
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = &self.path("delete", key)?;
        let delete = || async {
            match self.patience.wait(0, self.objects.delete(path)).await {
                Err(Failure::Store(object_store::Error::NotFound { .. })) => Ok(()),
                result => result,
            }
        };
        self.ask("delete", key, delete).await
    }

    async fn ask<T, W>(&self, action: &'static str, key: &str, work: impl FnMut() -> W) -> Result<T, StoreError>
    where
        W: Future<Output = Result<T, Failure>>,
    {
        let asked = self.patience.ask(work).await;
        asked.map_err(|failure| self.failed(action, key, failure))
    }

    fn failed(&self, action: &'static str, key: &str, failure: Failure) -> StoreError {
        StoreError::failed(action, key, &self.location, failure)
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

/// A put without a condition that met a conflict: it passes.
fn as_passing(error: object_store::Error) -> object_store::Error {
    match error {
        object_store::Error::AlreadyExists { source, .. } | object_store::Error::Precondition { source, .. } => {
            object_store::Error::Generic { store: "store", source }
        }
        other => other,
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

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
mod tests;
