//! Plots of one task: agreement with floor and interval, latency, the mix of answers.

use super::axis::Axis;
use super::mark;
use crate::web::report::{Candidate, Report, TaskReport};
use crate::web::words::{excerpt, percent, signed, time, unit};
use maud::{Markup, html};

const WIDTH: f64 = 640.0;
/// Where the bars begin; names stand before.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 64.0;
const ROW: f64 = 34.0;
const NAME: usize = 22;

/// A plot of rows below one another.
fn rows(count: usize, below: f64, label: &str, content: &Markup) -> Markup {
    let height = 14.0 + count as f64 * ROW + below;
    html! {
        svg.plot.rows viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(label) { (content) }
    }
}

fn middle(row: usize) -> f64 {
    14.0 + (row as f64 + 0.5) * ROW
}

/// How each candidate agrees with the recorded answers: its mark, its interval, the baseline's own agreement, the margin.
pub(in crate::web) fn agreement(report: &Report, task: &TaskReport) -> Option<Markup> {
    let known = |own: &&Candidate| own.agreement.is_some();
    let candidates: Vec<&Candidate> = task.candidates.iter().filter(known).collect();
    if candidates.is_empty() {
        return None;
    }
    let interval = |own: &Candidate| Some((own.floor? + own.lower?, own.floor? + own.upper?));
    let least = candidates.iter().flat_map(|own| {
        [
            own.agreement,
            own.floor.map(|floor| floor - report.margin),
            interval(own).map(|(low, _)| low),
        ]
    });
    let least = least.flatten().fold(1.0, f64::min).clamp(0.0, 0.9);
    let axis = Axis::of([least, 1.0].into_iter(), LEFT, WIDTH - RIGHT);
    let bottom = 14.0 + candidates.len() as f64 * ROW;
    let words = candidates.iter().map(|own| {
        let floor = unit(own.floor);
        format!(
            "{}: agreement {}, the LLM with itself {floor}, difference {} to {}",
            own.name,
            unit(own.agreement),
            signed(own.lower),
            signed(own.upper)
        )
    });
    let label = format!(
        "Agreement with the recorded answers. {}",
        words.collect::<Vec<_>>().join(". ")
    );
    let content = html! {
        (axis.below(bottom, 10.0, |value| format!("{value:.2}")))
        @for (row, own) in candidates.iter().enumerate() {
            @let y = middle(row);
            text.label x=(LEFT - 12.0) y=(y + 4.0) text-anchor="end" { (excerpt(&own.name, NAME)) }
            @if let Some(floor) = own.floor {
                @let (from, to) = (axis.at(floor - report.margin), axis.at(floor));
                rect.good x=(format!("{from:.1}")) y=(y - 13.0) width=(format!("{:.1}", (to - from).max(0.0))) height="26" {}
                line.floor x1=(format!("{to:.1}")) x2=(format!("{to:.1}")) y1=(y - 15.0) y2=(y + 15.0) {}
            }
            @if let Some((low, high)) = interval(own) {
                @let (low, high) = (axis.at(low), axis.at(high));
                line.interval x1=(format!("{low:.1}")) x2=(format!("{high:.1}")) y1=(y) y2=(y) {}
                @for end in [low, high] { line.interval x1=(format!("{end:.1}")) x2=(format!("{end:.1}")) y1=(y - 5.0) y2=(y + 5.0) {} }
            }
            (mark(own.ready, axis.at(own.agreement.unwrap_or(0.0)), y, 6.0))
            text.value x=(WIDTH - RIGHT + 12.0) y=(y + 4.0) { (unit(own.agreement)) }
        }
    };
    Some(rows(candidates.len(), 24.0, &label, &content))
}

/// Median and 95th percentile of the baseline and of each candidate.
pub(in crate::web) fn latency(task: &TaskReport) -> Option<Markup> {
    let baseline = task.candidates.first().map(|own| (own.p50_ms[1], own.p95_ms[1]));
    let (p50, p95) = baseline.unwrap_or((task.took.duration.at(0.5), task.took.duration.at(0.95)));
    let mut lines = vec![("LLM now".to_owned(), p50, p95)];
    lines.extend(
        task.candidates
            .iter()
            .map(|own| (own.name.clone(), own.p50_ms[0], own.p95_ms[0])),
    );
    lines.retain(|(_, p50, _)| p50.is_some());
    let most = lines.iter().filter_map(|(_, _, p95)| *p95).fold(0.0, f64::max);
    if lines.is_empty() || most <= 0.0 {
        return None;
    }
    let axis = Axis::of([0.0, most].into_iter(), LEFT, WIDTH - RIGHT);
    let words = lines
        .iter()
        .map(|(name, p50, p95)| format!("{name}: median {}, 95th percentile {}", time(*p50), time(*p95)));
    let label = format!("Time to the last byte. {}", words.collect::<Vec<_>>().join(". "));
    let bottom = 14.0 + lines.len() as f64 * ROW;
    let content = html! {
        (axis.below(bottom, 10.0, |value| time(Some(value))))
        @for (row, (name, p50, p95)) in lines.iter().enumerate() {
            @let y = middle(row);
            @let (half, most) = (axis.at(p50.unwrap_or(0.0)), axis.at(p95.unwrap_or(0.0)));
            text.label x=(LEFT - 12.0) y=(y + 4.0) text-anchor="end" { (excerpt(name, NAME)) }
            rect.bar.p95 x=(LEFT) y=(y - 5.0) width=(format!("{:.1}", most - LEFT)) height="10" {}
            rect.bar.p50 x=(LEFT) y=(y - 9.0) width=(format!("{:.1}", half - LEFT)) height="18" {}
            text.value x=(WIDTH - RIGHT + 12.0) y=(y + 4.0) { (time(*p50)) }
        }
    };
    Some(rows(lines.len(), 24.0, &label, &content))
}

/// What is answered, each kind a bar.
pub(in crate::web) fn answers(mix: &[(String, f64)]) -> Markup {
    let axis = Axis::between(0.0, 1.0, LEFT, WIDTH - RIGHT);
    let words = mix
        .iter()
        .map(|(kind, share)| format!("{kind} {}", percent(Some(*share))));
    let label = format!("Kinds of answers: {}", words.collect::<Vec<_>>().join(", "));
    let content = html! {
        @for (row, (kind, share)) in mix.iter().enumerate() {
            @let y = middle(row);
            text.label x=(LEFT - 12.0) y=(y + 4.0) text-anchor="end" { (excerpt(kind, NAME)) }
            rect.track x=(LEFT) y=(y - 8.0) width=(WIDTH - LEFT - RIGHT) height="16" {}
            rect.bar.p50 x=(LEFT) y=(y - 8.0) width=(format!("{:.1}", axis.at(*share) - LEFT)) height="16" {}
            text.value x=(WIDTH - RIGHT + 12.0) y=(y + 4.0) { (percent(Some(*share))) }
        }
    };
    rows(mix.len(), 4.0, &label, &content)
}
