//! Sub-templates: one frame whose slots take a few values (`a BASH generator`, `a SQL generator`) is several tasks.
//!
//! Content recurs too, but it comes in many small pieces and never covers a cluster; sub-templates are few, exclude one
//! another, and cover nearly all of it.

use super::linkage::{Likeness, average};
use super::templates::{Unit, dot, lead, mean};
use std::collections::HashMap;

/// Fewer conversations are no sub-template.
const CONVERSATIONS: usize = 20;
/// A smaller share of the cluster is no sub-template.
const SHARE: f32 = 0.05;
/// Phrases of a larger share are the frame.
const FRAME: f32 = 0.95;
/// Fewer differing phrases are no sub-template.
const PHRASES: usize = 8;
/// Parts less alike are versions of a prompt, not fillings of a frame.
const FRAMED: f32 = 0.7;
/// Sub-templates cover at least this share of the cluster.
const COVERED: f32 = 0.9;
/// Mean likeness, over the slots alone, within one sub-template.
const LIKENESS: f32 = 0.35;

/// Parts of a cluster, as lists of prompts; one part where it has no sub-templates. `units` are of all prompts.
pub(super) fn subdivide(cluster: Vec<usize>, units: &[Unit], sizes_of: &[usize]) -> Vec<Vec<usize>> {
    let total: usize = cluster.iter().map(|prompt| sizes_of[*prompt]).sum();
    let least = ((total as f32 * SHARE) as usize).max(CONVERSATIONS);
    if total < 2 * least {
        return vec![cluster];
    }
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for prompt in &cluster {
        for (phrase, _) in &units[*prompt] {
            *counts.entry(*phrase).or_default() += sizes_of[*prompt];
        }
    }
    let most = total as f32 * FRAME;
    let size = |part: &Vec<usize>| part.iter().map(|at| sizes_of[cluster[*at]]).sum::<usize>();
    let slots = |prompt: &usize| -> Unit {
        let varies = |(phrase, _): &&(u32, f32)| counts[phrase] >= least && (counts[phrase] as f32) < most;
        let mut slots: Unit = units[*prompt].iter().filter(varies).copied().collect();
        let length = slots.iter().map(|(_, weight)| weight * weight).sum::<f32>().sqrt();
        slots.iter_mut().for_each(|(_, weight)| *weight /= length);
        if slots.len() < PHRASES { Vec::new() } else { slots }
    };
    let slots: Vec<Unit> = cluster.iter().map(slots).collect();
    let (leaders, leader_of) = lead(&slots);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); leaders];
    for (at, leader) in leader_of.iter().enumerate() {
        if let Some(leader) = leader {
            members[*leader].push(at);
        }
    }
    let means: Vec<Unit> = members.iter().map(|of| mean(of.iter().map(|at| &slots[*at]))).collect();
    let sizes: Vec<f32> = members.iter().map(|of| size(of) as f32).collect();
    let part_of = average(Likeness::of(&means), &sizes, LIKENESS);
    let mut parts: Vec<Vec<usize>> = vec![Vec::new(); leaders];
    for (leader, of) in members.iter().enumerate() {
        parts[part_of[leader]].extend(of);
    }
    parts.retain(|part| size(part) >= least);
    let covered: usize = parts.iter().map(size).sum();
    if parts.len() < 2 || (covered as f32) < total as f32 * COVERED {
        return vec![cluster];
    }
    let centres: Vec<Unit> = parts.iter().map(|part| mean(part.iter().map(|at| &units[cluster[*at]]))).collect();
    let framed = |one: &Unit, other: &Unit| dot(one, other) >= FRAMED * (dot(one, one) * dot(other, other)).sqrt();
    if !centres[1..].iter().all(|other| framed(&centres[0], other)) {
        return vec![cluster];
    }
    // What is in no part joins the likest one.
    let mut inside = vec![false; cluster.len()];
    parts.iter().flatten().for_each(|at| inside[*at] = true);
    for at in (0..cluster.len()).filter(|at| !inside[*at]) {
        let likeness = centres.iter().map(|centre| dot(centre, &units[cluster[at]]));
        let best = likeness.enumerate().fold((0, 0.0), |best, (part, value)| if value > best.1 { (part, value) } else { best });
        parts[best.0].push(at);
    }
    parts.into_iter().map(|part| part.into_iter().map(|at| cluster[at]).collect()).collect()
}
