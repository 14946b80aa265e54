//! Constrained decoding: the form of the answer is asked for as a JSON schema, so that a failure of form is told from one of
//! sense.
//!
//! For candidates whose server holds answers to `response_format`, or to what their API has for it. The schema is the
//! request's own, made of the tools that it offers (for servers without tool calls), or of the form that the recorded
//! answers have in common: their keys and types, or their closed set of labels, and never what a single one of them says.

use super::sample::Sample;
use crate::score::json_of;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use understudy_call::call::{Response, ToolCall};

/// Keys of an object that is a record; one with more is a map of anything.
const MOST_KEYS: usize = 64;
/// Labels of a closed set that are spelled out.
const MOST_LABELS: usize = 100;

/// What the answers to a task look like, where their requests don't say.
#[derive(Clone, Debug, Default)]
pub(super) struct Constraint {
    answers: Option<Value>,
}

/// How a constrained answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Plain,
    /// An object `{name, arguments}` is a tool call, one `{answer}` is text.
    Tools,
    /// A JSON string is text.
    Label,
}

impl Constraint {
    /// By the recorded answers of a sample.
    pub(super) fn of(sample: &Sample) -> Constraint {
        let texts = || {
            let written = sample.calls.iter().filter(|call| call.recorded.tool_calls.is_empty());
            written.map(|call| call.recorded.output_text.as_str())
        };
        let values: Vec<Value> = texts().filter_map(json_of).collect();
        let answers = if !values.is_empty() && values.len() == texts().count() {
            Some(schema_of(&values.iter().collect::<Vec<_>>()))
        } else if sample.labels.is_closed() {
            let labels: BTreeSet<&str> = texts().map(str::trim).collect();
            (labels.len() <= MOST_LABELS).then(|| json!({"type": "string", "enum": labels}))
        } else {
            None
        };
        Constraint { answers }
    }

    /// The form that is asked for where a request says none.
    pub(super) fn form(&self) -> Option<String> {
        self.answers.as_ref().map(Value::to_string)
    }

    /// Asks for the form in a request; says how the answer is to be read.
    pub(super) fn put(&self, body: &mut Map<String, Value>) -> Form {
        if let Some(tools) = body
            .get("tools")
            .and_then(Value::as_array)
            .filter(|tools| !tools.is_empty())
        {
            let tools = tools.clone();
            let must_call = body
                .get("tool_choice")
                .is_some_and(|choice| choice == "required" || choice.is_object());
            for field in [
                "tools",
                "tool_choice",
                "parallel_tool_calls",
                "functions",
                "function_call",
            ] {
                body.shift_remove(field);
            }
            tell(body, &tools, must_call);
            body.insert("response_format".into(), format(&schema_of_tools(&tools, must_call)));
            return Form::Tools;
        }
        let given = body.get("response_format").and_then(|format| format.get("type"));
        match (given.and_then(Value::as_str), &self.answers) {
            (Some("json_schema"), _) | (_, None) => Form::Plain,
            (_, Some(schema)) => {
                let is_label = schema.get("enum").is_some();
                body.insert("response_format".into(), format(schema));
                if is_label { Form::Label } else { Form::Plain }
            }
        }
    }
}

impl Form {
    /// The answer as one that was not constrained would say it.
    pub(super) fn read(self, answer: &mut Response) {
        let Ok(value) = serde_json::from_str::<Value>(answer.output_text.trim()) else {
            return;
        };
        match (self, &value) {
            (Form::Label, Value::String(label)) => answer.output_text = label.clone(),
            (Form::Tools, Value::Object(said)) => {
                if let Some(text) = said.get("answer").and_then(Value::as_str) {
                    answer.output_text = text.to_owned();
                } else if let Some(name) = said.get("name").and_then(Value::as_str) {
                    answer.tool_calls = vec![ToolCall {
                        id: None,
                        name: name.to_owned(),
                        arguments: said.get("arguments").unwrap_or(&json!({})).to_string(),
                    }];
                    answer.output_text.clear();
                }
            }
            _ => {}
        }
    }
}

fn format(schema: &Value) -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema}})
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn schema_of_tools(tools: &[Value], must_call: bool) -> Value {
    let call = |tool: &Value| {
        let function = tool.get("function").unwrap_or(tool);
        let arguments = function
            .get("parameters")
            .cloned()
            .unwrap_or_else(|| json!({"type": "object"}));
        let name = json!({"const": function.get("name").cloned().unwrap_or_default()});
        object(json!({"name": name, "arguments": arguments}), &["name", "arguments"])
    };
    let mut forms: Vec<Value> = tools.iter().map(call).collect();
    if !must_call {
        forms.push(object(json!({"answer": {"type": "string"}}), &["answer"]));
    }
    json!({"anyOf": forms})
}

/// Tools that are no longer offered as such are told in words.
fn tell(body: &mut Map<String, Value>, tools: &[Value], must_call: bool) {
    let functions: Vec<&Value> = tools.iter().map(|tool| tool.get("function").unwrap_or(tool)).collect();
    let mut words = format!(
        "Call one of these tools by answering with one JSON object {{\"name\": …, \"arguments\": …}}:\n{}",
        Value::from(functions.into_iter().cloned().collect::<Vec<Value>>())
    );
    if !must_call {
        words.push_str("\nWhere no tool is needed, answer with {\"answer\": …}.");
    }
    let Some(messages) = body.get_mut("messages").and_then(Value::as_array_mut) else {
        return;
    };
    let is_system = |message: &Value| {
        message
            .get("role")
            .is_some_and(|role| role == "system" || role == "developer")
    };
    match messages
        .first_mut()
        .filter(|first| is_system(first))
        .map(|first| &mut first["content"])
    {
        Some(Value::String(text)) => *text = format!("{text}\n\n{words}"),
        _ => messages.insert(0, json!({"role": "system", "content": words})),
    }
}

/// The form that values have in common: types, keys, and which keys all of them have.
fn schema_of(values: &[&Value]) -> Value {
    let objects: Vec<&Map<String, Value>> = values.iter().filter_map(|value| value.as_object()).collect();
    let arrays: Vec<&Vec<Value>> = values.iter().filter_map(|value| value.as_array()).collect();
    let mut forms = Vec::new();
    if !objects.is_empty() {
        forms.push(schema_of_objects(&objects));
    }
    if !arrays.is_empty() {
        let items: Vec<&Value> = arrays.into_iter().flatten().collect();
        forms.push(match items.is_empty() {
            true => json!({"type": "array"}),
            false => json!({"type": "array", "items": schema_of(&items)}),
        });
    }
    let mut scalars: BTreeSet<&str> = values.iter().filter_map(|value| scalar(value)).collect();
    if scalars.contains("number") {
        scalars.remove("integer");
    }
    forms.extend(scalars.into_iter().map(|name| json!({"type": name})));
    match forms.len() {
        1 => forms.remove(0),
        _ => json!({"anyOf": forms}),
    }
}

fn schema_of_objects(objects: &[&Map<String, Value>]) -> Value {
    let mut keys: Vec<&str> = Vec::new();
    let mut known = BTreeSet::new();
    for key in objects.iter().flat_map(|object| object.keys()) {
        if known.insert(key.as_str()) {
            keys.push(key);
        }
    }
    if keys.len() > MOST_KEYS {
        return json!({"type": "object"});
    }
    let of_key = |key: &&str| {
        let values: Vec<&Value> = objects.iter().filter_map(|object| object.get(*key)).collect();
        ((*key).to_owned(), schema_of(&values))
    };
    let properties: Map<String, Value> = keys.iter().map(of_key).collect();
    let required: Vec<&str> = keys
        .into_iter()
        .filter(|key| objects.iter().all(|object| object.contains_key(*key)))
        .collect();
    object(Value::Object(properties), &required)
}

fn scalar(value: &Value) -> Option<&'static str> {
    match value {
        Value::Null => Some("null"),
        Value::Bool(_) => Some("boolean"),
        Value::Number(number) if number.is_f64() => Some("number"),
        Value::Number(_) => Some("integer"),
        Value::String(_) => Some("string"),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn said(text: &str) -> Response {
        Response {
            output_text: text.into(),
            ..Response::default()
        }
    }

    #[test]
    fn the_form_of_answers_is_their_keys_and_types() {
        let answers = [
            json!({"id": "A-1", "total": 3, "items": [{"n": 1}], "note": null}),
            json!({"id": "A-2", "total": 4.5, "items": []}),
        ];
        let schema = schema_of(&answers.iter().collect::<Vec<_>>());
        let expected = json!({
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "total": {"type": "number"},
                "items": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}},
                    "required": ["n"], "additionalProperties": false}},
                "note": {"type": "null"}
            },
            "required": ["id", "total", "items"],
            "additionalProperties": false
        });
        assert_eq!(schema, expected);
        assert!(
            !schema.to_string().contains("A-1"),
            "what an answer says is not given away"
        );
    }

    #[test]
    fn tools_become_a_schema_and_the_answer_a_tool_call() {
        let tool = json!({"type": "function", "function": {"name": "find", "description": "Finds.",
            "parameters": {"type": "object", "properties": {"id": {"type": "string"}}}}});
        let mut body = map(
            json!({"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "x"}],
            "tools": [tool], "tool_choice": "auto"}),
        );
        let form = Constraint::default().put(&mut body);
        assert!(!body.contains_key("tools") && !body.contains_key("tool_choice"));
        let forms = &body["response_format"]["json_schema"]["schema"]["anyOf"];
        assert_eq!(
            (
                &forms[0]["properties"]["name"]["const"],
                forms.as_array().unwrap().len()
            ),
            (&json!("find"), 2)
        );
        let system = body["messages"][0]["content"].as_str().unwrap();
        assert!(system.starts_with("Be kind.") && system.contains("Finds."), "{system}");
        let mut answer = said(r#"{"name": "find", "arguments": {"id": "7"}}"#);
        form.read(&mut answer);
        assert_eq!(
            (
                answer.tool_calls[0].name.as_str(),
                answer.tool_calls[0].arguments.as_str()
            ),
            ("find", r#"{"id":"7"}"#)
        );
        assert!(answer.output_text.is_empty());
        let mut answer = said(r#"{"answer": "It is late."}"#);
        form.read(&mut answer);
        assert_eq!(
            (answer.output_text.as_str(), answer.tool_calls.len()),
            ("It is late.", 0)
        );
    }

    #[test]
    fn a_schema_that_the_request_has_stays_and_labels_are_read_without_quotes() {
        let own = json!({"type": "json_schema", "json_schema": {"name": "own"}});
        let labels = Constraint {
            answers: Some(json!({"type": "string", "enum": ["spam", "ham"]})),
        };
        let mut body = map(json!({"messages": [], "response_format": own}));
        assert_eq!(labels.put(&mut body), Form::Plain);
        assert_eq!(body["response_format"], own);
        let mut body = map(json!({"messages": []}));
        let form = labels.put(&mut body);
        let mut answer = said("\"ham\"");
        form.read(&mut answer);
        assert_eq!((form, answer.output_text.as_str()), (Form::Label, "ham"));
        let mut broken = said("\"ha");
        form.read(&mut broken);
        assert_eq!(broken.output_text, "\"ha", "what can't be read stays as it is");
        let mut body = map(json!({"messages": []}));
        assert_eq!(Constraint::default().put(&mut body), Form::Plain);
        assert!(!body.contains_key("response_format"));
    }
}
