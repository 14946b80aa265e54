//! An error that a candidate sent inside its stream.

use serde_json::Value;

/// Its status and its message. The status is 500 where the candidate names none: the answer broke off at its side.
pub(super) fn in_stream(error: &Value) -> (u16, String) {
    let inner = error.get("error").filter(|inner| !inner.is_null()).unwrap_or(error);
    let named = ["code", "status"].into_iter().find_map(|key| inner.get(key)?.as_u64());
    let status = named.and_then(|status| u16::try_from(status).ok());
    let message = ["message", "detail"]
        .into_iter()
        .find_map(|key| inner.get(key)?.as_str());
    let message = match message.or(inner.as_str()) {
        Some(text) => text.to_owned(),
        None => inner.to_string(),
    };
    (
        status.filter(|status| (400..600).contains(status)).unwrap_or(500),
        message,
    )
}

/// The answer can't be given, since these arguments of a tool call are no JSON object.
pub(super) fn malformed_call(name: &str) -> String {
    format!("the arguments of the tool call `{name}` are no JSON object")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn status_and_message_are_found_in_any_shape() {
        for (error, status, message) in [
            (
                json!({"message": "too long", "type": "x", "code": 400}),
                400,
                "too long",
            ),
            (json!({"error": {"message": "busy", "code": "overloaded"}}), 500, "busy"),
            (json!("broken"), 500, "broken"),
            (json!({"code": 7}), 500, "{\"code\":7}"),
        ] {
            assert_eq!(in_stream(&error), (status, message.to_owned()));
        }
    }
}
