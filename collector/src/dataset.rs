//! Kept calls as fine-tuning examples: lines of `{"messages": […], "tools": […]}` in OpenAI chat shape, answer last.
//!
//! Takes calls that are masked already and adds nothing to them but right answers that feedback tells. A conversation lies whole in train or in test, by a
//! seeded hash of its id, so an example never changes sides as data grows. What is left out is counted with the reason.

use crate::feedback::{Truth, right_answer};
use crate::score::AnswerKind;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use understudy_call::call::{Api, Message, Request, Role, ToolCall, ToolOffered};
use understudy_call::check::{truncated, withheld};
use understudy_call::record::{CallRecord, Outcome};
use understudy_call::wire;

/// The least that feedback says of a recorded answer that is learnt from.
const LEAST_SCORE: f64 = 0.5;

/// Why a data set was not written.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file took no more.
    #[error("could not write an example of the {part} set: {source}")]
    Write {
        /// `train` or `test`.
        part: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// How calls are divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExportConfig {
    /// Changes which conversations are for testing.
    pub seed: u64,
    /// Share of conversations for testing, 0 to 1.
    pub test_share: f64,
}

impl Default for ExportConfig {
    fn default() -> Self {
        ExportConfig {
            seed: 0,
            test_share: 0.1,
        }
    }
}

/// The side that a conversation is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// To train on.
    Train,
    /// To test with; never to train on.
    Test,
}

/// Why a call is no example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// It did not end well.
    NotOk,
    /// The answer is cut: a broken stream, or a length.
    Truncated,
    /// The answer was withheld by a filter.
    Withheld,
    /// The answer has neither text nor tool calls.
    Empty,
    /// Feedback says that the recorded answer is more wrong than right, and not what would be right.
    Wrong,
    /// A candidate answered: it would be trained on itself.
    Candidate,
    /// A body is missing or not whole.
    NoBody,
    /// The request can't be read as a chat.
    Unreadable,
    /// The request holds images or files that this shape would lose.
    Media,
    /// The same messages with the same answer were there already.
    Duplicate,
}

/// What an export did; serialises for `--format json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls looked at.
    pub calls: u64,
    /// Examples for training.
    pub train: u64,
    /// Examples for testing.
    pub test: u64,
    /// Calls left out, by reason.
    pub left_out: BTreeMap<LeftOut, u64>,
}

/// Turns calls into examples, one by one; remembers a digest of each, to leave out duplicates.
#[derive(Debug)]
pub struct Exporter {
    config: ExportConfig,
    truths: HashMap<String, Truth>,
    seen: HashSet<[u8; 16]>,
    counts: Counts,
}

impl Exporter {
    /// An exporter that has seen no call.
    pub fn new(config: ExportConfig) -> Exporter {
        Exporter {
            config,
            truths: HashMap::new(),
            seen: HashSet::new(),
            counts: Counts::default(),
        }
    }

    /// What is known of answers, by call: a right answer takes the place of the recorded one, and a recorded one that is more
    /// wrong than right is no example.
    #[must_use]
    pub fn knowing(self, truths: HashMap<String, Truth>) -> Exporter {
        Exporter { truths, ..self }
    }

    /// The example of a call, a line without its newline, and its side; the error says why it is none.
    pub fn example(&mut self, call: &CallRecord) -> Result<(Part, String), LeftOut> {
        self.counts.calls += 1;
        let example = self.unseen(call);
        match &example {
            Ok((Part::Train, _)) => self.counts.train += 1,
            Ok((Part::Test, _)) => self.counts.test += 1,
            Err(reason) => *self.counts.left_out.entry(*reason).or_default() += 1,
        }
        example
    }

    /// What was done so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn unseen(&mut self, call: &CallRecord) -> Result<(Part, String), LeftOut> {
        let example = match self.truths.get(&call.call_id) {
            None => example_of(call, None)?,
            Some(Truth::Score(score)) if *score < LEAST_SCORE => return Err(LeftOut::Wrong),
            Some(Truth::Score(_)) => example_of(call, None)?,
            Some(Truth::Label(label)) => example_of(call, Some(label))?,
        };
        // By all messages and the answer: one question has many contexts, and one context many answers.
        let digest = blake3::hash(example.get("messages").unwrap_or(&Value::Null).to_string().as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&digest.as_bytes()[..16]);
        if !self.seen.insert(short) {
            return Err(LeftOut::Duplicate);
        }
        Ok((part_of(call, &self.config), Value::Object(example).to_string()))
    }
}

/// Writes the examples of calls, one a line, in the order of the calls.
pub fn export(
    calls: impl IntoIterator<Item = CallRecord>,
    config: ExportConfig,
    train: &mut impl Write,
    test: &mut impl Write,
) -> Result<Counts, DatasetError> {
    let mut exporter = Exporter::new(config);
    for call in calls {
        match exporter.example(&call) {
            Ok((Part::Train, line)) => {
                writeln!(train, "{line}").map_err(|source| DatasetError::Write { part: "train", source })?;
            }
            Ok((Part::Test, line)) => {
                writeln!(test, "{line}").map_err(|source| DatasetError::Write { part: "test", source })?;
            }
            Err(_) => {}
        }
    }
    Ok(exporter.counts)
}

/// The side of a call: that of its conversation, by a hash with the seed.
pub fn part_of(call: &CallRecord, config: &ExportConfig) -> Part {
    let conversation = if call.conversation_id.is_empty() {
        &call.call_id
    } else {
        &call.conversation_id
    };
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&config.seed.to_le_bytes())
        .update(conversation.as_bytes());
    let mut drawn = [0; 8];
    hasher.finalize_xof().fill(&mut drawn);
    let place = u64::from_le_bytes(drawn) as f64 / u64::MAX as f64;
    if place < config.test_share {
        Part::Test
    } else {
        Part::Train
    }
}

fn example_of(call: &CallRecord, label: Option<&str>) -> Result<Map<String, Value>, LeftOut> {
    let answer = match label {
        // Whatever became of the recorded answer: it is not the one to learn.
        Some(_) if call.body_note.is_some() => return Err(LeftOut::NoBody),
        Some(label) => labelled(label, call),
        None => {
            check(call)?;
            assistant(call.output_text.as_deref().unwrap_or_default(), &call.tool_calls)
        }
    };
    let body = call.request_body.as_deref().ok_or(LeftOut::NoBody)?;
    let api = Api::from_name(&call.api).unwrap_or(Api::Other);
    let path = call.path.as_deref().unwrap_or_default();
    let request = wire::parse_request_at(api, path, body.as_bytes()).map_err(|_| LeftOut::Unreadable)?;
    let (mut messages, tools) = match api {
        Api::OpenaiChat => verbatim(body).ok_or(LeftOut::Unreadable)?,
        _ => translated(&request)?,
    };
    if messages.is_empty() {
        return Err(LeftOut::Unreadable);
    }
    messages.push(answer);
    let mut example = Map::new();
    example.insert("messages".into(), Value::Array(messages));
    if !tools.is_empty() {
        example.insert("tools".into(), Value::Array(tools));
    }
    Ok(example)
}

/// A right answer as the assistant's message: tool calls where it names tools that were offered, else text.
fn labelled(label: &str, call: &CallRecord) -> Value {
    let calls = right_answer(label, AnswerKind::ToolCall).tool_calls;
    let are_offered = calls.iter().all(|tool| call.tools_offered.contains(&tool.name));
    match !calls.is_empty() && are_offered {
        true => assistant("", &calls),
        false => assistant(label, &[]),
    }
}

/// Whether a call's answer is one to learn from.
fn check(call: &CallRecord) -> Result<(), LeftOut> {
    let finish = call.finish_reason.as_deref();
    let text_is_blank = call.output_text.as_ref().is_none_or(|text| text.trim().is_empty());
    let is_candidate = |version: &Option<String>| version.is_some();
    if call.outcome != Outcome::Ok || call.error.is_some() {
        Err(LeftOut::NotOk)
    } else if call.partial || truncated(finish) {
        Err(LeftOut::Truncated)
    } else if withheld(finish) {
        Err(LeftOut::Withheld)
    } else if call
        .attempts
        .iter()
        .any(|attempt| attempt.served && is_candidate(&attempt.candidate_version))
    {
        Err(LeftOut::Candidate)
    } else if call.body_note.is_some() {
        Err(LeftOut::NoBody)
    } else if text_is_blank && call.tool_calls.iter().all(ToolCall::is_padding) {
        Err(LeftOut::Empty)
    } else {
        Ok(())
    }
}

/// Messages and tools of an OpenAI chat body as they are; its older `functions` as tools.
fn verbatim(body: &str) -> Option<(Vec<Value>, Vec<Value>)> {
    let mut body: Map<String, Value> = serde_json::from_str(body).ok()?;
    let Some(Value::Array(messages)) = body.remove("messages") else {
        return None;
    };
    let tools = match (body.remove("tools"), body.remove("functions")) {
        (Some(Value::Array(tools)), _) => tools,
        (_, Some(Value::Array(functions))) => functions
            .into_iter()
            .map(|function| json!({"type": "function", "function": function}))
            .collect(),
        _ => Vec::new(),
    };
    Some((messages, tools))
}

fn translated(request: &Request) -> Result<(Vec<Value>, Vec<Value>), LeftOut> {
    if request.messages.iter().any(|message| message.media_parts > 0) {
        return Err(LeftOut::Media);
    }
    Ok((
        request.messages.iter().map(message_of).collect(),
        request.tools.iter().map(tool_of).collect(),
    ))
}

fn message_of(message: &Message) -> Value {
    match message.role {
        Role::System => json!({"role": "system", "content": message.text}),
        Role::User => json!({"role": "user", "content": message.text}),
        Role::Assistant => assistant(&message.text, &message.tool_calls),
        Role::Tool => json!({"role": "tool", "tool_call_id": message.tool_call_id, "content": message.text}),
    }
}

fn tool_of(tool: &ToolOffered) -> Value {
    let mut function = Map::new();
    function.insert("name".into(), json!(tool.name));
    if let Some(description) = &tool.description {
        function.insert("description".into(), json!(description));
    }
    if tool.schema.is_object() {
        function.insert("parameters".into(), tool.schema.clone());
    }
    json!({"type": "function", "function": function})
}

/// An assistant's message; calls without an id are numbered, as the shape asks for one.
fn assistant(text: &str, tool_calls: &[ToolCall]) -> Value {
    let tool_calls: Vec<&ToolCall> = tool_calls.iter().filter(|call| !call.is_padding()).collect();
    if tool_calls.is_empty() {
        return json!({"role": "assistant", "content": text});
    }
    let call = |(index, call): (usize, &&ToolCall)| {
        let id = call.id.clone().unwrap_or_else(|| format!("call_{index}"));
        json!({"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
    };
    let calls: Vec<Value> = tool_calls.iter().enumerate().map(call).collect();
    let content = if text.is_empty() { Value::Null } else { json!(text) };
    json!({"role": "assistant", "content": content, "tool_calls": calls})
}

#[cfg(test)]
mod tests;
