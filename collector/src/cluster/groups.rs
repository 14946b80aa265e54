//! Cuts a template's calls by who spoke last and by the cue they end with: each cut is a task.

use super::FitOptions;
use super::prompts::Prompts;
use super::templates::Fitted;
use std::collections::{BTreeMap, BTreeSet};
use understudy_call::call::Role;

/// A cue of a smaller share of the template's calls is content.
const COMMON: f32 = 0.05;
/// Cues are a closed set when the common ones are this share of all cues.
const CLOSED: f32 = 0.8;

/// Calls that become one task.
pub(super) struct Group {
    /// Index into [`Fitted::templates`].
    pub(super) template: usize,
    pub(super) last: Option<Role>,
    pub(super) cue: Option<u32>,
    /// Phrases that all its prompts hold, where an operator split it off.
    pub(super) phrases: Vec<u32>,
    /// The task that an operator's wish makes it.
    pub(super) wished: Option<String>,
    /// Indices into [`Prompts::calls`], those of the most typical prompts first.
    pub(super) calls: Vec<usize>,
    pub(super) conversations: usize,
    /// Whether other calls of the template belong here too.
    pub(super) main: bool,
}

/// The groups of all templates, largest first.
pub(super) fn groups(prompts: &Prompts, fitted: &Fitted, options: &FitOptions) -> Vec<Group> {
    let mut groups: Vec<Group> = (0..fitted.templates.len())
        .flat_map(|template| cut(template, prompts, fitted, options))
        .collect();
    groups.sort_by_key(|group| (std::cmp::Reverse(group.calls.len()), group.template));
    groups
}

fn cut(template: usize, prompts: &Prompts, fitted: &Fitted, options: &FitOptions) -> Vec<Group> {
    let of = fitted.prompts_of[template]
        .iter()
        .flat_map(|prompt| &prompts.prompts[*prompt].calls);
    let calls: Vec<usize> = of.copied().collect();
    let cues = closed_cues(&calls, prompts, options);
    // A role has no order of its own; its discriminant has.
    let mut pieces: BTreeMap<(Option<u8>, Option<u32>), Group> = BTreeMap::new();
    for at in calls {
        let call = &prompts.calls[at];
        let cue = call.cue.filter(|cue| cues.contains(cue));
        let new = || Group {
            template,
            last: call.last,
            cue,
            phrases: Vec::new(),
            wished: None,
            calls: Vec::new(),
            conversations: 0,
            main: false,
        };
        pieces
            .entry((call.last.map(|last| last as u8), cue))
            .or_insert_with(new)
            .calls
            .push(at);
    }
    let mut pieces: Vec<Group> = pieces.into_values().collect();
    pieces.sort_by_key(|group| std::cmp::Reverse(group.calls.len()));
    let Some(main) = pieces.iter().position(|group| prompts.enough(&group.calls, options)) else {
        // Enough together though not apart: one task.
        return whole(pieces, prompts).into_iter().collect();
    };
    pieces[main].main = true;
    pieces.retain(|group| prompts.enough(&group.calls, options));
    pieces
        .iter_mut()
        .for_each(|group| group.conversations = prompts.conversations(&group.calls));
    pieces
}

fn whole(pieces: Vec<Group>, prompts: &Prompts) -> Option<Group> {
    let mut rest = pieces.into_iter();
    let mut first = rest.next()?;
    rest.for_each(|group| first.calls.extend(group.calls));
    first.conversations = prompts.conversations(&first.calls);
    Some(Group {
        last: None,
        cue: None,
        main: true,
        ..first
    })
}

/// Cues that are a closed set over these calls: a few cover most of the calls that end with any.
fn closed_cues(calls: &[usize], prompts: &Prompts, options: &FitOptions) -> BTreeSet<u32> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for cue in calls.iter().filter_map(|at| prompts.calls[*at].cue) {
        *counts.entry(cue).or_default() += 1;
    }
    let with_cue: usize = counts.values().sum();
    counts.retain(|_, count| *count >= options.min_calls && *count as f32 >= calls.len() as f32 * COMMON);
    let common: usize = counts.values().sum();
    if (common as f32) < with_cue as f32 * CLOSED {
        BTreeSet::new()
    } else {
        counts.into_keys().collect()
    }
}
