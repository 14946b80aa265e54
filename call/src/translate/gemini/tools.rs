//! Gemini's functions, their calls and their results in chat.

use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::fields::{Fields, inexpressible, is_off};
use super::super::tool_calls::History;
use crate::wire::gemini::json_schema;

/// `tools` and `tool_choice` of the chat request.
pub(super) fn offered(fields: &mut Fields<'_>) -> Result<Map<String, Value>, Refusal> {
    let mut functions = Vec::new();
    for (at, tool) in fields.items("tools") {
        let mut tool = Fields::camel(tool, at)?;
        for (at, declared) in tool.items("functionDeclarations") {
            functions.push(function(Fields::camel(declared, at)?)?);
        }
        tool.end_as("a tool that the provider runs")?;
    }
    let mut chat = Map::new();
    if let Some(config) = fields.object("toolConfig")?
        && let Some(choice) = choice(config, &mut functions)?
    {
        chat.insert("tool_choice".into(), choice);
    }
    if functions.is_empty() {
        chat.remove("tool_choice");
    } else {
        chat.insert("tools".into(), functions.into());
    }
    Ok(chat)
}

/// Chat has no field for the schema of a function's result, which SDKs make of a return type: the description says it.
fn function(mut declared: Fields<'_>) -> Result<Value, Refusal> {
    let mut function = Map::new();
    function.insert("name".into(), declared.text("name")?.unwrap_or_default().into());
    let description = declared.text("description")?.map(str::to_owned);
    let returned = schema(&mut declared, "responseJsonSchema", "response");
    let returned = returned.map(|schema| format!("Returns JSON of this schema: {schema}"));
    let told: Vec<String> = description.into_iter().chain(returned).collect();
    if !told.is_empty() {
        function.insert("description".into(), told.join("\n\n").into());
    }
    let nothing = || json!({"type": "object", "properties": {}});
    let parameters = schema(&mut declared, "parametersJsonSchema", "parameters");
    function.insert("parameters".into(), parameters.unwrap_or_else(nothing));
    declared.refuse_unless("behavior", "a function that is not waited for", |behavior| {
        matches!(behavior.as_str(), Some("BLOCKING" | "UNSPECIFIED"))
    })?;
    declared.end()?;
    Ok(json!({"type": "function", "function": function}))
}

/// A schema under the one key in JSON Schema, or under the other in Gemini's own language.
fn schema(fields: &mut Fields<'_>, standard: &str, own: &str) -> Option<Value> {
    let given = fields.take(standard).cloned();
    given.or_else(|| fields.take(own).map(json_schema))
}

/// Refuses functions that the model may call, where the baseline would not take a candidate's call back.
///
/// From Gemini 3 on the API answers 400 to a function call of the current turn without the signature that its own model
/// put there. A candidate's call has none, so the conversation could not go back amid a turn.
pub(in crate::translate) fn refuse_unsigned_calls(model: &str, chat: &Value) -> Result<(), Refusal> {
    let may_call = chat.get("tools").is_some() && chat["tool_choice"] != "none";
    if may_call && asks_for_signatures(model) {
        return Err(inexpressible(
            "tools",
            "a function call without this model's signature could not go back",
        ));
    }
    Ok(())
}

/// Names without a version that end in `latest` mean the newest model.
fn asks_for_signatures(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or_default();
    let Some(name) = name.strip_prefix("gemini-") else {
        return false;
    };
    let version = name
        .split(|letter: char| !letter.is_ascii_digit())
        .next()
        .unwrap_or_default();
    version
        .parse::<u32>()
        .map_or(name.ends_with("latest"), |version| version >= 3)
}

/// Which functions the model may call; those that it may not are taken from the offer, since chat names one or all.
fn choice(mut config: Fields<'_>, functions: &mut Vec<Value>) -> Result<Option<Value>, Refusal> {
    config.refuse_unless(
        "includeServerSideToolInvocations",
        "tools that the provider runs",
        is_off,
    )?;
    let calling = config.object("functionCallingConfig")?;
    config.end()?;
    let Some(mut calling) = calling else {
        return Ok(None);
    };
    let (mode_at, names_at) = (calling.path("mode"), calling.path("allowedFunctionNames"));
    calling.refuse_unless("streamFunctionCallArguments", "arguments in pieces", is_off)?;
    let mode = calling.text("mode")?.unwrap_or_default().to_ascii_uppercase();
    let allowed = calling.texts("allowedFunctionNames")?;
    calling.end()?;

    let choice = match mode.as_str() {
        "" | "MODE_UNSPECIFIED" | "AUTO" => "auto",
        "NONE" => "none",
        "ANY" => "required",
        // Either text, or a call that follows its schema.
        "VALIDATED" => {
            functions
                .iter_mut()
                .for_each(|tool| tool["function"]["strict"] = true.into());
            "auto"
        }
        _ => return Err(inexpressible(mode_at, "an unknown mode")),
    };
    if !allowed.is_empty() {
        if !matches!(mode.as_str(), "ANY" | "VALIDATED") {
            return Err(inexpressible(names_at, "names in a mode that takes none"));
        }
        functions.retain(|tool| {
            tool["function"]["name"]
                .as_str()
                .is_some_and(|name| allowed.contains(&name))
        });
    }
    if choice == "required" && functions.is_empty() {
        return Err(inexpressible(mode_at, "a call of a function that is not offered"));
    }
    if let ("required", [name]) = (choice, allowed.as_slice()) {
        return Ok(Some(json!({"type": "function", "function": {"name": name}})));
    }
    Ok(Some(choice.into()))
}

/// A call of the model's in chat.
pub(super) fn call(mut call: Fields<'_>, history: &mut History) -> Result<Value, Refusal> {
    let id = call.text("id")?;
    let name = call.text("name")?.unwrap_or_default();
    let arguments = call.take("args").map_or_else(|| "{}".to_owned(), Value::to_string);
    call.refuse_unless("willContinue", "arguments in pieces", is_off)?;
    call.end()?;
    Ok(history.called(id, name, arguments))
}

/// A function's result as a tool message: the whole response as JSON, as Gemini's own models are shown it.
pub(super) fn result(mut result: Fields<'_>, history: &mut History) -> Result<Value, Refusal> {
    let at = result.path("name");
    let id = result.text("id")?.filter(|id| !id.is_empty());
    let name = result.text("name")?.unwrap_or_default();
    let content = result
        .take("response")
        .map_or_else(|| "{}".to_owned(), Value::to_string);
    result.refuse_unless("parts", "media in a tool's result", is_off)?;
    result.refuse_unless("willContinue", "a result in pieces", is_off)?;
    result.end()?;
    history.answered(id, Some(name), content, &at)
}
