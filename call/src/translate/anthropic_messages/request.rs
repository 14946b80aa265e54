//! The chat request that says the same as an Anthropic request.

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::reading::{Object, unreadable};

/// Fields that are translated, or looked at.
const TRANSLATED: [&str; 15] = [
    "max_tokens",
    "messages",
    "model",
    "stream",
    "system",
    "tools",
    "tool_choice",
    "stop_sequences",
    "temperature",
    "top_p",
    "output_config",
    "output_format",
    "metadata",
    "thinking",
    "context_management",
];
/// Fields that change how a call is served or billed, not what it answers.
const DROPPED: [&str; 5] = ["anthropic_version", "betas", "cache_control", "service_tier", "speed"];

/// The chat request that says the same.
pub(in super::super) fn request(body: &Value) -> Result<Value, Refusal> {
    let body = Object::new(body, "")?;
    body.allow(&[&TRANSLATED, &DROPPED])?;
    check_thinking(&body)?;
    check_context_management(&body)?;
    let mut chat = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            chat.insert(key.into(), value);
        }
    };
    set("messages", Some(messages(&body)?.into()));
    set("max_tokens", body.get("max_tokens").cloned());
    set("temperature", body.get("temperature").cloned());
    set("top_p", body.get("top_p").cloned());
    set("stop", body.get("stop_sequences").cloned());
    set("user", user(&body)?);
    let tools: Vec<Value> = body.objects("tools")?.iter().map(tool).collect::<Result<_, _>>()?;
    set("tools", (!tools.is_empty()).then(|| tools.into()));
    if let Some(choice) = body.object("tool_choice")? {
        set("tool_choice", Some(tool_choice(&choice)?));
        let is_single = choice.flag("disable_parallel_tool_use")?;
        set("parallel_tool_calls", is_single.then(|| false.into()));
    }
    set("response_format", response_format(&body)?);
    Ok(chat.into())
}

/// See the [module's words](super) on thinking.
fn check_thinking(body: &Object<'_>) -> Result<(), Refusal> {
    let kind = body.object("thinking")?.map_or("disabled", |thinking| thinking.kind());
    let is_free = matches!(kind, "disabled" | "adaptive");
    if is_free || body.get("tools").is_none() {
        Ok(())
    } else {
        Err(body.refuse("thinking", "a tool call without thinking could not go back"))
    }
}

/// Edits of thinking alone are no matter to a candidate.
fn check_context_management(body: &Object<'_>) -> Result<(), Refusal> {
    let Some(management) = body.object("context_management")? else {
        return Ok(());
    };
    management.allow(&[&["edits"]])?;
    for edit in management.objects("edits")? {
        if !edit.kind().starts_with("clear_thinking_") {
            return Err(edit.refuse_all("the provider edits the conversation"));
        }
    }
    Ok(())
}

fn user(body: &Object<'_>) -> Result<Option<Value>, Refusal> {
    let Some(metadata) = body.object("metadata")? else {
        return Ok(None);
    };
    Ok(metadata.get("user_id").cloned())
}

fn tool(tool: &Object<'_>) -> Result<Value, Refusal> {
    if !matches!(tool.kind(), "" | "custom") {
        return Err(tool.refuse_all(format!("the provider's own tool `{}`", tool.kind())));
    }
    let known = ["type", "name", "description", "input_schema", "strict"];
    tool.allow(&[
        &known,
        &[
            "cache_control",
            "eager_input_streaming",
            "defer_loading",
            "allowed_callers",
        ],
    ])?;
    if tool.flag("defer_loading")? {
        return Err(tool.refuse("defer_loading", "the provider finds the tool"));
    }
    if tool
        .get("allowed_callers")
        .is_some_and(|callers| *callers != json!(["direct"]))
    {
        return Err(tool.refuse("allowed_callers", "the provider calls the tool"));
    }
    let mut function = json!({"name": tool.needed_text("name")?});
    for (key, given) in [
        ("description", "description"),
        ("parameters", "input_schema"),
        ("strict", "strict"),
    ] {
        if let Some(value) = tool.get(given) {
            function[key] = value.clone();
        }
    }
    Ok(json!({"type": "function", "function": function}))
}

fn tool_choice(choice: &Object<'_>) -> Result<Value, Refusal> {
    choice.allow(&[&["type", "name", "disable_parallel_tool_use"]])?;
    Ok(match choice.kind() {
        "auto" => "auto".into(),
        "any" => "required".into(),
        "none" => "none".into(),
        "tool" => json!({"type": "function", "function": {"name": choice.needed_text("name")?}}),
        _ => return Err(choice.refuse_all("an unknown tool choice")),
    })
}

/// `output_config.format`, or `output_format` as it was called in beta.
fn response_format(body: &Object<'_>) -> Result<Option<Value>, Refusal> {
    let config = body.object("output_config")?;
    let format = match &config {
        Some(config) => {
            config.allow(&[&["format", "effort"]])?;
            config.object("format")?
        }
        None => None,
    };
    let Some(format) = format.map_or_else(|| body.object("output_format"), |format| Ok(Some(format)))? else {
        return Ok(None);
    };
    format.allow(&[&["type", "schema"]])?;
    match (format.kind(), format.get("schema")) {
        ("json_schema", Some(schema)) => {
            // Chat asks for a name; the API's schemas are always strict.
            let named = json!({"name": "answer", "strict": true, "schema": schema});
            Ok(Some(json!({"type": "json_schema", "json_schema": named})))
        }
        _ => Err(format.refuse_all("an unknown output format")),
    }
}

fn messages(body: &Object<'_>) -> Result<Vec<Value>, Refusal> {
    let mut messages = Vec::new();
    if body.get("system").is_some() {
        messages.push(json!({"role": "system", "content": text_alone(body, "system")?}));
    }
    let given = body.objects("messages")?;
    for message in &given {
        message.allow(&[&["role", "content"]])?;
        match message.needed_text("role")? {
            "user" => push_user(&mut messages, message)?,
            "assistant" => messages.push(assistant(message)?),
            "system" => messages.push(json!({"role": "system", "content": text_alone(message, "content")?})),
            _ => return Err(message.refuse("role", "an unknown role")),
        }
    }
    match given.last() {
        Some(last) if last.text("role")? == Some("assistant") => {
            Err(last.refuse_all("the answer goes on from a text of the client's"))
        }
        _ => Ok(messages),
    }
}

/// Content that may be text alone.
fn text_alone(message: &Object<'_>, key: &str) -> Result<String, Refusal> {
    let texts: Result<Vec<&str>, Refusal> = match message.get(key) {
        Some(Value::String(text)) => return Ok(text.clone()),
        _ => message.objects(key)?.iter().map(text_block).collect(),
    };
    Ok(texts?.join("\n"))
}

fn text_block<'a>(block: &Object<'a>) -> Result<&'a str, Refusal> {
    if block.kind() != "text" {
        return Err(block.refuse_all(format!("a block of type `{}`", block.kind())));
    }
    block.allow(&[&["type", "text", "cache_control"]])?;
    block.needed_text("text")
}

/// Tool results come first, as both APIs ask, each as a message of its own.
fn push_user(messages: &mut Vec<Value>, message: &Object<'_>) -> Result<(), Refusal> {
    if let Some(Value::String(text)) = message.get("content") {
        messages.push(json!({"role": "user", "content": text}));
        return Ok(());
    }
    let (results, others): (Vec<_>, Vec<_>) = message
        .objects("content")?
        .into_iter()
        .partition(|block| block.kind() == "tool_result");
    for result in &results {
        messages.push(tool_result(result)?);
    }
    if !others.is_empty() || results.is_empty() {
        let parts: Vec<Value> = others.iter().map(part).collect::<Result<_, _>>()?;
        messages.push(json!({"role": "user", "content": text_or_parts(parts)}));
    }
    Ok(())
}

/// Chat has no flag for a tool's failure: the text says it.
fn tool_result(result: &Object<'_>) -> Result<Value, Refusal> {
    result.allow(&[&["type", "tool_use_id", "content", "is_error", "cache_control"]])?;
    let text = text_alone(result, "content")?;
    let content = if result.flag("is_error")? {
        format!("Error: {text}")
    } else {
        text
    };
    Ok(json!({"role": "tool", "tool_call_id": result.needed_text("tool_use_id")?, "content": content}))
}

/// A part of a user's message.
fn part(block: &Object<'_>) -> Result<Value, Refusal> {
    match block.kind() {
        "image" => {
            block.allow(&[&["type", "source", "cache_control"]])?;
            let source = block
                .object("source")?
                .ok_or_else(|| unreadable(&block.place("source"), "an object"))?;
            Ok(json!({"type": "image_url", "image_url": {"url": image_url(&source)?}}))
        }
        _ => Ok(json!({"type": "text", "text": text_block(block)?})),
    }
}

fn image_url(source: &Object<'_>) -> Result<String, Refusal> {
    match source.kind() {
        "base64" => {
            source.allow(&[&["type", "media_type", "data"]])?;
            let (media_type, data) = (source.needed_text("media_type")?, source.needed_text("data")?);
            Ok(format!("data:{media_type};base64,{data}"))
        }
        "url" => {
            source.allow(&[&["type", "url"]])?;
            Ok(source.needed_text("url")?.into())
        }
        _ => Err(source.refuse_all("an image that the provider holds")),
    }
}

/// Texts alone as one text, since some servers take no parts.
fn text_or_parts(parts: Vec<Value>) -> Value {
    let texts: Option<Vec<&str>> = parts.iter().map(|part| part.get("text")?.as_str()).collect();
    match texts {
        Some(texts) => texts.join("\n").into(),
        None => parts.into(),
    }
}

fn assistant(message: &Object<'_>) -> Result<Value, Refusal> {
    if let Some(Value::String(text)) = message.get("content") {
        return Ok(json!({"role": "assistant", "content": text}));
    }
    let mut texts = Vec::new();
    let mut calls = Vec::new();
    for block in message.objects("content")? {
        match block.kind() {
            "thinking" | "redacted_thinking" => {}
            "tool_use" => calls.push(tool_use(&block)?),
            _ => texts.push(text_block(&block)?),
        }
    }
    let text = texts.join("\n");
    let mut chat = json!({"role": "assistant", "content": text});
    if !calls.is_empty() {
        chat["tool_calls"] = calls.into();
        if text.is_empty() {
            chat["content"] = Value::Null;
        }
    }
    Ok(chat)
}

fn tool_use(block: &Object<'_>) -> Result<Value, Refusal> {
    block.allow(&[&["type", "id", "name", "input", "cache_control", "caller"]])?;
    if block.object("caller")?.is_some_and(|caller| caller.kind() != "direct") {
        return Err(block.refuse("caller", "the provider called the tool"));
    }
    let arguments = block.get("input").map_or_else(|| "{}".into(), Value::to_string);
    let function = json!({"name": block.needed_text("name")?, "arguments": arguments});
    Ok(json!({"id": block.needed_text("id")?, "type": "function", "function": function}))
}
