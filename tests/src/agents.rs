//! Agents of each API: what they ask, and how they go on from an answer.

use crate::strict::TOOL;
use serde_json::{Value, json};
use understudy_call::call::Api;

/// An agent: its requests and how it goes on, in one API.
#[derive(Clone, Copy, Debug)]
pub struct Agent {
    /// What it speaks.
    pub api: Api,
    /// Distinguishes two ways of one API.
    pub way: &'static str,
    /// Whether it asks for streams.
    pub streams: bool,
}

/// Every API with its ways that need no signature of the baseline.
pub const UNSIGNED: [(Api, &str); 8] = [
    (Api::OpenaiChat, ""),
    (Api::AnthropicMessages, ""),
    (Api::OpenaiResponses, ""),
    (Api::Gemini, ""),
    (Api::Gemini, "array"),
    (Api::Ollama, ""),
    (Api::CohereChat, ""),
    (Api::BedrockConverse, ""),
];

fn tool_schema() -> Value {
    json!({"type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "array"}}, "required": ["q"]})
}

impl Agent {
    /// For people.
    pub fn name(&self) -> String {
        let streams = if self.streams { "streamed" } else { "whole" };
        format!("{} {} {streams}", self.api.as_str(), self.way)
    }

    /// Where it calls.
    pub fn path(&self) -> String {
        match self.api {
            Api::OpenaiChat => "/v1/chat/completions".into(),
            Api::AnthropicMessages => "/v1/messages".into(),
            Api::OpenaiResponses => "/v1/responses".into(),
            Api::Ollama => "/api/chat".into(),
            Api::CohereChat => "/v2/chat".into(),
            Api::BedrockConverse if self.streams => "/model/eu.big-v1%3A0/converse-stream".into(),
            Api::BedrockConverse => "/model/eu.big-v1%3A0/converse".into(),
            _ => {
                let model = if self.way == "signed" {
                    "gemini-3-pro"
                } else {
                    "gemini-2.5-flash"
                };
                let verb = match (self.streams, self.way) {
                    (false, _) => "generateContent",
                    (true, "array") => "streamGenerateContent",
                    (true, _) => "streamGenerateContent?alt=sse",
                };
                format!("/v1beta/models/{model}:{verb}")
            }
        }
    }

    /// Its user's first message.
    pub fn first_message(&self, words: &str) -> Value {
        match self.api {
            Api::AnthropicMessages => json!({"role": "user", "content": [{"type": "text", "text": words}]}),
            Api::Gemini => json!({"role": "user", "parts": [{"text": words}]}),
            Api::BedrockConverse => json!({"role": "user", "content": [{"text": words}]}),
            _ => json!({"role": "user", "content": words}),
        }
    }

    /// The body of a request with this history; its tool is [`TOOL`].
    pub fn request(&self, history: &[Value]) -> Value {
        let (schema, stream) = (tool_schema(), self.streams);
        let function = json!({"name": TOOL, "description": "Looks up.", "parameters": schema});
        let tools = json!([{"type": "function", "function": function}]);
        match self.api {
            Api::AnthropicMessages => {
                let tools = json!([{"name": TOOL, "description": "Looks up.", "input_schema": schema}]);
                let thinking = if self.way == "thinking" {
                    json!({"type": "enabled", "budget_tokens": 1024})
                } else {
                    json!({"type": "disabled"})
                };
                json!({"model": "claude", "max_tokens": 4096, "system": "You look up.", "stream": stream,
                    "messages": history, "tools": tools, "thinking": thinking})
            }
            Api::OpenaiResponses => {
                let tools = json!([{"type": "function", "name": TOOL, "parameters": schema, "strict": false}]);
                json!({"model": "gpt-5", "instructions": "You look up.", "stream": stream, "store": false, "input": history,
                    "tools": tools, "include": ["reasoning.encrypted_content"]})
            }
            Api::Gemini => json!({"contents": history, "tools": [{"functionDeclarations": [function]}],
                "systemInstruction": {"parts": [{"text": "You look up."}]}}),
            Api::BedrockConverse => {
                let spec = json!({"name": TOOL, "description": "Looks up.", "inputSchema": {"json": schema}});
                json!({"messages": history, "system": [{"text": "You look up."}], "toolConfig": {"tools": [{"toolSpec": spec}]},
                    "inferenceConfig": {"maxTokens": 4096}})
            }
            _ => json!({"model": "big", "stream": stream, "messages": history, "tools": tools}),
        }
    }

    /// Adds the answer to the history as agents do, and a result for each of its calls; false where there is none.
    pub fn go_on(&self, history: &mut Vec<Value>, answer: &Value) -> bool {
        let result = "12 é";
        let before = history.len();
        match self.api {
            Api::AnthropicMessages => {
                history.push(json!({"role": "assistant", "content": answer["content"]}));
                let calls = items(&answer["content"]).filter(|block| block["type"] == "tool_use");
                let results: Vec<Value> = calls
                    .map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": result}))
                    .collect();
                if !results.is_empty() {
                    history.push(json!({"role": "user", "content": results}));
                }
                history.len() == before + 2
            }
            Api::OpenaiResponses => {
                history.extend(items(&answer["output"]).cloned());
                let calls = items(&answer["output"]).filter(|item| item["type"] == "function_call");
                let results: Vec<Value> = calls
                    .map(|call| json!({"type": "function_call_output", "call_id": call["call_id"], "output": result}))
                    .collect();
                history.extend_from_slice(&results);
                !results.is_empty()
            }
            Api::BedrockConverse => {
                let message = &answer["output"]["message"];
                history.push(message.clone());
                let calls = items(&message["content"]).filter_map(|block| block.get("toolUse"));
                let results: Vec<Value> = calls
                    .map(|call| json!({"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": result}]}}))
                    .collect();
                if !results.is_empty() {
                    history.push(json!({"role": "user", "content": results}));
                }
                history.len() == before + 2
            }
            Api::Gemini => {
                let content = &answer["candidates"][0]["content"];
                history.push(content.clone());
                let calls = items(&content["parts"]).filter_map(|part| part.get("functionCall"));
                let results: Vec<Value> = calls
                    .map(|call| {
                        let mut response = json!({"name": call["name"], "response": {"result": result}});
                        if let Some(id) = call.get("id") {
                            response["id"] = id.clone();
                        }
                        json!({"functionResponse": response})
                    })
                    .collect();
                if !results.is_empty() {
                    history.push(json!({"role": "user", "parts": results}));
                }
                history.len() == before + 2
            }
            _ => {
                let message = match self.api {
                    Api::OpenaiChat => &answer["choices"][0]["message"],
                    _ => &answer["message"],
                };
                let mut echoed = json!({"role": "assistant"});
                for key in ["content", "tool_calls", "tool_plan"] {
                    if let Some(value) = message.get(key).filter(|value| !value.is_null()) {
                        echoed[key] = value.clone();
                    }
                }
                history.push(echoed);
                for call in items(&message["tool_calls"]) {
                    let mut told = json!({"role": "tool", "content": result});
                    if self.api == Api::Ollama {
                        told["tool_name"] = call["function"]["name"].clone();
                    } else {
                        told["tool_call_id"] = call["id"].clone();
                    }
                    history.push(told);
                }
                history.len() > before + 1
            }
        }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
