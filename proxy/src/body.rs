//! Bodies on their way: what a client gets, and requests that are streamed or buffered on their way up.

use crate::relay::Relay;
use crate::tee::BodyCopy;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use understudy_client::{BoxError, RequestBody};

/// The body of an answer to a client.
pub(crate) enum ClientBody {
    /// Known in full.
    Full(Full<Bytes>),
    /// Relayed from an upstream as it arrives.
    Relay(Box<Relay>),
}

impl ClientBody {
    /// A body of these bytes.
    pub(crate) fn full(bytes: Bytes) -> ClientBody {
        ClientBody::Full(Full::new(bytes))
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            ClientBody::Full(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            ClientBody::Relay(body) => Pin::new(&mut **body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ClientBody::Full(body) => body.is_end_stream(),
            ClientBody::Relay(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ClientBody::Full(body) => body.size_hint(),
            ClientBody::Relay(body) => body.size_hint(),
        }
    }
}

/// A request body that streams through while it is copied.
pub(crate) struct CopiedUp {
    inner: Incoming,
    copy: Arc<Mutex<BodyCopy>>,
}

impl CopiedUp {
    /// Streams `inner`, noting each piece in `copy`.
    pub(crate) fn body(inner: Incoming, copy: Arc<Mutex<BodyCopy>>) -> RequestBody {
        CopiedUp { inner, copy }.boxed_unsync()
    }
}

impl Body for CopiedUp {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(piece) = frame.data_ref()
        {
            self.copy.lock().unwrap_or_else(PoisonError::into_inner).push(piece);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A request body, read as far as routing allows.
pub(crate) enum Buffered {
    /// All of it.
    Whole(Bytes),
    /// Longer than the limit: what was read, and the rest.
    Longer(VecDeque<Bytes>, Incoming, SizeHint),
}

/// Reads a body up to `limit` bytes, noting each piece in `copy`.
///
/// # Errors
/// Where the client's side fails.
pub(crate) async fn buffer(mut body: Incoming, limit: u64, copy: &Mutex<BodyCopy>) -> Result<Buffered, hyper::Error> {
    let hint = body.size_hint();
    let mut pieces = VecDeque::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        copy.lock().unwrap_or_else(PoisonError::into_inner).push(&piece);
        length += piece.len() as u64;
        pieces.push_back(piece);
        if length > limit {
            return Ok(Buffered::Longer(pieces, body, hint));
        }
    }
    Ok(Buffered::Whole(match pieces.len() {
        1 => pieces.pop_front().unwrap_or_default(),
        _ => pieces.iter().flat_map(|piece| piece.iter().copied()).collect(),
    }))
}

/// The pieces read already, and then the rest of the body.
pub(crate) struct Resumed {
    read: VecDeque<Bytes>,
    rest: Incoming,
    hint: SizeHint,
    copy: Arc<Mutex<BodyCopy>>,
}

impl Resumed {
    /// A body of `read` and `rest`, whose whole size is `hint`.
    pub(crate) fn body(
        read: VecDeque<Bytes>,
        rest: Incoming,
        hint: SizeHint,
        copy: Arc<Mutex<BodyCopy>>,
    ) -> RequestBody {
        Resumed { read, rest, hint, copy }.boxed_unsync()
    }
}

impl Body for Resumed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(piece) = self.read.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let frame = ready!(Pin::new(&mut self.rest).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(piece) = frame.data_ref()
        {
            self.copy.lock().unwrap_or_else(PoisonError::into_inner).push(piece);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked once, before the first piece is taken.
        self.hint
    }
}
