//! Ids of tasks: kept from the previous book by overlap, or made at birth.

use super::prompts::{Group, Prompts};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use understudy_call::taskbook::TaskBook;

/// One id per group: that of the previous task with which it shares most calls, else a new one.
pub(super) fn ids(groups: &[Group], prompts: &Prompts, previous: Option<&TaskBook>) -> Vec<String> {
    let mut ids: Vec<Option<String>> = vec![None; groups.len()];
    let mut taken: BTreeSet<String> = BTreeSet::new();
    if let Some(previous) = previous {
        taken.extend(previous.tasks.iter().map(|task| task.id.clone()));
        carry(groups, prompts, previous, &mut ids);
    }
    let mut named = Vec::with_capacity(groups.len());
    for (group, id) in groups.iter().zip(ids) {
        let id = id.unwrap_or_else(|| born(group, prompts, &taken));
        taken.insert(id.clone());
        named.push(id);
    }
    named
}

/// Gives previous ids to groups, the greatest overlap first; each id once.
fn carry(groups: &[Group], prompts: &Prompts, previous: &TaskBook, ids: &mut [Option<String>]) {
    let compiled = previous.clone().compile();
    let mut before: HashMap<usize, String> = HashMap::new();
    for (at, call) in prompts.calls.iter().enumerate() {
        if let Some(assignment) = compiled.assign(call.input.request) {
            before.insert(at, assignment.task);
        }
    }
    let mut overlaps: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for (at, group) in groups.iter().enumerate() {
        for id in group.calls.iter().filter_map(|call| before.get(call)) {
            *overlaps.entry((at, id)).or_default() += 1;
        }
    }
    let mut overlaps: Vec<((usize, &str), usize)> = overlaps.into_iter().collect();
    overlaps.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(&other.0)));
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for ((at, id), _) in overlaps {
        if ids[at].is_none() && used.insert(id) {
            ids[at] = Some(id.to_owned());
        }
    }
}

/// A slug of the group's words and four hex digits.
fn born(group: &Group, prompts: &Prompts, taken: &BTreeSet<String>) -> String {
    let words = super::describe::slug(group, prompts);
    let mut hasher = blake3::Hasher::new();
    hasher.update(words.as_bytes());
    hasher.update(&group.cue.unwrap_or_default().to_le_bytes());
    let mut salt = 0u32;
    loop {
        hasher.update(&salt.to_le_bytes());
        let id = format!("{words}-{}", &hasher.finalize().to_hex()[..4]);
        if !taken.contains(&id) {
            return id;
        }
        salt += 1;
    }
}
