//! The generateContent request that says the same as a chat request.
//!
//! Left out beside what [`Asked`] leaves out: `strict` of tools and `detail` of images. A function call of the history has
//! no thought signature, since only Gemini makes them: models that insist on one refuse the request.

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::chat::{Asked, Choice, Format, Part, ToolResult, Turn};
use super::super::fields::inexpressible;

/// The request that says the same; model and framing are in its path.
pub(in crate::translate) fn asking(asked: &Asked) -> Result<Value, Refusal> {
    asked.refuse_rare(&["frequency_penalty", "presence_penalty"])?;
    asked.refuse_verbosity()?;
    let mut body = Map::new();
    if !asked.system.is_empty() {
        let parts: Vec<Value> = asked.system.iter().map(|text| json!({"text": text})).collect();
        body.insert("systemInstruction".into(), json!({"parts": parts}));
    }
    body.insert("contents".into(), contents(asked)?.into());
    offer(asked, &mut body)?;
    let config = config(asked);
    if !config.is_empty() {
        body.insert("generationConfig".into(), config.into());
    }
    Ok(body.into())
}

fn config(asked: &Asked) -> Map<String, Value> {
    let rare = |key: &str| asked.rare.get(key).cloned();
    let number = |number: &Option<serde_json::Number>| number.clone().map(Value::Number);
    let stop = (!asked.stop.is_empty()).then(|| asked.stop.clone().into());
    let (kind, schema) = match &asked.format {
        Format::Text => (None, None),
        Format::Object => (Some("application/json".into()), None),
        Format::Schema { schema, .. } => (Some("application/json".into()), Some(schema.clone())),
    };
    let said = [
        ("maxOutputTokens", asked.max_tokens.map(Into::into)),
        ("temperature", number(&asked.temperature)),
        ("topP", number(&asked.top_p)),
        ("topK", asked.top_k.filter(|top_k| *top_k > 0).map(Into::into)),
        ("presencePenalty", rare("presence_penalty")),
        ("frequencyPenalty", rare("frequency_penalty")),
        ("seed", rare("seed")),
        ("stopSequences", stop),
        ("responseMimeType", kind),
        ("responseJsonSchema", schema),
    ];
    let said = said
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    said.collect()
}

fn offer(asked: &Asked, body: &mut Map<String, Value>) -> Result<(), Refusal> {
    if asked.tools.is_empty() {
        return Ok(());
    }
    asked.refuse_one_call()?;
    let declared = asked.tools.iter().map(|tool| {
        let mut function = json!({"name": tool.name, "parametersJsonSchema": tool.parameters});
        if let Some(description) = &tool.description {
            function["description"] = description.as_str().into();
        }
        function
    });
    let declared: Vec<Value> = declared.collect();
    body.insert("tools".into(), json!([{"functionDeclarations": declared}]));
    let calling = match &asked.choice {
        Choice::Auto => return Ok(()),
        Choice::None => json!({"mode": "NONE"}),
        Choice::Required => json!({"mode": "ANY"}),
        Choice::Tool(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
    };
    body.insert("toolConfig".into(), json!({"functionCallingConfig": calling}));
    Ok(())
}

fn contents(asked: &Asked) -> Result<Vec<Value>, Refusal> {
    let contents = asked.alternating(parts)?.into_iter();
    let role = |is_models: bool| if is_models { "model" } else { "user" };
    Ok(contents
        .map(|(is_models, parts)| json!({"role": role(is_models), "parts": parts}))
        .collect())
}

fn parts(turn: &Turn) -> Result<Vec<Value>, Refusal> {
    match turn {
        Turn::System(text) => Ok(vec![json!({"text": text})]),
        Turn::User(parts) => parts.iter().map(part).collect(),
        Turn::Results(results) => Ok(results.iter().map(result).collect()),
        Turn::Assistant { text, calls } => {
            let text = (!text.is_empty()).then(|| json!({"text": text}));
            let calls = calls.iter();
            let calls = calls.map(|call| json!({"functionCall": {"name": call.name, "args": call.arguments}}));
            Ok(text.into_iter().chain(calls).collect())
        }
    }
}

/// A response is an object here: the result where it is one, else one that holds it.
fn result(result: &ToolResult) -> Value {
    let response = match crate::wire::parse_json(result.text.as_bytes()) {
        Ok(Value::Object(response)) => Value::Object(response),
        _ => json!({"result": result.text}),
    };
    json!({"functionResponse": {"name": result.name, "response": response}})
}

fn part(part: &Part) -> Result<Value, Refusal> {
    match part {
        Part::Text(text) => Ok(json!({"text": text})),
        Part::Image { media_type, data, .. } => Ok(json!({"inlineData": {"mimeType": media_type, "data": data}})),
        Part::ImageUrl { .. } => Err(inexpressible("messages", "an image that is not in the request")),
    }
}
