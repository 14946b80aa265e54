//! What was erased is gone at once, stays gone, and takes nothing else with it.

use super::*;
use crate::compact::{CompactOptions, compact};
use crate::scan::{CallFilter, ScoreFilter, calls, scores};
use crate::table::{TableKeys, call_key, calls_to_parquet, score_key, scores_to_parquet};
use std::time::Duration;

const HOUR: i64 = 3_600_000_000;
const NOW: i64 = 1_795_244_400_000_000;

fn call(id: &str, client: &str, hours_ago: i64) -> CallRecord {
    CallRecord {
        call_id: id.into(),
        client_id: Some(client.into()),
        conversation_id: format!("conversation-of-{id}"),
        started_at: Some(NOW - hours_ago * HOUR),
        boot_id: Some("boot".into()),
        sequence: Some(i64::try_from(id.len()).unwrap()),
        request_body: Some(format!("what {client} wrote in {id}")),
        ..CallRecord::default()
    }
}

fn score(call: &CallRecord) -> ScoreRecord {
    ScoreRecord {
        call_id: call.call_id.clone(),
        conversation_id: call.conversation_id.clone(),
        task_id: "task".into(),
        candidate: "small".into(),
        output_text: Some(format!("about {}", call.call_id)),
        ..ScoreRecord::default()
    }
}

async fn put(store: &Store, name: &str, rows: &[CallRecord]) -> String {
    let key = call_key(&rows[0], name, 0, rows.len() as u64);
    let parquet = calls_to_parquet(rows, &TableKeys::default()).unwrap();
    store.put(&key, parquet).await.unwrap();
    key
}

async fn ids(store: &Store) -> Vec<String> {
    let rows = calls(store, &CallFilter::default()).await.unwrap();
    let mut ids: Vec<String> = rows.into_iter().map(|row| row.call_id).collect();
    ids.sort();
    ids
}

fn client(name: &str) -> Wanted {
    Wanted {
        clients: [name.to_owned()].into(),
        ..Wanted::default()
    }
}

#[tokio::test]
async fn a_client_is_erased_from_calls_and_scores_under_the_same_keys_and_no_one_else_is() {
    let store = Store::in_memory();
    let mixed = [call("a", "ann", 5), call("bb", "bob", 5)];
    let key = put(&store, "mixed", &mixed).await;
    let own = put(&store, "own", &[call("ccc", "ann", 4)]).await;
    let other = put(&store, "other", &[call("dddd", "bob", 3)]).await;
    let before = store.get(&other).await.unwrap();
    let of_scores = score_key("task", "small", "job", 0);
    let both = scores_to_parquet(&mixed.each_ref().map(score), &TableKeys::default()).unwrap();
    store.put(&of_scores, both).await.unwrap();

    let (receipt, found) = erase(&store, &client("ann"), NOW, false).await.unwrap().unwrap();
    assert_eq!(found, ["a".to_owned(), "ccc".into()].into());
    let erased = &receipt.erased;
    assert_eq!(
        (erased.calls, erased.scores, erased.rewritten, erased.deleted),
        (2, 1, 2, 1)
    );
    assert_eq!(ids(&store).await, ["bb", "dddd"]);
    assert!(store.get(&own).await.unwrap_err().is_not_found());
    assert_eq!(store.get(&other).await.unwrap(), before);
    let left = scores(&store, &ScoreFilter::default()).await.unwrap();
    assert_eq!(left, [score(&mixed[1])]);
    for key in [&key, &of_scores] {
        let bytes = store.get(key).await.unwrap();
        let row = calls_from(bytes);
        assert_eq!(row, ["bb"], "{key}");
    }
    assert_eq!(erased_numbers(&store).await.unwrap()["boot"].to_string(), "1,3");
}

/// The ids in a file, whatever tombstones say.
fn calls_from(bytes: bytes::Bytes) -> Vec<String> {
    let rows = crate::table::calls_from_parquet(bytes, &TableKeys::default()).unwrap();
    rows.into_iter().map(|row| row.call_id).collect()
}

#[tokio::test]
async fn a_tombstone_alone_hides_what_comes_back_but_not_what_is_new() {
    let store = Store::in_memory();
    put(&store, "first", &[call("a", "ann", 5)]).await;
    erase(&store, &client("ann"), NOW, false).await.unwrap();
    // From a backup, or a spool that was elsewhere.
    let back = [call("a", "ann", 5), call("late", "ann", 1)];
    put(&store, "back", &back).await;
    put(&store, "new", &[call("new", "ann", -1)]).await;
    store
        .put(
            &score_key("task", "small", "job", 0),
            scores_to_parquet(&[score(&back[0])], &TableKeys::default()).unwrap(),
        )
        .await
        .unwrap();
    assert_eq!(ids(&store).await, ["new"]);
    assert!(scores(&store, &ScoreFilter::default()).await.unwrap().is_empty());
    // The next erasure, of whatever, takes it out.
    let (receipt, _) = erase(&store, &client("nobody"), NOW, false).await.unwrap().unwrap();
    assert_eq!((receipt.erased.calls, receipt.erased.scores), (2, 1));
}

#[tokio::test]
async fn conversations_and_ages_are_erased_and_calls_of_no_known_time_have_no_age() {
    let store = Store::in_memory();
    let imported = CallRecord {
        call_id: "00000000-0000-7000-8000-000000000001".into(),
        ..CallRecord::default()
    };
    put(&store, "import", std::slice::from_ref(&imported)).await;
    let mut routed = call("routed", "bob", 100);
    routed.route = Some("long".into());
    put(&store, "old", &[call("old", "bob", 100), routed]).await;
    put(&store, "young", &[call("talk", "ann", 2), call("young", "ann", 2)]).await;
    let wanted = Wanted {
        conversations: ["conversation-of-talk".to_owned()].into(),
        aged: vec![Aged {
            before: NOW - 50 * HOUR,
            except: vec!["long".into()],
            ..Aged::default()
        }],
        ..Wanted::default()
    };
    erase(&store, &wanted, NOW, false).await.unwrap();
    assert_eq!(ids(&store).await, [imported.call_id.as_str(), "routed", "young"]);
    let wanted = Wanted {
        aged: vec![Aged {
            before: NOW - 90 * HOUR,
            route: Some("long".into()),
            ..Aged::default()
        }],
        ..Wanted::default()
    };
    assert!(erase(&store, &wanted, NOW, true).await.unwrap().is_some());
    assert!(erase(&store, &wanted, NOW, true).await.unwrap().is_none());
    assert_eq!(ids(&store).await, [imported.call_id.as_str(), "young"]);
}

#[tokio::test]
async fn merging_leaves_out_what_is_erased() {
    let store = Store::in_memory();
    erase(&store, &client("ann"), NOW, false).await.unwrap();
    put(&store, "one", &[call("a", "ann", 5), call("b", "bob", 5)]).await;
    put(&store, "two", &[call("c", "bob", 5)]).await;
    let options = CompactOptions {
        now: NOW,
        closed_after: Duration::from_secs(3600),
        bytes: 1 << 20,
        cut_off_after: Duration::from_secs(3600),
    };
    let [merged] = <[_; 1]>::try_from(compact(&store, &options).await.unwrap()).unwrap();
    assert_eq!(calls_from(store.get(&merged.output).await.unwrap()), ["b", "c"]);
}

#[tokio::test]
async fn an_unreadable_tombstone_stops_readers_rather_than_show_what_it_covers() {
    let store = Store::in_memory();
    put(&store, "one", &[call("a", "ann", 5)]).await;
    store
        .put("erasures/broken.json", bytes::Bytes::from_static(b"{"))
        .await
        .unwrap();
    let error = calls(&store, &CallFilter::default()).await.unwrap_err().to_string();
    assert!(error.contains("erasures/broken.json"), "{error}");
}
