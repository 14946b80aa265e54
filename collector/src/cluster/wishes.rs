//! An operator's merges and splits outlive a refit: groups of merged tasks stay one task, split tasks stay apart.

use super::groups::Group;
use super::identity::Before;
use super::prompts::Prompts;
use std::collections::BTreeMap;
use understudy_call::features::features;
use understudy_call::taskbook::TaskBook;

/// An operator's split: calls of `parent` whose prompt holds all `phrases` are of `child`.
struct Split<'a> {
    parent: &'a str,
    child: &'a str,
    phrases: &'a [u32],
}

/// Cuts groups at the operator's splits and marks those that a wish makes a certain task, largest first.
pub(super) fn apply(mut groups: Vec<Group>, prompts: &Prompts, previous: &TaskBook, before: &Before) -> Vec<Group> {
    let splits = splits(previous);
    for group in &mut groups {
        let task = before.most(group, |id| parent(&splits, id));
        let joined = task.and_then(|id| previous.task(id)).is_some_and(|task| task.joined);
        group.wished = task.filter(|_| joined).map(str::to_owned);
    }
    // A split of a split is cut after it.
    for split in &splits {
        let cut: Vec<Group> = groups
            .iter_mut()
            .filter_map(|group| cut(group, split, prompts, before))
            .collect();
        groups.extend(cut);
    }
    groups.retain(|group| !group.calls.is_empty());
    for group in &mut groups {
        group.conversations = prompts.conversations(&group.calls);
    }
    groups.sort_by_key(|group| (std::cmp::Reverse(group.calls.len()), group.template));
    groups
}

/// Takes the calls of a split out of a group of its parent's.
fn cut(group: &mut Group, split: &Split, prompts: &Prompts, before: &Before) -> Option<Group> {
    let of_parent = match &group.wished {
        Some(task) => task == split.parent,
        None => before.most(group, |id| if id == split.child { split.parent } else { id }) == Some(split.parent),
    };
    if !of_parent {
        return None;
    }
    let held = |call: &usize| {
        let phrases = features(prompts.calls[*call].input.request).phrases;
        split.phrases.iter().all(|phrase| phrases.contains(phrase))
    };
    let (taken, left): (Vec<usize>, Vec<usize>) = group.calls.iter().copied().partition(held);
    group.calls = left;
    Some(Group {
        phrases: split.phrases.to_vec(),
        wished: Some(split.child.to_owned()),
        calls: taken,
        ..*group
    })
}

/// The splits of a book, those of fewer phrases first.
fn splits(book: &TaskBook) -> Vec<Split<'_>> {
    let mut splits: BTreeMap<(usize, &str), Split> = BTreeMap::new();
    for rule in book.rules.iter().filter(|rule| !rule.phrases.is_empty()) {
        let parent = book.task(&rule.task).and_then(|task| task.parent.as_deref());
        if let Some(parent) = parent {
            let split = Split {
                parent,
                child: &rule.task,
                phrases: &rule.phrases,
            };
            splits.insert((rule.phrases.len(), &rule.task), split);
        }
    }
    splits.into_values().collect()
}

/// The task that was split, first of all, to give this one.
fn parent<'a>(splits: &[Split<'a>], mut id: &'a str) -> &'a str {
    for split in splits.iter().rev() {
        if split.child == id {
            id = split.parent;
        }
    }
    id
}
