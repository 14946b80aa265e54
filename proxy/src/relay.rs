//! The response body on its way from upstream to client, and the moment at which its record must be written.
//!
//! Forwards each piece as it arrives and unchanged (but for what [`Filter`] changes). The piece
//! that holds the API's end mark, or the last bytes of a message of known length, or else the message's end, is held
//! until the record is in the spool, for `capture.wait` at most.

use crate::capture::OpenCall;
use crate::end::End;
use crate::filter::{Filter, Passed};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep, sleep_until};
use understudy_call::record::Outcome;
use understudy_client::{BoxError, SendErrorKind};

/// A response body being relayed.
pub(crate) struct Relay {
    /// What was read before the response's head went out.
    first: Option<Result<Frame<Bytes>, hyper::Error>>,
    inner: Incoming,
    call: OpenCall,
    state: State,
    /// Set for streamed answers whose end the API marks.
    end: Option<End>,
    /// Bytes still to come, where the length is known.
    remaining: Option<u64>,
    streamed: bool,
    filter: Option<Filter>,
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
        ended: bool,
    },
    /// The upstream failed: what came before goes out first, then this.
    Failing { error: BoxError, is_flushed: bool },
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
    /// Relays `inner` for `call`, with `idle` as the longest wait for a piece.
    pub(crate) fn new(inner: Incoming, call: OpenCall, streamed: bool, idle: Duration) -> Relay {
        let remaining = inner.size_hint().exact();
        let idle = Idle {
            limit: idle,
            last: Instant::now(),
            timer: None,
        };
        Relay {
            first: None,
            inner,
            call,
            state: State::Open,
            end: None,
            remaining,
            streamed,
            filter: None,
            idle,
        }
    }

    /// Looks for the answer's end in what is kept.
    pub(crate) fn with_end(mut self, end: Option<End>) -> Relay {
        self.end = end;
        self
    }

    /// Changes the stream on its way.
    pub(crate) fn with_filter(mut self, filter: Filter) -> Relay {
        self.filter = Some(filter);
        self.remaining = None;
        self
    }

    /// Begins with a piece that was read already.
    pub(crate) fn beginning_with(mut self, piece: Bytes) -> Relay {
        if let Some(remaining) = &mut self.remaining {
            *remaining += piece.len() as u64;
        }
        self.first = Some(Ok(Frame::data(piece)));
        self
    }

    /// The body of an answer that came whole together with its head, once its record is written: both go out in one piece.
    ///
    /// # Errors
    /// The relay again where there is more to come.
    pub(crate) async fn at_once(mut self) -> Result<Bytes, Relay> {
        if self.remaining.is_none() {
            return Err(self);
        }
        self.first = std::future::poll_fn(|context| match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(frame),
            Poll::Pending => Poll::Ready(None),
        })
        .await;
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok());
        let length = first.and_then(Frame::data_ref).map(|piece| piece.len() as u64);
        if length.is_none() || length != self.remaining || !self.inner.is_end_stream() {
            return Err(self);
        }
        match self.frame().await.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(piece))) => Ok(piece),
            // Nothing can be wrong with a piece that is at hand.
            _ => Err(self),
        }
    }

    fn poll_inner(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut self.inner).poll_frame(context),
        }
    }

    /// What a piece becomes; true when the client would see the answer complete with it.
    fn take(&mut self, piece: Bytes) -> (Bytes, bool) {
        self.idle.last = Instant::now();
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(piece.len() as u64);
        }
        let passed = match &mut self.filter {
            Some(filter) => filter.push(&piece),
            None => Passed::same(piece),
        };
        let is_complete = self.keep(&passed.kept);
        (passed.client, is_complete)
    }

    /// Notes what is kept of a piece; true when it completes the answer.
    fn keep(&mut self, kept: &Bytes) -> bool {
        if let Some(model) = self.filter.as_ref().and_then(Filter::model)
            && self.call.head.response_model.is_none()
        {
            self.call.head.response_model = Some(model.to_owned());
        }
        if !kept.is_empty() {
            self.call.response_piece(kept, self.streamed);
        }
        self.remaining == Some(0) || self.end.as_mut().is_some_and(|end| end.push(kept))
    }

    /// Hands the record to the spool; `then` goes out once it is written.
    fn commit(&mut self, then: Option<Frame<Bytes>>, ended: bool) -> Option<Frame<Bytes>> {
        match self.call.commit(Outcome::Ok) {
            Some(written) => {
                let limit = Box::pin(sleep(self.call.wait_limit()));
                self.state = State::Waiting {
                    written,
                    limit,
                    since: Instant::now(),
                    then,
                    ended,
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
        loop {
            let Poll::Ready(frame) = self.poll_inner(context) else {
                ready!(self.idle.poll_expired(context));
                let error = "the upstream sent nothing for too long (timeouts.idle)".into();
                return Poll::Ready(self.broken(Outcome::Timeout, error).map(Ok));
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(piece))) => {
                    let (out, is_complete) = self.take(piece);
                    let frame = (!out.is_empty()).then(|| Frame::data(out));
                    if is_complete {
                        return Poll::Ready(self.commit(frame, false).map(Ok));
                    }
                    if frame.is_some() {
                        return Poll::Ready(frame.map(Ok));
                    }
                }
                // Nothing comes after trailers, and hyper does not ask.
                Some(Ok(Err(trailers))) => {
                    let rest = self.finish_filter();
                    self.keep(&rest.kept);
                    let is_all_sent = rest.client.is_empty();
                    let last = if is_all_sent {
                        trailers
                    } else {
                        Frame::data(rest.client)
                    };
                    return Poll::Ready(self.commit(Some(last), true).map(Ok));
                }
                Some(Err(error)) => {
                    let outcome = SendErrorKind::of_hyper(&error).outcome();
                    return Poll::Ready(self.broken(outcome, error.into()).map(Ok));
                }
                None => {
                    let rest = self.finish_filter();
                    self.keep(&rest.kept);
                    let frame = (!rest.client.is_empty()).then(|| Frame::data(rest.client));
                    return Poll::Ready(self.commit(frame, true).map(Ok));
                }
            }
        }
    }

    fn finish_filter(&mut self) -> Passed {
        self.filter.as_mut().map(Filter::finish).unwrap_or_default()
    }

    /// The upstream failed: the record is written with what came, and that goes out before the failure does.
    fn broken(&mut self, outcome: Outcome, error: BoxError) -> Option<Frame<Bytes>> {
        let rest = self.filter.as_mut().map(|filter| filter.broken(&error.to_string()));
        let rest = rest.unwrap_or_default();
        self.keep(&rest.kept);
        let _ = self.call.commit(outcome);
        self.state = State::Failing {
            error,
            is_flushed: false,
        };
        (!rest.client.is_empty()).then(|| Frame::data(rest.client))
    }

    fn poll_kept(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let frame = ready!(self.poll_inner(context));
            let Some(filter) = &mut self.filter else {
                return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
            };
            let out = match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(piece))) => filter.push(&piece).client,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => {
                    self.state = State::Ended;
                    let rest = self.finish_filter().client;
                    return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
                }
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out))));
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
                    // An answer that is complete, and whose record is being written; or that failed.
                    None if !matches!(self.state, State::Ended) => {}
                    frame => return Poll::Ready(frame),
                },
                State::Waiting {
                    written,
                    limit,
                    since,
                    then,
                    ended,
                } => {
                    let timed_out = match Pin::new(written).poll(context) {
                        Poll::Ready(_) => false,
                        Poll::Pending => {
                            ready!(limit.as_mut().poll(context));
                            true
                        }
                    };
                    let (waited, then, ended) = (since.elapsed(), then.take(), *ended);
                    self.call.waited(waited, timed_out);
                    self.state = if ended { State::Ended } else { State::Kept };
                    if let Some(frame) = then {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                // hyper gets one turn to send what it holds: an error makes it drop that.
                State::Failing { is_flushed, .. } if !*is_flushed => {
                    *is_flushed = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Failing { .. } => {
                    let State::Failing { error, .. } = std::mem::replace(&mut self.state, State::Ended) else {
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
            State::Kept => self.inner.is_end_stream() && self.filter.is_none() && self.first.is_none(),
            State::Open | State::Waiting { .. } | State::Failing { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.filter, self.remaining) {
            (None, Some(remaining)) => SizeHint::with_exact(remaining),
            _ => SizeHint::default(),
        }
    }
}
