//! The labels of tasks, as replays know them: of all calls that are stored, and of those that came since.
//!
//! Nothing of them is kept anywhere else, so that a restart knows the same labels and scores the same. They are read once
//! there are rules, and again with a newer task book; each call counts once, however it is met.

use crate::books::{current, for_each_assigned};
use crate::replay::{label_told, lot};
use crate::scan::CallFilter;
use crate::score::LabelSet;
use crate::store::Store;
use crate::table::Columns;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use understudy_call::record::CallRecord;
use understudy_call::taskbook::TaskBook;

/// Tasks whose labels are remembered.
const MAX_TASKS: usize = 1000;
/// Tries to read what is stored before shadows go on without it.
const TRIES: u32 = 12;
/// The wait between them.
const RETRY_AFTER: Duration = Duration::from_secs(5);

type Sets = HashMap<String, Arc<LabelSet>>;

/// The labels of all tasks.
pub(super) struct Labels {
    store: Store,
    state: Mutex<State>,
    /// Whether what is stored was read, or can't be.
    ready: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    sets: Sets,
    /// What is being read; none where nothing is.
    reading: Option<Reading>,
    /// Version of the task book by which they were read; none before the first time.
    book: Option<i32>,
}

/// Labels on their way from the store.
#[derive(Default)]
struct Reading {
    sets: Sets,
    /// Version of the task book that is known of.
    version: i32,
    /// Calls that came meanwhile: the store may have them, too.
    met: HashSet<[u8; 16]>,
}

impl Labels {
    pub(super) fn new(store: Store) -> Arc<Labels> {
        Arc::new(Labels {
            store,
            state: Mutex::default(),
            ready: watch::channel(false).0,
        })
    }

    /// Begins to read what is stored, unless that was begun.
    pub(super) fn begin(self: &Arc<Labels>, runtime: &tokio::runtime::Handle) {
        let mut state = self.state();
        if state.book.is_none() && state.reading.is_none() {
            state.reading = Some(Reading::default());
            runtime.spawn(self.clone().read());
        }
    }

    /// Takes note of a live call, which may be stored later on; nothing before [`Labels::begin`].
    pub(super) fn learn(self: &Arc<Labels>, record: &CallRecord, runtime: &tokio::runtime::Handle) {
        let mut state = self.state();
        let newer = record
            .taskbook_version
            .filter(|version| state.book.is_some_and(|book| *version > book));
        if let (Some(version), None) = (newer, &state.reading) {
            state.reading = Some(Reading {
                version,
                ..Reading::default()
            });
            runtime.spawn(self.clone().read());
        }
        let State { sets, reading, book } = &mut *state;
        if let Some(reading) = reading {
            reading.met.insert(lot(0, &record.call_id));
            add(&mut reading.sets, record);
        }
        if book.is_some() {
            add(sets, record);
        }
    }

    /// Waits until what is stored was read: before, an answer would be scored otherwise than after.
    pub(super) async fn ready(&self) {
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// The labels of a task so far.
    pub(super) fn of(&self, task: &str) -> Arc<LabelSet> {
        let state = self.state();
        let sets = match (&state.book, &state.reading) {
            (None, Some(reading)) => &reading.sets,
            _ => &state.sets,
        };
        sets.get(task).cloned().unwrap_or_default()
    }

    async fn read(self: Arc<Labels>) {
        let mut tries = 1;
        let read = loop {
            match self.read_once().await {
                Ok(version) => break Some(version),
                Err(error) if tries < TRIES => tracing::debug!(%error, "the labels of tasks could not be read yet"),
                Err(error) => {
                    tracing::warn!(%error, "the labels of tasks could not be read: they are learnt from live calls");
                    break None;
                }
            }
            tries += 1;
            tokio::time::sleep(RETRY_AFTER).await;
        };
        let mut state = self.state();
        if let Some(reading) = state.reading.take() {
            // What was known before is more than what could not be read.
            if read.is_some() || state.book.is_none() {
                state.sets = reading.sets;
            }
            state.book = Some(read.unwrap_or_default().max(reading.version));
        }
        drop(state);
        self.ready.send_replace(true);
    }

    /// Adds what is stored to what is being read; the version of the task book.
    async fn read_once(&self) -> Result<i32, String> {
        let book = current(&self.store).await.map_err(|error| error.to_string())?;
        let book = book.map(TaskBook::compile);
        let wanted = [
            "api",
            "path",
            "upstream",
            "arm",
            "attempts",
            "outcome",
            "error",
            "partial",
            "taskbook_version",
            "request_body",
            "output_text",
            "tool_calls",
        ];
        let filter = CallFilter {
            columns: Columns::only(wanted),
            ..CallFilter::default()
        };
        for_each_assigned(&self.store, &filter, book.as_ref(), |call| {
            if let Some(reading) = &mut self.state().reading
                && reading.met.insert(lot(0, &call.call_id))
            {
                add(&mut reading.sets, &call);
            }
        })
        .await
        .map_err(|error| error.to_string())?;
        Ok(book.map_or(0, |book| book.version()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(sets: &mut Sets, record: &CallRecord) {
    let (Some(task), Some(text)) = (&record.task_id, label_told(record)) else {
        return;
    };
    if let Some(set) = sets.get_mut(task) {
        Arc::make_mut(set).add(text);
    } else if sets.len() < MAX_TASKS {
        Arc::make_mut(sets.entry(task.clone()).or_default()).add(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::draw;
    use crate::score::{AnswerKind, kind_in_task, score};
    use crate::table::{TableKeys, call_key, calls_to_parquet};
    use tokio::runtime::Handle;
    use understudy_call::call::{Request, Response};

    const TASK: &str = "mood-1";

    fn call(number: usize, text: &str) -> CallRecord {
        let said = serde_json::json!({"choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": text}}]});
        CallRecord {
            call_id: format!("call-{number}"),
            conversation_id: format!("conversation-{number}"),
            api: "openai_chat".into(),
            task_id: Some(TASK.into()),
            request_body: Some(format!(r#"{{"messages":[{{"role":"user","content":"{number}"}}]}}"#)),
            response_body: Some(said.to_string()),
            output_text: Some(text.into()),
            ..CallRecord::default()
        }
    }

    async fn put(store: &Store, rows: &[CallRecord], part: u64) {
        let parquet = calls_to_parquet(rows, &TableKeys::default()).unwrap();
        store
            .put(&call_key(&rows[0], "test", part, part), parquet)
            .await
            .unwrap();
    }

    /// Kind, agreement and validity of an answer to a call.
    fn scored(labels: &LabelSet, recorded: &str, answer: &str) -> (AnswerKind, Option<f64>, bool) {
        let said = |text: &str| Response {
            output_text: text.into(),
            ..Response::default()
        };
        let (request, recorded, answer) = (Request::default(), said(recorded), said(answer));
        let kind = kind_in_task(&request, &recorded, labels);
        let score = score(&request, &recorded, &answer, kind, labels);
        (kind, score.agreement, score.valid)
    }

    async fn started(store: &Store) -> Arc<Labels> {
        let labels = Labels::new(store.clone());
        labels.begin(&Handle::current());
        tokio::time::timeout(Duration::from_secs(30), labels.ready())
            .await
            .unwrap();
        labels
    }

    #[tokio::test]
    async fn the_same_calls_score_the_same_before_and_after_a_restart_and_in_a_replay() {
        let store = Store::in_memory();
        let before = started(&store).await;
        let calls: Vec<CallRecord> = (0..12)
            .map(|number| call(number, if number % 3 == 0 { "positive" } else { "negative" }))
            .collect();
        // Some are stored before others come.
        for (part, some) in (0u64..).zip(calls.chunks(5)) {
            some.iter().for_each(|call| before.learn(call, &Handle::current()));
            put(&store, some, part).await;
        }
        let after = started(&store).await;
        let sample = draw(&store, None, TASK, 100, 0).await.unwrap();
        for (recorded, answer) in [
            ("positive", "negative"),
            ("negative", "Negative."),
            ("positive", "happy"),
        ] {
            let expected = scored(&sample.labels, recorded, answer);
            assert_eq!(expected.0, AnswerKind::Label);
            assert_eq!(scored(&before.of(TASK), recorded, answer), expected);
            assert_eq!(scored(&after.of(TASK), recorded, answer), expected);
        }
    }

    #[tokio::test]
    async fn a_call_counts_once_however_it_is_met() {
        let store = Store::in_memory();
        let calls: Vec<CallRecord> = (0..9).map(|number| call(number, "positive")).collect();
        put(&store, &calls, 0).await;
        let labels = Labels::new(store.clone());
        labels.begin(&Handle::current());
        // Offered before the reader comes to them: nine answers are no closed set, eighteen would be one.
        calls.iter().for_each(|call| labels.learn(call, &Handle::current()));
        labels.ready().await;
        assert!(!labels.of(TASK).is_closed());
        labels.learn(&call(9, "positive"), &Handle::current());
        assert!(labels.of(TASK).is_closed());
    }

    #[tokio::test]
    async fn a_newer_task_book_reads_once_more_and_not_for_ever() {
        let store = Store::in_memory();
        let labels = started(&store).await;
        let calls: Vec<CallRecord> = (0..10).map(|number| call(number, "positive")).collect();
        put(&store, &calls, 0).await;
        let newer = |number| CallRecord {
            taskbook_version: Some(3),
            ..call(number, "positive")
        };
        labels.learn(&newer(10), &Handle::current());
        let is_read = async {
            while labels.state().reading.is_some() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), is_read).await.unwrap();
        assert!(labels.of(TASK).is_closed(), "those that are stored count now");
        labels.learn(&newer(11), &Handle::current());
        assert!(labels.state().reading.is_none());
    }

    #[tokio::test]
    async fn what_a_candidate_said_or_what_broke_off_is_no_label() {
        let store = Store::in_memory();
        let rows: Vec<CallRecord> = (0..20)
            .map(|number| CallRecord {
                upstream: Some("big".into()),
                arm: (number < 10).then(|| "small".into()),
                partial: number >= 10,
                ..call(number, "positive")
            })
            .collect();
        put(&store, &rows, 0).await;
        assert!(!started(&store).await.of(TASK).has("positive"));
    }
}
