//! `report`: the operator's page as one file.

use crate::args::ReportArguments;
use crate::output::{self, Out, count};
use crate::place::{Place, why_empty};
use crate::rollouts::controls;
use crate::{log, page};
use anyhow::{Context, Result};
use understudy_collector::web::{Settings, Web, file};

/// Writes it.
pub(crate) async fn run(arguments: ReportArguments) -> Result<()> {
    let place = Place::of(&arguments.place)?;
    let store = place.existing_store()?;
    let settings = match &place.config {
        Some(config) => page::settings(config, &config.routes, &controls(&store).await?),
        None => Settings {
            verdict: place.verdict(),
            ..Settings::default()
        },
    };
    let web = Web::new(store, Box::new(move || settings.clone()));
    let bar = output::progress(0, "{bar:32} {pos} of {len} files of calls counted, {elapsed}");
    let report = web.refresh(|done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    let report = report.await?;
    bar.finish_and_clear();
    let html = match arguments.texts {
        true => web.file_with_texts(&report, &log::by()).await?,
        false => file(&report),
    };
    if arguments.out.as_os_str() == "-" {
        let mut out = Out::new();
        out.line(&html)?;
        return out.finish();
    }
    std::fs::write(&arguments.out, &html).with_context(|| format!("writing {}", arguments.out.display()))?;
    eprintln!(
        "{}: {} tasks, {} calls",
        arguments.out.display(),
        count(report.tasks.len() as u64),
        count(report.took.calls)
    );
    if report.took.calls == 0 {
        eprintln!("{}", why_empty(&place));
    }
    Ok(())
}
