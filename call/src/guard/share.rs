//! A share of calls under watch, and why the candidate's latest ones counted against it: the sentence of a trip names that.
//! Pure: no IO, no clock.

use crate::detector::{Detector, Tally};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// Calls whose cause is remembered, the latest; the evidence of a trip is hardly ever of more.
const LATEST: usize = 256;
/// Causes that a sentence names.
const NAMED: usize = 3;

/// Why a call counts against a candidate. Never a word of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// An error status.
    Status(u16),
    /// A word for how an answer ended, or for what is wrong with it.
    Word(&'static str),
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Status(status) => write!(out, "status {status}"),
            Cause::Word(word) => out.write_str(word),
        }
    }
}

/// A detector of a share, and the causes of the candidate's latest losses; `None` = not known.
#[derive(Clone, Debug)]
pub(super) struct Share {
    detector: Detector,
    latest: VecDeque<Option<Cause>>,
}

/// The evidence of an alarm, and the causes in words.
pub(super) type Told = (Tally, String);

impl Share {
    /// Nothing seen yet; see [`Detector::new`].
    pub(super) fn new(tolerance: f64, run_length: f64) -> Share {
        Share {
            detector: Detector::new(tolerance, run_length),
            latest: VecDeque::new(),
        }
    }

    /// A call of the candidate ended.
    pub(super) fn canary(&mut self, loss: f64, cause: Option<Cause>) -> Option<Told> {
        self.note(loss, cause);
        let tally = self.detector.canary(loss)?;
        Some(self.tell(tally))
    }

    /// A call of the candidate ended, where the baseline's loss is 0 whatever it does.
    pub(super) fn canary_alone(&mut self, loss: f64, cause: Option<Cause>) -> Option<Told> {
        self.note(loss, cause);
        let tally = self.detector.canary_alone(loss)?;
        Some(self.tell(tally))
    }

    /// A call of the baseline ended.
    pub(super) fn baseline(&mut self, loss: f64) -> Option<Told> {
        let tally = self.detector.baseline(loss)?;
        Some(self.tell(tally))
    }

    fn note(&mut self, loss: f64, cause: Option<Cause>) {
        if loss > 0.0 {
            if self.latest.len() == LATEST {
                self.latest.pop_front();
            }
            self.latest.push_back(cause);
        }
    }

    /// What is counted are the candidate's latest calls, so the causes are those of as many losses.
    fn tell(&self, tally: Tally) -> Told {
        let losses = self.latest.len().min(tally.canary_loss.round() as usize);
        let mut causes: BTreeMap<Cause, usize> = BTreeMap::new();
        for cause in self.latest.iter().rev().take(losses).flatten() {
            *causes.entry(*cause).or_default() += 1;
        }
        let mut causes: Vec<(Cause, usize)> = causes.into_iter().collect();
        causes.sort_by_key(|(cause, count)| (Reverse(*count), *cause));
        let named: Vec<String> = causes
            .iter()
            .take(NAMED)
            .map(|(cause, count)| format!("{count} of {losses} for `{cause}`"))
            .collect();
        let words = match named.is_empty() {
            true => String::new(),
            false => format!(" ({})", named.join(", ")),
        };
        (tally, words)
    }
}
