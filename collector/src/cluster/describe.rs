//! What a task is called and how it looks, without a model. Shows template lines with literals masked, never content.

use super::answers::answers;
use super::groups::Group;
use super::prompts::Prompts;
use super::templates::Fitted;
use std::collections::{BTreeMap, BTreeSet};
use understudy_call::call::Role;
use understudy_call::features::lines;
use understudy_call::taskbook::Task;

/// How many example calls a task names.
const EXAMPLES: usize = 5;
/// How many template lines a task shows, and how many characters of each.
const LINES: usize = 8;
/// See [`LINES`].
const LINE: usize = 160;
/// A line of fewer words is a heading.
const SENTENCE: usize = 7;
/// Per cent of a template's prompts that have a phrase of it, for a line to be template.
const TYPICAL: u8 = 60;
/// Words of a slug.
const WORDS: usize = 3;
/// The longest and shortest word of a slug.
const WORD: std::ops::RangeInclusive<usize> = 3..=16;
/// Words that say nothing of a task.
const STOP: &[&str] = &[
    "about",
    "above",
    "according",
    "action",
    "actions",
    "after",
    "all",
    "also",
    "always",
    "and",
    "any",
    "answer",
    "are",
    "assistant",
    "based",
    "been",
    "before",
    "begin",
    "below",
    "but",
    "can",
    "cannot",
    "content",
    "context",
    "could",
    "current",
    "does",
    "don",
    "each",
    "ensure",
    "etc",
    "every",
    "example",
    "examples",
    "false",
    "few",
    "final",
    "first",
    "following",
    "for",
    "format",
    "from",
    "given",
    "good",
    "has",
    "have",
    "help",
    "helpful",
    "her",
    "here",
    "his",
    "how",
    "http",
    "https",
    "human",
    "ing",
    "input",
    "instruction",
    "instructions",
    "into",
    "its",
    "just",
    "language",
    "last",
    "like",
    "list",
    "make",
    "may",
    "might",
    "more",
    "most",
    "must",
    "name",
    "need",
    "never",
    "new",
    "next",
    "nothing",
    "not",
    "now",
    "null",
    "number",
    "one",
    "only",
    "order",
    "other",
    "our",
    "output",
    "please",
    "provide",
    "question",
    "quoted",
    "response",
    "role",
    "same",
    "should",
    "some",
    "step",
    "steps",
    "string",
    "such",
    "system",
    "text",
    "than",
    "that",
    "the",
    "their",
    "them",
    "then",
    "there",
    "these",
    "they",
    "this",
    "those",
    "true",
    "two",
    "type",
    "use",
    "used",
    "user",
    "uses",
    "using",
    "very",
    "want",
    "was",
    "well",
    "were",
    "what",
    "when",
    "where",
    "which",
    "who",
    "will",
    "with",
    "without",
    "word",
    "words",
    "would",
    "you",
    "your",
];

/// What a group shows of itself: its template lines in order, and its words with their weight in them.
pub(super) struct Portrait {
    lines: Vec<String>,
    words: Vec<String>,
}

/// The portrait of each group, from its most typical call.
pub(super) fn portraits(groups: &[Group], prompts: &Prompts, fitted: &Fitted) -> Vec<Portrait> {
    groups.iter().map(|group| portrait(group, prompts, fitted)).collect()
}

fn portrait(group: &Group, prompts: &Prompts, fitted: &Fitted) -> Portrait {
    let typical: BTreeSet<u32> = fitted.templates[group.template]
        .phrases
        .iter()
        .filter(|(_, percent)| *percent >= TYPICAL)
        .map(|(phrase, _)| *phrase)
        .collect();
    let template = |phrases: &[u32]| {
        let known = phrases
            .iter()
            .filter(|phrase| fitted.vocabulary.at(**phrase).is_some_and(|at| typical.contains(&at)));
        known.count() * 3 > phrases.len() * 2
    };
    let shown = group
        .calls
        .first()
        .map(|call| lines(prompts.calls[*call].input.request))
        .unwrap_or_default();
    let mut seen = BTreeSet::new();
    let is_line =
        |(line, phrases): &(String, Vec<u32>)| !line.is_empty() && template(phrases) && seen.insert(line.clone());
    let lines: Vec<String> = shown.into_iter().filter(is_line).map(|(line, _)| line).collect();
    let words = lines.iter().flat_map(|line| words(line)).collect();
    Portrait { lines, words }
}

/// The words of a line that may name a task, in lower case.
fn words(line: &str) -> Vec<String> {
    let words = line
        .split(|character: char| !character.is_ascii_alphanumeric())
        .map(str::to_ascii_lowercase);
    let telling = |word: &String| {
        WORD.contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase()) && !STOP.contains(&&**word)
    };
    words.filter(telling).collect()
}

/// A slug for each group: the words that tell it from the others, in the order in which they come.
pub(super) fn slugs(groups: &[Group], portraits: &[Portrait], prompts: &Prompts) -> Vec<String> {
    // Words count per template, since the groups of one template have the same.
    let mut templates_with: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (group, portrait) in groups.iter().zip(portraits) {
        for word in &portrait.words {
            templates_with.entry(word).or_default().insert(group.template);
        }
    }
    let templates = groups
        .iter()
        .map(|group| group.template)
        .collect::<BTreeSet<usize>>()
        .len() as f64;
    let rarity = |word: &str| (1.0 + templates / templates_with.get(word).map_or(1, BTreeSet::len) as f64).ln();
    groups
        .iter()
        .zip(portraits)
        .map(|(group, portrait)| slug(group, portrait, prompts, rarity))
        .collect()
}

fn slug(group: &Group, portrait: &Portrait, prompts: &Prompts, rarity: impl Fn(&str) -> f64) -> String {
    let mut scores: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for (position, word) in portrait.words.iter().enumerate() {
        // What stands early says what the rest is about.
        let weight = rarity(word) / (8.0 + position as f64).sqrt();
        scores.entry(word).or_insert((0.0, position)).0 += weight;
    }
    let mut scores: Vec<(&str, (f64, usize))> = scores.into_iter().collect();
    scores.sort_by(|one, other| other.1.0.total_cmp(&one.1.0));
    scores.truncate(WORDS);
    scores.sort_by_key(|(_, (_, position))| *position);
    let mut slug: Vec<String> = scores.into_iter().map(|(word, _)| word.to_owned()).collect();
    if slug.is_empty() {
        slug = tools(group, prompts)
            .first()
            .map(|tool| words(&tool.replace('_', " ")))
            .unwrap_or_default();
    }
    if slug.is_empty() {
        slug.push("talk".to_owned());
    }
    if group.last == Some(Role::Tool) {
        slug.extend(["after".to_owned(), "tool".to_owned()]);
    }
    if group.cue.is_some() {
        slug.extend(
            cue(group, prompts)
                .split_whitespace()
                .map(str::to_ascii_lowercase)
                .take(2),
        );
    }
    slug.join("-")
}

/// The letters of the line that the group's calls end with.
fn cue(group: &Group, prompts: &Prompts) -> String {
    let last = group
        .calls
        .first()
        .and_then(|call| prompts.calls[*call].input.request.messages.last());
    let line = last
        .and_then(|message| message.text.trim_end().lines().last())
        .unwrap_or_default();
    let letters = |character: char| {
        if character.is_ascii_alphabetic() {
            character
        } else {
            ' '
        }
    };
    line.chars().map(letters).collect::<String>().trim().to_owned()
}

/// Each task's group with its portrait and id, largest first: groups of one id are one.
pub(super) fn whole<'a>(
    groups: Vec<Group>,
    portraits: &'a [Portrait],
    ids: &[String],
    prompts: &Prompts,
) -> Vec<(Group, &'a Portrait, String)> {
    let mut tasks: Vec<(Group, &Portrait, String)> = Vec::with_capacity(groups.len());
    for ((group, portrait), id) in groups.into_iter().zip(portraits).zip(ids) {
        match tasks.iter_mut().find(|(_, _, known)| known == id) {
            None => tasks.push((group, portrait, id.clone())),
            Some((known, _, _)) => {
                known.calls.extend(group.calls);
                known.last = known.last.filter(|last| group.last == Some(*last));
                known.conversations = prompts.conversations(&known.calls);
            }
        }
    }
    tasks.sort_by_key(|(group, _, _)| std::cmp::Reverse(group.calls.len()));
    tasks
}

/// The task of a group; `known` is the task that had its id in the previous book, `born_of` the one that most of its calls
/// were of.
pub(super) fn task(
    id: String,
    group: &Group,
    portrait: &Portrait,
    prompts: &Prompts,
    known: Option<&Task>,
    born_of: Option<&str>,
) -> Task {
    let tools = tools(group, prompts);
    let answers = answers(group, prompts);
    let plain = id.rsplit_once('-').map_or(&*id, |(words, _)| words).replace('-', " ");
    let shorten = |line: &String| line.chars().take(LINE).collect::<String>();
    Task {
        name: known.map_or(plain, |task| task.name.clone()),
        description: description(group, portrait, &tools, &answers),
        lines: portrait.lines.iter().take(LINES).map(shorten).collect(),
        size: group.calls.len() as u64,
        share: group.calls.len() as f64 / prompts.calls.len() as f64,
        conversations: group.conversations as u64,
        examples: examples(group.calls.iter(), prompts),
        rim: examples(group.calls.iter().rev(), prompts),
        turns: turns(group, prompts),
        usual: BTreeMap::new(),
        parent: known.map_or(born_of.map(str::to_owned), |task| task.parent.clone()),
        joined: known.is_some_and(|task| task.joined),
        ignored: known.is_some_and(|task| task.ignored),
        id,
        tools,
        answers,
    }
}

/// The first of these calls, each of a conversation of its own.
fn examples<'a>(calls: impl Iterator<Item = &'a usize>, prompts: &Prompts) -> Vec<String> {
    let mut conversations = BTreeSet::new();
    let inputs = calls.map(|call| prompts.calls[*call].input);
    let fresh = inputs.filter(|input| conversations.insert(input.conversation));
    fresh.take(EXAMPLES).map(|input| input.call_id.to_owned()).collect()
}

/// How many answers lay before the calls: least, median, most.
fn turns(group: &Group, prompts: &Prompts) -> Option<[u32; 3]> {
    let before = |call: &usize| {
        let messages = &prompts.calls[*call].input.request.messages;
        messages
            .iter()
            .filter(|message| message.role == Role::Assistant)
            .count() as u32
    };
    let mut turns: Vec<u32> = group.calls.iter().map(before).collect();
    turns.sort_unstable();
    Some([*turns.first()?, turns[turns.len() / 2], *turns.last()?])
}

fn description(group: &Group, portrait: &Portrait, tools: &[String], answers: &[(String, f64)]) -> String {
    let mut parts = Vec::new();
    let sentence = portrait
        .lines
        .iter()
        .find(|line| line.split_whitespace().count() >= SENTENCE);
    if let Some(line) = sentence.or(portrait.lines.first()) {
        parts.push(line.chars().take(LINE).collect());
    }
    match tools {
        [] => {}
        [tool] => parts.push(format!("offers the tool {tool}")),
        [..] => parts.push(format!("offers {} tools", tools.len())),
    }
    match group.last {
        Some(Role::Tool) => parts.push("after a tool's result".to_owned()),
        Some(Role::Assistant) => parts.push("after the model's own answer".to_owned()),
        _ => {}
    }
    let most: Vec<String> = answers
        .iter()
        .take(3)
        .map(|(kind, share)| format!("{} {:.0} %", kind.replace(':', " "), share * 100.0))
        .collect();
    if !most.is_empty() {
        parts.push(format!("answers {}", most.join(", ")));
    }
    parts.join("; ")
}

/// Tools that most of the group's calls offer, sorted.
fn tools(group: &Group, prompts: &Prompts) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for at in &group.calls {
        for tool in &prompts.calls[*at].input.request.tools {
            *counts.entry(&tool.name).or_default() += 1;
        }
    }
    let usual = |(name, count): (&str, usize)| (count * 2 > group.calls.len()).then(|| name.to_owned());
    counts.into_iter().filter_map(usual).collect()
}
