//! `job run assign|mask|stats`: one step over all kept calls, its results as Parquet in a folder of their own.

use super::{apart, spark};
use crate::args::{Engine, JobArguments};
use crate::commands::worker::book_of_file;
use crate::keys::make_private;
use crate::log;
use crate::output::{self, count, counted, dollars, known};
use crate::place::{Place, Wrong, book, existing_book};
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;
use std::fmt::Write;
use std::sync::Arc;
use understudy_call::taskbook::CompiledBook;
use understudy_collector::job::{self, Done, LocalOptions, StepName, TaskStats, Work};
use understudy_collector::store::Store;

/// What is printed of a job.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    done: &'a Done,
    engine: &'static str,
    out: &'a str,
    /// Of `stats` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<Vec<TaskStats>>,
}

/// Runs a step over all calls.
pub(super) async fn run(step: StepName, arguments: JobArguments) -> Result<()> {
    let place = Place::of(&arguments.place)?;
    let Some(location) = arguments.out.as_deref() else {
        return Err(Wrong(format!("job run {} writes a folder: say which by --out", step.as_str())).into());
    };
    let store = place.existing_store()?;
    let spark = &arguments.spark;
    apart::check(
        [Some(store.location()), spark.store_url.as_deref()],
        [Some(location), spark.out_url.as_deref()],
    )?;
    let (work, settings) = work_of(step, &arguments, &place, &store).await?;
    let what = json!({ "command": "job run", "job": step.as_str(), "to": location });
    log::note(&store, "read_content", what).await?;
    if let Some(directory) = apart::directory(location) {
        make_private(&directory)?;
    }
    let out = Store::open(location).with_context(|| format!("opening {location}"))?;
    let out = out.with_table_keys(store.table_keys().clone());
    let (engine, done) = match arguments.engine {
        Engine::Local => ("local", local(&work, &store, &out, settings, arguments.threads).await?),
        Engine::Spark => ("spark", spark::run(&work, &store, &out, settings, &arguments).await?),
    };
    if done.is_old {
        eprintln!(
            "done before{}: calls that came or were erased since are not in it; for those say another --out",
            done.at.as_ref().map(|at| format!(", at {at}")).unwrap_or_default()
        );
    }
    let tasks = match step {
        StepName::Stats => Some(job::summary(&job::sums(&out).await?)),
        StepName::Assign | StepName::Mask => None,
    };
    let report = Report {
        done: &done,
        engine,
        out: location,
        tasks,
    };
    output::print_one(arguments.format, &report, || text(&report))
}

async fn local(work: &Work, store: &Store, out: &Store, settings: String, threads: Option<usize>) -> Result<Done> {
    let options = LocalOptions {
        threads: threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        settings: format!("local {settings}"),
    };
    let bar = output::progress(0, "{bar:32} {pos} of {len} objects, {elapsed} (eta {eta})");
    let done = job::run(work, store, out, &options, |progress| {
        bar.set_length(progress.objects as u64);
        bar.set_position(progress.done as u64);
    })
    .await;
    bar.finish_and_clear();
    let done = done?;
    if done.is_old {
        return Ok(done);
    }
    eprintln!(
        "{} read, {} of them erased; {} of {} objects were done before",
        counted(usize::try_from(done.read.read).unwrap_or(usize::MAX), "row"),
        count(done.read.erased),
        count(done.already),
        count(done.objects)
    );
    Ok(done)
}

/// What is done, and what else decides over the results.
async fn work_of(step: StepName, arguments: &JobArguments, place: &Place, store: &Store) -> Result<(Work, String)> {
    let given = arguments.taskbook.as_deref().map(book_of_file).transpose()?;
    let of_book = |book: &CompiledBook| blake3::hash(book.book().to_json().as_bytes()).to_hex().to_string();
    Ok(match step {
        StepName::Assign => {
            let book = match given {
                Some(book) => book,
                None => existing_book(store).await?,
            };
            let settings = of_book(&book);
            (Work::Assign(Arc::new(book)), settings)
        }
        StepName::Mask => (Work::Mask(Arc::new(place.existing_mask()?)), place.mask_settings()?),
        StepName::Stats => {
            let book = match given {
                Some(book) => Some(book),
                None => book(store).await?,
            };
            let settings = book.as_ref().map_or_else(|| "as stored".into(), of_book);
            (Work::Stats(book.map(Arc::new)), settings)
        }
    })
}

fn text(report: &Report<'_>) -> String {
    let done = report.done;
    let mut text = String::new();
    if let Some(tasks) = &report.tasks {
        let heads = [
            "task",
            ">calls",
            ">failed",
            ">input tokens",
            ">output tokens",
            ">cost",
            ">p50 ms",
            ">p95 ms",
        ];
        let mut table = output::table(&heads);
        let number = |value: Option<i64>| value.map_or_else(|| "?".into(), count);
        for task in tasks {
            table.add_row([
                task.task_id.clone().unwrap_or_else(|| "other".into()),
                count(task.calls),
                count(task.failed_calls),
                number(task.input_tokens),
                number(task.output_tokens),
                dollars(task.cost_usd),
                known(task.p50_ms, 0),
                known(task.p95_ms, 0),
            ]);
        }
        let _ = writeln!(text, "{table}\n");
    }
    let _ = write!(
        text,
        "{}: {} objects of calls became {} rows in {}\ndigest {}",
        done.job,
        count(done.objects),
        count(done.rows),
        report.out,
        done.digest
    );
    text
}
