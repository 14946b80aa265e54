//! `tasks list`: the tasks of the current book, with what their kept calls took.

use crate::args::RowFormat;
use crate::output::{self, count, dollars, percent};
use crate::place::{Place, existing_book};
use anyhow::Result;
use comfy_table::Table;
use serde::Serialize;
use std::collections::HashMap;
use understudy_call::record::CallRecord;
use understudy_call::taskbook::{Task, TaskBook};
use understudy_collector::books::for_each_assigned;
use understudy_collector::scan::CallFilter;
use understudy_collector::table::Columns;

/// Kinds of answers shown in a table.
const ANSWERS: usize = 3;
/// Tools shown in a table.
const TOOLS: usize = 3;
/// What is read of a call.
const COLUMNS: [&str; 7] = [
    "api",
    "request_body",
    "taskbook_version",
    "task_confidence",
    "input_tokens",
    "output_tokens",
    "cost_usd",
];

/// A task, as printed; sums are of the calls that say it, null where none does.
#[derive(Serialize)]
struct Row {
    id: String,
    name: String,
    description: String,
    calls: u64,
    share: f64,
    conversations: u64,
    answers: Vec<(String, f64)>,
    tools: Vec<String>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    cost_usd: Option<f64>,
    cost_known_calls: u64,
    ignored: bool,
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
            tools: task.tools.clone(),
            input_tokens: None,
            output_tokens: None,
            cost_usd: None,
            cost_known_calls: 0,
            ignored: task.ignored,
        }
    }

    fn add(&mut self, call: &CallRecord) {
        self.calls += 1;
        self.input_tokens = sum(self.input_tokens, call.input_tokens);
        self.output_tokens = sum(self.output_tokens, call.output_tokens);
        self.cost_known_calls += u64::from(call.cost_usd.is_some());
        if let Some(cost) = call.cost_usd {
            self.cost_usd = Some(self.cost_usd.unwrap_or(0.0) + cost);
        }
    }
}

fn sum(total: Option<i64>, more: Option<i64>) -> Option<i64> {
    match (total, more) {
        (Some(total), Some(more)) => Some(total.saturating_add(more)),
        (total, more) => total.or(more),
    }
}

/// Prints the tasks with their counts over all kept calls.
pub(super) async fn run(place: &Place, format: RowFormat) -> Result<()> {
    let store = place.existing_store()?;
    let book = existing_book(&store).await?;
    let mut rows: Vec<Row> = book.book().tasks.iter().map(Row::of).collect();
    rows.iter_mut().for_each(|row| row.calls = 0);
    let places: HashMap<String, usize> = rows.iter().enumerate().map(|(at, row)| (row.id.clone(), at)).collect();
    let filter = CallFilter {
        columns: Columns::only(COLUMNS),
        ..CallFilter::default()
    };
    let (mut calls, mut other) = (0u64, 0u64);
    for_each_assigned(&store, &filter, Some(&book), |call| {
        calls += 1;
        match call.task_id.as_ref().and_then(|task| places.get(task)) {
            Some(at) => rows[*at].add(&call),
            None => other += 1,
        }
    })
    .await?;
    for row in &mut rows {
        row.share = row.calls as f64 / calls.max(1) as f64;
    }
    rows.sort_by(|one, other| other.calls.cmp(&one.calls).then_with(|| one.id.cmp(&other.id)));
    output::print(format, &rows, || table(&rows))?;
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
        "tools",
        ">tokens in",
        ">out",
        ">cost",
    ]);
    for row in rows {
        let tokens = |tokens: Option<i64>| tokens.map_or_else(|| "?".into(), count);
        table.add_row([
            row.id.clone(),
            row.name.clone(),
            count(row.calls),
            percent(Some(row.share)),
            answers(row),
            tools(row),
            tokens(row.input_tokens),
            tokens(row.output_tokens),
            cost(row),
        ]);
    }
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
