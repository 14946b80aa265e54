//! The pages that hold text of calls, masked as it is kept: examples of a task, and where a candidate disagrees.
//!
//! Who reads them is for the caller to decide, and to note.

use super::report::Candidate;
use super::view::{View, badge, name};
use super::words::{count, counted, excerpt, unit};
use crate::books::chat_of;
use crate::replay::is_floor;
use crate::scan::{ScanError, ScoreFilter, calls_by_id, scores};
use crate::store::Store;
use maud::{Markup, html};
use similar::{ChangeTag, TextDiff};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};
use understudy_call::call::{Role, ToolCall};
use understudy_call::record::{CallRecord, ScoreRecord};
use understudy_call::taskbook::Task;

/// Disagreements on a page: the worst ones.
pub(super) const SHOWN: usize = 20;
/// Examples near the centre, and at the rim.
const EXAMPLES: usize = 3;
/// Letters of a text.
const TEXT: usize = 4000;
/// The last messages of a request.
const MESSAGES: usize = 6;
/// An agreement from which on two answers are the same.
const SAME: f64 = 0.9995;
/// How long finding differences may take, for one answer.
const DIFF: Duration = Duration::from_millis(100);

/// A disagreement: the candidate's score and, where it was asked again, the baseline's.
pub(super) struct Disagreement {
    score: ScoreRecord,
    again: Option<ScoreRecord>,
    call: Option<CallRecord>,
}

/// Where a candidate disagrees.
pub(super) struct Disagreements {
    /// The worst.
    shown: Vec<Disagreement>,
    /// How many calls were scored.
    scored: usize,
    /// In how many it disagrees.
    all: usize,
}

/// Where a candidate's newest version agrees least, at most `most` of them.
pub(super) async fn disagreements(
    store: &Store,
    task: &str,
    candidate: &str,
    most: usize,
) -> Result<Disagreements, ScanError> {
    let filter = ScoreFilter {
        task: Some(task.to_owned()),
        ..ScoreFilter::default()
    };
    let (floor, rows): (Vec<ScoreRecord>, Vec<ScoreRecord>) =
        scores(store, &filter).await?.into_iter().partition(is_floor);
    let own = || rows.iter().filter(|row| row.candidate == candidate);
    let newest = own()
        .max_by_key(|row| row.judged_at)
        .map(|row| row.candidate_version.clone());
    let mut latest: BTreeMap<&str, &ScoreRecord> = BTreeMap::new();
    for row in own().filter(|row| Some(&row.candidate_version) == newest.as_ref()) {
        let seen = latest.entry(&row.call_id).or_insert(row);
        if row.judged_at > seen.judged_at {
            *seen = row;
        }
    }
    let scored = latest.len();
    let mut worst: Vec<&ScoreRecord> = latest.into_values().filter(|row| agreed(row) < SAME).collect();
    let all = worst.len();
    worst.sort_by(|one, other| {
        agreed(one)
            .total_cmp(&agreed(other))
            .then_with(|| one.call_id.cmp(&other.call_id))
    });
    worst.truncate(most);
    let wanted: BTreeSet<String> = worst.iter().map(|row| row.call_id.clone()).collect();
    let mut calls = by_id(calls_by_id(store, &wanted).await?);
    let mut again: HashMap<String, ScoreRecord> = floor.into_iter().map(|row| (row.call_id.clone(), row)).collect();
    let shown = worst.into_iter().map(|row| Disagreement {
        call: calls.remove(&row.call_id),
        again: again.remove(&row.call_id),
        score: row.clone(),
    });
    Ok(Disagreements {
        shown: shown.collect(),
        scored,
        all,
    })
}

fn agreed(row: &ScoreRecord) -> f64 {
    row.agreement.unwrap_or(-1.0)
}

fn by_id(calls: Vec<CallRecord>) -> HashMap<String, CallRecord> {
    calls.into_iter().map(|call| (call.call_id.clone(), call)).collect()
}

/// A candidate's disagreements: a page of their own, or a part of a file.
pub(super) fn disagreements_page(view: &View<'_>, task: &Task, candidate: &Candidate, found: &Disagreements) -> Markup {
    let anchor = view.disagreements_anchor(candidate);
    html! {
        @if view.is_served() {
            nav.crumbs aria-label="Breadcrumb" { a href="/" { "All tasks" } " / " a href=(view.task_href(&task.id)) { (task.id) } " / " span aria-current="page" { "disagreements" } }
            h1 { "Where " (name(candidate)) " disagrees" }
        } @else {
            h3 id=(anchor) { "Where " (name(candidate)) " disagrees" }
        }
        p.lead { (badge(candidate.ready, &candidate.verdict)) " " (task.name) ": in " (count(found.all as u64)) " of " (counted(found.scored as u64, "scored call")) " it does not say what was recorded." @if found.all > found.shown.len() { " The " (found.shown.len()) " worst are here." } }
        p.hint { "Texts are masked, as they are kept. " del { "Struck out" } " is only in the recorded answer, " ins { "underlined" } " only in the other. Where the LLM, asked again, differs as well, the fault need not be the candidate’s." }
        @if found.shown.is_empty() { section.card { p { "There is none." } } }
        @for (at, one) in found.shown.iter().enumerate() { (disagreement(view, &format!("{anchor}-{}", at + 1), at + 1, candidate, one)) }
    }
}

fn disagreement(view: &View<'_>, anchor: &str, number: usize, candidate: &Candidate, one: &Disagreement) -> Markup {
    let recorded = one
        .call
        .as_ref()
        .map(|call| answer(call.output_text.as_deref(), &call.tool_calls));
    let of = |row: &ScoreRecord| answer(row.output_text.as_deref(), &row.tool_calls);
    let title = html! { (number) ". " code { (one.score.call_id) } };
    let again = html! { "LLM, asked again" @if let Some(again) = &one.again { span.interval { "agrees " (unit(again.floor_agreement.or(again.agreement))) } } };
    let own = html! { (name(candidate)) span.interval { "agrees " (unit(one.score.agreement)) @if !one.score.valid { ", not valid" } } };
    html! {
        section.card aria-labelledby=(anchor) {
            @if view.is_served() { h2.small id=(anchor) { (title) } } @else { h4.small id=(anchor) { (title) } }
            @match &one.call {
                Some(call) => (request(view, call)),
                None => p.hint { "The call is no longer kept." }
            }
            div.answers {
                div { (label(view, &html! { "Recorded" })) (text(recorded.as_deref())) }
                div {
                    (label(view, &again))
                    @match &one.again { Some(again) => (difference(recorded.as_deref(), &of(again))), None => p.quiet { "It was not asked again." } }
                }
                div {
                    (label(view, &own))
                    @if one.score.outcome != understudy_call::record::Outcome::Ok { p.quiet { "It ended with " code { (one.score.outcome.as_str()) } "." } }
                    @else { (difference(recorded.as_deref(), &of(&one.score))) }
                }
            }
        }
    }
}

/// The head of a text.
fn label(view: &View<'_>, words: &Markup) -> Markup {
    match view.is_served() {
        true => html! { h3.label { (words) } },
        false => html! { h5.label { (words) } },
    }
}

/// The examples of a task: near its centre, at its rim.
pub(super) async fn examples(store: &Store, task: &Task) -> Result<Vec<CallRecord>, ScanError> {
    let wanted = |ids: &[String]| ids.iter().take(EXAMPLES).cloned().collect::<Vec<_>>();
    let order: Vec<String> = wanted(&task.examples).into_iter().chain(wanted(&task.rim)).collect();
    let mut calls = by_id(calls_by_id(store, &order.iter().cloned().collect()).await?);
    Ok(order.iter().filter_map(|id| calls.remove(id)).collect())
}

/// The page of a task's examples.
pub(super) fn examples_page(view: &View<'_>, task: &Task, calls: &[CallRecord]) -> Markup {
    html! {
        nav.crumbs aria-label="Breadcrumb" { a href="/" { "All tasks" } " / " a href=(view.task_href(&task.id)) { (task.id) } " / " span aria-current="page" { "examples" } }
        h1 { "Examples of " (task.name) }
        p.hint { "Masked, as they are kept." }
        @if calls.is_empty() { section.card { p { "None of its examples is kept any more. A new " code { "understudy tasks fit" } " draws others." } } }
        @for call in calls {
            section.card {
                h2.small { code { (call.call_id) } " " span.quiet { @if task.rim.contains(&call.call_id) { "at the rim of the task" } @else { "near its centre" } } }
                (request(view, call))
                h3.label { "Answer" }
                (text(Some(&answer(call.output_text.as_deref(), &call.tool_calls))))
            }
        }
    }
}

/// The last messages of a call's request.
fn request(view: &View<'_>, call: &CallRecord) -> Markup {
    let Some((request, _)) = chat_of(call) else {
        return html! { p.hint { "Its request can’t be shown as messages." } };
    };
    let left_out = request.messages.len().saturating_sub(MESSAGES);
    html! {
        details {
            summary { "Request, " (counted(request.messages.len() as u64, "message")) }
            @if left_out > 0 { p.hint { "The first " (counted(left_out as u64, "message")) " left out." } }
            @for message in request.messages.iter().skip(left_out) {
                div.message {
                    (label(view, &html! { (role(message.role)) }))
                    (text(Some(&answer(Some(&message.text), &message.tool_calls))))
                }
            }
        }
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "System",
        Role::User => "User",
        Role::Assistant => "Assistant",
        Role::Tool => "Tool result",
    }
}

/// What was said, tool calls by name with their arguments; JSON with a field a line, so that fields are compared.
fn answer(output_text: Option<&str>, tool_calls: &[ToolCall]) -> String {
    let mut parts = Vec::new();
    let said = output_text.unwrap_or_default().trim();
    if !said.is_empty() {
        parts.push(pretty(said));
    }
    for call in tool_calls.iter().filter(|call| !call.is_padding()) {
        parts.push(format!("{}({})", call.name, pretty(&call.arguments)));
    }
    excerpt(&parts.join("\n"), TEXT)
}

fn pretty(text: &str) -> String {
    let json: Option<serde_json::Value> = text
        .starts_with(['{', '['])
        .then(|| serde_json::from_str(text).ok())
        .flatten();
    json.and_then(|json| serde_json::to_string_pretty(&json).ok())
        .unwrap_or_else(|| text.to_owned())
}

fn text(text: Option<&str>) -> Markup {
    html! {
        @match text {
            None => p.quiet { "Not known." }
            Some("") => p.quiet { "Empty." }
            Some(text) => pre tabindex="0" { (text) }
        }
    }
}

/// A text cut into words, white space, and all else sign by sign: so that values are compared, whatever stands around them.
fn pieces(text: &str) -> Vec<&str> {
    let class = |letter: char| match letter {
        _ if letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.') => 0,
        _ if letter.is_whitespace() => 1,
        _ => 2,
    };
    let (mut pieces, mut begin, mut last) = (Vec::new(), 0, None);
    for (at, letter) in text.char_indices() {
        let now = class(letter);
        if last.is_some_and(|last| last != now || now == 2) {
            pieces.push(&text[begin..at]);
            begin = at;
        }
        last = Some(now);
    }
    pieces.push(&text[begin..]);
    pieces
}

/// A text, marked where it differs from another.
fn difference(from: Option<&str>, to: &str) -> Markup {
    let Some(from) = from.filter(|from| *from != to) else {
        return text(Some(to));
    };
    let (from, to) = (pieces(from), pieces(to));
    let diff = TextDiff::configure()
        .deadline(Instant::now() + DIFF)
        .diff_slices(&from, &to);
    let mut runs: Vec<(ChangeTag, String)> = Vec::new();
    for change in diff.iter_all_changes() {
        match runs.last_mut().filter(|(tag, _)| *tag == change.tag()) {
            Some((_, run)) => run.push_str(change.value()),
            None => runs.push((change.tag(), change.value().to_owned())),
        }
    }
    html! {
        pre tabindex="0" {
            @for (tag, run) in &runs {
                @match tag {
                    // White space alone is no difference in what is said.
                    _ if run.trim().is_empty() => (run),
                    ChangeTag::Equal => (run),
                    ChangeTag::Delete => del { (run) },
                    ChangeTag::Insert => ins { (run) },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_marked_and_all_of_it_is_escaped() {
        let marked = difference(Some("total <b>41</b> eur"), "total <b>42</b> eur").into_string();
        assert!(marked.contains("<del>") && marked.contains("<ins>"), "{marked}");
        assert!(!marked.contains("<b>"), "{marked}");
        assert_eq!(
            pieces("a-1 {\"b\":2}"),
            ["a-1", " ", "{", "\"", "b", "\"", ":", "2", "}"]
        );
        assert!(!difference(Some("same"), "same").into_string().contains("<ins>"));
    }

    #[test]
    fn tool_calls_and_json_are_shown_field_by_field() {
        let call = ToolCall {
            id: None,
            name: "refund".into(),
            arguments: "{\"order\":\"A1\",\"eur\":3}".into(),
        };
        assert_eq!(
            answer(Some(" "), &[call]),
            "refund({\n  \"order\": \"A1\",\n  \"eur\": 3\n})"
        );
        assert_eq!(answer(Some("{not json"), &[]), "{not json");
    }
}
