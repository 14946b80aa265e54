//! Which of several candidates is tried first: the smallest one that is sufficient, by price, then by size.
//!
//! Pure. What is not known is taken for large: a model of unknown size is not preferred for it.

use crate::verdict::{Decision, Verdict};
use understudy_client::UpstreamConfig;

/// The size of a candidate's model, in thousands of parameters, as its name says (`smollm2-135m`, `qwen2.5-0.5b`);
/// [`u64::MAX`] = unknown.
pub fn size_of(upstream: Option<&UpstreamConfig>) -> u64 {
    let model = upstream
        .and_then(|upstream| upstream.model.as_deref())
        .unwrap_or_default();
    size_named(model).unwrap_or(u64::MAX)
}

fn size_named(model: &str) -> Option<u64> {
    let name = model.to_ascii_lowercase();
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.');
    let size = |word: &str| {
        let (number, thousands) = match word.strip_suffix('b') {
            Some(number) => (number, 1e6),
            None => (word.strip_suffix('m')?, 1e3),
        };
        let number: f64 = number.parse().ok().filter(|number| *number > 0.0)?;
        Some((number * thousands) as u64)
    };
    words.filter_map(size).next_back()
}

/// Of the verdicts on a task the one to propose: of those that say promote the cheapest, and of equals the smallest.
pub fn smallest_sufficient(verdicts: &[Verdict], size: impl Fn(&str) -> u64) -> Option<&Verdict> {
    let sufficient = verdicts.iter().filter(|verdict| verdict.verdict == Decision::Promote);
    sufficient.min_by(|one, other| {
        let price = |verdict: &Verdict| verdict.cost_per_1k.unwrap_or(f64::INFINITY);
        let by_size = || size(&one.candidate).cmp(&size(&other.candidate));
        let by_name = || one.candidate.cmp(&other.candidate);
        price(one)
            .total_cmp(&price(other))
            .then_with(by_size)
            .then_with(by_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Evidence, VerdictConfig, verdict};

    #[test]
    fn sizes_are_read_from_names() {
        for (name, size) in [
            ("smollm2-135m", Some(135_000)),
            ("Qwen2.5-Coder-0.5B-Instruct", Some(500_000)),
            ("meta/llama-3.1-8b", Some(8_000_000)),
            ("small-1", None),
            ("", None),
        ] {
            assert_eq!(size_named(name), size, "{name}");
        }
    }

    #[test]
    fn the_cheapest_sufficient_one_is_proposed_then_the_smallest() {
        let of = |candidate: &str, decision: Decision, cost: Option<f64>| {
            let evidence = Evidence {
                task: "t",
                candidate,
                ..Evidence::default()
            };
            Verdict {
                verdict: decision,
                cost_per_1k: cost,
                ..verdict(&evidence, &VerdictConfig::default())
            }
        };
        let size = |name: &str| name.len() as u64;
        let chosen = |verdicts: &[Verdict]| smallest_sufficient(verdicts, size).map(|one| one.candidate.clone());
        let tiny = of("a", Decision::Hold, Some(0.1));
        let cheap = of("ccc", Decision::Promote, Some(0.5));
        let dear = of("bb", Decision::Promote, Some(2.0));
        assert_eq!(chosen(&[dear.clone(), tiny.clone(), cheap.clone()]), Some("ccc".into()));
        let (one, other) = (of("bbb", Decision::Promote, None), of("aa", Decision::Promote, None));
        assert_eq!(chosen(&[one, other]), Some("aa".into()));
        assert_eq!(chosen(&[tiny]), None);
    }
}
