//! The words by which answers say that they are none: cut, withheld, given up, refused.

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
/// Finish words, lower case, of servers that gave up.
const GAVE_UP: [&str; 4] = ["error", "abort", "aborted", "insufficient_system_resource"];
/// How a refusal in plain text begins, lower case, with a straight apostrophe.
const REFUSING: [&str; 36] = [
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
    "i'm unable to comply",
    "i'm unable to fulfill",
    "i am unable to help",
    "i am unable to assist",
    "i am unable to comply",
    "i'm not able to help",
    "i'm not able to assist",
    "i am not able to help",
    "i am not able to assist",
    "i can't comply",
    "i cannot comply",
    "i can't fulfill",
    "i cannot fulfill",
    "i won't help with",
    "i won't assist",
    "i will not assist",
    "i must decline",
    "i have to decline",
    "i apologize, but i can",
    "i apologize, but i'm unable",
    "i apologize, but i am unable",
    "i'm sorry, but i am unable",
    "i am sorry, but i am unable",
    "sorry, but i'm unable",
];

/// Whether a finish word says that the answer was cut at a length.
pub fn truncated(finish_reason: Option<&str>) -> bool {
    finish_reason.is_some_and(|word| is_one_of(word, &TRUNCATED))
}

/// Whether a finish word says that the answer was withheld.
pub fn withheld(finish_reason: Option<&str>) -> bool {
    finish_reason.is_some_and(|word| is_one_of(word, &WITHHELD))
}

/// Whether a finish word says that the server gave up.
pub(crate) fn is_failure(finish_reason: &str) -> bool {
    is_one_of(finish_reason, &GAVE_UP)
}

/// Whether a text begins as refusals do.
pub fn begins_refusing(text: &str) -> bool {
    let start: String = text.trim_start().chars().take(40).collect();
    let start = start.to_lowercase().replace('’', "'");
    REFUSING.iter().any(|words| start.starts_with(words))
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.contains(&word.to_ascii_lowercase().as_str())
}
