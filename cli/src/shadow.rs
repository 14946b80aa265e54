//! `shadow` of a config as the collector takes it, and again whenever the file changes.

use crate::log;
use crate::serve::environment;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use understudy_call::control::Trip;
use understudy_call::guard::{self, Limits};
use understudy_client::Upstream;
use understudy_collector::control;
use understudy_collector::replay::Arm;
use understudy_collector::shadow::{Agreement, Rule, RuleBudget, RuleMatch, Shadows};
use understudy_collector::store::Store;
use understudy_proxy::config::{Config, Overrides, ShadowBudget, ShadowConfig, ShadowMatch};

/// How often the file is read.
const EVERY: Duration = Duration::from_millis(500);
/// The longest wait for the answer of a shadow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
/// Share of a guarded route's calls that its baseline is asked again, after the first of a step.
const GUARD_SAMPLE: f64 = 0.05;
/// Calls a day of that, at most.
const GUARD_CALLS: u64 = 10_000;
/// Agreements of the baseline with itself that are remembered of a task.
const FLOOR_KEPT: usize = 400;
/// Who trips, in control and audit log.
const GUARD: &str = "guard";
/// Tries of writing a trip.
const TRIES: usize = 30;

/// The shadows of a running collector, and the guard by agreement that they feed.
#[derive(Clone)]
pub(crate) struct Live {
    shadows: Arc<Shadows>,
    guarded: Arc<RwLock<Vec<Guarded>>>,
}

/// A route whose candidates must agree with its baseline.
struct Guarded {
    route: String,
    stamp: String,
    limits: Limits,
}

/// What is watched: a candidate on a task of a route.
type Watched = BTreeMap<(String, String, String), (String, guard::Agreement)>;

impl Live {
    pub(crate) fn new(shadows: Arc<Shadows>) -> Live {
        Live {
            shadows,
            guarded: Arc::default(),
        }
    }

    /// Puts the config's rules in force. A rule whose upstream can't be opened is left out, which is said.
    pub(crate) fn apply(&self, config: &Config) {
        let guarded = || {
            let routes = config.routes.all().iter();
            routes.filter_map(|route| Some((route, route.guard.filter(|limits| limits.agreement.is_some())?)))
        };
        // What a guard needs is asked without a rule of its own.
        let can_be_asked = |name: &String| {
            let upstream = config.upstreams.get(name);
            upstream.is_some_and(|upstream| upstream.key.is_some() || upstream.sign.is_some())
        };
        for (route, _) in guarded().filter(|(route, _)| !can_be_asked(&route.baseline)) {
            tracing::warn!(
                route = route.id,
                "guard.agreement asks the baseline again, which takes a key of its own (`key_env`): without one it is not watched"
            );
        }
        let reverse = guarded().filter(|(route, _)| can_be_asked(&route.baseline));
        let reverse = reverse.map(|(route, _)| ShadowConfig {
            matching: ShadowMatch {
                route: Some(route.id.clone()),
                ..ShadowMatch::default()
            },
            to: vec![route.baseline.clone()],
            sample: GUARD_SAMPLE,
            raw: false,
            budget: ShadowBudget {
                calls_per_day: GUARD_CALLS,
                usd_per_day: None,
                concurrency: 4,
            },
        });
        let shadows: Vec<ShadowConfig> = config.shadow.iter().cloned().chain(reverse).collect();
        let rules: Vec<Rule> = shadows.iter().filter_map(|shadow| rule(shadow, config)).collect();
        self.shadows.apply(&rules);
        let routes = guarded().map(|(route, limits)| Guarded {
            route: route.id.clone(),
            stamp: route.stamp.clone(),
            limits,
        });
        *self.guarded.write().unwrap_or_else(PoisonError::into_inner) = routes.collect();
    }

    /// Keeps the rules as the file says them, for as long as the future lives. A file that can't be used changes nothing:
    /// the proxy says why.
    pub(crate) async fn watch(self, file: PathBuf, overrides: Overrides, mut hash: String) {
        let mut seen = None;
        loop {
            tokio::time::sleep(EVERY).await;
            let text = tokio::task::block_in_place(|| std::fs::read_to_string(&file).ok());
            if text == seen {
                continue;
            }
            let parsed = text
                .as_ref()
                .map(|text| Config::parse(text, &file, &overrides, &environment));
            seen = text;
            match parsed {
                Some(Ok(config)) if config.hash != hash => {
                    self.apply(&config);
                    hash = config.hash;
                }
                Some(Err(error)) => tracing::warn!(%error, "shadows stay as they are"),
                _ => {}
            }
        }
    }

    /// Takes out a candidate that agrees with its baseline less than that does with itself, by more than its route allows;
    /// for as long as the future lives.
    pub(crate) async fn guard(self, store: Store) {
        let mut agreements = self.shadows.agreements();
        let mut watched = Watched::new();
        let mut floors: BTreeMap<(String, String), VecDeque<f64>> = BTreeMap::new();
        loop {
            let told = match agreements.recv().await {
                Ok(told) => told,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let floor = floors
                .entry((told.route.clone().unwrap_or_default(), told.task.clone()))
                .or_default();
            if let Some(trip) = self.judge(&told, &mut watched, floor) {
                let route = told.route.unwrap_or_default();
                tracing::warn!(
                    route,
                    candidate = trip.candidate,
                    why = trip.why,
                    "the guard takes a candidate out"
                );
                put(&store, &route, &trip).await;
            }
        }
    }

    fn judge(&self, told: &Agreement, watched: &mut Watched, floor: &mut VecDeque<f64>) -> Option<Trip> {
        let guarded = self.guarded.read().unwrap_or_else(PoisonError::into_inner);
        let guarded = guarded
            .iter()
            .find(|guarded| Some(&guarded.route) == told.route.as_ref())?;
        let worse = match &told.candidate {
            Some(candidate) => {
                let key = (guarded.route.clone(), told.task.clone(), candidate.clone());
                let known = watched.get(&key).is_some_and(|(stamp, _)| *stamp == guarded.stamp);
                if !known {
                    let mut agreement = guard::Agreement::new(&guarded.limits)?;
                    // What the baseline said of itself before is as good as what it says from now on.
                    for value in floor.iter() {
                        let _ = agreement.baseline(candidate, *value);
                    }
                    watched.insert(key.clone(), (guarded.stamp.clone(), agreement));
                }
                watched.get_mut(&key)?.1.canary(candidate, told.agreement, None)
            }
            None => {
                floor.push_back(told.agreement);
                if floor.len() > FLOOR_KEPT {
                    floor.pop_front();
                }
                let mut worse = None;
                for ((route, task, candidate), (stamp, agreement)) in watched.iter_mut() {
                    if *route == guarded.route && *task == told.task && *stamp == guarded.stamp {
                        worse = agreement.baseline(candidate, told.agreement).or(worse);
                    }
                }
                worse
            }
        }?;
        Some(Trip {
            candidate: worse.candidate,
            task: Some(told.task.clone()),
            metric: worse.metric.into(),
            why: worse.why,
            at: told.at,
            stamp: guarded.stamp.clone(),
        })
    }

    /// Ends them; not for a thread of the runtime.
    pub(crate) fn finish(&self) {
        self.shadows.finish();
    }
}

/// Writes a trip, and a word in the audit log; a store that is out of reach is tried for a while.
async fn put(store: &Store, route: &str, trip: &Trip) {
    for _ in 0..TRIES {
        match control::trip(store, route, GUARD, trip).await {
            Ok(_) => {
                let details = json!({"route": route, "action": "trip", "candidate": trip.candidate, "why": trip.why, "by": GUARD});
                if let Err(error) = log::note(store, "rollout", details).await {
                    tracing::warn!(%error, "the trip is not in the audit log");
                }
                return;
            }
            Err(error) => tracing::warn!(%error, route, "the trip could not be written: it is tried again"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn rule(shadow: &ShadowConfig, config: &Config) -> Option<Rule> {
    let arms = shadow.to.iter().filter_map(|name| {
        let upstream = config.upstreams.get(name)?;
        // Known before the first answer, so that nobody relies on a bound that can't be kept.
        let model = upstream.model.as_deref();
        let priced = upstream.price.is_some() || model.is_some_and(|model| config.prices.lookup(model).is_some());
        if shadow.budget.usd_per_day.is_some() && !priced && model.is_some() {
            tracing::warn!(
                upstream = name,
                "shadow.budget.usd_per_day can't be kept here: the price is not known (`price: {{ gpu_hour }}`, `prices`); calls_per_day holds"
            );
        }
        match Upstream::open(upstream.clone(), config.timeouts.upstream) {
            Ok(upstream) => Some(Arm::candidate(Arc::new(upstream))),
            Err(error) => {
                tracing::error!(%error, upstream = name, "no shadows are sent there");
                None
            }
        }
    });
    let to: Vec<Arm> = arms.collect();
    let matching = &shadow.matching;
    (!to.is_empty()).then(|| Rule {
        matching: RuleMatch {
            task: matching.task.clone(),
            model: matching.model.clone(),
            route: matching.route.clone(),
            upstream: matching.upstream.clone(),
        },
        to,
        sample: shadow.sample,
        raw: shadow.raw,
        budget: RuleBudget {
            calls_per_day: shadow.budget.calls_per_day,
            usd_per_day: shadow.budget.usd_per_day,
            concurrency: shadow.budget.concurrency,
        },
    })
}
