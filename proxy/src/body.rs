//! Bodies on their way: what a client gets, and requests that are streamed or buffered on their way up.

use crate::line::Upload;
use crate::relay::Relay;
use crate::tee::RequestCopy;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use understudy_client::{BoxError, RequestBody, empty, full};

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
struct CopiedUp {
    inner: Upload,
    copy: Arc<Mutex<RequestCopy>>,
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
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A request's body, as far as it has been read.
pub(crate) enum Held {
    /// Not at all: it streams.
    Streaming(Upload),
    /// Whole.
    Whole(Bytes),
    /// Longer than the limit: what was read, the rest, and the size of both.
    Longer(VecDeque<Bytes>, Upload, SizeHint),
}

impl Held {
    /// Reads a streaming body up to `limit` bytes, noting each piece in `copy`.
    ///
    /// # Errors
    /// Where the client's side fails.
    pub(crate) async fn read(self, limit: u64, copy: &Mutex<RequestCopy>) -> Result<Held, BoxError> {
        let Held::Streaming(mut body) = self else {
            return Ok(self);
        };
        let hint = body.size_hint();
        let mut pieces = VecDeque::new();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame?.into_data() else { continue };
            copy.lock().unwrap_or_else(PoisonError::into_inner).push(&piece);
            length += piece.len();
            pieces.push_back(piece);
            if length as u64 > limit {
                return Ok(Held::Longer(pieces, body, hint));
            }
        }
        if pieces.len() == 1 {
            return Ok(Held::Whole(pieces.pop_front().unwrap_or_default()));
        }
        let mut whole = BytesMut::with_capacity(length);
        pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        Ok(Held::Whole(whole.freeze()))
    }

    /// The bytes, where all were read.
    pub(crate) fn whole(&self) -> Option<&Bytes> {
        match self {
            Held::Whole(bytes) => Some(bytes),
            Held::Streaming(_) | Held::Longer(..) => None,
        }
    }

    /// The body to send on; what was not read yet is noted in `copy` as it passes.
    pub(crate) fn into_body(self, copy: Arc<Mutex<RequestCopy>>) -> RequestBody {
        match self {
            Held::Streaming(body) if body.is_end_stream() => empty(),
            Held::Streaming(body) => CopiedUp { inner: body, copy }.boxed_unsync(),
            Held::Whole(bytes) => full(bytes),
            Held::Longer(read, rest, hint) => Resumed { read, rest, hint, copy }.boxed_unsync(),
        }
    }
}

/// The pieces read already, and then the rest of the body.
struct Resumed {
    read: VecDeque<Bytes>,
    rest: Upload,
    hint: SizeHint,
    copy: Arc<Mutex<RequestCopy>>,
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
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked once, before the first piece is taken.
        self.hint
    }
}
