//! `shadow` of a config as the collector takes it, and again whenever the file changes.

use crate::agreements::{self, Heard};
use crate::parts::environment;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use understudy_client::Upstream;
use understudy_collector::replay::{Arm, Judge};
use understudy_collector::shadow::{Rule, RuleBudget, RuleJudge, RuleMatch, Shadows};
use understudy_collector::store::Store;
use understudy_proxy::config::{Config, JudgeConfig, Overrides, ShadowBudget, ShadowConfig, ShadowMatch};
use understudy_proxy::guard::{Unwatched, unwatched};

/// How often the file is read.
const EVERY: Duration = Duration::from_millis(500);
/// The longest wait for the answer of a shadow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
/// Share of a guarded route's calls that its baseline is asked again, after the first of a step.
const GUARD_SAMPLE: f64 = 0.05;
/// Calls a day of that, at most.
const GUARD_CALLS: u64 = 10_000;

/// The shadows of a running collector, and the guard by agreement that they feed.
#[derive(Clone)]
pub(crate) struct Live {
    shadows: Arc<Shadows>,
    /// The config in force; none until the first.
    config: Arc<RwLock<Option<Arc<Config>>>>,
}

impl Live {
    pub(crate) fn new(shadows: Arc<Shadows>) -> Live {
        Live {
            shadows,
            config: Arc::default(),
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
        for (route, _) in guarded() {
            let of_agreement = |unwatched: &Unwatched| unwatched.metric == "agreement";
            for Unwatched { candidate, why, .. } in unwatched(route, config).into_iter().filter(of_agreement) {
                tracing::warn!(route = route.id, candidate, why, "the guard has nothing to go by");
            }
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
            judge: None,
        });
        let shadows: Vec<ShadowConfig> = config.shadow.iter().cloned().chain(reverse).collect();
        let rules: Vec<Rule> = shadows.iter().filter_map(|shadow| rule(shadow, config)).collect();
        self.shadows.apply(&rules);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(config.clone()));
    }

    /// The step that a route's rollout is in began then, microseconds since the epoch: its first calls are all compared.
    pub(crate) fn step(&self, route: &str, began_at: i64) {
        self.shadows.step(route, began_at);
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
        let mut heard = Heard::default();
        loop {
            let told = match agreements.recv().await {
                Ok(told) => told,
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "agreements came faster than they could be looked at");
                    continue;
                }
                Err(RecvError::Closed) => return,
            };
            let config = self.config.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some((route, trip)) = config.and_then(|config| heard.take(&config, &told)) {
                agreements::write(&store, &route, &trip).await;
            }
        }
    }

    /// Ends them; not for a thread of the runtime.
    pub(crate) fn finish(&self) {
        self.shadows.finish();
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
        budget: budget(&shadow.budget),
        judge: shadow.judge.as_ref().and_then(|judge| rule_judge(judge, config)),
    })
}

/// The judge of a rule. One that can't be opened is left out, which is said.
fn rule_judge(judge: &JudgeConfig, config: &Config) -> Option<RuleJudge> {
    let upstream = config.upstreams.get(&judge.by)?;
    let is_priced = upstream.price.is_some() || config.prices.lookup(&judge.model).is_some();
    if judge.budget.usd_per_day.is_some() && !is_priced {
        tracing::warn!(
            upstream = judge.by,
            "shadow.judge.budget.usd_per_day can't be kept here: the price is not known; calls_per_day holds"
        );
    }
    match Upstream::open(upstream.clone(), config.timeouts.upstream) {
        Ok(upstream) => Some(RuleJudge {
            judge: Judge::new(Arc::new(upstream), judge.model.clone()),
            budget: budget(&judge.budget),
        }),
        Err(error) => {
            tracing::error!(%error, upstream = judge.by, "nothing is judged there");
            None
        }
    }
}

fn budget(budget: &ShadowBudget) -> RuleBudget {
    RuleBudget {
        calls_per_day: budget.calls_per_day,
        usd_per_day: budget.usd_per_day,
        concurrency: budget.concurrency,
    }
}
