//! The guard: takes a candidate out of a route's split once it does worse than the concurrent baseline by more than the
//! route allows. Counted in calls, told after every call, and never against a fixed figure: an outage of the baseline, or
//! one that is itself worse, takes nobody out.
//!
//! The rules are [`understudy_call::guard`]'s; here is what of a call's end is told to them, and what follows.

use crate::proxy::Proxy;
use crate::route::ValidRoute;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use understudy_call::control::Trip;
use understudy_call::frame::FrameHead;
use understudy_call::guard::{Limits, Seen, Watch, Worse};
use understudy_call::record::{Attempt, Outcome};

/// Routes and tasks watched at once; beyond it the longest unused goes.
const WATCHED: usize = 1024;

/// All that is watched.
#[derive(Debug, Default)]
pub(crate) struct Guards(Mutex<Posts>);

#[derive(Debug, Default)]
struct Posts {
    of: HashMap<(String, Option<String>), Post>,
    calls: u64,
}

/// A route, or one task of it, under watch.
#[derive(Debug)]
struct Post {
    watch: Watch,
    /// The split and guard that it is watched under.
    stamp: String,
    /// The number of the call that it was used for last.
    used: u64,
}

/// A call of a guarded route, and on which side it is.
pub(crate) struct Watched {
    proxy: Arc<Proxy>,
    route: String,
    task: Option<String>,
    stamp: String,
    limits: Limits,
    /// Who was to answer; `None` = the baseline.
    candidate: Option<String>,
    /// Whether the answer is known not to be valid, or to be valid.
    pub(crate) invalid: Option<bool>,
}

impl Watched {
    /// A call that a guarded route gave to a candidate, or to its baseline.
    pub(crate) fn of(
        proxy: &Arc<Proxy>,
        route: &ValidRoute,
        task: Option<&str>,
        candidate: Option<&str>,
    ) -> Option<Watched> {
        Some(Watched {
            limits: route.guard?,
            proxy: proxy.clone(),
            route: route.id.clone(),
            task: task.filter(|_| route.matching.task.is_some()).map(str::to_owned),
            stamp: route.stamp.clone(),
            candidate: candidate.map(str::to_owned),
            invalid: None,
        })
    }

    /// The call ended as its record says.
    pub(crate) fn ended(self, head: &FrameHead) {
        let Some(seen) = self.seen(head) else { return };
        // Calls that were on their way when it was taken out are not held against it once it is back.
        if self.is_out() {
            return;
        }
        let Some(Worse { candidate, metric, why }) = self.proxy.guards.saw(&self, &seen) else {
            return;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let trip = Trip {
            candidate,
            task: self.task.clone(),
            metric: metric.to_owned(),
            why,
            at: i64::try_from(now.as_micros()).unwrap_or(i64::MAX),
            stamp: self.stamp.clone(),
        };
        self.proxy.trip(&self.route, trip);
    }

    fn is_out(&self) -> bool {
        let controls = self.proxy.controls.load();
        let trip = |candidate| {
            controls
                .get(&self.route)?
                .trip_of(candidate, self.task.as_deref(), &self.stamp)
        };
        self.candidate.as_deref().and_then(trip).is_some()
    }

    fn seen(&self, head: &FrameHead) -> Option<Seen> {
        let who = self.candidate.as_deref().unwrap_or(&head.upstream);
        let attempt = head.attempts.iter().find(|attempt| attempt.upstream == who)?;
        // A client that went away says nothing of who was to answer.
        if attempt.outcome == Outcome::ClientClosed {
            return None;
        }
        let failed = attempt.outcome != Outcome::Ok || attempt.status.is_some_and(|status| status >= 400);
        let is_invalid = self.invalid.unwrap_or_default();
        Some(Seen {
            failed: Some(failed && !is_invalid),
            invalid: if failed && !is_invalid { None } else { self.invalid },
            fell_back: Some(!attempt.served && head.attempts.len() > 1),
            duration_ms: duration(attempt, failed && !is_invalid),
        })
    }
}

/// How long an answer took. A failure that came soon is none; one that never came took for ever.
fn duration(attempt: &Attempt, failed: bool) -> Option<f64> {
    match attempt.outcome {
        Outcome::Timeout => Some(f64::INFINITY),
        _ if failed => None,
        _ => attempt.duration_ms,
    }
}

impl Guards {
    fn saw(&self, call: &Watched, seen: &Seen) -> Option<Worse> {
        let mut posts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        posts.calls += 1;
        let Posts { of, calls } = &mut *posts;
        let key = (call.route.clone(), call.task.clone());
        if of.len() >= WATCHED && !of.contains_key(&key) {
            let oldest = of.iter().min_by_key(|(_, post)| post.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                of.remove(&oldest);
            }
        }
        let begun = || Post {
            watch: Watch::new(call.limits),
            stamp: call.stamp.clone(),
            used: 0,
        };
        let post = of.entry(key).or_insert_with(begun);
        if post.stamp != call.stamp {
            *post = begun();
        }
        post.used = *calls;
        match &call.candidate {
            Some(candidate) => post.watch.canary(candidate, seen),
            None => post.watch.baseline(seen),
        }
    }
}
