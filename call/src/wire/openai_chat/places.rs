//! Which tool call a piece of a stream belongs to, by the rules of all dialects.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::text;

/// The tool calls of one choice as far as they have come, numbered from 0 as they begin.
#[derive(Default)]
pub(crate) struct Places {
    by_index: BTreeMap<i64, usize>,
    by_id: BTreeMap<String, usize>,
    ids: Vec<Option<String>>,
}

impl Places {
    /// The place of the call that a piece continues, or of a new one: by index, else by id, else the last one.
    pub(crate) fn of(&mut self, piece: &Map<String, Value>) -> usize {
        let index = piece.get("index").and_then(Value::as_i64);
        let id = piece.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
        let function = piece.get("function").or_else(|| piece.get("custom"));
        let is_named = function.is_some_and(|function| text(function, "name").is_some());
        let known = match (index, id) {
            // Gemini's dialect and old Ollama number all parallel calls 0: another id with a name is another call.
            (Some(index), Some(id)) if is_named => {
                let known = self.by_index.get(&index).copied();
                known.filter(|place| self.ids[*place].as_deref().is_none_or(|known| known == id))
            }
            (Some(index), _) => self.by_index.get(&index).copied(),
            (None, Some(id)) => self.by_id.get(id).copied(),
            (None, None) if is_named => None,
            (None, None) => self.ids.len().checked_sub(1),
        };
        let place = known.unwrap_or(self.ids.len());
        if place == self.ids.len() {
            self.ids.push(None);
        }
        if let Some(index) = index {
            self.by_index.insert(index, place);
        }
        if let Some(id) = id {
            self.by_id.insert(id.into(), place);
            self.ids[place].get_or_insert_with(|| id.into());
        }
        place
    }
}
