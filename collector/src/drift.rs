//! Whether a task's calls are still what they were when it was fitted: a prompt, tool schema, answer mix or length that
//! changed.
//!
//! For each aspect a value per call, small enough to count. A fit counts the values ([`learn`]); a [`Watch`] counts those
//! of the last conversations and compares: a value whose share moved by a quarter, and by more than chance explains, is a
//! drift. Chance is bounded by Chernoff's inequality for binomial counts, against the fit's share give or take its own
//! error, at odds so long that looking after every call raises no false alarm. The unit is the conversation: its steps
//! repeat one another, so a value counts once in it. The latest are looked at in runs of several lengths, so that what
//! changed just now is not lost among what came before. Pure: no IO, no clock.

mod lines;

use crate::answer::kind;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use understudy_call::call::{Operation, Request, Response};
use understudy_call::features::{features, mask_literals};
use understudy_call::taskbook::{CompiledBook, TaskBook, Usual};

/// Conversations of the latest calls that are compared with the fit.
const WINDOW: usize = 150;
/// Fewer conversations with an aspect, in the fit, tell nothing of it.
const KNOWN: u32 = 20;
/// A share must move by so much to matter.
const MOVED: f64 = 0.25;
/// Logarithm of the odds against a false alarm, for one value at one look; there are many of both.
const SURE: f64 = 18.4;
/// Logarithm of the odds against the fit's own share being off by more than is allowed for.
const SURE_OF_FIT: f64 = 6.9;
/// Values that a fit counts apart; rarer ones are counted together, with those it never saw.
const VALUES: usize = 12;
/// The value that stands for all others.
const OTHERS: u32 = 0;

/// What may change in a task's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// The system prompt, literals masked.
    System,
    /// How much of the prompt's template is missing.
    Template,
    /// A line of the opening prompt that is new, or gone.
    Lines,
    /// Names and schemas of the tools offered.
    Tools,
    /// What kind of answer comes back.
    Answer,
    /// How long written answers are, in powers of two.
    Length,
}

impl Aspect {
    fn name(self) -> &'static str {
        match self {
            Aspect::System => "system",
            Aspect::Template => "template",
            Aspect::Lines => "lines",
            Aspect::Tools => "tools",
            Aspect::Answer => "answer",
            Aspect::Length => "length",
        }
    }
}

/// A change that chance does not explain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// What changed.
    pub aspect: Aspect,
    /// Share of the latest conversations that have the value that moved most, in 0..=1.
    pub share: f64,
    /// Its share when the task was fitted.
    pub usual: f64,
    /// How many conversations the latest ones are.
    pub conversations: usize,
}

impl fmt::Display for Drift {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.aspect {
            Aspect::System => "the system prompt",
            Aspect::Template => "the prompt's template",
            Aspect::Lines => "a line of the prompt",
            Aspect::Tools => "the tools offered",
            Aspect::Answer => "the kind of answer",
            Aspect::Length => "the length of answers",
        };
        let (share, usual) = (self.share * 100.0, self.usual * 100.0);
        write!(
            out,
            "{what} changed: {share:.0} % of the last {} conversations have what {usual:.0} % had at the fit",
            self.conversations
        )
    }
}

/// What a watch must know of a call: its task and a value for each aspect.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// The task whose template is nearest, though too far for the call to be of it: its place in the book.
    task: usize,
    values: Vec<(Aspect, u32)>,
    /// Hashes of the opening prompt's lines.
    lines: Vec<u32>,
}

impl Look {
    /// Looks at a call; `response` where what was answered is known. None where no task is near.
    pub fn at(book: &CompiledBook, request: &Request, response: Option<&Response>) -> Option<Look> {
        if request.operation != Operation::Chat {
            return None;
        }
        let features = features(request);
        let (task, missing) = book.nearest_task(&features)?;
        let mut values = vec![
            (Aspect::System, hash(&mask_literals(&request.system_text()))),
            (Aspect::Tools, tools(request)),
            // Names of tools are part of the template: after what says more.
            (Aspect::Template, how_many(missing)),
        ];
        if let Some(response) = response {
            values.push((Aspect::Answer, hash(&kind(response))));
            if response.tool_calls.is_empty() && !response.output_text.is_empty() {
                values.push((Aspect::Length, 1 + response.output_text.len().ilog2()));
            }
        }
        Some(Look {
            task,
            values,
            lines: lines::of(request),
        })
    }
}

/// Counts in `book`, per task, what its calls (each its conversation, request and response) are usually like.
pub fn learn<'a>(book: &mut TaskBook, calls: impl Iterator<Item = (&'a str, &'a Request, Option<&'a Response>)>) {
    let compiled = book.clone().compile();
    let mut seen: BTreeSet<(usize, Aspect, u32, &str)> = BTreeSet::new();
    let mut openings: BTreeMap<(usize, &str), Vec<u32>> = BTreeMap::new();
    for (conversation, request, response) in calls {
        let Some(look) = Look::at(&compiled, request, response) else {
            continue;
        };
        openings.entry((look.task, conversation)).or_insert(look.lines);
        let value = |(aspect, value)| (look.task, aspect, value, conversation);
        seen.extend(look.values.into_iter().map(value));
    }
    let mut counts: BTreeMap<(usize, Aspect), BTreeMap<u32, u32>> = BTreeMap::new();
    for (task, aspect, value, _) in seen {
        *counts.entry((task, aspect)).or_default().entry(value).or_default() += 1;
    }
    for ((task, aspect), values) in counts {
        let mut values: Vec<(u32, u32)> = values.into_iter().collect();
        values.sort_by_key(|(value, count)| (std::cmp::Reverse(*count), *value));
        let total = values.iter().map(|(_, count)| count).sum();
        values.truncate(VALUES);
        book.tasks[task]
            .usual
            .insert(aspect.name().to_owned(), Usual { values, total });
    }
    for (task, usual) in lines::usual(&openings) {
        book.tasks[task].usual.insert(Aspect::Lines.name().to_owned(), usual);
    }
}

/// So many missing phrases as a class: none, or a power of two.
fn how_many(missing: usize) -> u32 {
    match missing {
        0 => 1,
        missing => 2 + missing.ilog2(),
    }
}

fn tools(request: &Request) -> u32 {
    let mut offered: Vec<String> = request
        .tools
        .iter()
        .map(|tool| format!("{}\n{}", tool.name, tool.schema))
        .collect();
    offered.sort_unstable();
    hash(&offered.join("\n"))
}

/// Never [`OTHERS`]. Book and watch must agree on it, so it is stable.
fn hash(text: &str) -> u32 {
    let digest = blake3::hash(text.as_bytes());
    let four = digest.as_bytes().first_chunk().copied().unwrap_or_default();
    u32::from_le_bytes(four).max(1)
}

/// The tasks that a running ingest has seen to drift, and how: for who decides over their splits. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Drifted(Arc<Mutex<BTreeMap<String, String>>>);

impl Drifted {
    /// How a task drifted, if it did.
    pub fn of(&self, task: &str) -> Option<String> {
        self.lock().get(task).cloned()
    }

    pub(crate) fn add(&self, task: &str, book: i32, drift: &Drift) {
        let words = format!("since task book {book} {drift}");
        self.lock().insert(task.to_owned(), words);
    }

    /// There is a newer book: what drifted was fitted anew.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches all tasks of a book; a few kilobytes a task.
#[derive(Serialize, Deserialize)]
pub struct Watch {
    tasks: HashMap<usize, BTreeMap<Aspect, Latest>>,
    /// Too many to be kept: after a restart they are gathered anew.
    #[serde(skip)]
    lines: HashMap<usize, lines::Latest>,
    drifted: BTreeMap<usize, Drift>,
}

/// The latest conversations and their value of one aspect.
#[derive(Default, Serialize, Deserialize)]
struct Latest {
    window: VecDeque<(u64, u32)>,
}

impl Watch {
    /// Nothing seen yet.
    pub fn new() -> Watch {
        Watch {
            tasks: HashMap::new(),
            lines: HashMap::new(),
            drifted: BTreeMap::new(),
        }
    }

    /// Takes the next call, of this conversation; the task's id where it is seen to have drifted just now. A drift stays until
    /// the next book.
    pub fn push<'a>(&mut self, book: &'a CompiledBook, conversation: &str, look: &Look) -> Option<(&'a str, &Drift)> {
        let known = book.book().tasks.get(look.task)?;
        let conversation = {
            let digest = blake3::hash(conversation.as_bytes());
            u64::from_le_bytes(digest.as_bytes().first_chunk().copied().unwrap_or_default())
        };
        let latest = self.tasks.entry(look.task).or_default();
        let mut found: Option<Drift> = None;
        for &(aspect, value) in &look.values {
            let Some(usual) = known.usual.get(aspect.name()).filter(|usual| usual.total >= KNOWN) else {
                continue;
            };
            let is_known = usual.values.iter().any(|(known, _)| *known == value);
            let value = if is_known { value } else { OTHERS };
            let latest = latest.entry(aspect).or_default();
            if latest.push(conversation, value) {
                let drift = latest.drift(aspect, usual);
                // Of equals the first aspect, which says most.
                found = drift
                    .into_iter()
                    .chain(found)
                    .max_by(|one, other| one.moved().total_cmp(&other.moved()));
            }
        }
        // A line says least: what else changed has a name.
        if let Some(usual) = known
            .usual
            .get(Aspect::Lines.name())
            .filter(|usual| usual.total >= KNOWN)
        {
            let latest = self.lines.entry(look.task).or_default();
            let drift = latest.push(conversation, &look.lines, usual);
            found = found.or(drift);
        }
        let drift = found?;
        match self.drifted.entry(look.task) {
            std::collections::btree_map::Entry::Occupied(_) => None,
            std::collections::btree_map::Entry::Vacant(place) => Some((&known.id, place.insert(drift))),
        }
    }

    /// The drifted tasks by their place in the book.
    pub fn drifted(&self) -> &BTreeMap<usize, Drift> {
        &self.drifted
    }
}

impl Default for Watch {
    fn default() -> Watch {
        Watch::new()
    }
}

impl Drift {
    fn moved(&self) -> f64 {
        (self.share - self.usual).abs()
    }
}

impl Latest {
    /// Whether it is news: a value counts once a conversation.
    fn push(&mut self, conversation: u64, value: u32) -> bool {
        if self.window.contains(&(conversation, value)) {
            return false;
        }
        self.window.push_back((conversation, value));
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
        true
    }

    fn drift(&self, aspect: Aspect, usual: &Usual) -> Option<Drift> {
        let then = f64::from(usual.total);
        let named: u32 = usual.values.iter().map(|(_, count)| count).sum();
        let others = (OTHERS, usual.total.saturating_sub(named));
        let moved = runs(self.window.len()).filter_map(|run| {
            let latest = self.window.iter().rev().take(run);
            let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
            latest.for_each(|(_, value)| *counts.entry(*value).or_default() += 1);
            let moved = usual.values.iter().chain([&others]).filter_map(|(value, count)| {
                let count_now = counts.get(value).copied().unwrap_or(0);
                moved(aspect, count_now, run, f64::from(*count) / then, then)
            });
            moved.max_by(|one, other| one.moved().total_cmp(&other.moved()))
        });
        moved.max_by(|one, other| one.moved().total_cmp(&other.moved()))
    }
}

/// How many of the latest conversations are looked at: all, half of them, and so on.
fn runs(all: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(all), |run| Some(run / 2)).take_while(|run| *run > 4)
}

/// The drift of one value, seen in `count` of the latest `run` conversations; its share was `usual` in `then` of the fit.
fn moved(aspect: Aspect, count: usize, run: usize, usual: f64, then: f64) -> Option<Drift> {
    let now = run as f64;
    let share = count as f64 / now;
    if (share - usual).abs() < MOVED {
        return None;
    }
    let limit = reach(usual, then, share > usual);
    let is_beyond = if share > usual { share > limit } else { share < limit };
    (is_beyond && now * divergence(share, limit) > SURE).then_some(Drift {
        aspect,
        share,
        usual,
        conversations: run,
    })
}

/// How far above (or below) a share seen in `count` cases the true one may lie.
fn reach(share: f64, count: f64, above: bool) -> f64 {
    let (mut near, mut far) = (share, if above { 1.0 } else { 0.0 });
    for _ in 0..30 {
        let middle = (near + far) / 2.0;
        if count * divergence(share, middle) > SURE_OF_FIT {
            far = middle;
        } else {
            near = middle;
        }
    }
    far
}

/// Kullback-Leibler divergence of two shares, in nats.
fn divergence(of: f64, from: f64) -> f64 {
    let part = |of: f64, from: f64| match (of, from) {
        (0.0, _) => 0.0,
        (_, 0.0) => f64::INFINITY,
        _ => of * (of / from).ln(),
    };
    part(of, from) + part(1.0 - of, 1.0 - from)
}

#[cfg(test)]
mod tests;
