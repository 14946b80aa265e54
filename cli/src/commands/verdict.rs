//! `verdict`: which candidates are ready, with the evidence.

use crate::args::VerdictArguments;
use crate::output::{self, Out, count, dollars, known, percent};
use crate::place::{Place, book, task};
use crate::propose::{Proposal, propose};
use anyhow::Result;
use comfy_table::{Color, Table};
use jiff::Timestamp;
use std::collections::BTreeSet;
use understudy_collector::evidence::verdicts;
use understudy_collector::verdict::{Decision, Verdict};

/// Columns that a narrow terminal does without, the first first; `--format json` has all.
const SPARE: [&str; 9] = [
    "p95 ms / LLM",
    "first token ms / LLM",
    "p50 ms / LLM",
    "pays from calls/day",
    "month / LLM",
    "valid / LLM",
    "per 1k / LLM",
    "pairs",
    "difference",
];

/// Prints the verdicts.
pub(crate) async fn run(arguments: VerdictArguments) -> Result<()> {
    let place = Place::of(&arguments.place)?;
    let store = place.existing_store()?;
    let book = book(&store).await?;
    let wanted = match (&arguments.task, &book) {
        (Some(name), Some(book)) => Some(task(book.book(), name)?.id.clone()),
        (name, _) => name.clone(),
    };
    let now = Timestamp::now().as_microsecond();
    let found = verdicts(&store, book.as_ref(), wanted.as_deref(), &place.verdict(), now).await?;
    if found.is_empty() {
        eprintln!("there are no scores yet: `understudy replay --task TASK --to CANDIDATE` makes some");
    }
    let unpriced: BTreeSet<&str> = found
        .iter()
        .flat_map(|verdict| &verdict.unpriced)
        .map(String::as_str)
        .collect();
    if !unpriced.is_empty() {
        let models: Vec<&str> = unpriced.into_iter().collect();
        eprintln!(
            "the cost of some answers is not known: {} (`prices: FILE` gives models a price, `price: {{ gpu_hour: … }}` an upstream; streams tell their tokens where `ask_usage: true`)",
            models.join(", ")
        );
    }
    if found.iter().any(|verdict| verdict.need_more.is_some()) {
        eprintln!(
            "`understudy replay --floor --limit N` adds pairs: --floor also where the noise floor is known well enough"
        );
    }
    if let (true, Some(path), Some(config)) = (arguments.propose, &arguments.place.config, &place.config) {
        return say_proposal(&propose(path, config, &found)?);
    }
    output::print_with(arguments.format, &found, || table(&found), note)
}

/// Why, and what parts of the pairs say.
fn note(verdict: &Verdict) -> String {
    let Verdict {
        task,
        candidate,
        verdict: decision,
        reason,
        strata,
        ..
    } = verdict;
    let mut note = format!("{task}, {candidate}: {decision}: {reason}");
    if let Some(judge) = verdict.judge {
        note.push_str(&format!(
            "\n    judge: {} answers, {judge:.2} on average (1 better than the recorded one, 0.5 as good, 0 worse)",
            count(verdict.judged as u64)
        ));
    }
    if verdict.trained_on > 0 {
        note.push_str(&format!(
            "\n    {} scores left out: of calls that this version was trained on",
            count(verdict.trained_on as u64)
        ));
    }
    for stratum in strata {
        note.push_str(&format!(
            "\n    {}: {} pairs, agreement {:.3}, floor {:.3}, valid {:.1} %",
            stratum.stratum,
            count(stratum.pairs as u64),
            stratum.agreement,
            stratum.floor,
            100.0 * stratum.valid
        ));
    }
    note
}

fn say_proposal(proposal: &Proposal) -> Result<()> {
    for words in &proposal.words {
        eprintln!("{words}");
    }
    if proposal.diff.is_empty() {
        eprintln!("there is nothing to change in the config");
        return Ok(());
    }
    let mut out = Out::new();
    out.line(proposal.diff.trim_end())?;
    out.finish()
}

fn table(verdicts: &[Verdict]) -> Table {
    let mut table = output::table(&[
        "task",
        "candidate",
        "verdict",
        ">pairs",
        ">agreement",
        ">floor",
        ">difference",
        ">valid / LLM",
        ">p50 ms / LLM",
        ">p95 ms / LLM",
        ">first token ms / LLM",
        ">per 1k / LLM",
        ">month / LLM",
        ">pays from calls/day",
    ]);
    for verdict in verdicts {
        let both = |own: String, baseline: String| format!("{own} / {baseline}");
        table.add_row([
            verdict.task.clone().into(),
            verdict.candidate.clone().into(),
            decision(&verdict.verdict),
            count(verdict.pairs as u64).into(),
            known(verdict.agreement, 3).into(),
            known(verdict.floor, 3).into(),
            difference(verdict).into(),
            both(percent(verdict.valid), percent(verdict.valid_baseline)).into(),
            both(known(verdict.p50_ms, 0), known(verdict.p50_ms_baseline, 0)).into(),
            both(known(verdict.p95_ms, 0), known(verdict.p95_ms_baseline, 0)).into(),
            both(
                known(verdict.first_token_p50_ms, 0),
                known(verdict.first_token_p50_ms_baseline, 0),
            )
            .into(),
            both(dollars(verdict.cost_per_1k), dollars(verdict.cost_per_1k_baseline)).into(),
            both(
                dollars(verdict.cost_per_month),
                dollars(verdict.cost_per_month_baseline),
            )
            .into(),
            pays_from(verdict).into(),
        ]);
    }
    output::fit(&mut table, &SPARE);
    table
}

fn decision(decision: &Decision) -> comfy_table::Cell {
    let color = match decision {
        Decision::Promote => Color::Green,
        Decision::Hold => Color::Red,
        Decision::NeedMore(_) => Color::Yellow,
    };
    comfy_table::Cell::new(decision.to_string()).fg(color)
}

/// From how many calls a day a machine of its own costs less than the baseline.
fn pays_from(verdict: &Verdict) -> String {
    let is_told = verdict.gpu_hour.is_some() && verdict.calls_per_gpu_hour.is_some();
    match (verdict.break_even_per_day, verdict.cost_per_1k_baseline) {
        (Some(calls), _) => count(calls.ceil() as u64),
        (None, Some(_)) if is_told => "never".into(),
        _ => "?".into(),
    }
}

/// The mean difference from the floor, and its interval.
fn difference(verdict: &Verdict) -> String {
    match (verdict.mean_difference, verdict.lower, verdict.upper) {
        (Some(mean), Some(lower), Some(upper)) => format!("{mean:+.3} [{lower:+.3}, {upper:+.3}]"),
        _ => "?".into(),
    }
}
