//! What can go wrong between sending a request and its response's end, as kinds that callers decide by.

use crate::socket::Kept;
use http::Extensions;
use std::error::Error;
use std::fmt;
use understudy_call::record::Outcome;

/// The kind of a failure on the upstream's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendErrorKind {
    /// No connection: refused, unreachable, name unknown, TLS failed.
    Connect,
    /// The connection was reset or closed before the message began.
    Reset,
    /// The message ended before it was complete.
    Truncated,
    /// What came is not HTTP.
    Protocol,
    /// A deadline of ours passed.
    Timeout,
    /// Our own side failed to give the request's body (the client went away).
    RequestBody,
}

impl SendErrorKind {
    /// The word for the `outcome` column.
    pub fn outcome(self) -> Outcome {
        match self {
            SendErrorKind::Connect => Outcome::UpstreamConnect,
            SendErrorKind::Reset => Outcome::UpstreamReset,
            SendErrorKind::Truncated => Outcome::UpstreamTruncated,
            SendErrorKind::Protocol => Outcome::UpstreamProtocol,
            SendErrorKind::Timeout => Outcome::Timeout,
            SendErrorKind::RequestBody => Outcome::ClientClosed,
        }
    }

    /// The kind of a hyper error on a response.
    pub fn of_hyper(error: &hyper::Error) -> SendErrorKind {
        if error.is_user() {
            SendErrorKind::RequestBody
        } else if error.is_incomplete_message() || error.is_body_write_aborted() {
            SendErrorKind::Truncated
        } else if error.is_parse() {
            SendErrorKind::Protocol
        } else if error.is_timeout() {
            SendErrorKind::Timeout
        } else {
            match io_kind(error) {
                Some(std::io::ErrorKind::UnexpectedEof) => SendErrorKind::Truncated,
                Some(std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput) => SendErrorKind::Protocol,
                _ => SendErrorKind::Reset,
            }
        }
    }
}

/// A failure on the way to an upstream: its kind, and the words of what failed.
#[derive(Debug)]
pub struct SendError {
    kind: SendErrorKind,
    text: String,
    on_kept: bool,
}

impl SendError {
    /// A failure of this kind.
    pub fn new(kind: SendErrorKind, text: impl Into<String>) -> SendError {
        SendError {
            kind,
            text: text.into(),
            on_kept: false,
        }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> SendErrorKind {
        self.kind
    }

    /// Whether the connection had been kept from an earlier call and ended before a byte of the answer came: its upstream may
    /// have closed it just as the request went out.
    pub fn is_of_kept_connection(&self) -> bool {
        self.on_kept && self.kind == SendErrorKind::Reset
    }

    pub(crate) fn of_legacy(error: &hyper_util::client::legacy::Error) -> SendError {
        let hyper_error = find::<hyper::Error>(error);
        let kind = if error.is_connect() {
            SendErrorKind::Connect
        } else {
            match hyper_error {
                // Before any byte of a response, an unfinished message is a connection that was closed.
                Some(inner) if inner.is_incomplete_message() => SendErrorKind::Reset,
                Some(inner) => SendErrorKind::of_hyper(inner),
                None => SendErrorKind::Reset,
            }
        };
        let mut extras = Extensions::new();
        if let Some(connected) = error.connect_info() {
            connected.get_extras(&mut extras);
        }
        SendError {
            kind,
            text: chain(error),
            on_kept: extras.get::<Kept>().is_some_and(Kept::is_kept),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Error for SendError {}

/// All messages of an error and its causes, joined by colons.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    text
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<E>() {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<std::io::ErrorKind> {
    find::<std::io::Error>(error).map(std::io::Error::kind)
}
