//! The pictures: inline SVG whose marks are links with titles; colour never says anything alone.
//!
//! Knows figures and no page. All text passes through the template's escaping.

mod axis;
mod bars;

pub(super) use bars::{agreement, answers, latency};

use super::report::{Ready, Report, TaskReport};
use super::view::View;
use super::words::{counted, dollars, excerpt, percent, signed};
use axis::Axis;
use maud::{Markup, html};

/// Width and height of the two large plots, and what is left of the sides for words.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 50.0;
/// Marks that have their name beside them.
const NAMED: usize = 6;
/// Letters of such a name.
const NAME: usize = 24;
/// About the width of a letter.
const LETTER: f64 = 6.4;

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

/// Names beside marks, as far as they have room.
#[derive(Default)]
struct Names(Vec<[f64; 4]>);

impl Names {
    /// A place for a name beside a mark: right of it, or left, if nothing is there yet.
    fn place(&mut self, name: &str, x: f64, y: f64, size: f64) -> Option<Markup> {
        if self.0.len() >= NAMED {
            return None;
        }
        let name = excerpt(name, NAME);
        let width = name.chars().count() as f64 * LETTER;
        let right = x + size + 5.0;
        let left = x - size - 5.0 - width;
        let from = if right + width < WIDTH - 4.0 { right } else { left };
        let place = [from, y - 8.0, from + width, y + 8.0];
        let is_free =
            |other: &[f64; 4]| place[2] < other[0] || other[2] < place[0] || place[3] < other[1] || other[3] < place[1];
        if from < LEFT || !self.0.iter().all(is_free) {
            return None;
        }
        self.0.push(place);
        Some(html! { text.name x=(format!("{from:.1}")) y=(format!("{:.1}", y + 4.0)) { (name) } })
    }
}

/// Savings against risk: a mark for each candidate whose price and interval are known. `None` where there is none.
pub(super) fn savings(view: &View<'_>) -> Option<Markup> {
    let report = view.report;
    let pairs = report.by_saving();
    let known =
        |(task, own): &(&'_ TaskReport, &'_ super::report::Candidate)| Some((task.saves(own)?, own.lower?, own.upper?));
    let values: Vec<(f64, f64, f64)> = pairs.iter().filter_map(known).collect();
    if values.is_empty() {
        return None;
    }
    let most = pairs
        .iter()
        .map(|(task, _)| task.share)
        .fold(f64::MIN_POSITIVE, f64::max);
    let x = Axis::of(
        values.iter().map(|(saved, _, _)| *saved).chain([0.0]),
        LEFT,
        WIDTH - RIGHT - 12.0,
    );
    let heights = values
        .iter()
        .flat_map(|(_, lower, upper)| [lower.max(-0.6), upper.min(0.3)]);
    let y = Axis::of(heights.chain([0.0, -2.0 * report.margin]), HEIGHT - BOTTOM, TOP);
    let margin = y.at(-report.margin);
    let mut names = Names::default();
    let words = if report.is_projected() {
        "Saved in a month of 30 days"
    } else {
        "Saved on the calls kept so far"
    };
    let shown = pairs.iter().filter_map(|pair| Some((pair.0, pair.1, known(pair)?)));
    Some(html! {
        svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="group" aria-label="Savings against risk: each mark is a candidate on a task; the table below has the same figures" {
            rect.safe x=(LEFT) y=(TOP) width=(WIDTH - LEFT - RIGHT) height=(format!("{:.1}", (margin - TOP).max(0.0))) {}
            (x.below(HEIGHT - BOTTOM, TOP, |value| dollars(Some(value))))
            (y.beside(LEFT, WIDTH - RIGHT, |value| signed(Some(value))))
            line.margin x1=(LEFT) x2=(WIDTH - RIGHT) y1=(format!("{margin:.1}")) y2=(format!("{margin:.1}")) {}
            text.note x=(WIDTH - RIGHT - 4.0) y=(format!("{:.1}", margin - 6.0)) text-anchor="end" { "no worse than the LLM by more than the margin ↑" }
            @for (task, own, (saved, lower, upper)) in shown {
                @let (px, low, high) = (x.at(saved), y.at(lower.max(-0.6)), y.at(upper.min(0.3)));
                @let size = radius(task.share / most, 5.0, 12.0);
                a href=(view.task_href(&task.task.id)) {
                    title { (task.task.name) ", " (own.name) @if own.is_simulated() { " (simulated)" } ": " (own.verdict) ". Saves " (dollars(Some(saved))) "; difference between " (signed(Some(lower))) " and " (signed(Some(upper))) " on " (counted(own.pairs as u64, "pair")) "; " (counted(task.took.calls, "call")) "." }
                    line.whisker x1=(format!("{px:.1}")) x2=(format!("{px:.1}")) y1=(format!("{low:.1}")) y2=(format!("{high:.1}")) {}
                    line.whisker x1=(format!("{:.1}", px - 4.0)) x2=(format!("{:.1}", px + 4.0)) y1=(format!("{high:.1}")) y2=(format!("{high:.1}")) {}
                    (mark(own.ready, px, low, size))
                    @if own.ready != Ready::Hold { @if let Some(name) = names.place(&task.task.name, px, low, size) { (name) } }
                }
            }
            text.axis x=(format!("{:.0}", (LEFT + WIDTH - RIGHT) / 2.0)) y=(HEIGHT - 10.0) text-anchor="middle" { (words) " →" }
            text.axis x=(LEFT - 50.0) y=(TOP - 8.0) { "↑ Lower bound of the difference to the LLM" }
        }
    })
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
    let x = Axis::between(0.0, 1.0, LEFT + 14.0, WIDTH - RIGHT - 14.0);
    let y = Axis::of([0.0, highest * 1.08].into_iter(), HEIGHT - BOTTOM, TOP);
    let mut names = Names::default();
    // Small ones last, so that none is hidden.
    let mut tasks: Vec<&TaskReport> = report.tasks.iter().filter(|task| task.took.calls > 0).collect();
    tasks.sort_by(|one, other| other.share.total_cmp(&one.share));
    Some(html! {
        svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="group" aria-label="Tasks by how repetitive their answers are, their share of cost and of calls; the table of tasks has the same figures" {
            (x.below(HEIGHT - BOTTOM, TOP, |value| percent(Some(value))))
            (y.beside(LEFT, WIDTH - RIGHT, |value| percent(Some(value))))
            @for task in tasks {
                @let (px, py) = (x.at(task.narrow.unwrap_or(0.0)), y.at(height(task)));
                @let size = radius(task.share / most, 4.0, 26.0);
                a href=(view.task_href(&task.task.id)) {
                    title { (task.task.name) ": " (percent(Some(task.share))) " of calls, " (percent(task.cost_share)) " of cost, " (percent(task.narrow)) " narrow answers" @if task.drift.is_some() { "; drifted" } }
                    circle.bubble.drifted[task.drift.is_some()] cx=(format!("{px:.1}")) cy=(format!("{py:.1}")) r=(format!("{size:.1}")) {}
                    @if let Some(name) = names.place(&task.task.name, px, py, size) { (name) }
                }
            }
            text.axis x=(format!("{:.0}", (LEFT + WIDTH - RIGHT) / 2.0)) y=(HEIGHT - 10.0) text-anchor="middle" { "Narrow answers (tool calls, JSON, labels) →" }
            text.axis x=(LEFT - 50.0) y=(TOP - 8.0) { @if by_cost { "↑ Share of cost" } @else { "↑ Share of calls (no prices are known)" } }
        }
    })
}
