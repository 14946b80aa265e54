//! Jobs over made-up calls: however they are divided, cut off or piped, the same comes out.

use super::*;
use crate::books::chat_of;
use crate::cluster::{FitInput, FitOptions, fit};
use crate::compact::{CompactOptions, compact};
use crate::erase::{Tombstone, Tombstones};
use crate::mask::{Dictionary, Kind, Mask, MaskConfig};
use crate::store::Store;
use crate::store::faulty::{Fault, Faulty};
use crate::table::{Columns, RowReader, RowWriter, StreamError, TableKeys, call_batches, call_key, calls_to_parquet};
use std::sync::Arc;
use std::time::Duration;
use understudy_call::record::{CallRecord, Outcome};
use understudy_call::taskbook::CompiledBook;

const HOUR: i64 = 3_600_000_000;
const T0: i64 = 1_763_701_000_000_000;
const AGENTS: [&str; 2] = [
    "You are an accounting clerk. Read the invoice that follows, find its total, its date and its supplier, as JSON.",
    "Sort the customer's message into one of these kinds: billing, delivery, complaint, praise. Reply with the kind.",
];
const WORDS: [&str; 10] = [
    "sofa", "lamp", "carpet", "kettle", "bicycle", "mirror", "garden", "piano", "camera", "violin",
];

fn call(number: usize) -> CallRecord {
    let word = WORDS[number % WORDS.len()];
    let body = serde_json::json!({ "model": "m", "messages": [
        { "role": "system", "content": AGENTS[number % 2] },
        { "role": "user", "content": format!("About the {word} that Zebulon sold me, and what came of it") },
    ]});
    let answer = format!("Zebulon has the {word}");
    let response = serde_json::json!({ "choices": [{ "message": { "role": "assistant", "content": answer } }] });
    CallRecord {
        call_id: format!("c{number:03}"),
        conversation_id: format!("v{}", number / 2),
        started_at: Some(T0 + (number as i64 / 20) * HOUR),
        api: "openai_chat".into(),
        path: Some("/v1/chat/completions".into()),
        request_body: Some(body.to_string()),
        response_body: Some(response.to_string()),
        output_text: Some(answer),
        outcome: if number.is_multiple_of(7) {
            Outcome::Timeout
        } else {
            Outcome::Ok
        },
        input_tokens: Some(100 + number as i64),
        output_tokens: (!number.is_multiple_of(3)).then_some(7),
        cost_usd: (!number.is_multiple_of(5)).then_some(0.1 + number as f64 * 1e-7),
        duration_ms: Some(12.5 * number as f64),
        ..CallRecord::default()
    }
}

fn kept() -> Vec<CallRecord> {
    (0..60).map(call).collect()
}

async fn fill(store: &Store) {
    for rows in kept().chunks(5) {
        let key = call_key(&rows[0], &rows[0].call_id, 0, 4);
        let parquet = calls_to_parquet(rows, &TableKeys::default()).unwrap();
        store.put(&key, parquet).await.unwrap();
    }
}

fn book() -> Arc<CompiledBook> {
    let calls = kept();
    let chats: Vec<_> = calls.iter().map(|call| chat_of(call).unwrap()).collect();
    let inputs = calls.iter().zip(&chats).map(|(call, (request, response))| FitInput {
        call_id: &call.call_id,
        conversation: &call.conversation_id,
        request,
        response: Some(response),
    });
    let mut book = fit(&inputs.collect::<Vec<_>>(), None, &FitOptions::default()).unwrap();
    book.version = 3;
    Arc::new(book.compile())
}

fn mask() -> Arc<Mask> {
    let names = Dictionary {
        name: "names".into(),
        kind: Kind::Dictionary,
        entries: vec!["zebulon".into()],
        ignore_case: true,
    };
    let config = MaskConfig {
        dictionaries: vec![names],
        ..MaskConfig::default()
    };
    Arc::new(Mask::new(&config, &[7; 32]).unwrap())
}

fn all_work() -> [Work; 4] {
    [
        Work::Assign(book()),
        Work::Mask(mask()),
        Work::Stats(Some(book())),
        Work::Stats(None),
    ]
}

fn options(threads: usize) -> LocalOptions {
    LocalOptions {
        threads,
        settings: "these".into(),
    }
}

async fn done(work: &Work, store: &Store, out: &Store, threads: usize) -> Result<Done, JobError> {
    run(work, store, out, &options(threads), |_| {}).await
}

fn stream_of(rows: &[CallRecord], batch: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut writer = RowWriter::<CallRecord, _>::new(&mut stream).unwrap();
    rows.chunks(batch).for_each(|rows| writer.write(rows).unwrap());
    writer.finish().unwrap();
    stream
}

fn piped(step: &Work, rows: &[CallRecord], batch: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let counts = work(step, &Tombstones::default(), &*stream_of(rows, batch), &mut out).unwrap();
    assert_eq!((counts.read, counts.erased), (rows.len() as u64, 0));
    out
}

fn assigned(stream: &[u8]) -> Vec<Assigned> {
    let mut reader = RowReader::open(stream, &Columns::All, &[]).unwrap();
    let mut rows = Vec::new();
    while let Some(batch) = reader.next().unwrap() {
        rows.extend(batch);
    }
    rows
}

#[tokio::test]
async fn threads_merged_objects_and_pipes_change_no_digest() {
    let (store, merged) = (Store::in_memory(), Store::in_memory());
    fill(&store).await;
    fill(&merged).await;
    let closed = CompactOptions {
        now: T0 + 9 * HOUR,
        closed_after: Duration::ZERO,
        bytes: 1 << 20,
        cut_off_after: Duration::ZERO,
    };
    assert_eq!(compact(&merged, &closed).await.unwrap().len(), 3);
    for work in all_work() {
        let one = done(&work, &store, &Store::in_memory(), 1).await.unwrap();
        let four = done(&work, &store, &Store::in_memory(), 4).await.unwrap();
        let after = done(&work, &merged, &Store::in_memory(), 4).await.unwrap();
        let told = |done: &Done| (done.rows, done.digest.clone(), done.objects, done.read, done.already);
        assert_eq!(told(&one), told(&four));
        assert_eq!((one.rows, &one.digest), (after.rows, &after.digest), "{}", one.job);
        assert_eq!((one.objects, after.objects, one.read.read), (12, 3, 60));
        let digests: std::collections::BTreeSet<String> = [1, 7, 60]
            .map(|batch| {
                let mut row = Vec::new();
                digest(work.name(), &*piped(&work, &kept(), batch), &mut row)
                    .unwrap()
                    .to_string()
            })
            .into();
        assert_eq!(digests.into_iter().collect::<Vec<_>>(), [one.digest]);
    }
}

#[tokio::test]
async fn a_job_that_is_cut_off_anywhere_goes_on_and_makes_nothing_twice() {
    for work in all_work() {
        let store = Store::in_memory();
        fill(&store).await;
        let whole = done(&work, &store, &Store::in_memory(), 2).await.unwrap();
        for kind in [Fault::Before, Fault::After] {
            for cut_at in (0..60).step_by(7) {
                let faulty = Faulty::new();
                let (out, mut verbs) = (faulty.store(), 0);
                faulty.plan(move |_, _| {
                    verbs += 1;
                    if verbs > cut_at { kind } else { Fault::None }
                });
                let first = done(&work, &store, &out, 2).await;
                faulty.plan(|_, _| Fault::None);
                let parts = out.list(work.name().folder()).await.unwrap().len() as u64;
                let again = done(&work, &store, &out, 2).await.unwrap();
                assert_eq!(
                    (again.rows, &again.digest),
                    (whole.rows, &whole.digest),
                    "{kind:?} {cut_at}"
                );
                if !matches!(work, Work::Stats(_)) {
                    assert_eq!(again.already, parts, "{kind:?} {cut_at}");
                    assert_eq!(out.list(work.name().folder()).await.unwrap().len(), 12);
                }
                assert!(first.is_err() || cut_at > 12, "{kind:?} {cut_at}: {first:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_folder_of_other_settings_and_objects_that_are_gone_are_told() {
    let (store, faulty) = (Store::in_memory(), Faulty::new());
    fill(&store).await;
    let (out, assign) = (faulty.store(), Work::Assign(book()));
    faulty.plan(|verb, key| match verb == "put" && key.contains("c040") {
        true => Fault::Before,
        false => Fault::None,
    });
    assert!(done(&assign, &store, &out, 1).await.is_err());
    faulty.plan(|_, _| Fault::None);
    let others = LocalOptions {
        settings: "others".into(),
        ..options(1)
    };
    let error = run(&assign, &store, &out, &others, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("another folder"), "{error}");
    let last = store.list("calls").await.unwrap().pop().unwrap().key;
    store.delete(&last).await.unwrap();
    let error = done(&assign, &store, &out, 1).await.unwrap_err();
    assert!(matches!(&error, JobError::Gone(key) if *key == last), "{error}");
}

#[tokio::test]
async fn an_object_that_is_no_table_is_named() {
    let store = Store::in_memory();
    fill(&store).await;
    let key = "calls/dt=2026-01-01/hour=h00/broken.parquet";
    store.put(key, "no parquet".into()).await.unwrap();
    let error = done(&Work::Stats(None), &store, &Store::in_memory(), 2)
        .await
        .unwrap_err();
    assert!(error.to_string().contains(key), "{error}");
}

#[tokio::test]
async fn erased_calls_are_left_out_here_and_in_workers() {
    let store = Store::in_memory();
    fill(&store).await;
    let tombstone = Tombstone {
        at: T0 + 100 * HOUR,
        conversations: ["v3".to_owned()].into(),
        calls: ["c050".to_owned()].into(),
        ..Tombstone::default()
    };
    let json = serde_json::to_vec(&tombstone).unwrap();
    store.put("erasures/e1.json", json.into()).await.unwrap();
    let erased = Tombstones::load(&store).await.unwrap();
    let erased = Tombstones::of(serde_json::from_slice(&serde_json::to_vec(&erased.for_workers()).unwrap()).unwrap());
    for step in all_work() {
        let here = done(&step, &store, &Store::in_memory(), 2).await.unwrap();
        assert_eq!((here.read.read, here.read.erased), (60, 3));
        let (mut out, mut row) = (Vec::new(), Vec::new());
        let counts = work(&step, &erased, &*stream_of(&kept(), 8), &mut out).unwrap();
        assert_eq!(counts, here.read);
        assert_eq!(digest(step.name(), &*out, &mut row).unwrap().to_string(), here.digest);
    }
}

#[test]
fn a_worker_gives_as_many_rows_as_came_in_whatever_the_batches() {
    let (book, rows) = (book(), kept());
    for batch in [1, 13, 60] {
        let given = assigned(&piped(&Work::Assign(book.clone()), &rows, batch));
        let ids: Vec<&str> = given.iter().map(|row| row.call_id.as_str()).collect();
        assert_eq!(ids, rows.iter().map(|row| row.call_id.as_str()).collect::<Vec<_>>());
        assert!(
            given
                .iter()
                .all(|row| row.taskbook_version == Some(3) && row.task_id.is_some())
        );
    }
    assert_eq!(assigned(&piped(&Work::Assign(book.clone()), &[], 1)), []);
    let unreadable = CallRecord {
        call_id: "u".into(),
        task_id: Some("t".into()),
        request_body: Some("{".into()),
        ..call(1)
    };
    let [row] = &assigned(&piped(&Work::Assign(book), &[unreadable], 1))[..] else {
        panic!("one row in, one out")
    };
    assert_eq!((row.task_id.as_deref(), row.taskbook_version), (None, Some(3)));
}

#[test]
fn streams_that_are_none_or_lack_columns_say_so() {
    let assign = Work::Assign(book());
    let fails = |input: &[u8]| work(&assign, &Tombstones::default(), input, Vec::new()).unwrap_err();
    for input in [&b""[..], b"no stream", &[0xff; 4000]] {
        let error = fails(input);
        assert!(matches!(error, StreamError::NoStream(_)), "{error}");
    }
    let whole = stream_of(&kept(), 20);
    let error = fails(&whole[..whole.len() * 2 / 3]);
    assert!(matches!(error, StreamError::Damaged { rows: 20 | 40, .. }), "{error}");
    // Cut where a batch ends, or before the first; and what comes after the end.
    let ends_at = |rows: usize| stream_of(&kept()[..rows], 20).len() - 8;
    for rows in [0, 20, 40, 60] {
        for more in 0..8 {
            let cut = [&whole[..ends_at(rows)], &whole[whole.len() - 8..][..more]].concat();
            let error = fails(&cut);
            assert!(
                matches!(error, StreamError::Damaged { rows: read, .. } if read == rows as u64),
                "{rows} {more}: {error}"
            );
        }
    }
    for after in [&whole[..], &[0], &whole[ends_at(0)..ends_at(20)]] {
        let error = fails(&[&whole, after].concat());
        assert!(matches!(error, StreamError::Damaged { rows: 60, .. }), "{error}");
        assert!(error.to_string().contains("after its end mark"), "{error}");
    }
    // What another step gave lacks the request.
    let given = piped(&assign, &kept(), 20);
    let error = fails(&given).to_string();
    assert!(error.contains("lack api, request_body"), "{error}");
    // Any single byte may be wrong: an error or other rows, never a panic.
    for at in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        let _ = work(&assign, &Tombstones::default(), &*damaged, Vec::new());
    }
}

#[test]
fn nulls_where_a_call_always_has_something_are_told_with_their_column() {
    for column in ["call_id", "api", "request_body"] {
        let text = |name: &str| -> arrow_array::ArrayRef {
            let second = (name != column).then_some("x");
            Arc::new(arrow_array::StringArray::from(vec![Some("x"), second]))
        };
        let columns = ["call_id", "api", "request_body"].map(|name| (name, text(name)));
        let batch =
            arrow_array::RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)));
        let batch = batch.unwrap();
        let mut stream = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        stream.write(&batch).unwrap();
        stream.finish().unwrap();
        let input = stream.into_inner().unwrap();
        let read = work(&Work::Assign(book()), &Tombstones::default(), &*input, Vec::new());
        match column {
            "request_body" => assert_eq!(read.unwrap().read, 2),
            _ => assert!(matches!(read.unwrap_err(), StreamError::Null(name) if name == column)),
        }
    }
}

#[tokio::test]
async fn what_is_erased_while_a_job_runs_is_in_no_result() {
    let tombstone = |call: &str| {
        let tombstone = Tombstone {
            at: T0,
            calls: [call.to_owned()].into(),
            ..Tombstone::default()
        };
        bytes::Bytes::from(serde_json::to_vec(&tombstone).unwrap())
    };
    for work in all_work() {
        let (store, faulty) = (Store::in_memory(), Faulty::new());
        fill(&store).await;
        store.put("erasures/e1.json", tombstone("c001")).await.unwrap();
        let out = faulty.store();
        // While it runs: it is not committed, nor is it by the run after.
        let (mut is_erased, one) = (false, options(1));
        for _ in 0..2 {
            let error = run(&work, &store, &out, &one, |_| {
                if !std::mem::replace(&mut is_erased, true) {
                    futures_util::FutureExt::now_or_never(store.put("erasures/e2.json", tombstone("c002")))
                        .expect("a store in memory")
                        .unwrap();
                }
            });
            let error = error.await.unwrap_err();
            assert!(matches!(error, JobError::Erased(_)), "{error}");
            assert_eq!(Done::load(&out, work.name()).await.unwrap(), None);
        }
        // Begun again elsewhere it is; and what is done stays told, whatever is erased later.
        let fresh = Store::in_memory();
        let first = done(&work, &store, &fresh, 2).await.unwrap();
        assert_eq!((first.read.erased, first.is_old), (2, false));
        store.put("erasures/e3.json", tombstone("c003")).await.unwrap();
        let again = done(&work, &store, &fresh, 2).await.unwrap();
        assert!(again.is_old && again.at.is_some() && again.digest == first.digest);
    }
}

#[tokio::test]
async fn a_store_without_calls_leaves_no_plan_behind() {
    let (store, out) = (Store::in_memory(), Store::in_memory());
    for work in all_work() {
        let error = done(&work, &store, &out, 1).await.unwrap_err();
        assert!(matches!(error, JobError::NoCalls), "{error}");
    }
    assert_eq!(out.list("").await.unwrap(), []);
    fill(&store).await;
    assert_eq!(done(&Work::Stats(None), &store, &out, 1).await.unwrap().objects, 12);
}

#[test]
fn what_is_read_from_the_bodies_is_masked_as_they_are() {
    let tools = serde_json::json!([{ "type": "function", "function": { "name": "ask_zebulon", "parameters": {} } }]);
    let before = CallRecord {
        request_body: Some(serde_json::json!({ "model": "m", "messages": [], "tools": tools }).to_string()),
        tools_offered: vec!["ask_zebulon".into(), "zebulon".into()],
        response_model: Some("of zebulon".into()),
        finish_reason: Some("zebulon".into()),
        ..call(1)
    };
    let after = super::mask::Remask(mask()).one(before);
    let text = serde_json::to_string(&after).unwrap();
    assert!(!text.to_lowercase().contains("zebulon"), "{text}");
    let counted: Vec<&str> = after.masked_in.iter().map(|masked| masked.column.as_str()).collect();
    assert_eq!(counted, ["request_body", "response_body"], "{text}");
}

#[tokio::test]
async fn masking_again_replaces_what_the_new_rules_find_and_changes_nothing_else() {
    let (store, out) = (Store::in_memory(), Store::in_memory());
    fill(&store).await;
    done(&Work::Mask(mask()), &store, &out, 2).await.unwrap();
    let listed = |objects: Vec<crate::store::Object>| objects.into_iter().map(|object| object.key).collect::<Vec<_>>();
    let keys = listed(out.list("calls").await.unwrap());
    assert_eq!(keys, listed(store.list("calls").await.unwrap()));
    let mut rows = 0;
    for key in keys {
        let bytes = out.get(&key).await.unwrap();
        for batch in call_batches(bytes, &Columns::All, &TableKeys::default()).unwrap() {
            for row in batch.unwrap() {
                rows += 1;
                let text = serde_json::to_string(&row).unwrap();
                assert!(!text.to_lowercase().contains("zebulon"), "{text}");
                let answer = row.output_text.as_deref().unwrap();
                assert!(row.response_body.as_deref().unwrap().contains(answer), "{text}");
                assert_eq!(row.masked.len(), 1, "{text}");
                assert_eq!((row.masked[0].count, row.masked_in.len()), (2, 2), "{text}");
                let number: usize = row.call_id[1..].parse().unwrap();
                let before = call(number);
                let masked_as_before = CallRecord {
                    request_body: before.request_body.clone(),
                    response_body: before.response_body.clone(),
                    output_text: before.output_text.clone(),
                    masked: Vec::new(),
                    masked_in: Vec::new(),
                    ..row.clone()
                };
                assert_eq!(masked_as_before, before);
                // Once more changes nothing.
                let again = super::mask::Remask(mask()).one(row.clone());
                assert_eq!(again, row);
            }
        }
    }
    assert_eq!(rows, 60);
}

#[tokio::test]
async fn sums_are_those_of_the_calls() {
    let (store, out) = (Store::in_memory(), Store::in_memory());
    fill(&store).await;
    done(&Work::Stats(None), &store, &out, 3).await.unwrap();
    let [all] = &summary(&sums(&out).await.unwrap())[..] else {
        panic!("no call has a task as stored")
    };
    let calls = kept();
    assert_eq!((all.task_id.as_deref(), all.calls, all.failed_calls), (None, 60, 9));
    assert_eq!(
        all.input_tokens,
        Some(calls.iter().filter_map(|call| call.input_tokens).sum())
    );
    assert_eq!((all.output_tokens, all.cost_known_calls), (Some(40 * 7), 48));
    let cost: f64 = calls.iter().filter_map(|call| call.cost_usd).sum();
    assert!((all.cost_usd.unwrap() - cost).abs() < 1e-7);
    let (p50, p95) = (all.p50_ms.unwrap(), all.p95_ms.unwrap());
    assert!(
        (p50 / 375.0 - 1.0).abs() < 0.05 && (p95 / 712.5 - 1.0).abs() < 0.05,
        "{p50} {p95}"
    );
}

#[test]
fn schemas_are_told_in_words_that_spark_takes() {
    assert_eq!(
        StepName::Assign.schema(),
        "call_id string, task_id string, task_confidence double, taskbook_version int"
    );
    let calls = StepName::Mask.schema();
    for part in [
        "started_at timestamp",
        "tool_calls array<struct<id: string, name: string, arguments: string>>",
        "tags map<string, string>",
        "tools_offered array<string>",
        "streamed boolean",
    ] {
        assert!(calls.contains(part), "{calls}");
    }
    let columns = Work::Assign(book()).columns(&Tombstones::default());
    assert_eq!(
        columns,
        ["call_id string", "api string", "path string", "request_body string"]
    );
}
