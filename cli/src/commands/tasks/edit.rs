//! `tasks rename|merge|split|ignore`: an operator's wishes, each a new task book.

use super::fit::now;
use crate::output::{count, percent};
use crate::place::{Place, existing_book, task};
use anyhow::Result;
use understudy_call::features::{features, phrases_of};
use understudy_call::taskbook::{Task, TaskBook};
use understudy_collector::books::{self, for_each_assigned};
use understudy_collector::scan::CallFilter;
use understudy_collector::store::Store;
use understudy_collector::table::Columns;

/// Example calls of a task that is split off.
const EXAMPLES: usize = 5;

/// Gives a task another name.
pub(super) async fn rename(place: &Place, wanted: &str, name: &str) -> Result<()> {
    let (store, mut book) = current(place).await?;
    let id = task(&book, wanted)?.id.clone();
    book.rename(&id, name)?;
    publish(&store, book, &format!("{id} is called `{name}`")).await
}

/// Makes one task's calls another's.
pub(super) async fn merge(place: &Place, from: &str, into: &str) -> Result<()> {
    let (store, mut book) = current(place).await?;
    let (from, into) = (task(&book, from)?.id.clone(), task(&book, into)?.id.clone());
    if from == into {
        return Err(crate::place::Wrong(format!("{from} can't be merged into itself")).into());
    }
    book.merge(&from, &into)?;
    publish(&store, book, &format!("calls of {from} are of {into}")).await
}

/// Counts a task's calls as no task's, or no longer.
pub(super) async fn ignore(place: &Place, wanted: &str, ignored: bool) -> Result<()> {
    let (store, mut book) = current(place).await?;
    let id = task(&book, wanted)?.id.clone();
    book.ignore(&id, ignored)?;
    let words = if ignored {
        "are of no task"
    } else {
        "are a task's again"
    };
    publish(&store, book, &format!("calls of {id} {words}")).await
}

/// Splits off the calls whose prompt holds `phrase`.
pub(super) async fn split(place: &Place, wanted: &str, phrase: &str, name: Option<&str>) -> Result<()> {
    let (store, mut book) = current(place).await?;
    let parent = task(&book, wanted)?.clone();
    let phrases = phrases_of(phrase);
    if phrases.is_empty() {
        return Err(crate::place::Wrong(format!(
            "`{phrase}` is too short: give three words or more of the prompt"
        ))
        .into());
    }
    let mut child = child(&parent, phrase, name);
    let filter = CallFilter {
        task: Some(parent.id.clone()),
        columns: Columns::only(["api", "path", "request_body", "taskbook_version", "task_confidence"]),
        ..CallFilter::default()
    };
    let mut of_parent = 0u64;
    for_each_assigned(&store, &filter, Some(&book.clone().compile()), |call| {
        of_parent += 1;
        let Some((request, _)) = books::chat_of(&call) else {
            return;
        };
        let held = features(&request).phrases;
        if phrases.iter().all(|phrase| held.contains(phrase)) {
            child.size += 1;
            if child.examples.len() < EXAMPLES {
                child.examples.push(call.call_id);
            }
        }
    })
    .await?;
    if child.size == 0 {
        return Err(crate::place::Wrong(format!(
            "none of the {} kept calls of {} holds `{phrase}` in its system prompt or first user messages",
            count(of_parent),
            parent.id
        ))
        .into());
    }
    child.share = parent.share * child.size as f64 / of_parent as f64;
    let (id, size) = (child.id.clone(), child.size);
    book.split(&parent.id, &phrases, child)?;
    let share = percent(Some(size as f64 / of_parent as f64));
    publish(
        &store,
        book,
        &format!("{id} has {} calls of {}, {share} of them,", count(size), parent.id),
    )
    .await
}

/// The task that is split off, as far as the next fit does not know better.
fn child(parent: &Task, phrase: &str, name: Option<&str>) -> Task {
    let words = phrase
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let slug: Vec<String> = words.take(3).map(str::to_ascii_lowercase).collect();
    let digest = blake3::hash(format!("{} {phrase}", parent.id).as_bytes()).to_hex();
    Task {
        id: format!("{}-{}", slug.join("-"), &digest[..4]),
        name: name.unwrap_or(phrase).to_owned(),
        description: format!("Calls of {} whose prompt holds `{phrase}`", parent.id),
        lines: vec![phrase.to_owned()],
        tools: parent.tools.clone(),
        ..Task::default()
    }
}

async fn current(place: &Place) -> Result<(Store, TaskBook)> {
    let store = place.existing_store()?;
    let book = existing_book(&store).await?.book().clone();
    Ok((store, book))
}

async fn publish(store: &Store, mut book: TaskBook, done: &str) -> Result<()> {
    book.created_at = Some(now());
    let key = books::publish(store, &mut book).await?;
    eprintln!("{done} from {key} on");
    Ok(())
}
