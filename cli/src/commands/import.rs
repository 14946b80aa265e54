//! `import`: files of JSON lines become kept calls.

use crate::args::ImportArguments;
use crate::output::{self, count};
use crate::place::Place;
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use serde::Serialize;
use std::fs::File;
use std::io::{Read, Stdin};
use std::process::ExitCode;
use std::time::Instant;
use understudy_collector::import::{Imported, import};
use understudy_collector::row::RowMaker;
use understudy_collector::store::Store;

/// One file's counts, as printed.
#[derive(Serialize)]
struct Row {
    file: String,
    lines: u64,
    added: u64,
    already: u64,
    unreadable: u64,
}

/// Imports the files one after the other; a file that can't be read doesn't stop those after it.
pub(crate) async fn run(arguments: ImportArguments) -> Result<ExitCode> {
    let inputs: Vec<Input> = arguments
        .files
        .iter()
        .map(|file| Input::of(file))
        .collect::<Result<_>>()?;
    let place = Place::of(&arguments.place)?;
    let store = place.store()?;
    let rows = place.row_maker(&store).await?;
    let began = Instant::now();
    let (mut printed, mut failed) = (Vec::new(), false);
    for (file, input) in arguments.files.iter().zip(inputs) {
        match one(&store, &rows, file, input, arguments.source.as_deref()).await {
            Ok(done) => {
                failed |= done.unreadable > 0;
                printed.push(Row {
                    file: file.clone(),
                    lines: done.lines,
                    added: done.added,
                    already: done.already,
                    unreadable: done.unreadable,
                });
            }
            Err(error) => {
                failed = true;
                eprintln!("understudy: importing {file}: {error:#}");
            }
        }
    }
    output::print(arguments.format, &printed, || {
        let mut table = output::table(&["file", ">lines", ">added", ">there already", ">unreadable"]);
        for row in &printed {
            let numbers = [row.lines, row.added, row.already, row.unreadable];
            table.add_row([vec![row.file.clone()], numbers.map(count).to_vec()].concat());
        }
        table
    })?;
    let added: u64 = printed.iter().map(|row| row.added).sum();
    eprintln!(
        "{} calls added to {} in {:.1} s",
        count(added),
        store.location(),
        began.elapsed().as_secs_f64()
    );
    Ok(ExitCode::from(u8::from(failed)))
}

/// What is read: opened before anything is done, so that a wrong name is the first thing said.
enum Input {
    Stdin(Stdin),
    File(File),
}

impl Input {
    fn of(file: &str) -> Result<Input> {
        if file == "-" {
            return Ok(Input::Stdin(std::io::stdin()));
        }
        let opened = File::open(file).with_context(|| format!("opening {file}"))?;
        let is_file = opened.metadata().is_ok_and(|metadata| !metadata.is_dir());
        if !is_file {
            bail!("{file} is a directory: name the files in it");
        }
        Ok(Input::File(opened))
    }
}

async fn one(store: &Store, rows: &RowMaker, file: &str, input: Input, source: Option<&str>) -> Result<Imported> {
    let source = match (source, &input) {
        (Some(name), _) => name.to_owned(),
        (None, Input::Stdin(_)) => "-".to_owned(),
        (None, Input::File(_)) => std::fs::canonicalize(file)
            .with_context(|| format!("finding the full path of {file}"))?
            .to_string_lossy()
            .into_owned(),
    };
    let (bar, reader): (ProgressBar, Box<dyn Read + Send>) = match input {
        Input::Stdin(stdin) => (output::progress(0, "{bytes} read, {elapsed}"), Box::new(stdin)),
        Input::File(opened) => {
            let length = opened.metadata()?.len();
            let bar = output::progress(length, "{msg} {bar:32} {bytes} of {total_bytes}, {elapsed}");
            (bar, Box::new(opened))
        }
    };
    bar.set_message(file.to_owned());
    let reader = Box::new(bar.wrap_read(reader));
    let done = import(store, rows, &source, reader, |bad| {
        bar.suspend(|| eprintln!("{file}:{}: {}", bad.line, bad.reason));
    })
    .await;
    bar.finish_and_clear();
    Ok(done?)
}
