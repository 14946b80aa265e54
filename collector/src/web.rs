//! The operator's page: all tasks, their candidates, and what to look at first; served, or as a file.
//!
//! A page is made of figures that are kept fresh in the background: a request never reads the calls. What was counted is
//! kept in the store as `summaries/page.json`, so that a restart goes on from there; it holds figures alone, and an
//! encrypted store has none. Texts of calls are read when asked for, by those who may, and each look is noted first.

mod counts;
mod history;
mod overview;
mod plot;
mod report;
mod splits;
mod spread;
mod task;
mod texts;
mod view;
pub(crate) mod words;

pub use report::{Candidate, Day, Ready, Report, Settings, TaskReport};
pub use splits::{Arm, Split};

use crate::audit_log;
use crate::books;
use crate::evidence::verdicts;
use crate::scan::ScanError;
use crate::specialise;
use crate::store::{Store, StoreError};
use crate::table::{Columns, scores_from_parquet};
use crate::verdict::VerdictConfig;
use bytes::Bytes;
use counts::Counts;
use history::History;
use jiff::Timestamp;
use maud::Markup;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify};
use understudy_call::taskbook::{CompiledBook, TaskBook};
use view::{Medium, View};

/// What was counted, in the store.
const SUMMARY: &str = "summaries/page.json";
/// Its form; another one is counted anew.
const SCHEMA: u32 = 1;
/// Figures of this age are fresh.
const FRESH: Duration = Duration::from_secs(2);
/// How long a request waits for fresher figures where there are some.
const WAIT: Duration = Duration::from_millis(300);
/// And where there are none.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Between two looks in the background.
const EVERY: Duration = Duration::from_secs(60);
/// Between two partial reports while much is counted.
const PARTS: Duration = Duration::from_secs(1);
/// Between two puts of the summary.
const SAVE_EVERY: Duration = Duration::from_secs(300);
/// With fewer calls than this, counting them again is quicker than keeping what was counted.
const SAVED_FROM: u64 = 20_000;
/// Disagreements of one candidate in a file.
const IN_FILE: usize = 5;
/// Verdicts of the same scores are weighed anew after so many microseconds: scores age, and prices change.
const WEIGHED: i64 = 6 * 3_600_000_000;
/// Weighing takes at most this share of the time.
const REST: u32 = 10;

/// Why a report can't be made.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The task book can't be read.
    #[error(transparent)]
    Book(#[from] books::BooksError),
    /// Calls or scores can't be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A page, a style or a script.
#[derive(Clone, Debug)]
pub struct Page {
    /// Status of the answer.
    pub status: u16,
    /// Its content type.
    pub content_type: &'static str,
    /// Its body.
    pub body: Bytes,
}

impl Page {
    fn html(status: u16, markup: Markup) -> Page {
        Page {
            status,
            content_type: "text/html; charset=utf-8",
            body: markup.into_string().into(),
        }
    }

    fn of(content_type: &'static str, body: &'static str) -> Page {
        Page {
            status: 200,
            content_type,
            body: body.into(),
        }
    }
}

/// Verdicts, and of which scores they are.
#[derive(Default, Serialize, Deserialize)]
struct Weighed {
    scores: BTreeMap<String, u64>,
    /// Records of trainings: what a model was trained with is not counted.
    #[serde(default)]
    trained: BTreeSet<String>,
    config: String,
    book: i32,
    at: i64,
    candidates: Vec<Candidate>,
}

/// All that is known; what is kept in the store of it.
#[derive(Default, Serialize, Deserialize)]
struct State {
    schema: u32,
    counts: Counts,
    weighed: Weighed,
    history: History,
    #[serde(skip)]
    is_loaded: bool,
    #[serde(skip)]
    saved: Option<Instant>,
    #[serde(skip)]
    rested: Option<Instant>,
    #[serde(skip)]
    book: Option<Arc<CompiledBook>>,
}

/// What only the config knows, asked at each refresh: routes change while running.
pub type SettingsSource = Box<dyn Fn() -> Settings + Send + Sync>;

/// The page of a store.
pub struct Web {
    store: Store,
    settings: SettingsSource,
    state: Mutex<State>,
    latest: RwLock<Option<(Instant, Arc<Report>)>>,
    /// Told whenever there is a newer report.
    shown: Notify,
}

impl Web {
    /// The page of this store; reads nothing yet.
    pub fn new(store: Store, settings: SettingsSource) -> Arc<Web> {
        Arc::new(Web {
            store,
            settings,
            state: Mutex::default(),
            latest: RwLock::default(),
            shown: Notify::new(),
        })
    }

    /// Keeps the figures fresh, for as long as the future lives.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            if let Err(error) = self.refresh(|_, _| {}).await {
                tracing::warn!(%error, "the operator's page could not be brought up to date");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Counts what is new, weighs what was scored, and gives the report. `progress` hears how many objects there are and
    /// how many are counted.
    ///
    /// # Errors
    /// Where the store fails; the last report stays.
    pub async fn refresh(&self, progress: impl FnMut(usize, usize)) -> Result<Arc<Report>, WebError> {
        let mut state = self.state.lock().await;
        // Whoever waited for the lock meanwhile has what the other made.
        if let Some((made, report)) = self.latest()
            && made.elapsed() < FRESH
            && report.counting.is_none()
        {
            return Ok(report);
        }
        let result = self.refresh_locked(&mut state, progress).await;
        if let Err(error) = &result {
            let last = self
                .latest()
                .map(|(_, report)| report.as_ref().clone())
                .unwrap_or_default();
            self.show(Report {
                trouble: Some(error.to_string()),
                ..last
            });
        }
        result
    }

    async fn refresh_locked(
        &self,
        state: &mut State,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Arc<Report>, WebError> {
        if !state.is_loaded {
            *state = self.load().await?;
        }
        let settings = (self.settings)();
        self.take_book(state).await?;
        state.history.refresh(&self.store).await?;
        let State {
            counts,
            weighed,
            history,
            book,
            ..
        } = state;
        let is_first = self
            .latest()
            .is_none_or(|(_, report)| report.counting.is_some() || report.trouble.is_some());
        let mut shown = Instant::now();
        let changed = counts.refresh(&self.store, book.clone(), |counts, done, all| {
            progress(done, all);
            if is_first && done < all && shown.elapsed() > PARTS {
                shown = Instant::now();
                let report = report_of(book.as_deref(), counts, weighed, history, &settings);
                self.show(Report {
                    counting: Some((done, all)),
                    ..report
                });
            }
        });
        let changed = changed.await?;
        let weighed_anew = self.weigh(state, &settings.verdict).await?;
        let report = report_of(
            state.book.as_deref(),
            &state.counts,
            &state.weighed,
            &state.history,
            &settings,
        );
        let report = self.show(report);
        let is_due = state.saved.is_none_or(|saved| saved.elapsed() > SAVE_EVERY);
        if is_due && (changed || weighed_anew) && report.took.calls >= SAVED_FROM {
            self.save(state).await;
        }
        Ok(report)
    }

    /// What was counted by an earlier run, where it can be used.
    async fn load(&self) -> Result<State, StoreError> {
        let empty = || State {
            schema: SCHEMA,
            is_loaded: true,
            ..State::default()
        };
        if !self.may_save() {
            return Ok(empty());
        }
        let json = match self.store.get(SUMMARY).await {
            Ok(json) => json,
            Err(error) if error.is_not_found() => return Ok(empty()),
            Err(error) => return Err(error),
        };
        let read = tokio::task::spawn_blocking(move || serde_json::from_slice::<State>(&json).ok());
        let read = read.await.ok().flatten().filter(|state| state.schema == SCHEMA);
        let mut state = read.unwrap_or_else(empty);
        state.is_loaded = true;
        state.counts.retry_unreadable();
        Ok(state)
    }

    /// Keeps what was counted. Not being able to costs the next start time, and nothing else.
    async fn save(&self, state: &mut State) {
        state.saved = Some(Instant::now());
        if !self.may_save() {
            return;
        }
        let json = match serde_json::to_vec(state) {
            Ok(json) => json,
            Err(error) => return tracing::debug!(%error, "the page's summary can't be written as JSON"),
        };
        if let Err(error) = self.store.put(SUMMARY, json.into()).await {
            tracing::debug!(%error, "the page's summary could not be kept");
        }
    }

    /// Figures of an encrypted store are for those who have its keys.
    fn may_save(&self) -> bool {
        !self.store.table_keys().are_there()
    }

    async fn take_book(&self, state: &mut State) -> Result<(), WebError> {
        let newest = self.store.latest(books::FOLDER).await?.map(|(number, _)| number);
        let known = state.book.as_ref().and_then(|book| u32::try_from(book.version()).ok());
        if newest != known {
            let book = books::current(&self.store).await?;
            state.book = book.map(|book| Arc::new(TaskBook::compile(book)));
        }
        Ok(())
    }

    /// Weighs the scores, where they are others than before; whether it did.
    async fn weigh(&self, state: &mut State, config: &VerdictConfig) -> Result<bool, WebError> {
        let listed = self.store.list("scores").await?.into_iter();
        let scores: BTreeMap<String, u64> = listed
            .filter(|object| object.key.ends_with(".parquet"))
            .map(|object| (object.key, object.size))
            .collect();
        let trained = self.store.list(specialise::FOLDER).await?.into_iter();
        let trained: BTreeSet<String> = trained.map(|object| object.key).collect();
        let now = Timestamp::now().as_microsecond();
        let (config_words, book) = (
            format!("{config:?}"),
            state.book.as_ref().map_or(0, |book| book.version()),
        );
        let known = &state.weighed;
        let is_same =
            known.scores == scores && known.trained == trained && known.config == config_words && known.book == book;
        let is_resting = state.rested.is_some_and(|until| Instant::now() < until);
        if is_same && now.saturating_sub(known.at) < WEIGHED || is_resting {
            return Ok(false);
        }
        let began = Instant::now();
        let found = match scores.is_empty() {
            true => Vec::new(),
            false => verdicts(&self.store, state.book.as_deref(), None, config, now).await?,
        };
        let mut candidates: Vec<Candidate> = found.into_iter().map(Candidate::from).collect();
        self.name_models(&scores, &mut candidates).await?;
        state.weighed = Weighed {
            scores,
            trained,
            config: config_words,
            book,
            at: now,
            candidates,
        };
        state.rested = Some(Instant::now() + began.elapsed() * REST);
        Ok(true)
    }

    /// Says which model each candidate is, by its own word: the model that an answer names.
    async fn name_models(&self, scores: &BTreeMap<String, u64>, candidates: &mut [Candidate]) -> Result<(), WebError> {
        if self.store.table_keys().are_of_metrics_alone() {
            return Ok(());
        }
        for candidate in candidates {
            let folder = crate::table::score_partition(&candidate.task, Some(&candidate.name)) + "/";
            let Some((key, _)) = scores.iter().rfind(|(key, _)| key.starts_with(&folder)) else {
                continue;
            };
            let (bytes, keys) = (self.store.get(key).await?, self.store.table_keys().clone());
            let columns = Columns::only(["response_body"]);
            let rows = tokio::task::spawn_blocking(move || scores_from_parquet(bytes, &columns, &keys)).await;
            let rows = rows.ok().and_then(Result::ok).unwrap_or_default();
            candidate.model = rows.iter().find_map(|row| {
                let body: Value = serde_json::from_str(row.response_body.as_deref()?).ok()?;
                body.get("model").and_then(Value::as_str).map(str::to_owned)
            });
        }
        Ok(())
    }

    fn latest(&self) -> Option<(Instant, Arc<Report>)> {
        self.latest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, report: Report) -> Arc<Report> {
        let report = Arc::new(report);
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), report.clone()));
        self.shown.notify_waiters();
        report
    }

    /// The latest report: a fresh one, if it is made in a moment.
    async fn current(self: &Arc<Self>) -> Arc<Report> {
        let known = self.latest();
        if let Some((made, report)) = &known
            && made.elapsed() < FRESH
        {
            return report.clone();
        }
        let shown = self.shown.notified();
        let web = self.clone();
        tokio::spawn(async move { web.refresh(|_, _| {}).await });
        let wait = if known.is_some() { WAIT } else { FIRST_WAIT };
        let _ = tokio::time::timeout(wait, shown).await;
        self.latest().map(|(_, report)| report).unwrap_or_else(|| {
            Arc::new(Report {
                counting: Some((0, 0)),
                ..Report::default()
            })
        })
    }

    /// The page of a path; `None` where there is none. Texts of calls are for those who `may_read`; `who` they are is
    /// noted in the audit log before.
    pub async fn page(self: &Arc<Self>, path: &str, may_read: bool, who: &str) -> Option<Page> {
        match path {
            "/page.css" => return Some(Page::of("text/css; charset=utf-8", view::STYLE)),
            "/page.js" => return Some(Page::of("text/javascript; charset=utf-8", view::SCRIPT)),
            "/icon.svg" => return Some(Page::of("image/svg+xml", include_str!("web/icon.svg"))),
            _ => {}
        }
        let parts: Vec<String> = path.strip_prefix('/')?.split('/').map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let is_known = matches!(
            parts.as_slice(),
            [""] | ["report.json"] | ["tasks", _] | ["tasks", _, "examples"] | ["tasks", _, "disagreements", _]
        );
        if !is_known {
            return None;
        }
        let report = self.current().await;
        let view = View {
            report: &report,
            medium: Medium::Served,
            may_read,
        };
        let (id, rest) = match parts.as_slice() {
            ["report.json"] => {
                return Some(Page {
                    status: 200,
                    content_type: "application/json",
                    body: serde_json::to_vec(report.as_ref()).unwrap_or_default().into(),
                });
            }
            ["tasks", id, rest @ ..] => (*id, rest),
            _ => return Some(Page::html(200, view.document("Understudy", &overview::overview(&view)))),
        };
        let Some(task) = report.task(id) else {
            let words = maud::html! { h1 { "No such task" } p { "The current task book has no task " code { (id) } ". " a href="/" { "All tasks" } } };
            return Some(Page::html(404, view.document("No such task – Understudy", &words)));
        };
        let title = format!("{} – Understudy", task.task.name);
        if rest.is_empty() {
            return Some(Page::html(200, view.document(&title, &task::task(&view, task))));
        }
        if !may_read {
            let words = maud::html! { h1 { "For operators" } p { "This page holds text of calls. A viewer sees figures. " a href=(view.task_href(id)) { "Back to the task" } } };
            return Some(Page::html(403, view.document(&title, &words)));
        }
        match self.texts(&view, task, rest, who).await {
            Ok(Some(content)) => Some(Page::html(200, view.document(&title, &content))),
            Ok(None) => {
                let words =
                    maud::html! { h1 { "No such candidate" } p { a href=(view.task_href(id)) { "Back to the task" } } };
                Some(Page::html(404, view.document(&title, &words)))
            }
            Err(error) => {
                let words = maud::html! { h1 { "These calls can’t be read now" } p { (error) } };
                Some(Page::html(503, view.document(&title, &words)))
            }
        }
    }

    /// A report as one HTML document that needs nothing else, with (masked) text of calls: where each candidate disagrees.
    /// `who` reads it is noted in the audit log first.
    ///
    /// # Errors
    /// Where the store fails; what can't be noted is not read.
    pub async fn file_with_texts(&self, report: &Report, who: &str) -> Result<String, WebError> {
        self.note(who, json!({ "page": "report" })).await?;
        let view = overview::file_view(report, true);
        let mut parts: BTreeMap<String, Vec<Markup>> = BTreeMap::new();
        for task in &report.tasks {
            let id = &task.task.id;
            for candidate in &task.candidates {
                let found = texts::disagreements(&self.store, id, &candidate.name, IN_FILE).await?;
                let part = texts::disagreements_page(&view, &task.task, candidate, &found);
                parts.entry(id.clone()).or_default().push(part);
            }
        }
        Ok(overview::file(report, Some(&parts)))
    }

    async fn note(&self, who: &str, what: Value) -> Result<(), WebError> {
        let now = Timestamp::now().as_microsecond();
        audit_log::append(&self.store, "read_content", who, now, what).await?;
        Ok(())
    }

    /// A page with text of calls. That it is read is noted first; what can't be noted is not shown.
    async fn texts(
        &self,
        view: &View<'_>,
        task: &TaskReport,
        rest: &[&str],
        who: &str,
    ) -> Result<Option<Markup>, WebError> {
        let (id, store) = (&task.task.id, &self.store);
        if let [_, name] = rest {
            let Some(candidate) = task.candidates.iter().find(|own| own.name == *name) else {
                return Ok(None);
            };
            self.note(who, json!({ "page": "disagreements", "task": id, "candidate": name }))
                .await?;
            let found = texts::disagreements(store, id, name, texts::SHOWN).await?;
            return Ok(Some(texts::disagreements_page(view, &task.task, candidate, &found)));
        }
        self.note(who, json!({ "page": "examples", "task": id })).await?;
        let calls = texts::examples(store, &task.task).await?;
        Ok(Some(texts::examples_page(view, &task.task, &calls)))
    }
}

/// A report as one HTML document that needs nothing else; no text of a call is in it.
pub fn file(report: &Report) -> String {
    overview::file(report, None)
}

fn report_of(
    book: Option<&CompiledBook>,
    counts: &Counts,
    weighed: &Weighed,
    history: &History,
    settings: &Settings,
) -> Report {
    let now = Timestamp::now().as_microsecond();
    Report::new(
        now,
        book.map(CompiledBook::book),
        counts,
        &weighed.candidates,
        &history.events,
        settings,
    )
}

fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests;
