//! Examples from chat and Anthropic bodies, and what is left out.

use super::*;
use serde_json::{Value, json};
use understudy_call::call::ToolCall;
use understudy_call::record::{Attempt, MaskedIn, Outcome};

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

/// Plans over all calls, and gives their lines with their sides, by call.
fn planned(calls: &[CallRecord], config: ExportConfig) -> (Counts, Vec<(String, Part, Value)>) {
    let mut planner = Planner::new(config);
    calls.iter().for_each(|call| planner.see(call));
    let mut plan = planner.plan();
    let lines = calls.iter().filter_map(|call| {
        let line = plan.line(call)?;
        Some((
            call.call_id.clone(),
            line.part,
            serde_json::from_str(&line.text).unwrap(),
        ))
    });
    let lines = lines.collect();
    (plan.counts().clone(), lines)
}

fn example(call: &CallRecord) -> Result<Value, LeftOut> {
    known(HashMap::new(), call)
}

fn known(truths: HashMap<String, Truth>, call: &CallRecord) -> Result<Value, LeftOut> {
    let mut planner = Planner::new(ExportConfig::default()).knowing(truths);
    planner.see(call);
    let mut plan = planner.plan();
    match plan.line(call) {
        Some(line) => Ok(serde_json::from_str(&line.text).unwrap()),
        None => Err(*plan.counts().left_out.keys().next().unwrap()),
    }
}

#[test]
fn prompts_are_equal_in_whatever_order_their_fields_stand() {
    let one = call(
        "a",
        &json!({"messages": [{"role": "user", "content": "Up or down?"}]}),
        "up",
    );
    let other = call(
        "b",
        &json!({"messages": [{"content": "Up or down?", "role": "user"}]}),
        "up",
    );
    let (counts, lines) = planned(&[one, other], ExportConfig::default());
    assert_eq!((lines.len(), counts.left_out.get(&LeftOut::Duplicate)), (1, Some(&1)));
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
        (
            // As the proxy tells of a canaried call.
            with(|row| (row.upstream, row.arm) = (Some("llm".into()), Some("small".into()))),
            LeftOut::Candidate,
        ),
    ];
    for (row, reason) in &rows {
        assert_eq!(example(row).unwrap_err(), *reason);
    }
    let numbered = rows.iter().map(|(row, _)| row).chain([&good]).enumerate();
    let calls: Vec<CallRecord> = numbered
        .map(|(number, row)| CallRecord {
            call_id: number.to_string(),
            ..row.clone()
        })
        .collect();
    let (counts, _) = planned(&calls, ExportConfig::default());
    assert_eq!((counts.calls, counts.train + counts.test), (13, 1));
    assert_eq!(counts.left_out.values().sum::<u64>(), 12);
    let json = serde_json::to_value(&counts).unwrap();
    assert_eq!(json["left_out"]["truncated"], 2);
    for reason in counts.left_out.keys() {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
    let (again, _) = planned(&[calls.clone(), calls].concat(), ExportConfig::default());
    assert_eq!(again, counts, "a call that is read twice is one call");
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
    let (counts, lines) = planned(&calls, ExportConfig::default());
    assert_eq!(
        (counts.train + counts.test, counts.left_out[&LeftOut::Duplicate]),
        (3, 1)
    );
    assert_eq!(lines.len(), 3);
    let mut others = calls.to_vec();
    others.reverse();
    let (_, mut reversed) = planned(&others, ExportConfig::default());
    reversed.reverse();
    assert_eq!(
        lines, reversed,
        "which of them stays does not depend on where they are stored"
    );
}

/// Conversations of two steps, with all of the history in the second.
fn conversations(count: usize) -> Vec<CallRecord> {
    let steps = |number: usize| {
        let first = question(&format!("question {number}"));
        let mut second = first.clone();
        second["messages"].as_array_mut().unwrap().extend([
            json!({"role": "assistant", "content": "yes"}),
            json!({"role": "user", "content": "sure?"}),
        ]);
        let step = |step: i32, body: &Value, answer: &str| CallRecord {
            step,
            ..call(&format!("c{number}"), body, answer)
        };
        [step(0, &first, "yes"), step(1, &second, "quite")]
    };
    (0..count).flat_map(steps).collect()
}

fn sides(calls: &[CallRecord], config: ExportConfig) -> BTreeMap<String, Part> {
    let (_, lines) = planned(calls, config);
    lines.into_iter().map(|(call, part, _)| (call, part)).collect()
}

#[test]
fn conversations_stay_whole_and_on_their_side_as_data_grows() {
    let config = ExportConfig {
        seed: 7,
        test_share: 0.2,
        validation_share: 0.1,
        ..ExportConfig::default()
    };
    let calls = conversations(2000);
    let all = sides(&calls, config);
    assert_eq!(all.len(), 4000);
    let of = |part: Part| all.values().filter(|own| **own == part).count();
    assert!((680..920).contains(&of(Part::Test)), "{}", of(Part::Test));
    assert!((320..480).contains(&of(Part::Validation)), "{}", of(Part::Validation));
    for number in 0..2000 {
        assert_eq!(all[&format!("c{number}-yes")], all[&format!("c{number}-quite")]);
    }
    let fewer = sides(&calls[..1000], config);
    assert!(fewer.iter().all(|(call, part)| all[call] == *part), "growth moves none");
    let other = sides(&calls, ExportConfig { seed: 8, ..config });
    assert!(all.iter().filter(|(call, part)| other[*call] != **part).count() > 800);
    let larger = ExportConfig {
        test_share: 0.4,
        ..config
    };
    let larger = sides(&calls, larger);
    assert!(
        all.iter()
            .all(|(call, part)| *part != Part::Test || larger[call] == Part::Test)
    );
    for (share, expected) in [(0.0, Part::Train), (1.0, Part::Test)] {
        let config = ExportConfig {
            test_share: share,
            ..ExportConfig::default()
        };
        assert!(sides(&calls[..100], config).values().all(|part| *part == expected));
    }
}

#[test]
fn equal_prompts_are_never_on_two_sides() {
    // Each question is asked by ten conversations, answered in ways of their own; half of them go on to what another
    // conversation began with.
    let calls: Vec<CallRecord> = (0..1000)
        .flat_map(|number| {
            let asked = |of: usize| question(&format!("question {}", of % 100));
            let first = call(&format!("c{number}"), &asked(number), &format!("answer {number}"));
            let next = CallRecord {
                step: 1,
                ..call(&format!("c{number}"), &asked(number * 7 + 1), &format!("next {number}"))
            };
            [Some(first), (number % 2 == 0).then_some(next)]
        })
        .flatten()
        .collect();
    let config = ExportConfig {
        test_share: 0.3,
        validation_share: 0.2,
        ..ExportConfig::default()
    };
    let (counts, lines) = planned(&calls, config);
    let mut by_prompt: HashMap<String, HashSet<&str>> = HashMap::new();
    let mut by_conversation: HashMap<&str, HashSet<&str>> = HashMap::new();
    for (call, part, line) in &lines {
        let prompt = line["messages"][0].to_string();
        by_prompt.entry(prompt).or_default().insert(part.as_str());
        let conversation = call.split('-').next().unwrap();
        by_conversation.entry(conversation).or_default().insert(part.as_str());
    }
    assert!(by_prompt.values().all(|parts| parts.len() == 1), "{by_prompt:?}");
    assert!(
        by_conversation.values().all(|parts| parts.len() == 1),
        "{by_conversation:?}"
    );
    assert!(counts.left_out[&LeftOut::HeldOut] > 0);
    let questions = |part: &str| by_prompt.values().filter(|parts| parts.contains(part)).count();
    assert!(
        questions("test") >= 30 && questions("train") >= 10,
        "{} and {} of 100",
        questions("test"),
        questions("train")
    );
}

#[test]
fn balance_lets_no_answer_drown_the_others_and_leaves_what_is_held_out_as_it_is() {
    let answer = |number: usize| match number % 10 {
        0 => "rare",
        1 | 2 => "some",
        _ => "often",
    };
    let calls: Vec<CallRecord> = (0..1000)
        .map(|number| call(&format!("c{number}"), &question(&format!("{number}")), answer(number)))
        .collect();
    let balanced = ExportConfig {
        balance: true,
        ..ExportConfig::default()
    };
    let count = |config: ExportConfig, part: Part, answer: &str| {
        let (_, lines) = planned(&calls, config);
        let is_it = |(_, own, line): &&(String, Part, Value)| *own == part && line["messages"][1]["content"] == answer;
        lines.iter().filter(is_it).count()
    };
    let plain = ExportConfig::default();
    let all: usize = ["rare", "some", "often"]
        .map(|answer| count(plain, Part::Train, answer))
        .iter()
        .sum();
    assert_eq!(count(balanced, Part::Train, "often"), all.div_ceil(3));
    for answer in ["rare", "some"] {
        assert_eq!(count(balanced, Part::Train, answer), count(plain, Part::Train, answer));
    }
    assert_eq!(count(balanced, Part::Test, "often"), count(plain, Part::Test, "often"));
}

#[test]
fn a_limit_draws_by_the_seed_and_a_larger_one_holds_the_smaller() {
    let calls = conversations(300);
    let drawn = |limit: usize, seed: u64| {
        let config = ExportConfig {
            limit: Some(limit),
            seed,
            ..ExportConfig::default()
        };
        let (counts, lines) = planned(&calls, config);
        assert_eq!(counts.left_out.get(&LeftOut::OverLimit), Some(&(600 - limit as u64)));
        lines.into_iter().map(|(call, ..)| call).collect::<HashSet<_>>()
    };
    let (small, large) = (drawn(50, 1), drawn(100, 1));
    assert!(small.len() == 50 && large.len() == 100 && small.is_subset(&large));
    assert_ne!(small, drawn(50, 2));
}

#[test]
fn what_is_too_long_or_masked_is_left_out_where_that_is_asked() {
    let mut long = call("a", &question("x"), "y");
    (long.input_tokens, long.output_tokens) = (Some(900), Some(101));
    let plain = call("b", &question("z"), &"word ".repeat(1000));
    let mut masked = call("c", &question("mail?"), "ann@example.org");
    masked.masked_in = vec![MaskedIn {
        column: "response_body".into(),
        kind: "EMAIL".into(),
        count: 1,
    }];
    let calls = [long, plain, masked];
    let config = ExportConfig {
        max_tokens: Some(1000),
        without_masked: true,
        ..ExportConfig::default()
    };
    let (counts, lines) = planned(&calls, config);
    assert!(lines.is_empty());
    assert_eq!(
        counts.left_out,
        BTreeMap::from([(LeftOut::TooLong, 2), (LeftOut::Masked, 1)])
    );
    assert_eq!(planned(&calls, ExportConfig::default()).1.len(), 3);
}

#[test]
fn prompt_and_completion_are_lists_of_messages_and_text_parts_are_one_text() {
    let parts = json!([{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}]);
    let body = json!({"messages": [{"role": "user", "content": parts}]});
    let config = ExportConfig {
        shape: Shape::PromptCompletion,
        ..ExportConfig::default()
    };
    let (_, lines) = planned(&[call("c", &body, "Hi")], config);
    let expected = json!({"prompt": [{"role": "user", "content": "Hello\nthere"}],
        "completion": [{"role": "assistant", "content": "Hi"}]});
    assert_eq!(lines[0].2, expected);
    let image = json!({"type": "image_url", "image_url": {"url": "media:image/png;bytes=7;digest=00"}});
    let body = json!({"messages": [{"role": "user", "content": [image]}]});
    assert_eq!(example(&call("c", &body, "Hi")), Err(LeftOut::Media));
}

#[test]
fn a_card_says_what_is_there_and_its_digest_does_not_depend_on_the_order() {
    let mut calls = conversations(20);
    for (number, call) in (0..).zip(&mut calls) {
        call.started_at = Some(1_700_000_000_000_000 + number);
        call.response_model = Some("big-1".into());
    }
    let card = |calls: &[CallRecord]| {
        let of = CardOf {
            task: "greet-0000".into(),
            name: "Greet".into(),
            ..CardOf::default()
        };
        let mut planner = Planner::new(ExportConfig::default());
        calls.iter().for_each(|call| planner.see(call));
        let mut plan = planner.plan();
        let mut card = Card::new(of, ExportConfig::default(), plan.counts());
        for call in calls {
            let line = plan.line(call).unwrap();
            card.add(call, line.part, &line.text);
        }
        card.finish();
        card
    };
    let first = card(&calls);
    calls.reverse();
    let again = card(&calls);
    assert_eq!((first.digest.len(), &first.digest), (32, &again.digest));
    assert_eq!(first.models, BTreeMap::from([("big-1".to_owned(), 40)]));
    assert_eq!(first.first_call.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_ne!(card(&calls[1..]).digest, first.digest);
    let told = first.markdown();
    assert!(
        told.contains(MARK) && told.contains("# Greet") && told.contains("provider's terms"),
        "{told}"
    );
}

#[test]
fn what_feedback_knows_to_be_right_is_learnt_and_what_it_knows_to_be_wrong_is_not() {
    let known = |truth: Truth, row: &CallRecord| {
        let truths = HashMap::from([(row.call_id.clone(), truth)]);
        known(truths, row).map(|example| example["messages"][1].clone())
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
