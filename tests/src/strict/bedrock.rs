//! Bedrock Converse.

use super::{Checked, Pending, Strict, TOOL, Turn, list, pieces, stream_of, text};
use crate::upstream::{Step, json as whole};
use serde_json::{Value, json};
use understudy_call::call::Api;

pub(super) fn check_converse(body: &Value) -> Checked {
    let (mut pending, mut turns) = (Pending::default(), 0);
    for message in list(body, "messages") {
        let blocks = list(message, "content");
        if blocks.is_empty() {
            return Err("a message without content".into());
        }
        if message["role"] == "assistant" {
            turns += 1;
        }
        for block in blocks {
            let (tool_use, result) = (&block["toolUse"], &block["toolResult"]);
            if tool_use.is_object() {
                pending.call(text(tool_use, "toolUseId"), 64)?;
                if !tool_use["input"].is_object() {
                    return Err("the input of a tool must be an object".into());
                }
            } else if result.is_object() {
                pending.result(text(result, "toolUseId"))?;
            } else if text(block, "text").trim().is_empty() {
                return Err("the text field in the ContentBlock object is blank".into());
            }
        }
        if message["role"] == "user" {
            pending.none_open()?;
        }
    }
    pending.none_open().map(|()| turns)
}

impl Strict {
    pub(super) fn say_converse(&self, turn: &Turn, streams: bool) -> Vec<Step> {
        let mut content = Vec::new();
        if !turn.text.is_empty() {
            content.push(json!({"text": turn.text}));
        }
        content.extend(turn.calls.iter().map(|(id, arguments)| {
            json!({"toolUse": {"toolUseId": format!("tooluse_{id}"), "name": TOOL, "input": arguments}})
        }));
        let stop_reason = if turn.calls.is_empty() { "end_turn" } else { "tool_use" };
        let usage = json!({"inputTokens": 11, "outputTokens": 7, "totalTokens": 18});
        let metrics = json!({"latencyMs": 5});
        if !streams {
            let message = json!({"role": "assistant", "content": content});
            return whole(
                200,
                &json!({"output": {"message": message}, "stopReason": stop_reason, "usage": usage, "metrics": metrics}),
            );
        }
        let mut events = vec![json!({"messageStart": {"role": "assistant"}})];
        for (index, block) in content.iter().enumerate() {
            let tool_use = &block["toolUse"];
            let delta =
                |delta: Value| json!({"contentBlockDelta": {"contentBlockIndex": index, "delta": delta, "p": "ab"}});
            if tool_use.is_object() {
                let start = json!({"toolUse": {"toolUseId": tool_use["toolUseId"], "name": tool_use["name"]}});
                events.push(json!({"contentBlockStart": {"contentBlockIndex": index, "start": start}}));
                let input = pieces(&tool_use["input"].to_string()).into_iter();
                events.extend(input.map(|piece| delta(json!({"toolUse": {"input": piece}}))));
            } else {
                let said = pieces(text(block, "text")).into_iter();
                events.extend(said.map(|piece| delta(json!({"text": piece}))));
            }
            events.push(json!({"contentBlockStop": {"contentBlockIndex": index}}));
        }
        events.push(json!({"messageStop": {"stopReason": stop_reason}}));
        events.push(json!({"metadata": {"usage": usage, "metrics": metrics}}));
        stream_of(Api::BedrockConverse, &events)
    }
}
