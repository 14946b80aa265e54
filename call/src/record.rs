//! What is kept of a call: one [`CallRecord`] is one row of `calls`.
//!
//! Everything in a record is masked already; a credential has no field to be in.

use crate::call::ToolCall;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the columns; grows when columns are added.
pub const SCHEMA_VERSION: i32 = 1;

/// How a call ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered in full with a status below 400.
    #[default]
    Ok,
    /// The upstream answered with status 400 or above.
    UpstreamStatus,
    /// No connection to the upstream.
    UpstreamConnect,
    /// The upstream reset the connection.
    UpstreamReset,
    /// The upstream ended before its message was complete.
    UpstreamTruncated,
    /// The upstream did not speak HTTP.
    UpstreamProtocol,
    /// A deadline of ours passed.
    Timeout,
    /// The client went away before the end.
    ClientClosed,
    /// An error event inside a 200 stream.
    InStreamError,
    /// Refused by us.
    Refused,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 10] = [
        Outcome::Ok,
        Outcome::UpstreamStatus,
        Outcome::UpstreamConnect,
        Outcome::UpstreamReset,
        Outcome::UpstreamTruncated,
        Outcome::UpstreamProtocol,
        Outcome::Timeout,
        Outcome::ClientClosed,
        Outcome::InStreamError,
        Outcome::Refused,
    ];

    /// The word in the `outcome` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::UpstreamStatus => "upstream_status",
            Outcome::UpstreamConnect => "upstream_connect",
            Outcome::UpstreamReset => "upstream_reset",
            Outcome::UpstreamTruncated => "upstream_truncated",
            Outcome::UpstreamProtocol => "upstream_protocol",
            Outcome::Timeout => "timeout",
            Outcome::ClientClosed => "client_closed",
            Outcome::InStreamError => "in_stream_error",
            Outcome::Refused => "refused",
        }
    }

    /// The outcome of a word, if there is one.
    pub fn from_name(name: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }
}

/// One try of a call at one upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Name of the upstream.
    pub upstream: String,
    /// Version of the candidate, where it is one.
    pub candidate_version: Option<String>,
    /// HTTP status, if a response head came.
    pub status: Option<i32>,
    /// How the attempt ended.
    pub outcome: Outcome,
    /// From sending to the last byte, in milliseconds.
    pub duration_ms: Option<f64>,
    /// Output tokens, where the provider said.
    pub output_tokens: Option<i64>,
    /// Cost in US dollars; null = unknown.
    pub cost_usd: Option<f64>,
    /// Whether the client got this attempt's answer.
    pub served: bool,
    /// Why it was made, or why it lost.
    pub reason: Option<String>,
}

/// How many values of one kind were masked in a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedCount {
    /// The kind, e.g. `EMAIL`.
    pub kind: String,
    /// How many values.
    pub count: i32,
}

/// How many values of one kind were masked in one column of a call; what is read from a body is counted in the body alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedIn {
    /// The column, e.g. `request_body`.
    pub column: String,
    /// The kind, e.g. `EMAIL`.
    pub kind: String,
    /// How many values.
    pub count: i32,
}

/// One kept call: the row of `calls`. Field names are the columns; `None` is SQL null.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: i32,
    /// UUIDv7 of ours; never the provider's id.
    pub call_id: String,
    /// The proxy process that took the call; null for imported calls.
    pub boot_id: Option<String>,
    /// The call's number within the boot; null for imported calls.
    pub sequence: Option<i64>,
    /// Calls that continue one another share it.
    pub conversation_id: String,
    /// The call that this one continues.
    pub parent_call_id: Option<String>,
    /// Place in the conversation, from 0.
    pub step: i32,
    /// Keyed hash that decides the bucket of a split.
    pub affinity_key: Option<String>,
    /// HMAC of the client's credential.
    pub client_id: Option<String>,
    /// HMAC of the end user that the request names.
    pub user_id: Option<String>,
    /// HMAC of the IP address that the call came from.
    pub address_id: Option<String>,
    /// Which key made the HMACs.
    pub key_id: Option<String>,
    /// Microseconds since the epoch, UTC; the request's first byte.
    pub started_at: Option<i64>,
    /// The upstream that the call was addressed to, or split to.
    pub upstream: Option<String>,
    /// Name of the wire format, see [`crate::call::Api::as_str`].
    pub api: String,
    /// The route that matched.
    pub route: Option<String>,
    /// HTTP method.
    pub method: Option<String>,
    /// Path without the upstream's segment and without query.
    pub path: Option<String>,
    /// The model asked for.
    pub request_model: Option<String>,
    /// The model that served.
    pub response_model: Option<String>,
    /// Task by the task book in force; null = none or `other`.
    pub task_id: Option<String>,
    /// How sure the assignment is, 0 to 1.
    pub task_confidence: Option<f64>,
    /// Version of the task book that assigned.
    pub taskbook_version: Option<i32>,
    /// The upstream of the split that served.
    pub arm: Option<String>,
    /// Hash of the applied config.
    pub config_hash: Option<String>,
    /// How the call ended.
    pub outcome: Outcome,
    /// Whether the answer was streamed.
    pub streamed: bool,
    /// HTTP status that the client saw.
    pub status: Option<i32>,
    /// The provider's error (JSON text), or ours.
    pub error: Option<String>,
    /// The provider's own finish word.
    pub finish_reason: Option<String>,
    /// A stream that ended without its end mark.
    pub partial: bool,
    /// Masked request body.
    pub request_body: Option<String>,
    /// Masked response body, reassembled to the API's non-streamed form.
    pub response_body: Option<String>,
    /// Why a body is missing or not whole: `budget`, `cut`, `excluded`, `parse_error`, `parse_error:depth`, `encoding`.
    pub body_note: Option<String>,
    /// Assistant text of choice 0, without reasoning.
    pub output_text: Option<String>,
    /// Tool calls of choice 0.
    pub tool_calls: Vec<ToolCall>,
    /// Names of the tools offered.
    pub tools_offered: Vec<String>,
    /// Keyed digest of the system text.
    pub system_digest: Option<String>,
    /// Keyed digest of the tools offered.
    pub tools_digest: Option<String>,
    /// All input tokens, cached included.
    pub input_tokens: Option<i64>,
    /// Cache reads.
    pub cached_tokens: Option<i64>,
    /// Cache writes.
    pub cache_write_tokens: Option<i64>,
    /// All output tokens, reasoning included.
    pub output_tokens: Option<i64>,
    /// Reasoning tokens.
    pub reasoning_tokens: Option<i64>,
    /// Cost of all attempts in US dollars; null = unknown.
    pub cost_usd: Option<f64>,
    /// All attempts, in order.
    pub attempts: Vec<Attempt>,
    /// Milliseconds from start to the first piece of the response body.
    pub first_chunk_ms: Option<f64>,
    /// Milliseconds from start to the first piece that holds output.
    pub first_token_ms: Option<f64>,
    /// Median gap between pieces, milliseconds.
    pub inter_token_p50_ms: Option<f64>,
    /// 99th percentile of the gaps, milliseconds.
    pub inter_token_p99_ms: Option<f64>,
    /// The longest gap, milliseconds.
    pub longest_stall_ms: Option<f64>,
    /// Milliseconds from start to the upstream's last byte.
    pub duration_ms: Option<f64>,
    /// Own time in microseconds: total less waiting for client and upstream.
    pub overhead_us: Option<i64>,
    /// Request body bytes on the wire.
    pub request_bytes: Option<i64>,
    /// Response body bytes on the wire.
    pub response_bytes: Option<i64>,
    /// What was masked.
    pub masked: Vec<MaskedCount>,
    /// The same, by column.
    #[serde(default)]
    pub masked_in: Vec<MaskedIn>,
    /// Trace id of the client's `traceparent`.
    pub trace_id: Option<String>,
    /// Id of an imported call.
    pub external_id: Option<String>,
    /// `x-understudy-tag-<name>` headers, and what an import tells besides.
    pub tags: BTreeMap<String, String>,
}

impl CallRecord {
    /// Whether a candidate's answer is what the client got.
    pub fn is_by_candidate(&self) -> bool {
        let is_other = |arm: &String| self.upstream.as_ref().is_some_and(|addressed| addressed != arm);
        let served = |attempt: &Attempt| attempt.served && attempt.candidate_version.is_some();
        self.arm.as_ref().is_some_and(is_other) || self.attempts.iter().any(served)
    }
}

/// The row of `scores`: one kept call answered again by a candidate. Field names are the columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScoreRecord {
    /// The kept call.
    pub call_id: String,
    /// Its conversation: the unit of the statistics.
    pub conversation_id: String,
    /// The task replayed.
    pub task_id: String,
    /// Name of the candidate's upstream.
    pub candidate: String,
    /// Hash of model, parameters and prompt adapter.
    pub candidate_version: String,
    /// Microseconds since the epoch, UTC.
    pub judged_at: i64,
    /// `tool_call`, `structured`, `label` or `prose`: what the recorded answer is.
    pub kind: String,
    /// Whether the candidate's answer is well-formed for the request.
    pub valid: bool,
    /// Whether the recorded answer is.
    pub valid_baseline: Option<bool>,
    /// Agreement with the recorded answer, 0 to 1; null where there was no answer.
    pub agreement: Option<f64>,
    /// Agreement of the baseline, asked again, with the recorded answer; null where not measured.
    pub floor_agreement: Option<f64>,
    /// A judge's score, 0 to 1.
    pub judge: Option<f64>,
    /// Input tokens of the candidate's answer.
    pub input_tokens: Option<i64>,
    /// Output tokens of the candidate's answer.
    pub output_tokens: Option<i64>,
    /// Cost of the candidate's answer in US dollars; null = unknown.
    pub cost_usd: Option<f64>,
    /// Milliseconds to the first token, where streamed.
    pub first_token_ms: Option<f64>,
    /// Milliseconds to the last byte.
    pub duration_ms: Option<f64>,
    /// How the replayed call ended.
    pub outcome: Outcome,
    /// The candidate's answer, in the API's non-streamed form.
    pub response_body: Option<String>,
    /// Its text.
    pub output_text: Option<String>,
    /// Its tool calls.
    pub tool_calls: Vec<ToolCall>,
    /// Why it is not well-formed, where it is not.
    #[serde(default)]
    pub reason: Option<String>,
    /// What asked: null = a replay, `shadow` = a live shadow, `reverse` = a canaried call whose baseline was asked; the
    /// answer in the row is the baseline's then.
    #[serde(default)]
    pub source: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_words_come_back() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_name(outcome.as_str()), Some(outcome));
            assert_eq!(
                serde_json::to_value(outcome).unwrap(),
                serde_json::json!(outcome.as_str())
            );
        }
    }
}
