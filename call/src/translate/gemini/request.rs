//! A generateContent request as a chat request.
//!
//! Left out, since they change nothing of what is asked of a candidate:
//! * thought parts and thought signatures of the history: they are the baseline's own, and only it can read them;
//! * `thinkingConfig`: how the baseline thinks. A candidate's reasoning is never shown;
//! * `safetySettings` that ask for no filter. One that asks for a filter is refused: a candidate has none;
//! * `labels`, `serviceTier`: how the baseline bills and serves.
//!
//! `topK` keeps its meaning under the name that SLM servers take it by, `top_k`.

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::fields::{Fields, inexpressible, is_off};
use super::super::parts::{content, data_url, image, image_type, text};
use super::super::tool_calls::{History, refuse_prefill};
use super::tools;
use crate::wire::gemini::json_schema;

/// Numbers that chat has by another name.
const NUMBERS: [(&str, &str); 4] = [
    ("temperature", "temperature"),
    ("topP", "top_p"),
    ("presencePenalty", "presence_penalty"),
    ("frequencyPenalty", "frequency_penalty"),
];

/// Whole numbers that chat has by another name; `topK` is a float here.
const INTEGERS: [(&str, &str); 3] = [("maxOutputTokens", "max_tokens"), ("topK", "top_k"), ("seed", "seed")];

/// The chat request that says the same.
pub(in crate::translate) fn request(body: &Value) -> Result<Value, Refusal> {
    let mut fields = Fields::camel(body, "")?;
    for state in ["cachedContent", "store"] {
        if fields.take(state).is_some_and(|value| !is_off(value)) {
            return Err(Refusal::StateAtProvider(state.into()));
        }
    }
    // The model comes from the path.
    fields.leave_out(&["model", "labels", "serviceTier"]);
    refuse_filters(&mut fields)?;

    let mut chat = Map::new();
    let mut images = None;
    if let Some(config) = fields.object("generationConfig")? {
        images = generation_config(config, &mut chat)?;
    }
    let mut messages = Vec::new();
    if let Some(system) = fields.object("systemInstruction")? {
        messages.extend(system_instruction(system)?);
    }
    let mut contents = Contents {
        messages,
        history: History::default(),
        detail: images,
    };
    for (at, turn) in fields.items("contents") {
        contents.turn(turn, at)?;
    }
    refuse_prefill(&contents.messages, "contents")?;
    let offered = tools::offered(&mut fields)?;
    fields.end()?;

    chat.insert("messages".into(), contents.messages.into());
    chat.extend(offered);
    Ok(chat.into())
}

/// A filter that blocks something can't be asked of a candidate.
fn refuse_filters(fields: &mut Fields<'_>) -> Result<(), Refusal> {
    for (at, setting) in fields.items("safetySettings") {
        let mut setting = Fields::camel(setting, at)?;
        setting.refuse_unless("threshold", "a filter of the provider's", |threshold| {
            matches!(threshold.as_str(), Some("BLOCK_NONE" | "OFF"))
        })?;
        setting.leave_out(&["category", "method"]);
        setting.end()?;
    }
    Ok(())
}

/// Writes the settings; gives the detail in which images are to be read.
fn generation_config(mut config: Fields<'_>, chat: &mut Map<String, Value>) -> Result<Option<&'static str>, Refusal> {
    for (name, chat_name) in NUMBERS {
        if let Some(number) = config.number(name)? {
            chat.insert(chat_name.into(), number.into());
        }
    }
    for (name, chat_name) in INTEGERS {
        if let Some(number) = config.integer(name)? {
            chat.insert(chat_name.into(), number.into());
        }
    }
    let stop = config.texts("stopSequences")?;
    if !stop.is_empty() {
        chat.insert("stop".into(), stop.into());
    }
    if let Some(format) = response_format(&mut config)? {
        chat.insert("response_format".into(), format);
    }
    let is_one = |value: &Value| value.as_f64() == Some(1.0);
    config.refuse_unless("candidateCount", "more than one answer", is_one)?;
    config.refuse_unless("responseModalities", "an answer other than text", |modalities| {
        let is_text = |modality: &Value| modality.as_str().is_some_and(|name| name.eq_ignore_ascii_case("text"));
        modalities.as_array().is_some_and(|all| all.iter().all(is_text))
    })?;
    config.refuse_unless("responseLogprobs", "chances of tokens", is_off)?;
    config.leave_out(&["logprobs"]);
    for off_only in ["audioTimestamp", "enableEnhancedCivicAnswers", "enableAffectiveDialog"] {
        config.refuse_unless(off_only, "chat has no such field", is_off)?;
    }
    config.leave_out(&["thinkingConfig"]);
    let detail = match config.text("mediaResolution")? {
        Some("MEDIA_RESOLUTION_LOW") => Some("low"),
        Some("MEDIA_RESOLUTION_HIGH" | "MEDIA_RESOLUTION_ULTRA_HIGH") => Some("high"),
        _ => None,
    };
    config.end()?;
    Ok(detail)
}

fn response_format(config: &mut Fields<'_>) -> Result<Option<Value>, Refusal> {
    let of_json_schema = config
        .take("responseJsonSchema")
        .or_else(|| config.take("_responseJsonSchema"))
        .cloned();
    let schema = of_json_schema.or_else(|| config.take("responseSchema").map(json_schema));
    let at = config.path("responseMimeType");
    match (config.text("responseMimeType")?, schema) {
        (None | Some("application/json"), Some(schema)) => Ok(Some(
            json!({"type": "json_schema", "json_schema": {"name": "response", "schema": schema}}),
        )),
        (Some("application/json"), None) => Ok(Some(json!({"type": "json_object"}))),
        (None | Some("text/plain" | ""), None) => Ok(None),
        _ => Err(inexpressible(at, "an answer of this media type")),
    }
}

fn system_instruction(mut system: Fields<'_>) -> Result<Option<Value>, Refusal> {
    system.leave_out(&["role"]);
    let mut texts = Vec::new();
    for (at, part) in system.items("parts") {
        let mut part = Fields::camel(part, at)?;
        texts.extend(part.text("text")?.map(text));
        part.end_as("no text")?;
    }
    system.end()?;
    Ok((!texts.is_empty()).then(|| json!({"role": "system", "content": content(texts)})))
}

/// The conversation as chat messages.
struct Contents {
    messages: Vec<Value>,
    history: History,
    detail: Option<&'static str>,
}

impl Contents {
    fn turn(&mut self, turn: &Value, at: String) -> Result<(), Refusal> {
        let mut fields = Fields::camel(turn, at)?;
        let role_at = fields.path("role");
        let role = fields.text("role")?.unwrap_or("user");
        let parts = fields.items("parts");
        fields.end()?;
        match role {
            "model" => self.model_turn(parts),
            "user" | "function" | "" => self.user_turn(parts),
            _ => Err(inexpressible(role_at, "an unknown role")),
        }
    }

    /// What the model said and called. SDKs keep each chunk of a stream as a turn of its own, and pieces of one text as
    /// parts: turns that follow one another are one message, and texts are joined without a gap.
    fn model_turn(&mut self, parts: Vec<(String, &Value)>) -> Result<(), Refusal> {
        let follows_itself = self
            .messages
            .last()
            .is_some_and(|message| message["role"] == "assistant");
        if !follows_itself {
            self.history.next_turn();
            self.messages.push(json!({"role": "assistant", "content": ""}));
        }
        let Some(message) = self.messages.last_mut() else {
            return Ok(());
        };
        let mut said = message["content"].as_str().unwrap_or_default().to_owned();
        let mut calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        for (at, part) in parts {
            let mut part = Fields::camel(part, at)?;
            part.leave_out(&["thoughtSignature"]);
            let is_thought = part.flag("thought")?;
            match part.text("text")? {
                Some(text) if !is_thought => said.push_str(text),
                _ => {}
            }
            if let Some(call) = part.object("functionCall")? {
                calls.push(tools::call(call, &mut self.history)?);
            }
            part.end_as("a part that only the baseline makes")?;
        }
        // As chat has it: no text beside calls is null.
        let is_silent = said.is_empty() && !calls.is_empty();
        message["content"] = if is_silent { Value::Null } else { said.into() };
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        Ok(())
    }

    /// What the person said and the tools gave. Chat wants results right after their calls, so they come first.
    fn user_turn(&mut self, parts: Vec<(String, &Value)>) -> Result<(), Refusal> {
        let mut said = Vec::new();
        let mut has_results = false;
        for (at, part) in parts {
            let mut part = Fields::camel(part, at)?;
            part.leave_out(&["thoughtSignature"]);
            part.refuse_unless("thought", "a thought that is not the model's", is_off)?;
            said.extend(part.text("text")?.map(text));
            if let Some(result) = part.object("functionResponse")? {
                self.messages.push(tools::result(result, &mut self.history)?);
                has_results = true;
            }
            if let Some(blob) = part.object("inlineData")? {
                said.push(image(&inline_image(blob)?, self.detail));
            }
            if let Some(file) = part.object("fileData")? {
                said.push(image(file_image(file)?, self.detail));
            }
            part.end_as("neither text, image nor result")?;
        }
        if !said.is_empty() || !has_results {
            self.messages.push(json!({"role": "user", "content": content(said)}));
        }
        Ok(())
    }
}

/// The data URL of an image in the request.
fn inline_image(mut blob: Fields<'_>) -> Result<String, Refusal> {
    let (type_at, data_at) = (blob.path("mimeType"), blob.path("data"));
    let media_type = image_type(blob.text("mimeType")?.unwrap_or_default(), &type_at)?;
    let data = blob.text("data")?.unwrap_or_default();
    blob.end()?;
    data_url(media_type, data, &data_at)
}

/// The URL of an image on the web; files at Google can be read by Google alone.
fn file_image(mut file: Fields<'_>) -> Result<&str, Refusal> {
    let (type_at, uri_at) = (file.path("mimeType"), file.path("fileUri"));
    let uri = file.text("fileUri")?.unwrap_or_default();
    let is_web = uri.starts_with("https://") || uri.starts_with("http://");
    if !is_web || uri.contains("://generativelanguage.googleapis.com/") {
        return Err(Refusal::StateAtProvider(uri_at));
    }
    image_type(file.text("mimeType")?.unwrap_or_default(), &type_at)?;
    file.end()?;
    Ok(uri)
}
