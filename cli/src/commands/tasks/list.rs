//! `tasks list`: the tasks of the current book, with what their kept calls took.

use crate::args::RowFormat;
use crate::output::{self, count, dollars, percent};
use crate::place::{Place, existing_book};
use anyhow::Result;
use comfy_table::Table;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::HashMap;
use understudy_call::taskbook::{CompiledBook, Task, TaskBook};
use understudy_collector::books::{self, for_each_assigned};
use understudy_collector::drift::{Drift, Look, Watch};
use understudy_collector::scan::CallFilter;
use understudy_collector::store::Store;
use understudy_collector::table::{Columns, call_micros};
use understudy_collector::tally::Tally;

/// Kinds of answers shown in a table, and the least share of one.
const ANSWERS: usize = 2;
const SHARE: f64 = 0.01;
/// Columns that a narrow terminal does without, the first first; `--format json` has all.
const SPARE: [&str; 7] = ["tools", "out", "tokens in", "p95 ms", "name", "answers", "p50 ms"];
/// Tools shown in a table.
const TOOLS: usize = 3;
/// What is read of a call, beside what a tally reads.
const COLUMNS: [&str; 8] = [
    "api",
    "path",
    "started_at",
    "request_body",
    "output_text",
    "tool_calls",
    "taskbook_version",
    "task_confidence",
];

/// A task, as printed; sums are of the calls that say it, null where none does.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    name: String,
    description: String,
    pub(crate) calls: u64,
    pub(super) share: f64,
    conversations: u64,
    answers: Vec<(String, f64)>,
    narrow: Option<f64>,
    tools: Vec<String>,
    turns: Option<[u32; 3]>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    pub(super) cost_usd: Option<f64>,
    cost_known_calls: u64,
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    parent: Option<String>,
    pub(crate) drift: Option<Drift>,
    pub(crate) ignored: bool,
}

impl Row {
    fn of(task: &Task) -> Row {
        Row {
            id: task.id.clone(),
            name: task.name.clone(),
            description: task.description.clone(),
            calls: task.size,
            share: task.share,
            conversations: task.conversations,
            answers: task.answers.clone(),
            narrow: task.narrow(),
            tools: task.tools.clone(),
            turns: task.turns,
            input_tokens: None,
            output_tokens: None,
            cost_usd: None,
            cost_known_calls: 0,
            p50_ms: None,
            p95_ms: None,
            parent: task.parent.clone(),
            drift: None,
            ignored: task.ignored,
        }
    }

    fn with(self, mut tally: Tally, all: u64, drift: Option<Drift>) -> Row {
        Row {
            calls: tally.calls,
            share: tally.calls as f64 / all.max(1) as f64,
            input_tokens: tally.input_tokens,
            output_tokens: tally.output_tokens,
            cost_usd: tally.cost_usd,
            cost_known_calls: tally.cost_known_calls,
            p50_ms: tally.duration_ms(0.5),
            p95_ms: tally.duration_ms(0.95),
            drift,
            ..self
        }
    }
}

/// Every task of the book with what its kept calls took, and whether those since the fit are still like it; how many
/// calls there are, and how many of them are of no task.
pub(crate) async fn rows(store: &Store, book: &CompiledBook) -> Result<(Vec<Row>, u64, u64)> {
    let tasks = &book.book().tasks;
    let places: HashMap<&str, usize> = tasks.iter().enumerate().map(|(at, task)| (&*task.id, at)).collect();
    let fitted_at = book
        .book()
        .fitted_at
        .as_deref()
        .and_then(|at| at.parse::<Timestamp>().ok());
    let filter = CallFilter {
        columns: Columns::only(COLUMNS.into_iter().chain(Tally::COLUMNS)),
        ..CallFilter::default()
    };
    let (mut calls, mut other) = (0u64, 0u64);
    let mut tallies = vec![Tally::default(); tasks.len()];
    let mut watch = Watch::new();
    for_each_assigned(store, &filter, Some(book), |call| {
        calls += 1;
        if fitted_at.is_some_and(|at| call_micros(&call) > at.as_microsecond())
            && let Some((request, response)) = books::chat_of(&call)
            && let Some(look) = Look::at(book, &request, Some(&response))
        {
            watch.push(book, &call.conversation_id, &look);
        }
        match call.task_id.as_deref().and_then(|task| places.get(task)) {
            Some(at) => tallies[*at].add(&call),
            None => other += 1,
        }
    })
    .await?;
    let row = |(at, (task, tally))| Row::of(task).with(tally, calls, watch.drifted().get(&at).cloned());
    let mut rows: Vec<Row> = tasks.iter().zip(tallies).enumerate().map(row).collect();
    rows.sort_by(|one, other| other.calls.cmp(&one.calls).then_with(|| one.id.cmp(&other.id)));
    Ok((rows, calls, other))
}

/// Prints the tasks with their counts over all kept calls.
pub(super) async fn run(place: &Place, format: RowFormat) -> Result<()> {
    let store = place.existing_store()?;
    let book = existing_book(&store).await?;
    let (rows, calls, other) = rows(&store, &book).await?;
    let drifted = |row: &Row| {
        row.drift
            .as_ref()
            .map_or_else(String::new, |drift| format!("{} drifted: {drift}", row.id))
    };
    output::print_with(format, &rows, || table(&rows), drifted)?;
    eprintln!(
        "{} tasks in task book {}; {} of {} calls are of none",
        count(rows.len() as u64),
        book.version(),
        count(other),
        count(calls)
    );
    Ok(())
}

/// Prints the tasks of a book as its fit saw them.
pub(super) fn print_book(book: &TaskBook, format: RowFormat) -> Result<()> {
    let rows: Vec<Row> = book.tasks.iter().map(Row::of).collect();
    output::print(format, &rows, || {
        let mut table = output::table(&["task", "name", ">calls", ">share", "answers", "tools"]);
        for row in &rows {
            table.add_row([
                row.id.clone(),
                row.name.clone(),
                count(row.calls),
                percent(Some(row.share)),
                answers(row),
                tools(row),
            ]);
        }
        table
    })
}

fn table(rows: &[Row]) -> Table {
    let mut table = output::table(&[
        "task",
        "name",
        ">calls",
        ">share",
        "answers",
        ">narrow",
        "tools",
        ">tokens in",
        ">out",
        ">cost",
        ">p50 ms",
        ">p95 ms",
    ]);
    for row in rows {
        let tokens = |tokens: Option<i64>| tokens.map_or_else(|| "?".into(), count);
        table.add_row([
            row.id.clone(),
            row.name.clone(),
            count(row.calls),
            percent(Some(row.share)),
            answers(row),
            percent(row.narrow),
            tools(row),
            tokens(row.input_tokens),
            tokens(row.output_tokens),
            cost(row),
            output::known(row.p50_ms, 0),
            output::known(row.p95_ms, 0),
        ]);
    }
    output::fit(&mut table, &SPARE);
    table
}

/// The cost of the calls whose cost is known, and how many those are where they are not all.
fn cost(row: &Row) -> String {
    match row.cost_usd {
        Some(cost) if row.cost_known_calls < row.calls => {
            format!("{} of {}", dollars(Some(cost)), count(row.cost_known_calls))
        }
        cost => dollars(cost),
    }
}

fn answers(row: &Row) -> String {
    let shown: Vec<String> = row
        .answers
        .iter()
        .filter(|(_, share)| *share >= SHARE)
        .take(ANSWERS)
        .map(|(kind, share)| format!("{kind} {:.0} %", 100.0 * share))
        .collect();
    shown.join(", ")
}

fn tools(row: &Row) -> String {
    match row.tools.len() {
        0 => "-".into(),
        length if length > TOOLS => format!("{} and {} more", row.tools[..TOOLS].join(", "), length - TOOLS),
        _ => row.tools.join(", "),
    }
}
