//! The tools that a chat request offers, and which of them are to be called.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::Asked;
use crate::translate::Refusal;
use crate::translate::fields::{Fields, inexpressible, unreadable};
use crate::translate::ids::is_tool_name;

/// A tool that is offered.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::translate) struct Tool {
    pub(in crate::translate) name: String,
    pub(in crate::translate) description: Option<String>,
    /// A schema of an object.
    pub(in crate::translate) parameters: Value,
    pub(in crate::translate) strict: Option<bool>,
}

/// Which tools are to be called.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::translate) enum Choice {
    #[default]
    Auto,
    None,
    Required,
    Tool(String),
}

impl Asked {
    /// Reads tools and choice.
    pub(super) fn take_tools(&mut self, fields: &mut Fields<'_>) -> Result<(), Refusal> {
        let mut names = HashSet::new();
        for (at, tool) in fields.items("tools") {
            let tool = offered(tool, at.clone())?;
            if !names.insert(tool.name.clone()) {
                return Err(inexpressible(at, "two tools of one name"));
            }
            self.tools.push(tool);
        }
        let parallel = fields.take("parallel_tool_calls");
        let at = fields.path("tool_choice");
        let choice = match fields.take("tool_choice") {
            None => Choice::Auto,
            Some(Value::String(word)) => match word.as_str() {
                "auto" => Choice::Auto,
                "none" => Choice::None,
                "required" => Choice::Required,
                _ => return Err(inexpressible(at, "an unknown choice")),
            },
            Some(choice) => chosen(Fields::of(choice, at)?)?,
        };
        if !self.tools.is_empty() {
            self.choice = choice;
            self.one_call = parallel == Some(&Value::Bool(false));
        }
        Ok(())
    }
}

fn offered(tool: &Value, at: String) -> Result<Tool, Refusal> {
    let mut fields = Fields::of(tool, at.clone())?;
    match fields.needed_text("type")? {
        "function" => {}
        kind => return Err(inexpressible(at, format!("a tool of type `{kind}`"))),
    }
    fields.leave_out(&["cache_control"]);
    let function_at = fields.path("function");
    let mut function = fields
        .object("function")?
        .ok_or_else(|| unreadable(&function_at, "missing"))?;
    let (name_at, schema_at) = (function.path("name"), function.path("parameters"));
    let tool = Tool {
        name: function.needed_text("name")?.to_owned(),
        description: function
            .text("description")?
            .filter(|text| !text.is_empty())
            .map(Into::into),
        parameters: of_object(function.take("parameters"), &schema_at)?,
        strict: function.has("strict").then(|| function.flag("strict")).transpose()?,
    };
    function.end()?;
    fields.end()?;
    if !is_tool_name(&tool.name) {
        return Err(inexpressible(name_at, "a name that not every API takes"));
    }
    Ok(tool)
}

/// A schema of an object; one that says no type means one.
fn of_object(schema: Option<&Value>, at: &str) -> Result<Value, Refusal> {
    let mut schema = schema.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let Some(object) = schema.as_object_mut() else {
        return Err(unreadable(at, "no object"));
    };
    match object.get("type").map(|kind| kind == "object") {
        Some(true) => {}
        Some(false) => return Err(inexpressible(at, "arguments that are no object")),
        None => {
            object.insert("type".into(), "object".into());
        }
    }
    if !object.contains_key("properties") {
        object.insert("properties".into(), Value::Object(Map::new()));
    }
    Ok(schema)
}

fn chosen(mut choice: Fields<'_>) -> Result<Choice, Refusal> {
    let at = choice.path("type");
    let named = match choice.needed_text("type")? {
        "function" => choice.object("function")?,
        _ => None,
    };
    let mut named = named.ok_or_else(|| inexpressible(at, "an unknown choice"))?;
    let name = named.needed_text("name")?.to_owned();
    named.end()?;
    choice.end()?;
    Ok(Choice::Tool(name))
}
