//! The response body on its way from upstream to client, and the moment at which its record must be written.
//!
//! Forwards each piece as it arrives and unchanged (but for the model's name, where a candidate answers). The piece
//! that holds the API's end mark, or the last bytes of a message of known length, or else the message's end, is held
//! until the record is in the spool, for `capture.wait` at most.

use crate::capture::OpenCall;
use crate::rename::Renamer;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep, sleep_until};
use understudy_call::record::Outcome;
use understudy_call::wire::end_mark::EndMark;
use understudy_client::{BoxError, SendErrorKind};

/// A response body being relayed.
pub(crate) struct Relay {
    inner: Incoming,
    call: OpenCall,
    state: State,
    /// Set for streamed answers whose end the API marks.
    end_mark: Option<EndMark>,
    /// Bytes still to come, where the length is known.
    remaining: Option<u64>,
    streamed: bool,
    rename: Option<Renamer>,
    idle: Idle,
}

enum State {
    /// Pieces flow.
    Open,
    /// The record is being written; the frame goes out after that, `None` = the end of the message.
    Waiting {
        written: oneshot::Receiver<()>,
        limit: Pin<Box<Sleep>>,
        since: Instant,
        then: Option<Frame<Bytes>>,
    },
    /// The upstream failed: what came before goes out first, then this.
    Failing(BoxError),
    /// The record is written or given up: pieces flow on without a copy.
    Kept,
    /// Nothing more comes.
    Ended,
}

/// The longest wait for a piece, checked without touching the timer at each one.
struct Idle {
    limit: Duration,
    last: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    /// Ready when nothing came for too long.
    fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let limit = self.limit;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
            ready!(timer.as_mut().poll(context));
            if self.last.elapsed() >= limit {
                return Poll::Ready(());
            }
            self.timer = Some(Box::pin(sleep_until((self.last + limit).into())));
        }
    }
}

impl Relay {
    /// Relays `inner` for `call`.
    pub(crate) fn new(
        inner: Incoming,
        call: OpenCall,
        streamed: bool,
        end_mark: Option<EndMark>,
        rename: Option<Renamer>,
        idle: Duration,
    ) -> Relay {
        let remaining = inner.size_hint().exact();
        let idle = Idle {
            limit: idle,
            last: Instant::now(),
            timer: None,
        };
        Relay {
            inner,
            call,
            state: State::Open,
            end_mark,
            remaining,
            streamed,
            rename,
            idle,
        }
    }

    /// Notes a piece; true when the client would see the answer complete with it.
    fn note(&mut self, piece: &Bytes) -> bool {
        self.idle.last = Instant::now();
        self.call.response_piece(piece, self.streamed);
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(piece.len() as u64);
        }
        self.remaining == Some(0) || self.end_mark.as_mut().is_some_and(|mark| mark.push(piece))
    }

    /// Hands the record to the spool; `then` goes out once it is written.
    fn commit(&mut self, then: Option<Frame<Bytes>>) -> Option<Frame<Bytes>> {
        let ended = then.is_none();
        match self.call.commit(Outcome::Ok) {
            Some(written) => {
                let limit = Box::pin(sleep(self.call.wait_limit()));
                self.state = State::Waiting {
                    written,
                    limit,
                    since: Instant::now(),
                    then,
                };
                None
            }
            None => {
                self.state = if ended { State::Ended } else { State::Kept };
                then
            }
        }
    }

    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) else {
            ready!(self.idle.poll_expired(context));
            self.state = State::Ended;
            let _ = self.call.commit(Outcome::Timeout);
            return Poll::Ready(Some(Err(
                "the upstream sent nothing for too long (timeouts.idle)".into()
            )));
        };
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => {
                    let complete = self.note(&piece);
                    let out = match &mut self.rename {
                        Some(rename) => rename.push(&piece),
                        None => piece,
                    };
                    let frame = Frame::data(out);
                    Poll::Ready(if complete {
                        self.commit(Some(frame)).map(Ok)
                    } else {
                        Some(Ok(frame))
                    })
                }
                Err(trailers) => Poll::Ready(Some(Ok(trailers))),
            },
            Some(Err(error)) => {
                let _ = self.call.commit(SendErrorKind::of_hyper(&error).outcome());
                self.fail(error.into(), context)
            }
            None => {
                let rest = self
                    .rename
                    .as_mut()
                    .map(Renamer::finish)
                    .filter(|rest| !rest.is_empty());
                Poll::Ready(self.commit(rest.map(Frame::data)).map(Ok))
            }
        }
    }

    /// Gives hyper one turn to send what it holds: an error makes it drop that.
    fn fail<T>(&mut self, error: BoxError, context: &mut Context<'_>) -> Poll<T> {
        self.state = State::Failing(error);
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_kept(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let Some(rename) = &mut self.rename else {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        };
        match frame {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame.map_data(|piece| rename.push(&piece))))),
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => {
                self.state = State::Ended;
                let rest = rename.finish();
                Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))))
            }
        }
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match &mut self.state {
                State::Open => match ready!(self.poll_open(context)) {
                    // An answer that is complete, and whose record is being written.
                    None if matches!(self.state, State::Waiting { .. }) => {}
                    frame => return Poll::Ready(frame),
                },
                State::Waiting {
                    written,
                    limit,
                    since,
                    then,
                } => {
                    let timed_out = match Pin::new(written).poll(context) {
                        Poll::Ready(_) => false,
                        Poll::Pending => {
                            ready!(limit.as_mut().poll(context));
                            true
                        }
                    };
                    let (waited, then) = (since.elapsed(), then.take());
                    self.call.waited(waited, timed_out);
                    self.state = if then.is_some() { State::Kept } else { State::Ended };
                    return Poll::Ready(then.map(Ok));
                }
                State::Failing(_) => {
                    let State::Failing(error) = std::mem::replace(&mut self.state, State::Ended) else {
                        continue;
                    };
                    return Poll::Ready(Some(Err(error)));
                }
                State::Kept => return self.poll_kept(context),
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Ended => true,
            State::Kept => self.inner.is_end_stream() && self.rename.is_none(),
            State::Open | State::Waiting { .. } | State::Failing(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.rename.is_some() {
            SizeHint::default()
        } else {
            self.inner.size_hint()
        }
    }
}
