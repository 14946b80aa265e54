//! `candidates`: what tasks ask for, read off kept calls, and which small models of the catalogue can do that.

use serde_json::Value;
use std::path::PathBuf;
use std::process::Output;
use understudy_tests::program::Home;

/// 72 made-up calls of three tasks; the task is the first part of the id.
const CALLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/agent-calls.jsonl");
/// Lines taken of a trace.
const LINES: usize = 240;

fn run(home: &Home, arguments: &[&str]) -> Output {
    let data = home.data();
    home.run(&[arguments, &["--data", &data.to_string_lossy()]].concat())
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The stdout of a command that has to succeed.
fn data_of(home: &Home, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", words(&output));
    String::from_utf8(output.stdout).expect("data is text")
}

/// What `candidates --format json` says, with these flags.
fn choices(home: &Home, flags: &[&str]) -> Vec<Value> {
    let text = data_of(home, &[&["candidates", "--format", "json"], flags].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("not a list ({error}): {text}"))
}

fn with_tasks() -> Home {
    let home = Home::new();
    data_of(&home, &["import", CALLS]);
    data_of(&home, &["tasks", "fit"]);
    home
}

fn candidates(choice: &Value) -> &[Value] {
    choice["candidates"].as_array().expect("a list of candidates")
}

fn of<'a>(choice: &'a Value, model: &str) -> &'a Value {
    let found = candidates(choice).iter().find(|candidate| candidate["model"] == model);
    found.unwrap_or_else(|| panic!("{model} is missing"))
}

#[test]
fn each_task_gets_the_models_that_can_do_what_its_calls_ask_for() {
    let home = with_tasks();
    let all = choices(&home, &[]);
    assert_eq!(all.len(), 3);
    let kinds: Vec<&str> = all
        .iter()
        .filter_map(|choice| choice["needs"]["kind"].as_str())
        .collect();
    for kind in ["structured", "tool_call", "label"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    for choice in &all {
        assert_eq!(choice["needs"]["calls"], 24);
        let tokens = choice["needs"]["tokens"].as_u64().expect("a number of tokens");
        let ranked: Vec<(bool, bool)> = candidates(choice)
            .iter()
            .map(|candidate| {
                (
                    !candidate["shortlisted"].as_bool().unwrap(),
                    !candidate["fits"].as_bool().unwrap(),
                )
            })
            .collect();
        assert!(ranked.is_sorted() && ranked.contains(&(false, false)), "{ranked:?}");
        for candidate in candidates(choice) {
            let fits = candidate["fits"] == true;
            assert!(!fits || candidate["context"].as_u64().unwrap() >= tokens, "{candidate}");
            assert!(fits || !candidate["why"].as_str().unwrap().is_empty(), "{candidate}");
            for figure in candidate["benchmarks"].as_array().unwrap() {
                assert!(figure["source"].as_str().unwrap().starts_with("https://"), "{figure}");
            }
        }
    }
    let weather = all
        .iter()
        .find(|choice| choice["needs"]["kind"] == "tool_call")
        .unwrap();
    let tiny = of(weather, "HuggingFaceTB/SmolLM2-135M-Instruct");
    assert!(
        tiny["fits"] == false && tiny["why"] == "not made to call tools",
        "{tiny}"
    );

    let task = weather["task"].as_str().unwrap();
    let output = run(&home, &["candidates", task]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        shown.contains("Rehearse first") && shown.contains("not made to call tools"),
        "{shown}"
    );
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let said = words(&output);
    assert!(
        said.contains("not a verdict") && said.contains("upstreams:") && said.contains(&format!("--task {task} --to ")),
        "{said}"
    );
}

#[test]
fn licence_and_memory_narrow_the_choice_and_a_file_of_ones_own_widens_it() {
    let home = with_tasks();
    let narrow = choices(&home, &["--licence", "permissive", "--memory", "2GiB"]);
    let fitting = candidates(&narrow[0])
        .iter()
        .filter(|candidate| candidate["fits"] == true);
    for candidate in fitting.clone() {
        assert!(candidate["memory_bytes"].as_u64().unwrap() <= 2 << 30, "{candidate}");
        assert!(
            ["apache-2.0", "mit"].contains(&candidate["licence"].as_str().unwrap()),
            "{candidate}"
        );
    }
    assert!(fitting.count() > 0);
    let finer = choices(&home, &["--licence", "permissive", "--memory", "2GiB", "--bits", "4"]);
    let count = |all: &[Value]| {
        candidates(&all[0])
            .iter()
            .filter(|candidate| candidate["fits"] == true)
            .count()
    };
    assert!(count(&finer) > count(&narrow));

    let file = home.path().join("own.yaml");
    let own = "sources: { ours: measured by us }\nmodels:\n  - name: house/own-0.3b\n    parameters: { value: 1000, source: ours }\n    context: { value: 8192, source: ours }\n";
    std::fs::write(&file, own).unwrap();
    let file = file.to_string_lossy().into_owned();
    let wide = choices(&home, &["--catalogue", &file]);
    assert_eq!(of(&wide[0], "house/own-0.3b")["sources"]["context"], "measured by us");

    std::fs::write(&file, own.replace("context:", "contxt:")).unwrap();
    let output = run(&home, &["candidates", "--catalogue", &file]);
    assert_eq!(output.status.code(), Some(2));
    let said = words(&output);
    assert!(
        said.contains("own.yaml:5: ") && said.contains("did you mean `context`?"),
        "{said}"
    );
    for wrong in [
        &["candidates", "--memory", "much"][..],
        &["candidates", "--bits", "3"],
        &["candidates", "--at-once", "0"],
        &["candidates", "no-such-task"],
    ] {
        let output = run(&home, wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", words(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_upstream_that_serves_a_model_stands_beside_it() {
    let home = with_tasks();
    home.write_config(&format!(
        "data: {}\ndefault_upstream: llm\nupstreams:\n  llm: {{ url: http://127.0.0.1:9 }}\n  \
         small: {{ url: http://127.0.0.1:9, model: \"qwen3:0.6b\" }}\n  odd: {{ url: http://127.0.0.1:9, model: house-special }}\n",
        home.data().display()
    ));
    let config = home.config().to_string_lossy().into_owned();
    let output = home.run(&["candidates", "--config", &config, "--format", "json"]);
    let said = words(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let upstream = &of(&all[0], "Qwen/Qwen3-0.6B")["upstreams"][0];
    assert_eq!(upstream["upstream"], "small");
    assert!(upstream["verdict"].is_null(), "nothing is rehearsed yet: {upstream}");
    assert!(said.contains("the models of the upstreams odd "), "{said}");
}

#[test]
fn where_there_is_nothing_to_read_it_says_so() {
    let home = Home::new();
    let output = run(&home, &["candidates"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains("there is no data in"), "{}", words(&output));
    std::fs::create_dir_all(home.data()).unwrap();
    let output = run(&home, &["candidates"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(words(&output).contains("no call is stored yet"), "{}", words(&output));
    data_of(&home, &["import", CALLS]);
    let output = run(&home, &["candidates"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains("understudy tasks fit"), "{}", words(&output));
}

#[test]
fn calls_of_a_real_agent_rule_out_what_is_too_short_for_them() {
    let trace = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/traces/tau_airline.jsonl.zst"
    ));
    let Ok(packed) = std::fs::read(&trace) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "the trace is missing: {}",
            trace.display()
        );
        eprintln!("SKIPPED: no trace at {}", trace.display());
        return;
    };
    let mut decoder = zstd::Decoder::new(packed.as_slice()).expect("a zstd file");
    decoder.window_log_max(27).expect("a window");
    let text = std::io::read_to_string(decoder).expect("text");
    let lines: Vec<&str> = text.lines().take(LINES).collect();
    let home = Home::new();
    let file = home.path().join("trace.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    data_of(&home, &["import", &file.to_string_lossy()]);
    data_of(&home, &["tasks", "fit"]);
    let all = choices(&home, &[]);
    let largest = all
        .iter()
        .max_by_key(|choice| choice["needs"]["calls"].as_u64())
        .expect("a task");
    let needs = &largest["needs"];
    assert!(needs["tools"].as_array().unwrap().len() > 10, "{needs}");
    assert!(needs["answers"]["tool_call"].as_f64().unwrap() > 0.1, "{needs}");
    assert_eq!(
        needs["tokens_estimated_calls"], needs["calls"],
        "this trace counts no tokens"
    );
    let short = of(largest, "TinyLlama/TinyLlama-1.1B-Chat-v1.0");
    let why = short["why"].as_str().unwrap();
    assert!(short["fits"] == false && why.contains("context 2,048 < "), "{short}");
    assert!(candidates(largest)[0]["shortlisted"] == true, "{largest}");
}
