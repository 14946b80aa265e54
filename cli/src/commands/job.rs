//! `job`: work on what is stored.

use crate::args::{JobCommand, JobName};
use crate::output::{self, count};
use crate::place::Place;
use anyhow::Result;
use comfy_table::Table;
use jiff::Timestamp;
use std::time::Duration;
use understudy_collector::compact::{CompactOptions, Compacted, compact};

/// Bytes of objects merged into one.
const MERGED_BYTES: u64 = 256 << 20;
/// A plan of this age was cut off.
const CUT_OFF_AFTER: Duration = Duration::from_secs(3600);

/// Runs a job.
pub(crate) async fn run(command: JobCommand) -> Result<()> {
    let JobCommand::Run {
        name: JobName::Compact,
        closed_after,
        format,
        place,
    } = command;
    let store = Place::of(&place)?.existing_store()?;
    let options = CompactOptions {
        now: Timestamp::now().as_microsecond(),
        closed_after: Duration::from_secs(closed_after.saturating_mul(60)),
        bytes: MERGED_BYTES,
        cut_off_after: CUT_OFF_AFTER,
    };
    let merged = compact(&store, &options).await?;
    output::print(format, &merged, || table(&merged))?;
    let objects: usize = merged.iter().map(|one| one.objects).sum();
    eprintln!(
        "{} objects became {}",
        count(objects as u64),
        count(merged.len() as u64)
    );
    Ok(())
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
