//! Ids of tasks: kept from the previous book by overlap, or made at birth.

use super::groups::Group;
use super::prompts::Prompts;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use understudy_call::taskbook::TaskBook;

/// The task that each call of the sample had in the previous book.
pub(super) struct Before {
    task_of: HashMap<usize, String>,
}

impl Before {
    /// The operator's wish to ignore a task must not hide it here, or a refit would give it a new id.
    pub(super) fn of(prompts: &Prompts, previous: Option<&TaskBook>) -> Before {
        let Some(mut previous) = previous.cloned() else {
            return Before {
                task_of: HashMap::new(),
            };
        };
        previous.tasks.iter_mut().for_each(|task| task.ignored = false);
        let previous = previous.compile();
        let assigned =
            |(at, call): (usize, &super::prompts::Call)| Some((at, previous.assign(call.input.request)?.task));
        Before {
            task_of: prompts.calls.iter().enumerate().filter_map(assigned).collect(),
        }
    }

    /// The tasks that calls of a group were of, `renamed`, and how many.
    fn counts<'a>(&'a self, group: &Group, renamed: impl Fn(&'a str) -> &'a str) -> BTreeMap<&'a str, usize> {
        let mut counts = BTreeMap::new();
        for id in group.calls.iter().filter_map(|call| self.task_of.get(call)) {
            *counts.entry(renamed(id)).or_default() += 1;
        }
        counts
    }

    /// The task, `renamed`, that more than half of a group's calls were of.
    pub(super) fn most<'a>(&'a self, group: &Group, renamed: impl Fn(&'a str) -> &'a str) -> Option<&'a str> {
        let (id, count) = self
            .counts(group, renamed)
            .into_iter()
            .max_by_key(|(_, count)| *count)?;
        (count * 2 > group.calls.len()).then_some(id)
    }
}

/// One id per group: the wished one, else that of the previous task with which it shares most calls, else a new one of
/// `words` (one slug per group). Groups that share a wish share the id.
pub(super) fn ids(
    groups: &[Group],
    words: &[String],
    prompts: &Prompts,
    previous: Option<&TaskBook>,
    before: &Before,
) -> Vec<String> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    taken.extend(
        previous
            .into_iter()
            .flat_map(|book| &book.tasks)
            .map(|task| task.id.clone()),
    );
    let mut named = Vec::with_capacity(groups.len());
    for ((group, words), id) in groups.iter().zip(words).zip(carried(groups, before)) {
        let id = id.unwrap_or_else(|| born(group, words, prompts, &taken));
        taken.insert(id.clone());
        named.push(id);
    }
    named
}

/// Gives previous ids to groups, the greatest overlap first; each id once, but for wishes.
fn carried(groups: &[Group], before: &Before) -> Vec<Option<String>> {
    let mut ids: Vec<Option<String>> = groups.iter().map(|group| group.wished.clone()).collect();
    let mut used: BTreeSet<String> = ids.iter().flatten().cloned().collect();
    let mut overlaps: Vec<(usize, usize, &str)> = Vec::new();
    for (at, group) in groups.iter().enumerate() {
        let counts = before.counts(group, |id| id);
        overlaps.extend(counts.into_iter().map(|(id, count)| (count, at, id)));
    }
    overlaps.sort_by_key(|(overlap, at, id)| (std::cmp::Reverse(*overlap), *at, *id));
    for (_, at, id) in overlaps {
        if ids[at].is_none() && used.insert(id.to_owned()) {
            ids[at] = Some(id.to_owned());
        }
    }
    ids
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
