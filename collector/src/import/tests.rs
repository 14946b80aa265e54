//! Imports into a store in memory: what is added, what is there already, what can't be read.

use super::*;
use crate::mask::{Mask, MaskConfig};
use crate::scan::calls;
use serde_json::json;
use std::sync::Arc;
use understudy_call::keys::Origins;
use understudy_call::price::PriceTable;
use understudy_call::record::Outcome;

fn maker() -> RowMaker {
    RowMaker {
        mask: Arc::new(Mask::new(&MaskConfig::default(), &[3; 32]).unwrap()),
        prices: Arc::new(PriceTable::builtin()),
        store_key: Key::new([4; 32]),
        origins: Arc::new(Origins::new(&Key::new([5; 32]))),
        book: None,
    }
}

fn line(id: &str, more: serde_json::Value) -> String {
    let mut line = json!({"id": id, "source": "a log", "latency_s": 0.25, "task_label": "secret label",
        "request": {"model": "gpt-4o", "messages": [{"role": "user", "content": format!("question {id} of ann@corp.example")}]},
        "response": {"choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}]}});
    let more = more.as_object().unwrap().clone();
    line.as_object_mut().unwrap().extend(more);
    line.to_string()
}

async fn run(store: &Store, source: &str, lines: &[String]) -> (Imported, Vec<BadLine>) {
    let mut bad = Vec::new();
    let input = Box::new(std::io::Cursor::new(lines.join("\n").into_bytes()));
    let done = import(store, &maker(), source, input, |line| bad.push(line))
        .await
        .unwrap();
    (done, bad)
}

#[tokio::test]
async fn a_line_becomes_a_masked_call() {
    let store = Store::in_memory();
    let (done, bad) = run(&store, "f", &[line("1", json!({}))]).await;
    assert_eq!((done.added, bad.len()), (1, 0));
    let rows = calls(&store, &CallFilter::default()).await.unwrap();
    let row = &rows[0];
    assert_eq!(
        (row.external_id.as_deref(), row.duration_ms, row.started_at),
        (Some("1"), Some(250.0), None)
    );
    assert_eq!((row.outcome, row.output_text.as_deref()), (Outcome::Ok, Some("yes")));
    assert_eq!(row.conversation_id, row.call_id);
    assert_eq!(row.tags.get("source").map(String::as_str), Some("a log"));
    let whole = serde_json::to_string(row).unwrap();
    assert!(
        !whole.contains("ann@corp") && !whole.contains("secret label"),
        "{whole}"
    );
    assert_eq!(uuid::Uuid::parse_str(&row.call_id).unwrap().get_version_num(), 7);
    assert_eq!(calls(&store, &imported()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_same_source_and_id_again_add_nothing() {
    let store = Store::in_memory();
    let lines: Vec<String> = (0..5).map(|id| line(&id.to_string(), json!({}))).collect();
    run(&store, "f", &lines[..3]).await;
    let (again, _) = run(&store, "f", &lines).await;
    assert_eq!((again.added, again.already), (2, 3));
    let (third, _) = run(&store, "f", &[lines.as_slice(), &lines[..1]].concat()).await;
    assert_eq!((third.added, third.already), (0, 6));
    let (other, _) = run(&store, "g", &lines[..1]).await;
    assert_eq!(other.added, 1);
    assert_eq!(calls(&store, &CallFilter::default()).await.unwrap().len(), 6);
}

#[tokio::test]
async fn sessions_are_conversations_and_steps_are_counted_where_not_said() {
    let store = Store::in_memory();
    let lines = [
        line("a", json!({"session": "s"})),
        line("b", json!({"session": "s"})),
        line("c", json!({"session": "s", "step": 7})),
        line("d", json!({"session": 2})),
    ];
    run(&store, "f", &lines).await;
    let mut rows = calls(&store, &CallFilter::default()).await.unwrap();
    rows.sort_by(|one, other| one.external_id.cmp(&other.external_id));
    assert_eq!(rows.iter().map(|row| row.step).collect::<Vec<_>>(), [0, 1, 7, 0]);
    assert_eq!(rows[0].conversation_id, rows[2].conversation_id);
    assert_ne!(rows[0].conversation_id, rows[3].conversation_id);
    assert_ne!(rows[0].conversation_id, "s");
}

#[tokio::test]
async fn bad_lines_are_named_and_the_rest_goes_on() {
    let store = Store::in_memory();
    let lines = [
        "{".to_owned(),
        line("1", json!({})),
        line("2", json!({"request": {"input": "x"}})),
        line("3", json!({"id": null})),
        "[]".to_owned(),
        line("4", json!({"response": null})),
        line("5", json!({})),
    ];
    let (done, bad) = run(&store, "f", &lines).await;
    assert_eq!((done.lines, done.added, done.unreadable), (7, 2, 5));
    let numbers: Vec<u64> = bad.iter().map(|bad| bad.line).collect();
    assert_eq!(numbers, [1, 3, 4, 5, 6]);
    assert!(bad[1].reason.contains("messages") && bad[2].reason.contains("`id`"));
}
