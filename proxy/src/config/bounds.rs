//! Limits and deadlines of a config: their defaults, and what they may be.

use super::raw;
use super::units::Span;
use super::{ConfigError, Limits, TimeoutConfig, Validation, VerdictConfig};
use std::time::Duration;

/// The longest deadline: anything longer is a slip of the pen.
const MAX_DEADLINE: Duration = Duration::from_secs(365 * 86_400);
/// A head of less can't hold what SDKs send.
const MIN_HEAD: u64 = 8 << 10;
/// Heads are read into memory whole.
const MAX_HEAD: u64 = 1 << 20;
/// The longest URI that the HTTP library takes.
const MAX_URI: u64 = 65_534;
/// More header lines than any client sends.
const MAX_HEADERS: u64 = 10_000;
/// How long a score counts.
const MAX_AGE_OF_SCORES: Duration = Duration::from_secs(30 * 86_400);
/// Less could be told from no sample that anybody pays for.
const LEAST_ALPHA: f64 = 1e-6;
/// Likewise.
const LEAST_MARGIN: f64 = 0.005;
/// How much is logged.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
/// More than any machine runs.
const MAX_THREADS: u64 = 1024;

impl Validation<'_> {
    pub(super) fn limits(&self, raw: &raw::Limits) -> Result<Limits, ConfigError> {
        let size = |size: Option<super::units::Size>, default: u64| size.map_or(default, |size| size.0);
        let count = |count: Option<usize>, default: u64| count.map_or(default, |count| count as u64);
        let limits = [
            ("max_routed_body", size(raw.max_routed_body, 8 << 20), 1, u64::MAX),
            ("max_body", size(raw.max_body, u64::MAX), 1, u64::MAX),
            ("head", size(raw.head, 64 << 10), MIN_HEAD, MAX_HEAD),
            ("headers", count(raw.headers, 256), 1, MAX_HEADERS),
            ("uri", size(raw.uri, 16 << 10), 1, MAX_URI),
            ("connections", count(raw.connections, 20_000), 1, u64::MAX),
            (
                "streams",
                count(raw.streams.map(|streams| streams as usize), 250),
                1,
                u64::MAX,
            ),
        ];
        for (key, value, least, most) in limits {
            self.within(&format!("limits.{key}"), value, least, most)?;
        }
        let [max_routed_body, _, head, headers, uri, connections, streams] = limits.map(|(_, value, _, _)| value);
        Ok(Limits {
            max_routed_body,
            max_body: raw.max_body.map(|size| size.0),
            head: head as usize,
            headers: headers as usize,
            uri: uri as usize,
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
            streams: u32::try_from(streams).unwrap_or(u32::MAX),
        })
    }

    fn within(&self, key: &str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
        let words = match value {
            value if value < least => format!("the least that makes sense is {least}"),
            value if value > most => format!("the most is {most}"),
            _ => return Ok(()),
        };
        Err(self.invalid(format!(
            "{key}: it is {value}, and {words}; leave it out for the default"
        )))
    }

    pub(super) fn timeouts(&self, raw: &raw::Timeouts) -> Result<TimeoutConfig, ConfigError> {
        let deadline = |key: &str, given: Option<Span>, default: u64, may_be_zero: bool| {
            let deadline = given.map_or(Duration::from_secs(default), |span| span.0);
            if deadline.is_zero() && !may_be_zero {
                let words = format!("timeouts.{key}: it is 0, which nothing could meet; leave it out for {default}s");
                return Err(self.invalid(words));
            }
            if deadline > MAX_DEADLINE {
                return Err(self.invalid(format!("timeouts.{key}: it is longer than 365d")));
            }
            Ok(deadline)
        };
        Ok(TimeoutConfig {
            header_read: deadline("header_read", raw.header_read, 30, false)?,
            body_read: deadline("body_read", raw.body_read, 60, false)?,
            keep_alive: deadline("keep_alive", raw.keep_alive, 75, false)?,
            upstream: understudy_client::Timeouts {
                connect: deadline("connect", raw.connect, 5, false)?,
                first_byte: deadline("first_byte", raw.first_byte, 600, false)?,
                idle: deadline("idle", raw.idle, 600, false)?,
            },
            drain: deadline("drain", raw.drain, 30, true)?,
        })
    }

    pub(super) fn verdict(&self, raw: &raw::Verdict) -> Result<VerdictConfig, ConfigError> {
        let share = |key: &str, given: Option<f64>, default: f64, least: f64, most: f64| {
            let value = given.unwrap_or(default);
            if (least..=most).contains(&value) {
                return Ok(value);
            }
            Err(self.invalid(format!(
                "verdict.{key}: it is {value}, and must lie between {least} and {most}; leave it out for {default}"
            )))
        };
        let max_age = raw.max_age.as_ref().map_or(MAX_AGE_OF_SCORES, |span| span.0);
        if max_age.is_zero() {
            return Err(self.invalid("verdict.max_age: at 0 no score would count; leave it out for 30d"));
        }
        Ok(VerdictConfig {
            alpha: share("alpha", raw.alpha, 0.05, LEAST_ALPHA, 0.5)?,
            margin: share("margin", raw.margin, 0.05, LEAST_MARGIN, 0.5)?,
            min_conversations: raw.min_conversations.unwrap_or(50),
            min_pairs: raw.min_pairs.unwrap_or(200),
            min_floor: share("min_floor", raw.min_floor, 0.70, 0.0, 1.0)?,
            max_age,
        })
    }

    /// A level, and apart by commas levels of parts of the program, as in `info,understudy_proxy=debug`.
    pub(super) fn log_level(&self, given: Option<String>) -> Result<String, ConfigError> {
        let level = given.unwrap_or_else(|| "info".into());
        let is_level = |words: &str| LEVELS.contains(&words.trim().to_ascii_lowercase().as_str());
        let is_known = |part: &str| is_level(part.rsplit_once('=').map_or(part, |(_, level)| level));
        if level.split(',').all(is_known) {
            return Ok(level);
        }
        Err(self.invalid(format!(
            "log.level: `{level}` is none: use one of {}",
            LEVELS.join(", ")
        )))
    }

    pub(super) fn threads(&self, given: Option<usize>) -> Result<usize, ConfigError> {
        let default = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = given.unwrap_or_else(default);
        self.within("threads", threads as u64, 1, MAX_THREADS)?;
        Ok(threads)
    }
}
