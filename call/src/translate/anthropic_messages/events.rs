//! A chat stream as Anthropic's message events.

use serde_json::{Value, json};

use super::super::blocks::{Begun, BlockEvents, Piece};
use super::super::{Back, Ending, sse_event};
use super::answer::{opening, stop_reason, usage};

/// The events of a message; holds the message as it is opened, but for its id.
pub(in super::super) struct Events(Value);

impl Events {
    /// For an answer to the request of `back`.
    pub(in super::super) fn new(back: &Back) -> Events {
        Events(opening(back, ""))
    }
}

impl BlockEvents for Events {
    fn start(&mut self, id: &str, out: &mut Vec<u8>) {
        let mut message = self.0.take();
        message["id"] = id.into();
        sse_event(&json!({"type": "message_start", "message": message}), out);
    }

    fn begin(&mut self, index: usize, block: Begun<'_>, out: &mut Vec<u8>) {
        let (content, is_call) = match block {
            Begun::Text => (json!({"type": "text", "text": ""}), false),
            Begun::Call { id, name } => (json!({"type": "tool_use", "id": id, "name": name, "input": {}}), true),
        };
        let event = json!({"type": "content_block_start", "index": index, "content_block": content});
        sse_event(&event, out);
        if is_call {
            self.delta(index, Piece::Arguments(""), out);
        }
    }

    fn delta(&mut self, index: usize, piece: Piece<'_>, out: &mut Vec<u8>) {
        let delta = match piece {
            Piece::Text(text) => json!({"type": "text_delta", "text": text}),
            Piece::Arguments(piece) => json!({"type": "input_json_delta", "partial_json": piece}),
        };
        let event = json!({"type": "content_block_delta", "index": index, "delta": delta});
        sse_event(&event, out);
    }

    fn stop(&mut self, index: usize, out: &mut Vec<u8>) {
        sse_event(&json!({"type": "content_block_stop", "index": index}), out);
    }

    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>) {
        sse_event(&super::error(status, message), out);
    }

    fn finish(&mut self, ending: &Ending<'_>, out: &mut Vec<u8>) {
        let reason = stop_reason(ending.word, ending.has_calls, ending.is_refused);
        let delta = json!({"stop_reason": reason, "stop_sequence": null});
        let event = json!({"type": "message_delta", "delta": delta, "usage": usage(ending.usage)});
        sse_event(&event, out);
        sse_event(&json!({"type": "message_stop"}), out);
    }
}
