//! Template phrases, templates, and clusters of templates that are versions of one another.

use super::FitOptions;
use super::linkage::{Likeness, average};
use super::prompts::{Prompt, Prompts};
use super::subdivide::subdivide;
use std::collections::HashMap;
use understudy_call::taskbook::Template;

/// Prompts this alike (cosine) are of one template.
const SAME: f32 = 0.80;
/// The most templates that are compared with one another.
const MOST: usize = 3000;

/// What the prompts have in common.
pub(super) struct Fitted {
    pub(super) vocabulary: Vec<(u32, f32)>,
    pub(super) templates: Vec<Template>,
    /// For each prompt its template, if it has one.
    pub(super) template_of: Vec<Option<usize>>,
    /// For each template its cluster.
    pub(super) cluster_of: Vec<usize>,
}

/// A prompt as a unit vector over the vocabulary, sorted by phrase.
pub(super) type Unit = Vec<(u32, f32)>;

/// Finds vocabulary, templates and clusters.
pub(super) fn fit(prompts: &Prompts, options: &FitOptions) -> Fitted {
    let vocabulary = vocabulary(&prompts.prompts, options);
    let index: HashMap<u32, u32> = vocabulary
        .iter()
        .zip(0u32..)
        .map(|((hash, _), at)| (*hash, at))
        .collect();
    let units: Vec<Unit> = prompts
        .prompts
        .iter()
        .map(|prompt| unit(prompt, &index, &vocabulary))
        .collect();
    let (leaders, leader_of) = lead(&units);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); leaders];
    for (prompt, leader) in leader_of.iter().enumerate() {
        if let Some(leader) = leader {
            members[*leader].push(prompt);
        }
    }
    let means: Vec<Unit> = members.iter().map(|of| mean(of.iter().map(|prompt| &units[*prompt]))).collect();
    let sizes: Vec<f32> = members.iter().map(|of| of.len() as f32).collect();
    let joined = average(Likeness::of(&means), &sizes, options.likeness);
    let mut clusters: Vec<Vec<usize>> = vec![Vec::new(); leaders];
    for (leader, of) in members.into_iter().enumerate() {
        clusters[joined[leader]].extend(of);
    }
    clusters.retain(|cluster| !cluster.is_empty());
    let conversations: Vec<usize> = prompts.prompts.iter().map(|prompt| prompt.conversations).collect();
    let parts: Vec<Vec<usize>> = clusters.into_iter().flat_map(|cluster| subdivide(cluster, &units, &conversations)).collect();
    let mut fitted = Fitted { vocabulary, templates: Vec::new(), template_of: vec![None; units.len()], cluster_of: Vec::new() };
    for (cluster, part) in parts.iter().enumerate() {
        let groups = if std::env::var("LEADERS").is_ok() {
            let mut by: std::collections::BTreeMap<Option<usize>, Vec<usize>> = Default::default();
            for prompt in part { by.entry(leader_of[*prompt]).or_default().push(*prompt); }
            by.into_values().collect()
        } else { vec![part.clone()] };
        for group in groups {
            for prompt in &group {
                fitted.template_of[*prompt] = Some(fitted.templates.len());
            }
            fitted.templates.push(template(&group, prompts, &index));
            fitted.cluster_of.push(cluster);
        }
    }
    fitted
}

/// Phrases that recur over distinct prompts, and those of prompts that recur whole and have hardly any such phrase.
fn vocabulary(prompts: &[Prompt], options: &FitOptions) -> Vec<(u32, f32)> {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for phrase in prompts.iter().flat_map(|prompt| &prompt.phrases) {
        *counts.entry(*phrase).or_default() += 1;
    }
    let mut kept: HashMap<u32, usize> = counts
        .iter()
        .filter(|(_, count)| **count >= options.min_prompts)
        .map(|(phrase, count)| (*phrase, *count))
        .collect();
    for prompt in prompts
        .iter()
        .filter(|prompt| prompt.conversations >= options.min_conversations)
    {
        let known = prompt
            .phrases
            .iter()
            .filter(|phrase| counts[phrase] >= options.min_prompts)
            .count();
        if known * 5 < prompt.phrases.len() {
            kept.extend(
                prompt
                    .phrases
                    .iter()
                    .map(|phrase| (*phrase, counts[phrase].max(options.min_prompts))),
            );
        }
    }
    let total = prompts.len() as f32;
    let mut vocabulary: Vec<(u32, f32)> = kept
        .into_iter()
        .map(|(phrase, count)| (phrase, (1.0 + total / count as f32).ln().powf(options.rarity)))
        .collect();
    vocabulary.sort_by_key(|(phrase, _)| *phrase);
    vocabulary
}

fn unit(prompt: &Prompt, index: &HashMap<u32, u32>, vocabulary: &[(u32, f32)]) -> Unit {
    let known = prompt.phrases.iter().filter_map(|phrase| index.get(phrase));
    let mut unit: Unit = known.map(|at| (*at, vocabulary[*at as usize].1)).collect();
    unit.sort_by_key(|(at, _)| *at);
    let length = unit.iter().map(|(_, weight)| weight * weight).sum::<f32>().sqrt();
    for (_, weight) in &mut unit {
        *weight /= length;
    }
    unit
}

/// Gives each prompt to the nearest earlier leader, or makes it one; prompts are in a fixed order.
pub(super) fn lead(units: &[Unit]) -> (usize, Vec<Option<usize>>) {
    let mut postings: HashMap<u32, Vec<(u32, f32)>> = HashMap::new();
    let mut leaders = 0;
    let mut template_of = Vec::with_capacity(units.len());
    let mut scores: Vec<f32> = Vec::new();
    for unit in units {
        scores.clear();
        scores.resize(leaders, 0.0);
        for (phrase, weight) in unit {
            for (leader, of_leader) in postings.get(phrase).into_iter().flatten() {
                scores[*leader as usize] += weight * of_leader;
            }
        }
        let best = scores.iter().enumerate().fold(
            (0, 0f32),
            |best, (at, score)| if *score > best.1 { (at, *score) } else { best },
        );
        if unit.is_empty() {
            template_of.push(None);
        } else if best.1 >= SAME || leaders >= MOST {
            template_of.push(Some(best.0));
        } else {
            for (phrase, weight) in unit {
                postings.entry(*phrase).or_default().push((leaders as u32, *weight));
            }
            template_of.push(Some(leaders));
            leaders += 1;
        }
    }
    (leaders, template_of)
}

pub(super) fn mean<'a>(units: impl ExactSizeIterator<Item = &'a Unit>) -> Unit {
    let count = units.len() as f32;
    let mut sums: HashMap<u32, f32> = HashMap::new();
    for (phrase, weight) in units.flatten() {
        *sums.entry(*phrase).or_default() += weight / count;
    }
    let mut mean: Unit = sums.into_iter().collect();
    mean.sort_by_key(|(phrase, _)| *phrase);
    mean
}

pub(super) fn dot(one: &Unit, other: &Unit) -> f32 {
    let (mut at, mut sum) = (0, 0.0);
    for (phrase, weight) in one {
        while at < other.len() && other[at].0 < *phrase {
            at += 1;
        }
        if at < other.len() && other[at].0 == *phrase {
            sum += weight * other[at].1;
        }
    }
    sum
}

/// The share of its prompts that have each phrase.
fn template(members: &[usize], prompts: &Prompts, index: &HashMap<u32, u32>) -> Template {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for phrase in members.iter().flat_map(|prompt| &prompts.prompts[*prompt].phrases) {
        if let Some(at) = index.get(phrase) {
            *counts.entry(*at).or_default() += 1;
        }
    }
    let percent = |count: usize| (count * 100 / members.len().max(1)) as u8;
    let mut phrases: Vec<(u32, u8)> = counts
        .into_iter()
        .map(|(at, count)| (at, percent(count)))
        .filter(|(_, percent)| *percent >= 5)
        .collect();
    phrases.sort_unstable();
    Template { phrases, floor: 0.25 }
}
