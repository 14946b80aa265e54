//! What single servers do differently: an oddity a test.

use super::*;

/// A stream of these lines as they are, then the answer read from it.
fn answer_to(lines: &[&str]) -> Response {
    let body = lines.join("\n\n") + "\n\n";
    let assembled = assemble(API, Some("text/event-stream"), body.as_bytes()).unwrap();
    parse_response(API, 200, &assembled)
}

fn whole(message: Value) -> Response {
    response(&json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
}

#[test]
fn mistral_gives_tool_calls_without_an_index() {
    let calls = json!({"tool_calls": [
        {"id": "a", "function": {"name": "f", "arguments": "{\"x\": 1}"}},
        {"id": "b", "function": {"name": "f", "arguments": "{\"x\": 2}"}}]});
    let response = answer(&[delta(calls), finish("tool_calls")]);
    assert_eq!(
        response.tool_calls,
        [call(Some("a"), "f", "{\"x\": 1}"), call(Some("b"), "f", "{\"x\": 2}")]
    );
}

#[test]
fn mistral_gives_content_as_a_list_of_thinking_and_text() {
    let response = whole(json!({"content": [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": true},
        {"type": "text", "text": "4"}, {"type": "reference", "reference_ids": [1]}, {"type": "text", "text": "2"}]}));
    assert_eq!(
        (response.output_text.as_str(), response.reasoning_text.as_str()),
        ("42", "hm")
    );
}

#[test]
fn openrouter_repeats_the_function_name_in_later_deltas() {
    let piece = |arguments: &str| {
        delta(json!({"tool_calls": [{"index": 0, "id": "a", "type": "function",
            "function": {"name": "llm_version", "arguments": arguments}}]}))
    };
    let response = answer(&[piece("{\"a\""), piece(":1"), piece("}")]);
    assert_eq!(response.tool_calls, [call(Some("a"), "llm_version", "{\"a\":1}")]);
}

#[test]
fn openrouter_sends_comments_between_events() {
    let text = delta(json!({"content": "hi"}));
    let response = answer_to(&[
        ": OPENROUTER PROCESSING",
        ": OPENROUTER PROCESSING",
        &format!("data: {text}"),
        ": OPENROUTER PROCESSING",
        &format!("data: {}", finish("stop")),
        "data: [DONE]",
    ]);
    assert_eq!(
        (response.output_text.as_str(), response.partial, response.error),
        ("hi", false, None)
    );
}

#[test]
fn openrouter_gives_reasoning_twice_and_lists_without_an_index() {
    let piece = |text: &str| {
        delta(json!({"content": "", "reasoning": text,
            "reasoning_details": [{"type": "reasoning.text", "text": text, "index": 0, "format": null}]}))
    };
    let annotation =
        |url: &str| delta(json!({"annotations": [{"type": "url_citation", "url_citation": {"url": url}}]}));
    let encrypted =
        |data: &str| delta(json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": data, "index": 0}]}));
    let assembled = folded(&[
        piece("Let me"),
        piece(" see"),
        encrypted("AA"),
        encrypted("BB"),
        annotation("a"),
        annotation("b"),
        finish("stop"),
    ]);
    let message = &assembled.body["choices"][0]["message"];
    assert_eq!(message["annotations"].as_array().unwrap().len(), 2);
    let details = json!([
        {"type": "reasoning.text", "text": "Let me see", "index": 0, "format": null},
        {"type": "reasoning.encrypted", "data": "AA", "index": 0},
        {"type": "reasoning.encrypted", "data": "BB", "index": 0}]);
    assert_eq!(message["reasoning_details"], details);
    assert_eq!(response(&assembled.body).reasoning_text, "Let me see");
    // Where there are details alone.
    assert_eq!(
        whole(json!({"reasoning_details": details})).reasoning_text,
        "Let me see"
    );
}

#[test]
fn openrouter_puts_an_error_beside_the_last_choice() {
    let last = json!({"error": {"code": 502, "message": "overloaded"},
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]});
    let response = answer(&[delta(json!({"content": "so far"})), last]);
    assert_eq!(
        (response.output_text.as_str(), response.finish_reason.as_deref()),
        ("so far", Some("error"))
    );
    assert_eq!(response.error, Some(json!({"code": 502, "message": "overloaded"})));
    assert!(!response.partial);
}

#[test]
fn azures_first_chunk_has_no_choice_no_id_and_no_model() {
    let first = json!({"id": "", "model": "", "object": "", "created": 0, "choices": [],
        "prompt_filter_results": [{"prompt_index": 0}]});
    let assembled = folded(&[first, delta(json!({"content": "hi"})), finish("stop")]);
    assert_eq!(assembled.body["prompt_filter_results"][0]["prompt_index"], 0);
    let response = parse_response(API, 200, &assembled);
    assert_eq!(
        (response.id.as_deref(), response.model.as_deref()),
        (Some("c"), Some("m"))
    );
    assert_eq!((response.choices, response.partial), (1, false));
}

#[test]
fn azure_has_choices_without_a_delta() {
    let filter = json!({"id": "", "choices": [{"index": 0, "finish_reason": null,
        "content_filter_results": {"hate": {"filtered": false}}, "content_filter_offsets": {"end_offset": 9}}]});
    let response = answer(&[delta(json!({"content": "hi"})), filter.clone(), finish("stop"), filter]);
    assert_eq!(
        (response.output_text.as_str(), response.finish_reason.as_deref()),
        ("hi", Some("stop"))
    );
}

#[test]
fn azures_filtered_choice_has_no_message() {
    let body = json!({"choices": [{"index": 0, "finish_reason": "content_filter", "content_filter_results": {}}]});
    let response = response(&body);
    assert_eq!(
        (
            response.choices,
            response.finish_reason.as_deref(),
            response.output_text.as_str()
        ),
        (1, Some("content_filter"), "")
    );
}

#[test]
fn groq_sends_an_error_event_inside_a_200_stream() {
    let start = format!("data: {}", delta(json!({"content": "so far"})));
    let error = "event: error\ndata: {\"error\":{\"message\":\"bad call\",\"failed_generation\":\"<f>\"}}";
    let response = answer_to(&[&start, error]);
    assert_eq!((response.output_text.as_str(), response.partial), ("so far", true));
    assert_eq!(response.error.unwrap()["failed_generation"], "<f>");
}

#[test]
fn groq_has_usage_under_its_own_key_without_being_asked() {
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "x_groq": {"id": "r", "usage": {"prompt_tokens": 3, "completion_tokens": 2, "queue_time": 0.1}}});
    let usage = answer(&[delta(json!({"content": "x"})), last]).usage;
    assert_eq!((usage.input, usage.output), (Some(3), Some(2)));
}

#[test]
fn groqs_channel_is_kept_and_is_no_text() {
    let assembled = folded(&[
        delta(json!({"channel": "analysis", "reasoning": "hm"})),
        delta(json!({"channel": "final", "content": "4"})),
        finish("stop"),
    ]);
    assert_eq!(assembled.body["choices"][0]["message"]["channel"], "final");
    assert_eq!(response(&assembled.body).output_text, "4");
}

#[test]
fn a_finish_word_of_stop_may_come_with_tool_calls() {
    let calls = json!([{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let response = whole(json!({"content": null, "tool_calls": calls}));
    assert_eq!(
        (response.finish_reason.as_deref(), response.tool_calls),
        (Some("stop"), vec![call(Some("a"), "f", "{}")])
    );
}

#[test]
fn reasoning_has_another_key_with_every_server() {
    for key in ["reasoning_content", "reasoning", "thinking"] {
        let pieces = answer(&[
            delta(json!({key: "h"})),
            delta(json!({key: "m", "content": "4"})),
            finish("stop"),
        ]);
        for response in [whole(json!({key: "hm", "content": "4"})), pieces] {
            assert_eq!(
                (response.reasoning_text.as_str(), response.output_text.as_str()),
                ("hm", "4"),
                "{key}"
            );
        }
    }
    // Databricks shows a summary as a part.
    let part = json!([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}, {"type": "text", "text": "4"}]);
    let response = whole(json!({"content": part}));
    assert_eq!(
        (response.reasoning_text.as_str(), response.output_text.as_str()),
        ("hm", "4")
    );
}

#[test]
fn gpustack_ends_without_done() {
    let start = format!("data: {}", delta(json!({"content": "hi"})));
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "tokens_per_second": 9.5, "time_to_first_token_ms": 7}});
    let response = answer_to(&[&start, &format!("data: {last}")]);
    assert!(!response.partial);
    assert_eq!((response.usage.input, response.usage.output), (Some(3), Some(2)));
}

#[test]
fn gpustack_ends_a_broken_stream_with_a_field_called_error() {
    let start = format!("data: {}", delta(json!({"content": "so far"})));
    let response = answer_to(&[&start, "error: {\"detail\": \"failed to decode\"}"]);
    assert_eq!((response.output_text.as_str(), response.partial), ("so far", true));
    assert_eq!(response.error, Some(json!({"detail": "failed to decode"})));
}

#[test]
fn padding_is_left_out_of_the_answer() {
    let padded = |key: &str| json!({key: "xyz", "choices": [{"index": 0, "delta": {"content": "a"}}]});
    let assembled = folded(&[padded("p"), padded("obfuscation"), finish("stop")]);
    assert!(assembled.body.get("p").is_none() && assembled.body.get("obfuscation").is_none());
    assert_eq!(response(&assembled.body).output_text, "aa");
}

#[test]
fn the_model_asked_for_and_the_one_that_served_are_both_kept() {
    let request = parse_request(API, b"{\"model\":\"gpt-4o\",\"messages\":[]}").unwrap();
    let response = response(&json!({"model": "gpt-4o-2024-08-06", "choices": []}));
    assert_eq!(
        (request.model.as_deref(), response.model.as_deref()),
        (Some("gpt-4o"), Some("gpt-4o-2024-08-06"))
    );
}

#[test]
fn perplexity_repeats_the_whole_message_beside_each_delta() {
    let chunk = |piece: &str, so_far: &str| {
        json!({"citations": ["https://a"], "search_results": [{"url": "https://a"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": so_far.len(), "total_tokens": 3 + so_far.len()},
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": piece},
                "message": {"role": "assistant", "content": so_far}, "finish_reason": null}]})
    };
    let assembled = folded(&[chunk("ab", "ab"), chunk("c", "abc"), finish("stop")]);
    assert_eq!(assembled.body["citations"], json!(["https://a"]));
    let response = response(&assembled.body);
    assert_eq!((response.output_text.as_str(), response.usage.output), ("abc", Some(3)));
}

#[test]
fn minimax_ends_with_the_whole_message_in_place_of_a_delta() {
    let call_of = |arguments: &str| json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}}]);
    let last = json!({"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", "message": {
        "role": "assistant", "content": "abc", "reasoning_content": "hm", "tool_calls": call_of("{\"x\":1}")}}]});
    let response = answer(&[
        delta(json!({"reasoning_content": "hm"})),
        delta(json!({"content": "ab"})),
        delta(json!({"content": "c", "tool_calls": call_of("{\"x\"")})),
        delta(json!({"tool_calls": call_of(":1}")})),
        last,
    ]);
    assert_eq!(
        (response.output_text.as_str(), response.reasoning_text.as_str()),
        ("abc", "hm")
    );
    assert_eq!(response.tool_calls, [call(Some("a"), "f", "{\"x\":1}")]);
    // Messages that do not repeat what came before them are pieces.
    let piece = |text: &str| json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]});
    assert_eq!(answer(&[piece("ab"), piece("c")]).output_text, "abc");
}

#[test]
fn together_repeats_the_delta_as_text() {
    let chunk = |text: &str| json!({"choices": [{"index": 0, "text": text, "delta": {"content": text}}]});
    let assembled = folded(&[chunk("a"), chunk("b"), finish("stop")]);
    assert_eq!(assembled.body["choices"][0]["text"], "ab");
    assert_eq!(response(&assembled.body).output_text, "ab");
}

#[test]
fn together_and_mistral_count_cached_tokens_outside_the_details() {
    let usage = |key: &str, number: i64| {
        let body = json!({"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 2, key: number}});
        response(&body).usage
    };
    assert_eq!(usage("cached_tokens", 32).cached, Some(32));
    assert_eq!(usage("num_cached_tokens", 32).cached, Some(32));
    assert_eq!(usage("cached_tokens", 0).cached, None, "also of models without a cache");
    assert_eq!(usage("prompt_cache_hit_tokens", 0).cached, Some(0), "DeepSeek says so");
}

#[test]
fn xai_leaves_reasoning_out_of_the_output() {
    let usage = |total: i64| {
        let usage = json!({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": total,
            "completion_tokens_details": {"reasoning_tokens": 94}});
        response(&json!({"choices": [], "usage": usage})).usage
    };
    assert_eq!((usage(135).output, usage(135).reasoning), (Some(103), Some(94)));
    assert_eq!(usage(41).output, Some(9));
}

#[test]
fn llama_cpp_tells_its_timings_where_usage_was_not_asked_for() {
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "timings": {"cache_n": 30, "prompt_n": 2, "predicted_n": 5, "predicted_per_second": 60.1}});
    let usage = answer(&[delta(json!({"content": "x"})), last]).usage;
    assert_eq!((usage.input, usage.cached, usage.output), (Some(32), Some(30), Some(5)));
    let old = json!({"choices": [], "timings": {"prompt_n": 2, "predicted_n": 5}});
    let usage = response(&old).usage;
    assert_eq!(
        (usage.input, usage.output),
        (None, Some(5)),
        "what the cache held is not said"
    );
}

#[test]
fn old_vllm_sends_the_error_as_a_chunk() {
    let error = json!({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400});
    let response = answer(&[delta(json!({"content": "so far"})), error.clone()]);
    assert_eq!((response.error, response.partial), (Some(error), true));
}

#[test]
fn snowflake_pads_every_message_with_an_empty_function_call() {
    let response = whole(
        json!({"content": "4", "function_call": {"name": "", "arguments": ""}, "tool_calls": null,
        "refusal": "", "audio": {"data": "", "id": "", "transcript": "", "expires_at": 0}}),
    );
    assert_eq!(
        (response.output_text.as_str(), response.refusal.as_deref()),
        ("4", None)
    );
    // Kept as it was said, counted nowhere.
    assert_eq!(response.tool_calls, [call(None, "", "{}")]);
    assert!(response.without_padding().tool_calls.is_empty());
}

#[test]
fn geminis_dialect_numbers_all_parallel_calls_0_and_may_leave_ids_empty() {
    let of = |id: &str, name: &str| {
        delta(json!({"tool_calls": [{"index": 0, "id": id, "type": "function",
            "function": {"name": name, "arguments": "{}"}, "extra_content": {"google": {"thought_signature": "s"}}}]}))
    };
    let response = answer(&[of("a", "f"), of("b", "g"), finish("stop")]);
    assert_eq!(
        response.tool_calls,
        [call(Some("a"), "f", "{}"), call(Some("b"), "g", "{}")]
    );
    assert_eq!(
        answer(&[of("", "f"), finish("stop")]).tool_calls,
        [call(None, "f", "{}")]
    );
}

#[test]
fn ollama_gives_a_call_whole_and_reasoning_beside_empty_content() {
    let response = answer(&[
        delta(json!({"role": "assistant", "content": "", "reasoning": "hm"})),
        delta(json!({"role": "assistant", "content": "", "tool_calls": [
            {"id": "call_1", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]})),
        finish("tool_calls"),
    ]);
    assert_eq!(response.reasoning_text, "hm");
    assert_eq!(response.tool_calls, [call(Some("call_1"), "f", "{\"x\":1}")]);
}

#[test]
fn what_one_server_adds_is_kept() {
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": 128_009,
            "matched_stop": 2, "native_finish_reason": "STOP"}],
        "time_info": {"total_time": 0.1}, "provider": "x", "request_id": "r", "kv_transfer_params": null});
    let body = folded(&[delta(json!({"content": "x"})), last]).body;
    assert_eq!(
        (&body["time_info"]["total_time"], &body["provider"]),
        (&json!(0.1), &json!("x"))
    );
    assert_eq!(body["choices"][0]["stop_reason"], 128_009);
    assert_eq!(body["choices"][0]["native_finish_reason"], "STOP");
}

#[test]
fn a_long_stream_of_tiny_pieces_folds_in_time_linear_in_its_length() {
    let pieces = 100_000;
    let mut body = String::new();
    for number in 0..pieces {
        let chunk = json!({"choices": [{"index": 0, "delta": {"content": "x", "reasoning": "y",
            "reasoning_details": [{"type": "reasoning.text", "text": "y", "index": 0}],
            "tool_calls": [{"index": number % 9, "function": {"arguments": "z"}}]}}]});
        body.push_str(&format!("data: {chunk}\n\n"));
    }
    let started = std::time::Instant::now();
    let assembled = assemble(API, None, body.as_bytes()).unwrap();
    // Some seconds without optimisation; a quadratic fold takes minutes.
    assert!(started.elapsed().as_secs() < 60);
    assert_eq!(response(&assembled.body).output_text.len(), pieces);
}
