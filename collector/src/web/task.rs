//! A task's page: what it is, its candidates with agreement, cost and latency, its split and history, what to run.

use super::overview::{event_table, mix};
use super::plot::{agreement, answers, latency};
use super::report::{Candidate, Ready, Report, TaskReport};
use super::view::{View, badge, drifted, figure, name};
use super::words::{count, counted, dollars, excerpt, percent, signed, time, unit};
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Lines of its template that are shown at once.
const LINES: usize = 12;
/// Letters of one.
const LINE: usize = 300;
/// Kinds of answers that are drawn.
const KINDS: usize = 8;
/// Weight of a first canary, per cent.
const FIRST_WEIGHT: u32 = 5;

/// The task, as a page of its own or a part of a file.
pub(super) fn task(view: &View<'_>, task: &TaskReport) -> Markup {
    let report = view.report;
    let it = &task.task;
    let anchor = format!("task-{}", utf8_percent_encode(&it.id, NON_ALPHANUMERIC));
    // In a file the anchor is as links have it.
    let anchor = if view.is_served() {
        anchor
    } else {
        view.task_href(&it.id).trim_start_matches('#').to_owned()
    };
    html! {
        article.task id=(anchor) {
            @if view.is_served() { nav.crumbs aria-label="Breadcrumb" { a href="/" { "All tasks" } " / " span aria-current="page" { (it.id) } } }
            @if view.is_served() { h1 { (it.name) (drifted(task)) } } @else { h2.task { (it.name) (drifted(task)) } }
            p.id { (it.id) }
            @if !it.description.is_empty() { p.lead { (it.description) } }
            @if let Some(drift) = &task.drift {
                p.notice.bad { strong { "This task has drifted. " } (drift) ". Rehearsals from before may not hold: fit again (" code { "understudy tasks fit" } ") and rehearse again." }
            }
            (figures(report, task))
            (candidates(view, task))
            div.pair {
                section.card { (view.head("What it answers")) (answers(&mix(task).into_iter().take(KINDS).collect::<Vec<_>>())) @if !it.tools.is_empty() { p.hint { "Tools offered: " (it.tools.join(", ")) } } }
                section.card { (view.head("Time to the last byte")) @match latency(task) { Some(plot) => { (plot) p.hint { "Thick: the median, which is also written; thin: the 95th percentile." } } None => p { "No call was timed." } } }
            }
            (split(view, task))
            (template(view, task))
            (commands(view, task))
            @if !view.is_served() { p { a href="#top" { "Back to the top" } } }
        }
    }
}

fn figures(report: &Report, task: &TaskReport) -> Markup {
    let took = &task.took;
    let calls = took.calls.max(1) as f64;
    let tokens =
        |tokens: Option<i64>| tokens.map_or_else(|| "?".into(), |tokens| format!("{:.0}", tokens as f64 / calls));
    let place = match task.task.turns {
        Some([_, 0, 0]) => "first calls of conversations".to_owned(),
        Some([_, median, _]) => format!("after {} as a rule", counted(u64::from(median), "answer")),
        None => String::new(),
    };
    let month = task
        .per_month
        .map_or_else(String::new, |calls| format!("about {} a month", count(calls as u64)));
    let failed = if took.failed > 0 {
        format!("{} failed", count(took.failed))
    } else {
        "none failed".to_owned()
    };
    html! {
        dl.figures {
            (figure("Calls", &count(took.calls), &format!("{} of all; {failed}", percent(Some(task.share)))))
            (figure("Cost", &dollars(took.cost_usd), &match report.took.cost_usd { Some(_) => format!("{} of all known", percent(task.cost_share)), None => "no price is known".into() }))
            (figure("Tokens a call", &format!("{} in, {} out", tokens(took.input_tokens), tokens(took.output_tokens)), &month))
            (figure("Narrow answers", &percent(task.narrow), &place))
            (figure("First token", &time(took.first_token.at(0.5)), "median"))
        }
    }
}

fn candidates(view: &View<'_>, task: &TaskReport) -> Markup {
    let report = view.report;
    html! {
        section.card {
            (view.head("Candidates"))
            @if task.candidates.is_empty() {
                p { "None was rehearsed on this task yet." }
            } @else {
                @if let Some(plot) = agreement(report, task) {
                    div.pair {
                        (plot)
                        p.hint { "The mark is the agreement with the recorded answers, its line the interval. The upright line is how the LLM agrees with itself when it is asked again; the shaded band reaches down from it by the margin of " (report.margin) ". A candidate is as good once its whole interval lies right of the band’s left edge." }
                    }
                }
                div.scroll tabindex="0" role="region" aria-label="Candidates" {
                    table {
                        thead { tr {
                            th scope="col" { "Candidate" } th scope="col" { "Verdict" } th.number scope="col" { "Agreement" }
                            th.number scope="col" { "Difference" } th.number scope="col" { "Pairs" } th.number scope="col" { "Valid" }
                            th.number scope="col" { "Per 1,000 calls" } th.number scope="col" { "First token" } th.number scope="col" { "Median" } th.number scope="col" { "95th pct." }
                            th.number scope="col" { @if report.is_projected() { "Saves a month" } @else { "Would have saved" } }
                        } }
                        tbody { @for own in &task.candidates { (candidate(task, own)) } }
                    }
                }
                ul.reasons { @for own in &task.candidates { li {
                    (badge(own.ready, &own.verdict)) " " strong { (name(own)) } @if let Some(model) = &own.model { " (" (excerpt(model, 60)) ")" } ": " (own.reason) "."
                    @if let (Some(hour), Some(calls)) = (own.gpu_hour, own.break_even_per_day) { " A machine of its own at " (dollars(Some(hour))) " an hour pays from " (counted(calls.ceil() as u64, "call")) " a day on." }
                    @if let Some(judge) = own.judge { " A judge compared " (counted(own.judged as u64, "answer")) " with the recorded ones: " (unit(Some(judge))) ", where .5 is as good; it decides nothing." }
                    @if !own.unpriced.is_empty() { " No price is known of " (excerpt(&own.unpriced.join(", "), 200)) "." }
                    @if let Some(href) = view.disagreements_href(own) { " " a href=(href) { "See where it disagrees" span.hidden { ", " (own.name) } } }
                } } }
                @if view.is_served() && !view.may_read { p.hint { "Disagreements side by side are for operators: they hold (masked) text of calls." } }
            }
        }
    }
}

fn candidate(task: &TaskReport, own: &Candidate) -> Markup {
    let both = |value: String, llm: String| html! { td.number { (value) span.interval { "LLM " (llm) } } };
    html! { tr {
        th scope="row" { (name(own)) } td { (badge(own.ready, &own.verdict)) }
        (both(unit(own.agreement), unit(own.floor)))
        td.number { (signed(own.difference)) @if own.lower.is_some() { span.interval { (signed(own.lower)) " to " (signed(own.upper)) } } }
        td.number { (count(own.pairs as u64)) @if own.conversations > 0 { span.interval { (counted(own.conversations as u64, "conversation")) } } }
        (both(percent(own.valid), percent(own.valid_baseline)))
        (both(dollars(own.cost_per_1k[0]), dollars(own.cost_per_1k[1])))
        (both(time(own.first_token_ms[0]), time(own.first_token_ms[1])))
        (both(time(own.p50_ms[0]), time(own.p50_ms[1])))
        (both(time(own.p95_ms[0]), time(own.p95_ms[1])))
        td.number { (dollars(task.saves(own))) }
    } }
}

fn split(view: &View<'_>, task: &TaskReport) -> Markup {
    let report = view.report;
    let arms: std::collections::BTreeSet<&String> = task.days.iter().flat_map(|day| day.served.keys()).collect();
    let events: Vec<_> = report
        .events
        .iter()
        .filter(|event| event.task.as_deref().is_none_or(|id| id == task.task.id))
        .take(8)
        .collect();
    html! {
        section.card {
            (view.head("Who serves it"))
            @match &task.split {
                None => p { "No route of the config names this task and splits it: every call goes where it is addressed." },
                Some(split) => {
                    p { "Now: " @for (at, arm) in split.arms.iter().enumerate() { @if at > 0 { ", " } strong { (arm.name) } " " (percent(Some(arm.in_force))) } "."
                        @if split.arms.iter().any(|arm| arm.given != arm.in_force) { " By config: " @for (at, arm) in split.arms.iter().enumerate() { @if at > 0 { ", " } (arm.name) " " (percent(Some(arm.given))) } "." } }
                    (split.notes())
                }
            }
            @if !arms.is_empty() {
                div.scroll tabindex="0" role="region" aria-label="Calls by day and who served them" {
                    table {
                        thead { tr { th scope="col" { "Day (UTC)" } th.number scope="col" { "Calls" } @for arm in &arms { th.number scope="col" { (arm) } } } }
                        tbody { @for day in task.days.iter().rev() {
                            @let all: u64 = day.served.values().sum();
                            tr {
                                th scope="row" { (day.day) } td.number { (count(all)) }
                                @for arm in &arms { td.number { (percent(Some(*day.served.get(*arm).unwrap_or(&0) as f64 / all.max(1) as f64))) } }
                            }
                        } }
                    }
                }
            }
            @if !events.is_empty() {
                details { summary { "What was done" } (event_table(events.into_iter())) }
            }
        }
    }
}

fn template(view: &View<'_>, task: &TaskReport) -> Markup {
    let it = &task.task;
    html! {
        section.card {
            (view.head("What its prompts have in common"))
            @if it.lines.is_empty() { p { "Nothing constant." } } @else {
                p.hint { "Constant lines, the most telling first; what varies is a placeholder." }
                ul.template { @for line in it.lines.iter().take(LINES) { li { code { (excerpt(line, LINE)) } } } }
            }
            @if !it.examples.is_empty() {
                @match view.examples_href(&it.id) {
                    Some(href) => p { a href=(href) { "Read example calls" } ", masked as they are kept. That you read them is noted in the audit log." }
                    None => details { summary { "Example calls" } ul.plain { @for id in it.examples.iter().chain(&it.rim) { li { code { (id) } } } } }
                }
            }
        }
    }
}

/// The share that a candidate has, if it has any.
fn share_of(task: &TaskReport, own: &Candidate) -> Option<f64> {
    let share = task.split.as_ref()?.share_of(&own.name)?;
    (share > 0.0).then_some(share)
}

/// What to type next.
fn commands(view: &View<'_>, task: &TaskReport) -> Markup {
    let id = &task.task.id;
    let ready = task.candidates.iter().find(|own| own.ready == Ready::Promote);
    let other = task.candidates.first().map_or("CANDIDATE", |own| own.name.as_str());
    let baseline = task
        .took
        .served
        .iter()
        .max_by_key(|(_, calls)| **calls)
        .map_or("LLM", |(name, _)| name.as_str());
    html! {
        section.card {
            (view.head("What to run"))
            @if let Some(own) = ready {
                @match share_of(task, own) {
                    _ if task.split.as_ref().is_some_and(|split| split.is_out(&own.name)) => p { (name(own)) " was taken out. What to do before it comes back: " code { "understudy rollout status --config u.yaml" } },
                    Some(share) => p { (name(own)) " has " (percent(Some(share))) " of its conversations. " code { "understudy rollout status --config u.yaml" } " says what comes next; without a rollout change its weight in the config, step by step. Weight 0 takes all back." }
                    None => {
                        p { "Move the first " (FIRST_WEIGHT) " % to " (name(own)) ": these lines in the config are taken up while running. Weight 0 takes all back." }
                        pre tabindex="0" { code { "routes:\n  - match: { task: " (id) " }\n    split: { " (baseline) ": " (100 - FIRST_WEIGHT) ", " (own.name) ": " (FIRST_WEIGHT) " }" } }
                    }
                }
            }
            p { "Rehearse, and weigh again:" }
            pre tabindex="0" { code { "understudy replay --task " (id) " --to " (other) " --floor --config u.yaml\nunderstudy verdict --task " (id) " --config u.yaml" } }
            p { "Look at its calls, or take them as a data set:" }
            pre tabindex="0" { code { "understudy calls --task " (id) "\nunderstudy export --task " (id) " --format openai --out dataset" } }
        }
    }
}
