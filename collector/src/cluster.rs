//! Finds the tasks in kept calls and writes them to a task book.
//!
//! Template phrases are those that recur over distinct prompts; prompts that share them are of one template, templates
//! that are versions of one another are one cluster, and a cluster is cut by who spoke last and by its closed set of
//! cues. Reads requests; a response only describes a task, it never decides one. The result depends neither on the
//! order of the calls nor on a clock.

mod describe;
mod identity;
mod linkage;
mod prompts;
mod subdivide;
mod templates;

use prompts::Prompts;
use understudy_call::call::{Request, Response};
use understudy_call::taskbook::{Rule, SCHEMA, TaskBook};

/// One kept call to learn from.
#[derive(Clone, Copy, Debug)]
pub struct FitInput<'a> {
    /// Our id of the call; unique among the inputs.
    pub call_id: &'a str,
    /// Its conversation.
    pub conversation: &'a str,
    /// What was asked; decides the task.
    pub request: &'a Request,
    /// What was answered; describes the task.
    pub response: Option<&'a Response>,
}

/// How to fit.
#[derive(Clone, Debug, PartialEq)]
pub struct FitOptions {
    /// Which sample is drawn.
    pub seed: u64,
    /// The most calls used.
    pub sample: usize,
    /// Fewer calls are no task.
    pub min_calls: usize,
    /// Calls of fewer conversations are no task.
    pub min_conversations: usize,
    /// A phrase of fewer distinct prompts is content, not template.
    pub min_prompts: usize,
    /// Templates at least this alike (mean cosine, 0..=1) are versions of one.
    pub likeness: f32,
    /// Power of a phrase's rarity in its weight.
    pub rarity: f32,
}

impl Default for FitOptions {
    fn default() -> FitOptions {
        FitOptions {
            seed: 0,
            sample: 20_000,
            min_calls: 5,
            min_conversations: 3,
            min_prompts: 3,
            likeness: 0.35,
            rarity: 0.0,
        }
    }
}

/// A fit that can't be done.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Nothing to learn from.
    #[error("can't fit tasks: no call with messages among {calls}")]
    NoCalls {
        /// How many calls there were.
        calls: usize,
    },
    /// The previous book can't be carried on.
    #[error("can't fit tasks on the previous task book: it has schema {found}, this version reads {SCHEMA}")]
    Previous {
        /// The schema found.
        found: i32,
    },
}

/// Finds the tasks in `calls`; ids of tasks that `previous` knows stay.
///
/// # Errors
/// No calls with messages; a previous book of another schema.
pub fn fit(calls: &[FitInput], previous: Option<&TaskBook>, options: &FitOptions) -> Result<TaskBook, FitError> {
    if let Some(previous) = previous
        && previous.schema != SCHEMA
    {
        return Err(FitError::Previous { found: previous.schema });
    }
    let prompts = Prompts::gather(calls, options);
    if prompts.calls.is_empty() {
        return Err(FitError::NoCalls { calls: calls.len() });
    }
    let fitted = templates::fit(&prompts, options);
    let mut groups = prompts.groups(&fitted, options);
    groups.sort_by(|one, other| {
        other
            .calls
            .len()
            .cmp(&one.calls.len())
            .then(one.key().cmp(&other.key()))
    });
    let ids = identity::ids(&groups, &prompts, previous);
    let mut book = TaskBook {
        version: previous.map_or(1, |previous| previous.version + 1),
        schema: SCHEMA,
        created_at: None,
        calls: calls.len() as u64,
        sampled: prompts.calls.len() as u64,
        other: 0.0,
        tasks: Vec::new(),
        vocabulary: fitted.vocabulary.clone(),
        templates: fitted.templates.clone(),
        rules: Vec::new(),
    };
    for (group, id) in groups.iter().zip(&ids) {
        book.tasks
            .push(describe::task(group, &prompts, &fitted, previous, id.clone()));
        let rule = |(template, last, cue): &(u32, _, _)| Rule {
            template: *template,
            last: *last,
            cue: *cue,
            task: id.clone(),
        };
        book.rules.extend(group.rules.iter().map(rule));
    }
    // The narrowest rule first.
    book.rules
        .sort_by_key(|rule| (rule.template, rule.cue.is_none(), rule.last.is_none()));
    let used: u64 = book.tasks.iter().map(|task| task.size).sum();
    book.other = 1.0 - used as f64 / book.sampled as f64;
    Ok(book)
}
