//! What a scan reads of a store, and what it passes over.

use super::*;
use crate::table::{call_key, calls_to_parquet, score_key, scores_to_parquet};

const HOUR: i64 = 3_600_000_000;

fn call(id: &str, conversation: &str, task: &str, hour: i64) -> CallRecord {
    CallRecord {
        call_id: id.into(),
        conversation_id: conversation.into(),
        task_id: Some(task.into()),
        started_at: Some(hour * HOUR + 7),
        request_body: Some("{}".into()),
        ..CallRecord::default()
    }
}

async fn store_of(calls: &[CallRecord]) -> Store {
    let store = Store::in_memory();
    for (index, call) in calls.iter().enumerate() {
        let key = call_key(call, "seg", index as u64, index as u64);
        store
            .put(
                &key,
                calls_to_parquet(std::slice::from_ref(call), &TableKeys::default()).unwrap(),
            )
            .await
            .unwrap();
    }
    store
}

fn ids(calls: &[CallRecord]) -> Vec<&str> {
    calls.iter().map(|call| call.call_id.as_str()).collect()
}

#[tokio::test]
async fn a_filter_picks_by_task_conversation_and_time() {
    let store = store_of(&[
        call("a", "x", "t1", 10),
        call("b", "x", "t2", 11),
        call("c", "y", "t1", 12),
        call("d", "y", "t1", 40),
    ])
    .await;
    let all = calls(&store, &CallFilter::default()).await.unwrap();
    assert_eq!(ids(&all), ["a", "b", "c", "d"]);
    let task = CallFilter {
        task: Some("t1".into()),
        ..CallFilter::default()
    };
    assert_eq!(ids(&calls(&store, &task).await.unwrap()), ["a", "c", "d"]);
    let conversation = CallFilter {
        conversation: Some("x".into()),
        ..CallFilter::default()
    };
    assert_eq!(ids(&calls(&store, &conversation).await.unwrap()), ["a", "b"]);
    let time = CallFilter {
        since: Some(11 * HOUR + 7),
        until: Some(40 * HOUR + 7),
        ..CallFilter::default()
    };
    assert_eq!(ids(&calls(&store, &time).await.unwrap()), ["b", "c"]);
}

#[tokio::test]
async fn objects_outside_the_time_are_not_opened_and_other_files_are_passed_over() {
    let store = store_of(&[call("a", "x", "t", 10)]).await;
    store
        .put(
            "calls/dt=1970-01-02/hour=h16/broken.parquet",
            Bytes::from_static(b"no parquet"),
        )
        .await
        .unwrap();
    store
        .put("calls/_notes.txt", Bytes::from_static(b"hello"))
        .await
        .unwrap();
    let early = CallFilter {
        until: Some(20 * HOUR),
        ..CallFilter::default()
    };
    assert_eq!(ids(&calls(&store, &early).await.unwrap()), ["a"]);
    let error = calls(&store, &CallFilter::default()).await.unwrap_err();
    assert!(error.to_string().contains("hour=h16/broken.parquet"), "{error}");
}

#[tokio::test]
async fn columns_are_read_as_asked() {
    let store = store_of(&[call("a", "x", "t", 10)]).await;
    let lean = CallFilter {
        columns: Columns::WithoutBodies,
        ..CallFilter::default()
    };
    let read = calls(&store, &lean).await.unwrap();
    assert_eq!(
        (read[0].request_body.as_deref(), read[0].conversation_id.as_str()),
        (None, "x")
    );
    let filter = CallFilter {
        columns: Columns::only(["request_body"]),
        conversation: Some("x".into()),
        ..CallFilter::default()
    };
    let read = calls(&store, &filter).await.unwrap();
    assert_eq!(
        (read[0].request_body.as_deref(), read[0].schema_version),
        (Some("{}"), 0)
    );
}

#[tokio::test]
async fn an_empty_store_has_no_calls() {
    assert_eq!(
        calls(&Store::in_memory(), &CallFilter::default()).await.unwrap(),
        Vec::new()
    );
}

#[tokio::test]
async fn scores_are_found_by_task_candidate_and_version() {
    let store = Store::in_memory();
    for (task, candidate, version) in [
        ("t1", "slm/a", "v1"),
        ("t1", "slm_a", "v2"),
        ("t1", "b", "v1"),
        ("t2", "b", "v1"),
    ] {
        let row = ScoreRecord {
            task_id: task.into(),
            candidate: candidate.into(),
            candidate_version: version.into(),
            ..ScoreRecord::default()
        };
        store
            .put(
                &score_key(task, candidate, version, 0),
                scores_to_parquet(&[row], &TableKeys::default()).unwrap(),
            )
            .await
            .unwrap();
    }
    let count = async |task: Option<&str>, candidate: Option<&str>, version: Option<&str>| {
        let filter = ScoreFilter {
            task: task.map(str::to_owned),
            candidate: candidate.map(str::to_owned),
            candidate_version: version.map(str::to_owned),
        };
        scores(&store, &filter).await.unwrap().len()
    };
    assert_eq!(count(None, None, None).await, 4);
    assert_eq!(count(Some("t1"), None, None).await, 3);
    // Both names share a folder, since a slash can't be part of one; the rows tell them apart.
    assert_eq!(count(Some("t1"), Some("slm/a"), None).await, 1);
    assert_eq!(count(None, Some("b"), Some("v1")).await, 2);
}
