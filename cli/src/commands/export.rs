//! `export`: a task's calls as a data set.

use crate::args::{DatasetFormat, ExportArguments};
use crate::draft::Draft;
use crate::place::{Place, existing_book, task};
use crate::{dataset, log};
use anyhow::Result;
use serde_json::json;
use understudy_collector::specialise::Trained;

/// Writes the parts and the card.
pub(crate) async fn run(arguments: ExportArguments) -> Result<()> {
    let DatasetFormat::Openai = arguments.format;
    let config = dataset::settings(&arguments.set, 0.0)?;
    let place = Place::of(&arguments.place)?;
    let store = place.existing_store()?;
    let book = existing_book(&store).await?;
    let task = task(book.book(), &arguments.task)?;
    let what = json!({ "task": arguments.task, "folder": std::path::absolute(&arguments.out)? });
    log::note(&store, "export", what).await?;
    let former = dataset::Former::of(&arguments.out)?;
    let draft = Draft::create(&arguments.out)?;
    let mut written = dataset::write(&place, &store, &book, task, config, draft.path()).await?;
    // Known before it is there: no copy of a call that erasing can't find.
    written.export.folder = std::path::absolute(&arguments.out)?;
    written.export.put(&store).await?;
    former.replace(&written.card, draft.path())?;
    if let Some(model) = arguments.for_model {
        let trained = Trained {
            model,
            task: task.id.clone(),
            data_digest: written.card.digest.clone(),
            calls: written.card.calls,
            learnt: written.learnt,
            ..Trained::default()
        };
        trained.put(&store).await?;
    }
    dataset::say(&written.card, &arguments.out);
    Ok(())
}
