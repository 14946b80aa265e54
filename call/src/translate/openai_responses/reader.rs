//! The events of a response, read as they come. Reasoning, and tools that the provider runs, are left out.

use serde_json::Value;

use super::super::told::{Events, Told};
use crate::call::Api;
use crate::wire::json::{integer, text};
use crate::wire::{self, Assembled};

/// What is known of a response.
#[derive(Default)]
pub(in super::super) struct ResponseEvents {
    /// The call that is being told: its place in the output, and whether any of its arguments came.
    open: Option<(Option<i64>, bool)>,
}

impl Events for ResponseEvents {
    fn event(&mut self, name: &str, data: &Value, told: &mut Told) {
        let response = data.get("response").unwrap_or(&Value::Null);
        match text(data, "type").unwrap_or(name) {
            "response.created" => {
                told.created(integer(response, "created_at"));
                told.model(text(response, "model"));
                told.start(text(response, "id").unwrap_or_default());
            }
            "response.output_text.delta" => told.text(text(data, "delta").unwrap_or_default()),
            "response.refusal.delta" => told.refusal(text(data, "delta").unwrap_or_default()),
            "response.output_item.added" => self.begin(data, told),
            "response.function_call_arguments.delta" => match &mut self.open {
                Some((place, has_arguments)) if *place == integer(data, "output_index") => {
                    *has_arguments = true;
                    told.arguments(text(data, "delta").unwrap_or_default());
                }
                Some(_) => told.fail("pieces of two tool calls are mixed".into()),
                None => {}
            },
            "response.output_item.done" => self.close(data, told),
            "response.completed" | "response.incomplete" => end(response, told),
            "response.failed" => {
                let error = response.get("error").filter(|error| !error.is_null());
                told.fail(error.cloned().unwrap_or_else(|| "the response failed".into()));
            }
            "error" => told.fail(data.clone()),
            _ => {}
        }
    }
}

fn is_call(item: &Value) -> bool {
    text(item, "type") == Some("function_call")
}

impl ResponseEvents {
    fn begin(&mut self, data: &Value, told: &mut Told) {
        let item = data.get("item").unwrap_or(&Value::Null);
        if is_call(item) {
            told.call(
                text(item, "call_id").unwrap_or_default(),
                text(item, "name").unwrap_or_default(),
            );
            self.open = Some((integer(data, "output_index"), false));
        }
    }

    /// A few servers say an item whole alone.
    fn close(&mut self, data: &Value, told: &mut Told) {
        let item = data.get("item").unwrap_or(&Value::Null);
        if !is_call(item) {
            return;
        }
        match self.open.take() {
            Some((place, _)) if place != integer(data, "output_index") => {
                return told.fail("pieces of two tool calls are mixed".into());
            }
            Some((_, true)) => return,
            Some((_, false)) => {}
            None => told.call(
                text(item, "call_id").unwrap_or_default(),
                text(item, "name").unwrap_or_default(),
            ),
        }
        told.arguments(text(item, "arguments").unwrap_or_default());
    }
}

/// The last event repeats the response: it counts where no other said anything.
fn end(response: &Value, told: &mut Told) {
    let assembled = Assembled {
        body: response.clone(),
        ..Assembled::default()
    };
    let answer = wire::parse_response(Api::OpenaiResponses, 200, &assembled);
    match told.is_silent() {
        true => told.answer(&answer),
        false => told.ends(answer.finish_reason.as_deref(), answer.usage),
    }
    told.end();
}
