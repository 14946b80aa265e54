//! Reads a request key by key, so that none goes unread: what a translation doesn't take is refused, with its path.
//!
//! `null` says nothing and counts as absent. Never looks into a value that was not asked for. A value of another kind than
//! the API has is left to the API to refuse: [`Refusal::Unreadable`].

use std::borrow::Cow;

use serde_json::{Number, Value};

use super::Refusal;

/// The keys of one object that have not been taken yet.
pub(super) struct Fields<'a> {
    at: String,
    left: Vec<(Cow<'a, str>, &'a Value)>,
    is_camel: bool,
}

impl<'a> Fields<'a> {
    /// The keys of the object `value`, which stands at the path `at`; empty for the body itself.
    pub(super) fn of(value: &'a Value, at: impl Into<String>) -> Result<Fields<'a>, Refusal> {
        Fields::named(value, at.into(), false)
    }

    /// As [`Fields::of`], by the rule of JSON made from Protobuf: `function_call` means `functionCall`.
    pub(super) fn camel(value: &'a Value, at: impl Into<String>) -> Result<Fields<'a>, Refusal> {
        Fields::named(value, at.into(), true)
    }

    fn named(value: &'a Value, at: String, is_camel: bool) -> Result<Fields<'a>, Refusal> {
        let Some(object) = value.as_object() else {
            return Err(unreadable(&at, "no object"));
        };
        let name = |key: &'a String| {
            if is_camel {
                camel_case(key)
            } else {
                Cow::Borrowed(key.as_str())
            }
        };
        let left = object.iter().filter(|(_, value)| !value.is_null());
        Ok(Fields {
            at,
            left: left.map(|(key, value)| (name(key), value)).collect(),
            is_camel,
        })
    }

    /// The path of a key.
    pub(super) fn path(&self, key: &str) -> String {
        if self.at.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.at)
        }
    }

    /// Whether a key is there and not taken.
    pub(super) fn has(&self, key: &str) -> bool {
        self.left.iter().any(|(name, _)| name == key)
    }

    /// The value of a key.
    pub(super) fn take(&mut self, key: &str) -> Option<&'a Value> {
        let place = self.left.iter().position(|(name, _)| name == key)?;
        Some(self.left.remove(place).1)
    }

    /// Leaves keys out whose values change nothing of what is asked.
    pub(super) fn leave_out(&mut self, keys: &[&str]) {
        self.left.retain(|(name, _)| !keys.contains(&name.as_ref()));
    }

    /// The text of a key.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<&'a str>, Refusal> {
        self.typed(key, "no text", Value::as_str)
    }

    /// The text of a key that must be there.
    pub(super) fn needed_text(&mut self, key: &str) -> Result<&'a str, Refusal> {
        let path = self.path(key);
        self.text(key)?.ok_or_else(|| unreadable(&path, "missing"))
    }

    /// The truth of a key; false where it is absent.
    pub(super) fn flag(&mut self, key: &str) -> Result<bool, Refusal> {
        let flag = self.typed(key, "neither true nor false", Value::as_bool)?;
        Ok(flag.unwrap_or(false))
    }

    /// The number of a key, also one written as text, as JSON made from Protobuf allows.
    pub(super) fn number(&mut self, key: &str) -> Result<Option<Number>, Refusal> {
        self.typed(key, "no number", |value| match value {
            Value::Number(number) => Some(number.clone()),
            Value::String(text) => text.parse().ok(),
            _ => None,
        })
    }

    /// The whole number of a key, also one written as a float or as text.
    pub(super) fn integer(&mut self, key: &str) -> Result<Option<i64>, Refusal> {
        let path = self.path(key);
        let Some(number) = self.number(key)? else {
            return Ok(None);
        };
        // Past 2^53 a float is no longer sure of its last digits.
        let is_whole = |float: &f64| float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0;
        let of_float = || number.as_f64().filter(is_whole).map(|float| float as i64);
        let whole = number.as_i64().or_else(of_float);
        whole.map(Some).ok_or_else(|| unreadable(&path, "no whole number"))
    }

    /// The object of a key.
    pub(super) fn object(&mut self, key: &str) -> Result<Option<Fields<'a>>, Refusal> {
        let (at, is_camel) = (self.path(key), self.is_camel);
        self.take(key)
            .map(|value| Fields::named(value, at, is_camel))
            .transpose()
    }

    /// The items of a list, each with its path. One thing alone is taken as a list of one, as most of the APIs do.
    pub(super) fn items(&mut self, key: &str) -> Vec<(String, &'a Value)> {
        let at = self.path(key);
        match self.take(key) {
            Some(Value::Array(items)) => {
                let with_path = |(place, item)| (format!("{at}[{place}]"), item);
                items.iter().enumerate().map(with_path).collect()
            }
            Some(item) => vec![(at, item)],
            None => Vec::new(),
        }
    }

    /// The texts of a list of texts.
    pub(super) fn texts(&mut self, key: &str) -> Result<Vec<&'a str>, Refusal> {
        let items = self.items(key).into_iter();
        items
            .map(|(at, item)| item.as_str().ok_or_else(|| unreadable(&at, "no text")))
            .collect()
    }

    /// Refuses what is left.
    pub(super) fn end(self) -> Result<(), Refusal> {
        self.end_as("chat has no such field")
    }

    /// Refuses what is left, for this reason.
    pub(super) fn end_as(self, what: &str) -> Result<(), Refusal> {
        match self.left.first() {
            Some((key, _)) => Err(inexpressible(self.path(key), what)),
            None => Ok(()),
        }
    }

    /// Refuses a key that is there, for this reason.
    pub(super) fn refuse(&self, key: &str, what: &str) -> Result<(), Refusal> {
        if self.has(key) {
            return Err(inexpressible(self.path(key), what));
        }
        Ok(())
    }

    /// Refuses a key unless its value says no more than its absence would.
    pub(super) fn refuse_unless(
        &mut self,
        key: &str,
        what: &str,
        is_nothing: impl Fn(&Value) -> bool,
    ) -> Result<(), Refusal> {
        let path = self.path(key);
        match self.take(key) {
            Some(value) if !is_nothing(value) => Err(inexpressible(path, what)),
            _ => Ok(()),
        }
    }

    fn typed<T>(
        &mut self,
        key: &str,
        otherwise: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let path = self.path(key);
        let read = |value| read(value).ok_or_else(|| unreadable(&path, otherwise));
        self.take(key).map(read).transpose()
    }
}

/// A refusal of what stands at a path.
pub(super) fn inexpressible(at: impl Into<String>, what: impl Into<String>) -> Refusal {
    Refusal::Inexpressible {
        at: at.into(),
        what: what.into(),
    }
}

/// A refusal of a request that its own API would not take either.
pub(super) fn unreadable(at: &str, what: &str) -> Refusal {
    Refusal::Unreadable(format!("`{at}` is {what}"))
}

/// Whether a value is zero, false or empty.
pub(super) fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

/// `snake_case` as `camelCase`; a leading underscore stays.
pub(super) fn camel_case(key: &str) -> Cow<'_, str> {
    if !key.trim_start_matches('_').contains('_') {
        return Cow::Borrowed(key);
    }
    let mut name = String::with_capacity(key.len());
    let mut is_word_start = false;
    for letter in key.chars() {
        if letter == '_' && !name.is_empty() && !name.ends_with('_') {
            is_word_start = true;
        } else if std::mem::take(&mut is_word_start) {
            name.extend(letter.to_uppercase());
        } else {
            name.push(letter);
        }
    }
    Cow::Owned(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_taken_is_refused_with_its_path() {
        let body = json!({"a": {"some_key": 1, "left": [], "none": null}});
        let mut fields = Fields::camel(&body, "").unwrap();
        let mut inner = fields.object("a").unwrap().unwrap();
        assert_eq!(inner.number("someKey").unwrap(), Some(1.into()));
        let refusal = inner.end().unwrap_err();
        assert_eq!(refusal, inexpressible("a.left", "chat has no such field"));
        assert!(fields.end().is_ok());
    }

    #[test]
    fn both_spellings_of_one_key_are_one_too_many() {
        let body = json!({"top_p": 1, "topP": 2});
        let mut fields = Fields::camel(&body, "").unwrap();
        fields.number("topP").unwrap();
        assert!(fields.end().is_err());
    }

    #[test]
    fn values_of_another_kind_are_refused() {
        let body = json!({"text": 1, "flag": "yes", "number": [], "object": "x", "texts": ["a", 1]});
        let mut fields = Fields::of(&body, "x").unwrap();
        assert_eq!(fields.needed_text("missing"), Err(unreadable("x.missing", "missing")));
        assert_eq!(fields.text("text"), Err(unreadable("x.text", "no text")));
        assert!(fields.flag("flag").is_err() && fields.number("number").is_err() && fields.object("object").is_err());
        let body = json!({"a": 40.0, "b": "7", "c": 0.5, "d": 1e300, "e": i64::MIN});
        let mut numbers = Fields::of(&body, "").unwrap();
        assert_eq!(numbers.integer("a"), Ok(Some(40)));
        assert_eq!(
            (numbers.integer("b"), numbers.integer("e")),
            (Ok(Some(7)), Ok(Some(i64::MIN)))
        );
        assert!(numbers.integer("c").is_err() && numbers.integer("d").is_err());
        assert_eq!(fields.texts("texts"), Err(unreadable("x.texts[1]", "no text")));
        assert!(Fields::of(&json!([]), "").is_err());
    }

    #[test]
    fn names_are_turned_as_protobuf_turns_them() {
        for (key, name) in [
            ("function_call", "functionCall"),
            ("functionCall", "functionCall"),
            ("_response_json_schema", "_responseJsonSchema"),
            ("é_é", "éÉ"),
            ("", ""),
            ("_", "_"),
        ] {
            assert_eq!(camel_case(key), name, "{key}");
        }
    }
}
