//! Kinds, validity and agreement on answers as models give them.

use super::*;
use serde_json::json;
use std::collections::HashMap;
use understudy_call::call::ToolOffered;

fn text(text: &str) -> Response {
    Response {
        output_text: text.into(),
        finish_reason: Some("stop".into()),
        ..Response::default()
    }
}

fn calls(calls: &[(&str, &str)]) -> Response {
    let call = |(name, arguments): &(&str, &str)| ToolCall {
        id: None,
        name: (*name).into(),
        arguments: (*arguments).into(),
    };
    Response {
        tool_calls: calls.iter().map(call).collect(),
        ..Response::default()
    }
}

fn tool(name: &str, schema: Value) -> ToolOffered {
    ToolOffered {
        name: name.into(),
        description: None,
        schema,
    }
}

fn booking() -> Request {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}, "city": {"type": "string"}}, "required": ["city"]});
    Request {
        tools: vec![tool("book", schema), tool("find", Value::Null)],
        ..Request::default()
    }
}

fn agree(recorded: &Response, answer: &Response) -> f64 {
    let kind = kind_of(&booking(), recorded);
    score(&booking(), recorded, answer, kind, &LabelSet::default())
        .agreement
        .unwrap()
}

#[test]
fn a_recorded_answer_has_a_kind() {
    let plain = Request::default();
    let kind = |answer: &Response| kind_of(&plain, answer);
    assert_eq!(kind(&calls(&[("book", "{}")])), AnswerKind::ToolCall);
    assert_eq!(kind(&text(r#" {"a": 1} "#)), AnswerKind::Structured);
    assert_eq!(kind(&text("```json\n[1, 2]\n```")), AnswerKind::Structured);
    assert_eq!(kind(&text("billing issue")), AnswerKind::Label);
    assert_eq!(kind(&text("Yes.")), AnswerKind::Label);
    assert_eq!(kind(&text("42")), AnswerKind::Label);
    for prose in [
        "It is done.",
        "What now?",
        "one\ntwo",
        "one two three four five six",
        "",
        "Here is it: {\"a\": 1}",
    ] {
        assert_eq!(kind(&text(prose)), AnswerKind::Prose, "{prose}");
    }
    let json = Request {
        response_format: ResponseFormat::JsonObject,
        ..Request::default()
    };
    assert_eq!(kind_of(&json, &text("oops")), AnswerKind::Structured);
    for kind in AnswerKind::ALL {
        assert_eq!(AnswerKind::from_name(kind.as_str()), Some(kind));
    }
}

#[test]
fn short_answers_are_labels_only_where_they_recur() {
    let (mut closed, mut open) = (LabelSet::default(), LabelSet::default());
    for index in 0..40 {
        closed.add(["Spam", "ham", "spam.", "A long answer that is no label at all."][index % 4]);
        open.add(&format!("name {index}"));
    }
    let kind = |labels: &LabelSet| kind_in_task(&Request::default(), &text("spam"), labels);
    assert_eq!(
        (kind(&closed), kind(&open), kind(&LabelSet::default())),
        (AnswerKind::Label, AnswerKind::Prose, AnswerKind::Prose)
    );
}

#[test]
fn tool_calls_agree_field_by_field_in_any_order() {
    let recorded = calls(&[("book", r#"{"city": "Paris", "n": 2}"#)]);
    assert_eq!(
        agree(&recorded, &calls(&[("book", r#"{"n":2.0,"city":" Paris "}"#)])),
        1.0
    );
    assert_eq!(
        agree(&recorded, &calls(&[("book", r#"{"city": "Rome", "n": 2}"#)])),
        4.0 / 6.0
    );
    assert_eq!(agree(&recorded, &calls(&[("book", r#"{"city": "Paris"}"#)])), 4.0 / 5.0);
    assert_eq!(
        agree(&recorded, &calls(&[("find", r#"{"city": "Paris", "n": 2}"#)])),
        0.0
    );
    assert_eq!(agree(&recorded, &text("I would book Paris.")), 0.0);
    let two = calls(&[("book", r#"{"city": "Paris"}"#), ("book", r#"{"city": "Rome"}"#)]);
    let swapped = calls(&[("book", r#"{"city": "Rome"}"#), ("book", r#"{"city": "Paris"}"#)]);
    assert_eq!(agree(&two, &swapped), 1.0);
    let one = calls(&[("book", r#"{"city": "Rome"}"#)]);
    assert_eq!(
        (agree(&two, &one), agree(&one, &two)),
        (4.0 / 6.0, 4.0 / 6.0),
        "missing and extra count alike"
    );
    assert_eq!(agree(&calls(&[("find", "{}")]), &calls(&[("find", " { } ")])), 1.0);
}

#[test]
fn a_call_without_arguments_is_the_same_however_that_is_written() {
    let none = calls(&[("find", "{}")]);
    for written in ["", " ", "null", "{ }"] {
        assert_eq!(agree(&none, &calls(&[("find", written)])), 1.0, "{written:?}");
        assert_eq!(agree(&calls(&[("find", written)]), &none), 1.0, "{written:?}");
    }
    assert!(agree(&none, &calls(&[("find", "{\"q\": 1}")])) < 1.0);
    assert!(agree(&none, &calls(&[("book", "{}")])) < 1.0);
}

#[test]
fn an_optional_object_of_defaults_says_nothing() {
    let schema = json!({"type": "object", "required": ["q", "must"], "properties": {
        "q": {"type": "string"},
        "must": {"type": "object"},
        "page": {"type": "object", "properties": {"size": {"type": "integer", "default": 10}}}}});
    let request = Request {
        tools: vec![tool("search", schema)],
        ..Request::default()
    };
    let agree = |recorded: &str, answer: &str| {
        let (recorded, answer) = (calls(&[("search", recorded)]), calls(&[("search", answer)]));
        let score = score(&request, &recorded, &answer, AnswerKind::ToolCall, &LabelSet::default());
        score.agreement.unwrap()
    };
    let bare = r#"{"q": "x", "must": {}}"#;
    assert_eq!(agree(bare, r#"{"q": "x", "must": {}, "page": {"size": 10}}"#), 1.0);
    assert_eq!(agree(bare, r#"{"q": "x", "must": {}, "page": {}}"#), 1.0);
    assert!(agree(bare, r#"{"q": "x", "must": {}, "page": {"size": 20}}"#) < 1.0);
    assert!(agree(bare, r#"{"q": "x"}"#) < 1.0, "what is required is no default");
}

#[test]
fn the_schema_of_further_fields_is_heeded() {
    let schema = json!({"type": "object", "additionalProperties": {"type": "integer"}});
    let request = Request {
        tools: vec![tool("count", schema)],
        ..Request::default()
    };
    let (recorded, answer) = (calls(&[("count", r#"{"a": 2}"#)]), calls(&[("count", r#"{"a": "2"}"#)]));
    let score = score(&request, &recorded, &answer, AnswerKind::ToolCall, &LabelSet::default());
    assert_eq!((score.agreement, score.valid), (Some(1.0), false));
}

#[test]
fn prose_is_the_same_however_unicode_writes_it() {
    let recorded = text("Das Gerät für Zoë ist geprüft, und der Schlüssel liegt bereit.");
    let answer =
        text("Das Gera\u{308}t fu\u{308}r Zoe\u{308} ist gepru\u{308}ft, und der Schlu\u{308}ssel liegt bereit.");
    assert_eq!(agree(&recorded, &answer), 1.0);
}

#[test]
fn a_tool_call_is_valid_when_the_tool_is_offered_and_takes_the_arguments() {
    let request = booking();
    let recorded = calls(&[("book", r#"{"city": "Paris"}"#)]);
    let fault = |answer: &Response| {
        validity(&request, &recorded, answer, AnswerKind::ToolCall, &LabelSet::default())
            .err()
            .unwrap_or_default()
    };
    assert_eq!(fault(&recorded), "");
    assert_eq!(fault(&text("no call, and none was forced")), "");
    assert_eq!(
        fault(&calls(&[("find", r#"{"anything": 1}"#)])),
        "",
        "no schema: JSON is enough"
    );
    assert!(fault(&calls(&[("fly", "{}")])).contains("not offered"));
    assert!(fault(&calls(&[("find", "{city: Paris")])).contains("not JSON"));
    assert!(fault(&calls(&[("book", r#"{"n": 1}"#)])).contains("required"));
    let secret = fault(&calls(&[("book", r#"{"city": 4929123}"#)]));
    assert!(secret.contains("/city") && !secret.contains("4929123"), "{secret}");
}

/// No schema that an agent sends may hang, fetch or overflow.
#[test]
fn strange_schemas_are_unknown_and_harmless() {
    let deep = (0..100).fold(
        json!({"type": "integer"}),
        |inner, _| json!({"properties": {"a": inner}}),
    );
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"$ref": "http://127.0.0.1:9/x.json"}),
        json!({"$ref": "file:///etc/passwd"}),
        json!({"type": "no such type"}),
        json!({"properties": {"city": {"pattern": "(a+)+$"}}}),
        json!({"properties": {"city": {"pattern": "(?<!x)y("}}}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        deep,
        json!(true),
    ] {
        let request = Request {
            tools: vec![tool("book", schema.clone())],
            ..Request::default()
        };
        let answer = calls(&[("book", &json!({"city": format!("{}!", "a".repeat(40))}).to_string())]);
        drop(validity(
            &request,
            &answer,
            &answer,
            AnswerKind::ToolCall,
            &LabelSet::default(),
        ));
        drop(score(
            &request,
            &answer,
            &answer,
            AnswerKind::ToolCall,
            &LabelSet::default(),
        ));
    }
}

#[test]
fn structured_answers_agree_by_fields() {
    let recorded = text(r#"{"name": "A", "items": [{"n": 1}, {"n": 2}], "note": null}"#);
    assert_eq!(
        agree(
            &recorded,
            &text("```json\n{\"note\":null,\"items\":[{\"n\":1.0},{\"n\":2}],\"name\":\"A\"}\n```")
        ),
        1.0
    );
    assert_eq!(
        agree(
            &recorded,
            &text(r#"{"name": "A", "items": [{"n": 1}, {"n": 3}], "note": null}"#)
        ),
        0.75
    );
    assert_eq!(agree(&recorded, &text(r#"{"name": "A"}"#)), 2.0 / 5.0);
    assert_eq!(agree(&recorded, &text("name is A")), 0.0);
    assert_eq!(agree(&recorded, &text(r#"{"name": 1, "a/b": "A"}"#)), 0.0);
}

#[test]
fn structured_answers_are_valid_as_their_reader_needs_them() {
    let schema = json!({"type": "object", "required": ["a"]});
    let request = |format| Request {
        response_format: format,
        ..Request::default()
    };
    let valid = |format: ResponseFormat, recorded: &str, answer: &str| {
        let (recorded, answer) = (text(recorded), text(answer));
        validity(
            &request(format),
            &recorded,
            &answer,
            AnswerKind::Structured,
            &LabelSet::default(),
        )
        .is_ok()
    };
    let (bare, fenced) = (r#"{"a": 1}"#, "```json\n{\"a\": 1}\n```");
    assert!(valid(ResponseFormat::Text, bare, bare) && valid(ResponseFormat::Text, fenced, fenced));
    assert!(valid(ResponseFormat::Text, fenced, bare) && !valid(ResponseFormat::Text, bare, fenced));
    assert!(!valid(ResponseFormat::JsonObject, fenced, fenced) && !valid(ResponseFormat::JsonObject, bare, "[1]"));
    assert!(valid(ResponseFormat::JsonSchema(schema.clone()), bare, bare));
    assert!(!valid(ResponseFormat::JsonSchema(schema), bare, r#"{"b": 1}"#));
}

#[test]
fn labels_agree_after_normalisation() {
    let recorded = text("Billing");
    for same in ["billing", " Billing. ", "\"BILLING\"", "**billing**\n"] {
        assert_eq!(agree(&recorded, &text(same)), 1.0, "{same}");
    }
    for other in ["bill", "Billing and more", "not billing"] {
        assert_eq!(agree(&recorded, &text(other)), 0.0, "{other}");
    }
}

#[test]
fn kappa_leaves_chance_out() {
    let of = |pairs: &[(&str, &str)]| {
        let mut confusion = Confusion::default();
        pairs
            .iter()
            .for_each(|(recorded, answer)| confusion.add(recorded, answer));
        confusion
    };
    let confusion = of(&[("a", "A"), ("a", "a"), ("b", "b"), ("b", "a")]);
    assert!((confusion.kappa().unwrap() - 0.5).abs() < 1e-12);
    assert_eq!(confusion.accuracy(), Some(0.75));
    assert_eq!(
        confusion.cells().collect::<Vec<_>>(),
        [("a", "a", 2), ("b", "a", 1), ("b", "b", 1)]
    );
    assert_eq!(of(&[("a", "a")]).kappa(), None);
    assert_eq!((of(&[]).kappa(), of(&[]).accuracy()), (None, None));
}

#[test]
fn no_answer_is_no_agreement_and_never_valid() {
    let recorded = text("The report was sent to the client yesterday.");
    let of = |answer: &Response| {
        score(
            &Request::default(),
            &recorded,
            answer,
            AnswerKind::Prose,
            &LabelSet::default(),
        )
    };
    let own = of(&recorded);
    assert_eq!((own.valid, own.agreement, own.reason.as_str()), (true, Some(1.0), ""));
    for nothing in [
        text(""),
        text("  \n"),
        text("I’m sorry, but I can't do that."),
        Response {
            finish_reason: Some("content_filter".into()),
            ..recorded.clone()
        },
        Response {
            refusal: Some("no".into()),
            ..recorded.clone()
        },
    ] {
        let score = of(&nothing);
        assert_eq!((score.valid, score.agreement), (false, Some(0.0)), "{nothing:?}");
    }
    for finish in ["length", "max_tokens", "MAX_TOKENS"] {
        let cut = of(&Response {
            finish_reason: Some(finish.into()),
            ..text("The report was sent")
        });
        assert!(!cut.valid && cut.agreement.unwrap() > 0.3 && cut.reason.contains("truncated"));
    }
    let error = of(&Response {
        error: Some(json!({"message": "overloaded"})),
        ..Response::default()
    });
    assert_eq!((error.valid, error.agreement), (false, None));
    let refusing = text("I'm sorry, but I can't do that.");
    assert!(
        score(
            &Request::default(),
            &refusing,
            &refusing,
            AnswerKind::Prose,
            &LabelSet::default()
        )
        .valid,
        "where the baseline refuses too"
    );
}

/// Every recorded answer of real agents agrees with itself wholly, and nearly all are valid by their own requests.
#[test]
fn real_answers_agree_with_themselves() {
    use understudy_call::call::Api;
    use understudy_call::wire;
    let traces = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces");
    let Ok(files) = std::fs::read_dir(&traces) else {
        assert!(std::env::var_os("CI").is_none(), "the traces are missing");
        eprintln!("SKIPPED: real_answers_agree_with_themselves needs {}", traces.display());
        return;
    };
    let mut figures: HashMap<(String, &str), (usize, usize)> = HashMap::new();
    for path in files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "zst"))
    {
        let mut decoder = zstd::Decoder::new(std::fs::File::open(&path).unwrap()).unwrap();
        decoder.window_log_max(27).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut decoder, &mut text).unwrap();
        for line in text.lines().step_by(7) {
            let line: Value = serde_json::from_str(line).unwrap();
            let request = wire::parse_request(Api::OpenaiChat, line["request"].to_string().as_bytes()).unwrap();
            let body = wire::assemble(Api::OpenaiChat, None, line["response"].to_string().as_bytes()).unwrap();
            let recorded = wire::parse_response(Api::OpenaiChat, 200, &body);
            let kind = kind_of(&request, &recorded);
            let score = score(&request, &recorded, &recorded, kind, &LabelSet::default());
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let (all, valid) = figures.entry((name, kind.as_str())).or_default();
            *all += 1;
            *valid += usize::from(score.valid);
            if score.valid {
                assert_eq!(score.agreement, Some(1.0), "{}", line["id"]);
            }
        }
    }
    eprintln!("(file, kind): (answers, valid) {figures:?}");
    let (all, valid) = figures.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(all > 1000 && valid * 100 >= all * 95, "{valid} of {all}");
}
