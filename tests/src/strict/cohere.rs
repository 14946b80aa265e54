//! Cohere's chat, version 2.

use super::{Checked, DONE, Pending, TOOL, Turn, is_object_text, list, pieces, stream_of, text};
use crate::upstream::{Step, json as whole};
use serde_json::{Value, json};
use understudy_call::call::Api;

pub(super) fn check_cohere(body: &Value) -> Checked {
    let (mut pending, mut turns) = (Pending::default(), 0);
    for message in list(body, "messages") {
        match text(message, "role") {
            "tool" => pending.result(text(message, "tool_call_id"))?,
            role => {
                pending.none_open()?;
                turns += usize::from(role == "assistant");
                for call in list(message, "tool_calls") {
                    pending.call(text(call, "id"), 64)?;
                    if !is_object_text(&call["function"]["arguments"]) {
                        return Err("arguments must be the text of an object".into());
                    }
                }
            }
        }
    }
    pending.none_open().map(|()| turns)
}

pub(super) fn say_cohere(turn: &Turn, streams: bool) -> Vec<Step> {
    let calls: Vec<Value> = turn
        .calls
        .iter()
        .map(|(id, arguments)| {
            json!({"id": format!("{TOOL}_{id}"), "type": "function", "function": {"name": TOOL, "arguments": arguments.to_string()}})
        })
        .collect();
    let finish = if calls.is_empty() { "COMPLETE" } else { "TOOL_CALL" };
    let usage = json!({"billed_units": {"input_tokens": 11, "output_tokens": 7}, "tokens": {"input_tokens": 11, "output_tokens": 7}});
    if !streams {
        let mut message = json!({"role": "assistant"});
        if calls.is_empty() {
            message["content"] = json!([{"type": "text", "text": turn.text}]);
        } else {
            message["tool_calls"] = calls.into();
            message["tool_plan"] = turn.text.clone().into();
        }
        return whole(
            200,
            &json!({"id": "c", "finish_reason": finish, "message": message, "usage": usage}),
        );
    }
    let start =
        json!({"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}});
    let mut events = vec![json!({"type": "message-start", "id": "c", "delta": start})];
    if calls.is_empty() {
        let content = |text: Value| json!({"message": {"content": text}});
        events
            .push(json!({"type": "content-start", "index": 0, "delta": content(json!({"type": "text", "text": ""}))}));
        for piece in pieces(&turn.text) {
            events.push(json!({"type": "content-delta", "index": 0, "delta": content(json!({"text": piece}))}));
        }
        events.push(json!({"type": "content-end", "index": 0}));
    } else {
        for piece in pieces(&turn.text) {
            events.push(json!({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": piece}}}));
        }
    }
    for (index, call) in calls.iter().enumerate() {
        let mut begun = call.clone();
        begun["function"]["arguments"] = "".into();
        events.push(json!({"type": "tool-call-start", "index": index, "delta": {"message": {"tool_calls": begun}}}));
        for piece in pieces(text(&call["function"], "arguments")) {
            let more = json!({"message": {"tool_calls": {"function": {"arguments": piece}}}});
            events.push(json!({"type": "tool-call-delta", "index": index, "delta": more}));
        }
        events.push(json!({"type": "tool-call-end", "index": index}));
    }
    events.push(json!({"type": "message-end", "delta": {"finish_reason": finish, "usage": usage}}));
    events.push(DONE.into());
    stream_of(Api::CohereChat, &events)
}
