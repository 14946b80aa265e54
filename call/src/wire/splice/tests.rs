use proptest::prelude::*;
use serde_json::json;

use super::*;

fn asked(body: &str) -> Option<String> {
    ask_usage(body.as_bytes()).map(|edited| String::from_utf8(edited).unwrap())
}

#[test]
fn usage_is_asked_for_and_every_other_byte_stays() {
    for (body, want) in [
        (
            "\u{feff} {\"stream\" : true, \"n\":1e2}\n",
            "\u{feff} {\"stream_options\":{\"include_usage\":true},\"stream\" : true, \"n\":1e2}\n",
        ),
        (
            r#"{"stream":true,"stream_options":{ "x":[1,{}] }}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true, "x":[1,{}] }}"#,
        ),
        (
            r#"{"stream_options":{},"stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true}"#,
        ),
        (
            r#"{"stream_options":null,"stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage": false},"stre\u0061m":true}"#,
            r#"{"stream_options":{"include_usage": true},"stre\u0061m":true}"#,
        ),
    ] {
        assert_eq!(asked(body).as_deref(), Some(want), "{body}");
    }
}

#[test]
fn a_request_that_asks_already_or_does_not_stream_or_is_unclear_is_left_alone() {
    for body in [
        "",
        "[]",
        "{}",
        r#"{"stream":false}"#,
        r#"{"stream":true"#,
        r#"{"stream":true} {}"#,
        r#"{"a":{"stream":true}}"#,
        r#"{"stream":true,"stream":false}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        r#"{"stream":true,"stream_options":7}"#,
        r#"{"stream":true,"stream_options":{},"stream_options":null}"#,
    ] {
        assert_eq!(asked(body), None, "{body}");
    }
}

#[test]
fn the_usage_event_is_told_from_all_others() {
    assert!(is_usage_event(
        br#"{"id":"c","choices": [ ],"usage":{"prompt_tokens":1}}"#
    ));
    for other in [
        r#"{"choices":[],"usage":null}"#,
        r#"{"choices":[],"prompt_filter_results":[]}"#,
        r#"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}"#,
        r#"{"usage":{"prompt_tokens":1}}"#,
        r#"{"x":{"choices":[],"usage":{}}}"#,
        "[DONE]",
        "",
    ] {
        assert!(!is_usage_event(other.as_bytes()), "{other}");
    }
}

#[test]
fn the_model_is_read_from_a_body_that_is_cut_after_it() {
    assert_eq!(
        model_named(br#"{"input":"a \"model\": \"no\"","model":"tts-1","voi"#).as_deref(),
        Some("tts-1")
    );
    assert_eq!(model_named(br#"{"x":{"model":"no"},"mod"#), None);
    assert_eq!(model_named(br#"{"model":"cut"#), None);
    assert_eq!(model_named(br#"{"model":7}"#), None);
}

fn renamed(api: Api, body: &str) -> Option<String> {
    let mut id = |candidates: &str, place: usize| match candidates.len() {
        1..=8 => candidates.to_owned(),
        _ => format!("new{place}"),
    };
    let mut renames = Renames {
        model: Some("big \"1\""),
        tool_call_id: &mut id,
    };
    renames
        .apply(api, body.as_bytes())
        .map(|edited| String::from_utf8(edited).unwrap())
}

#[test]
fn model_and_long_ids_are_renamed_in_chat_answers_and_nothing_else() {
    let event = r#"{"model": "small","choices":[ {"index":0,"delta":{"content":"\"id\":\"longer-than-8\"","tool_calls":[{"id": "longer-than-8","index":3,"function":{"name":"f","arguments":"{\"id\":\"longer-than-8\"}"}},{"index":4,"id":"short"},{"index":5,"id":""}]}}],"id":"longer-than-8"}"#;
    let want = event
        .replacen(r#""model": "small""#, r#""model": "big \"1\"""#, 1)
        .replacen(r#""id": "longer-than-8""#, r#""id": "new3""#, 1);
    assert_eq!(renamed(Api::OpenaiChat, event).unwrap(), want);
    let whole = r#"{"choices":[{"message":{"tool_calls":[{"id":"short"},{"id":"longer-than-8"}]}},{"message":{"tool_calls":[{"id":"longer-than-8"}]}}]}"#;
    let want = whole
        .replacen(r#"{"id":"longer-than-8"}]}},"#, r#"{"id":"new1"}]}},"#, 1)
        .replacen("longer-than-8", "new0", 1);
    assert_eq!(renamed(Api::OpenaiChat, whole).unwrap(), want);
    assert_eq!(
        renamed(Api::OpenaiChat, r#"{"choices":[{"delta":{"content":"x"}}]}"#),
        None
    );
}

#[test]
fn a_call_without_an_id_gets_one_in_the_piece_that_names_its_tool() {
    let calls = |first: &str| {
        format!(
            r#"{{"choices":[{{"delta":{{"tool_calls":[{{{first}"index":2,"function":{{"name":"f"}}}},{{"index":3,"id":"","function":{{"arguments":"{{"}}}}]}}}}]}}"#
        )
    };
    for (given, want) in [
        ("", r#""id":"new2","#),
        (r#""id":"","#, r#""id":"new2","#),
        (r#""id":null,"#, r#""id":"new2","#),
    ] {
        assert_eq!(renamed(Api::OpenaiChat, &calls(given)).unwrap(), calls(want), "{given}");
    }
}

#[test]
fn reasoning_is_left_out_of_a_chat_wherever_it_stands() {
    let answer = |members: &str| format!(r#"{{"choices":[{{"message":{{{members}}},"x":{{"reasoning":1}}}}]}}"#);
    for (given, want) in [
        (r#""reasoning":"r""#, ""),
        (r#""reasoning":"r", "content":"c""#, r#""content":"c""#),
        (r#""content":"c" , "reasoning_content":"r" "#, r#""content":"c" "#),
        (r#""a":1,"reasoning":{"b":[1]},"b":2"#, r#""a":1,"b":2"#),
        (r#""a":1,"reasoning":"","reasoning_details":[{}]"#, r#""a":1"#),
        (r#""reasoning":1,"reasoning_details":2"#, ""),
        (
            r#""reasoning":1,"reasoning_content":2,"c":3,"thinking_blocks":4"#,
            r#""c":3"#,
        ),
    ] {
        let edited = renamed(Api::OpenaiChat, &answer(given)).unwrap();
        assert_eq!(edited, answer(want), "{given}");
        assert!(serde_json::from_str::<Value>(&edited).is_ok());
    }
}

#[test]
fn model_and_long_ids_are_renamed_in_messages_answers() {
    let start = r#"{"type":"message_start","message":{"model":"small","id":"longer-than-8","content":[]}}"#;
    assert_eq!(
        renamed(Api::AnthropicMessages, start).unwrap(),
        start.replace(r#""small""#, r#""big \"1\"""#)
    );
    let block = r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"longer-than-8"}}"#;
    assert_eq!(
        renamed(Api::AnthropicMessages, block).unwrap(),
        block.replace("longer-than-8", "new2")
    );
    let whole = r#"{"id":"longer-than-8","content":[{"type":"text","id":"longer-than-8"},{"id":"longer-than-8","type":"tool_use"}]}"#;
    let edited: Value = serde_json::from_str(&renamed(Api::AnthropicMessages, whole).unwrap()).unwrap();
    assert_eq!(
        edited["content"],
        json!([{"type": "text", "id": "longer-than-8"}, {"id": "new1", "type": "tool_use"}])
    );
}

#[test]
fn depth_costs_no_stack() {
    let deep = format!("{{\"stream\":true,\"a\":{}", "[".repeat(200_000));
    assert_eq!(ask_usage(deep.as_bytes()), None);
    let closed = format!("{deep}{}}}", "]".repeat(200_000));
    assert!(ask_usage(closed.as_bytes()).is_some());
}

proptest! {
    #[test]
    fn what_is_asked_for_is_what_changes(value in "[ -~é]{0,12}", extra in any::<i32>(), spaced in any::<bool>()) {
        let body = json!({"model": value, "stream": true, "x": {"stream": [extra, {"stream_options": {}}]}});
        let text = if spaced { serde_json::to_vec_pretty(&body).unwrap() } else { body.to_string().into_bytes() };
        let mut edited: Value = serde_json::from_slice(&ask_usage(&text).unwrap()).unwrap();
        prop_assert_eq!(edited.as_object_mut().unwrap().shift_remove("stream_options").unwrap(), json!({"include_usage": true}));
        prop_assert_eq!(edited, body);
    }

    #[test]
    fn no_bytes_make_it_panic(body in "[{}\\[\\],:\"a\\\\ 1]{0,60}", raw in prop::collection::vec(any::<u8>(), 0..80)) {
        for body in [body.as_bytes(), &raw] {
            let _ = ask_usage(body);
            let _ = is_usage_event(body);
            let _ = model_named(body);
            for api in [Api::OpenaiChat, Api::AnthropicMessages] {
                let _ = renamed(api, &String::from_utf8_lossy(body));
            }
        }
    }
}

#[test]
fn values_at_places_are_replaced_and_every_other_byte_stays() {
    let places: [&[&str]; 2] = [&["user"], &["metadata", "user_id"]];
    let replaced = |body: &str| {
        let edited = replace_at(body.as_bytes(), &places, |place, said| format!("{place}:{said}"));
        edited.map(|edited| String::from_utf8(edited).unwrap())
    };
    for (body, want) in [
        (r#"{"user" : "a\u0062", "n":1}"#, Some(r#"{"user" : "0:ab", "n":1}"#)),
        (
            r#"{"us\u0065r":7,"user":"x"}"#,
            Some(r#"{"us\u0065r":"0:7","user":"0:x"}"#),
        ),
        (
            r#"{"metadata":{"user_id":"u","k":{"user":"stays"}}}"#,
            Some(r#"{"metadata":{"user_id":"1:u","k":{"user":"stays"}}}"#),
        ),
        (
            r#"{"user":null,"metadata":"user_id","messages":[{"user":"stays"}]}"#,
            None,
        ),
        (r#"{"user":{"name":"an object stays"}}"#, None),
        ("[1]", None),
        ("", None),
    ] {
        assert_eq!(replaced(body).as_deref(), want, "{body}");
    }
}
