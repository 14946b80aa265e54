//! Whether the answers of guarded routes are valid, looked at behind the calls' backs: the guard holds both sides to the same
//! rules. What comes faster than it can be looked at is not counted as either.

use crate::guard::Watched;
use bytes::Bytes;
use std::sync::mpsc::{SyncSender, sync_channel};
use understudy_call::call::Api;
use understudy_call::check::Demands;
use understudy_call::guard::Seen;
use understudy_call::wire;
use understudy_call::wire::encoding::Decoder;

/// Answers that wait, at most.
const WAITING: usize = 64;
/// Bytes of a body that are looked at, at most.
const LONGEST: u64 = 4 << 20;

/// A call that ended well, as far as HTTP tells.
pub(crate) struct Answered {
    pub(crate) watched: Watched,
    pub(crate) seen: Seen,
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
                let invalid = answered.is_invalid();
                let Answered { watched, seen, .. } = *answered;
                watched.tell(&Seen { invalid, ..seen });
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
    /// `None` where that can't be told.
    fn is_invalid(&self) -> Option<bool> {
        let request = decoded(&self.request, self.request_encoding.as_deref())?;
        let response = decoded(&self.response, self.response_encoding.as_deref())?;
        let demands = Demands::of(self.api, &request).ok()?;
        match wire::assemble(self.api, self.content_type.as_deref(), &response) {
            Ok(assembled) => Some(demands.check(self.api, &assembled).is_err()),
            // No JSON where some was to be.
            Err(_) => Some(true),
        }
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
