//! Task books in a store: the current one, a new one, and kept calls as the current one assigns them.
//!
//! A book is a numbered create-only object; its number is its version. Never changes a stored row: a call that an older
//! book assigned is assigned anew while it is read.

use crate::row::assign;
use crate::scan::{CallFilter, ScanError, for_each_call};
use crate::store::{Store, StoreError, numbered_key};
use rayon::prelude::*;
use understudy_call::call::{Api, Operation, Request, Response};
use understudy_call::record::CallRecord;
use understudy_call::taskbook::{BookError, CompiledBook, TaskBook};
use understudy_call::wire;

/// The folder of task books.
pub const FOLDER: &str = "taskbooks";
/// Numbers tried before giving up: other writers took them all meanwhile.
const TRIES: u32 = 64;
/// Calls assigned at once, at most.
const BATCH_CALLS: usize = 4096;
/// Bytes of request bodies assigned at once.
const BATCH_BYTES: usize = 32 << 20;

/// Why a task book can't be read or put.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The newest book can't be used.
    #[error("{key}: {source}")]
    Book {
        /// The object.
        key: String,
        /// What is wrong with it.
        source: BookError,
    },
    /// Others put books all the while.
    #[error("could not put a new task book: {TRIES} numbers were taken meanwhile")]
    Taken,
}

/// The task book of the highest number; `None` where there is none yet.
pub async fn current(store: &Store) -> Result<Option<TaskBook>, BooksError> {
    let Some((number, key)) = store.latest(FOLDER).await? else {
        return Ok(None);
    };
    let bytes = store.get(&key).await?;
    let mut book = TaskBook::from_json(&bytes).map_err(|source| BooksError::Book { key, source })?;
    // The object's number is the version, whatever the file says of itself.
    book.version = i32::try_from(number).unwrap_or(i32::MAX);
    Ok(Some(book))
}

/// Puts a book under the next free number, which becomes its version; returns its key.
pub async fn publish(store: &Store, book: &mut TaskBook) -> Result<String, BooksError> {
    for _ in 0..TRIES {
        let highest = store.latest(FOLDER).await?.map_or(0, |(number, _)| number);
        let number = highest.saturating_add(1);
        book.version = i32::try_from(number).unwrap_or(i32::MAX);
        let key = numbered_key(FOLDER, number);
        if store.create(&key, book.to_json().into()).await? {
            return Ok(key);
        }
    }
    Err(BooksError::Taken)
}

/// Hands each matching call to `visit`, its task as `book` says; the filter's task means that task. Without a book the
/// rows are as they were stored. Holds a few thousand rows at a time.
pub async fn for_each_assigned(
    store: &Store,
    filter: &CallFilter,
    book: Option<&CompiledBook>,
    mut visit: impl FnMut(CallRecord),
) -> Result<(), ScanError> {
    let Some(book) = book else {
        return for_each_call(store, filter, visit).await;
    };
    let wanted = filter.task.as_deref();
    let all = CallFilter {
        task: None,
        ..filter.clone()
    };
    let mut batch = Vec::new();
    let mut bytes = 0;
    let mut flush = |batch: &mut Vec<CallRecord>| {
        batch.par_iter_mut().for_each(|record| assign_anew(record, book));
        batch
            .drain(..)
            .filter(|record| wanted.is_none() || record.task_id.as_deref() == wanted)
            .for_each(&mut visit);
    };
    for_each_call(store, &all, |record| {
        bytes += record.request_body.as_ref().map_or(0, String::len);
        batch.push(record);
        if batch.len() >= BATCH_CALLS || bytes >= BATCH_BYTES {
            flush(&mut batch);
            bytes = 0;
        }
    })
    .await?;
    flush(&mut batch);
    Ok(())
}

/// What a stored chat asked and answered; none where it is no chat, or its request can't be read. Reads `api`, `path`,
/// `request_body`, `output_text` and `tool_calls`.
pub fn chat_of(record: &CallRecord) -> Option<(Request, Response)> {
    let api = Api::from_name(&record.api)?;
    let path = record.path.as_deref().unwrap_or_default();
    let request = wire::parse_request_at(api, path, record.request_body.as_ref()?.as_bytes()).ok()?;
    let response = Response {
        output_text: record.output_text.clone().unwrap_or_default(),
        tool_calls: record.tool_calls.clone(),
        ..Response::default()
    };
    (request.operation == Operation::Chat).then(|| (request, response.without_padding()))
}

/// Gives a row the task of `book`, where another book, or none, gave it its own.
pub fn assign_anew(record: &mut CallRecord, book: &CompiledBook) {
    if record.taskbook_version != Some(book.version()) {
        assign_by(record, book);
    }
}

/// Gives a row the task of `book`, whatever it had; one without a readable request has no task.
pub(crate) fn assign_by(record: &mut CallRecord, book: &CompiledBook) {
    let api = Api::from_name(&record.api).unwrap_or(Api::Other);
    let body = record.request_body.as_deref().unwrap_or_default();
    let path = record.path.as_deref().unwrap_or_default();
    match wire::parse_request_at(api, path, body.as_bytes()) {
        Ok(request) => assign(record, book, &request),
        Err(_) => {
            (record.task_id, record.task_confidence) = (None, None);
            record.taskbook_version = Some(book.version());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn books_are_numbered_and_the_highest_is_current() {
        let store = Store::in_memory();
        assert!(current(&store).await.unwrap().is_none());
        let mut book = TaskBook {
            schema: understudy_call::taskbook::SCHEMA,
            ..TaskBook::default()
        };
        assert_eq!(publish(&store, &mut book).await.unwrap(), "taskbooks/v000001.json");
        assert_eq!(publish(&store, &mut book).await.unwrap(), "taskbooks/v000002.json");
        assert_eq!(current(&store).await.unwrap().unwrap().version, 2);
    }

    #[tokio::test]
    async fn a_book_of_another_version_is_an_error_that_names_it() {
        let store = Store::in_memory();
        store.put("taskbooks/v000003.json", "{}".into()).await.unwrap();
        let error = current(&store).await.unwrap_err().to_string();
        assert!(error.contains("taskbooks/v000003.json"), "{error}");
    }
}
