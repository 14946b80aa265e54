//! When a candidate's answer is not given to the client, so that the baseline answers instead; and how long a streamed one
//! is held until that is known.
//!
//! Pure: what config says, validated, and the deadline of one call.

use crate::headers;
use http::HeaderMap;
use serde::Deserialize;
use std::time::Duration;

/// The time for a candidate's whole answer, where config gives none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a streamed answer is held, where config does not say.
const DEFAULT_HOLD: Hold = Hold {
    time: Duration::from_secs(2),
    bytes: 64 << 10,
};
/// The most that may be held of one answer.
const MAX_HELD: usize = 32 << 20;

/// Why the baseline answered in a candidate's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No connection, an error status, an error inside the stream, an answer that breaks off or can't be read.
    Error,
    /// No valid answer within `fallback.timeout`.
    Timeout,
    /// A tool that was not offered, arguments that don't fit, JSON that doesn't parse or fit.
    InvalidOutput,
    /// Cut at a length.
    Truncated,
    /// A refusal.
    Refusal,
    /// Neither text nor tool calls.
    Empty,
    /// A tool call or JSON that was not whole at the limits of `hold`: what becomes of that, `hold` says and not `on`.
    #[serde(skip_deserializing)]
    Hold,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 7] = [
        Reason::Error,
        Reason::Timeout,
        Reason::InvalidOutput,
        Reason::Truncated,
        Reason::Refusal,
        Reason::Empty,
        Reason::Hold,
    ];

    /// The word in config, metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Error => "error",
            Reason::Timeout => "timeout",
            Reason::InvalidOutput => "invalid_output",
            Reason::Truncated => "truncated",
            Reason::Refusal => "refusal",
            Reason::Empty => "empty",
            Reason::Hold => "hold",
        }
    }
}

/// How much of a streamed answer is held, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// From the head of the answer on.
    pub time: Duration,
    /// As the candidate sends them.
    pub bytes: usize,
}

/// What config says of `hold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldGiven {
    /// `hold: none`.
    None,
    /// Limits; what is not given has its default.
    Limits {
        /// `for`.
        time: Option<Duration>,
        /// `bytes`.
        bytes: Option<u64>,
    },
}

/// What a route says of fallback, as config gives it.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// `fallback.on`.
    pub on: Option<Vec<Reason>>,
    /// `fallback.timeout`.
    pub timeout: Option<Duration>,
    /// `hold`.
    pub hold: Option<HoldGiven>,
}

/// When the baseline answers in a candidate's place. An answer that never came, or can't be read, is always a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// One bit a reason.
    on: u8,
    /// From the attempt's start to a valid answer, or to its release; `None` = the upstream's own deadlines alone.
    timeout: Option<Duration>,
    /// `None` = streams flow as they come.
    pub hold: Option<Hold>,
}

impl Fallback {
    /// For calls of no route: an answer that never came.
    pub const BARE: Fallback = Fallback {
        on: 0,
        timeout: None,
        hold: None,
    };

    /// Validates what config gives; `has_split` says whether any candidate can be asked.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub fn new(given: &Given, has_split: bool) -> Result<Fallback, String> {
        if !has_split {
            let key = match given {
                Given {
                    on: None,
                    timeout: None,
                    hold: None,
                } => return Ok(Fallback::BARE),
                Given {
                    on: None,
                    timeout: None,
                    ..
                } => "hold",
                _ => "fallback",
            };
            return Err(format!(
                "{key}: the route has no `split`, so there is no candidate's answer to check: add one, or take it out"
            ));
        }
        let on = match &given.on {
            Some(on) => on.iter().fold(0, |bits, on| bits | bit(*on)),
            None => u8::MAX,
        };
        if given.timeout.is_some() && on & bit(Reason::Timeout) == 0 {
            return Err(
                "fallback.timeout: it has no effect, since `fallback.on` does not list `timeout`: add it there".into(),
            );
        }
        let timeout = given.timeout.unwrap_or(DEFAULT_TIMEOUT);
        if timeout.is_zero() {
            return Err("fallback.timeout: it is 0, which no answer could meet; leave it out for 10s".into());
        }
        let timeout = (on & bit(Reason::Timeout) != 0).then_some(timeout);
        let hold = match given.hold.unwrap_or(HoldGiven::Limits {
            time: None,
            bytes: None,
        }) {
            HoldGiven::None => None,
            HoldGiven::Limits { time, bytes } => Some(limits(time, bytes, timeout)?),
        };
        Ok(Fallback { on, timeout, hold })
    }

    /// Whether the baseline answers for this reason.
    pub fn takes(&self, reason: Reason) -> bool {
        reason == Reason::Error || self.on & bit(reason) != 0
    }

    /// The time for the candidate's answer to a call with these headers: where the client says how long it waits, at
    /// least half of that is left to the baseline.
    pub fn time_for(&self, headers: &HeaderMap) -> Option<Duration> {
        let timeout = self.timeout?;
        Some(headers::client_timeout(headers).map_or(timeout, |client| timeout.min(client / 2)))
    }
}

fn limits(time: Option<Duration>, bytes: Option<u64>, timeout: Option<Duration>) -> Result<Hold, String> {
    let Some(bytes) = bytes.map_or(Some(DEFAULT_HOLD.bytes), |bytes| usize::try_from(bytes).ok()) else {
        return Err("hold.bytes: the most is 32MiB".into());
    };
    if !(1..=MAX_HELD).contains(&bytes) {
        return Err(format!(
            "hold.bytes: it is {bytes}: say from 1 to 32MiB, or `hold: none` to hold nothing"
        ));
    }
    if time == Some(Duration::ZERO) {
        return Err("hold.for: it is 0: write `hold: none` to hold nothing".into());
    }
    if let (Some(time), Some(timeout)) = (time, timeout)
        && time > timeout
    {
        return Err(format!(
            "hold.for: {time:?} is longer than fallback.timeout ({timeout:?}), at which the baseline answers: make it shorter"
        ));
    }
    Ok(Hold {
        time: time.unwrap_or(DEFAULT_HOLD.time),
        bytes,
    })
}

fn bit(reason: Reason) -> u8 {
    1 << reason as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(on: Option<&[Reason]>, timeout: Option<u64>, hold: Option<HoldGiven>) -> Result<Fallback, String> {
        let given = Given {
            on: on.map(<[Reason]>::to_vec),
            timeout: timeout.map(Duration::from_secs),
            hold,
        };
        Fallback::new(&given, true)
    }

    #[test]
    fn without_a_word_everything_is_checked_and_held() {
        let fallback = given(None, None, None).unwrap();
        assert!(Reason::ALL.iter().all(|reason| fallback.takes(*reason)));
        assert_eq!(fallback.hold, Some(DEFAULT_HOLD));
        assert_eq!(fallback.time_for(&HeaderMap::new()), Some(DEFAULT_TIMEOUT));
    }

    #[test]
    fn what_is_listed_is_a_reason_and_an_error_always_is() {
        let fallback = given(Some(&[Reason::Truncated]), None, None).unwrap();
        assert!(fallback.takes(Reason::Truncated) && fallback.takes(Reason::Error));
        assert!(!fallback.takes(Reason::Refusal) && !fallback.takes(Reason::InvalidOutput));
        assert_eq!(
            fallback.time_for(&HeaderMap::new()),
            None,
            "without `timeout` no deadline"
        );
    }

    #[test]
    fn half_of_a_clients_patience_is_the_baselines() {
        let fallback = given(None, Some(4), None).unwrap();
        for (says, expected) in [
            ("600", 4000),
            ("6", 3000),
            ("0.5", 250),
            ("soon", 4000),
            ("-1", 4000),
            ("1e999", 4000),
        ] {
            let headers = HeaderMap::from_iter([("x-stainless-timeout".parse().unwrap(), says.parse().unwrap())]);
            assert_eq!(
                fallback.time_for(&headers),
                Some(Duration::from_millis(expected)),
                "{says}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let limits = |time: Option<u64>, bytes| {
            Some(HoldGiven::Limits {
                time: time.map(Duration::from_secs),
                bytes,
            })
        };
        for (wrong, words) in [
            (given(Some(&[Reason::Error]), Some(4), None), "does not list `timeout`"),
            (given(None, Some(0), None), "it is 0"),
            (
                given(None, Some(1), limits(Some(2), None)),
                "longer than fallback.timeout",
            ),
            (given(None, None, limits(Some(0), None)), "hold: none"),
            (given(None, None, limits(None, Some(0))), "from 1 to 32MiB"),
            (given(None, None, limits(None, Some(u64::MAX))), "32MiB"),
            (
                Fallback::new(
                    &Given {
                        hold: Some(HoldGiven::None),
                        ..Given::default()
                    },
                    false,
                ),
                "hold: the route has no `split`",
            ),
        ] {
            let error = wrong.unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(Fallback::new(&Given::default(), false), Ok(Fallback::BARE));
    }
}
