//! Control from the cold path: the newest task book, polled, never waited for.

use crate::proxy::Proxy;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use understudy_call::taskbook::TaskBook;

/// How often the store is asked.
const EVERY: Duration = Duration::from_secs(2);

/// A future of the newest task book's JSON, if it is newer than the version given.
pub type NewestBook = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, String>> + Send>>;

/// Where task books come from: given the version in force, the newest one if it is newer.
pub trait TaskBookSource: Send + Sync {
    /// Asks for a newer book.
    fn newer_than(&self, version: i32) -> NewestBook;
}

/// Keeps the proxy's task book current, for as long as the future lives. Failures are logged and tried again.
pub async fn watch_task_book(proxy: Arc<Proxy>, source: Box<dyn TaskBookSource>) {
    loop {
        match source.newer_than(proxy.book_version()).await {
            Ok(Some(json)) => match TaskBook::from_json(&json) {
                Ok(book) => {
                    tracing::info!(version = book.version, tasks = book.tasks.len(), "task book in force");
                    proxy.apply_book(book.compile());
                }
                Err(error) => tracing::warn!(%error, "the newest task book can't be read: the old one stays"),
            },
            Ok(None) => {}
            Err(error) => tracing::warn!(error, "asking for a newer task book failed"),
        }
        tokio::time::sleep(EVERY).await;
    }
}
