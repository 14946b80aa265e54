//! `tasks`: fit, list, show, assign, edit.

mod edit;
mod fit;
pub(crate) mod list;
mod name;
mod replaceable;
mod show;

use crate::args::{RowFormat, TasksCommand};
use crate::output::{self, RowWriter};
use crate::place::{Place, existing_book};
use anyhow::Result;
use serde::Serialize;
use understudy_collector::books::for_each_assigned;
use understudy_collector::cluster::FitOptions;
use understudy_collector::scan::CallFilter;
use understudy_collector::table::Columns;

/// What `assign` needs of a call.
const ASSIGN_COLUMNS: [&str; 6] = [
    "external_id",
    "api",
    "path",
    "request_body",
    "taskbook_version",
    "task_confidence",
];

/// Runs one of them.
pub(crate) async fn run(command: TasksCommand) -> Result<()> {
    match command {
        TasksCommand::Fit {
            seed,
            sample,
            dry_run,
            format,
            place,
        } => {
            let options = FitOptions {
                seed,
                sample,
                ..FitOptions::default()
            };
            fit::run(&Place::of(&place)?, &options, dry_run, format).await
        }
        TasksCommand::List { format, place } => list::run(&Place::of(&place)?, format).await,
        TasksCommand::Show {
            task: wanted,
            format,
            place,
        } => show::run(&Place::of(&place)?, &wanted, format).await,
        TasksCommand::Assign { format, place } => assign(&Place::of(&place)?, format).await,
        TasksCommand::Rename {
            task: wanted,
            name,
            place,
        } => edit::rename(&Place::of(&place)?, &wanted, &name).await,
        TasksCommand::Name {
            task: wanted,
            with,
            model,
            place,
        } => name::run(&Place::of(&place)?, wanted.as_deref(), &with, model.as_deref()).await,
        TasksCommand::Replaceable { by, format, place } => {
            replaceable::run(&Place::of(&place)?, by.as_deref(), format).await
        }
        TasksCommand::Merge { task, into, place } => edit::merge(&Place::of(&place)?, &task, &into).await,
        TasksCommand::Split {
            task,
            phrase,
            name,
            place,
        } => edit::split(&Place::of(&place)?, &task, &phrase, name.as_deref()).await,
        TasksCommand::Ignore { task, off, place } => edit::ignore(&Place::of(&place)?, &task, !off).await,
    }
}

/// A call and its task, as printed.
#[derive(Serialize)]
struct Assigned {
    id: String,
    task: Option<String>,
}

async fn assign(place: &Place, format: RowFormat) -> Result<()> {
    let store = place.existing_store()?;
    let book = existing_book(&store).await?;
    let filter = CallFilter {
        columns: Columns::only(ASSIGN_COLUMNS),
        ..CallFilter::default()
    };
    let (mut assigned, mut writer, mut result) = (Vec::new(), RowWriter::new(format), Ok(()));
    for_each_assigned(&store, &filter, Some(&book), |call| {
        let row = Assigned {
            id: call.external_id.unwrap_or(call.call_id),
            task: call.task_id,
        };
        match format {
            RowFormat::Table => assigned.push(row),
            _ if result.is_ok() => result = writer.row(&row),
            _ => {}
        }
    })
    .await?;
    result?;
    if format != RowFormat::Table {
        return writer.finish();
    }
    drop(writer);
    output::print(format, &assigned, || {
        let mut table = output::table(&["call", "task"]);
        for row in &assigned {
            table.add_row([row.id.as_str(), row.task.as_deref().unwrap_or("-")]);
        }
        table
    })
}
