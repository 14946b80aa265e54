//! Kept calls as fine-tuning examples: JSON lines in OpenAI chat shape, answer last, for training, validation and testing.
//!
//! Takes calls that are masked already and adds nothing to them but right answers that feedback tells. A conversation lies
//! whole on one side, and so do equal prompts; a seeded hash of what a conversation began with decides, so that none
//! changes sides as data grows. What is left out is counted with the reason. Reads each call twice and holds none: first
//! [`Planner`] sees all of them, then [`Plan`] gives the lines of those that were chosen.

mod card;
mod example;

pub use card::{Card, CardFile, CardOf, MARK};

use crate::feedback::Truth;
use crate::table::call_micros;
use example::{Example, Prompt};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use understudy_call::keys::hex;
use understudy_call::record::CallRecord;

/// The least that feedback says of a recorded answer that is learnt from.
const LEAST_SCORE: f64 = 0.5;

/// What a line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `{"messages": […], "tools": […]}`: OpenAI's fine-tuning, TRL, Axolotl, LLaMA-Factory.
    #[default]
    Chat,
    /// `{"prompt": […], "completion": […], "tools": […]}`: TRL learns the completion alone then.
    PromptCompletion,
}

/// Which calls become examples, and where they go.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportConfig {
    /// What a line looks like.
    pub shape: Shape,
    /// Changes which conversations are held out, and what a limit draws.
    pub seed: u64,
    /// Share of conversations for testing, 0 to 1.
    pub test_share: f64,
    /// Share of conversations for validation, 0 to 1.
    pub validation_share: f64,
    /// The most examples, drawn by the seed; a larger draw holds the smaller one as long as no call comes in.
    pub limit: Option<usize>,
    /// Whether no answer (tools called, a label, or all else of a kind) has more than an even share of the examples to
    /// train on.
    pub balance: bool,
    /// The most tokens of an example: as the provider counted them, else a quarter of its bytes.
    pub max_tokens: Option<i64>,
    /// Whether answers are left out that hold masked values.
    pub without_masked: bool,
}

impl Default for ExportConfig {
    fn default() -> Self {
        ExportConfig {
            shape: Shape::Chat,
            seed: 0,
            test_share: 0.1,
            validation_share: 0.0,
            limit: None,
            balance: false,
            max_tokens: None,
            without_masked: false,
        }
    }
}

/// The side that a conversation is on; what is more held out is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// To train on.
    Train,
    /// To choose among states of a training; a model has seen it then.
    Validation,
    /// To test with; never to train on.
    Test,
}

impl Part {
    /// All, the one that is trained on first.
    pub const ALL: [Part; 3] = [Part::Train, Part::Validation, Part::Test];

    /// Its name, that of its file without the ending.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Validation => "validation",
            Part::Test => "test",
        }
    }
}

/// Why a call is no example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// The same messages are held out, in another conversation.
    HeldOut,
    /// The answer holds masked values, and those were not wanted.
    Masked,
    /// It has more tokens than were wanted.
    TooLong,
    /// Its answer has its even share of the examples already.
    Balanced,
    /// More examples than were wanted.
    OverLimit,
}

impl LeftOut {
    /// Its word in counts.
    pub fn as_str(self) -> &'static str {
        match self {
            LeftOut::NotOk => "not_ok",
            LeftOut::Truncated => "truncated",
            LeftOut::Withheld => "withheld",
            LeftOut::Empty => "empty",
            LeftOut::Wrong => "wrong",
            LeftOut::Candidate => "candidate",
            LeftOut::NoBody => "no_body",
            LeftOut::Unreadable => "unreadable",
            LeftOut::Media => "media",
            LeftOut::Duplicate => "duplicate",
            LeftOut::HeldOut => "held_out",
            LeftOut::Masked => "masked",
            LeftOut::TooLong => "too_long",
            LeftOut::Balanced => "balanced",
            LeftOut::OverLimit => "over_limit",
        }
    }
}

/// What an export did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls looked at.
    pub calls: u64,
    /// Examples for training.
    pub train: u64,
    /// Examples for validation.
    pub validation: u64,
    /// Examples for testing.
    pub test: u64,
    /// Calls left out, by reason.
    pub left_out: BTreeMap<LeftOut, u64>,
}

impl Counts {
    /// Examples of a part.
    pub fn of(&self, part: Part) -> u64 {
        match part {
            Part::Train => self.train,
            Part::Validation => self.validation,
            Part::Test => self.test,
        }
    }

    fn add(&mut self, part: Part) {
        match part {
            Part::Train => self.train += 1,
            Part::Validation => self.validation += 1,
            Part::Test => self.test += 1,
        }
    }

    fn leave_out(&mut self, reason: LeftOut) {
        *self.left_out.entry(reason).or_default() += 1;
    }
}

/// What is remembered of a call that may be an example.
#[derive(Debug)]
struct Ticket {
    call: [u8; 16],
    conversation: [u8; 16],
    prompt: [u8; 16],
    example: [u8; 16],
    class: usize,
}

/// What a conversation began with, as far as calls of the task tell.
#[derive(Debug)]
struct Opening {
    at: (i32, i64, [u8; 16]),
    prompt: [u8; 16],
}

/// Sees all calls once. Holds about 100 bytes for each.
#[derive(Debug)]
pub struct Planner {
    config: ExportConfig,
    truths: HashMap<String, Truth>,
    seen: HashSet<[u8; 16]>,
    openings: HashMap<[u8; 16], Opening>,
    tickets: Vec<Ticket>,
    classes: HashMap<String, usize>,
    counts: Counts,
}

impl Planner {
    /// A planner that has seen no call.
    pub fn new(config: ExportConfig) -> Planner {
        Planner {
            config,
            truths: HashMap::new(),
            seen: HashSet::new(),
            openings: HashMap::new(),
            tickets: Vec::new(),
            classes: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// What is known of answers, by call: a right answer takes the place of the recorded one, and a recorded one that is more
    /// wrong than right is no example.
    #[must_use]
    pub fn knowing(self, truths: HashMap<String, Truth>) -> Planner {
        Planner { truths, ..self }
    }

    /// Takes a call of the task; one that was seen already changes nothing.
    pub fn see(&mut self, call: &CallRecord) {
        let key = call_key(self.config.seed, call);
        if !self.seen.insert(key) {
            return;
        }
        self.counts.calls += 1;
        let conversation = conversation_key(call);
        let prompt = Prompt::of(call);
        if let Ok(prompt) = &prompt {
            // Whatever became of the call: what feedback says of it later must not move its conversation.
            let opening = Opening {
                at: (call.step, call_micros(call), key),
                prompt: prompt.key(),
            };
            match self.openings.get_mut(&conversation) {
                Some(known) if known.at <= opening.at => {}
                Some(known) => *known = opening,
                None => drop(self.openings.insert(conversation, opening)),
            }
        }
        match wanted(prompt, call, &self.truths, &self.config) {
            Ok(example) => {
                let classes = self.classes.len();
                self.tickets.push(Ticket {
                    call: key,
                    conversation,
                    prompt: example.prompt.key(),
                    example: example.key(),
                    class: *self.classes.entry(example.class).or_insert(classes),
                });
            }
            Err(reason) => self.counts.leave_out(reason),
        }
    }

    /// Decides what becomes of each call.
    pub fn plan(mut self) -> Plan {
        // By the call's own place in a seeded order: what is chosen does not depend on where calls are stored.
        self.tickets.sort_by_key(|ticket| ticket.call);
        let side = |ticket: &Ticket| {
            let opening = self.openings.get(&ticket.conversation);
            part_of(opening.map_or(&ticket.prompt, |opening| &opening.prompt), &self.config)
        };
        let mut held_out: HashMap<[u8; 16], Part> = HashMap::new();
        for ticket in &self.tickets {
            let part = side(ticket);
            let known = held_out.entry(ticket.prompt).or_insert(part);
            *known = part.max(*known);
        }
        let mut counts = self.counts;
        let (mut examples, mut chosen) = (HashSet::new(), Vec::new());
        for ticket in &self.tickets {
            let part = side(ticket);
            if held_out.get(&ticket.prompt).is_some_and(|most| *most > part) {
                counts.leave_out(LeftOut::HeldOut);
            } else if !examples.insert(ticket.example) {
                counts.leave_out(LeftOut::Duplicate);
            } else {
                chosen.push((ticket, part));
            }
        }
        if self.config.balance {
            let all = chosen.iter().filter(|(_, part)| *part == Part::Train);
            let mut by_class: HashMap<usize, usize> = HashMap::new();
            all.for_each(|(ticket, _)| *by_class.entry(ticket.class).or_default() += 1);
            let share = by_class.values().sum::<usize>().div_ceil(by_class.len().max(1));
            let mut taken: HashMap<usize, usize> = HashMap::new();
            chosen.retain(|(ticket, part)| {
                let taken = taken.entry(ticket.class).or_default();
                *taken += usize::from(*part == Part::Train);
                let stays = *part != Part::Train || *taken <= share;
                if !stays {
                    counts.leave_out(LeftOut::Balanced);
                }
                stays
            });
        }
        let limit = self.config.limit.unwrap_or(usize::MAX);
        for _ in limit..chosen.len() {
            counts.leave_out(LeftOut::OverLimit);
        }
        chosen.truncate(limit);
        chosen.iter().for_each(|(_, part)| counts.add(*part));
        Plan {
            parts: chosen.into_iter().map(|(ticket, part)| (ticket.call, part)).collect(),
            config: self.config,
            truths: self.truths,
            counts,
        }
    }
}

/// Which calls become examples, and on which side.
#[derive(Debug)]
pub struct Plan {
    config: ExportConfig,
    truths: HashMap<String, Truth>,
    parts: HashMap<[u8; 16], Part>,
    counts: Counts,
}

/// A line of a data set.
#[derive(Debug)]
pub struct Line {
    /// Its side.
    pub part: Part,
    /// The text, without its newline.
    pub text: String,
    /// What its conversation is known by, see [`crate::specialise`].
    pub conversation: String,
    /// What its prompt is known by.
    pub prompt: String,
}

impl Plan {
    /// What becomes of the calls.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The line of a call, once; `None` where it was not chosen.
    pub fn line(&mut self, call: &CallRecord) -> Option<Line> {
        let part = self.parts.remove(&call_key(self.config.seed, call))?;
        let example = wanted(Prompt::of(call), call, &self.truths, &self.config).ok()?;
        Some(Line {
            part,
            conversation: hex(&conversation_key(call)[..8]),
            prompt: hex(&example.prompt.key()[..8]),
            text: example.line(self.config.shape),
        })
    }
}

/// What a call's conversation is known by, wherever data sets are compared: 16 hex digits.
pub fn conversation_digest(call: &CallRecord) -> String {
    hex(&conversation_key(call)[..8])
}

/// What a call's prompt is known by; `None` where it is no chat that can be trained on.
pub fn prompt_digest(call: &CallRecord) -> Option<String> {
    Prompt::of(call).ok().map(|prompt| hex(&prompt.key()[..8]))
}

/// The example of a call, by itself.
fn wanted(
    prompt: Result<Prompt, LeftOut>,
    call: &CallRecord,
    truths: &HashMap<String, Truth>,
    config: &ExportConfig,
) -> Result<Example, LeftOut> {
    let truth = truths.get(&call.call_id);
    let label = match truth {
        Some(Truth::Label(label)) => Some(label.as_str()),
        Some(Truth::Score(score)) if *score < LEAST_SCORE => return Err(LeftOut::Wrong),
        _ => None,
    };
    let example = Example::of(prompt, call, label)?;
    let is_masked = || call.masked_in.iter().any(|masked| masked.column == "response_body");
    if config.without_masked && label.is_none() && is_masked() {
        return Err(LeftOut::Masked);
    }
    let counted = call.input_tokens.zip(call.output_tokens);
    let tokens = || {
        counted.map_or_else(
            || example.estimated_tokens(),
            |(input, output)| input.saturating_add(output),
        )
    };
    if config.max_tokens.is_some_and(|most| tokens() > most) {
        return Err(LeftOut::TooLong);
    }
    Ok(example)
}

/// The side of conversations that begin with a prompt, by a hash with the seed.
fn part_of(opening: &[u8; 16], config: &ExportConfig) -> Part {
    let drawn = seeded("side", config.seed, opening);
    let place = u64::from_le_bytes(first_eight(&drawn)) as f64 / u64::MAX as f64;
    if place < config.test_share {
        Part::Test
    } else if place < config.test_share + config.validation_share {
        Part::Validation
    } else {
        Part::Train
    }
}

fn first_eight(bytes: &[u8; 16]) -> [u8; 8] {
    std::array::from_fn(|at| bytes[at])
}

fn call_key(seed: u64, call: &CallRecord) -> [u8; 16] {
    seeded("example", seed, call.call_id.as_bytes())
}

fn conversation_key(call: &CallRecord) -> [u8; 16] {
    let id = match call.conversation_id.as_str() {
        "" => &call.call_id,
        id => id,
    };
    seeded("conversation", 0, id.as_bytes())
}

fn seeded(of: &str, seed: u64, bytes: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(of.as_bytes()).update(&seed.to_le_bytes()).update(bytes);
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

#[cfg(test)]
mod tests;
