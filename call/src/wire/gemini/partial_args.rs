//! Arguments of a function call that come value by value, each with the path of its place (Vertex's
//! `streamFunctionCallArguments`).
//!
//! A path that is no path, or that doesn't fit what came before, is left out. Never recurses.

use serde_json::{Map, Value};

/// The most steps of a path.
const MAX_STEPS: usize = 64;

/// One step of a path.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Arguments as far as they have come.
#[derive(Debug, Default)]
pub(super) struct PartialArgs {
    args: Option<Value>,
    /// Where a string still grows.
    open_path: Option<String>,
}

impl PartialArgs {
    /// Takes the next piece: `{jsonPath, stringValue | numberValue | boolValue | nullValue, willContinue}`.
    pub(super) fn take(&mut self, piece: &Value) {
        let path = piece.get("jsonPath").and_then(Value::as_str).unwrap_or_default();
        let Some(steps) = steps(path) else { return };
        let grows = self.open_path.as_deref() == Some(path);
        let will_continue = piece.get("willContinue").and_then(Value::as_bool) == Some(true);
        self.open_path = will_continue.then(|| path.to_owned());
        let given = ["stringValue", "numberValue", "boolValue"]
            .iter()
            .find_map(|key| piece.get(*key))
            .filter(|value| !value.is_object() && !value.is_array());
        let is_null = piece.get("nullValue").is_some();
        let Some(value) = given.cloned().or_else(|| is_null.then_some(Value::Null)) else {
            return;
        };
        let args = self.args.get_or_insert_with(|| Value::Object(Map::new()));
        match (place(args, steps), value) {
            (Some(Value::String(text)), Value::String(more)) if grows => text.push_str(&more),
            (Some(place), value) => *place = value,
            (None, _) => {}
        }
    }

    /// The arguments; none where none came in pieces.
    pub(super) fn finish(self) -> Option<Value> {
        self.args
    }
}

/// The value that a path leads to, made on the way where it is new.
fn place(mut value: &mut Value, steps: Vec<Step>) -> Option<&mut Value> {
    for step in steps {
        value = match step {
            Step::Key(key) => {
                if value.is_null() {
                    *value = Value::Object(Map::new());
                }
                value.as_object_mut()?.entry(key).or_insert(Value::Null)
            }
            Step::Index(index) => {
                if value.is_null() {
                    *value = Value::Array(Vec::new());
                }
                let items = value.as_array_mut()?;
                // Items come in order: a gap would only be somebody's wish for memory.
                if index == items.len() {
                    items.push(Value::Null);
                }
                items.get_mut(index)?
            }
        };
    }
    Some(value)
}

/// The steps of `$.a.b[0]['c d']`.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, after) = if let Some(named) = rest.strip_prefix('.') {
            let end = named.find(['.', '[']).unwrap_or(named.len());
            (Step::Key(named[..end].into()), &named[end..])
        } else {
            let (inside, after) = bracketed(rest.strip_prefix('[')?)?;
            (inside, after)
        };
        steps.push(step);
        if steps.len() > MAX_STEPS {
            return None;
        }
        rest = after;
    }
    Some(steps)
}

/// The step inside brackets whose opening one is gone, and what follows them.
fn bracketed(text: &str) -> Option<(Step, &str)> {
    for quote in ['\'', '"'] {
        if let Some(quoted) = text.strip_prefix(quote) {
            let (key, after) = quoted.split_once(&format!("{quote}]"))?;
            return Some((Step::Key(key.into()), after));
        }
    }
    let (index, after) = text.split_once(']')?;
    Some((Step::Index(index.parse().ok()?), after))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken(pieces: &[Value]) -> Option<Value> {
        let mut args = PartialArgs::default();
        pieces.iter().for_each(|piece| args.take(piece));
        args.finish()
    }

    #[test]
    fn values_find_their_places_and_strings_grow() {
        let pieces = [
            json!({"jsonPath": "$.city", "stringValue": "New ", "willContinue": true}),
            json!({"jsonPath": "$.city", "stringValue": "Delhi", "willContinue": true}),
            json!({"jsonPath": "$.city", "stringValue": ""}),
            json!({"jsonPath": "$.days[0].n", "numberValue": 1}),
            json!({"jsonPath": "$.days[1]['a b']", "boolValue": true}),
            json!({"jsonPath": "$[\"none\"]", "nullValue": "NULL_VALUE"}),
            json!({"jsonPath": "$.twice", "stringValue": "a"}),
            json!({"jsonPath": "$.twice", "stringValue": "b"}),
        ];
        let expected = json!({"city": "New Delhi", "days": [{"n": 1}, {"a b": true}], "none": null, "twice": "b"});
        assert_eq!(taken(&pieces), Some(expected));
    }

    #[test]
    fn what_fits_nowhere_is_left_out() {
        for path in [
            "",
            "a",
            "$a",
            "$.a[",
            "$.a[x]",
            "$['a",
            "$.list[4000000000]",
            "$.text.below",
        ] {
            let first = json!({"jsonPath": "$.text", "stringValue": "x"});
            let odd = json!({"jsonPath": path, "stringValue": "y"});
            let args = taken(&[first, odd]).unwrap();
            assert_eq!(args["text"], "x", "{path}");
        }
        assert_eq!(steps("$.a").unwrap(), [Step::Key("a".into())]);
        assert_eq!(steps(&format!("${}", ".a".repeat(MAX_STEPS + 1))), None);
        assert_eq!(
            taken(&[
                json!({}),
                json!(7),
                json!({"jsonPath": "$.a", "stringValue": ["no text"]})
            ]),
            None
        );
    }
}
