//! Which role reads what, and that nothing is read that was changed.

use super::*;
use crate::table::{
    Columns, calls_from_parquet, calls_from_parquet_columns, calls_schema, calls_to_parquet, scores_from_parquet,
    scores_schema, scores_to_parquet,
};
use bytes::Bytes;
use understudy_call::call::ToolCall;
use understudy_call::record::{CallRecord, ScoreRecord};

const SECRET: &str = "canary-of-content";

fn key(byte: u8) -> Key {
    Key::new([byte; 32])
}

/// The keys of whoever writes: both.
fn curator() -> TableKeys {
    TableKeys::reading(&[key(1)], &[key(2)]).writing(&key(1), &key(2))
}

/// The metrics key alone.
fn analyst() -> TableKeys {
    TableKeys::reading(&[], &[key(2)])
}

fn call() -> CallRecord {
    CallRecord {
        call_id: "call-1".into(),
        conversation_id: "conversation-1".into(),
        request_model: Some("model-canary".into()),
        cost_usd: Some(0.25),
        error: Some(SECRET.into()),
        request_body: Some(SECRET.into()),
        response_body: Some(SECRET.into()),
        output_text: Some(SECRET.into()),
        tool_calls: vec![ToolCall {
            id: None,
            name: SECRET.into(),
            arguments: SECRET.into(),
        }],
        ..CallRecord::default()
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn what_is_written_with_keys_is_read_with_them_and_holds_no_plain_text() {
    let file = calls_to_parquet(&[call()], &curator()).unwrap();
    assert!(contains(&file, "PARE") && !contains(&file, "PAR1"));
    for text in [SECRET, "model-canary", "conversation-1", "request_body"] {
        assert!(!contains(&file, text), "{text}");
    }
    assert_eq!(calls_from_parquet(file, &curator()).unwrap(), [call()]);
    let score = ScoreRecord {
        call_id: "call-1".into(),
        output_text: Some(SECRET.into()),
        ..ScoreRecord::default()
    };
    let file = scores_to_parquet(std::slice::from_ref(&score), &curator()).unwrap();
    assert!(!contains(&file, SECRET));
    assert_eq!(scores_from_parquet(file, &Columns::All, &curator()).unwrap(), [score]);
}

#[test]
fn each_role_reads_its_columns_and_no_others() {
    let file = calls_to_parquet(&[call()], &curator()).unwrap();
    let read = |keys: &TableKeys, columns: &Columns| calls_from_parquet_columns(file.clone(), columns, keys);
    // Both keys: all of it.
    assert_eq!(read(&curator(), &Columns::All).unwrap(), [call()]);
    // The metrics key alone: what it cost, not what was said.
    let [metrics] = <[CallRecord; 1]>::try_from(read(&analyst(), &Columns::Metrics).unwrap()).unwrap();
    assert_eq!(
        (metrics.cost_usd, metrics.request_model.as_deref()),
        (Some(0.25), Some("model-canary"))
    );
    assert!(!format!("{metrics:?}").contains(SECRET));
    // `reason` is a column of scores alone.
    for column in CONTENT_COLUMNS.into_iter().filter(|column| *column != "reason") {
        let error = read(&analyst(), &Columns::only([column])).unwrap_err().to_string();
        let key = format!("content-{}", key(1).id());
        assert!(error.contains(column) && error.contains(&key), "{error}");
    }
    // The content key alone, another deployment's keys, and none: nothing, and words that say why.
    let strangers = [
        TableKeys::reading(&[key(1)], &[]),
        TableKeys::reading(&[key(8)], &[key(9)]),
        TableKeys::default(),
    ];
    for keys in strangers {
        let error = read(&keys, &Columns::only(["cost_usd"])).unwrap_err().to_string();
        assert!(error.contains(&format!("metrics-{}", key(2).id())), "{error}");
    }
}

#[test]
fn a_plain_file_is_read_with_keys_too_and_an_older_generation_still_opens() {
    let plain = calls_to_parquet(&[call()], &TableKeys::default()).unwrap();
    assert_eq!(calls_from_parquet(plain, &curator()).unwrap(), [call()]);
    let old = calls_to_parquet(&[call()], &curator()).unwrap();
    let rotated = TableKeys::reading(&[key(3), key(1)], &[key(4), key(2)]).writing(&key(3), &key(4));
    assert_eq!(calls_from_parquet(old, &rotated).unwrap(), [call()]);
    let new = calls_to_parquet(&[call()], &rotated).unwrap();
    assert!(calls_from_parquet(new, &curator()).is_err());
}

#[test]
fn a_byte_that_was_changed_is_never_read_as_data() {
    let file = calls_to_parquet(&[call()], &curator()).unwrap().to_vec();
    let (mut seen, mut tried) = (0, 0);
    for at in (0..file.len()).step_by(61) {
        let mut tampered = file.clone();
        tampered[at] ^= 1;
        tried += 1;
        match calls_from_parquet(Bytes::from(tampered), &curator()) {
            // What nothing reads, as the page indexes, may differ.
            Ok(rows) => assert_eq!(rows, [call()], "byte {at}"),
            Err(_) => seen += 1,
        }
    }
    assert!(seen * 4 > tried * 3, "{seen} of {tried} changes were seen");
}

#[test]
fn too_few_keys_to_encrypt_never_write_a_plain_file() {
    let error = calls_to_parquet(&[call()], &analyst().only_reading()).unwrap_err();
    assert!(error.to_string().contains("the store is encrypted"), "{error}");
}

#[test]
fn every_leaf_of_a_table_has_a_key() {
    for schema in [calls_schema(), scores_schema()] {
        let properties = curator().encryption(&schema).unwrap().unwrap();
        let leaves = ArrowSchemaConverter::new().convert(&schema).unwrap().num_columns();
        assert_eq!(properties.column_keys().0.len(), leaves);
    }
}

#[test]
fn debug_shows_no_key() {
    let shown = format!("{:?}", curator());
    assert!(!shown.contains("1, 1, 1") && !shown.contains("0101"), "{shown}");
}
