//! The guard's `agreement`: what reverse shadows find is held against the limits of their routes; a candidate that agrees too
//! little is taken out by a control object, which every proxy follows.

use crate::{log, serve};
use serde_json::json;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use understudy_call::control::Trip;
use understudy_call::guard;
use understudy_collector::control;
use understudy_collector::shadow::Agreement;
use understudy_collector::store::Store;
use understudy_proxy::config::{Config, Overrides};

/// How old the config may be that agreements are held against.
const CONFIG_AGE: Duration = Duration::from_secs(5);
/// Routes, tasks and candidates watched at once.
const WATCHED: usize = 1024;
/// Until a trip that could not be written is tried again, and how often.
const RETRY: (Duration, u32) = (Duration::from_secs(5), 60);

/// Holds agreements against the config's guards, for as long as any are told.
pub(crate) async fn watch(mut told: Receiver<Agreement>, mut config: Config, file: Option<PathBuf>, store: Store) {
    let mut heard = Heard::default();
    let mut read_at = Instant::now();
    loop {
        let agreement = match told.recv().await {
            Ok(agreement) => agreement,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "agreements came faster than they could be looked at");
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        if read_at.elapsed() > CONFIG_AGE {
            read_at = Instant::now();
            let overrides = Overrides {
                data: Some(config.data.clone()),
                ..Overrides::default()
            };
            let newer = file
                .as_deref()
                .map(|file| Config::load(file, &overrides, &serve::environment));
            if let Some(Ok(newer)) = newer {
                config = newer;
            }
        }
        if let Some((route, trip)) = heard.take(&config, &agreement) {
            write(&store, &route, &trip).await;
        }
    }
}

async fn write(store: &Store, route: &str, trip: &Trip) {
    tracing::error!(
        route,
        candidate = trip.candidate,
        why = trip.why,
        "the guard tripped on agreement"
    );
    let (rest, tries) = RETRY;
    for _ in 0..tries {
        match control::trip(store, route, "guard", trip).await {
            Ok(written) => {
                let details = json!({ "route": route, "version": written.version, "trip": trip });
                if let Err(error) = log::note(store, "trip", details).await {
                    tracing::warn!(%error, route, "the trip is not in the audit log");
                }
                return;
            }
            Err(error) => tracing::warn!(%error, route, "the trip could not be written yet"),
        }
        tokio::time::sleep(rest).await;
    }
}

/// Route, task and candidate.
type Place = (String, Option<String>, String);

/// What was heard so far, under which split and guard.
#[derive(Default)]
struct Heard(HashMap<Place, (String, guard::Agreement)>);

impl Heard {
    /// Takes an agreement; the trip that it gives cause to, and its route.
    fn take(&mut self, config: &Config, told: &Agreement) -> Option<(String, Trip)> {
        let route = config.routes.get(told.route.as_deref()?)?;
        let limits = route.guard.as_ref()?;
        let task = Some(told.task.clone()).filter(|_| route.matching.task.is_some());
        let mut worse = None;
        match &told.candidate {
            Some(candidate) => {
                let place = (route.id.clone(), task.clone(), candidate.clone());
                if self.0.len() >= WATCHED && !self.0.contains_key(&place) {
                    self.0.clear();
                }
                let begun = (route.stamp.clone(), guard::Agreement::new(limits)?);
                let (stamp, watch) = self.0.entry(place).or_insert_with(|| begun.clone());
                if *stamp != route.stamp {
                    (*stamp, *watch) = begun;
                }
                worse = watch.canary(candidate, told.agreement, None);
            }
            None => {
                for ((of, of_task, candidate), (stamp, watch)) in &mut self.0 {
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
