//! The task book: which tasks there are, and to which of them a request belongs.
//!
//! Assigning is a pure function of the request and the book, the same in the proxy and offline. A book holds masked
//! template lines, hashes and call ids; it never holds the text of a call.

mod compiled;

pub use compiled::{Assignment, CompiledBook};

use crate::call::Role;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format of books that this version writes, and the meaning of the hashes in them.
pub const SCHEMA: i32 = 1;

/// All tasks of one version, and how a request is assigned to one of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskBook {
    /// The number of the book; grows by one with each fit or edit.
    pub version: i32,
    /// See [`SCHEMA`].
    pub schema: i32,
    /// When the book was made (RFC 3339); the fit itself knows no clock, so whoever stores the book says it.
    #[serde(default)]
    pub created_at: Option<String>,
    /// When the tasks were found (RFC 3339): an edit makes a book, not a fit.
    #[serde(default)]
    pub fitted_at: Option<String>,
    /// How many calls the fit saw, and how many of them it used.
    #[serde(default)]
    pub calls: u64,
    /// Calls used by the fit.
    #[serde(default)]
    pub sampled: u64,
    /// Share of the used calls that belong to no task, in 0..=1.
    #[serde(default)]
    pub other: f64,
    /// The tasks, largest first.
    pub tasks: Vec<Task>,
    /// Template phrases: hash and weight; [`Template::phrases`] point here.
    pub vocabulary: Vec<(u32, f32)>,
    /// Prompt templates.
    pub templates: Vec<Template>,
    /// From template, last speaker and cue to a task; the first that fits decides.
    pub rules: Vec<Rule>,
}

/// A recurring kind of call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Slug fixed at birth, such as `invoice-extract-7f3a`.
    pub id: String,
    /// Name for people; may change.
    pub name: String,
    /// One sentence: how it begins, what it offers, what comes back.
    pub description: String,
    /// Template lines, literals masked; the most telling first.
    pub lines: Vec<String>,
    /// Names of the tools offered in most of its calls, sorted.
    pub tools: Vec<String>,
    /// Calls of the task among those used by the fit.
    pub size: u64,
    /// Share of those calls, in 0..=1.
    pub share: f64,
    /// Conversations among those calls.
    pub conversations: u64,
    /// What was answered (`tool:<name>`, `json`, `label`, `form`, `prose`, `empty`) and its share, largest first; only known answers.
    pub answers: Vec<(String, f64)>,
    /// Call ids near the centre of the task.
    pub examples: Vec<String>,
    /// Call ids at its rim: those least like its template.
    #[serde(default)]
    pub rim: Vec<String>,
    /// How many answers lay before its calls in their conversations: least, median, most.
    #[serde(default)]
    pub turns: Option<[u32; 3]>,
    /// The task that most of its calls were of before it was born.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What its calls are usually like, by aspect (`system`, `template`, `lines`, `tools`, `answer`, `length`): what a drift is
    /// told by.
    #[serde(default)]
    pub usual: BTreeMap<String, Usual>,
    /// An operator's wish: other tasks were merged into this one, and stay so.
    #[serde(default)]
    pub joined: bool,
    /// An operator's wish: calls of this task count as `other`.
    #[serde(default)]
    pub ignored: bool,
}

impl Task {
    /// Share of the known answers that are narrow: tool calls, JSON, labels and filled-in forms; null where no answer is
    /// known.
    pub fn narrow(&self) -> Option<f64> {
        let is_narrow = |kind: &str| kind.starts_with("tool:") || matches!(kind, "json" | "label" | "form");
        let shares = self
            .answers
            .iter()
            .filter(|(kind, _)| is_narrow(kind))
            .map(|(_, share)| share);
        (!self.answers.is_empty()).then(|| shares.sum())
    }
}

/// How often each value of an aspect was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usual {
    /// The most frequent values (hashes or classes) and in how many conversations each was seen, most first.
    pub values: Vec<(u32, u32)>,
    /// The sum over all values, those left out too.
    pub total: u32,
}

/// One prompt template: phrases of the vocabulary and the share of its prompts that have each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// Index into the vocabulary, and per cent of the template's prompts.
    pub phrases: Vec<(u32, u8)>,
    /// A request less like the template than this cosine is not of it.
    pub floor: f32,
}

/// Requests of a template are of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Index into the templates.
    pub template: u32,
    /// Who spoke last; `None` = anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Role>,
    /// The cue that the request ends with; `None` = any or no cue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cue: Option<u32>,
    /// Phrases that the leading prompt must hold, each: an operator's split.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phrases: Vec<u32>,
    /// The task's id.
    pub task: String,
}

impl Rule {
    /// Sorts rules so that the first that fits is the narrowest.
    pub fn sort(rules: &mut [Rule]) {
        rules.sort_by_key(|rule| {
            (
                rule.template,
                std::cmp::Reverse(rule.phrases.len()),
                rule.cue.is_none(),
                rule.last.is_none(),
            )
        });
    }
}

/// A task book that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// Not the JSON of a task book.
    #[error("can't read the task book: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by another version.
    #[error("the task book has schema {found}, this version reads {SCHEMA}; run `tasks fit` again")]
    Schema {
        /// The schema found.
        found: i32,
    },
    /// A template, rule or edit names something that the book doesn't have.
    #[error("the task book has no {what} `{name}`")]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// Its name or index.
        name: String,
    },
    /// A new task has the id of another.
    #[error("the task book has a task `{id}` already")]
    Taken {
        /// The id.
        id: String,
    },
}

impl TaskBook {
    /// Reads a book and checks that all it points to is there.
    ///
    /// # Errors
    /// Bytes that are no book, of another schema, or with a dangling index or id.
    pub fn from_json(bytes: &[u8]) -> Result<TaskBook, BookError> {
        let book: TaskBook = serde_json::from_slice(bytes)?;
        if book.schema != SCHEMA {
            return Err(BookError::Schema { found: book.schema });
        }
        book.check()?;
        Ok(book)
    }

    /// The book as JSON, one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a book has only string keys and finite numbers")
    }

    /// The index that makes [`CompiledBook::assign`] fast.
    pub fn compile(self) -> CompiledBook {
        CompiledBook::new(self)
    }

    /// The task of this id.
    pub fn task(&self, id: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// Gives a task another name; its id stays.
    ///
    /// # Errors
    /// No such task.
    pub fn rename(&mut self, id: &str, name: &str) -> Result<(), BookError> {
        self.task_mut(id)?.name = name.to_owned();
        Ok(())
    }

    /// Makes calls of a task count as `other`, or no longer.
    ///
    /// # Errors
    /// No such task.
    pub fn ignore(&mut self, id: &str, ignored: bool) -> Result<(), BookError> {
        self.task_mut(id)?.ignored = ignored;
        Ok(())
    }

    /// Makes all calls of task `from` calls of task `into`; `from` is gone.
    ///
    /// # Errors
    /// No such tasks.
    pub fn merge(&mut self, from: &str, into: &str) -> Result<(), BookError> {
        let merged = self.task_mut(from)?.clone();
        if from == into {
            return Ok(());
        }
        let task = self.task_mut(into)?;
        let (old, new) = (task.size as f64, merged.size as f64);
        let mut answers: BTreeMap<String, f64> = BTreeMap::new();
        for (answers_of, weight) in [(&task.answers, old), (&merged.answers, new)] {
            for (kind, share) in answers_of {
                *answers.entry(kind.clone()).or_default() += share * weight / (old + new).max(1.0);
            }
        }
        task.answers = answers.into_iter().collect();
        task.answers.sort_by(|one, other| other.1.total_cmp(&one.1));
        task.size += merged.size;
        task.share += merged.share;
        task.conversations += merged.conversations;
        task.examples.extend(merged.examples);
        task.joined = true;
        for rule in &mut self.rules {
            if rule.task == from {
                rule.task = into.to_owned();
            }
        }
        self.tasks.retain(|task| task.id != from);
        Ok(())
    }

    /// Makes those calls of task `from` whose leading prompt holds all of `phrases` (see
    /// [`crate::features::phrases_of`]) calls of `child`, a new task.
    ///
    /// # Errors
    /// No such task, or a task of the child's id is there.
    pub fn split(&mut self, from: &str, phrases: &[u32], child: Task) -> Result<(), BookError> {
        self.task_mut(from)?;
        if self.task(&child.id).is_some() {
            return Err(BookError::Taken { id: child.id });
        }
        let narrower = |rule: &Rule| Rule {
            phrases: rule.phrases.iter().chain(phrases).copied().collect(),
            task: child.id.clone(),
            ..rule.clone()
        };
        let narrowed: Vec<Rule> = self
            .rules
            .iter()
            .filter(|rule| rule.task == from)
            .map(narrower)
            .collect();
        self.rules.extend(narrowed);
        Rule::sort(&mut self.rules);
        let parent = Some(from.to_owned());
        self.tasks.push(Task { parent, ..child });
        Ok(())
    }

    fn task_mut(&mut self, id: &str) -> Result<&mut Task, BookError> {
        let unknown = || BookError::Unknown {
            what: "task",
            name: id.to_owned(),
        };
        self.tasks.iter_mut().find(|task| task.id == id).ok_or_else(unknown)
    }

    fn check(&self) -> Result<(), BookError> {
        let unknown = |what, name: String| BookError::Unknown { what, name };
        for template in &self.templates {
            let dangling = template
                .phrases
                .iter()
                .find(|(phrase, _)| *phrase as usize >= self.vocabulary.len());
            if let Some((phrase, _)) = dangling {
                return Err(unknown("phrase", phrase.to_string()));
            }
        }
        for rule in &self.rules {
            if rule.template as usize >= self.templates.len() {
                return Err(unknown("template", rule.template.to_string()));
            }
            if self.task(&rule.task).is_none() {
                return Err(unknown("task", rule.task.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Message, Request};
    use crate::features::{features, phrases_of};

    fn request(system: &str, last: Role) -> Request {
        let messages = vec![
            Message::text(Role::System, system),
            Message::text(last, "Go on.\nThought 7:"),
        ];
        Request {
            messages,
            ..Request::default()
        }
    }

    const CLERK: &str = "You are a clerk who reads invoices and reports their totals.";
    const COOK: &str = "You are a cook and turn what is in the fridge into a meal.";

    /// A clerk's template cut by last speaker and cue, and a cook's.
    fn book() -> TaskBook {
        let mut vocabulary = Vec::new();
        let mut template = |system: &str| {
            let phrases = features(&request(system, Role::User)).phrases;
            let first = vocabulary.len() as u32;
            vocabulary.extend(phrases.iter().map(|phrase| (*phrase, 1.0)));
            Template {
                phrases: (first..vocabulary.len() as u32).map(|at| (at, 100)).collect(),
                floor: 0.5,
            }
        };
        let templates = vec![template(CLERK), template(COOK)];
        let task = |id: &str, size| Task {
            id: id.into(),
            name: id.into(),
            size,
            share: 0.25,
            ..Task::default()
        };
        let rule = |template, last, cue, task: &str| Rule {
            template,
            last,
            cue,
            phrases: Vec::new(),
            task: task.into(),
        };
        let cue = features(&request(CLERK, Role::User)).cue;
        TaskBook {
            version: 3,
            schema: SCHEMA,
            tasks: vec![task("clerk-thought-1", 30), task("clerk-2", 20), task("cook-3", 10)],
            vocabulary,
            templates,
            rules: vec![
                rule(0, Some(Role::User), cue, "clerk-thought-1"),
                rule(0, None, None, "clerk-2"),
                rule(1, Some(Role::User), None, "cook-3"),
            ],
            ..TaskBook::default()
        }
    }

    fn task_of(book: &TaskBook, request: &Request) -> Option<String> {
        book.clone().compile().assign(request).map(|assignment| assignment.task)
    }

    #[test]
    fn the_narrowest_rule_of_the_nearest_template_decides() {
        let book = book();
        assert_eq!(
            task_of(&book, &request(CLERK, Role::User)).as_deref(),
            Some("clerk-thought-1")
        );
        assert_eq!(
            task_of(&book, &request(CLERK, Role::Assistant)).as_deref(),
            Some("clerk-2")
        );
        assert_eq!(task_of(&book, &request(COOK, Role::User)).as_deref(), Some("cook-3"));
        assert_eq!(task_of(&book, &request(COOK, Role::Assistant)), None);
        assert_eq!(task_of(&book, &request("Write a poem.", Role::User)), None);
        assert_eq!(task_of(&book, &Request::default()), None);
    }

    #[test]
    fn a_book_comes_back_from_json_and_a_broken_one_does_not() {
        let book = book();
        assert_eq!(TaskBook::from_json(book.to_json().as_bytes()).unwrap(), book);
        assert!(matches!(TaskBook::from_json(b"{"), Err(BookError::Json(_))));
        let other_schema = TaskBook {
            schema: SCHEMA + 1,
            ..book.clone()
        };
        assert!(matches!(
            TaskBook::from_json(other_schema.to_json().as_bytes()),
            Err(BookError::Schema { found: 2 })
        ));
        let mut dangling = book.clone();
        dangling.rules[0].template = 9;
        assert!(matches!(
            TaskBook::from_json(dangling.to_json().as_bytes()),
            Err(BookError::Unknown { .. })
        ));
        let mut nameless = book;
        nameless.tasks.remove(0);
        assert!(matches!(
            TaskBook::from_json(nameless.to_json().as_bytes()),
            Err(BookError::Unknown { .. })
        ));
    }

    #[test]
    fn edits_change_what_is_assigned_and_no_more() {
        let mut book = book();
        book.rename("cook-3", "Cook").unwrap();
        assert_eq!(book.task("cook-3").unwrap().name, "Cook");
        book.ignore("cook-3", true).unwrap();
        assert_eq!(task_of(&book, &request(COOK, Role::User)), None);
        book.merge("clerk-thought-1", "clerk-2").unwrap();
        assert_eq!(task_of(&book, &request(CLERK, Role::User)).as_deref(), Some("clerk-2"));
        assert_eq!(book.task("clerk-2").unwrap().size, 50);
        assert!(book.task("clerk-thought-1").is_none());
        assert!(book.merge("clerk-thought-1", "clerk-2").is_err());
        let phrases = phrases_of("and reports their totals");
        let child = Task {
            id: "reports-4".into(),
            ..Task::default()
        };
        book.split("clerk-2", &phrases, child.clone()).unwrap();
        assert_eq!(
            task_of(&book, &request(CLERK, Role::User)).as_deref(),
            Some("reports-4")
        );
        let other = CLERK.replace("totals", "sums");
        assert_eq!(
            task_of(&book, &request(&other, Role::Assistant)).as_deref(),
            Some("clerk-2")
        );
        assert_eq!(book.task("reports-4").unwrap().parent.as_deref(), Some("clerk-2"));
        assert!(matches!(
            book.split("clerk-2", &phrases, child),
            Err(BookError::Taken { .. })
        ));
        TaskBook::from_json(book.to_json().as_bytes()).unwrap();
    }
}
