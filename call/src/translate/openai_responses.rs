//! OpenAI Responses ⇄ OpenAI chat.
//!
//! The API keeps answers unless a request says `"store": false`, and agents then name them by id instead of sending
//! their history: such a call stays with its baseline, the first of a conversation included.
//!
//! Reasoning is the baseline's own: items of it in the history are left out of the candidate's request (the agent keeps
//! them, and sends them to the baseline again), `reasoning` says how much the baseline is to think, and no answer of a
//! candidate has any.
//!
//! Items of an answer have no id, since agents send them back and the baseline looks ids up; the `item_id` of stream
//! events, which no agent sends back, is the item's place.

use serde_json::{Value, json};

mod answer;
mod asking;
mod events;
mod reader;
mod request;

pub(super) use answer::{answer, set_created};
pub(super) use asking::asking;
pub(super) use events::Events;
pub(super) use reader::ResponseEvents;
pub(super) use request::request;

/// An error body of this API.
pub(super) fn error(status: u16, message: &str) -> Value {
    let (kind, code) = match status {
        401 => ("authentication_error", None),
        403 => ("permission_error", None),
        429 => ("rate_limit_error", Some("rate_limit_exceeded")),
        400..500 => ("invalid_request_error", None),
        _ => ("server_error", Some("server_error")),
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

#[cfg(test)]
mod tests;
