//! Bedrock Converse.

use super::{Checked, Pending, Strict, TOOL, Turn, halves, list, text};
use crate::upstream::{LAST_CHUNK, Step, chunk, head, json as whole};
use serde_json::{Value, json};
use understudy_call::wire::eventstream::write_event;

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
        let mut events = vec![("messageStart", json!({"role": "assistant"}))];
        for (index, block) in content.iter().enumerate() {
            let tool_use = &block["toolUse"];
            let delta = |delta: Value| {
                (
                    "contentBlockDelta",
                    json!({"contentBlockIndex": index, "delta": delta, "p": "ab"}),
                )
            };
            if tool_use.is_object() {
                let start = json!({"toolUse": {"toolUseId": tool_use["toolUseId"], "name": tool_use["name"]}});
                events.push(("contentBlockStart", json!({"contentBlockIndex": index, "start": start})));
                let pieces =
                    halves(&tool_use["input"].to_string()).map(|piece| delta(json!({"toolUse": {"input": piece}})));
                events.extend(pieces);
            } else {
                events.push(delta(json!({"text": block["text"]})));
            }
            events.push(("contentBlockStop", json!({"contentBlockIndex": index})));
        }
        events.push(("messageStop", json!({"stopReason": stop_reason})));
        events.push(("metadata", json!({"usage": usage, "metrics": metrics})));
        let kind = ("content-type", "application/vnd.amazon.eventstream");
        let mut steps = vec![Step::Send(head(200, &[kind, ("transfer-encoding", "chunked")]))];
        for (name, payload) in events {
            let mut message = Vec::new();
            write_event(name, &payload, &mut message);
            steps.push(Step::Send(chunk(&message)));
        }
        steps.push(Step::Send(LAST_CHUNK.to_vec()));
        steps
    }
}
