use super::*;

const GUARD: Limits = Limits {
    error: Some(0.02),
    invalid: Some(0.01),
    fallback: Some(0.05),
    p95_latency: Some(1.2),
    cost: Some(1.5),
    agreement: None,
};

fn ok(duration_ms: f64) -> Seen {
    Seen {
        failed: Some(false),
        invalid: Some(false),
        fell_back: Some(false),
        cause: None,
        duration_ms: Some(duration_ms),
        cost_usd: Some(duration_ms * 1e-5),
        conversation: None,
    }
}

/// 19 calls of the baseline for each of the candidate, until it is taken out.
fn run(watch: &mut Watch, calls: usize, canary: impl Fn(usize) -> Seen) -> Option<(usize, &'static str)> {
    for call in 0..calls {
        for step in 0..19 {
            // 80 to 120 ms.
            let seen = ok(80.0 + ((call * 19 + step) * 37 % 41) as f64);
            if let Some(worse) = watch.baseline(&seen) {
                return Some((call, worse.metric));
            }
        }
        if let Some(worse) = watch.canary("small", &canary(call)) {
            assert_eq!(worse.candidate, "small");
            assert!(worse.why.contains("last"), "{worse:?}");
            return Some((call, worse.metric));
        }
    }
    None
}

#[test]
fn each_limit_trips_by_its_own_name_and_soon() {
    let like = |call: usize| ok(80.0 + (call * 37 % 41) as f64);
    let mut watch = Watch::new(GUARD);
    assert_eq!(run(&mut watch, 1_000, like), None);
    let every_fourth = |call: usize| call.is_multiple_of(4);
    let failing = |call: usize| Seen {
        failed: Some(every_fourth(call)),
        ..like(call)
    };
    let invalid = |call: usize| Seen {
        invalid: Some(every_fourth(call)),
        ..like(call)
    };
    let falling = |call: usize| Seen {
        fell_back: Some(every_fourth(call)),
        ..like(call)
    };
    let slow = |call: usize| Seen {
        duration_ms: like(call).duration_ms.map(|took| took * 2.0),
        ..like(call)
    };
    for (metric, alarm) in [
        ("error", run(&mut watch, 200, failing)),
        ("invalid", run(&mut watch, 200, invalid)),
        ("fallback", run(&mut watch, 200, falling)),
        ("p95_latency", run(&mut watch, 200, slow)),
    ] {
        let (_, told) = alarm.unwrap_or_else(|| panic!("{metric}: no alarm within 200 calls"));
        assert_eq!(told, metric);
    }
    assert_eq!(run(&mut watch, 1_000, like), None, "it begins anew");
}

#[test]
fn what_is_not_limited_trips_nothing() {
    let mut watch = Watch::new(Limits {
        error: Some(0.02),
        ..Limits::default()
    });
    assert_eq!(
        run(&mut watch, 500, |_| Seen {
            invalid: Some(true),
            fell_back: Some(true),
            ..ok(9_999.0)
        }),
        None
    );
}

#[test]
fn answers_that_agree_less_than_the_baseline_with_itself_trip() {
    let limits = Limits {
        agreement: Some(0.05),
        ..Limits::default()
    };
    let mut watch = Agreement::new(&limits).unwrap();
    // In turns 1 and 0.8: 0.9 on average, as the floor is.
    let turns = |call: usize| if call.is_multiple_of(2) { 1.0 } else { 0.8 };
    assert!((0..1_000).all(|call| watch.canary("small", turns(call), Some(0.9)).is_none()));
    let worse = (0..200).find_map(|call| watch.canary("small", turns(call) - 0.3, Some(0.9)));
    let worse = worse.expect("30 points less are seen within 200 calls");
    assert!(
        worse.metric == "agreement" && worse.why.contains("with itself"),
        "{worse:?}"
    );
    assert!(Agreement::new(&Limits::default()).is_none());
}

#[test]
fn a_candidate_that_costs_more_on_average_is_told_by_that_and_one_that_costs_less_is_not() {
    let dear = |times: f64| {
        move |call: usize| Seen {
            cost_usd: Some((80.0 + (call * 37 % 41) as f64) * 1e-5 * times),
            ..ok(80.0 + (call * 37 % 41) as f64)
        }
    };
    let mut watch = Watch::new(GUARD);
    assert_eq!(run(&mut watch, 1_000, dear(1.0)), None);
    assert_eq!(run(&mut watch, 1_000, dear(0.01)), None);
    let (_, metric) = run(&mut watch, 300, dear(3.0)).expect("three times as dear is seen");
    assert_eq!(metric, "cost");
    // Cheap, but for the quarter of its calls that the baseline answers in its place.
    let mixed = |call: usize| {
        if call.is_multiple_of(4) {
            dear(1.01)(call)
        } else {
            dear(0.01)(call)
        }
    };
    assert_eq!(run(&mut watch, 1_000, mixed), None);
    let unknown = |call: usize| Seen {
        cost_usd: None,
        ..dear(9.0)(call)
    };
    assert_eq!(run(&mut watch, 500, unknown), None, "what is not known is not guessed");
}

/// Exponential durations of the baseline with a mean of 300 ms; those of the canary are made of the same numbers. Calls of
/// the canary until it is taken out.
fn slowed(seed: u64, most: usize, canary: impl Fn(f64) -> f64) -> Option<usize> {
    let mut state = seed;
    let mut exponential = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let unit = ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -300.0 * unit.ln()
    };
    let mut watch = Watch::new(GUARD);
    (1..=most).find(|_| {
        for _ in 0..19 {
            let seen = ok(exponential());
            assert_eq!(watch.baseline(&Seen { cost_usd: None, ..seen }), None);
        }
        let seen = ok(canary(exponential()));
        watch.canary("small", &Seen { cost_usd: None, ..seen }).is_some()
    })
}

#[test]
fn durations_that_scatter_widely_and_double_are_seen_within_200_calls() {
    let late = (0..20).filter(|seed| slowed(*seed, 200, |took| took * 2.0).is_none());
    assert!(late.count() <= 2);
    assert!((0..5).all(|seed| slowed(seed, 2_000, |took| took).is_none()));
}

#[test]
fn a_candidate_whose_durations_are_long_but_never_very_long_keeps_its_95th_percentile() {
    // Half as long again as the baseline's median, and a third of its 95th percentile, at every call.
    assert_eq!(slowed(7, 2_000, |_| 310.0), None);
}

#[test]
fn calls_of_one_conversation_that_are_slow_together_count_for_less() {
    let run = |known: bool| {
        let mut watch = Watch::new(GUARD);
        (0..3_000).find(|number| {
            // A conversation of ten calls is slow or fast as a whole, on both sides.
            let of = |side: u64, conversation: u64| {
                let hash = (side << 32 | conversation).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let slow =
                    ((hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1u64 << 53) as f64;
                let slow = slow.max(1e-6).powf(-0.8);
                Seen {
                    conversation: known.then_some(side << 32 | conversation),
                    cost_usd: None,
                    ..ok(100.0 * slow)
                }
            };
            for call in 0..19 {
                let _ = watch.baseline(&of(1, (number * 19 + call) / 10));
            }
            watch.canary("small", &of(2, number / 10)).is_some()
        })
    };
    assert_eq!(run(true), None);
    assert!(
        run(false).is_some(),
        "taken for calls of their own they would be a regression"
    );
}

#[test]
fn fallbacks_are_told_also_where_all_calls_go_to_the_candidate() {
    let mut watch = Watch::new(GUARD);
    let call = |watch: &mut Watch, fell_back: bool| {
        let seen = Seen {
            fell_back: Some(fell_back),
            ..ok(100.0)
        };
        watch.canary("small", &seen)
    };
    assert!((0..2_000).all(|number: usize| call(&mut watch, number.is_multiple_of(50)).is_none()));
    let worse = (0..100).find_map(|number: usize| call(&mut watch, number.is_multiple_of(4)));
    assert_eq!(worse.map(|worse| worse.metric), Some("fallback"));
}

#[test]
fn a_trip_says_what_for_calls_were_held_against_the_candidate_the_most_frequent_first() {
    let of = |cause| Seen {
        fell_back: Some(true),
        cause: Some(cause),
        ..ok(100.0)
    };
    let causes = [
        Cause::Word("invalid_arguments"),
        Cause::Status(503),
        Cause::Word("invalid_arguments"),
    ];
    let mut watch = Watch::new(GUARD);
    // What it fell back for before it looked well again is no evidence.
    watch.canary("small", &of(Cause::Word("timeout")));
    assert!((0..200).all(|_| watch.canary("small", &ok(100.0)).is_none()));
    let worse = (0..50).find_map(|number: usize| watch.canary("small", &of(causes[number % 3])));
    let Worse { metric, why, .. } = worse.expect("every call falls back");
    assert_eq!(metric, "fallback");
    let count = |of: &str| {
        let (before, _) = why.split_once(&format!(" for `{of}`")).expect(of);
        let mut words = before.rsplit([' ', '(']);
        let (all, count) = (words.next(), words.nth(1));
        (
            count.and_then(|count| count.parse::<usize>().ok()).expect(&why),
            all.and_then(|all| all.parse::<usize>().ok()).expect(&why),
        )
    };
    let ((most, all), (least, _)) = (count("invalid_arguments"), count("status 503"));
    assert_eq!(most + least, all, "{why}");
    assert!(most > least && least > 0 && all > 4, "{why}");
    assert!(why.contains(&format!("100 % of its last {all} calls")), "{why}");
    assert!(why.find("invalid_arguments") < why.find("status 503"), "{why}");
    assert!(!why.contains("timeout"), "{why}");
}

#[test]
fn errors_and_invalid_answers_have_their_own_causes_and_what_is_not_known_is_not_named() {
    let trip = |seen: Seen| {
        let mut watch = Watch::new(GUARD);
        let worse = (0..200).find_map(|_| watch.canary("small", &seen).or(watch.baseline(&ok(100.0))));
        worse.expect("every call is lost").why
    };
    let failed = Seen {
        failed: Some(true),
        cause: Some(Cause::Word("upstream_connect")),
        ..ok(100.0)
    };
    assert!(trip(failed).contains(" for `upstream_connect`)"), "{}", trip(failed));
    let invalid = Seen {
        invalid: Some(true),
        cause: Some(Cause::Word("empty")),
        ..ok(100.0)
    };
    assert!(trip(invalid).contains(" for `empty`)"), "{}", trip(invalid));
    let unknown = Seen { cause: None, ..failed };
    assert!(!trip(unknown).contains(" for "), "{}", trip(unknown));
}

#[test]
fn what_was_held_against_a_candidate_is_forgotten_with_it() {
    let failing = Seen {
        failed: Some(true),
        ..ok(100.0)
    };
    let is_told = |watch: &mut Watch| watch.canary("small", &failing).or(watch.baseline(&ok(100.0))).is_some();
    let calls = |watch: &mut Watch| (1..100).find(|_| is_told(watch));
    let whole = calls(&mut Watch::new(GUARD)).expect("it fails always");
    let mut watch = Watch::new(GUARD);
    assert!((1..whole).all(|_| !is_told(&mut watch)));
    watch.forget("small");
    assert_eq!(calls(&mut watch), Some(whole));
}

#[test]
fn a_few_milliseconds_more_are_no_regression_and_many_are() {
    let limits = Limits {
        p95_latency: Some(1.2),
        ..Limits::default()
    };
    let after = |slower: f64| {
        let mut watch = Watch::new(limits);
        let took = |call: usize| 1.0 + (call * 37 % 41) as f64 / 20.0;
        (0..2_000).find(|call| {
            let of_baseline = (0..19).any(|step| watch.baseline(&ok(took(call * 19 + step))).is_some());
            of_baseline || watch.canary("small", &ok(took(*call) + slower)).is_some()
        })
    };
    assert_eq!(after(4.0), None, "a cold connection");
    let (soon, calls) = (
        after(20.0),
        "from the first calls of the baseline that tell how long they take",
    );
    assert!(soon.is_some_and(|call| call < 200), "{soon:?} {calls}");
}

#[test]
fn the_level_is_counted_in_calls_and_has_an_end() {
    let whole = RUN_LENGTH.ln();
    assert_eq!(level(whole, 1.0), whole);
    assert!((level(whole, 0.1) - 1e4f64.ln()).abs() < 1e-9);
    assert!((level(whole, 0.0001) - 1e3f64.ln()).abs() < 1e-9);
    assert_eq!(level(TAIL.ln(), 0.1), TAIL.ln(), "what is low stays");
}
