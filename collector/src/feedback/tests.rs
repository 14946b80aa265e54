//! Feedback is kept once, masked, and outranks agreement.

use super::*;
use crate::mask::MaskConfig;
use crate::table::{TableKeys, call_key, calls_to_parquet};

async fn store() -> Store {
    let store = Store::in_memory();
    let call = |number: usize| CallRecord {
        call_id: format!("call-{number}"),
        conversation_id: format!("conversation-{number}"),
        external_id: Some(format!("ext-{number}")),
        task_id: Some("t".into()),
        ..CallRecord::default()
    };
    let rows: Vec<CallRecord> = (0..4).map(call).collect();
    let parquet = calls_to_parquet(&rows, &TableKeys::default()).unwrap();
    store.put(&call_key(&rows[0], "test", 0, 1), parquet).await.unwrap();
    store
}

fn mask() -> Mask {
    Mask::new(&MaskConfig::default(), &[7; 32]).unwrap()
}

#[tokio::test]
async fn the_same_file_again_adds_nothing_and_bad_lines_are_named() {
    let store = store().await;
    let text = concat!(
        "{\"id\": \"ext-0\", \"label\": \"billing\"}\n\n",
        "{\"call_id\": \"call-1\", \"correct\": false}\n",
        "{\"external_id\": \"ext-2\", \"score\": 0.5}\n",
        "{\"id\": \"nobody\", \"correct\": true}\n",
        "{\"id\": \"ext-3\", \"score\": 2}\n",
        "{\"id\": \"ext-3\"}\n",
        "{\"correct\": true}\n",
    );
    let first = import(&store, &mask(), text, 1).await.unwrap();
    assert_eq!((first.lines, first.added), (7, 3));
    let numbers: Vec<usize> = first.bad.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [5, 6, 7, 8]);
    assert!(first.bad[0].1.contains("nobody"), "{:?}", first.bad);
    assert_eq!(import(&store, &mask(), text, 2).await.unwrap().added, 0);
    let known = truths(&store).await.unwrap();
    assert_eq!(known["call-0"], Truth::Label("billing".into()));
    assert_eq!(
        (&known["call-1"], &known["call-2"]),
        (&Truth::Score(0.0), &Truth::Score(0.5))
    );
    import(&store, &mask(), "{\"id\": \"ext-1\", \"correct\": true}", 3)
        .await
        .unwrap();
    assert_eq!(
        truths(&store).await.unwrap()["call-1"],
        Truth::Score(1.0),
        "the latest word counts"
    );
}

#[tokio::test]
async fn labels_are_kept_masked() {
    let store = store().await;
    let line = "{\"id\": \"ext-0\", \"label\": \"ann.miller@example.org\"}";
    import(&store, &mask(), line, 1).await.unwrap();
    let known = truths(&store).await.unwrap();
    let Truth::Label(label) = &known["call-0"] else {
        panic!("{known:?}")
    };
    assert!(label.contains('@') && !label.contains("miller"), "{label}");
}

#[test]
fn where_the_candidate_failed_the_truth_still_tells_of_the_baseline() {
    let failed = ScoreRecord {
        call_id: "a".into(),
        kind: "label".into(),
        floor_agreement: Some(1.0),
        ..ScoreRecord::default()
    };
    let truths = HashMap::from([("a".to_owned(), Truth::Label("spam".into()))]);
    let recorded = HashMap::from([(
        "a".to_owned(),
        Response {
            output_text: "ham".into(),
            ..Response::default()
        },
    )]);
    let mut rows = [failed];
    apply(&mut rows, &truths, &recorded);
    assert_eq!((rows[0].agreement, rows[0].floor_agreement), (None, Some(0.0)));
}

#[test]
fn what_is_known_takes_the_place_of_agreement() {
    let text = |text: &str| Response {
        output_text: text.into(),
        ..Response::default()
    };
    let row = |call: &str, kind: &str, agreement: f64, said: &str| ScoreRecord {
        call_id: call.into(),
        kind: kind.into(),
        agreement: Some(agreement),
        floor_agreement: Some(0.9),
        output_text: Some(said.into()),
        ..ScoreRecord::default()
    };
    let called = ScoreRecord {
        tool_calls: vec![ToolCall {
            id: None,
            name: "find".into(),
            arguments: "{\"q\": 1}".into(),
        }],
        ..row("e", "tool_call", 0.0, "")
    };
    let mut rows = [
        row("a", "label", 0.0, "spam"),
        row("b", "label", 1.0, "ham"),
        row("c", "label", 1.0, "ham"),
        row("d", "label", 0.4, "ham"),
        called,
    ];
    let truths = HashMap::from([
        ("a".to_owned(), Truth::Label("Spam".into())),
        ("b".to_owned(), Truth::Score(0.0)),
        ("c".to_owned(), Truth::Score(1.0)),
        (
            "e".to_owned(),
            Truth::Label("{\"name\": \"find\", \"arguments\": {\"q\": 1.0}}".into()),
        ),
    ]);
    let recorded = HashMap::from([("a".to_owned(), text("ham")), ("e".to_owned(), text("I will look."))]);
    assert_eq!(apply(&mut rows, &truths, &recorded), 4);
    let pairs: Vec<_> = rows
        .iter()
        .map(|row| (row.agreement.unwrap(), row.floor_agreement.unwrap()))
        .collect();
    assert_eq!(pairs, [(1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (0.4, 0.9), (1.0, 0.0)]);
}
