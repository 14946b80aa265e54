use super::*;
use crate::erase::{Wanted, erase};
use crate::table::{call_key, calls_to_parquet};
use std::collections::BTreeSet;
use understudy_call::taskbook::SCHEMA;

/// A call of the hour `hour` of 2026-11-21, of the task and client named.
fn call(id: u32, hour: i64, task: &str, client: &str) -> CallRecord {
    CallRecord {
        call_id: format!("call-{id}"),
        conversation_id: format!("talk-{id}"),
        started_at: Some(1_795_219_200_000_000 + hour * 3_600_000_000 + i64::from(id)),
        api: "openai_chat".into(),
        request_body: Some(r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#.into()),
        output_text: Some("billing".into()),
        task_id: (!task.is_empty()).then(|| task.to_owned()),
        taskbook_version: Some(1),
        client_id: Some(client.into()),
        upstream: Some("openai".into()),
        request_model: Some("m".into()),
        cost_usd: id.is_multiple_of(2).then_some(0.5),
        input_tokens: Some(10),
        duration_ms: Some(100.0),
        ..CallRecord::default()
    }
}

async fn put(store: &Store, name: &str, calls: &[CallRecord]) {
    let bytes = calls_to_parquet(calls, &TableKeys::default()).unwrap();
    store.put(&call_key(&calls[0], name, 0, 1), bytes).await.unwrap();
}

fn book() -> Arc<CompiledBook> {
    let task = |id: &str| understudy_call::taskbook::Task {
        id: id.into(),
        name: id.into(),
        ..Default::default()
    };
    let book = TaskBook {
        schema: SCHEMA,
        version: 1,
        tasks: vec![task("bills"), task("chat")],
        ..TaskBook::default()
    };
    Arc::new(book.compile())
}

async fn counted(counts: &mut Counts, store: &Store) -> bool {
    counts.refresh(store, Some(book()), |_, _, _| {}).await.unwrap()
}

#[tokio::test]
async fn what_is_counted_bit_by_bit_is_what_is_counted_at_once() {
    let store = Store::in_memory();
    let (mut counts, mut at_once) = (Counts::default(), Counts::default());
    counted(&mut counts, &store).await;
    for hour in 0..3 {
        let calls: Vec<CallRecord> = (0..10)
            .map(|id| call(id, hour, ["bills", "chat", ""][id as usize % 3], "c"))
            .collect();
        put(&store, &format!("segment{hour}"), &calls).await;
        assert!(counted(&mut counts, &store).await);
        assert!(!counted(&mut counts, &store).await, "nothing is counted twice");
    }
    counted(&mut at_once, &store).await;
    let (one, other) = (counts.totals(""), at_once.totals(""));
    assert_eq!(one, other);
    let bills = &one["bills"];
    assert_eq!(
        (bills.calls, bills.input_tokens, bills.cost_known_calls),
        (12, Some(120), 6)
    );
    assert_eq!(bills.answers["label"], 12);
    assert_eq!((bills.served["openai"], bills.unpriced["m"]), (12, 6));
    assert_eq!(one[""].answers.len(), 0, "answers are told apart within tasks");
    let text = serde_json::to_string(&counts).unwrap();
    let back: Counts = serde_json::from_str(&text).unwrap();
    assert_eq!(back.totals(""), one);
}

#[tokio::test]
async fn erased_calls_and_those_of_another_book_are_counted_anew() {
    let store = Store::in_memory();
    let calls: Vec<CallRecord> = (0..10)
        .map(|id| call(id, 1, "bills", if id < 4 { "gone" } else { "stays" }))
        .collect();
    put(&store, "segment", &calls).await;
    let mut counts = Counts::default();
    counted(&mut counts, &store).await;
    assert_eq!(counts.totals("")["bills"].calls, 10);
    let wanted = Wanted {
        clients: BTreeSet::from(["gone".to_owned()]),
        ..Wanted::default()
    };
    erase(&store, &wanted, 1_800_000_000_000_000, false).await.unwrap();
    assert!(counted(&mut counts, &store).await);
    assert_eq!(counts.totals("")["bills"].calls, 6);
    assert!(counts.refresh(&store, None, |_, _, _| {}).await.unwrap());
    assert_eq!(
        counts.totals("")["bills"].calls,
        6,
        "without a book rows keep their task"
    );
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_named_and_the_rest_is_counted() {
    let store = Store::in_memory();
    put(&store, "segment", &[call(1, 1, "bills", "c")]).await;
    let broken = "calls/dt=2026-11-21/hour=h02/broken-0-1.parquet";
    store.put(broken, "no parquet".into()).await.unwrap();
    let mut counts = Counts::default();
    counted(&mut counts, &store).await;
    assert_eq!(
        (counts.totals("")["bills"].calls, counts.unreadable.as_slice()),
        (1, [broken.to_owned()].as_slice())
    );
    counts.retry_unreadable();
    assert!(counts.unreadable.is_empty() && counted(&mut counts, &store).await);
    store.delete(broken).await.unwrap();
    counted(&mut counts, &store).await;
    assert!(counts.unreadable.is_empty());
}
