//! The config file as it is written: every key of the format, nothing checked beyond its type.

use super::shadow::RawShadow;
use super::units::{Percent, Size, Span, Times};
use crate::admin::Role;
use crate::fallback::{HoldGiven, Reason};
use crate::route::{OnDrift, RouteMatch, When};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) listen: Option<String>,
    pub(super) tls: Option<Tls>,
    pub(super) metrics: Option<String>,
    pub(super) admin: Option<String>,
    pub(super) admin_tokens: Vec<AdminToken>,
    pub(super) data: Option<String>,
    pub(super) keys: Option<Keys>,
    pub(super) default_upstream: Option<String>,
    pub(super) upstreams: BTreeMap<String, Upstream>,
    pub(super) capture: Capture,
    pub(super) store: Store,
    pub(super) mask: Mask,
    pub(super) prices: Option<PathBuf>,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) routes: Vec<Route>,
    pub(super) shadow: Vec<RawShadow>,
    pub(super) verdict: Verdict,
    pub(super) specialise: Specialise,
    pub(super) log: Log,
    pub(super) expose_headers: bool,
    pub(super) allow_pins: bool,
    pub(super) auth_memory: Option<Span>,
    pub(super) threads: Option<usize>,
}

/// A token of the admin port, by reference.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdminToken {
    pub(super) role: Role,
    pub(super) token_env: Option<String>,
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub(super) dir: Option<PathBuf>,
    pub(super) env: Option<String>,
    pub(super) file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) url: String,
    pub(super) key_env: Option<String>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) api: Option<String>,
    pub(super) model: Option<String>,
    #[serde(default)]
    pub(super) trusted: bool,
    #[serde(default)]
    pub(super) allow_link_local: bool,
    #[serde(default)]
    pub(super) constrain: Constrain,
    pub(super) max_in_flight: Option<usize>,
    pub(super) price: Option<Price>,
    pub(super) ca_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) ask_usage: bool,
    pub(super) sign: Option<Sign>,
    pub(super) aws: Option<Aws>,
}

/// `true`, `schema`, or `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub(super) enum Constrain {
    #[default]
    No,
    Schema,
}

impl TryFrom<serde_json::Value> for Constrain {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Constrain, String> {
        match (value.as_bool(), value.as_str()) {
            (Some(true), _) | (_, Some("schema")) => Ok(Constrain::Schema),
            (Some(false), _) => Ok(Constrain::No),
            _ => Err(format!("constrain: {value} is neither `schema` nor `true` nor `false`")),
        }
    }
}

/// How an upstream's calls are signed anew.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sign {
    Aws,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Aws {
    pub(super) region: Option<String>,
    pub(super) service: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price {
    pub(super) gpu_hour: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Capture {
    pub(super) mode: Option<CaptureMode>,
    pub(super) bodies: Option<Bodies>,
    pub(super) sample: Option<Percent>,
    pub(super) exclude: Vec<Exclude>,
    pub(super) wait: Option<Span>,
    pub(super) memory: Option<Size>,
    pub(super) spool: Spool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CaptureMode {
    BestEffort,
    Required,
}

/// `full` or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bodies {
    /// Bodies are kept, masked.
    #[default]
    Full,
    /// Only the facts of a call are kept.
    None,
}

/// Calls that are not kept; all fields given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exclude {
    /// Path, `*` for any run of characters.
    pub path: Option<String>,
    /// Model asked for, `*` likewise.
    pub model: Option<String>,
    /// Upstream addressed.
    pub upstream: Option<String>,
    /// Headers that have these values.
    pub header: BTreeMap<String, String>,
    /// Client, as the `client_id` column shows it.
    pub client: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Spool {
    pub(super) dir: Option<PathBuf>,
    pub(super) max: Option<Size>,
    pub(super) max_age: Option<Span>,
    pub(super) commit_interval: Option<Span>,
    pub(super) when_full: Option<WhenFull>,
}

/// What gives way when the spool is at its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The oldest segment.
    #[default]
    DropOldest,
    /// The call at hand.
    DropNew,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Store {
    pub(super) flush: Flush,
    pub(super) encryption: Switch,
    pub(super) keep: Option<Span>,
}

/// `on` or `off`, and what YAML takes for the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub(super) enum Switch {
    On,
    #[default]
    Off,
}

impl TryFrom<serde_json::Value> for Switch {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Switch, String> {
        match (value.as_bool(), value.as_str()) {
            (Some(true), _) | (_, Some("on")) => Ok(Switch::On),
            (Some(false), _) | (_, Some("off")) => Ok(Switch::Off),
            _ => Err(format!("{value} is neither `on` nor `off`")),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Flush {
    pub(super) after: Option<Span>,
    pub(super) bytes: Option<Size>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mask {
    pub(super) rules: Option<MaskRules>,
    pub(super) dictionaries: Vec<PathBuf>,
    pub(super) patterns: Vec<MaskPattern>,
    pub(super) allow: Vec<String>,
    pub(super) surrogates: MaskSurrogates,
    pub(super) surrogate_scope: MaskScope,
    pub(super) vault: Switch,
}

/// A form to mask besides.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskPattern {
    /// What to call it; the name of a kind makes its values of that kind.
    pub name: String,
    /// A regular expression; its first group is the value, where it has one.
    #[serde(deserialize_with = "regular_expression")]
    pub regex: String,
}

/// Read where the file is, so that the error names line and column.
fn regular_expression<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    let text = String::deserialize(source)?;
    match regex::Regex::new(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(D::Error::custom(format!("not a regular expression: {error}"))),
    }
}

/// What stands in a masked value's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskSurrogates {
    /// A value of the same form; equal ones for equal values.
    #[default]
    Consistent,
    /// The kind in brackets.
    Label,
    /// Nothing.
    Remove,
}

/// How far equal values get equal surrogates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskScope {
    /// Throughout the deployment.
    #[default]
    Deployment,
    /// Among the calls of one client.
    Client,
}

/// Which rules the mask follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskRules {
    /// The built-in rules.
    #[default]
    Default,
    /// None: text is kept as it is. Credentials in headers are still never kept.
    None,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) max_routed_body: Option<Size>,
    pub(super) max_body: Option<Size>,
    pub(super) head: Option<Size>,
    pub(super) headers: Option<usize>,
    pub(super) uri: Option<Size>,
    pub(super) connections: Option<usize>,
    pub(super) streams: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Timeouts {
    pub(super) header_read: Option<Span>,
    pub(super) body_read: Option<Span>,
    pub(super) keep_alive: Option<Span>,
    pub(super) connect: Option<Span>,
    pub(super) first_byte: Option<Span>,
    pub(super) idle: Option<Span>,
    pub(super) drain: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) name: Option<String>,
    #[serde(rename = "match", default)]
    pub(super) matching: RouteMatch,
    #[serde(default)]
    pub(super) split: BTreeMap<String, u32>,
    pub(super) keep: Option<Span>,
    pub(super) fallback: Option<Fallback>,
    #[serde(default, deserialize_with = "hold")]
    pub(super) hold: Option<HoldGiven>,
    pub(super) rollout: Option<Rollout>,
    pub(super) guard: Option<Guard>,
    #[serde(default)]
    pub(super) on_drift: OnDrift,
    pub(super) when: Option<When>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Rollout {
    pub(super) step_weight: u32,
    pub(super) max_weight: u32,
    pub(super) interval: Option<Span>,
    pub(super) min_calls: Option<u64>,
    pub(super) threshold: Option<u32>,
    #[serde(default)]
    pub(super) promote: Promote,
}

/// Who takes the next step of a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Promote {
    #[default]
    Manual,
    Auto,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Guard {
    pub(super) error: Option<Percent>,
    pub(super) invalid: Option<Percent>,
    pub(super) fallback: Option<Percent>,
    pub(super) p95_latency: Option<Times>,
    pub(super) cost: Option<Times>,
    pub(super) agreement: Option<Percent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Fallback {
    pub(super) on: Option<Vec<Reason>>,
    pub(super) timeout: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HoldLimits {
    #[serde(rename = "for")]
    time: Option<Span>,
    bytes: Option<Size>,
}

/// `none`, or limits.
fn hold<'de, D: Deserializer<'de>>(source: D) -> Result<Option<HoldGiven>, D::Error> {
    struct HoldVisitor;

    impl<'de> Visitor<'de> for HoldVisitor {
        type Value = HoldGiven;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("`none`, or limits as in `{ for: 2s, bytes: 64KiB }`")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<HoldGiven, E> {
            match text {
                "none" => Ok(HoldGiven::None),
                other => Err(E::invalid_value(Unexpected::Str(other), &self)),
            }
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HoldGiven, A::Error> {
            let limits = HoldLimits::deserialize(MapAccessDeserializer::new(map))?;
            Ok(HoldGiven::Limits {
                time: limits.time.map(|span| span.0),
                bytes: limits.bytes.map(|size| size.0),
            })
        }
    }

    source.deserialize_any(HoldVisitor).map(Some)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Verdict {
    pub(super) alpha: Option<f64>,
    pub(super) margin: Option<f64>,
    pub(super) min_conversations: Option<u32>,
    pub(super) min_pairs: Option<u32>,
    pub(super) min_floor: Option<f64>,
    pub(super) max_age: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Specialise {
    pub(super) trainer: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) format: Option<LogFormat>,
    pub(super) level: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Text,
}
