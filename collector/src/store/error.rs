//! Why a verb of a store failed: a kind for the program, and words for the operator that say what, where and what to do.
//!
//! Of what a server answered only its code and message are told, never a URL's query or a header: those hold tokens.

use super::patience::Failure;
use object_store::client::{HttpError, HttpErrorKind};
use std::time::Duration;

/// Characters of a server's message that are told.
const MESSAGE_CHARS: usize = 300;

/// What kind of failure a [`StoreError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// No such object, bucket or directory.
    NotFound,
    /// A create-only put found an object there.
    Exists,
    /// May pass: network, overload, a server's fault, a full disk.
    Retryable,
    /// No answer in time. May pass.
    Timeout,
    /// Credentials are missing, wrong or not enough.
    Denied,
    /// A location or key that can't be.
    Invalid,
    /// A kind of store, or an ability, that is not built in.
    Unsupported,
}

impl StoreErrorKind {
    /// One word, for a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            StoreErrorKind::NotFound => "not_found",
            StoreErrorKind::Exists => "exists",
            StoreErrorKind::Retryable => "unavailable",
            StoreErrorKind::Timeout => "timeout",
            StoreErrorKind::Denied => "denied",
            StoreErrorKind::Invalid => "invalid",
            StoreErrorKind::Unsupported => "unsupported",
        }
    }
}

/// A failed verb of a [`Store`](super::Store): its kind decides what the caller does.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {key:?}{}: {message}", place(.location))]
pub struct StoreError {
    kind: StoreErrorKind,
    action: &'static str,
    key: String,
    location: String,
    message: String,
}

fn place(location: &str) -> String {
    match location {
        "" => String::new(),
        location => format!(" in {location}"),
    }
}

impl StoreError {
    /// What kind of failure it is.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the same verb may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Retryable | StoreErrorKind::Timeout)
    }

    /// Whether there was no such object.
    pub fn is_not_found(&self) -> bool {
        self.kind == StoreErrorKind::NotFound
    }

    /// An object that is there, and is not what it should be.
    pub(crate) fn unreadable(key: &str, message: String) -> StoreError {
        StoreError::refused(StoreErrorKind::Invalid, "read", key, message)
    }

    /// A verb that was given up after so long.
    pub(crate) fn timed_out(action: &'static str, after: Duration) -> StoreError {
        StoreError {
            location: String::new(),
            ..StoreError::failed(action, "the store", "", Failure::TimedOut(after))
        }
    }

    /// A verb that was never asked of the store.
    pub(super) fn refused(
        kind: StoreErrorKind,
        action: &'static str,
        key: &str,
        message: impl Into<String>,
    ) -> StoreError {
        StoreError {
            kind,
            action,
            key: key.into(),
            location: String::new(),
            message: message.into(),
        }
    }

    /// A verb on a key of the store at `location`.
    pub(super) fn failed(action: &'static str, key: &str, location: &str, failure: Failure) -> StoreError {
        let message = match &failure {
            Failure::TimedOut(after) => format!("no answer within {after:.0?}"),
            Failure::Store(error) => words(action, location, error),
        };
        StoreError {
            kind: failure.kind(),
            action,
            key: key.into(),
            location: location.into(),
            message,
        }
    }
}

/// The kind of an object store's error.
pub(super) fn kind_of(error: &object_store::Error) -> StoreErrorKind {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => StoreErrorKind::NotFound,
        Error::AlreadyExists { .. } => StoreErrorKind::Exists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreErrorKind::Denied,
        Error::InvalidPath { .. } | Error::UnknownConfigurationKey { .. } => StoreErrorKind::Invalid,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => StoreErrorKind::Unsupported,
        other if is_timeout(other) => StoreErrorKind::Timeout,
        other if is_denied(other) => StoreErrorKind::Denied,
        _ => StoreErrorKind::Retryable,
    }
}

/// Whether the server refused: a refused listing has no kind of its own.
fn is_denied(error: &object_store::Error) -> bool {
    let inner = innermost(error);
    let status = inner.split_once("status code: ").map(|(_, status)| status);
    status.is_some_and(|status| status.starts_with("401") || status.starts_with("403"))
}

/// Whether the client gave up waiting, by a limit of its own.
fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return error.kind() == HttpErrorKind::Timeout;
        }
        at = error.source();
    }
    false
}

/// The code that a server gave in its answer, such as `NoSuchKey`.
pub(super) fn code(error: &object_store::Error) -> Option<String> {
    element(&innermost(error), "Code")
}

/// What went wrong, and what to do about it where that is known.
fn words(action: &'static str, location: &str, error: &object_store::Error) -> String {
    let inner = innermost(error);
    let Some((_, answer)) = inner.split_once("status code: ") else {
        return unreached(location, &error.to_string(), &inner);
    };
    let status: String = answer.chars().take_while(|c| *c != ':').collect();
    let code = element(answer, "Code").unwrap_or_default();
    let message = element(answer, "Message").unwrap_or_default();
    let mut said = format!("it answered {}", status.trim());
    for part in [&code, &message] {
        if !part.is_empty() {
            said.push_str(": ");
            said.push_str(short(part).trim_end_matches('.'));
        }
    }
    if let Some(advice) = advice(action, location, &status, &code, &message) {
        said.push_str("; ");
        said.push_str(&advice);
    }
    said
}

/// What went wrong without an answer: on the way to a server, or in this machine.
fn unreached(location: &str, outer: &str, inner: &str) -> String {
    let Some(server) = server(outer) else {
        return short(&match outer.contains(inner) {
            true => outer.to_owned(),
            false => format!("{outer}: {inner}"),
        });
    };
    let mut said = format!("{server}: {}", short(inner));
    // Where credentials are asked of the machine, since no variable gives any.
    if server.contains("169.254.169.254") || server.contains("metadata.google") {
        said.push_str("; no credentials are set, and none come from the machine: ");
        said.push_str(credentials(location));
    }
    said
}

fn advice(action: &str, location: &str, status: &str, code: &str, message: &str) -> Option<String> {
    let is_skewed = code == "RequestTimeTooSkewed"
        || message.contains("Request date header too old")
        || message.contains("Signature not valid in the specified time frame");
    if is_skewed {
        return Some("this machine's clock and the store's differ too much: set the clock (NTP)".into());
    }
    if matches!(code, "NoSuchBucket" | "ContainerNotFound") {
        return Some("make it first: understudy makes no buckets or containers".into());
    }
    let are_wrong = [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "AuthenticationFailed",
        "ExpiredToken",
        "InvalidToken",
    ];
    if are_wrong.contains(&code) || message.contains("failed to authenticate") {
        let credentials = credentials(location);
        return Some(format!("the credentials are wrong or have expired: {credentials}"));
    }
    if status.starts_with("401") {
        return Some(format!("the store wants credentials: {}", credentials(location)));
    }
    let permission = permission(action, location)?;
    status
        .starts_with("403")
        .then(|| format!("the credentials lack the permission {permission}"))
}

/// What must be allowed for a verb.
fn permission(action: &str, location: &str) -> Option<&'static str> {
    let permissions = match scheme(location) {
        "s3" => ["s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:DeleteObject"],
        "az" => [
            "to write blobs (role Storage Blob Data Contributor)",
            "to read blobs (role Storage Blob Data Reader)",
            "to list blobs (role Storage Blob Data Reader)",
            "to delete blobs (role Storage Blob Data Contributor)",
        ],
        "gs" => [
            "storage.objects.create (and storage.objects.delete, to replace one)",
            "storage.objects.get",
            "storage.objects.list",
            "storage.objects.delete",
        ],
        _ => return None,
    };
    let [put, get, list, delete] = permissions;
    Some(match action {
        "put" | "create" => put,
        "get" => get,
        "list" => list,
        "delete" => delete,
        _ => return None,
    })
}

/// How credentials are given.
fn credentials(location: &str) -> &'static str {
    match scheme(location) {
        "s3" => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
        "az" => "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or give the machine an identity",
        "gs" => "set GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service account",
        _ => "see the documentation of the store",
    }
}

/// The provider of a location: `s3`, `az`, `gs`, or nothing.
fn scheme(location: &str) -> &'static str {
    match location.split_once("://").map(|(scheme, _)| scheme) {
        Some("s3" | "s3a") => "s3",
        Some("gs") => "gs",
        Some("file") | None => "",
        Some(_) => "az",
    }
}

/// The words of the last in a chain of errors: what the server or the system itself said.
fn innermost(error: &object_store::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// The server that words are about, without path and query: those may hold a token.
fn server(words: &str) -> Option<String> {
    let (_, asked) = words.split_once("Error performing ")?;
    let Some((before, rest)) = asked.split_once("://") else {
        return Some("the server".into());
    };
    let scheme = before.rsplit(' ').next().unwrap_or_default();
    let authority = rest.split(['/', '?', ' ']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    Some(format!("{scheme}://{host}"))
}

/// The text of the first XML element of this name.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inner.to_owned())
}

/// One line, of bounded length.
fn short(text: &str) -> String {
    let line = text.split(['\r', '\n']).next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS).collect()
}
