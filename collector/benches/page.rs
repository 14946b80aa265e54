//! How soon the operator's page comes with many calls behind it:  cargo bench -p understudy-collector --bench page [-- CALLS]
//!
//! Makes a store of 100 tasks, 30 days and 1,000,000 calls (or as many as are said), two candidates scored on each task;
//! counts it once, as `serve` does in the background, then takes the time of a start with what was counted before, and of
//! pages. Prints a table.

#![expect(clippy::print_stdout, reason = "a bench that prints its table")]

use jiff::Timestamp;
use std::error::Error;
use std::time::{Duration, Instant};
use understudy_call::call::ToolCall;
use understudy_call::record::{CallRecord, ScoreRecord};
use understudy_call::taskbook::{SCHEMA, Task, TaskBook};
use understudy_collector::books;
use understudy_collector::store::Store;
use understudy_collector::table::{call_key, calls_to_parquet, score_key, scores_to_parquet};
use understudy_collector::web::{Settings, Web, file};

const TASKS: u64 = 100;
const HOURS: u64 = 720;
/// Scored calls of each candidate of a task.
const SCORED: u64 = 300;
const CANDIDATES: [&str; 2] = ["slm-a", "slm-b"];
const HOUR_MICROS: i64 = 3_600_000_000;
/// Loads of a page; the slowest is told.
const LOADS: usize = 10;

fn id(micros: i64, number: u64) -> String {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_le_bytes());
    let millis = u64::try_from(micros / 1000).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &random)
        .into_uuid()
        .to_string()
}

fn call(number: u64, micros: i64) -> CallRecord {
    let task = number % TASKS;
    let request = format!(
        "{{\"model\":\"gpt-4o\",\"messages\":[{{\"role\":\"system\",\"content\":\"You are clerk {task}. {}\"}},{{\"role\":\"user\",\"content\":\"Document {number}\"}}]}}",
        "Read the document and report its fields as agreed. ".repeat(10)
    );
    CallRecord {
        call_id: id(micros, number),
        conversation_id: format!("talk {}", number / TASKS / 4),
        started_at: Some(micros),
        api: "openai_chat".into(),
        upstream: Some("openai".into()),
        request_model: Some("gpt-4o".into()),
        task_id: Some(format!("task-{task:03}")),
        task_confidence: Some(0.9),
        taskbook_version: Some(1),
        request_body: Some(request),
        output_text: (!task.is_multiple_of(3)).then(|| format!("{{\"total\": {number}}}")),
        tool_calls: task
            .is_multiple_of(3)
            .then(|| ToolCall {
                id: None,
                name: format!("tool_{}", task % 7),
                arguments: "{}".into(),
            })
            .into_iter()
            .collect(),
        input_tokens: Some(200),
        output_tokens: Some(20),
        cost_usd: Some(0.0007),
        duration_ms: Some(200.0 + (number % 977) as f64),
        first_token_ms: Some(90.0 + (number % 97) as f64),
        ..CallRecord::default()
    }
}

async fn fill(store: &Store, calls: u64) -> Result<(), Box<dyn Error>> {
    let task = |number: u64| Task {
        id: format!("task-{number:03}"),
        name: format!("Clerk {number}: read the document"),
        description: "Begins with “You are clerk”; JSON comes back".into(),
        lines: vec!["Read the document and report its fields as agreed.".into(); 8],
        answers: vec![("json".into(), 0.9 - number as f64 / 200.0), ("prose".into(), 0.1)],
        examples: vec![id(0, number)],
        ..Task::default()
    };
    let mut book = TaskBook {
        schema: SCHEMA,
        tasks: (0..TASKS).map(task).collect(),
        ..TaskBook::default()
    };
    books::publish(store, &mut book).await?;
    let now = Timestamp::now().as_microsecond();
    let first = now - HOURS as i64 * HOUR_MICROS;
    let an_hour = calls.div_ceil(HOURS);
    let mut scored: Vec<Vec<CallRecord>> = vec![Vec::new(); TASKS as usize];
    for hour in 0..HOURS {
        let start = (first + hour as i64 * HOUR_MICROS) / HOUR_MICROS * HOUR_MICROS;
        let at = |number: u64| start + (number - hour * an_hour) as i64 * (HOUR_MICROS - 1) / an_hour as i64;
        let rows: Vec<CallRecord> = (hour * an_hour..((hour + 1) * an_hour).min(calls))
            .map(|number| call(number, at(number)))
            .collect();
        let Some(head) = rows.first() else { break };
        store
            .put(
                &call_key(head, "bench", 0, an_hour),
                calls_to_parquet(&rows, store.table_keys())?,
            )
            .await?;
        for row in rows {
            let of_task = row.task_id.as_deref().and_then(|task| task[5..].parse::<usize>().ok());
            if let Some(sample) = of_task.and_then(|task| scored.get_mut(task))
                && sample.len() < SCORED as usize
            {
                sample.push(row);
            }
        }
    }
    for (task, calls) in scored.iter().enumerate() {
        for (place, candidate) in CANDIDATES.iter().enumerate() {
            let score = |(number, call): (usize, &CallRecord)| ScoreRecord {
                call_id: call.call_id.clone(),
                conversation_id: call.conversation_id.clone(),
                task_id: format!("task-{task:03}"),
                candidate: (*candidate).into(),
                candidate_version: "v1".into(),
                judged_at: now + number as i64,
                kind: "structured".into(),
                valid: true,
                valid_baseline: Some(true),
                agreement: Some(if number % (50 >> (3 * place)) == 0 { 0.0 } else { 1.0 }),
                floor_agreement: Some(if number % 60 == 0 { 0.0 } else { 1.0 }),
                cost_usd: Some(0.00002),
                duration_ms: Some(60.0),
                output_text: Some("{\"total\": 0}".into()),
                response_body: Some("{\"model\":\"slm-135m\"}".into()),
                ..ScoreRecord::default()
            };
            let rows: Vec<ScoreRecord> = calls.iter().enumerate().map(score).collect();
            let key = score_key(&format!("task-{task:03}"), candidate, "bench", 0);
            store.put(&key, scores_to_parquet(&rows, store.table_keys())?).await?;
        }
    }
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let calls = std::env::args()
        .filter_map(|word| word.parse().ok())
        .next()
        .unwrap_or(1_000_000);
    let folder = tempfile::tempdir()?;
    let store = Store::open(&folder.path().to_string_lossy())?;
    let began = Instant::now();
    fill(&store, calls).await?;
    println!("{calls} calls of {TASKS} tasks made in {}", seconds(began.elapsed()));

    let began = Instant::now();
    let report = Web::new(store.clone(), Box::new(Settings::default))
        .refresh(|_, _| {})
        .await?;
    println!(
        "counted and weighed once, in the background: {}",
        seconds(began.elapsed())
    );
    assert_eq!((report.took.calls, report.tasks.len()), (calls, TASKS as usize));
    assert!(
        report
            .tasks
            .iter()
            .all(|task| task.candidates.len() == CANDIDATES.len())
    );

    let began = Instant::now();
    let web = Web::new(store.clone(), Box::new(Settings::default));
    let report = web.refresh(|_, _| {}).await?;
    println!("a start with what was counted before: {}", seconds(began.elapsed()));
    assert_eq!(report.took.calls, calls);
    for path in ["/", "/tasks/task-007", "/tasks/task-007/disagreements/slm-b"] {
        let (mut slowest, mut bytes) = (Duration::ZERO, 0);
        for _ in 0..LOADS {
            let began = Instant::now();
            let page = web.page(path, true, "bench").await.ok_or("no page")?;
            slowest = slowest.max(began.elapsed());
            bytes = page.body.len();
            assert_eq!(page.status, 200, "{path}");
            // Past the time in which figures count as fresh.
            tokio::time::sleep(Duration::from_millis(2100)).await;
        }
        println!(
            "{path}: {} KB, the slowest of {LOADS}: {}",
            bytes / 1000,
            seconds(slowest)
        );
    }
    let began = Instant::now();
    let html = file(&report);
    println!("as a file: {} KB in {}", html.len() / 1000, seconds(began.elapsed()));
    Ok(())
}
