//! `shadow` of a config as the collector takes it, and again whenever the file changes.

use crate::serve::environment;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use understudy_client::Upstream;
use understudy_collector::replay::Arm;
use understudy_collector::shadow::{Rule, RuleBudget, RuleMatch, Shadows};
use understudy_proxy::config::{Config, Overrides, ShadowConfig};

/// How often the file is read.
const EVERY: Duration = Duration::from_millis(500);
/// The longest wait for the answer of a shadow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Puts the config's rules in force. A rule whose upstream can't be opened is left out, which is said.
pub(crate) fn apply(shadows: &Shadows, config: &Config) {
    let rules: Vec<Rule> = config.shadow.iter().filter_map(|shadow| rule(shadow, config)).collect();
    shadows.apply(&rules);
}

/// Keeps the rules as the file says them, for as long as the future lives. A file that can't be used changes nothing: the
/// proxy says why.
pub(crate) async fn watch(shadows: Arc<Shadows>, file: PathBuf, overrides: Overrides, mut hash: String) {
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
                apply(&shadows, &config);
                hash = config.hash;
            }
            Some(Err(error)) => tracing::warn!(%error, "shadows stay as they are"),
            _ => {}
        }
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
