//! The calls of a fit, gathered by their prompt, and the groups that become tasks.

use super::templates::Fitted;
use super::{FitInput, FitOptions};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use understudy_call::call::Role;
use understudy_call::features::{Features, features};

/// One distinct leading prompt (literals masked), with its tools and answer format.
pub(super) struct Prompt {
    /// Its phrases and marks, sorted, each once.
    pub(super) phrases: Vec<u32>,
    /// Indices into [`Prompts::calls`].
    pub(super) calls: Vec<usize>,
    /// How many conversations have it.
    pub(super) conversations: usize,
}

/// A call of the sample.
pub(super) struct Call<'a> {
    pub(super) input: FitInput<'a>,
    pub(super) last: Option<Role>,
    pub(super) cue: Option<u32>,
}

/// The sample, by prompt.
pub(super) struct Prompts<'a> {
    pub(super) calls: Vec<Call<'a>>,
    pub(super) prompts: Vec<Prompt>,
}

/// Calls that become one task.
pub(super) struct Group {
    pub(super) cluster: usize,
    pub(super) last: Option<Role>,
    pub(super) cue: Option<u32>,
    /// Indices into [`Prompts::calls`], those of the commonest prompts first.
    pub(super) calls: Vec<usize>,
    pub(super) conversations: usize,
    /// Template, last speaker, cue.
    pub(super) rules: Vec<(u32, Option<Role>, Option<u32>)>,
}

impl Group {
    /// An order that does not depend on the order of calls.
    pub(super) fn key(&self) -> (u32, Option<u8>, Option<u32>) {
        (
            self.rules.first().map_or(0, |(template, _, _)| *template),
            self.last.map(|last| last as u8),
            self.cue,
        )
    }
}

impl<'a> Prompts<'a> {
    /// Draws the sample and gathers it by prompt; order of `calls` doesn't matter.
    pub(super) fn gather(calls: &[FitInput<'a>], options: &FitOptions) -> Prompts<'a> {
        let mut drawn: Vec<(u64, FitInput)> = calls
            .iter()
            .filter(|call| !call.request.messages.is_empty())
            .map(|call| (lot(options.seed, call.call_id), *call))
            .collect();
        drawn.sort_by(|one, other| (one.0, one.1.call_id).cmp(&(other.0, other.1.call_id)));
        drawn.truncate(options.sample);
        drawn.sort_by(|one, other| one.1.call_id.cmp(other.1.call_id));

        let mut by_prompt: BTreeMap<Vec<u32>, Vec<usize>> = BTreeMap::new();
        let mut sample = Vec::with_capacity(drawn.len());
        for (_, input) in drawn {
            let Features {
                phrases,
                marks,
                last,
                cue,
            } = features(input.request);
            let mut all: Vec<u32> = phrases.into_iter().chain(marks).collect();
            all.sort_unstable();
            all.dedup();
            by_prompt.entry(all).or_default().push(sample.len());
            sample.push(Call { input, last, cue });
        }
        let prompts = by_prompt.into_iter().map(|(phrases, calls)| {
            let conversations: BTreeSet<&str> = calls.iter().map(|call| sample[*call].input.conversation).collect();
            Prompt {
                phrases,
                conversations: conversations.len(),
                calls,
            }
        });
        let mut prompts: Vec<Prompt> = prompts.collect();
        prompts.sort_by(|one, other| {
            other
                .calls
                .len()
                .cmp(&one.calls.len())
                .then_with(|| one.phrases.cmp(&other.phrases))
        });
        Prompts { calls: sample, prompts }
    }

    /// Cuts clusters by last speaker and by closed sets of cues; what is too small joins the cluster's largest group.
    pub(super) fn groups(&self, fitted: &Fitted, options: &FitOptions) -> Vec<Group> {
        let mut by_cluster: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (prompt, template) in self.prompts.iter().zip(&fitted.template_of) {
            if let Some(template) = template {
                by_cluster
                    .entry(fitted.cluster_of[*template])
                    .or_default()
                    .extend(&prompt.calls);
            }
        }
        let mut groups = Vec::new();
        for (cluster, calls) in by_cluster {
            let templates = (0u32..)
                .zip(&fitted.cluster_of)
                .filter(|(_, of)| **of == cluster)
                .map(|(at, _)| at);
            let templates: Vec<u32> = templates.collect();
            let cues = self.closed_cues(&calls, options);
            let mut cut: BTreeMap<(Option<u8>, Option<u32>), Vec<usize>> = BTreeMap::new();
            for at in calls {
                let call = &self.calls[at];
                let cue = call.cue.filter(|cue| cues.contains(cue));
                cut.entry((call.last.map(|last| last as u8), cue)).or_default().push(at);
            }
            let mut cut: Vec<Vec<usize>> = cut.into_values().collect();
            cut.sort_by_key(|calls| (std::cmp::Reverse(calls.len()), calls.first().copied()));
            let mut first = true;
            for calls in cut {
                let conversations: BTreeSet<&str> = calls.iter().map(|at| self.calls[*at].input.conversation).collect();
                let enough = calls.len() >= options.min_calls && conversations.len() >= options.min_conversations;
                if !enough {
                    continue;
                }
                let last = self.calls[calls[0]].last;
                let cue = self.calls[calls[0]].cue.filter(|cue| cues.contains(cue));
                let mut rules: Vec<_> = templates.iter().map(|template| (*template, last, cue)).collect();
                if std::mem::take(&mut first) {
                    rules.extend(templates.iter().map(|template| (*template, None, None)));
                }
                groups.push(Group {
                    cluster,
                    last,
                    cue,
                    conversations: conversations.len(),
                    calls,
                    rules,
                });
            }
        }
        groups
    }

    /// Cues that are a closed set over these calls: few of them cover most of the calls that end with any.
    fn closed_cues(&self, calls: &[usize], options: &FitOptions) -> BTreeSet<u32> {
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for cue in calls.iter().filter_map(|at| self.calls[*at].cue) {
            *counts.entry(cue).or_default() += 1;
        }
        let with_cue: usize = counts.values().sum();
        let common = |count: usize| count >= options.min_calls && count * 20 >= calls.len();
        let closed: usize = counts.values().filter(|count| common(**count)).sum();
        if closed * 5 < with_cue * 4 {
            return BTreeSet::new();
        }
        counts
            .into_iter()
            .filter(|(_, count)| common(*count))
            .map(|(cue, _)| cue)
            .collect()
    }
}

/// Where in the draw a call is.
fn lot(seed: u64, call_id: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(call_id.as_bytes());
    u64::from_le_bytes(
        *hasher
            .finalize()
            .as_bytes()
            .first_chunk()
            .expect("a digest has 32 bytes"),
    )
}
