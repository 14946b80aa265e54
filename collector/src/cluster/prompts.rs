//! The calls of a fit, gathered by their prompt.

use super::{FitInput, FitOptions};
use std::collections::{BTreeMap, BTreeSet};
use understudy_call::call::Role;
use understudy_call::features::{Features, features};

/// One distinct leading prompt (literals masked), with its tools and answer format.
pub(super) struct Prompt {
    /// Its phrases and marks, sorted, each once.
    pub(super) phrases: Vec<u32>,
    /// Those of its phrases that are marks, sorted.
    pub(super) marks: Vec<u32>,
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
    /// Sorted by call id.
    pub(super) calls: Vec<Call<'a>>,
    /// Those of most calls first.
    pub(super) prompts: Vec<Prompt>,
}

impl<'a> Prompts<'a> {
    /// Draws the sample and gathers it by prompt; the order of `calls` doesn't matter.
    pub(super) fn gather(calls: &[FitInput<'a>], options: &FitOptions) -> Prompts<'a> {
        let mut by_prompt: BTreeMap<(Vec<u32>, Vec<u32>), Vec<usize>> = BTreeMap::new();
        let mut sample = Vec::new();
        for input in draw(calls, options) {
            let Features {
                phrases,
                marks,
                last,
                cue,
            } = features(input.request);
            let mut all: Vec<u32> = phrases.into_iter().chain(marks.iter().copied()).collect();
            all.sort_unstable();
            all.dedup();
            by_prompt.entry((all, marks)).or_default().push(sample.len());
            sample.push(Call { input, last, cue });
        }
        let prompt = |((phrases, marks), calls): ((Vec<u32>, Vec<u32>), Vec<usize>)| {
            let conversations = conversations(&sample, &calls);
            Prompt {
                phrases,
                marks,
                conversations,
                calls,
            }
        };
        let mut prompts: Vec<Prompt> = by_prompt.into_iter().map(prompt).collect();
        prompts.sort_by_key(|prompt| std::cmp::Reverse(prompt.calls.len()));
        Prompts { calls: sample, prompts }
    }

    /// How many conversations these calls are of.
    pub(super) fn conversations(&self, calls: &[usize]) -> usize {
        conversations(&self.calls, calls)
    }

    /// Whether these calls are enough for a task.
    pub(super) fn enough(&self, calls: &[usize], options: &FitOptions) -> bool {
        calls.len() >= options.min_calls && self.conversations(calls) >= options.min_conversations
    }
}

fn conversations(sample: &[Call], calls: &[usize]) -> usize {
    calls
        .iter()
        .map(|call| sample[*call].input.conversation)
        .collect::<BTreeSet<&str>>()
        .len()
}

/// The sample, sorted by call id: the calls whose lots are lowest.
fn draw<'a>(calls: &[FitInput<'a>], options: &FitOptions) -> Vec<FitInput<'a>> {
    let with_messages = calls.iter().filter(|call| !call.request.messages.is_empty());
    let mut drawn: Vec<FitInput> = with_messages.copied().collect();
    if drawn.len() > options.sample {
        drawn.sort_by_cached_key(|call| (lot(options.seed, call.call_id), call.call_id));
        drawn.truncate(options.sample);
    }
    drawn.sort_by_key(|call| call.call_id);
    drawn
}

/// Where in the draw a call is.
fn lot(seed: u64, call_id: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(call_id.as_bytes());
    *hasher.finalize().as_bytes()
}
