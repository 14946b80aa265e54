//! Thirty hand-made pairs and more for each scorer, with the right answer: the same meaning in another form, and small faults.

use super::*;
use serde_json::json;
use understudy_call::call::ToolOffered;

fn text(text: &str) -> Response {
    Response {
        output_text: text.into(),
        finish_reason: Some("stop".into()),
        ..Response::default()
    }
}

/// Calls written as `name {arguments}`, one a line.
fn calls(lines: &str) -> Response {
    let call = |line: &str| {
        let (name, arguments) = line.trim().split_once(' ').unwrap();
        ToolCall {
            id: None,
            name: name.into(),
            arguments: arguments.into(),
        }
    };
    Response {
        tool_calls: lines.lines().map(call).collect(),
        ..Response::default()
    }
}

fn agent() -> Request {
    let book = json!({"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string"},
        "nights": {"type": "integer"},
        "price": {"type": "number"},
        "smoking": {"type": "boolean", "default": false},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": null},
        "guests": {"type": "array", "items": {"$ref": "#/$defs/guest"}},
    }, "$defs": {"guest": {"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string"}, "age": {"type": ["integer", "null"]}}}}});
    let offered = |name: &str, schema: Value| ToolOffered {
        name: name.into(),
        description: None,
        schema,
    };
    Request {
        tools: vec![offered("book", book), offered("find", Value::Null)],
        ..Request::default()
    }
}

fn scored(request: &Request, recorded: &Response, answer: &Response, kind: AnswerKind) -> Score {
    score(request, recorded, answer, kind, &LabelSet::default())
}

fn near(given: f64, right: f64) -> bool {
    (given - right).abs() < 1e-9
}

#[test]
fn tool_calls() {
    let f1 = |common: f64, total: f64| 2.0 * common / total;
    // Recorded, answered, agreement, valid.
    let pairs: [(&str, &str, f64, bool); 42] = [
        (
            r#"book {"city":"Rome","nights":2}"#,
            r#"book {"city":"Rome","nights":2}"#,
            1.0,
            true,
        ),
        (
            r#"book {"city":"Rome","nights":2}"#,
            r#"book { "nights" : 2, "city" : "Rome" }"#,
            1.0,
            true,
        ),
        (
            r#"book {"city":"Rome","nights":2}"#,
            r#"book {"city":" Rome ","nights":2.0}"#,
            1.0,
            true,
        ),
        (
            r#"book {"city":"New  York"}"#,
            "book {\"city\":\"New\\nYork\"}",
            1.0,
            true,
        ),
        (
            r#"book {"city":"Rome","price":100}"#,
            r#"book {"city":"Rome","price":1e2}"#,
            1.0,
            true,
        ),
        (
            r#"book {"city":"Rome","price":0.3}"#,
            r#"book {"city":"Rome","price":0.30000000000000004}"#,
            1.0,
            true,
        ),
        // A number as text means the same where the schema says number, and is a fault of form.
        (
            r#"book {"city":"Rome","nights":2}"#,
            r#"book {"city":"Rome","nights":"2"}"#,
            1.0,
            false,
        ),
        (r#"book {"city":"7"}"#, r#"book {"city":7}"#, 1.0, false),
        (
            r#"book {"city":"Rome","smoking":true}"#,
            r#"book {"city":"Rome","smoking":"True"}"#,
            1.0,
            false,
        ),
        // Without a schema types stay apart.
        (r#"find {"id":2}"#, r#"find {"id":"2"}"#, f1(1.0, 4.0), true),
        (r#"find {"id":"002"}"#, r#"find {"id":"2"}"#, f1(1.0, 4.0), true),
        (r#"book {"city":"002"}"#, r#"book {"city":"2"}"#, f1(1.0, 4.0), true),
        // Optional fields that hold their default or null say nothing.
        (
            r#"book {"city":"Rome"}"#,
            r#"book {"city":"Rome","smoking":false}"#,
            1.0,
            true,
        ),
        (
            r#"book {"city":"Rome","note":null}"#,
            r#"book {"city":"Rome"}"#,
            1.0,
            true,
        ),
        (
            r#"book {"city":"Rome"}"#,
            r#"book {"city":"Rome","smoking":true}"#,
            f1(2.0, 5.0),
            true,
        ),
        (
            r#"book {"city":"Rome"}"#,
            r#"book {"city":"Rome","note":"late"}"#,
            f1(2.0, 5.0),
            true,
        ),
        (r#"find {"q":"x"}"#, r#"find {"q":"x","page":null}"#, f1(2.0, 5.0), true),
        (
            r#"book {"city":"Rome","guests":[{"name":"Ann","age":null}]}"#,
            r#"book {"city":"Rome","guests":[{"name":"Ann"}]}"#,
            1.0,
            true,
        ),
        // A wrong, a missing and an invented argument.
        (
            r#"book {"city":"Rome","nights":2}"#,
            r#"book {"city":"Paris","nights":2}"#,
            f1(2.0, 6.0),
            true,
        ),
        (
            r#"book {"city":"Rome","nights":2}"#,
            r#"book {"city":"Rome"}"#,
            f1(2.0, 5.0),
            true,
        ),
        (
            r#"book {"city":"Rome"}"#,
            r#"book {"city":"Rome","stars":5}"#,
            f1(2.0, 5.0),
            true,
        ),
        (
            r#"book {"city":"Rome","nights":2}"#,
            r#"book {"nights":2}"#,
            f1(2.0, 5.0),
            false,
        ),
        // Another tool, one that is not offered, arguments that are no JSON.
        (r#"book {"city":"Rome"}"#, r#"find {"city":"Rome"}"#, 0.0, true),
        (r#"book {"city":"Rome"}"#, r#"reserve {"city":"Rome"}"#, 0.0, false),
        (r#"find {"q":"x"}"#, "find {q: x}", f1(1.0, 4.0), false),
        // Several calls, in any order; extra and missing ones count.
        (
            "find {\"q\":\"a\"}\nfind {\"q\":\"b\"}",
            "find {\"q\":\"b\"}\nfind {\"q\":\"a\"}",
            1.0,
            true,
        ),
        (
            r#"find {"q":"a"}"#,
            "find {\"q\":\"a\"}\nfind {\"q\":\"a\"}",
            f1(2.0, 6.0),
            true,
        ),
        (
            "find {\"q\":\"a\"}\nfind {\"q\":\"b\"}",
            r#"find {"q":"b"}"#,
            f1(2.0, 6.0),
            true,
        ),
        // Lists: an insertion moves nothing, an exchange does.
        (
            r#"find {"ids":[1,2,3]}"#,
            r#"find {"ids":[0,1,2,3]}"#,
            f1(4.0, 9.0),
            true,
        ),
        (r#"find {"ids":[1,2,3]}"#, r#"find {"ids":[1,3,2]}"#, f1(3.0, 8.0), true),
        (
            r#"find {"m":[[1,2],[3]]}"#,
            r#"find {"m":[[1,2],[4]]}"#,
            f1(3.0, 8.0),
            true,
        ),
        // Whole numbers may be names of things, however they are written.
        (r#"find {"id":12345678901}"#, r#"find {"id":12345678901.0}"#, 1.0, true),
        (
            r#"find {"id":12345678901}"#,
            r#"find {"id":12345678902.0}"#,
            f1(1.0, 4.0),
            true,
        ),
        (r#"find {"x":-0.0}"#, r#"find {"x":0}"#, 1.0, true),
        // What Unicode calls equal is; another case, or another letter, is not.
        ("find {\"q\":\"Caf\u{e9}\"}", "find {\"q\":\"Cafe\u{301}\"}", 1.0, true),
        (
            "find {\"q\":\"Caf\u{e9}\"}",
            "find {\"q\":\"Cafe\"}",
            f1(1.0, 4.0),
            true,
        ),
        (r#"find {"unit":"C"}"#, r#"find {"unit":"c"}"#, f1(1.0, 4.0), true),
        (r#"find {"q":"\u00e9"}"#, "find {\"q\":\"\u{e9}\"}", 1.0, true),
        // Two values that changed places are two faults; of two equal calls one may be missing.
        (
            r#"find {"from":"A","to":"B"}"#,
            r#"find {"from":"B","to":"A"}"#,
            f1(1.0, 6.0),
            true,
        ),
        (
            "find {\"q\":\"a\"}\nfind {\"q\":\"a\"}",
            r#"find {"q":"a"}"#,
            f1(2.0, 6.0),
            true,
        ),
        // JSON in a text is compared as such; arguments that are no object are a fault of form.
        (
            r#"find {"filter":"{\"a\": 1, \"b\": 2}"}"#,
            r#"find {"filter":"{\"b\":2,\"a\":1}"}"#,
            1.0,
            true,
        ),
        (r#"find {"q":"x"}"#, r#"find ["x"]"#, f1(1.0, 4.0), false),
    ];
    for (recorded, answer, agreement, valid) in pairs {
        let score = scored(&agent(), &calls(recorded), &calls(answer), AnswerKind::ToolCall);
        assert!(
            near(score.agreement.unwrap(), agreement),
            "{recorded} | {answer}: {score:?}"
        );
        assert_eq!(score.valid, valid, "{recorded} | {answer}: {score:?}");
    }
}

#[test]
fn structured() {
    let schema = json!({"type": "object", "required": ["name", "total"], "properties": {
        "name": {"type": "string"}, "total": {"type": "number"}, "paid": {"type": "boolean", "default": false},
        "tags": {"type": "array", "items": {"type": "string"}}, "note": {"type": ["string", "null"]}}});
    let with_schema = Request {
        response_format: ResponseFormat::JsonSchema(schema),
        ..Request::default()
    };
    let free = Request::default();
    // Whether the request has the schema, recorded, answered, common and all fields, valid.
    let pairs: [(bool, &str, &str, f64, f64, bool); 34] = [
        (
            true,
            r#"{"name":"A","total":4}"#,
            r#"{"name":"A","total":4}"#,
            2.0,
            4.0,
            true,
        ),
        (
            true,
            r#"{"name":"A","total":4}"#,
            "{\n  \"total\": 4.0,\n  \"name\": \"A\"\n}",
            2.0,
            4.0,
            true,
        ),
        (
            true,
            r#"{"name":"A","total":4}"#,
            "```json\n{\"name\":\"A\",\"total\":4}\n```",
            2.0,
            4.0,
            false,
        ),
        (
            true,
            r#"{"name":"A","total":4}"#,
            "Here it is: {\"name\":\"A\",\"total\":4} Anything else?",
            2.0,
            4.0,
            false,
        ),
        (
            true,
            r#"{"name":"A","total":4}"#,
            r#"{"name":"A","total":"4"}"#,
            2.0,
            4.0,
            false,
        ),
        (
            true,
            r#"{"name":"A","total":4}"#,
            r#"{"name":"A","total":5}"#,
            1.0,
            4.0,
            true,
        ),
        (true, r#"{"name":"A","total":4}"#, r#"{"name":"A"}"#, 1.0, 3.0, false),
        (
            true,
            r#"{"name":"A","total":4}"#,
            r#"{"name":"A","total":4,"paid":false}"#,
            2.0,
            4.0,
            true,
        ),
        (
            true,
            r#"{"name":"A","total":4}"#,
            r#"{"name":"A","total":4,"paid":true}"#,
            2.0,
            5.0,
            true,
        ),
        (
            true,
            r#"{"name":"A","total":4}"#,
            r#"{"name":"A","total":4,"note":null}"#,
            2.0,
            4.0,
            true,
        ),
        (
            true,
            r#"{"name":"A","total":4}"#,
            r#"{"name":"A","total":4,"currency":"EUR"}"#,
            2.0,
            5.0,
            true,
        ),
        (
            true,
            r#"{"name":"A","total":4}"#,
            r#"{"name":" A ","total":4}"#,
            2.0,
            4.0,
            true,
        ),
        (
            true,
            r#"{"name":"A","total":4}"#,
            r#"{"name":"a","total":4}"#,
            1.0,
            4.0,
            true,
        ),
        (
            true,
            r#"{"name":"A","total":4}"#,
            r#"[{"name":"A","total":4}]"#,
            0.0,
            4.0,
            false,
        ),
        (
            true,
            r#"{"name":"A","total":4,"tags":["x","y"]}"#,
            r#"{"name":"A","total":4,"tags":["y","x"]}"#,
            3.0,
            8.0,
            true,
        ),
        (
            true,
            r#"{"name":"A","total":4,"tags":["x"]}"#,
            r#"{"name":"A","total":4,"tags":["x","y"]}"#,
            3.0,
            7.0,
            true,
        ),
        (
            true,
            r#"{"name":"A","total":4,"tags":["x","y"]}"#,
            r#"{"name":"A","total":4,"tags":"x, y"}"#,
            2.0,
            7.0,
            false,
        ),
        (
            true,
            r#"{"name":"A","total":4}"#,
            r#"{"name":"A","total":4"#,
            0.0,
            1.0,
            false,
        ),
        (true, r#"{"name":"A","total":4}"#, "name A, total 4", 0.0, 1.0, false),
        (
            true,
            r#"{"name":"A","total":4}"#,
            r#"{"Name":"A","Total":4}"#,
            0.0,
            4.0,
            false,
        ),
        (
            false,
            r#"{"a":1,"b":[{"n":1},{"n":2}]}"#,
            r#"{"b":[{"n":1},{"n":2}],"a":1}"#,
            3.0,
            6.0,
            true,
        ),
        (
            false,
            r#"{"a":1,"b":[{"n":1},{"n":2}]}"#,
            r#"{"a":1,"b":[{"n":2}]}"#,
            2.0,
            5.0,
            true,
        ),
        (
            false,
            r#"{"a":1,"b":[{"n":1},{"n":2}]}"#,
            r#"{"a":1,"b":[{"n":0},{"n":1},{"n":2}]}"#,
            3.0,
            7.0,
            true,
        ),
        (false, r#"{"a":1}"#, r#"{"a":"1"}"#, 0.0, 2.0, true),
        (false, r#"{"a":null}"#, r#"{}"#, 0.0, 2.0, true),
        (false, r#"{"a":{}}"#, r#"{"a":[]}"#, 0.0, 2.0, true),
        (false, r#"{"a":{"b":1}}"#, r#"{"a.b":1}"#, 0.0, 2.0, true),
        (false, "```json\n{\"a\":1}\n```", r#"{"a":1}"#, 1.0, 2.0, true),
        (false, r#"{"a":1}"#, "```\n{\"a\":1}\n```", 1.0, 2.0, false),
        (
            false,
            r#"{"rows":[[1,2],[3,4]]}"#,
            r#"{"rows":[[1,2],[3,5]]}"#,
            3.0,
            8.0,
            true,
        ),
        (
            false,
            r#"{"rows":[[1,2],[3,4]]}"#,
            r#"{"rows":[[3,4]]}"#,
            2.0,
            6.0,
            true,
        ),
        (
            false,
            r#"{"rows":[[1,2],[3,4]]}"#,
            r#"{"rows":[1,2,3,4]}"#,
            0.0,
            8.0,
            true,
        ),
        (
            false,
            "{\"name\":\"Zo\u{eb}\"}",
            "{\"name\":\"Zoe\u{308}\"}",
            1.0,
            2.0,
            true,
        ),
        (
            false,
            r#"{"a":9007199254740993}"#,
            r#"{"a":9007199254740992}"#,
            0.0,
            2.0,
            true,
        ),
    ];
    for (has_schema, recorded, answer, common, total, valid) in pairs {
        let request = if has_schema { &with_schema } else { &free };
        let score = scored(request, &text(recorded), &text(answer), AnswerKind::Structured);
        let right = if total == 0.0 { 1.0 } else { 2.0 * common / total };
        assert!(
            near(score.agreement.unwrap(), right),
            "{recorded} | {answer}: {score:?}"
        );
        assert_eq!(score.valid, valid, "{recorded} | {answer}: {score:?}");
    }
    let score = scored(
        &free,
        &text(r#"{"a":1,"b":2}"#),
        &text(r#"{"a":1}"#),
        AnswerKind::Structured,
    );
    let fields = score.measures.fields.unwrap();
    assert_eq!((fields.precision(), fields.recall()), (1.0, 0.5));
}

#[test]
fn labels() {
    let mut set = LabelSet::default();
    let all = ["billing", "bug report", "C++", "yes", "no", "3", "10", "1", "caf\u{e9}"];
    all.iter().cycle().take(80).for_each(|label| set.add(label));
    assert!(set.is_closed());
    // Recorded, answered, the same, valid (one of the set).
    let pairs: [(&str, &str, bool, bool); 34] = [
        ("billing", "billing", true, true),
        ("billing", "Billing", true, true),
        ("billing", " billing \n", true, true),
        ("billing", "billing.", true, true),
        ("billing", "\"billing\"", true, true),
        ("billing", "**billing**", true, true),
        ("billing", "`BILLING`", true, true),
        ("bug report", "Bug  Report", true, true),
        ("bug report", "bug\treport", true, true),
        ("bug report", "bug_report", false, false),
        ("bug report", "bugreport", false, false),
        ("bug report", "bug", false, false),
        ("billing", "bill", false, false),
        ("billing", "billing issue", false, false),
        ("billing", "not billing", false, false),
        ("billing", "yes", false, true),
        ("billing", "bug report", false, true),
        ("C++", "c++", true, true),
        ("C++", "C", false, false),
        ("yes", "Yes!", true, true),
        ("yes", "no", false, true),
        ("yes", "yes, no", false, false),
        ("10", "1", false, true),
        ("1", "10", false, true),
        ("3", "3", true, true),
        ("3", "three", false, false),
        ("3", "3.0", false, false),
        (
            "billing",
            "The label is billing because the text says so.",
            false,
            false,
        ),
        ("billing", "\u{201c}billing\u{201d}", true, true),
        ("billing", "billing\u{ff01}", true, true),
        ("caf\u{e9}", "Cafe\u{301}", true, true),
        ("caf\u{e9}", "cafe", false, false),
        ("billing", "", false, false),
        ("billing", "фактура", false, false),
    ];
    for (recorded, answer, same, valid) in pairs {
        let score = score(
            &Request::default(),
            &text(recorded),
            &text(answer),
            AnswerKind::Label,
            &set,
        );
        assert_eq!(
            score.agreement,
            Some(f64::from(u8::from(same))),
            "{recorded} | {answer}"
        );
        assert_eq!(score.valid, valid, "{recorded} | {answer}: {}", score.reason);
    }
}

/// Prose has no right answer: the test is that less of the same meaning never scores more.
#[test]
fn prose() {
    let recorded = "Your refund of 40 euros was sent on Monday. It will arrive within three working days.";
    // From the same to nothing in common; each level scores below all of the level above it.
    let levels: [&[&str]; 4] = [
        &[
            "Your refund of 40 euros was sent on Monday. It will arrive within three working days.",
            "Your refund of 40 euros was sent on Monday.\nIt will arrive within three working days.\n",
            "  Your refund of 40 euros was sent on Monday.  It will arrive within three working days.",
            "Your refund of 40 euros was sent on Monday.\r\n\r\nIt will arrive within three working days.",
            "Your\trefund of 40 euros was sent on Monday. It will arrive within three working days.",
            "Your refund of 40 euros was sent on Monday. It will arrive within three  working  days.",
            "Your refund of 40 euros was sent on Monday. It will arrive within three working\ndays.",
        ],
        &[
            "Your refund of 40 euros was sent on Monday. It will arrive within 3 working days.",
            "Your refund of 40 euros was sent on Monday and will arrive within three working days.",
            "**Your refund** of 40 euros was sent on Monday. It will arrive within three working days.",
            "Your refund of 40 euros was sent on Monday; it will arrive within three working days!",
            "It will arrive within three working days. Your refund of 40 euros was sent on Monday.",
            "Hello! Your refund of 40 euros was sent on Monday. It will arrive within three working days.",
            "your refund of 40 euros was sent on monday. it will arrive within three working days.",
            "Your refund of 40 euros was sent on Monday. It should arrive within three working days.",
        ],
        &[
            "We sent the 40 euros back on Monday, so expect the refund in about three days.",
            "Your refund of 40 euros was sent.",
            "It will arrive within three working days.",
            "The refund was sent on Monday.",
            "On Monday we refunded 40 euros; it takes three working days.",
            "The refund of forty euros went out on Monday and arrives within the week.",
            "Refund sent Monday: 40 euros, three working days.",
        ],
        &[
            "Please restart the router and hold the button for ten seconds.",
            "I don't know.",
            "SELECT name FROM poker_players",
            "The quick brown fox jumps over the lazy dog.",
            "ok",
            "Could you tell me your user id first?",
            "42",
            "- one\n- two\n- three",
        ],
    ];
    assert_eq!(levels.iter().map(|level| level.len()).sum::<usize>(), 30);
    let mut least_above = f64::INFINITY;
    for level in levels {
        let agreement = |answer: &&str| {
            let score = scored(&Request::default(), &text(recorded), &text(answer), AnswerKind::Prose);
            assert!(score.valid, "{answer}: {}", score.reason);
            score.agreement.unwrap()
        };
        let scores: Vec<f64> = level.iter().map(agreement).collect();
        assert!(
            scores.iter().all(|score| *score < least_above),
            "{scores:?} {least_above}"
        );
        least_above = scores.iter().copied().fold(f64::INFINITY, f64::min);
    }
    let called = Response {
        tool_calls: calls(r#"find {"q":"x"}"#).tool_calls,
        ..text(recorded)
    };
    let score = scored(&agent(), &text(recorded), &called, AnswerKind::Prose);
    assert_eq!(score.agreement, Some(0.0), "what it does besides counts");
}

/// Refusals, cut answers, empty ones, other languages: all are faults of form, whatever was agreed.
#[test]
fn answers_that_are_none() {
    let recorded = "The report is ready, and you have a copy of it for your own notes from the client.";
    let finished = |finish: &str, said: &str| Response {
        finish_reason: Some(finish.into()),
        ..text(said)
    };
    let refusal = |said: &str| Response {
        refusal: Some(said.into()),
        ..Response::default()
    };
    // Answer, part of the reason; empty = valid.
    let pairs: [(Response, &str); 37] = [
        (text(recorded), ""),
        (text("The report is ready."), ""),
        (text("I'm sorry to hear that; the report is ready."), ""),
        (text("I can't wait to show you the report."), ""),
        (finished("end_turn", recorded), ""),
        (finished("STOP", recorded), ""),
        (text(""), "empty"),
        (text(" \n\t "), "empty"),
        (text("I'm sorry, but I can't help with that."), "refusal"),
        (text("I’m sorry, but I can’t help with that."), "refusal"),
        (text("Sorry, I cannot do that."), "refusal"),
        (text("I cannot assist with this request."), "refusal"),
        (text("I'm unable to help with that."), "refusal"),
        (text("I am sorry, but I cannot comply."), "refusal"),
        (text("I apologize, but I can't do that."), "refusal"),
        (text("I'm not able to help with this one."), "refusal"),
        (text("I must decline this request."), "refusal"),
        (text("I cannot fulfill that request."), "refusal"),
        (text("I will not share that before Monday; the report is ready."), ""),
        (text("I have to thank you: the report is ready."), ""),
        (text("Unfortunately the report is late."), ""),
        (finished("content_filter", recorded), "refusal"),
        (finished("SAFETY", recorded), "refusal"),
        (finished("refusal", recorded), "refusal"),
        (refusal("no"), "refusal"),
        (finished("length", "The report is"), "truncated"),
        (finished("max_tokens", "The report is"), "truncated"),
        (finished("MAX_TOKENS", recorded), "truncated"),
        (finished("incomplete", recorded), "truncated"),
        (
            Response {
                partial: true,
                ..text("The rep")
            },
            "truncated",
        ),
        (
            text("Der Bericht ist fertig, und Sie werden auch eine Kopie für den Kunden mit der Notiz sehen."),
            "German",
        ),
        (
            text("Le rapport est prêt et vous avez une copie avec les notes pour votre dossier dans la boîte."),
            "French",
        ),
        (
            text("El informe está listo y usted tiene una copia con las notas para su archivo por correo."),
            "Spanish",
        ),
        (
            text("Отчёт готов, и у вас есть копия для ваших собственных заметок от клиента."),
            "Cyrillic",
        ),
        (text("报告已经准备好了，您有一份副本，可以用作自己的客户记录。"), "Han"),
        (text("Fertig."), ""),
        (
            Response {
                error: Some(json!({"message": "overloaded"})),
                ..Response::default()
            },
            "error",
        ),
    ];
    for (answer, reason) in pairs {
        let score = scored(&Request::default(), &text(recorded), &answer, AnswerKind::Prose);
        let is_right = score.valid == reason.is_empty() && score.reason.contains(reason);
        assert!(is_right, "{answer:?}: {score:?}");
    }
}
