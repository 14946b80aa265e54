//! The chat request that says the same as a Responses request.

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::reading::{Object, unreadable};

/// Fields that are translated, or looked at.
const TRANSLATED: [&str; 21] = [
    "input",
    "instructions",
    "model",
    "stream",
    "max_output_tokens",
    "temperature",
    "top_p",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "user",
    "safety_identifier",
    "store",
    "previous_response_id",
    "conversation",
    "prompt",
    "background",
    "include",
    "truncation",
    "top_logprobs",
];
/// Fields that change how a call is served, billed or told, not what it answers.
const DROPPED: [&str; 8] = [
    "max_tool_calls",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "service_tier",
    "stream_options",
];

/// The chat request that says the same.
pub(in super::super) fn request(body: &Value) -> Result<Value, Refusal> {
    let body = Object::new(body, "")?;
    check_state(&body)?;
    body.allow(&[&TRANSLATED, &DROPPED])?;
    check_output(&body)?;
    let mut chat = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            chat.insert(key.into(), value);
        }
    };
    set("messages", Some(messages(&body)?.into()));
    set("max_tokens", body.get("max_output_tokens").cloned());
    set("temperature", body.get("temperature").cloned());
    set("top_p", body.get("top_p").cloned());
    set(
        "user",
        body.get("user").or_else(|| body.get("safety_identifier")).cloned(),
    );
    let (tools, tool_choice) = tools(&body)?;
    set(
        "parallel_tool_calls",
        body.get("parallel_tool_calls").filter(|_| !tools.is_empty()).cloned(),
    );
    set("tools", (!tools.is_empty()).then(|| tools.into()));
    set("tool_choice", tool_choice);
    if let Some(text) = body.object("text")? {
        text.allow(&[&["format", "verbosity"]])?;
        set("verbosity", text.get("verbosity").cloned());
        set("response_format", response_format(&text)?);
    }
    Ok(chat.into())
}

/// What lies, or is to lie, at the provider.
fn check_state(body: &Object<'_>) -> Result<(), Refusal> {
    let held = ["previous_response_id", "conversation", "prompt"];
    if let Some(key) = held.into_iter().find(|key| body.get(key).is_some()) {
        return Err(Refusal::StateAtProvider(key.into()));
    }
    if body.flag("background")? {
        return Err(Refusal::StateAtProvider("background".into()));
    }
    match body.get("store") {
        Some(Value::Bool(false)) => Ok(()),
        _ => Err(Refusal::StateAtProvider("store".into())),
    }
}

/// What is to stand in the answer, and how the input is to be cut.
fn check_output(body: &Object<'_>) -> Result<(), Refusal> {
    if !matches!(body.text("truncation")?, None | Some("disabled")) {
        return Err(body.refuse("truncation", "the provider cuts the input"));
    }
    let is_logprobs = |include: &&Value| include.as_str() == Some("message.output_text.logprobs");
    let included = body
        .get("include")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    // Whatever else can be included belongs to items that no answer of a candidate has.
    if included.iter().any(|include| is_logprobs(&include)) {
        return Err(body.refuse("include", "log probabilities"));
    }
    match body.get("top_logprobs") {
        Some(count) if count.as_u64() != Some(0) => Err(body.refuse("top_logprobs", "log probabilities")),
        _ => Ok(()),
    }
}

/// The tools offered, and the choice among them. A choice of some of them is said by offering these alone, since few
/// servers know it.
fn tools(body: &Object<'_>) -> Result<(Vec<Value>, Option<Value>), Refusal> {
    let mut tools: Vec<Value> = body.objects("tools")?.iter().map(tool).collect::<Result<_, _>>()?;
    let choice = match body.get("tool_choice") {
        None => return Ok((tools, None)),
        Some(Value::String(word)) if matches!(word.as_str(), "auto" | "none" | "required") => {
            return Ok((tools, Some(word.as_str().into())));
        }
        Some(choice) => Object::new(choice, "tool_choice")?,
    };
    let choice = match choice.kind() {
        "function" => {
            choice.allow(&[&["type", "name"]])?;
            json!({"type": "function", "function": {"name": choice.needed_text("name")?}})
        }
        "allowed_tools" => {
            choice.allow(&[&["type", "mode", "tools"]])?;
            let allowed = choice.objects("tools")?;
            let names: Vec<&str> = allowed.iter().map(allowed_name).collect::<Result<_, _>>()?;
            tools.retain(|tool| {
                tool["function"]["name"]
                    .as_str()
                    .is_some_and(|name| names.contains(&name))
            });
            choice.needed_text("mode")?.into()
        }
        _ => return Err(choice.refuse_all("an unknown tool choice")),
    };
    Ok((tools, Some(choice)))
}

fn allowed_name<'a>(tool: &Object<'a>) -> Result<&'a str, Refusal> {
    tool.allow(&[&["type", "name"]])?;
    match tool.kind() {
        "function" => tool.needed_text("name"),
        kind => Err(tool.refuse_all(format!("the provider's own tool `{kind}`"))),
    }
}

fn tool(tool: &Object<'_>) -> Result<Value, Refusal> {
    if tool.kind() != "function" {
        return Err(tool.refuse_all(format!("a tool of type `{}`", tool.kind())));
    }
    tool.allow(&[&[
        "type",
        "name",
        "description",
        "parameters",
        "strict",
        "defer_loading",
        "allowed_callers",
    ]])?;
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
    for key in ["description", "parameters", "strict"] {
        if let Some(value) = tool.get(key) {
            function[key] = value.clone();
        }
    }
    Ok(json!({"type": "function", "function": function}))
}

fn response_format(text: &Object<'_>) -> Result<Option<Value>, Refusal> {
    let Some(format) = text.object("format")? else {
        return Ok(None);
    };
    match format.kind() {
        "text" => Ok(None),
        "json_object" => Ok(Some(json!({"type": "json_object"}))),
        "json_schema" => {
            let keys = ["name", "description", "schema", "strict"];
            format.allow(&[&["type"], &keys])?;
            let given = keys
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), format.get(key)?.clone())));
            Ok(Some(
                json!({"type": "json_schema", "json_schema": Map::from_iter(given)}),
            ))
        }
        _ => Err(format.refuse_all("an unknown text format")),
    }
}

fn messages(body: &Object<'_>) -> Result<Vec<Value>, Refusal> {
    let mut messages = Vec::new();
    if let Some(instructions) = body.text("instructions")? {
        messages.push(json!({"role": "system", "content": instructions}));
    }
    if let Some(Value::String(text)) = body.get("input") {
        messages.push(json!({"role": "user", "content": text}));
        return Ok(messages);
    }
    for item in body.objects("input")? {
        push_item(&mut messages, &item)?;
    }
    Ok(messages)
}

fn push_item(messages: &mut Vec<Value>, item: &Object<'_>) -> Result<(), Refusal> {
    match item.kind() {
        "message" => push_message(messages, item),
        "" if item.get("role").is_some() => push_message(messages, item),
        // The baseline's own; see the module's words.
        "reasoning" => Ok(()),
        "function_call" => {
            item.allow(&[&["type", "id", "status", "call_id", "name", "arguments", "caller"]])?;
            if item.object("caller")?.is_some_and(|caller| caller.kind() != "direct") {
                return Err(item.refuse("caller", "the provider called the tool"));
            }
            let function = json!({"name": item.needed_text("name")?, "arguments": item.needed_text("arguments")?});
            let call = json!({"id": item.needed_text("call_id")?, "type": "function", "function": function});
            push_call(messages, call);
            Ok(())
        }
        "function_call_output" => {
            item.allow(&[&["type", "id", "status", "call_id", "output"]])?;
            let content = match item.get("output") {
                Some(Value::String(text)) => text.clone(),
                _ => joined(&item.objects("output")?)?,
            };
            let call_id = item.needed_text("call_id")?;
            messages.push(json!({"role": "tool", "tool_call_id": call_id, "content": content}));
            Ok(())
        }
        "item_reference" | "" if item.get("id").is_some() => Err(Refusal::StateAtProvider(item.place("id"))),
        kind => Err(item.refuse_all(format!("an item of type `{kind}`"))),
    }
}

fn push_message(messages: &mut Vec<Value>, item: &Object<'_>) -> Result<(), Refusal> {
    item.allow(&[&["type", "id", "status", "role", "content", "phase"]])?;
    let role = match item.needed_text("role")? {
        "user" => "user",
        "assistant" => return push_assistant(messages, item),
        // Chat's word for the same; few servers know `developer`.
        "system" | "developer" => "system",
        _ => return Err(item.refuse("role", "an unknown role")),
    };
    let content = match item.get("content") {
        Some(Value::String(text)) => text.as_str().into(),
        _ => {
            let parts = item.objects("content")?;
            if role == "user" && parts.iter().any(|part| part.kind() == "input_image") {
                parts.iter().map(part).collect::<Result<Value, _>>()?
            } else {
                joined(&parts)?.into()
            }
        }
    };
    messages.push(json!({"role": role, "content": content}));
    Ok(())
}

fn push_assistant(messages: &mut Vec<Value>, item: &Object<'_>) -> Result<(), Refusal> {
    let mut text = String::new();
    let mut refusal = String::new();
    match item.get("content") {
        Some(Value::String(content)) => text.push_str(content),
        _ => {
            for part in item.objects("content")? {
                if part.kind() == "refusal" {
                    part.allow(&[&["type", "refusal"]])?;
                    refusal.push_str(part.needed_text("refusal")?);
                } else {
                    text.push_str(text_part(&part)?);
                }
            }
        }
    }
    let answer = open_answer(messages);
    for (key, more) in [("content", text), ("refusal", refusal)] {
        let said = answer.get(key).and_then(Value::as_str).unwrap_or_default();
        if key == "content" || !more.is_empty() {
            answer[key] = format!("{said}{more}").into();
        }
    }
    Ok(())
}

fn push_call(messages: &mut Vec<Value>, call: Value) {
    let answer = open_answer(messages);
    match answer.get_mut("tool_calls").and_then(Value::as_array_mut) {
        Some(calls) => calls.push(call),
        None => answer["tool_calls"] = json!([call]),
    }
}

/// An answer comes back as several items: those that follow one another are one message, as the answer was, and as chat
/// asks of parallel calls.
fn open_answer(messages: &mut Vec<Value>) -> &mut Value {
    if messages.last().is_none_or(|last| last["role"] != "assistant") {
        messages.push(json!({"role": "assistant", "content": null}));
    }
    let last = messages.len() - 1;
    &mut messages[last]
}

fn joined(parts: &[Object<'_>]) -> Result<String, Refusal> {
    let texts: Vec<&str> = parts.iter().map(text_part).collect::<Result<_, _>>()?;
    Ok(texts.join("\n"))
}

fn text_part<'a>(part: &Object<'a>) -> Result<&'a str, Refusal> {
    match part.kind() {
        // How likely each token was is not known to any model.
        "output_text" => part.allow(&[&["type", "text", "logprobs"]])?,
        "input_text" | "text" => part.allow(&[&["type", "text", "prompt_cache_breakpoint"]])?,
        kind => return Err(part.refuse_all(format!("a part of type `{kind}`"))),
    }
    part.needed_text("text")
}

/// A part of a user's message.
fn part(part: &Object<'_>) -> Result<Value, Refusal> {
    if part.kind() != "input_image" {
        return Ok(json!({"type": "text", "text": text_part(part)?}));
    }
    part.allow(&[&["type", "image_url", "detail", "file_id", "prompt_cache_breakpoint"]])?;
    part.forbid("file_id", "an image that the provider holds")?;
    let url = part
        .text("image_url")?
        .ok_or_else(|| unreadable(&part.place("image_url"), "a text"))?;
    let mut image = json!({"url": url});
    if let Some(detail) = part.get("detail") {
        image["detail"] = detail.clone();
    }
    Ok(json!({"type": "image_url", "image_url": image}))
}
