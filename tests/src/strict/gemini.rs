//! Gemini: calls are paired by their order and name, and since version 3 signed.

use super::{Checked, Strict, TOOL, Turn, list, pieces, stream_of, streamed};
use crate::upstream::{Step, json as whole};
use serde_json::{Value, json};
use understudy_call::call::Api;

impl Strict {
    pub(super) fn check_gemini(&self, path: &str, body: &Value) -> Checked {
        let needs_signature = path.contains("/gemini-3");
        let contents = list(body, "contents");
        let has_text = |content: &&Value| list(content, "parts").iter().any(|part| part["text"].is_string());
        let last_words = contents
            .iter()
            .rposition(|content| content["role"] == "user" && has_text(&content));
        let (mut turns, mut open): (usize, Vec<&Value>) = (0, Vec::new());
        for (place, content) in contents.iter().enumerate() {
            let parts = list(content, "parts");
            let signed = parts.iter().filter_map(|part| part["thoughtSignature"].as_str());
            if let Some(unknown) = signed.clone().find(|signature| !self.is_issued(signature)) {
                return Err(format!("the thought signature `{unknown}` is not valid"));
            }
            if content["role"] == "model" {
                turns += 1;
                open = parts
                    .iter()
                    .map(|part| &part["functionCall"])
                    .filter(|call| call.is_object())
                    .collect();
                let first = parts.iter().find(|part| part["functionCall"].is_object());
                let is_current = Some(place) > last_words;
                if needs_signature && is_current && first.is_some_and(|part| part["thoughtSignature"].is_null()) {
                    return Err("a function call is missing its thought signature".into());
                }
                continue;
            }
            let results: Vec<&Value> = parts
                .iter()
                .map(|part| &part["functionResponse"])
                .filter(|it| it.is_object())
                .collect();
            let pairs =
                |(call, result): (&&Value, &&Value)| call["name"] == result["name"] && call["id"] == result["id"];
            if results.len() != open.len() || !open.iter().zip(&results).all(pairs) {
                return Err("function responses must be those of the function calls before them".into());
            }
            open.clear();
        }
        if open.is_empty() {
            Ok(turns)
        } else {
            Err("a function call without its response".into())
        }
    }

    pub(super) fn say_gemini(&self, path: &str, turn: &Turn, streams: bool) -> Vec<Step> {
        let said = if streams {
            pieces(&turn.text)
        } else {
            vec![turn.text.clone()]
        };
        let said = said.into_iter().filter(|piece| !piece.is_empty());
        let mut parts: Vec<Value> = said.map(|piece| json!({"text": piece})).collect();
        for (place, (_, arguments)) in turn.calls.iter().enumerate() {
            let mut part = json!({"functionCall": {"name": TOOL, "args": arguments}});
            if place == 0 {
                part["thoughtSignature"] = self.next("c2ln").into();
            }
            parts.push(part);
        }
        let usage = json!({"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18});
        let answer = |parts: &[Value], finish: Value| {
            let content = json!({"role": "model", "parts": parts});
            let candidate = json!({"content": content, "finishReason": finish, "index": 0});
            json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "big", "responseId": "r"})
        };
        if !streams {
            return whole(200, &answer(&parts, "STOP".into()));
        }
        let last = parts.len().saturating_sub(1);
        let chunks: Vec<Value> = parts
            .iter()
            .enumerate()
            .map(|(place, part)| {
                let finish = if place == last { "STOP".into() } else { Value::Null };
                answer(std::slice::from_ref(part), finish)
            })
            .collect();
        if path.contains("alt=sse") {
            return stream_of(Api::Gemini, &chunks);
        }
        let elements = chunks.iter().enumerate().map(|(place, chunk)| {
            let between = if place == 0 { "[" } else { ",\r\n" };
            format!("{between}{chunk:#}").into_bytes()
        });
        streamed("application/json", elements.chain([b"\r\n]".to_vec()]))
    }
}
