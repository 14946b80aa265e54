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
