//! What is in force for a route beside its config: weights of a rollout, trips of the guard, a freeze.
//!
//! One numbered, create-only object a change (`control/<route>/v000012.json`); the highest number is in force. Both sides
//! write them, so all that they must agree on is here. Pure: no IO, no clock.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The store's folder of all control objects.
pub const FOLDER: &str = "control";
/// Trips kept in one object; beyond it those of configs of before go, the oldest first.
const MAX_TRIPS: usize = 256;

/// The control of one route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Control {
    /// The route's id.
    pub route: String,
    /// The number of its object; 0 = not from a store.
    pub version: u32,
    /// When it was written, microseconds since the epoch.
    pub at: i64,
    /// Who wrote it.
    pub by: String,
    /// What was done: `start`, `step`, `check`, `pause`, `freeze`, `resume`, `rollback`, `trip`.
    pub action: String,
    /// Why, in a sentence.
    pub why: String,
    /// The split and guard that `weights` and `step` were set under; they hold as long as those stay.
    pub stamp: String,
    /// Weights by candidate, in the units of the route's split. A candidate without one has its config's.
    pub weights: BTreeMap<String, u32>,
    /// Candidates that the guard took out.
    pub trips: Vec<Trip>,
    /// Why weights stay where they are, if they must.
    pub frozen: Option<Frozen>,
    /// What froze it or took it back before, and a person resumed in spite of: it does not so again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
    /// The step that a rollout is at.
    pub step: Option<Step>,
    /// What a newer version wrote: kept, so that an older one loses nothing of it.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A candidate taken out by the guard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trip {
    /// The candidate.
    pub candidate: String,
    /// Of which task's calls; all of the route's where it is null.
    pub task: Option<String>,
    /// What was worse: `error`, `invalid`, `fallback`, `p95_latency`, `cost`, `agreement`.
    pub metric: String,
    /// How much worse, in a sentence with its numbers.
    pub why: String,
    /// When, microseconds since the epoch.
    pub at: i64,
    /// The split and guard that it happened under: it holds as long as those stay, or until a `resume`.
    pub stamp: String,
}

/// Weights that must not change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Frozen {
    /// Why, in a sentence.
    pub why: String,
    /// Since when, microseconds since the epoch.
    pub at: i64,
    /// Whether a person froze it: only a person then resumes it.
    pub by_hand: bool,
}

/// A step of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// From 1.
    pub number: u32,
    /// When it began, microseconds since the epoch.
    pub began_at: i64,
    /// Checks in it that failed.
    pub failed_checks: u32,
    /// When the last of them failed, microseconds since the epoch; 0 = none did.
    pub checked_at: i64,
}

/// A control object that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("not a control object: {0}")]
pub struct ControlError(#[from] serde_json::Error);

impl Control {
    /// Of a route, with nothing in it.
    pub fn of(route: &str) -> Control {
        Control {
            route: route.to_owned(),
            ..Control::default()
        }
    }

    /// Reads one; fields that it does not know are kept, missing ones are empty.
    ///
    /// # Errors
    /// Where it is no JSON of this shape.
    pub fn from_json(bytes: &[u8]) -> Result<Control, ControlError> {
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Its JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The trip that keeps calls of this task from the candidate, under the split and guard of this stamp.
    pub fn trip_of(&self, candidate: &str, task: Option<&str>, stamp: &str) -> Option<&Trip> {
        let holds = |trip: &&Trip| trip.candidate == candidate && trip.stamp == stamp;
        let covers = |trip: &&Trip| trip.task.is_none() || trip.task.as_deref() == task;
        self.trips.iter().filter(holds).find(covers)
    }

    /// The weight set for a candidate, under the split and guard of this stamp.
    pub fn weight_of(&self, candidate: &str, stamp: &str) -> Option<u32> {
        let of_now = self.stamp == stamp;
        self.weights.get(candidate).copied().filter(|_| of_now)
    }

    /// Whether a candidate's weight was set to 0, under the split and guard of this stamp.
    pub fn weight_is_zero(&self, stamp: &str) -> bool {
        self.stamp == stamp && self.weights.values().any(|weight| *weight == 0)
    }

    /// Adds a trip; `false` = it is there already.
    pub fn add_trip(&mut self, trip: Trip) -> bool {
        if self
            .trip_of(&trip.candidate, trip.task.as_deref(), &trip.stamp)
            .is_some()
        {
            return false;
        }
        if self.trips.len() >= MAX_TRIPS {
            // One that no config is under any more says nothing; else the oldest.
            let oldest = self.trips.iter().position(|old| old.stamp != trip.stamp).unwrap_or(0);
            self.trips.remove(oldest);
        }
        self.trips.push(trip);
        true
    }
}

/// The store's folder of a route's control objects: `control/<route>`, in characters that every store takes.
///
/// An id of small letters, digits, `-` and `_` stands as it is; any other is told apart by its hash.
pub fn folder_of(route: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if (1..=64).contains(&route.len()) && route.bytes().all(is_plain) {
        return format!("{FOLDER}/{route}");
    }
    let slug: String = route
        .bytes()
        .take(48)
        .map(|byte| byte.to_ascii_lowercase())
        .map(|byte| if is_plain(byte) { char::from(byte) } else { '-' })
        .collect();
    // A dot is in no plain id, so the two forms never meet.
    format!("{FOLDER}/{slug}.{}", &blake3::hash(route.as_bytes()).to_hex()[..12])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trip(task: Option<&str>, stamp: &str) -> Trip {
        Trip {
            candidate: "small".into(),
            task: task.map(str::to_owned),
            metric: "error".into(),
            stamp: stamp.into(),
            ..Trip::default()
        }
    }

    #[test]
    fn a_trip_holds_for_its_task_until_the_split_changes() {
        let mut control = Control::of("r");
        assert!(control.add_trip(trip(Some("t"), "a")));
        assert!(!control.add_trip(trip(Some("t"), "a")));
        assert!(control.trip_of("small", Some("t"), "a").is_some());
        for (candidate, task, stamp) in [
            ("other", Some("t"), "a"),
            ("small", Some("u"), "a"),
            ("small", None, "a"),
            ("small", Some("t"), "b"),
        ] {
            assert_eq!(control.trip_of(candidate, task, stamp), None);
        }
        // One of the whole route is one of each task.
        assert!(control.add_trip(trip(None, "a")));
        assert!(!control.add_trip(trip(Some("v"), "a")));
    }

    #[test]
    fn weights_hold_under_their_own_split_alone() {
        let mut control = Control::of("r");
        control.stamp = "a".into();
        control.weights.insert("small".into(), 10);
        assert_eq!(control.weight_of("small", "a"), Some(10));
        assert_eq!(control.weight_of("small", "b"), None);
        assert_eq!(control.weight_of("other", "a"), None);
    }

    #[test]
    fn what_a_newer_version_wrote_is_kept() {
        let text = r#"{"route":"r","weights":{"small":5},"trips":[{"candidate":"small","mood":1}],"colour":"green"}"#;
        let control = Control::from_json(text.as_bytes()).unwrap();
        assert_eq!(control.weights["small"], 5);
        assert_eq!(control.trips[0].candidate, "small");
        let again = Control::from_json(control.to_json().as_bytes()).unwrap();
        assert_eq!(again, control);
        assert_eq!(again.rest["colour"], "green");
        assert!(Control::from_json(b"{\"trips\": 5}").is_err());
        assert!(Control::from_json(b"").is_err());
    }

    #[test]
    fn old_trips_make_room() {
        let mut control = Control::of("r");
        for number in 0..2 * MAX_TRIPS {
            control.add_trip(trip(Some(&format!("t{number}")), "a"));
        }
        assert_eq!(control.trips.len(), MAX_TRIPS);
        let latest = format!("t{}", 2 * MAX_TRIPS - 1);
        assert!(control.trip_of("small", Some(&latest), "a").is_some());
    }

    #[test]
    fn folders_are_safe_and_apart() {
        assert_eq!(folder_of("canary"), "control/canary");
        assert!(folder_of("task:invoice-extract-7f3a").starts_with("control/task-invoice-extract-7f3a."));
        assert_ne!(folder_of("Canary"), folder_of("canary"));
        assert_ne!(folder_of("a/b"), folder_of("a-b"));
        for id in [
            "",
            ".",
            "..",
            "../../keys",
            "a/../b",
            "path:/v1/*,model:gpt-4*",
            "é",
            "a\u{0}b",
        ] {
            let folder = folder_of(id);
            let name = folder.strip_prefix("control/").unwrap();
            let is_safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
            assert!(
                name.len() > 1 && name.bytes().all(is_safe) && !name.starts_with(".."),
                "{folder}"
            );
        }
    }

    proptest! {
        #[test]
        fn bad_json_is_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Control::from_json(&bytes);
        }

        #[test]
        fn different_routes_have_different_folders(one in ".{0,80}", other in ".{0,80}") {
            prop_assume!(one != other);
            prop_assert_ne!(folder_of(&one), folder_of(&other));
        }
    }
}
