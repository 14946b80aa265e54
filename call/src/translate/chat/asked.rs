//! What a chat request asks, in an order that suits every API: the source of all translations to candidates of other APIs.
//!
//! Texts that are blank are left out, since not every API takes them; what one speaker says in several messages is one
//! turn; tool calls have ids that every API takes, none twice, and each has its result right after it. A request in which
//! that can't be is refused.
//!
//! Left out, since they change how a call is served, billed or told, not what is asked of a candidate: `metadata`,
//! `service_tier`, `prediction`, `cache_control`, all of `prompt_cache_…`, how much to reason, names of speakers, and
//! reasoning in the history.

use serde_json::{Map, Number, Value};

use super::super::Refusal;
use super::super::fields::{Fields, inexpressible, is_off, unreadable};

mod conversation;
mod tools;

use conversation::Conversation;
pub(in super::super) use tools::{Choice, Tool};

/// A chat request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct Asked {
    /// System messages before the first turn; none is blank.
    pub(in super::super) system: Vec<String>,
    /// At least one; the last is not the model's.
    pub(in super::super) turns: Vec<Turn>,
    pub(in super::super) tools: Vec<Tool>,
    /// [`Choice::Auto`] where no tools are offered.
    pub(in super::super) choice: Choice,
    /// At most one call an answer.
    pub(in super::super) one_call: bool,
    pub(in super::super) format: Format,
    pub(in super::super) max_tokens: Option<i64>,
    pub(in super::super) temperature: Option<Number>,
    pub(in super::super) top_p: Option<Number>,
    pub(in super::super) top_k: Option<i64>,
    /// Numbers that not every API has, by chat's names; those that say nothing are left out.
    pub(in super::super) rare: Map<String, Value>,
    /// `low` or `high`.
    pub(in super::super) verbosity: Option<String>,
    pub(in super::super) stop: Vec<String>,
    pub(in super::super) user: Option<String>,
}

/// What one speaker says.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Turn {
    /// Instructions amid the conversation.
    System(String),
    /// At least one part.
    User(Vec<Part>),
    /// Text, calls, or both.
    Assistant { text: String, calls: Vec<Call> },
    /// The results of all calls of the turn before.
    Results(Vec<ToolResult>),
}

/// A part of what the user says.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Part {
    /// Not blank.
    Text(String),
    /// An image in the request: its media type, and standard base64.
    Image {
        media_type: &'static str,
        data: String,
        detail: Option<String>,
    },
    /// An image on the web.
    ImageUrl { url: String, detail: Option<String> },
}

/// A tool call of the history.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Call {
    pub(in super::super) id: String,
    pub(in super::super) name: String,
    pub(in super::super) arguments: Map<String, Value>,
}

/// The result of a tool call.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct ToolResult {
    /// The id of its call, as that has it here.
    pub(in super::super) id: String,
    /// The name of the tool.
    pub(in super::super) name: String,
    pub(in super::super) text: String,
}

/// What form the answer's text is to have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) enum Format {
    #[default]
    Text,
    Object,
    Schema {
        name: String,
        schema: Value,
        strict: Option<bool>,
    },
}

/// What is left out wherever it stands at the top.
const LEFT_OUT: [&str; 12] = [
    "model",
    "stream",
    "stream_options",
    "metadata",
    "service_tier",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "reasoning",
    "thinking",
];

/// Numbers that not every API has.
const RARE: [&str; 4] = ["frequency_penalty", "presence_penalty", "min_p", "seed"];

/// A number from 0 to `most`; what is wrong with any other its baseline says in its own words.
fn within(fields: &mut Fields<'_>, key: &str, most: f64) -> Result<Option<Number>, Refusal> {
    match fields.number(key)? {
        Some(number) if !number.as_f64().is_some_and(|number| (0.0..=most).contains(&number)) => {
            Err(inexpressible(key, format!("not from 0 to {most}")))
        }
        number => Ok(number),
    }
}

impl Asked {
    /// Reads a chat request.
    pub(in super::super) fn of(chat: &Value) -> Result<Asked, Refusal> {
        let mut fields = Fields::of(chat, "")?;
        fields.leave_out(&LEFT_OUT);
        refuse_state(&mut fields)?;
        refuse_extras(&mut fields)?;
        let mut conversation = Conversation::default();
        for (at, message) in fields.items("messages") {
            conversation.message(message, at)?;
        }
        let limit = fields.integer("max_completion_tokens")?;
        let mut rare = Map::new();
        for key in RARE {
            let number = fields
                .number(key)?
                .filter(|number| key == "seed" || number.as_f64() != Some(0.0));
            rare.extend(number.map(|number| (key.to_owned(), number.into())));
        }
        let mut asked = Asked {
            max_tokens: limit.or(fields.integer("max_tokens")?),
            temperature: within(&mut fields, "temperature", 2.0)?,
            top_p: within(&mut fields, "top_p", 1.0)?,
            top_k: fields.integer("top_k")?,
            rare,
            verbosity: fields
                .text("verbosity")?
                .filter(|word| *word != "medium")
                .map(Into::into),
            stop: fields
                .texts("stop")?
                .into_iter()
                .filter(|stop| !stop.is_empty())
                .map(Into::into)
                .collect(),
            format: fields
                .object("response_format")?
                .map(format)
                .transpose()?
                .unwrap_or_default(),
            ..conversation.end()?
        };
        asked.take_tools(&mut fields)?;
        let (user, person) = (fields.text("user")?, fields.text("safety_identifier")?);
        asked.user = user.or(person).filter(|user| !user.is_empty()).map(Into::into);
        fields.end_as("the candidate's API has no such field")?;
        Ok(asked)
    }

    /// Refuses at most one call an answer, where any may be made.
    pub(in super::super) fn refuse_one_call(&self) -> Result<(), Refusal> {
        match self.one_call && self.choice != Choice::None {
            true => Err(inexpressible("parallel_tool_calls", "at most one call an answer")),
            false => Ok(()),
        }
    }

    /// The turns of user and model one after the other, the user's first, for APIs that have no others: results, and what
    /// the user says after them, are one. Each with whether it is the model's, and with what `say` makes of it.
    pub(in super::super) fn alternating(
        &self,
        say: impl Fn(&Turn) -> Result<Vec<Value>, Refusal>,
    ) -> Result<Vec<(bool, Vec<Value>)>, Refusal> {
        let mut messages: Vec<(bool, Vec<Value>)> = Vec::new();
        for turn in &self.turns {
            let is_models = matches!(turn, Turn::Assistant { .. });
            if matches!(turn, Turn::System(_)) {
                return Err(inexpressible("messages", "instructions amid the conversation"));
            }
            let said = say(turn)?;
            match messages.last_mut() {
                Some((last, before)) if *last == is_models => before.extend(said),
                _ => messages.push((is_models, said)),
            }
        }
        match messages.first() {
            Some((true, _)) => Err(inexpressible("messages", "a conversation that the model begins")),
            _ => Ok(messages),
        }
    }

    /// Refuses what an API has no word for, of what only some have.
    pub(in super::super) fn refuse_rare(&self, known: &[&str]) -> Result<(), Refusal> {
        // A seed asks for no other answer than its absence does.
        let mut rare = self.rare.keys().filter(|key| *key != "seed");
        match rare.find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(inexpressible(key.as_str(), "the candidate's API has no such field")),
            None => Ok(()),
        }
    }

    /// Temperature and top-p for models that take only one of the two, and a temperature of at most 1: the one that is 1
    /// says nothing, and of two that say something temperature counts.
    pub(in super::super) fn either_sampling(&self) -> (Option<Number>, Option<Number>) {
        let is_under_1 = |number: &&Number| number.as_f64().is_some_and(|number| number < 1.0);
        let cool = self.temperature.as_ref().filter(is_under_1).cloned();
        match self.top_p.as_ref().filter(is_under_1).cloned() {
            Some(top_p) if cool.is_none() => (None, Some(top_p)),
            _ => (cool.or(self.temperature.as_ref().map(|_| 1.into())), None),
        }
    }

    /// Refuses a limit of the tokens among which one is chosen.
    pub(in super::super) fn refuse_top_k(&self) -> Result<(), Refusal> {
        match self.top_k {
            Some(1..) => Err(inexpressible("top_k", "the candidate's API has no such field")),
            _ => Ok(()),
        }
    }

    /// Refuses a wish for short or long answers.
    pub(in super::super) fn refuse_verbosity(&self) -> Result<(), Refusal> {
        match self.verbosity {
            Some(_) => Err(inexpressible("verbosity", "the candidate's API has no such field")),
            None => Ok(()),
        }
    }
}

/// What lies, or is to lie, at the provider, or is done by it.
fn refuse_state(fields: &mut Fields<'_>) -> Result<(), Refusal> {
    for key in [
        "store",
        "web_search_options",
        "search_parameters",
        "deferred",
        "plugins",
    ] {
        if fields
            .take(key)
            .is_some_and(|value| !is_off(value) || value.is_object())
        {
            return Err(Refusal::StateAtProvider(key.into()));
        }
    }
    Ok(())
}

/// What no other API answers.
fn refuse_extras(fields: &mut Fields<'_>) -> Result<(), Refusal> {
    fields.refuse_unless("n", "more than one answer", |count| count.as_f64() == Some(1.0))?;
    fields.refuse_unless("logprobs", "chances of tokens", is_off)?;
    fields.refuse_unless("top_logprobs", "chances of tokens", is_off)?;
    fields.refuse_unless("logit_bias", "chances of tokens", is_off)?;
    fields.refuse_unless("audio", "an answer other than text", is_off)?;
    fields.refuse_unless("modalities", "an answer other than text", |modalities| {
        modalities
            .as_array()
            .is_some_and(|all| all.iter().all(|modality| modality == "text"))
    })?;
    fields.refuse_unless("functions", "the legacy form of tools", is_off)?;
    fields.refuse_unless("function_call", "the legacy form of tools", is_off)
}

fn format(mut format: Fields<'_>) -> Result<Format, Refusal> {
    let at = format.path("type");
    let said = match format.needed_text("type")? {
        "text" => Format::Text,
        "json_object" => Format::Object,
        "json_schema" => {
            let named_at = format.path("json_schema");
            let mut named = format
                .object("json_schema")?
                .ok_or_else(|| unreadable(&named_at, "missing"))?;
            named.leave_out(&["description"]);
            let schema = named.take("schema").cloned();
            let said = Format::Schema {
                name: named.text("name")?.unwrap_or("answer").to_owned(),
                schema: schema.ok_or_else(|| unreadable(&named_at, "without a schema"))?,
                strict: named.has("strict").then(|| named.flag("strict")).transpose()?,
            };
            named.end()?;
            said
        }
        _ => return Err(inexpressible(at, "an unknown format")),
    };
    format.end()?;
    Ok(said)
}

#[cfg(test)]
mod tests;
