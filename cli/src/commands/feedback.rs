//! `feedback import`: what is known to be right, from elsewhere.

use crate::args::{FeedbackArguments, FeedbackCommand};
use crate::output::count;
use crate::place::{Place, Wrong};
use anyhow::{Context, Result};
use jiff::Timestamp;
use understudy_collector::feedback::import;

/// Files are read whole, up to this.
const MAX_FILE: u64 = 1 << 30;

/// Keeps the feedback of the files; a line that can't be used is named, and the rest is kept.
pub(crate) async fn run(command: FeedbackCommand) -> Result<()> {
    let FeedbackCommand::Import(FeedbackArguments { files, place }) = command;
    let mut texts = Vec::new();
    for file in &files {
        let size = std::fs::metadata(file)
            .with_context(|| format!("reading {}", file.display()))?
            .len();
        if size > MAX_FILE {
            return Err(Wrong(format!("{} is over 1 GiB: divide it", file.display())).into());
        }
        texts.push(std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?);
    }
    let place = Place::of(&place)?;
    let (store, mask) = (place.existing_store()?, place.mask()?);
    let mut bad = 0;
    for (file, text) in files.iter().zip(&texts) {
        let imported = import(&store, &mask, text, Timestamp::now().as_microsecond()).await?;
        for (line, reason) in &imported.bad {
            eprintln!("{}:{line}: {reason}", file.display());
        }
        bad += imported.bad.len();
        eprintln!(
            "{}: {} lines, {} kept{}",
            file.display(),
            count(imported.lines as u64),
            count(imported.added as u64),
            if imported.added == 0 && imported.bad.len() < imported.lines {
                " (they were there already)"
            } else {
                ""
            }
        );
    }
    match bad {
        0 => Ok(()),
        bad => anyhow::bail!("{} lines could not be used", count(bad as u64)),
    }
}
