use serde_json::json;

use super::super::fields::inexpressible;
use super::*;
use crate::call::Api;

mod answers;

fn chat(body: Value) -> Value {
    request(&body).unwrap_or_else(|refusal| panic!("{refusal}: {body}"))
}

fn says(text: &str) -> Value {
    json!({"role": "user", "parts": [{"text": text}]})
}

/// The refusal of a request with one more field.
fn refusal(name: &str, value: Value) -> Refusal {
    let mut body = json!({"contents": [says("hi")]});
    body[name] = value;
    request(&body).expect_err(name)
}

#[test]
fn a_whole_request_is_said_in_chat() {
    let body = json!({
        "system_instruction": {"role": "user", "parts": [{"text": "Be brief."}, {"text": "Be kind."}]},
        "contents": [
            {"role": "user", "parts": [
                {"text": "What is this?"},
                {"inlineData": {"mimeType": "image/jpg", "data": "ab-_"}},
                {"fileData": {"mimeType": "image/png", "fileUri": "https://example.com/a.png"}},
            ]},
            {"role": "model", "parts": [
                {"text": "thinking", "thought": true},
                {"text": "I will "},
                {"text": "look.", "thoughtSignature": "c2ln"},
                {"functionCall": {"name": "look", "args": {"at": [1, 2]}}, "thoughtSignature": "c2ln"},
            ]},
            {"role": "model", "parts": [{"function_call": {"name": "look", "args": {}, "id": "own-1"}}]},
            {"role": "function", "parts": [
                {"functionResponse": {"name": "look", "id": "own-1", "response": {"output": "b"}}},
                {"text": "there"},
                {"functionResponse": {"name": "look", "response": {"output": "a"}}},
            ]},
        ],
        "tools": [{"functionDeclarations": [
            {"name": "look", "description": "looks", "parameters": {"type": "OBJECT", "properties": {"at": {"type": "ARRAY", "items": {"type": "INTEGER"}}}}},
            {"name": "rest", "parametersJsonSchema": {"type": "object"}, "behavior": "BLOCKING"},
            {"name": "stop", "response": {"type": "STRING"}},
        ]}],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
        "generationConfig": {
            "temperature": 0.5, "topP": 0.9, "topK": 40.0, "maxOutputTokens": "100", "seed": 7, "candidateCount": 1,
            "presencePenalty": 0.1, "frequencyPenalty": 0.2, "stopSequences": ["END"],
            "responseModalities": ["TEXT"], "responseMimeType": "text/plain", "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "thinkingConfig": {"includeThoughts": true, "thinkingBudget": 100}, "responseLogprobs": false,
        },
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "cachedContent": null,
        "labels": {"team": "a"},
    });
    let expected = json!({
        "max_tokens": 100, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "seed": 7,
        "presence_penalty": 0.1, "frequency_penalty": 0.2, "stop": ["END"],
        "messages": [
            {"role": "system", "content": "Be brief.\nBe kind."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,ab+/", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
            ]},
            {"role": "assistant", "content": "I will look.", "tool_calls": [
                {"id": "call00000", "type": "function", "function": {"name": "look", "arguments": "{\"at\":[1,2]}"}},
                {"id": "own-1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
            ]},
            {"role": "tool", "tool_call_id": "own-1", "content": "{\"output\":\"b\"}"},
            {"role": "tool", "tool_call_id": "call00000", "content": "{\"output\":\"a\"}"},
            {"role": "user", "content": "there"},
        ],
        "tool_choice": "auto",
        "tools": [
            {"type": "function", "function": {"name": "look", "description": "looks", "parameters":
                {"type": "object", "properties": {"at": {"type": "array", "items": {"type": "integer"}}}}}},
            {"type": "function", "function": {"name": "rest", "parameters": {"type": "object"}}},
            {"type": "function", "function": {"name": "stop", "description": "Returns JSON of this schema: {\"type\":\"string\"}", "parameters": {"type": "object", "properties": {}}}},
        ],
    });
    assert_eq!(chat(body), expected);
}

#[test]
fn one_content_and_one_part_need_no_list() {
    let body = json!({"contents": {"role": "user", "parts": {"text": "hi"}}});
    assert_eq!(chat(body)["messages"], json!([{"role": "user", "content": "hi"}]));
}

#[test]
fn a_schema_of_the_answer_is_a_response_format() {
    let format = |config: Value| request(&json!({"contents": [], "generationConfig": config}));
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let named = json!({"type": "json_schema", "json_schema": {"name": "response", "schema": schema}});
    let own = json!({"type": "OBJECT", "properties": {"a": {"type": "STRING"}}});
    for config in [
        json!({"responseMimeType": "application/json", "responseSchema": own}),
        json!({"response_mime_type": "application/json", "response_json_schema": schema}),
        json!({"responseMimeType": "application/json", "_responseJsonSchema": schema}),
    ] {
        assert_eq!(format(config).unwrap()["response_format"], named);
    }
    let any = format(json!({"responseMimeType": "application/json"})).unwrap();
    assert_eq!(any["response_format"], json!({"type": "json_object"}));
    let label = format(json!({"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a"]}}));
    let at = "generationConfig.responseMimeType";
    assert_eq!(label.unwrap_err(), inexpressible(at, "an answer of this media type"));
}

#[test]
fn the_choice_of_functions_is_kept() {
    let choice = |config: Value| {
        let declared = json!([{"name": "a"}, {"name": "b"}, {"name": "c"}]);
        request(&json!({
            "contents": [says("hi")],
            "tools": [{"functionDeclarations": declared}],
            "toolConfig": {"functionCallingConfig": config},
        }))
    };
    let offered = |chat: &Value| {
        let tools = chat["tools"].as_array().unwrap().iter();
        tools
            .map(|tool| tool["function"]["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let any = choice(json!({"mode": "ANY"})).unwrap();
    assert_eq!((&any["tool_choice"], offered(&any).len()), (&json!("required"), 3));
    let one = choice(json!({"mode": "any", "allowed_function_names": ["b"]})).unwrap();
    let named = json!({"type": "function", "function": {"name": "b"}});
    assert_eq!((&one["tool_choice"], offered(&one)), (&named, vec!["b".to_owned()]));
    let two = choice(json!({"mode": "ANY", "allowedFunctionNames": ["c", "a"]})).unwrap();
    assert_eq!(
        (&two["tool_choice"], offered(&two)),
        (&json!("required"), vec!["a".to_owned(), "c".to_owned()])
    );
    let none = choice(json!({"mode": "NONE"})).unwrap();
    assert_eq!((&none["tool_choice"], offered(&none).len()), (&json!("none"), 3));
    let validated = choice(json!({"mode": "VALIDATED"})).unwrap();
    assert_eq!(validated["tool_choice"], "auto");
    assert_eq!(validated["tools"][0]["function"]["strict"], true);
    assert!(choice(json!({"mode": "ANY", "allowedFunctionNames": ["d"]})).is_err());
    assert!(choice(json!({"mode": "AUTO", "allowedFunctionNames": ["a"]})).is_err());
    assert!(choice(json!({"mode": "SOMETIMES"})).is_err());
    assert!(choice(json!({"mode": "AUTO", "streamFunctionCallArguments": true})).is_err());
}

#[test]
fn what_chat_cannot_say_is_refused_where_it_stands() {
    for (name, value, at) in [
        ("tools", json!([{"googleSearch": {}}]), "tools[0].googleSearch"),
        (
            "tools",
            json!([{"functionDeclarations": []}, {"code_execution": {}}]),
            "tools[1].codeExecution",
        ),
        ("tools", json!([{"urlContext": {}}]), "tools[0].urlContext"),
        (
            "tools",
            json!([{"functionDeclarations": [{"name": "a", "behavior": "NON_BLOCKING"}]}]),
            "tools[0].functionDeclarations[0].behavior",
        ),
        (
            "toolConfig",
            json!({"retrievalConfig": {"languageCode": "de"}}),
            "toolConfig.retrievalConfig",
        ),
        (
            "toolConfig",
            json!({"functionCallingConfig": {"mode": "ANY"}}),
            "toolConfig.functionCallingConfig.mode",
        ),
        (
            "generationConfig",
            json!({"candidateCount": 2}),
            "generationConfig.candidateCount",
        ),
        (
            "generationConfig",
            json!({"responseModalities": ["TEXT", "IMAGE"]}),
            "generationConfig.responseModalities",
        ),
        (
            "generationConfig",
            json!({"responseLogprobs": true}),
            "generationConfig.responseLogprobs",
        ),
        (
            "generationConfig",
            json!({"speechConfig": {}}),
            "generationConfig.speechConfig",
        ),
        (
            "generationConfig",
            json!({"audio_timestamp": true}),
            "generationConfig.audioTimestamp",
        ),
        (
            "generationConfig",
            json!({"somethingNew": 1}),
            "generationConfig.somethingNew",
        ),
        (
            "safetySettings",
            json!([{"category": "A", "threshold": "BLOCK_ONLY_HIGH"}]),
            "safetySettings[0].threshold",
        ),
        (
            "systemInstruction",
            json!({"parts": [{"inlineData": {}}]}),
            "systemInstruction.parts[0].inlineData",
        ),
        ("modelArmorConfig", json!({}), "modelArmorConfig"),
        ("somethingNew", json!(false), "somethingNew"),
    ] {
        match refusal(name, value) {
            Refusal::Inexpressible { at: found, .. } => assert_eq!(found, at),
            other => panic!("{at}: {other}"),
        }
    }
    assert_eq!(
        refusal("cachedContent", json!("cachedContents/1")),
        Refusal::StateAtProvider("cachedContent".into())
    );
    for config in [json!([]), json!({"temperature": []}), json!({"stopSequences": [1]})] {
        assert!(matches!(refusal("generationConfig", config), Refusal::Unreadable(_)));
    }
    let prefilled = json!([says("hi"), {"role": "model", "parts": [{"text": "Well,"}]}]);
    assert!(matches!(refusal("contents", prefilled), Refusal::Inexpressible { at, .. } if at == "contents"));
    assert_eq!(refusal("store", json!(true)), Refusal::StateAtProvider("store".into()));
}

#[test]
fn parts_that_chat_cannot_say_are_refused_where_they_stand() {
    let at_part = |role: &str, part: Value| {
        let body = json!({"contents": [says("hi"), {"role": role, "parts": [{"text": "a"}, part]}]});
        request(&body).unwrap_err()
    };
    let path = |key: &str| format!("contents[1].parts[1].{key}");
    for (role, part, key) in [
        (
            "user",
            json!({"inlineData": {"mimeType": "application/pdf", "data": "YQ=="}}),
            "inlineData.mimeType",
        ),
        (
            "user",
            json!({"inlineData": {"mimeType": "audio/wav", "data": "YQ=="}}),
            "inlineData.mimeType",
        ),
        (
            "user",
            json!({"inlineData": {"mimeType": "image/heic", "data": "YQ=="}}),
            "inlineData.mimeType",
        ),
        (
            "user",
            json!({"inlineData": {"mimeType": "image/png", "data": "\""}}),
            "inlineData.data",
        ),
        (
            "user",
            json!({"fileData": {"mimeType": "video/mp4", "fileUri": "https://x/y"}}),
            "fileData.mimeType",
        ),
        (
            "user",
            json!({"fileData": {"fileUri": "https://x/y.png"}}),
            "fileData.mimeType",
        ),
        (
            "user",
            json!({"inlineData": {"mimeType": "image/png", "data": "YQ=="}, "videoMetadata": {}}),
            "videoMetadata",
        ),
        ("user", json!({"functionCall": {"name": "a"}}), "functionCall"),
        (
            "model",
            json!({"inlineData": {"mimeType": "image/png", "data": "YQ=="}}),
            "inlineData",
        ),
        ("model", json!({"executableCode": {"code": "1"}}), "executableCode"),
        (
            "model",
            json!({"codeExecutionResult": {"output": "1"}}),
            "codeExecutionResult",
        ),
        (
            "model",
            json!({"functionCall": {"name": "a", "partialArgs": []}}),
            "functionCall.partialArgs",
        ),
        (
            "user",
            json!({"functionResponse": {"name": "a", "response": {}}}),
            "functionResponse.name",
        ),
    ] {
        match at_part(role, part) {
            Refusal::Inexpressible { at, .. } => assert_eq!(at, path(key)),
            other => panic!("{key}: {other}"),
        }
    }
    for uri in [
        "gs://bucket/a.png",
        "https://generativelanguage.googleapis.com/v1beta/files/x",
    ] {
        let part = json!({"file_data": {"mime_type": "image/png", "file_uri": uri}});
        assert_eq!(
            at_part("user", part),
            Refusal::StateAtProvider(path("fileData.fileUri"))
        );
    }
    let unknown_role = json!({"contents": [{"role": "tool", "parts": []}]});
    assert_eq!(
        request(&unknown_role),
        Err(inexpressible("contents[0].role", "an unknown role"))
    );
    let media = json!({"contents": [
        {"role": "model", "parts": [{"functionCall": {"name": "a"}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "a", "response": {}, "parts": [{"inlineData": {}}]}}]},
    ]});
    let refused = request(&media).unwrap_err();
    assert_eq!(
        refused,
        inexpressible(
            "contents[1].parts[0].functionResponse.parts",
            "media in a tool's result"
        )
    );
}

#[test]
fn functions_of_models_that_sign_their_calls_stay_with_the_baseline() {
    let body = json!({"contents": [says("hi")], "tools": [{"functionDeclarations": [{"name": "a"}]}]});
    let asked = |model: &str, body: &Value| {
        let path = format!("/v1beta/models/{model}:generateContent");
        super::super::request(Api::Gemini, &path, body.to_string().as_bytes())
    };
    for model in [
        "gemini-1.5-pro",
        "gemini-2.5-flash",
        "gemini-pro",
        "gemma-3-27b-it",
        "my-endpoint",
    ] {
        assert!(asked(model, &body).is_ok(), "{model}");
    }
    for model in [
        "gemini-3-flash-preview",
        "gemini-3.1-pro",
        "gemini-10-x",
        "gemini-flash-latest",
    ] {
        let refused = asked(model, &body).unwrap_err();
        assert!(
            matches!(refused, Refusal::Inexpressible { at, .. } if at == "tools"),
            "{model}"
        );
    }
    let mut without_calls = body.clone();
    without_calls["toolConfig"] = json!({"functionCallingConfig": {"mode": "NONE"}});
    assert!(asked("gemini-3-pro", &without_calls).is_ok());
    assert!(asked("gemini-3-pro", &json!({"contents": [says("hi")]})).is_ok());
}

#[test]
fn what_asks_for_no_chat_is_refused() {
    let body = json!({"contents": [says("hi")]}).to_string();
    for path in ["/v1beta/models/g:countTokens", "/v1beta/models/g:embedContent"] {
        assert!(super::super::request(Api::Gemini, path, body.as_bytes()).is_err());
    }
}

#[test]
fn the_path_says_how_the_answer_is_framed() {
    let body = json!({"contents": [says("hi")]}).to_string();
    for (path, stream, as_array, content_type) in [
        (
            "/v1beta/models/g:generateContent?alt=sse",
            false,
            false,
            "application/json",
        ),
        (
            "/v1beta/models/g:streamGenerateContent?key=k&alt=sse",
            true,
            false,
            "text/event-stream",
        ),
        (
            "/v1/publishers/google/models/g:streamGenerateContent",
            true,
            true,
            "application/json",
        ),
    ] {
        let translated = super::super::request(Api::Gemini, path, body.as_bytes()).unwrap();
        let back = translated.back;
        assert_eq!(
            (back.stream, back.as_array, back.content_type()),
            (stream, as_array, content_type)
        );
        assert_eq!((back.model.as_str(), &translated.body["model"]), ("g", &json!("g")));
        assert_eq!(translated.body.get("stream").is_some(), stream);
        assert_eq!(back.error(404, "no").is_array(), as_array);
    }
}
