//! Rollouts: how a candidate's weight grows step by step, and when it stays, or goes back.
//!
//! Deciding is pure. What was decided is a control object, made only upon the one that was decided on, so several collectors
//! and one that was restarted go the same way, one step at a time.

use crate::control;
use crate::scan::{CallFilter, ScanError, for_each_call};
use crate::store::{Store, StoreError};
use crate::table::Columns;
use crate::verdict::{Decision, Verdict};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Instant;
use understudy_call::control::{Control, Frozen, Step};

/// A split route as its config says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// Its id.
    pub id: String,
    /// Hash of its split and guard.
    pub stamp: String,
    /// The task that it takes; `None` where it takes others too, so that no verdict is about it.
    pub task: Option<String>,
    /// Who may take part, the one to step first in front.
    pub candidates: Vec<Candidate>,
    /// How weights grow; `None` = not by themselves.
    pub steps: Option<Steps>,
    /// Whether a drift or a stale verdict takes the split back, rather than freeze it.
    pub rollback_on_drift: bool,
}

/// A candidate of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// Its upstream's name.
    pub name: String,
    /// Its version as it is configured now.
    pub version: Option<String>,
    /// The weight that it begins with.
    pub begins: u32,
    /// The highest that it may have.
    pub highest: u32,
}

/// How weights grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Steps {
    /// What is added at a step.
    pub weight: u32,
    /// The shortest time at a step, microseconds.
    pub interval: i64,
    /// Fewest canaried calls at a step.
    pub min_calls: u64,
    /// Checks that may fail at a step; the next one takes it back.
    pub threshold: u32,
    /// Whether steps are taken without a person.
    pub auto: bool,
}

/// What is known of a route besides its config and control.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Microseconds since the epoch.
    pub now: i64,
    /// Microseconds since the step began, or since its last check failed, where a controller watched it; else told by `now`.
    pub waited: Option<i64>,
    /// Calls that went to each candidate since the step began.
    pub canaried: BTreeMap<String, u64>,
    /// Verdicts on the route's task.
    pub verdicts: Vec<Verdict>,
    /// Candidates whose scores are all too old by now: when the newest was judged, microseconds since the epoch.
    pub stale: BTreeMap<String, i64>,
    /// How its task drifted, if it did.
    pub drifted: Option<String>,
}

impl Facts {
    /// Takes the verdicts on the route's task; one whose scores are all too old is none.
    pub fn judged(&mut self, verdicts: Vec<Verdict>) {
        for verdict in verdicts {
            match verdict.stale {
                Some(newest) => drop(self.stale.insert(verdict.candidate, newest)),
                None => self.verdicts.push(verdict),
            }
        }
    }

    /// Microseconds since the step began, or since its last check failed.
    fn waited(&self, step: &Step) -> i64 {
        self.waited.unwrap_or_else(|| by_wall_clock(step, self.now))
    }
}

/// The same by the wall clock. One that jumped back makes a step that is still to come of one that began: of that the time
/// is not known, so it counts from now.
fn by_wall_clock(step: &Step, now: i64) -> i64 {
    now.saturating_sub(step.began_at.max(step.checked_at)).max(0)
}

/// How long steps have lasted, as a controller sees it: by the wall clock until it first saw them, and from then on by one
/// that never jumps.
#[derive(Debug, Default)]
pub struct Ages(BTreeMap<String, Age>);

#[derive(Debug)]
struct Age {
    /// Which step, and which check of it.
    of: (i64, i64),
    /// Microseconds that it had lasted when it was first seen.
    before: i64,
    seen: Instant,
}

impl Ages {
    /// Microseconds since the route's step began, or since its last check failed. `now` is what the wall clock says,
    /// microseconds since the epoch.
    pub fn waited(&mut self, route: &str, step: &Step, now: i64, instant: Instant) -> i64 {
        let of = (step.began_at, step.checked_at);
        if self.0.get(route).is_none_or(|age| age.of != of) {
            let before = by_wall_clock(step, now);
            let age = Age {
                of,
                before,
                seen: instant,
            };
            self.0.insert(route.to_owned(), age);
        }
        self.0.get(route).map_or(0, |age| {
            let since = instant.saturating_duration_since(age.seen).as_micros();
            age.before.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
        })
    }
}

/// From when on a step's calls are counted, microseconds since the epoch: a step that is still to come, as the wall clock has
/// it, began as long ago as it was waited for.
pub fn counts_from(step: &Step, now: i64, waited: i64) -> i64 {
    step.began_at.min(now.saturating_sub(waited))
}

/// What is to be done with a route.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Nothing, for this reason.
    Stay(String),
    /// The rollout begins.
    Start,
    /// This candidate gets this weight.
    Step(String, u32),
    /// A check failed; weights stay.
    Fail(String),
    /// Weights stay until a person resumes.
    Freeze(String),
    /// All goes to the baseline.
    Rollback(String),
}

/// What is to be done with a route now. With `by_hand` a person asks for the next step: time, calls and verdict are theirs
/// to judge then.
pub fn decide(route: &Route, control: Option<&Control>, facts: &Facts, by_hand: bool) -> Move {
    let nothing = Control::default();
    let control = control.unwrap_or(&nothing);
    let stay = |why: &str| Move::Stay(why.to_owned());
    let weight = |candidate: &Candidate| weight(control, route, candidate);
    let at_work: Vec<&Candidate> = route.candidates.iter().filter(|one| weight(one) > 0).collect();
    let tripped = |candidate: &Candidate| {
        control
            .trips
            .iter()
            .any(|trip| trip.candidate == candidate.name && trip.stamp == route.stamp)
    };
    if at_work.is_empty() {
        return match control.action == "rollback" && control.stamp == route.stamp {
            true => Move::Stay(format!(
                "taken back by {}: {} (`understudy rollout resume {}` begins anew)",
                control.by, control.why, route.id
            )),
            false => stay("its weights are 0"),
        };
    }
    let is_frozen = control.frozen.is_some();
    let mut troubles = at_work.iter().flat_map(|candidate| troubles(route, candidate, facts));
    if !by_hand
        && !is_frozen
        && let Some(why) = troubles.find(|why| !control.accepted.contains(&key_of(why)))
    {
        return if route.rollback_on_drift {
            Move::Rollback(why)
        } else {
            Move::Freeze(why)
        };
    }
    let Some(steps) = &route.steps else {
        return stay("it has no rollout");
    };
    if let Some(frozen) = &control.frozen {
        return Move::Stay(format!("frozen: {}", frozen.why));
    }
    let Some(step) = control.step.as_ref().filter(|_| control.stamp == route.stamp) else {
        return if by_hand {
            next(route, steps, control)
        } else {
            Move::Start
        };
    };
    if let Some(candidate) = at_work.iter().find(|candidate| tripped(candidate)) {
        return Move::Stay(format!("the guard took {} out", candidate.name));
    }
    if by_hand {
        return next(route, steps, control);
    }
    let left = steps.interval.saturating_sub(facts.waited(step));
    if left > 0 {
        return Move::Stay(format!(
            "the step lasts another {} s",
            left.saturating_add(999_999) / 1_000_000
        ));
    }
    // Also at its highest weight: evidence may turn against who is there.
    let held = |candidate: &&Candidate| {
        let own = facts
            .verdicts
            .iter()
            .find(|verdict| verdict.candidate == candidate.name)?;
        let why = || format!("the verdict on {} is hold: {}", own.candidate, own.reason);
        (route.task.is_some() && own.verdict == Decision::Hold).then(why)
    };
    if let Some(why) = at_work.iter().find_map(held) {
        return match step.failed_checks >= steps.threshold {
            true => Move::Rollback(why),
            false => Move::Fail(why),
        };
    }
    let move_ahead = next(route, steps, control);
    let Move::Step(name, _) = &move_ahead else {
        return move_ahead;
    };
    let calls = facts.canaried.get(name).copied().unwrap_or_default();
    if calls < steps.min_calls {
        return Move::Stay(format!(
            "{calls} of the step's {} calls have gone to {name}",
            steps.min_calls
        ));
    }
    if route.task.is_some() {
        match facts.verdicts.iter().find(|verdict| verdict.candidate == *name) {
            None => return Move::Stay(format!("there is no verdict on {name} yet: `understudy replay` it")),
            Some(Verdict {
                verdict: Decision::NeedMore(pairs),
                ..
            }) => {
                return Move::Stay(format!("the verdict on {name} needs {pairs} more pairs"));
            }
            // Who is held failed above.
            Some(_) => {}
        }
    }
    match steps.auto {
        true => move_ahead,
        false => Move::Stay(format!(
            "ready for the next step: `understudy rollout promote {}`",
            route.id
        )),
    }
}

/// All reasons why a candidate's evidence does not hold any more.
fn troubles(route: &Route, candidate: &Candidate, facts: &Facts) -> Vec<String> {
    let name = &candidate.name;
    let drift = facts
        .drifted
        .iter()
        .map(|drifted| format!("its task drifted: {drifted}"));
    let mut troubles: Vec<String> = drift.collect();
    if route.task.is_none() {
        return troubles;
    }
    if let Some(newest) = facts.stale.get(name) {
        // By its time it is told from one that was renewed since, and grew too old again.
        let newest = Timestamp::from_microsecond(*newest).unwrap_or(Timestamp::UNIX_EPOCH);
        troubles.push(format!(
            "the verdict on {name} is older than `verdict.max_age`: its newest score is of {newest:.0}"
        ));
    }
    let verdict = facts.verdicts.iter().find(|verdict| verdict.candidate == *name);
    let judged = verdict.and_then(|verdict| verdict.candidate_version.as_ref());
    if let (Some(judged), Some(now)) = (judged, &candidate.version)
        && judged != now
    {
        troubles.push(format!("{name} is version {now} now, the verdict is on {judged}"));
    }
    troubles
}

/// The next step: of the first candidate that can still grow.
fn next(route: &Route, steps: &Steps, control: &Control) -> Move {
    let candidate = route.candidates.iter().find(|candidate| {
        let weight = weight(control, route, candidate);
        weight > 0 && weight < candidate.highest
    });
    match candidate {
        Some(candidate) => {
            let weight = weight(control, route, candidate);
            let weight = weight.saturating_add(steps.weight).min(candidate.highest);
            Move::Step(candidate.name.clone(), weight)
        }
        None => Move::Stay("it is at its highest weight".into()),
    }
}

/// The candidate whose next step takes so many calls, where one is taken without a person: nothing else hangs on how many
/// calls went to whom.
pub fn awaited(route: &Route, control: &Control) -> Option<(String, u64)> {
    let steps = route.steps.filter(|steps| steps.auto && steps.min_calls > 0)?;
    match next(route, &steps, control) {
        Move::Step(candidate, _) => Some((candidate, steps.min_calls)),
        _ => None,
    }
}

/// The weight of a candidate, trips aside.
pub fn weight(control: &Control, route: &Route, candidate: &Candidate) -> u32 {
    let set = control.weight_of(&candidate.name, &route.stamp);
    set.unwrap_or(candidate.begins).min(candidate.highest)
}

/// Puts a move into a control; `false` = there is nothing to write.
pub fn put(control: &mut Control, route: &Route, decided: &Move, by: &str, now: i64) -> bool {
    if matches!(decided, Move::Stay(_)) {
        return false;
    }
    if control.stamp != route.stamp {
        control.weights.clear();
        control.step = None;
        control.stamp = route.stamp.clone();
    }
    let begun = |number: u32| Step {
        number,
        began_at: now,
        ..Step::default()
    };
    for candidate in route.candidates.iter().filter(|candidate| candidate.begins > 0) {
        control
            .weights
            .entry(candidate.name.clone())
            .or_insert(candidate.begins);
    }
    let (action, why) = match decided {
        Move::Stay(_) => return false,
        Move::Start => {
            control.step = Some(begun(1));
            ("start", "the rollout begins".to_owned())
        }
        Move::Step(candidate, weight) => {
            control.step = Some(begun(
                control.step.as_ref().map_or(1, |step| step.number.saturating_add(1)),
            ));
            control.weights.insert(candidate.clone(), *weight);
            ("step", format!("{candidate} gets {weight}"))
        }
        Move::Fail(why) => {
            let step = control.step.get_or_insert_with(|| begun(1));
            step.failed_checks = step.failed_checks.saturating_add(1);
            step.checked_at = now;
            ("check", why.clone())
        }
        Move::Freeze(why) => {
            control.frozen = Some(Frozen {
                why: why.clone(),
                at: now,
                by_hand: by != CONTROLLER,
            });
            (if by == CONTROLLER { "freeze" } else { "pause" }, why.clone())
        }
        Move::Rollback(why) => {
            for weight in control.weights.values_mut() {
                *weight = 0;
            }
            control.step = None;
            ("rollback", why.clone())
        }
    };
    control.action = action.to_owned();
    control.why = why;
    control.by = by.to_owned();
    control.at = now;
    true
}

/// Who writes what nobody asked for.
pub const CONTROLLER: &str = "rollout";

/// By what a reason is known again: the figures of a drift move on.
fn key_of(why: &str) -> String {
    why.split(" changed: ").next().unwrap_or(why).to_owned()
}

/// Reasons that are remembered as known to whoever resumed.
const ACCEPTED: usize = 8;

/// Takes back a freeze, a rollback and trips: the route is as its config says, and a rollout begins anew.
pub fn resume(control: &mut Control, route: &Route, by: &str, why: &str, now: i64) -> bool {
    let was_back = control.weight_is_zero(&route.stamp);
    let trips = control.trips.len();
    control.trips.retain(|trip| trip.stamp != route.stamp);
    // Whoever resumes knows why it was stopped.
    let frozen = control.frozen.as_ref().filter(|frozen| !frozen.by_hand);
    let is_taken_back = was_back && control.action == "rollback" && control.by == CONTROLLER;
    let known = frozen
        .map(|frozen| frozen.why.clone())
        .or(is_taken_back.then(|| control.why.clone()));
    if let Some(why) = known
        .map(|why| key_of(&why))
        .filter(|why| !control.accepted.contains(why))
    {
        if control.accepted.len() >= ACCEPTED {
            control.accepted.remove(0);
        }
        control.accepted.push(why);
    }
    if control.frozen.take().is_none() && !was_back && control.trips.len() == trips {
        return false;
    }
    if was_back || control.trips.len() != trips {
        control.weights.clear();
        control.step = None;
    }
    control.action = "resume".into();
    control.why = why.to_owned();
    control.by = by.to_owned();
    control.at = now;
    true
}

/// Writes a move, if the control is still the one that was decided on; what is in force then.
///
/// # Errors
/// Where the store fails.
pub async fn write(
    store: &Store,
    route: &Route,
    decided_on: u32,
    decided: &Move,
    by: &str,
    now: i64,
) -> Result<Control, StoreError> {
    control::change(store, &route.id, |control| {
        control.version == decided_on && put(control, route, decided, by, now)
    })
    .await
}

/// Calls that went to each candidate of a route since then.
///
/// # Errors
/// Where calls can't be read.
pub async fn canaried(store: &Store, route: &str, since: i64) -> Result<BTreeMap<String, u64>, ScanError> {
    let filter = CallFilter {
        since: Some(since),
        columns: Columns::Only(["route", "upstream", "attempts"].map(str::to_owned).into()),
        ..CallFilter::default()
    };
    let mut counts = BTreeMap::new();
    for_each_call(store, &filter, |call| {
        if call.route.as_deref() != Some(route) {
            return;
        }
        let tried = call
            .attempts
            .iter()
            .find(|attempt| Some(&attempt.upstream) != call.upstream.as_ref());
        if let Some(tried) = tried {
            *counts.entry(tried.upstream.clone()).or_default() += 1;
        }
    })
    .await?;
    Ok(counts)
}

#[cfg(test)]
mod tests;
