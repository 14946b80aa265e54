//! What is asked in a run, call by call, each on a task of its own: of the candidate, of the baseline, or of both at once.

use super::super::ask::{Arm, Reply};
use super::super::pace::Pace;
use super::super::sample::Drawn;
use super::super::{ReplayConfig, judged, row_of};
use crate::score::{AnswerKind, LabelSet, Score};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;
use understudy_call::price::PriceTable;
use understudy_call::record::ScoreRecord;

/// What those that ask need, each on a thread of its own.
pub(super) struct Asking {
    pub(super) candidate: Arm,
    pub(super) baseline: Option<Arm>,
    pub(super) prices: PriceTable,
    pub(super) labels: LabelSet,
    pub(super) config: ReplayConfig,
    pub(super) pace: Pace,
    pub(super) free: Semaphore,
    /// The baseline need not be asked any more.
    pub(super) floor_is_known: AtomicBool,
}

/// A call to ask: of the candidate, of the baseline, or both.
#[derive(Clone)]
pub(super) struct Todo {
    pub(super) call: Arc<Drawn>,
    /// Place in the sample: rows are in the order of sampling, which depends on no answer.
    pub(super) place: usize,
    pub(super) ask_candidate: bool,
    pub(super) ask_baseline: bool,
}

/// What came of it.
pub(super) struct Asked {
    pub(super) todo: Todo,
    pub(super) candidate: Option<Answered>,
    pub(super) baseline: Option<Answered>,
}

/// A reply, scored.
pub(super) struct Answered {
    pub(super) reply: Reply,
    pub(super) kind: AnswerKind,
    pub(super) score: Score,
    pub(super) row: ScoreRecord,
}

impl Asking {
    /// Asks when there is room; nothing where the run has ended.
    pub(super) async fn ask(self: Arc<Asking>, todo: Todo) -> Asked {
        let Ok(_permit) = self.free.acquire().await else {
            return Asked {
                todo,
                candidate: None,
                baseline: None,
            };
        };
        let baseline = self.baseline.as_ref().filter(|_| todo.ask_baseline);
        let baseline = baseline.filter(|_| !self.floor_is_known.load(Ordering::Relaxed));
        let (candidate, baseline) = tokio::join!(
            self.answer(Some(&self.candidate).filter(|_| todo.ask_candidate), &todo.call),
            self.answer(baseline, &todo.call)
        );
        Asked {
            todo,
            candidate,
            baseline,
        }
    }

    async fn answer(&self, arm: Option<&Arm>, call: &Drawn) -> Option<Answered> {
        let arm = arm?;
        let reply = arm.ask(call, &self.config, &self.pace).await?;
        if reply.was_sent() {
            self.pace.settle(arm.cost(call, &reply, &self.prices));
        }
        let (kind, score) = judged(call, reply.answer.as_ref(), &self.labels);
        let row = row_of(&self.config.task, call, &reply, arm, &self.prices, kind, &score);
        Some(Answered {
            reply,
            kind,
            score,
            row,
        })
    }
}
