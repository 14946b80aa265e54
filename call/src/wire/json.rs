//! JSON of untrusted senders: tolerant parsing, and the one edit that leaves all other bytes alone.
//!
//! Never recurses on the input (serde_json stops at 128 levels; the scanner counts), never re-serialises a body.

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use serde_json::Value;

use super::WireError;

/// What some senders put before UTF-8 text.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The body without a leading byte order mark.
pub(crate) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// Parses a body; a byte order mark, invalid UTF-8 and halves of surrogate pairs are tolerated.
///
/// The last two come from agents that cut text by bytes or by UTF-16 units, as JavaScript does.
pub(crate) fn parse(body: &[u8]) -> Result<Value, WireError> {
    let body = without_bom(body);
    let error = match serde_json::from_slice(body) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if is_too_deep(&error) {
        return Err(WireError::TooDeep);
    }
    let text = String::from_utf8_lossy(body);
    let repaired = without_lone_surrogates(&text);
    if matches!((&text, &repaired), (Cow::Borrowed(_), Cow::Borrowed(_))) {
        return Err(WireError::NotJson(error));
    }
    serde_json::from_str(&repaired).map_err(|error| {
        if is_too_deep(&error) {
            WireError::TooDeep
        } else {
            WireError::NotJson(error)
        }
    })
}

/// serde_json has no code for this error, only its words.
fn is_too_deep(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("recursion limit exceeded")
}

/// Replaces each `\uD800`–`\uDFFF` escape that is not half of a pair, which is no Unicode text, by `\ufffd`.
fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut fixed = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = memchr(b'\\', &bytes[at..]) {
        at += found;
        let Some(unit) = escaped_unit(&bytes[at..]) else {
            at = (at + 2).min(bytes.len());
            continue;
        };
        let is_high = (0xd800..0xdc00).contains(&unit);
        let is_low = (0xdc00..0xe000).contains(&unit);
        if is_high && escaped_unit(&bytes[at + 6..]).is_some_and(|next| (0xdc00..0xe000).contains(&next)) {
            at += 12;
            continue;
        }
        if is_high || is_low {
            fixed.push_str(&text[copied..at]);
            fixed.push_str("\\ufffd");
            copied = at + 6;
        }
        at += 6;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    fixed.push_str(&text[copied..]);
    Cow::Owned(fixed)
}

/// The UTF-16 code unit of a JSON string's `\uXXXX` escape at the start of `bytes`; none where there is no such escape.
pub fn escaped_unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    if is_hex {
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    } else {
        None
    }
}

/// A non-empty string under `key`.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// The array under `key`; empty where there is none.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A whole number under `key`, also where it is written as a float.
pub(crate) fn integer(value: &Value, key: &str) -> Option<i64> {
    let number = value.get(key)?;
    number.as_i64().or_else(|| {
        number
            .as_f64()
            .filter(|float| float.fract() == 0.0)
            .map(|float| float as i64)
    })
}

/// Tool arguments as JSON text: a string as it is, no arguments as `{}`.
pub(crate) fn arguments(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "{}".into(),
        Some(Value::String(text)) if text.trim().is_empty() => "{}".into(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// Puts `model` in place of the string under the top-level key `model`; all other bytes stay as they are.
///
/// None where the body is no whole JSON object or names no model there.
pub fn replace_model(body: &[u8], model: &str) -> Option<Vec<u8>> {
    let places = model_strings(body)?;
    let name = Value::from(model).to_string();
    let mut replaced = Vec::with_capacity(body.len() + name.len() * places.len());
    let mut copied = 0;
    for (start, end) in places {
        replaced.extend_from_slice(&body[copied..start]);
        replaced.extend_from_slice(name.as_bytes());
        copied = end;
    }
    replaced.extend_from_slice(&body[copied..]);
    Some(replaced)
}

/// Byte ranges, quotes included, of the string values of top-level `model` keys; all of them, since parsers differ on
/// which of two equal keys counts.
fn model_strings(body: &[u8]) -> Option<Vec<(usize, usize)>> {
    let mut places = Vec::new();
    let mut at = body.len() - without_bom(body).trim_ascii_start().len();
    if body.get(at) != Some(&b'{') {
        return None;
    }
    let mut depth = 0usize;
    let mut key_comes = false;
    while let Some(&byte) = body.get(at) {
        match byte {
            b'"' => {
                let end = string_end(body, at)?;
                if depth == 1 && key_comes {
                    key_comes = false;
                    let value = value_start(body, end)?;
                    if is_model_key(&body[at..end]) && body.get(value) == Some(&b'"') {
                        let value_end = string_end(body, value)?;
                        places.push((value, value_end));
                        at = value_end;
                        continue;
                    }
                    at = value;
                    continue;
                }
                at = end;
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                key_comes = depth == 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return if places.is_empty() { None } else { Some(places) };
                }
            }
            b',' => key_comes = depth == 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The offset after the closing quote of the string that opens at `start`.
pub(super) fn string_end(body: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr2(b'"', b'\\', body.get(at..)?)?;
        if body[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Where the value of a key that ended at `key_end` starts.
pub(super) fn value_start(body: &[u8], key_end: usize) -> Option<usize> {
    let colon = key_end + body[key_end..].iter().position(|byte| !byte.is_ascii_whitespace())?;
    if body[colon] != b':' {
        return None;
    }
    Some(colon + 1 + body[colon + 1..].iter().position(|byte| !byte.is_ascii_whitespace())?)
}

/// A key may be written with escapes; it is then decoded.
fn is_model_key(quoted: &[u8]) -> bool {
    quoted == b"\"model\""
        || (quoted.contains(&b'\\') && serde_json::from_slice::<String>(quoted).is_ok_and(|key| key == "model"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replaces_the_top_level_model_and_nothing_else() {
        let body = br#" {"a": {"model": "x", "b": ["model", {"model": 1}]}, "model" : "gpt\"4", "n": 1e2, "s": "\"model\": \"no\""}"#;
        let want = r#" {"a": {"model": "x", "b": ["model", {"model": 1}]}, "model" : "slm \"é\"", "n": 1e2, "s": "\"model\": \"no\""}"#;
        assert_eq!(replace_model(body, "slm \"é\"").unwrap(), want.as_bytes());
    }

    #[test]
    fn replaces_an_escaped_key_and_both_of_two_equal_keys() {
        let body = br#"{"mod\u0065l":"a","model":"b"}"#;
        assert_eq!(replace_model(body, "c").unwrap(), br#"{"mod\u0065l":"c","model":"c"}"#);
    }

    #[test]
    fn leaves_bodies_without_a_model_string_alone() {
        for body in [
            "",
            "[]",
            "{}",
            "{\"model\":null}",
            "{\"model\":\"cut",
            "{\"x\":{\"model\":\"a\"}}",
            "{\"model\"}",
            "{]",
        ] {
            assert_eq!(replace_model(body.as_bytes(), "x"), None, "{body}");
        }
    }

    #[test]
    fn tolerates_what_agents_cut_in_the_middle() {
        let cut_pair = br#"{"t":"a \ud83d b \\ud83d \ude00 \ud83d\ude00 \ud83d"}"#;
        assert_eq!(
            parse(cut_pair).unwrap(),
            json!({"t": "a \u{fffd} b \\ud83d \u{fffd} 😀 \u{fffd}"})
        );
        assert_eq!(
            parse(b"\xef\xbb\xbf{\"t\":\"a\xf0\x9f\"}").unwrap(),
            json!({"t": "a\u{fffd}"})
        );
        assert!(matches!(parse(b"{\"t\":\"\\ud83d"), Err(WireError::NotJson(_))));
    }

    #[test]
    fn depth_is_an_error_of_its_own() {
        let deep = "[".repeat(100_000);
        assert!(matches!(parse(deep.as_bytes()), Err(WireError::TooDeep)));
        assert!(matches!(parse(b"{\"x\": 1e999}"), Err(WireError::NotJson(_))));
        assert!(matches!(parse(b""), Err(WireError::NotJson(_))));
        assert_eq!(replace_model(format!("{{\"a\":{deep}").as_bytes(), "x"), None);
    }
}
