//! Finds the weights of a route in the text of a config file, and changes them there: nothing else of the file moves, and
//! comments stay. What is written in a way that this does not know is left alone. Pure.

use super::edit::Edit;
use std::collections::BTreeMap;
use std::ops::Range;

/// The changes that give the route of this place in `routes` these weights; `None` where its `split` is not written in a
/// way that can be changed by the line.
pub(super) fn with_weights(text: &str, index: usize, weights: &BTreeMap<String, u32>) -> Option<Vec<Edit>> {
    let lines: Vec<&str> = text.lines().collect();
    let route = entry(&lines, index)?;
    let at = route.clone().find(|at| key_at(lines[*at]).is_some())?;
    let rest = key_at(lines[at])?;
    let (head, tail) = lines[at].split_at(rest);
    let value = without_comment(tail).trim();
    if let Some(open) = tail.find('{').filter(|_| value.starts_with('{')) {
        let close = open + tail[open..].find('}')?;
        let inner = flow(&tail[open + 1..close], weights)?;
        let line = format!("{head}{}{inner}{}", &tail[..=open], &tail[close..]);
        return Some(vec![changed(at, line)]);
    }
    if !value.is_empty() {
        return None;
    }
    let column = head.len() - "split:".len();
    let inside = |at: &usize| !is_said(lines[*at]) || indent(lines[*at]) > column;
    block(&lines, (at + 1..route.end).take_while(inside), weights)
}

/// Another line in the place of one.
fn changed(at: usize, line: String) -> Edit {
    Edit {
        at,
        gone: 1,
        new: vec![line],
    }
}

/// The lines of an entry of `routes`.
fn entry(lines: &[&str], index: usize) -> Option<Range<usize>> {
    let routes = lines.iter().position(|line| line.starts_with("routes:"))?;
    let first = (routes + 1..lines.len()).find(|at| is_said(lines[*at]))?;
    let column = indent(lines[first]);
    let is_entry = |line: &str| indent(line) == column && line[column..].starts_with('-');
    let is_over = |line: &str| is_said(line) && indent(line) <= column && !is_entry(line);
    let end = (first..lines.len())
        .find(|at| is_over(lines[*at]))
        .unwrap_or(lines.len());
    let mut starts = (first..end).filter(|at| is_entry(lines[*at])).skip(index);
    Some(starts.next()?..starts.next().unwrap_or(end))
}

/// Where the value of `split` begins in a line.
fn key_at(line: &str) -> Option<usize> {
    let said = without_comment(line);
    let at = said.find("split:")?;
    let is_key = said[..at]
        .chars()
        .next_back()
        .is_none_or(|before| " -{,".contains(before));
    is_key.then_some(at + "split:".len())
}

/// `big: 95, small: 5`.
fn flow(inner: &str, weights: &BTreeMap<String, u32>) -> Option<String> {
    let mut left = weights.clone();
    let mut parts = Vec::new();
    for part in inner.split(',') {
        parts.push(pair(part, &mut left)?);
    }
    let space: String = match parts.last_mut() {
        Some(last) => last.drain(last.trim_end().len()..).collect(),
        None => String::new(),
    };
    parts.extend(left.iter().map(|(name, weight)| format!(" {name}: {weight}")));
    Some(parts.join(",") + &space)
}

/// A line an arm.
fn block(lines: &[&str], inside: impl Iterator<Item = usize>, weights: &BTreeMap<String, u32>) -> Option<Vec<Edit>> {
    let mut left = weights.clone();
    let mut edits = Vec::new();
    let mut last = None;
    for at in inside.filter(|at| is_said(lines[*at])) {
        let said = without_comment(lines[at]);
        let line = pair(said, &mut left)? + &lines[at][said.len()..];
        if line != lines[at] {
            edits.push(changed(at, line));
        }
        last = Some(at);
    }
    let last = last?;
    let column = indent(lines[last]);
    if !left.is_empty() {
        let more = left
            .iter()
            .map(|(name, weight)| format!("{:column$}{name}: {weight}", ""));
        edits.push(Edit {
            at: last + 1,
            gone: 0,
            new: more.collect(),
        });
    }
    Some(edits)
}

/// `name: weight`, with the weight that it is to have; `left` are those that have not been met.
fn pair(text: &str, left: &mut BTreeMap<String, u32>) -> Option<String> {
    let (name, weight) = text.split_once(':')?;
    let new = left.remove(name.trim().trim_matches(['"', '\'']))?;
    let digits = weight.trim();
    digits.parse::<u32>().ok()?;
    let at = weight.find(digits)?;
    Some(format!("{name}:{}{new}{}", &weight[..at], &weight[at + digits.len()..]))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Whether a line holds more than a comment.
fn is_said(line: &str) -> bool {
    !without_comment(line).trim().is_empty()
}

/// A `#` begins a comment at the line's start or after a space.
fn without_comment(line: &str) -> &str {
    let begins = |(at, _): &(usize, &str)| *at == 0 || line[..*at].ends_with([' ', '\t']);
    let at = line.match_indices('#').find(begins);
    at.map_or(line, |(at, _)| &line[..at])
}
