//! What a task asks of a model, read off its kept calls.
//!
//! Only what the baseline answered tells: its answers say what kind they are, and how long they get.

use crate::books::chat_of;
use crate::score::{AnswerKind, LabelSet, kind_of, language};
use crate::verdict::Volume;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use understudy_call::call::{Request, Response, ResponseFormat};
use understudy_call::record::{CallRecord, Outcome};

/// Bytes that a token stands for, where nobody counted tokens: fewer than in most texts, so that the estimate is rather
/// too long. Of Chinese, Japanese or Korean that is a character.
const BYTES_PER_TOKEN: usize = 3;
/// The share of calls that has to fit a context window; what is longer is the LLM's to answer.
const SHARE_THAT_FITS: f64 = 0.99;
/// Days in a month of costs.
const DAYS: f64 = 30.0;

/// What a task asks for; shares are of its calls, `None` = unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Needs {
    /// Calls that the baseline answered well.
    pub calls: u64,
    /// The kind of most answers: `tool_call`, `structured`, `label` or `prose`.
    pub kind: Option<&'static str>,
    /// Kinds of answers and the share of each.
    pub answers: BTreeMap<&'static str, f64>,
    /// Tokens of input and output together that 99 in 100 calls don't exceed.
    pub tokens: Option<u64>,
    /// Tokens of the longest call.
    pub tokens_most: Option<u64>,
    /// Calls whose tokens nobody counted: those are estimated from their bytes.
    pub tokens_estimated_calls: u64,
    /// Names of the tools offered.
    pub tools: BTreeSet<String>,
    /// Share of calls that ask for JSON by a schema.
    pub schema: f64,
    /// Share of calls that are streamed.
    pub streamed: f64,
    /// Share of calls with images or files.
    pub media: f64,
    /// Languages of written answers and the share of each, as far as it can be told.
    pub languages: BTreeMap<&'static str, f64>,
    /// Calls a day; unknown where less than an hour was observed.
    pub calls_per_day: Option<f64>,
    /// US dollars of 1,000 calls, by those whose cost is known.
    pub cost_per_1k: Option<f64>,
    /// US dollars of a month of 30 days.
    pub cost_per_month: Option<f64>,
}

impl Needs {
    /// Share of this kind of answer.
    pub fn share(&self, kind: AnswerKind) -> f64 {
        self.answers.get(kind.as_str()).copied().unwrap_or(0.0)
    }
}

/// What the calls of a task say, call by call.
#[derive(Debug, Default)]
pub struct Gathered {
    calls: u64,
    volume: Volume,
    kinds: BTreeMap<&'static str, u64>,
    labels: LabelSet,
    tokens: Vec<u64>,
    estimated: u64,
    tools: BTreeSet<String>,
    schema: u64,
    streamed: u64,
    media: u64,
    languages: BTreeMap<&'static str, u64>,
    cost: f64,
    cost_known: u64,
}

impl Gathered {
    /// The columns that it reads.
    pub const COLUMNS: [&str; 17] = [
        "api",
        "path",
        "started_at",
        "upstream",
        "arm",
        "attempts",
        "outcome",
        "partial",
        "streamed",
        "request_body",
        "output_text",
        "tool_calls",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "taskbook_version",
        "task_confidence",
    ];

    /// Counts a call in. One that a candidate answered says how often the task is asked, and no more.
    pub fn add(&mut self, call: &CallRecord) {
        self.volume.add(call.started_at);
        if call.outcome != Outcome::Ok || call.partial || call.is_by_candidate() {
            return;
        }
        let Some((request, response)) = chat_of(call) else {
            return;
        };
        self.calls += 1;
        let kind = kind_of(&request, &response);
        *self.kinds.entry(kind.as_str()).or_default() += 1;
        if response.tool_calls.is_empty() {
            self.labels.add(&response.output_text);
        }
        if let Some(language) = language(&response.output_text) {
            *self.languages.entry(language).or_default() += 1;
        }
        let (tokens, is_estimate) = tokens(call, &request, &response);
        self.tokens.push(tokens);
        self.estimated += u64::from(is_estimate);
        for tool in &request.tools {
            if !self.tools.contains(&tool.name) {
                self.tools.insert(tool.name.clone());
            }
        }
        self.schema += u64::from(matches!(request.response_format, ResponseFormat::JsonSchema(_)));
        self.streamed += u64::from(call.streamed || request.stream);
        self.media += u64::from(request.messages.iter().any(|message| message.media_parts > 0));
        if let Some(cost) = call.cost_usd {
            self.cost += cost;
            self.cost_known += 1;
        }
    }

    /// What they amount to.
    pub fn needs(mut self) -> Needs {
        // An open set of short answers is prose, as in scores.
        if !self.labels.is_closed()
            && let Some(open) = self.kinds.remove(AnswerKind::Label.as_str())
        {
            *self.kinds.entry(AnswerKind::Prose.as_str()).or_default() += open;
        }
        self.tokens.sort_unstable();
        let share = |count: u64| count as f64 / self.calls.max(1) as f64;
        let told: u64 = self.languages.values().sum();
        let calls_per_day = self.volume.per_day();
        let cost = (self.cost_known > 0).then(|| self.cost / self.cost_known as f64);
        Needs {
            calls: self.calls,
            kind: most(&self.kinds),
            answers: self.kinds.iter().map(|(kind, count)| (*kind, share(*count))).collect(),
            tokens: quantile(&self.tokens, SHARE_THAT_FITS),
            tokens_most: self.tokens.last().copied(),
            tokens_estimated_calls: self.estimated,
            schema: share(self.schema),
            streamed: share(self.streamed),
            media: share(self.media),
            languages: self
                .languages
                .iter()
                .map(|(language, count)| (*language, *count as f64 / told.max(1) as f64))
                .collect(),
            calls_per_day,
            cost_per_1k: cost.map(|cost| 1000.0 * cost),
            cost_per_month: cost.zip(calls_per_day).map(|(cost, calls)| cost * calls * DAYS),
            tools: self.tools,
        }
    }
}

/// Tokens of a call, and whether they are an estimate.
fn tokens(call: &CallRecord, request: &Request, response: &Response) -> (u64, bool) {
    if let (Some(input), Some(output)) = (call.input_tokens, call.output_tokens) {
        return (input.saturating_add(output).max(0) as u64, false);
    }
    let called = |calls: &[understudy_call::call::ToolCall]| -> usize {
        calls.iter().map(|call| call.name.len() + call.arguments.len()).sum()
    };
    let asked: usize = request
        .messages
        .iter()
        .map(|message| message.text.len() + called(&message.tool_calls))
        .sum();
    let offered: usize = request
        .tools
        .iter()
        .map(|tool| {
            let said = tool.description.as_ref().map_or(0, |text| text.len());
            tool.name.len() + said + tool.schema.to_string().len()
        })
        .sum();
    let answered = response.output_text.len() + called(&response.tool_calls);
    ((asked + offered + answered).div_ceil(BYTES_PER_TOKEN) as u64, true)
}

/// The kind of most answers; of several the first by name.
fn most(kinds: &BTreeMap<&'static str, u64>) -> Option<&'static str> {
    let most = kinds.iter().rev().max_by_key(|(_, count)| **count)?;
    Some(most.0)
}

/// The least number that at least this share of the sorted ones does not exceed.
fn quantile(sorted: &[u64], share: f64) -> Option<u64> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}
