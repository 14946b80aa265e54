//! Chooses small models to rehearse on a task: by what the task asks for, what is published of each, licence and memory.
//!
//! A choice, never a verdict: published figures were measured on other tasks than the operator's. Pure; reads no store.

mod catalogue;
mod footprint;
mod needs;
#[cfg(test)]
mod tests;

pub use catalogue::{Benchmark, Catalogue, CatalogueError, Figure, Model, Sourced};
pub use footprint::{Precision, Shape};
pub use needs::{Gathered, Needs};

use crate::score::AnswerKind;
use crate::web::words::count;
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What few calls ask for asks nothing of a model: the LLM answers those.
const FEW: f64 = 0.01;
/// Bytes in a GiB.
const GIB: f64 = 1_073_741_824.0;
/// What `permissive` means among licences.
const PERMISSIVE: [&str; 6] = ["apache-2.0", "bsd-2-clause", "bsd-3-clause", "isc", "mit", "unlicense"];

/// What the operator asks for besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Licences that will do, by short name; `permissive` means those that ask for little more than a notice. Empty = all.
    pub licences: Vec<String>,
    /// The most memory, bytes.
    pub memory: Option<u64>,
    /// How finely weights are kept.
    pub precision: Precision,
    /// Calls answered at once.
    pub at_once: u64,
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes {
            licences: Vec::new(),
            memory: None,
            precision: Precision::default(),
            at_once: 1,
        }
    }
}

impl Wishes {
    fn allows(&self, licence: &str) -> bool {
        let licence = licence.to_ascii_lowercase();
        self.licences.iter().any(|wanted| {
            let wanted = wanted.to_ascii_lowercase();
            wanted == licence || wanted == "permissive" && PERMISSIVE.contains(&licence.as_str())
        })
    }
}

/// A figure as shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// The benchmark's name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Per cent.
    pub value: f64,
    /// Who says it.
    pub source: String,
}

/// A model as a candidate for a task; `None` = unknown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// Its name where its weights are published.
    pub model: String,
    /// Whether nothing that is known speaks against it.
    pub fits: bool,
    /// Whether it is to be rehearsed first: it fits, and its figure is higher than those of all smaller ones that fit.
    pub shortlisted: bool,
    /// Why it is where it is.
    pub why: String,
    /// Weights.
    pub parameters: Option<u64>,
    /// Tokens of input and output together.
    pub context: Option<u64>,
    /// Memory of weights and KV cache, bytes.
    pub memory_bytes: Option<u64>,
    /// Memory of the weights, bytes.
    pub weights_bytes: Option<u64>,
    /// Memory of the keys and values of the longest calls that it is to answer, bytes.
    pub kv_cache_bytes: Option<u64>,
    /// Its licence's short name.
    pub licence: Option<String>,
    /// Whether it is made to call tools.
    pub tools: Option<bool>,
    /// Whether it takes images.
    pub media: Option<bool>,
    /// Figures for the task's kind of answer.
    pub benchmarks: Vec<Shown>,
    /// What to know besides.
    pub note: Option<String>,
    /// Who says it, by field.
    pub sources: BTreeMap<&'static str, String>,
    /// When that was looked up.
    pub checked: Option<String>,
}

/// Where a candidate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Shortlist,
    NotCompared,
    Surpassed,
    Out,
}

/// All models of the catalogue as candidates for a task: those to rehearse first, smallest first, then others that fit,
/// then those that don't.
pub fn choose(needs: &Needs, catalogue: &Catalogue, wishes: &Wishes) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = catalogue
        .models
        .iter()
        .map(|model| candidate(model, needs, catalogue, wishes))
        .collect();
    candidates.sort_by(smaller);
    let mut places: Vec<(Place, String)> = (0..candidates.len())
        .map(|at| place(&candidates[at], &candidates[..at]))
        .collect();
    // Where no figure tells, size does.
    if !places.iter().any(|(place, _)| *place == Place::Shortlist)
        && let Some((place, why)) = places.iter_mut().find(|(place, _)| *place == Place::NotCompared)
    {
        *place = Place::Shortlist;
        *why = format!("the smallest that fits; {why}");
    }
    let mut ranked: Vec<(Place, Candidate)> = Vec::with_capacity(candidates.len());
    for (mut candidate, (place, why)) in candidates.into_iter().zip(places) {
        candidate.shortlisted = place == Place::Shortlist;
        let words = [why, candidate.why];
        candidate.why = words
            .into_iter()
            .filter(|why| !why.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
        ranked.push((place, candidate));
    }
    // The sort is stable: within a place the smallest stays first.
    ranked.sort_by_key(|(place, _)| *place);
    ranked.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Where a candidate stands among the smaller ones, and why: a larger one is worth its size where it has a higher figure than
/// every smaller one that fits. The first of its figures that compares with a smaller one's decides.
fn place(candidate: &Candidate, smaller: &[Candidate]) -> (Place, String) {
    if !candidate.fits {
        return (Place::Out, String::new());
    }
    let rivals = || {
        smaller
            .iter()
            .filter(|rival| rival.fits && !rival.benchmarks.is_empty())
    };
    for own in &candidate.benchmarks {
        let figures: Vec<(&str, f64)> = rivals()
            .filter_map(|rival| {
                let theirs = rival.benchmarks.iter().find(|theirs| theirs.name == own.name)?;
                Some((short(&rival.model), theirs.value))
            })
            .collect();
        let (value, title) = (own.value, &own.title);
        // The smallest of those that are as good.
        if let Some((rival, theirs)) = figures.iter().find(|(_, theirs)| *theirs >= value) {
            let why = format!("{rival} is smaller: {theirs:.1} against {value:.1} in {title}");
            return (Place::Surpassed, why);
        }
        if let Some((best, most)) = figures.iter().max_by(|one, other| one.1.total_cmp(&other.1)) {
            return (
                Place::Shortlist,
                format!("{value:.1} against {most:.1} of {best} in {title}"),
            );
        }
    }
    if candidate.benchmarks.is_empty() {
        (Place::NotCompared, "no figure for such answers".into())
    } else if rivals().next().is_none() {
        (Place::Shortlist, "the smallest with a figure".into())
    } else {
        (
            Place::NotCompared,
            "no figure that compares with a smaller one's".into(),
        )
    }
}

/// By memory, as far as it is known, then by name.
fn smaller(one: &Candidate, other: &Candidate) -> Ordering {
    let size = |candidate: &Candidate| {
        let bytes = candidate.memory_bytes.or(candidate.weights_bytes);
        (bytes.is_none(), bytes.unwrap_or_default())
    };
    size(one).cmp(&size(other)).then_with(|| one.model.cmp(&other.model))
}

/// A model's name without who publishes it.
pub fn short(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

fn candidate(model: &Model, needs: &Needs, catalogue: &Catalogue, wishes: &Wishes) -> Candidate {
    let parameters = model.parameters.as_ref().map(|parameters| parameters.value);
    let weights_bytes = parameters.map(|parameters| wishes.precision.weights_bytes(parameters));
    let kv_cache_bytes = model
        .shape
        .as_ref()
        .zip(needs.tokens)
        .map(|(shape, tokens)| shape.cache_bytes(tokens, wishes.at_once));
    let memory_bytes = weights_bytes
        .zip(kv_cache_bytes)
        .map(|(weights, cache)| weights.saturating_add(cache));
    let against = against(model, weights_bytes, memory_bytes, needs, wishes);
    Candidate {
        model: model.name.clone(),
        fits: against.is_empty(),
        shortlisted: false,
        why: if against.is_empty() {
            doubts(model, needs)
        } else {
            against
        }
        .join("; "),
        parameters,
        context: model.context.as_ref().map(|context| context.value),
        memory_bytes,
        weights_bytes,
        kv_cache_bytes,
        licence: model.licence.as_ref().map(|licence| licence.value.clone()),
        tools: model.tools.as_ref().map(|tools| tools.value),
        media: model.media.as_ref().map(|media| media.value),
        benchmarks: figures(model, needs, catalogue),
        note: model.note.clone(),
        sources: sources(model),
        checked: model.checked.clone(),
    }
}

/// What speaks against a model; nothing where it fits.
fn against(model: &Model, weights: Option<u64>, memory: Option<u64>, needs: &Needs, wishes: &Wishes) -> Vec<String> {
    let mut reasons = Vec::new();
    match (&model.context, needs.tokens) {
        (Some(context), Some(tokens)) if context.value < tokens => {
            reasons.push(format!("context {} < {} needed", count(context.value), count(tokens)));
        }
        (None, Some(_)) => reasons.push("its context window is not known".into()),
        _ => {}
    }
    let is_known = |known: &Option<Sourced<bool>>| known.as_ref().map(|known| known.value);
    if needs.share(AnswerKind::ToolCall) >= FEW && is_known(&model.tools) == Some(false) {
        reasons.push("not made to call tools".into());
    }
    if needs.media >= FEW && is_known(&model.media) != Some(true) {
        reasons.push("not known to take images or files".into());
    }
    match &model.licence {
        _ if wishes.licences.is_empty() => {}
        None => reasons.push("its licence is not known".into()),
        Some(licence) if !wishes.allows(&licence.value) => reasons.push(format!("licence {}", licence.value)),
        Some(_) => {}
    }
    if let Some(most) = wishes.memory {
        let precise = |bytes: u64| format!("{:.2} GiB", bytes as f64 / GIB);
        match (memory, weights) {
            (Some(memory), _) if memory <= most => {}
            (Some(memory), _) => reasons.push(format!("memory {} > {}", precise(memory), precise(most))),
            (None, Some(weights)) if weights > most => {
                reasons.push(format!("weights alone {} > {}", precise(weights), precise(most)));
            }
            (None, _) => reasons.push("its memory is not known".into()),
        }
    }
    reasons
}

/// What to keep in mind of a model that fits.
fn doubts(model: &Model, needs: &Needs) -> Vec<String> {
    let mut doubts = Vec::new();
    if let (Some(context), Some(most)) = (&model.context, needs.tokens_most)
        && context.value < most
    {
        doubts.push(format!("1 call in 100 is longer, up to {}", count(most)));
    }
    if needs.share(AnswerKind::ToolCall) >= FEW && model.tools.is_none() {
        doubts.push("not known to call tools".into());
    }
    if needs.tokens.is_none() {
        doubts.push("how long calls get is not known".into());
    }
    doubts
}

/// A size in GiB, as people compare it.
pub fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB)
}

/// The model's figures for the task's kind of answer, the catalogue's first benchmark first.
fn figures(model: &Model, needs: &Needs, catalogue: &Catalogue) -> Vec<Shown> {
    let kind = needs.kind.and_then(AnswerKind::from_name);
    let of_kind = |benchmark: &&Benchmark| kind.is_some_and(|kind| benchmark.kinds.contains(&kind));
    let shown = |benchmark: &Benchmark| {
        let figure = model.benchmarks.iter().find(|figure| figure.name == benchmark.name)?;
        Some(Shown {
            name: benchmark.name.clone(),
            title: benchmark.title.clone(),
            value: figure.value,
            source: figure.source.clone(),
        })
    };
    catalogue.benchmarks.iter().filter(of_kind).filter_map(shown).collect()
}

fn sources(model: &Model) -> BTreeMap<&'static str, String> {
    let number = |known: &Option<Sourced<u64>>| known.as_ref().map(|known| known.source.clone());
    let switch = |known: &Option<Sourced<bool>>| known.as_ref().map(|known| known.source.clone());
    [
        ("parameters", number(&model.parameters)),
        ("context", number(&model.context)),
        ("kv_cache", model.shape.as_ref().map(|shape| shape.source.clone())),
        ("licence", model.licence.as_ref().map(|licence| licence.source.clone())),
        ("tools", switch(&model.tools)),
        ("media", switch(&model.media)),
    ]
    .into_iter()
    .filter_map(|(field, source)| Some((field, source?)))
    .collect()
}
