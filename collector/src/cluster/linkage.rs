//! Average-linkage clustering by nearest-neighbour chains (Murtagh 1983), cut at a likeness.

use super::units::{Unit, dot};

/// A symmetric matrix of likenesses, row by row.
pub(super) struct Likeness {
    pub(super) cells: Vec<f32>,
    pub(super) side: usize,
}

impl Likeness {
    /// Of every pair of mean unit vectors: the mean cosine over the pairs of their members.
    pub(super) fn of(means: &[Unit]) -> Likeness {
        let cells = means
            .iter()
            .flat_map(|one| means.iter().map(move |other| dot(one, other)))
            .collect();
        Likeness {
            cells,
            side: means.len(),
        }
    }

    fn at(&self, one: usize, other: usize) -> f32 {
        self.cells[one * self.side + other]
    }
}

/// The cluster of each item: items are joined as long as the mean likeness of their pairs is at least `cut`. `sizes`
/// is how many each item stands for. Clusters are numbered by their first item.
pub(super) fn average(mut likeness: Likeness, sizes: &[f32], cut: f32) -> Vec<usize> {
    let side = likeness.side;
    let mut sizes = sizes.to_vec();
    let mut parent: Vec<usize> = (0..side).collect();
    let mut alive: Vec<bool> = vec![true; side];
    let mut chain: Vec<usize> = Vec::new();
    let mut next = 0;
    while next < side {
        if chain.is_empty() {
            if !alive[next] {
                next += 1;
                continue;
            }
            chain.push(next);
        }
        let top = chain[chain.len() - 1];
        let before = chain.len().checked_sub(2).map(|at| chain[at]);
        let mut best: Option<(usize, f32)> = before.map(|at| (at, likeness.at(top, at)));
        for other in (0..side).filter(|other| alive[*other] && *other != top) {
            let value = likeness.at(top, other);
            if best.is_none_or(|(_, most)| value > most) {
                best = Some((other, value));
            }
        }
        match best {
            // Nothing is near enough, nor will it become so: average linkage never brings clusters nearer.
            Some((_, value)) if value < cut => retire(&mut chain, &mut alive),
            None => retire(&mut chain, &mut alive),
            Some((other, _)) if Some(other) == before => {
                chain.truncate(chain.len() - 2);
                let (keep, gone) = (top.min(other), top.max(other));
                merge(&mut likeness, &mut sizes, &alive, keep, gone);
                alive[gone] = false;
                parent[gone] = keep;
            }
            Some((other, _)) => chain.push(other),
        }
    }
    (0..side).map(|item| root(&parent, item)).collect()
}

fn retire(chain: &mut Vec<usize>, alive: &mut [bool]) {
    if let Some(top) = chain.pop() {
        alive[top] = false;
    }
}

fn merge(likeness: &mut Likeness, sizes: &mut [f32], alive: &[bool], keep: usize, gone: usize) {
    let side = likeness.side;
    let (kept, lost) = (sizes[keep], sizes[gone]);
    for other in (0..side).filter(|other| alive[*other] && *other != keep && *other != gone) {
        let mean = (likeness.at(keep, other) * kept + likeness.at(gone, other) * lost) / (kept + lost);
        likeness.cells[keep * side + other] = mean;
        likeness.cells[other * side + keep] = mean;
    }
    sizes[keep] = kept + lost;
}

fn root(parent: &[usize], mut item: usize) -> usize {
    while parent[item] != item {
        item = parent[item];
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_line(points: &[f32], cut: f32) -> Vec<usize> {
        let cells = points
            .iter()
            .flat_map(|one| points.iter().map(move |other| 1.0 - (one - other).abs()))
            .collect();
        average(
            Likeness {
                cells,
                side: points.len(),
            },
            &vec![1.0; points.len()],
            cut,
        )
    }

    #[test]
    fn near_items_are_together_and_far_ones_are_not() {
        assert_eq!(on_a_line(&[0.0, 0.9, 0.05, 0.95, 0.5], 0.8), [0, 1, 0, 1, 4]);
        assert_eq!(on_a_line(&[0.0, 0.9, 0.05, 0.95, 0.5], 0.0), [0, 0, 0, 0, 0]);
        assert!(on_a_line(&[], 0.5).is_empty());
    }
}
