//! The chat request that says the same as an Anthropic request.
//!
//! Left out, since they change how a call is served, billed or cached, not what is asked of a candidate: `service_tier`,
//! `speed`, `cache_control`, `eager_input_streaming`, `betas`, `anthropic_version`; and of `metadata` all but the user.
//! `top_k` keeps its name, which SLM servers take it by.

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::fields::{Fields, inexpressible, is_off};
use super::super::parts::{content, data_url, image, image_type, text};
use super::super::tool_calls::refuse_prefill;

/// Fields of one meaning and kind in both APIs, with chat's names.
const SAME: [(&str, &str); 5] = [
    ("max_tokens", "max_tokens"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("stop_sequences", "stop"),
];

/// The chat request that says the same.
pub(in super::super) fn request(body: &Value) -> Result<Value, Refusal> {
    let mut fields = Fields::of(body, "")?;
    fields.leave_out(&[
        "model",
        "stream",
        "service_tier",
        "speed",
        "cache_control",
        "betas",
        "anthropic_version",
    ]);
    fields.refuse_unless("container", "a container of the provider's", is_off)?;
    fields.refuse_unless("mcp_servers", "tools that the provider calls", is_off)?;
    check_thinking(&mut fields)?;
    check_context_management(&mut fields)?;

    let mut chat = Map::new();
    chat.insert("messages".into(), messages(&mut fields)?.into());
    for (key, name) in SAME {
        chat.extend(fields.take(key).map(|value| (name.to_owned(), value.clone())));
    }
    if let Some(mut metadata) = fields.object("metadata")? {
        let user = metadata.take("user_id");
        chat.extend(user.map(|user| ("user".to_owned(), user.clone())));
    }
    let tools = fields.items("tools").into_iter().map(|(at, tool)| offered(tool, at));
    let tools: Vec<Value> = tools.collect::<Result<_, _>>()?;
    if !tools.is_empty() {
        chat.insert("tools".into(), tools.into());
    }
    if let Some(choice) = fields.object("tool_choice")? {
        choose(choice, &mut chat)?;
    }
    if let Some(format) = response_format(&mut fields)? {
        chat.insert("response_format".into(), format);
    }
    fields.end()?;
    Ok(chat.into())
}

/// See the [module's words](super) on thinking.
fn check_thinking(fields: &mut Fields<'_>) -> Result<(), Refusal> {
    let at = fields.path("thinking");
    let Some(mut thinking) = fields.object("thinking")? else {
        return Ok(());
    };
    let is_free = matches!(thinking.text("type")?, Some("disabled" | "adaptive"));
    if is_free || !fields.has("tools") {
        Ok(())
    } else {
        Err(inexpressible(at, "a tool call without thinking could not go back"))
    }
}

/// Edits of thinking alone are no matter to a candidate.
fn check_context_management(fields: &mut Fields<'_>) -> Result<(), Refusal> {
    let Some(mut management) = fields.object("context_management")? else {
        return Ok(());
    };
    for (at, edit) in management.items("edits") {
        let kind = Fields::of(edit, at.clone())?.needed_text("type")?;
        if !kind.starts_with("clear_thinking_") {
            return Err(inexpressible(at, "the provider edits the conversation"));
        }
    }
    management.end()
}

/// A tool that is offered.
fn offered(tool: &Value, at: String) -> Result<Value, Refusal> {
    let mut tool = Fields::of(tool, at.clone())?;
    match tool.text("type")? {
        None | Some("custom") => {}
        Some(kind) => return Err(inexpressible(at, format!("the provider's own tool `{kind}`"))),
    }
    tool.leave_out(&["cache_control", "eager_input_streaming"]);
    tool.refuse_unless("defer_loading", "the provider finds the tool", is_off)?;
    tool.refuse_unless("allowed_callers", "the provider calls the tool", |callers| {
        *callers == json!(["direct"])
    })?;
    let mut function = json!({"name": tool.needed_text("name")?});
    for (key, name) in [
        ("description", "description"),
        ("input_schema", "parameters"),
        ("strict", "strict"),
    ] {
        if let Some(value) = tool.take(key) {
            function[name] = value.clone();
        }
    }
    tool.end()?;
    Ok(json!({"type": "function", "function": function}))
}

fn choose(mut choice: Fields<'_>, chat: &mut Map<String, Value>) -> Result<(), Refusal> {
    let at = choice.path("type");
    let said = match choice.needed_text("type")? {
        "auto" => "auto".into(),
        "any" => "required".into(),
        "none" => "none".into(),
        "tool" => json!({"type": "function", "function": {"name": choice.needed_text("name")?}}),
        _ => return Err(inexpressible(at, "an unknown choice")),
    };
    chat.insert("tool_choice".into(), said);
    if choice.flag("disable_parallel_tool_use")? {
        chat.insert("parallel_tool_calls".into(), false.into());
    }
    choice.end()
}

/// `output_config.format`, or `output_format` as it was called in beta.
fn response_format(fields: &mut Fields<'_>) -> Result<Option<Value>, Refusal> {
    let mut format = fields.object("output_format")?;
    if let Some(mut config) = fields.object("output_config")? {
        // How much the baseline is to think.
        config.leave_out(&["effort"]);
        format = config.object("format")?.or(format);
        config.end()?;
    }
    let Some(mut format) = format else {
        return Ok(None);
    };
    let at = format.path("type");
    let (kind, schema) = (format.needed_text("type")?, format.take("schema"));
    format.end()?;
    match (kind, schema) {
        ("json_schema", Some(schema)) => {
            // Chat asks for a name; the API's schemas are always strict.
            let named = json!({"name": "answer", "strict": true, "schema": schema});
            Ok(Some(json!({"type": "json_schema", "json_schema": named})))
        }
        _ => Err(inexpressible(at, "an unknown format")),
    }
}

fn messages(fields: &mut Fields<'_>) -> Result<Vec<Value>, Refusal> {
    let mut messages = Vec::new();
    if fields.has("system") {
        messages.push(json!({"role": "system", "content": text_alone(fields, "system")?}));
    }
    for (at, message) in fields.items("messages") {
        let mut message = Fields::of(message, at)?;
        let role_at = message.path("role");
        match message.needed_text("role")? {
            "user" => push_user(&mut messages, &mut message)?,
            "assistant" => messages.push(assistant(&mut message)?),
            "system" => messages.push(json!({"role": "system", "content": text_alone(&mut message, "content")?})),
            _ => return Err(inexpressible(role_at, "an unknown role")),
        }
        message.end()?;
    }
    refuse_prefill(&messages, "messages")?;
    Ok(messages)
}

/// Content that may be text alone, as one text.
fn text_alone(message: &mut Fields<'_>, key: &str) -> Result<String, Refusal> {
    let blocks = message.items(key).into_iter();
    let texts: Vec<&str> = blocks
        .map(|(at, block)| text_block(block, at))
        .collect::<Result<_, _>>()?;
    Ok(texts.join("\n"))
}

/// A block of text, or a text in place of a list of blocks.
fn text_block(block: &Value, at: String) -> Result<&str, Refusal> {
    if let Some(text) = block.as_str() {
        return Ok(text);
    }
    let mut block = Fields::of(block, at.clone())?;
    let kind = block.needed_text("type")?;
    if kind != "text" {
        return Err(inexpressible(at, format!("a block of type `{kind}`")));
    }
    block.leave_out(&["cache_control"]);
    block.refuse_unless("citations", "citations", is_off)?;
    let text = block.needed_text("text")?;
    block.end()?;
    Ok(text)
}

fn kind(block: &Value) -> &str {
    block.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Tool results come first, as both APIs ask, each as a message of its own.
fn push_user(messages: &mut Vec<Value>, message: &mut Fields<'_>) -> Result<(), Refusal> {
    let blocks = message.items("content").into_iter();
    let (results, others): (Vec<_>, Vec<_>) = blocks.partition(|(_, block)| kind(block) == "tool_result");
    let has_results = !results.is_empty();
    for (at, result) in results {
        messages.push(tool_result(result, at)?);
    }
    let parts: Vec<Value> = others
        .into_iter()
        .map(|(at, block)| part(block, at))
        .collect::<Result<_, _>>()?;
    if !(has_results && parts.is_empty()) {
        messages.push(json!({"role": "user", "content": content(parts)}));
    }
    Ok(())
}

/// Chat has no flag for a tool's failure: the text says it.
fn tool_result(result: &Value, at: String) -> Result<Value, Refusal> {
    let mut result = Fields::of(result, at)?;
    result.leave_out(&["type", "cache_control"]);
    let id = result.needed_text("tool_use_id")?;
    let text = text_alone(&mut result, "content")?;
    let said = if result.flag("is_error")? {
        format!("Error: {text}")
    } else {
        text
    };
    result.end()?;
    Ok(json!({"role": "tool", "tool_call_id": id, "content": said}))
}

/// A part of a user's message.
fn part(block: &Value, at: String) -> Result<Value, Refusal> {
    if kind(block) != "image" {
        return Ok(text(text_block(block, at)?));
    }
    let mut block = Fields::of(block, at)?;
    block.leave_out(&["type", "cache_control"]);
    let source_at = block.path("source");
    let url = match block.object("source")? {
        Some(source) => image_url(source, source_at)?,
        None => return Err(inexpressible(source_at, "an image without a source")),
    };
    block.end()?;
    Ok(image(&url, None))
}

fn image_url(mut source: Fields<'_>, at: String) -> Result<String, Refusal> {
    let url = match source.needed_text("type")? {
        "base64" => {
            let media_type = image_type(source.needed_text("media_type")?, &at)?;
            data_url(media_type, source.needed_text("data")?, &at)?
        }
        "url" => source.needed_text("url")?.to_owned(),
        _ => return Err(inexpressible(at, "an image that the provider holds")),
    };
    source.end()?;
    Ok(url)
}

fn assistant(message: &mut Fields<'_>) -> Result<Value, Refusal> {
    let mut texts = Vec::new();
    let mut calls = Vec::new();
    for (at, block) in message.items("content") {
        match kind(block) {
            "thinking" | "redacted_thinking" => {}
            "tool_use" => calls.push(tool_use(block, at)?),
            _ => texts.push(text_block(block, at)?),
        }
    }
    let text = texts.join("\n");
    let is_silent = text.is_empty() && !calls.is_empty();
    let content: Value = if is_silent { Value::Null } else { text.into() };
    let mut written = json!({"role": "assistant", "content": content});
    if !calls.is_empty() {
        written["tool_calls"] = calls.into();
    }
    Ok(written)
}

fn tool_use(block: &Value, at: String) -> Result<Value, Refusal> {
    let mut block = Fields::of(block, at)?;
    block.leave_out(&["type", "cache_control"]);
    block.refuse_unless("caller", "the provider called the tool", |caller| {
        kind(caller) == "direct"
    })?;
    let (id, name) = (block.needed_text("id")?, block.needed_text("name")?);
    let arguments = block.take("input").map_or_else(|| "{}".into(), Value::to_string);
    block.end()?;
    Ok(json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}))
}
