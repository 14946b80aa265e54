//! Anthropic Messages.

use super::{Checked, Pending, Strict, TOOL, Turn, list, pieces, stream_of, text};
use crate::upstream::{Step, json as whole};
use serde_json::{Value, json};
use understudy_call::call::Api;

impl Strict {
    pub(super) fn check_messages(&self, body: &Value) -> Checked {
        let (mut pending, mut turns) = (Pending::default(), 0);
        let messages = list(body, "messages");
        let last_answer = messages.iter().rposition(|message| message["role"] == "assistant");
        for (place, message) in messages.iter().enumerate() {
            let blocks = list(message, "content");
            if message["role"] == "assistant" {
                turns += 1;
                if blocks.is_empty() {
                    return Err("an assistant message without content".into());
                }
                self.check_answer(blocks, &mut pending)?;
                let first = text(&blocks[0], "type");
                let thinks = !matches!(text(&body["thinking"], "type"), "" | "disabled");
                let calls = !pending.open.is_empty();
                if thinks && calls && Some(place) == last_answer && first != "thinking" {
                    return Err(format!("expected `thinking`, but found `{first}`"));
                }
                continue;
            }
            let results = blocks.iter().take_while(|block| block["type"] == "tool_result");
            for result in results {
                pending.result(text(result, "tool_use_id"))?;
            }
            // All results stand in the next message, before anything else.
            pending.none_open()?;
        }
        pending.none_open().map(|()| turns)
    }

    fn check_answer(&self, blocks: &[Value], pending: &mut Pending) -> Result<(), String> {
        for block in blocks {
            match text(block, "type") {
                "text" if text(block, "text").is_empty() => return Err("text content blocks must be non-empty".into()),
                "text" => {}
                "thinking" if self.is_issued(text(block, "signature")) => {}
                "tool_use" if block["input"].is_object() => pending.call(text(block, "id"), 64)?,
                other => return Err(format!("a block `{other}` that was not issued")),
            }
        }
        Ok(())
    }

    pub(super) fn say_messages(&self, body: &Value, turn: &Turn, streams: bool) -> Vec<Step> {
        let mut content = Vec::new();
        if body["thinking"]["type"] == "enabled" {
            content.push(json!({"type": "thinking", "thinking": "Hm.", "signature": self.next("signature/+=")}));
        }
        if !turn.text.is_empty() {
            content.push(json!({"type": "text", "text": turn.text}));
        }
        content.extend(turn.calls.iter().map(|(id, arguments)| {
            json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": TOOL, "input": arguments})
        }));
        let stop_reason = if turn.calls.is_empty() { "end_turn" } else { "tool_use" };
        let message = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "big", "content": content,
            "stop_reason": stop_reason, "stop_sequence": null, "usage": {"input_tokens": 11, "output_tokens": 7},
        });
        if !streams {
            return whole(200, &message);
        }
        let mut start = message.clone();
        start["content"] = json!([]);
        start["stop_reason"] = Value::Null;
        let mut events = vec![json!({"type": "message_start", "message": start})];
        for (index, block) in content.iter().enumerate() {
            let event = |kind: &str, key: &str, value: Value| json!({"type": kind, "index": index, key: value});
            let delta = |value: Value| event("content_block_delta", "delta", value);
            let in_pieces = |words: &str, kind: &str, key: &str| -> Vec<Value> {
                let said = pieces(words).into_iter();
                said.map(|piece| delta(json!({"type": kind, key: piece}))).collect()
            };
            let (start, deltas) = match text(block, "type") {
                "text" => (
                    json!({"type": "text", "text": ""}),
                    in_pieces(text(block, "text"), "text_delta", "text"),
                ),
                "thinking" => (
                    json!({"type": "thinking", "thinking": "", "signature": ""}),
                    vec![
                        delta(json!({"type": "thinking_delta", "thinking": block["thinking"]})),
                        delta(json!({"type": "signature_delta", "signature": block["signature"]})),
                    ],
                ),
                _ => {
                    let mut start = block.clone();
                    start["input"] = json!({});
                    let input = block["input"].to_string();
                    (start, in_pieces(&input, "input_json_delta", "partial_json"))
                }
            };
            events.push(event("content_block_start", "content_block", start));
            events.extend(deltas);
            events.push(json!({"type": "content_block_stop", "index": index}));
        }
        let delta = json!({"stop_reason": stop_reason, "stop_sequence": null});
        events.push(json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}}));
        events.push(json!({"type": "message_stop"}));
        stream_of(Api::AnthropicMessages, &events)
    }
}
