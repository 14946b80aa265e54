use super::*;
use proptest::prelude::*;

/// Numbers in 0..1 that are the same in every run (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn loss(&mut self, rate: f64) -> f64 {
        f64::from(self.roll() < rate)
    }
}

/// After how many calls of the canary an alarm is raised, at a weight of 5 %.
fn alarm_after(seed: u64, canary: f64, baseline: f64, most: u64) -> Option<u64> {
    let mut dice = Dice(seed);
    let mut detector = Detector::new(0.02, 1e5);
    let mut calls = 0;
    while calls < most {
        let alarm = if dice.roll() < 0.05 {
            calls += 1;
            detector.canary(dice.loss(canary))
        } else {
            detector.baseline(dice.loss(baseline))
        };
        if alarm.is_some() {
            return Some(calls);
        }
    }
    None
}

#[test]
fn a_canary_that_fails_20_points_more_is_seen_within_200_calls() {
    for baseline in [0.0, 0.01, 0.03] {
        let late = (0..100).filter(|seed| alarm_after(*seed, baseline + 0.2, baseline, 200).is_none());
        assert!(late.count() <= 2, "at a baseline of {baseline}");
    }
}

#[test]
fn a_canary_that_is_no_worse_raises_no_alarm() {
    for rate in [0.0, 0.01, 0.05, 0.3, 1.0] {
        let alarms = (0..10).filter(|seed| alarm_after(*seed, rate, rate, 5_000).is_some());
        assert_eq!(alarms.count(), 0, "at {rate}");
    }
}

#[test]
fn a_baseline_that_is_worse_or_out_raises_none_and_the_canary_is_not_excused_after_it() {
    assert_eq!(alarm_after(1, 0.01, 0.3, 5_000), None);
    let mut detector = Detector::new(0.02, 1e5);
    let mut feed = |canary: f64, baseline: f64, steps: usize| {
        let alarms = (0..steps).filter(|_| {
            let mut alarm = false;
            for _ in 0..19 {
                alarm |= detector.baseline(baseline).is_some();
            }
            alarm | detector.canary(canary).is_some()
        });
        alarms.count()
    };
    assert_eq!(feed(0.0, 0.0, 500), 0);
    assert_eq!(feed(0.0, 1.0, 500), 0, "an outage of the baseline");
    assert_eq!(feed(1.0, 1.0, 500), 0, "of both");
    assert_eq!(feed(0.0, 0.0, 500), 0, "it is over");
    assert!(feed(1.0, 0.0, 60) > 0, "the candidate alone");
}

#[test]
fn a_regression_after_many_good_calls_is_seen_as_soon() {
    let mut dice = Dice(7);
    let mut detector = Detector::new(0.02, 1e5);
    for step in 0..10_200 {
        for _ in 0..19 {
            assert_eq!(detector.baseline(dice.loss(0.01)), None);
        }
        let alarm = detector.canary(dice.loss(if step < 10_000 { 0.01 } else { 0.21 }));
        if let Some(told) = alarm {
            assert!(step >= 10_000);
            assert!(told.canary_rate() > told.baseline_rate() + 0.05, "{told:?}");
            return;
        }
    }
    panic!("no alarm");
}

#[test]
fn without_a_baseline_at_the_same_time_nothing_is_said() {
    let mut detector = Detector::new(0.02, 1e5);
    assert!((0..10_000).all(|_| detector.canary(1.0).is_none()));
    assert!(detector.canary.len() <= BLOCK);
}

#[test]
fn agreement_is_a_loss_too() {
    // 30 points less agreement, both in fractions.
    let mut dice = Dice(3);
    let mut detector = Detector::new(0.05, 1e5);
    let after = (1..200).find(|_| {
        let _ = detector.baseline(dice.roll() * 0.2);
        detector.canary(0.3 + dice.roll() * 0.2).is_some()
    });
    assert!(after.is_some());
}

proptest! {
    /// The mean of a step's factor is at most 1 wherever the canary is within its tolerance, whatever was expected.
    #[test]
    fn the_bet_is_fair(
        usual in 0.001f64..0.9, rate in 0.0f64..1.0, tolerance in 0.0f64..0.3, excess in 0.01f64..0.5,
        a in 1i32..20, b in 1i32..20,
    ) {
        let usual = f64::min(usual, 0.97 - tolerance);
        let limit = usual + tolerance;
        let ratio = f64::from(a) / f64::from(b);
        let worse = (limit + excess).min(0.99);
        let stake = ((worse - limit) / (limit * (1.0 - limit))).min(CAUTION / limit).min(CAUTION / (ratio * (1.0 - usual)));
        let canary = (rate + tolerance).min(1.0);
        let mean = (1.0 + stake * (canary - limit)).powi(a) * (1.0 - stake * ratio * (rate - usual)).powi(b);
        prop_assert!(mean <= 1.0 + 1e-9, "{mean}");
    }

    #[test]
    fn nothing_panics(losses in proptest::collection::vec((any::<bool>(), any::<f64>()), 0..300), tolerance in any::<f64>()) {
        let mut detector = Detector::new(tolerance, 1e5);
        for (is_canary, loss) in losses {
            let _ = if is_canary { detector.canary(loss) } else { detector.baseline(loss) };
        }
    }
}
