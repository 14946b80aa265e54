//! What the kept calls took, by hour and task: each object is read once, and a page adds up what is known of them.
//!
//! Objects of `calls/` don't change but by erasing and merging, which gives them another name or size; then their hour
//! is counted anew. Holds no text of a call.

use super::spread::Spread;
use crate::answer::kind;
use crate::books::assign_anew;
use crate::compact::hidden;
use crate::drift::{Look, Watch};
use crate::erase::{ERASURE_COLUMNS, Tombstones};
use crate::scan::ScanError;
use crate::store::Store;
use crate::table::{Columns, TableKeys, call_batches, call_micros};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use understudy_call::call::{Api, Operation, Response};
use understudy_call::record::{CallRecord, Outcome};
use understudy_call::taskbook::{CompiledBook, TaskBook};
use understudy_call::wire;

/// Names that are told apart in one hour of a task (kinds of answers, models, arms); what more there are is `others`.
const NAMES: usize = 48;
/// The name of what is not told apart.
const OTHERS: &str = "others";
/// What is read of a call.
const COLUMNS: [&str; 21] = [
    "call_id",
    "conversation_id",
    "started_at",
    "upstream",
    "arm",
    "api",
    "path",
    "outcome",
    "request_model",
    "response_model",
    "task_id",
    "task_confidence",
    "taskbook_version",
    "request_body",
    "output_text",
    "tool_calls",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "first_token_ms",
    "duration_ms",
];

/// What calls took together; sums of what only some calls say are of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Took {
    /// How many calls.
    pub calls: u64,
    /// How many of them did not end well.
    pub failed: u64,
    /// Null where no call says it.
    pub input_tokens: Option<i64>,
    /// Null where no call says it.
    pub output_tokens: Option<i64>,
    /// US dollars of the calls whose cost is known; null where that is none.
    pub cost_usd: Option<f64>,
    /// How many those are.
    pub cost_known_calls: u64,
    /// Milliseconds to the last byte.
    pub duration: Spread,
    /// Milliseconds to the first token.
    pub first_token: Spread,
    /// Calls by kind of answer, of those that ended well.
    pub answers: BTreeMap<String, u64>,
    /// Calls by who served them: the arm of a split, else the upstream.
    pub served: BTreeMap<String, u64>,
    /// Calls by the model that answered.
    pub models: BTreeMap<String, u64>,
    /// Calls whose cost is unknown, by model.
    pub unpriced: BTreeMap<String, u64>,
}

impl Took {
    fn add(&mut self, call: &CallRecord) {
        self.calls += 1;
        self.failed += u64::from(call.outcome != Outcome::Ok);
        self.input_tokens = sum(self.input_tokens, call.input_tokens);
        self.output_tokens = sum(self.output_tokens, call.output_tokens);
        self.duration.add(call.duration_ms);
        self.first_token.add(call.first_token_ms);
        let model = call.response_model.as_ref().or(call.request_model.as_ref());
        let model = model.map_or("?", String::as_str);
        bump(&mut self.models, model, 1);
        match call.cost_usd {
            Some(cost) => {
                self.cost_known_calls += 1;
                self.cost_usd = Some(self.cost_usd.unwrap_or(0.0) + cost);
            }
            None if call.outcome == Outcome::Ok => bump(&mut self.unpriced, model, 1),
            None => {}
        }
        if let Some(arm) = call.arm.as_ref().or(call.upstream.as_ref()) {
            bump(&mut self.served, arm, 1);
        }
        if call.outcome == Outcome::Ok && call.task_id.is_some() {
            let answer = Response {
                output_text: call.output_text.clone().unwrap_or_default(),
                tool_calls: call.tool_calls.clone(),
                ..Response::default()
            };
            bump(&mut self.answers, &kind(&answer.without_padding()), 1);
        }
    }

    /// Counts other calls in.
    pub fn merge(&mut self, other: &Took) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.input_tokens = sum(self.input_tokens, other.input_tokens);
        self.output_tokens = sum(self.output_tokens, other.output_tokens);
        self.cost_usd = match (self.cost_usd, other.cost_usd) {
            (Some(one), Some(another)) => Some(one + another),
            (one, another) => one.or(another),
        };
        self.cost_known_calls += other.cost_known_calls;
        self.duration.merge(&other.duration);
        self.first_token.merge(&other.first_token);
        for (own, others) in [
            (&mut self.answers, &other.answers),
            (&mut self.served, &other.served),
            (&mut self.models, &other.models),
            (&mut self.unpriced, &other.unpriced),
        ] {
            for (name, calls) in others {
                bump(own, name, *calls);
            }
        }
    }
}

fn sum(total: Option<i64>, more: Option<i64>) -> Option<i64> {
    match (total, more) {
        (Some(total), Some(more)) => Some(total.saturating_add(more)),
        (total, more) => total.or(more),
    }
}

fn bump(names: &mut BTreeMap<String, u64>, name: &str, calls: u64) {
    if let Some(known) = names.get_mut(name) {
        *known += calls;
    } else if names.len() < NAMES {
        names.insert(name.to_owned(), calls);
    } else {
        *names.entry(OTHERS.to_owned()).or_default() += calls;
    }
}

/// The objects of one hour, and what their calls took by task; the empty id is for calls of no task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Hour {
    objects: BTreeMap<String, u64>,
    /// What the calls took.
    pub tasks: BTreeMap<String, Took>,
}

/// All kept calls, counted by one task book.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Counts {
    /// What of the book decides which call is of which task.
    book: String,
    /// By folder, such as `calls/dt=2026-11-21/hour=h07`.
    pub hours: BTreeMap<String, Hour>,
    /// Objects that can't be read.
    pub unreadable: Vec<String>,
    /// Whether the calls since the fit are still like it.
    pub watch: Watch,
    /// The latest call that the watch has seen, microseconds since the epoch.
    watched: i64,
}

impl Counts {
    /// Counts what the store holds and was not counted yet. `progress` hears, between objects, how many there are and
    /// how many are counted, and sees the counts so far.
    ///
    /// # Errors
    /// Where the store fails; what was counted stays.
    pub(super) async fn refresh(
        &mut self,
        store: &Store,
        book: Option<Arc<CompiledBook>>,
        mut progress: impl FnMut(&Counts, usize, usize),
    ) -> Result<bool, ScanError> {
        let mut changed = self.begin(book.as_ref().map(|book| book.book()));
        let objects = store.list("calls").await?;
        // Asked after the listing: what is merged from now on was listed unmerged.
        let hidden = hidden(store).await?;
        let tombstones = Arc::new(Tombstones::load(store).await?);
        let mut hours: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for object in objects {
            if let Some((hour, name)) = object.key.rsplit_once('/')
                && name.ends_with(".parquet")
                && !hidden.contains(&object.key)
            {
                let hour = hours.entry(hour.to_owned()).or_default();
                hour.insert(name.to_owned(), object.size);
            }
        }
        let is_there = |key: &String| {
            key.rsplit_once('/')
                .is_some_and(|(hour, name)| hours.get(hour).is_some_and(|names| names.contains_key(name)))
        };
        self.unreadable.retain(is_there);
        let before = self.hours.len();
        self.hours.retain(|hour, _| hours.contains_key(hour));
        changed |= self.hours.len() != before;
        let total = hours.values().map(BTreeMap::len).sum();
        let since = self.watched;
        let mut done = 0;
        for (partition, objects) in &hours {
            let hour = self.hours.entry(partition.clone()).or_default();
            if hour.objects.iter().any(|(name, size)| objects.get(name) != Some(size)) {
                *hour = Hour::default();
            }
            for (name, size) in objects {
                done += 1;
                let Some(hour) = self.hours.get_mut(partition) else {
                    break;
                };
                if hour.objects.contains_key(name) {
                    continue;
                }
                changed = true;
                let key = format!("{partition}/{name}");
                let bytes = match store.get(&key).await {
                    Ok(bytes) => bytes,
                    // Merged or erased meanwhile: the next listing knows.
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => return Err(error.into()),
                };
                let reader = Reader {
                    keys: store.table_keys().clone(),
                    book: book.clone(),
                    tombstones: tombstones.clone(),
                    since,
                };
                let read = tokio::task::spawn_blocking(move || reader.read(bytes)).await;
                hour.objects.insert(name.clone(), *size);
                match read {
                    Ok(Ok(read)) => {
                        for (task, took) in read.tasks {
                            hour.tasks.entry(task).or_default().merge(&took);
                        }
                        self.look(book.as_deref(), read.looks, read.latest);
                    }
                    _ => self.unreadable.push(key),
                }
                progress(self, done, total);
            }
        }
        Ok(changed)
    }

    /// Makes objects that could not be read be read again: a key may be there by now.
    pub(super) fn retry_unreadable(&mut self) {
        for key in std::mem::take(&mut self.unreadable) {
            if let Some((hour, name)) = key.rsplit_once('/')
                && let Some(hour) = self.hours.get_mut(hour)
            {
                hour.objects.remove(name);
            }
        }
    }

    /// Forgets what another book counted; whether it was another one.
    fn begin(&mut self, book: Option<&TaskBook>) -> bool {
        let digest = book.map_or_else(String::new, assigning_digest);
        let is_other = digest != self.book;
        if is_other {
            *self = Counts {
                book: digest,
                ..Counts::default()
            };
        }
        is_other
    }

    fn look(&mut self, book: Option<&CompiledBook>, looks: Vec<(String, Look)>, latest: i64) {
        self.watched = self.watched.max(latest);
        for (conversation, look) in looks {
            if let Some(book) = book {
                self.watch.push(book, &conversation, &look);
            }
        }
    }

    /// What the calls of each task took, of all hours from `since` on (a folder's name).
    pub(super) fn totals(&self, since: &str) -> BTreeMap<&str, Took> {
        let mut totals: BTreeMap<&str, Took> = BTreeMap::new();
        for (_, hour) in self.hours.range(since.to_owned()..) {
            for (task, took) in &hour.tasks {
                totals.entry(task).or_default().merge(took);
            }
        }
        totals
    }
}

/// A digest of all of a book that decides which call is of which task, and what drift is told by; a name is none of it.
fn assigning_digest(book: &TaskBook) -> String {
    let mut book = book.clone();
    (book.version, book.created_at) = (0, None);
    for task in &mut book.tasks {
        (task.name, task.description) = (String::new(), String::new());
    }
    blake3::hash(book.to_json().as_bytes()).to_hex().to_string()
}

/// Reads one object.
struct Reader {
    keys: TableKeys,
    book: Option<Arc<CompiledBook>>,
    tombstones: Arc<Tombstones>,
    since: i64,
}

/// What an object holds.
#[derive(Default)]
struct Read {
    tasks: BTreeMap<String, Took>,
    looks: Vec<(String, Look)>,
    latest: i64,
}

impl Reader {
    fn read(&self, bytes: Bytes) -> Result<Read, crate::table::TableError> {
        // Without the content key there are figures all the same.
        let columns = match self.keys.are_of_metrics_alone() {
            true => Columns::Metrics,
            false => Columns::only(COLUMNS.into_iter().chain(ERASURE_COLUMNS)),
        };
        let fitted_at = self.book.as_ref().and_then(|book| book.book().fitted_at.clone());
        let fitted_at = fitted_at.and_then(|at| at.parse::<Timestamp>().ok());
        let since = fitted_at.map(|at| at.as_microsecond().max(self.since));
        let mut read = Read::default();
        for batch in call_batches(bytes, &columns, &self.keys)? {
            for mut call in batch?.into_iter().filter(|call| !self.tombstones.covers_call(call)) {
                // On one core: the others are the agents'.
                let look = self.place(&mut call, since);
                read.latest = read.latest.max(call_micros(&call));
                let task = call.task_id.clone().unwrap_or_default();
                read.tasks.entry(task).or_default().add(&call);
                if let Some(look) = look {
                    read.looks.push((call.conversation_id, look));
                }
            }
        }
        Ok(read)
    }

    /// Gives a call its task, and looks at it where it is newer than the fit.
    fn place(&self, call: &mut CallRecord, since: Option<i64>) -> Option<Look> {
        let book = self.book.as_ref()?;
        if !self.keys.are_of_metrics_alone() {
            assign_anew(call, book);
        }
        if since.is_none_or(|since| call_micros(call) <= since) {
            return None;
        }
        let (api, path) = (Api::from_name(&call.api)?, call.path.as_deref().unwrap_or_default());
        let request = wire::parse_request_at(api, path, call.request_body.as_ref()?.as_bytes()).ok()?;
        if request.operation != Operation::Chat {
            return None;
        }
        let response = Response {
            output_text: call.output_text.clone().unwrap_or_default(),
            tool_calls: call.tool_calls.clone(),
            ..Response::default()
        };
        Look::at(book, &request, Some(&response.without_padding()))
    }
}

#[cfg(test)]
mod tests;
