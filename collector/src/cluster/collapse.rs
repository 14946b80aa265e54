//! Many values of one slot are content: forty documents, each asked five questions by the same frame, are one task.
//!
//! The counterpart of [`super::subdivide`], where few values are sub-templates.

use super::templates::cluster;
use super::units::{Unit, normalise};
use std::collections::{BTreeMap, HashMap};

/// So many clusters of about equal size that share a frame differ in content. (The effective number, `(Σs)²/Σs²`.)
const SIBLINGS: usize = 12;
/// Fewer phrases are no frame: every second agent is told to be a helpful assistant.
const FRAME: usize = 20;
/// The share of a cluster's prompts that have each phrase of its frame.
const COMMON: f32 = 0.8;
/// Mean likeness, over frames alone, of clusters with one frame.
const LIKENESS: f32 = 0.6;

/// Joins clusters (lists of prompts) that share a frame and are many. `units` and `conversations` are of all prompts.
pub(super) fn collapse(clusters: Vec<Vec<usize>>, units: &[Unit], conversations: &[usize]) -> Vec<Vec<usize>> {
    let frames = frames(&clusters, units);
    let mut joined: Vec<Vec<usize>> = Vec::new();
    let mut single: Vec<Option<Vec<usize>>> = clusters.into_iter().map(Some).collect();
    for siblings in cluster((0..frames.len()).collect(), &frames, LIKENESS) {
        let sizes = siblings.iter().filter_map(|at| single[*at].as_ref());
        let sizes: Vec<f32> = sizes
            .map(|of| of.iter().map(|prompt| conversations[*prompt] as f32).sum())
            .collect();
        let squares: f32 = sizes.iter().map(|size| size * size).sum();
        if sizes.iter().sum::<f32>().powi(2) >= squares * SIBLINGS as f32 {
            joined.push(
                siblings
                    .into_iter()
                    .filter_map(|at| single[at].take())
                    .flatten()
                    .collect(),
            );
        }
    }
    joined.extend(single.into_iter().flatten());
    joined
}

/// For each cluster the phrases that it shares with many others, as a unit vector; empty where they are too few.
fn frames(clusters: &[Vec<usize>], units: &[Unit]) -> Vec<Unit> {
    let cores: Vec<Vec<u32>> = clusters.iter().map(|of| core(of, units)).collect();
    let mut clusters_with: HashMap<u32, usize> = HashMap::new();
    for phrase in cores.iter().flatten() {
        *clusters_with.entry(*phrase).or_default() += 1;
    }
    let frame = |core: Vec<u32>| {
        let shared = core.into_iter().filter(|phrase| clusters_with[phrase] >= SIBLINGS);
        let mut frame: Unit = shared.map(|phrase| (phrase, 1.0)).collect();
        if frame.len() < FRAME {
            frame.clear();
        }
        normalise(&mut frame);
        frame
    };
    cores.into_iter().map(frame).collect()
}

/// Phrases that most prompts of a cluster have, sorted.
fn core(of: &[usize], units: &[Unit]) -> Vec<u32> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for (phrase, _) in of.iter().flat_map(|prompt| &units[*prompt]) {
        *counts.entry(*phrase).or_default() += 1;
    }
    counts.retain(|_, count| *count as f32 >= of.len() as f32 * COMMON);
    counts.into_keys().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster of five equal prompts: a frame of `frame` phrases and a document of 300.
    fn corpus(documents: u32, frame: u32) -> (Vec<Vec<usize>>, Vec<Unit>) {
        let unit = |document: u32| {
            let phrases = (0..frame).chain(1000 * (document + 1)..1000 * (document + 1) + 300);
            let mut unit: Unit = phrases.map(|phrase| (phrase, 1.0)).collect();
            normalise(&mut unit);
            unit
        };
        let clusters = (0..documents as usize)
            .map(|document| (5 * document..5 * document + 5).collect())
            .collect();
        (clusters, (0..5 * documents).map(|prompt| unit(prompt / 5)).collect())
    }

    #[test]
    fn many_siblings_are_one_and_few_are_not() {
        let collapsed = |documents, frame| {
            let (clusters, units) = corpus(documents, frame);
            collapse(clusters, &units, &vec![1; units.len()]).len()
        };
        assert_eq!(collapsed(30, 60), 1);
        assert_eq!(collapsed(6, 60), 6);
        assert_eq!(collapsed(30, 5), 30);
    }
}
