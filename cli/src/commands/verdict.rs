//! `verdict`: which candidates are ready, with the evidence.

use crate::args::VerdictArguments;
use crate::output::{self, Out, count, dollars, known, percent};
use crate::place::{Place, book, task};
use crate::propose::{Proposal, propose};
use anyhow::Result;
use comfy_table::{Color, Table};
use jiff::Timestamp;
use understudy_collector::evidence::verdicts;
use understudy_collector::verdict::{Decision, Verdict};

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
    if let (true, Some(path), Some(config)) = (arguments.propose, &arguments.place.config, &place.config) {
        return say_proposal(&propose(path, config, &found)?);
    }
    output::print_with(
        arguments.format,
        &found,
        || table(&found),
        |verdict| {
            let Verdict {
                task,
                candidate,
                verdict,
                reason,
                ..
            } = verdict;
            format!("{task}, {candidate}: {verdict}: {reason}")
        },
    )
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
        ">per 1k / LLM",
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
            both(dollars(verdict.cost_per_1k), dollars(verdict.cost_per_1k_baseline)).into(),
        ]);
    }
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

/// The mean difference from the floor, and its interval.
fn difference(verdict: &Verdict) -> String {
    match (verdict.mean_difference, verdict.lower, verdict.upper) {
        (Some(mean), Some(lower), Some(upper)) => format!("{mean:+.3} [{lower:+.3}, {upper:+.3}]"),
        _ => "?".into(),
    }
}
