//! What a row is after Parquet: itself; and what the files look like to other readers.

use super::*;
use arrow_schema::{DataType, TimeUnit};
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;
use understudy_call::call::ToolCall;
use understudy_call::record::{Attempt, MaskedCount, MaskedIn, Outcome};

fn calls_to_parquet(rows: &[CallRecord]) -> Result<Bytes, TableError> {
    super::calls_to_parquet(rows, &TableKeys::default())
}

fn calls_from_parquet(bytes: Bytes) -> Result<Vec<CallRecord>, TableError> {
    super::calls_from_parquet(bytes, &TableKeys::default())
}

fn calls_from_parquet_columns(bytes: Bytes, columns: &Columns) -> Result<Vec<CallRecord>, TableError> {
    super::calls_from_parquet_columns(bytes, columns, &TableKeys::default())
}

fn scores_to_parquet(rows: &[ScoreRecord]) -> Result<Bytes, TableError> {
    super::scores_to_parquet(rows, &TableKeys::default())
}

fn scores_from_parquet(bytes: Bytes) -> Result<Vec<ScoreRecord>, TableError> {
    super::scores_from_parquet(bytes, &Columns::All, &TableKeys::default())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        ".{0,20}",
        Just("日本語 🎭 \0 \"quoted\"\n".to_owned())
    ]
}

fn tool_call() -> impl Strategy<Value = ToolCall> {
    (option::of(text()), text(), text()).prop_map(|(id, name, arguments)| ToolCall { id, name, arguments })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    (0..Outcome::ALL.len()).prop_map(|index| Outcome::ALL[index])
}

fn attempt() -> impl Strategy<Value = Attempt> {
    (
        text(),
        option::of(text()),
        option::of(any::<i32>()),
        outcome(),
        option::of(0.0..1e9),
        any::<bool>(),
    )
        .prop_map(
            |(upstream, candidate_version, status, outcome, duration_ms, served)| Attempt {
                upstream,
                reason: candidate_version.clone(),
                candidate_version,
                status,
                outcome,
                duration_ms,
                output_tokens: status.map(i64::from),
                cost_usd: duration_ms,
                served,
            },
        )
}

prop_compose! {
    fn record()(
        ids in (text(), text(), any::<i32>(), option::of(any::<i64>())),
        texts in vec(option::of(text()), 30),
        numbers in vec(option::of(any::<i64>()), 9),
        floats in vec(option::of(any::<f64>().prop_filter("comparable", |x| !x.is_nan())), 8),
        small in vec(option::of(any::<i32>()), 2),
        flags in any::<(bool, bool)>(),
        outcome in outcome(),
        tool_calls in vec(tool_call(), 0..3),
        tools_offered in vec(text(), 0..3),
        attempts in vec(attempt(), 0..3),
        masked in vec((text(), any::<i32>()).prop_map(|(kind, count)| MaskedCount { kind, count }), 0..3),
        tags in btree_map(text(), text(), 0..3),
    ) -> CallRecord {
        let mut texts = texts.into_iter();
        let mut text = || texts.next().flatten();
        let mut numbers = numbers.into_iter();
        let mut number = || numbers.next().flatten();
        let mut floats = floats.into_iter();
        let mut float = || floats.next().flatten();
        let in_column = |one: &MaskedCount| MaskedIn { column: "path".into(), kind: one.kind.clone(), count: one.count };
        CallRecord {
            masked_in: masked.iter().map(in_column).collect(),
            schema_version: 1, call_id: ids.0, conversation_id: ids.1, step: ids.2, started_at: ids.3,
            boot_id: text(), sequence: number(), parent_call_id: text(), affinity_key: text(), client_id: text(),
            user_id: text(), address_id: text(), key_id: text(), upstream: text(), api: "openai_chat".into(), route: text(), method: text(), path: text(),
            request_model: text(), response_model: text(), task_id: text(), task_confidence: float(),
            taskbook_version: small[0], arm: text(), config_hash: text(), outcome, streamed: flags.0, status: small[1],
            error: text(), finish_reason: text(), partial: flags.1, request_body: text(), response_body: text(),
            body_note: text(), output_text: text(), tool_calls, tools_offered, system_digest: text(),
            tools_digest: text(), input_tokens: number(), cached_tokens: number(), cache_write_tokens: number(),
            output_tokens: number(), reasoning_tokens: number(), cost_usd: float(), attempts, first_chunk_ms: float(),
            first_token_ms: float(), inter_token_p50_ms: float(), inter_token_p99_ms: float(),
            longest_stall_ms: float(), duration_ms: float(), overhead_us: number(), request_bytes: number(),
            response_bytes: number(), masked, trace_id: text(), external_id: text(), tags,
        }
    }
}

fn sorted(mut rows: Vec<CallRecord>) -> Vec<CallRecord> {
    rows.sort_by(|a, b| {
        let key = |row: &CallRecord| {
            (
                row.conversation_id.clone(),
                row.step,
                row.started_at,
                row.call_id.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn calls_come_back_as_they_were(rows in vec(record(), 0..6)) {
        let read = calls_from_parquet(calls_to_parquet(&rows).unwrap()).unwrap();
        prop_assert_eq!(read, sorted(rows));
    }

    #[test]
    fn scores_come_back_as_they_were(
        ids in vec((text(), any::<i64>(), any::<bool>(), option::of(any::<bool>()), option::of(0.0..=1.0)), 0..6),
        tool_calls in vec(tool_call(), 0..3),
        outcome in outcome(),
    ) {
        let rows: Vec<ScoreRecord> = ids.into_iter().map(|(id, judged_at, valid, valid_baseline, agreement)| ScoreRecord {
            call_id: id.clone(), conversation_id: id.clone(), task_id: id.clone(), candidate: id.clone(),
            candidate_version: id.clone(), judged_at, kind: "label".into(), valid, valid_baseline, agreement,
            floor_agreement: agreement, judge: None, input_tokens: Some(judged_at), output_tokens: None,
            cost_usd: agreement, first_token_ms: None, duration_ms: agreement, outcome,
            response_body: Some(id.clone()), output_text: Some(id.clone()), tool_calls: tool_calls.clone(),
            reason: Some(id), source: None,
        }).collect();
        prop_assert_eq!(scores_from_parquet(scores_to_parquet(&rows).unwrap()).unwrap(), rows);
    }

    /// A damaged object is an error or other rows, never a panic.
    #[test]
    fn damaged_files_do_not_panic(row in record(), flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = calls_to_parquet(&[row]).unwrap().to_vec();
        for (place, value) in flips {
            let index = place.index(bytes.len());
            bytes[index] = value;
        }
        drop(calls_from_parquet(bytes.into()));
    }
}

fn call(conversation: &str, step: i32, body: String) -> CallRecord {
    CallRecord {
        call_id: format!("{conversation}-{step}"),
        conversation_id: conversation.into(),
        step,
        request_body: Some(body),
        ..CallRecord::default()
    }
}

/// Every column with its type: a reader's contract.
#[test]
fn the_columns_have_the_names_and_types_of_the_design() {
    let types: BTreeMap<String, (DataType, bool)> = calls_schema()
        .fields()
        .iter()
        .map(|field| (field.name().clone(), (field.data_type().clone(), field.is_nullable())))
        .collect();
    assert_eq!(types.len(), 60);
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    assert_eq!(types["started_at"], (micros.clone(), true));
    assert_eq!(types["call_id"], (DataType::Utf8, false));
    assert_eq!(types["step"], (DataType::Int32, false));
    assert_eq!(types["sequence"], (DataType::Int64, true));
    assert_eq!(types["status"], (DataType::Int32, true));
    assert_eq!(types["cost_usd"], (DataType::Float64, true));
    assert_eq!(types["streamed"], (DataType::Boolean, false));
    assert!(matches!(&types["tags"].0, DataType::Map(_, false)));
    let DataType::List(element) = &types["attempts"].0 else {
        panic!("a list")
    };
    let DataType::Struct(fields) = element.data_type() else {
        panic!("of structs")
    };
    let fields: Vec<(&str, bool)> = fields.iter().map(|f| (f.name().as_str(), f.is_nullable())).collect();
    let expected = [
        ("upstream", false),
        ("candidate_version", true),
        ("status", true),
        ("outcome", false),
        ("duration_ms", true),
        ("output_tokens", true),
        ("cost_usd", true),
        ("served", false),
        ("reason", true),
    ];
    assert_eq!(fields, expected);
    assert_eq!(
        scores_schema().field_with_name("judged_at").unwrap().data_type(),
        &micros
    );
    assert_eq!(scores_schema().fields().len(), 23);
}

/// Serde and Parquet name the same fields: no field of a record is forgotten here.
#[test]
fn every_field_of_a_record_is_a_column() {
    let fields = |value: serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let columns = |schema: SchemaRef| {
        schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        columns(calls_schema()),
        fields(serde_json::to_value(CallRecord::default()).unwrap())
    );
    assert_eq!(
        columns(scores_schema()),
        fields(serde_json::to_value(ScoreRecord::default()).unwrap())
    );
}

#[test]
fn no_arrow_schema_is_embedded() {
    let file = SerializedFileReader::new(calls_to_parquet(&[CallRecord::default()]).unwrap()).unwrap();
    assert_eq!(file.metadata().file_metadata().key_value_metadata(), None);
}

#[test]
fn columns_a_file_lacks_are_null_and_unknown_ones_are_ignored() {
    let scores = scores_to_parquet(&[ScoreRecord {
        call_id: "c".into(),
        kind: "label".into(),
        ..Default::default()
    }]);
    let read = calls_from_parquet(scores.unwrap()).unwrap();
    assert_eq!(
        read,
        [CallRecord {
            call_id: "c".into(),
            task_id: Some(String::new()),
            ..CallRecord::default()
        }]
    );
}

#[test]
fn a_projection_leaves_the_rest_at_its_default() {
    let mut row = call("x", 3, "body".into());
    row.tags.insert("team".into(), "a".into());
    let bytes = calls_to_parquet(std::slice::from_ref(&row)).unwrap();
    let lean = calls_from_parquet_columns(bytes.clone(), &Columns::WithoutBodies).unwrap();
    assert_eq!(
        lean,
        [CallRecord {
            request_body: None,
            ..row.clone()
        }]
    );
    let one = calls_from_parquet_columns(bytes.clone(), &Columns::only(["step", "no such column"])).unwrap();
    assert_eq!(
        one,
        [CallRecord {
            step: 3,
            ..CallRecord::default()
        }]
    );
    let none = calls_from_parquet_columns(bytes, &Columns::only([])).unwrap();
    assert_eq!(none.len(), 1);
}

#[test]
fn a_column_of_another_type_or_an_unknown_word_is_named() {
    let field = arrow_schema::Field::new("step", DataType::Utf8, false);
    let step = arrow_array::StringArray::from(vec!["three"]);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(step)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let error = calls_from_parquet(writer.into_inner().unwrap().into()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "could not convert column step: expected int64, found Utf8"
    );
    let error = calls_from_parquet(Bytes::from_static(b"PAR1 no parquet PAR1")).unwrap_err();
    assert!(matches!(error, TableError::Read(_)));
}

/// Twenty steps that each resend what came before cost little more than the last of them.
#[test]
fn resent_history_is_stored_almost_once() {
    let mut noise = blake3::Hasher::new().update(b"history").finalize_xof();
    let mut line = || {
        let mut raw = [0_u8; 600];
        noise.fill(&mut raw);
        raw.iter().map(|byte| char::from(b'a' + byte % 16)).collect::<String>()
    };
    let mut rows = Vec::new();
    for conversation in 0..8 {
        let mut history = String::new();
        for step in 0..20 {
            history.push_str(&line());
            rows.push(call(&format!("c{conversation}"), step, history.clone()));
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.step));
    let raw: usize = rows.iter().map(|row| row.request_body.as_ref().unwrap().len()).sum();
    let last: usize = 8 * 20 * 600;
    let written = calls_to_parquet(&rows).unwrap().len();
    assert!(raw > 10 * last);
    assert!(
        written < last,
        "{written} bytes for {last} of text that is new (4 bits a letter), {raw} in all"
    );
}

#[test]
fn rows_of_one_conversation_lie_together_in_order() {
    let rows =
        [("b", 1), ("a", 2), ("b", 0), ("a", 1)].map(|(conversation, step)| call(conversation, step, String::new()));
    let read = calls_from_parquet(calls_to_parquet(&rows).unwrap()).unwrap();
    let order: Vec<&str> = read.iter().map(|row| row.call_id.as_str()).collect();
    assert_eq!(order, ["a-1", "a-2", "b-0", "b-1"]);
}

#[test]
fn large_rows_are_written_in_pieces() {
    let rows: Vec<CallRecord> = (0..600)
        .map(|step| call("c", step, "x".repeat(step as usize)))
        .collect();
    let batches = call_batches(calls_to_parquet(&rows).unwrap(), &Columns::All, &TableKeys::default()).unwrap();
    let lengths: Vec<usize> = batches.map(|batch| batch.unwrap().len()).collect();
    assert_eq!(lengths, [256, 256, 88]);
    let pieces = |bytes: usize| piece_len([("id", bytes); 4].into_iter());
    assert_eq!(pieces(100 << 20).unwrap(), 2);
    assert!(pieces(ROW_TEXT_BYTES + 1).is_err());
}

#[test]
fn a_call_lies_in_the_hour_it_began_or_its_id_was_made() {
    let mut row = CallRecord {
        started_at: Some(1_795_244_399_999_999),
        ..CallRecord::default()
    };
    assert_eq!(
        call_key(&row, "seg", 0, 9),
        "calls/dt=2026-11-21/hour=h06/seg-0-9.parquet"
    );
    row.started_at = Some(1_795_244_400_000_000);
    assert_eq!(call_partition(&row), "calls/dt=2026-11-21/hour=h07");
    row.started_at = None;
    row.call_id = "01a0b1c2-d3e4-7000-8000-000000000000".into();
    assert_eq!(call_micros(&row), 0x01a0_b1c2_d3e4 * 1000);
    assert!(call_partition(&row).starts_with("calls/dt=2026-"));
    for (started_at, call_id) in [(None, "no uuid"), (Some(i64::MAX), ""), (Some(i64::MIN), "")] {
        let odd = CallRecord {
            started_at,
            call_id: call_id.into(),
            ..CallRecord::default()
        };
        assert_eq!(call_partition(&odd), "calls/dt=1970-01-01/hour=h00");
    }
}

#[test]
fn names_become_plain_parts_of_a_key() {
    assert_eq!(
        score_key("invoice-extract-7f3a", "smol/lm 2", "j", 3),
        "scores/task=invoice-extract-7f3a/candidate=smol_lm_2/j-3.parquet"
    );
    assert_eq!(score_partition("..", None), "scores/task=__");
}

/// Writes a small store for `tests/real/parquet_readers.py`, where `UNDERSTUDY_TEST_TABLE_DIR` names a directory.
#[test]
fn a_store_for_other_readers() {
    let Some(directory) = std::env::var_os("UNDERSTUDY_TEST_TABLE_DIR") else {
        eprintln!("SKIPPED: a_store_for_other_readers needs UNDERSTUDY_TEST_TABLE_DIR (a directory to write to)");
        return;
    };
    let directory = std::path::PathBuf::from(directory);
    let put = |key: String, bytes: Bytes| {
        let path = directory.join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let mut full = call(
        "conversation-a",
        0,
        r#"{"messages":[{"role":"user","content":"Grüße 🎭"}]}"#.into(),
    );
    full.schema_version = understudy_call::record::SCHEMA_VERSION;
    full.started_at = Some(1_795_244_400_123_456);
    full.cost_usd = Some(0.25);
    full.input_tokens = Some(1 << 40);
    full.status = Some(200);
    full.tools_offered = vec!["search".into(), "book".into()];
    full.tool_calls = vec![ToolCall {
        id: None,
        name: "search".into(),
        arguments: r#"{"q":"x"}"#.into(),
    }];
    full.attempts = vec![Attempt {
        upstream: "openai".into(),
        served: true,
        ..Attempt::default()
    }];
    full.masked = vec![MaskedCount {
        kind: "EMAIL".into(),
        count: 2,
    }];
    full.masked_in = vec![MaskedIn {
        column: "path".into(),
        kind: "EMAIL".into(),
        count: 2,
    }];
    full.tags = BTreeMap::from([("team".into(), "a".into()), ("ü".into(), String::new())]);
    let bare = CallRecord {
        call_id: "bare".into(),
        started_at: Some(1_795_248_000_000_000),
        outcome: Outcome::Timeout,
        ..CallRecord::default()
    };
    for row in [full, bare] {
        put(
            call_key(&row, "seg", 0, 0),
            calls_to_parquet(std::slice::from_ref(&row)).unwrap(),
        );
    }
    let score = ScoreRecord {
        call_id: "conversation-a-0".into(),
        task_id: "invoice-7f3a".into(),
        candidate: "smollm".into(),
        judged_at: 1_795_244_400_123_456,
        kind: "label".into(),
        agreement: Some(1.0),
        ..ScoreRecord::default()
    };
    put(
        score_key("invoice-7f3a", "smollm", "job", 0),
        scores_to_parquet(&[score]).unwrap(),
    );
}

/// Real agents' calls: what they weigh in JSON, and here.
#[test]
fn real_conversations_shrink() {
    let traces = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces/tau_airline.jsonl.zst");
    let Ok(file) = std::fs::File::open(&traces) else {
        assert!(std::env::var_os("CI").is_none(), "the traces are missing");
        eprintln!("SKIPPED: real_conversations_shrink needs {}", traces.display());
        return;
    };
    let mut decoder = zstd::Decoder::new(file).unwrap();
    decoder.window_log_max(27).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut decoder, &mut text).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let rows: Vec<CallRecord> = lines
        .map(|line| CallRecord {
            conversation_id: line["session"].to_string(),
            step: i32::try_from(line["step"].as_i64().unwrap()).unwrap(),
            response_body: Some(line["response"].to_string()),
            call_id: line["id"].to_string(),
            ..call("", 0, line["request"].to_string())
        })
        .collect();
    let raw: usize = rows.iter().map(Table::text_bytes).sum();
    let written = calls_to_parquet(&rows).unwrap();
    eprintln!(
        "{} calls: {raw} bytes of bodies, {} bytes of parquet, 1/{}",
        rows.len(),
        written.len(),
        raw / written.len()
    );
    assert!(written.len() * 20 < raw, "{} of {raw}", written.len());
    let mut read = calls_from_parquet(written).unwrap();
    assert_eq!(read.len(), rows.len());
    read.retain(|row| row.call_id == rows[0].call_id);
    assert_eq!(read, rows[..1]);
}
