//! A chat request of Ollama's as an OpenAI chat request.
//!
//! Left out, since they change nothing of what is asked of a candidate:
//! * `thinking` of the history and `think`: reasoning is the baseline's own, and a candidate's is never shown;
//! * `keep_alive` and the options that say how the server runs the model (threads, batches, memory);
//! * options whose value turns them off.
//!
//! `top_k` and `min_p` keep their names: SLM servers take them in chat.

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::fields::{Fields, inexpressible, is_off, unreadable};
use super::super::parts::{content, data_url, image, image_type_of_base64, text};
use super::super::tool_calls::{History, refuse_prefill};

/// Options that chat has by the same name.
const SAME: [&str; 7] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
];

/// How the server runs the model.
const RUNNING: [&str; 9] = [
    "numa",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "low_vram",
    "f16_kv",
    "use_mmap",
    "use_mlock",
    "num_thread",
];

/// The chat request that says the same.
pub(in crate::translate) fn request(body: &Value) -> Result<Value, Refusal> {
    let mut fields = Fields::of(body, "")?;
    fields.leave_out(&["model", "stream", "keep_alive", "think"]);
    let mut chat = Map::new();
    chat.insert("messages".into(), messages(&mut fields)?.into());
    let tools = tools(&mut fields)?;
    if !tools.is_empty() {
        chat.insert("tools".into(), tools.into());
    }
    if let Some(format) = response_format(&mut fields)? {
        chat.insert("response_format".into(), format);
    }
    if let Some(options) = fields.object("options")? {
        chat.extend(self::options(options)?);
    }
    fields.refuse_unless("logprobs", "chances of tokens", is_off)?;
    fields.leave_out(&["top_logprobs"]);
    fields.end()?;
    Ok(chat.into())
}

fn messages(fields: &mut Fields<'_>) -> Result<Vec<Value>, Refusal> {
    let mut history = History::default();
    let mut messages: Vec<Value> = Vec::new();
    for (at, message) in fields.items("messages") {
        let mut message = Fields::of(message, at.clone())?;
        let role_at = message.path("role");
        let role = message.text("role")?.unwrap_or_default();
        let said = message.text("content")?.unwrap_or_default();
        let written = match role {
            "system" => json!({"role": "system", "content": said}),
            "user" => json!({"role": "user", "content": user_content(said, &mut message)?}),
            "assistant" => {
                // Turns of the model that follow one another are one step.
                if messages.last().is_none_or(|last| last["role"] != "assistant") {
                    history.next_turn();
                }
                assistant(said, &mut message, &mut history)?
            }
            "tool" => {
                let id = message.text("tool_call_id")?.filter(|id| !id.is_empty());
                let named = message.text("tool_name")?.or(message.text("name")?);
                let name = named.filter(|name| !name.is_empty());
                history.answered(id, name, said.to_owned(), &at)?
            }
            _ => return Err(inexpressible(role_at, "an unknown role")),
        };
        for empty in ["images", "tool_calls"] {
            message.refuse_unless(empty, "not in a message of this role", is_off)?;
        }
        message.end()?;
        messages.push(written);
    }
    refuse_prefill(&messages, "messages")?;
    Ok(messages)
}

fn user_content(said: &str, message: &mut Fields<'_>) -> Result<Value, Refusal> {
    let images = message.items("images");
    let mut parts = Vec::new();
    if images.is_empty() || !said.is_empty() {
        parts.push(text(said));
    }
    for (at, data) in images {
        let data = data.as_str().unwrap_or_default();
        let kind = image_type_of_base64(data).ok_or_else(|| inexpressible(at.as_str(), "an image of this kind"))?;
        parts.push(image(&data_url(kind, data, &at)?, None));
    }
    Ok(content(parts))
}

fn assistant(said: &str, message: &mut Fields<'_>, history: &mut History) -> Result<Value, Refusal> {
    message.leave_out(&["thinking"]);
    let mut calls = Vec::new();
    for (at, call) in message.items("tool_calls") {
        let mut call = Fields::of(call, at)?;
        call.leave_out(&["type"]);
        let id = call.text("id")?;
        let function_at = call.path("function");
        let function = call.object("function")?;
        let mut function = function.ok_or_else(|| unreadable(&function_at, "missing"))?;
        function.leave_out(&["index"]);
        let name = function.text("name")?.unwrap_or_default();
        let arguments = match function.take("arguments") {
            None => "{}".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(arguments) => arguments.to_string(),
        };
        function.end()?;
        call.end()?;
        calls.push(history.called(id, name, arguments));
    }
    if calls.is_empty() {
        return Ok(json!({"role": "assistant", "content": said}));
    }
    let content = if said.is_empty() { Value::Null } else { said.into() };
    Ok(json!({"role": "assistant", "content": content, "tool_calls": calls}))
}

/// Ollama's tools are chat's.
fn tools(fields: &mut Fields<'_>) -> Result<Vec<Value>, Refusal> {
    let mut tools = Vec::new();
    for (at, tool) in fields.items("tools") {
        let mut fields = Fields::of(tool, at)?;
        fields.refuse_unless("type", "a tool that is no function", |kind| kind == "function")?;
        let function_at = fields.path("function");
        let function = fields
            .take("function")
            .ok_or_else(|| unreadable(&function_at, "missing"))?;
        fields.refuse_unless("items", "chat has no such field", is_off)?;
        fields.end()?;
        let mut known = Fields::of(function, function_at)?;
        known.leave_out(&["name", "description", "parameters", "strict"]);
        known.end()?;
        tools.push(json!({"type": "function", "function": function}));
    }
    Ok(tools)
}

fn response_format(fields: &mut Fields<'_>) -> Result<Option<Value>, Refusal> {
    match fields.take("format") {
        None => Ok(None),
        Some(Value::String(format)) if format.is_empty() => Ok(None),
        Some(Value::String(format)) if format == "json" => Ok(Some(json!({"type": "json_object"}))),
        Some(schema @ Value::Object(_)) => Ok(Some(
            json!({"type": "json_schema", "json_schema": {"name": "response", "schema": schema}}),
        )),
        Some(_) => Err(inexpressible("format", "neither `json` nor a schema")),
    }
}

fn options(mut options: Fields<'_>) -> Result<Map<String, Value>, Refusal> {
    let mut chat = Map::new();
    for name in SAME {
        if let Some(number) = options.number(name)? {
            chat.insert(name.into(), number.into());
        }
    }
    // Negative: without a limit.
    if let Some(limit) = options.integer("num_predict")?.filter(|limit| *limit >= 0) {
        chat.insert("max_tokens".into(), limit.into());
    }
    let stop = options.texts("stop")?;
    if !stop.is_empty() {
        chat.insert("stop".into(), stop.into());
    }
    options.leave_out(&RUNNING);
    let what = "chat has no such option";
    options.refuse_unless("mirostat", what, is_off)?;
    options.leave_out(&["mirostat_tau", "mirostat_eta"]);
    let is_one = |value: &Value| value.as_f64() == Some(1.0);
    if options.has("repeat_penalty") {
        options.refuse_unless("repeat_penalty", what, is_one)?;
        options.leave_out(&["repeat_last_n", "penalize_newline"]);
    }
    for name in ["typical_p", "tfs_z"] {
        options.refuse_unless(name, what, is_one)?;
    }
    for name in ["logits_all", "vocab_only", "embedding_only"] {
        options.refuse_unless(name, what, is_off)?;
    }
    options.end_as(what)?;
    Ok(chat)
}
