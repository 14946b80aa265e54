//! Rollouts of a running collector: looks at each split now and then, and takes the step that is due.
//!
//! Routes are read from the config file anew at each look, since a running proxy takes them from there too.

use crate::place::{book, verdict_config};
use crate::shadow::Live;
use crate::{log, parts};
use anyhow::Result;
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use understudy_call::control::Control;
use understudy_call::taskbook::CompiledBook;
use understudy_collector::cascade;
use understudy_collector::control;
use understudy_collector::drift::Drifted;
use understudy_collector::evidence::verdicts;
use understudy_collector::replay::version_of;
use understudy_collector::rollout::{self, Ages, CONTROLLER, Candidate, Facts, Move, Route, Steps, counts_from};
use understudy_collector::store::Store;
use understudy_proxy::config::{Config, Overrides};
use understudy_proxy::route::{OnDrift, ValidRoute};

/// The longest time between two looks.
const SELDOM: Duration = Duration::from_secs(30);
/// The shortest.
const OFTEN: Duration = Duration::from_secs(1);
/// How many times as long as it took calls and scores are left alone after they were read: verdicts are of all that are kept.
const REST: u32 = 4;

/// What a controller remembers from look to look.
#[derive(Default)]
struct Memory {
    ages: Ages,
    /// Until then calls and scores are not read again.
    rests_until: Option<Instant>,
    /// When a route's step began, and calls that went to each candidate since: enough of them are not counted again.
    counted: BTreeMap<String, (i64, BTreeMap<String, u64>)>,
}

impl Memory {
    /// Calls that went to each candidate since the step began, read only where a step hangs on them.
    async fn canaried(
        &mut self,
        store: &Store,
        route: &Route,
        control: Option<&Control>,
        facts: &Facts,
    ) -> Result<BTreeMap<String, u64>> {
        let awaited = control.and_then(|control| Some((control.step.as_ref()?, rollout::awaited(route, control)?)));
        let Some((step, (candidate, enough))) = awaited else {
            return Ok(BTreeMap::new());
        };
        let is_enough = |counts: &BTreeMap<String, u64>| counts.get(&candidate).is_some_and(|calls| *calls >= enough);
        let known = self.counted.get(&route.id);
        let known = known.filter(|(began_at, counts)| *began_at == step.began_at && is_enough(counts));
        if let Some((_, counts)) = known {
            return Ok(counts.clone());
        }
        let counts = canaried(store, route, control, facts).await?;
        self.counted.insert(route.id.clone(), (step.began_at, counts.clone()));
        Ok(counts)
    }
}

/// Looks at all splits, for as long as the future lives. What fails is logged and tried again.
pub(crate) async fn run(mut config: Config, file: Option<PathBuf>, store: Store, drifted: Drifted, shadows: Live) {
    let mut memory = Memory::default();
    loop {
        let overrides = Overrides {
            data: Some(config.data.clone()),
            ..Overrides::default()
        };
        // A file that is wrong changes nothing; the proxy says so already.
        let newer = file
            .as_deref()
            .map(|file| Config::load(file, &overrides, &parts::environment));
        if let Some(Ok(newer)) = newer {
            config = newer;
        }
        if let Err(error) = look(&config, &store, &drifted, &shadows, &mut memory).await {
            tracing::warn!(%error, "the rollouts could not be looked at: it is tried again");
        }
        let intervals = config
            .routes
            .all()
            .iter()
            .filter_map(|route| Some(route.rollout?.interval / 4));
        tokio::time::sleep(intervals.min().unwrap_or(SELDOM).clamp(OFTEN, SELDOM)).await;
    }
}

async fn look(config: &Config, store: &Store, drifted: &Drifted, shadows: &Live, memory: &mut Memory) -> Result<()> {
    let now = Timestamp::now().as_microsecond();
    let began = Instant::now();
    let rests = memory.rests_until.is_some_and(|until| began < until);
    // Read at most once a look, and only where a decision hangs on them.
    let mut evidence: Option<Option<CompiledBook>> = None;
    for route in config.routes.all().iter().filter(|route| !route.split.is_empty()) {
        let route = of_config(config, route);
        let control = control::current(store, &route.id).await?;
        let step = control.as_ref().and_then(|control| control.step.as_ref());
        shadows.step(&route.id, step.map_or(0, |step| step.began_at));
        let facts = Facts {
            now,
            waited: step.map(|step| memory.ages.waited(&route.id, step, now, Instant::now())),
            drifted: route.task.as_deref().and_then(|task| drifted.of(task)),
            ..Facts::default()
        };
        // What needs no evidence is not kept waiting for it; without it no step is taken, and nothing is held against anyone.
        let mut decided = rollout::decide(&route, control.as_ref(), &facts, false);
        let is_open = matches!(decided, Move::Stay(_)) && !is_idle(&route, control.as_ref(), &facts);
        if is_open && !rests {
            if evidence.is_none() {
                evidence = Some(book(store).await?);
            }
            let task_book = evidence.as_ref().and_then(Option::as_ref);
            let facts = Facts {
                canaried: memory.canaried(store, &route, control.as_ref(), &facts).await?,
                ..judge(config, store, task_book, &route, facts).await?
            };
            decided = rollout::decide(&route, control.as_ref(), &facts, false);
            memory.rests_until = Some(Instant::now() + began.elapsed() * REST);
        }
        if matches!(decided, Move::Stay(_)) {
            tracing::debug!(route = route.id, ?decided, "rollout");
            continue;
        }
        let version = control.map_or(0, |control| control.version);
        let in_force = rollout::write(store, &route, version, &decided, CONTROLLER, now).await?;
        if in_force.version == version.saturating_add(1) && in_force.at == now {
            let Control { action, why, .. } = &in_force;
            tracing::info!(route = route.id, action, why, "rollout");
            note(store, &route, &in_force).await?;
        }
    }
    Ok(())
}

/// Whether nothing but config, control and drift is needed to see that there is nothing to do.
fn is_idle(route: &Route, control: Option<&Control>, facts: &Facts) -> bool {
    let Some(steps) = &route.steps else {
        return route.task.is_none();
    };
    let is_young = facts.waited.is_some_and(|waited| waited < steps.interval);
    is_young || control.is_some_and(|control| control.frozen.is_some())
}

/// Notes a move in the audit log.
pub(crate) async fn note(store: &Store, route: &Route, control: &Control) -> Result<()> {
    let Control {
        version,
        action,
        why,
        by,
        weights,
        ..
    } = control;
    let details =
        json!({ "route": route.id, "version": version, "action": action, "why": why, "by": by, "weights": weights });
    log::note(store, "rollout", details).await
}

/// Calls that went to each candidate of a route since its step began.
pub(crate) async fn canaried(
    store: &Store,
    route: &Route,
    control: Option<&Control>,
    facts: &Facts,
) -> Result<BTreeMap<String, u64>> {
    let Some(step) = control.and_then(|control| control.step.as_ref()) else {
        return Ok(BTreeMap::new());
    };
    let since = counts_from(step, facts.now, facts.waited.unwrap_or_default());
    Ok(rollout::canaried(store, &route.id, since).await?)
}

/// What verdicts say of a route.
pub(crate) async fn judge(
    config: &Config,
    store: &Store,
    book: Option<&CompiledBook>,
    route: &Route,
    mut facts: Facts,
) -> Result<Facts> {
    if let Some(task) = &route.task {
        let settings = verdict_config(config);
        facts.judged(verdicts(store, book, Some(task), &settings, facts.now).await?);
    }
    Ok(facts)
}

/// A route as the rollout sees it; of several candidates the smallest steps first.
pub(crate) fn of_config(config: &Config, route: &ValidRoute) -> Route {
    let task = route.task().map(str::to_owned);
    let mut candidates: Vec<Candidate> = Vec::new();
    for arm in route.arms.iter().filter(|arm| arm.upstream != route.baseline) {
        let upstream = config.upstreams.get(&arm.upstream);
        candidates.push(Candidate {
            name: arm.upstream.clone(),
            version: upstream.map(version_of),
            begins: route.split.get(&arm.upstream).copied().unwrap_or_default(),
            highest: arm.weight,
        });
    }
    candidates.sort_by_cached_key(|candidate| cascade::size_of(config.upstreams.get(&candidate.name)));
    Route {
        id: route.id.clone(),
        stamp: route.stamp.clone(),
        task,
        candidates,
        steps: route.rollout.map(|rollout| Steps {
            weight: rollout.step_weight,
            interval: i64::try_from(rollout.interval.as_micros()).unwrap_or(i64::MAX),
            min_calls: rollout.min_calls,
            threshold: rollout.threshold,
            auto: rollout.auto,
        }),
        rollback_on_drift: route.on_drift == OnDrift::Rollback,
    }
}

/// The controls of all routes.
pub(crate) async fn controls(store: &Store) -> Result<BTreeMap<String, Control>> {
    let controls = control::newer_than(store, &BTreeMap::new()).await?;
    Ok(controls
        .into_iter()
        .map(|control| (control.route.clone(), control))
        .collect())
}
