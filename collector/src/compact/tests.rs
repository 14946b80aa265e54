//! Merging over a store that fails at every verb in turn: no row is lost, and none is seen twice.

use super::*;
use crate::scan::{CallFilter, calls};
use crate::store::faulty::{Fault, Faulty};
use crate::table::{TableKeys, call_key};
use std::collections::BTreeMap;
use understudy_call::record::CallRecord;

const HOUR: i64 = 3_600_000_000;
/// In the middle of an hour.
const T0: i64 = 1_763_701_000_000_000;

fn options(now: i64) -> CompactOptions {
    CompactOptions {
        now,
        closed_after: Duration::from_secs(3600),
        bytes: 1 << 20,
        cut_off_after: Duration::from_secs(600),
    }
}

fn row(number: usize, at: i64) -> CallRecord {
    CallRecord {
        call_id: format!("c{number:03}"),
        conversation_id: format!("v{}", number % 3),
        started_at: Some(at),
        api: "other".into(),
        ..CallRecord::default()
    }
}

/// Three hours of four objects with five rows each.
async fn fill(store: &Store) {
    let mut number = 0;
    for hour in 0..3 {
        for object in 0..4 {
            let at = T0 + hour * HOUR;
            let rows: Vec<CallRecord> = (0..5).map(|more| row(number + more, at)).collect();
            number += 5;
            let key = call_key(&rows[0], "segment", object * 5, object * 5 + 4);
            store
                .put(&key, calls_to_parquet(&rows, &TableKeys::default()).unwrap())
                .await
                .unwrap();
        }
    }
}

async fn seen(store: &Store) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for row in calls(store, &CallFilter::default()).await.unwrap() {
        *seen.entry(row.call_id).or_insert(0) += 1;
    }
    seen
}

fn all() -> BTreeMap<String, usize> {
    (0..60).map(|number| (format!("c{number:03}"), 1)).collect()
}

async fn objects(store: &Store) -> usize {
    store.list("calls").await.unwrap().len()
}

#[tokio::test]
async fn closed_hours_are_merged_and_the_others_left() {
    let store = Store::in_memory();
    fill(&store).await;
    // An hour after the second hour's end; the third is not over.
    let now = T0 + 3 * HOUR;
    let done = compact(&store, &options(now)).await.unwrap();
    assert_eq!(done.len(), 2);
    assert!(done.iter().all(|one| (one.objects, one.rows) == (4, 20)), "{done:?}");
    assert_eq!((objects(&store).await, seen(&store).await), (2 + 4, all()));
    assert_eq!(compact(&store, &options(now)).await.unwrap(), []);
    let late = row(1000, T0);
    store
        .put(
            &call_key(&late, "late", 0, 0),
            calls_to_parquet(&[late], &TableKeys::default()).unwrap(),
        )
        .await
        .unwrap();
    let done = compact(&store, &options(now)).await.unwrap();
    assert_eq!((done.len(), done[0].objects, done[0].rows), (1, 2, 21));
    assert_eq!(objects(&store).await, 2 + 4);
    assert_eq!(store.list(PLANS).await.unwrap(), []);
}

#[tokio::test]
async fn large_objects_are_left_as_they_are() {
    let objects = [("a", 10), ("b", 90), ("c", 100), ("d", 30), ("e", 30)].map(|(key, size)| (key.to_owned(), size));
    assert_eq!(groups(objects.to_vec(), 100), [["a", "b"], ["d", "e"]]);
}

#[tokio::test]
async fn a_run_that_is_cut_off_anywhere_is_finished_and_readers_see_each_row_once() {
    for kind in [Fault::Before, Fault::After] {
        for cut_at in 0..60 {
            let faulty = Faulty::new();
            let store = faulty.store();
            fill(&store).await;
            let mut verbs = 0;
            faulty.plan(move |_, _| {
                verbs += 1;
                if verbs > cut_at { kind } else { Fault::None }
            });
            let now = T0 + 5 * HOUR;
            let first = compact(&store, &options(now)).await;
            faulty.plan(|_, _| Fault::None);
            assert_eq!(seen(&store).await, all(), "{kind:?} after {cut_at} verbs");
            // Another process: too early it leaves the plan alone, later it takes it over.
            compact(&store, &options(now + 1)).await.unwrap();
            assert_eq!(seen(&store).await, all(), "{kind:?} after {cut_at} verbs, early");
            compact(&store, &options(now + HOUR)).await.unwrap();
            compact(&store, &options(now + HOUR)).await.unwrap();
            assert_eq!(seen(&store).await, all(), "{kind:?} after {cut_at} verbs, later");
            assert_eq!(objects(&store).await, 3, "{kind:?} after {cut_at} verbs");
            assert_eq!(store.list(PLANS).await.unwrap(), []);
            if first.is_ok() {
                return_early_is_fine(cut_at);
            }
        }
    }
}

/// The faults began after the last verb: more verbs than these are never used.
fn return_early_is_fine(cut_at: usize) {
    assert!(cut_at > 20, "only {cut_at} verbs were used");
}

#[tokio::test]
async fn two_runs_at_once_double_nothing() {
    let store = Store::in_memory();
    fill(&store).await;
    let now = options(T0 + 5 * HOUR);
    let (one, other) = tokio::join!(compact(&store, &now), compact(&store, &now));
    assert!(one.is_ok() && other.is_ok());
    assert_eq!((objects(&store).await, seen(&store).await), (3, all()));
}

#[tokio::test]
async fn an_object_that_can_not_be_read_is_left_with_its_neighbours() {
    let store = Store::in_memory();
    fill(&store).await;
    let odd = call_key(&row(0, T0), "odd", 0, 0);
    store.put(&odd, Bytes::from_static(b"no parquet")).await.unwrap();
    let error = compact(&store, &options(T0 + 5 * HOUR)).await.unwrap_err();
    assert!(error.to_string().contains("odd-0-0"), "{error}");
    assert_eq!(objects(&store).await, 5 + 2, "the other hours are not merged");
    store.delete(&odd).await.unwrap();
    assert_eq!(seen(&store).await, all());
    compact(&store, &options(T0 + 7 * HOUR)).await.unwrap();
    assert_eq!((objects(&store).await, seen(&store).await), (3, all()));
}
