//! Recall and precision on a labelled set of the workspace's neighbour folder, where it is there.
//!
//! Floors stand a little below what was measured; they guard against regressions, not against other data.

use super::super::{Kind, Span, spans_in_code_points};
use super::mask;
use std::io::Write;

const LABELLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/pii/dev.jsonl");

#[derive(serde::Deserialize)]
pub(super) struct Row {
    id: String,
    pub(super) text: String,
    spans: Vec<Gold>,
}

#[derive(serde::Deserialize)]
struct Gold {
    start: usize,
    end: usize,
    #[serde(rename = "type")]
    kind: String,
}

pub(super) fn rows() -> Option<Vec<Row>> {
    let Ok(text) = std::fs::read_to_string(LABELLED) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "the labelled set is missing: {LABELLED}"
        );
        eprintln!("SKIPPED: no labelled set at {LABELLED}");
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn overlap(span: &Span, gold: &Gold) -> usize {
    span.end.min(gold.end).saturating_sub(span.start.max(gold.start))
}

/// (recall, precision): a value is found if half of it is covered under its kind; a span on clean text is false.
fn score(rows: &[(Row, Vec<Span>)], kind: Kind) -> (f64, f64) {
    let (mut found, mut all, mut false_spans) = (0, 0, 0);
    for (row, spans) in rows {
        let mine = || spans.iter().filter(|span| span.kind == kind);
        for gold in row.spans.iter().filter(|gold| gold.kind == kind.as_str()) {
            all += 1;
            found += usize::from(mine().any(|span| 2 * overlap(span, gold) >= gold.end - gold.start));
        }
        false_spans += mine()
            .filter(|span| row.spans.iter().all(|gold| overlap(span, gold) == 0))
            .count();
    }
    (
        f64::from(found as u32) / f64::from(all),
        f64::from(found as u32) / (f64::from(found as u32) + false_spans as f64),
    )
}

#[test]
fn floors_on_the_labelled_set() {
    let Some(rows) = rows() else { return };
    let mask = mask();
    let rows: Vec<(Row, Vec<Span>)> = rows
        .into_iter()
        .map(|row| {
            let spans = spans_in_code_points(&row.text, &mask.find(&row.text));
            (row, spans)
        })
        .collect();
    let floors = [
        (Kind::Email, 0.99, 0.99),
        (Kind::CreditCard, 0.98, 0.98),
        (Kind::IpAddress, 0.98, 0.98),
        (Kind::Iban, 0.99, 0.99),
        (Kind::UsSsn, 0.99, 0.99),
        (Kind::Secret, 0.98, 0.98),
        (Kind::Phone, 0.95, 0.95),
        (Kind::DateOfBirth, 0.97, 0.98),
        (Kind::Mrn, 0.97, 0.98),
        (Kind::StreetAddress, 0.92, 0.97),
        (Kind::Person, 0.93, 0.97),
    ];
    for (kind, least_recall, least_precision) in floors {
        let (recall, precision) = score(&rows, kind);
        assert!(
            recall >= least_recall && precision >= least_precision,
            "{kind:?}: recall {recall}, precision {precision}"
        );
    }
    let traps: Vec<_> = rows.iter().filter(|(row, _)| row.spans.is_empty()).collect();
    let hit = traps.iter().filter(|(_, spans)| !spans.is_empty()).count();
    assert!(hit * 50 <= traps.len(), "{hit} of {} traps are masked", traps.len());
}

/// Writes `{id, spans}` lines to the file named by `UNDERSTUDY_SPANS`, for a scorer outside.
#[test]
#[ignore = "writes a file for the scorer"]
fn write_predictions() {
    let Some(rows) = rows() else { return };
    let path = std::env::var_os("UNDERSTUDY_SPANS").expect("UNDERSTUDY_SPANS names the file to write");
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mask = mask();
    for row in rows {
        let spans: Vec<_> = spans_in_code_points(&row.text, &mask.find(&row.text))
            .iter()
            .map(|span| serde_json::json!({"start": span.start, "end": span.end, "type": span.kind.as_str()}))
            .collect();
        writeln!(file, "{}", serde_json::json!({"id": row.id, "spans": spans})).unwrap();
    }
}
