//! Unit tests of chat requests put to candidates of other APIs.

use serde_json::json;

use super::*;
use crate::call::Api;
use crate::translate::{Translated, between};

fn put(spoken: Api, body: &Value) -> Result<Translated, Refusal> {
    between(
        Api::OpenaiChat,
        spoken,
        "/v1/chat/completions",
        body.to_string().as_bytes(),
    )
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "d", "strict": true,
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}})
}

fn call(id: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}})
}

fn result(id: &str, text: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": text})
}

/// A request with these fields beside the needed ones.
fn asking(fields: Value) -> Value {
    let mut body = json!({"model": "gpt", "messages": [{"role": "user", "content": "hi"}]});
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// A loop of two tools in one turn, with what agents send back beside it.
fn tool_loop() -> Value {
    asking(json!({
        "stream": true, "stream_options": {"include_usage": true}, "max_completion_tokens": 100, "temperature": 0.5, "seed": 7,
        "user": "u", "service_tier": "auto", "reasoning_effort": "low", "n": 1, "store": false, "frequency_penalty": 0,
        "tools": [tool("f"), tool("g")], "tool_choice": "required", "parallel_tool_calls": false,
        "response_format": {"type": "text"},
        "messages": [
            {"role": "system", "content": "be"}, {"role": "developer", "content": [{"type": "text", "text": "brief"}]},
            {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "text", "text": " "},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}]},
            {"role": "user", "name": "ann", "content": "please"},
            {"role": "assistant", "content": "ok", "reasoning_content": "hm", "refusal": null, "audio": null,
                "tool_calls": [call("call_1", "{\"x\":1}"), call("functions.f:0", "")]},
            result("functions.f:0", "b"), result("call_1", "a"),
            {"role": "user", "content": "and?"},
            {"role": "assistant", "content": null, "tool_calls": [call("call_1", "{}")]},
            result("call_1", "")]}))
}

#[test]
fn a_tool_loop_is_said_to_anthropic() {
    let said = put(Api::AnthropicMessages, &tool_loop()).unwrap();
    let ids: Vec<&str> = [(1, 1), (1, 2), (3, 0)]
        .map(|(message, block): (usize, usize)| {
            said.body["messages"][message]["content"][block]["id"].as_str().unwrap()
        })
        .into();
    assert_eq!(ids[0], "call_1");
    assert!(
        ids[1] != ids[2] && ids[1].starts_with("call_") && ids[2].starts_with("call_"),
        "{ids:?}"
    );
    let tool = |name: &str| {
        json!({"name": name, "description": "d",
        "input_schema": {"type": "object", "properties": {"x": {"type": "integer"}}}})
    };
    let expected = json!({
        "max_tokens": 100, "system": "be\n\nbrief", "temperature": 0.5,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "text", "text": "please"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "ok"},
                {"type": "tool_use", "id": ids[0], "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": ids[1], "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": ids[1], "content": "b"},
                {"type": "tool_result", "tool_use_id": ids[0], "content": "a"}, {"type": "text", "text": "and?"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": ids[2], "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": ids[2]}]}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true}, "tools": [tool("f"), tool("g")],
        "metadata": {"user_id": "u"}, "model": "gpt", "stream": true});
    assert_eq!(said.body, expected);
    assert!(!said.back.adds_usage() && said.demands.stream());
}

#[test]
fn a_tool_loop_is_said_to_responses_gemini_and_ollama() {
    let with_both = tool_loop();
    let said = put(Api::OpenaiResponses, &with_both).unwrap().body;
    assert_eq!(
        (&said["store"], &said["instructions"], &said["max_output_tokens"]),
        (&json!(false), &json!("be\n\nbrief"), &json!(100))
    );
    assert_eq!(said["tools"][0]["strict"], true);
    let kinds: Vec<&str> = said["input"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["type"].as_str().unwrap_or("user"))
        .collect();
    let expected = "user message function_call function_call function_call_output function_call_output user function_call \
                    function_call_output";
    assert_eq!(kinds.join(" "), expected);

    let mut without = with_both;
    without["parallel_tool_calls"] = true.into();
    let said = put(Api::Gemini, &without).unwrap().body;
    let part = |content: usize, part: usize| &said["contents"][content]["parts"][part];
    assert_eq!(
        *part(0, 1),
        json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}})
    );
    assert_eq!(*part(1, 1), json!({"functionCall": {"name": "f", "args": {"x": 1}}}));
    assert_eq!(
        *part(2, 0),
        json!({"functionResponse": {"name": "f", "response": {"result": "b"}}})
    );
    assert_eq!(*part(2, 2), json!({"text": "and?"}));
    assert_eq!(said["toolConfig"], json!({"functionCallingConfig": {"mode": "ANY"}}));
    assert_eq!(
        said["generationConfig"],
        json!({"maxOutputTokens": 100, "temperature": 0.5, "seed": 7})
    );
    assert!(said.get("model").is_none() && said.get("stream").is_none());

    without["tool_choice"] = "auto".into();
    let said = put(Api::Ollama, &without).unwrap().body;
    assert_eq!(
        said["options"],
        json!({"seed": 7, "temperature": 0.5, "num_predict": 100})
    );
    assert_eq!(
        said["messages"][2],
        json!({"role": "user", "content": "look\nplease", "images": ["AAAA"]})
    );
    assert_eq!(
        said["messages"][4],
        json!({"role": "tool", "tool_name": "f", "content": "b"})
    );
    assert_eq!((&said["stream"], &said["model"]), (&json!(true), &json!("gpt")));
}

#[test]
fn what_anthropic_needs_is_added_and_what_says_nothing_is_left_out() {
    let said = |fields: Value| put(Api::AnthropicMessages, &asking(fields)).unwrap().body;
    let plain = said(json!({}));
    assert_eq!(plain["max_tokens"], 4096);
    assert_eq!(plain["stream"], false);
    for (given, temperature, top_p) in [
        (json!({"temperature": 1.7}), json!(1), Value::Null),
        (json!({"temperature": 1, "top_p": 0.5}), Value::Null, json!(0.5)),
        (json!({"temperature": 0.2, "top_p": 1}), json!(0.2), Value::Null),
        (json!({"temperature": 0.2, "top_p": 0.5}), json!(0.2), Value::Null),
        (json!({"top_p": 0.5}), Value::Null, json!(0.5)),
    ] {
        let body = said(given.clone());
        assert_eq!(
            (&body["temperature"], &body["top_p"]),
            (&temperature, &top_p),
            "{given}"
        );
    }
    assert_eq!(said(json!({"stop": "END"}))["stop_sequences"], json!(["END"]));
    // A choice among no tools says nothing; tools of the history are offered.
    assert!(
        said(json!({"tool_choice": "auto", "parallel_tool_calls": true}))
            .get("tool_choice")
            .is_none()
    );
    let messages = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call("a", "{}"), call("b", "{}")]},
        result("a", "1"), result("b", "2")]);
    let body = said(json!({"messages": messages}));
    assert_eq!(
        body["tools"],
        json!([{"name": "f", "input_schema": {"type": "object"}}])
    );
    assert_eq!(body["tool_choice"], json!({"type": "none"}));
    let of_one = said(json!({"tools": [tool("f")], "tool_choice": {"type": "function", "function": {"name": "f"}}}));
    assert_eq!(of_one["tool_choice"], json!({"type": "tool", "name": "f"}));
}

#[test]
fn a_schema_is_closed_and_what_it_cant_hold_is_told_in_words() {
    let format = |schema: Value| {
        let format = json!({"type": "json_schema", "json_schema": {"name": "a", "strict": false, "schema": schema}});
        put(Api::AnthropicMessages, &asking(json!({"response_format": format})))
    };
    let given = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "description": "A.", "minLength": 2},
        "b": {"type": "array", "items": {"oneOf": [{"$ref": "#/$defs/c"}, {"type": "null"}]}}},
        "$defs": {"c": {"properties": {"d": {"enum": [1, 2]}}, "additionalProperties": false}}});
    let expected = json!({"type": "json_schema", "schema": {"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "description": "A. {\"minLength\":2}"},
        "b": {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/c"}, {"type": "null"}]}}},
        "$defs": {"c": {"properties": {"d": {"enum": [1, 2]}}, "additionalProperties": false}}, "additionalProperties": false}});
    assert_eq!(format(given).unwrap().body["output_config"]["format"], expected);
    for open in [
        json!({"type": "object"}),
        json!({"type": "object", "additionalProperties": {"type": "string"}}),
        json!({"type": "object", "properties": {"a": {"type": "object", "additionalProperties": true}}}),
        json!(true),
    ] {
        assert!(
            matches!(format(open.clone()), Err(Refusal::Inexpressible { .. })),
            "{open}"
        );
    }
}

#[test]
fn what_a_candidates_api_cant_say_is_refused_with_its_place() {
    let messages = |messages: Value| asking(json!({"messages": messages}));
    let hi = json!({"role": "user", "content": "hi"});
    let calls = |calls: Value| json!({"role": "assistant", "tool_calls": calls});
    for (body, place) in [
        (asking(json!({"n": 2})), "n"),
        (asking(json!({"logprobs": true})), "logprobs"),
        (asking(json!({"modalities": ["text", "audio"]})), "modalities"),
        (asking(json!({"functions": [{"name": "f"}]})), "functions"),
        (asking(json!({"some_new_field": 0})), "some_new_field"),
        (asking(json!({"presence_penalty": 0.5})), "presence_penalty"),
        (asking(json!({"verbosity": "low"})), "verbosity"),
        (asking(json!({"stop": ["a", " "]})), "stop[1]"),
        (
            asking(json!({"response_format": {"type": "json_object"}})),
            "response_format",
        ),
        (
            asking(json!({"tools": [{"type": "custom", "custom": {"name": "f"}}]})),
            "tools[0]",
        ),
        (asking(json!({"tools": [tool("f"), tool("f")]})), "tools[1]"),
        (asking(json!({"tools": [tool("a.b")]})), "tools[0].function.name"),
        (
            asking(json!({"tools": [tool("f")], "tool_choice": {"type": "allowed_tools"}})),
            "tool_choice.type",
        ),
        (messages(json!([{"role": "system", "content": "alone"}])), "messages"),
        (
            messages(json!([{"role": "assistant", "content": "hello"}, hi])),
            "messages",
        ),
        (
            messages(json!([hi, {"role": "system", "content": "now"}, hi])),
            "messages",
        ),
        (messages(json!([hi, {"role": "assistant", "content": "{"}])), "messages"),
        (
            messages(json!([hi, calls(json!([call("a", "{}")])), hi])),
            "messages[2]",
        ),
        (messages(json!([hi, calls(json!([call("a", "{}")]))])), "messages"),
        (messages(json!([hi, result("a", "b")])), "messages[1]"),
        (
            messages(json!([hi, calls(json!([call("a", "[1]")])), result("a", "b")])),
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            messages(json!([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}])),
            "messages[0].content[0]",
        ),
        (
            messages(json!([{"role": "critic", "content": "x"}])),
            "messages[0].role",
        ),
        (
            messages(json!([{"role": "user", "content": "x", "new": 1}])),
            "messages[0].new",
        ),
    ] {
        match put(Api::AnthropicMessages, &body) {
            Err(Refusal::Inexpressible { at, .. }) => assert_eq!(at, place, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    for held in [json!({"store": true}), json!({"web_search_options": {}})] {
        assert!(matches!(
            put(Api::Gemini, &asking(held)),
            Err(Refusal::StateAtProvider(_))
        ));
    }
    assert_eq!(
        put(Api::BedrockInvoke, &asking(json!({}))).unwrap_err(),
        Refusal::Api(Api::BedrockInvoke)
    );
    assert_eq!(
        put(Api::OpenaiChat, &asking(json!({}))).unwrap_err(),
        Refusal::Api(Api::OpenaiChat)
    );
    for (spoken, fields, place) in [
        (Api::OpenaiResponses, json!({"stop": "END"}), "stop"),
        (Api::OpenaiResponses, json!({"max_tokens": 5}), "max_tokens"),
        (
            Api::Ollama,
            json!({"tools": [tool("f")], "tool_choice": "required"}),
            "tool_choice",
        ),
        (
            Api::Gemini,
            json!({"tools": [tool("f")], "parallel_tool_calls": false}),
            "parallel_tool_calls",
        ),
        (
            Api::CohereChat,
            json!({"tools": [tool("f")], "tool_choice": {"type": "function", "function": {"name": "f"}}}),
            "tool_choice",
        ),
        (
            Api::CohereChat,
            json!({"tools": [tool("f-1")]}),
            "tools[0].function.name",
        ),
        (
            Api::CohereChat,
            json!({"tools": [tool("f")], "response_format": {"type": "json_object"}}),
            "response_format",
        ),
        (Api::CohereChat, json!({"stop": ["1", "2", "3", "4", "5", "6"]}), "stop"),
        (Api::CohereChat, json!({"presence_penalty": -0.5}), "presence_penalty"),
        (
            Api::CohereChat,
            json!({"presence_penalty": 0.5, "frequency_penalty": 0.5}),
            "presence_penalty",
        ),
        (Api::BedrockConverse, json!({"top_k": 5}), "top_k"),
        (Api::BedrockConverse, json!({"stop": [" "]}), "stop[0]"),
        (
            Api::BedrockConverse,
            json!({"tools": [tool(&"f".repeat(65))]}),
            "tools[0].function.name",
        ),
    ] {
        let Err(Refusal::Inexpressible { at, .. }) = put(spoken, &asking(fields)) else {
            panic!("not refused: {place}");
        };
        assert_eq!(at, place);
    }
}

#[test]
fn a_tool_loop_is_said_to_cohere() {
    let mut asked = tool_loop();
    asked["parallel_tool_calls"] = true.into();
    asked["temperature"] = 1.5.into();
    asked["top_p"] = 1.into();
    asked["top_k"] = 900.into();
    let said = put(Api::CohereChat, &asked).unwrap().body;
    let ids: Vec<&str> = [(2, 0), (2, 1), (6, 0)]
        .map(|(message, call): (usize, usize)| said["messages"][message]["tool_calls"][call]["id"].as_str().unwrap())
        .into();
    let called = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name, "description": "d",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}})
    };
    let expected = json!({
        "model": "gpt", "stream": true, "max_tokens": 100, "temperature": 1.0, "p": 0.99, "k": 500, "seed": 7,
        "tools": [tool("f"), tool("g")], "tool_choice": "REQUIRED",
        "messages": [
            {"role": "system", "content": "be\n\nbrief"},
            {"role": "user", "content": [{"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                {"type": "text", "text": "please"}]},
            {"role": "assistant", "tool_plan": "ok", "tool_calls": [called(ids[0], "{\"x\":1}"), called(ids[1], "{}")]},
            {"role": "tool", "tool_call_id": ids[1], "content": "b"},
            {"role": "tool", "tool_call_id": ids[0], "content": "a"},
            {"role": "user", "content": "and?"},
            {"role": "assistant", "tool_calls": [called(ids[2], "{}")]},
            {"role": "tool", "tool_call_id": ids[2], "content": ""}]});
    assert_eq!(said, expected);
}

#[test]
fn a_tool_loop_is_said_to_converse() {
    let mut asked = tool_loop();
    asked["parallel_tool_calls"] = true.into();
    asked["tool_choice"] = json!({"type": "function", "function": {"name": "g"}});
    let said = put(Api::BedrockConverse, &asked).unwrap().body;
    let ids: Vec<&str> = [(1, 1), (1, 2), (3, 0)]
        .map(|(message, block): (usize, usize)| {
            said["messages"][message]["content"][block]["toolUse"]["toolUseId"]
                .as_str()
                .unwrap()
        })
        .into();
    let called = |id: &str, input: Value| json!({"toolUse": {"toolUseId": id, "name": "f", "input": input}});
    let told = |id: &str, content: Value| json!({"toolResult": {"toolUseId": id, "content": content}});
    let tool = |name: &str| {
        json!({"toolSpec": {"name": name, "description": "d",
        "inputSchema": {"json": {"type": "object", "properties": {"x": {"type": "integer"}}}}}})
    };
    let expected = json!({
        "system": [{"text": "be"}, {"text": "brief"}],
        "messages": [
            {"role": "user", "content": [{"text": "look"}, {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
                {"text": "please"}]},
            {"role": "assistant", "content": [{"text": "ok"}, called(ids[0], json!({"x": 1})), called(ids[1], json!({}))]},
            {"role": "user", "content": [told(ids[1], json!([{"text": "b"}])), told(ids[0], json!([{"text": "a"}])), {"text": "and?"}]},
            {"role": "assistant", "content": [called(ids[2], json!({}))]},
            {"role": "user", "content": [told(ids[2], json!([]))]}],
        "inferenceConfig": {"maxTokens": 100, "temperature": 0.5},
        "toolConfig": {"tools": [tool("f"), tool("g")], "toolChoice": {"tool": {"name": "g"}}}});
    assert_eq!(said, expected);
    // Where no tool may be called there is no word for those of the history.
    asked["tool_choice"] = "none".into();
    assert!(put(Api::BedrockConverse, &asked).is_err());
    let body = asking(json!({"tools": [self::tool("f")], "tool_choice": "none"}));
    assert!(
        put(Api::BedrockConverse, &body)
            .unwrap()
            .body
            .get("toolConfig")
            .is_none()
    );
}

#[test]
fn a_schema_is_said_to_cohere_without_what_it_does_not_know_and_to_converse_as_text() {
    let asked = |schema: Value| {
        let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
        asking(json!({"response_format": format}))
    };
    let given = json!({"type": "object", "required": ["a"], "additionalProperties": false, "properties": {
        "a": {"type": "string", "format": "email", "maxLength": 9}, "b": {"type": "string", "format": "date"}}});
    let said = put(Api::CohereChat, &asked(given.clone())).unwrap().body;
    let expected = json!({"type": "json_object", "json_schema": {"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "description": "{\"format\":\"email\",\"maxLength\":9}"}, "b": {"type": "string", "format": "date"}}}});
    assert_eq!(said["response_format"], expected);
    for other in [
        json!({"type": "array", "items": {"type": "string"}}),
        json!({"type": "object", "properties": {"a": {"type": "string"}}}),
        json!({"type": "object", "required": ["a"], "properties": {"a": {"anyOf": [{"type": "string"}]}}}),
        json!({"type": "object", "required": ["a"]}),
    ] {
        assert!(put(Api::CohereChat, &asked(other.clone())).is_err(), "{other}");
    }
    let said = put(Api::BedrockConverse, &asked(given)).unwrap().body;
    let format = &said["outputConfig"]["textFormat"]["structure"]["jsonSchema"];
    let schema: Value = serde_json::from_str(format["schema"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&format["name"], &schema["additionalProperties"]),
        (&json!("a"), &json!(false))
    );
}
