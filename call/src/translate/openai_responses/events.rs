//! A chat stream as the events of a response.

use serde_json::{Value, json};

use super::super::ids::is_tool_name;
use super::super::{Back, UNSAYABLE, Writer, Written, sse_event};
use super::answer::{Ending, function_call, message, opening, refusal_part, set_created, text_part};

/// Writes the stream of an answer.
pub(in super::super) struct Events {
    /// The response as it was opened, but for its id before.
    response: Value,
    has_started: bool,
    created: Option<i64>,
    /// How many events were written.
    sequence: u64,
    /// The items that are done.
    output: Vec<Value>,
    open: Option<Item>,
}

/// The item that is being written.
enum Item {
    Message {
        done: Vec<Value>,
        part: Part,
    },
    Call {
        call_id: String,
        name: String,
        arguments: String,
    },
}

/// The part of a message that is being written.
enum Part {
    Text(String),
    Refusal(String),
}

impl Part {
    fn value(&self) -> Value {
        match self {
            Part::Text(text) => text_part(text),
            Part::Refusal(refusal) => refusal_part(refusal),
        }
    }
}

impl Events {
    /// For an answer to the request of `back`.
    pub(in super::super) fn new(back: &Back) -> Events {
        Events {
            response: opening(back, ""),
            has_started: false,
            created: None,
            sequence: 0,
            output: Vec::new(),
            open: None,
        }
    }

    /// Writes an event: `fields`, with its type and its number.
    fn tell(&mut self, kind: &str, fields: Value, out: &mut Vec<u8>) {
        let mut event = json!({"type": kind, "sequence_number": self.sequence});
        if let (Value::Object(event), Value::Object(mut fields)) = (&mut event, fields) {
            event.append(&mut fields);
        }
        self.sequence += 1;
        sse_event(&event, out);
    }

    /// Writes an event of the open item.
    fn tell_of_item(&mut self, kind: &str, mut fields: Value, out: &mut Vec<u8>) {
        let index = self.output.len();
        fields["output_index"] = index.into();
        fields["item_id"] = format!("item_{index}").into();
        self.tell(kind, fields, out);
    }

    /// Writes an event of the open part of the open message.
    fn tell_of_part(&mut self, kind: &str, mut fields: Value, out: &mut Vec<u8>) {
        let index = match &self.open {
            Some(Item::Message { done, .. }) => done.len(),
            _ => 0,
        };
        fields["content_index"] = index.into();
        self.tell_of_item(kind, fields, out);
    }

    fn begin(&mut self, item: Item, value: Value, out: &mut Vec<u8>) {
        self.open = Some(item);
        self.tell(
            "response.output_item.added",
            json!({"output_index": self.output.len(), "item": value}),
            out,
        );
    }

    /// Opens a part of a message, and a message where none is open.
    fn begin_part(&mut self, part: Part, out: &mut Vec<u8>) {
        let value = part.value();
        match &mut self.open {
            Some(Item::Message { part: open, .. }) => *open = part,
            _ => {
                self.close("completed", out);
                self.begin(
                    Item::Message { done: Vec::new(), part },
                    message(Vec::new(), "in_progress"),
                    out,
                );
            }
        }
        self.tell_of_part("response.content_part.added", json!({"part": value}), out);
    }

    /// Tells that the open part of a message is done.
    fn close_part(&mut self, out: &mut Vec<u8>) {
        let Some(Item::Message { part, .. }) = &self.open else {
            return;
        };
        let value = part.value();
        let (kind, whole) = match part {
            Part::Text(text) => ("response.output_text.done", json!({"text": text, "logprobs": []})),
            Part::Refusal(refusal) => ("response.refusal.done", json!({"refusal": refusal})),
        };
        self.tell_of_part(kind, whole, out);
        self.tell_of_part("response.content_part.done", json!({"part": value}), out);
        if let Some(Item::Message { done, .. }) = &mut self.open {
            done.push(value);
        }
    }

    /// Tells that the open item is done.
    fn close(&mut self, status: &str, out: &mut Vec<u8>) {
        // No arguments are an empty object of them.
        if let Some(Item::Call { arguments, .. }) = &self.open
            && arguments.trim().is_empty()
        {
            self.arguments(0, "{}", out);
        }
        self.close_part(out);
        let item = match self.open.take() {
            None => return,
            Some(Item::Message { done, .. }) => message(done, status),
            Some(Item::Call {
                call_id,
                name,
                arguments,
            }) => {
                let fields = json!({"name": name, "arguments": arguments});
                self.tell_of_item("response.function_call_arguments.done", fields, out);
                function_call(&call_id, &name, &arguments, status)
            }
        };
        let index = self.output.len();
        self.tell(
            "response.output_item.done",
            json!({"output_index": index, "item": item}),
            out,
        );
        self.output.push(item);
    }
}

impl Writer for Events {
    fn set_created(&mut self, seconds: i64) {
        self.created = Some(seconds);
    }

    fn start(&mut self, id: &str, out: &mut Vec<u8>) {
        self.has_started = true;
        self.response["id"] = id.into();
        if let Some(seconds) = self.created {
            set_created(&mut self.response, seconds);
        }
        for kind in ["response.created", "response.in_progress"] {
            self.tell(kind, json!({"response": self.response}), out);
        }
    }

    fn text(&mut self, piece: &str, out: &mut Vec<u8>) -> Written {
        if !matches!(
            &self.open,
            Some(Item::Message {
                part: Part::Text(_),
                ..
            })
        ) {
            self.close_part(out);
            self.begin_part(Part::Text(String::new()), out);
        }
        if let Some(Item::Message {
            part: Part::Text(text), ..
        }) = &mut self.open
        {
            text.push_str(piece);
        }
        self.tell_of_part(
            "response.output_text.delta",
            json!({"delta": piece, "logprobs": []}),
            out,
        );
        Ok(())
    }

    fn refusal(&mut self, piece: &str, out: &mut Vec<u8>) -> Written {
        if !matches!(
            &self.open,
            Some(Item::Message {
                part: Part::Refusal(_),
                ..
            })
        ) {
            self.close_part(out);
            self.begin_part(Part::Refusal(String::new()), out);
        }
        if let Some(Item::Message {
            part: Part::Refusal(refusal),
            ..
        }) = &mut self.open
        {
            refusal.push_str(piece);
        }
        self.tell_of_part("response.refusal.delta", json!({"delta": piece}), out);
        Ok(())
    }

    fn call(&mut self, _index: usize, id: &str, name: &str, out: &mut Vec<u8>) -> Written {
        self.close("completed", out);
        if !is_tool_name(name) {
            return Err(UNSAYABLE.into());
        }
        let item = Item::Call {
            call_id: id.to_owned(),
            name: name.to_owned(),
            arguments: String::new(),
        };
        self.begin(item, function_call(id, name, "", "in_progress"), out);
        Ok(())
    }

    fn arguments(&mut self, _index: usize, piece: &str, out: &mut Vec<u8>) {
        if let Some(Item::Call { arguments, .. }) = &mut self.open {
            arguments.push_str(piece);
            self.tell_of_item("response.function_call_arguments.delta", json!({"delta": piece}), out);
        }
    }

    /// The API's error event, and the end of a response that was opened.
    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>) {
        let code = match status {
            429 => "rate_limit_exceeded",
            400 | 413 => "invalid_prompt",
            _ => "server_error",
        };
        self.tell("error", json!({"code": code, "message": message, "param": null}), out);
        if self.has_started {
            let mut response = self.response.take();
            response["status"] = "failed".into();
            response["error"] = json!({"code": code, "message": message});
            response["output"] = std::mem::take(&mut self.output).into();
            self.tell("response.failed", json!({"response": response}), out);
        }
    }

    fn finish(&mut self, ending: &super::super::Ending<'_>, out: &mut Vec<u8>) -> Written {
        let usage = ending.usage;
        let ending = Ending::of(ending.word);
        // An answer always has an item.
        if self.open.is_none() && self.output.is_empty() {
            self.begin_part(Part::Text(String::new()), out);
        }
        self.close(ending.status, out);
        let mut response = self.response.take();
        ending.close(&mut response, std::mem::take(&mut self.output), usage);
        let kind = format!("response.{}", ending.status);
        self.tell(&kind, json!({"response": response}), out);
        Ok(())
    }
}
