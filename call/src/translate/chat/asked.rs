//! What a chat request asks, in an order that suits every API: the source of all translations to candidates of other APIs.
//!
//! Texts that are blank are left out, since not every API takes them; what one speaker says in several messages is one
//! turn; tool calls have ids that every API takes, none twice, and each has its result right after it. A request in which
//! that can't be is refused.
//!
//! Left out, since they change how a call is served, billed or told, not what is asked of a candidate: `metadata`,
//! `service_tier`, `prediction`, `cache_control`, all of `prompt_cache_…`, how much to reason, names of speakers, and
//! reasoning in the history.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::{Map, Number, Value};

use super::super::Refusal;
use super::super::fields::{Fields, inexpressible, is_off, unreadable};
use super::super::ids::{CallIds, is_tool_name};
use super::super::parts::{data_url, image_type};
use super::super::tool_calls::arguments;
use crate::call::ToolCall;

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

/// A tool that is offered.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Tool {
    pub(in super::super) name: String,
    pub(in super::super) description: Option<String>,
    /// A schema of an object.
    pub(in super::super) parameters: Value,
    pub(in super::super) strict: Option<bool>,
}

/// Which tools are to be called.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) enum Choice {
    #[default]
    Auto,
    None,
    Required,
    Tool(String),
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

    fn take_tools(&mut self, fields: &mut Fields<'_>) -> Result<(), Refusal> {
        let mut names = HashSet::new();
        for (at, tool) in fields.items("tools") {
            let tool = offered(tool, at.clone())?;
            if !names.insert(tool.name.clone()) {
                return Err(inexpressible(at, "two tools of one name"));
            }
            self.tools.push(tool);
        }
        let parallel = fields.take("parallel_tool_calls");
        let at = fields.path("tool_choice");
        let choice = match fields.take("tool_choice") {
            None => Choice::Auto,
            Some(Value::String(word)) => match word.as_str() {
                "auto" => Choice::Auto,
                "none" => Choice::None,
                "required" => Choice::Required,
                _ => return Err(inexpressible(at, "an unknown choice")),
            },
            Some(choice) => chosen(Fields::of(choice, at)?)?,
        };
        if !self.tools.is_empty() {
            self.choice = choice;
            self.one_call = parallel == Some(&Value::Bool(false));
        }
        Ok(())
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

fn offered(tool: &Value, at: String) -> Result<Tool, Refusal> {
    let mut fields = Fields::of(tool, at.clone())?;
    match fields.needed_text("type")? {
        "function" => {}
        kind => return Err(inexpressible(at, format!("a tool of type `{kind}`"))),
    }
    fields.leave_out(&["cache_control"]);
    let function_at = fields.path("function");
    let mut function = fields
        .object("function")?
        .ok_or_else(|| unreadable(&function_at, "missing"))?;
    let (name_at, schema_at) = (function.path("name"), function.path("parameters"));
    let tool = Tool {
        name: function.needed_text("name")?.to_owned(),
        description: function
            .text("description")?
            .filter(|text| !text.is_empty())
            .map(Into::into),
        parameters: of_object(function.take("parameters"), &schema_at)?,
        strict: function.has("strict").then(|| function.flag("strict")).transpose()?,
    };
    function.end()?;
    fields.end()?;
    if !is_tool_name(&tool.name) {
        return Err(inexpressible(name_at, "a name that not every API takes"));
    }
    Ok(tool)
}

/// A schema of an object; one that says no type means one.
fn of_object(schema: Option<&Value>, at: &str) -> Result<Value, Refusal> {
    let mut schema = schema.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let Some(object) = schema.as_object_mut() else {
        return Err(unreadable(at, "no object"));
    };
    match object.get("type").map(|kind| kind == "object") {
        Some(true) => {}
        Some(false) => return Err(inexpressible(at, "arguments that are no object")),
        None => {
            object.insert("type".into(), "object".into());
        }
    }
    if !object.contains_key("properties") {
        object.insert("properties".into(), Value::Object(Map::new()));
    }
    Ok(schema)
}

fn chosen(mut choice: Fields<'_>) -> Result<Choice, Refusal> {
    let at = choice.path("type");
    let named = match choice.needed_text("type")? {
        "function" => choice.object("function")?,
        _ => None,
    };
    let mut named = named.ok_or_else(|| inexpressible(at, "an unknown choice"))?;
    let name = named.needed_text("name")?.to_owned();
    named.end()?;
    choice.end()?;
    Ok(Choice::Tool(name))
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

/// The conversation as it is read.
#[derive(Default)]
struct Conversation {
    system: Vec<String>,
    turns: Vec<Turn>,
    ids: CallIds,
    /// How many calls there were.
    calls: usize,
    /// Calls without a result yet, by the id given: the id here, and the tool's name.
    open: HashMap<String, VecDeque<(String, String)>>,
}

/// Reasoning and notes that an assistant's message may carry; its own baseline's.
const OWN_NOTES: [&str; 8] = [
    "name",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "thinking",
    "thinking_blocks",
    "annotations",
    "cache_control",
];

impl Conversation {
    fn message(&mut self, message: &Value, at: String) -> Result<(), Refusal> {
        let mut fields = Fields::of(message, at.clone())?;
        let role_at = fields.path("role");
        let role = fields.needed_text("role")?;
        if role != "tool" {
            self.refuse_open(&at)?;
        }
        match role {
            "system" | "developer" => {
                fields.leave_out(&["name", "cache_control"]);
                let text = texts(&mut fields)?.join("\n");
                self.say_system(text);
            }
            "user" => {
                fields.leave_out(&["name", "cache_control"]);
                let mut parts = Vec::new();
                for (at, given) in fields.items("content") {
                    parts.extend(part(given, at)?);
                }
                self.say_user(parts);
            }
            "assistant" => self.answer(&mut fields)?,
            "tool" => {
                fields.leave_out(&["name", "cache_control"]);
                self.result(&mut fields, &at)?;
            }
            _ => return Err(inexpressible(role_at, "an unknown role")),
        }
        fields.end_as("the candidate's API has no such field")
    }

    fn refuse_open(&self, at: &str) -> Result<(), Refusal> {
        match self.open.is_empty() {
            false => Err(inexpressible(at, "a tool call before it has no result")),
            true => Ok(()),
        }
    }

    fn say_system(&mut self, text: String) {
        if text.trim().is_empty() {
        } else if self.turns.is_empty() {
            self.system.push(text);
        } else {
            self.turns.push(Turn::System(text));
        }
    }

    fn say_user(&mut self, parts: Vec<Part>) {
        match self.turns.last_mut() {
            _ if parts.is_empty() => {}
            Some(Turn::User(said)) => said.extend(parts),
            _ => self.turns.push(Turn::User(parts)),
        }
    }

    fn answer(&mut self, fields: &mut Fields<'_>) -> Result<(), Refusal> {
        fields.leave_out(&OWN_NOTES);
        fields.refuse_unless("audio", "an answer other than text", is_off)?;
        fields.refuse_unless("function_call", "the legacy form of tools", is_off)?;
        // Pieces of one answer.
        let mut said = texts(fields)?.concat();
        said.extend(fields.text("refusal")?);
        let mut calls = Vec::new();
        for (at, call) in fields.items("tool_calls") {
            calls.push(self.call(call, at)?);
        }
        match self.turns.last_mut() {
            _ if said.trim().is_empty() && calls.is_empty() => {}
            // An answer told in several messages.
            Some(Turn::Assistant { text, calls: before }) => {
                if !text.is_empty() && !said.is_empty() {
                    text.push('\n');
                }
                text.push_str(&said);
                before.extend(calls);
            }
            _ => self.turns.push(Turn::Assistant { text: said, calls }),
        }
        Ok(())
    }

    fn call(&mut self, call: &Value, at: String) -> Result<Call, Refusal> {
        let mut fields = Fields::of(call, at.clone())?;
        fields.leave_out(&["index", "extra_content", "cache_control"]);
        match fields.text("type")? {
            None | Some("function") => {}
            Some(kind) => return Err(inexpressible(at, format!("a call of type `{kind}`"))),
        }
        let given = fields.text("id")?.unwrap_or_default().to_owned();
        let function_at = fields.path("function");
        let mut function = fields
            .object("function")?
            .ok_or_else(|| unreadable(&function_at, "missing"))?;
        let (name_at, arguments_at) = (function.path("name"), function.path("arguments"));
        let name = function.needed_text("name")?.to_owned();
        if !is_tool_name(&name) {
            return Err(inexpressible(name_at, "a name that not every API takes"));
        }
        let text = function.text("arguments")?.unwrap_or_default().to_owned();
        let read = arguments(&ToolCall {
            id: None,
            name: String::new(),
            arguments: text,
        });
        let arguments = read.ok_or_else(|| inexpressible(arguments_at, "arguments that are no object"))?;
        function.end()?;
        fields.end()?;
        let id = self.ids.next(&given, self.calls);
        self.calls += 1;
        self.open
            .entry(given)
            .or_default()
            .push_back((id.clone(), name.clone()));
        Ok(Call { id, name, arguments })
    }

    fn result(&mut self, fields: &mut Fields<'_>, at: &str) -> Result<(), Refusal> {
        let given = fields.needed_text("tool_call_id")?;
        let text = texts(fields)?.join("\n");
        let Entry::Occupied(mut open) = self.open.entry(given.to_owned()) else {
            return Err(inexpressible(at, "it answers no tool call"));
        };
        let called = open.get_mut().pop_front();
        if open.get().is_empty() {
            open.remove();
        }
        let (id, name) = called.ok_or_else(|| inexpressible(at, "it answers no tool call"))?;
        let result = ToolResult { id, name, text };
        match self.turns.last_mut() {
            Some(Turn::Results(results)) => results.push(result),
            _ => self.turns.push(Turn::Results(vec![result])),
        }
        Ok(())
    }

    fn end(self) -> Result<Asked, Refusal> {
        self.refuse_open("messages")?;
        match self.turns.last() {
            None => return Err(inexpressible("messages", "nothing but instructions")),
            Some(Turn::Assistant { .. }) => {
                return Err(inexpressible(
                    "messages",
                    "the answer goes on from a text of the client's",
                ));
            }
            Some(_) => {}
        }
        Ok(Asked {
            system: self.system,
            turns: self.turns,
            ..Asked::default()
        })
    }
}

/// Content that may be text alone. Parts of thinking are left out.
fn texts<'a>(fields: &mut Fields<'a>) -> Result<Vec<&'a str>, Refusal> {
    let mut texts = Vec::new();
    for (at, given) in fields.items("content") {
        if !matches!(given["type"].as_str(), Some("thinking" | "reasoning")) {
            texts.push(text(given, at)?);
        }
    }
    Ok(texts)
}

/// A part of text, or a text in place of a list of parts.
fn text(part: &Value, at: String) -> Result<&str, Refusal> {
    if let Some(text) = part.as_str() {
        return Ok(text);
    }
    let mut part = Fields::of(part, at.clone())?;
    let key = match part.needed_text("type")? {
        "text" => "text",
        "refusal" => "refusal",
        kind => return Err(inexpressible(at, format!("a part of type `{kind}`"))),
    };
    part.leave_out(&["cache_control"]);
    let text = part.needed_text(key)?;
    part.end()?;
    Ok(text)
}

/// A part of a user's message; none where it is blank.
fn part(given: &Value, at: String) -> Result<Option<Part>, Refusal> {
    if given["type"] != "image_url" {
        let text = text(given, at)?;
        return Ok((!text.trim().is_empty()).then(|| Part::Text(text.to_owned())));
    }
    let mut fields = Fields::of(given, at)?;
    fields.leave_out(&["type", "cache_control"]);
    let url_at = fields.path("image_url");
    // A few clients give the URL in place of the object.
    let (url, detail) = match fields.take("image_url") {
        Some(Value::String(url)) => (url.clone(), None),
        Some(object) => {
            let mut object = Fields::of(object, url_at.clone())?;
            let said = (
                object.needed_text("url")?.to_owned(),
                object.text("detail")?.map(Into::into),
            );
            object.end()?;
            said
        }
        None => return Err(unreadable(&url_at, "missing")),
    };
    fields.end()?;
    let Some(data) = url.strip_prefix("data:") else {
        return match url.starts_with("https://") || url.starts_with("http://") {
            true => Ok(Some(Part::ImageUrl { url, detail })),
            false => Err(inexpressible(
                url_at,
                "an image that is neither in the request nor on the web",
            )),
        };
    };
    let (head, data) = data.split_once(',').unwrap_or_default();
    let media_type = head.strip_suffix(";base64");
    let media_type = media_type.ok_or_else(|| inexpressible(url_at.as_str(), "an image that is not in base64"))?;
    let media_type = image_type(media_type, &url_at)?;
    let normal = data_url(media_type, data, &url_at)?;
    let data = normal
        .split_once(',')
        .map(|(_, data)| data.to_owned())
        .unwrap_or_default();
    Ok(Some(Part::Image {
        media_type,
        data,
        detail,
    }))
}

#[cfg(test)]
mod tests;
