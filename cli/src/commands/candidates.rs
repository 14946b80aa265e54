//! `candidates`: which small models to rehearse on a task, and why.

mod show;

use crate::args::{Bits, CandidatesArguments, RowFormat};
use crate::output;
use crate::place::{Place, Wrong, existing_book, task, why_empty};
use anyhow::{Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;
use understudy_call::taskbook::Task;
use understudy_client::UpstreamConfig;
use understudy_collector::books::for_each_assigned;
use understudy_collector::candidates::{Candidate, Catalogue, Gathered, Needs, Precision, Wishes, choose};
use understudy_collector::evidence::verdicts;
use understudy_collector::scan::CallFilter;
use understudy_collector::table::Columns;
use understudy_collector::verdict::Verdict;

/// A task, what it asks for, and who may do it.
#[derive(Serialize)]
struct Choice {
    task: String,
    name: String,
    needs: Needs,
    candidates: Vec<Listed>,
}

/// A model, and what the config has of it.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    candidate: Candidate,
    upstreams: Vec<Configured>,
}

/// An upstream of the config that serves the model.
#[derive(Clone, Serialize)]
struct Configured {
    upstream: String,
    verdict: Option<String>,
    reason: Option<String>,
}

/// Prints the choice.
pub(crate) async fn run(arguments: CandidatesArguments) -> Result<()> {
    let place = Place::of(&arguments.place)?;
    let catalogue = catalogue(arguments.catalogue.as_deref())?;
    let store = place.existing_store()?;
    if store.list("calls").await?.is_empty() {
        bail!("{}", why_empty(&place));
    }
    let book = existing_book(&store).await?;
    let tasks: Vec<&Task> = match &arguments.task {
        Some(wanted) => vec![task(book.book(), wanted)?],
        None => book.book().tasks.iter().filter(|task| !task.ignored).collect(),
    };
    let filter = CallFilter {
        task: arguments.task.is_some().then(|| tasks[0].id.clone()),
        columns: Columns::only(Gathered::COLUMNS),
        ..CallFilter::default()
    };
    let places: HashMap<&str, usize> = tasks.iter().enumerate().map(|(at, task)| (&*task.id, at)).collect();
    let mut gathered: Vec<Gathered> = tasks.iter().map(|_| Gathered::default()).collect();
    for_each_assigned(&store, &filter, Some(&book), |call| {
        if let Some(at) = call.task_id.as_deref().and_then(|task| places.get(task)) {
            gathered[*at].add(&call);
        }
    })
    .await?;
    let now = Timestamp::now().as_microsecond();
    let only = filter.task.as_deref();
    let judged = match &place.config {
        Some(_) => verdicts(&store, Some(&book), only, &place.verdict(), now).await?,
        None => Vec::new(),
    };
    let wishes = wishes(&arguments);
    let choices: Vec<Choice> = tasks
        .iter()
        .zip(gathered)
        .map(|(task, gathered)| {
            let needs = gathered.needs();
            let listed = choose(&needs, &catalogue, &wishes).into_iter().map(|candidate| Listed {
                upstreams: configured(&candidate, &catalogue, &place, &judged, &task.id),
                candidate,
            });
            Choice {
                task: task.id.clone(),
                name: task.name.clone(),
                candidates: listed.collect(),
                needs,
            }
        })
        .collect();
    match (arguments.format, choices.as_slice()) {
        (RowFormat::Table, [choice]) if arguments.task.is_some() => show::one(choice)?,
        (format, _) => output::print(format, &choices, || show::all(&choices))?,
    }
    show::words(&choices, arguments.task.is_some(), arguments.place.config.as_deref());
    say_unlisted(&place, &catalogue);
    Ok(())
}

fn catalogue(own: Option<&Path>) -> Result<Catalogue> {
    let builtin = Catalogue::builtin();
    let Some(path) = own else { return Ok(builtin) };
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Wrong(format!("--catalogue: reading {file}: {error}")))?;
    let own = builtin.with_file(&file, &text);
    own.map_err(|error| Wrong(error.to_string()).into())
}

fn wishes(arguments: &CandidatesArguments) -> Wishes {
    Wishes {
        licences: arguments.licence.clone(),
        memory: arguments.memory,
        precision: match arguments.bits {
            Bits::Four => Precision::Four,
            Bits::Eight => Precision::Eight,
            Bits::Sixteen => Precision::Sixteen,
        },
        at_once: arguments.at_once,
    }
}

/// The config's upstreams that serve a candidate's model, with the task's verdicts on them.
fn configured(
    candidate: &Candidate,
    catalogue: &Catalogue,
    place: &Place,
    judged: &[Verdict],
    task: &str,
) -> Vec<Configured> {
    let Some(model) = catalogue.models.iter().find(|model| model.name == candidate.model) else {
        return Vec::new();
    };
    let serves = |upstream: &&UpstreamConfig| upstream.model.as_ref().is_some_and(|name| model.is_called(name));
    let of = |upstream: &UpstreamConfig| {
        let verdict = judged
            .iter()
            .find(|verdict| verdict.task == task && verdict.candidate == upstream.name);
        Configured {
            upstream: upstream.name.clone(),
            verdict: verdict.map(|verdict| verdict.verdict.to_string()),
            reason: verdict.map(|verdict| verdict.reason.clone()),
        }
    };
    let upstreams = place.config.iter().flat_map(|config| config.upstreams.values());
    upstreams.filter(serves).map(of).collect()
}

/// Names the upstreams with a model that the catalogue does not have: what they can do is not known here.
fn say_unlisted(place: &Place, catalogue: &Catalogue) {
    let Some(config) = &place.config else { return };
    let is_listed = |name: &str| catalogue.models.iter().any(|model| model.is_called(name));
    let unlisted: Vec<&str> = config
        .upstreams
        .values()
        .filter(|upstream| upstream.name != config.default_upstream)
        .filter(|upstream| upstream.model.as_ref().is_some_and(|name| !is_listed(name)))
        .map(|upstream| upstream.name.as_str())
        .collect();
    if !unlisted.is_empty() {
        eprintln!(
            "not in the catalogue, so not ranked here: the models of the upstreams {} (`--catalogue FILE` adds some; `understudy verdict` has what rehearsals say)",
            unlisted.join(", ")
        );
    }
}
