//! The pictures: inline SVG whose marks are links with titles; colour never says anything alone.
//!
//! Knows figures and no page. All text passes through the template's escaping.

mod axis;
mod bars;
mod names;

pub(super) use bars::{agreement, answers, latency};

use super::report::{Candidate, Ready, Report, TaskReport};
use super::view::View;
use super::words::{counted, dollars, percent, signed};
use axis::Axis;
use maud::{Markup, html};
use names::Names;

/// Width and height of the two large plots, and what is left of the sides for words.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 50.0;
/// Differences further below than so many margins lie at the lower edge: there nothing is to be told apart.
const MARGINS_BELOW: f64 = 5.0;
/// Where an axis at the left is named.
const NAMED_AT: f64 = 14.0;

/// The class of a verdict's marks.
pub(super) fn class(ready: Ready) -> &'static str {
    match ready {
        Ready::Promote => "promote",
        Ready::NeedMore => "more",
        Ready::Hold => "hold",
    }
}

/// A verdict's mark: a circle, a triangle, or a square on its tip; `size` is about its radius.
pub(super) fn mark(ready: Ready, x: f64, y: f64, size: f64) -> Markup {
    let path = match ready {
        Ready::Promote => format!(
            "M{:.1} {y:.1}a{size:.1} {size:.1} 0 1 0 {d:.1} 0a{size:.1} {size:.1} 0 1 0 -{d:.1} 0z",
            x - size,
            d = 2.0 * size
        ),
        Ready::NeedMore => format!(
            "M{x:.1} {:.1}l{:.1} {:.1}h-{:.1}z",
            y - 1.15 * size,
            1.1 * size,
            1.95 * size,
            2.2 * size
        ),
        Ready::Hold => format!(
            "M{x:.1} {:.1}l{s:.1} {s:.1}l-{s:.1} {s:.1}l-{s:.1} -{s:.1}z",
            y - 1.2 * size,
            s = 1.2 * size
        ),
    };
    html! { path.mark.(class(ready)) d=(path) {} }
}

/// A small mark among words.
pub(super) fn sign(ready: Ready) -> Markup {
    html! {
        svg.sign viewBox="0 0 14 14" width="14" height="14" aria-hidden="true" { (mark(ready, 7.0, 7.0, 5.0)) }
    }
}

/// Radius of a mark by its share of something.
fn radius(share: f64, least: f64, most: f64) -> f64 {
    least + (most - least) * share.clamp(0.0, 1.0).sqrt()
}

/// One mark of the plot of savings: what it is of, and where it is.
struct Mark<'a> {
    task: &'a TaskReport,
    own: &'a Candidate,
    saved: f64,
    bounds: (f64, f64),
    x: f64,
    low: f64,
    high: f64,
    size: f64,
}

/// Savings against risk: a mark for each candidate whose price and interval are known. `None` where there is none.
pub(super) fn savings(view: &View<'_>) -> Option<Markup> {
    let report = view.report;
    let known = |(task, own): (&'_ TaskReport, &'_ Candidate)| Some((task.saves(own)?, own.lower?, own.upper?));
    let pairs: Vec<_> = report
        .by_saving()
        .into_iter()
        .filter_map(|(task, own)| known((task, own)).map(|known| (task, own, known)))
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let least = -MARGINS_BELOW * report.margin;
    let most = pairs
        .iter()
        .map(|(task, ..)| task.share)
        .fold(f64::MIN_POSITIVE, f64::max);
    let x = Axis::of(
        pairs.iter().map(|(_, _, known)| known.0).chain([0.0]),
        LEFT + 12.0,
        WIDTH - RIGHT - 12.0,
    );
    let heights = pairs
        .iter()
        .flat_map(|(_, _, (_, lower, upper))| [lower.max(least), upper.min(-least)]);
    let y = Axis::of(heights.chain([0.0, -2.0 * report.margin]), HEIGHT - BOTTOM, TOP);
    let marks: Vec<Mark<'_>> = pairs
        .iter()
        .map(|(task, own, (saved, lower, upper))| Mark {
            task,
            own,
            saved: *saved,
            bounds: (*lower, *upper),
            x: x.at(*saved),
            // The axis ends at the lower edge.
            low: y.at(if *lower < least { f64::MIN } else { *lower }),
            high: y.at(upper.clamp(least, -least)),
            size: radius(task.share / most, 5.0, 11.0),
        })
        .collect();
    let mut names = Names::beside(marks.iter().map(|mark| (mark.x, mark.low, mark.size)));
    let (margin, top) = (y.at(-report.margin), TOP);
    names.keep_free([WIDTH - 230.0, top, WIDTH, top + 18.0]);
    let words = if report.is_projected() {
        "Saved in a month of 30 days"
    } else {
        "Saved on the calls kept so far"
    };
    let is_cut = marks.iter().any(|mark| mark.bounds.0 < least);
    Some(html! {
        svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="group" aria-label="Savings against risk: each mark is a candidate on a task; the table below has the same figures" {
            rect.safe x=(LEFT) y=(top) width=(WIDTH - LEFT - RIGHT) height=(format!("{:.1}", (margin - top).max(0.0))) {}
            (x.below(HEIGHT - BOTTOM, top, |value| dollars(Some(value))))
            (y.beside(LEFT, WIDTH - RIGHT, |value| two_digits(value, is_cut && value <= least)))
            line.margin x1=(LEFT) x2=(WIDTH - RIGHT) y1=(format!("{margin:.1}")) y2=(format!("{margin:.1}")) {}
            text.note x=(WIDTH - RIGHT - 6.0) y=(top + 14.0) text-anchor="end" { "as good as the LLM, give or take " (report.margin) }
            @for mark in &marks {
                @let Mark { task, own, x, low, high, size, .. } = mark;
                a href=(view.task_href(&task.task.id)) {
                    title { (task.task.name) ", " (own.name) @if own.is_simulated() { " (simulated)" } ": " (own.verdict) ". Saves " (dollars(Some(mark.saved))) "; difference between " (signed(Some(mark.bounds.0))) " and " (signed(Some(mark.bounds.1))) " on " (counted(own.pairs as u64, "pair")) "; " (counted(task.took.calls, "call")) "." }
                    line.whisker x1=(format!("{x:.1}")) x2=(format!("{x:.1}")) y1=(format!("{low:.1}")) y2=(format!("{high:.1}")) {}
                    line.whisker x1=(format!("{:.1}", x - 4.0)) x2=(format!("{:.1}", x + 4.0)) y1=(format!("{high:.1}")) y2=(format!("{high:.1}")) {}
                    (self::mark(own.ready, *x, *low, *size))
                    @if own.ready != Ready::Hold { @if let Some(name) = names.place(&task.task.name, *x, *low, *size) { (name) } }
                }
            }
            text.axis x=(format!("{:.0}", (LEFT + WIDTH - RIGHT) / 2.0)) y=(HEIGHT - 10.0) text-anchor="middle" { (words) " →" }
            text.axis x="4" y=(NAMED_AT) { "↑ Lower bound of the difference to the LLM" }
        }
    })
}

/// A tick of differences; the lowest stands for all below it, where there are any.
fn two_digits(value: f64, is_cut: bool) -> String {
    let sign = if value < -0.0005 { "−" } else { "" };
    format!("{}{sign}{:.2}", if is_cut { "≤ " } else { "" }, value.abs())
}

/// Where calls and cost are: a bubble for each task. `None` where there are no tasks.
pub(super) fn bubbles(view: &View<'_>) -> Option<Markup> {
    let report: &Report = view.report;
    let by_cost = report.tasks.iter().any(|task| task.cost_share.is_some());
    let height = |task: &TaskReport| {
        if by_cost {
            task.cost_share.unwrap_or(0.0)
        } else {
            task.share
        }
    };
    let highest = report.tasks.iter().map(height).fold(0.0, f64::max);
    if report.tasks.is_empty() || highest <= 0.0 {
        return None;
    }
    let most = report
        .tasks
        .iter()
        .map(|task| task.share)
        .fold(f64::MIN_POSITIVE, f64::max);
    let x = Axis::between(0.0, 1.0, LEFT + 26.0, WIDTH - RIGHT - 26.0);
    let y = Axis::of([0.0, highest * 1.08].into_iter(), HEIGHT - BOTTOM, TOP);
    let size_of = |task: &TaskReport| radius(task.share / most, 4.0, 22.0);
    let place_of = |task: &TaskReport| (x.at(task.narrow.unwrap_or(0.0)), y.at(height(task)));
    // Small ones last, so that none is hidden.
    let mut tasks: Vec<&TaskReport> = report.tasks.iter().filter(|task| task.took.calls > 0).collect();
    tasks.sort_by(|one, other| other.share.total_cmp(&one.share));
    let mut names = Names::beside(tasks.iter().map(|task| {
        let (x, y) = place_of(task);
        (x, y, size_of(task))
    }));
    Some(html! {
        svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="group" aria-label="Tasks by how repetitive their answers are, their share of cost and of calls; the table of tasks has the same figures" {
            (x.below(HEIGHT - BOTTOM, TOP, |value| percent(Some(value))))
            (y.beside(LEFT, WIDTH - RIGHT, |value| percent(Some(value))))
            @for task in tasks {
                @let ((px, py), size) = (place_of(task), size_of(task));
                a href=(view.task_href(&task.task.id)) {
                    title { (task.task.name) ": " (percent(Some(task.share))) " of calls, " (percent(task.cost_share)) " of cost, " (percent(task.narrow)) " narrow answers" @if task.drift.is_some() { "; drifted" } }
                    circle.bubble.drifted[task.drift.is_some()] cx=(format!("{px:.1}")) cy=(format!("{py:.1}")) r=(format!("{size:.1}")) {}
                    @if let Some(name) = names.place(&task.task.name, px, py, size) { (name) }
                }
            }
            text.axis x=(format!("{:.0}", (LEFT + WIDTH - RIGHT) / 2.0)) y=(HEIGHT - 10.0) text-anchor="middle" { "Narrow answers (tool calls, JSON, labels) →" }
            text.axis x="4" y=(NAMED_AT) { @if by_cost { "↑ Share of cost" } @else { "↑ Share of calls (no prices are known)" } }
        }
    })
}
