//! `cycle`: one pass over all of it: models whose data grew, rehearsals that are due, verdicts, and what they propose.
//!
//! Does nothing but run commands that a person could type, and says which; changes no config. What was done is not done
//! again, so that a pass that was broken off goes on with the next one.

use super::replay::rehearse;
use super::specialise::{Recipe, again, specialise};
use super::tasks::list::{Row, rows};
use crate::args::{Arguments, Command, CycleArguments, RowFormat};
use crate::output::{self, Out, count};
use crate::place::{Place, Wrong, existing_book, task};
use crate::propose::propose;
use crate::trainer::word;
use anyhow::Result;
use clap::Parser;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use understudy_collector::evidence::verdicts;
use understudy_collector::specialise::{FOLDER, RESULT, Trained, load};
use understudy_collector::verdict::{Decision, Verdict};
use understudy_proxy::config::Config;

/// A task whose calls have become this many times those of its last data set is due for another training.
const GROWN: f64 = 1.5;
/// So many times for one that drifted: a drift stands until the next task book, and is no reason for a training each pass.
const GROWN_SINCE_DRIFT: f64 = 1.1;

/// Something to do.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    task: String,
    why: String,
    /// A command of ours, without the program's name; of a person's task none.
    command: Option<Vec<String>>,
}

/// What became of it.
#[derive(Debug, Serialize)]
struct Step {
    task: String,
    why: String,
    /// The command that does it; null where a person has to decide.
    command: Option<String>,
    /// What came of it; null where it was not run.
    result: Option<String>,
    failed: bool,
}

/// All that is printed.
#[derive(Serialize)]
struct Pass {
    steps: Vec<Step>,
    verdicts: Vec<Verdict>,
    /// A unified diff of the config; empty where nothing is proposed.
    diff: String,
}

/// Does what is due, and prints it; the exit code is 1 where a step failed.
pub(crate) async fn run(arguments: CycleArguments) -> Result<ExitCode> {
    let place = Place::of(&arguments.place)?;
    let (Some(config), Some(path)) = (&place.config, &arguments.place.config) else {
        return Err(Wrong("cycle needs --config: it says who the candidates are".into()).into());
    };
    let store = place.existing_store()?;
    let book = existing_book(&store).await?;
    let wanted = match &arguments.task {
        Some(name) => Some(task(book.book(), name)?.id.clone()),
        None => None,
    };
    let settings = place.verdict();
    let judge = async || {
        let now = Timestamp::now().as_microsecond();
        verdicts(&store, Some(&book), wanted.as_deref(), &settings, now).await
    };
    let (tasks, ..) = rows(&store, &book).await?;
    let is_wanted = |row: &&Row| !row.ignored && wanted.as_ref().is_none_or(|task| *task == row.id);
    let (trained, before) = (load(&store).await?, judge().await?);
    let results = store.list(FOLDER).await?.into_iter().map(|object| object.key);
    let look = Look {
        config,
        trained: &trained,
        results: &results.filter(|key| key.ends_with(RESULT)).collect(),
        verdicts: &before,
        out: &arguments.out,
        limit: arguments.limit,
        first: settings.min_pairs,
    };
    let due: Vec<Due> = tasks.iter().filter(is_wanted).flat_map(|row| look.due(row)).collect();
    let mut place_flags = vec!["--config".to_owned(), path.to_string_lossy().into_owned()];
    if let Some(data) = &arguments.place.data {
        place_flags.extend(["--data".into(), data.clone()]);
    }
    let mut steps = Vec::new();
    for due in due {
        let command = due.command.map(|command| [command, place_flags.clone()].concat());
        let told = command.as_ref().map(|words| {
            let words: Vec<String> = words.iter().map(|text| word(text)).collect();
            format!("understudy {}", words.join(" "))
        });
        let result = match command.filter(|_| !arguments.dry_run) {
            Some(command) => {
                eprintln!("{}: {}", due.task, due.why);
                Some(execute(&command).await)
            }
            None => None,
        };
        steps.push(Step {
            task: due.task,
            why: due.why,
            command: told,
            failed: matches!(result, Some(Err(_))),
            result: result.map(|result| result.unwrap_or_else(|error| format!("{error:#}"))),
        });
    }
    let verdicts = if arguments.dry_run { before } else { judge().await? };
    let proposal = propose(path, config, &verdicts)?;
    proposal.words.iter().for_each(|words| eprintln!("{words}"));
    let failed = steps.iter().any(|step| step.failed);
    let pass = Pass {
        steps,
        verdicts,
        diff: proposal.diff,
    };
    print(arguments.format, &pass)?;
    Ok(ExitCode::from(u8::from(failed)))
}

/// Runs a command of ours: what came of it, in words.
async fn execute(command: &[String]) -> Result<String> {
    let typed = std::iter::once("understudy").chain(command.iter().map(String::as_str));
    match Arguments::try_parse_from(typed)?.command {
        Command::Replay(arguments) => {
            let done = rehearse(&arguments).await?.progress;
            let ended = done
                .stopped
                .map_or(String::new(), |reason| format!("; ended early: {reason}"));
            Ok(format!(
                "{} calls asked, {} failed{ended}",
                count(done.asked as u64),
                count(done.failed as u64)
            ))
        }
        Command::Specialise(arguments) => {
            let (told, _) = specialise(&arguments).await?;
            Ok(format!(
                "{}: {}; serve it, and add it to the config",
                told.model,
                told.state.as_str()
            ))
        }
        _ => Err(Wrong("no command of a cycle".into()).into()),
    }
}

/// What is known when a pass begins.
struct Look<'a> {
    config: &'a Config,
    trained: &'a [Trained],
    /// Keys of what trainings came to; those that failed, or were broken off, have none.
    results: &'a BTreeSet<String>,
    verdicts: &'a [Verdict],
    /// The folder for trainings.
    out: &'a Path,
    /// The most calls of a rehearsal's sample.
    limit: usize,
    /// Calls of a first rehearsal.
    first: usize,
}

impl Look<'_> {
    /// What a task needs.
    fn due(&self, row: &Row) -> Vec<Due> {
        let due = |why: String, command: Option<Vec<String>>| Due {
            task: row.id.clone(),
            why,
            command,
        };
        let mut all = Vec::new();
        let own = || self.trained.iter().filter(|model| model.task == row.id);
        let by_recipe = own().filter_map(|model| Some((model, serde_json::from_value(model.recipe.clone()).ok()?)));
        // Who has no trainer here trains by hand, and tells no result.
        let ended = |model: &Trained| self.config.trainer.is_none() || self.results.contains(&model.result_key());
        let newest: Option<(&Trained, Recipe)> = by_recipe.max_by_key(|(model, _)| (ended(model), model.calls));
        let verdicts = || self.verdicts.iter().filter(|verdict| verdict.task == row.id);
        match newest {
            Some((model, recipe)) => {
                let why = why_again(model.calls, row.calls, row.drift.is_some(), ended(model));
                if let Some(why) = why {
                    // Without a trainer the data set alone would be made, for nobody.
                    let command = self.config.trainer.is_some().then(|| again(&row.id, &recipe, self.out));
                    all.push(due(format!("train: {why}"), command));
                }
            }
            None if verdicts().next().is_none() => all.push(due(
                format!(
                    "no model was tried: understudy specialise {} --base MODEL, or replay",
                    row.id
                ),
                None,
            )),
            None => {}
        }
        let baseline = self.config.upstreams.get(&self.config.default_upstream);
        let has_key = baseline.is_some_and(|baseline| baseline.key.is_some());
        let replay = |candidate: &str, calls: usize| {
            let calls = calls.to_string();
            let words = ["replay", "--task", &row.id, "--to", candidate, "--limit", &calls];
            // More answers of the candidate alone are no pairs.
            let floor = has_key.then_some("--floor");
            Some(words.into_iter().chain(floor).map(str::to_owned).collect())
        };
        let mut judged = BTreeSet::new();
        for verdict in verdicts() {
            judged.insert(verdict.candidate.as_str());
            let Decision::NeedMore(more) = verdict.verdict else {
                continue;
            };
            let candidate = &verdict.candidate;
            if !self.config.upstreams.contains_key(candidate) {
                continue;
            }
            let wanted = verdict.pairs.saturating_add(more).min(self.limit);
            match wanted > verdict.pairs {
                true => all.push(due(
                    format!("rehearse {candidate}: needs {} more", count(more as u64)),
                    replay(candidate, wanted),
                )),
                false => all.push(due(
                    format!(
                        "{candidate} needs {} more pairs than --limit {}",
                        count(more as u64),
                        self.limit
                    ),
                    None,
                )),
            }
        }
        for (name, upstream) in &self.config.upstreams {
            let is_own = |model: &Trained| Some(&model.model) == upstream.model.as_ref() || model.model == *name;
            if own().any(is_own) && !judged.contains(name.as_str()) {
                all.push(due(
                    format!("rehearse {name}: it is new"),
                    replay(name, self.first.min(self.limit)),
                ));
            }
        }
        all
    }
}

/// Why a model that was trained on the data of so many calls is to be trained on what there is now, if it is.
fn why_again(then: u64, now: u64, has_drifted: bool, has_ended: bool) -> Option<String> {
    let grown = |times: f64| now as f64 >= times * then as f64;
    if !has_ended {
        Some("no training of it has come to its end".to_owned())
    } else if has_drifted && grown(GROWN_SINCE_DRIFT) {
        Some("its calls are others than before".to_owned())
    } else if grown(GROWN) {
        Some(format!("{} calls, {} when it was trained", count(now), count(then)))
    } else {
        None
    }
}

fn print(format: RowFormat, pass: &Pass) -> Result<()> {
    if format != RowFormat::Table {
        return output::print_one(format, pass, String::new);
    }
    let mut out = Out::new();
    for step in &pass.steps {
        out.line(&format!("{}: {}", step.task, step.why))?;
        if let Some(result) = &step.result {
            out.line(&format!("  {}{result}", if step.failed { "FAILED: " } else { "" }))?;
        } else if let Some(command) = &step.command {
            out.line(&format!("  {command}"))?;
        }
    }
    if pass.steps.is_empty() {
        out.line("nothing is due")?;
    }
    for verdict in &pass.verdicts {
        out.line(&format!("{}, {}: {}", verdict.task, verdict.candidate, verdict.verdict))?;
    }
    if !pass.diff.is_empty() {
        out.line("")?;
        out.line(pass.diff.trim_end())?;
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_trained_anew_when_its_calls_grew_or_became_others() {
        let is_due = |now: u64, has_drifted: bool| why_again(1000, now, has_drifted, true).is_some();
        assert_eq!([1499, 1500].map(|now| is_due(now, false)), [false, true]);
        // A drift stands until the next task book: it alone would train in every pass.
        assert_eq!([1000, 1099, 1100].map(|now| is_due(now, true)), [false, false, true]);
        let why = why_again(1000, 1100, true, true).unwrap_or_default();
        assert_eq!(why, "its calls are others than before");
        let why = why_again(1000, 2000, false, true).unwrap_or_default();
        assert_eq!(why, "2,000 calls, 1,000 when it was trained");
        assert!(
            why_again(1000, 1000, false, false).is_some(),
            "what failed is tried again"
        );
    }
}
