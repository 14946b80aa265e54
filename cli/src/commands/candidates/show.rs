//! How the choice is shown: all tasks in a table, or one task whole.

use super::{Choice, Listed};
use crate::output::{self, Out, count, dollars, known, percent};
use anyhow::Result;
use comfy_table::{ColumnConstraint, ContentArrangement, Table};
use std::path::Path;
use understudy_collector::candidates::{Needs, gibibytes, short};

/// Columns that a narrow terminal does without, the first first; `--format json` has all.
const SPARE: [&str; 5] = ["calls/day", "month", "and larger", "tokens", "answers"];
/// The width that reasons are folded to.
const WIDTH: u16 = 80;
/// Names of tools shown.
const TOOLS: usize = 4;
/// Letters of a licence shown.
const LICENCE: usize = 12;

/// Every task with the first model to rehearse.
pub(super) fn all(choices: &[Choice]) -> Table {
    let mut table = output::table(&[
        "task",
        "answers",
        ">tokens",
        ">calls/day",
        ">month",
        "rehearse first",
        ">memory",
        ">and larger",
    ]);
    for choice in choices {
        let mut first = choice.candidates.iter().filter(|listed| listed.candidate.shortlisted);
        let smallest = first.next();
        table.add_row([
            choice.task.clone(),
            choice.needs.kind.unwrap_or("?").to_owned(),
            tokens(&choice.needs),
            known(choice.needs.calls_per_day, 0),
            dollars(choice.needs.cost_per_month),
            smallest
                .map_or("none that is known here", |listed| short(&listed.candidate.model))
                .to_owned(),
            smallest.map_or_else(|| "-".to_owned(), memory),
            count(first.count() as u64),
        ]);
    }
    output::fit(&mut table, &SPARE);
    table
}

/// One task: what it asks for, whom to rehearse first, who would do besides, and who is out.
pub(super) fn one(choice: &Choice) -> Result<()> {
    let mut out = Out::new();
    out.line(&format!("{}  ({})", choice.name, choice.task))?;
    out.line(&asked(&choice.needs).trim_fmt())?;
    let of = |is_meant: fn(&&Listed) -> bool| choice.candidates.iter().filter(is_meant).collect::<Vec<&Listed>>();
    let first = of(|listed| listed.candidate.shortlisted);
    out.line("\nRehearse first: the smallest, and larger ones whose published figure is higher")?;
    if first.is_empty() {
        out.line("none that is known here")?;
    } else {
        out.line(&shortlist(&first).trim_fmt())?;
        out.line("")?;
        let mut why = reasons(&first, true);
        if let Some(memory) = why.column_mut(1) {
            memory.set_constraint(ColumnConstraint::Hidden);
        }
        out.line(&why.trim_fmt())?;
    }
    let besides = of(|listed| listed.candidate.fits && !listed.candidate.shortlisted);
    let out_of_it = of(|listed| !listed.candidate.fits);
    for (head, listed) in [("Would do, too", besides), ("Out", out_of_it)] {
        if !listed.is_empty() {
            out.line(&format!("\n{head}"))?;
            out.line(&reasons(&listed, false).trim_fmt())?;
        }
    }
    out.finish()
}

/// What the task asks for, a line a kind of thing.
fn asked(needs: &Needs) -> Table {
    let shares = |shares: &std::collections::BTreeMap<&'static str, f64>| {
        let mut shares: Vec<(&str, f64)> = shares.iter().map(|(name, share)| (*name, *share)).collect();
        shares.sort_by(|one, other| other.1.total_cmp(&one.1));
        let shown = shares
            .iter()
            .map(|(name, share)| format!("{name} {}", percent(Some(*share))));
        shown.collect::<Vec<_>>().join(", ")
    };
    let calls = format!("{} that the LLM answered", count(needs.calls));
    let mut lines = folded(&["calls", &calls], 1);
    if !needs.answers.is_empty() {
        lines.add_row(["answers".to_owned(), shares(&needs.answers)]);
    }
    if let (Some(tokens), Some(most)) = (needs.tokens, needs.tokens_most) {
        let estimated = match needs.tokens_estimated_calls {
            0 => String::new(),
            calls if calls == needs.calls => "; estimated from characters".into(),
            calls => format!("; {} calls estimated from characters", count(calls)),
        };
        let (tokens, most) = (count(tokens), count(most));
        lines.add_row([
            "tokens".to_owned(),
            format!("{tokens} in 99 of 100 calls, at most {most}{estimated}"),
        ]);
    }
    if !needs.tools.is_empty() {
        let shown: Vec<&str> = needs.tools.iter().take(TOOLS).map(String::as_str).collect();
        let more = match needs.tools.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        lines.add_row(["tools".to_owned(), format!("{}{more}", shown.join(", "))]);
    }
    let asks = [
        ("a JSON schema", needs.schema),
        ("streamed", needs.streamed),
        ("images or files", needs.media),
    ];
    let asks: Vec<String> = asks
        .iter()
        .filter(|(_, share)| *share > 0.0)
        .map(|(what, share)| format!("{what} {}", percent(Some(*share))))
        .collect();
    if !asks.is_empty() {
        lines.add_row(["asks for".to_owned(), asks.join(", ")]);
    }
    if !needs.languages.is_empty() {
        lines.add_row(["languages".to_owned(), shares(&needs.languages)]);
    }
    lines.add_row([
        "now".to_owned(),
        format!(
            "{} calls a day, {} per 1,000 calls, {} a month",
            known(needs.calls_per_day, 0),
            dollars(needs.cost_per_1k),
            dollars(needs.cost_per_month)
        ),
    ]);
    lines
}

fn shortlist(listed: &[&Listed]) -> Table {
    let mut table = output::table(&["model", ">memory", "licence", "published"]);
    for listed in listed {
        let candidate = &listed.candidate;
        let figure = candidate.benchmarks.first();
        table.add_row([
            short(&candidate.model).to_owned(),
            memory(listed),
            output::excerpt(candidate.licence.as_deref().unwrap_or("?"), LICENCE),
            figure.map_or_else(String::new, |figure| format!("{} {:.1}", figure.title, figure.value)),
        ]);
    }
    table
}

fn standing(configured: &super::Configured) -> String {
    match (&configured.verdict, &configured.reason) {
        (Some(verdict), Some(reason)) => format!("upstream `{}`: {verdict}: {reason}", configured.upstream),
        _ => format!("upstream `{}`: not rehearsed on this task yet", configured.upstream),
    }
}

/// Why each is where it is, and what the config has of it; with what to know besides, where there is room for that.
fn reasons(listed: &[&Listed], with_notes: bool) -> Table {
    let mut table = folded(&["model", ">memory", "why"], 2);
    for listed in listed {
        let candidate = &listed.candidate;
        let note = candidate.note.iter().filter(|_| with_notes);
        let words = [&candidate.why].into_iter().chain(note).cloned();
        let why: Vec<String> = words.chain(listed.upstreams.iter().map(standing)).collect();
        table.add_row([short(&candidate.model).to_owned(), memory(listed), why.join("; ")]);
    }
    table
}

/// A table whose last column is folded, so that lines are as narrow as can be; the columns before it are not.
fn folded(heads: &[&str], whole: usize) -> Table {
    let mut table = output::table(heads);
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    for column in table.column_iter_mut().take(whole) {
        // A name cut in two can't be copied.
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    table
}

/// Memory of weights and KV cache; of weights alone where that is all that is known.
fn memory(listed: &Listed) -> String {
    match (listed.candidate.memory_bytes, listed.candidate.weights_bytes) {
        (Some(bytes), _) => gibibytes(bytes),
        (None, Some(weights)) => format!("> {}", gibibytes(weights)),
        (None, None) => "?".into(),
    }
}

/// The tokens needed; `~` where they are an estimate.
fn tokens(needs: &Needs) -> String {
    let sign = if needs.tokens_estimated_calls > 0 { "~" } else { "" };
    needs
        .tokens
        .map_or_else(|| "?".into(), |tokens| format!("{sign}{}", count(tokens)))
}

/// What it is, and what to do next; on stderr.
pub(super) fn words(choices: &[Choice], is_one: bool, config: Option<&Path>) {
    eprintln!("a choice of what to rehearse, not a verdict: published figures are of other tasks than yours");
    if !is_one {
        eprintln!("`understudy candidates TASK` has every model for it, and why it is in or out");
    }
    let first = |choice: &&Choice| choice.candidates.iter().any(|listed| listed.candidate.shortlisted);
    let Some(choice) = choices.iter().find(first) else {
        return;
    };
    let shortlisted = choice.candidates.iter().filter(|listed| listed.candidate.shortlisted);
    let Some(listed) = shortlisted
        .clone()
        .find(|listed| !listed.upstreams.is_empty())
        .or(shortlisted.clone().next())
    else {
        return;
    };
    let file = config.map_or_else(|| "FILE".to_owned(), |path| path.display().to_string());
    let task = &choice.task;
    let upstream = match listed.upstreams.first() {
        Some(configured) => configured.upstream.clone(),
        None => {
            let model = &listed.candidate.model;
            let name = upstream_name(model);
            eprintln!(
                "next: serve it (vLLM, llama.cpp, Ollama), name it in {file}, and rehearse it\n\
                 \x20 upstreams:\n\
                 \x20   {name}: {{ url: http://127.0.0.1:8080, api: openai_chat, model: {model} }}"
            );
            name
        }
    };
    eprintln!("  understudy replay --config {file} --task {task} --to {upstream}");
    eprintln!("  or, on live calls: `shadow: [{{ match: {{ task: {task} }}, to: [{upstream}], sample: 5% }}]`");
}

/// A name for the upstream of a model: small letters, digits, hyphens.
fn upstream_name(model: &str) -> String {
    let letters = short(model).to_ascii_lowercase();
    letters.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")
}
