//! The lines of opening prompts: one that most of the latest conversations have and few had at the fit is new to the
//! template, whatever else the prompts hold; one that they lost is gone from it.

use super::{Aspect, Drift, WINDOW, hash, moved, runs};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use understudy_call::call::{Request, Role};
use understudy_call::features::mask_literals;
use understudy_call::taskbook::Usual;

/// Shorter lines are no instructions.
const WORDS: usize = 3;
/// Lines of one opening that are looked at.
const MOST: usize = 512;
/// Lines that fewer of the fit's openings had are counted as if so many had: they are content.
const RARE: f64 = 0.05;
/// New conversations between two looks at all lines.
const EVERY: usize = 3;

/// The lines of what a conversation opens with, literals masked, each once.
pub(super) fn of(request: &Request) -> Vec<u32> {
    let opening = request
        .messages
        .iter()
        .take_while(|message| message.role != Role::Assistant);
    let lines = opening.flat_map(|message| message.text.lines());
    let instructions = lines.filter(|line| line.split_whitespace().nth(WORDS - 1).is_some());
    let hashes: BTreeSet<u32> = instructions
        .take(MOST)
        .map(|line| hash(&mask_literals(line.trim())))
        .collect();
    hashes.into_iter().collect()
}

/// The lines that are no content, by task, with how many of its conversations open with each.
pub(super) fn usual(openings: &BTreeMap<(usize, &str), Vec<u32>>) -> BTreeMap<usize, Usual> {
    let mut of_task: BTreeMap<usize, (u32, BTreeMap<u32, u32>)> = BTreeMap::new();
    for ((task, _), lines) in openings {
        let (total, counts) = of_task.entry(*task).or_default();
        *total += 1;
        lines.iter().for_each(|line| *counts.entry(*line).or_default() += 1);
    }
    let kept = |(task, (total, counts)): (usize, (u32, BTreeMap<u32, u32>))| {
        let is_common = |(_, count): &(u32, u32)| f64::from(*count) >= RARE * f64::from(total);
        let mut values: Vec<(u32, u32)> = counts.into_iter().filter(is_common).collect();
        values.sort_by_key(|(value, count)| (std::cmp::Reverse(*count), *value));
        values.truncate(MOST);
        (task, Usual { values, total })
    };
    of_task.into_iter().map(kept).collect()
}

/// The latest conversations and the lines that each opened with.
#[derive(Default)]
pub(super) struct Latest {
    window: VecDeque<(u64, Vec<u32>)>,
    since: usize,
}

impl Latest {
    /// Takes the opening of a conversation, if it is a new one, and looks for drifts now and then.
    pub(super) fn push(&mut self, conversation: u64, lines: &[u32], usual: &Usual) -> Option<Drift> {
        if self.window.iter().any(|(known, _)| *known == conversation) {
            return None;
        }
        self.window.push_back((conversation, lines.to_vec()));
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
        self.since += 1;
        if !self.since.is_multiple_of(EVERY) {
            return None;
        }
        let then = f64::from(usual.total);
        let shares: HashMap<u32, f64> = usual
            .values
            .iter()
            .map(|(line, count)| (*line, f64::from(*count) / then))
            .collect();
        let drifts = runs(self.window.len()).filter_map(|run| self.drift(run, &shares, then));
        drifts.max_by(|one, other| one.moved().total_cmp(&other.moved()))
    }

    fn drift(&self, run: usize, shares: &HashMap<u32, f64>, then: f64) -> Option<Drift> {
        let mut counts: HashMap<u32, usize> = shares.keys().map(|line| (*line, 0)).collect();
        let latest = self.window.iter().rev().take(run);
        for line in latest.flat_map(|(_, lines)| lines) {
            *counts.entry(*line).or_default() += 1;
        }
        let drifts = counts.into_iter().filter_map(|(line, count)| {
            let usual = shares.get(&line).copied().unwrap_or(RARE);
            moved(Aspect::Lines, count, run, usual, then)
        });
        // Of equals always the same one.
        drifts.max_by(|one, other| {
            one.moved()
                .total_cmp(&other.moved())
                .then(one.share.total_cmp(&other.share))
        })
    }
}
