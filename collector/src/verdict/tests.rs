//! Each rule, on rows that only that rule decides.

use super::*;

const NOW: i64 = 1_795_244_400_000_000;

/// Rows of single-call conversations with these (agreement, floor) pairs, repeated up to `count`.
fn rows(count: usize, pairs: &[(f64, f64)]) -> Vec<ScoreRecord> {
    let row = |index: usize| {
        let (agreement, floor) = pairs[index % pairs.len()];
        ScoreRecord {
            call_id: format!("call-{index}"),
            conversation_id: format!("conversation-{index}"),
            task_id: "task".into(),
            candidate: "slm".into(),
            candidate_version: "v1".into(),
            judged_at: NOW - 1_000_000 + index as i64,
            kind: "label".into(),
            valid: true,
            valid_baseline: Some(true),
            agreement: Some(agreement),
            floor_agreement: Some(floor),
            duration_ms: Some(index as f64 + 1.0),
            cost_usd: Some(0.001),
            ..ScoreRecord::default()
        }
    };
    (0..count).map(row).collect()
}

fn judge_tried(rows: &[ScoreRecord], candidates_tried: usize) -> Verdict {
    let baseline = [
        Spent {
            duration_ms: Some(500.0),
            cost_usd: Some(0.01),
        },
        Spent::default(),
    ];
    let evidence = Evidence {
        task: "task",
        candidate: "slm",
        rows,
        baseline: &baseline,
        units: None,
        candidates_tried,
        now: NOW,
    };
    verdict(&evidence, &VerdictConfig::default())
}

fn judge(rows: &[ScoreRecord]) -> Verdict {
    judge_tried(rows, 1)
}

/// As good as the baseline, answer by answer.
const EQUAL: [(f64, f64); 3] = [(1.0, 1.0), (0.9, 0.9), (1.0, 1.0)];

#[test]
fn an_equal_candidate_is_promoted_with_its_evidence() {
    let verdict = judge(&rows(300, &EQUAL));
    assert_eq!(verdict.verdict, Decision::Promote, "{}", verdict.reason);
    assert_eq!(
        (verdict.pairs, verdict.conversations, verdict.need_more),
        (300, 300, None)
    );
    assert_eq!(verdict.mean_difference.map(f64::abs).map(|d| d < 1e-9), Some(true));
    assert!(verdict.lower.unwrap() > -0.05 && verdict.upper.unwrap() < 0.1);
    assert!((verdict.agreement.unwrap() - 0.9667).abs() < 1e-3 && verdict.floor == verdict.agreement);
    assert_eq!((verdict.valid, verdict.valid_baseline), (Some(1.0), Some(1.0)));
    assert_eq!((verdict.p50_ms, verdict.p95_ms), (Some(150.0), Some(285.0)));
    assert_eq!(
        (verdict.p50_ms_baseline, verdict.p95_ms_baseline),
        (Some(500.0), Some(500.0))
    );
    assert!((verdict.cost_per_1k.unwrap() - 1.0).abs() < 1e-9 && verdict.cost_per_1k_baseline == Some(10.0));
}

#[test]
fn the_json_has_the_fields_of_the_design_and_null_where_unknown() {
    let value = serde_json::to_value(judge(&[])).unwrap();
    let fields: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = "task candidate candidate_version verdict reason need_more pairs conversations mean_difference lower upper agreement floor valid valid_baseline cost_per_1k cost_per_1k_baseline p50_ms p95_ms p50_ms_baseline p95_ms_baseline";
    assert_eq!(fields, expected.split(' ').collect::<Vec<_>>());
    assert_eq!(
        (value["verdict"].as_str(), value["need_more"].as_u64()),
        (Some("need 200 more"), Some(200))
    );
    for unknown in [
        "candidate_version",
        "mean_difference",
        "lower",
        "upper",
        "agreement",
        "floor",
        "valid",
        "cost_per_1k",
        "p95_ms",
    ] {
        assert!(value[unknown].is_null(), "{unknown}");
    }
}

#[test]
fn a_worse_candidate_is_held_and_as_soon_as_it_is_certain() {
    let verdict = judge(&rows(60, &[(0.0, 1.0), (0.5, 1.0)]));
    assert_eq!(verdict.verdict, Decision::Hold, "{}", verdict.reason);
    assert!(verdict.upper.unwrap() < -0.05 && verdict.need_more.is_none());
}

#[test]
fn too_little_needs_more_and_says_about_how_much() {
    let verdict = judge(&rows(60, &EQUAL));
    assert_eq!(verdict.verdict, Decision::NeedMore(140), "{}", verdict.reason);
    assert_eq!(verdict.need_more, Some(140));
    let noisy = [
        (1.0, 1.0),
        (1.0, 0.0),
        (1.0, 1.0),
        (0.0, 1.0),
        (1.0, 1.0),
        (1.0, 1.0),
        (1.0, 1.0),
    ];
    let verdict = judge(&rows(210, &noisy));
    let needed = verdict.need_more.expect("210 noisy pairs decide nothing");
    assert!((100..20_000).contains(&needed), "{needed}");
    let later = judge(&rows(210 + needed, &noisy));
    assert_eq!(later.verdict, Decision::Promote, "the estimate held: {}", later.reason);
}

#[test]
fn without_a_floor_nothing_is_promoted() {
    let mut unmeasured = rows(500, &EQUAL);
    unmeasured.iter_mut().for_each(|row| row.floor_agreement = None);
    let verdict = judge(&unmeasured);
    assert_eq!(
        (verdict.verdict, verdict.pairs, verdict.floor, verdict.lower),
        (Decision::Hold, 0, None, None)
    );
    assert!(verdict.reason.contains("floor is not measured") && verdict.agreement.is_some());
}

#[test]
fn a_baseline_that_contradicts_itself_is_no_measure() {
    let verdict = judge(&rows(300, &[(0.6, 0.6)]));
    assert_eq!(verdict.verdict, Decision::Hold);
    assert!(verdict.reason.contains("0.600"), "{}", verdict.reason);
}

#[test]
fn invalid_answers_hold_whatever_the_agreement() {
    let mut some_invalid = rows(300, &EQUAL);
    some_invalid.iter_mut().step_by(10).for_each(|row| row.valid = false);
    let verdict = judge(&some_invalid);
    assert_eq!((verdict.verdict, verdict.valid), (Decision::Hold, Some(0.9)));
    assert!(verdict.reason.contains("valid less often"));
    some_invalid.iter_mut().for_each(|row| row.valid_baseline = None);
    assert_eq!(judge(&some_invalid).verdict, Decision::Hold, "unknown is not good");
}

#[test]
fn prose_is_never_promoted_on_similarity() {
    let mut prose = rows(400, &EQUAL);
    prose.iter_mut().step_by(3).for_each(|row| row.kind = "prose".into());
    let verdict = judge(&prose);
    assert_eq!(verdict.verdict, Decision::Hold);
    assert!(verdict.reason.contains("prose"), "{}", verdict.reason);
}

#[test]
fn candidates_share_the_chance_of_an_error() {
    let rows = rows(300, &[(1.0, 1.0), (0.9, 1.0), (1.0, 0.9)]);
    let width = |tried: usize| {
        let verdict = judge_tried(&rows, tried);
        verdict.upper.unwrap() - verdict.lower.unwrap()
    };
    assert!(width(1) < width(10) && width(10) < width(100));
}

#[test]
fn a_conversation_is_one_unit_and_so_are_twins() {
    let mut long = rows(400, &EQUAL);
    long.iter_mut()
        .enumerate()
        .for_each(|(index, row)| row.conversation_id = format!("c{}", index % 10));
    let verdict = judge(&long);
    assert_eq!((verdict.pairs, verdict.conversations), (400, 10));
    assert!(matches!(verdict.verdict, Decision::NeedMore(needed) if needed >= 40 * 40));
    let singles = rows(400, &EQUAL);
    let units: HashMap<String, String> = singles
        .iter()
        .map(|row| (row.call_id.clone(), "same".to_owned()))
        .collect();
    let evidence = Evidence {
        task: "task",
        candidate: "slm",
        rows: &singles,
        baseline: &[],
        units: Some(&units),
        candidates_tried: 1,
        now: NOW,
    };
    assert_eq!(verdict_of(&evidence).conversations, 1);
}

fn verdict_of(evidence: &Evidence<'_>) -> Verdict {
    verdict(evidence, &VerdictConfig::default())
}

#[test]
fn only_the_newest_version_young_rows_and_the_latest_of_a_call_count() {
    let mut all = rows(300, &EQUAL);
    let mut old_version = rows(300, &[(0.0, 1.0)]);
    old_version.iter_mut().for_each(|row| {
        row.candidate_version = "v0".into();
        row.judged_at -= 10_000_000;
    });
    let mut judged_before = rows(300, &[(0.0, 1.0)]);
    judged_before.iter_mut().for_each(|row| row.judged_at -= 10_000_000);
    let mut other_task = rows(300, &[(0.0, 1.0)]);
    other_task.iter_mut().for_each(|row| row.task_id = "other".into());
    all.splice(0..0, old_version);
    all.extend(judged_before);
    all.extend(other_task);
    let verdict = judge(&all);
    assert_eq!(
        (verdict.verdict, verdict.pairs, verdict.candidate_version.as_deref()),
        (Decision::Promote, 300, Some("v1"))
    );
    all.iter_mut().for_each(|row| row.judged_at -= 40 * 24 * 3_600_000_000);
    assert_eq!(judge(&all).verdict, Decision::NeedMore(200), "all too old");
}

#[test]
fn failing_counts_against_a_candidate_and_being_away_does_not() {
    let mut failing = rows(300, &EQUAL);
    failing
        .iter_mut()
        .step_by(4)
        .for_each(|row| (row.agreement, row.outcome) = (None, Outcome::Timeout));
    assert_eq!(judge(&failing).verdict, Decision::Hold);
    failing
        .iter_mut()
        .step_by(4)
        .for_each(|row| row.outcome = Outcome::UpstreamConnect);
    let verdict = judge(&failing);
    assert_eq!(
        (verdict.pairs, verdict.verdict),
        (225, Decision::Promote),
        "{}",
        verdict.reason
    );
}
