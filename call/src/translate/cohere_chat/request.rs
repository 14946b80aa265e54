//! A v2 chat request of Cohere's as an OpenAI chat request.
//!
//! Left out, since they change nothing of what is asked of a candidate:
//! * `thinking`, and in the history thoughts and tool plans: reasoning is the baseline's own, and a candidate's is never
//!   shown;
//! * `citations` of the history: they say where a text came from, and the text is there;
//! * `priority`: how the baseline serves;
//! * a `safety_mode` that is the default or none, citations turned off.
//!
//! `k` keeps its meaning under the name that SLM servers take it by, `top_k`.

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::fields::{Fields, inexpressible, is_off, unreadable};
use super::super::parts::{content, image, text};
use super::super::tool_calls::{History, refuse_prefill};

/// Numbers that chat has too.
const NUMBERS: [(&str, &str); 6] = [
    ("max_tokens", "max_tokens"),
    ("temperature", "temperature"),
    ("p", "top_p"),
    ("seed", "seed"),
    ("frequency_penalty", "frequency_penalty"),
    ("presence_penalty", "presence_penalty"),
];

/// The chat request that says the same.
pub(in crate::translate) fn request(body: &Value) -> Result<Value, Refusal> {
    let mut fields = Fields::of(body, "")?;
    for older in ["message", "chat_history"] {
        fields.refuse(older, "the older API, v1")?;
    }
    fields.leave_out(&["model", "stream", "thinking", "priority"]);
    refuse_extras(&mut fields)?;

    let mut chat = Map::new();
    chat.insert("messages".into(), messages(&mut fields)?.into());
    offer_tools(&mut fields, &mut chat)?;
    if let Some(format) = fields.object("response_format")?
        && let Some(format) = response_format(format)?
    {
        chat.insert("response_format".into(), format);
    }
    for (name, chat_name) in NUMBERS {
        if let Some(number) = fields.number(name)? {
            chat.insert(chat_name.into(), number.into());
        }
    }
    // 0 turns it off.
    if let Some(k) = fields.number("k")?.filter(|k| k.as_f64() != Some(0.0)) {
        chat.insert("top_k".into(), k.into());
    }
    let stop = fields.texts("stop_sequences")?;
    if !stop.is_empty() {
        chat.insert("stop".into(), stop.into());
    }
    fields.end()?;
    Ok(chat.into())
}

fn refuse_extras(fields: &mut Fields<'_>) -> Result<(), Refusal> {
    fields.refuse_unless("documents", "documents to cite", is_off)?;
    fields.refuse_unless("logprobs", "chances of tokens", is_off)?;
    fields.refuse_unless("raw_prompting", "a prompt without a template", is_off)?;
    fields.refuse_unless("return_prompt", "the prompt in the answer", is_off)?;
    fields.refuse_unless("safety_mode", "instructions of the provider's", |mode| {
        matches!(mode.as_str(), Some("CONTEXTUAL" | "OFF" | "NONE"))
    })?;
    if let Some(mut citations) = fields.object("citation_options")? {
        citations.refuse_unless("mode", "citations", |mode| {
            let is_off = |mode: &str| mode.eq_ignore_ascii_case("off") || mode.eq_ignore_ascii_case("disabled");
            mode.as_str().is_some_and(is_off)
        })?;
        citations.end()?;
    }
    Ok(())
}

fn messages(fields: &mut Fields<'_>) -> Result<Vec<Value>, Refusal> {
    let mut history = History::default();
    let mut messages: Vec<Value> = Vec::new();
    for (at, message) in fields.items("messages") {
        let mut message = Fields::of(message, at.clone())?;
        let role_at = message.path("role");
        let role = message.text("role")?.unwrap_or_default().to_ascii_lowercase();
        let parts = parts(&mut message, &role)?;
        let written = match role.as_str() {
            "system" | "user" => json!({"role": role, "content": content(parts)}),
            "assistant" => {
                if messages.last().is_none_or(|last| last["role"] != "assistant") {
                    history.next_turn();
                }
                assistant(parts, &mut message, &mut history)?
            }
            "tool" => {
                let id_at = message.path("tool_call_id");
                let id = message.text("tool_call_id")?.unwrap_or_default();
                // No call has an empty name: the id alone counts.
                let said = content(parts).as_str().unwrap_or_default().to_owned();
                history.answered(Some(id), Some(""), said, &id_at)?
            }
            _ => return Err(inexpressible(role_at, "an unknown role")),
        };
        message.end()?;
        messages.push(written);
    }
    refuse_prefill(&messages, "messages")?;
    Ok(messages)
}

/// The content as chat parts.
fn parts(message: &mut Fields<'_>, role: &str) -> Result<Vec<Value>, Refusal> {
    let mut parts = Vec::new();
    for (at, part) in message.items("content") {
        if let Some(plain) = part.as_str() {
            parts.push(text(plain));
            continue;
        }
        let mut part = Fields::of(part, at)?;
        let type_at = part.path("type");
        match (part.text("type")?.unwrap_or_default(), role) {
            ("text", _) => parts.push(text(part.text("text")?.unwrap_or_default())),
            ("image_url", "user") => parts.extend(image_part(&mut part)?),
            ("thinking", "assistant") => part.leave_out(&["thinking"]),
            ("document", "tool") => parts.extend(document(&mut part)?),
            _ => return Err(inexpressible(type_at, "a part that chat does not have here")),
        }
        part.end()?;
    }
    Ok(parts)
}

fn image_part(part: &mut Fields<'_>) -> Result<Option<Value>, Refusal> {
    let Some(mut given) = part.object("image_url")? else {
        return Ok(None);
    };
    let url = given.text("url")?.unwrap_or_default();
    let detail = given.text("detail")?;
    given.end()?;
    Ok(Some(image(url, detail)))
}

/// A tool's result given as a document: its data; with an id of its own, all of it.
fn document(part: &mut Fields<'_>) -> Result<Option<Value>, Refusal> {
    let Some(document) = part.take("document") else {
        return Ok(None);
    };
    let is_data_alone = document.as_object().is_some_and(|fields| fields.len() == 1);
    let shown = document.get("data").filter(|_| is_data_alone).unwrap_or(document);
    let shown = shown.as_str().map_or_else(|| shown.to_string(), Into::into);
    Ok(Some(text(&shown)))
}

fn assistant(parts: Vec<Value>, message: &mut Fields<'_>, history: &mut History) -> Result<Value, Refusal> {
    message.leave_out(&["citations", "tool_plan"]);
    let mut calls = Vec::new();
    for (at, call) in message.items("tool_calls") {
        let mut call = Fields::of(call, at)?;
        call.refuse_unless("type", "a call of no function", |kind| kind == "function")?;
        let id = call.text("id")?;
        let function_at = call.path("function");
        let function = call.object("function")?;
        let mut function = function.ok_or_else(|| unreadable(&function_at, "missing"))?;
        let name = function.text("name")?.unwrap_or_default();
        let arguments = function
            .text("arguments")?
            .filter(|text| !text.is_empty())
            .unwrap_or("{}");
        function.end()?;
        call.end()?;
        calls.push(history.called(id, name, arguments.to_owned()));
    }
    let is_silent = parts.is_empty() && !calls.is_empty();
    let content = if is_silent { Value::Null } else { content(parts) };
    let mut written = json!({"role": "assistant", "content": content});
    if !calls.is_empty() {
        written["tool_calls"] = calls.into();
    }
    Ok(written)
}

fn offer_tools(fields: &mut Fields<'_>, chat: &mut Map<String, Value>) -> Result<(), Refusal> {
    let is_strict = fields.flag("strict_tools")?;
    let mut tools = Vec::new();
    for (at, tool) in fields.items("tools") {
        let mut tool = Fields::of(tool, at)?;
        tool.refuse_unless("type", "a tool that is no function", |kind| kind == "function")?;
        let function_at = tool.path("function");
        let function = tool
            .take("function")
            .ok_or_else(|| unreadable(&function_at, "missing"))?;
        tool.end()?;
        let mut known = Fields::of(function, function_at)?;
        known.leave_out(&["name", "description", "parameters"]);
        known.end()?;
        let mut written = json!({"type": "function", "function": function});
        if is_strict {
            written["function"]["strict"] = true.into();
        }
        tools.push(written);
    }
    let choice_at = fields.path("tool_choice");
    let choice = match fields.text("tool_choice")?.map(str::to_ascii_uppercase).as_deref() {
        None => None,
        Some("REQUIRED") if tools.is_empty() => return Err(inexpressible(choice_at, "a call, and no tools")),
        Some("REQUIRED") => Some("required"),
        Some("NONE") => Some("none"),
        Some(_) => return Err(inexpressible(choice_at, "an unknown choice")),
    };
    if !tools.is_empty() {
        chat.insert("tools".into(), tools.into());
        chat.extend(choice.map(|choice| ("tool_choice".to_owned(), choice.into())));
    }
    Ok(())
}

fn response_format(mut format: Fields<'_>) -> Result<Option<Value>, Refusal> {
    let type_at = format.path("type");
    let kind = format.text("type")?.unwrap_or_default();
    // `schema` is the older name.
    let schema = format.take("json_schema").or_else(|| format.take("schema"));
    format.end()?;
    match (kind, schema) {
        ("text", None) => Ok(None),
        ("json_object", None) => Ok(Some(json!({"type": "json_object"}))),
        ("json_object", Some(schema)) => Ok(Some(
            json!({"type": "json_schema", "json_schema": {"name": "response", "schema": schema}}),
        )),
        _ => Err(inexpressible(type_at, "an unknown format")),
    }
}
