//! `verdict --propose`: what verdicts amount to, as a diff of the config file, for people who keep it in git.
//!
//! Changes nothing. Of several candidates that are ready the smallest that is sufficient is proposed. What is printed is
//! a unified diff that `patch` takes; the config that it makes was read and found valid.

use crate::parts;
use anyhow::{Context, Result};
use edit::Edit;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use understudy_collector::cascade::{size_of, smallest_sufficient};
use understudy_collector::verdict::{Decision, Verdict};
use understudy_proxy::config::{Config, Overrides};
use understudy_proxy::route::ValidRoute;

mod edit;
mod split;

/// The first weight and a step where a route has no `rollout`, and the highest that is proposed, in per cent.
const FIRST_WEIGHT: u32 = 5;
const HIGHEST_WEIGHT: u32 = 50;

/// A diff, and what there is to say besides.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Proposal {
    /// A unified diff; empty where nothing is proposed.
    pub(crate) diff: String,
    /// For people.
    pub(crate) words: Vec<String>,
}

/// What the verdicts say should change in this config.
pub(crate) fn propose(path: &Path, config: &Config, verdicts: &[Verdict]) -> Result<Proposal> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    of_text(&text, path, config, verdicts)
}

fn of_text(text: &str, path: &Path, config: &Config, verdicts: &[Verdict]) -> Result<Proposal> {
    let mut by_task: BTreeMap<&str, Vec<Verdict>> = BTreeMap::new();
    for verdict in verdicts {
        by_task.entry(&verdict.task).or_default().push(verdict.clone());
    }
    let (mut routes, mut edits, mut words) = (Vec::new(), Vec::new(), Vec::new());
    for (task, verdicts) in by_task {
        let mut all = config.routes.all().iter().enumerate();
        let routed = all.find(|(_, route)| route.matching.task.as_deref() == Some(task));
        if let Some((index, route)) = routed {
            let (weights, why) = weights_for(route, config, &verdicts);
            words.extend(why);
            if weights != route.split {
                match changed(text, path, config, (index, &weights)) {
                    Some(new) => edits.extend(new),
                    None => words.push(format!(
                        "{task}: give its route `{}` the split {}: it is written in a way that can't be changed here",
                        route.id,
                        flow(&weights)
                    )),
                }
            }
            continue;
        }
        let size = |name: &str| size_of(config.upstreams.get(name));
        let Some(Verdict {
            candidate, addressed, ..
        }) = smallest_sufficient(&verdicts, size)
        else {
            continue;
        };
        // What was imported may name an upstream of elsewhere.
        let baseline = addressed.as_ref().filter(|name| config.upstreams.contains_key(*name));
        let baseline = baseline.unwrap_or(&config.default_upstream);
        match stranger(config, candidate) {
            Some(why) => words.push(format!("{task}: {candidate} is ready{why}")),
            None => routes.push(self::route(task, candidate, baseline, &config.default_upstream)),
        }
    }
    if !routes.is_empty() {
        match insert(text, &routes) {
            Some(edit) => edits.push(edit),
            None => words.push(format!("add to `routes` of {}:\n{}", path.display(), routes.concat())),
        }
    }
    if edits.is_empty() {
        return Ok(Proposal {
            diff: String::new(),
            words,
        });
    }
    edits.sort_by_key(|edit| edit.at);
    parse(&edit::apply(text, &edits), path)
        .context("the config that would be proposed is not valid; nothing is proposed")?;
    Ok(Proposal {
        diff: edit::diff(&name_here(path), text, &edits),
        words,
    })
}

/// A file's path from the folder that the command runs in, where it is below that: what is absolute no tool would patch.
fn name_here(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let path = path.strip_prefix(&here).unwrap_or(path);
    let is_name = |part: &Component<'_>| matches!(part, Component::Normal(_));
    let parts: Vec<_> = path.components().filter(is_name).collect();
    let parts = match path.components().any(|part| part == Component::ParentDir) {
        true => &parts[parts.len().saturating_sub(1)..],
        false => &parts[..],
    };
    parts.iter().collect::<PathBuf>().display().to_string()
}

/// Why a candidate can't be put into a split as the config is.
fn stranger(config: &Config, candidate: &str) -> Option<&'static str> {
    match config.upstreams.get(candidate) {
        None => Some(", and is no upstream of this config"),
        Some(upstream) if !upstream.trusted => Some("; as it would see unmasked text, it needs `trusted: true` first"),
        Some(_) => None,
    }
}

/// The weights that a task's route should have, and what there is to say: who is held goes back to the baseline; the
/// smallest that is ready gets its first weight, or its next step where no `rollout` takes the steps.
fn weights_for(route: &ValidRoute, config: &Config, verdicts: &[Verdict]) -> (BTreeMap<String, u32>, Vec<String>) {
    let (mut weights, mut words) = (route.split.clone(), Vec::new());
    let sum: u32 = weights.values().sum();
    let name = format!("its route `{}`", route.id);
    for Verdict {
        task,
        candidate,
        reason,
        ..
    } in verdicts.iter().filter(|one| one.verdict == Decision::Hold)
    {
        if let Some(weight) = weights.get_mut(candidate).filter(|weight| **weight > 0) {
            let back = std::mem::take(weight);
            *weights.entry(route.baseline.clone()).or_default() += back;
            words.push(format!(
                "{task}: {candidate} is taken back from {name}, as its verdict is hold: {reason}"
            ));
        }
    }
    let size = |name: &str| size_of(config.upstreams.get(name));
    let Some(Verdict { task, candidate, .. }) = smallest_sufficient(verdicts, size) else {
        return (weights, words);
    };
    if let Some(why) = stranger(config, candidate) {
        words.push(format!("{task}: {candidate} is ready{why}"));
        return (weights, words);
    }
    if sum == 0 {
        words.push(format!("{task}: {candidate} is ready: give {name} a `split`"));
        return (weights, words);
    }
    let has = weights.get(candidate).copied().unwrap_or_default();
    let percent = |share: u32| (u64::from(sum) * u64::from(share) / 100).max(1) as u32;
    let step = route
        .rollout
        .map_or(percent(FIRST_WEIGHT), |rollout| rollout.step_weight);
    let of_baseline = weights.get(&route.baseline).copied().unwrap_or_default();
    let more = match (&route.rollout, has) {
        (Some(_), 1..) => {
            words.push(format!(
                "{task}: {candidate} is ready, and {name} has it already: its rollout takes the steps"
            ));
            return (weights, words);
        }
        (_, 0) => step,
        (None, _) => step.min(percent(HIGHEST_WEIGHT).saturating_sub(has)),
    };
    if more == 0 || more > of_baseline {
        words.push(format!(
            "{task}: {candidate} is ready, and has {has} of {sum} in {name}: more is for people to say"
        ));
        return (weights, words);
    }
    weights.insert(candidate.clone(), has + more);
    weights.insert(route.baseline.clone(), of_baseline - more);
    words.push(format!(
        "{task}: {candidate} is ready: from {has} to {} of {sum} in {name}",
        has + more
    ));
    (weights, words)
}

/// The change of the text that gives the route of this place these weights, and changes nothing else.
fn changed(
    text: &str,
    path: &Path,
    config: &Config,
    (index, weights): (usize, &BTreeMap<String, u32>),
) -> Option<Vec<Edit>> {
    let edits = split::with_weights(text, index, weights)?;
    let new = parse(&edit::apply(text, &edits), path).ok()?;
    let is_meant = new
        .routes
        .all()
        .iter()
        .zip(config.routes.all())
        .enumerate()
        .all(|(at, (new, old))| match at {
            _ if at == index => new.split == *weights && new.id == old.id,
            _ => new == old,
        });
    (is_meant && new.routes.all().len() == config.routes.all().len()).then_some(edits)
}

fn parse(text: &str, path: &Path) -> Result<Config> {
    Ok(Config::parse(text, path, &Overrides::default(), &parts::environment)?)
}

/// Weights as config writes them.
fn flow(weights: &BTreeMap<String, u32>) -> String {
    let pairs: Vec<String> = weights
        .iter()
        .map(|(name, weight)| format!("{name}: {weight}"))
        .collect();
    format!("{{ {} }}", pairs.join(", "))
}

fn route(task: &str, candidate: &str, baseline: &str, default: &str) -> String {
    let rest = 100 - FIRST_WEIGHT;
    // A split is of calls to its baseline.
    let upstream = match baseline == default {
        true => String::new(),
        false => format!(", upstream: {baseline}"),
    };
    format!(
        "- match: {{ task: {task}{upstream} }}\n  split: {{ {baseline}: {rest}, {candidate}: {FIRST_WEIGHT} }}\n  \
         rollout: {{ stepWeight: {FIRST_WEIGHT}, maxWeight: 50, interval: 10m, minCalls: 200, promote: manual }}\n  \
         guard: {{ error: 2%, invalid: 1%, fallback: 5%, p95_latency: 1.2x, agreement: 5% }}\n"
    )
}

/// The change that puts these routes in front of those that there are: the first match wins. `None` where the list is not
/// written a line an entry.
fn insert(text: &str, routes: &[String]) -> Option<Edit> {
    let lines: Vec<&str> = text.lines().collect();
    let (at, gone, key) = match lines.iter().position(|line| line.starts_with("routes:")) {
        None => (lines.len(), 0, Some("routes:")),
        Some(at) => {
            let rest = lines[at]["routes:".len()..].split('#').next().unwrap_or_default();
            match rest.trim() {
                "" => (at + 1, 0, None),
                "[]" => (at, 1, Some("routes:")),
                _ => return None,
            }
        }
    };
    let entry = lines[at + gone..]
        .iter()
        .find(|line| line.trim_start().starts_with("- "));
    let indent = entry
        .filter(|_| key.is_none())
        .map_or(2, |line| line.len() - line.trim_start().len());
    let new = routes.iter().flat_map(|route| route.lines());
    let new = new.map(|line| format!("{:indent$}{line}", ""));
    Some(Edit {
        at,
        gone,
        new: key.map(str::to_owned).into_iter().chain(new).collect(),
    })
}

#[cfg(test)]
mod tests;
