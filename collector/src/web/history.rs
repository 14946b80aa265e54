//! What was done, for the page's history: entries of the audit log that changed something, each read once.

use crate::audit_log::{Entry, FOLDER};
use crate::store::{Store, StoreError, numbered_key};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Entries looked back at, where none was read yet.
const LOOKED_BACK: u32 = 500;
/// Events kept.
const EVENTS: usize = 200;
/// What somebody only looked at is in the log, and not here.
const LOOKS: [&str; 2] = ["read_content", "export"];

/// Something that was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, microseconds since the epoch.
    pub at: i64,
    /// What, such as `bypass`.
    pub what: String,
    /// By whom, as the operating system says.
    pub by: String,
    /// What more the log says.
    pub details: String,
    /// The task that it names, where it does.
    pub task: Option<String>,
}

/// The log as far as it was read.
#[derive(Default, Serialize, Deserialize)]
pub struct History {
    read: u32,
    /// The latest last.
    pub events: Vec<Event>,
}

impl History {
    /// Reads what is new.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn refresh(&mut self, store: &Store) -> Result<(), StoreError> {
        let newest = store.latest(FOLDER).await?.map_or(0, |(number, _)| number);
        let first = self.read.max(newest.saturating_sub(LOOKED_BACK)) + 1;
        for number in first..=newest {
            match store.get(&numbered_key(FOLDER, number)).await {
                Ok(json) => self.note(&json),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
            self.read = number;
        }
        Ok(())
    }

    fn note(&mut self, json: &[u8]) {
        let Ok(entry) = serde_json::from_slice::<Entry>(json) else {
            return;
        };
        if LOOKS.contains(&entry.action.as_str()) {
            return;
        }
        self.events.push(Event {
            at: entry.at,
            task: entry.details.get("task").and_then(Value::as_str).map(str::to_owned),
            details: words(&entry.details),
            what: entry.action,
            by: entry.by,
        });
        if self.events.len() > EVENTS {
            self.events.remove(0);
        }
    }
}

/// `{"on": true, "number": 3}` as `on: true, number: 3`.
fn words(details: &Value) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match details.as_object() {
        Some(fields) => {
            let words: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name}: {}", word(value)))
                .collect();
            words.join(", ")
        }
        None => word(details),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit_log::append;
    use serde_json::json;

    #[tokio::test]
    async fn what_was_done_is_read_once_and_looks_are_left_out() {
        let store = Store::in_memory();
        let mut history = History::default();
        history.refresh(&store).await.unwrap();
        append(&store, "bypass", "ops", 1, json!({ "on": true })).await.unwrap();
        append(&store, "read_content", "ops", 2, json!({})).await.unwrap();
        history.refresh(&store).await.unwrap();
        append(&store, "rollout", "ops", 3, json!({ "task": "t", "weight": 5 }))
            .await
            .unwrap();
        history.refresh(&store).await.unwrap();
        let seen: Vec<(&str, &str)> = history
            .events
            .iter()
            .map(|event| (event.what.as_str(), event.details.as_str()))
            .collect();
        assert_eq!(seen, [("bypass", "on: true"), ("rollout", "task: t, weight: 5")]);
        assert_eq!(history.events[1].task.as_deref(), Some("t"));
    }
}
