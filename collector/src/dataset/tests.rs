//! Examples from chat and Anthropic bodies, and what is left out.

use super::*;
use understudy_call::record::Attempt;

fn call(conversation: &str, body: &Value, answer: &str) -> CallRecord {
    CallRecord {
        call_id: format!("{conversation}-{answer}"),
        conversation_id: conversation.into(),
        api: "openai_chat".into(),
        request_body: Some(body.to_string()),
        output_text: Some(answer.into()),
        finish_reason: Some("stop".into()),
        ..CallRecord::default()
    }
}

fn question(text: &str) -> Value {
    json!({"model": "m", "temperature": 0, "messages": [{"role": "user", "content": text, "name": "kept as it is"}]})
}

fn example(call: &CallRecord) -> Result<Value, LeftOut> {
    let (_, line) = Exporter::new(ExportConfig::default()).example(call)?;
    Ok(serde_json::from_str(&line).unwrap())
}

#[test]
fn a_chat_body_is_taken_as_it_is() {
    let found = example(&call("c", &question("Grüße?"), "Hallo")).unwrap();
    let user = json!({"role": "user", "content": "Grüße?", "name": "kept as it is"});
    assert_eq!(
        found,
        json!({"messages": [user, {"role": "assistant", "content": "Hallo"}]})
    );
}

#[test]
fn tool_calls_are_the_answer_and_tools_are_kept() {
    let tool = json!({"type": "function", "function": {"name": "f", "strict": true, "parameters": {"type": "object"}}});
    let mut body = question("x");
    body["tools"] = json!([tool]);
    let mut row = call("c", &body, "");
    row.tool_calls = vec![ToolCall {
        id: None,
        name: "f".into(),
        arguments: r#"{"a":1}"#.into(),
    }];
    let found = example(&row).unwrap();
    assert_eq!(found["tools"], json!([tool]));
    let expected = json!({"role": "assistant", "content": null, "tool_calls":
        [{"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]});
    assert_eq!(found["messages"][1], expected);
}

#[test]
fn an_anthropic_body_becomes_chat() {
    let body = json!({
        "model": "claude", "max_tokens": 100, "system": "Be brief.",
        "tools": [{"name": "find", "description": "finds", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "find", "input": {"q": "x"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "here"}]},
        ],
    });
    let mut row = call("c", &body, "There.");
    row.api = "anthropic_messages".into();
    row.finish_reason = Some("end_turn".into());
    let found = example(&row).unwrap();
    let messages = found["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages
        .iter()
        .map(|message| message["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant"]);
    assert_eq!(messages[2]["tool_calls"][0]["function"]["name"], "find");
    assert_eq!(
        (&messages[3]["tool_call_id"], &messages[3]["content"]),
        (&json!("t1"), &json!("here"))
    );
    assert_eq!(
        found["tools"][0]["function"],
        json!({"name": "find", "description": "finds", "parameters": {"type": "object"}})
    );
    let image = json!({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "x"}}]}]});
    row.request_body = Some(image.to_string());
    assert_eq!(example(&row), Err(LeftOut::Media));
}

#[test]
fn what_is_no_example_is_counted_with_its_reason() {
    let good = call("c", &question("x"), "y");
    let with = |change: fn(&mut CallRecord)| {
        let mut row = good.clone();
        change(&mut row);
        row
    };
    let rows = [
        (with(|row| row.outcome = Outcome::Timeout), LeftOut::NotOk),
        (with(|row| row.partial = true), LeftOut::Truncated),
        (
            with(|row| row.finish_reason = Some("MAX_TOKENS".into())),
            LeftOut::Truncated,
        ),
        (
            with(|row| row.finish_reason = Some("content_filter".into())),
            LeftOut::Withheld,
        ),
        (with(|row| row.output_text = Some(" ".into())), LeftOut::Empty),
        (with(|row| row.request_body = None), LeftOut::NoBody),
        (with(|row| row.body_note = Some("cut".into())), LeftOut::NoBody),
        (with(|row| row.request_body = Some("{".into())), LeftOut::Unreadable),
        (
            with(|row| row.request_body = Some(r#"{"messages": []}"#.into())),
            LeftOut::Unreadable,
        ),
        (with(|row| row.api = "no such api".into()), LeftOut::Unreadable),
        (
            with(|row| {
                let served = Attempt {
                    served: true,
                    candidate_version: Some("v1".into()),
                    ..Attempt::default()
                };
                row.attempts.push(served);
            }),
            LeftOut::Candidate,
        ),
    ];
    let mut exporter = Exporter::new(ExportConfig::default());
    for (row, reason) in &rows {
        assert_eq!(exporter.example(row).unwrap_err(), *reason);
    }
    assert!(exporter.example(&good).is_ok());
    let counts = exporter.counts();
    assert_eq!((counts.calls, counts.train + counts.test), (12, 1));
    assert_eq!(counts.left_out.values().sum::<u64>(), 11);
    assert_eq!(serde_json::to_value(counts).unwrap()["left_out"]["truncated"], 2);
}

#[test]
fn only_the_same_messages_with_the_same_answer_are_duplicates() {
    let calls = [
        call("a", &question("x"), "yes"),
        call("b", &question("x"), "no"),
        call("c", &question("x"), "yes"),
        call(
            "d",
            &json!({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}]}),
            "yes",
        ),
    ];
    let (mut train, mut test) = (Vec::new(), Vec::new());
    let counts = export(calls, ExportConfig::default(), &mut train, &mut test).unwrap();
    assert_eq!(
        (counts.train + counts.test, counts.left_out[&LeftOut::Duplicate]),
        (3, 1)
    );
    let lines = String::from_utf8([train, test].concat()).unwrap();
    assert_eq!(
        lines
            .lines()
            .filter(|line| serde_json::from_str::<Value>(line).is_ok())
            .count(),
        3
    );
}

#[test]
fn conversations_stay_whole_and_on_their_side() {
    let config = ExportConfig {
        seed: 7,
        test_share: 0.2,
    };
    let side = |conversation: usize, config: &ExportConfig| {
        part_of(&call(&format!("c{conversation}"), &question("x"), "y"), config)
    };
    let tested = (0..2000).filter(|index| side(*index, &config) == Part::Test).count();
    assert!((340..460).contains(&tested), "{tested}");
    let moved = (0..2000)
        .filter(|index| side(*index, &config) != side(*index, &ExportConfig { seed: 8, ..config }))
        .count();
    assert!(moved > 400, "the seed decides");
    let larger = ExportConfig {
        test_share: 0.4,
        ..config
    };
    assert!((0..2000).all(|index| side(index, &config) == Part::Train || side(index, &larger) == Part::Test));
    for (share, expected) in [(0.0, Part::Train), (1.1, Part::Test)] {
        assert_eq!(
            side(
                1,
                &ExportConfig {
                    test_share: share,
                    ..config
                }
            ),
            expected
        );
    }
}

struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let error = export(
        [call("a", &question("x"), "y")],
        ExportConfig::default(),
        &mut Full,
        &mut Full,
    )
    .unwrap_err();
    assert!(error.to_string().contains("train") || error.to_string().contains("test"));
}

#[test]
fn what_feedback_knows_to_be_right_is_learnt_and_what_it_knows_to_be_wrong_is_not() {
    let known = |truth: Truth, row: &CallRecord| {
        let truths = HashMap::from([(row.call_id.clone(), truth)]);
        let mut exporter = Exporter::new(ExportConfig::default()).knowing(truths);
        let (_, line) = exporter.example(row)?;
        let example: Value = serde_json::from_str(&line).unwrap();
        Ok::<Value, LeftOut>(example["messages"][1].clone())
    };
    let mut row = call("c", &question("Which label?"), "shipping");
    let right = json!({"role": "assistant", "content": "billing"});
    assert_eq!(known(Truth::Label("billing".into()), &row), Ok(right.clone()));
    assert_eq!(known(Truth::Score(0.2), &row), Err(LeftOut::Wrong));
    assert_eq!(
        known(Truth::Score(1.0), &row),
        Ok(json!({"role": "assistant", "content": "shipping"}))
    );
    // A call that failed is an example all the same where the right answer is known.
    row.outcome = Outcome::Timeout;
    assert_eq!(known(Truth::Label("billing".into()), &row), Ok(right));
    assert_eq!(known(Truth::Score(1.0), &row), Err(LeftOut::NotOk));
    let label = json!({"name": "refund", "arguments": {"order": 7}}).to_string();
    let as_text = json!({"role": "assistant", "content": label});
    assert_eq!(known(Truth::Label(label.clone()), &row), Ok(as_text));
    row.tools_offered = vec!["refund".into()];
    let called = known(Truth::Label(label), &row).unwrap();
    assert_eq!(
        called["tool_calls"][0]["function"],
        json!({"name": "refund", "arguments": "{\"order\":7}"})
    );
}
