//! `export`: a task's calls as a data set.

use crate::args::{DatasetFormat, ExportArguments};
use crate::exports::{Export, Lines};
use crate::log;
use crate::output::count;
use crate::place::{Place, Wrong, existing_book, task};
use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use understudy_collector::books::for_each_assigned;
use understudy_collector::dataset::{ExportConfig, Exporter, Part};
use understudy_collector::feedback::truths;
use understudy_collector::scan::CallFilter;

/// Writes train.jsonl and test.jsonl.
pub(crate) async fn run(arguments: ExportArguments) -> Result<()> {
    let DatasetFormat::Openai = arguments.format;
    if !(0.0..=1.0).contains(&arguments.test_share) {
        return Err(Wrong("--test-share must be from 0 to 1".into()).into());
    }
    let store = Place::of(&arguments.place)?.existing_store()?;
    let book = existing_book(&store).await?;
    let what = json!({ "task": arguments.task, "folder": std::path::absolute(&arguments.out)? });
    log::note(&store, "export", what).await?;
    let filter = CallFilter {
        task: Some(task(book.book(), &arguments.task)?.id.clone()),
        ..CallFilter::default()
    };
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("making {}", arguments.out.display()))?;
    let (mut train, mut test) = (
        Whole::create(&arguments.out, "train.jsonl")?,
        Whole::create(&arguments.out, "test.jsonl")?,
    );
    let mut exporter = Exporter::new(ExportConfig {
        seed: arguments.seed,
        test_share: arguments.test_share,
    })
    .knowing(truths(&store).await?);
    let (mut written, mut in_train, mut in_test) = (Ok(()), Vec::new(), Vec::new());
    for_each_assigned(&store, &filter, Some(&book), |call| {
        if written.is_ok()
            && let Ok((part, line)) = exporter.example(&call)
        {
            written = match part {
                Part::Train => train.line(&line),
                Part::Test => test.line(&line),
            };
            match part {
                Part::Train => in_train.push(call.call_id),
                Part::Test => in_test.push(call.call_id),
            }
        }
    })
    .await?;
    written?;
    let mut export = Export {
        at: Timestamp::now().as_microsecond(),
        task: filter.task.clone().unwrap_or_default(),
        folder: std::path::absolute(&arguments.out)?,
        ..Export::default()
    };
    for (name, file, calls) in [("train.jsonl", train, in_train), ("test.jsonl", test, in_test)] {
        let path = file.finish()?;
        export.files.insert(name.into(), Lines::of(&path, calls)?);
    }
    export.put(&store).await?;
    let counts = exporter.counts();
    eprintln!(
        "{} calls: {} to train.jsonl, {} to test.jsonl in {}",
        count(counts.calls),
        count(counts.train),
        count(counts.test),
        arguments.out.display()
    );
    for (reason, calls) in &counts.left_out {
        let reason = serde_json::to_value(reason)?;
        eprintln!("left out: {} {}", count(*calls), reason.as_str().unwrap_or_default());
    }
    Ok(())
}

/// A file that appears under its name only when it is whole.
struct Whole {
    file: BufWriter<File>,
    temporary: std::path::PathBuf,
    path: std::path::PathBuf,
}

impl Whole {
    fn create(folder: &Path, name: &str) -> Result<Whole> {
        let temporary = folder.join(format!(".{name}.{}", std::process::id()));
        let file = File::create(&temporary).with_context(|| format!("making {}", temporary.display()))?;
        Ok(Whole {
            file: BufWriter::new(file),
            temporary,
            path: folder.join(name),
        })
    }

    fn line(&mut self, line: &str) -> Result<()> {
        writeln!(self.file, "{line}").with_context(|| format!("writing {}", self.temporary.display()))
    }

    fn finish(mut self) -> Result<std::path::PathBuf> {
        self.file
            .flush()
            .with_context(|| format!("writing {}", self.temporary.display()))?;
        std::fs::rename(&self.temporary, &self.path).with_context(|| format!("making {}", self.path.display()))?;
        Ok(self.path)
    }
}
