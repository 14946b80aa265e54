//! Answers that are none: empty, refused, cut short.

use understudy_call::call::Response;

/// Finish words, lower case, of answers cut at a length.
const TRUNCATED: [&str; 7] = [
    "length",
    "max_tokens",
    "max_output_tokens",
    "model_length",
    "model_context_window_exceeded",
    "context_length",
    "incomplete",
];
/// Finish words, lower case, of answers withheld by a filter.
const WITHHELD: [&str; 11] = [
    "content_filter",
    "content_filtered",
    "refusal",
    "safety",
    "recitation",
    "blocklist",
    "prohibited_content",
    "spii",
    "guardrail_intervened",
    "error_toxic",
    "image_safety",
];
/// How a refusal in plain text begins, lower case, with a straight apostrophe.
const REFUSING: [&str; 12] = [
    "i'm sorry, but i can",
    "i'm sorry, i can",
    "i am sorry, but i can",
    "i'm sorry, but i'm unable",
    "sorry, but i can",
    "sorry, i can",
    "i can't help with",
    "i can't assist",
    "i cannot help with",
    "i cannot assist",
    "i'm unable to help",
    "i'm unable to assist",
];

/// Why an answer can't be used whatever the request was, if so.
pub(super) fn unusable(recorded: &Response, answer: &Response) -> Option<String> {
    if answer.error.is_some() {
        return Some("the answer is an error".into());
    }
    if refused(recorded, answer) {
        return Some("the answer is a refusal".into());
    }
    if answer.partial || truncated(answer.finish_reason.as_deref()) {
        return Some("the answer is truncated".into());
    }
    let blank = answer.output_text.trim().is_empty() && answer.tool_calls.is_empty();
    blank.then(|| "the answer is empty".into())
}

/// Whether an answer refuses, by the API's own word; or by its first words, where the recorded answer does not.
pub(super) fn refused(recorded: &Response, answer: &Response) -> bool {
    let said_so = answer.refusal.is_some() || withheld(answer.finish_reason.as_deref());
    said_so || (answer.tool_calls.is_empty() && begins_refusing(answer) && !begins_refusing(recorded))
}

/// Whether a finish word says that the answer was cut at a length.
pub(crate) fn truncated(finish_reason: Option<&str>) -> bool {
    finish_reason.is_some_and(|word| TRUNCATED.contains(&word.to_ascii_lowercase().as_str()))
}

/// Whether a finish word says that the answer was withheld.
pub(crate) fn withheld(finish_reason: Option<&str>) -> bool {
    finish_reason.is_some_and(|word| WITHHELD.contains(&word.to_ascii_lowercase().as_str()))
}

fn begins_refusing(response: &Response) -> bool {
    let start: String = response.output_text.trim_start().chars().take(40).collect();
    let start = start.to_lowercase().replace('’', "'");
    REFUSING.iter().any(|words| start.starts_with(words))
}
