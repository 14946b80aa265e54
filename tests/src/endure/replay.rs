//! Replay at speed: the program's own `replay` of very many kept calls to a candidate that takes its time, seen from there.

use super::origin::Origin;
use super::{Report, runtime};
use crate::program::Home;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Milliseconds that the candidate takes for an answer.
const TAKES: u64 = 200;
/// What the flag `--concurrency` says.
const CONCURRENCY: usize = 1500;

/// What the candidate saw.
#[derive(Default)]
struct Seen {
    at_once: i64,
    requests: u64,
    /// First and last time that the count had grown.
    between: Option<(Instant, Instant)>,
}

/// So many calls. `timed` asks for the goals of speed as well.
pub fn run(calls: usize, timed: bool) -> Report {
    let mut report = Report::new(format!("a replay of {calls} calls, {TAKES} ms each"));
    let runtime = runtime();
    let candidate = Origin::start(runtime.handle());
    let home = Home::new();
    let file = home.path().join("calls.jsonl");
    let lines: Vec<String> = (0..calls).map(line).collect();
    std::fs::write(&file, lines.join("\n")).expect("a writable folder");
    let data = home.data().to_string_lossy().into_owned();
    let done = |arguments: &[&str]| {
        let output = home.run(&[arguments, &["--data", &data]].concat());
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {words}");
        output.stdout
    };
    done(&["import", &file.to_string_lossy()]);
    let tasks: Value = serde_json::from_slice(&done(&["tasks", "fit", "--format", "json"])).expect("JSON");
    let task = tasks[0]["id"].as_str().expect("a task").to_owned();

    let model = format!("slow-{TAKES}");
    let (url, concurrency) = (candidate.url(), CONCURRENCY.to_string());
    let limit = calls.to_string();
    let arguments = [
        "replay",
        "--task",
        &task,
        "--to",
        "small",
        "--url",
        &url,
        "--model",
        &model,
        "--limit",
        &limit,
        "--concurrency",
        &concurrency,
        "--format",
        "json",
    ];
    let is_over = AtomicBool::new(false);
    let (output, seen) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&candidate, &is_over));
        let output = done(&arguments);
        is_over.store(true, Ordering::Release);
        (output, watching.join().expect("the watch"))
    });
    let replayed: Value = serde_json::from_slice(&output).expect("JSON");
    let asked = replayed[0]["asked"].as_u64().unwrap_or(0);
    report.goal(
        "calls answered",
        format!("{asked}, {} failed", replayed[0]["failed"]),
        &calls.to_string(),
        asked == calls as u64 && replayed[0]["failed"] == 0,
    );
    report.goal(
        "requests that the candidate saw",
        seen.requests,
        &calls.to_string(),
        seen.requests == calls as u64,
    );
    let seconds = seen.between.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    let rate = seen.requests as f64 / seconds.max(0.001);
    if timed {
        report.goal("in flight at once", seen.at_once, "1,000 or more", seen.at_once >= 1000);
        report.goal("calls a second", format!("{rate:.0}"), "3,000 or more", rate >= 3000.0);
    } else {
        report.figure("in flight at once", seen.at_once);
        report.figure("calls a second", format!("{rate:.0}"));
    }
    report
}

/// A kept call of a task of labels.
fn line(number: usize) -> String {
    let request = json!({"model": "gpt-4o", "messages": [
        {"role": "system", "content": "Say of the order which queue it belongs to: billing, shipping or other. Answer with that one word."},
        {"role": "user", "content": format!("Order {number}: where does it go?")},
    ]});
    let queue = ["billing", "shipping", "other"][number % 3];
    let response = json!({"model": "gpt-4o", "choices": [{"index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": queue}}]});
    json!({"id": format!("order-{number}"), "request": request, "response": response}).to_string()
}

fn watch(candidate: &Origin, is_over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    loop {
        let was_over = is_over.load(Ordering::Acquire);
        let (requests, now) = (candidate.requests(), Instant::now());
        seen.at_once = seen.at_once.max(candidate.open());
        if requests > seen.requests {
            let first = seen.between.map_or(now, |(first, _)| first);
            (seen.requests, seen.between) = (requests, Some((first, now)));
        }
        if was_over {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
