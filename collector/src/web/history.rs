//! What was done, for the page's history: entries of the audit log that changed something, and steps of rollouts
//! (`control/<route>/v000012.json`), each read once.

use crate::audit_log::{Entry, FOLDER};
use crate::store::{Store, StoreError, numbered_key};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Entries looked back at, where none was read yet.
const LOOKED_BACK: u32 = 500;
/// Where the control objects of routes are.
const CONTROL: &str = "control";
/// Events kept.
const EVENTS: usize = 200;
/// What somebody only looked at is in the log, and not here; nor is what control objects tell.
const LEFT_OUT: [&str; 4] = ["read_content", "export", "rollout", "trip"];

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
    /// The route that it names, where it does.
    pub route: Option<String>,
}

/// The log as far as it was read.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct History {
    read: u32,
    /// The newest control object of each route that was read.
    controls: BTreeMap<String, String>,
    /// The latest last.
    pub events: Vec<Event>,
}

impl History {
    /// Reads what is new.
    ///
    /// # Errors
    /// Where the store fails.
    pub(super) async fn refresh(&mut self, store: &Store) -> Result<(), StoreError> {
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
        self.read_controls(store).await
    }

    async fn read_controls(&mut self, store: &Store) -> Result<(), StoreError> {
        for object in store.list(CONTROL).await? {
            let Some((route, _)) = object.key.rsplit_once('/') else {
                continue;
            };
            if self.controls.get(route).is_some_and(|newest| *newest >= object.key) {
                continue;
            }
            match store.get(&object.key).await {
                Ok(json) => self
                    .events
                    .extend(serde_json::from_slice(&json).ok().and_then(|json| step(&json))),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
            self.controls.insert(route.to_owned(), object.key.clone());
        }
        self.events.sort_by_key(|event| event.at);
        let too_many = self.events.len().saturating_sub(EVENTS);
        self.events.drain(..too_many);
        Ok(())
    }

    fn note(&mut self, json: &[u8]) {
        let Ok(entry) = serde_json::from_slice::<Entry>(json) else {
            return;
        };
        if LEFT_OUT.contains(&entry.action.as_str()) {
            return;
        }
        let text = |name: &str| entry.details.get(name).and_then(Value::as_str).map(str::to_owned);
        self.events.push(Event {
            at: entry.at,
            task: text("task"),
            route: text("route"),
            details: words(&entry.details),
            what: entry.action,
            by: entry.by,
        });
    }
}

/// A control object as an event; none where it says no action.
fn step(control: &Value) -> Option<Event> {
    let text = |name: &str| control.get(name).and_then(Value::as_str).unwrap_or_default();
    let weights = control
        .get("weights")
        .filter(|weights| weights.as_object().is_some_and(|weights| !weights.is_empty()));
    let weights = weights.map_or_else(String::new, |weights| format!(" ({})", words(weights)));
    let action = Some(text("action")).filter(|action| !action.is_empty())?;
    Some(Event {
        at: control.get("at").and_then(Value::as_i64).unwrap_or_default(),
        what: action.to_owned(),
        by: text("by").to_owned(),
        details: format!("{}: {}{weights}", text("route"), text("why")),
        task: None,
        route: Some(text("route").to_owned()),
    })
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
        append(&store, "rollout", "ops", 2, json!({ "route": "r" }))
            .await
            .unwrap();
        history.refresh(&store).await.unwrap();
        append(&store, "tasks", "ops", 3, json!({ "task": "t", "name": "bills" }))
            .await
            .unwrap();
        history.refresh(&store).await.unwrap();
        let seen: Vec<(&str, &str)> = history
            .events
            .iter()
            .map(|event| (event.what.as_str(), event.details.as_str()))
            .collect();
        assert_eq!(seen, [("bypass", "on: true"), ("tasks", "task: t, name: bills")]);
        assert_eq!(history.events[1].task.as_deref(), Some("t"));
    }

    #[tokio::test]
    async fn steps_of_rollouts_are_in_it_by_their_time() {
        let store = Store::in_memory();
        append(&store, "bypass", "ops", 20, json!({ "on": true }))
            .await
            .unwrap();
        let step = |at: i64, weight: u32| {
            json!({ "route": "bills", "at": at, "by": "ops", "action": "step", "why": "all checks held", "weights": { "slm": weight } })
                .to_string()
        };
        let mut history = History::default();
        store
            .put("control/bills/v000001.json", step(10, 5).into())
            .await
            .unwrap();
        store.put("control/bills/v000002.json", "no JSON".into()).await.unwrap();
        history.refresh(&store).await.unwrap();
        store
            .put("control/bills/v000003.json", step(30, 10).into())
            .await
            .unwrap();
        history.refresh(&store).await.unwrap();
        let seen: Vec<(&str, &str)> = history
            .events
            .iter()
            .map(|event| (event.what.as_str(), event.details.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("step", "bills: all checks held (slm: 5)"),
                ("bypass", "on: true"),
                ("step", "bills: all checks held (slm: 10)")
            ]
        );
        assert_eq!(history.events[0].route.as_deref(), Some("bills"));
    }
}
