//! `tasks`: fit, list, show, assign, rename.

mod fit;
mod list;

use crate::args::{RowFormat, TasksCommand};
use crate::output::{self, RowWriter, count, percent};
use crate::place::{Place, existing_book, task};
use anyhow::Result;
use serde::Serialize;
use std::fmt::Write;
use understudy_call::taskbook::Task;
use understudy_collector::books::{self, for_each_assigned};
use understudy_collector::scan::CallFilter;
use understudy_collector::table::Columns;

/// What `assign` needs of a call.
const ASSIGN_COLUMNS: [&str; 5] = [
    "external_id",
    "api",
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
            format,
            place,
        } => fit::run(&Place::of(&place)?, seed, sample, format).await,
        TasksCommand::List { format, place } => list::run(&Place::of(&place)?, format).await,
        TasksCommand::Show {
            task: wanted,
            format,
            place,
        } => show(&Place::of(&place)?, &wanted, format).await,
        TasksCommand::Assign { format, place } => assign(&Place::of(&place)?, format).await,
        TasksCommand::Rename {
            task: wanted,
            name,
            place,
        } => rename(&Place::of(&place)?, &wanted, &name).await,
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

async fn show(place: &Place, wanted: &str, format: RowFormat) -> Result<()> {
    let store = place.existing_store()?;
    let book = existing_book(&store).await?;
    let task = task(book.book(), wanted)?;
    output::print_one(format, task, || described(task).unwrap_or_default())
}

fn described(task: &Task) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "{}  ({})", task.name, task.id)?;
    writeln!(text, "{}", task.description)?;
    writeln!(
        text,
        "\n{} calls of {} conversations when it was fit, {} of all",
        count(task.size),
        count(task.conversations),
        percent(Some(task.share))
    )?;
    if task.ignored {
        writeln!(text, "ignored: its calls count as no task's")?;
    }
    writeln!(text, "\nAnswers")?;
    for (kind, share) in &task.answers {
        writeln!(text, "  {:>7}  {kind}", percent(Some(*share)))?;
    }
    if !task.tools.is_empty() {
        writeln!(text, "\nTools offered\n  {}", task.tools.join(", "))?;
    }
    writeln!(text, "\nTemplate, the most telling lines first")?;
    for line in &task.lines {
        writeln!(text, "  {}", output::excerpt(line, 110))?;
    }
    writeln!(text, "\nExamples")?;
    for call in &task.examples {
        writeln!(text, "  {call}")?;
    }
    Ok(text)
}

async fn rename(place: &Place, wanted: &str, name: &str) -> Result<()> {
    let store = place.existing_store()?;
    let mut book = existing_book(&store).await?.book().clone();
    let id = task(&book, wanted)?.id.clone();
    book.rename(&id, name)?;
    book.created_at = Some(fit::now());
    let key = books::publish(&store, &mut book).await?;
    eprintln!("{id} is called `{name}` from {key} on");
    Ok(())
}
