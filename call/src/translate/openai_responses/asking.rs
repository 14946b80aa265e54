//! The Responses request that says the same as a chat request. It asks the provider to keep nothing.

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::chat::{Asked, Choice, Format, Part, Turn};
use super::super::fields::inexpressible;

/// The least limit that the API takes.
const LEAST_TOKENS: i64 = 16;

/// The request that says the same, but for `model` and `stream`.
pub(in super::super) fn asking(asked: &Asked) -> Result<Value, Refusal> {
    asked.refuse_rare(&[])?;
    asked.refuse_top_k()?;
    if !asked.stop.is_empty() {
        return Err(inexpressible("stop", "the candidate's API has no such field"));
    }
    if asked.max_tokens.is_some_and(|most| most < LEAST_TOKENS) {
        return Err(inexpressible("max_tokens", "a limit of fewer than 16 tokens"));
    }
    let mut body = Map::new();
    body.insert("store".into(), false.into());
    if !asked.system.is_empty() {
        body.insert("instructions".into(), asked.system.join("\n\n").into());
    }
    let mut input = Vec::new();
    asked.turns.iter().for_each(|turn| push(&mut input, turn));
    body.insert("input".into(), input.into());
    offer(asked, &mut body);
    let mut text = Map::new();
    match &asked.format {
        Format::Text => {}
        Format::Object => drop(text.insert("format".into(), json!({"type": "json_object"}))),
        Format::Schema { name, schema, strict } => {
            let strict = strict.unwrap_or(false);
            let format = json!({"type": "json_schema", "name": name, "schema": schema, "strict": strict});
            text.insert("format".into(), format);
        }
    }
    text.extend(
        asked
            .verbosity
            .clone()
            .map(|word| ("verbosity".to_owned(), word.into())),
    );
    let said = [
        ("text", (!text.is_empty()).then(|| text.into())),
        ("max_output_tokens", asked.max_tokens.map(Into::into)),
        ("temperature", asked.temperature.clone().map(Value::Number)),
        ("top_p", asked.top_p.clone().map(Value::Number)),
        ("user", asked.user.clone().map(Into::into)),
    ];
    body.extend(
        said.into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?))),
    );
    Ok(body.into())
}

/// The API takes a tool's schema strictly unless it is told not to.
fn offer(asked: &Asked, body: &mut Map<String, Value>) {
    if asked.tools.is_empty() {
        return;
    }
    let tools = asked.tools.iter().map(|tool| {
        let strict = tool.strict.unwrap_or(false);
        let mut offered =
            json!({"type": "function", "name": tool.name, "parameters": tool.parameters, "strict": strict});
        if let Some(description) = &tool.description {
            offered["description"] = description.as_str().into();
        }
        offered
    });
    body.insert("tools".into(), tools.collect());
    let choice = match &asked.choice {
        Choice::Auto => "auto".into(),
        Choice::None => "none".into(),
        Choice::Required => "required".into(),
        Choice::Tool(name) => json!({"type": "function", "name": name}),
    };
    body.insert("tool_choice".into(), choice);
    if asked.one_call {
        body.insert("parallel_tool_calls".into(), false.into());
    }
}

fn push(input: &mut Vec<Value>, turn: &Turn) {
    match turn {
        Turn::System(text) => input.push(json!({"role": "developer", "content": text})),
        Turn::User(parts) => {
            let parts: Vec<Value> = parts.iter().map(part).collect();
            input.push(json!({"role": "user", "content": parts}));
        }
        Turn::Assistant { text, calls } => {
            if !text.is_empty() {
                let content = json!([{"type": "output_text", "text": text, "annotations": []}]);
                input.push(json!({"type": "message", "role": "assistant", "content": content}));
            }
            input.extend(calls.iter().map(|call| {
                let arguments = Value::Object(call.arguments.clone()).to_string();
                json!({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments})
            }));
        }
        Turn::Results(results) => input.extend(
            results
                .iter()
                .map(|result| json!({"type": "function_call_output", "call_id": result.id, "output": result.text})),
        ),
    }
}

fn part(part: &Part) -> Value {
    let (url, detail) = match part {
        Part::Text(text) => return json!({"type": "input_text", "text": text}),
        Part::Image {
            media_type,
            data,
            detail,
        } => (format!("data:{media_type};base64,{data}"), detail),
        Part::ImageUrl { url, detail } => (url.clone(), detail),
    };
    json!({"type": "input_image", "image_url": url, "detail": detail.as_deref().unwrap_or("auto")})
}
