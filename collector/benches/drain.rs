//! How fast a backlog is drained: segments of a spool, of calls of 2.7 KB and of 4 to 32 KB, through mask, parse and Parquet
//! into a directory. Prints calls and MB a second of wall time, and of CPU time on one core.
//!
//! `cargo bench -p understudy-collector --bench drain`; with `-- 20000` so many calls, with `-- small` of
//! one kind alone. What is stored is checked, each
//! call once, before anything is printed.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use understudy_call::call::Api;
use understudy_call::frame::{self, FrameHead};
use understudy_call::keys::{Key, Origins};
use understudy_call::price::PriceTable;
use understudy_call::record::Outcome;
use understudy_call::segment::{SegmentError, SegmentWriter};
use understudy_collector::ingest::{Ingest, IngestConfig};
use understudy_collector::mask::{Mask, MaskConfig};
use understudy_collector::metrics::Metrics;
use understudy_collector::row::RowMaker;
use understudy_collector::scan::{CallFilter, calls};
use understudy_collector::store::Store;
use uuid::Uuid;

/// Calls drained, unless the command says how many.
const CALLS: usize = 8_000;
/// As the proxy's spool does it.
const SEGMENT_BYTES: usize = 32 << 20;
/// Calls a second that arrive in the goal, and how many times as fast the backlog is to go.
const ARRIVE: f64 = 200.0;
const TIMES: f64 = 5.0;

/// What the calls have in common.
#[derive(Clone, Copy)]
enum Traffic {
    /// Agents that send their history again with each step, as they do.
    Conversations,
    /// Calls that have nothing in common: the worst for what remembers messages.
    Unlike,
    /// The first calls of conversations under one prompt, small.
    Small,
}

#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(CALLS);
    let all = [
        ("conversations", Traffic::Conversations),
        ("unlike calls", Traffic::Unlike),
        ("small calls", Traffic::Small),
    ];
    let is_wanted = |name: &str| {
        let mut words = std::env::args()
            .skip(1)
            .filter(|word| word.starts_with(char::is_alphabetic));
        words.next().is_none_or(|word| name.starts_with(&word))
    };
    for (name, traffic) in all.into_iter().filter(|(name, _)| is_wanted(name)) {
        let folder = tempfile::tempdir()?;
        let (spool, data) = (folder.path().join("spool"), folder.path().join("data"));
        std::fs::create_dir(&spool)?;
        let bytes = fill(&spool, count, traffic)? as f64 / 1e6;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let store = Store::open(&data.to_string_lossy())?;
        let config = IngestConfig {
            reader: None,
            spool_dir: spool,
            flush_after: Duration::from_secs(60),
            flush_bytes: 64 << 20,
            own_writer: false,
        };
        let metrics = Metrics::register(&prometheus::Registry::new(), None)?;
        let ingest = Ingest::open(
            config,
            vec![key()],
            store.clone(),
            rows()?,
            metrics,
            runtime.handle().clone(),
        )?;
        let (began, cpu) = (Instant::now(), cpu_seconds());
        ingest.run(&AtomicBool::new(true));
        let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let stored = runtime.block_on(calls(&store, &CallFilter::default()))?;
        let ids: BTreeSet<&str> = stored.iter().map(|row| row.call_id.as_str()).collect();
        assert_eq!(
            (stored.len(), ids.len()),
            (count, count),
            "a call is missing or there twice"
        );
        let count = count as f64;
        println!(
            "{name}: {count} calls of {:.1} KB on average; {:.0} calls/s and {:.1} MB/s of wall time; {:.0} calls/s and \
             {:.1} MB/s of CPU time on one core; {:.1} x {ARRIVE} calls/s by CPU time (goal {TIMES} x)",
            bytes * 1e3 / count,
            count / wall,
            bytes / wall,
            count / cpu,
            bytes / cpu,
            count / cpu / ARRIVE,
        );
    }
    Ok(())
}

fn key() -> Key {
    Key::new([5; 32])
}

fn rows() -> Result<RowMaker, Box<dyn Error>> {
    Ok(RowMaker {
        mask: Arc::new(Mask::new(&MaskConfig::default(), &[3; 32])?),
        prices: Arc::new(PriceTable::builtin()),
        store_key: Key::new([4; 32]),
        origins: Arc::new(Origins::new(&Key::new([5; 32]))),
        book: None,
    })
}

/// Writes segments as a proxy does; their bytes.
fn fill(spool: &Path, count: usize, traffic: Traffic) -> Result<usize, Box<dyn Error>> {
    let (mut written, mut number) = (0, 0);
    while number < count {
        let id = Uuid::now_v7();
        let (mut segment, mut bytes) = SegmentWriter::create(*id.as_bytes(), &key())?;
        while number < count && bytes.len() < SEGMENT_BYTES {
            let (request, response) = bodies(number, traffic);
            number += 1;
            let head = FrameHead {
                call_id: Uuid::now_v7().to_string(),
                boot_id: "bench".into(),
                sequence: number as u64,
                started_at: 1_763_700_000_000_000 + number as i64 * 5_000,
                upstream: "openai".into(),
                api: Some(Api::OpenaiChat),
                method: "POST".into(),
                path: "/v1/chat/completions".into(),
                status: Some(200),
                outcome: Outcome::Ok,
                content_type: Some("application/json".into()),
                ..FrameHead::default()
            };
            segment.seal::<SegmentError>(&mut bytes, |out| {
                frame::encode(out, &head, [request.as_bytes()], [response.as_bytes()]).expect("a small call");
                Ok(())
            })?;
        }
        written += bytes.len();
        std::fs::write(spool.join(format!("{}.seg", id.simple())), bytes)?;
    }
    Ok(written)
}

/// A request, and its answer.
fn bodies(number: usize, traffic: Traffic) -> (String, String) {
    const STEPS: usize = 8;
    let policy = if matches!(traffic, Traffic::Small) {
        1_200
    } else {
        3_500
    };
    let mut messages = vec![serde_json::json!({"role": "system", "content": text("policy", policy)})];
    match traffic {
        Traffic::Small => {
            messages.push(serde_json::json!({"role": "user", "content": text(&format!("call {number}"), 400)}));
        }
        // 4 KB at the first step, and 4 KB more at each.
        Traffic::Conversations => {
            let (agent, steps) = (number / STEPS, number % STEPS);
            messages.extend((0..=steps).map(|step| {
                let role = if step % 2 == 0 { "user" } else { "assistant" };
                serde_json::json!({"role": role, "content": text(&format!("{agent}-{step}"), 3_500)})
            }));
        }
        Traffic::Unlike => {
            let length = 500 + number * 7_919 % 28_000;
            messages.push(serde_json::json!({"role": "user", "content": text(&format!("call {number}"), length)}));
        }
    }
    let request = serde_json::json!({"model": "gpt-4o-mini", "temperature": 0, "messages": messages});
    let answer = serde_json::json!({"role": "assistant", "content": text(&format!("answer {number}"), 300)});
    let response = serde_json::json!({
        "id": format!("chatcmpl-{number}"), "object": "chat.completion", "created": 1_763_700_000, "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": answer, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 80, "total_tokens": 980},
    });
    (request.to_string(), response.to_string())
}

/// Prose as agents see it, some of it sensitive.
fn text(about: &str, length: usize) -> String {
    let mut text = String::with_capacity(length + 300);
    for line in 0_u64.. {
        if text.len() >= length {
            break;
        }
        let number = line.wrapping_mul(2_654_435_761) % 10_000_000;
        text += &format!(
            "On {about}: the reservation for table {line} was moved to 19:30; order #W{number:07} stays as it is. "
        );
        if line % 6 == 0 {
            text += &format!("Write to guest{number}@example.org or call +49 30 {number:07}. ");
        }
    }
    text
}

/// CPU time of this process so far, where the system tells it.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| {
        fields
            .get(field)
            .and_then(|ticks| ticks.parse::<f64>().ok())
            .unwrap_or(f64::NAN)
    };
    // User and system time, in hundredths of a second on Linux.
    (ticks(11) + ticks(12)) / 100.0
}
