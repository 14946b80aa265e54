//! An upstream's socket, on which an answer counts for more than what of its request could still be written.
//!
//! An upstream that has answered before a request came whole, and closes, resets what is still on its way. Its answer is here
//! then, but hyper sees the failed write first, and gives up. So a write that fails because the upstream is gone seems to
//! succeed: what it sent is read to its end, and only then is the failure told.

use hyper_util::client::legacy::connect::{Connected, Connection};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether a connection was kept: it has answered a request before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(Arc<AtomicBool>);

impl Kept {
    /// It has answered.
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it has.
    pub(crate) fn is_kept(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection to an upstream.
#[derive(Debug)]
pub(crate) struct UpstreamSocket<S> {
    stream: S,
    /// Why it can't be written to any more, until that is told.
    failed: Option<Error>,
    /// Nothing more comes from it.
    has_ended: bool,
    kept: Kept,
}

impl<S> UpstreamSocket<S> {
    /// Over an open connection.
    pub(crate) fn new(stream: S) -> UpstreamSocket<S> {
        UpstreamSocket {
            stream,
            failed: None,
            has_ended: false,
            kept: Kept::default(),
        }
    }

    /// What becomes of a write of `length` bytes.
    fn note(&mut self, written: Result<usize>, length: usize) -> Result<usize> {
        match written {
            Err(error) if !self.has_ended && is_gone(&error) => {
                self.failed = Some(error);
                Ok(length)
            }
            written => written,
        }
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

impl<S: AsyncRead + Unpin> AsyncRead for UpstreamSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let (room, before) = (buffer.remaining(), buffer.filled().len());
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.has_ended = read.is_err() || (room > 0 && buffer.filled().len() == before);
        match self.has_ended.then(|| self.failed.take()).flatten() {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Ready(read),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for UpstreamSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(self.note(written, bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        let length = slices.iter().map(|slice| slice.len()).sum();
        Poll::Ready(self.note(written, length))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S> Connection for UpstreamSocket<S> {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.kept.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Has something to read, and can't be written to.
    struct Gone(&'static [u8]);

    impl AsyncRead for Gone {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
            buffer.put_slice(self.0);
            self.0 = b"";
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Gone {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<Result<usize>> {
            Poll::Ready(Err(ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_came_is_read_before_a_failed_write_is_told() {
        let mut socket = UpstreamSocket::new(Gone(b"answer"));
        let mut bytes = [0; 64];
        assert_eq!(socket.write(b"request").await.unwrap(), 7);
        assert_eq!(socket.read(&mut bytes).await.unwrap(), 6);
        assert_eq!(socket.write(b"request").await.unwrap(), 7);
        let told = socket.read(&mut bytes).await.unwrap_err();
        assert_eq!(told.kind(), ErrorKind::BrokenPipe);
        let told = socket.write(b"request").await.unwrap_err();
        assert_eq!(told.kind(), ErrorKind::BrokenPipe);
    }
}
