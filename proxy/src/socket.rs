//! A client's socket as hyper reads and writes it: deadlines, and clients that have closed their sending side.
//!
//! A FIN does not tell a client that has gone from one that only has nothing more to say. So while an answer is owed, the
//! FIN is kept from hyper, and the client is sent a byte that it would get anyway: the `H` that every HTTP/1 answer begins
//! with (which is then left out of what hyper writes), or, between two chunks, a zero before the next chunk's size. A
//! client that has gone answers by a reset, and hyper is told; the other one is served. Where no such byte can be sent
//! (inside an answer of known length), a FIN means gone.
//!
//! Never changes a byte of a message but those leading zeros and what [`target::mended`] says, and never reads what hyper
//! did not ask for.

use crate::head::HeadScan;
use crate::line::{Line, Phase};
use crate::target;
use bytes::{Buf, Bytes};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

/// How long a half-closed client's body may seem unfinished: its last piece may be on its way inside this process.
const UPLOAD_GRACE: Duration = Duration::from_millis(250);
/// The first and the longest pause between two looks at a half-closed client's socket.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(500));
/// How long an unwanted rest of a request is read after an answer, so that no reset takes the answer away.
const LINGER: Duration = Duration::from_secs(2);

/// A client that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Late {
    /// With a request's head.
    #[error("the request's head did not come whole in time (timeouts.header_read)")]
    Head,
    /// With its next request.
    #[error("no further request came (timeouts.keep_alive)")]
    NextHead,
    /// With its request's body.
    #[error("nothing came of the request's body for too long (timeouts.body_read)")]
    Body,
    /// With reading its answer.
    #[error("nothing was taken of the answer for too long (timeouts.idle)")]
    Answer,
}

impl From<Late> for io::Error {
    fn from(late: Late) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, late)
    }
}

/// The longest waits for a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a whole head, from its first byte.
    pub(crate) header_read: Duration,
    /// For the first byte of the next head.
    pub(crate) keep_alive: Duration,
    /// For the next piece of a body.
    pub(crate) body_read: Duration,
    /// Until it takes the next piece of an answer.
    pub(crate) idle: Duration,
}

/// A connection, with TLS or without.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {
    /// An error that the peer or the network has caused.
    fn fault(&self) -> Option<io::Error>;
}

impl Transport for TcpStream {
    fn fault(&self) -> Option<io::Error> {
        self.take_error().ok().flatten()
    }
}

impl Transport for TlsStream<TcpStream> {
    fn fault(&self) -> Option<io::Error> {
        self.get_ref().0.fault()
    }
}

/// A client's connection.
pub(crate) struct ClientSocket<T> {
    stream: T,
    /// Read before hyper came.
    ahead: Bytes,
    line: Arc<Line>,
    patience: Patience,
    reading: Deadline,
    writing: Deadline,
    /// Heads accepted when last looked.
    accepted: u32,
    /// Whether bytes of the next head have come.
    in_head: bool,
    head: HeadScan,
    /// All that hyper wrote is on its way.
    is_flushed: bool,
    /// Hyper has written of the answer at hand.
    answered: bool,
    half_closed: Option<HalfClosed>,
    /// The `H` went out already.
    owes_h: bool,
    lingering: Option<Pin<Box<Sleep>>>,
}

/// A client whose FIN has come while it is owed an answer.
struct HalfClosed {
    since: Instant,
    is_probed: bool,
    pause: Duration,
    next_look: Pin<Box<Sleep>>,
}

impl HalfClosed {
    fn new() -> HalfClosed {
        HalfClosed {
            since: Instant::now(),
            is_probed: false,
            pause: LOOK.0,
            next_look: Box::pin(sleep(LOOK.0)),
        }
    }
}

impl<T: Transport> ClientSocket<T> {
    /// The rest of `stream`, of which `ahead` was read already.
    pub(crate) fn new(stream: T, ahead: Bytes, line: Arc<Line>, patience: Patience) -> ClientSocket<T> {
        let ahead = match line.phase() {
            Phase::Head => target::mended(&ahead).map_or(ahead, Bytes::from),
            _ => ahead,
        };
        let mut socket = ClientSocket {
            stream,
            in_head: false,
            head: HeadScan::default(),
            ahead: Bytes::new(),
            line,
            patience,
            reading: Deadline::default(),
            writing: Deadline::default(),
            accepted: 0,
            is_flushed: true,
            answered: false,
            half_closed: None,
            owes_h: false,
            lingering: None,
        };
        if !ahead.is_empty() {
            let phase = socket.line.phase();
            socket.note_read(phase, &ahead);
        }
        socket.ahead = ahead;
        socket
    }

    /// Takes note of a head that was accepted since the last time.
    fn look_at_line(&mut self) -> Phase {
        let accepted = self.line.accepted();
        if accepted != self.accepted {
            self.accepted = accepted;
            self.in_head = false;
            self.head = HeadScan::default();
            self.answered = false;
            self.reading.clear();
        }
        self.line.phase()
    }

    fn read_ahead(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead[..length]);
        self.ahead.advance(length);
    }

    fn note_read(&mut self, phase: Phase, piece: &[u8]) {
        // A head's deadline runs from its first byte on, a body's from piece to piece.
        if phase == Phase::Upload || !self.in_head {
            self.reading.clear();
        }
        if matches!(phase, Phase::Upload | Phase::Free) {
            return;
        }
        self.in_head = true;
        self.head.push(piece);
        if self.head.is_ambiguous() {
            self.line.note_ambiguous();
        }
    }

    /// Ready when a deadline of this phase has passed.
    fn poll_late(&mut self, context: &mut Context<'_>, phase: Phase) -> Poll<io::Error> {
        let (limit, late) = match phase {
            Phase::Head if self.in_head => (self.patience.header_read, Late::Head),
            Phase::Head => (self.patience.keep_alive, Late::NextHead),
            Phase::Upload => (self.patience.body_read, Late::Body),
            _ => return Poll::Pending,
        };
        ready!(self.reading.poll(context, limit));
        Poll::Ready(late.into())
    }

    /// Ready once a client whose FIN has come is known to be gone, or is owed nothing.
    fn poll_gone(&mut self, context: &mut Context<'_>, phase: Phase) -> Poll<()> {
        loop {
            let is_probed = self.half_closed.get_or_insert_with(HalfClosed::new).is_probed;
            match phase {
                Phase::Free => return Poll::Ready(()),
                // What was written of the last answer still goes out.
                Phase::Head if self.is_flushed => return Poll::Ready(()),
                Phase::Sized if self.is_flushed && self.answered && !is_probed => return Poll::Ready(()),
                Phase::Upload | Phase::Awaiting if self.is_flushed && !is_probed => {
                    self.owes_h = self.probe(context, b"H");
                }
                Phase::Chunked if self.is_flushed && self.answered && !is_probed => {
                    self.probe(context, b"0");
                }
                _ => {}
            }
            let half = self.half_closed.get_or_insert_with(HalfClosed::new);
            if self.stream.fault().is_some() || (phase == Phase::Upload && half.since.elapsed() > UPLOAD_GRACE) {
                return Poll::Ready(());
            }
            ready!(half.next_look.as_mut().poll(context));
            half.pause = (half.pause * 2).min(LOOK.1);
            half.next_look = Box::pin(sleep(half.pause));
        }
    }

    /// Sends a byte of the answer ahead of it; whether it went.
    fn probe(&mut self, context: &mut Context<'_>, byte: &[u8]) -> bool {
        let went = matches!(Pin::new(&mut self.stream).poll_write(context, byte), Poll::Ready(Ok(1)));
        let _ = Pin::new(&mut self.stream).poll_flush(context);
        if let Some(half) = &mut self.half_closed {
            half.is_probed |= went;
        }
        went
    }

    /// What was written or flushed, or an error where the client takes nothing for too long.
    fn note_written<R>(&mut self, written: Poll<io::Result<R>>, context: &mut Context<'_>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.writing.clear();
            return written;
        }
        ready!(self.writing.poll(context, self.patience.idle));
        Poll::Ready(Err(Late::Answer.into()))
    }

    fn begin_write(&mut self) {
        self.look_at_line();
        self.is_flushed = false;
        self.answered = true;
    }
}

impl<T: Transport> AsyncRead for ClientSocket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            self.read_ahead(buffer);
            return Poll::Ready(Ok(()));
        }
        let phase = self.look_at_line();
        if self.half_closed.is_none() {
            let before = buffer.filled().len();
            match Pin::new(&mut self.stream).poll_read(context, buffer) {
                Poll::Pending => {
                    let late = ready!(self.poll_late(context, phase));
                    return Poll::Ready(Err(late));
                }
                Poll::Ready(Ok(())) if buffer.filled().len() == before => {}
                Poll::Ready(result) => {
                    let begins_head = !self.in_head && !matches!(phase, Phase::Upload | Phase::Free);
                    self.note_read(phase, &buffer.filled()[before..]);
                    if begins_head && let Some(mended) = target::mended(&buffer.filled()[before..]) {
                        buffer.set_filled(before);
                        self.ahead = mended.into();
                        self.read_ahead(buffer);
                    }
                    return Poll::Ready(result);
                }
            }
        }
        self.poll_gone(context, phase).map(Ok)
    }
}

impl<T: Transport> AsyncWrite for ClientSocket<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.begin_write();
        // The first byte of an answer, where it went out before.
        if self.owes_h && bytes.first() == Some(&b'H') {
            self.owes_h = false;
            return Poll::Ready(Ok(1));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_written(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.owes_h {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(context, first.map_or(&[], |slice| slice));
        }
        self.begin_write();
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        let flushed = ready!(self.note_written(flushed, context));
        self.is_flushed = flushed.is_ok();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            let phase = self.look_at_line();
            let rest_may_come = self.half_closed.is_none() && (self.in_head || self.line.is_cut_short());
            if phase == Phase::Free || !rest_may_come {
                return Poll::Ready(Ok(()));
            }
            self.lingering = Some(Box::pin(sleep(LINGER)));
        }
        let mut ignored = [0; 8192];
        loop {
            let mut buffer = ReadBuf::new(&mut ignored);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        match &mut self.lingering {
            Some(end) => end.as_mut().poll(context).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// A wait that has a limit, checked without touching the timer at each one.
#[derive(Default)]
struct Deadline {
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// The wait is over.
    fn clear(&mut self) {
        self.since = None;
    }

    /// Ready when the wait at hand, which begins now if none has, has lasted `limit`.
    fn poll(&mut self, context: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let end = tokio::time::Instant::from_std(since + limit);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if timer.deadline() > end {
            timer.as_mut().reset(end);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if timer.deadline() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
    }
}
