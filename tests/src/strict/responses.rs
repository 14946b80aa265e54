//! OpenAI Responses, with nothing stored.

use super::{Checked, Pending, Strict, TOOL, Turn, is_object_text, list, pieces, stream_of, text};
use crate::upstream::{Step, json as whole};
use serde_json::{Value, json};
use understudy_call::call::Api;

impl Strict {
    pub(super) fn check_responses(&self, body: &Value) -> Checked {
        if body["store"] != false {
            return Err("this one stores nothing".into());
        }
        let (mut pending, mut turns, mut was_answer) = (Pending::default(), 0, false);
        for item in list(body, "input") {
            let id = text(item, "id");
            if !id.is_empty() && !self.is_issued(id) {
                return Err(format!("item with id `{id}` not found"));
            }
            let is_answer = match text(item, "type") {
                "reasoning" if self.is_issued(text(item, "encrypted_content")) => true,
                "reasoning" => return Err("encrypted content that can't be decrypted".into()),
                "function_call" if is_object_text(&item["arguments"]) => {
                    pending.call(text(item, "call_id"), 64)?;
                    true
                }
                "function_call_output" => {
                    pending.result(text(item, "call_id"))?;
                    false
                }
                "message" | "" => item["role"] == "assistant",
                other => return Err(format!("an item `{other}`")),
            };
            turns += usize::from(is_answer && !was_answer);
            was_answer = is_answer;
        }
        pending.none_open().map(|()| turns)
    }

    pub(super) fn say_responses(&self, turn: &Turn, streams: bool) -> Vec<Step> {
        let mut output = vec![json!({
            "type": "reasoning", "id": self.next("rs_"), "summary": [], "encrypted_content": self.next("gAAAA"),
        })];
        if !turn.text.is_empty() {
            let part = json!({"type": "output_text", "text": turn.text, "annotations": [], "logprobs": []});
            output.push(json!({
                "type": "message", "id": self.next("msg_"), "role": "assistant", "status": "completed", "content": [part],
            }));
        }
        output.extend(turn.calls.iter().map(|(id, arguments)| {
            json!({
                "type": "function_call", "id": self.next("fc_"), "call_id": id, "name": TOOL,
                "arguments": arguments.to_string(), "status": "completed",
            })
        }));
        let response = |status: &str, output: &[Value]| {
            json!({
                "id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": "big", "store": false,
                "output": output, "usage": {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18},
            })
        };
        if !streams {
            return whole(200, &response("completed", &output));
        }
        let mut events = vec![json!({"type": "response.created", "response": response("in_progress", &[])})];
        for (index, item) in output.iter().enumerate() {
            let mut begun = item.clone();
            begun["status"] = "in_progress".into();
            let place = json!({"output_index": index, "item_id": item["id"]});
            let event = |kind: &str, more: Value| {
                let mut event = place.clone();
                event["type"] = kind.into();
                if let (Some(event), Some(more)) = (event.as_object_mut(), more.as_object()) {
                    event.extend(more.clone());
                }
                event
            };
            match text(item, "type") {
                "message" => begun["content"] = json!([]),
                "function_call" => begun["arguments"] = "".into(),
                _ => {}
            }
            events.push(event("response.output_item.added", json!({"item": begun})));
            match text(item, "type") {
                "message" => {
                    let part = json!({"type": "output_text", "text": "", "annotations": []});
                    events.push(event(
                        "response.content_part.added",
                        json!({"content_index": 0, "part": part}),
                    ));
                    for piece in pieces(&turn.text) {
                        let delta = json!({"content_index": 0, "delta": piece});
                        events.push(event("response.output_text.delta", delta));
                    }
                }
                "function_call" => {
                    for piece in pieces(text(item, "arguments")) {
                        events.push(event("response.function_call_arguments.delta", json!({"delta": piece})));
                    }
                }
                _ => {}
            }
            events.push(event("response.output_item.done", json!({"item": item})));
        }
        events.push(json!({"type": "response.completed", "response": response("completed", &output)}));
        stream_of(Api::OpenaiResponses, &events)
    }
}
