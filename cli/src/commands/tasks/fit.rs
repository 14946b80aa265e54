//! `tasks fit`: finds tasks in a sample of the kept calls, and writes the next task book.

use super::list;
use crate::args::RowFormat;
use crate::output::{self, count, percent};
use crate::place::{Place, why_empty};
use anyhow::{Context, Result};
use jiff::Timestamp;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::time::Instant;
use understudy_call::call::{Request, Response};
use understudy_call::record::CallRecord;
use understudy_call::taskbook::{CompiledBook, TaskBook};
use understudy_collector::books;
use understudy_collector::cluster::{FitInput, FitOptions, fit};
use understudy_collector::scan::{CallFilter, for_each_call};
use understudy_collector::store::Store;
use understudy_collector::table::Columns;

/// What a fit needs of a call.
const COLUMNS: [&str; 5] = ["api", "path", "request_body", "output_text", "tool_calls"];

/// The time, for people.
pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Fits, says what changes, makes it current unless it is a `dry_run`, and prints the tasks.
pub(super) async fn run(place: &Place, options: &FitOptions, dry_run: bool, format: RowFormat) -> Result<()> {
    let store = place.existing_store()?;
    let began = Instant::now();
    let previous = books::current(&store).await?;
    let bar = output::progress(0, "{spinner} {msg} {pos} calls");
    bar.set_message("reading");
    let drawn = Drawn::read(&store, options.seed, options.sample, || bar.inc(1)).await?;
    bar.finish_and_clear();
    if drawn.seen == 0 {
        anyhow::bail!("can't fit tasks: {}", why_empty(place));
    }
    let inputs: Vec<FitInput<'_>> = drawn.calls.values().map(Read::input).collect();
    let mut book = fit(&inputs, previous.as_ref(), options)?;
    book.calls = drawn.seen;
    book.created_at = Some(now());
    book.fitted_at = book.created_at.clone();
    if let Some(previous) = &previous {
        say(&book, previous, &drawn);
    }
    let key = match dry_run {
        true => "not made current (--dry-run)".to_owned(),
        false => books::publish(&store, &mut book)
            .await
            .context("putting the task book")?,
    };
    eprintln!(
        "{key}: {} tasks of {} calls ({} used), {} of them in none, {:.1} s",
        count(book.tasks.len() as u64),
        count(book.calls),
        count(book.sampled),
        percent(Some(book.other)),
        began.elapsed().as_secs_f64()
    );
    list::print_book(&book, format)
}

/// What is different from the book before: tasks, and the calls that move between them.
fn say(book: &TaskBook, previous: &TaskBook, drawn: &Drawn) {
    for task in book.tasks.iter().filter(|task| previous.task(&task.id).is_none()) {
        let from = task
            .parent
            .as_ref()
            .map_or_else(String::new, |parent| format!(", most of {parent} before"));
        eprintln!("new:  {} ({} calls{from})", task.id, count(task.size));
    }
    for task in previous.tasks.iter().filter(|task| book.task(&task.id).is_none()) {
        eprintln!("gone: {}", task.id);
    }
    let (before, after) = (previous.clone().compile(), book.clone().compile());
    let task_of = |book: &CompiledBook, read: &Read| book.assign(&read.request).map(|assigned| assigned.task);
    let had: Vec<(&Read, String)> = drawn
        .calls
        .values()
        .filter_map(|read| Some((read, task_of(&before, read)?)))
        .collect();
    let keeps = |(read, task): &&(&Read, String)| task_of(&after, read).as_ref() == Some(task);
    let keep = had.par_iter().filter(keeps).count();
    let kept = book
        .tasks
        .iter()
        .filter(|task| previous.task(&task.id).is_some())
        .count();
    eprintln!(
        "kept: {} tasks of version {}; {} of the {} calls that had a task keep it",
        count(kept as u64),
        previous.version,
        count(keep as u64),
        count(had.len() as u64)
    );
}

/// A call as a fit reads it.
struct Read {
    call_id: String,
    conversation: String,
    request: Request,
    response: Response,
}

impl Read {
    fn of(record: CallRecord) -> Option<Read> {
        let (request, response) = books::chat_of(&record)?;
        Some(Read {
            call_id: record.call_id,
            conversation: record.conversation_id,
            request,
            response,
        })
    }

    fn input(&self) -> FitInput<'_> {
        FitInput {
            call_id: &self.call_id,
            conversation: &self.conversation,
            request: &self.request,
            response: Some(&self.response),
        }
    }
}

/// A bounded, seeded sample of the kept calls; no more of them is ever held.
struct Drawn {
    calls: BTreeMap<[u8; 16], Read>,
    seen: u64,
}

impl Drawn {
    async fn read(store: &Store, seed: u64, sample: usize, progress: impl Fn()) -> Result<Drawn> {
        let filter = CallFilter {
            columns: Columns::only(COLUMNS),
            ..CallFilter::default()
        };
        let mut drawn = Drawn {
            calls: BTreeMap::new(),
            seen: 0,
        };
        for_each_call(store, &filter, |record| {
            progress();
            drawn.seen += 1;
            let lot = understudy_collector::replay::lot(seed, &record.call_id);
            let is_full = drawn.calls.len() >= sample.max(1);
            if is_full && drawn.calls.last_key_value().is_some_and(|(last, _)| *last <= lot) {
                return;
            }
            if let Some(read) = Read::of(record) {
                drawn.calls.insert(lot, read);
                if drawn.calls.len() > sample.max(1) {
                    drawn.calls.pop_last();
                }
            }
        })
        .await?;
        Ok(drawn)
    }
}
