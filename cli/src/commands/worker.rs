//! `worker`: one step between an Arrow IPC stream on standard input and one on standard output.

use crate::args::{WorkerArguments, WorkerStep};
use crate::place::{Place, Wrong};
use anyhow::{Context, Result};
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::sync::Arc;
use understudy_call::taskbook::{CompiledBook, TaskBook};
use understudy_collector::erase::Tombstones;
use understudy_collector::job::{self, StepName, Work};

/// Bytes read and written at once.
const BUFFER: usize = 1 << 20;

/// Works until the input ends.
pub(crate) fn run(arguments: &WorkerArguments) -> Result<()> {
    let step = match arguments.step {
        WorkerStep::Assign => StepName::Assign,
        WorkerStep::Mask => StepName::Mask,
        WorkerStep::Stats => StepName::Stats,
    };
    let input = BufReader::with_capacity(BUFFER, std::io::stdin().lock());
    let output = BufWriter::with_capacity(BUFFER, std::io::stdout().lock());
    if arguments.digest {
        job::digest(step, input, output)?;
        return Ok(());
    }
    let work = work_of(step, arguments)?;
    let erased = match &arguments.erased {
        Some(file) => Tombstones::of(serde_json::from_slice(&read(file)?).with_context(|| not(file, "tombstones"))?),
        None => Tombstones::default(),
    };
    let counts = job::work(&work, &erased, input, output)?;
    if counts.erased > 0 {
        eprintln!(
            "{} of {} rows are erased, and were left out",
            counts.erased, counts.read
        );
    }
    Ok(())
}

fn work_of(step: StepName, arguments: &WorkerArguments) -> Result<Work> {
    let book = arguments.taskbook.as_deref().map(book_of_file).transpose()?;
    Ok(match (step, book) {
        (StepName::Assign, Some(book)) => Work::Assign(Arc::new(book)),
        (StepName::Assign, None) => {
            return Err(Wrong("worker assign needs a task book: say --taskbook FILE".into()).into());
        }
        (StepName::Mask, None) => Work::Mask(Arc::new(Place::of(&arguments.place)?.existing_mask()?)),
        (StepName::Mask, Some(_)) => return Err(Wrong("worker mask takes no --taskbook".into()).into()),
        (StepName::Stats, book) => Work::Stats(book.map(Arc::new)),
    })
}

/// A task book from a file.
pub(crate) fn book_of_file(file: &Path) -> Result<CompiledBook> {
    let book = TaskBook::from_json(&read(file)?).with_context(|| not(file, "task book"))?;
    Ok(book.compile())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("reading {}", file.display()))
}

fn not(file: &Path, what: &str) -> String {
    format!("{} holds no {what}", file.display())
}
