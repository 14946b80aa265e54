//! The guard: takes a candidate out of a route's split once it does worse than the concurrent baseline by more than the
//! route allows. Counted in calls, told after every call, and never against a fixed figure: an outage of the baseline, or
//! one that is itself worse, takes nobody out.
//!
//! The rules are [`understudy_call::guard`]'s; here is what of a call's end is told to them, and what follows.

use crate::bill::Bill;
use crate::config::{Bodies, Config};
use crate::fallback::Reason;
use crate::proxy::Proxy;
use crate::route::ValidRoute;
use crate::split::Arm;
use crate::tee::BodyCopy;
use crate::valid::Answered;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use understudy_call::call::Response;
use understudy_call::control::Trip;
use understudy_call::frame::FrameHead;
use understudy_call::guard::{Cause, Limits, Seen, Watch, Worse};
use understudy_call::price::PriceTable;
use understudy_call::record::{Attempt, Outcome};
use understudy_client::UpstreamConfig;

/// Routes and tasks watched at once; beyond it the longest unused goes.
const WATCHED: usize = 1024;

/// All that is watched.
#[derive(Debug, Default)]
pub(crate) struct Guards(Mutex<Posts>);

#[derive(Debug, Default)]
struct Posts {
    of: HashMap<(String, Option<String>), Post>,
    calls: u64,
    /// Sides of routes whose calls can't be priced, where that was said.
    unpriced: HashSet<(String, String, String)>,
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
    /// Which conversation it is of.
    conversation: Option<u64>,
    /// Why the candidate's answer was not the client's: the reason of its route's `fallback`, and what was seen.
    pub(crate) lost: Option<(Reason, Cause)>,
}

impl Watched {
    /// A call that a guarded route gave to a candidate, or to its baseline.
    pub(crate) fn of(
        proxy: &Arc<Proxy>,
        route: &ValidRoute,
        task: Option<&str>,
        candidate: Option<&str>,
        affinity_key: Option<&str>,
    ) -> Option<Watched> {
        let hash = |key: &str| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            hasher.finish()
        };
        Some(Watched {
            limits: route.guard?,
            proxy: proxy.clone(),
            route: route.id.clone(),
            task: task.filter(|_| route.matching.task.is_some()).map(str::to_owned),
            stamp: route.stamp.clone(),
            candidate: candidate.map(str::to_owned),
            conversation: affinity_key.map(hash),
            lost: None,
        })
    }

    /// Whether what it is told takes a look at request and answer.
    pub(crate) fn looks_at_bodies(&self) -> bool {
        self.limits.invalid.is_some() || self.limits.cost.is_some()
    }

    /// The call ended as its record says; what of the bodies was copied is there too.
    pub(crate) fn ended(self, head: &FrameHead, request: &BodyCopy, response: &BodyCopy) {
        let Some(seen) = self.seen(head) else { return };
        let check = seen.failed == Some(false) && seen.invalid.is_none() && self.limits.invalid.is_some();
        let bill = self.limits.cost.and_then(|_| Bill::of(head));
        let wanted = check || bill.is_some();
        let copies = request.whole().zip(response.whole()).filter(|_| wanted);
        let Some(((request, response), api)) = copies.zip(head.api) else {
            self.tell(&seen);
            return;
        };
        let proxy = self.proxy.clone();
        proxy.checks.take(Box::new(Answered {
            watched: self,
            seen,
            check,
            bill,
            api,
            content_type: head.content_type.clone(),
            request_encoding: head.request_encoding.clone(),
            response_encoding: head.content_encoding.clone(),
            request,
            response,
        }));
    }

    /// What the call cost, in US dollars; what is not known is said, once.
    pub(crate) fn cost(&self, bill: &Bill, answer: &Response) -> Option<f64> {
        let upstream = |name: &str| self.proxy.upstreams.get(name).map(|upstream| &upstream.config);
        let cost = bill.cost(answer, &self.proxy.prices, &upstream);
        let side = self.candidate.as_deref().unwrap_or("the baseline");
        if cost.is_none() && self.proxy.guards.is_first_unpriced(&self.stamp, &self.route, side) {
            tracing::warn!(
                route = self.route,
                side,
                "what a call cost is not known: such calls are not guarded on cost (`prices: FILE` gives models a price, `price: {{ gpu_hour }}` an upstream)"
            );
        }
        cost
    }

    /// Tells the guard, and takes out whom it finds worse.
    pub(crate) fn tell(&self, seen: &Seen) {
        // Calls that were on their way when it was taken out are not held against it once it is back.
        if self.is_out() {
            return;
        }
        let Some(Worse { candidate, metric, why }) = self.proxy.guards.saw(self, seen) else {
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
        let invalid = [Reason::InvalidOutput, Reason::Truncated, Reason::Refusal, Reason::Empty];
        let reason = self.lost.map(|(reason, _)| reason);
        let ended = ended_ill(attempt);
        let (failed, invalid) = match reason {
            Some(reason) if invalid.contains(&reason) => (Some(false), Some(true)),
            // Not whole at the limits of `hold` is neither: the baseline was asked all the same.
            Some(Reason::Hold) => (Some(false), Some(false)),
            Some(_) => (Some(true), None),
            None => (Some(ended.is_some()), None),
        };
        Some(Seen {
            failed,
            invalid,
            fell_back: Some(reason.is_some()),
            cause: self.lost.map(|(_, cause)| cause).or(ended),
            duration_ms: duration(attempt, failed == Some(true), reason),
            cost_usd: None,
            conversation: self.conversation,
        })
    }
}

/// What is wrong with how an attempt ended, as far as HTTP tells.
fn ended_ill(attempt: &Attempt) -> Option<Cause> {
    let status = attempt.status.and_then(|status| u16::try_from(status).ok());
    match status.filter(|status| *status >= 400) {
        Some(status) => Some(Cause::Status(status)),
        None => (attempt.outcome != Outcome::Ok).then_some(Cause::Word(attempt.outcome.as_str())),
    }
}

/// How long an answer took, or was waited for. A failure that came soon tells nothing of it.
fn duration(attempt: &Attempt, failed: bool, lost: Option<Reason>) -> Option<f64> {
    let ran_out = attempt.outcome == Outcome::Timeout || lost == Some(Reason::Timeout);
    attempt.duration_ms.filter(|_| ran_out || !failed)
}

/// A limit of a guard that has nothing to go by, or little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwatched {
    /// The candidate that it does not watch.
    pub candidate: String,
    /// The limit: `error`, `invalid`, `fallback`, `p95_latency`, `cost`, `agreement`.
    pub metric: &'static str,
    /// What is missing, in a sentence.
    pub why: String,
}

/// What the guard of a route can't watch under this config.
pub fn unwatched(route: &ValidRoute, config: &Config) -> Vec<Unwatched> {
    let Some(limits) = &route.guard else {
        return Vec::new();
    };
    let of_baseline = |arm: &&Arm| arm.upstream == route.baseline;
    let has_baseline = route.arms.iter().filter(of_baseline).any(|arm| arm.weight > 0);
    let mut found = Vec::new();
    for arm in route.arms.iter().filter(|arm| !of_baseline(arm)) {
        let mut tell = |metric, why: String| {
            let candidate = arm.upstream.clone();
            found.push(Unwatched { candidate, metric, why });
        };
        let compared = [
            ("error", limits.error),
            ("invalid", limits.invalid),
            ("p95_latency", limits.p95_latency),
            ("cost", limits.cost),
        ];
        let compared = compared.iter().filter(|(_, limit)| limit.is_some() && !has_baseline);
        for (metric, _) in compared {
            let why = format!(
                "not guarded on {metric} at its highest weight: {} has no calls then to be compared with",
                route.baseline
            );
            tell(metric, why);
        }
        if limits.cost.is_some()
            && let Some(model) = unpriced(config.upstreams.get(&arm.upstream), &config.prices)
        {
            tell(
                "cost",
                format!("not guarded on cost: the price of {model} is not known"),
            );
        }
        if limits.agreement.is_some()
            && let Some(why) = disagreements_unseen(route, config)
        {
            tell("agreement", why);
        }
    }
    found
}

/// The model that a candidate is asked for, where its price is not known.
fn unpriced<'a>(candidate: Option<&'a UpstreamConfig>, prices: &PriceTable) -> Option<&'a str> {
    let candidate = candidate.filter(|candidate| candidate.price.is_none())?;
    candidate
        .model
        .as_deref()
        .filter(|model| prices.lookup(model).is_none())
}

/// Why the baseline is not asked again what a candidate answered, or seldom.
fn disagreements_unseen(route: &ValidRoute, config: &Config) -> Option<String> {
    let baseline = &route.baseline;
    let has_key = |upstream: &UpstreamConfig| upstream.key.is_some() || upstream.sign.is_some();
    if config.capture.bodies == Bodies::None {
        return Some(
            "not guarded on agreement: what is compared is kept calls, and `capture.bodies: none` keeps no text".into(),
        );
    }
    if !config.upstreams.get(baseline).is_some_and(has_key) {
        return Some(format!(
            "not guarded on agreement: {baseline} is asked again with a key of its own, and has none here (`key_env`)"
        ));
    }
    let percent = config.capture.sample * 100.0;
    (percent < 100.0).then(|| {
        format!("guarded on agreement by {percent} of 100 of its calls: the others are not kept (`capture.sample`)")
    })
}

impl Guards {
    /// Whether this is the first time that a side of a route is seen to have no price.
    fn is_first_unpriced(&self, stamp: &str, route: &str, side: &str) -> bool {
        let mut posts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if posts.unpriced.len() >= WATCHED {
            posts.unpriced.clear();
        }
        posts
            .unpriced
            .insert((stamp.to_owned(), route.to_owned(), side.to_owned()))
    }

    /// Forgets what was seen of a candidate that is out, by whichever replica's evidence.
    pub(crate) fn forget(&self, route: &str, trip: &Trip) {
        let mut posts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |task: &Option<String>| trip.task.is_none() || *task == trip.task;
        for ((of, task), post) in &mut posts.of {
            if of == route && is_meant(task) && post.stamp == trip.stamp {
                post.watch.forget(&trip.candidate);
            }
        }
    }

    fn saw(&self, call: &Watched, seen: &Seen) -> Option<Worse> {
        let mut posts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        posts.calls += 1;
        let Posts { of, calls, .. } = &mut *posts;
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
