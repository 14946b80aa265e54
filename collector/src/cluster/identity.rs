//! Ids of tasks: kept from the previous book by overlap, or made at birth.

use super::groups::Group;
use super::prompts::Prompts;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use understudy_call::taskbook::TaskBook;

/// One id per group: that of the previous task with which it shares most calls, else a new one of `words` (one slug per
/// group).
pub(super) fn ids(groups: &[Group], words: &[String], prompts: &Prompts, previous: Option<&TaskBook>) -> Vec<String> {
    let mut ids: Vec<Option<String>> = vec![None; groups.len()];
    let mut taken: BTreeSet<String> = BTreeSet::new();
    if let Some(previous) = previous {
        taken.extend(previous.tasks.iter().map(|task| task.id.clone()));
        carry(groups, prompts, previous, &mut ids);
    }
    let mut named = Vec::with_capacity(groups.len());
    for ((group, words), id) in groups.iter().zip(words).zip(ids) {
        let id = id.unwrap_or_else(|| born(group, words, prompts, &taken));
        taken.insert(id.clone());
        named.push(id);
    }
    named
}

/// Gives previous ids to groups, the greatest overlap first; each id once. The operator's wish to ignore a task must not
/// hide it here, or a refit would give it a new id.
fn carry(groups: &[Group], prompts: &Prompts, previous: &TaskBook, ids: &mut [Option<String>]) {
    let mut seen = previous.clone();
    seen.tasks.iter_mut().for_each(|task| task.ignored = false);
    let seen = seen.compile();
    let mut before: HashMap<usize, String> = HashMap::new();
    for call in groups.iter().flat_map(|group| &group.calls) {
        if let Some(assignment) = seen.assign(prompts.calls[*call].input.request) {
            before.insert(*call, assignment.task);
        }
    }
    let mut overlaps: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for (at, group) in groups.iter().enumerate() {
        for id in group.calls.iter().filter_map(|call| before.get(call)) {
            *overlaps.entry((at, id)).or_default() += 1;
        }
    }
    let mut overlaps: Vec<((usize, &str), usize)> = overlaps.into_iter().collect();
    overlaps.sort_by_key(|(pair, overlap)| (std::cmp::Reverse(*overlap), *pair));
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for ((at, id), _) in overlaps {
        if ids[at].is_none() && used.insert(id) {
            ids[at] = Some(id.to_owned());
        }
    }
}

/// The words and four hex digits of a hash over them and the most typical prompt.
fn born(group: &Group, words: &str, prompts: &Prompts, taken: &BTreeSet<String>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(words.as_bytes());
    if let Some(call) = group.calls.first() {
        for (line, _) in understudy_call::features::lines(prompts.calls[*call].input.request) {
            hasher.update(line.as_bytes());
        }
    }
    loop {
        let id = format!("{words}-{}", &hasher.finalize().to_hex()[..4]);
        if !taken.contains(&id) {
            return id;
        }
        hasher.update(b"again");
    }
}
