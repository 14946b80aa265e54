//! Requests of every operation.

use serde_json::json;

use super::*;

fn result(id: Option<&str>, said: &str) -> Message {
    Message {
        tool_call_id: id.map(Into::into),
        ..Message::text(Role::Tool, said)
    }
}

#[test]
fn requests_are_read_in_camel_and_in_snake_case() {
    let camel = json!({
        "systemInstruction": {"parts": [{"text": "be"}, {"text": "brief"}], "role": "user"},
        "contents": [
            {"role": "user", "parts": [{"text": "hi"}, {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
                {"fileData": {"fileUri": "u"}, "videoMetadata": {}}]},
            {"role": "model", "parts": [{"text": "hm", "thought": true}, {"text": "ok"},
                {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "s"}, {"executableCode": {"code": "1"}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"out": 42}}}, {"text": "and?"},
                {"functionResponse": {"id": "c2", "name": "g", "response": {}, "parts": [{"inlineData": {"data": "AA=="}}]}}]},
            {"parts": {"text": "one part"}}],
        "tools": [
            {"functionDeclarations": [
                {"name": "f", "description": "d", "parameters": {"type": "OBJECT", "properties": {"x": {"type": "INTEGER"}}}},
                {"name": "g", "parametersJsonSchema": {"type": "object"}}, {"name": "h"}], "codeExecution": {}},
            {"googleSearch": {}, "urlContext": null}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "generationConfig": {"maxOutputTokens": 10, "temperature": 0.5, "responseMimeType": "application/json",
            "responseSchema": {"type": "STRING"}}});
    let snake = [
        "systemInstruction",
        "inlineData",
        "fileData",
        "functionCall",
        "functionResponse",
        "functionDeclarations",
        "parametersJsonSchema",
        "generationConfig",
        "maxOutputTokens",
        "responseMimeType",
        "responseSchema",
    ];
    let snake = snake.iter().fold(camel.to_string(), |body, key| {
        let snake: String = key
            .chars()
            .map(|c| {
                if c.is_uppercase() {
                    format!("_{}", c.to_ascii_lowercase())
                } else {
                    c.to_string()
                }
            })
            .collect();
        body.replace(key, &snake)
    });
    for body in [camel.to_string(), snake] {
        let request = parse_request(API, body.as_bytes()).unwrap();
        let expected = [
            Message::text(Role::System, "be\nbrief"),
            Message {
                media_parts: 2,
                ..Message::text(Role::User, "hi")
            },
            Message {
                tool_calls: vec![call(None, "f", "{\"x\":1}")],
                ..Message::text(Role::Assistant, "ok")
            },
            result(None, "{\"out\":42}"),
            Message {
                media_parts: 1,
                ..result(Some("c2"), "{}")
            },
            Message::text(Role::User, "and?"),
            Message::text(Role::User, "one part"),
        ];
        assert_eq!(request.messages, expected, "{body}");
        let tools: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(tools, ["f", "g", "h", "codeExecution", "googleSearch"]);
        assert_eq!(
            request.tools[0].schema,
            json!({"type": "object", "properties": {"x": {"type": "integer"}}})
        );
        assert_eq!(
            (&request.tools[1].schema, &request.tools[2].schema),
            (&json!({"type": "object"}), &Value::Null)
        );
        assert_eq!((request.max_tokens, request.temperature), (Some(10), Some(0.5)));
        assert_eq!(
            request.response_format,
            ResponseFormat::JsonSchema(json!({"type": "string"}))
        );
    }
}

#[test]
fn response_formats_are_those_that_give_json() {
    let format = |config: Value| {
        let body = json!({"contents": [], "generationConfig": config}).to_string();
        parse_request(API, body.as_bytes()).unwrap().response_format
    };
    let schema = json!({"type": "object"});
    assert_eq!(format(json!(null)), ResponseFormat::Text);
    assert_eq!(format(json!({"responseMimeType": "text/plain"})), ResponseFormat::Text);
    assert_eq!(
        format(json!({"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a"]}})),
        ResponseFormat::Text
    );
    assert_eq!(
        format(json!({"responseMimeType": "application/json"})),
        ResponseFormat::JsonObject
    );
    assert_eq!(
        format(json!({"responseMimeType": "application/json", "responseJsonSchema": schema})),
        ResponseFormat::JsonSchema(schema)
    );
}

#[test]
fn other_operations_say_their_texts_and_take_model_and_stream_from_the_path() {
    let at = |verb: &str, body: Value| {
        let path = format!("/v1beta/models/gemini-x:{verb}");
        parse_request_at(API, &path, body.to_string().as_bytes()).unwrap()
    };
    let said = |request: &Request| -> Vec<String> { request.messages.iter().map(|m| m.text.clone()).collect() };
    let hi = json!({"parts": [{"text": "hi"}]});
    let there = json!({"parts": [{"text": "there"}]});
    for (verb, operation, body, texts) in [
        ("generateContent", Operation::Chat, json!({"contents": hi}), &["hi"][..]),
        (
            "generateContent",
            Operation::Chat,
            json!({"contents": [], "systemInstruction": "plain"}),
            &["plain"],
        ),
        (
            "countTokens",
            Operation::CountTokens,
            json!({"contents": [hi, there]}),
            &["hi", "there"],
        ),
        (
            "countTokens",
            Operation::CountTokens,
            json!({"generateContentRequest": {"model": "models/gemini-x", "contents": [hi]}}),
            &["hi"],
        ),
        (
            "embedContent",
            Operation::Embed,
            json!({"model": "models/gemini-x", "content": hi}),
            &["hi"],
        ),
        (
            "batchEmbedContents",
            Operation::Embed,
            json!({"requests": [{"model": "models/gemini-x", "content": hi}, {"content": there}]}),
            &["hi", "there"],
        ),
    ] {
        let request = at(verb, body);
        assert_eq!(
            (request.operation, said(&request)),
            (operation, texts.iter().map(ToString::to_string).collect())
        );
        assert_eq!((request.model.as_deref(), request.stream), (Some("gemini-x"), false));
    }
    assert!(at("streamGenerateContent", json!({"contents": hi})).stream);
    let path = "/v1/projects/p/locations/l/publishers/google/models/multimodalembedding@001:predict";
    let body = json!({"instances": [{"content": "hi"}, {"text": "there", "image": {"gcsUri": "u"}}]}).to_string();
    let request = parse_request_at(API, path, body.as_bytes()).unwrap();
    assert_eq!(
        (said(&request), request.messages[1].media_parts),
        (vec!["hi".into(), "there".into()], 1)
    );
    assert_eq!(request.model.as_deref(), Some("multimodalembedding@001"));
}
