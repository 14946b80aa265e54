//! A chat stream as the events of a response.

use serde_json::{Value, json};

use super::super::chat::Delta;
use super::super::ids::{CallIds, is_tool_name};
use super::super::{BROKE_OFF, Back, Writer, error_said, sse_event};
use super::answer::{Ending, function_call, message, opening, refusal_part, set_created, text_part};
use crate::call::Usage;

/// Writes the stream of an answer.
pub(in super::super) struct Events {
    ids: CallIds,
    /// The response as it was opened, but for its id before.
    response: Value,
    has_started: bool,
    created: Option<i64>,
    /// How many events were written.
    sequence: u64,
    /// The items that are done.
    output: Vec<Value>,
    open: Option<Item>,
    finish: Option<String>,
    usage: Usage,
    has_failed: bool,
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
            ids: CallIds::of_history(&back.request),
            response: opening(back, ""),
            has_started: false,
            created: None,
            sequence: 0,
            output: Vec::new(),
            open: None,
            finish: None,
            usage: Usage::default(),
            has_failed: false,
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

    fn text(&mut self, piece: &str, out: &mut Vec<u8>) {
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
    }

    fn refusal(&mut self, piece: &str, out: &mut Vec<u8>) {
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
    }

    fn call(&mut self, index: usize, id: &str, name: String, out: &mut Vec<u8>) {
        self.close("completed", out);
        if !is_tool_name(&name) {
            return self.fail(500, "the model called a tool by a name that can't be said", out);
        }
        let call_id = self.ids.next(id, index);
        let value = function_call(&call_id, &name, "", "in_progress");
        self.begin(
            Item::Call {
                call_id,
                name,
                arguments: String::new(),
            },
            value,
            out,
        );
    }

    fn arguments(&mut self, piece: &str, out: &mut Vec<u8>) {
        if let Some(Item::Call { arguments, .. }) = &mut self.open {
            arguments.push_str(piece);
            self.tell_of_item("response.function_call_arguments.delta", json!({"delta": piece}), out);
        }
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
            self.arguments("{}", out);
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

    /// The API's error event, and the end of a response that was opened.
    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>) {
        self.has_failed = true;
        let code = super::error(status, message)["error"]["code"].take();
        let code = code.as_str().unwrap_or("server_error").to_owned();
        self.tell("error", json!({"code": code, "message": message, "param": null}), out);
        if self.has_started {
            let mut response = self.response.take();
            response["status"] = "failed".into();
            response["error"] = json!({"code": code, "message": message});
            response["output"] = std::mem::take(&mut self.output).into();
            self.tell("response.failed", json!({"response": response}), out);
        }
    }
}

impl Writer for Events {
    fn set_created(&mut self, seconds: i64) {
        self.created = Some(seconds);
    }

    fn write(&mut self, delta: Delta, out: &mut Vec<u8>) {
        if self.has_failed {
            return;
        }
        match delta {
            Delta::Start { id } => self.start(&id, out),
            Delta::Text(piece) => self.text(&piece, out),
            Delta::Refusal(piece) => self.refusal(&piece, out),
            Delta::ToolCall { index, id, name } => self.call(index, &id, name, out),
            Delta::Arguments { piece, .. } => self.arguments(&piece, out),
            Delta::Finish(word) => self.finish = Some(word),
            Delta::Usage(usage) => self.usage = usage,
            Delta::Error(error) => {
                let (status, message) = error_said(&error);
                self.fail(status, &message, out);
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if self.has_failed {
            return;
        }
        let Some(word) = self.finish.take() else {
            return self.fail(500, BROKE_OFF, out);
        };
        let ending = Ending::of(&word);
        // An answer always has an item.
        if self.open.is_none() && self.output.is_empty() {
            self.begin_part(Part::Text(String::new()), out);
        }
        self.close(ending.status, out);
        let mut response = self.response.take();
        ending.close(&mut response, std::mem::take(&mut self.output), &self.usage);
        self.tell(
            &format!("response.{}", ending.status),
            json!({"response": response}),
            out,
        );
    }
}
