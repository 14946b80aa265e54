use super::*;
use understudy_call::call::ToolCall;
use understudy_call::record::{CallRecord, Outcome};

/// Models made up for these tests.
const MODELS: &str = "
checked: 2026-01-02
benchmarks:
  - { name: form, title: Form, for: [structured] }
  - { name: other_form, title: Other form, for: [structured] }
  - { name: calls, title: Calls, for: [tool_call] }
sources: { card: https://models.example/card }
models:
  - name: maker/tiny
    names: [\"tiny:latest\"]
    parameters: { value: 100000000, source: card }
    context: { value: 2048, source: card }
    shape: { layers: 10, kv_heads: 2, head_dim: 64, source: card }
    licence: { value: apache-2.0, source: card }
    tools: { value: false, source: card }
    benchmarks: [{ name: form, value: 30, source: card }]
  - name: maker/small
    parameters: { value: 1000000000, source: card }
    context: { value: 32768, source: card }
    shape: { layers: 20, kv_heads: 4, head_dim: 64, source: card }
    licence: { value: research, source: card }
    tools: { value: true, source: card }
    benchmarks: [{ name: form, value: 60, source: card }, { name: other_form, value: 10, source: card }]
  - name: maker/middle
    parameters: { value: 3000000000, source: card }
    context: { value: 32768, source: card }
    shape: { layers: 30, kv_heads: 4, head_dim: 64, source: card }
    licence: { value: MIT, source: card }
    benchmarks: [{ name: form, value: 55, source: card }]
  - name: maker/large
    parameters: { value: 8000000000, source: card }
    context: { value: 32768, source: card }
    licence: { value: mit, source: https://models.example/large }
    media: { value: true, source: card }
    benchmarks: [{ name: other_form, value: 70, source: card }]
  - name: maker/unmeasured
    parameters: { value: 2000000000, source: card }
    context: { value: 32768, source: card }
    shape: { layers: 30, kv_heads: 4, head_dim: 64, source: card }
  - name: maker/unknown
";

fn catalogue() -> Catalogue {
    Catalogue::default().with_file("models.yaml", MODELS).unwrap()
}

fn structured(tokens: u64) -> Needs {
    Needs {
        calls: 100,
        kind: Some("structured"),
        answers: [("structured", 1.0)].into(),
        tokens: Some(tokens),
        tokens_most: Some(tokens),
        ..Needs::default()
    }
}

fn names(candidates: &[Candidate]) -> Vec<&str> {
    candidates.iter().map(|candidate| short(&candidate.model)).collect()
}

fn of<'a>(candidates: &'a [Candidate], name: &str) -> &'a Candidate {
    candidates
        .iter()
        .find(|candidate| short(&candidate.model) == name)
        .unwrap()
}

#[test]
fn the_smallest_sufficient_come_first_and_each_says_why_it_is_where_it_is() {
    let chosen = choose(&structured(1000), &catalogue(), &Wishes::default());
    assert_eq!(
        names(&chosen),
        ["tiny", "small", "large", "unmeasured", "middle", "unknown"]
    );
    let shortlisted: Vec<bool> = chosen.iter().map(|candidate| candidate.shortlisted).collect();
    assert_eq!(shortlisted, [true, true, true, false, false, false]);
    assert_eq!(of(&chosen, "middle").why, "small is smaller: 60.0 against 55.0 in Form");
    assert!(of(&chosen, "middle").fits && of(&chosen, "unmeasured").why == "no figure for such answers");
    assert_eq!(of(&chosen, "tiny").why, "the smallest with a figure");
    assert_eq!(of(&chosen, "small").why, "60.0 against 30.0 of tiny in Form");
    assert_eq!(of(&chosen, "large").why, "70.0 against 10.0 of small in Other form");
    assert_eq!(of(&chosen, "unknown").why, "its context window is not known");
}

#[test]
fn of_several_figures_the_first_that_compares_decides() {
    let better_elsewhere = "
models:
  - name: maker/middle
    benchmarks: [{ name: other_form, value: 99, source: https://models.example }]
";
    let catalogue = catalogue().with_file("own.yaml", better_elsewhere).unwrap();
    let chosen = choose(&structured(1000), &catalogue, &Wishes::default());
    assert_eq!(of(&chosen, "middle").why, "small is smaller: 60.0 against 55.0 in Form");
    assert_eq!(
        of(&chosen, "large").why,
        "middle is smaller: 99.0 against 70.0 in Other form"
    );
}

#[test]
fn a_figure_that_compares_with_no_smaller_ones_is_none_to_go_by() {
    let mut catalogue = catalogue();
    catalogue.models.retain(|model| model.name != "maker/small");
    let chosen = choose(&structured(1000), &catalogue, &Wishes::default());
    let large = of(&chosen, "large");
    assert!(large.fits && !large.shortlisted);
    assert_eq!(large.why, "no figure that compares with a smaller one's");
}

#[test]
fn a_window_that_is_too_short_is_out_with_both_numbers_and_makes_nothing_needless() {
    let chosen = choose(&structured(5300), &catalogue(), &Wishes::default());
    let tiny = of(&chosen, "tiny");
    assert!(!tiny.fits && !tiny.shortlisted);
    assert_eq!(tiny.why, "context 2,048 < 5,300 needed");
    let needs = Needs {
        tokens: Some(2000),
        tokens_most: Some(9000),
        ..structured(0)
    };
    let chosen = choose(&needs, &catalogue(), &Wishes::default());
    assert!(of(&chosen, "tiny").fits && of(&chosen, "tiny").why.contains("up to 9,000"));
}

#[test]
fn tools_media_licence_and_memory_rule_models_out() {
    let tools = Needs {
        answers: [("tool_call", 0.5), ("structured", 0.5)].into(),
        ..structured(100)
    };
    let chosen = choose(&tools, &catalogue(), &Wishes::default());
    assert_eq!(of(&chosen, "tiny").why, "not made to call tools");
    assert!(of(&chosen, "small").fits && of(&chosen, "small").why == "the smallest with a figure");
    assert!(of(&chosen, "large").fits && of(&chosen, "large").why.contains("not known to call tools"));

    let media = Needs {
        media: 0.2,
        ..structured(100)
    };
    let fitting = choose(&media, &catalogue(), &Wishes::default());
    assert_eq!(names(&fitting[..1]), ["large"]);
    assert!(fitting[0].shortlisted && fitting[0].why == "the smallest with a figure");
    let unmeasured = Needs {
        kind: Some("prose"),
        ..structured(100)
    };
    let chosen = choose(&unmeasured, &catalogue(), &Wishes::default());
    assert!(chosen[0].shortlisted && !chosen[1].shortlisted);
    assert_eq!(chosen[0].why, "the smallest that fits; no figure for such answers");
    assert!(fitting[1..].iter().all(|candidate| !candidate.fits));

    let wishes = Wishes {
        licences: vec!["permissive".into()],
        memory: Some(4 << 30),
        ..Wishes::default()
    };
    let chosen = choose(&structured(100), &catalogue(), &wishes);
    assert_eq!(of(&chosen, "small").why, "licence research");
    assert!(of(&chosen, "tiny").fits);
    assert!(
        of(&chosen, "middle").why.contains("memory 5.59 GiB > 4.00 GiB"),
        "{}",
        of(&chosen, "middle").why
    );
    assert_eq!(of(&chosen, "large").why, "weights alone 14.90 GiB > 4.00 GiB");
    assert!(of(&chosen, "unmeasured").why.contains("its licence is not known"));
    let roomy = Wishes {
        memory: Some(20 << 30),
        ..Wishes::default()
    };
    let chosen = choose(&structured(100), &catalogue(), &roomy);
    assert_eq!(of(&chosen, "large").why, "its memory is not known");
    let named = Wishes {
        licences: vec!["Research".into()],
        ..Wishes::default()
    };
    assert!(of(&choose(&structured(100), &catalogue(), &named), "small").fits);
}

#[test]
fn memory_is_weights_and_the_keys_and_values_of_the_tokens_needed() {
    let shape = Shape {
        layers: 10,
        kv_heads: 2,
        head_dim: 64,
        source: String::new(),
    };
    assert_eq!(shape.cache_bytes(1000, 1), 2 * 10 * 2 * 64 * 2 * 1000);
    assert_eq!(shape.cache_bytes(1000, 4), 4 * shape.cache_bytes(1000, 1));
    assert_eq!(Precision::Sixteen.weights_bytes(100), 200);
    assert_eq!(Precision::Eight.weights_bytes(320), 340);
    assert_eq!(Precision::Four.weights_bytes(320), 180);
    let wishes = Wishes {
        precision: Precision::Four,
        at_once: 2,
        ..Wishes::default()
    };
    let chosen = choose(&structured(1000), &catalogue(), &wishes);
    let tiny = of(&chosen, "tiny");
    assert_eq!(tiny.weights_bytes, Some(56_250_000));
    assert_eq!(tiny.kv_cache_bytes, Some(2 * 5_120_000));
    assert_eq!(tiny.memory_bytes, Some(66_490_000));
    assert_eq!(of(&chosen, "large").memory_bytes, None, "its shape is not known");
    assert_eq!(shape.cache_bytes(u64::MAX, u64::MAX), u64::MAX, "and nothing overflows");
}

#[test]
fn an_operators_file_adds_models_and_replaces_single_figures() {
    let own = "
sources: { ours: measured by us }
models:
  - name: maker/tiny
    context: { value: 4096, source: ours }
    benchmarks: [{ name: form, value: 90, source: ours }]
  - name: house/own
    parameters: { value: 5, source: ours }
";
    let catalogue = catalogue().with_file("own.yaml", own).unwrap();
    let tiny = &catalogue.models[0];
    assert_eq!(tiny.context.as_ref().unwrap().value, 4096);
    assert_eq!(tiny.context.as_ref().unwrap().source, "measured by us");
    assert_eq!(tiny.parameters.as_ref().unwrap().source, "https://models.example/card");
    assert_eq!((tiny.benchmarks.len(), tiny.benchmarks[0].value), (1, 90.0));
    assert_eq!(catalogue.models.last().unwrap().name, "house/own");
    assert!(tiny.is_called("TINY") && tiny.is_called("ollama/tiny-latest") && !tiny.is_called("small"));
}

#[test]
fn a_file_that_makes_no_sense_is_an_error_that_says_what_and_where() {
    let error = |text: &str| {
        let result = catalogue().with_file("own.yaml", text);
        result.expect_err(text).to_string()
    };
    let cases = [
        ("models:\n  - name: a\n    contxt: 1\n", "own.yaml:3: "),
        ("models:\n  - name: a\n    contxt: 1\n", "did you mean `context`?"),
        ("models:\n  - name: a\n    context: 4096\n", "own.yaml:3: "),
        ("models: [{ name: a, context: { value: 4096 } }]", "source"),
        (
            "models: [{ name: a, context: { value: 4096, source: crad } }]",
            "a: the source `crad` is neither",
        ),
        (
            "sources: { card: x }\nmodels: [{ name: a, context: { value: 4096, source: crad } }]",
            "did you mean `card`?",
        ),
        (
            "models: [{ name: a, context: { value: 0, source: https://x } }]",
            "a: context is none",
        ),
        (
            "models: [{ name: a, parameters: { value: -4, source: https://x } }]",
            "own.yaml:1: ",
        ),
        (
            "models: [{ name: a, benchmarks: [{ name: fom, value: 4, source: https://x }] }]",
            "did you mean `form`?",
        ),
        (
            "models: [{ name: a, benchmarks: [{ name: form, value: 140, source: https://x }] }]",
            "in per cent",
        ),
        (
            "models: [{ name: a, benchmarks: [{ name: form, value: .nan, source: https://x }] }]",
            "in per cent",
        ),
        ("models: [{ name: a }, { name: a }]", "`a` is there twice"),
        ("models: [{ name: \"\" }]", "has no name"),
        (
            "benchmarks: [{ name: a, title: A, for: [proze] }]",
            "`proze` is none of",
        ),
        ("model: []", "did you mean `models`?"),
        ("models: [", "own.yaml:"),
    ];
    for (text, expected) in cases {
        let error = error(text);
        assert!(
            error.starts_with("own.yaml") && error.contains(expected),
            "{text}: {error}"
        );
    }
}

#[test]
fn every_figure_of_the_built_in_catalogue_names_a_public_source_and_the_day_it_was_read() {
    let catalogue = Catalogue::builtin();
    assert!(catalogue.models.len() >= 20);
    for model in &catalogue.models {
        let name = &model.name;
        assert!(name.contains('/') && model.checked.is_some(), "{name}");
        let figures = model.benchmarks.iter().map(|figure| &figure.source);
        for source in sources(model).values().chain(figures) {
            assert!(source.starts_with("https://"), "{name}: {source}");
        }
        let parameters = model.parameters.as_ref().unwrap().value;
        assert!(
            (100_000_000..10_000_000_000).contains(&parameters),
            "{name} is not small"
        );
        for spoken in std::iter::once(name).chain(&model.names) {
            let meant = catalogue.models.iter().filter(|other| other.is_called(spoken));
            assert_eq!(meant.count(), 1, "{spoken} means several models");
        }
    }
    let shown = |kind: AnswerKind| {
        catalogue
            .benchmarks
            .iter()
            .any(|benchmark| benchmark.kinds.contains(&kind))
    };
    assert!(
        AnswerKind::ALL.into_iter().all(shown),
        "each kind of answer has a benchmark"
    );
}

/// A kept call that answers so.
fn call(request: &str, answer: &str, tokens: Option<(i64, i64)>) -> CallRecord {
    CallRecord {
        api: "openai_chat".into(),
        path: Some("/v1/chat/completions".into()),
        outcome: Outcome::Ok,
        request_body: Some(request.into()),
        output_text: Some(answer.into()),
        input_tokens: tokens.map(|(input, _)| input),
        output_tokens: tokens.map(|(_, output)| output),
        ..CallRecord::default()
    }
}

const ASKED: &str = r#"{"model": "m", "stream": true, "messages": [{"role": "user", "content": "Where is it, and why?"}],
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]}"#;

#[test]
fn needs_are_read_off_what_the_baseline_answered() {
    let mut gathered = Gathered::default();
    for number in 0..198 {
        gathered.add(&CallRecord {
            cost_usd: (number < 99).then_some(0.002),
            started_at: Some(number * 3_600_000_000),
            ..call(ASKED, r#"{"place": "here"}"#, Some((900 + number, 10)))
        });
    }
    let looked = ToolCall {
        id: None,
        name: "look".into(),
        arguments: "{}".into(),
    };
    gathered.add(&CallRecord {
        tool_calls: vec![looked],
        ..call(ASKED, "", Some((5000, 300)))
    });
    let picture = r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}}"#;
    gathered.add(&call(picture, r#"{"a": 1}"#, Some((100, 1))));
    let failed = CallRecord {
        outcome: Outcome::Timeout,
        ..call(ASKED, "", Some((90_000, 0)))
    };
    gathered.add(&failed);
    let by_candidate = CallRecord {
        upstream: Some("llm".into()),
        arm: Some("slm".into()),
        ..call(ASKED, "", Some((90_000, 0)))
    };
    gathered.add(&by_candidate);

    let needs = gathered.needs();
    assert_eq!((needs.calls, needs.kind), (200, Some("structured")));
    assert_eq!(needs.answers, [("structured", 0.995), ("tool_call", 0.005)].into());
    assert_eq!((needs.tokens, needs.tokens_most), (Some(1106), Some(5300)));
    assert_eq!(needs.tokens_estimated_calls, 0);
    assert_eq!((needs.media, needs.schema, needs.streamed), (0.005, 0.005, 0.995));
    assert_eq!(needs.tools, ["look".to_owned()].into());
    let per_day = needs.calls_per_day.unwrap();
    assert!((per_day - 24.0 * 198.0 / 197.0).abs() < 1e-9, "{per_day}");
    assert!((needs.cost_per_1k.unwrap() - 2.0).abs() < 1e-9);
    assert!((needs.cost_per_month.unwrap() - 0.06 * per_day).abs() < 1e-9);
}

#[test]
fn what_nobody_counted_is_estimated_and_says_so_and_what_is_not_known_is_null() {
    let mut gathered = Gathered::default();
    let request = format!(
        r#"{{"messages": [{{"role": "user", "content": "{}"}}]}}"#,
        "word ".repeat(60)
    );
    gathered.add(&call(
        &request,
        "That is all there is to say about it, and no more.",
        None,
    ));
    let needs = gathered.needs();
    assert_eq!((needs.kind, needs.tokens_estimated_calls), (Some("prose"), 1));
    assert_eq!(needs.tokens, Some(350_u64.div_ceil(3)));
    assert_eq!((needs.calls_per_day, needs.cost_per_month), (None, None));
    // A character that fills three bytes may well be a token.
    let mut gathered = Gathered::default();
    let request = format!(
        r#"{{"messages": [{{"role": "user", "content": "{}"}}]}}"#,
        "猫".repeat(80)
    );
    gathered.add(&call(&request, &"犬".repeat(20), None));
    assert_eq!(gathered.needs().tokens, Some(100));
    let nothing = Gathered::default().needs();
    assert_eq!((nothing.calls, nothing.kind, nothing.tokens), (0, None, None));
    let chosen = choose(&nothing, &catalogue(), &Wishes::default());
    assert!(of(&chosen, "tiny").why.contains("how long calls get is not known"));
}
