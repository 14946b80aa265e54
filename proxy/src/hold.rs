//! Holds a candidate's stream until its answer is whole and valid, or until the limits of `hold` are reached.
//!
//! At the limits a text that has begun is let go; what is of no use before it is whole (a tool call, JSON, or nothing at
//! all yet where a tool may be called) is given up, since the client has seen nothing of it.

use crate::fallback::{Fallback, Hold, Reason};
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;
use understudy_call::call::{Api, Usage};
use understudy_call::check::{Demands, Fault, begins_refusing};
use understudy_call::guard::Cause;
use understudy_call::record::Outcome;
use understudy_call::wire::{self, EndMark};
use understudy_client::SendErrorKind;

/// Why a candidate's answer is not the client's.
#[derive(Debug)]
pub(crate) struct Lost {
    /// The reason in one word.
    pub(crate) reason: Reason,
    /// How the attempt ended, as far as HTTP tells.
    pub(crate) outcome: Outcome,
    /// What the guard names where it trips.
    pub(crate) cause: Cause,
    /// What happened; no words of the answer, since it is kept as it is.
    pub(crate) words: String,
    /// The model and tokens of the answer, where it told them.
    pub(crate) used: Option<Box<(Option<String>, Usage)>>,
}

impl Lost {
    /// Without an answer.
    fn new(reason: Reason, outcome: Outcome, cause: Cause, words: impl Into<String>) -> Lost {
        Lost {
            reason,
            outcome,
            cause,
            words: words.into(),
            used: None,
        }
    }

    /// An answer that never came, or that can't be read.
    pub(crate) fn error(outcome: Outcome, words: impl Into<String>) -> Lost {
        let reason = match outcome {
            Outcome::Timeout => Reason::Timeout,
            _ => Reason::Error,
        };
        Lost::new(reason, outcome, Cause::Word(outcome.as_str()), words)
    }

    /// An answer with an error status.
    pub(crate) fn status(status: u16) -> Lost {
        let words = format!("status {status}");
        Lost::new(Reason::Error, Outcome::UpstreamStatus, Cause::Status(status), words)
    }

    fn at_limit(outcome: Outcome, what: &str) -> Lost {
        let cause = Cause::Word(Reason::Hold.as_str());
        Lost::new(Reason::Hold, outcome, cause, format!("it was not whole {what}"))
    }
}

/// Judges the answers of one candidate to one request.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'a> {
    /// What the candidate speaks.
    pub(crate) api: Api,
    /// The media type of its answer.
    pub(crate) content_type: Option<&'a str>,
    /// What the request demands.
    pub(crate) demands: &'a Demands,
    /// Which faults count.
    pub(crate) fallback: Fallback,
}

impl Judge<'_> {
    /// Whether a whole answer is one for the client.
    pub(crate) fn judge(&self, answer: &[u8]) -> Result<(), Lost> {
        let assembled = wire::assemble(self.api, self.content_type, answer);
        let assembled = assembled.map_err(|_| lost(&Fault::Unreadable))?;
        match self.demands.check(self.api, &assembled) {
            Err(fault) if self.fallback.takes(reason(&fault)) => {
                let answer = wire::parse_response(self.api, 200, &assembled);
                Err(Lost {
                    used: Some(Box::new((answer.model, answer.usage))),
                    ..lost(&fault)
                })
            }
            _ => Ok(()),
        }
    }

    /// Reads a stream until its answer is known to be one for the client; what was read of it. The rest may follow.
    /// `idle` is the longest wait for a piece.
    pub(crate) async fn hold(&self, limits: Hold, stream: &mut Incoming, idle: Duration) -> Result<Bytes, Lost> {
        let mut held = BytesMut::new();
        let mut end = EndMark::new(self.api);
        let mut is_overdue = false;
        let time = tokio::time::sleep(limits.time);
        tokio::pin!(time);
        loop {
            let frame = tokio::select! {
                frame = tokio::time::timeout(idle, stream.frame()) => frame.map_err(|_| silent(idle))?,
                () = &mut time, if !is_overdue => {
                    is_overdue = true;
                    if self.lets_go(&held, false)? {
                        break;
                    }
                    continue;
                }
            };
            let piece = match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(piece))) => piece,
                Some(Err(error)) => return Err(broken(&error)),
                // Trailers, or the end.
                Some(Ok(Err(_))) | None => {
                    self.judge(&held)?;
                    break;
                }
            };
            held.extend_from_slice(&piece);
            if end.push(&piece) {
                self.judge(&held)?;
                break;
            }
            let is_full = held.len() > limits.bytes;
            if (is_full || is_overdue) && self.lets_go(&held, is_full)? {
                break;
            }
        }
        Ok(held.freeze())
    }

    /// At a limit: whether what came so far goes to the client. False where nothing came that could.
    fn lets_go(&self, held: &[u8], is_full: bool) -> Result<bool, Lost> {
        let given_up = || match is_full {
            true => Lost::at_limit(Outcome::Refused, "within hold.bytes"),
            false => Lost::at_limit(Outcome::Timeout, "within hold.for"),
        };
        let Ok(assembled) = wire::assemble(self.api, self.content_type, held) else {
            return Err(given_up());
        };
        let so_far = wire::parse_response(self.api, 200, &assembled).without_padding();
        if so_far.error.is_some() {
            return Err(lost(&Fault::Error));
        }
        if begins_refusing(&so_far.output_text) && self.fallback.takes(Reason::Refusal) {
            return Err(lost(&Fault::Refusal));
        }
        let may_call = self.demands.may_call();
        let has_begun = !so_far.output_text.trim().is_empty() || (!may_call && !so_far.reasoning_text.is_empty());
        if self.demands.structure() || !so_far.tool_calls.is_empty() {
            return Err(given_up());
        }
        if !has_begun && (may_call || is_full) {
            return Err(given_up());
        }
        Ok(has_begun)
    }

    /// The first piece of a stream that is not held: until it has come, the baseline can still answer. One that begins
    /// with an error is no answer.
    pub(crate) async fn first_piece(&self, stream: &mut Incoming, idle: Duration) -> Result<Bytes, Lost> {
        let deadline = tokio::time::sleep(idle);
        tokio::pin!(deadline);
        loop {
            let frame = tokio::select! {
                frame = stream.frame() => frame,
                () = &mut deadline => return Err(silent(idle)),
            };
            let piece = match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(piece))) if !piece.is_empty() => piece,
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(broken(&error)),
                None => return Err(Lost::error(Outcome::UpstreamTruncated, "its stream is empty")),
            };
            let assembled = wire::assemble(self.api, self.content_type, &piece);
            return match assembled.is_ok_and(|assembled| assembled.error.is_some()) {
                true => Err(lost(&Fault::Error)),
                false => Ok(piece),
            };
        }
    }
}

fn silent(idle: Duration) -> Lost {
    Lost::error(Outcome::Timeout, format!("no piece of its stream within {idle:?}"))
}

fn broken(error: &hyper::Error) -> Lost {
    Lost::error(SendErrorKind::of_hyper(error).outcome(), error.to_string())
}

fn lost(fault: &Fault) -> Lost {
    let outcome = match fault {
        Fault::Error => Outcome::InStreamError,
        Fault::Unfinished => Outcome::UpstreamTruncated,
        Fault::Unreadable => Outcome::UpstreamProtocol,
        _ => Outcome::Ok,
    };
    Lost::new(reason(fault), outcome, Cause::Word(fault.word()), fault.to_string())
}

fn reason(fault: &Fault) -> Reason {
    match fault {
        Fault::Error | Fault::Unfinished | Fault::Unreadable => Reason::Error,
        Fault::Truncated => Reason::Truncated,
        Fault::Refusal => Reason::Refusal,
        Fault::Empty => Reason::Empty,
        Fault::UnknownTool
        | Fault::ForbiddenTool
        | Fault::MissingTool
        | Fault::ArgumentsNotJson
        | Fault::ArgumentsUnfit(_)
        | Fault::NotJson
        | Fault::Unfit(_) => Reason::InvalidOutput,
    }
}
