//! The chat request of Ollama's that says the same as one of OpenAI's.
//!
//! Left out beside what [`Asked`] leaves out: `strict` of tools and formats, `detail` of images, and who the user is. Calls
//! and results have no ids here; results stand in the order of their calls, each with the name of its tool.

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::chat::{Asked, Choice, Format, Part, Turn};
use super::super::fields::inexpressible;

/// The request that says the same, but for `model` and `stream`.
pub(in crate::translate) fn asking(asked: &Asked) -> Result<Value, Refusal> {
    asked.refuse_rare(&["frequency_penalty", "presence_penalty", "min_p"])?;
    asked.refuse_verbosity()?;
    let mut messages: Vec<Value> = asked
        .system
        .iter()
        .map(|text| json!({"role": "system", "content": text}))
        .collect();
    for turn in &asked.turns {
        push(&mut messages, turn)?;
    }
    let mut body = Map::new();
    body.insert("messages".into(), messages.into());
    if !asked.tools.is_empty() && asked.choice != Choice::None {
        if asked.choice != Choice::Auto {
            return Err(inexpressible("tool_choice", "a call that must be made"));
        }
        asked.refuse_one_call()?;
        let tools = asked.tools.iter().map(|tool| {
            let mut function = json!({"name": tool.name, "parameters": tool.parameters});
            if let Some(description) = &tool.description {
                function["description"] = description.as_str().into();
            }
            json!({"type": "function", "function": function})
        });
        body.insert("tools".into(), tools.collect());
    }
    match &asked.format {
        Format::Text => {}
        Format::Object => drop(body.insert("format".into(), "json".into())),
        Format::Schema { schema, .. } => drop(body.insert("format".into(), schema.clone())),
    }
    let options = options(asked);
    if !options.is_empty() {
        body.insert("options".into(), options.into());
    }
    Ok(body.into())
}

fn options(asked: &Asked) -> Map<String, Value> {
    let mut options = asked.rare.clone();
    let said = [
        ("temperature", asked.temperature.clone().map(Value::Number)),
        ("top_p", asked.top_p.clone().map(Value::Number)),
        ("top_k", asked.top_k.map(Into::into)),
        ("num_predict", asked.max_tokens.map(Into::into)),
        ("stop", (!asked.stop.is_empty()).then(|| asked.stop.clone().into())),
    ];
    options.extend(
        said.into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?))),
    );
    options
}

fn push(messages: &mut Vec<Value>, turn: &Turn) -> Result<(), Refusal> {
    match turn {
        Turn::System(text) => messages.push(json!({"role": "system", "content": text})),
        Turn::User(parts) => messages.push(user(parts)?),
        Turn::Assistant { text, calls } => {
            let mut message = json!({"role": "assistant", "content": text});
            if !calls.is_empty() {
                let calls = calls.iter();
                let calls = calls.map(|call| json!({"function": {"name": call.name, "arguments": call.arguments}}));
                message["tool_calls"] = calls.collect();
            }
            messages.push(message);
        }
        Turn::Results(results) => messages.extend(
            results
                .iter()
                .map(|result| json!({"role": "tool", "tool_name": result.name, "content": result.text})),
        ),
    }
    Ok(())
}

fn user(parts: &[Part]) -> Result<Value, Refusal> {
    let (mut texts, mut images) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Part::Text(text) => texts.push(text.as_str()),
            Part::Image { data, .. } => images.push(data.as_str()),
            Part::ImageUrl { .. } => {
                return Err(inexpressible("messages", "an image that is not in the request"));
            }
        }
    }
    let mut message = json!({"role": "user", "content": texts.join("\n")});
    if !images.is_empty() {
        message["images"] = images.into();
    }
    Ok(message)
}
