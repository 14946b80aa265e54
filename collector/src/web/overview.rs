//! The first page: what to look at first, savings against risk, where calls and cost are, all tasks.

use super::plot::{bubbles, savings, sign};
use super::report::{Candidate, Ready, Report, TaskReport, time_of};
use super::splits;
use super::view::{Medium, View, badge, drifted, figure, name};
use super::words::{count, counted, dollars, excerpt, percent, short, signed, time, unit};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Things to look at first.
const FIRST: usize = 3;
/// Letters of a name in a table.
pub(super) const NAME: usize = 60;
/// Models named whose price is unknown.
const UNPRICED: usize = 8;

/// The page.
pub(super) fn overview(view: &View<'_>) -> Markup {
    let report = view.report;
    html! {
        h1 #top { "Which calls could a small model take over?" }
        (figures(report))
        @if report.took.calls == 0 {
            section.card { h2 { "No calls are kept yet" } p { "Point an agent at the proxy: its base URL is all that changes. Calls show here within a minute or so." } }
        } @else if report.book.is_none() {
            section.card { h2 { "No tasks are found yet" } p { "When some hundred calls are kept, find what recurs in them: " code { "understudy tasks fit" } } }
            (splits::card(&report.splits))
            (events(report))
        } @else {
            (look_first(view))
            div.pair {
                (savings_card(view))
                (bubbles_card(view))
            }
            (splits::card(&report.splits))
            (tasks(view))
            (unpriced(report))
            (events(report))
        }
    }
}

fn figures(report: &Report) -> Markup {
    let took = &report.took;
    let promotable = report.tasks.iter().filter(|task| is_ready(task)).count();
    let rehearsed = report.tasks.iter().filter(|task| !task.candidates.is_empty()).count();
    let since = report
        .hours
        .as_ref()
        .map_or_else(String::new, |(first, _)| format!("since {first} UTC"));
    let priced = match (took.cost_usd, took.cost_known_calls) {
        (None, _) => "no price is known".to_owned(),
        (Some(_), known) if known < took.calls => format!("of {}", counted(known, "priced call")),
        _ => "all calls priced".to_owned(),
    };
    let narrow = match report.narrow.1 {
        Some(cost) => format!("and {} of cost", percent(Some(cost))),
        None => "of calls".to_owned(),
    };
    html! {
        dl.figures {
            (figure("Calls kept", &short_or_all(took.calls), &since))
            (figure("Cost", &dollars(took.cost_usd), &priced))
            (figure("Tasks", &count(report.tasks.len() as u64), &format!("hold {} of calls", percent(Some(report.in_tasks)))))
            (figure("In narrow tasks", &percent(Some(report.narrow.0)), &narrow))
            (figure("Ready to promote", &count(promotable as u64), &format!("of {} rehearsed", count(rehearsed as u64))))
        }
    }
}

fn short_or_all(calls: u64) -> String {
    if calls < 1_000_000 {
        count(calls)
    } else {
        short(calls as f64)
    }
}

fn is_ready(task: &TaskReport) -> bool {
    task.candidates.iter().any(|own| own.ready == Ready::Promote)
}

/// Whether a share of its calls goes to this candidate already.
fn is_split(task: &TaskReport, candidate: &Candidate) -> bool {
    let share = task.split.as_ref().and_then(|split| split.share_of(&candidate.name));
    share.is_some_and(|share| share > 0.0)
}

/// The few things that are worth doing now, the most worth first.
fn look_first(view: &View<'_>) -> Markup {
    let report = view.report;
    let saves = |task: &TaskReport, own: &Candidate| match (task.saves(own), report.is_projected()) {
        (Some(saved), true) => format!("It would save about {} a month", dollars(Some(saved))),
        (Some(saved), false) => format!("It would have saved {} on the calls kept so far", dollars(Some(saved))),
        (None, _) => "What it would save is not known, for want of a price".to_owned(),
    };
    let link =
        |task: &TaskReport| html! { a href=(view.task_href(&task.task.id)) { (excerpt(&task.task.name, NAME)) } };
    let mut items: Vec<Markup> = Vec::new();
    for split in report.splits.iter().filter(|split| !split.tripped.is_empty()) {
        items.push(html! { span.badge.hold { "tripped" } " " (excerpt(&split.route, NAME)) ". " (split.tripped.join(". ")) "." });
    }
    for task in report.tasks.iter().filter(|task| task.drift.is_some()) {
        items.push(html! { span.badge.warn { "drifted" } " " (link(task)) ". " (task.drift.as_deref().unwrap_or_default()) ". What was rehearsed before may not hold now." });
    }
    let mut seen: Vec<&str> = Vec::new();
    for (task, own) in report.by_saving() {
        let is_out = |split: &splits::Split| split.is_out(&own.name);
        if own.ready != Ready::Promote
            || task.split.as_ref().is_some_and(is_out)
            || seen.contains(&task.task.id.as_str())
        {
            continue;
        }
        seen.push(&task.task.id);
        let what = if is_split(task, own) {
            "has a share of its calls already"
        } else {
            "is ready for a first few per cent"
        };
        items.push(html! { (badge(Ready::Promote, "promote")) " " (link(task)) ": " (name(own)) " " (what) ". " (saves(task, own)) ", and agrees with the LLM’s answers no worse than the LLM itself, give or take " (report.margin) "." });
    }
    let mut unrehearsed: Vec<&TaskReport> = report
        .tasks
        .iter()
        .filter(|task| task.candidates.is_empty() && task.is_narrow() && task.took.calls > 0)
        .collect();
    unrehearsed.sort_by(|one, other| {
        let cost = |task: &TaskReport| task.cost_share.unwrap_or(task.share);
        cost(other).total_cmp(&cost(one))
    });
    for task in unrehearsed {
        items.push(html! { span.badge { "rehearse" } " " (link(task)) ": " (percent(task.narrow)) " of its answers are narrow, it is " (percent(task.cost_share.or(Some(task.share)))) " of " @if task.cost_share.is_some() { "the cost" } @else { "all calls" } ", and no candidate was tried." });
    }
    items.truncate(FIRST);
    html! {
        section.card.first aria-labelledby="first" {
            h2 #first { "Look at this first" }
            @if items.is_empty() {
                p { "Nothing is ready, drifted, or both narrow and untried. The table below has all tasks." }
            } @else {
                ol { @for item in &items { li { (item) } } }
            }
        }
    }
}

fn savings_card(view: &View<'_>) -> Markup {
    let report = view.report;
    let pairs = report.by_saving();
    let hidden = pairs
        .iter()
        .filter(|(task, own)| task.saves(own).is_none() || own.lower.is_none())
        .count();
    html! {
        section.card aria-labelledby="savings" {
            h2 #savings { "Savings against risk" }
            @match savings(view) {
                Some(plot) => {
                    p.hint { "High and to the right is good. The mark is at the lower bound, the line reaches to the upper one; its size is the task’s calls." }
                    ul.legend {
                        li { (sign(Ready::Promote)) "promote" }
                        li { (sign(Ready::NeedMore)) "need more" }
                        li { (sign(Ready::Hold)) "hold" }
                    }
                    (plot)
                }
                None => p { "Nothing is rehearsed yet, or no price is known: " code { "understudy replay --task TASK --to CANDIDATE --floor" } }
            }
            @if hidden > 0 { p.hint { (counted(hidden as u64, "candidate")) " can’t be drawn: a price, or the LLM’s agreement with itself, is unknown." } }
            @if !pairs.is_empty() {
                details {
                    summary { "The same as a table" }
                    div.scroll tabindex="0" role="region" aria-label="Candidates" {
                        table {
                            thead { tr {
                                th scope="col" { "Task" } th scope="col" { "Candidate" } th scope="col" { "Verdict" }
                                th.number scope="col" { "Saves" } th.number scope="col" { "Difference" }
                                th.number scope="col" { "From" } th.number scope="col" { "To" } th.number scope="col" { "Pairs" }
                            } }
                            tbody { @for (task, own) in &pairs { tr {
                                th scope="row" { a href=(view.task_href(&task.task.id)) { (excerpt(&task.task.name, NAME)) } }
                                td { (name(own)) } td { (badge(own.ready, &own.verdict)) }
                                td.number { (dollars(task.saves(own))) } td.number { (signed(own.difference)) }
                                td.number { (signed(own.lower)) } td.number { (signed(own.upper)) } td.number { (count(own.pairs as u64)) }
                            } } }
                        }
                    }
                }
            }
        }
    }
}

fn bubbles_card(view: &View<'_>) -> Markup {
    html! {
        section.card aria-labelledby="bubbles" {
            h2 #bubbles { "Where calls and cost are" }
            @match bubbles(view) {
                Some(plot) => {
                    p.hint { "Large, high and to the right is where to look: many calls, much of the cost, answers of one narrow kind. A dashed bubble has drifted." }
                    (plot)
                    p.hint { a href="#tasks" { "The table of tasks" } " has the same figures." }
                }
                None => p { "No calls of a task are kept." }
            }
        }
    }
}

fn tasks(view: &View<'_>) -> Markup {
    let report = view.report;
    html! {
        section.card aria-labelledby="tasks" {
            h2 #tasks { "Tasks" }
            div.scroll tabindex="0" role="region" aria-label="Tasks" {
                table.sortable {
                    thead { tr {
                        th scope="col" { "Task" }
                        th.number scope="col" { "Calls" } th.number scope="col" { "Share" } th.number scope="col" { "Of cost" }
                        th.number scope="col" { "Narrow" } th scope="col" { "Answers" }
                        th.number scope="col" { "Median" } th.number scope="col" { "95th pct." }
                        th scope="col" { "Best candidate" } th.number scope="col" { "Agreement" } th.number scope="col" { "LLM itself" }
                    } }
                    tbody { @for task in &report.tasks { (row(view, task)) } }
                }
            }
        }
    }
}

fn row(view: &View<'_>, task: &TaskReport) -> Markup {
    let took = &task.took;
    let (p50, p95) = (took.duration.at(0.5), took.duration.at(0.95));
    let best = task.candidates.first();
    let sort = |value: Option<f64>| value.map_or_else(|| "-1".to_owned(), |value| format!("{value}"));
    html! {
        tr {
            th scope="row" {
                a href=(view.task_href(&task.task.id)) { (excerpt(&task.task.name, NAME)) } (drifted(task))
                span.id { (task.task.id) }
            }
            td.number data-sort=(took.calls) { (count(took.calls)) }
            td.number data-sort=(task.share) { (percent(Some(task.share))) }
            td.number data-sort=(sort(task.cost_share)) { (percent(task.cost_share)) }
            td.number data-sort=(sort(task.narrow)) { (percent(task.narrow)) }
            td.answers { (mix(task).iter().take(2).map(|(kind, share)| format!("{} {}", excerpt(kind, 24), percent(Some(*share)))).collect::<Vec<_>>().join(", ")) }
            td.number data-sort=(sort(p50)) { (time(p50)) }
            td.number data-sort=(sort(p95)) { (time(p95)) }
            td.best data-sort=(best.map_or(9, |own| own.ready as i32)) {
                @match best {
                    Some(own) => { (badge(own.ready, &own.verdict)) span.who { (name(own)) } }
                    None => span.quiet { "none tried" }
                }
            }
            td.number data-sort=(sort(best.and_then(|own| own.agreement))) { @match best { Some(own) => (unit(own.agreement)), None => "" } }
            td.number data-sort=(sort(best.and_then(|own| own.floor))) { @match best { Some(own) => (unit(own.floor)), None => "" } }
        }
    }
}

/// Kinds of answers and their share: as counted, else as the book has them; the most frequent first.
pub(super) fn mix(task: &TaskReport) -> Vec<(String, f64)> {
    let all: u64 = task.took.answers.values().sum();
    if all == 0 {
        return task.task.answers.clone();
    }
    // That prose fills in a form shows when many are compared, in a fit.
    let is_form = task.task.answers.iter().any(|(kind, _)| kind == "form");
    let named = |kind: &String| {
        if is_form && kind == "prose" {
            "form".to_owned()
        } else {
            kind.clone()
        }
    };
    let share = |(kind, calls): (&String, &u64)| (named(kind), *calls as f64 / all as f64);
    let mut mix: Vec<(String, f64)> = task.took.answers.iter().map(share).collect();
    mix.sort_by(|one, other| other.1.total_cmp(&one.1));
    mix
}

fn unpriced(report: &Report) -> Markup {
    let mut models: Vec<(&String, &u64)> = report.took.unpriced.iter().collect();
    models.sort_by(|one, other| other.1.cmp(one.1));
    html! {
        @if !models.is_empty() {
            section.card aria-labelledby="unpriced" {
                h2 #unpriced { "Unknown prices" }
                p { "These calls are in no cost or saving here: their model has no price (" code { "prices" } " in the config), or their answer did not tell its tokens (streams do with " code { "ask_usage: true" } ")." }
                ul.plain { @for (model, calls) in models.iter().take(UNPRICED) { li { code { (excerpt(model, NAME)) } " " (counted(**calls, "call")) } } }
                @if models.len() > UNPRICED { p.hint { "And " (models.len() - UNPRICED) " more." } }
            }
        }
    }
}

fn events(report: &Report) -> Markup {
    html! {
        @if !report.events.is_empty() {
            section.card aria-labelledby="events" {
                h2 #events { "What was done" }
                (event_table(report.events.iter().take(10)))
            }
        }
    }
}

/// Events, one a row.
pub(super) fn event_table<'a>(events: impl Iterator<Item = &'a super::history::Event>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="What was done" {
            table {
                thead { tr { th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "By" } th scope="col" { "Details" } } }
                tbody { @for event in events { tr {
                    td.when { (time_of(event.at)) } td { (event.what) } td { (excerpt(&event.by, 40)) } td { (excerpt(&event.details, 160)) }
                } } }
            }
        }
    }
}

/// Overview and all tasks in one document; `texts` are the parts with disagreements, by task, where they may be read.
pub(super) fn file(report: &Report, texts: Option<&BTreeMap<String, Vec<Markup>>>) -> String {
    let view = file_view(report, texts.is_some());
    let of_task = |task: &TaskReport| texts.and_then(|texts| texts.get(&task.task.id)).into_iter().flatten();
    let content = html! {
        (overview(&view))
        @for task in &report.tasks {
            (super::task::task(&view, task))
            @for part in of_task(task) { (part) }
        }
    };
    view.document("Understudy report", &content).into_string()
}

/// A report on its way to a file.
pub(super) fn file_view(report: &Report, may_read: bool) -> View<'_> {
    View {
        report,
        medium: Medium::File,
        may_read,
    }
}
