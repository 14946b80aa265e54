//! Where the dialects of chat say how many tokens a call took.

use serde_json::Value;

use super::super::json::integer;
use crate::call::Usage;

/// Usage lies at the top; Groq's streams have it under `x_groq`, Moonshot's in the choice; llama.cpp, where it was not
/// asked for, has `timings` alone.
pub(crate) fn usage(body: &Value, choice: &Value) -> Usage {
    let places = [body.get("usage"), body.pointer("/x_groq/usage"), choice.get("usage")];
    match places.into_iter().flatten().find(|usage| usage.is_object()) {
        Some(usage) => usage_of(usage),
        None => body.get("timings").map(of_timings).unwrap_or_default(),
    }
}

fn usage_of(usage: &Value) -> Usage {
    let prompt = usage.get("prompt_tokens_details").unwrap_or(&Value::Null);
    let completion = usage.get("completion_tokens_details").unwrap_or(&Value::Null);
    let input = integer(usage, "prompt_tokens");
    let reasoning = integer(completion, "reasoning_tokens").or_else(|| integer(usage, "reasoning_tokens"));
    Usage {
        input,
        cached: integer(prompt, "cached_tokens")
            .or_else(|| integer(usage, "prompt_cache_hit_tokens"))
            .or_else(|| cached_beside(usage)),
        cache_write: integer(prompt, "cache_write_tokens"),
        output: integer(usage, "completion_tokens").map(|output| with_reasoning(usage, input, output, reasoning)),
        reasoning,
    }
}

/// Together, Moonshot (`cached_tokens`) and Mistral (`num_cached_tokens`) have the number at the top. They write 0 for
/// models that have no cache too, so that a 0 says nothing.
fn cached_beside(usage: &Value) -> Option<i64> {
    let numbers = ["cached_tokens", "num_cached_tokens"].map(|key| integer(usage, key));
    numbers.into_iter().flatten().find(|number| *number > 0)
}

/// xAI leaves reasoning out of `completion_tokens`; its total tells.
fn with_reasoning(usage: &Value, input: Option<i64>, output: i64, reasoning: Option<i64>) -> i64 {
    let all = reasoning.map_or(output, |reasoning| output.saturating_add(reasoning));
    let total = integer(usage, "total_tokens");
    let is_left_out = all > output && total.is_some() && total == input.map(|input| input.saturating_add(all));
    if is_left_out { all } else { output }
}

/// `prompt_n` leaves out what came from the cache, which only newer servers tell.
fn of_timings(timings: &Value) -> Usage {
    let cached = integer(timings, "cache_n");
    let fresh = integer(timings, "prompt_n");
    Usage {
        input: fresh.zip(cached).map(|(fresh, cached)| fresh.saturating_add(cached)),
        cached,
        output: integer(timings, "predicted_n"),
        ..Usage::default()
    }
}
