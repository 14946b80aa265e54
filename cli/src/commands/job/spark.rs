//! The engine `spark`: hands a job to the small driver in Python, which the program carries along.
//!
//! Schedules nothing itself: partitions, retries and shuffles are Spark's.

use crate::args::JobArguments;
use crate::keys::make_private;
use crate::place::Wrong;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use understudy_collector::erase::Tombstones;
use understudy_collector::job::{self, Done, StepName, Work};
use understudy_collector::store::Store;

/// The driver, which is started with this program's version of it.
const DRIVER: &str = include_str!("../../../../deploy/spark/driver.py");

/// What the driver prints last.
#[derive(Deserialize)]
struct Printed {
    rows: u64,
    digest: String,
}

/// Runs the job to its end. What it came to is put beside the results, as the local engine does. Nothing is ever
/// overwritten: results of a job that did not end are removed by hand.
pub(super) async fn run(
    work: &Work,
    store: &Store,
    out: &Store,
    settings: String,
    arguments: &JobArguments,
) -> Result<Done> {
    let step = work.name();
    if store.table_keys().are_there() {
        bail!("this store is encrypted, which Spark can't read: run the job with --engine local");
    }
    // Before the plan: what is erased from now on is told by another tombstone.
    let erased = Tombstones::load(store).await?;
    let plan = job::plan(store, out, step, &format!("spark {settings}"), &erased).await?;
    if let Some(done) = Done::load(out, step).await? {
        return Ok(done);
    }
    plan.check(store, out, &erased).await?;
    if !out.list(step.folder()).await?.is_empty() {
        bail!(
            "{}/{} is there already, of a job that did not end, and nothing is ever overwritten: remove it by hand, or say \
             another --out",
            out.location().trim_end_matches('/'),
            step.folder()
        );
    }
    let spark = &arguments.spark;
    let from = spark.store_url.clone().map_or_else(|| place_of(store.location()), Ok)?;
    let to = spark.out_url.clone().map_or_else(|| place_of(out.location()), Ok)?;
    let job = json!({
        "step": step.as_str(),
        "inputs": plan.inputs.iter().map(|input| format!("{from}/{input}")).collect::<Vec<_>>(),
        "out": format!("{to}/{}", step.folder()),
        "columns": work.columns(&erased),
        "schema": step.schema(),
        "worker": worker(work, &erased, arguments)?,
        "files": files(work, &erased)?,
    });
    let printed = tokio::task::block_in_place(|| drive(&job, arguments))?;
    let done = Done::now(step, plan.inputs.len() as u64, printed.rows, printed.digest);
    plan.check(store, out, &erased).await?;
    done.put(out, step).await?;
    Ok(done)
}

/// A location as Spark names it.
fn place_of(location: &str) -> Result<String> {
    let location = location.trim_end_matches('/');
    if location.contains("://") {
        return Ok(location.to_owned());
    }
    let path = std::path::absolute(location).with_context(|| format!("finding {location}"))?;
    Ok(format!("file://{}", path.display()))
}

/// The command that each partition's rows go through.
fn worker(work: &Work, erased: &Tombstones, arguments: &JobArguments) -> Result<Vec<String>> {
    let program = match &arguments.spark.worker {
        Some(program) => program.clone(),
        None => text(&std::env::current_exe().context("finding this program")?)?,
    };
    let mut command = vec![program, "worker".into(), work.name().as_str().into()];
    if book_of(work).is_some() {
        command.extend(["--taskbook".into(), "@taskbook.json".into()]);
    }
    if !erased.is_empty() {
        command.extend(["--erased".into(), "@erased.json".into()]);
    }
    if work.name() == StepName::Mask {
        if let Some(config) = &arguments.place.config {
            command.extend(["--config".into(), text(&std::path::absolute(config)?)?]);
        }
        if let Some(data) = &arguments.place.data {
            let data = match data.contains("://") {
                true => data.clone(),
                false => text(&std::path::absolute(data)?)?,
            };
            command.extend(["--data".into(), data]);
        }
    }
    Ok(command)
}

fn files(work: &Work, erased: &Tombstones) -> Result<Value> {
    let mut files = serde_json::Map::new();
    if let Some(book) = book_of(work) {
        files.insert("taskbook.json".into(), book.into());
    }
    if !erased.is_empty() {
        files.insert(
            "erased.json".into(),
            serde_json::to_string(&erased.for_workers())?.into(),
        );
    }
    Ok(files.into())
}

fn book_of(work: &Work) -> Option<String> {
    match work {
        Work::Assign(book) | Work::Stats(Some(book)) => Some(book.book().to_json()),
        Work::Stats(None) | Work::Mask(_) => None,
    }
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.with_context(|| format!("{} is no plain text, which Spark's workers ask for", path.display()))
}

/// Runs the driver; its words go to stderr.
fn drive(job: &Value, arguments: &JobArguments) -> Result<Printed> {
    let folder = Folder::new()?;
    let (driver, job_file) = (folder.0.join("driver.py"), folder.0.join("job.json"));
    std::fs::write(&driver, DRIVER).with_context(|| format!("writing {}", driver.display()))?;
    std::fs::write(&job_file, job.to_string()).with_context(|| format!("writing {}", job_file.display()))?;
    let spark = &arguments.spark;
    let mut command = Command::new(&spark.python);
    command.arg(&driver).stdin(Stdio::null()).stderr(Stdio::inherit());
    for (flag, value) in [("--master", &spark.master), ("--remote", &spark.remote)] {
        if let Some(value) = value {
            command.args([flag, value]);
        }
    }
    let ended = match command.arg(&job_file).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let message = format!(
                "--python {}: there is no such program: install Python 3.9 or later, and in it `pip install 'pyspark==4.0.*' \
                 pyarrow pandas`",
                spark.python
            );
            return Err(Wrong(message).into());
        }
        ended => ended.with_context(|| format!("starting {}", spark.python))?,
    };
    if !ended.status.success() {
        bail!("the Spark driver ended with {}: see its words above", ended.status);
    }
    let printed = String::from_utf8_lossy(&ended.stdout);
    let last = printed.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("the Spark driver printed no digest, but {last:?}"))
}

/// A folder that goes when it is no longer needed.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("understudy-job-{}", uuid::Uuid::now_v7()));
        make_private(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the system's folder of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
