//! A store in memory for tests whose verbs fail before or after they were done, or never end.

use super::Store;
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::sync::{Arc, Mutex};

/// What goes wrong with a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It is not done.
    Before,
    /// It is done, and the answer is lost.
    After,
    /// No answer ever comes.
    Hang,
}

/// Says what goes wrong with the verb of this name on this key.
type Plan = dyn FnMut(&str, &str) -> Fault + Send;

/// The store; clones are the same one.
#[derive(Clone)]
pub(crate) struct Faulty {
    inner: Arc<InMemory>,
    plan: Arc<Mutex<Box<Plan>>>,
}

impl Faulty {
    pub(crate) fn new() -> Faulty {
        Faulty {
            inner: Arc::new(InMemory::new()),
            plan: Arc::new(Mutex::new(Box::new(|_, _| Fault::None))),
        }
    }

    /// From now on.
    pub(crate) fn plan(&self, plan: impl FnMut(&str, &str) -> Fault + Send + 'static) {
        *self.plan.lock().unwrap() = Box::new(plan);
    }

    pub(crate) fn store(&self) -> Store {
        Store {
            objects: Arc::new(self.clone()),
            prefix: Path::default(),
            location: "faulty".into(),
            table_keys: crate::table::TableKeys::default(),
        }
    }

    async fn perform<T>(&self, verb: &str, path: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = (self.plan.lock().unwrap())(verb, path);
        match fault {
            Fault::None => work.await,
            Fault::Before => Err(lost()),
            Fault::After => work.await.and_then(|_| Err(lost())),
            Fault::Hang => std::future::pending().await,
        }
    }
}

fn lost() -> Error {
    Error::Generic {
        store: "faulty",
        source: "503 Slow Down".into(),
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let work = self.inner.put_opts(location, payload, options);
        self.perform("put", location.as_ref(), work).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let work = self.inner.get_opts(location, options);
        self.perform("get", location.as_ref(), work).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let only = location.clone();
                    let one = futures_util::stream::once(async { Ok(only) }).boxed();
                    let mut deleting = this.inner.delete_stream(one);
                    let work = async { deleting.next().await.unwrap_or(Ok(location.clone())) };
                    this.perform("delete", location.as_ref(), work).await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.inner.list(prefix);
        let folder = prefix.map(Path::to_string).unwrap_or_default();
        let fault = (self.plan.lock().unwrap())("list", &folder);
        match fault {
            Fault::None => listed,
            Fault::Hang => futures_util::stream::pending().boxed(),
            Fault::Before | Fault::After => futures_util::stream::once(async { Err(lost()) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
