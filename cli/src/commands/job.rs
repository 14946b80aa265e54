//! `job`: work on all that is stored.

mod apart;
mod spark;
mod step;

use crate::args::{Engine, JobArguments, JobCommand, JobName};
use crate::output::{self, count};
use crate::place::{Place, Wrong};
use anyhow::Result;
use comfy_table::Table;
use jiff::Timestamp;
use std::time::Duration;
use understudy_collector::compact::{CompactOptions, Compacted};
use understudy_collector::job::StepName;

/// Bytes of objects merged into one.
const MERGED_BYTES: u64 = 256 << 20;
/// A plan of this age was cut off.
const CUT_OFF_AFTER: Duration = Duration::from_secs(3600);

/// Runs a job.
pub(crate) async fn run(command: JobCommand) -> Result<()> {
    let JobCommand::Run(arguments) = command;
    match arguments.name {
        JobName::Compact => compact(arguments).await,
        JobName::Assign => step::run(StepName::Assign, arguments).await,
        JobName::Mask => step::run(StepName::Mask, arguments).await,
        JobName::Stats => step::run(StepName::Stats, arguments).await,
    }
}

async fn compact(arguments: JobArguments) -> Result<()> {
    if let Some(flag) = not_of_compact(&arguments) {
        let message = format!("job run compact takes no {flag}: it merges files in the store itself, here");
        return Err(Wrong(message).into());
    }
    let store = Place::of(&arguments.place)?.existing_store()?;
    let options = CompactOptions {
        now: Timestamp::now().as_microsecond(),
        closed_after: Duration::from_secs(arguments.closed_after.saturating_mul(60)),
        bytes: MERGED_BYTES,
        cut_off_after: CUT_OFF_AFTER,
    };
    let merged = understudy_collector::compact::compact(&store, &options).await?;
    output::print(arguments.format, &merged, || table(&merged))?;
    let objects: usize = merged.iter().map(|one| one.objects).sum();
    eprintln!(
        "{} objects became {}",
        count(objects as u64),
        count(merged.len() as u64)
    );
    Ok(())
}

/// A flag that only other jobs have.
fn not_of_compact(arguments: &JobArguments) -> Option<&'static str> {
    let spark = &arguments.spark;
    let given = [
        (arguments.engine == Engine::Spark, "--engine spark"),
        (arguments.out.is_some(), "--out"),
        (arguments.taskbook.is_some(), "--taskbook"),
        (arguments.threads.is_some(), "--threads"),
        (spark.master.is_some(), "--master"),
        (spark.remote.is_some(), "--remote"),
        (spark.worker.is_some(), "--worker"),
        (spark.store_url.is_some(), "--store-url"),
        (spark.out_url.is_some(), "--out-url"),
    ];
    given.into_iter().find_map(|(is_given, flag)| is_given.then_some(flag))
}

fn table(merged: &[Compacted]) -> Table {
    let mut table = output::table(&["hour", ">objects", ">rows", "output"]);
    for one in merged {
        table.add_row([
            one.partition.clone(),
            count(one.objects as u64),
            count(one.rows as u64),
            one.output.clone(),
        ]);
    }
    table
}
