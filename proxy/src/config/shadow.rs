//! Shadows as config gives them; what they do is the collector's.

use super::raw::File;
use super::units::Percent;
use super::{ConfigError, Validation};
use serde::Deserialize;
use std::collections::BTreeMap;
use understudy_client::UpstreamConfig;

/// Live calls that other upstreams are asked as well.
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowConfig {
    /// Which calls.
    pub matching: ShadowMatch,
    /// Who is asked.
    pub to: Vec<String>,
    /// Share of the calls, 0 to 1.
    pub sample: f64,
    /// Whether text is sent as the client wrote it; all of `to` are trusted then.
    pub raw: bool,
    /// What it may spend.
    pub budget: ShadowBudget,
}

/// What a shadow takes; all fields given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShadowMatch {
    /// Task id, `*` for any.
    pub task: Option<String>,
    /// Model asked for, `*` for any run of characters.
    pub model: Option<String>,
    /// The route's name.
    pub route: Option<String>,
    /// Upstream addressed.
    pub upstream: Option<String>,
}

/// What a shadow may spend a day (UTC).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShadowBudget {
    /// Calls.
    pub calls_per_day: u64,
    /// US dollars; any number without it.
    pub usd_per_day: Option<f64>,
    /// Calls in flight at each upstream.
    pub concurrency: usize,
}

/// A shadow as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawShadow {
    #[serde(rename = "match", default)]
    matching: ShadowMatch,
    to: Vec<String>,
    sample: Option<Percent>,
    #[serde(default)]
    text: Text,
    #[serde(default)]
    budget: RawBudget,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawBudget {
    calls_per_day: Option<u64>,
    usd_per_day: Option<f64>,
    concurrency: Option<usize>,
}

/// Which text is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Text {
    #[default]
    Masked,
    Raw,
}

impl Validation<'_> {
    pub(super) fn shadows(
        &self,
        file: &File,
        upstreams: &BTreeMap<String, UpstreamConfig>,
    ) -> Result<Vec<ShadowConfig>, ConfigError> {
        let shadow = |(index, raw): (usize, &RawShadow)| {
            let fault = |message: String| self.invalid(format!("shadow[{index}].{message}"));
            if raw.to.is_empty() {
                return Err(fault("to: name at least one upstream".into()));
            }
            for name in raw.to.iter().chain(&raw.matching.upstream) {
                if !upstreams.contains_key(name) {
                    return Err(fault(format!(
                        "to, match.upstream: `{name}` is not among the upstreams"
                    )));
                }
            }
            let is_untrusted = |name: &&String| upstreams.get(*name).is_none_or(|upstream| !upstream.trusted);
            if let Some(name) = raw.to.iter().find(is_untrusted).filter(|_| raw.text == Text::Raw) {
                return Err(fault(format!(
                    "text: raw text goes only to an upstream with `trusted: true`, which `{name}` has not"
                )));
            }
            let budget = &raw.budget;
            if budget.usd_per_day.is_some_and(|usd| !usd.is_finite() || usd < 0.0) {
                return Err(fault("budget.usd_per_day: must be 0 or more US dollars".into()));
            }
            if budget
                .concurrency
                .is_some_and(|calls| !(1..=MAX_CONCURRENCY).contains(&calls))
            {
                return Err(fault(format!("budget.concurrency: must be 1 to {MAX_CONCURRENCY}")));
            }
            Ok(ShadowConfig {
                matching: raw.matching.clone(),
                to: raw.to.clone(),
                sample: raw.sample.map_or(DEFAULT_SAMPLE, |percent| percent.0 / 100.0),
                raw: raw.text == Text::Raw,
                budget: ShadowBudget {
                    calls_per_day: budget.calls_per_day.unwrap_or(DEFAULT_CALLS),
                    usd_per_day: budget.usd_per_day,
                    concurrency: budget.concurrency.unwrap_or(DEFAULT_CONCURRENCY),
                },
            })
        };
        file.shadow.iter().enumerate().map(shadow).collect()
    }
}

const DEFAULT_SAMPLE: f64 = 0.05;
const DEFAULT_CALLS: u64 = 10_000;
const DEFAULT_CONCURRENCY: usize = 4;
const MAX_CONCURRENCY: usize = 256;
