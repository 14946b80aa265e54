//! Which arm of a split a conversation gets: stateless, so equal on all replicas, on retries and after restarts.
//!
//! Pure. Weighted rendezvous hashing: each arm draws a score from hash(affinity key, route, arm), the best wins. A
//! changed weight moves only the conversations that must move; weight 0 never wins, a sole weight always does.

/// An arm of a split and its weight; weights are relative to their sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    /// Name of the upstream.
    pub upstream: String,
    /// Share in the sum of all weights.
    pub weight: u32,
}

/// The arm of a conversation, or `None` where all weights are 0.
pub fn choose<'a>(arms: &'a [Arm], affinity_key: &str, route: &str) -> Option<&'a Arm> {
    // An exponential draw with rate = weight: the smallest of all wins with probability weight / sum.
    let draw = |arm: &Arm| -unit_interval(affinity_key, route, &arm.upstream).ln() / f64::from(arm.weight);
    arms.iter()
        .filter(|arm| arm.weight > 0)
        .min_by(|a, b| draw(a).total_cmp(&draw(b)))
}

/// Whether a conversation that has an arm keeps it where the arm's weight is lowered to `weight` for now; the others go
/// to the baseline. Of two weights the higher one keeps all that the lower one keeps.
pub fn keeps(arm: &Arm, weight: u32, affinity_key: &str, route: &str) -> bool {
    // A draw of its own, so that who keeps an arm does not depend on how it was won.
    let draw = || unit_interval(affinity_key, route, &format!("{}\0kept", arm.upstream));
    weight >= arm.weight || (weight > 0 && draw() <= f64::from(weight) / f64::from(arm.weight))
}

/// A number in (0, 1] from a hash of the three texts.
fn unit_interval(affinity_key: &str, route: &str, arm: &str) -> f64 {
    let mut hasher = blake3::Hasher::new();
    for text in [affinity_key, route, arm] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let hash = hasher.finalize();
    let (first, _) = hash
        .as_bytes()
        .split_first_chunk::<8>()
        .expect("a blake3 hash has 32 bytes");
    // 53 bits fill a double's fraction.
    ((u64::from_le_bytes(*first) >> 11) + 1) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arms(weights: &[(&str, u32)]) -> Vec<Arm> {
        weights
            .iter()
            .map(|&(name, weight)| Arm {
                upstream: name.into(),
                weight,
            })
            .collect()
    }

    fn share(arms: &[Arm], name: &str) -> f64 {
        let n = 20_000;
        let taken = (0..n)
            .filter(|i| choose(arms, &format!("c{i}"), "r").unwrap().upstream == name)
            .count();
        taken as f64 / f64::from(n)
    }

    #[test]
    fn zero_is_never_and_a_sole_weight_always() {
        assert_eq!(share(&arms(&[("base", 100), ("small", 0)]), "small"), 0.0);
        assert_eq!(share(&arms(&[("base", 0), ("small", 100)]), "small"), 1.0);
        assert_eq!(choose(&arms(&[("base", 0)]), "c", "r"), None);
    }

    #[test]
    fn shares_are_the_weights() {
        let split = arms(&[("base", 90), ("small", 7), ("other", 3)]);
        for (name, expected) in [("base", 0.90), ("small", 0.07), ("other", 0.03)] {
            // Three standard deviations of a binomial share of 20,000 are below 0.007.
            assert!((share(&split, name) - expected).abs() < 0.008, "{name}");
        }
    }

    #[test]
    fn routes_have_buckets_of_their_own() {
        let split = arms(&[("base", 50), ("small", 50)]);
        let differ =
            (0..1000).filter(|i| choose(&split, &format!("c{i}"), "a") != choose(&split, &format!("c{i}"), "b"));
        assert!((400..600).contains(&differ.count()));
    }

    #[test]
    fn a_lowered_arm_has_its_share_and_gives_the_rest_to_the_baseline_alone() {
        let highest = arms(&[("base", 40), ("small", 50), ("other", 10)]);
        let at = |weight: u32, i: u32| {
            let key = format!("c{i}");
            let arm = choose(&highest, &key, "r").unwrap();
            match arm.upstream.as_str() {
                "small" if !keeps(arm, weight, &key, "r") => "base".to_owned(),
                name => name.to_owned(),
            }
        };
        let n = 20_000;
        for weight in [0, 5, 20, 50] {
            let taken = (0..n).filter(|i| at(weight, *i) == "small").count() as f64 / f64::from(n);
            assert!((taken - f64::from(weight) / 100.0).abs() < 0.012, "{weight}: {taken}");
        }
        for i in 0..n {
            let (low, high) = (at(5, i), at(10, i));
            assert!(low == high || (low == "base" && high == "small"), "{i}: {low} {high}");
        }
    }

    #[test]
    fn without_one_of_several_candidates_its_own_conversations_move_and_few_others_where_the_baseline_gets_its_weight()
    {
        let before = arms(&[("base", 90), ("small", 5), ("middle", 5)]);
        let moved_of_others = |after: &[Arm]| {
            let mut of_middle = (0, 0);
            for i in 0..100_000 {
                let key = format!("c{i}");
                let (was, is) = (choose(&before, &key, "r").unwrap(), choose(after, &key, "r").unwrap());
                assert_ne!(is.upstream, "small");
                if was.upstream != "small" {
                    let to_or_from = was.upstream == is.upstream || was.upstream == "middle";
                    assert!(to_or_from, "{key} moved to {}", is.upstream);
                }
                if was.upstream == "middle" {
                    of_middle.0 += u32::from(is != was);
                    of_middle.1 += 1;
                }
            }
            f64::from(of_middle.0) / f64::from(of_middle.1)
        };
        assert_eq!(moved_of_others(&arms(&[("base", 90), ("middle", 5)])), 0.0);
        // 1 − (90 + 5 + 5) / (95 + 5 + 5): five standard deviations are 0.015.
        let share = moved_of_others(&arms(&[("base", 95), ("middle", 5)]));
        assert!((share - 0.048).abs() < 0.015, "{share}");
    }

    /// A million calls in conversations of 1 to 40: shares of keys and of calls, stickiness, and what a raised weight moves.
    #[test]
    fn a_million_calls_go_where_the_weights_say_and_conversations_stay() {
        const CALLS: usize = 1_000_000;
        let before = arms(&[("base", 95), ("small", 5)]);
        let after = arms(&[("base", 90), ("small", 10)]);
        let mut dice = 7u64;
        let mut roll = |below: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % below
        };
        // Calls of each conversation, and whether it is canaried.
        let mut conversations: Vec<(u64, bool)> = Vec::new();
        let (mut calls, mut moved) = (0, 0);
        while calls < CALLS {
            let key = format!("{:016x}", roll(u64::MAX));
            let length = (1 + roll(40)).min((CALLS - calls) as u64);
            let first = choose(&before, &key, "r").unwrap();
            assert!(
                (1..length).all(|_| choose(&before, &key, "r").unwrap() == first),
                "{key} changed its arm"
            );
            let later = choose(&after, &key, "r").unwrap();
            assert!(
                later.upstream == first.upstream || later.upstream == "small",
                "{key} moved for nothing"
            );
            moved += u64::from(later.upstream != first.upstream);
            conversations.push((length, first.upstream == "small"));
            calls += length as usize;
        }
        let keys = conversations.len() as f64;
        // Five standard deviations: one false alarm in a million seeds.
        let bound = |share: f64| 5.0 * (share * (1.0 - share) / keys).sqrt();
        let canaried = conversations.iter().filter(|(_, small)| *small).count() as f64;
        assert!((canaried / keys - 0.05).abs() < bound(0.05), "{}", canaried / keys);
        assert!(
            (moved as f64 / keys - 0.05).abs() < bound(0.05),
            "{}",
            moved as f64 / keys
        );
        // Calls of one conversation go together, so their share is bounded by drawing conversations again.
        let share = |drawn: &[(u64, bool)]| {
            let of_small: u64 = drawn.iter().filter(|(_, small)| *small).map(|(length, _)| length).sum();
            of_small as f64 / drawn.iter().map(|(length, _)| length).sum::<u64>() as f64
        };
        let seen = share(&conversations);
        let mut again: Vec<f64> = Vec::new();
        for _ in 0..100 {
            let drawn: Vec<(u64, bool)> = conversations
                .iter()
                .map(|_| conversations[roll(keys as u64) as usize])
                .collect();
            again.push(share(&drawn) - seen);
        }
        let deviation = (again.iter().map(|off| off * off).sum::<f64>() / again.len() as f64).sqrt();
        assert!((seen - 0.05).abs() < 5.0 * deviation, "{seen} ± {deviation}");
    }

    proptest! {
        #[test]
        fn a_grown_arm_only_gains(before in 0u32..100, more in 1u32..100, key in "[a-z]{1,8}") {
            let small = choose(&arms(&[("base", 100), ("small", before)]), &key, "r").unwrap().upstream.clone();
            let grown = choose(&arms(&[("base", 100), ("small", before + more)]), &key, "r").unwrap().upstream.clone();
            prop_assert!(small == grown || grown == "small");
        }
    }
}
