//! The Anthropic request that says the same as a chat request.
//!
//! Where chat says nothing of the answer's length the API must still be told one: [`MAX_TOKENS`], which every model takes;
//! an answer that is longer is cut, and says so. Left out beside what [`Asked`] leaves out: `seed`; `strict` of tools, since
//! fewer schemas can be asked for strictly here than there; `detail` of images; and of `temperature` and `top_p`, which the
//! newer models don't take both, the one that is 1, or `top_p`. A temperature over 1, the most that there is here, is 1.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::chat::{Asked, Choice, Format, Part, ToolResult, Turn};
use super::super::fields::inexpressible;
use super::super::schema::Subset;

/// The most tokens of an answer where the client names no limit.
const MAX_TOKENS: i64 = 4096;
/// The most characters of a name of the user; a longer one is left out.
const LONGEST_USER: usize = 256;

/// The request that says the same, but for `model` and `stream`.
pub(in super::super) fn asking(asked: &Asked) -> Result<Value, Refusal> {
    asked.refuse_rare(&[])?;
    asked.refuse_verbosity()?;
    let mut body = Map::new();
    body.insert("max_tokens".into(), asked.max_tokens.unwrap_or(MAX_TOKENS).into());
    if !asked.system.is_empty() {
        body.insert("system".into(), asked.system.join("\n\n").into());
    }
    body.insert("messages".into(), messages(asked)?.into());
    let (temperature, top_p) = asked.either_sampling();
    body.extend(temperature.map(|number| ("temperature".to_owned(), number.into())));
    body.extend(top_p.map(|number| ("top_p".to_owned(), number.into())));
    // Zero or less: no limit.
    if let Some(top_k) = asked.top_k.filter(|top_k| *top_k > 0) {
        body.insert("top_k".into(), top_k.into());
    }
    if let Some(blank) = asked.stop.iter().position(|stop| stop.trim().is_empty()) {
        return Err(inexpressible(format!("stop[{blank}]"), "a blank stop sequence"));
    }
    if !asked.stop.is_empty() {
        body.insert("stop_sequences".into(), asked.stop.clone().into());
    }
    offer(asked, &mut body)?;
    match &asked.format {
        Format::Text => {}
        Format::Object => {
            return Err(inexpressible("response_format", "JSON without a schema"));
        }
        Format::Schema { schema, .. } => {
            let schema = Subset::Closed.of(schema)?;
            let format = json!({"type": "json_schema", "schema": schema});
            body.insert("output_config".into(), json!({"format": format}));
        }
    }
    if let Some(user) = asked.user.as_ref().filter(|user| user.chars().count() <= LONGEST_USER) {
        body.insert("metadata".into(), json!({"user_id": user}));
    }
    Ok(body.into())
}

/// The tools offered, and the choice among them. The API wants the tools of its history's calls offered: where the request
/// offers none, they are named, and may not be called.
fn offer(asked: &Asked, body: &mut Map<String, Value>) -> Result<(), Refusal> {
    let mut tools = Vec::new();
    for (place, tool) in asked.tools.iter().enumerate() {
        if let Some(key) = ["anyOf", "oneOf", "allOf"]
            .iter()
            .find(|key| tool.parameters.get(**key).is_some())
        {
            let at = format!("tools[{place}].function.parameters.{key}");
            return Err(inexpressible(at, "alternatives at the top of a schema"));
        }
        let mut offered = json!({"name": tool.name});
        if let Some(description) = &tool.description {
            offered["description"] = description.as_str().into();
        }
        offered["input_schema"] = tool.parameters.clone();
        tools.push(offered);
    }
    let mut choice = match &asked.choice {
        Choice::Auto => json!({"type": "auto"}),
        Choice::None => json!({"type": "none"}),
        Choice::Required => json!({"type": "any"}),
        Choice::Tool(name) => json!({"type": "tool", "name": name}),
    };
    if tools.is_empty() {
        choice = json!({"type": "none"});
        let mut named = HashSet::new();
        for turn in &asked.turns {
            let Turn::Assistant { calls, .. } = turn else { continue };
            for call in calls {
                if named.insert(call.name.as_str()) {
                    tools.push(json!({"name": call.name, "input_schema": {"type": "object"}}));
                }
            }
        }
    }
    if tools.is_empty() {
        return Ok(());
    }
    if asked.one_call && asked.choice != Choice::None {
        choice["disable_parallel_tool_use"] = true.into();
    }
    if choice != json!({"type": "auto"}) {
        body.insert("tool_choice".into(), choice);
    }
    body.insert("tools".into(), tools.into());
    Ok(())
}

fn messages(asked: &Asked) -> Result<Vec<Value>, Refusal> {
    let messages = asked.alternating(blocks)?.into_iter();
    let role = |is_models: bool| if is_models { "assistant" } else { "user" };
    Ok(messages
        .map(|(is_models, content)| json!({"role": role(is_models), "content": content}))
        .collect())
}

fn blocks(turn: &Turn) -> Result<Vec<Value>, Refusal> {
    match turn {
        Turn::System(text) => Ok(vec![json!({"type": "text", "text": text})]),
        Turn::User(parts) => parts.iter().map(block).collect(),
        Turn::Results(results) => Ok(results.iter().map(result).collect()),
        Turn::Assistant { text, calls } => {
            let text = (!text.trim().is_empty()).then(|| json!({"type": "text", "text": text}));
            let calls = calls
                .iter()
                .map(|call| json!({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}));
            Ok(text.into_iter().chain(calls).collect())
        }
    }
}

fn result(result: &ToolResult) -> Value {
    let mut block = json!({"type": "tool_result", "tool_use_id": result.id});
    if !result.text.trim().is_empty() {
        block["content"] = result.text.as_str().into();
    }
    block
}

fn block(part: &Part) -> Result<Value, Refusal> {
    let source = match part {
        Part::Text(text) => return Ok(json!({"type": "text", "text": text})),
        Part::Image { media_type, data, .. } => json!({"type": "base64", "media_type": media_type, "data": data}),
        Part::ImageUrl { url, .. } if url.starts_with("https://") => json!({"type": "url", "url": url}),
        Part::ImageUrl { .. } => return Err(inexpressible("messages", "an image that is not at an https URL")),
    };
    Ok(json!({"type": "image", "source": source}))
}
