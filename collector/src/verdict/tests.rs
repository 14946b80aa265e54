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

const BASELINE: [Spent; 2] = [
    Spent {
        duration_ms: Some(500.0),
        first_token_ms: None,
        cost_usd: Some(0.01),
    },
    Spent {
        duration_ms: None,
        first_token_ms: None,
        cost_usd: None,
    },
];

fn evidence(rows: &[ScoreRecord]) -> Evidence<'_> {
    Evidence {
        task: "task",
        candidate: "slm",
        rows,
        baseline: &BASELINE,
        now: NOW,
        ..Evidence::default()
    }
}

fn judge(rows: &[ScoreRecord]) -> Verdict {
    verdict(&evidence(rows), &VerdictConfig::default())
}

/// After so many other versions were tried.
fn judge_after(rows: &[ScoreRecord], others: usize) -> Verdict {
    let other = |number: usize| Tried {
        candidate: "slm".into(),
        version: format!("earlier {number}"),
        at: NOW - 2_000_000,
    };
    let tried: Vec<Tried> = (0..others).map(other).collect();
    let evidence = Evidence {
        tried: &tried,
        ..evidence(rows)
    };
    verdict(&evidence, &VerdictConfig::default())
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
    let expected = "task candidate candidate_version verdict reason need_more pairs conversations mean_difference lower upper agreement floor valid valid_baseline cost_per_1k cost_per_1k_baseline p50_ms p95_ms p50_ms_baseline p95_ms_baseline first_token_p50_ms first_token_p95_ms first_token_p50_ms_baseline first_token_p95_ms_baseline calls_per_day cost_per_month cost_per_month_baseline gpu_hour calls_per_gpu_hour break_even_per_day unpriced trial alpha e_value judged judge trained_on strata";
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
    let later = judge(&rows(210 + 2 * needed, &noisy));
    assert_eq!(
        later.verdict,
        Decision::Promote,
        "{needed} was no less than half: {}",
        later.reason
    );
    let sooner = judge(&rows(210 + needed / 2, &noisy));
    assert_ne!(
        sooner.verdict,
        Decision::Promote,
        "{needed} was no more than double: {}",
        sooner.reason
    );
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
fn whatever_was_tried_before_took_its_share_of_the_chance_of_an_error() {
    let rows = rows(300, &[(1.0, 1.0), (0.9, 1.0), (1.0, 0.9)]);
    let of = |others: usize| {
        let verdict = judge_after(&rows, others);
        let width = verdict.upper.unwrap() - verdict.lower.unwrap();
        (
            verdict.trial.unwrap(),
            verdict.alpha.unwrap(),
            verdict.e_value.unwrap(),
            width,
        )
    };
    let (first, tenth, hundredth) = (of(0), of(9), of(99));
    assert_eq!((first.0, tenth.0, hundredth.0), (1, 10, 100));
    assert!((tenth.1 - first.1 / 100.0).abs() < 1e-9 && (first.1 - 0.05 * share(1)).abs() < 1e-12);
    assert!(first.2 > tenth.2 && first.3 < tenth.3 && tenth.3 < hundredth.3);
}

#[test]
fn what_is_tried_later_takes_nothing_from_an_earlier_trial() {
    let own = rows(300, &EQUAL);
    let alone = judge(&own);
    let mut later = rows(300, &EQUAL);
    later.iter_mut().for_each(|row| {
        row.candidate = "another".into();
        row.judged_at += 500_000;
    });
    let all: Vec<ScoreRecord> = own.iter().chain(&later).cloned().collect();
    assert_eq!(judge(&all), alone);
    let another = Evidence {
        candidate: "another",
        ..evidence(&all)
    };
    let another = verdict(&another, &VerdictConfig::default());
    assert_eq!((alone.trial, another.trial), (Some(1), Some(2)));
}

#[test]
fn a_conversation_is_one_unit_and_so_are_twins() {
    let mut long = rows(400, &EQUAL);
    long.iter_mut()
        .enumerate()
        .for_each(|(index, row)| row.conversation_id = format!("c{}", index / 40));
    let judged = judge(&long);
    assert_eq!((judged.pairs, judged.conversations), (400, 10));
    assert!(matches!(judged.verdict, Decision::NeedMore(needed) if needed >= 40 * 40));
    let singles = rows(400, &EQUAL);
    let units: HashMap<String, String> = singles
        .iter()
        .map(|row| (row.call_id.clone(), "same".to_owned()))
        .collect();
    let twins = Evidence {
        units: Some(&units),
        ..evidence(&singles)
    };
    assert_eq!(verdict(&twins, &VerdictConfig::default()).conversations, 1);
}

#[test]
fn a_conversation_is_bet_on_once_and_what_was_bet_on_stays() {
    let config = VerdictConfig::default();
    let mut trial = Trial::new(&config, config.alpha);
    let push = |trial: &mut Trial, unit: &str, agreement: f64| {
        trial.push(&Seen {
            unit,
            agreement,
            floor: Some(1.0),
            valid: true,
            valid_baseline: Some(true),
            is_prose: false,
        });
        trial.e_value()
    };
    assert_eq!(push(&mut trial, "a", 1.0), 1.0, "it may go on");
    assert_eq!(push(&mut trial, "a", 0.0), 1.0);
    let bet = push(&mut trial, "b", 1.0);
    assert!(bet < 1.0, "by its mean of a half: {bet}");
    let both = push(&mut trial, "a", 0.0);
    assert!(both > bet, "b was as good as the baseline");
    assert_eq!(push(&mut trial, "a", 0.0), both, "a had its turn");
    assert_eq!((trial.pairs(), trial.conversations()), (5, 2));
}

#[test]
fn old_evidence_leaves_by_halves_and_what_comes_after_is_another_trial() {
    let day = 24 * 3_600_000_000_i64;
    let on = |days_ago: i64, rows: Vec<ScoreRecord>| {
        rows.into_iter().map(move |row| ScoreRecord {
            call_id: format!("{} {days_ago}", row.call_id),
            conversation_id: format!("{} {days_ago}", row.conversation_id),
            judged_at: row.judged_at - days_ago * day,
            ..row
        })
    };
    let all: Vec<ScoreRecord> = on(40, rows(300, &EQUAL))
        .chain(on(20, rows(250, &EQUAL)))
        .chain(on(1, rows(10, &EQUAL)))
        .collect();
    let judged = judge(&all);
    assert_eq!(
        (judged.pairs, judged.trial),
        (260, Some(2)),
        "those of 40 days ago are gone"
    );
    let at = |days_ago: i64| {
        let then = Evidence {
            now: NOW - days_ago * day,
            ..evidence(&all[..300])
        };
        verdict(&then, &VerdictConfig::default())
    };
    assert_eq!((at(39).pairs, at(11).pairs, at(9).pairs), (300, 300, 0));
    assert_eq!((at(39).trial, at(11).trial), (Some(1), Some(1)));
}

#[test]
fn of_many_tasks_those_are_promoted_whose_evidence_is_enough_for_many() {
    let config = VerdictConfig::default();
    let of_task = |task: usize, e_value: f64, verdict: Decision| Verdict {
        task: format!("task {task}"),
        verdict,
        e_value: Some(e_value),
        pairs_per_fold: Some(10.0),
        ..judge(&rows(300, &EQUAL))
    };
    let decisions = |e_values: &[f64]| {
        let mut all: Vec<Verdict> = e_values
            .iter()
            .enumerate()
            .map(|(task, e)| of_task(task, *e, Decision::Promote))
            .collect();
        all.extend((0..2).map(|task| of_task(100 + task, 1e9, Decision::Hold)));
        together(&mut all, &config);
        all
    };
    assert_eq!(
        decisions(&[100.0])[0].verdict,
        Decision::Promote,
        "one of three: 60 are enough"
    );
    let short = decisions(&[50.0]);
    assert_eq!((short[0].verdict, short[0].need_more), (Decision::NeedMore(2), Some(2)));
    assert!(
        short[0].reason.contains("3 tasks") && short[0].reason.contains("of 60"),
        "{}",
        short[0].reason
    );
    assert!(
        decisions(&[50.0, 50.0, 50.0])
            .iter()
            .take(3)
            .all(|verdict| verdict.verdict == Decision::Promote),
        "five tasks, three over 33"
    );
    assert_eq!(
        short[1].verdict,
        Decision::Hold,
        "evidence for one that is held helps none"
    );
}

#[test]
fn masked_answers_and_kinds_are_reported_apart() {
    let mut mixed = rows(300, &[(1.0, 1.0), (0.5, 1.0)]);
    mixed
        .iter_mut()
        .step_by(3)
        .for_each(|row| row.kind = "structured".into());
    let masked: HashSet<String> = mixed.iter().skip(1).step_by(2).map(|row| row.call_id.clone()).collect();
    let evidence = Evidence {
        masked: Some(&masked),
        ..evidence(&mixed)
    };
    let judged = verdict(&evidence, &VerdictConfig::default());
    let found: Vec<(&str, usize, f64)> = judged
        .strata
        .iter()
        .map(|stratum| (stratum.stratum.as_str(), stratum.pairs, stratum.agreement))
        .collect();
    let expected = [
        ("label", 200, 0.75),
        ("structured", 100, 0.75),
        ("masked", 150, 0.5),
        ("unmasked", 150, 1.0),
    ];
    assert_eq!(found, expected);
    assert!(judge(&rows(300, &EQUAL)).strata.is_empty(), "all alike");
}

#[test]
fn only_the_newest_version_young_rows_and_the_first_of_a_call_count() {
    let mut all = rows(300, &EQUAL);
    let mut old_version = rows(300, &[(0.0, 1.0)]);
    old_version.iter_mut().for_each(|row| {
        row.candidate_version = "v0".into();
        row.judged_at -= 10_000_000;
    });
    let mut asked_again = rows(300, &[(0.0, 1.0)]);
    asked_again.iter_mut().for_each(|row| row.judged_at += 1000);
    let mut other_task = rows(300, &[(0.0, 1.0)]);
    other_task.iter_mut().for_each(|row| row.task_id = "other".into());
    all.splice(0..0, old_version);
    all.extend(asked_again);
    all.extend(other_task);
    let verdict = judge(&all);
    assert_eq!(
        (verdict.verdict, verdict.pairs, verdict.candidate_version.as_deref()),
        (Decision::Promote, 300, Some("v1"))
    );
    assert_eq!(verdict.stale, None);
    all.iter_mut().for_each(|row| row.judged_at -= 40 * 24 * 3_600_000_000);
    let newest = all.iter().filter(|row| row.task_id == "task").map(|row| row.judged_at);
    let newest = newest.max();
    let verdict = judge(&all);
    assert_eq!(
        (verdict.verdict, verdict.stale),
        (Decision::NeedMore(200), newest),
        "all too old"
    );
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

#[test]
fn a_pair_whose_floor_came_later_is_as_new_as_its_floor() {
    // Every second call got its floor later; among those the candidate was worse.
    let all = rows(400, &[(1.0, 1.0), (0.7, 1.0)]);
    let later = |index: usize| !index.is_multiple_of(2);
    let paired: HashMap<String, i64> = (0..400)
        .filter(|index| later(*index))
        .map(|index| (format!("call-{index}"), NOW - 500_000 + index as i64))
        .collect();
    let given = Evidence {
        paired: Some(&paired),
        ..evidence(&all)
    };
    let given = verdict(&given, &VerdictConfig::default());
    let mut stamped = all.clone();
    for (index, row) in stamped.iter_mut().enumerate().filter(|(index, _)| later(*index)) {
        row.judged_at = NOW - 500_000 + index as i64;
    }
    let expected = judge(&stamped);
    assert_eq!((given.lower, given.upper), (expected.lower, expected.upper));
    assert_ne!(given.e_value, judge(&all).e_value, "the order counts");
}

#[test]
fn what_a_judge_said_is_told_and_decides_nothing() {
    let mut all = rows(300, &EQUAL);
    let without = judge(&all);
    all[0].judge = Some(0.0);
    all[1].judge = Some(0.5);
    let with = judge(&all);
    assert_eq!((with.judged, with.judge), (2, Some(0.25)));
    assert_eq!((without.judged, without.judge), (0, None));
    assert_eq!((with.verdict, with.lower), (without.verdict, without.lower));
}
