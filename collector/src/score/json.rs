//! JSON answers: found in text.

use serde_json::Value;

/// Brackets at which JSON inside a text may begin that are tried.
const MOST_STARTS: usize = 32;

/// The JSON object or array that a text is, bare or in one Markdown fence.
pub(crate) fn json_of(text: &str) -> Option<Value> {
    let text = text.trim();
    let inside = fenced(text).unwrap_or(text);
    let value: Value = serde_json::from_str(inside).ok()?;
    (value.is_object() || value.is_array()).then_some(value)
}

/// The JSON object or array in a text: [`json_of`], else the first one with words around it.
pub(super) fn json_within(text: &str) -> Option<Value> {
    json_of(text).or_else(|| {
        let starts = text.char_indices().filter(|(_, c)| matches!(c, '{' | '['));
        let read = |(start, _)| {
            let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
            values.next()?.ok()
        };
        starts.take(MOST_STARTS).find_map(read)
    })
}

/// Whether a text is one Markdown fence.
pub(super) fn is_fenced(text: &str) -> bool {
    fenced(text.trim()).is_some()
}

fn fenced(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("```")?.strip_suffix("```")?;
    let (language, body) = inside.split_once('\n')?;
    language
        .trim()
        .chars()
        .all(|c| c.is_ascii_alphanumeric())
        .then_some(body)
}
