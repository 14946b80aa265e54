use super::*;

fn numbers(text: &str) -> Numbers {
    text.parse().unwrap()
}

fn tally(count: u64, text: &str) -> Tally {
    Tally {
        count,
        numbers: numbers(text),
    }
}

/// A boot of ten calls: 9 was excluded, 8 is evicted, the others are kept.
fn evidence() -> Evidence {
    Evidence {
        account: Some(Account {
            boot_id: "b".into(),
            sample: 1.0,
            begun: 10,
            mark: 8192,
            kept: 9,
            dropped: [("excluded".to_owned(), tally(1, "9"))].into(),
            ended: true,
            ..Account::default()
        }),
        is_here: true,
        evicted: [("age".to_owned(), tally(1, "8"))].into(),
        stored: numbers("1-5"),
        in_spool: numbers("4-7,10"),
        ..Evidence::default()
    }
}

fn crashed(evidence: Evidence) -> Evidence {
    Evidence {
        account: evidence.account.map(|account| Account {
            ended: false,
            ..account
        }),
        ..evidence
    }
}

#[test]
fn a_boot_that_is_accounted_for_to_the_last_call_holds() {
    let audit = evidence().judge("b".into());
    assert_eq!(audit.faults, Vec::<String>::new());
    assert_eq!((audit.state, audit.calls, audit.in_flight), (State::Ended, Some(10), 0));
    assert_eq!((audit.kept, audit.stored, audit.waiting), (9, 5, Some(3)));
    assert_eq!((audit.evicted["age"], audit.dropped["excluded"]), (1, 1));
    assert!(audit.missing.is_empty());
}

#[test]
fn calls_cut_by_a_crash_are_named_and_are_no_fault() {
    let mut evidence = crashed(evidence());
    evidence.account.as_mut().unwrap().begun = 14;
    let audit = evidence.judge("b".into());
    assert_eq!(
        (audit.state, audit.calls, audit.in_flight),
        (State::Crashed, Some(14), 4)
    );
    assert_eq!((audit.missing.to_string().as_str(), audit.missing_count), ("11-14", 4));
    assert_eq!((audit.faults.len(), audit.mark), (0, Some(8192)));
}

#[test]
fn records_that_were_kept_and_are_gone_are_a_fault_and_named() {
    for make in [evidence, || crashed(evidence())] {
        let mut evidence = make();
        evidence.in_spool = numbers("4-6");
        let audit = evidence.judge("b".into());
        assert!(audit.faults[0].starts_with("2 records were kept"), "{:?}", audit.faults);
        assert_eq!((audit.missing.to_string().as_str(), audit.in_flight), ("7,10", 0));
        assert_eq!(audit.kept, 9);
    }
}

#[test]
fn a_boot_that_ended_with_calls_open_says_so() {
    let mut evidence = evidence();
    evidence.account.as_mut().unwrap().begun = 12;
    let audit = evidence.judge("b".into());
    assert!(audit.faults[0].starts_with("2 calls were begun"), "{:?}", audit.faults);
    assert_eq!(audit.missing.to_string(), "11-12");
}

#[test]
fn calls_of_a_boot_that_runs_are_in_flight() {
    let mut evidence = crashed(evidence());
    evidence.is_running = true;
    evidence.account.as_mut().unwrap().begun = 14;
    let audit = evidence.judge("b".into());
    assert_eq!(
        (audit.state, audit.in_flight, audit.missing_count),
        (State::Running, 4, 0)
    );
}

#[test]
fn what_was_evicted_or_dropped_without_a_name_explains_as_many_numbers() {
    let mut evidence = evidence();
    evidence.in_spool = numbers("4-6");
    evidence.evicted.insert("corrupt".into(), tally(2, ""));
    let audit = evidence.judge("b".into());
    assert_eq!((audit.faults.len(), audit.missing_count), (0, 0));

    let mut evidence = crashed(self::evidence());
    let account = evidence.account.as_mut().unwrap();
    account.begun = 15;
    account.dropped.insert("queue_full".into(), tally(3, ""));
    let audit = evidence.judge("b".into());
    assert_eq!((audit.in_flight, audit.missing_count), (2, 2));
}

#[test]
fn calls_out_of_the_sample_are_told_by_their_numbers() {
    let mut evidence = evidence();
    let account = evidence.account.as_mut().unwrap();
    account.sample = 0.5;
    account.begun = 1000;
    let out = (1..=1000).filter(|number| !in_sample("b", *number, 0.5));
    let out: Numbers = out.collect();
    account.dropped = [("sampled_out".to_owned(), tally(out.len(), ""))].into();
    account.kept = 1000 - out.len();
    evidence.evicted.clear();
    evidence.in_spool = Numbers::default();
    evidence.stored = out.missing(1, 1000);
    let lost = evidence.stored.first().unwrap();
    assert_eq!(evidence.stored.len(), 1000 - out.len());
    evidence.stored.remove(lost);
    let audit = evidence.judge("b".into());
    assert_eq!((audit.missing.to_string(), audit.faults.len()), (lost.to_string(), 1));
}

#[test]
fn rows_stored_twice_are_a_fault() {
    let mut evidence = evidence();
    evidence.stored_again = numbers("2");
    assert_eq!(evidence.judge("b".into()).faults, ["stored more than once: 2"]);
}

#[test]
fn a_boot_of_another_machine_or_without_an_account_is_not_judged() {
    let mut evidence = crashed(evidence());
    evidence.is_here = false;
    evidence.in_spool = Numbers::default();
    let audit = evidence.judge("b".into());
    assert_eq!(
        (audit.state, audit.waiting, audit.faults.len()),
        (State::Elsewhere, None, 0)
    );

    let rows = Evidence {
        stored: numbers("3-4"),
        ..Evidence::default()
    };
    let audit = rows.judge("b".into());
    assert_eq!((audit.state, audit.calls, audit.stored), (State::Unknown, None, 2));
    assert!(audit.faults.is_empty() && audit.missing.is_empty());
}
