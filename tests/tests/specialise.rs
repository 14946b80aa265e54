//! Data sets and trainings: what lies on which side, the card, a run of somebody's trainer, and that no model is rehearsed on
//! what it learnt.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Output;
use understudy_tests::fixtures::answer_chat;
use understudy_tests::program::Home;
use understudy_tests::sha256;
use understudy_tests::upstream::{Seen, Upstream};

/// Calls of one task: `count` questions, each asked by `times` conversations.
fn calls(count: usize, times: usize) -> String {
    let call = |number: usize| {
        let text = format!("Which way does the lift number {} go today?", number % count);
        let answer = if (number % count).is_multiple_of(3) {
            "down"
        } else {
            "up"
        };
        let message = json!({"role": "assistant", "content": answer});
        json!({"id": format!("lift-{number}"), "request": {"model": "big", "messages": [
                {"role": "system", "content": "Say which way a lift goes. Answer with the one word up or down."},
                {"role": "user", "content": text}]},
            "response": {"model": "big-1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 30, "completion_tokens": 1}}})
    };
    (0..count * times).map(|number| format!("{}\n", call(number))).collect()
}

fn run(home: &Home, arguments: &[&str]) -> Output {
    let data = home.data();
    home.run(&[arguments, &["--data", &data.to_string_lossy()]].concat())
}

/// Runs a command that has to succeed: what it wrote to stdout and to stderr.
fn done(home: &Home, arguments: &[&str]) -> (String, String) {
    let output = run(home, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (data, words) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {words}");
    (data, words)
}

/// A home with these calls imported, and their one task.
fn home(calls: &str) -> (Home, String) {
    let home = Home::new();
    std::fs::write(home.path().join("calls.jsonl"), calls).expect("a writable folder");
    done(&home, &["import", "calls.jsonl"]);
    let (tasks, _) = done(&home, &["tasks", "fit", "--format", "json"]);
    let tasks: Value = serde_json::from_str(&tasks).expect("JSON");
    (home, tasks[0]["id"].as_str().expect("a task").to_owned())
}

fn json_of(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

/// The prompts of each part.
fn prompts(folder: &Path) -> BTreeMap<&'static str, BTreeSet<String>> {
    ["train", "validation", "test"]
        .map(|part| {
            let all = lines(&folder.join(format!("{part}.jsonl")));
            (part, all.iter().map(|line| line["messages"][1].to_string()).collect())
        })
        .into()
}

#[test]
fn a_data_set_has_three_sides_that_share_no_prompt_and_a_card_that_tells_all() {
    let (home, task) = home(&calls(200, 2));
    let out = home.path().join("set");
    let export = |out: &Path, more: &[&str]| {
        let folder = out.to_string_lossy().into_owned();
        let base = ["export", "--task", &task, "--out", &folder];
        done(&home, &[&base[..], more].concat());
    };
    let shares = ["--test-share", "0.2", "--validation-share", "0.2"];
    export(&out, &shares);
    let first = prompts(&out);
    let all: usize = first.values().map(BTreeSet::len).sum();
    let union: BTreeSet<&String> = first.values().flatten().collect();
    assert_eq!((all, union.len()), (200, 200), "each question once, on one side");
    assert!(first.values().all(|side| side.len() >= 15), "{first:?}");

    let card = json_of(&out.join("card.json"));
    assert_eq!((&card["task"], &card["calls"]), (&json!(task), &json!(400)), "{card}");
    assert_eq!(card["left_out"], json!({"duplicate": 200}), "{card}");
    assert_eq!(card["models"], json!({"big-1": 200}), "{card}");
    for part in ["train", "validation", "test"] {
        let name = format!("{part}.jsonl");
        let bytes = std::fs::read(out.join(&name)).expect("a file");
        let told = &card["files"][&name];
        assert_eq!(
            (&told["sha256"], &told["examples"]),
            (&json!(sha256(&bytes)), &json!(first[part].len())),
            "{card}"
        );
    }
    let readme = std::fs::read_to_string(out.join("README.md")).expect("a card");
    for words in [
        "split: validation",
        "duplicate: 200",
        "provider's terms",
        "Masking by the present config: ",
    ] {
        assert!(readme.contains(words), "no {words:?} in {readme}");
    }

    // The same again is the same; somebody's README.md stays.
    std::fs::write(out.join("README.md"), "mine\n").expect("a writable folder");
    export(&out, &shares);
    assert_eq!(json_of(&out.join("card.json"))["digest"], card["digest"]);
    assert_eq!(
        std::fs::read_to_string(out.join("README.md")).expect("a file"),
        "mine\n"
    );

    // What is no side any more is not left behind: its examples are on another one now.
    export(&out, &["--test-share", "0.2"]);
    assert!(!out.join("validation.jsonl").exists());
    std::fs::write(out.join("card.json"), r#"{"made_by": "somebody"}"#).expect("a writable folder");
    let folder = out.to_string_lossy().into_owned();
    let refused = run(&home, &["export", "--task", &task, "--out", &folder]);
    assert_eq!(refused.status.code(), Some(2), "a card of somebody else's stays");

    // What was held out is held out when there is more.
    std::fs::write(home.path().join("more.jsonl"), calls(500, 1).replace("lift-", "more-")).expect("a writable folder");
    done(&home, &["import", "more.jsonl"]);
    let larger = home.path().join("larger");
    export(&larger, &shares);
    let grown = prompts(&larger);
    assert!(
        first.iter().all(|(part, side)| side.is_subset(&grown[part])),
        "growth moves none"
    );
    assert!(grown.values().map(BTreeSet::len).sum::<usize>() > all);

    let small = home.path().join("small");
    export(&small, &["--as", "prompt-completion", "--limit", "20", "--balance"]);
    let train = lines(&small.join("train.jsonl"));
    assert!(!small.join("validation.jsonl").exists() && !train.is_empty());
    assert_eq!(train.len() + lines(&small.join("test.jsonl")).len(), 20);
    for line in train {
        assert!(line["prompt"][1]["content"].is_string(), "{line}");
        assert_eq!(line["completion"][0]["role"], "assistant", "{line}");
    }
    for wrong in [
        ["--test-share", "1.1"],
        ["--validation-share", "-1"],
        ["--validation-share", "0.95"],
    ] {
        let asked = [&["export", "--task", &task, "--out", "never"][..], &wrong].concat();
        assert_eq!(run(&home, &asked).status.code(), Some(2), "{wrong:?}");
    }
}

/// A trainer that says what it does, learns every line by heart, and notes how often it ran.
const TRAINER: &str = r#"#!/bin/sh
set -e
echo "reading $1"
grep -q '"method": "lora"' "$1"
printf 'step 1\rstep 2\n' >&2
cat "$2/train.jsonl" > "$3/adapters"
mkdir -p "$3/steps"
ln -sfn nowhere "$3/latest"
ln -sfn .. "$3/steps/up"
echo run >> runs
[ ! -e broken ] || { echo "CUDA out of memory" >&2; exit 7; }
"#;

/// A home with a trainer in it, and the command that runs it.
fn with_trainer(home: &Home) -> &'static str {
    std::fs::write(home.path().join("train.sh"), TRAINER).expect("a writable folder");
    "sh train.sh {recipe} {data} {out}"
}

fn specialise<'a>(task: &'a str, trainer: &'a str) -> Vec<&'a str> {
    let base = ["specialise", task, "--base", "hub/small", "--format", "json"];
    [&base[..], &["--trainer", trainer]].concat()
}

fn runs(home: &Home) -> usize {
    let ran = std::fs::read_to_string(home.path().join("runs")).unwrap_or_default();
    ran.lines().count()
}

#[test]
fn a_training_is_told_recorded_and_done_once() {
    let (home, task) = home(&calls(60, 1));
    let trainer = with_trainer(&home);
    let (told, words) = done(&home, &specialise(&task, trainer));
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        (&told["state"], &told["task"]),
        (&json!("trained"), &json!(task)),
        "{told}"
    );
    assert!(
        words.contains("reading /") && words.contains("step 1\rstep 2"),
        "{words}"
    );
    let folder = Path::new(told["folder"].as_str().expect("a folder")).to_owned();
    let model = told["model"].as_str().expect("a name");
    assert!(model.starts_with(&task) && folder.ends_with(model), "{told}");

    let manifest = json_of(&folder.join("manifest.json"));
    let learnt = std::fs::read(folder.join("out/adapters")).expect("what the trainer left");
    assert_eq!(
        manifest["artefacts"]["adapters"]["sha256"],
        json!(sha256(&learnt)),
        "{manifest}"
    );
    assert_eq!(
        manifest["artefacts"].as_object().map(|files| files.len()),
        Some(1),
        "links are none"
    );
    assert_eq!(
        (&manifest["trainer"], &manifest["exit_code"]),
        (&json!(trainer), &json!(0))
    );
    assert!(manifest["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    let card = json_of(&folder.join("data/card.json"));
    assert_eq!(manifest["recipe"], json_of(&folder.join("recipe.json")));
    assert_eq!(manifest["recipe"]["data_digest"], card["digest"]);
    assert!(
        std::fs::read_to_string(folder.join("train.log"))
            .expect("a log")
            .contains("reading")
    );
    let config = told["config"].as_str().expect("a snippet");
    home.write_config(&format!("{config}default_upstream: {model}\n"));
    assert_eq!(
        home.run(&["check", "understudy.yaml"]).status.code(),
        Some(0),
        "{config}"
    );

    // The same again trains nothing.
    let (again, words) = done(&home, &specialise(&task, trainer));
    let again: Value = serde_json::from_str(&again).expect("JSON");
    assert_eq!(
        (&again["state"], &again["manifest"]),
        (&json!("already_trained"), &manifest),
        "{words}"
    );
    assert_eq!(runs(&home), 1);
    // Another recipe is another model; so are other data.
    let other = [&specialise(&task, trainer)[..], &["--rank", "4"]].concat();
    let (other, _) = done(&home, &other);
    assert!(!other.contains(&format!("{model}\"")), "{other}");
    assert_eq!(runs(&home), 2);
    // One name is one model.
    let taken = [&specialise(&task, trainer)[..], &["--rank", "8", "--model", model]].concat();
    let refused = run(&home, &taken);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(2) && words.contains("say another --model"),
        "{words}"
    );
    let drafts = std::fs::read_dir(home.path().join("understudy-models"))
        .expect("a folder")
        .flatten();
    let drafts = drafts.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(drafts.count(), 0, "drafts are left");
    let text = [&specialise(&task, trainer)[..4], &["--trainer", trainer]].concat();
    let (text, _) = done(&home, &text);
    assert!(
        text.contains("trained already") && text.contains("understudy replay --config"),
        "{text}"
    );
}

#[test]
fn a_trainer_that_fails_is_told_and_goes_on_in_its_folder() {
    let (home, task) = home(&calls(60, 1));
    let trainer = with_trainer(&home);
    std::fs::write(home.path().join("broken"), "").expect("a writable folder");
    let failed = run(&home, &specialise(&task, trainer));
    let words = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(1), "{words}");
    assert!(
        words.contains("exit code 7") && words.trim_end().ends_with("CUDA out of memory"),
        "{words}"
    );
    std::fs::remove_file(home.path().join("broken")).expect("it is there");
    let (told, _) = done(&home, &specialise(&task, trainer));
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["state"], runs(&home)), (&json!("trained"), 2));

    let nothing = [&specialise(&task, ": {data} {out}")[..], &["--epochs", "1"]].concat();
    let words = String::from_utf8_lossy(&run(&home, &nothing).stderr).into_owned();
    assert!(words.contains("left nothing"), "{words}");
    // Data that is not what it was is not trained on.
    let by_hand = ["specialise", &task, "--base", "hub/tiny"];
    let (told, _) = done(&home, &by_hand);
    assert!(
        told.contains("nobody trained yet") && told.contains("trl sft --model_name_or_path 'hub/tiny'"),
        "{told}"
    );
    assert!(
        told.lines()
            .all(|line| line.len() <= 80 || line.contains("/data'") || line.contains("/out'")),
        "{told}"
    );
    for entry in std::fs::read_dir(home.path().join("understudy-models"))
        .expect("a folder")
        .flatten()
    {
        let train = entry.path().join("data/train.jsonl");
        std::fs::write(&train, "{}\n").expect("a writable file");
    }
    let changed = run(&home, &by_hand);
    let words = String::from_utf8_lossy(&changed.stderr).into_owned();
    assert!(
        changed.status.code() == Some(1) && words.contains("is not as it was written"),
        "{words}"
    );
    for (wrong, told) in [
        (vec!["--trainer", "train {data}"], "needs `{out}`"),
        (
            vec!["--test-share", "1", "--validation-share", "0"],
            "none is an example to train on",
        ),
        (vec!["--learning-rate", "0"], "not a number above 0"),
    ] {
        let refused = run(&home, &[&by_hand[..], &wrong].concat());
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            refused.status.code() == Some(2) && words.contains(told),
            "{wrong:?}: {words}"
        );
    }
}

#[test]
fn a_name_that_no_folder_can_have_is_refused_before_anything_is_kept_of_it() {
    let (home, task) = home(&calls(40, 1));
    for name in ["", "...", "модель"] {
        let refused = run(&home, &["specialise", &task, "--base", "hub/small", "--model", name]);
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            refused.status.code() == Some(2) && words.contains("--model `"),
            "{words}"
        );
    }
    assert!(
        !home
            .files()
            .iter()
            .any(|(path, _)| path.to_string_lossy().contains("specialised"))
    );
    let odd = [
        "specialise",
        &task,
        "--base",
        "hub/small",
        "--model",
        "a: b",
        "--format",
        "json",
    ];
    let told: Value = serde_json::from_str(&done(&home, &odd).0).expect("JSON");
    let config = told["config"].as_str().expect("a snippet");
    assert!(
        config.contains("  a--b:\n") && config.contains("model: \"a: b\"\n"),
        "{config}"
    );
}

#[test]
fn the_trainer_may_stand_in_the_config() {
    let (home, task) = home(&calls(40, 1));
    let trainer = with_trainer(&home);
    home.write_config(&format!(
        "upstreams: {{ llm: {{ url: 'http://127.0.0.1:9' }} }}\nspecialise: {{ trainer: '{trainer}' }}\n"
    ));
    let asked = [
        "specialise",
        &task,
        "--base",
        "hub/small",
        "--format",
        "json",
        "--config",
        "understudy.yaml",
    ];
    let (told, _) = done(&home, &asked);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["state"], runs(&home)), (&json!("trained"), 1), "{told}");
}

/// A model that knows by heart what it was trained on, and nothing else.
fn parrot(trained_on: BTreeSet<String>) -> Upstream {
    Upstream::start(move |seen: &Seen| {
        let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
        let asked = body["messages"][1].to_string();
        let number: usize = asked.split(' ').find_map(|word| word.parse().ok()).expect("a number");
        let right = if number.is_multiple_of(3) { "down" } else { "up" };
        let wrong = if number.is_multiple_of(3) { "up" } else { "down" };
        answer_chat(
            seen,
            "parrot-1",
            if trained_on.contains(&asked) { right } else { wrong },
        )
    })
}

#[test]
fn a_model_that_only_knows_what_it_was_trained_on_is_never_told_to_be_ready() {
    let (home, task) = home(&calls(200, 2));
    let shares = ["--test-share", "0.05", "--validation-share", "0.1"];
    done(
        &home,
        &[&["export", "--task", &task, "--out", "set"][..], &shares].concat(),
    );
    let sides = prompts(&home.path().join("set"));
    let seen: BTreeSet<String> = sides["train"].union(&sides["validation"]).cloned().collect();
    let held_out = 2 * sides["test"].len();
    assert!((4..60).contains(&held_out), "{held_out} of 400 calls");
    home.write_config(
        "upstreams: { llm: { url: 'http://127.0.0.1:9' } }\nverdict: { margin: 0.15, min_pairs: 100, min_conversations: 50 }\n",
    );
    let replay = |upstream: &Upstream, name: &str, model: &str| {
        let url = upstream.url();
        let rest = [
            "--to",
            name,
            "--url",
            &url,
            "--model",
            model,
            "--config",
            "understudy.yaml",
        ];
        done(&home, &[&["replay", "--task", &task][..], &rest].concat()).1
    };
    let verdict = |name: &str| {
        let asked = [
            "verdict",
            "--task",
            &task,
            "--config",
            "understudy.yaml",
            "--format",
            "json",
        ];
        let all: Value = serde_json::from_str(&done(&home, &asked).0).expect("JSON");
        let mut all = all.as_array().expect("a list").iter();
        all.find(|verdict| verdict["candidate"] == name)
            .expect("a verdict")
            .clone()
    };
    // Nobody has told yet what it was trained on: it looks ready, by calls that it knows.
    let first = parrot(seen.clone());
    replay(&first, "pupil", "parrot");
    let before = verdict("pupil");
    assert_eq!(
        (&before["verdict"], &before["pairs"]),
        (&json!("promote"), &json!(400)),
        "{before}"
    );
    assert_eq!((first.count(), &before["trained_on"]), (400, &json!(0)));

    let trained = ["specialise", &task, "--base", "hub/small", "--model", "parrot"];
    done(&home, &[&trained[..], &shares].concat());
    let after = verdict("pupil");
    assert_eq!(
        (&after["pairs"], &after["trained_on"], after["agreement"].as_f64()),
        (&json!(held_out), &json!(400 - held_out), Some(0.0)),
        "{after}"
    );
    assert_ne!(after["verdict"], "promote");
    // From now on it is not even asked what it knows, whatever its upstream is called.
    let second = parrot(seen.clone());
    let words = replay(&second, "someone", "parrot");
    assert!(
        words.contains(&format!("{} calls are left out", 400 - held_out)),
        "{words}"
    );
    assert_eq!(second.count(), held_out);
    assert_eq!(verdict("someone")["agreement"].as_f64(), Some(0.0));
    // Nor is a model that was made from it. Another model is asked all.
    let child = [
        "specialise",
        &task,
        "--base",
        "parrot",
        "--model",
        "grandchild",
        "--limit",
        "20",
    ];
    done(&home, &[&child[..], &shares].concat());
    let third = parrot(seen.clone());
    replay(&third, "third", "grandchild");
    assert_eq!(third.count(), held_out);
    let fourth = parrot(seen);
    replay(&fourth, "fourth", "untrained");
    assert_eq!(fourth.count(), 400);
    // Data exported for a model is known to be learnt by it.
    done(
        &home,
        &[
            &["export", "--task", &task, "--out", "mine", "--for", "handmade"][..],
            &shares,
        ]
        .concat(),
    );
    let fifth = parrot(BTreeSet::new());
    replay(&fifth, "fifth", "handmade");
    assert_eq!(fifth.count(), held_out);
    // Nor does it help that the calls are of another task now.
    done(
        &home,
        &["tasks", "split", &task, "--phrase", "Which way does the lift number"],
    );
    let moved = verdict("pupil");
    assert_eq!(moved["trained_on"], json!(400 - held_out), "{moved}");
    assert_ne!(moved["verdict"], "promote");
}

/// The first calls of recorded agents; none where the recordings are missing, which is said.
fn traces(name: &str, most: usize) -> Option<String> {
    let path = format!("{}/../../shared/traces/{name}.jsonl.zst", env!("CARGO_MANIFEST_DIR"));
    let Ok(file) = File::open(&path) else {
        assert!(std::env::var_os("CI").is_none(), "no traces at {path}");
        eprintln!("SKIPPED: no traces at {path}");
        return None;
    };
    let mut decoder = zstd::Decoder::new(file).expect("zstd");
    decoder.window_log_max(27).expect("a window");
    let lines = BufReader::new(decoder).lines().take(most);
    Some(lines.map(|line| line.expect("text") + "\n").collect())
}

#[test]
fn conversations_of_recorded_agents_are_divided_by_nobody_and_train_a_model() {
    let Some(calls) = traces("tau_airline", 250) else {
        return;
    };
    let home = Home::new();
    std::fs::write(home.path().join("calls.jsonl"), calls).expect("a writable folder");
    done(&home, &["import", "calls.jsonl"]);
    let (tasks, _) = done(&home, &["tasks", "fit", "--format", "json"]);
    let tasks: Value = serde_json::from_str(&tasks).expect("JSON");
    let of_calls = |task: &&Value| task["calls"].as_u64();
    let tasks = tasks.as_array().expect("a list").iter();
    let task = tasks.max_by_key(of_calls).expect("a task")["id"]
        .as_str()
        .expect("an id");
    let trainer = with_trainer(&home);
    let asked = [&specialise(task, trainer)[..], &["--test-share", "0.3", "--balance"]].concat();
    let (told, _) = done(&home, &asked);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["state"], runs(&home)), (&json!("trained"), 1), "{told}");
    let folder = Path::new(told["folder"].as_str().expect("a folder")).join("data");

    // Which call lies where, as the store was told for erasures.
    let files = home.files();
    let (_, record) = files
        .iter()
        .find(|(path, _)| path.parent().is_some_and(|folder| folder.ends_with("exports")))
        .expect("a record of the export");
    let record: Value = serde_json::from_slice(record).expect("JSON");
    let rows = home.rows();
    let conversation = |id: &Value| {
        let row = rows
            .iter()
            .find(|row| *id == row.call_id.as_str())
            .expect("a kept call");
        row.conversation_id.clone()
    };
    let (mut conversations, mut prompts) = (BTreeMap::new(), BTreeMap::new());
    let mut examples = 0;
    for part in ["train", "validation", "test"] {
        let name = format!("{part}.jsonl");
        let calls = record["files"][&name]["calls"].as_array().expect("calls");
        let lines = lines(&folder.join(&name));
        assert_eq!(
            (lines.len(), &told["examples"][&name]),
            (calls.len(), &json!(calls.len()))
        );
        for (call, line) in calls.iter().zip(&lines) {
            let side = conversations.entry(conversation(call)).or_insert(part);
            assert_eq!(*side, part, "a conversation on two sides");
            let messages = line["messages"].as_array().expect("messages");
            let (answer, prompt) = messages.split_last().expect("an answer");
            assert_eq!(answer["role"], "assistant", "{line}");
            let side = prompts.entry(json!(prompt).to_string()).or_insert(part);
            assert_eq!(*side, part, "a prompt on two sides");
            examples += 1;
        }
    }
    let sides: BTreeSet<&str> = conversations.values().copied().collect();
    assert!(
        examples >= 50 && sides.contains("test") && sides.contains("train"),
        "{examples}: {sides:?}"
    );
}

#[test]
fn a_cycle_does_what_is_due_once_and_says_what_is_left_to_a_person() {
    let (home, task) = home(&calls(100, 2));
    let trainer = with_trainer(&home);
    let config = |candidates: &str| {
        home.write_config(&format!(
            "default_upstream: llm\nupstreams:\n  llm: {{ url: 'http://127.0.0.1:9' }}\n{candidates}\
             verdict: {{ margin: 0.15, min_pairs: 60, min_conversations: 20 }}\nspecialise: {{ trainer: '{trainer}' }}\n"
        ));
    };
    let cycle = |more: &[&str]| {
        let asked = ["cycle", "--config", "understudy.yaml", "--format", "json"];
        let output = run(&home, &[&asked[..], more].concat());
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let pass: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}"));
        (
            output.status.code(),
            pass["steps"].as_array().expect("steps").clone(),
            pass,
        )
    };
    config("");
    let (code, steps, _) = cycle(&[]);
    assert_eq!((code, steps.len()), (Some(0), 1));
    assert!(steps[0]["why"].to_string().contains("no model was tried") && steps[0]["command"].is_null());

    let asked = [
        "specialise",
        &task,
        "--base",
        "hub/small",
        "--rank",
        "4",
        "--config",
        "understudy.yaml",
    ];
    // A training that fails is due until one has come to its end.
    std::fs::write(home.path().join("broken"), "").expect("a writable folder");
    assert_eq!(run(&home, &asked).status.code(), Some(1));
    let (code, steps, _) = cycle(&[]);
    assert!(
        code == Some(1) && steps[0]["why"].to_string().contains("train: no training"),
        "{steps:?}"
    );
    std::fs::remove_file(home.path().join("broken")).expect("it is there");
    let (code, steps, _) = cycle(&[]);
    assert_eq!((code, &steps[0]["failed"]), (Some(0), &json!(false)), "{steps:?}");
    let (_, steps, _) = cycle(&[]);
    assert!(
        !steps.iter().any(|step| step["why"].to_string().contains("train")),
        "{steps:?}"
    );
    // From here on, count anew.
    std::fs::write(home.path().join("runs"), "run\n").expect("a writable folder");
    let (told, _) = done(&home, &[&asked[..], &["--format", "json"]].concat());
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let (model, held_out) = (
        told["model"].as_str().expect("a name"),
        told["examples"]["test.jsonl"].as_u64(),
    );
    let held_out = 2 * usize::try_from(held_out.expect("a count")).expect("few");
    let pupil = parrot(BTreeSet::new());
    config(&format!(
        "  pupil: {{ url: {}, api: openai_chat, model: {model} }}\n",
        pupil.url()
    ));
    let (_, steps, _) = cycle(&["--dry-run"]);
    let command = steps[0]["command"].as_str().expect("a command");
    assert!(
        command.starts_with(&format!("understudy replay --task {task} --to pupil")),
        "{command}"
    );
    assert_eq!(
        (pupil.count(), &steps[0]["result"]),
        (0, &Value::Null),
        "a dry run asks nobody"
    );
    let (code, steps, pass) = cycle(&[]);
    assert_eq!((code, steps.len(), pupil.count()), (Some(0), 1, held_out), "{pass}");
    assert_eq!(
        (&pass["verdicts"][0]["candidate"], &pass["diff"]),
        (&json!("pupil"), &json!("")),
        "{pass}"
    );

    // Half as many calls again: another training, by the same recipe, once.
    let more = calls(220, 1).replace("lift-", "more-");
    std::fs::write(home.path().join("more.jsonl"), more).expect("a writable folder");
    done(&home, &["import", "more.jsonl"]);
    let trained = |steps: &[Value]| {
        let is_training = |step: &&Value| step["why"].to_string().contains("train: 420 calls, 200 when");
        steps.iter().find(is_training).map(|step| step["result"].to_string())
    };
    let (code, steps, _) = cycle(&[]);
    let result = trained(&steps).unwrap_or_else(|| panic!("{steps:?}"));
    assert!(
        code == Some(0) && result.contains("trained") && runs(&home) == 2,
        "{result}"
    );
    let newest = std::fs::read_dir(home.path().join("understudy-models"))
        .expect("a folder")
        .flatten();
    let ranks: Vec<Value> = newest
        .map(|entry| json_of(&entry.path().join("recipe.json"))["rank"].clone())
        .collect();
    assert_eq!(ranks, [json!(4), json!(4)], "by the recipe of the first");
    let (_, steps, _) = cycle(&[]);
    assert!(trained(&steps).is_none() && runs(&home) == 2, "{steps:?}");

    config(&format!(
        "  gone: {{ url: 'http://127.0.0.1:9', api: openai_chat, model: {model} }}\n"
    ));
    let (code, steps, _) = cycle(&[]);
    assert_eq!((code, &steps[0]["failed"]), (Some(1), &json!(true)), "{steps:?}");
    assert_eq!(
        run(&home, &["cycle"]).status.code(),
        Some(2),
        "without a config nobody is a candidate"
    );
}
