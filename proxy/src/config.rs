//! The config: one YAML file → one validated [`Config`], past which nothing is optional by accident.
//!
//! Every error says what is wrong, where (file, line), and what to write instead. Holds no global state, and reads
//! nothing but the text, the environment and the files named by `key_file` and `prices`.

mod bounds;
mod keys;
mod raw;
mod shadow;
mod units;
mod upstreams;

pub use keys::KeySource;
pub use raw::{Bodies, Exclude, LogFormat, MaskPattern, MaskRules, MaskScope, MaskSurrogates, WhenFull};
pub use shadow::{JudgeConfig, ShadowBudget, ShadowConfig, ShadowMatch};

use crate::admin::AdminToken;
use crate::certificate::TlsFiles;
use crate::fallback;
use crate::route::{Rollout, Route, RouteError, Routes};
use raw::File;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use understudy_call::guard;
use understudy_call::keys::hex;
use understudy_call::nearest::explained;
use understudy_call::price::PriceTable;
use understudy_client::{Secret, UpstreamConfig};
use units::{Percent, Span};
use url::Url;

/// Fewest characters of an admin token: it is no password that somebody thinks of.
const MIN_TOKEN: usize = 32;

/// The whole config, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where agents connect.
    pub listen: SocketAddr,
    /// The certificate that they are shown; `None` = plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Where Prometheus and probes connect.
    pub metrics: SocketAddr,
    /// Where operators connect; loopback, or there are tokens.
    pub admin: SocketAddr,
    /// Who may connect there; without any, whoever is on this machine.
    pub admin_tokens: Vec<AdminToken>,
    /// The store: a directory, or `s3://bucket/prefix`.
    pub data: String,
    /// Where the deployment's keys are: by default in the folder `keys` below a local store.
    pub keys: KeySource,
    /// The upstream for a path whose first segment names none.
    pub default_upstream: String,
    /// All upstreams by name.
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// What is captured and how.
    pub capture: CaptureConfig,
    /// When records become objects.
    pub flush: FlushConfig,
    /// How long calls are kept; for ever without one.
    pub keep: Option<Duration>,
    /// How long calls of these routes are kept, by the route's name.
    pub keep_of_routes: BTreeMap<String, Duration>,
    /// Whether stored tables are encrypted.
    pub encrypt_store: bool,
    /// How text is masked.
    pub mask: MaskConfig,
    /// Prices of models, with the operator's own.
    pub prices: Arc<PriceTable>,
    /// Sizes beyond which something else happens.
    pub limits: Limits,
    /// Deadlines.
    pub timeouts: TimeoutConfig,
    /// Routes in order; first match wins.
    pub routes: Routes,
    /// Live calls that other upstreams are asked as well.
    pub shadow: Vec<ShadowConfig>,
    /// Settings of verdicts.
    pub verdict: VerdictConfig,
    /// The command that trains models (`specialise.trainer`); never run by `serve`.
    pub trainer: Option<String>,
    /// Log format.
    pub log_format: LogFormat,
    /// Log filter, e.g. `info`.
    pub log_level: String,
    /// What is said of variables that `key_env` names and that are not set.
    pub unset_keys: Vec<String>,
    /// Whether answers carry `x-understudy-*` headers.
    pub expose_headers: bool,
    /// Whether `x-understudy-route` may pin an upstream.
    pub allow_pins: bool,
    /// How long a client that the baseline accepted may be canaried.
    pub auth_memory: Duration,
    /// Worker threads of the hot path.
    pub threads: usize,
    /// Hash of the config in force: 12 hex digits.
    pub hash: String,
}

/// What is captured.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// Whether a call that can't be kept is refused.
    pub required: bool,
    /// Whether bodies are kept.
    pub bodies: Bodies,
    /// Share of calls kept, 0 to 1.
    pub sample: f64,
    /// Calls not kept.
    pub exclude: Vec<Exclude>,
    /// The most a call waits for its record to be written.
    pub wait: Duration,
    /// Bytes of all copies in memory.
    pub memory: u64,
    /// Folder of the spool; `None` = `spool` below a local store.
    pub spool_dir: Option<PathBuf>,
    /// Bytes of the spool.
    pub spool_max: u64,
    /// Age at which a segment is evicted.
    pub spool_max_age: Duration,
    /// Time between fsyncs.
    pub commit_interval: Duration,
    /// What gives way when the spool is full.
    pub when_full: WhenFull,
}

/// When records become objects.
#[derive(Clone, Copy, Debug)]
pub struct FlushConfig {
    /// After this time.
    pub after: Duration,
    /// Or this many bytes of frames.
    pub bytes: u64,
}

/// How text is masked.
#[derive(Clone, Debug)]
pub struct MaskConfig {
    /// Which rules.
    pub rules: MaskRules,
    /// Files with a word or phrase a line.
    pub dictionaries: Vec<PathBuf>,
    /// Forms to mask besides.
    pub patterns: Vec<MaskPattern>,
    /// Values that are never masked.
    pub allow: Vec<String>,
    /// What stands in a value's place.
    pub surrogates: MaskSurrogates,
    /// How far equal values get equal surrogates.
    pub scope: MaskScope,
    /// Whether what was replaced is kept, sealed, so that it can be restored.
    pub vault: bool,
}

/// Sizes beyond which something else happens.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest body that is buffered for routing, and copied.
    pub max_routed_body: u64,
    /// The longest body that is accepted; `None` = any.
    pub max_body: Option<u64>,
    /// Bytes of a request's head.
    pub head: usize,
    /// Header lines.
    pub headers: usize,
    /// Bytes of the URI.
    pub uri: usize,
    /// Connections at once.
    pub connections: usize,
    /// Calls at once on one HTTP/2 connection.
    pub streams: u32,
}

/// Deadlines.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutConfig {
    /// For a client to send a request's head, from its first byte.
    pub header_read: Duration,
    /// For a client to send the next piece of a request's body.
    pub body_read: Duration,
    /// For a client to begin its next request on an open connection.
    pub keep_alive: Duration,
    /// Towards upstreams.
    pub upstream: understudy_client::Timeouts,
    /// For open calls to end after SIGTERM.
    pub drain: Duration,
}

/// Settings of verdicts; their meaning is the collector's.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the keys of config, passed on")]
pub struct VerdictConfig {
    pub alpha: f64,
    pub margin: f64,
    pub min_conversations: u32,
    pub min_pairs: u32,
    pub min_floor: f64,
    pub max_age: Duration,
}

/// What is wrong with a config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("reading {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not YAML of this format.
    #[error("{path}:{line}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong, and the nearest valid key.
        message: String,
    },
    /// A value that makes no sense, or not together with others.
    #[error("{path}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
}

/// Flags that override the file.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "named as the flags of the command line")]
pub struct Overrides {
    pub listen: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    pub data: Option<String>,
}

/// Where secrets come from: environment variables by name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// Says what, where, and what to do.
    pub fn load(path: &Path, overrides: &Overrides, environment: Environment<'_>) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Config::parse(&text, path, overrides, environment)
    }

    /// Validates the text of a file; `path` is for errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        text: &str,
        path: &Path,
        overrides: &Overrides,
        environment: Environment<'_>,
    ) -> Result<Config, ConfigError> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| syntax_error(path, &error))?;
        let hash = hex(&blake3::hash(text.as_bytes()).as_bytes()[..6]);
        Validation { path, environment }.validate(file, overrides, hash)
    }

    /// The config of `serve --upstream URL` without a file.
    ///
    /// # Errors
    /// Where the URL is none.
    pub fn of_upstream(url: &str, overrides: &Overrides) -> Result<Config, ConfigError> {
        let parsed = Url::parse(url).map_err(|error| ConfigError::Invalid {
            path: "--upstream".into(),
            message: format!("`{url}` is not a URL ({error}): write it like https://api.openai.com"),
        })?;
        let name = match parsed.host_str() {
            Some("api.openai.com") => "openai",
            Some("api.anthropic.com") => "anthropic",
            _ => "default",
        };
        let quoted = serde_json::Value::String(url.to_owned());
        let text = format!("default_upstream: {name}\nupstreams: {{ {name}: {{ url: {quoted} }} }}\n");
        Config::parse(&text, Path::new("--upstream"), overrides, &|_| None)
    }

    /// Whether the store is a local directory.
    pub fn store_is_local(&self) -> bool {
        is_local(&self.data)
    }

    /// Folder below a local store, or below `./understudy-data` where the store is remote.
    fn beside_store(&self, name: &str) -> PathBuf {
        beside(&self.data, name)
    }

    /// The spool's folder.
    pub fn spool_dir(&self) -> PathBuf {
        self.capture
            .spool_dir
            .clone()
            .unwrap_or_else(|| self.beside_store("spool"))
    }
}

/// The bytes of a size as people write it in config: `500`, `64KiB`, `8GiB`; `None` where it is none.
pub fn bytes_of(size: &str) -> Option<u64> {
    units::Size::parse(size).map(|size| size.0)
}

fn is_local(store: &str) -> bool {
    !store.contains("://") || store.starts_with("file://")
}

fn beside(store: &str, name: &str) -> PathBuf {
    let local = if is_local(store) {
        store.trim_start_matches("file://")
    } else {
        "./understudy-data"
    };
    Path::new(local).join(name)
}

fn syntax_error(path: &Path, error: &serde_saphyr::Error) -> ConfigError {
    let line = error.location().map_or(1, |location| location.line());
    let rendered = error.without_snippet().to_string();
    let first_line = rendered.lines().next().unwrap_or("not valid YAML");
    ConfigError::Syntax {
        path: path.to_owned(),
        line,
        message: explained(first_line),
    }
}

struct Validation<'a> {
    path: &'a Path,
    environment: Environment<'a>,
}

impl Validation<'_> {
    fn invalid(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::Invalid {
            path: self.path.to_owned(),
            message: message.into(),
        }
    }

    fn validate(&self, file: File, overrides: &Overrides, hash: String) -> Result<Config, ConfigError> {
        let upstreams = self.upstreams(&file)?;
        let unset_keys = self.unset_keys(&file);
        let default_upstream = self.default_upstream(&file, &upstreams)?;
        let routes = self.routes(&file, &upstreams, &default_upstream)?;
        let admin = self.address("admin", file.admin.as_deref(), overrides.admin, "127.0.0.1:4001")?;
        let admin_tokens = self.admin_tokens(&file)?;
        if !admin.ip().is_loopback() && admin_tokens.is_empty() {
            return Err(self.invalid(format!(
                "admin: {admin} is not a loopback address: use 127.0.0.1, or say who may connect, as in `admin_tokens: [{{ role: operator, token_env: UNDERSTUDY_ADMIN_TOKEN }}]`"
            )));
        }
        if file.mask.vault == raw::Switch::On && file.mask.surrogates != MaskSurrogates::Consistent {
            return Err(self.invalid(
                "mask.vault: only consistent surrogates can be restored: say `surrogates: consistent`, or leave out `vault`",
            ));
        }
        let keep_of_routes = self.keep_of_routes(&file)?;
        let shadow = self.shadows(&file, &upstreams)?;
        let data = overrides
            .data
            .clone()
            .or(file.data)
            .unwrap_or_else(|| "./understudy-data".into());
        let keys = KeySource::of(file.keys, beside(&data, "keys")).map_err(|message| self.invalid(message))?;
        let seconds = |span: Option<Span>, default: u64| span.map_or(Duration::from_secs(default), |span| span.0);
        Ok(Config {
            listen: self.address("listen", file.listen.as_deref(), overrides.listen, "127.0.0.1:4000")?,
            metrics: self.address("metrics", file.metrics.as_deref(), overrides.metrics, "127.0.0.1:4002")?,
            admin,
            tls: file.tls.map(|raw::Tls { cert, key }| TlsFiles { cert, key }),
            admin_tokens,
            data,
            keys,
            default_upstream,
            upstreams,
            capture: capture(file.capture),
            flush: FlushConfig {
                after: seconds(file.store.flush.after, 60),
                bytes: file.store.flush.bytes.map_or(64 << 20, |size| size.0),
            },
            keep: file.store.keep.as_ref().map(|span| span.0),
            keep_of_routes,
            encrypt_store: file.store.encryption == raw::Switch::On,
            mask: MaskConfig {
                rules: file.mask.rules.unwrap_or_default(),
                dictionaries: file.mask.dictionaries,
                patterns: file.mask.patterns,
                allow: file.mask.allow,
                surrogates: file.mask.surrogates,
                scope: file.mask.surrogate_scope,
                vault: file.mask.vault == raw::Switch::On,
            },
            prices: Arc::new(self.prices(file.prices.as_deref())?),
            limits: self.limits(&file.limits)?,
            timeouts: self.timeouts(&file.timeouts)?,
            routes,
            shadow,
            verdict: self.verdict(&file.verdict)?,
            trainer: file.specialise.trainer.clone(),
            log_format: file.log.format.unwrap_or_default(),
            log_level: self.log_level(file.log.level)?,
            unset_keys,
            expose_headers: file.expose_headers,
            allow_pins: file.allow_pins,
            auth_memory: seconds(file.auth_memory, 15 * 60),
            threads: self.threads(file.threads)?,
            hash,
        })
    }

    fn prices(&self, file: Option<&Path>) -> Result<PriceTable, ConfigError> {
        let builtin = PriceTable::builtin();
        let Some(file) = file else { return Ok(builtin) };
        let error = |error: &dyn std::fmt::Display| self.invalid(format!("prices: {}: {error}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|cause| error(&cause))?;
        builtin.with_file(&text).map_err(|cause| error(&cause))
    }

    fn address(
        &self,
        key: &str,
        given: Option<&str>,
        flag: Option<SocketAddr>,
        default: &str,
    ) -> Result<SocketAddr, ConfigError> {
        if let Some(address) = flag {
            return Ok(address);
        }
        let text = given.unwrap_or(default);
        text.parse().map_err(|_| {
            self.invalid(format!(
                "{key}: `{text}` is not an address: write it like 127.0.0.1:4000 or [::]:4000"
            ))
        })
    }

    fn admin_tokens(&self, file: &File) -> Result<Vec<AdminToken>, ConfigError> {
        let tokens = file.admin_tokens.iter().enumerate().map(|(index, raw)| {
            let (token, from) = match (&raw.token_env, &raw.token_file) {
                (Some(name), None) => ((self.environment)(name), name.clone()),
                (None, Some(path)) => (std::fs::read_to_string(path).ok(), path.display().to_string()),
                _ => {
                    return Err(self.invalid(format!("admin_tokens[{index}]: give `token_env` or `token_file`, one of them")));
                }
            };
            let token = token.map(|token| token.trim().to_owned()).unwrap_or_default();
            if token.len() < MIN_TOKEN {
                return Err(self.invalid(format!(
                    "admin_tokens[{index}]: {from} holds no token of at least {MIN_TOKEN} characters: make one with `openssl rand -hex 32`"
                )));
            }
            Ok(AdminToken {
                role: raw.role,
                token: Secret::new(token),
            })
        });
        tokens.collect()
    }

    fn keep_of_routes(&self, file: &File) -> Result<BTreeMap<String, Duration>, ConfigError> {
        let mut keep = BTreeMap::new();
        for (index, route) in file.routes.iter().enumerate() {
            let Some(span) = &route.keep else { continue };
            let Some(name) = &route.name else {
                return Err(self.invalid(format!(
                    "routes[{index}].keep: the route needs a `name`, by which its calls are found later"
                )));
            };
            keep.insert(name.clone(), span.0);
        }
        Ok(keep)
    }

    fn routes(
        &self,
        file: &File,
        upstreams: &BTreeMap<String, UpstreamConfig>,
        default_upstream: &str,
    ) -> Result<Routes, ConfigError> {
        let mut routes = Vec::with_capacity(file.routes.len());
        for (index, raw) in file.routes.iter().enumerate() {
            let rollout = raw.rollout.as_ref().map(rollout).transpose();
            routes.push(Route {
                name: raw.name.clone(),
                matching: raw.matching.clone(),
                split: raw.split.clone(),
                fallback: fallback::Given {
                    on: raw.fallback.as_ref().and_then(|fallback| fallback.on.clone()),
                    timeout: raw.fallback.as_ref().and_then(|fallback| Some(fallback.timeout?.0)),
                    hold: raw.hold,
                },
                guard: raw.guard.as_ref().map(guard),
                rollout: rollout.map_err(|message| self.invalid(format!("routes[{index}].rollout.{message}")))?,
                on_drift: raw.on_drift,
                when: raw.when,
            });
        }
        Routes::new(routes, upstreams, default_upstream)
            .map_err(|RouteError { index, message }| self.invalid(format!("routes[{index}]: {message}")))
    }
}

fn guard(raw: &raw::Guard) -> guard::Limits {
    let share = |percent: Option<Percent>| percent.map(|percent| percent.0 / 100.0);
    guard::Limits {
        error: share(raw.error),
        invalid: share(raw.invalid),
        fallback: share(raw.fallback),
        p95_latency: raw.p95_latency.map(|times| times.0),
        cost: raw.cost.map(|times| times.0),
        agreement: share(raw.agreement),
    }
}

fn rollout(raw: &raw::Rollout) -> Result<Rollout, String> {
    if raw.step_weight == 0 {
        return Err("stepWeight: 0 is no step: give it 1 or more".into());
    }
    if raw.max_weight < raw.step_weight {
        let (step, most) = (raw.step_weight, raw.max_weight);
        return Err(format!("maxWeight: {most} is less than a step of {step}: raise it"));
    }
    Ok(Rollout {
        step_weight: raw.step_weight,
        max_weight: raw.max_weight,
        interval: raw.interval.map_or(Duration::from_secs(600), |span| span.0),
        min_calls: raw.min_calls.unwrap_or(200),
        threshold: raw.threshold.unwrap_or(3),
        auto: raw.promote == raw::Promote::Auto,
    })
}

/// A duration as config writes it: `90d`, `12h`, `30m`, `20ms`.
pub fn duration(text: &str) -> Option<Duration> {
    Span::parse(text).map(|span| span.0)
}

fn capture(raw: raw::Capture) -> CaptureConfig {
    let millis = |span: Option<Span>, default: u64| span.map_or(Duration::from_millis(default), |span| span.0);
    CaptureConfig {
        required: matches!(raw.mode, Some(raw::CaptureMode::Required)),
        bodies: raw.bodies.unwrap_or_default(),
        sample: raw.sample.map_or(1.0, |percent| percent.0 / 100.0),
        exclude: raw.exclude,
        wait: millis(raw.wait, 20),
        memory: raw.memory.map_or(256 << 20, |size| size.0),
        spool_dir: raw.spool.dir,
        spool_max: raw.spool.max.map_or(4 << 30, |size| size.0),
        spool_max_age: millis(raw.spool.max_age, 7 * 86_400_000),
        commit_interval: millis(raw.spool.commit_interval, 100),
        when_full: raw.spool.when_full.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
