//! `tasks replaceable`: how much of an agent's traffic is in tasks with narrow answers.

use crate::args::RowFormat;
use crate::output::{self, count, dollars, percent};
use crate::place::{Place, existing_book};
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_call::record::CallRecord;
use understudy_collector::books::for_each_assigned;
use understudy_collector::scan::CallFilter;
use understudy_collector::table::Columns;
use understudy_collector::tally::Tally;

/// A task is narrow where this share of its answers is.
const NARROW: f64 = 0.9;
/// What is read of a call, beside what a tally reads.
const COLUMNS: [&str; 10] = [
    "api",
    "path",
    "client_id",
    "upstream",
    "route",
    "request_model",
    "tags",
    "request_body",
    "taskbook_version",
    "task_confidence",
];

/// What calls are told apart by.
enum By<'a> {
    All,
    Client,
    Upstream,
    Route,
    Model,
    Tag(&'a str),
}

impl<'a> By<'a> {
    fn named(name: Option<&'a str>) -> Result<By<'a>> {
        Ok(match name {
            None => By::All,
            Some("client") => By::Client,
            Some("upstream") => By::Upstream,
            Some("route") => By::Route,
            Some("model") => By::Model,
            Some(other) => match other.strip_prefix("tag:").filter(|tag| !tag.is_empty()) {
                Some(tag) => By::Tag(tag),
                None => {
                    let words = format!("--by {other}: say client, upstream, route, model, or tag:NAME");
                    return Err(crate::place::Wrong(words).into());
                }
            },
        })
    }

    fn of(&self, call: &CallRecord) -> String {
        let value = match self {
            By::All => return "all".to_owned(),
            By::Client => call.client_id.as_ref(),
            By::Upstream => call.upstream.as_ref(),
            By::Route => call.route.as_ref(),
            By::Model => call.request_model.as_ref(),
            By::Tag(tag) => call
                .tags
                .iter()
                .find(|(name, _)| name.as_str() == *tag)
                .map(|(_, value)| value),
        };
        value.map_or_else(|| "-".to_owned(), Clone::clone)
    }
}

/// The calls of one agent.
#[derive(Default)]
struct Shares {
    all: Tally,
    in_tasks: Tally,
    narrow: Tally,
    narrow_answers: f64,
}

/// As printed; shares of cost are of the calls whose cost is known, null where none is.
#[derive(Serialize)]
struct Row {
    agent: String,
    calls: u64,
    in_tasks: f64,
    narrow: f64,
    narrow_answers: f64,
    cost_usd: Option<f64>,
    cost_known_calls: u64,
    narrow_cost: Option<f64>,
}

impl Row {
    fn of((agent, shares): (String, Shares)) -> Row {
        let share = |tally: &Tally| tally.calls as f64 / shares.all.calls.max(1) as f64;
        let narrow_cost = shares.narrow.cost_usd.unwrap_or(0.0);
        Row {
            agent,
            calls: shares.all.calls,
            in_tasks: share(&shares.in_tasks),
            narrow: share(&shares.narrow),
            narrow_answers: shares.narrow_answers / shares.all.calls.max(1) as f64,
            cost_usd: shares.all.cost_usd,
            cost_known_calls: shares.all.cost_known_calls,
            narrow_cost: shares
                .all
                .cost_usd
                .filter(|cost| *cost > 0.0)
                .map(|cost| narrow_cost / cost),
        }
    }
}

/// Prints the shares.
pub(super) async fn run(place: &Place, by: Option<&str>, format: RowFormat) -> Result<()> {
    let by = By::named(by)?;
    let store = place.existing_store()?;
    let book = existing_book(&store).await?;
    let filter = CallFilter {
        columns: Columns::only(COLUMNS.into_iter().chain(Tally::COLUMNS)),
        ..CallFilter::default()
    };
    let mut agents: BTreeMap<String, Shares> = BTreeMap::new();
    for_each_assigned(&store, &filter, Some(&book), |call| {
        let shares = agents.entry(by.of(&call)).or_default();
        shares.all.add(&call);
        if let Some(task) = call.task_id.as_deref().and_then(|task| book.task(task)) {
            shares.in_tasks.add(&call);
            shares.narrow_answers += task.narrow().unwrap_or(0.0);
            if task.narrow().is_some_and(|narrow| narrow >= NARROW) {
                shares.narrow.add(&call);
            }
        }
    })
    .await?;
    let mut rows: Vec<Row> = agents.into_iter().map(Row::of).collect();
    rows.sort_by(|one, other| other.calls.cmp(&one.calls).then_with(|| one.agent.cmp(&other.agent)));
    output::print(format, &rows, || {
        let mut table = output::table(&[
            "agent",
            ">calls",
            ">in tasks",
            ">in narrow tasks",
            ">narrow answers",
            ">cost",
            ">of it in narrow tasks",
        ]);
        for row in &rows {
            table.add_row([
                row.agent.clone(),
                count(row.calls),
                percent(Some(row.in_tasks)),
                percent(Some(row.narrow)),
                percent(Some(row.narrow_answers)),
                dollars(row.cost_usd),
                percent(row.narrow_cost),
            ]);
        }
        output::fit(&mut table, &["in tasks", "cost"]);
        table
    })
}
