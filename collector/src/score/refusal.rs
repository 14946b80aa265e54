//! Answers that are none: empty, refused, cut short.

use understudy_call::call::Response;
use understudy_call::check::{begins_refusing, truncated, withheld};

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
    said_so
        || (answer.tool_calls.is_empty()
            && begins_refusing(&answer.output_text)
            && !begins_refusing(&recorded.output_text))
}
