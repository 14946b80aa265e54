//! Routes with a split, as they stand: the weights that config gives and those in force, the step, and what stops it.

use super::overview::NAME;
use super::words::{excerpt, percent};
use maud::{Markup, html};
use serde::Serialize;

/// A route with a split.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Split {
    /// The route's id.
    pub route: String,
    /// The task that it takes, where it takes one.
    pub task: Option<String>,
    /// Who takes part, the baseline first.
    pub arms: Vec<Arm>,
    /// The step of its rollout, from 1; null where none has begun.
    pub step: Option<u32>,
    /// Who was taken out by the guard and why, a sentence each.
    pub tripped: Vec<String>,
    /// Why weights stay as they are until somebody resumes.
    pub frozen: Option<String>,
    /// What its guard can't watch, a sentence each.
    pub unwatched: Vec<String>,
}

/// One of those that share a route's calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Arm {
    /// Its upstream's name.
    pub name: String,
    /// Its share by config, or the one that a rollout begins with.
    pub given: f64,
    /// Its share now, of the tasks that no trip names.
    pub in_force: f64,
    /// The highest share that a rollout may give it.
    pub highest: f64,
}

impl Split {
    /// The share of an arm now.
    pub(super) fn share_of(&self, name: &str) -> Option<f64> {
        Some(self.arms.iter().find(|arm| arm.name == name)?.in_force)
    }

    /// Whether this one would have calls, but for the guard or somebody who took it back.
    pub(super) fn is_out(&self, name: &str) -> bool {
        let mut arms = self.arms.iter();
        arms.any(|arm| arm.name == name && arm.given > 0.0 && arm.in_force == 0.0)
    }

    /// What stops it, in sentences.
    pub(super) fn notes(&self) -> Markup {
        html! {
            @for why in &self.tripped { p.notice.bad { strong { "The guard tripped. " } (why) ". " code { "understudy rollout resume " (self.route) } " gives the candidate its weight back." } }
            @if let Some(why) = &self.frozen { p.notice { strong { "Frozen. " } (why) ". " code { "understudy rollout resume " (self.route) } " ends it." } }
            @for why in &self.unwatched { p.hint { "The guard is blind here: " (why) "." } }
        }
    }

    fn state(&self) -> Markup {
        html! {
            @if !self.tripped.is_empty() { span.badge.hold { "tripped" } } @else if self.frozen.is_some() { span.badge.warn { "frozen" } }
            @else if let Some(step) = self.step { "step " (step) } @else { span.quiet { "by config" } }
        }
    }
}

/// All of them as a card.
pub(super) fn card(splits: &[Split]) -> Markup {
    html! {
        @if !splits.is_empty() {
            section.card aria-labelledby="splits" {
                h2 #splits { "Splits" }
                div.scroll tabindex="0" role="region" aria-label="Splits" {
                    table {
                        thead { tr {
                            th scope="col" { "Route" } th scope="col" { "Arm" } th.number scope="col" { "By config" }
                            th.number scope="col" { "In force" } th.number scope="col" { "At most" } th scope="col" { "State" }
                        } }
                        tbody { @for split in splits { @for (at, arm) in split.arms.iter().enumerate() { tr {
                            @if at == 0 { th scope="row" { (excerpt(&split.route, NAME)) } } @else { td {} }
                            td { (arm.name) }
                            td.number { (percent(Some(arm.given))) } td.number { (percent(Some(arm.in_force))) } td.number { (percent(Some(arm.highest))) }
                            td { @if at == 0 { (split.state()) } }
                        } } } }
                    }
                }
                @for split in splits { (split.notes()) }
            }
        }
    }
}
