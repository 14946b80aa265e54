//! `tasks show`: one task, whole.

use super::list::{self, Row};
use crate::args::RowFormat;
use crate::output::{self, count, dollars, known, percent};
use crate::place::{Place, existing_book, task};
use anyhow::{Context, Result};
use serde::Serialize;
use std::fmt::Write;
use understudy_call::taskbook::Task;

/// A task as the book has it, and what its kept calls took.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    task: &'a Task,
    /// Of the calls kept by now; the book's own numbers are of the fit.
    kept: &'a Row,
}

/// Prints it.
pub(super) async fn run(place: &Place, wanted: &str, format: RowFormat) -> Result<()> {
    let store = place.existing_store()?;
    let book = existing_book(&store).await?;
    let task = task(book.book(), wanted)?;
    let (rows, _, _) = list::rows(&store, &book).await?;
    let kept = rows
        .iter()
        .find(|row| row.id == task.id)
        .context("a task of the book has no row")?;
    output::print_one(format, &Shown { task, kept }, || {
        described(task, kept).unwrap_or_default()
    })
}

fn described(task: &Task, kept: &Row) -> Result<String, std::fmt::Error> {
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
    if let Some([least, median, most]) = task.turns {
        writeln!(
            text,
            "in its conversations after {median} answers (median; {least} to {most})"
        )?;
    }
    if let Some(parent) = &task.parent {
        writeln!(text, "born of {parent}")?;
    }
    if task.joined {
        writeln!(text, "merged with others by an operator")?;
    }
    if task.ignored {
        writeln!(text, "ignored: its calls count as no task's")?;
    }
    writeln!(
        text,
        "now {} calls, {} of all; cost {}, p50 {} ms, p95 {} ms",
        count(kept.calls),
        percent(Some(kept.share)),
        dollars(kept.cost_usd),
        known(kept.p50_ms, 0),
        known(kept.p95_ms, 0)
    )?;
    if let Some(drift) = &kept.drift {
        writeln!(text, "DRIFTED: {drift}")?;
    }
    writeln!(text, "\nAnswers, {} of them narrow", percent(task.narrow()))?;
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
    for (head, calls) in [("Examples near the centre", &task.examples), ("At the rim", &task.rim)] {
        writeln!(text, "\n{head}")?;
        for call in calls {
            writeln!(text, "  {call}")?;
        }
    }
    Ok(text)
}
