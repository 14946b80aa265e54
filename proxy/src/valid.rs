//! Whether the answers of guarded routes are valid, and what they cost, looked at behind the calls' backs: the guard holds
//! both sides to the same rules. What comes faster than it can be looked at is not counted as either.

use crate::bill::Bill;
use crate::guard::Watched;
use bytes::Bytes;
use std::sync::mpsc::{SyncSender, sync_channel};
use understudy_call::call::Api;
use understudy_call::check::{Demands, Fault};
use understudy_call::guard::{Cause, Seen};
use understudy_call::wire;
use understudy_call::wire::Assembled;
use understudy_call::wire::encoding::Decoder;

/// Answers that wait, at most.
const WAITING: usize = 64;
/// Bytes of a body that are looked at, at most.
const LONGEST: u64 = 4 << 20;

/// A call that ended well, as far as HTTP tells.
pub(crate) struct Answered {
    pub(crate) watched: Watched,
    pub(crate) seen: Seen,
    /// Whether it is to be said if the answer is valid.
    pub(crate) check: bool,
    /// Where it is to be said what the call cost.
    pub(crate) bill: Option<Bill>,
    pub(crate) api: Api,
    pub(crate) content_type: Option<String>,
    pub(crate) request_encoding: Option<String>,
    pub(crate) response_encoding: Option<String>,
    pub(crate) request: Vec<Bytes>,
    pub(crate) response: Vec<Bytes>,
}

/// Takes answers to look at.
pub(crate) struct Checks(SyncSender<Box<Answered>>);

impl Checks {
    /// Starts the thread that looks.
    pub(crate) fn start() -> std::io::Result<Checks> {
        let (sender, answers) = sync_channel::<Box<Answered>>(WAITING);
        std::thread::Builder::new().name("checks".into()).spawn(move || {
            for answered in answers {
                let seen = answered.look();
                answered.watched.tell(&seen);
            }
        })?;
        Ok(Checks(sender))
    }

    /// Looks at an answer soon, and tells the guard then; or tells it without, where too many wait.
    pub(crate) fn take(&self, answered: Box<Answered>) {
        if let Err(refused) = self.0.try_send(answered) {
            let (std::sync::mpsc::TrySendError::Full(answered) | std::sync::mpsc::TrySendError::Disconnected(answered)) =
                refused;
            answered.watched.tell(&answered.seen);
        }
    }
}

impl Answered {
    /// With what the answer tells; what can't be told stays as it is.
    fn look(&self) -> Seen {
        let Some(response) = decoded(&self.response, self.response_encoding.as_deref()) else {
            return self.seen;
        };
        let assembled = wire::assemble(self.api, self.content_type.as_deref(), &response).ok();
        let checked = self.check.then(|| self.checked(assembled.as_ref())).flatten();
        let cost = |assembled: &Assembled| {
            let answer = wire::parse_response(self.api, 0, assembled);
            Some(self.watched.cost(self.bill.as_ref()?, &answer))
        };
        Seen {
            invalid: checked.map(|checked| checked.is_err()).or(self.seen.invalid),
            cause: checked.and_then(Result::err).map(Cause::Word).or(self.seen.cause),
            cost_usd: assembled.as_ref().and_then(cost).flatten(),
            ..self.seen
        }
    }

    /// Whether it is valid, or a word for why not; `None` where that can't be told.
    fn checked(&self, assembled: Option<&Assembled>) -> Option<Result<(), &'static str>> {
        let request = decoded(&self.request, self.request_encoding.as_deref())?;
        let demands = Demands::of(self.api, &request).ok()?;
        // No JSON where some was to be is as bad.
        let checked = assembled.map_or(Err(Fault::Unreadable), |assembled| demands.check(self.api, assembled));
        Some(checked.map_err(|fault| fault.word()))
    }
}

fn decoded(pieces: &[Bytes], encoding: Option<&str>) -> Option<Vec<u8>> {
    let body = pieces.concat();
    let Some(mut decoder) = Decoder::new(encoding.unwrap_or_default(), LONGEST).ok()? else {
        return Some(body);
    };
    let mut plain = Vec::new();
    decoder.push(&body, &mut plain).ok()?;
    decoder.finish().ok()?;
    Some(plain)
}
