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
    /// Who compares the candidates' answers with the recorded ones, if anybody.
    pub judge: Option<JudgeConfig>,
}

/// A judge of shadows: an upstream that is neither arm.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeConfig {
    /// The upstream.
    pub by: String,
    /// The model that it is asked for.
    pub model: String,
    /// What it may spend; each answer takes two calls.
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
    judge: Option<RawJudge>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJudge {
    by: String,
    model: Option<String>,
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
            let budget = |at: &str, raw: &RawBudget, calls: u64, concurrency: usize| {
                let found = raw.checked(calls, concurrency);
                found.map_err(|message| fault(format!("{at}budget.{message}")))
            };
            let judge = match &raw.judge {
                Some(judge) => {
                    let budget = budget("judge.", &judge.budget, DEFAULT_JUDGED, 1)?;
                    let judge = judge_of(judge, budget, raw, upstreams);
                    Some(judge.map_err(|message| fault(format!("judge.{message}")))?)
                }
                None => None,
            };
            Ok(ShadowConfig {
                matching: raw.matching.clone(),
                to: raw.to.clone(),
                sample: raw.sample.map_or(DEFAULT_SAMPLE, |percent| percent.0 / 100.0),
                raw: raw.text == Text::Raw,
                budget: budget("", &raw.budget, DEFAULT_CALLS, DEFAULT_CONCURRENCY)?,
                judge,
            })
        };
        file.shadow.iter().enumerate().map(shadow).collect()
    }
}

/// Who judges; in words, why it can't.
fn judge_of(
    judge: &RawJudge,
    budget: ShadowBudget,
    shadow: &RawShadow,
    upstreams: &BTreeMap<String, UpstreamConfig>,
) -> Result<JudgeConfig, String> {
    let Some(upstream) = upstreams.get(&judge.by) else {
        return Err(format!("by: `{}` is not among the upstreams", judge.by));
    };
    let Some(model) = judge.model.as_ref().or(upstream.model.as_ref()) else {
        return Err(format!("model: which model of `{}`? say it here or there", judge.by));
    };
    let is_same = |name: &&String| {
        let arm = upstreams.get(*name);
        **name == judge.by || arm.is_some_and(|arm| arm.url == upstream.url && arm.model.as_ref() == Some(model))
    };
    let mut arms = shadow.to.iter().chain(&shadow.matching.upstream);
    if arms.any(|arm| is_same(&arm)) {
        return Err(format!(
            "by: `{}` is one of those that are compared: name a third upstream, with another model",
            judge.by
        ));
    }
    Ok(JudgeConfig {
        by: judge.by.clone(),
        model: model.clone(),
        budget,
    })
}

impl RawBudget {
    /// With what is given for what is left out; in words, what is wrong.
    fn checked(&self, calls: u64, concurrency: usize) -> Result<ShadowBudget, String> {
        if self.usd_per_day.is_some_and(|usd| !usd.is_finite() || usd < 0.0) {
            return Err("usd_per_day: must be 0 or more US dollars".into());
        }
        let concurrency = self.concurrency.unwrap_or(concurrency);
        if !(1..=MAX_CONCURRENCY).contains(&concurrency) {
            return Err(format!("concurrency: must be 1 to {MAX_CONCURRENCY}"));
        }
        Ok(ShadowBudget {
            calls_per_day: self.calls_per_day.unwrap_or(calls),
            usd_per_day: self.usd_per_day,
            concurrency,
        })
    }
}

const DEFAULT_SAMPLE: f64 = 0.05;
const DEFAULT_CALLS: u64 = 10_000;
/// Calls a day of a judge: half as many answers.
const DEFAULT_JUDGED: u64 = 1_000;
const DEFAULT_CONCURRENCY: usize = 4;
const MAX_CONCURRENCY: usize = 256;
