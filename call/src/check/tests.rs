//! Faults of answers, one by one, and schemas that would take for ever.

use super::*;
use serde_json::json;

const API: Api = Api::OpenaiChat;

fn demands(more: Value) -> Demands {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}},
        "required": ["city"], "additionalProperties": false});
    let function =
        |name: &str, schema: &Value| json!({"type": "function", "function": {"name": name, "parameters": schema}});
    let mut body = json!({"model": "m", "messages": [],
        "tools": [function("book", &schema), function("list", &Value::Null), {"type": "custom", "custom": {"name": "shell"}}]});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    Demands::of(API, body.to_string().as_bytes()).unwrap()
}

fn answer(message: Value, finish: Value) -> Assembled {
    Assembled {
        body: json!({"choices": [{"index": 0, "message": message, "finish_reason": finish}]}),
        ..Assembled::default()
    }
}

fn text(text: &str) -> Assembled {
    answer(json!({"role": "assistant", "content": text}), "stop".into())
}

fn calls(calls: &[(&str, &str)]) -> Assembled {
    let call = |(name, arguments): &(&str, &str)| json!({"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}});
    let calls: Vec<Value> = calls.iter().map(call).collect();
    answer(
        json!({"role": "assistant", "content": null, "tool_calls": calls}),
        "tool_calls".into(),
    )
}

fn fault(more: Value, answer: &Assembled) -> Option<Fault> {
    demands(more).check(API, answer).err()
}

#[test]
fn what_is_asked_for_has_no_fault() {
    assert_eq!(fault(json!({}), &text("Hello.")), None);
    assert_eq!(
        fault(
            json!({}),
            &calls(&[("book", r#"{"city":"Rome","n":2}"#), ("list", "{}"), ("list", "")])
        ),
        None
    );
    assert_eq!(
        fault(
            json!({"response_format": {"type": "json_object"}}),
            &text(" {\"a\":1}\n")
        ),
        None
    );
    assert_eq!(
        fault(
            json!({"response_format": {"type": "json_object"}}),
            &calls(&[("list", "{}")])
        ),
        None
    );
    let shell = json!({"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls -l"}});
    let shell = answer(
        json!({"role": "assistant", "content": null, "tool_calls": [shell]}),
        "tool_calls".into(),
    );
    assert_eq!(fault(json!({}), &shell), None, "the input of a custom tool is text");
}

#[test]
fn each_fault_of_an_answer_is_told() {
    let none = || json!({});
    let json_object = || json!({"response_format": {"type": "json_object"}});
    let schema = || {
        let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}});
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}})
    };
    let message = |text: Value| json!({"role": "assistant", "content": text});
    let refused = json!({"role": "assistant", "content": null, "refusal": "No."});
    for (more, answer, expected) in [
        (none(), calls(&[("cook", "{}")]), Fault::UnknownTool),
        (none(), calls(&[("", r#"{"a":1}"#)]), Fault::Empty),
        (none(), calls(&[("book", r#"{"city": "#)]), Fault::ArgumentsNotJson),
        (none(), calls(&[("list", "[]")]), Fault::ArgumentsNotJson),
        (
            none(),
            calls(&[("book", r#"{"n":1}"#)]),
            Fault::ArgumentsUnfit("required".into()),
        ),
        (
            none(),
            calls(&[("book", r#"{"city":7}"#)]),
            Fault::ArgumentsUnfit("type".into()),
        ),
        (
            none(),
            calls(&[("list", "{}"), ("book", r#"{"city":"x","b":1}"#)]),
            Fault::ArgumentsUnfit("additionalProperties".into()),
        ),
        (
            json!({"tool_choice": "none"}),
            calls(&[("list", "{}")]),
            Fault::ForbiddenTool,
        ),
        (json!({"tool_choice": "required"}), text("Hello."), Fault::MissingTool),
        (
            json!({"tool_choice": {"type": "function", "function": {"name": "book"}}}),
            calls(&[("list", "{}")]),
            Fault::MissingTool,
        ),
        (none(), text(""), Fault::Empty),
        (none(), text(" \n"), Fault::Empty),
        (
            none(),
            answer(message("Once upon".into()), "length".into()),
            Fault::Truncated,
        ),
        (none(), answer(message("x".into()), "error".into()), Fault::Error),
        (
            none(),
            answer(message("x".into()), "content_filter".into()),
            Fault::Refusal,
        ),
        (none(), answer(refused, "stop".into()), Fault::Refusal),
        (none(), text("I’m sorry, but I can't do that."), Fault::Refusal),
        (json_object(), text("Here it is: {}"), Fault::NotJson),
        (json_object(), text("```json\n{}\n```"), Fault::NotJson),
        (json_object(), text("[1]"), Fault::Unfit("type".into())),
        (schema(), text(r#"{"b":1}"#), Fault::Unfit("required".into())),
        (schema(), text(r#"{"a":"one"}"#), Fault::Unfit("type".into())),
        (
            none(),
            Assembled {
                partial: true,
                ..text("Once")
            },
            Fault::Unfinished,
        ),
        (
            none(),
            Assembled {
                skipped_events: 1,
                ..text("Once")
            },
            Fault::Unreadable,
        ),
        (
            none(),
            Assembled {
                error: Some(json!({"message": "out of memory"})),
                ..text("Once")
            },
            Fault::Error,
        ),
    ] {
        assert_eq!(fault(more, &answer), Some(expected), "{}", answer.body);
    }
}

#[test]
fn no_words_of_the_answer_are_in_a_fault() {
    for secret in [
        calls(&[("book", r#"{"city":"x","ssn-123":1}"#)]),
        calls(&[("ssn-123", "{}")]),
    ] {
        let told = fault(json!({}), &secret).unwrap().to_string();
        assert!(!told.contains("ssn-123"), "{told}");
    }
}

#[test]
fn a_choice_of_tools_is_read_in_the_words_of_each_api() {
    let this = || Choice::This("f".into());
    for (body, expected) in [
        (json!({}), Choice::Free),
        (json!({"tool_choice": null}), Choice::Free),
        (json!({"tool_choice": "auto"}), Choice::Free),
        (json!({"tool_choice": {"type": "auto"}}), Choice::Free),
        (json!({"tool_choice": "NONE"}), Choice::Never),
        (json!({"tool_choice": "REQUIRED"}), Choice::Some),
        (json!({"tool_choice": {"type": "any"}}), Choice::Some),
        (
            json!({"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": []}}),
            Choice::Some,
        ),
        (
            json!({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}}),
            Choice::Free,
        ),
        (json!({"tool_choice": {"type": "tool", "name": "f"}}), this()),
        (
            json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
            this(),
        ),
        (json!({"function_call": {"name": "f"}}), this()),
        (
            json!({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
            Choice::Some,
        ),
        (json!({"toolConfig": {"toolChoice": {"any": {}}}}), Choice::Some),
        (json!({"toolConfig": {"toolChoice": {"tool": {"name": "f"}}}}), this()),
    ] {
        assert_eq!(choice(&body), expected, "{body}");
    }
}

#[test]
fn an_anthropic_answer_is_checked_alike() {
    let tool = json!({"name": "f", "input_schema": {"type": "object", "required": ["q"]}});
    let body = json!({"model": "m", "max_tokens": 9, "messages": [], "tools": [tool], "tool_choice": {"type": "any"}});
    let demands = Demands::of(Api::AnthropicMessages, body.to_string().as_bytes()).unwrap();
    let check = |content: Value, stop: &str| {
        let body = json!({"type": "message", "role": "assistant", "content": content, "stop_reason": stop});
        let assembled = Assembled {
            body,
            ..Assembled::default()
        };
        demands.check(Api::AnthropicMessages, &assembled).err()
    };
    let call = |input: Value| json!([{"type": "tool_use", "id": "t", "name": "f", "input": input}]);
    assert_eq!(check(call(json!({"q": 1})), "tool_use"), None);
    assert_eq!(
        check(call(json!({})), "tool_use"),
        Some(Fault::ArgumentsUnfit("required".into()))
    );
    assert_eq!(
        check(json!([{"type": "text", "text": "Hm."}]), "end_turn"),
        Some(Fault::MissingTool)
    );
    assert_eq!(check(json!([]), "max_tokens"), Some(Fault::Truncated));
}

mod schemas {
    use super::super::schema::fits;
    use serde_json::{Map, Value, json};
    use std::time::{Duration, Instant};

    fn keyword(schema: Value, value: Value) -> Option<String> {
        fits(&schema, &value).err().map(|misfit| misfit.keyword)
    }

    #[test]
    fn references_and_recursion_are_followed() {
        let node = json!({"type": "object", "properties": {"left": {"$ref": "#/$defs/node"}, "value": {"type": "integer"}},
            "required": ["value"]});
        let tree = json!({"$ref": "#/$defs/node", "$defs": {"node": node}});
        assert_eq!(keyword(tree.clone(), json!({"value": 1, "left": {"value": 2}})), None);
        assert_eq!(
            keyword(tree, json!({"value": 1, "left": {"left": {"value": 2}}})).unwrap(),
            "required"
        );
    }

    #[test]
    fn what_can_not_be_checked_fits() {
        for schema in [
            Value::Null,
            json!("nonsense"),
            json!({"type": 7}),
            json!({"pattern": "("}),
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"$ref": "#/$defs/missing"}),
            json!({"$schema": "https://example.com/own", "type": "integer"}),
        ] {
            assert_eq!(keyword(schema.clone(), json!("x")), None, "{schema}");
        }
    }

    /// Each of these has cost a checker its stack or its afternoon.
    #[test]
    fn schemas_that_would_take_for_ever_are_left_unchecked() {
        let started = Instant::now();
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!({"x": deep});
        }
        let circle = json!({"$ref": "#"});
        let two = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}});
        let doubling: Map<String, Value> = (0..60)
            .map(|at| {
                let next = json!({"$ref": format!("#/$defs/d{}", at + 1)});
                (
                    format!("d{at}"),
                    json!({"anyOf": [{"allOf": [next, {"type": "integer"}]}, next]}),
                )
            })
            .chain([("d60".to_owned(), json!({"type": "integer"}))])
            .collect();
        let doubling = json!({"$ref": "#/$defs/d0", "$defs": doubling});
        let below = json!({"properties": {"x": {"$ref": "#"}}, "allOf": [{"properties": {"x": {"$ref": "#"}}}]});
        let chain: Map<String, Value> = (0..5000)
            .map(|at| {
                (
                    format!("d{at}"),
                    json!({"properties": {"x": {"$ref": format!("#/$defs/d{}", at + 1)}}}),
                )
            })
            .chain([("d5000".to_owned(), json!({}))])
            .collect();
        let chain = json!({"$ref": "#/$defs/d0", "$defs": chain});
        let mut tower = json!({"properties": {"x": {"$ref": "#"}}});
        for _ in 0..50 {
            tower = json!({"allOf": [tower]});
        }
        let patterns = json!({"anyOf": vec![json!({"pattern": "(((\\w{30}){30}){30}){30}"}); 1000]});
        let wide = json!({"items": {"anyOf": vec![json!({"const": 1}); 10_000]}});
        for schema in [circle, two, doubling, below, chain, tower, patterns] {
            let _ = keyword(schema, deep.clone());
        }
        let _ = keyword(wide, Value::Array(vec![json!(2); 10_000]));
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }

    /// As much as is allowed, on a stack as small as a worker's.
    #[test]
    fn the_deepest_schema_that_is_checked_leaves_the_stack_whole() {
        let defs: Map<String, Value> = (0..125)
            .map(|at| {
                (
                    format!("d{at}"),
                    json!({"properties": {"x": {"$ref": format!("#/$defs/d{}", at + 1)}}}),
                )
            })
            .chain([("d125".to_owned(), json!({"type": "string"}))])
            .collect();
        let schema = json!({"$ref": "#/$defs/d0", "$defs": defs});
        let mut value = json!(1);
        for _ in 0..125 {
            value = json!({"x": value});
        }
        let _ = keyword(schema, value.clone());
        let mut tower = json!({"properties": {"x": {"$ref": "#"}}, "type": "object"});
        tower = json!({"allOf": [{"allOf": [tower]}]});
        let _ = keyword(tower, value);
        let mut nested = json!({"type": "integer"});
        for _ in 0..60 {
            nested = json!({"properties": {"x": nested}});
        }
        assert_eq!(keyword(nested.clone(), json!({"x": 1})), None);
        let mut value = json!("no number");
        for _ in 0..60 {
            value = json!({"x": value});
        }
        assert_eq!(keyword(nested, value).unwrap(), "type");
    }
}
