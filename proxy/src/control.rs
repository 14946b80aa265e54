//! Control from the cold path: the newest task book and the routes' controls, polled, never waited for. And the way back:
//! trips of the guard, which hold in this process at once and are written to the store behind its back.
//!
//! What was read is copied to a local file, so that the next start needs no store.

use crate::proxy::Proxy;
use crate::route::ValidRoute;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use understudy_call::control::{Control, Trip, folder_of};
use understudy_call::taskbook::TaskBook;

/// How often the store is asked.
const EVERY: Duration = Duration::from_secs(2);
/// How long its answer on task books is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A future of the newest task book's JSON, if it is newer than the version given.
pub type NewestBook = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, String>> + Send>>;

/// Where task books come from: given the version in force, the newest one if it is newer.
pub trait TaskBookSource: Send + Sync {
    /// Asks for a newer book.
    fn newer_than(&self, version: i32) -> NewestBook;
}

/// Puts the task book of the local copy in force, where there is one: with it a proxy starts although the store is out of
/// reach. For before the first call.
pub fn load_task_book(proxy: &Proxy, copy: &Path) -> bool {
    let Ok(json) = std::fs::read(copy) else { return false };
    match TaskBook::from_json(&json) {
        Ok(book) => {
            let written = std::fs::metadata(copy).and_then(|copy| copy.modified());
            // At least as old as that; a clock that went back makes it no younger than now.
            let age = written.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
            tracing::info!(
                version = book.version,
                tasks = book.tasks.len(),
                seconds_old = age.as_secs(),
                "the local copy of the task book is in force until the store says which is the newest"
            );
            proxy.metrics.taskbook_age.set(age.as_secs_f64());
            proxy.apply_book(book.compile());
            true
        }
        Err(error) => {
            tracing::warn!(%error, copy = %copy.display(), "the local copy of the task book can't be read: the store is asked");
            false
        }
    }
}

/// Keeps the proxy's task book and its local copy current, for as long as the future lives. Failures are logged and tried
/// again.
pub async fn watch_task_book(proxy: Arc<Proxy>, source: Box<dyn TaskBookSource>, copy: PathBuf) {
    let age = &proxy.metrics.taskbook_age;
    // A copy may be of another store than this one: the first time its highest number counts, whatever the copy says.
    let (mut known, begun, before) = (0, Instant::now(), age.get());
    let mut heard: Option<Instant> = None;
    loop {
        let asked = tokio::time::timeout(PATIENCE, source.newer_than(known)).await;
        match asked.unwrap_or(Err("no answer in time".into())) {
            Ok(newer) => {
                let is_first = heard.is_none();
                heard = Some(Instant::now());
                known = proxy.book_version();
                if is_first && newer.is_none() && known == 0 {
                    proxy.check_tasks();
                }
                if let Some(json) = newer {
                    match TaskBook::from_json(&json) {
                        Ok(book) if book.version == known => {}
                        Ok(book) => {
                            tracing::info!(version = book.version, tasks = book.tasks.len(), "task book in force");
                            known = book.version;
                            proxy.apply_book(book.compile());
                            put(&copy, &json, "task book");
                        }
                        Err(error) => tracing::warn!(%error, "the newest task book can't be read: the old one stays"),
                    }
                }
            }
            Err(error) => tracing::warn!(error, "asking for a newer task book failed"),
        }
        age.set(heard.map_or(before + begun.elapsed().as_secs_f64(), |heard| {
            heard.elapsed().as_secs_f64()
        }));
        tokio::time::sleep(EVERY).await;
    }
}

/// A future of controls.
pub type ControlsRead = Pin<Box<dyn Future<Output = Result<Vec<Control>, String>> + Send>>;
/// A future of the control in force after a change.
pub type ControlWritten = Pin<Box<dyn Future<Output = Result<Control, String>> + Send>>;

/// Where controls come from, and trips go to.
pub trait ControlSource: Send + Sync {
    /// Asks for the controls that are newer than these versions, by their folders.
    fn newer_than(&self, known: BTreeMap<String, u32>) -> ControlsRead;
    /// Writes a trip, and notes it in the audit log. Writing it again changes nothing.
    fn trip(&self, route: String, trip: Trip) -> ControlWritten;
}

/// The controls in force, by route.
pub type Controls = BTreeMap<String, Control>;

/// What is known of the routes' controls: what the store said, and trips of this process that it does not know yet.
#[derive(Debug, Default)]
pub(crate) struct KnownControls {
    known: Mutex<Known>,
    told: Notify,
}

/// What the local copy holds.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    controls: Vec<Control>,
    /// Trips that are not in the store yet, by route: a restart must write them.
    #[serde(default)]
    waiting: Vec<(String, Trip)>,
}

#[derive(Debug, Default)]
struct Known {
    stored: Controls,
    waiting: Vec<(String, Trip)>,
}

impl KnownControls {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a control of the store; returns all in force.
    pub(crate) fn take(&self, control: Control) -> Controls {
        let mut known = self.lock();
        known.stored.insert(control.route.clone(), control);
        known.in_force()
    }

    /// Takes a trip of this process; `None` = it is known already.
    pub(crate) fn trip(&self, route: &str, trip: Trip) -> Option<Controls> {
        let mut known = self.lock();
        let mut in_force = known.in_force().remove(route).unwrap_or_default();
        if !in_force.add_trip(trip.clone()) {
            return None;
        }
        known.waiting.push((route.to_owned(), trip));
        self.told.notify_one();
        Some(known.in_force())
    }

    /// Takes what a local copy holds.
    fn restore(&self, kept: Kept) -> Controls {
        let mut known = self.lock();
        known.stored = kept
            .controls
            .into_iter()
            .map(|control| (control.route.clone(), control))
            .collect();
        known.waiting = kept.waiting;
        known.in_force()
    }

    fn copy(&self) -> Kept {
        let known = self.lock();
        Kept {
            controls: known.stored.values().cloned().collect(),
            waiting: known.waiting.clone(),
        }
    }

    fn waiting(&self) -> Vec<(String, Trip)> {
        self.lock().waiting.clone()
    }

    /// A trip is in the store, as this control shows.
    fn written(&self, route: &str, trip: &Trip, control: Control) -> Controls {
        let mut known = self.lock();
        known.waiting.retain(|(other, waits)| other != route || waits != trip);
        known.stored.insert(route.to_owned(), control);
        known.in_force()
    }

    fn versions(&self) -> BTreeMap<String, u32> {
        let known = self.lock();
        let version = |(route, control): (&String, &Control)| (folder_of(route), control.version);
        known.stored.iter().map(version).collect()
    }
}

impl Known {
    fn in_force(&self) -> Controls {
        let mut all = self.stored.clone();
        for (route, trip) in &self.waiting {
            let control = all.entry(route.clone()).or_insert_with(|| Control::of(route));
            control.add_trip(trip.clone());
        }
        all
    }
}

/// Puts the controls of the local copy in force, where there is one. For before the first call.
pub fn load_controls(proxy: &Proxy, copy: &Path) -> bool {
    let Ok(bytes) = std::fs::read(copy) else { return false };
    match serde_json::from_slice::<Kept>(&bytes) {
        Ok(kept) => {
            proxy.put_controls(proxy.known_controls.restore(kept));
            true
        }
        Err(error) => {
            tracing::warn!(%error, copy = %copy.display(), "the local copy of controls can't be read: the store is asked");
            false
        }
    }
}

/// Asks once for controls, for before the first call.
///
/// # Errors
/// In words, where the store does not say.
pub async fn read_controls(proxy: &Proxy, source: &dyn ControlSource) -> Result<bool, String> {
    let newer = source.newer_than(proxy.known_controls.versions()).await?;
    let any = !newer.is_empty();
    for control in newer {
        let Control {
            route,
            version,
            action,
            why,
            ..
        } = &control;
        tracing::info!(route, version, action, why, "control in force");
        proxy.apply_control(control);
    }
    Ok(any)
}

/// Keeps the routes' controls current and writes the guard's trips, for as long as the future lives. Failures are logged
/// and tried again.
pub async fn watch_controls(proxy: Arc<Proxy>, source: Box<dyn ControlSource>, copy: PathBuf) {
    loop {
        let waiting = proxy.known_controls.waiting();
        if !waiting.is_empty() {
            // First where no store is needed: a restart must know it.
            save(&proxy, &copy);
        }
        let mut changed = false;
        for (route, trip) in waiting {
            match source.trip(route.clone(), trip.clone()).await {
                Ok(control) => {
                    proxy.put_controls(proxy.known_controls.written(&route, &trip, control));
                    changed = true;
                }
                Err(error) => tracing::warn!(route, error, "the trip holds here, and could not be written yet"),
            }
        }
        match read_controls(&proxy, &*source).await {
            Ok(any) => changed |= any,
            Err(error) => tracing::warn!(error, "asking for newer controls failed"),
        }
        if changed {
            save(&proxy, &copy);
        }
        // A trip is written at once, but a store that fails is not asked without a rest.
        let rest = tokio::time::sleep(EVERY);
        tokio::select! { () = rest => {}, () = proxy.known_controls.told.notified() => {} }
    }
}

fn save(proxy: &Proxy, copy: &Path) {
    let json = serde_json::to_vec(&proxy.known_controls.copy()).unwrap_or_default();
    put(copy, &json, "controls");
}

/// Writes a local copy, whole or not at all.
fn put(copy: &Path, json: &[u8], of: &str) {
    let draft = copy.with_extension("draft");
    let saved =
        tokio::task::block_in_place(|| std::fs::write(&draft, json).and_then(|()| std::fs::rename(&draft, copy)));
    if let Err(error) = saved {
        tracing::warn!(%error, of, copy = %copy.display(), "a local copy could not be written");
    }
}

/// What a candidate may take of a route's calls of one task, and why not more.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its weight in force.
    pub weight: u32,
    /// The highest that config allows.
    pub highest: u32,
    /// The trip that took it out.
    pub trip: Option<Trip>,
    /// The number and words of the control that says so.
    pub control: Option<(u32, String)>,
}

/// The weight of a candidate in force: the lower one of config's and control's, or 0 where the guard tripped.
pub fn standing(route: &ValidRoute, control: Option<&Control>, candidate: &str, task: Option<&str>) -> Standing {
    let highest = route
        .arms
        .iter()
        .find(|arm| arm.upstream == candidate)
        .map_or(0, |arm| arm.weight);
    let given = route.split.get(candidate).copied().unwrap_or_default();
    let set = control.and_then(|control| control.weight_of(candidate, &route.stamp));
    let trip = control.and_then(|control| control.trip_of(candidate, task, &route.stamp));
    let words = |control: &Control| (control.version, format!("{}: {}", control.action, control.why));
    Standing {
        weight: match trip {
            Some(_) => 0,
            None => set.unwrap_or(given).min(highest),
        },
        highest,
        trip: trip.cloned(),
        control: control.filter(|_| set.is_some() || trip.is_some()).map(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Rollout, Route, Routes};
    use understudy_client::UpstreamConfig;
    use url::Url;

    fn route() -> ValidRoute {
        let upstream = |name: &str| {
            let mut upstream = UpstreamConfig::new(name, Url::parse("http://u").unwrap());
            upstream.trusted = true;
            (name.to_owned(), upstream)
        };
        let route = Route {
            name: Some("r".into()),
            split: BTreeMap::from([("big".into(), 95), ("small".into(), 5)]),
            rollout: Some(Rollout {
                step_weight: 5,
                max_weight: 50,
                interval: EVERY,
                min_calls: 1,
                threshold: 1,
                auto: true,
            }),
            ..Route::default()
        };
        let upstreams = BTreeMap::from([upstream("big"), upstream("small")]);
        let routes = Routes::new(vec![route], &upstreams, "big").unwrap();
        ValidRoute {
            stamp: "now".into(),
            ..routes.all()[0].clone()
        }
    }

    fn control(weight: u32, stamp: &str) -> Control {
        Control {
            route: "r".into(),
            weights: BTreeMap::from([("small".into(), weight)]),
            stamp: stamp.into(),
            ..Control::default()
        }
    }

    fn trip(task: Option<&str>) -> Trip {
        Trip {
            candidate: "small".into(),
            task: task.map(str::to_owned),
            stamp: "now".into(),
            ..Trip::default()
        }
    }

    #[test]
    fn the_weight_in_force_is_the_lower_one_and_a_trip_wins() {
        let weight = |control: Option<&Control>| standing(&route(), control, "small", Some("t")).weight;
        assert_eq!(weight(None), 5);
        assert_eq!(weight(Some(&control(20, "now"))), 20);
        assert_eq!(weight(Some(&control(80, "now"))), 50);
        assert_eq!(weight(Some(&control(0, "now"))), 0);
        assert_eq!(weight(Some(&control(20, "before"))), 5, "the split was changed since");
        let mut tripped = control(20, "now");
        tripped.add_trip(trip(Some("t")));
        assert_eq!(weight(Some(&tripped)), 0);
        assert_eq!(standing(&route(), Some(&tripped), "small", Some("u")).weight, 20);
    }

    #[test]
    fn a_trip_of_this_process_holds_until_the_store_knows_it_and_goes_with_the_stores() {
        let known = KnownControls::default();
        assert!(known.trip("r", trip(None)).is_some());
        assert!(known.trip("r", trip(None)).is_none());
        // The store says something else meanwhile.
        let in_force = known.take(control(5, "now"));
        assert_eq!(in_force["r"].trips.len(), 1);
        let mut written = control(5, "now");
        written.add_trip(trip(None));
        assert_eq!(known.written("r", &trip(None), written)["r"].trips.len(), 1);
        assert!(known.waiting().is_empty());
        assert_eq!(known.take(control(5, "now"))["r"].trips.len(), 0, "resumed");
    }

    #[test]
    fn a_trip_that_could_not_be_written_waits_also_after_a_restart() {
        let known = KnownControls::default();
        known.take(control(5, "now"));
        assert!(known.trip("r", trip(None)).is_some());
        let json = serde_json::to_vec(&known.copy()).unwrap();
        let restarted = KnownControls::default();
        let in_force = restarted.restore(serde_json::from_slice(&json).unwrap());
        assert_eq!(in_force["r"].trips.len(), 1);
        assert_eq!(restarted.waiting(), [("r".to_owned(), trip(None))]);
        // Also where the store has moved on without it.
        assert_eq!(restarted.take(control(20, "now"))["r"].trips.len(), 1);
        // One that the store took is gone with the store's.
        let mut written = control(5, "now");
        written.add_trip(trip(None));
        restarted.written("r", &trip(None), written);
        let json = serde_json::to_vec(&restarted.copy()).unwrap();
        let again = KnownControls::default();
        again.restore(serde_json::from_slice(&json).unwrap());
        assert_eq!(again.take(control(5, "now"))["r"].trips.len(), 0, "resumed");
    }
}
