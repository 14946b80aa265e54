//! Names and descriptions of tasks, without a model. Never shows text that isn't template.

use super::prompts::{Group, Prompts};
use super::templates::Fitted;
use std::collections::BTreeMap;
use understudy_call::call::{Response, Role};
use understudy_call::taskbook::{Task, TaskBook};

/// How many example calls a task names.
const EXAMPLES: usize = 5;

pub(super) fn task(
    group: &Group,
    prompts: &Prompts,
    _fitted: &Fitted,
    previous: Option<&TaskBook>,
    id: String,
) -> Task {
    let before = previous.and_then(|book| book.task(&id));
    let answers = answers(group, prompts);
    let name = before.map_or_else(
        || id.rsplit_once('-').map_or(&*id, |(words, _)| words).replace('-', " "),
        |task| task.name.clone(),
    );
    Task {
        name,
        description: String::new(),
        lines: Vec::new(),
        tools: tools(group, prompts),
        size: group.calls.len() as u64,
        share: group.calls.len() as f64 / prompts.calls.len() as f64,
        conversations: group.conversations as u64,
        answers,
        examples: group
            .calls
            .iter()
            .take(EXAMPLES)
            .map(|at| prompts.calls[*at].input.call_id.to_owned())
            .collect(),
        ignored: before.is_some_and(|task| task.ignored),
        id,
    }
}

pub(super) fn slug(group: &Group, prompts: &Prompts) -> String {
    let tools = tools(group, prompts);
    let mut slug = tools.first().map_or_else(
        || "prompt".to_owned(),
        |tool| {
            tool.to_ascii_lowercase()
                .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
        },
    );
    if group.last == Some(Role::Tool) {
        slug.push_str("-after-tool");
    }
    slug
}

fn tools(group: &Group, prompts: &Prompts) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for at in &group.calls {
        for tool in &prompts.calls[*at].input.request.tools {
            *counts.entry(&tool.name).or_default() += 1;
        }
    }
    counts
        .into_iter()
        .filter(|(_, count)| count * 2 > group.calls.len())
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn answers(group: &Group, prompts: &Prompts) -> Vec<(String, f64)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut known = 0;
    for response in group.calls.iter().filter_map(|at| prompts.calls[*at].input.response) {
        known += 1;
        *counts.entry(kind(response)).or_default() += 1;
    }
    let mut answers: Vec<(String, f64)> = counts
        .into_iter()
        .map(|(kind, count)| (kind, count as f64 / f64::from(known.max(1))))
        .collect();
    answers.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    answers
}

fn kind(response: &Response) -> String {
    if let Some(call) = response.tool_calls.first() {
        return format!("tool:{}", call.name);
    }
    let text = response.output_text.trim();
    match text.len() {
        0 => "empty".to_owned(),
        _ if text.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
            "json".to_owned()
        }
        1..=40 if !text.contains('\n') => "label".to_owned(),
        _ => "prose".to_owned(),
    }
}
