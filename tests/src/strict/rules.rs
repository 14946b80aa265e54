//! What each API refuses in a request's form, as far as its documentation and its error messages say so: fields that it does
//! not know, turns that don't alternate, results apart from their calls, ids and names of another form, limits.
//!
//! Read by the strict fakes, and, as a file of its own, by the tests of the translations.

use serde_json::Value;
use std::collections::HashSet;

/// Why a request is refused.
pub type Checked = Result<(), String>;

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn known(value: &Value, keys: &[&str]) -> Checked {
    let fields = value.as_object().ok_or_else(|| format!("no object: {value}"))?;
    match fields.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(format!("unknown field `{key}` in {value}")),
        None => Ok(()),
    }
}

fn ensure(holds: bool, why: impl Into<String>) -> Checked {
    if holds { Ok(()) } else { Err(why.into()) }
}

fn is_name(text: &str, longest: usize) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=longest).contains(&text.len()) && text.bytes().all(is_plain)
}

fn is_positive(value: &Value) -> bool {
    value.as_i64().is_some_and(|number| number > 0)
}

fn is_base64(data: &str) -> bool {
    !data.is_empty()
        && data.len().is_multiple_of(4)
        && data
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/webp", "image/gif"];

/// The names of tools: of a valid form, none twice.
fn tool_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<HashSet<&'a str>, String> {
    let mut seen = HashSet::new();
    for name in names {
        ensure(is_name(name, 128), format!("a tool named `{name}`"))?;
        ensure(seen.insert(name), format!("two tools named `{name}`"))?;
    }
    Ok(seen)
}

/// The calls of a turn, and the results that follow.
#[derive(Default)]
struct Calls {
    open: Vec<String>,
    seen: HashSet<String>,
}

impl Calls {
    fn call(&mut self, id: &str, longest: usize) -> Checked {
        ensure(is_name(id, longest), format!("the id `{id}` has no valid form"))?;
        ensure(self.seen.insert(id.to_owned()), format!("the id `{id}` is there twice"))?;
        self.open.push(id.to_owned());
        Ok(())
    }

    fn result(&mut self, id: &str) -> Checked {
        let place = self.open.iter().position(|open| open == id);
        self.open
            .remove(place.ok_or_else(|| format!("a result for `{id}`, which no call before it has"))?);
        Ok(())
    }

    fn none_open(&self) -> Checked {
        ensure(self.open.is_empty(), format!("calls without a result: {:?}", self.open))
    }
}

/// Temperature and top-p, by these names, as Anthropic's models take them: from 0 to 1, and one of the two.
fn sampling(settings: &Value, names: [&str; 2]) -> Checked {
    let in_range = |number: &Value| number.as_f64().is_some_and(|number| (0.0..=1.0).contains(&number));
    for name in names {
        ensure(
            settings.get(name).is_none_or(in_range),
            format!("{name}: not from 0 to 1"),
        )?;
    }
    let both = names.iter().all(|name| settings.get(*name).is_some());
    ensure(
        !both,
        "`temperature` and `top_p` cannot both be specified for this model",
    )
}

/// A request to a candidate of Anthropic's.
pub fn messages(body: &Value) -> Checked {
    let keys = "model max_tokens messages system temperature top_p top_k stop_sequences stream tools tool_choice metadata \
                output_config";
    known(body, &keys.split_whitespace().collect::<Vec<_>>())?;
    ensure(
        is_name(&word(body, "model").replace(['.', '/', ':', '@'], "-"), 200),
        "no model",
    )?;
    ensure(is_positive(&body["max_tokens"]), "max_tokens: field required")?;
    sampling(body, ["temperature", "top_p"])?;
    ensure(body.get("top_k").is_none_or(is_positive), "top_k")?;
    ensure(
        body.get("system")
            .is_none_or(|system| system.as_str().is_some_and(|text| !text.trim().is_empty())),
        "system",
    )?;
    let blank = |stop: &&Value| stop.as_str().is_none_or(|stop| stop.trim().is_empty());
    ensure(
        !items(body, "stop_sequences").iter().any(|stop| blank(&stop)),
        "each stop sequence must contain non-whitespace",
    )?;
    let mut calls = Calls::default();
    let mut last = "assistant";
    for message in items(body, "messages") {
        known(message, &["role", "content"])?;
        let role = word(message, "role");
        ensure(role != last, format!("roles must alternate, but found two of `{role}`"))?;
        last = role;
        message_blocks(role, items(message, "content"), &mut calls)?;
    }
    ensure(
        last == "user" && !items(body, "messages").is_empty(),
        "the last message must be the user's",
    )?;
    calls.none_open()?;
    let tools = items(body, "tools");
    for tool in tools {
        known(tool, &["name", "description", "input_schema"])?;
        let schema = &tool["input_schema"];
        ensure(schema["type"] == "object", "tools.input_schema.type: field required")?;
        let has_alternatives = ["anyOf", "oneOf", "allOf"].iter().any(|key| schema.get(*key).is_some());
        ensure(
            !has_alternatives,
            "input_schema does not support oneOf, allOf, or anyOf at the top level",
        )?;
        ensure(
            tool.get("description").is_none_or(Value::is_string),
            "tools.description",
        )?;
    }
    let names = tool_names(tools.iter().map(|tool| word(tool, "name")))?;
    ensure(
        calls.seen.is_empty() || !tools.is_empty(),
        "tool_use blocks, and no tools",
    )?;
    if let Some(choice) = body.get("tool_choice") {
        known(choice, &["type", "name", "disable_parallel_tool_use"])?;
        let kind = word(choice, "type");
        let is_known =
            matches!(kind, "auto" | "any" | "none") || (kind == "tool" && names.contains(word(choice, "name")));
        ensure(is_known && !tools.is_empty(), format!("tool_choice: {choice}"))?;
    }
    if let Some(config) = body.get("output_config") {
        known(config, &["format"])?;
        ensure(config["format"]["type"] == "json_schema", "output_config.format.type")?;
        answer_schema(&config["format"]["schema"])?;
    }
    let is_short = |user: &Value| user.as_str().is_some_and(|user| user.chars().count() <= 256);
    ensure(
        body.get("metadata")
            .is_none_or(|metadata| is_short(&metadata["user_id"])),
        "metadata.user_id",
    )
}

fn message_blocks(role: &str, blocks: &[Value], calls: &mut Calls) -> Checked {
    ensure(!blocks.is_empty(), "messages: at least one block is required")?;
    let mut may_be_result = role == "user";
    for block in blocks {
        let kind = word(block, "type");
        if kind != "tool_result" && may_be_result {
            may_be_result = false;
            calls.none_open()?;
        }
        match (role, kind) {
            (_, "text") => {
                known(block, &["type", "text"])?;
                ensure(
                    !word(block, "text").trim().is_empty(),
                    "text content blocks must contain non-whitespace text",
                )?;
            }
            ("user", "image") => {
                let source = &block["source"];
                let is_valid = match word(source, "type") {
                    "base64" => IMAGES.contains(&word(source, "media_type")) && is_base64(word(source, "data")),
                    "url" => word(source, "url").starts_with("https://"),
                    _ => false,
                };
                ensure(is_valid, "image.source")?;
            }
            ("user", "tool_result") if may_be_result => {
                known(block, &["type", "tool_use_id", "content"])?;
                calls.result(word(block, "tool_use_id"))?;
            }
            ("assistant", "tool_use") => {
                known(block, &["type", "id", "name", "input"])?;
                ensure(
                    is_name(word(block, "name"), 128) && block["input"].is_object(),
                    "tool_use",
                )?;
                calls.call(word(block, "id"), 64)?;
            }
            _ => return Err(format!("a block `{kind}` of `{role}` in this place")),
        }
    }
    if role == "user" { calls.none_open() } else { Ok(()) }
}

/// The subset of JSON Schema that answers can be held to.
fn answer_schema(schema: &Value) -> Checked {
    let keys = "type properties required items enum const anyOf allOf $ref $defs definitions description title default format \
                additionalProperties $schema $id";
    known(schema, &keys.split_whitespace().collect::<Vec<_>>())?;
    if schema["type"] == "object" {
        ensure(
            schema["additionalProperties"] == false,
            "for 'object' type, 'additionalProperties' must be set to false",
        )?;
    }
    for key in ["properties", "$defs", "definitions"] {
        let mut below = schema[key].as_object().into_iter().flatten();
        below.try_for_each(|(_, schema)| answer_schema(schema))?;
    }
    for key in ["anyOf", "allOf"] {
        items(schema, key).iter().try_for_each(answer_schema)?;
    }
    schema.get("items").map_or(Ok(()), answer_schema)
}

/// A request to a candidate that speaks OpenAI Responses.
pub fn responses(body: &Value) -> Checked {
    let keys = "model input instructions store stream tools tool_choice parallel_tool_calls text max_output_tokens temperature \
                top_p user";
    known(body, &keys.split_whitespace().collect::<Vec<_>>())?;
    ensure(body["store"] == false, "it asks to keep the answer")?;
    let limit = body.get("max_output_tokens");
    ensure(
        limit.is_none_or(|limit| limit.as_i64() >= Some(16)),
        "max_output_tokens: at least 16",
    )?;
    let mut calls = Calls::default();
    for item in items(body, "input") {
        match (word(item, "type"), word(item, "role")) {
            ("function_call", _) => {
                known(item, &["type", "call_id", "name", "arguments"])?;
                let arguments: Value = serde_json::from_str(word(item, "arguments")).unwrap_or_default();
                ensure(arguments.is_object(), "arguments")?;
                calls.call(word(item, "call_id"), 64)?;
            }
            ("function_call_output", _) => {
                known(item, &["type", "call_id", "output"])?;
                calls.result(word(item, "call_id"))?;
            }
            ("message" | "", role @ ("user" | "assistant" | "developer")) => {
                calls.none_open()?;
                for part in items(item, "content") {
                    let is_valid = match (role, word(part, "type")) {
                        ("user" | "developer", "input_text") => part["text"].is_string(),
                        ("user", "input_image") => part["image_url"].is_string() && part["detail"].is_string(),
                        ("assistant", "output_text") => part["text"].is_string(),
                        _ => false,
                    };
                    ensure(is_valid, format!("{part} of {role}"))?;
                }
            }
            _ => return Err(format!("an item {item}")),
        }
    }
    ensure(!items(body, "input").is_empty(), "no input")?;
    calls.none_open()?;
    for tool in items(body, "tools") {
        known(tool, &["type", "name", "description", "parameters", "strict"])?;
        ensure(
            tool["strict"].is_boolean() && tool["parameters"]["type"] == "object",
            "tools",
        )?;
    }
    tool_names(items(body, "tools").iter().map(|tool| word(tool, "name"))).map(drop)
}

/// A request to a candidate of Gemini's.
pub fn gemini(body: &Value) -> Checked {
    known(
        body,
        &[
            "contents",
            "systemInstruction",
            "tools",
            "toolConfig",
            "generationConfig",
        ],
    )?;
    let keys = "maxOutputTokens temperature topP topK presencePenalty frequencyPenalty seed stopSequences responseMimeType \
                responseJsonSchema";
    if let Some(config) = body.get("generationConfig") {
        known(config, &keys.split_whitespace().collect::<Vec<_>>())?;
    }
    let mut open: Vec<&str> = Vec::new();
    let mut last = "model";
    for content in items(body, "contents") {
        let (role, parts) = (word(content, "role"), items(content, "parts"));
        ensure(
            role != last && matches!(role, "user" | "model"),
            "please ensure that roles alternate",
        )?;
        ensure(!parts.is_empty(), "contents.parts must not be empty")?;
        last = role;
        let responses: Vec<&str> = parts
            .iter()
            .filter_map(|part| part["functionResponse"]["name"].as_str())
            .collect();
        ensure(
            role == "model" || responses == open,
            "the number of function response parts must be equal to the number of function call parts",
        )?;
        open = parts
            .iter()
            .filter_map(|part| part["functionCall"]["name"].as_str())
            .collect();
        for part in parts {
            known(part, &["text", "functionCall", "functionResponse", "inlineData"])?;
            ensure(
                part.get("functionResponse")
                    .is_none_or(|result| result["response"].is_object()),
                "functionResponse",
            )?;
            ensure(
                part.get("functionCall").is_none_or(|call| call["args"].is_object()),
                "functionCall",
            )?;
            let is_image = |blob: &Value| IMAGES.contains(&word(blob, "mimeType")) && is_base64(word(blob, "data"));
            ensure(part.get("inlineData").is_none_or(is_image), "inlineData")?;
        }
    }
    ensure(last == "user", "contents: the last turn must be the user's")?;
    let declared = items(body, "tools")
        .iter()
        .flat_map(|tool| items(tool, "functionDeclarations"));
    tool_names(declared.map(|function| word(function, "name"))).map(drop)
}

/// A request to a candidate that speaks Ollama's own API.
pub fn ollama(body: &Value) -> Checked {
    known(body, &["model", "messages", "stream", "tools", "format", "options"])?;
    ensure(body["stream"].is_boolean(), "whether it streams")?;
    let mut calls = 0;
    for message in items(body, "messages") {
        known(message, &["role", "content", "images", "tool_calls", "tool_name"])?;
        ensure(message["content"].is_string(), "content")?;
        match word(message, "role") {
            "tool" => {
                ensure(calls > 0 && message["tool_name"].is_string(), "a result without a call")?;
                calls -= 1;
            }
            "assistant" => {
                ensure(calls == 0, "a call without a result")?;
                calls = items(message, "tool_calls").len();
                let are_objects = |call: &Value| call["function"]["arguments"].is_object();
                ensure(items(message, "tool_calls").iter().all(are_objects), "arguments")?;
            }
            "system" | "user" => ensure(calls == 0, "a call without a result")?,
            other => return Err(format!("role `{other}`")),
        }
    }
    ensure(calls == 0, "a call without a result")
}

/// A request to a candidate of Cohere's, version 2.
pub fn cohere(body: &Value) -> Checked {
    let keys = "model messages stream tools tool_choice response_format max_tokens temperature p k seed frequency_penalty \
                presence_penalty stop_sequences";
    known(body, &keys.split_whitespace().collect::<Vec<_>>())?;
    ensure(
        !word(body, "model").is_empty(),
        "a model parameter is required for this endpoint",
    )?;
    let within = |key: &str, least: f64, most: f64| {
        let fits = |number: &Value| number.as_f64().is_some_and(|number| (least..=most).contains(&number));
        ensure(
            body.get(key).is_none_or(fits),
            format!("{key} must be between {least} and {most} inclusive"),
        )
    };
    within("temperature", 0.0, 1.0)?;
    within("p", 0.01, 0.99)?;
    within("k", 0.0, 500.0)?;
    within("frequency_penalty", 0.0, 1.0)?;
    within("presence_penalty", 0.0, 1.0)?;
    let both = body.get("frequency_penalty").is_some() && body.get("presence_penalty").is_some();
    ensure(!both, "cannot specify both frequency_penalty and presence_penalty")?;
    ensure(items(body, "stop_sequences").len() <= 5, "stop_sequences: at most 5")?;
    let mut calls = Calls::default();
    for (place, message) in items(body, "messages").iter().enumerate() {
        known(message, &["role", "content", "tool_calls", "tool_call_id", "tool_plan"])?;
        let role = word(message, "role");
        if role != "tool" {
            calls.none_open()?;
        }
        match role {
            "system" => ensure(
                place == 0 && message["content"].is_string(),
                "system turn must be the first in the list",
            )?,
            "user" => cohere_content(&message["content"])?,
            "assistant" => {
                let is_said = |key: &str| message[key].as_str().is_some_and(|text| !text.is_empty());
                let has_calls = !items(message, "tool_calls").is_empty();
                ensure(
                    has_calls != is_said("content"),
                    "message must not be empty in a turn, and has a plan where it has calls",
                )?;
                for call in items(message, "tool_calls") {
                    known(call, &["id", "type", "function"])?;
                    ensure(call["type"] == "function", "tool call must be of type function")?;
                    let arguments: Value =
                        serde_json::from_str(word(&call["function"], "arguments")).unwrap_or_default();
                    ensure(arguments.is_object(), "arguments")?;
                    calls.call(word(call, "id"), 64)?;
                }
            }
            "tool" => {
                ensure(message["content"].is_string(), "content of a tool")?;
                calls.result(word(message, "tool_call_id"))?;
            }
            other => return Err(format!("role `{other}`")),
        }
    }
    calls.none_open()?;
    ensure(!items(body, "messages").is_empty(), "no messages")?;
    let tools = items(body, "tools");
    for tool in tools {
        known(&tool["function"], &["name", "description", "parameters"])?;
        let name = word(&tool["function"], "name");
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        ensure(
            is_plain && !name.starts_with(|first: char| first.is_ascii_digit()),
            "tool names can only contain certain characters (A-Za-z0-9_) and can't begin with a digit",
        )?;
        ensure(
            tool["function"]["parameters"]["type"] == "object",
            "schema must be an object",
        )?;
    }
    tool_names(tools.iter().map(|tool| word(&tool["function"], "name")))?;
    if let Some(choice) = body.get("tool_choice") {
        ensure(
            matches!(choice.as_str(), Some("REQUIRED" | "NONE")) && !tools.is_empty(),
            "tool_choice",
        )?;
    }
    if let Some(format) = body.get("response_format") {
        known(format, &["type", "json_schema"])?;
        ensure(format["type"] == "json_object", "response_format.type")?;
        ensure(tools.is_empty(), "response_format is not supported with tools")?;
        if let Some(schema) = format.get("json_schema") {
            ensure(schema["type"] == "object", "schema must be an object")?;
            cohere_schema(schema)?;
        }
    }
    Ok(())
}

fn cohere_content(content: &Value) -> Checked {
    if let Some(text) = content.as_str() {
        return ensure(!text.trim().is_empty(), "message must not be empty in a turn");
    }
    let parts = content.as_array().ok_or("content")?;
    ensure(!parts.is_empty(), "message must not be empty in a turn")?;
    for part in parts {
        let url = word(&part["image_url"], "url");
        let is_valid = match word(part, "type") {
            "text" => part["text"].is_string(),
            "image_url" => url.starts_with("http") || url.starts_with("data:image/"),
            _ => false,
        };
        ensure(is_valid, format!("the part {part}"))?;
    }
    Ok(())
}

fn cohere_schema(schema: &Value) -> Checked {
    let keys =
        "type properties required items enum const $ref $defs definitions description title default format $schema $id";
    known(schema, &keys.split_whitespace().collect::<Vec<_>>())?;
    let formats = ["date-time", "uuid", "date", "time"];
    let is_known = |format: &Value| formats.iter().any(|known| format == known);
    ensure(schema.get("format").is_none_or(is_known), "format")?;
    if schema["type"] == "object" {
        ensure(!items(schema, "required").is_empty(), "at least one required field")?;
    }
    for key in ["properties", "$defs", "definitions"] {
        let mut below = schema[key].as_object().into_iter().flatten();
        below.try_for_each(|(_, schema)| cohere_schema(schema))?;
    }
    schema.get("items").map_or(Ok(()), cohere_schema)
}

/// A request to a candidate that speaks Bedrock Converse.
pub fn converse(body: &Value) -> Checked {
    known(
        body,
        &["messages", "system", "inferenceConfig", "toolConfig", "outputConfig"],
    )?;
    if let Some(config) = body.get("inferenceConfig") {
        known(config, &["maxTokens", "temperature", "topP", "stopSequences"])?;
        ensure(config.get("maxTokens").is_none_or(is_positive), "maxTokens")?;
        sampling(config, ["temperature", "topP"])?;
    }
    let is_said = |block: &Value| !word(block, "text").trim().is_empty();
    ensure(
        items(body, "system").iter().all(is_said),
        "the text field in the ContentBlock object is blank",
    )?;
    let mut calls = Calls::default();
    let mut last = "assistant";
    for message in items(body, "messages") {
        known(message, &["role", "content"])?;
        let role = word(message, "role");
        ensure(role != last, "roles must alternate between user and assistant")?;
        last = role;
        ensure(!items(message, "content").is_empty(), "the content field is empty")?;
        for block in items(message, "content") {
            let (call, result, image) = (&block["toolUse"], &block["toolResult"], &block["image"]);
            if call.is_object() && role == "assistant" {
                known(call, &["toolUseId", "name", "input"])?;
                ensure(call["input"].is_object() && is_name(word(call, "name"), 128), "toolUse")?;
                calls.call(word(call, "toolUseId"), 64)?;
            } else if result.is_object() && role == "user" {
                known(result, &["toolUseId", "content"])?;
                ensure(items(result, "content").iter().all(is_said), "toolResult")?;
                calls.result(word(result, "toolUseId"))?;
            } else if image.is_object() && role == "user" {
                ensure(
                    matches!(word(image, "format"), "png" | "jpeg" | "gif" | "webp"),
                    "image.format",
                )?;
                ensure(is_base64(word(&image["source"], "bytes")), "image.source")?;
            } else {
                known(block, &["text"])?;
                ensure(is_said(block), "the text field in the ContentBlock object is blank")?;
            }
        }
        if role == "user" {
            calls.none_open()?;
        }
    }
    ensure(
        last == "user" && !items(body, "messages").is_empty(),
        "a conversation must end with a user message",
    )?;
    let config = &body["toolConfig"];
    let specs = items(config, "tools").iter().map(|tool| &tool["toolSpec"]);
    for spec in specs.clone() {
        known(spec, &["name", "description", "inputSchema"])?;
        ensure(is_name(word(spec, "name"), 64), "toolSpec.name")?;
        ensure(spec["inputSchema"]["json"]["type"] == "object", "inputSchema.json.type")?;
    }
    let names = tool_names(specs.map(|spec| word(spec, "name")))?;
    ensure(
        calls.seen.is_empty() || !names.is_empty(),
        "the toolConfig field must be defined when using toolUse and toolResult content blocks",
    )?;
    if let Some(choice) = config.get("toolChoice") {
        let is_known = choice["any"].is_object() || names.contains(word(&choice["tool"], "name"));
        ensure(is_known, format!("toolChoice: {choice}"))?;
    }
    if let Some(config) = body.get("outputConfig") {
        let schema = &config["textFormat"]["structure"]["jsonSchema"]["schema"];
        let schema: Value = serde_json::from_str(schema.as_str().unwrap_or_default()).unwrap_or_default();
        answer_schema(&schema)?;
    }
    Ok(())
}
