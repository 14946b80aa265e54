//! What all pages share: head, links, and small parts. Served pages link to style and script; a file holds them.

use super::plot::sign;
use super::report::{Candidate, Ready, Report, TaskReport, time_of};
use super::words::{count, counted};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The style of all pages.
pub(super) const STYLE: &str = include_str!("page.css");
/// The script of all pages: sorts tables. Nothing needs it.
pub(super) const SCRIPT: &str = include_str!("page.js");
/// What stays as it is in a part of a path.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a page is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    /// On the admin port.
    Served,
    /// In a file of its own.
    File,
}

/// A report on its way to a page.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) report: &'a Report,
    pub(super) medium: Medium,
    /// Whether texts of calls may be read from here.
    pub(super) may_read: bool,
}

fn part(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}

impl View<'_> {
    pub(super) fn is_served(&self) -> bool {
        self.medium == Medium::Served
    }

    /// Where a task is.
    pub(super) fn task_href(&self, id: &str) -> String {
        match self.medium {
            Medium::Served => format!("/tasks/{}", part(id)),
            Medium::File => format!("#task-{}", part(id)),
        }
    }

    /// Where a task's example calls are read; nowhere in a file.
    pub(super) fn examples_href(&self, id: &str) -> Option<String> {
        (self.is_served() && self.may_read).then(|| format!("/tasks/{}/examples", part(id)))
    }

    /// Where a candidate's disagreements are read: nowhere by those who may not.
    pub(super) fn disagreements_href(&self, candidate: &Candidate) -> Option<String> {
        let (task, name) = (part(&candidate.task), part(&candidate.name));
        self.may_read.then(|| match self.medium {
            Medium::Served => format!("/tasks/{task}/disagreements/{name}"),
            Medium::File => format!("#{}", self.disagreements_anchor(candidate)),
        })
    }

    /// What the part with a candidate's disagreements is called in its document.
    pub(super) fn disagreements_anchor(&self, candidate: &Candidate) -> String {
        format!("disagreements-{}-{}", part(&candidate.task), part(&candidate.name))
    }

    /// The head of a part of a task: one level deeper in a file, where all tasks are in one document.
    pub(super) fn head(&self, words: &str) -> Markup {
        match self.medium {
            Medium::Served => html! { h2 { (words) } },
            Medium::File => html! { h3 { (words) } },
        }
    }

    /// A whole document.
    pub(super) fn document(&self, title: &str, content: &Markup) -> Markup {
        let report = self.report;
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="robots" content="noindex";
                    title { (title) }
                    @match self.medium {
                        Medium::Served => {
                            link rel="icon" href="/icon.svg" type="image/svg+xml";
                            link rel="stylesheet" href="/page.css";
                            script src="/page.js" defer {}
                        }
                        Medium::File => {
                            meta http-equiv="Content-Security-Policy" content=(file_policy());
                            link rel="icon" href="data:,";
                            style { (PreEscaped(STYLE)) }
                        }
                    }
                }
                body {
                    a.skip href="#content" { "Skip to content" }
                    header.top {
                        div.wide {
                            a.brand href=(if self.is_served() { "/" } else { "#top" }) { "Understudy" }
                            p.asof {
                                "As of " time { (time_of(report.at)) }
                                @if let Some(book) = report.book { " · task book " (book) }
                            }
                        }
                    }
                    main #content .wide tabindex="-1" {
                        (self.notices())
                        (content)
                    }
                    footer.wide {
                        p { "Every figure is of calls that were kept, masked. What is not known is shown as “?”, and never taken for 0." }
                    }
                    @if self.medium == Medium::File { script { (PreEscaped(SCRIPT)) } }
                }
            }
        }
    }

    fn notices(&self) -> Markup {
        let report = self.report;
        html! {
            @if report.simulated {
                p.notice { strong { "Simulated models. " } "Answers in this report come from simulated models: its figures say nothing about a real one." }
            }
            @if let Some((done, all)) = report.counting {
                p.notice role="status" { "Counting: " (count(done as u64)) " of " (counted(all as u64, "file")) " of calls so far. Load again for more." }
            }
            @if let Some(trouble) = &report.trouble {
                p.notice.bad role="alert" { strong { "These figures may be old. " } (trouble) }
            }
            @if !report.unreadable.is_empty() {
                p.notice.bad { strong { (counted(report.unreadable.len() as u64, "file")) " can't be read" } " and " @if report.unreadable.len() == 1 { "is" } @else { "are" } " not counted, such as " code { (report.unreadable[0]) } ". The exact reason: " code { "understudy calls" } "." }
            }
        }
    }
}

/// What a file may do: nothing but its own style and script.
fn file_policy() -> String {
    let hash = |text: &str| STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// A verdict as a badge: sign, word, colour.
pub(super) fn badge(ready: Ready, words: &str) -> Markup {
    html! { span.badge.(super::plot::class(ready)) { (sign(ready)) (words) } }
}

/// A candidate's name, called simulated where it is.
pub(super) fn name(candidate: &Candidate) -> Markup {
    html! { (candidate.name) @if candidate.is_simulated() { " " span.tag { "simulated" } } }
}

/// That a task has drifted.
pub(super) fn drifted(task: &TaskReport) -> Markup {
    html! { @if task.drift.is_some() { " " span.badge.warn { "drifted" } } }
}

/// A figure with its name and a word on it.
pub(super) fn figure(label: &str, value: &str, note: &str) -> Markup {
    html! { div.figure { dt { (label) } dd { (value) } @if !note.is_empty() { dd.note { (note) } } } }
}
