//! The index over a task book: assigns a request in microseconds.
//!
//! Never changes what the book says: the same book and request give the same task on every machine.

use super::{Task, TaskBook, Template};
use crate::call::{Operation, Request, Role};
use crate::features::{Features, features};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// Which task a request belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The task's id.
    pub task: String,
    /// How like the task's template the request is, in 0..=1.
    pub confidence: f64,
}

/// A task book made ready; see [`TaskBook::compile`].
#[derive(Clone, Debug)]
pub struct CompiledBook {
    book: TaskBook,
    /// Phrase hash → index into the vocabulary.
    phrases: HashMap<u32, u32, BuildHasherDefault<Hashed>>,
    /// For each phrase of the vocabulary the range of its postings.
    ranges: Vec<(u32, u32)>,
    /// Template and the phrase's weight in its unit vector.
    postings: Vec<(u32, f32)>,
    /// For each template its rules.
    rules: Vec<Vec<Case>>,
    /// For each template the hashes of the phrases that nearly all its prompts have.
    cores: Vec<Vec<u32>>,
}

/// Per cent of a template's prompts that have a phrase, for its absence to mean something.
const CORE: u8 = 95;

/// A rule of a template; `task` is an index.
#[derive(Clone, Debug)]
struct Case {
    last: Option<Role>,
    cue: Option<u32>,
    phrases: Vec<u32>,
    task: usize,
}

impl Case {
    fn fits(&self, features: &Features) -> bool {
        (self.last.is_none() || self.last == features.last)
            && (self.cue.is_none() || self.cue == features.cue)
            && self.phrases.iter().all(|phrase| features.phrases.contains(phrase))
    }
}

/// Keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u32(&mut self, key: u32) {
        self.0 = u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl CompiledBook {
    pub(super) fn new(book: TaskBook) -> CompiledBook {
        let phrases = book
            .vocabulary
            .iter()
            .zip(0u32..)
            .map(|((hash, _), index)| (*hash, index))
            .collect();
        let mut by_phrase: Vec<Vec<(u32, f32)>> = vec![Vec::new(); book.vocabulary.len()];
        for (template, index) in book.templates.iter().zip(0u32..) {
            let weight = |(phrase, percent): &(u32, u8)| {
                let weight = book.vocabulary.get(*phrase as usize).map_or(0.0, |(_, weight)| *weight);
                (*phrase as usize, weight * f32::from(*percent) / 100.0)
            };
            let length = template
                .phrases
                .iter()
                .map(|entry| weight(entry).1.powi(2))
                .sum::<f32>()
                .sqrt();
            for entry in &template.phrases {
                let (phrase, weight) = weight(entry);
                if let Some(postings) = by_phrase.get_mut(phrase)
                    && weight > 0.0
                {
                    postings.push((index, weight / length));
                }
            }
        }
        let mut postings = Vec::new();
        let mut ranges = Vec::with_capacity(by_phrase.len());
        for of_phrase in by_phrase {
            let start = postings.len() as u32;
            postings.extend(of_phrase);
            ranges.push((start, postings.len() as u32));
        }
        let task_of: HashMap<&str, usize> = book
            .tasks
            .iter()
            .enumerate()
            .map(|(at, task)| (task.id.as_str(), at))
            .collect();
        let mut rules = vec![Vec::new(); book.templates.len()];
        for rule in &book.rules {
            if let (Some(rules), Some(task)) = (rules.get_mut(rule.template as usize), task_of.get(rule.task.as_str()))
            {
                rules.push(Case {
                    last: rule.last,
                    cue: rule.cue,
                    phrases: rule.phrases.clone(),
                    task: *task,
                });
            }
        }
        let core = |template: &Template| {
            let core = template.phrases.iter().filter(|(_, percent)| *percent >= CORE);
            core.filter_map(|(at, _)| Some(book.vocabulary.get(*at as usize)?.0))
                .collect()
        };
        let cores = book.templates.iter().map(core).collect();
        CompiledBook {
            phrases,
            ranges,
            postings,
            rules,
            cores,
            book,
        }
    }

    /// The task of `request`; `None` is `other`: it is no chat, like no template, or its task is ignored.
    pub fn assign(&self, request: &Request) -> Option<Assignment> {
        if request.operation != Operation::Chat {
            return None;
        }
        self.assign_features(&features(request))
    }

    /// As [`CompiledBook::assign`], for features at hand.
    pub fn assign_features(&self, features: &Features) -> Option<Assignment> {
        let (template, likeness) = self.nearest(features)?;
        if likeness < self.book.templates[template].floor {
            return None;
        }
        let case = self.rules[template].iter().find(|case| case.fits(features))?;
        let task = &self.book.tasks[case.task];
        (!task.ignored).then(|| Assignment {
            task: task.id.clone(),
            confidence: f64::from(likeness.min(1.0)),
        })
    }

    /// The template most like the features, and the cosine between them; ties go to the earlier template.
    pub fn nearest(&self, features: &Features) -> Option<(usize, f32)> {
        let mut seen = vec![0u64; self.ranges.len().div_ceil(64)];
        let mut scores = vec![0f32; self.book.templates.len()];
        let mut squares = 0f32;
        for hash in features.phrases.iter().chain(&features.marks) {
            let Some(phrase) = self.phrases.get(hash) else { continue };
            let phrase = *phrase as usize;
            if seen[phrase / 64] & (1 << (phrase % 64)) != 0 {
                continue;
            }
            seen[phrase / 64] |= 1 << (phrase % 64);
            let (_, weight) = self.book.vocabulary[phrase];
            squares += weight * weight;
            let (start, end) = self.ranges[phrase];
            for (template, share) in &self.postings[start as usize..end as usize] {
                scores[*template as usize] += weight * share;
            }
        }
        let (best, score) =
            scores.iter().enumerate().fold(
                (0, 0f32),
                |best, (at, score)| if *score > best.1 { (at, *score) } else { best },
            );
        (score > 0.0).then(|| (best, score / squares.sqrt()))
    }

    /// The task, as an index, that the features are nearest to (theirs, or the one whose template they fall just short of),
    /// and how many of the phrases that nearly all prompts of its template have are missing in them.
    pub fn nearest_task(&self, features: &Features) -> Option<(usize, usize)> {
        let (template, _) = self.nearest(features)?;
        let case = self.rules[template].iter().find(|case| case.fits(features))?;
        let held: HashSet<u32> = features.phrases.iter().chain(&features.marks).copied().collect();
        let missing = self.cores[template].iter().filter(|phrase| !held.contains(phrase));
        Some((case.task, missing.count()))
    }

    /// The number of the book.
    pub fn version(&self) -> i32 {
        self.book.version
    }

    /// The task of this id.
    pub fn task(&self, id: &str) -> Option<&Task> {
        self.book.task(id)
    }

    /// The book itself.
    pub fn book(&self) -> &TaskBook {
        &self.book
    }
}
