//! Erasing and keeping: a person's calls go from everywhere, at once and for good; all others stay, and the accounts hold.

use serde_json::Value;
use understudy_call::record::CallRecord;
use understudy_call::segment::HEADER_LENGTH;
use understudy_collector::store::Store;
use understudy_collector::table::{TableKeys, call_key, calls_to_parquet};
use understudy_tests::eventually;
use understudy_tests::fixtures::{CHAT, answer_chat, chat_request};
use understudy_tests::http::Request;
use understudy_tests::program::{Home, Program};
use understudy_tests::upstream::Upstream;

fn upstream() -> Upstream {
    Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"))
}

fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ncapture: {{ wait: 10s }}\n{more}",
        upstream.url()
    )
}

pub(crate) fn call(program: &Program, key: &str, text: &str) {
    let answer = Request::post(CHAT, chat_request("gpt-4o", text, false))
        .header("authorization", &format!("Bearer {key}"))
        .send(program.listen);
    assert_eq!(answer.status(), 200);
}

/// What a command prints, as JSON; it must end well.
pub(crate) fn json(home: &Home, arguments: &[&str], input: &str) -> Value {
    let data = home.data();
    let place = ["--data", data.to_str().expect("a plain path"), "--format", "json"];
    let output = home.run_with_input(&[arguments, &place].concat(), input);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {words}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {words}"))
}

fn prompts(home: &Home) -> Vec<String> {
    let rows = json(home, &["calls"], "");
    let bodies = rows.as_array().expect("rows").iter();
    let mut texts: Vec<String> = bodies
        .map(|row| row["request_body"].as_str().expect("a body").to_owned())
        .filter_map(|body| serde_json::from_str::<Value>(&body).ok())
        .map(|body| body["messages"][0]["content"].as_str().expect("text").to_owned())
        .collect();
    texts.sort();
    texts
}

#[test]
fn a_persons_calls_are_erased_by_credential_under_all_generations_of_the_key() {
    let (upstream, home) = (upstream(), Home::new());
    let program = home.serve_config(&config(&upstream, ""));
    call(&program, "sk-ann-1234", "the first of hers");
    call(&program, "sk-bob-1234", "the first of his");
    program.terminate();
    let data = home.data();
    let rotated = home.run(&[
        "keys",
        "rotate",
        "origin",
        "--data",
        data.to_str().expect("a plain path"),
    ]);
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    let program = home.serve_config(&config(&upstream, ""));
    call(&program, "sk-ann-1234", "the second of hers");
    call(&program, "sk-bob-1234", "the second of his");
    program.terminate();
    let ids: std::collections::BTreeSet<_> = home.rows().into_iter().map(|row| row.client_id).collect();
    assert_eq!(ids.len(), 4, "a rotated key makes other pseudonyms");

    let log = json(&home, &["audit", "--log"], "").to_string();
    assert!(log.contains("rotate_key"), "{log}");
    let receipt = json(&home, &["erase", "--client-value-stdin"], "sk-ann-1234\n");
    assert_eq!(receipt[0]["erased"]["calls"], 2, "{receipt}");
    let not_reached = receipt[0]["not_reached"].to_string();
    assert!(
        not_reached.contains("versions") && not_reached.contains("backups"),
        "{receipt}"
    );
    assert_eq!(prompts(&home), ["the first of his", "the second of his"]);
    let in_the_clear = home.files().into_iter().filter(|(_, bytes)| {
        understudy_tests::contains(bytes, "sk-ann-1234") || understudy_tests::contains(bytes, "of hers")
    });
    assert_eq!(in_the_clear.count(), 0);
    json(&home, &["audit"], "");
    // The receipt stays, and holds neither the credential nor what was said.
    let receipts = home
        .files()
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().ends_with(".receipt.json"));
    assert_eq!(receipts.count(), 1);
}

#[test]
fn a_users_calls_are_erased_by_the_name_that_requests_give() {
    let (upstream, home) = (upstream(), Home::new());
    let program = home.serve_config(&config(&upstream, ""));
    for (user, text) in [("ann", "of hers"), ("bob", "of his"), ("ann", "again of hers")] {
        let body = chat_request("gpt-4o", text, false).replacen('{', &format!(r#"{{"user":"{user}","#), 1);
        assert_eq!(Request::post(CHAT, body).send(program.listen).status(), 200);
    }
    program.terminate();
    let receipt = json(&home, &["erase", "--user-value-stdin"], "ann\n");
    assert_eq!(receipt[0]["erased"]["calls"], 2, "{receipt}");
    assert_eq!(prompts(&home), ["of his"]);
    let rest = json(&home, &["calls"], "");
    let bob = rest[0]["user_id"].as_str().expect("a pseudonym").to_owned();
    json(&home, &["erase", "--user", &bob], "");
    assert_eq!(prompts(&home), Vec::<String>::new());
}

#[test]
fn what_still_waits_in_the_spool_is_left_out_and_accounted_for() {
    let (upstream, home) = (upstream(), Home::new());
    let program = home.serve_config(&config(&upstream, "store: { flush: { after: 600s } }\n"));
    call(&program, "sk-ann-1234", "hers");
    call(&program, "sk-bob-1234", "his");
    eventually("both wait", || program.scrape().sum("understudy_waiting", &[]) == 2.0);
    json(&home, &["erase", "--client-value-stdin"], "sk-ann-1234\n");
    // What she sends from now on is not what she asked to erase.
    call(&program, "sk-ann-1234", "hers, and new");
    program.terminate();
    assert_eq!(prompts(&home), ["hers, and new", "his"]);
    let boots = json(&home, &["audit"], "");
    let boot = &boots[0];
    assert_eq!((&boot["kept"], &boot["stored"]), (&3.into(), &2.into()), "{boot}");
    assert_eq!(boot["evicted"]["erased"], 1, "{boot}");
}

/// The bytes of all segments of a spool's folder.
fn segments(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = files.map(|file| file.path());
    let is_segment = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "seg");
    paths
        .filter(is_segment)
        .filter_map(|path| std::fs::read(path).ok())
        .collect()
}

/// Asserts that nothing of these segments is left in any file of the data.
fn assert_gone(home: &Home, before: &[Vec<u8>]) {
    for segment in before {
        let frames = &segment[HEADER_LENGTH..];
        assert!(frames.len() > 200, "the segment held nothing");
        for (path, bytes) in home.files() {
            // What is sealed is random: a stretch of it is found nowhere else.
            let is_there = |stretch: &[u8]| bytes.windows(stretch.len()).any(|window| window == stretch);
            let found = frames.chunks_exact(64).any(is_there);
            assert!(!found, "{} holds what was in the spool", path.display());
        }
    }
}

#[test]
fn no_record_of_an_erased_person_waits_in_the_spool_when_the_receipt_is_there() {
    let (upstream, home) = (upstream(), Home::new());
    let program = home.serve_config(&config(&upstream, "store: { flush: { after: 1h } }\n"));
    for number in 0..3 {
        call(&program, "sk-ann-1234", &format!("hers, {number}"));
        call(&program, "sk-bob-1234", &format!("his, {number}"));
    }
    eventually("all wait", || program.scrape().sum("understudy_waiting", &[]) == 6.0);
    let spool = home.data().join("spool");
    let before = segments(&spool);
    let receipt = json(&home, &["erase", "--client-value-stdin"], "sk-ann-1234\n");
    assert_gone(&home, &before);
    let [drained] = receipt[0]["drained"].as_array().expect("spools").as_slice() else {
        panic!("one spool: {receipt}");
    };
    assert_eq!(
        (&drained["left_out"], &drained["reader"]),
        (&3.into(), &Value::Null),
        "{receipt}"
    );
    let there = spool.canonicalize().expect("a spool").display().to_string();
    assert_eq!(drained["spool"], there.as_str());
    let not_reached = receipt[0]["not_reached"].as_array().expect("words");
    assert!(
        !not_reached.iter().any(|words| words.to_string().contains(&there)),
        "{receipt}"
    );
    // The others are stored, and the accounts hold while it runs.
    assert_eq!(prompts(&home), ["his, 0", "his, 1", "his, 2"]);
    let metrics = program.scrape_at_rest();
    let stored = metrics.sum("understudy_stored_total", &[]);
    let erased = metrics.sum("understudy_evicted_total", &[("reason", "erased")]);
    assert_eq!((stored, erased), (3.0, 3.0));
    // A second erasure finds nothing that waits, and answers as well.
    let receipt = json(&home, &["erase", "--client-value-stdin"], "sk-eve-1234\n");
    assert_eq!(receipt[0]["drained"][0]["left_out"], 0, "{receipt}");
    call(&program, "sk-ann-1234", "hers, and new");
    program.terminate();
    assert_eq!(prompts(&home), ["hers, and new", "his, 0", "his, 1", "his, 2"]);
    assert!(segments(&spool).is_empty());
    json(&home, &["audit"], "");
    // Nobody is waited for who has ended with an empty spool.
    let receipt = json(&home, &["erase", "--client-value-stdin"], "sk-bob-1234\n");
    assert_eq!(
        (&receipt[0]["erased"]["calls"], &receipt[0]["drained"]),
        (&3.into(), &Value::Array(vec![]))
    );
}

#[test]
fn a_spool_that_nobody_reads_is_drained_by_the_erasure_itself_or_named() {
    let (upstream, home) = (upstream(), Home::new());
    let program = home.serve_config(&config(&upstream, "store: { flush: { after: 1h } }\n"));
    call(&program, "sk-ann-1234", "hers");
    call(&program, "sk-bob-1234", "his");
    eventually("both wait", || program.scrape().sum("understudy_waiting", &[]) == 2.0);
    program.kill_9();
    let spool = home.data().join("spool");
    let before = segments(&spool);
    // Without the config it is not known how the rest is to be masked.
    let receipt = json(
        &home,
        &["erase", "--client-value-stdin", "--wait", "0s"],
        "sk-ann-1234\n",
    );
    let not_reached = receipt[0]["not_reached"].to_string();
    let name = spool.display().to_string();
    assert!(
        not_reached.contains(&name) && not_reached.contains("--config FILE"),
        "{receipt}"
    );
    assert_eq!(segments(&spool), before);

    let arguments = ["erase", "--config", "understudy.yaml", "--client-value-stdin"];
    let receipt = json(&home, &arguments, "sk-ann-1234\n");
    assert_eq!(receipt[0]["drained"][0]["left_out"], 1, "{receipt}");
    assert!(!receipt[0]["not_reached"].to_string().contains(&name), "{receipt}");
    assert_gone(&home, &before);
    assert!(segments(&spool).is_empty());
    assert_eq!(prompts(&home), ["his"]);
    let boots = json(&home, &["audit"], "");
    assert_eq!(
        (&boots[0]["kept"], &boots[0]["stored"], &boots[0]["evicted"]["erased"]),
        (&2.into(), &1.into(), &1.into()),
        "{boots}"
    );
}

#[test]
fn a_receipt_names_the_further_readers_of_a_spool_and_each_drains_for_its_own_store() {
    let (upstream, home) = (upstream(), Home::new());
    let data = home.data();
    let shared = format!(
        "upstreams: {{ llm: {{ url: {} }} }}\nstore: {{ flush: {{ after: 1h }} }}\nkeys: {{ dir: {} }}\n\
         capture: {{ wait: 10s, spool: {{ dir: {} }} }}\n",
        upstream.url(),
        data.join("keys").display(),
        data.join("spool").display()
    );
    let program = home.serve_config(&shared);
    let mirror = home.path().join("mirror");
    let mirror = mirror.to_str().expect("a plain path");
    let reader = home.collect(&["--reader", "mirror", "--config", "understudy.yaml", "--data", mirror]);
    let folder = home.data().join("spool/readers/mirror");
    eventually("it has a folder", || folder.is_dir());
    call(&program, "sk-ann-1234", "hers");
    call(&program, "sk-bob-1234", "his");
    eventually("it has both", || reader.scrape().sum("understudy_waiting", &[]) == 2.0);
    let before = segments(&folder);
    let receipt = json(&home, &["erase", "--client-value-stdin"], "sk-ann-1234\n");
    let not_reached = receipt[0]["not_reached"].to_string();
    assert!(
        not_reached.contains("`mirror`") && not_reached.contains("erase there too"),
        "{receipt}"
    );
    // With the first reader's erasure its segment was ended for all of them: what waits for none is in no folder.
    eventually("the links are gone", || {
        segments(&folder).iter().all(|segment| !before.contains(segment))
    });
    assert_gone(&home, &before);
    let place = ["--config", "understudy.yaml", "--data", mirror, "--format", "json"];
    let arguments = [&["erase", "--client-value-stdin"][..], &place].concat();
    let output = home.run_with_input(&arguments, "sk-ann-1234\n");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words}");
    let receipt: Value = serde_json::from_slice(&output.stdout).expect("a receipt");
    assert_eq!(receipt[0]["erased"]["calls"], 1, "{receipt}");
    assert_eq!(receipt[0]["drained"][0]["reader"], "mirror", "{receipt}");
    reader.terminate();
    program.terminate();
}

#[test]
fn an_exported_data_set_loses_the_lines_of_a_person() {
    let (upstream, home) = (upstream(), Home::new());
    let program = home.serve_config(&config(&upstream, ""));
    for number in 0..8 {
        for key in ["sk-ann-1234", "sk-bob-1234"] {
            call(
                &program,
                key,
                &format!("Translate order number {number} for {key} please"),
            );
        }
    }
    program.terminate();
    let tasks = json(&home, &["tasks", "fit"], "");
    let task = tasks[0]["id"].as_str().expect("a task").to_owned();
    let data = home.data();
    let out = home.path().join("set");
    let (data, folder) = (
        data.to_str().expect("a plain path"),
        out.to_str().expect("a plain path"),
    );
    let export = ["export", "--task", &task, "--out", folder, "--data", data];
    // What a killed run left is gone with the next one, and so is the data set that the next one takes the place of.
    std::fs::create_dir_all(out.join(".draft-of-before")).expect("a writable folder");
    std::fs::write(out.join(".draft-of-before/train.jsonl"), "a prompt").expect("a writable folder");
    for seed in ["--seed=7", "--seed=8"] {
        let exported = home.run(&[&export[..], &[seed]].concat());
        let words = String::from_utf8_lossy(&exported.stderr).into_owned();
        assert!(exported.status.success(), "{words}");
    }
    let mut names: Vec<_> = std::fs::read_dir(&out)
        .expect("a folder")
        .map(|entry| entry.expect("a file").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["README.md", "card.json", "test.jsonl", "train.jsonl"]);
    let lines = || {
        let files = ["train.jsonl", "test.jsonl"].map(|name| std::fs::read_to_string(out.join(name)).expect("a file"));
        files.concat().lines().count()
    };
    let before = lines();
    let hers: Vec<Value> = {
        let all = json(&home, &["calls"], "");
        let rows = all.as_array().expect("rows").clone();
        let client = rows[0]["client_id"].clone();
        rows.into_iter().filter(|row| row["client_id"] == client).collect()
    };
    let client = hers[0]["client_id"].as_str().expect("a pseudonym").to_owned();
    let receipt = json(&home, &["erase", "--client", &client], "");
    let taken = usize::try_from(receipt[0]["export_lines"].as_u64().expect("a count")).expect("few");
    assert!(
        taken > 0 && lines() == before - taken,
        "{before} lines, then {}: {receipt}",
        lines()
    );
    let not_reached = receipt[0]["not_reached"].to_string();
    assert!(!not_reached.contains("not there as it was exported"), "{not_reached}");
    let train = std::fs::metadata(out.join("train.jsonl")).expect("a file");
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&train.permissions()) & 0o777,
        0o600
    );
    // A copy that was changed is named, not touched.
    std::fs::write(out.join("train.jsonl"), "changed\n").expect("a writable folder");
    let rows = json(&home, &["calls"], "");
    let other = rows[0]["client_id"].as_str().expect("a pseudonym").to_owned();
    let receipt = json(&home, &["erase", "--client", &other], "");
    assert!(
        receipt[0]["not_reached"]
            .to_string()
            .contains("not there as it was exported"),
        "{receipt}"
    );
    assert_eq!(
        std::fs::read_to_string(out.join("train.jsonl")).expect("a file"),
        "changed\n"
    );
}

#[test]
fn what_is_older_than_it_is_kept_goes_by_itself() {
    let (upstream, home) = (upstream(), Home::new());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let store = Store::open(&home.data().to_string_lossy()).expect("a store");
    let old = CallRecord {
        call_id: "an-old-call".into(),
        started_at: Some(1_700_000_000_000_000),
        request_body: Some("long ago".into()),
        ..CallRecord::default()
    };
    let parquet = calls_to_parquet(std::slice::from_ref(&old), &TableKeys::default()).expect("a table");
    runtime
        .block_on(store.put(&call_key(&old, "old", 0, 0), parquet))
        .expect("a put");
    let program = home.serve_config(&config(&upstream, "store: { keep: 30d }\n"));
    call(&program, "sk-ann-1234", "today");
    let has = |end: &str| {
        home.files()
            .iter()
            .any(|(path, _)| path.to_string_lossy().ends_with(end))
    };
    eventually("the old call is gone", || {
        !has("old-0-0.parquet") && has(".receipt.json")
    });
    program.terminate();
    assert_eq!(prompts(&home), ["today"]);
}

#[test]
fn an_erasure_of_nothing_is_asked_wrongly() {
    let home = Home::new();
    let data = home.data();
    for (arguments, words) in [
        (vec!["erase"], "erase what?"),
        (vec!["erase", "--older-than", "soon"], "`soon` is no age"),
        (vec!["keys", "rotate", "house"], "there is no key `house`"),
    ] {
        let place = ["--data", data.to_str().expect("a plain path")];
        let output = home.run(&[arguments.as_slice(), &place].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(2) && said.contains(words),
            "{arguments:?}: {said}"
        );
    }
}
