//! State at the provider: a call that needs it, or asks for it, can't be answered elsewhere.
//!
//! Pure. Of translated calls the translation decides; this is for arms that speak the call's own API. In doubt a call has
//! state.

use serde_json::{Map, Value};
use understudy_call::call::Api;

/// Top-level keys that name or ask for such state in one API or another; `false` and null are off.
const KEYS: [&str; 12] = [
    "previous_response_id",
    "conversation",
    "thread",
    "background",
    "store",
    "container",
    "mcp_servers",
    "web_search_options",
    "search_parameters",
    "deferred",
    "cachedContent",
    "cached_content",
];

/// Keys, at any depth of the messages, of things that the provider holds.
const REFERENCES: [&str; 4] = ["file_id", "vector_store_ids", "fileUri", "file_uri"];

/// Whether the provider holds, or is asked to hold or run, anything for this call.
pub(crate) fn at_provider(api: Api, body: &[u8]) -> bool {
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
        return true;
    };
    // Responses are stored unless the client says otherwise; a stored prompt has an id.
    let stored_unasked =
        api == Api::OpenaiResponses && (body.get("store") != Some(&Value::Bool(false)) || is_set(&body, "prompt"));
    stored_unasked || KEYS.iter().any(|key| is_set(&body, key)) || has_tools_at_provider(&body) || refers(&body)
}

/// Whether the provider signs what its model thinks: it takes no other model's thinking back in a history, nor a tool call
/// without any.
pub(crate) fn signs_thinking(api: Api, body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let kind = body["thinking"]["type"].as_str();
    api == Api::AnthropicMessages && kind.is_some_and(|kind| kind != "disabled")
}

fn is_set(body: &Map<String, Value>, key: &str) -> bool {
    body.get(key)
        .is_some_and(|value| !value.is_null() && value != &Value::Bool(false))
}

/// Tools that the provider runs, or whose schema only its models know.
fn has_tools_at_provider(body: &Map<String, Value>) -> bool {
    let tools = body.get("tools").and_then(Value::as_array);
    tools.is_some_and(|tools| !tools.iter().all(is_clients))
}

fn is_clients(tool: &Value) -> bool {
    match tool.get("type").and_then(Value::as_str) {
        Some(kind) => matches!(kind, "function" | "custom"),
        // Gemini's tools are told by their keys.
        None => tool.as_object().is_none_or(|tool| {
            let at_provider =
                |key: &String| key.starts_with("google") || key.starts_with("code") || key.starts_with("url");
            !tool.keys().any(at_provider)
        }),
    }
}

fn refers(body: &Map<String, Value>) -> bool {
    let mut open: Vec<&Value> = ["messages", "input", "contents", "system"]
        .iter()
        .filter_map(|key| body.get(*key))
        .collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Array(elements) => open.extend(elements),
            Value::Object(members) => {
                let is_reference = members.get("type").is_some_and(|kind| kind == "item_reference");
                // An assistant's earlier audio is named by its id.
                let is_audio = members.get("audio").is_some_and(|audio| audio.get("id").is_some());
                if is_reference || is_audio || REFERENCES.iter().any(|key| members.contains_key(*key)) {
                    return true;
                }
                // Arguments of tool calls are the agent's own affair.
                open.extend(
                    members
                        .iter()
                        .filter(|(key, _)| *key != "input" && *key != "args")
                        .map(|(_, value)| value),
                );
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(api: Api, body: &str) -> bool {
        at_provider(api, body.as_bytes())
    }

    #[test]
    fn what_the_provider_holds_or_runs_is_state() {
        for (api, body) in [
            (Api::OpenaiChat, r#"{"store":true}"#),
            (Api::OpenaiChat, r#"{"web_search_options":{}}"#),
            (
                Api::OpenaiChat,
                r#"{"messages":[{"role":"assistant","audio":{"id":"a"}}]}"#,
            ),
            (
                Api::OpenaiChat,
                r#"{"messages":[{"content":[{"type":"file","file":{"file_id":"f"}}]}]}"#,
            ),
            (Api::OpenaiResponses, r#"{"input":"hi"}"#),
            (Api::OpenaiResponses, r#"{"store":false,"previous_response_id":"r"}"#),
            (Api::OpenaiResponses, r#"{"store":false,"prompt":{"id":"p"}}"#),
            (
                Api::OpenaiResponses,
                r#"{"store":false,"input":[{"type":"item_reference","id":"i"}]}"#,
            ),
            (Api::AnthropicMessages, r#"{"container":"c"}"#),
            (
                Api::AnthropicMessages,
                r#"{"thread":{"type":"continue","previous_message_id":"m"}}"#,
            ),
            (Api::AnthropicMessages, r#"{"mcp_servers":[{}]}"#),
            (
                Api::AnthropicMessages,
                r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#,
            ),
            (
                Api::AnthropicMessages,
                r#"{"messages":[{"content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]}"#,
            ),
            (Api::Gemini, r#"{"cachedContent":"cachedContents/1"}"#),
            (Api::Gemini, r#"{"tools":[{"googleSearch":{}}]}"#),
            (
                Api::Gemini,
                r#"{"contents":[{"parts":[{"fileData":{"fileUri":"u"}}]}]}"#,
            ),
            (Api::OpenaiChat, "no JSON"),
        ] {
            assert!(state(api, body), "{body}");
        }
    }

    #[test]
    fn only_anthropic_signs_thinking() {
        let thinks = |api, kind: &str| signs_thinking(api, format!(r#"{{"thinking":{{"type":"{kind}"}}}}"#).as_bytes());
        assert!(thinks(Api::AnthropicMessages, "enabled") && thinks(Api::AnthropicMessages, "adaptive"));
        assert!(!thinks(Api::AnthropicMessages, "disabled") && !thinks(Api::OpenaiChat, "enabled"));
        assert!(!signs_thinking(Api::AnthropicMessages, b"{}"));
    }

    #[test]
    fn what_the_request_carries_itself_is_none() {
        for (api, body) in [
            (
                Api::OpenaiChat,
                r#"{"store":false,"tools":[{"type":"function","function":{"name":"f"}}]}"#,
            ),
            (Api::OpenaiResponses, r#"{"store":false,"input":"hi"}"#),
            (
                Api::AnthropicMessages,
                r#"{"tools":[{"name":"f","input_schema":{}},{"type":"custom","name":"g"}]}"#,
            ),
            (
                Api::AnthropicMessages,
                r#"{"messages":[{"content":[{"type":"tool_use","input":{"file_id":"mine"}}]}]}"#,
            ),
            (Api::Gemini, r#"{"tools":[{"functionDeclarations":[]}]}"#),
        ] {
            assert!(!state(api, body), "{body}");
        }
    }
}
