//! The Cohere v2 chat request that says the same as a chat request.
//!
//! What the model said beside its calls is their plan here. Left out beside what [`Asked`] leaves out: `strict` of tools,
//! since all or none are strict here, and who the user is. A temperature over 1, the most that there is here, is 1; `p` lies
//! between 0.01 and 0.99, and `k` ends at 500.

use serde_json::{Map, Number, Value, json};

use super::super::Refusal;
use super::super::chat::{Asked, Choice, Format, Part, Turn};
use super::super::fields::inexpressible;
use super::super::parts;
use super::super::schema::Subset;

/// Fields that only one of may be given, and not under 0 or over 1.
const PENALTIES: [&str; 2] = ["frequency_penalty", "presence_penalty"];
/// The most stop sequences.
const MOST_STOPS: usize = 5;
const MOST_K: i64 = 500;
/// The range of `p`.
const P: (f64, f64) = (0.01, 0.99);

/// The request that says the same, but for `model` and `stream`.
pub(in crate::translate) fn asking(asked: &Asked) -> Result<Value, Refusal> {
    asked.refuse_rare(&PENALTIES)?;
    asked.refuse_verbosity()?;
    refuse_penalties(asked)?;
    if asked.stop.len() > MOST_STOPS {
        return Err(inexpressible("stop", "more than five stop sequences"));
    }
    let mut messages = Vec::new();
    if !asked.system.is_empty() {
        messages.push(json!({"role": "system", "content": asked.system.join("\n\n")}));
    }
    for turn in &asked.turns {
        push(&mut messages, turn)?;
    }
    let mut body = Map::new();
    body.insert("messages".into(), messages.into());
    body.extend(asked.rare.clone());
    offer(asked, &mut body)?;
    let format = match &asked.format {
        Format::Text => None,
        Format::Object => Some(json!({"type": "json_object"})),
        Format::Schema { schema, .. } => {
            Some(json!({"type": "json_object", "json_schema": Subset::Required.of(schema)?}))
        }
    };
    let within = |number: &Option<Number>, (least, most): (f64, f64)| {
        let number = number.as_ref().and_then(Number::as_f64)?;
        Number::from_f64(number.clamp(least, most)).map(Value::Number)
    };
    let said = [
        ("response_format", format),
        ("max_tokens", asked.max_tokens.map(Into::into)),
        ("temperature", within(&asked.temperature, (0.0, 1.0))),
        ("p", within(&asked.top_p, P)),
        (
            "k",
            asked
                .top_k
                .filter(|top_k| *top_k > 0)
                .map(|top_k| top_k.min(MOST_K).into()),
        ),
        (
            "stop_sequences",
            (!asked.stop.is_empty()).then(|| asked.stop.clone().into()),
        ),
    ];
    body.extend(
        said.into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?))),
    );
    Ok(body.into())
}

fn refuse_penalties(asked: &Asked) -> Result<(), Refusal> {
    let mut given = PENALTIES.iter().filter_map(|key| Some((*key, asked.rare.get(*key)?)));
    let Some((key, penalty)) = given.next() else {
        return Ok(());
    };
    if !penalty.as_f64().is_some_and(|penalty| (0.0..=1.0).contains(&penalty)) {
        return Err(inexpressible(key, "a penalty that is not from 0 to 1"));
    }
    match given.next() {
        Some((key, _)) => Err(inexpressible(key, "two penalties at once")),
        None => Ok(()),
    }
}

fn offer(asked: &Asked, body: &mut Map<String, Value>) -> Result<(), Refusal> {
    let is_text = asked.format == Format::Text;
    if asked.tools.is_empty() || (asked.choice == Choice::None && !is_text) {
        return Ok(());
    }
    if !is_text {
        return Err(inexpressible("response_format", "a form of the answer beside tools"));
    }
    asked.refuse_one_call()?;
    let mut tools = Vec::new();
    for (place, tool) in asked.tools.iter().enumerate() {
        if !is_tool_name(&tool.name) {
            let at = format!("tools[{place}].function.name");
            return Err(inexpressible(at, "a name of other than letters, digits and `_`"));
        }
        let mut function = json!({"name": tool.name, "parameters": tool.parameters});
        if let Some(description) = &tool.description {
            function["description"] = description.as_str().into();
        }
        tools.push(json!({"type": "function", "function": function}));
    }
    body.insert("tools".into(), tools.into());
    match asked.choice {
        Choice::Auto => {}
        Choice::None => drop(body.insert("tool_choice".into(), "NONE".into())),
        Choice::Required => drop(body.insert("tool_choice".into(), "REQUIRED".into())),
        Choice::Tool(_) => return Err(inexpressible("tool_choice", "a call of one tool among several")),
    }
    Ok(())
}

/// Whether the API takes a tool's name: of those that every API takes, one without `-` that begins with no digit.
fn is_tool_name(name: &str) -> bool {
    !name.contains('-') && !name.starts_with(|first: char| first.is_ascii_digit())
}

fn push(messages: &mut Vec<Value>, turn: &Turn) -> Result<(), Refusal> {
    match turn {
        Turn::System(_) => return Err(inexpressible("messages", "instructions amid the conversation")),
        Turn::User(said) => {
            let content = said.iter().map(part).collect();
            messages.push(json!({"role": "user", "content": parts::content(content)}));
        }
        Turn::Assistant { text, calls } if calls.is_empty() => {
            messages.push(json!({"role": "assistant", "content": text}));
        }
        Turn::Assistant { text, calls } => {
            let calls: Vec<Value> = calls
                .iter()
                .map(|call| {
                    let arguments = Value::Object(call.arguments.clone()).to_string();
                    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
                })
                .collect();
            let mut message = json!({"role": "assistant", "tool_calls": calls});
            if !text.trim().is_empty() {
                message["tool_plan"] = text.as_str().into();
            }
            messages.push(message);
        }
        Turn::Results(results) => messages.extend(
            results
                .iter()
                .map(|result| json!({"role": "tool", "tool_call_id": result.id, "content": result.text})),
        ),
    }
    Ok(())
}

fn part(part: &Part) -> Value {
    match part {
        Part::Text(text) => parts::text(text),
        Part::Image {
            media_type,
            data,
            detail,
        } => parts::image(&format!("data:{media_type};base64,{data}"), detail.as_deref()),
        Part::ImageUrl { url, detail } => parts::image(url, detail.as_deref()),
    }
}
