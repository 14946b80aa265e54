//! The chat request that says the same as a Converse request.
//!
//! Left out, since they change how a call is served, billed or told, not what is asked of a candidate: `cachePoint`,
//! `performanceConfig`, `requestMetadata`, `serviceTier`; and reasoning of the history, as well as how much to reason.
//! `top_k` of the models' own fields keeps its name, which SLM servers take it by.

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::fields::{Fields, inexpressible, is_off, unreadable};
use super::super::parts::{content, data_url, image, image_type, text};
use super::super::tool_calls::refuse_prefill;

/// Fields of one meaning and kind in both APIs, with chat's names.
const SAME: [(&str, &str); 4] = [
    ("maxTokens", "max_tokens"),
    ("temperature", "temperature"),
    ("topP", "top_p"),
    ("stopSequences", "stop"),
];

/// The chat request that says the same.
pub(in crate::translate) fn request(body: &Value) -> Result<Value, Refusal> {
    let mut fields = Fields::of(body, "")?;
    fields.leave_out(&["modelId", "performanceConfig", "requestMetadata", "serviceTier"]);
    fields.refuse_unless("guardrailConfig", "a filter of the provider's", is_off)?;
    fields.refuse_unless("promptVariables", "a prompt that the provider holds", is_off)?;
    fields.refuse_unless(
        "additionalModelResponseFieldPaths",
        "what only the baseline answers",
        is_off,
    )?;
    let mut chat = Map::new();
    chat.insert("messages".into(), messages(&mut fields)?.into());
    if let Some(mut config) = fields.object("inferenceConfig")? {
        for (key, name) in SAME {
            chat.extend(
                config
                    .take(key)
                    .filter(|value| !is_empty(value))
                    .map(|value| (name.to_owned(), value.clone())),
            );
        }
        config.end()?;
    }
    let has_tools = tools(&mut fields, &mut chat)?;
    own_fields(&mut fields, has_tools, &mut chat)?;
    if let Some(format) = response_format(&mut fields)? {
        chat.insert("response_format".into(), format);
    }
    fields.end()?;
    Ok(chat.into())
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// What the models take beside the API's own fields.
fn own_fields(fields: &mut Fields<'_>, has_tools: bool, chat: &mut Map<String, Value>) -> Result<(), Refusal> {
    let Some(mut own) = fields.object("additionalModelRequestFields")? else {
        return Ok(());
    };
    own.leave_out(&["anthropic_beta"]);
    chat.extend(own.take("top_k").map(|top_k| ("top_k".to_owned(), top_k.clone())));
    for key in ["thinking", "reasoning_config"] {
        let at = own.path(key);
        let Some(mut thinking) = own.object(key)? else { continue };
        if has_tools && !matches!(thinking.text("type")?, Some("disabled" | "adaptive")) {
            return Err(inexpressible(at, "a tool call without thinking could not go back"));
        }
    }
    own.end()
}

fn response_format(fields: &mut Fields<'_>) -> Result<Option<Value>, Refusal> {
    let Some(mut config) = fields.object("outputConfig")? else {
        return Ok(None);
    };
    let Some(mut format) = config.object("textFormat")? else {
        return config.end().map(|()| None);
    };
    let at = format.path("structure");
    let unknown = || inexpressible(at.as_str(), "an unknown format");
    format.leave_out(&["type"]);
    let mut structure = format.object("structure")?.ok_or_else(unknown)?;
    let mut schema = structure.object("jsonSchema")?.ok_or_else(unknown)?;
    schema.leave_out(&["description"]);
    let name = schema.text("name")?.unwrap_or("response");
    let given = match schema.take("schema") {
        Some(Value::String(text)) => crate::wire::parse_json(text.as_bytes()).map_err(|_| unknown())?,
        Some(given) => given.clone(),
        None => return Err(unknown()),
    };
    schema.end()?;
    structure.end()?;
    format.end()?;
    config.end()?;
    let named = json!({"name": name, "schema": given});
    Ok(Some(json!({"type": "json_schema", "json_schema": named})))
}

/// The tools offered, and the choice among them; whether there are any.
fn tools(fields: &mut Fields<'_>, chat: &mut Map<String, Value>) -> Result<bool, Refusal> {
    let Some(mut config) = fields.object("toolConfig")? else {
        return Ok(false);
    };
    let mut tools = Vec::new();
    for (at, tool) in config.items("tools") {
        let mut tool = Fields::of(tool, at)?;
        if tool.take("cachePoint").is_none() {
            let spec_at = tool.path("toolSpec");
            let spec = tool.object("toolSpec")?;
            tools.push(function(
                spec.ok_or_else(|| inexpressible(spec_at, "a tool of another kind"))?,
            )?);
        }
        tool.end()?;
    }
    if let Some(mut choice) = config.object("toolChoice")? {
        let said = match (choice.take("auto"), choice.take("any"), choice.object("tool")?) {
            (_, _, Some(mut named)) => {
                let name = named.needed_text("name")?;
                named.end()?;
                json!({"type": "function", "function": {"name": name}})
            }
            (_, Some(_), None) => "required".into(),
            _ => "auto".into(),
        };
        choice.end()?;
        chat.insert("tool_choice".into(), said);
    }
    config.end()?;
    let has_tools = !tools.is_empty();
    if has_tools {
        chat.insert("tools".into(), tools.into());
    }
    Ok(has_tools)
}

fn function(mut spec: Fields<'_>) -> Result<Value, Refusal> {
    let mut function = json!({"name": spec.needed_text("name")?});
    if let Some(description) = spec.text("description")? {
        function["description"] = description.into();
    }
    if let Some(mut schema) = spec.object("inputSchema")? {
        if let Some(json) = schema.take("json") {
            function["parameters"] = json.clone();
        }
        schema.end()?;
    }
    if let Some(strict) = spec.take("strict") {
        function["strict"] = strict.clone();
    }
    spec.end()?;
    Ok(json!({"type": "function", "function": function}))
}

fn messages(fields: &mut Fields<'_>) -> Result<Vec<Value>, Refusal> {
    let mut messages = Vec::new();
    let mut system = Vec::new();
    for (at, block) in fields.items("system") {
        system.extend(text_block(block, at)?);
    }
    if !system.is_empty() {
        messages.push(json!({"role": "system", "content": system.join("\n")}));
    }
    for (at, message) in fields.items("messages") {
        let mut message = Fields::of(message, at)?;
        let role_at = message.path("role");
        match message.needed_text("role")? {
            "user" => push_user(&mut messages, &mut message)?,
            "assistant" => messages.push(assistant(&mut message)?),
            _ => return Err(inexpressible(role_at, "an unknown role")),
        }
        message.end()?;
    }
    refuse_prefill(&messages, "messages")?;
    Ok(messages)
}

/// A block of text; none where it marks what is to be cached.
fn text_block(block: &Value, at: String) -> Result<Option<&str>, Refusal> {
    let mut block = Fields::of(block, at.clone())?;
    if block.take("cachePoint").is_some() {
        return block.end().map(|()| None);
    }
    let text = block.text("text")?;
    block.end_as("no text")?;
    text.map(Some).ok_or_else(|| inexpressible(at, "no text"))
}

/// Tool results come first, as both APIs ask, each as a message of its own.
fn push_user(messages: &mut Vec<Value>, message: &mut Fields<'_>) -> Result<(), Refusal> {
    let (mut parts, mut has_results) = (Vec::new(), false);
    for (at, block) in message.items("content") {
        let mut fields = Fields::of(block, at.clone())?;
        if let Some(result) = fields.object("toolResult")? {
            messages.push(tool_result(result)?);
            has_results = true;
        } else if let Some(given) = fields.object("image")? {
            parts.push(image(&image_url(given)?, None));
        } else {
            parts.extend(text_block(block, at)?.map(text));
        }
    }
    if !(has_results && parts.is_empty()) {
        messages.push(json!({"role": "user", "content": content(parts)}));
    }
    Ok(())
}

/// Chat has no flag for a tool's failure: the text says it.
fn tool_result(mut result: Fields<'_>) -> Result<Value, Refusal> {
    result.leave_out(&["type"]);
    let id = result.needed_text("toolUseId")?;
    let mut texts = Vec::new();
    for (at, block) in result.items("content") {
        let mut fields = Fields::of(block, at.clone())?;
        match fields.take("json") {
            Some(json) => texts.push(json.to_string()),
            None => texts.extend(text_block(block, at)?.map(Into::into)),
        }
    }
    let has_failed = result.text("status")? == Some("error");
    result.end()?;
    let said = format!("{}{}", if has_failed { "Error: " } else { "" }, texts.join("\n"));
    Ok(json!({"role": "tool", "tool_call_id": id, "content": said}))
}

fn image_url(mut given: Fields<'_>) -> Result<String, Refusal> {
    let (format_at, source_at) = (given.path("format"), given.path("source"));
    let kind = image_type(&format!("image/{}", given.needed_text("format")?), &format_at)?;
    let mut source = given
        .object("source")?
        .ok_or_else(|| unreadable(&source_at, "missing"))?;
    let bytes = source.text("bytes")?;
    source.end_as("an image that the provider holds")?;
    given.end()?;
    data_url(kind, bytes.unwrap_or_default(), &source_at)
}

fn assistant(message: &mut Fields<'_>) -> Result<Value, Refusal> {
    let (mut said, mut calls) = (String::new(), Vec::new());
    for (at, block) in message.items("content") {
        let mut fields = Fields::of(block, at.clone())?;
        if fields.take("reasoningContent").is_some() {
        } else if let Some(mut call) = fields.object("toolUse")? {
            call.refuse_unless("type", "the provider called the tool", |kind| kind != "server_tool_use")?;
            let (id, name) = (call.needed_text("toolUseId")?, call.needed_text("name")?);
            let arguments = call.take("input").map_or_else(|| "{}".into(), Value::to_string);
            call.end()?;
            calls.push(json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}));
        } else {
            said.push_str(text_block(block, at)?.unwrap_or_default());
        }
    }
    let is_silent = said.is_empty() && !calls.is_empty();
    let content: Value = if is_silent { Value::Null } else { said.into() };
    let mut written = json!({"role": "assistant", "content": content});
    if !calls.is_empty() {
        written["tool_calls"] = calls.into();
    }
    Ok(written)
}
