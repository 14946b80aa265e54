use super::*;
use understudy_call::control::Trip;
use understudy_call::record::ScoreRecord;

const SECOND: i64 = 1_000_000;

fn route() -> Route {
    Route {
        id: "r".into(),
        stamp: "now".into(),
        task: Some("t".into()),
        candidates: vec![Candidate {
            name: "small".into(),
            version: Some("v1".into()),
            begins: 5,
            highest: 12,
        }],
        steps: Some(Steps {
            weight: 5,
            interval: 10 * SECOND,
            min_calls: 200,
            threshold: 1,
            auto: true,
        }),
        rollback_on_drift: false,
    }
}

fn verdict(decision: Decision) -> Verdict {
    let evidence = crate::verdict::Evidence {
        task: "t",
        candidate: "small",
        ..crate::verdict::Evidence::default()
    };
    Verdict {
        verdict: decision,
        candidate_version: Some("v1".into()),
        ..crate::verdict::verdict(&evidence, &crate::verdict::VerdictConfig::default())
    }
}

/// Enough time and calls for a step, and a promise.
fn ripe(now: i64) -> Facts {
    Facts {
        now,
        canaried: BTreeMap::from([("small".into(), 200)]),
        verdicts: vec![verdict(Decision::Promote)],
        ..Facts::default()
    }
}

/// Decides and does it.
fn go(control: &mut Control, facts: &Facts) -> Move {
    let decided = decide(&route(), Some(control), facts, false);
    put(control, &route(), &decided, CONTROLLER, facts.now);
    decided
}

fn started() -> Control {
    let mut control = Control::of("r");
    assert_eq!(go(&mut control, &ripe(0)), Move::Start);
    control
}

#[test]
fn weights_grow_by_steps_up_to_the_highest() {
    let mut control = started();
    assert_eq!(control.weights["small"], 5);
    assert_eq!(go(&mut control, &ripe(11 * SECOND)), Move::Step("small".into(), 10));
    assert!(
        matches!(go(&mut control, &ripe(12 * SECOND)), Move::Stay(_)),
        "too soon"
    );
    assert_eq!(go(&mut control, &ripe(22 * SECOND)), Move::Step("small".into(), 12));
    assert_eq!(
        go(&mut control, &ripe(44 * SECOND)),
        Move::Stay("it is at its highest weight".into())
    );
    assert_eq!(control.step.as_ref().unwrap().number, 3);
}

#[test]
fn a_step_takes_time_calls_and_a_verdict_and_by_hand_none_of_them() {
    let facts = ripe(11 * SECOND);
    let few = Facts {
        canaried: BTreeMap::new(),
        ..facts.clone()
    };
    let unjudged = Facts {
        verdicts: vec![],
        ..facts.clone()
    };
    let unsure = Facts {
        verdicts: vec![verdict(Decision::NeedMore(40))],
        ..facts
    };
    for (facts, told) in [
        (few, "0 of the step's 200"),
        (unjudged, "no verdict"),
        (unsure, "40 more pairs"),
    ] {
        let control = started();
        let Move::Stay(why) = decide(&route(), Some(&control), &facts, false) else {
            panic!("{told}");
        };
        assert!(why.contains(told), "{why}");
        assert_eq!(
            decide(&route(), Some(&control), &facts, true),
            Move::Step("small".into(), 10)
        );
    }
    let mut manual = route();
    manual.steps.as_mut().unwrap().auto = false;
    let told = decide(&manual, Some(&started()), &ripe(11 * SECOND), false);
    assert_eq!(
        told,
        Move::Stay("ready for the next step: `understudy rollout promote r`".into())
    );
}

#[test]
fn calls_are_awaited_by_the_next_step_alone_and_only_where_no_person_takes_it() {
    let mut control = started();
    assert_eq!(awaited(&route(), &control), Some(("small".into(), 200)));
    let mut manual = route();
    manual.steps.as_mut().unwrap().auto = false;
    assert_eq!(awaited(&manual, &control), None);
    control.weights.insert("small".into(), 12);
    assert_eq!(awaited(&route(), &control), None, "it is at its highest weight");
    assert_eq!(awaited(&Route { steps: None, ..route() }, &control), None);
}

#[test]
fn checks_that_fail_too_often_take_it_back() {
    let mut control = started();
    let held = |now| Facts {
        verdicts: vec![verdict(Decision::Hold)],
        ..ripe(now)
    };
    assert!(matches!(go(&mut control, &held(11 * SECOND)), Move::Fail(_)));
    assert!(
        matches!(go(&mut control, &held(12 * SECOND)), Move::Stay(_)),
        "one check an interval"
    );
    assert!(matches!(go(&mut control, &held(22 * SECOND)), Move::Rollback(_)));
    assert_eq!(control.weights["small"], 0);
    let Move::Stay(told) = go(&mut control, &ripe(99 * SECOND)) else {
        panic!("it is back");
    };
    assert!(
        told.starts_with("taken back by rollout: ") && told.contains("resume r"),
        "{told}"
    );
    assert!(resume(&mut control, &route(), "ann", "mended", 100 * SECOND));
    assert_eq!(go(&mut control, &ripe(101 * SECOND)), Move::Start);
    assert_eq!(control.weights["small"], 5);
}

#[test]
fn a_drift_a_stale_verdict_and_another_version_freeze_or_take_back() {
    let drifted = Facts {
        drifted: Some("since task book 3 the tools offered changed: 40 % of the last 20".into()),
        ..ripe(0)
    };
    let stale = Facts {
        verdicts: vec![],
        stale: BTreeMap::from([("small".into(), -40 * SECOND)]),
        ..ripe(0)
    };
    let mut other = ripe(0);
    other.verdicts[0].candidate_version = Some("v0".into());
    for facts in [drifted, stale, other] {
        let mut control = started();
        assert!(matches!(go(&mut control, &facts), Move::Freeze(_)));
        assert!(
            matches!(go(&mut control, &ripe(11 * SECOND)), Move::Stay(_)),
            "until a person resumes"
        );
        assert_eq!(control.weights["small"], 5, "at its weight");
        assert!(resume(&mut control, &route(), "ann", "known", SECOND));
        let mut moved_on = facts.clone();
        if let Some(drifted) = &mut moved_on.drifted {
            *drifted = drifted.replace("40 %", "90 %");
        }
        for facts in [&facts, &moved_on] {
            let decided = go(&mut control, facts);
            assert!(!matches!(decided, Move::Freeze(_)), "who resumes knows of it");
        }
        assert_eq!(go(&mut control, &ripe(11 * SECOND)), Move::Step("small".into(), 10));
        for other in ["3 the system prompt changed: 40 %", "4 the tools offered changed: 40 %"] {
            let other = Facts {
                drifted: Some(format!("since task book {other}")),
                ..ripe(12 * SECOND)
            };
            let decided = decide(&route(), Some(&control), &other, false);
            assert!(matches!(decided, Move::Freeze(_)), "of another change nobody knows");
        }
        let back = Route {
            rollback_on_drift: true,
            ..route()
        };
        let mut control = started();
        let decided = decide(&back, Some(&control), &facts, false);
        assert!(matches!(decided, Move::Rollback(_)));
        put(&mut control, &back, &decided, CONTROLLER, 2 * SECOND);
        assert!(resume(&mut control, &back, "ann", "known", 3 * SECOND));
        assert_eq!(decide(&back, Some(&control), &facts, false), Move::Start);
    }
}

/// Verdicts as they are found in the scores of `small`, which were judged at these times, at `now`.
fn found(judged_at: &[i64], now: i64) -> Facts {
    let rows: Vec<ScoreRecord> = judged_at
        .iter()
        .enumerate()
        .map(|(number, at)| ScoreRecord {
            call_id: format!("call-{number}"),
            task_id: "t".into(),
            candidate: "small".into(),
            candidate_version: "v1".into(),
            judged_at: *at,
            valid: true,
            agreement: Some(1.0),
            floor_agreement: Some(1.0),
            ..ScoreRecord::default()
        })
        .collect();
    let evidence = crate::verdict::Evidence {
        task: "t",
        candidate: "small",
        rows: &rows,
        now,
        ..crate::verdict::Evidence::default()
    };
    let settings = crate::verdict::VerdictConfig {
        max_age: std::time::Duration::from_secs(100),
        ..crate::verdict::VerdictConfig::default()
    };
    let mut facts = Facts {
        now,
        ..Facts::default()
    };
    facts.judged(vec![crate::verdict::verdict(&evidence, &settings)]);
    facts
}

#[test]
fn a_verdict_that_was_renewed_and_grew_too_old_again_stops_it_again() {
    let mut control = started();
    let at = |seconds: i64| seconds * SECOND;
    let look = |control: &mut Control, judged_at: &[i64], now: i64| go(control, &found(judged_at, at(now)));
    let first = [at(0), at(1)];
    assert!(matches!(look(&mut control, &first, 50), Move::Stay(_)), "young enough");
    let Move::Freeze(why) = look(&mut control, &first, 120) else {
        panic!("all scores are too old");
    };
    assert!(why.contains("1970-01-01T00:00:01Z"), "{why}");
    assert!(resume(&mut control, &route(), "ann", "known", at(130)));
    assert!(
        matches!(look(&mut control, &first, 500), Move::Stay(_)),
        "who resumed knows of it"
    );
    let renewed = [at(0), at(1), at(600)];
    assert!(matches!(look(&mut control, &renewed, 601), Move::Stay(_)), "renewed");
    let Move::Freeze(again) = look(&mut control, &renewed, 800) else {
        panic!("nobody knows that it is too old again");
    };
    assert_ne!(why, again);
}

#[test]
fn what_somebody_knows_of_hides_nothing_else() {
    let mut control = started();
    let drifted = Facts {
        drifted: Some("since task book 1 the tools offered changed: 40 %".into()),
        ..ripe(0)
    };
    assert!(matches!(go(&mut control, &drifted), Move::Freeze(_)));
    assert!(resume(&mut control, &route(), "ann", "known", SECOND));
    let mut other = drifted.clone();
    other.verdicts[0].candidate_version = Some("v0".into());
    let Move::Freeze(why) = go(&mut control, &other) else {
        panic!("another version");
    };
    assert_eq!(why, "small is version v1 now, the verdict is on v0");
}

#[test]
fn a_tripped_candidate_does_not_grow_and_a_changed_split_begins_anew() {
    let mut control = started();
    control.add_trip(Trip {
        candidate: "small".into(),
        stamp: "now".into(),
        ..Trip::default()
    });
    assert!(matches!(go(&mut control, &ripe(11 * SECOND)), Move::Stay(_)));
    let changed = Route {
        stamp: "later".into(),
        ..route()
    };
    assert_eq!(decide(&changed, Some(&control), &ripe(11 * SECOND), false), Move::Start);
    assert!(resume(&mut control, &route(), "ann", "mended", SECOND));
    assert!(
        !resume(&mut control, &route(), "ann", "mended", SECOND),
        "nothing to resume"
    );
}

#[tokio::test]
async fn several_controllers_take_one_step() {
    let store = Store::in_memory();
    let start = write(&store, &route(), 0, &Move::Start, CONTROLLER, 0).await.unwrap();
    let step = Move::Step("small".into(), 10);
    let (one, other) = futures_util::future::join(
        write(&store, &route(), start.version, &step, CONTROLLER, SECOND),
        write(&store, &route(), start.version, &step, CONTROLLER, SECOND),
    )
    .await;
    assert_eq!((one.unwrap().version, other.unwrap().version), (2, 2));
    let control = control::current(&store, "r").await.unwrap().unwrap();
    assert_eq!((control.weights["small"], control.step.unwrap().number), (10, 2));
}

#[test]
fn a_verdict_that_turns_to_hold_takes_it_back_also_at_its_highest_weight() {
    let mut control = started();
    control.weights.insert("small".into(), 12);
    let held = |now| Facts {
        verdicts: vec![verdict(Decision::Hold)],
        ..ripe(now)
    };
    assert!(matches!(go(&mut control, &held(11 * SECOND)), Move::Fail(_)));
    assert!(matches!(go(&mut control, &held(22 * SECOND)), Move::Rollback(_)));
    assert_eq!(control.weights["small"], 0);
}

/// A controller that looks every half second by a wall clock that goes its own way; what it writes and when, in seconds of a
/// clock that doesn't.
fn watched(mut control: Control, looks: u64, wall: impl Fn(i64) -> i64) -> Vec<(u64, Move)> {
    let (mut ages, begun) = (Ages::default(), std::time::Instant::now());
    let mut moves = Vec::new();
    for look in 0..looks {
        let now = wall(look as i64 * SECOND / 2);
        let instant = begun + std::time::Duration::from_millis(500 * look);
        let step = control.step.clone();
        let facts = Facts {
            waited: step.map(|step| ages.waited("r", &step, now, instant)),
            ..ripe(now)
        };
        let decided = go(&mut control, &facts);
        if !matches!(decided, Move::Stay(_)) {
            moves.push((look / 2, decided));
        }
    }
    moves
}

#[test]
fn a_wall_clock_that_jumps_neither_holds_up_a_step_nor_hastens_it() {
    let hour = 3600 * SECOND;
    let steps = [
        (0, Move::Start),
        (10, Move::Step("small".into(), 10)),
        (20, Move::Step("small".into(), 12)),
    ];
    let jumps = |by: i64| move |now: i64| 2 * hour + now + if now >= 4 * SECOND { by } else { 0 };
    for by in [0, -hour, hour] {
        assert_eq!(watched(Control::of("r"), 60, jumps(by)), steps, "{by}");
    }
}

#[test]
fn a_step_that_is_still_to_come_lasts_an_interval_from_when_it_is_seen() {
    let mut control = Control::of("r");
    put(&mut control, &route(), &Move::Start, CONTROLLER, 3600 * SECOND);
    let moves = watched(control.clone(), 24, |now| now);
    assert_eq!(moves, [(10, Move::Step("small".into(), 10))]);
    // One that looks just once can't tell more than that.
    let Move::Stay(why) = decide(&route(), Some(&control), &ripe(SECOND), false) else {
        panic!("too soon");
    };
    assert_eq!(why, "the step lasts another 10 s");
    let step = control.step.unwrap();
    assert_eq!(
        counts_from(&step, 20 * SECOND, 12 * SECOND),
        8 * SECOND,
        "its calls count"
    );
    assert_eq!(counts_from(&step, 7200 * SECOND, SECOND), 3600 * SECOND);
}

#[test]
fn without_evidence_a_drift_is_seen_and_no_step_is_taken() {
    let bare = |now| Facts {
        now,
        ..Facts::default()
    };
    let mut hasty = route();
    hasty.steps.as_mut().unwrap().min_calls = 0;
    let decided = decide(&hasty, Some(&started()), &bare(99 * SECOND), false);
    assert!(matches!(decided, Move::Stay(_)), "{decided:?}");
    let drifted = Facts {
        drifted: Some("since task book 1 the tools offered changed: 40 %".into()),
        ..bare(SECOND)
    };
    assert!(matches!(
        decide(&route(), Some(&started()), &drifted, false),
        Move::Freeze(_)
    ));
}
