//! `tasks fit`: finds tasks in a sample of the kept calls, and writes the next task book.

use super::list;
use crate::args::RowFormat;
use crate::output::{self, count, percent};
use crate::place::Place;
use anyhow::{Context, Result};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashSet};
use std::time::Instant;
use understudy_call::call::{Api, Operation, Request, Response};
use understudy_call::record::CallRecord;
use understudy_call::taskbook::TaskBook;
use understudy_call::wire;
use understudy_collector::books;
use understudy_collector::cluster::{FitInput, FitOptions, fit};
use understudy_collector::scan::{CallFilter, for_each_call};
use understudy_collector::store::Store;
use understudy_collector::table::Columns;

/// What a fit needs of a call.
const COLUMNS: [&str; 4] = ["api", "request_body", "output_text", "tool_calls"];

/// The time, for people.
pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Fits, says what changed, and prints the tasks.
pub(super) async fn run(place: &Place, seed: u64, sample: usize, format: RowFormat) -> Result<()> {
    let store = place.existing_store()?;
    let began = Instant::now();
    let previous = books::current(&store).await?;
    let bar = output::progress(0, "{spinner} {msg} {pos} calls");
    bar.set_message("reading");
    let drawn = Drawn::read(&store, seed, sample, || bar.inc(1)).await?;
    bar.finish_and_clear();
    let inputs: Vec<FitInput<'_>> = drawn.calls.values().map(Read::input).collect();
    let options = FitOptions {
        seed,
        sample,
        ..FitOptions::default()
    };
    let mut book = fit(&inputs, previous.as_ref(), &options)?;
    book.calls = drawn.seen;
    book.created_at = Some(now());
    let key = books::publish(&store, &mut book)
        .await
        .context("putting the task book")?;
    say(&book, previous.as_ref());
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

fn say(book: &TaskBook, previous: Option<&TaskBook>) {
    let Some(previous) = previous else { return };
    let ids = |book: &TaskBook| book.tasks.iter().map(|task| task.id.clone()).collect::<HashSet<_>>();
    let (before, after) = (ids(previous), ids(book));
    for task in book.tasks.iter().filter(|task| !before.contains(&task.id)) {
        eprintln!("new:  {} ({} calls)", task.id, count(task.size));
    }
    for task in previous.tasks.iter().filter(|task| !after.contains(&task.id)) {
        eprintln!("gone: {}", task.id);
    }
    let kept = before.intersection(&after).count();
    eprintln!("kept: {} tasks of version {}", count(kept as u64), previous.version);
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
        let api = Api::from_name(&record.api)?;
        let path = record.path.as_deref().unwrap_or_default();
        let request = wire::parse_request_at(api, path, record.request_body?.as_bytes()).ok()?;
        if request.operation != Operation::Chat {
            return None;
        }
        let response = Response {
            output_text: record.output_text.unwrap_or_default(),
            tool_calls: record.tool_calls,
            ..Response::default()
        }
        .without_padding();
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
