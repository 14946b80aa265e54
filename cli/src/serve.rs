//! `serve` and `collect`: wires proxy and collector together, runs them, and ends them in order.
//!
//! On SIGTERM: listening stops, open calls end, the spool is closed, the collector stores what is left, exit 0.

use crate::commands::bypass;
use crate::place::Wrong;
use crate::{agreements, keys, log, page, parts, retention, rollouts, shadow};
use anyhow::{Context, Result};
use prometheus::Registry;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing_subscriber::EnvFilter;
use understudy_call::control::Trip;
use understudy_call::keys::Keys;
use understudy_collector::control;
use understudy_collector::drift::Drifted;
use understudy_collector::ingest::{Ingest, IngestConfig, newer_book};
use understudy_collector::shadow::{ShadowConfig, Shadows};
use understudy_collector::store::Store;
use understudy_proxy::admin::{self, Door, Gate};
use understudy_proxy::config::{Config, LogFormat, Overrides};
use understudy_proxy::listener::Listener;
use understudy_proxy::proxy::Proxy;
use understudy_proxy::{
    ControlSource, ControlWritten, ControlsRead, NewestBook, TaskBookSource, load_controls, load_task_book,
    read_controls, watch_certificate, watch_config, watch_controls, watch_task_book,
};

/// The longest that a start without a local copy waits for the controls in force.
const CONTROLS_AT_START: Duration = Duration::from_secs(2);
/// How nice the thread of a collector is that runs beside the calls: it gets a tenth of what each of theirs does.
#[cfg(target_os = "linux")]
const COLLECTOR_NICE: i32 = 10;

/// What `serve` is asked to do.
pub(crate) struct Serve {
    /// The config in force at the start.
    pub(crate) config: Config,
    /// The file that it came from, which is watched.
    pub(crate) file: Option<PathBuf>,
    /// Flags that override the file.
    pub(crate) overrides: Overrides,
    /// Whether a collector runs in this process.
    pub(crate) collect: bool,
}

/// Runs the proxy, and unless told otherwise a collector, until SIGTERM or SIGINT.
pub(crate) fn serve(serve: Serve) -> Result<()> {
    let Serve {
        config,
        file,
        overrides,
        collect,
    } = serve;
    start_log(&config);
    let keys = keys::load(&config.keys, collect && config.store_is_local())?;
    // Bound before anything else, so that a taken port is the first thing said.
    let listener = Listener::bind(config.listen)?;
    let (metrics_socket, metrics_address) = admin::bind(config.metrics)?;
    let (admin_socket, admin_address) = admin::bind(config.admin)?;
    let registry = Registry::new();
    let metrics = understudy_proxy::metrics::Metrics::register(&registry, env!("CARGO_PKG_VERSION"))?;
    let evicted = metrics.evicted.clone();
    let proxy = Arc::new(Proxy::open(&config, &keys, metrics)?);
    let mut store = Store::open(&config.data).with_context(|| format!("opening the store {}", config.data))?;
    if collect {
        let made_here = config.store_is_local();
        store = store.with_table_keys(keys::for_tables(&config.keys, config.encrypt_store, made_here)?);
    }
    let cold = cold_runtime()?;
    let mut watchers = JoinSet::new();
    // Before the first word that others wait for: a SIGTERM from now on drains.
    let stop = cold.block_on(async { stop_signals() })?;
    let collector = if collect {
        let metrics = understudy_collector::metrics::Metrics::register(&registry, Some(evicted))?;
        Some(Collector::start(
            &config,
            &keys,
            store.clone(),
            metrics,
            true,
            None,
            &cold,
        )?)
    } else {
        None
    };
    watchers.spawn_on(
        admin::serve(Door::Metrics, metrics_socket, registry.clone(), stop.clone()),
        cold.handle(),
    );
    let gate = Gate::new(&config.admin_tokens).context("the system gives no random bytes")?;
    let pages = page::serve(&config, &proxy, store.clone(), &cold);
    watchers.spawn_on(
        admin::serve(Door::Admin(Arc::new(gate), pages), admin_socket, registry, stop.clone()),
        cold.handle(),
    );
    watchers.spawn_on(bypass::watch(proxy.clone(), store.clone()), cold.handle());
    watchers.spawn_on(log::configs(proxy.clone(), store.clone()), cold.handle());
    let (controls, copy) = (StoreControls(store.clone()), config.spool_dir().join("control.json"));
    // A candidate that was taken out must not come back with a restart, nor with a new replica.
    if !load_controls(&proxy, &copy) {
        let asked = cold.block_on(async {
            let asked = tokio::time::timeout(CONTROLS_AT_START, read_controls(&proxy, &controls));
            asked.await.unwrap_or(Err("no answer in time".into()))
        });
        if let Err(error) = asked {
            tracing::warn!(
                error,
                "the store does not say what controls are in force: config alone is, until it does"
            );
        }
    }
    watchers.spawn_on(watch_controls(proxy.clone(), Box::new(controls), copy), cold.handle());
    if let Some(collector) = &collector {
        let (drifted, shadows) = (collector.drifted.clone(), collector.shadows.clone());
        watchers.spawn_on(
            rollouts::run(config.clone(), file.clone(), store.clone(), drifted, shadows),
            cold.handle(),
        );
    }
    let copy = config.spool_dir().join("taskbook.json");
    load_task_book(&proxy, &copy);
    watchers.spawn_on(
        watch_task_book(proxy.clone(), Box::new(StoreBooks(store)), copy),
        cold.handle(),
    );
    watchers.spawn_on(watch_certificate(proxy.clone()), cold.handle());
    if let Some(file) = file {
        if let Some(collector) = &collector {
            let shadows = collector.shadows.clone();
            watchers.spawn_on(
                shadows.watch(file.clone(), overrides.clone(), config.hash.clone()),
                cold.handle(),
            );
        }
        watchers.spawn_on(
            watch_config(proxy.clone(), file, overrides, parts::environment),
            cold.handle(),
        );
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    eprintln!("listening on {scheme}://{}", listener.address());
    eprintln!("metrics on http://{metrics_address}/metrics");
    eprintln!("admin on http://{admin_address}");
    if is_of_version(&config) {
        eprintln!(
            "the URL of {} ends with /v1: agents leave /v1 out of their base URL",
            config.default_upstream
        );
    }
    listener.run(proxy.clone(), config.threads, config.timeouts.drain, stop);
    proxy.close();
    if let Some(collector) = collector {
        collector.finish();
    }
    end(&cold, watchers);
    Ok(())
}

/// Runs a collector alone, beside a `serve --no-collect` that shares its spool.
/// With `reader` it is a further reader of that spool, for a store of its own: it sends no shadows, and no proxy follows its controls.
pub(crate) fn collect(
    config: &Config,
    file: Option<PathBuf>,
    overrides: Overrides,
    reader: Option<String>,
) -> Result<()> {
    let is_first = reader.is_none();
    start_log(config);
    if let Some(name) = &reader {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            return Err(Wrong(format!(
                "`{name}` is no name of a reader: letters, digits, - and _ alone"
            ))
            .into());
        }
    }
    let keys = keys::load(&config.keys, false)?;
    let (metrics_socket, metrics_address) = admin::bind(config.metrics)?;
    let registry = Registry::new();
    let store = Store::open(&config.data)
        .with_context(|| format!("opening the store {}", config.data))?
        .with_table_keys(keys::for_tables(&config.keys, config.encrypt_store, false)?);
    let cold = cold_runtime()?;
    let mut watchers = JoinSet::new();
    let metrics = understudy_collector::metrics::Metrics::register(&registry, None)?;
    let collector = Collector::start(config, &keys, store.clone(), metrics, false, reader, &cold)?;
    if is_first {
        watchers.spawn_on(
            rollouts::run(
                config.clone(),
                file.clone(),
                store,
                collector.drifted.clone(),
                collector.shadows.clone(),
            ),
            cold.handle(),
        );
    }
    if let Some(file) = file.filter(|_| is_first) {
        let shadows = collector.shadows.clone();
        watchers.spawn_on(shadows.watch(file, overrides, config.hash.clone()), cold.handle());
    }
    let mut stop = cold.block_on(async { stop_signals() })?;
    watchers.spawn_on(
        admin::serve(Door::Metrics, metrics_socket, registry, stop.clone()),
        cold.handle(),
    );
    eprintln!("collecting from {}", config.spool_dir().display());
    eprintln!("metrics on http://{metrics_address}/metrics");
    cold.block_on(stop.wait_for(|stop| *stop))?;
    collector.finish();
    end(&cold, watchers);
    Ok(())
}

/// Ends what watches and serves beside the calls. A timer that is asked while its runtime goes away panics.
fn end(cold: &Runtime, mut watchers: JoinSet<()>) {
    cold.block_on(watchers.shutdown());
}

/// Turns true at the first SIGTERM or SIGINT; a second SIGINT ends the process at once.
fn stop_signals() -> Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        let _ = stop.send(true);
        interrupt.recv().await;
        std::process::exit(130);
    });
    Ok(stopped)
}

/// Threads for everything that is not a call.
fn cold_runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("cold")
        .enable_all()
        .build()
        .context("starting the threads of the cold path")
}

/// Lets the threads of calls go first where there is too little processor for all: what waits in the spool can wait.
fn give_way() {
    // Without a process id it is about the calling thread, on Linux alone.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, COLLECTOR_NICE) {
        tracing::debug!(%error, "the collector's thread keeps its priority");
    }
}

/// A collector on a thread of its own.
pub(crate) struct Collector {
    finish: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    /// Asks candidates what live calls asked.
    shadows: shadow::Live,
    /// The tasks that it sees to drift.
    drifted: Drifted,
}

impl Collector {
    /// Starts ingest from the config's spool into `store`; `own_writer` says that the spool's writer is in this process.
    pub(crate) fn start(
        config: &Config,
        keys: &Keys,
        store: Store,
        metrics: understudy_collector::metrics::Metrics,
        own_writer: bool,
        reader: Option<String>,
        runtime: &Runtime,
    ) -> Result<Collector> {
        runtime.spawn(retention::keep(config.clone(), store.clone()));
        let shadows = Shadows::start(
            ShadowConfig {
                state_dir: config.spool_dir(),
                flush_after: config.flush.after,
                deadline: shadow::DEADLINE,
            },
            store.clone(),
            parts::row_maker(config, keys, true)?,
            metrics.clone(),
            runtime.handle().clone(),
        );
        let live = shadow::Live::new(shadows.clone());
        if reader.is_none() {
            live.apply(config);
            runtime.spawn(live.clone().guard(store.clone()));
        }
        let ingest = Ingest::open(
            IngestConfig {
                spool_dir: config.spool_dir(),
                reader,
                flush_after: config.flush.after,
                flush_bytes: config.flush.bytes,
                own_writer,
            },
            keys.all_of_spool(),
            store,
            parts::row_maker(config, keys, true)?,
            metrics,
            runtime.handle().clone(),
        )?
        .with_shadows(shadows)
        .with_vault(parts::vault(config, own_writer && config.store_is_local())?);
        let drifted = ingest.drifted();
        let finish = Arc::new(AtomicBool::new(false));
        let told = finish.clone();
        let thread = std::thread::Builder::new().name("ingest".into()).spawn(move || {
            if own_writer {
                give_way();
            }
            ingest.run(&told)
        })?;
        Ok(Collector {
            finish,
            thread,
            shadows: live,
            drifted,
        })
    }

    /// Stores what is left in the spool; a writer in this process has ended.
    pub(crate) fn finish(self) {
        self.finish.store(true, Ordering::Release);
        if self.thread.join().is_err() {
            tracing::error!("ingest panicked: the spool is kept and stored at the next start");
        }
        self.shadows.finish();
    }
}

/// Task books come from the store.
struct StoreBooks(Store);

impl TaskBookSource for StoreBooks {
    fn newer_than(&self, version: i32) -> NewestBook {
        let store = self.0.clone();
        Box::pin(async move {
            Ok(newer_book(&store, version)
                .await?
                .map(|book| book.to_json().into_bytes()))
        })
    }
}

/// Controls come from the store, and trips of the guard go there and into the audit log.
struct StoreControls(Store);

impl ControlSource for StoreControls {
    fn newer_than(&self, known: BTreeMap<String, u32>) -> ControlsRead {
        let store = self.0.clone();
        Box::pin(async move {
            let newer = control::newer_than(&store, &known).await;
            newer.map_err(|error| error.to_string())
        })
    }

    fn trip(&self, route: String, trip: Trip) -> ControlWritten {
        let store = self.0.clone();
        Box::pin(async move {
            let written = agreements::put(&store, &route, &trip).await;
            written.map_err(|error| error.to_string())
        })
    }
}

/// Whether the default upstream's URL holds the version that agents' paths begin with, which is then asked for twice.
fn is_of_version(config: &Config) -> bool {
    let default = config.upstreams.get(&config.default_upstream);
    default.is_some_and(|upstream| upstream.url.path().trim_end_matches('/').ends_with("/v1"))
}

/// Begins the log, with what is wrong with the config and no error. Lines go to stderr: text for people, JSON where config asks for it. `RUST_LOG` wins over the config's level.
fn start_log(config: &Config) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{},pingora_core=warn", config.log_level)));
    // What a panic says may quote a call's text.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "a bug: a thread panicked");
    }));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A second start in one process (the demo) keeps the first one's log.
    let _ = match config.log_format {
        LogFormat::Json => log.json().try_init(),
        LogFormat::Text => log.with_ansi(colours).try_init(),
    };
    for words in &config.unset_keys {
        tracing::warn!("{words}");
    }
}
