//! How a connection ends while the process does: never under a request that is on its way.
//!
//! A server that closes an idle connection may find that a request had just been sent on it, which then fails. So the
//! next answer says that it is the connection's last, and only a connection on which nothing happens is closed.

use http::{HeaderValue, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use pingora_core::server::ShutdownWatch;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// A connection on which nothing happened for so long is closed.
const LINGER: Duration = Duration::from_millis(500);

/// The requests of one connection.
#[derive(Default)]
pub(crate) struct Requests {
    begun: AtomicU64,
    ended: AtomicU64,
    /// HTTP/2 says for itself which requests it still takes.
    http2: AtomicBool,
}

impl Requests {
    /// A request begins; it ends with the answer's body, or when what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>, version: Version) -> OpenRequest {
        self.begun.fetch_add(1, Ordering::AcqRel);
        if version == Version::HTTP_2 {
            self.http2.store(true, Ordering::Release);
        }
        OpenRequest(self.clone())
    }

    /// Waits until the process is to end and the connection can be told so.
    pub(crate) async fn until_it_may_close(&self, mut shutdown: ShutdownWatch) {
        if shutdown.wait_for(|down| *down).await.is_err() {
            return;
        }
        while !self.http2.load(Ordering::Acquire) {
            let begun = self.begun.load(Ordering::Acquire);
            let is_idle = self.ended.load(Ordering::Acquire) == begun;
            tokio::time::sleep(LINGER).await;
            if is_idle && self.begun.load(Ordering::Acquire) == begun {
                return;
            }
        }
    }
}

/// A request that is being answered.
pub(crate) struct OpenRequest(Arc<Requests>);

impl OpenRequest {
    /// Its answer; one that is `last` tells the client to send no more on this connection.
    pub(crate) fn answered<B>(self, mut response: Response<B>, version: Version, last: bool) -> Response<Answer<B>> {
        if last && version < Version::HTTP_2 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response.map(|body| Answer { body, _open: self })
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::AcqRel);
    }
}

/// An answer's body, with which its request ends.
pub(crate) struct Answer<B> {
    body: B,
    _open: OpenRequest,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
