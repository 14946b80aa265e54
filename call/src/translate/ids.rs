//! Ids and names of tool calls that travel between a candidate and a baseline.

use std::collections::HashSet;

use crate::wire::json::{list, text};
use serde_json::Value;

/// The id that the client is given for a tool call of a candidate: the candidate's own where every API takes it (1 to 40
/// letters, digits, `_` and `-`), else one made from it and the call's place, the same each time.
pub fn tool_call_id(candidates: &str, index: usize) -> String {
    let is_short = (1..=40).contains(&candidates.len());
    if is_short && is_plain(candidates) {
        return candidates.to_owned();
    }
    made_id(candidates, index, 0)
}

fn made_id(candidates: &str, index: usize, turn: usize) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(candidates.as_bytes());
    hasher.update(&index.to_le_bytes());
    hasher.update(&turn.to_le_bytes());
    format!("call_{}", &hasher.finalize().to_hex()[..24])
}

/// The ids of a conversation's tool calls.
///
/// Baselines refuse a history in which two calls have one id, and small servers count their calls from 0 in each answer,
/// or name none at all.
#[derive(Clone, Debug, Default)]
pub(super) struct CallIds {
    taken: HashSet<String>,
}

impl CallIds {
    /// With the ids in a request's history: those of `tool_use` and `toolUse` blocks, of messages' `tool_calls` and of `function_call`
    /// items.
    pub(super) fn of_history(request: &Value) -> CallIds {
        let messages = list(request, "messages").iter();
        let of_calls = messages
            .clone()
            .flat_map(|message| list(message, "tool_calls"))
            .filter_map(|call| text(call, "id"));
        let blocks = messages.clone().flat_map(|message| list(message, "content"));
        let of_blocks = blocks
            .filter(|block| text(block, "type") == Some("tool_use"))
            .filter_map(|block| text(block, "id"));
        let blocks = messages.flat_map(|message| list(message, "content"));
        let of_uses = blocks.filter_map(|block| text(block.get("toolUse")?, "toolUseId"));
        let of_items = list(request, "input").iter().filter_map(|item| text(item, "call_id"));
        CallIds {
            taken: of_blocks
                .chain(of_calls)
                .chain(of_uses)
                .chain(of_items)
                .map(Into::into)
                .collect(),
        }
    }

    /// The id of the answer's next call: [`tool_call_id`] where it is free; the same each time for the same request.
    pub(super) fn next(&mut self, candidates: &str, index: usize) -> String {
        let mut id = tool_call_id(candidates, index);
        let mut turn = 0;
        while !self.taken.insert(id.clone()) {
            turn += 1;
            id = made_id(candidates, index, turn);
        }
        id
    }
}

/// Whether every API takes a tool's name back in a history: 1 to 128 letters, digits, `_` and `-`.
pub(super) fn is_tool_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && is_plain(name)
}

fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_that_every_api_takes_stay_and_others_are_made() {
        for own in ["call_1", "toolu_01", "0", "D681PevKs"] {
            assert_eq!(tool_call_id(own, 0), own);
        }
        for foreign in ["", "a.b", "functions.f:0", &"x".repeat(41), "é"] {
            let made = tool_call_id(foreign, 0);
            assert!(made.starts_with("call_") && made.len() == 29, "{made}");
            assert_eq!(made, tool_call_id(foreign, 0));
            assert_ne!(made, tool_call_id(foreign, 1));
        }
    }

    #[test]
    fn no_two_calls_of_a_conversation_have_one_id() {
        let anthropic = json!({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [
            {"type": "tool_use", "id": "call_0"}, {"type": "tool_use", "id": tool_call_id("", 0)}]}]});
        let responses = json!({"input": [{"type": "function_call", "call_id": "call_0"},
            {"type": "function_call", "call_id": tool_call_id("", 0)}]});
        let cohere =
            json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "call_0"}, {"id": tool_call_id("", 0)}]}]});
        for request in [anthropic, responses, cohere] {
            let mut ids = CallIds::of_history(&request);
            let given: Vec<String> = [("call_0", 0), ("", 0), ("same", 1), ("same", 2)]
                .map(|(own, index)| ids.next(own, index))
                .into();
            let known = HashSet::from(["call_0".to_owned(), tool_call_id("", 0)]);
            assert!(given.iter().all(|id| !known.contains(id)), "{given:?}");
            assert_eq!(given.iter().collect::<HashSet<_>>().len(), 4, "{given:?}");
            assert_eq!(given[2], "same");
        }
    }
}
