//! Prompts as sparse unit vectors, and what is done with them: product, mean, and gathering round leaders.

use std::collections::{BTreeMap, HashMap};

/// Prompts this alike (cosine) are gathered before the rest are compared; below it nothing is decided here.
const SAME: f32 = 0.80;
/// The most leaders; past it a prompt joins the nearest one, so that time and memory stay bounded.
const LEADERS: usize = 3000;

/// A vector of length one (a mean: at most one): phrase and weight, sorted by phrase.
pub(super) type Unit = Vec<(u32, f32)>;

/// Makes the length one; an empty vector stays empty.
pub(super) fn normalise(unit: &mut Unit) {
    let length = dot(unit, unit).sqrt();
    unit.iter_mut().for_each(|(_, weight)| *weight /= length);
}

pub(super) fn dot(one: &Unit, other: &Unit) -> f32 {
    let (mut at, mut sum) = (0, 0.0);
    for (phrase, weight) in one {
        while at < other.len() && other[at].0 < *phrase {
            at += 1;
        }
        if at < other.len() && other[at].0 == *phrase {
            sum += weight * other[at].1;
        }
    }
    sum
}

/// The mean; the product of two means is the mean product of their members.
pub(super) fn mean<'a>(units: impl ExactSizeIterator<Item = &'a Unit>) -> Unit {
    let count = units.len() as f32;
    let mut sums: BTreeMap<u32, f32> = BTreeMap::new();
    for (phrase, weight) in units.flatten() {
        *sums.entry(*phrase).or_default() += weight / count;
    }
    sums.into_iter().collect()
}

/// The cosine of two vectors of any length.
pub(super) fn cosine(one: &Unit, other: &Unit) -> f32 {
    let lengths = (dot(one, one) * dot(other, other)).sqrt();
    if lengths > 0.0 { dot(one, other) / lengths } else { 0.0 }
}

/// Gathers the vectors round leaders: each joins the nearest earlier leader that is much like it, or leads. Lists of
/// positions, the leader first; empty vectors are in none.
pub(super) fn lead<'a>(units: impl Iterator<Item = &'a Unit>) -> Vec<Vec<usize>> {
    let mut postings: HashMap<u32, Vec<(usize, f32)>> = HashMap::new();
    let mut gathered: Vec<Vec<usize>> = Vec::new();
    let mut scores: Vec<f32> = Vec::new();
    for (position, unit) in units.enumerate().filter(|(_, unit)| !unit.is_empty()) {
        scores.clear();
        scores.resize(gathered.len(), 0.0);
        for (phrase, weight) in unit {
            for (leader, of_leader) in postings.get(phrase).into_iter().flatten() {
                scores[*leader] += weight * of_leader;
            }
        }
        let (best, score) = most(&scores);
        if score >= SAME || gathered.len() >= LEADERS {
            gathered[best].push(position);
            continue;
        }
        for (phrase, weight) in unit {
            postings.entry(*phrase).or_default().push((gathered.len(), *weight));
        }
        gathered.push(vec![position]);
    }
    gathered
}

/// Position and value of the largest score, the first of equals; (0, 0) where none is above 0.
pub(super) fn most(scores: &[f32]) -> (usize, f32) {
    let larger = |best: (usize, f32), (at, score): (usize, &f32)| if *score > best.1 { (at, *score) } else { best };
    scores.iter().enumerate().fold((0, 0.0), larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_vectors_gather_and_empty_ones_do_not() {
        let mut units: Vec<Unit> = vec![
            vec![(1, 1.0), (2, 1.0)],
            vec![(3, 1.0)],
            vec![],
            vec![(1, 1.0), (2, 1.0), (4, 0.5)],
        ];
        units.iter_mut().for_each(normalise);
        assert_eq!(lead(units.iter()), [vec![0, 3], vec![1]]);
        assert!((cosine(&units[0], &units[3]) - 0.943).abs() < 0.001);
        let centre = mean([&units[0], &units[1]].into_iter());
        assert!((dot(&centre, &units[3]) - (dot(&units[0], &units[3]) + dot(&units[1], &units[3])) / 2.0).abs() < 1e-6);
    }
}
