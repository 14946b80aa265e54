//! Finds the tasks in kept calls and writes them to a task book.
//!
//! Template phrases are those that recur over distinct prompts; prompts that share most of them are of one template, a template
//! whose slots take a few values is several, and each is cut by who spoke last and by its closed set of cues. Reads requests; a response only describes a task, it never decides one. The result depends neither on the
//! order of the calls nor on a clock.

mod answers;
mod collapse;
mod describe;
mod groups;
mod identity;
mod linkage;
mod prompts;
mod subdivide;
mod templates;
#[cfg(test)]
mod tests;
mod units;
mod vocabulary;
mod wishes;

use crate::drift;
use identity::Before;
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
}

impl Default for FitOptions {
    fn default() -> FitOptions {
        FitOptions {
            seed: 0,
            sample: 20_000,
            min_calls: 5,
            min_conversations: 3,
            min_prompts: 4,
            likeness: 0.40,
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
    let before = Before::of(&prompts, previous);
    let mut groups = groups::groups(&prompts, &fitted, options);
    if let Some(previous) = previous {
        groups = wishes::apply(groups, &prompts, previous, &before);
    }
    let portraits = describe::portraits(&groups, &prompts, &fitted);
    let slugs = describe::slugs(&groups, &portraits, &prompts);
    let ids = identity::ids(&groups, &slugs, &prompts, previous, &before);
    let mut rules = Vec::with_capacity(groups.len());
    for (group, id) in groups.iter().zip(&ids) {
        let template = group.template as u32;
        rules.push(Rule {
            template,
            last: group.last,
            cue: group.cue,
            phrases: group.phrases.clone(),
            task: id.clone(),
        });
        if group.main {
            rules.push(Rule {
                template,
                last: None,
                cue: None,
                phrases: group.phrases.clone(),
                task: id.clone(),
            });
        }
    }
    Rule::sort(&mut rules);
    rules.dedup();
    let mut tasks = Vec::with_capacity(groups.len());
    for (group, portrait, id) in describe::whole(groups, &portraits, &ids, &prompts) {
        let known = previous.and_then(|book| book.task(&id));
        let born_of = before
            .most(&group, |id| id)
            .filter(|parent| ids.iter().any(|id| id == parent));
        tasks.push(describe::task(id, &group, portrait, &prompts, known, born_of));
    }
    let (vocabulary, templates) = templates::prune(&fitted.vocabulary, fitted.templates);
    let mut book = TaskBook {
        version: previous.map_or(1, |previous| previous.version + 1),
        schema: SCHEMA,
        created_at: None,
        fitted_at: None,
        calls: calls.len() as u64,
        sampled: prompts.calls.len() as u64,
        other: 1.0 - tasks.iter().map(|task| task.share).sum::<f64>(),
        tasks,
        vocabulary,
        templates,
        rules,
    };
    let calls = prompts.calls.iter().map(|call| call.input);
    drift::learn(
        &mut book,
        calls.map(|call| (call.conversation, call.request, call.response)),
    );
    Ok(book)
}
