//! `calls`: what is kept, row by row.

use crate::args::{CallsArguments, RowFormat};
use crate::log;
use crate::output::{self, RowWriter, count, dollars, excerpt, known};
use crate::place::{Place, book, task, why_empty};
use anyhow::Result;
use comfy_table::Table;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use understudy_call::record::CallRecord;
use understudy_call::taskbook::CompiledBook;
use understudy_collector::books::for_each_assigned;
use understudy_collector::scan::CallFilter;
use understudy_collector::store::Store;
use understudy_collector::table::{Columns, call_micros};

/// Rows of a table where no limit is given.
const TABLE_ROWS: usize = 20;
/// Characters of an answer in a table.
const ANSWER: usize = 32;
/// Columns that a narrow terminal does without, the first first; the other formats have all.
const SPARE: [&str; 7] = ["ms", "cost", "out", "in", "model", "began", "task"];

/// Prints the calls.
pub(crate) async fn run(arguments: CallsArguments) -> Result<()> {
    let place = Place::of(&arguments.place)?;
    let store = place.existing_store()?;
    let only_metrics = store.table_keys().are_of_metrics_alone();
    if only_metrics {
        eprintln!("the content key is not here: calls come without prompts, answers and errors");
    } else {
        let what = json!({ "command": "calls", "task": arguments.task, "conversation": arguments.conversation });
        log::note(&store, "read_content", what).await?;
    }
    // Assigning anew takes the prompt.
    let book = if only_metrics { None } else { book(&store).await? };
    let wanted = match (&arguments.task, &book) {
        (Some(name), Some(book)) => Some(task(book.book(), name)?.id.clone()),
        (name, _) => name.clone(),
    };
    let filter = CallFilter {
        columns: if only_metrics { Columns::Metrics } else { Columns::All },
        task: wanted,
        conversation: arguments.conversation.clone(),
        ..CallFilter::default()
    };
    if arguments.masked {
        return masked(&store, &filter, book.as_ref(), arguments.format).await;
    }
    let wanted_all = arguments.task.is_none() && arguments.conversation.is_none();
    let is_table = arguments.format == RowFormat::Table;
    let limit = arguments.limit.or(is_table.then_some(TABLE_ROWS));
    let Some(limit) = limit else {
        let (mut writer, mut result) = (RowWriter::new(arguments.format), Ok(()));
        for_each_assigned(&store, &filter, book.as_ref(), |call| {
            if result.is_ok() {
                result = writer.row(&call);
            }
        })
        .await?;
        result?;
        return writer.finish();
    };
    let mut latest: BTreeMap<(i64, u64), CallRecord> = BTreeMap::new();
    let mut seen = 0;
    for_each_assigned(&store, &filter, book.as_ref(), |call| {
        seen += 1;
        latest.insert((call_micros(&call), seen), call);
        if latest.len() > limit {
            latest.pop_first();
        }
    })
    .await?;
    let calls: Vec<CallRecord> = latest.into_values().collect();
    output::print(arguments.format, &calls, || table(&calls))?;
    if is_table {
        eprintln!("{} of {} calls", count(calls.len() as u64), count(seen));
        if seen == 0 && wanted_all {
            eprintln!("{}", why_empty(&place));
        }
    }
    Ok(())
}

/// How many values of a kind were masked in a column.
#[derive(Serialize)]
struct MaskedRow {
    column: String,
    kind: String,
    /// Calls that had any.
    calls: u64,
    values: u64,
}

/// Prints what was masked, by column and kind; what came in is not told.
async fn masked(store: &Store, filter: &CallFilter, book: Option<&CompiledBook>, format: RowFormat) -> Result<()> {
    let mut found = BTreeMap::new();
    let mut seen = 0;
    for_each_assigned(store, filter, book, |call| {
        seen += 1;
        for one in call.masked_in {
            let (calls, values): &mut (u64, u64) = found.entry((one.column, one.kind)).or_default();
            *calls += 1;
            *values += u64::try_from(one.count).unwrap_or_default();
        }
    })
    .await?;
    let row = |((column, kind), (calls, values))| MaskedRow {
        column,
        kind,
        calls,
        values,
    };
    let rows: Vec<MaskedRow> = found.into_iter().map(row).collect();
    output::print(format, &rows, || {
        let mut table = output::table(&["column", "kind", ">calls", ">values"]);
        for row in &rows {
            table.add_row([
                row.column.clone(),
                row.kind.clone(),
                count(row.calls),
                count(row.values),
            ]);
        }
        table
    })?;
    eprintln!("{} calls", count(seen));
    Ok(())
}

fn table(calls: &[CallRecord]) -> Table {
    let mut table = output::table(&[
        "call", "began", "task", "model", "outcome", ">in", ">out", ">cost", ">ms", "answer",
    ]);
    for call in calls {
        let tokens = |tokens: Option<i64>| tokens.map_or_else(|| "?".into(), count);
        let model = call.response_model.as_ref().or(call.request_model.as_ref());
        table.add_row([
            call.call_id.clone(),
            began(call),
            call.task_id.clone().unwrap_or_else(|| "-".into()),
            model.cloned().unwrap_or_else(|| "?".into()),
            outcome(call),
            tokens(call.input_tokens),
            tokens(call.output_tokens),
            dollars(call.cost_usd),
            known(call.duration_ms, 0),
            answer(call),
        ]);
    }
    output::fit(&mut table, &SPARE);
    table
}

fn began(call: &CallRecord) -> String {
    let time = call
        .started_at
        .and_then(|micros| Timestamp::from_microsecond(micros).ok());
    match (time, &call.external_id) {
        (Some(time), _) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        (None, Some(id)) => format!("imported {}", excerpt(id, 24)),
        (None, None) => "?".into(),
    }
}

fn outcome(call: &CallRecord) -> String {
    match call.status.filter(|status| *status >= 400) {
        Some(status) => format!("{} {status}", call.outcome.as_str()),
        None => call.outcome.as_str().to_owned(),
    }
}

fn answer(call: &CallRecord) -> String {
    let text = call.output_text.as_deref().unwrap_or_default();
    match call.tool_calls.iter().find(|tool| !tool.is_padding()) {
        Some(tool) => excerpt(&format!("{}({})", tool.name, tool.arguments), ANSWER),
        None if text.trim().is_empty() => excerpt(call.error.as_deref().unwrap_or("-"), ANSWER),
        None => excerpt(text, ANSWER),
    }
}
