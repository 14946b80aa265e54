//! Tool calls on their way: results of a history matched to their calls, and a stream's calls collected until whole.

use serde_json::{Map, Value, json};

use super::{Refusal, ids};
use crate::call::ToolCall;
use crate::wire;

/// The most bytes of arguments that are collected of one answer; what is longer counts as malformed.
const MAX_ARGUMENTS: usize = 8 << 20;

/// The calls of a request's history, each with an id for the candidate: chat matches results by id alone, which Gemini
/// and Ollama may leave out.
#[derive(Default)]
pub(super) struct History {
    open: Vec<Open>,
    calls: usize,
}

struct Open {
    given: Option<String>,
    name: String,
    id: String,
}

impl History {
    /// The model speaks again: what it called before gets no more results.
    pub(super) fn next_turn(&mut self) {
        self.open.clear();
    }

    /// A call of the model's, written in chat. A call without an id gets one by its place, so that it is the same in
    /// every request of the conversation; nine letters and digits, which the strictest chat template takes.
    pub(super) fn called(&mut self, given: Option<&str>, name: &str, arguments: String) -> Value {
        let given = given.filter(|id| !id.is_empty());
        let id = match given {
            Some(given) => ids::tool_call_id(given, self.calls),
            None => format!("call{:05}", self.calls),
        };
        self.calls += 1;
        self.open.push(Open {
            given: given.map(Into::into),
            name: name.to_owned(),
            id: id.clone(),
        });
        json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
    }

    /// A tool's result as a chat message. It answers the open call of its id, else the oldest of its name, else, where
    /// it has no name, the oldest.
    ///
    /// # Errors
    /// Where it answers no call.
    pub(super) fn answered(
        &mut self,
        given: Option<&str>,
        name: Option<&str>,
        content: String,
        at: &str,
    ) -> Result<Value, Refusal> {
        let by_id = |open: &Open| given.is_some() && open.given.as_deref() == given;
        let by_name = |open: &Open| name.is_none_or(|name| open.name == name);
        let found = self.open.iter().position(by_id);
        let place = found.or_else(|| self.open.iter().position(by_name));
        let place = place.ok_or_else(|| super::fields::inexpressible(at, "it answers no tool call"))?;
        let open = self.open.remove(place);
        Ok(json!({"role": "tool", "tool_call_id": open.id, "content": content}))
    }
}

/// Refuses a conversation that ends with the model's own words: it asks to go on from them, which few chat servers do.
pub(super) fn refuse_prefill(messages: &[Value], at: &str) -> Result<(), Refusal> {
    if messages.last().is_some_and(|last| last["role"] == "assistant") {
        let what = "the answer goes on from a text of the client's";
        return Err(super::fields::inexpressible(at, what));
    }
    Ok(())
}

/// Tool calls of a streamed answer, for APIs that say each in one piece.
#[derive(Default)]
pub(super) struct Collected {
    calls: Vec<ToolCall>,
    bytes: usize,
}

impl Collected {
    /// The next call.
    pub(super) fn start(&mut self, name: String) {
        self.calls.push(ToolCall {
            id: None,
            name,
            arguments: String::new(),
        });
    }

    /// More of the arguments of the call at `index`.
    pub(super) fn push(&mut self, index: usize, piece: &str) {
        self.bytes += piece.len();
        if self.bytes > MAX_ARGUMENTS {
            return;
        }
        if let Some(call) = self.calls.get_mut(index) {
            call.arguments.push_str(piece);
        }
    }

    /// The calls, as far as they came.
    pub(super) fn calls(&self) -> &[ToolCall] {
        &self.calls
    }
}

/// Why an answer can't be given, of the tool that was called with something else than an object.
pub(super) fn malformed(name: &str) -> String {
    format!("the arguments of the tool call `{name}` are no JSON object")
}

/// Whether the arguments of a call are an object, or nothing at all.
pub(super) fn is_object(arguments: &str) -> bool {
    arguments.trim().is_empty() || serde_json::from_str::<Value>(arguments).is_ok_and(|value| value.is_object())
}

/// The arguments of a call as an object; nothing at all as an empty one, none where they are no JSON object.
pub(super) fn arguments(call: &ToolCall) -> Option<Map<String, Value>> {
    if call.arguments.trim().is_empty() {
        return Some(Map::new());
    }
    match wire::parse_json(call.arguments.as_bytes()) {
        Ok(Value::Object(arguments)) => Some(arguments),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(history: &mut History, given: Option<&str>, name: Option<&str>) -> Option<String> {
        let message = history.answered(given, name, String::new(), "x").ok()?;
        message["tool_call_id"].as_str().map(Into::into)
    }

    #[test]
    fn results_find_their_calls_by_id_then_name_then_order() {
        let mut history = History::default();
        history.called(None, "time", "{}".into());
        history.called(None, "weather", "{}".into());
        history.called(Some("w2"), "weather", "{}".into());
        history.called(None, "weather", "{}".into());
        assert_eq!(answers(&mut history, Some("w2"), Some("weather")).unwrap(), "w2");
        assert_eq!(
            answers(&mut history, Some("unknown"), Some("weather")).unwrap(),
            "call00001"
        );
        assert_eq!(answers(&mut history, None, Some("weather")).unwrap(), "call00003");
        assert_eq!(answers(&mut history, None, Some("weather")), None);
        assert_eq!(answers(&mut history, None, None).unwrap(), "call00000");
        assert_eq!(answers(&mut history, None, None), None);
    }

    #[test]
    fn a_new_turn_of_the_model_closes_the_calls_before_it() {
        let mut history = History::default();
        history.called(None, "a", "{}".into());
        history.next_turn();
        history.called(None, "b", "{}".into());
        assert_eq!(answers(&mut history, None, None).unwrap(), "call00001");
        assert_eq!(answers(&mut history, None, None), None);
    }

    #[test]
    fn ids_that_not_every_server_takes_are_replaced() {
        let mut history = History::default();
        let call = history.called(Some("a/b=="), "a", "{}".into());
        let id = call["id"].as_str().unwrap();
        assert!(id.starts_with("call_") && id.len() < 40);
        assert_eq!(answers(&mut history, Some("a/b=="), None).unwrap(), id);
    }

    #[test]
    fn arguments_are_an_object_or_none() {
        let of = |text: &str| {
            arguments(&ToolCall {
                id: None,
                name: String::new(),
                arguments: text.into(),
            })
        };
        assert_eq!(of(" "), Some(Map::new()));
        assert_eq!(of("{\"a\":1}").unwrap()["a"], 1);
        assert!(of("[]").is_none() && of("{\"a\":").is_none() && of("null").is_none());
    }

    #[test]
    fn collected_arguments_have_a_bound() {
        let mut collected = Collected::default();
        collected.start("a".into());
        for _ in 0..MAX_ARGUMENTS / (1 << 20) + 2 {
            collected.push(0, &"x".repeat(1 << 20));
        }
        collected.push(7, "x");
        assert_eq!(collected.calls()[0].arguments.len(), MAX_ARGUMENTS);
    }
}
