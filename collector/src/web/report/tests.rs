use super::*;

fn candidate(task: &str, name: &str, ready: Ready, costs: [Option<f64>; 2]) -> Candidate {
    Candidate {
        task: task.into(),
        name: name.into(),
        version: "v".into(),
        model: None,
        ready,
        verdict: "promote".into(),
        reason: "because".into(),
        pairs: 300,
        conversations: 300,
        difference: Some(-0.01),
        lower: Some(-0.03),
        upper: Some(0.01),
        agreement: Some(0.95),
        floor: Some(0.96),
        valid: Some(1.0),
        valid_baseline: Some(1.0),
        cost_per_1k: costs,
        cost_per_month: [None; 2],
        gpu_hour: None,
        break_even_per_day: None,
        p50_ms: [Some(20.0), Some(300.0)],
        p95_ms: [Some(40.0), Some(900.0)],
        first_token_ms: [Some(5.0), Some(90.0)],
        unpriced: Vec::new(),
        judged: 0,
        judge: None,
    }
}

fn counts(hours: &[(&str, &str, u64)]) -> Counts {
    let mut counts = Counts::default();
    for (folder, task, calls) in hours {
        let took = Took {
            calls: *calls,
            cost_usd: Some(*calls as f64),
            cost_known_calls: *calls,
            served: BTreeMap::from([("openai".to_owned(), *calls)]),
            ..Took::default()
        };
        let hour = counts.hours.entry((*folder).to_owned()).or_default();
        hour.tasks.entry((*task).to_owned()).or_default().merge(&took);
    }
    counts
}

fn book(ids: &[&str]) -> TaskBook {
    let task = |id: &&str| Task {
        id: (*id).into(),
        name: (*id).into(),
        answers: vec![("json".into(), 0.95), ("prose".into(), 0.05)],
        ..Task::default()
    };
    TaskBook {
        version: 7,
        tasks: ids.iter().map(task).collect(),
        ..TaskBook::default()
    }
}

#[test]
fn shares_span_and_month_are_of_what_was_counted() {
    let counts = counts(&[
        ("calls/dt=1970-01-01/hour=h00", "", 10),
        ("calls/dt=2026-11-20/hour=h07", "a", 60),
        ("calls/dt=2026-11-21/hour=h18", "b", 30),
    ]);
    let report = Report::new(0, Some(&book(&["a", "b"])), &counts, &[], &[], &Settings::default());
    let hours = ("2026-11-20 07:00".to_owned(), "2026-11-21 18:00".to_owned());
    assert_eq!((report.book, report.hours.as_ref()), (Some(7), Some(&hours)));
    assert_eq!((report.days, report.in_tasks), (1.5, 0.9));
    assert_eq!((report.tasks[0].share, report.tasks[0].per_month), (0.6, Some(1200.0)));
    assert!((report.narrow.0 - 0.9).abs() < 1e-9);
    assert_eq!(report.tasks[0].days[0].day, "2026-11-20");
}

#[test]
fn a_month_is_not_projected_from_an_hour() {
    let counts = counts(&[("calls/dt=2026-11-20/hour=h07", "a", 60)]);
    let own = candidate("a", "slm", Ready::Promote, [Some(1.0), Some(11.0)]);
    let report = Report::new(0, Some(&book(&["a"])), &counts, &[own], &[], &Settings::default());
    let task = &report.tasks[0];
    assert!(!report.is_projected() && task.per_month.is_none());
    assert_eq!(task.saves(&task.candidates[0]), Some(0.6), "of the 60 calls kept");
}

#[test]
fn the_readiest_come_first_and_an_unknown_price_saves_nothing_known() {
    let counts = counts(&[
        ("calls/dt=2026-11-20/hour=h07", "a", 60),
        ("calls/dt=2026-11-20/hour=h07", "b", 600),
    ]);
    let candidates = [
        candidate("a", "cheap", Ready::Hold, [Some(0.0), Some(100.0)]),
        candidate("a", "good", Ready::Promote, [Some(1.0), Some(11.0)]),
        candidate("b", "best", Ready::Promote, [Some(1.0), Some(11.0)]),
        candidate("b", "free?", Ready::NeedMore, [None, Some(11.0)]),
    ];
    let report = Report::new(
        0,
        Some(&book(&["a", "b"])),
        &counts,
        &candidates,
        &[],
        &Settings::default(),
    );
    let order: Vec<&str> = report.by_saving().iter().map(|(_, own)| own.name.as_str()).collect();
    assert_eq!(order, ["best", "good", "free?", "cheap"]);
    assert_eq!(report.tasks[0].saves(&report.tasks[0].candidates[1]), None);
    assert_eq!(report.tasks[1].candidates[0].name, "good");
}

#[test]
fn what_only_a_person_can_promote_comes_before_what_is_not_known_yet() {
    let counts = counts(&[("calls/dt=2026-11-20/hour=h07", "a", 60)]);
    let held = |name: &str, lower: f64, valid: f64| Candidate {
        lower: Some(lower),
        valid: Some(valid),
        ..candidate("a", name, Ready::Hold, [None, None])
    };
    let candidates = [
        held("worse", -0.2, 1.0),
        held("malformed", -0.03, 0.8),
        candidate("a", "open", Ready::NeedMore, [None, None]),
        held("prose", -0.03, 1.0),
    ];
    let settings = Settings::default();
    let report = Report::new(0, Some(&book(&["a"])), &counts, &candidates, &[], &settings);
    let order: Vec<&str> = report.tasks[0].candidates.iter().map(|own| &*own.name).collect();
    assert_eq!(order, ["prose", "open", "worse", "malformed"]);
}

#[test]
fn an_idle_machine_costs_as_well() {
    let counts = counts(&[
        ("calls/dt=2026-11-20/hour=h07", "a", 600),
        ("calls/dt=2026-11-22/hour=h07", "a", 600),
    ]);
    let own = Candidate {
        cost_per_month: [Some(576.0), Some(100.0)],
        ..candidate("a", "slm", Ready::Promote, [Some(1.0), Some(11.0)])
    };
    let report = Report::new(0, Some(&book(&["a"])), &counts, &[own], &[], &Settings::default());
    assert_eq!(report.tasks[0].saves(&report.tasks[0].candidates[0]), Some(-476.0));
}

#[test]
fn a_simulated_model_is_called_so() {
    let counts = counts(&[("calls/dt=2026-11-20/hour=h07", "a", 60)]);
    let own = candidate("a", "slm", Ready::Hold, [None, None]);
    let settings = Settings {
        models: BTreeMap::from([("slm".to_owned(), "simulated-slm".to_owned())]),
        ..Settings::default()
    };
    let report = Report::new(
        0,
        Some(&book(&["a"])),
        &counts,
        std::slice::from_ref(&own),
        &[],
        &settings,
    );
    assert!(report.simulated && report.tasks[0].candidates[0].is_simulated());
    let report = Report::new(0, Some(&book(&["a"])), &counts, &[own], &[], &Settings::default());
    assert!(!report.simulated);
}
