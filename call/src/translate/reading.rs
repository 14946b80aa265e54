//! Reads requests by lists of what may stand in them, so that nothing of a request is lost unsaid.
//!
//! What is absent, null, or an empty list or object says nothing. A request that its own API would refuse is left to
//! it: [`Refusal::Unreadable`].

use serde_json::{Map, Value};

use super::Refusal;

/// An object of a request, and where it stands.
pub(super) struct Object<'a> {
    fields: &'a Map<String, Value>,
    at: String,
}

impl<'a> Object<'a> {
    /// An object that stands at `at`; the request itself at an empty place.
    pub(super) fn new(value: &'a Value, at: impl Into<String>) -> Result<Object<'a>, Refusal> {
        let at = at.into();
        match value {
            Value::Object(fields) => Ok(Object { fields, at }),
            _ => Err(unreadable(&at, "an object")),
        }
    }

    /// Where a field stands.
    pub(super) fn place(&self, key: &str) -> String {
        if self.at.is_empty() {
            key.into()
        } else {
            format!("{}.{key}", self.at)
        }
    }

    /// A field that says something.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.fields.get(key).filter(|value| says_something(value))
    }

    /// A text field.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, Refusal> {
        let text = |value: &'a Value| value.as_str().ok_or_else(|| unreadable(&self.place(key), "a text"));
        self.get(key).map(text).transpose()
    }

    /// A text field that must be there.
    pub(super) fn needed_text(&self, key: &str) -> Result<&'a str, Refusal> {
        self.text(key)?.ok_or_else(|| unreadable(&self.place(key), "a text"))
    }

    /// A field that is true or false; absent is false.
    pub(super) fn flag(&self, key: &str) -> Result<bool, Refusal> {
        let flag = |value: &Value| value.as_bool().ok_or_else(|| unreadable(&self.place(key), "a flag"));
        self.get(key).map_or(Ok(false), flag)
    }

    /// An object in a field.
    pub(super) fn object(&self, key: &str) -> Result<Option<Object<'a>>, Refusal> {
        self.get(key)
            .map(|value| Object::new(value, self.place(key)))
            .transpose()
    }

    /// A list of objects in a field; absent is empty.
    pub(super) fn objects(&self, key: &str) -> Result<Vec<Object<'a>>, Refusal> {
        let place = self.place(key);
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let items = items.iter().enumerate();
                items
                    .map(|(index, item)| Object::new(item, format!("{place}[{index}]")))
                    .collect()
            }
            Some(_) => Err(unreadable(&place, "a list")),
        }
    }

    /// The object's `type`; empty where it has none.
    pub(super) fn kind(&self) -> &'a str {
        self.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// Refuses a field that says something and is in none of the lists.
    pub(super) fn allow(&self, lists: &[&[&str]]) -> Result<(), Refusal> {
        let is_listed = |key: &str| lists.iter().any(|list| list.contains(&key));
        let other = self
            .fields
            .iter()
            .find(|(key, value)| !is_listed(key) && says_something(value));
        match other {
            Some((key, _)) => Err(self.refuse(key, "there is no such field")),
            None => Ok(()),
        }
    }

    /// Refuses a field that says something.
    pub(super) fn forbid(&self, key: &str, what: &str) -> Result<(), Refusal> {
        self.get(key).map_or(Ok(()), |_| Err(self.refuse(key, what)))
    }

    /// A refusal of a field.
    pub(super) fn refuse(&self, key: &str, what: impl Into<String>) -> Refusal {
        Refusal::Inexpressible {
            at: self.place(key),
            what: what.into(),
        }
    }

    /// A refusal of the whole object.
    pub(super) fn refuse_all(&self, what: impl Into<String>) -> Refusal {
        Refusal::Inexpressible {
            at: self.at.clone(),
            what: what.into(),
        }
    }
}

/// A request that its own API would not take either.
pub(super) fn unreadable(at: &str, expected: &str) -> Refusal {
    Refusal::Unreadable(format!("`{at}` is not {expected}"))
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}
