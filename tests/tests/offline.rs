//! The commands that work on kept calls: import, tasks, export; data alone on stdout, words on stderr, exit codes.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use understudy_tests::program::Home;

/// 72 made-up calls of three tasks; the task is the first part of the id.
const CALLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/agent-calls.jsonl");

/// Runs a command on the home's data directory.
fn run(home: &Home, arguments: &[&str]) -> Output {
    let data = home.data();
    home.run(&[arguments, &["--data", &data.to_string_lossy()]].concat())
}

/// Runs a command that has to succeed, and gives back its stdout.
fn data_of(home: &Home, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {words}");
    String::from_utf8(output.stdout).expect("data is text")
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("not a line of JSON ({error}): {line}")))
        .collect()
}

/// What the ids of the fixture say of its tasks.
fn truth(id: &str) -> &str {
    id.split('-').next().unwrap_or_default()
}

#[test]
fn imported_calls_fall_into_their_tasks_and_are_exported() {
    let home = Home::new();
    data_of(&home, &["import", CALLS]);
    let rows = home.rows();
    assert_eq!(rows.len(), 72, "rows, of 72 lines");
    assert!(
        rows.iter()
            .all(|row| row.external_id.is_some() && row.boot_id.is_none())
    );
    data_of(&home, &["tasks", "fit"]);

    let tasks: Value = serde_json::from_str(&data_of(&home, &["tasks", "list", "--format", "json"])).expect("JSON");
    assert!(tasks.as_array().is_some_and(|tasks| tasks.len() >= 3), "{tasks}");

    let assigned = lines(&data_of(&home, &["tasks", "assign", "--format", "jsonl"]));
    assert_eq!(assigned.len(), 72, "every call has a line");
    let mut tasks_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut truths_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in &assigned {
        let id = line["id"].as_str().expect("the id of the import");
        let task = line["task"].as_str().unwrap_or_else(|| panic!("{id} has no task"));
        tasks_of.entry(truth(id)).or_default().insert(task);
        truths_of.entry(task).or_default().insert(truth(id));
    }
    assert_eq!(
        tasks_of.keys().copied().collect::<Vec<_>>(),
        ["invoice", "mood", "weather"]
    );
    assert!(
        truths_of.values().all(|truths| truths.len() == 1),
        "tasks that mix: {truths_of:?}"
    );
    assert!(
        tasks_of.values().all(|tasks| tasks.len() == 1),
        "tasks that are torn: {tasks_of:?}"
    );

    let again = lines(&data_of(&home, &["tasks", "assign", "--format", "jsonl"]));
    assert_eq!(assigned, again, "assigning is a function of the call and the book");

    let task = *tasks_of["invoice"].first().expect("a task");
    let folder = home.path().join("set");
    data_of(
        &home,
        &[
            "export",
            "--task",
            task,
            "--format",
            "openai",
            "--out",
            &folder.to_string_lossy(),
        ],
    );
    let mut exported = 0;
    for file in std::fs::read_dir(&folder).expect("the export's folder").flatten() {
        if file.path().extension().is_some_and(|extension| extension == "jsonl") {
            for line in lines(&std::fs::read_to_string(file.path()).expect("text")) {
                let messages = line["messages"].as_array().expect("messages");
                assert_eq!(messages.last().expect("an answer")["role"], "assistant", "{line}");
                assert!(
                    messages[0]["content"].to_string().contains("invoice"),
                    "of another task: {line}"
                );
                exported += 1;
            }
        }
    }
    assert_eq!(exported, 24, "calls of the task, over all parts of the set");
}

/// The tasks of the kept calls by the truth of each.
fn tasks_by_truth(home: &Home) -> BTreeMap<String, BTreeSet<String>> {
    let mut tasks: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in lines(&data_of(home, &["tasks", "assign", "--format", "jsonl"])) {
        let id = line["id"].as_str().expect("the id of the import");
        let task = line["task"].as_str().unwrap_or("-");
        tasks.entry(truth(id).to_owned()).or_default().insert(task.to_owned());
    }
    tasks
}

#[test]
fn an_operators_edits_outlive_a_fit_and_a_dry_run_changes_nothing() {
    let home = Home::new();
    data_of(&home, &["import", CALLS]);
    data_of(&home, &["tasks", "fit"]);
    let found = tasks_by_truth(&home);
    let one = |truth: &str| found[truth].first().expect("a task").clone();
    let (mood, weather) = (one("mood"), one("weather"));
    data_of(&home, &["tasks", "merge", &mood, &weather]);
    data_of(&home, &["tasks", "rename", &weather, "Mood and weather"]);
    data_of(&home, &["tasks", "ignore", &one("invoice")]);
    for _ in 0..2 {
        let edited = tasks_by_truth(&home);
        assert_eq!(edited["mood"], BTreeSet::from([weather.clone()]));
        assert_eq!(edited["weather"], BTreeSet::from([weather.clone()]));
        assert_eq!(edited["invoice"], BTreeSet::from(["-".to_owned()]));
        data_of(&home, &["tasks", "fit", "--seed", "1"]);
    }
    data_of(&home, &["tasks", "ignore", "--off", &one("invoice")]);
    let books = || {
        std::fs::read_dir(home.data().join("taskbooks"))
            .expect("a folder")
            .count()
    };
    let before = books();
    let output = run(&home, &["tasks", "fit", "--dry-run"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && words.contains("72 of the 72 calls that had a task keep it"),
        "{words}"
    );
    assert_eq!(books(), before, "a dry run puts no book");

    let shown: Value = serde_json::from_str(&data_of(
        &home,
        &["tasks", "show", "Mood and weather", "--format", "json"],
    ))
    .expect("JSON");
    assert_eq!(
        (&shown["id"], &shown["kept"]["calls"]),
        (&Value::from(weather), &Value::from(48))
    );
    assert!(
        shown["rim"].as_array().is_some_and(|calls| !calls.is_empty()),
        "{shown}"
    );
    let shares: Value =
        serde_json::from_str(&data_of(&home, &["tasks", "replaceable", "--format", "json"])).expect("JSON");
    assert_eq!(
        (&shares[0]["agent"], &shares[0]["calls"]),
        (&Value::from("all"), &Value::from(72))
    );
    assert_eq!(shares[0]["in_tasks"], 1.0);
}

#[test]
fn a_task_is_split_by_words_of_its_prompt() {
    let home = Home::new();
    data_of(&home, &["import", CALLS]);
    data_of(&home, &["tasks", "fit"]);
    let invoice = tasks_by_truth(&home)["invoice"].first().expect("a task").clone();
    let failed = |phrase: &str| {
        let output = run(&home, &["tasks", "split", &invoice, "--phrase", phrase]);
        assert_eq!(output.status.code(), Some(2), "{phrase}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(failed("too short").contains("three words"));
    assert!(failed("words that no prompt has").contains("none of the 24 kept calls"));
    let first = lines(&std::fs::read_to_string(CALLS).expect("the fixture")).into_iter();
    let invoices: Vec<Value> = first
        .filter(|line| truth(line["id"].as_str().unwrap_or_default()) == "invoice")
        .collect();
    // The last words of one invoice, which others may share.
    let text = invoices[0]["request"]["messages"]
        .as_array()
        .and_then(|messages| messages.last())
        .expect("a message")["content"]
        .as_str()
        .expect("text")
        .to_owned();
    let words: Vec<&str> = text.split_whitespace().take(6).collect();
    let phrase = words.join(" ");
    data_of(
        &home,
        &[
            "tasks",
            "split",
            &invoice,
            "--phrase",
            &phrase,
            "--name",
            "Some invoices",
        ],
    );
    let split = tasks_by_truth(&home)["invoice"].clone();
    let shown: Value =
        serde_json::from_str(&data_of(&home, &["tasks", "show", "Some invoices", "--format", "json"])).expect("JSON");
    assert_eq!(shown["parent"], *invoice);
    assert!(split.contains(shown["id"].as_str().expect("an id")), "{split:?}");
    data_of(&home, &["tasks", "fit"]);
    assert_eq!(tasks_by_truth(&home)["invoice"], split, "a fit keeps the split");
}

#[test]
fn the_same_file_again_adds_nothing() {
    let home = Home::new();
    data_of(&home, &["import", CALLS]);
    let ids = |home: &Home| home.rows().into_iter().map(|row| row.call_id).collect::<BTreeSet<_>>();
    let first = ids(&home);
    data_of(&home, &["import", CALLS]);
    assert_eq!(home.rows().len(), 72);
    assert_eq!(ids(&home), first);
}

#[test]
fn a_broken_line_is_reported_with_file_line_and_reason_and_the_others_are_imported() {
    let home = Home::new();
    let whole = std::fs::read_to_string(CALLS).expect("the fixture");
    let mut all: Vec<&str> = whole.lines().take(5).collect();
    all[2] = "{\"id\": \"broken\", \"request\": ";
    let file = home.path().join("broken.jsonl");
    std::fs::write(&file, all.join("\n")).expect("a writable folder");
    let output = run(&home, &["import", &file.to_string_lossy()]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("broken.jsonl:3"), "stderr does not say where: {words}");
    assert_eq!(home.rows().len(), 4, "the other lines are imported");
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    let home = Home::new();
    let code = |arguments: &[&str]| home.run(arguments).status.code();
    assert_eq!(code(&["no-such-command"]), Some(2));
    assert_eq!(code(&["import"]), Some(2), "import without a file");
    assert_eq!(code(&["serve"]), Some(2), "serve without upstream or config");
    let missing = run(&home, &["import", "no-such-file.jsonl"]);
    assert!(matches!(missing.status.code(), Some(1 | 2)), "{missing:?}");
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-file.jsonl"));
}

#[test]
fn an_operators_prices_are_used_and_a_bad_price_is_named() {
    let home = Home::new();
    let call = |id: &str, model: &str| {
        let message = serde_json::json!({"role": "assistant", "content": "well"});
        serde_json::json!({"id": id, "request": {"model": model, "messages": [{"role": "user", "content": "hi"}]},
            "response": {"model": model, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}}}})
    };
    let file = home.path().join("calls.jsonl");
    let calls = [
        call("ours", "in-house-1"),
        call("listed", "gpt-4o"),
        call("nobody's", "in-house-2"),
    ];
    std::fs::write(&file, calls.map(|call| format!("{call}\n")).concat()).expect("the folder is writable");
    home.write_config("upstreams: { it: { url: http://127.0.0.1:9 } }\nprices: prices.json\n");
    let prices = home.path().join("prices.json");
    let import = || home.run(&["import", "calls.jsonl", "--config", "understudy.yaml", "--data", "data"]);

    std::fs::write(
        &prices,
        r#"{"models": [{"model": "in-house-1", "input": 1e-6, "output": true}]}"#,
    )
    .expect("writable");
    let refused = import();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{words}");
    assert!(
        words.contains("prices.json: model `in-house-1`, field `output`: it is true"),
        "{words}"
    );

    let row = r#"{"models": [{"model": "in-house-1", "input": 1e-6, "cache_read": 5e-7, "output": 2e-6}]}"#;
    std::fs::write(&prices, row).expect("writable");
    let done = import();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let rows = home.rows();
    let cost = |id: &str| {
        rows.iter()
            .find(|row| row.external_id.as_deref() == Some(id))
            .expect("a row")
            .cost_usd
    };
    let near = |cost: Option<f64>, expected: f64| cost.is_some_and(|cost| (cost - expected).abs() < 1e-12);
    assert!(
        near(cost("ours"), 600.0 * 1e-6 + 400.0 * 5e-7 + 100.0 * 2e-6),
        "{:?}",
        cost("ours")
    );
    assert!(
        near(cost("listed"), 600.0 * 2.5e-6 + 400.0 * 1.25e-6 + 100.0 * 1e-5),
        "{:?}",
        cost("listed")
    );
    assert_eq!(cost("nobody's"), None, "an unknown price is no price, not 0");
}
