//! What all calls share: upstreams, routing in force, capture, memory of clients.

use crate::accepted::Accepted;
use crate::capture::Capture;
use crate::certificate::{Certificate, CertificateError};
use crate::config::{Config, Exclude, Limits};
use crate::control::{Controls, KnownControls, standing};
use crate::guard::{Guards, Unwatched, unwatched};
use crate::metrics::Metrics;
use crate::route::{Routes, glob, headers_match};
use crate::socket::Patience;
use crate::spool::{Spool, SpoolConfig, SpoolError};
use crate::tunnel::Tunnels;
use crate::valid::Checks;
use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;
use understudy_call::control::{Control, Trip};
use understudy_call::keys::{Keys, Origins};
use understudy_call::price::PriceTable;
use understudy_call::taskbook::CompiledBook;
use understudy_client::{OpenError, Upstream, UpstreamConfig};

/// The part of the config that is reloaded while running.
pub struct Routing {
    /// Routes in order.
    pub routes: Routes,
    /// Calls that are not kept.
    pub exclude: Vec<Exclude>,
    /// Hash of the config.
    pub hash: String,
}

impl Routing {
    /// Whether the body of a call at this upstream must be read before the call is sent on.
    pub fn need_body(&self, upstream: &str) -> bool {
        self.routes.need_body(upstream) || self.exclude.iter().any(|rule| rule.model.is_some())
    }
}

/// The shared state of the hot path.
pub struct Proxy {
    pub(crate) upstreams: BTreeMap<String, Arc<Upstream>>,
    pub(crate) default_upstream: Arc<Upstream>,
    pub(crate) routing: ArcSwap<Routing>,
    pub(crate) book: ArcSwapOption<CompiledBook>,
    pub(crate) controls: ArcSwap<Controls>,
    pub(crate) known_controls: KnownControls,
    pub(crate) guards: Guards,
    pub(crate) checks: Checks,
    pub(crate) capture: Arc<Capture>,
    pub(crate) accepted: Accepted,
    pub(crate) limits: Limits,
    pub(crate) patience: Patience,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) expose_headers: bool,
    pub(crate) allow_pins: bool,
    pub(crate) tunnels: Tunnels,
    pub(crate) in_flight: BTreeMap<String, Arc<Semaphore>>,
    pub(crate) prices: Arc<PriceTable>,
    /// The proxy's metrics.
    pub metrics: Metrics,
    bypass: AtomicBool,
    spool: Arc<Spool>,
}

/// Why the proxy can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An upstream can't be opened.
    #[error(transparent)]
    Upstream(#[from] OpenError),
    /// The spool can't be opened.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The thread that looks at answers can't be started.
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
    /// The listener's certificate can't be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Proxy {
    /// The kill switch: on, every call goes to its baseline and none is kept, from the next one on.
    pub fn set_bypass(&self, on: bool) {
        self.bypass.store(on, Ordering::Relaxed);
    }

    pub(crate) fn is_bypassed(&self) -> bool {
        self.bypass.load(Ordering::Relaxed)
    }

    /// Hash of the config whose routes are in force.
    pub fn config_hash(&self) -> String {
        self.routing.load().hash.clone()
    }

    /// The routes in force.
    pub fn routes(&self) -> Routes {
        self.routing.load().routes.clone()
    }

    /// The controls in force, by route.
    pub fn controls(&self) -> Arc<Controls> {
        self.controls.load_full()
    }

    /// Opens upstreams and spool; listens nowhere yet.
    ///
    /// # Errors
    /// Where an upstream or the spool can't be opened.
    pub fn open(config: &Config, keys: &Keys, metrics: Metrics) -> Result<Proxy, StartError> {
        let mut upstreams = BTreeMap::new();
        for (name, upstream) in &config.upstreams {
            upstreams.insert(
                name.clone(),
                Arc::new(Upstream::open(upstream.clone(), config.timeouts.upstream)?),
            );
        }
        let default_upstream = upstreams
            .get(&config.default_upstream)
            .cloned()
            .expect("validation checked that the default upstream is among the upstreams");
        let spool_config = SpoolConfig {
            dir: config.spool_dir(),
            max: config.capture.spool_max,
            max_age: config.capture.spool_max_age,
            commit_interval: config.capture.commit_interval,
            when_full: config.capture.when_full,
            sample: config.capture.sample,
        };
        let spool = Arc::new(Spool::open(spool_config, keys.spool.clone(), metrics.clone())?);
        let capture = Capture::new(
            Some(spool.clone()),
            Origins::new(&keys.origin),
            &config.capture,
            config.limits.max_routed_body,
            metrics.clone(),
        );
        let limited = |(name, config): (&String, &UpstreamConfig)| {
            config
                .max_in_flight
                .map(|limit| (name.clone(), Arc::new(Semaphore::new(limit))))
        };
        let proxy = Proxy {
            in_flight: config.upstreams.iter().filter_map(limited).collect(),
            prices: config.prices.clone(),
            upstreams,
            default_upstream,
            routing: ArcSwap::from_pointee(Routing {
                routes: Routes::default(),
                exclude: Vec::new(),
                hash: String::new(),
            }),
            book: ArcSwapOption::empty(),
            controls: ArcSwap::default(),
            known_controls: KnownControls::default(),
            guards: Guards::default(),
            checks: Checks::start().map_err(StartError::Thread)?,
            capture: Arc::new(capture),
            accepted: Accepted::new(config.auth_memory),
            limits: config.limits,
            patience: Proxy::patience_of(&config.timeouts),
            certificate: config.tls.as_ref().map(Certificate::open).transpose()?,
            expose_headers: config.expose_headers,
            allow_pins: config.allow_pins,
            tunnels: Tunnels::default(),
            metrics,
            bypass: AtomicBool::new(false),
            spool,
        };
        proxy.apply(config);
        Ok(proxy)
    }

    /// Puts the reloadable part of a config in force. Calls in flight keep what they began with.
    pub fn apply(&self, config: &Config) {
        let old = self.routing.load();
        if !old.hash.is_empty() {
            self.metrics.config_info.with_label_values(&[&old.hash]).set(0);
        }
        self.metrics.config_info.with_label_values(&[&config.hash]).set(1);
        let exclude = config.capture.exclude.clone();
        self.routing.store(Arc::new(Routing {
            routes: config.routes.clone(),
            exclude,
            hash: config.hash.clone(),
        }));
        // At the start the task book is still to come.
        if !old.hash.is_empty() {
            self.check_tasks();
        }
        for route in config.routes.all() {
            // Agreement is the collector's to watch, and to tell.
            let mine = |unwatched: &Unwatched| unwatched.metric != "agreement";
            for Unwatched { candidate, why, .. } in unwatched(route, config).into_iter().filter(mine) {
                tracing::warn!(route = route.id, candidate, why, "the guard has nothing to go by");
            }
        }
        self.show_weights();
    }

    /// Puts a route's control of the store in force, from the next call on.
    pub fn apply_control(&self, control: Control) {
        self.put_controls(self.known_controls.take(control));
    }

    pub(crate) fn put_controls(&self, controls: Controls) {
        for (route, trip) in controls
            .iter()
            .flat_map(|(route, control)| control.trips.iter().map(move |trip| (route, trip)))
        {
            self.guards.forget(route, trip);
        }
        self.controls.store(Arc::new(controls));
        self.show_weights();
    }

    /// Takes a candidate out of a route, from the next call on; the store and other replicas follow.
    pub fn trip(&self, route: &str, trip: Trip) {
        let Trip {
            candidate,
            task,
            metric,
            why,
            ..
        } = &trip;
        let Some(controls) = self.known_controls.trip(route, trip.clone()) else {
            return;
        };
        tracing::error!(
            route,
            candidate,
            task,
            metric,
            why,
            "the guard tripped: its calls go to the baseline"
        );
        self.metrics
            .guard_trips
            .with_label_values(&[route, candidate, metric])
            .inc();
        self.put_controls(controls);
    }

    /// Gauges of the weights in force, and of trips that hold.
    fn show_weights(&self) {
        let (routing, controls) = (self.routing.load(), self.controls.load());
        self.metrics.split_weight.reset();
        self.metrics.guard_tripped.reset();
        for route in routing.routes.all() {
            let control = controls.get(&route.id);
            let sum: f64 = route.arms.iter().map(|arm| f64::from(arm.weight)).sum();
            let mut rest = sum;
            for arm in route.arms.iter().filter(|arm| arm.upstream != route.baseline) {
                let weight = f64::from(standing(route, control, &arm.upstream, route.task()).weight);
                rest -= weight;
                let labels = [route.id.as_str(), arm.upstream.as_str()];
                self.metrics
                    .split_weight
                    .with_label_values(&labels)
                    .set(weight / sum.max(1.0));
                let holds = |trip: &&Trip| trip.candidate == arm.upstream && trip.stamp == route.stamp;
                let trips = control.map_or(0, |control| control.trips.iter().filter(holds).count());
                self.metrics
                    .guard_tripped
                    .with_label_values(&labels)
                    .set(i64::try_from(trips).unwrap_or(i64::MAX));
            }
            if !route.arms.is_empty() {
                let labels = [route.id.as_str(), route.baseline.as_str()];
                self.metrics
                    .split_weight
                    .with_label_values(&labels)
                    .set(rest / sum.max(1.0));
            }
        }
    }

    /// Puts a task book in force.
    pub fn apply_book(&self, book: CompiledBook) {
        self.metrics.taskbook_version.set(f64::from(book.version()));
        self.book.store(Some(Arc::new(book)));
        self.check_tasks();
    }

    /// Version of the task book in force, 0 = none.
    pub fn book_version(&self) -> i32 {
        self.book.load().as_ref().map_or(0, |book| book.version())
    }

    /// A route that names an unknown task warns and raises a gauge; it does not fail.
    pub(crate) fn check_tasks(&self) {
        let (routing, book) = (self.routing.load(), self.book.load());
        let unknown = routing.routes.all().iter().filter(|route| {
            route
                .task()
                .is_some_and(|task| book.as_ref().is_none_or(|book| book.task(task).is_none()))
        });
        let count = unknown
            .inspect(|route| match book.is_some() {
                true => tracing::warn!(route = route.id, "the task book has no such task"),
                false => tracing::warn!(
                    route = route.id,
                    "it takes a task, and there is no task book yet: `understudy tasks fit`"
                ),
            })
            .count();
        self.metrics
            .unknown_task_routes
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Writes and syncs what is captured, and ends the spool's threads. For after the last call.
    pub fn close(&self) {
        self.spool.close();
    }
}

/// Whether a call is excluded from capture.
pub(crate) fn is_excluded(
    exclude: &[Exclude],
    upstream: &str,
    path: &str,
    headers: &HeaderMap,
    model: Option<&str>,
    client_id: Option<&str>,
) -> bool {
    exclude.iter().any(|rule| {
        rule.upstream.as_deref().is_none_or(|name| name == upstream)
            && rule.path.as_deref().is_none_or(|pattern| glob(pattern, path))
            && rule
                .model
                .as_deref()
                .is_none_or(|pattern| model.is_some_and(|model| glob(pattern, model)))
            && rule.client.as_deref().is_none_or(|client| client_id == Some(client))
            && headers_match(&rule.header, headers)
            && *rule != Exclude::default()
    })
}
