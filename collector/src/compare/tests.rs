//! Coverage and width by simulation, and known values.

use super::*;

/// A small generator with a fixed seed (splitmix64): the figures are the same on every machine.
struct Noise(u64);

impl Noise {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// −1 and 1 with these probabilities, else 0: how differences of hits look.
    fn difference(&mut self, worse: f64, better: f64) -> f64 {
        let draw = self.unit();
        if draw < worse {
            -1.0
        } else if draw < worse + better {
            1.0
        } else {
            0.0
        }
    }
}

/// How many of 400 sequences missed the true mean at any of 150 looks.
fn misses(truth: f64, mut draw: impl FnMut(&mut Noise) -> f64) -> usize {
    let mut noise = Noise(2026);
    let mut missed = |noise: &mut Noise| {
        let mut sequence = BettingSequence::new(0.05);
        (0..150).any(|_| {
            sequence.push(draw(noise));
            let interval = sequence.interval();
            truth < interval.lower || truth > interval.upper
        })
    };
    (0..400).filter(|_| missed(&mut noise)).count()
}

#[test]
fn the_true_mean_is_missed_in_at_most_five_of_a_hundred_at_any_look() {
    let limit = 28; // 7 % of 400
    let few_flips = misses(0.0, |noise| noise.difference(0.05, 0.05));
    let many_worse = misses(-0.2, |noise| noise.difference(0.3, 0.1));
    let continuous = misses(0.0, |noise| 2.0 * noise.unit() - 1.0);
    let skewed = misses(-0.02, |noise| noise.difference(0.02, 0.0));
    assert!(
        [few_flips, many_worse, continuous, skewed]
            .iter()
            .all(|missed| *missed <= limit),
        "{few_flips} {many_worse} {continuous} {skewed}"
    );
}

#[test]
fn the_interval_shrinks_and_never_grows() {
    let mut noise = Noise(7);
    let mut sequence = BettingSequence::new(0.05);
    let mut widths = Vec::new();
    for _ in 0..1000 {
        sequence.push(noise.difference(0.05, 0.05));
        let interval = sequence.interval();
        widths.push(interval.upper - interval.lower);
    }
    assert!(widths.windows(2).all(|pair| pair[1] <= pair[0]));
    assert!(
        widths[49] < 1.0 && widths[199] < 0.3 && widths[999] < 0.12,
        "{} {} {}",
        widths[49],
        widths[199],
        widths[999]
    );
}

#[test]
fn equal_arms_of_low_variance_are_told_within_some_hundred_units() {
    let mut noise = Noise(11);
    let units_needed = |worse: f64, better: f64, noise: &mut Noise| {
        let mut sequence = BettingSequence::new(0.05);
        (1..5000).find(|_| {
            sequence.push(noise.difference(worse, better));
            sequence.interval().lower > -0.05
        })
    };
    let same = units_needed(0.0, 0.0, &mut noise).unwrap();
    assert!((20..400).contains(&same), "{same}");
    let mut few_flips: Vec<usize> = (0..21)
        .map(|_| units_needed(0.02, 0.02, &mut noise).unwrap_or(5000))
        .collect();
    few_flips.sort_unstable();
    assert!(few_flips[10] < 800, "{few_flips:?}");
}

#[test]
fn odd_values_neither_panic_nor_count_for_more() {
    let mut sequence = BettingSequence::new(0.0);
    assert_eq!(
        sequence.interval(),
        Interval {
            mean: 0.0,
            lower: -1.0,
            upper: 1.0
        }
    );
    for value in [f64::NAN, f64::INFINITY, -7.0, 1.0, -1.0] {
        sequence.push(value);
    }
    assert_eq!(sequence.len(), 4);
    assert_eq!(sequence.interval().mean, 0.0);
    let always_best = interval_at_margin(&[1.0; 5000], 0.05, 0.05);
    assert!(always_best.lower > 0.9 && always_best.upper == 1.0, "{always_best:?}");
}

#[test]
fn wilson_has_the_known_values() {
    // statsmodels.stats.proportion.proportion_confint(8, 10, method="wilson") and (0, 10)
    let eight = wilson(8, 10, 1.959_964).unwrap();
    assert!(
        (eight.lower - 0.490_16).abs() < 1e-4 && (eight.upper - 0.943_32).abs() < 1e-4,
        "{eight:?}"
    );
    let none = wilson(0, 10, 1.959_964).unwrap();
    assert!(none.lower == 0.0 && (none.upper - 0.277_53).abs() < 1e-4, "{none:?}");
    assert_eq!(wilson(0, 0, 1.96), None);
}

#[test]
fn a_test_of_a_margin_is_one_point_of_its_sequence() {
    let mut noise = Noise(3);
    for (worse, better) in [(0.0, 0.0), (0.08, 0.08), (0.3, 0.1), (0.05, 0.0)] {
        let (mut sequence, mut test) = (BettingSequence::at_margin(0.05, 0.05), MarginTest::new(0.05, 0.05));
        for _ in 0..1500 {
            let value = noise.difference(worse, better);
            sequence.push(value);
            test.push(value);
            let point = sequence.capitals[475];
            assert_eq!(point.is_none(), test.is_above() || test.is_below());
            if let Some((above, _)) = point {
                assert!((above / test.e_value() - 1.0).abs() < 1e-6);
            }
            let interval = sequence.interval();
            assert!(!test.is_above() || interval.lower >= -0.05 - 1e-9, "{interval:?}");
            assert!(!test.is_below() || interval.upper <= -0.05 + 1e-9, "{interval:?}");
        }
        assert_eq!(test.is_above(), worse <= better, "{worse} {better}");
    }
}

#[test]
fn what_is_needed_is_told_by_a_formula() {
    let mut test = MarginTest::new(0.05, 0.05);
    assert!(
        test.more_needed(40.0).is_some(),
        "nothing seen: as if equal, at the largest variance"
    );
    let mut noise = Noise(5);
    (0..300).for_each(|_| test.push(noise.difference(0.09, 0.09)));
    let needed = test.more_needed(40.0).unwrap();
    assert!((50.0..2000.0).contains(&needed), "{needed}");
    assert_eq!(test.more_needed(1e-9), Some(0.0), "it is there already");
    let mut at_margin = MarginTest::new(0.05, 0.0);
    (0..200).for_each(|number| at_margin.push(if number % 2 == 0 { 1.0 } else { -1.0 }));
    assert_eq!(at_margin.more_needed(40.0), None, "the mean is on the margin");
}

#[test]
fn units_are_averaged_in_order_of_first_sight() {
    let values = [("b", 1.0), ("a", 0.0), ("b", 0.0), ("b", 0.5)];
    assert_eq!(unit_means(values), [0.5, 0.0]);
}

#[test]
fn percentiles_are_of_the_nearest_rank() {
    let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
    assert_eq!(percentile(&values, 0.5), Some(50.0));
    assert_eq!(percentile(&values, 0.95), Some(95.0));
    assert_eq!(percentile(&[3.0], 0.95), Some(3.0));
    assert_eq!(percentile(&[], 0.5), None);
    assert_eq!(percentile(&[f64::NAN], 0.5), None);
    assert_eq!(mean(&[]), None);
}
