//! Ollama's native chat.

use super::{Checked, TOOL, Turn, list, pieces, stream_of, text};
use crate::upstream::{Step, json as whole};
use serde_json::{Value, json};
use understudy_call::call::Api;

pub(super) fn check_ollama(body: &Value) -> Checked {
    let (mut open, mut turns) = (Vec::new(), 0);
    for message in list(body, "messages") {
        match text(message, "role") {
            "tool" => {
                let name = text(message, "tool_name");
                let place = open
                    .iter()
                    .position(|open| *open == name)
                    .ok_or("a result without a call")?;
                open.remove(place);
            }
            role if !open.is_empty() => return Err(format!("a message of {role} before the results of calls")),
            "assistant" => {
                turns += 1;
                for call in list(message, "tool_calls") {
                    if !call["function"]["arguments"].is_object() {
                        return Err("arguments must be an object".into());
                    }
                    open.push(text(&call["function"], "name"));
                }
            }
            _ => {}
        }
    }
    if open.is_empty() {
        Ok(turns)
    } else {
        Err("a call without a result".into())
    }
}

pub(super) fn say_ollama(turn: &Turn, streams: bool) -> Vec<Step> {
    let calls: Vec<Value> = turn
        .calls
        .iter()
        .map(|(_, arguments)| json!({"function": {"name": TOOL, "arguments": arguments}}))
        .collect();
    let line = |text: &str, calls: &[Value], done: bool| {
        let mut message = json!({"role": "assistant", "content": text});
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        let mut line = json!({"model": "big", "created_at": "2026-11-21T08:15:00Z", "message": message, "done": done});
        if done {
            line["done_reason"] = "stop".into();
            line["prompt_eval_count"] = 11.into();
            line["eval_count"] = 7.into();
        }
        line
    };
    if !streams {
        return whole(200, &line(&turn.text, &calls, true));
    }
    let said = pieces(&turn.text).into_iter().map(|piece| line(&piece, &[], false));
    let lines: Vec<Value> = said.chain([line("", &calls, false), line("", &[], true)]).collect();
    stream_of(Api::Ollama, &lines)
}
