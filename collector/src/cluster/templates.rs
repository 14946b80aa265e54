//! Templates: prompts that share most of their recurring phrases, versions of one prompt included.

use super::FitOptions;
use super::collapse::collapse;
use super::linkage::{Likeness, average};
use super::prompts::Prompts;
use super::subdivide::subdivide;
use super::units::{Unit, cosine, lead, mean};
use super::vocabulary::Vocabulary;
use std::collections::{BTreeMap, BTreeSet};
use understudy_call::taskbook::Template;

/// What is in too small a cluster is gathered again at this share of the likeness: open-ended talk is one task.
const LOOSE: f32 = 0.5;
/// Phrases that fewer per cent of a template's prompts have are content.
const CONTENT: usize = 5;
/// No template reaches further than this cosine.
const FLOOR: f32 = 0.40;
/// How far below its least typical prompts a template reaches.
const SLACK: f32 = 0.85;

/// What the prompts have in common.
pub(super) struct Fitted {
    pub(super) vocabulary: Vocabulary,
    pub(super) templates: Vec<Template>,
    /// For each template its prompts, those nearest to its centre first.
    pub(super) prompts_of: Vec<Vec<usize>>,
}

/// Finds vocabulary and templates.
pub(super) fn fit(prompts: &Prompts, options: &FitOptions) -> Fitted {
    let vocabulary = Vocabulary::of(&prompts.prompts, options);
    let units: Vec<Unit> = prompts.prompts.iter().map(|prompt| vocabulary.unit(prompt)).collect();
    let conversations: Vec<usize> = prompts.prompts.iter().map(|prompt| prompt.conversations).collect();
    let alike = cluster((0..units.len()).collect(), &units, options.likeness);
    let (mut clusters, small) = split_small(collapse(alike, &units, &conversations), prompts, options);
    let again = cluster(small.into_iter().flatten().collect(), &units, options.likeness * LOOSE);
    clusters.extend(split_small(again, prompts, options).0);
    let parts = clusters
        .into_iter()
        .flat_map(|cluster| subdivide(cluster, &units, &conversations));
    let mut fitted = Fitted {
        templates: Vec::new(),
        prompts_of: Vec::new(),
        vocabulary,
    };
    for part in parts {
        let (template, members) = template(part, prompts, &units, &fitted.vocabulary);
        fitted.templates.push(template);
        fitted.prompts_of.push(members);
    }
    fitted
}

/// Clusters of these prompts by average linkage; prompts without template phrases are in none.
pub(super) fn cluster(prompts: Vec<usize>, units: &[Unit], likeness: f32) -> Vec<Vec<usize>> {
    let gathered = lead(prompts.iter().map(|prompt| &units[*prompt]));
    let means: Vec<Unit> = gathered
        .iter()
        .map(|of| mean(of.iter().map(|at| &units[prompts[*at]])))
        .collect();
    let sizes: Vec<f32> = gathered.iter().map(|of| of.len() as f32).collect();
    let mut clusters: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (of, cluster) in gathered.iter().zip(average(Likeness::of(&means), &sizes, likeness)) {
        clusters
            .entry(cluster)
            .or_default()
            .extend(of.iter().map(|at| prompts[*at]));
    }
    clusters.into_values().collect()
}

/// Clusters that can be tasks, and the others.
fn split_small(
    clusters: Vec<Vec<usize>>,
    prompts: &Prompts,
    options: &FitOptions,
) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
    clusters.into_iter().partition(|cluster| {
        let calls: Vec<usize> = cluster
            .iter()
            .flat_map(|prompt| &prompts.prompts[*prompt].calls)
            .copied()
            .collect();
        prompts.enough(&calls, options)
    })
}

/// The template of these prompts, and the prompts with the nearest first.
fn template(part: Vec<usize>, prompts: &Prompts, units: &[Unit], vocabulary: &Vocabulary) -> (Template, Vec<usize>) {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for prompt in &part {
        for phrase in vocabulary.known(&prompts.prompts[*prompt]) {
            *counts.entry(phrase).or_default() += 1;
        }
    }
    let percent = |(phrase, count): (u32, usize)| (phrase, (count * 100 / part.len().max(1)).min(100) as u8);
    let phrases: Vec<(u32, u8)> = counts
        .into_iter()
        .map(percent)
        .filter(|(_, percent)| usize::from(*percent) >= CONTENT)
        .collect();
    let weigh = |(at, percent): &(u32, u8)| (*at, vocabulary.phrases[*at as usize].1 * f32::from(*percent) / 100.0);
    let centre: Unit = phrases.iter().map(weigh).collect();
    let mut near: Vec<(f32, usize)> = part
        .iter()
        .map(|prompt| (cosine(&centre, &units[*prompt]), *prompt))
        .collect();
    near.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    let least_typical = near.get(near.len() * 19 / 20).map_or(0.0, |(likeness, _)| *likeness);
    let template = Template {
        phrases,
        floor: (least_typical * SLACK).max(FLOOR),
    };
    (template, near.into_iter().map(|(_, prompt)| prompt).collect())
}

/// Leaves out of the book the phrases that no template has.
pub(super) fn prune(vocabulary: &Vocabulary, templates: Vec<Template>) -> (Vec<(u32, f32)>, Vec<Template>) {
    let used: BTreeSet<u32> = templates
        .iter()
        .flat_map(|template| &template.phrases)
        .map(|(at, _)| *at)
        .collect();
    let renumbered: BTreeMap<u32, u32> = used.iter().copied().zip(0u32..).collect();
    let renumber = |template: Template| Template {
        phrases: template
            .phrases
            .into_iter()
            .map(|(at, percent)| (renumbered[&at], percent))
            .collect(),
        floor: template.floor,
    };
    let templates = templates.into_iter().map(renumber).collect();
    (
        used.into_iter().map(|at| vocabulary.phrases[at as usize]).collect(),
        templates,
    )
}
