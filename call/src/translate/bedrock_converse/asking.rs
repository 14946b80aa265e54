//! The Converse request that says the same as a chat request.
//!
//! Left out beside what [`Asked`] leaves out: `seed`, `strict` of tools, `detail` of images, who the user is, and of
//! temperature and top-p, which Anthropic's newer models don't take both, the one that is 1, or top-p. A temperature over 1,
//! the most that there is here, is 1.

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::chat::{Asked, Choice, Format, Part, ToolResult, Turn};
use super::super::fields::inexpressible;
use super::super::schema::Subset;

/// The most letters of a tool's name.
const LONGEST_NAME: usize = 64;

/// The request that says the same; the model, and whether it streams, are in its path.
pub(in crate::translate) fn asking(asked: &Asked) -> Result<Value, Refusal> {
    asked.refuse_rare(&[])?;
    asked.refuse_verbosity()?;
    asked.refuse_top_k()?;
    if let Some(blank) = asked.stop.iter().position(|stop| stop.trim().is_empty()) {
        return Err(inexpressible(format!("stop[{blank}]"), "a blank stop sequence"));
    }
    let mut body = Map::new();
    if !asked.system.is_empty() {
        let system: Vec<Value> = asked.system.iter().map(|text| json!({"text": text})).collect();
        body.insert("system".into(), system.into());
    }
    let messages = asked.alternating(blocks)?.into_iter();
    let role = |is_models: bool| if is_models { "assistant" } else { "user" };
    let messages = messages.map(|(is_models, content)| json!({"role": role(is_models), "content": content}));
    body.insert("messages".into(), messages.collect());
    let (temperature, top_p) = asked.either_sampling();
    let said = [
        ("maxTokens", asked.max_tokens.map(Into::into)),
        ("temperature", temperature.map(Value::Number)),
        ("topP", top_p.map(Value::Number)),
        (
            "stopSequences",
            (!asked.stop.is_empty()).then(|| asked.stop.clone().into()),
        ),
    ];
    let config: Map<String, Value> = said
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect();
    if !config.is_empty() {
        body.insert("inferenceConfig".into(), config.into());
    }
    offer(asked, &mut body)?;
    match &asked.format {
        Format::Text => {}
        Format::Object => return Err(inexpressible("response_format", "JSON without a schema")),
        Format::Schema { name, schema, .. } => {
            let schema = json!({"name": name, "schema": Subset::Closed.of(schema)?.to_string()});
            let format = json!({"type": "json_schema", "structure": {"jsonSchema": schema}});
            body.insert("outputConfig".into(), json!({"textFormat": format}));
        }
    }
    Ok(body.into())
}

/// The tools offered, and the choice among them. The API has no word for tools that may not be called, and wants some to be
/// offered where its history has calls.
fn offer(asked: &Asked, body: &mut Map<String, Value>) -> Result<(), Refusal> {
    if asked.tools.is_empty() || asked.choice == Choice::None {
        let has_calls = |turn: &Turn| matches!(turn, Turn::Results(_));
        return match asked.turns.iter().any(has_calls) {
            true => Err(inexpressible("tools", "a history of calls where none may be made")),
            false => Ok(()),
        };
    }
    asked.refuse_one_call()?;
    let mut tools = Vec::new();
    for (place, tool) in asked.tools.iter().enumerate() {
        if tool.name.len() > LONGEST_NAME {
            let at = format!("tools[{place}].function.name");
            return Err(inexpressible(at, "a name of more than 64 letters"));
        }
        let mut spec = json!({"name": tool.name, "inputSchema": {"json": tool.parameters}});
        if let Some(description) = &tool.description {
            spec["description"] = description.as_str().into();
        }
        tools.push(json!({"toolSpec": spec}));
    }
    let mut config = json!({"tools": tools});
    match &asked.choice {
        Choice::Auto | Choice::None => {}
        Choice::Required => config["toolChoice"] = json!({"any": {}}),
        Choice::Tool(name) => config["toolChoice"] = json!({"tool": {"name": name}}),
    }
    body.insert("toolConfig".into(), config);
    Ok(())
}

fn blocks(turn: &Turn) -> Result<Vec<Value>, Refusal> {
    match turn {
        Turn::System(text) => Ok(vec![json!({"text": text})]),
        Turn::User(parts) => parts.iter().map(block).collect(),
        Turn::Results(results) => Ok(results.iter().map(result).collect()),
        Turn::Assistant { text, calls } => {
            let text = (!text.trim().is_empty()).then(|| json!({"text": text}));
            let calls = calls
                .iter()
                .map(|call| json!({"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}}));
            Ok(text.into_iter().chain(calls).collect())
        }
    }
}

/// The API takes no blank text.
fn result(result: &ToolResult) -> Value {
    let text = (!result.text.trim().is_empty()).then(|| json!({"text": result.text}));
    let content: Vec<Value> = text.into_iter().collect();
    json!({"toolResult": {"toolUseId": result.id, "content": content}})
}

fn block(part: &Part) -> Result<Value, Refusal> {
    match part {
        Part::Text(text) => Ok(json!({"text": text})),
        Part::Image { media_type, data, .. } => {
            let format = media_type.strip_prefix("image/").unwrap_or(media_type);
            Ok(json!({"image": {"format": format, "source": {"bytes": data}}}))
        }
        Part::ImageUrl { .. } => Err(inexpressible("messages", "an image that is not in the request")),
    }
}
