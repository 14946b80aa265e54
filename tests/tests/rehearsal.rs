//! The commands of a rehearsal: budgets, what a replay says of scores, and feedback that outranks them.

use serde_json::{Value, json};
use std::process::Output;
use understudy_tests::fixtures::answer_chat;
use understudy_tests::program::Home;
use understudy_tests::strict::say;
use understudy_tests::upstream::Upstream;

/// Made-up calls of three tasks; `mood` is one of labels.
const CALLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/agent-calls.jsonl");

fn run(home: &Home, arguments: &[&str]) -> Output {
    let data = home.data();
    home.run(&[arguments, &["--data", &data.to_string_lossy()]].concat())
}

fn json_of(output: &Output) -> Value {
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}"))
}

/// A home with the fixture's calls and their tasks, and the task of the labels.
fn home() -> (Home, String) {
    let home = Home::new();
    assert!(run(&home, &["import", CALLS]).status.success());
    assert!(run(&home, &["tasks", "fit"]).status.success());
    let assigned = run(&home, &["tasks", "assign", "--format", "jsonl"]);
    let lines = String::from_utf8(assigned.stdout).expect("text");
    let of_mood = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .find(|line| line["id"].as_str().is_some_and(|id| id.starts_with("mood")));
    let task = of_mood.expect("a line")["task"].as_str().expect("a task").to_owned();
    (home, task)
}

fn replay(home: &Home, task: &str, candidate: &Upstream, rest: &[&str]) -> Output {
    let url = candidate.url();
    let base = [
        "replay", "--task", task, "--to", "small", "--url", &url, "--model", "small-1", "--format", "json",
    ];
    run(home, &[&base[..], rest].concat())
}

#[test]
fn a_replay_ends_with_its_budget_goes_on_where_it_ended_and_says_what_it_found() {
    let (home, task) = home();
    let small = Upstream::start(|seen| answer_chat(seen, "small-1", "Positive."));
    let first = replay(&home, &task, &small, &["--max-calls", "5", "--rate", "200"]);
    let words = String::from_utf8_lossy(&first.stderr).into_owned();
    let first = &json_of(&first)[0];
    assert_eq!((first["asked"].as_u64(), small.count()), (Some(5), 5), "{words}");
    assert!(words.contains("--max-calls is reached"), "{words}");
    let second = &json_of(&replay(&home, &task, &small, &[]))[0];
    assert_eq!(
        (second["already"].as_u64(), second["asked"].as_u64()),
        (Some(5), Some(19))
    );
    let scores = &second["scores"][0];
    assert_eq!(
        (scores["kind"].as_str(), scores["valid"].as_u64()),
        (Some("label"), Some(19)),
        "{scores}"
    );
    assert!(scores["accuracy"].is_f64() && !scores["confusion"].as_array().expect("pairs").is_empty());
    let spoken = json_of(&replay(&home, &task, &small, &["--api", "ollama", "--max-calls", "1"]));
    let asked = small.requests().pop().expect("a request");
    assert_eq!((asked.head.path(), spoken[0]["asked"].as_u64()), ("/api/chat", Some(1)));
    for wrong in [["--rate", "0"], ["--max-usd", "-1"], ["--api", "soap"]] {
        assert_eq!(replay(&home, &task, &small, &wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn what_is_known_to_be_right_outranks_agreement() {
    let (home, task) = home();
    let small = Upstream::start(|seen| answer_chat(seen, "small-1", "neutral"));
    assert!(replay(&home, &task, &small, &[]).status.success());
    let verdict = || json_of(&run(&home, &["verdict", "--task", &task, "--format", "json"]))[0].clone();
    let before = verdict();
    assert!(
        before["agreement"].as_f64().is_some_and(|agreement| agreement < 0.9),
        "{before}"
    );
    // All reviews are neutral, whatever the baseline said.
    let lines: Vec<String> = home
        .rows()
        .iter()
        .filter_map(|row| row.external_id.clone())
        .filter(|id| id.starts_with("mood"))
        .map(|id| json!({"id": id, "label": "Neutral"}).to_string())
        .collect();
    let file = home.path().join("truth.jsonl");
    std::fs::write(&file, lines.join("\n")).expect("a writable folder");
    let file = file.to_string_lossy().into_owned();
    let imported = run(&home, &["feedback", "import", &file]);
    let words = String::from_utf8_lossy(&imported.stderr).into_owned();
    assert!(imported.status.success() && words.contains("24 kept"), "{words}");
    let again = run(&home, &["feedback", "import", &file]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("0 kept"));
    let after = verdict();
    assert_eq!(
        (after["agreement"].as_f64(), after["pairs"].as_u64()),
        (Some(1.0), Some(24)),
        "{after}"
    );
    assert!(after["floor"].as_f64().is_some_and(|floor| floor < 0.9), "{after}");
    std::fs::write(
        home.path().join("bad.jsonl"),
        "{\"id\": \"nobody\", \"correct\": true}\n",
    )
    .expect("a writable folder");
    let bad = run(&home, &["feedback", "import", "bad.jsonl"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("bad.jsonl:1: no kept call has the id `nobody`"));
}

#[test]
fn a_judge_is_neither_arm_sees_no_names_and_both_orders_and_is_told_how_far_to_believe() {
    let (home, task) = home();
    let small = Upstream::start(|seen| answer_chat(seen, "small-1", "negative"));
    // It favours the first place, but for answers that are `negative`, which it finds worse.
    let judge = Upstream::start(|seen| {
        let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
        let about = body["messages"][1]["content"].as_str().expect("text");
        let shown: Value = serde_json::from_str(about).expect("JSON");
        let word = if shown["first"] == "negative" {
            "SECOND"
        } else {
            "FIRST"
        };
        answer_chat(seen, "judge-1", &format!("They differ.\n{word}"))
    });
    home.write_config(&format!(
        "default_upstream: llm\nupstreams:\n  llm: {{ url: 'http://127.0.0.1:9' }}\n  third: {{ url: {}, model: judge-1 }}\n",
        judge.url()
    ));
    let config = ["--config", "understudy.yaml", "--judge"];
    let judged = replay(&home, &task, &small, &[&config[..], &["third"]].concat());
    let words = String::from_utf8_lossy(&judged.stderr).into_owned();
    let judged = json_of(&judged)[0]["judged"].clone();
    assert_eq!(judge.count(), 48, "24 answers in both orders");
    for request in judge.requests() {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        assert!(!body.contains("small") && !body.contains("candidate"), "{body}");
    }
    // Answers that are the same: it follows the place. Others: it prefers the recorded one.
    let (ties, losses) = (
        judged["ties"].as_u64().expect("a count"),
        judged["losses"].as_u64().expect("a count"),
    );
    assert_eq!((ties + losses, judged["wins"].as_u64()), (24, Some(0)), "{judged}");
    assert!(ties > 0 && losses > 0 && judged["inconsistent"] == ties, "{judged}");
    assert_eq!(
        (judged["calibration"].as_f64(), judged["unread"].as_u64()),
        (Some(1.0), Some(0)),
        "{judged}"
    );
    assert!(words.contains("judge third: 24 answers"), "{words}");
    for (name, told) in [
        ("llm", "one of the two that are compared"),
        ("nobody", "`nobody` is not among the upstreams"),
    ] {
        let refused = replay(&home, &task, &small, &[&config[..], &[name]].concat());
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            refused.status.code() == Some(2) && words.contains(told),
            "{name}: {words}"
        );
    }
}

#[test]
fn a_judge_is_asked_in_the_api_that_it_speaks() {
    let (home, task) = home();
    let small = Upstream::start(|seen| answer_chat(seen, "small-1", "negative"));
    let judge = Upstream::start(|seen| say(seen, "They are alike.\nTIE", None));
    home.write_config(&format!(
        "default_upstream: llm\nupstreams:\n  llm: {{ url: 'http://127.0.0.1:9' }}\n  \
         third: {{ url: {}, api: bedrock_converse, model: judge-1 }}\n",
        judge.url()
    ));
    let options = ["--config", "understudy.yaml", "--judge", "third", "--max-calls", "30"];
    let judged = json_of(&replay(&home, &task, &small, &options))[0]["judged"].clone();
    let paths = judge.requests().into_iter().map(|seen| seen.head.path().to_owned());
    assert!(paths.into_iter().all(|path| path == "/model/judge-1/converse"));
    assert!(judged["ties"].as_u64() > Some(0), "{judged}");
    assert_eq!(
        (judged["ties"].clone(), judged["wins"].as_u64()),
        (judged["pairs"].clone(), Some(0)),
        "{judged}"
    );
}
