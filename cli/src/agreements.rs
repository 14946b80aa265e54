//! The guard's `agreement`: what reverse shadows find is held against the limits of their routes; a candidate that agrees too
//! little is taken out by a control object, which every proxy follows.

use crate::log;
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use understudy_call::control::{Control, Trip};
use understudy_call::guard;
use understudy_collector::control;
use understudy_collector::shadow::Agreement;
use understudy_collector::store::{Store, StoreError};
use understudy_proxy::config::Config;

/// Routes, tasks and candidates watched at once.
const WATCHED: usize = 1024;
/// Agreements of the baseline with itself that are remembered of a task.
const FLOOR: usize = 400;
/// Until a trip that could not be written is tried again, and how often.
const RETRY: (Duration, u32) = (Duration::from_secs(5), 60);

/// Writes a trip, and a word in the audit log; a store that is out of reach is tried for a while.
pub(crate) async fn write(store: &Store, route: &str, trip: &Trip) {
    tracing::error!(
        route,
        candidate = trip.candidate,
        why = trip.why,
        "the guard tripped on agreement"
    );
    let (rest, tries) = RETRY;
    for _ in 0..tries {
        match put(store, route, trip).await {
            Ok(_) => return,
            Err(error) => tracing::warn!(%error, route, "the trip could not be written yet"),
        }
        tokio::time::sleep(rest).await;
    }
}

/// Writes a trip of the guard, and a word in the audit log; once.
///
/// # Errors
/// Where the trip could not be written.
pub(crate) async fn put(store: &Store, route: &str, trip: &Trip) -> Result<Control, StoreError> {
    let written = control::trip(store, route, "guard", trip).await?;
    let details = json!({ "route": route, "version": written.version, "trip": trip });
    // The trip stands whether or not it could be noted.
    if let Err(error) = log::note(store, "trip", details).await {
        tracing::warn!(%error, route, "the trip is not in the audit log");
    }
    Ok(written)
}

/// Route, task and candidate.
type Place = (String, Option<String>, String);

/// What was heard so far.
#[derive(Default)]
pub(crate) struct Heard {
    /// Under which split and guard, and what of it.
    watched: HashMap<Place, (String, guard::Agreement)>,
    /// What the baseline said of itself lately, by route and task.
    floors: HashMap<(String, Option<String>), VecDeque<f64>>,
}

impl Heard {
    /// Takes an agreement; the trip that it gives cause to, and its route.
    pub(crate) fn take(&mut self, config: &Config, told: &Agreement) -> Option<(String, Trip)> {
        let route = config.routes.get(told.route.as_deref()?)?;
        let limits = route.guard.as_ref()?;
        let task = Some(told.task.clone()).filter(|_| route.matching.task.is_some());
        if self.floors.len() >= WATCHED {
            self.floors.clear();
        }
        let floor = self.floors.entry((route.id.clone(), task.clone())).or_default();
        let mut worse = None;
        match &told.candidate {
            Some(candidate) => {
                let place = (route.id.clone(), task.clone(), candidate.clone());
                if self.watched.len() >= WATCHED && !self.watched.contains_key(&place) {
                    self.watched.clear();
                }
                let is_watched = self.watched.get(&place).is_some_and(|(stamp, _)| *stamp == route.stamp);
                if !is_watched {
                    let mut watch = guard::Agreement::new(limits)?;
                    // What the baseline said of itself before is as good as what it says from now on.
                    for agreement in floor.iter() {
                        let _ = watch.baseline(candidate, *agreement);
                    }
                    self.watched.insert(place.clone(), (route.stamp.clone(), watch));
                }
                let (_, watch) = self.watched.get_mut(&place)?;
                worse = watch.canary(candidate, told.agreement, None);
            }
            None => {
                floor.push_back(told.agreement);
                if floor.len() > FLOOR {
                    floor.pop_front();
                }
                for ((of, of_task, candidate), (stamp, watch)) in &mut self.watched {
                    if *of == route.id && *of_task == task && *stamp == route.stamp {
                        worse = worse.or(watch.baseline(candidate, told.agreement));
                    }
                }
            }
        }
        let guard::Worse { candidate, metric, why } = worse?;
        let trip = Trip {
            candidate,
            task,
            metric: metric.to_owned(),
            why,
            at: told.at,
            stamp: route.stamp.clone(),
        };
        Some((route.id.clone(), trip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use understudy_proxy::config::Overrides;

    fn told(candidate: Option<&str>, agreement: f64) -> Agreement {
        Agreement {
            route: Some("r".into()),
            task: "t".into(),
            candidate: candidate.map(str::to_owned),
            agreement,
            at: 7,
        }
    }

    #[test]
    fn a_candidate_that_agrees_less_than_the_baseline_with_itself_is_taken_out_of_its_task() {
        let text = "upstreams: { big: { url: http://b }, small: { url: http://s, trusted: true } }\ndefault_upstream: big\n\
             routes: [{ name: r, match: { task: t }, split: { big: 95, small: 5 }, guard: { agreement: 5% } }]\n";
        let config = Config::parse(text, Path::new("u.yaml"), &Overrides::default(), &|_| None).unwrap();
        let mut heard = Heard::default();
        let pairs = |heard: &mut Heard, less: f64| {
            (0..200).find_map(|number| {
                let turns = [1.0, 0.8][number % 2];
                let floor = heard.take(&config, &told(None, turns));
                floor.or_else(|| heard.take(&config, &told(Some("small"), turns - less)))
            })
        };
        assert_eq!(pairs(&mut heard, 0.0), None);
        let (route, trip) = pairs(&mut heard, 0.3).expect("30 points less are seen within 200 calls");
        assert_eq!((route.as_str(), trip.metric.as_str(), trip.at), ("r", "agreement", 7));
        assert_eq!((trip.task.as_deref(), trip.candidate.as_str()), (Some("t"), "small"));
        let elsewhere = Agreement {
            route: None,
            ..told(Some("small"), 0.0)
        };
        assert!((0..500).all(|_| heard.take(&config, &elsewhere).is_none()));
    }
}
