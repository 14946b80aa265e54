//! The chat request that says the same as a Responses request.
//!
//! Left out, since they change how a call is served, billed or told, not what is asked of a candidate: `metadata`,
//! `service_tier`, `stream_options`, all of `prompt_cache_…`, and `max_tool_calls`, which counts the provider's own
//! tools. What `include` asks for belongs to items that no answer of a candidate has, but for log probabilities.

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::fields::{Fields, inexpressible, is_off, unreadable};
use super::super::parts::{content, image, text};

/// Fields of one meaning and kind in both APIs, with chat's names.
const SAME: [(&str, &str); 3] = [
    ("max_output_tokens", "max_tokens"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
];

/// The chat request that says the same.
pub(in super::super) fn request(body: &Value) -> Result<Value, Refusal> {
    let mut fields = Fields::of(body, "")?;
    fields.leave_out(&[
        "model",
        "stream",
        "metadata",
        "service_tier",
        "stream_options",
        "max_tool_calls",
        "reasoning",
    ]);
    fields.leave_out(&["prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"]);
    check_state(&mut fields)?;
    refuse_extras(&mut fields)?;

    let mut chat = Map::new();
    chat.insert("messages".into(), messages(&mut fields)?.into());
    for (key, name) in SAME {
        chat.extend(fields.take(key).map(|value| (name.to_owned(), value.clone())));
    }
    let (user, person) = (fields.take("user"), fields.take("safety_identifier"));
    chat.extend(user.or(person).map(|user| ("user".to_owned(), user.clone())));
    offer_tools(&mut fields, &mut chat)?;
    if let Some(mut text) = fields.object("text")? {
        let verbosity = text.take("verbosity");
        chat.extend(verbosity.map(|verbosity| ("verbosity".to_owned(), verbosity.clone())));
        let format = text.object("format")?.map(response_format).transpose()?.flatten();
        chat.extend(format.map(|format| ("response_format".to_owned(), format)));
        text.end()?;
    }
    fields.end()?;
    Ok(chat.into())
}

/// What lies, or is to lie, at the provider. A request that is silent asks it to keep the answer.
fn check_state(fields: &mut Fields<'_>) -> Result<(), Refusal> {
    let held = ["previous_response_id", "conversation", "prompt"];
    let held = held.into_iter().find(|key| fields.has(key));
    let is_background = fields.flag("background")?;
    let is_stored = fields.take("store") != Some(&Value::Bool(false));
    let state = held
        .or(is_background.then_some("background"))
        .or(is_stored.then_some("store"));
    state.map_or(Ok(()), |key| Err(Refusal::StateAtProvider(key.into())))
}

/// What is to stand in the answer, and how the input is to be cut.
fn refuse_extras(fields: &mut Fields<'_>) -> Result<(), Refusal> {
    fields.refuse_unless("truncation", "the provider cuts the input", |cut| cut == "disabled")?;
    fields.refuse_unless("context_management", "the provider edits the conversation", is_off)?;
    fields.refuse_unless("top_logprobs", "chances of tokens", is_off)?;
    for (at, included) in fields.items("include") {
        if included == "message.output_text.logprobs" {
            return Err(inexpressible(at, "chances of tokens"));
        }
    }
    Ok(())
}

/// The tools offered, and the choice among them. A choice of some of them is said by offering these alone, since few
/// servers know it.
fn offer_tools(fields: &mut Fields<'_>, chat: &mut Map<String, Value>) -> Result<(), Refusal> {
    let tools = fields.items("tools").into_iter().map(|(at, tool)| offered(tool, at));
    let mut tools: Vec<Value> = tools.collect::<Result<_, _>>()?;
    let is_word = |choice: &Value| matches!(choice.as_str(), Some("auto" | "none" | "required"));
    let choice_at = fields.path("tool_choice");
    let choice = match fields.take("tool_choice") {
        Some(choice) if !is_word(choice) => Some(choose(Fields::of(choice, choice_at)?, &mut tools)?),
        word => word.cloned(),
    };
    chat.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
    let parallel = fields.take("parallel_tool_calls");
    if !tools.is_empty() {
        chat.extend(parallel.map(|parallel| ("parallel_tool_calls".to_owned(), parallel.clone())));
        chat.insert("tools".into(), tools.into());
    }
    Ok(())
}

/// A tool that is offered.
fn offered(tool: &Value, at: String) -> Result<Value, Refusal> {
    let mut tool = Fields::of(tool, at.clone())?;
    match tool.needed_text("type")? {
        "function" => {}
        kind => return Err(inexpressible(at, format!("a tool of type `{kind}`"))),
    }
    tool.refuse_unless("defer_loading", "the provider finds the tool", is_off)?;
    tool.refuse_unless("allowed_callers", "the provider calls the tool", |callers| {
        *callers == json!(["direct"])
    })?;
    let mut function = json!({"name": tool.needed_text("name")?});
    for key in ["description", "parameters", "strict"] {
        if let Some(value) = tool.take(key) {
            function[key] = value.clone();
        }
    }
    tool.end()?;
    Ok(json!({"type": "function", "function": function}))
}

/// A choice of one tool, or of some, which are the `tools` then.
fn choose(mut choice: Fields<'_>, tools: &mut Vec<Value>) -> Result<Value, Refusal> {
    let at = choice.path("type");
    let said = match choice.needed_text("type")? {
        "function" => json!({"type": "function", "function": {"name": choice.needed_text("name")?}}),
        "allowed_tools" => {
            let allowed = choice
                .items("tools")
                .into_iter()
                .map(|(at, tool)| allowed_name(tool, at));
            let names: Vec<&str> = allowed.collect::<Result<_, _>>()?;
            tools.retain(|tool| {
                tool["function"]["name"]
                    .as_str()
                    .is_some_and(|name| names.contains(&name))
            });
            choice.needed_text("mode")?.into()
        }
        _ => return Err(inexpressible(at, "an unknown choice")),
    };
    choice.end()?;
    Ok(said)
}

fn allowed_name(tool: &Value, at: String) -> Result<&str, Refusal> {
    let mut tool = Fields::of(tool, at.clone())?;
    match tool.needed_text("type")? {
        "function" => tool.needed_text("name"),
        kind => Err(inexpressible(at, format!("a tool of type `{kind}`"))),
    }
}

fn response_format(mut format: Fields<'_>) -> Result<Option<Value>, Refusal> {
    let at = format.path("type");
    let said = match format.needed_text("type")? {
        "text" => None,
        "json_object" => Some(json!({"type": "json_object"})),
        "json_schema" => {
            let keys = ["name", "description", "schema", "strict"];
            let given = keys
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), format.take(key)?.clone())));
            Some(json!({"type": "json_schema", "json_schema": Map::from_iter(given)}))
        }
        _ => return Err(inexpressible(at, "an unknown format")),
    };
    format.end()?;
    Ok(said)
}

fn messages(fields: &mut Fields<'_>) -> Result<Vec<Value>, Refusal> {
    let mut messages = Vec::new();
    if let Some(instructions) = fields.text("instructions")? {
        messages.push(json!({"role": "system", "content": instructions}));
    }
    for (at, item) in fields.items("input") {
        match item.as_str() {
            Some(text) => messages.push(json!({"role": "user", "content": text})),
            None => push_item(&mut messages, Fields::of(item, at.clone())?, at)?,
        }
    }
    Ok(messages)
}

fn push_item(messages: &mut Vec<Value>, mut item: Fields<'_>, at: String) -> Result<(), Refusal> {
    let kind = item.text("type")?;
    match kind {
        // The baseline's own; see the module's words.
        Some("reasoning") => return Ok(()),
        Some("item_reference") => return Err(Refusal::StateAtProvider(at)),
        None if !item.has("role") => return Err(Refusal::StateAtProvider(at)),
        _ => item.leave_out(&["id", "status"]),
    }
    match kind {
        None | Some("message") => push_message(messages, &mut item)?,
        Some("function_call") => {
            item.refuse_unless("caller", "the provider called the tool", |caller| {
                caller["type"] == "direct"
            })?;
            let function = json!({"name": item.needed_text("name")?, "arguments": item.needed_text("arguments")?});
            let call = json!({"id": item.needed_text("call_id")?, "type": "function", "function": function});
            push_call(messages, call);
        }
        Some("function_call_output") => {
            let call_id = item.needed_text("call_id")?;
            let output = text_alone(&mut item, "output")?;
            messages.push(json!({"role": "tool", "tool_call_id": call_id, "content": output}));
        }
        Some(kind) => return Err(inexpressible(at, format!("an item of type `{kind}`"))),
    }
    item.end()
}

fn push_message(messages: &mut Vec<Value>, item: &mut Fields<'_>) -> Result<(), Refusal> {
    item.leave_out(&["phase"]);
    let role_at = item.path("role");
    match item.needed_text("role")? {
        "user" => {
            let parts = item.items("content").into_iter().map(|(at, given)| part(given, at));
            let parts: Vec<Value> = parts.collect::<Result<_, _>>()?;
            messages.push(json!({"role": "user", "content": content(parts)}));
        }
        "assistant" => push_assistant(messages, item)?,
        // Chat's word for the same; few servers know `developer`.
        "system" | "developer" => messages.push(json!({"role": "system", "content": text_alone(item, "content")?})),
        _ => return Err(inexpressible(role_at, "an unknown role")),
    }
    Ok(())
}

fn push_assistant(messages: &mut Vec<Value>, item: &mut Fields<'_>) -> Result<(), Refusal> {
    let mut text = String::new();
    let mut refusal = String::new();
    for (at, given) in item.items("content") {
        if given["type"] == "refusal" {
            let mut part = Fields::of(given, at)?;
            refusal.push_str(part.needed_text("refusal")?);
            part.leave_out(&["type"]);
            part.end()?;
        } else {
            text.push_str(text_part(given, at)?);
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

/// Content that may be text alone, as one text.
fn text_alone(item: &mut Fields<'_>, key: &str) -> Result<String, Refusal> {
    let parts = item.items(key).into_iter();
    let texts: Vec<&str> = parts.map(|(at, part)| text_part(part, at)).collect::<Result<_, _>>()?;
    Ok(texts.join("\n"))
}

/// A part of text, or a text in place of a list of parts.
fn text_part(part: &Value, at: String) -> Result<&str, Refusal> {
    if let Some(text) = part.as_str() {
        return Ok(text);
    }
    let mut part = Fields::of(part, at.clone())?;
    match part.needed_text("type")? {
        "input_text" | "output_text" | "text" => {}
        kind => return Err(inexpressible(at, format!("a part of type `{kind}`"))),
    }
    part.leave_out(&["prompt_cache_breakpoint", "logprobs"]);
    part.refuse_unless("annotations", "citations", is_off)?;
    let text = part.needed_text("text")?;
    part.end()?;
    Ok(text)
}

/// A part of a user's message.
fn part(given: &Value, at: String) -> Result<Value, Refusal> {
    if given["type"] != "input_image" {
        return Ok(text(text_part(given, at)?));
    }
    let mut part = Fields::of(given, at)?;
    part.leave_out(&["type", "prompt_cache_breakpoint"]);
    part.refuse("file_id", "an image that the provider holds")?;
    let url_at = part.path("image_url");
    let url = part.text("image_url")?.ok_or_else(|| unreadable(&url_at, "missing"))?;
    let detail = part.text("detail")?;
    part.end()?;
    Ok(image(url, detail))
}
