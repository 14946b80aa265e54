//! Jobs over all kept calls: whoever runs them, on however many threads, cut off or not, the same comes out.

use crate::erase::json;
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;
use understudy_call::record::CallRecord;
use understudy_collector::store::Store;
use understudy_collector::table::{TableKeys, call_key, calls_to_parquet};
use understudy_tests::program::Home;

const AGENT_CALLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/agent-calls.jsonl");
const NAMES: &str = "understudy.yaml";

/// A home with the fixture's calls, each in so many objects, and a task book.
fn home() -> Home {
    let home = Home::new();
    let data = home.data();
    let data = data.to_str().expect("a plain path");
    let imported = home.run(&["import", AGENT_CALLS, "--data", data]);
    assert!(imported.status.success(), "{}", words(&imported));
    let fitted = home.run(&["tasks", "fit", "--data", data]);
    assert!(fitted.status.success(), "{}", words(&fitted));
    divide(&home, 3);
    home
}

/// Puts the stored calls anew, some to an object.
fn divide(home: &Home, rows: usize) {
    let calls = home.rows();
    std::fs::remove_dir_all(home.data().join("calls")).expect("the folder of calls");
    let store = Store::open(&home.data().to_string_lossy()).expect("a store");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for (at, part) in calls.chunks(rows).enumerate() {
        let key = call_key(&part[0], "divided", at as u64, at as u64);
        let parquet = calls_to_parquet(part, &TableKeys::default()).expect("rows");
        runtime.block_on(store.put(&key, parquet)).expect("a put");
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn job(home: &Home, name: &str, out: &str, more: &[&str]) -> Value {
    json(home, &[&["job", "run", name, "--out", out], more].concat(), "")
}

fn stream_of(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).expect("a stream");
    batches.iter().for_each(|batch| writer.write(batch).expect("a batch"));
    writer.finish().expect("an end");
    writer.into_inner().expect("bytes")
}

fn batch(calls: &[CallRecord]) -> RecordBatch {
    let column = |get: fn(&CallRecord) -> Option<String>| -> ArrayRef {
        Arc::new(calls.iter().map(get).collect::<StringArray>())
    };
    RecordBatch::try_from_iter([
        ("request_body", column(|call| call.request_body.clone())),
        ("unknown_to_us", column(|_| Some("x".into()))),
        ("api", column(|call| Some(call.api.clone()))),
        ("path", column(|call| call.path.clone())),
        ("call_id", column(|call| Some(call.call_id.clone()))),
    ])
    .expect("columns of the same length")
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(column).expect("the column").as_string::<i32>();
    column.iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn local_jobs_give_the_same_digest_on_any_threads_and_after_merging() {
    let home = home();
    for name in ["assign", "mask", "stats"] {
        let one = job(&home, name, &format!("one-{name}"), &["--threads", "1"]);
        let four = job(&home, name, &format!("four-{name}"), &["--threads", "4"]);
        assert_eq!(
            (&one["digest"], &one["rows"]),
            (&four["digest"], &four["rows"]),
            "{name}"
        );
        assert_eq!(one["engine"], "local");
        let again = job(&home, name, &format!("one-{name}"), &[]);
        assert_eq!(again["digest"], one["digest"], "a job that is done is told again");
        if name == "stats" {
            let tasks = one["tasks"].as_array().expect("a line a task");
            let calls: i64 = tasks.iter().filter_map(|task| task["calls"].as_i64()).sum();
            assert_eq!((tasks.len(), calls), (3, 72), "{one}");
        } else {
            assert_eq!(one["rows"], 72, "{one}");
        }
    }
    let merged = json(&home, &["job", "run", "compact", "--closed-after", "0"], "");
    // Imported calls lie in the hour of their import, which is not over.
    assert!(merged.is_array());
    divide(&home, 72);
    for name in ["assign", "mask", "stats"] {
        let before = job(&home, name, &format!("one-{name}"), &[]);
        let after = job(&home, name, &format!("after-{name}"), &[]);
        assert_eq!(before["digest"], after["digest"], "{name}");
        assert_eq!(after["objects"], 1);
    }
    // What was masked again is a store of its own.
    let calls = home.run(&["calls", "--data", "after-mask", "--format", "jsonl"]);
    assert_eq!(
        String::from_utf8_lossy(&calls.stdout).lines().count(),
        72,
        "{}",
        words(&calls)
    );
}

#[test]
fn a_job_that_is_killed_goes_on() {
    let home = home();
    divide(&home, 1);
    let whole = job(&home, "mask", "whole", &[]);
    let data = home.data();
    let arguments = ["job", "run", "mask", "--out", "cut", "--threads", "1", "--data"];
    let arguments = [&arguments[..], &[data.to_str().expect("a plain path")]].concat();
    let mut parts = 0;
    for _ in 0..100 {
        let mut running = home.spawn(&arguments);
        while parts == count(&home.path().join("cut/calls")) && running.try_wait().expect("a child").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = running.kill();
        let ended = running.wait().expect("a child");
        let there = count(&home.path().join("cut/calls"));
        assert!(there >= parts, "{parts} parts became {there}");
        parts = there;
        if ended.success() || parts == 72 {
            break;
        }
    }
    let done = job(&home, "mask", "cut", &[]);
    assert_eq!((&done["digest"], &done["rows"]), (&whole["digest"], &whole["rows"]));
}

fn count(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => count(&path),
            path => usize::from(path.extension().is_some_and(|ending| ending == "parquet")),
        })
        .sum()
}

#[test]
fn a_worker_assigns_the_rows_of_a_stream_as_the_local_engine_does() {
    let home = home();
    let calls = home.rows();
    let book = home.data().join("taskbooks/v000001.json");
    let assign = ["worker", "assign", "--taskbook", book.to_str().expect("a plain path")];
    let batches: Vec<RecordBatch> = [&calls[..1], &calls[1..1], &calls[1..70], &calls[70..]]
        .map(batch)
        .into();
    let done = home.run_with_input(&assign, stream_of(&batches));
    assert!(done.status.success(), "{}", words(&done));
    let mut tasks = BTreeMap::new();
    for batch in StreamReader::try_new(&*done.stdout, None).expect("a stream") {
        let batch = batch.expect("a batch");
        tasks.extend(texts(&batch, "call_id").into_iter().zip(texts(&batch, "task_id")));
    }
    assert_eq!(tasks.len(), 72);
    let listed = json(&home, &["tasks", "assign"], "");
    let by_id: BTreeMap<String, &CallRecord> = calls
        .iter()
        .map(|call| (call.external_id.clone().unwrap_or_default(), call))
        .collect();
    for line in listed.as_array().expect("a line a call") {
        let call = by_id[line["id"].as_str().expect("an id")];
        let task = &tasks[&Some(call.call_id.clone())];
        assert_eq!(task.as_deref(), line["task"].as_str(), "{line}");
    }
    // The digest of what came out is the job's.
    let digest = home.run_with_input(&["worker", "assign", "--digest"], &done.stdout);
    let mut stream = StreamReader::try_new(&*digest.stdout, None).expect("a stream");
    let row = stream.next().expect("a row").expect("a row");
    let local = job(&home, "assign", "local", &[]);
    assert_eq!(texts(&row, "digest")[0].as_deref(), local["digest"].as_str());
}

#[test]
fn a_worker_says_what_is_wrong_with_its_input() {
    let home = home();
    let calls = home.rows();
    let book = home.data().join("taskbooks/v000001.json");
    let book = book.to_str().expect("a plain path");
    let assign = ["worker", "assign", "--taskbook", book];
    let whole = stream_of(&[batch(&calls[..9]), batch(&calls[9..])]);
    let empty = home.run_with_input(&assign, stream_of(&[batch(&[])]));
    assert!(empty.status.success(), "{}", words(&empty));
    let told = |arguments: &[&str], input: &[u8], code: i32, said: &str| {
        let ended = home.run_with_input(arguments, input);
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {}", words(&ended));
        assert!(words(&ended).contains(said), "{arguments:?}: {}", words(&ended));
    };
    told(&assign, b"", 1, "no Arrow IPC stream");
    told(&assign, b"call_id,api\n1,2\n", 1, "no Arrow IPC stream");
    told(&assign, &whole[..whole.len() - 900], 1, "damaged after 9 rows");
    told(&assign, &whole[..whole.len() - 8], 1, "after 72 rows: it was cut off");
    told(&assign, &[&whole[..], &whole].concat(), 1, "after 72 rows: more bytes");
    told(&["worker", "stats"], &whole, 1, "lack outcome, input_tokens");
    told(&["worker", "assign"], &whole, 2, "--taskbook");
    told(&["worker", "assign", "--taskbook", NAMES], &whole, 1, NAMES);
    told(&["worker", "mask", "--data", "nowhere"], &whole, 1, "key");
    told(&["worker", "cook"], &whole, 2, "assign");
    let wrong_type = RecordBatch::try_from_iter([
        ("call_id", Arc::new(arrow_array::Int64Array::from(vec![1])) as ArrayRef),
        ("api", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
        ("request_body", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
    ])
    .expect("columns");
    told(&assign, &stream_of(&[wrong_type]), 1, "column call_id: expected string");
}

#[test]
fn a_job_that_is_asked_wrongly_says_how() {
    let home = home();
    let data = home.data();
    let data = data.to_str().expect("a plain path");
    let inside = format!("{data}/calls/again");
    let told = |arguments: &[&str], code: i32, said: &str| {
        let ended = home.run(&[&["job", "run"], arguments, &["--data", data]].concat());
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {}", words(&ended));
        assert!(words(&ended).contains(said), "{arguments:?}: {}", words(&ended));
    };
    told(&["assign"], 2, "--out");
    let (scores, around) = (format!("{data}/scores"), format!("{data}/.."));
    for out in [data, &inside, &scores, &around] {
        for name in ["assign", "mask", "stats"] {
            told(&[name, "--out", out], 2, "another folder");
        }
    }
    assert!(!home.data().join("scores").exists());
    let urls = ["--store-url", "s3://calls/live", "--out-url", "s3a://calls/live/x"];
    told(&[&["stats", "--out", "u"][..], &urls].concat(), 2, "another folder");
    told(&["compact", "--out", "o"], 2, "takes no --out");
    told(&["compact", "--engine", "spark"], 2, "takes no --engine spark");
    let no_python = [
        "assign",
        "--engine",
        "spark",
        "--out",
        "o",
        "--python",
        "no-such-python",
    ];
    told(&no_python, 2, "install Python");
    told(&["stats", "--out", "s"], 0, "72 rows read");
    told(&["stats", "--out", "s"], 0, "done before, at 20");
    std::fs::rename(home.data().join("taskbooks"), home.path().join("taskbooks")).expect("the folder of books");
    told(&["stats", "--out", "s"], 1, "other settings");
}
