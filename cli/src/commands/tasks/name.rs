//! `tasks name`: an LLM on the operator's upstream gives tasks their names, from masked text.

use super::fit::now;
use crate::log;
use crate::place::{Place, Wrong, existing_book, task};
use anyhow::{Result, anyhow};
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;
use understudy_call::call::Request;
use understudy_call::taskbook::Task;
use understudy_client::Upstream;
use understudy_collector::books::{self, for_each_assigned};
use understudy_collector::naming::{name_in, question};
use understudy_collector::scan::CallFilter;
use understudy_collector::store::Store;
use understudy_collector::table::Columns;

/// Requests of a task that are shown.
const EXAMPLES: usize = 2;
/// The longest wait for a name.
const DEADLINE: Duration = Duration::from_secs(60);

/// Asks the upstream `with` for names: of one task, or of all.
pub(super) async fn run(place: &Place, wanted: Option<&str>, with: &str, model: Option<&str>) -> Result<()> {
    let upstream = place.upstream("--with", with)?;
    let Some(model) = model.or(upstream.model.as_deref()) else {
        return Err(Wrong(format!(
            "which model of {with}? say --model, or `model:` of the upstream"
        ))
        .into());
    };
    let upstream = place.open(upstream.clone())?;
    let store = place.existing_store()?;
    let mut book = existing_book(&store).await?.book().clone();
    let tasks: Vec<Task> = match wanted {
        Some(wanted) => vec![task(&book, wanted)?.clone()],
        None => book.tasks.clone(),
    };
    let what = json!({ "command": "tasks name", "tasks": tasks.len(), "to": with });
    log::note(&store, "read_content", what).await?;
    let examples = examples(&store, &tasks).await?;
    let (mut named, mut last) = (0, None);
    for task in &tasks {
        let shown: Vec<Request> = task
            .examples
            .iter()
            .filter_map(|id| examples.get(id))
            .take(EXAMPLES)
            .cloned()
            .collect();
        match ask(&upstream, model, task, &shown).await {
            Ok(name) => {
                eprintln!("{}: {name}", task.id);
                book.rename(&task.id, &name)?;
                named += 1;
            }
            Err(error) => {
                eprintln!("{}: keeps `{}`: {error}", task.id, task.name);
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) if named == 0 => Err(error.context(format!("{with} gave no name"))),
        _ => {
            book.created_at = Some(now());
            let key = books::publish(&store, &mut book).await?;
            eprintln!("{named} of {} tasks are named by {model} from {key} on", tasks.len());
            Ok(())
        }
    }
}

/// The requests of example calls, by id.
async fn examples(store: &Store, tasks: &[Task]) -> Result<HashMap<String, Request>> {
    let mut wanted: HashMap<String, Option<Request>> = tasks
        .iter()
        .flat_map(|task| task.examples.iter().take(EXAMPLES))
        .map(|id| (id.clone(), None))
        .collect();
    let filter = CallFilter {
        columns: Columns::only(["call_id", "api", "path", "request_body"]),
        ..CallFilter::default()
    };
    for_each_assigned(store, &filter, None, |call| {
        if let Some(place) = wanted.get_mut(&call.call_id) {
            *place = books::chat_of(&call).map(|(request, _)| request);
        }
    })
    .await?;
    Ok(wanted
        .into_iter()
        .filter_map(|(id, request)| Some((id, request?)))
        .collect())
}

async fn ask(upstream: &Upstream, model: &str, task: &Task, examples: &[Request]) -> Result<String> {
    let (answer, response) = upstream.ask_chat(&question(model, task, examples), DEADLINE).await?;
    let Some(response) = response else {
        let said: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
        return Err(anyhow!("it answers with status {}: {}", answer.status, said.trim()));
    };
    let text = response.output_text;
    name_in(&text).ok_or_else(|| {
        anyhow!(
            "its answer holds no name: {:?}",
            text.chars().take(80).collect::<String>()
        )
    })
}
