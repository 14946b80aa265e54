//! How far the body of a request is: an upload that goes on is no silence of the upstream's.

use crate::body::{BoxError, RequestBody};
use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// When the last piece of a request was taken to be sent.
#[derive(Debug)]
pub(crate) struct Uploaded {
    began: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
}

impl Uploaded {
    /// When the last piece was taken; before the first, when this began.
    pub(crate) fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// A request's body, of whose pieces note is taken.
struct Watched {
    body: RequestBody,
    uploaded: Arc<Uploaded>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            let so_far = u64::try_from(self.uploaded.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.uploaded.last.store(so_far, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The request, and how far its body is.
pub(crate) fn watched(request: Request<RequestBody>) -> (Request<RequestBody>, Arc<Uploaded>) {
    let uploaded = Arc::new(Uploaded {
        began: Instant::now(),
        last: AtomicU64::new(0),
    });
    let watching = uploaded.clone();
    let request = request.map(|body| {
        let watched = Watched {
            body,
            uploaded: watching,
        };
        watched.boxed_unsync()
    });
    (request, uploaded)
}
