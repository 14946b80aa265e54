//! Where one HTTP/1.1 connection of a client stands: what its socket must know of the call on it, and hyper doesn't say.
//!
//! The service moves it on; [`crate::socket::ClientSocket`] and the call's refusal read it. HTTP/2 leaves it alone.

use crate::body::ClientBody;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use understudy_client::BoxError;

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Waiting for a request, or inside its head.
    Head,
    /// A request's body is coming.
    Upload,
    /// The request has come whole, and its answer has not begun.
    Awaiting,
    /// An answer in chunks is under way.
    Chunked,
    /// An answer of any other framing is under way.
    Sized,
    /// Not HTTP/1.1 any more: a tunnel, or HTTP/2.
    Free,
}

/// Why a request's body did not come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum UploadFault {
    /// The client went away, or its deadline passed.
    Broken = 1,
    /// Its chunks are no chunks.
    Framing,
    /// Longer than `limits.max_body`.
    TooLong,
}

/// The state of one connection.
#[derive(Debug, Default)]
pub(crate) struct Line {
    phase: AtomicU8,
    accepted: AtomicU32,
    fault: AtomicU8,
    is_cut_short: AtomicBool,
    is_ambiguous: AtomicBool,
    address_id: Option<Arc<str>>,
}

impl Line {
    /// A connection from an address, given as its pseudonym.
    pub(crate) fn from_address(address_id: Option<Arc<str>>) -> Line {
        Line {
            address_id,
            ..Line::default()
        }
    }

    /// The pseudonym of the address that the connection came from.
    pub(crate) fn address_id(&self) -> Option<&str> {
        self.address_id.as_deref()
    }

    /// What it is at.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Head,
            1 => Phase::Upload,
            2 => Phase::Awaiting,
            3 => Phase::Chunked,
            4 => Phase::Sized,
            _ => Phase::Free,
        }
    }

    /// How many heads were accepted so far.
    pub(crate) fn accepted(&self) -> u32 {
        self.accepted.load(Ordering::Acquire)
    }

    /// Whether the last request accepted has not come whole.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.is_cut_short.load(Ordering::Acquire)
    }

    /// The head that is coming has two framings.
    pub(crate) fn note_ambiguous(&self) {
        self.is_ambiguous.store(true, Ordering::Release);
    }

    /// Whether the head that has come had two framings; asked once.
    pub(crate) fn take_ambiguous(&self) -> bool {
        self.is_ambiguous.swap(false, Ordering::AcqRel)
    }

    /// It speaks HTTP/1.1 no more.
    pub(crate) fn free(&self) {
        self.set(Phase::Free);
    }

    fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// A request's head was accepted.
    fn begin(&self, is_whole: bool) {
        self.fault.store(0, Ordering::Release);
        self.is_cut_short.store(!is_whole, Ordering::Release);
        self.set(if is_whole { Phase::Awaiting } else { Phase::Upload });
        self.accepted.fetch_add(1, Ordering::AcqRel);
    }

    /// The last of a request's body has come, unless its answer has begun before.
    fn uploaded(&self) {
        self.is_cut_short.store(false, Ordering::Release);
        let (from, to) = (Phase::Upload as u8, Phase::Awaiting as u8);
        let _ = self
            .phase
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }

    fn failed(&self, fault: UploadFault) {
        self.fault.store(fault as u8, Ordering::Release);
    }

    /// What was wrong with the request's body, if anything was.
    pub(crate) fn fault(&self) -> Option<UploadFault> {
        match self.fault.load(Ordering::Acquire) {
            1 => Some(UploadFault::Broken),
            2 => Some(UploadFault::Framing),
            3 => Some(UploadFault::TooLong),
            _ => None,
        }
    }
}

/// The body of a client's request: what came of it, and whether it came whole, is noted on its line.
pub(crate) struct Upload {
    inner: Incoming,
    line: Arc<Line>,
    /// Bytes that may still come.
    room: u64,
}

impl Upload {
    /// The request with its body noted; `limit` is the most bytes of it.
    pub(crate) fn of(request: Request<Incoming>, line: Arc<Line>, limit: Option<u64>) -> Request<Upload> {
        if request.version() <= Version::HTTP_11 {
            line.begin(request.body().is_end_stream());
        }
        let room = limit.unwrap_or(u64::MAX);
        request.map(|inner| Upload { inner, line, room })
    }

    /// Its connection's state.
    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.line
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                let Some(room) = self.room.checked_sub(length) else {
                    self.line.failed(UploadFault::TooLong);
                    return Poll::Ready(Some(Err("the body is longer than limits.max_body".into())));
                };
                self.room = room;
                if self.inner.is_end_stream() {
                    self.line.uploaded();
                }
            }
            Some(Err(error)) => self.line.failed(fault_of(error)),
            None => self.line.uploaded(),
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

/// hyper's decoder gives its faults as io errors of these kinds.
fn fault_of(error: &hyper::Error) -> UploadFault {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    match cause.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput) => UploadFault::Framing,
        _ => UploadFault::Broken,
    }
}

/// The body of an answer; its line waits for the next head once it is gone.
pub(crate) struct Download {
    inner: ClientBody,
    line: Option<Arc<Line>>,
}

impl Download {
    /// The answer to a request of this method and version, whose begin is noted.
    pub(crate) fn of(
        mut response: Response<ClientBody>,
        line: Arc<Line>,
        method: &Method,
        version: Version,
    ) -> Response<Download> {
        // The upstream's version is its hop's; hyper takes ours from the request.
        *response.version_mut() = Version::HTTP_11;
        if version > Version::HTTP_11 {
            return response.map(|inner| Download { inner, line: None });
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            line.free();
            return response.map(|inner| Download { inner, line: None });
        }
        let has_body = method != Method::HEAD
            && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            && !response.body().is_end_stream();
        let is_sized =
            response.headers().contains_key(header::CONTENT_LENGTH) || response.body().size_hint().exact().is_some();
        let in_chunks = version == Version::HTTP_11 && has_body && !is_sized;
        line.set(if in_chunks { Phase::Chunked } else { Phase::Sized });
        response.map(|inner| Download {
            inner,
            line: Some(line),
        })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.set(Phase::Head);
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
