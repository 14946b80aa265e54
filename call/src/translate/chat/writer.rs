//! The answer of a candidate of another API as OpenAI chat: whole, and as chunks.
//!
//! The chunk with the usage is always written where the usage is known: whoever relays the stream takes it out for a
//! client that did not ask for it ([`Back::adds_usage`]), and may keep it.

use serde_json::{Value, json};

use super::super::fields::inexpressible;
use super::super::ids::{CallIds, is_tool_name};
use super::super::{Back, Ending, Refusal, UNSAYABLE, Writer, Written, error_body};
use super::{completion, finish_word, usage};
use crate::call::{Response, Usage};

/// An answer in chat, with the model that was asked for and ids that are free.
pub(in super::super) fn answer(back: &Back, id: &str, answer: &Response) -> Result<Value, Refusal> {
    let mut ids = CallIds::of_history(&back.request);
    let mut answer = answer.clone();
    answer.model = Some(back.model.clone());
    for (index, call) in answer.tool_calls.iter_mut().enumerate() {
        if !is_tool_name(&call.name) {
            let at = format!("tool_calls[{index}].function.name");
            return Err(inexpressible(at, "a tool call must have a plain name"));
        }
        call.id = Some(ids.next(call.id.as_deref().unwrap_or_default(), index));
    }
    let mut completion = completion(id, &answer);
    completion["created"] = back.created.into();
    Ok(completion)
}

/// Writes the stream of an answer.
pub(in super::super) struct Chunks {
    model: String,
    id: String,
    created: i64,
    /// Every chunk names the usage where the last one tells it.
    names_usage: bool,
    /// The call that is being told, and whether it has arguments.
    open: Option<(usize, bool)>,
}

impl Chunks {
    /// For an answer to the request of `back`.
    pub(in super::super) fn new(back: &Back) -> Chunks {
        Chunks {
            model: back.model.clone(),
            id: String::new(),
            created: back.created,
            names_usage: !back.adds_usage(),
            open: None,
        }
    }

    fn chunk(&self, choices: Value, usage: Option<Value>, out: &mut Vec<u8>) {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if usage.is_some() || self.names_usage {
            chunk["usage"] = usage.unwrap_or_default();
        }
        put(&chunk, out);
    }

    fn say(&self, delta: Value, finish: Option<&str>, out: &mut Vec<u8>) {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
        self.chunk(json!([choice]), None, out);
    }

    /// Agents read the arguments as JSON: none at all are an empty object.
    fn close(&mut self, out: &mut Vec<u8>) {
        if let Some((index, false)) = self.open.take() {
            self.arguments(index, "{}", out);
        }
    }
}

fn put(data: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("data: {data}\n\n").as_bytes());
}

impl Writer for Chunks {
    fn set_created(&mut self, seconds: i64) {
        self.created = seconds;
    }

    fn start(&mut self, id: &str, out: &mut Vec<u8>) {
        self.id = id.to_owned();
        self.say(json!({"role": "assistant", "content": ""}), None, out);
    }

    fn text(&mut self, piece: &str, out: &mut Vec<u8>) -> Written {
        self.close(out);
        self.say(json!({"content": piece}), None, out);
        Ok(())
    }

    fn refusal(&mut self, piece: &str, out: &mut Vec<u8>) -> Written {
        self.close(out);
        self.say(json!({"refusal": piece}), None, out);
        Ok(())
    }

    fn call(&mut self, index: usize, id: &str, name: &str, out: &mut Vec<u8>) -> Written {
        self.close(out);
        if !is_tool_name(name) {
            return Err(UNSAYABLE.into());
        }
        let function = json!({"name": name, "arguments": ""});
        let start = json!({"index": index, "id": id, "type": "function", "function": function});
        self.say(json!({"tool_calls": [start]}), None, out);
        self.open = Some((index, false));
        Ok(())
    }

    fn arguments(&mut self, index: usize, piece: &str, out: &mut Vec<u8>) {
        let more = json!({"index": index, "function": {"arguments": piece}});
        self.say(json!({"tool_calls": [more]}), None, out);
        self.open = Some((index, true));
    }

    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>) {
        put(&error_body(crate::call::Api::OpenaiChat, status, message), out);
    }

    fn finish(&mut self, ending: &Ending<'_>, out: &mut Vec<u8>) -> Written {
        let reason = finish_word(ending.word, ending.has_calls);
        if reason != "length" {
            self.close(out);
        }
        self.say(json!({}), Some(reason), out);
        if *ending.usage != Usage::default() {
            self.chunk(json!([]), Some(usage(ending.usage)), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        Ok(())
    }
}
