//! What kind of answer a response is, told without a model.

use understudy_call::call::Response;

/// What kind of answer this is: `tool:<name>`, `empty`, `json`, `label` or `prose`.
pub fn kind(response: &Response) -> String {
    if let Some(call) = response.tool_calls.first() {
        return format!("tool:{}", call.name);
    }
    let text = response.output_text.trim();
    let kind = match text.len() {
        0 => "empty",
        _ if is_mostly_json(text) => "json",
        1..=40 if !text.contains('\n') => "label",
        _ => "prose",
    };
    kind.to_owned()
}

/// Whether a JSON object or array is most of a text: bare, in a code fence, or between tags.
fn is_mostly_json(text: &str) -> bool {
    let json = text.find(['{', '[']).zip(text.rfind(['}', ']']));
    let json = json.and_then(|(first, last)| text.get(first..=last));
    json.is_some_and(|json| json.len() * 2 > text.len() && serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_what_comes_back() {
        let text = |text: &str| {
            kind(&Response {
                output_text: text.into(),
                ..Response::default()
            })
        };
        assert_eq!(text("{\"total\": 4}"), "json");
        assert_eq!(
            text("Here it is:\n```json\n{\"total\": 4, \"date\": \"2026-10-06\"}\n```"),
            "json"
        );
        assert_eq!(text("billing"), "label");
        assert_eq!(text(" "), "empty");
        assert_eq!(text("{not json at all}, said the fox, and this goes on"), "prose");
    }
}
