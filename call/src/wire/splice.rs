//! Edits of JSON bodies that leave all other bytes as they are: what the proxy adds to a request, and what it renames in
//! a candidate's answer.
//!
//! Works on byte ranges, never re-serialises, never recurses. What can't be read for certain is left alone.

use std::ops::Range;

use serde_json::Value;

use super::json::{string_end, value_start, without_bom};
use crate::call::Api;

/// One replacement: these bytes by this text.
type Splice = (Range<usize>, String);

/// Members of the object that opens at an offset, as ranges of key and value (quotes included), up to where the body is
/// cut or malformed.
struct Members<'a> {
    body: &'a [u8],
    at: usize,
}

impl Iterator for Members<'_> {
    type Item = (Range<usize>, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = after_comma(self.body, self.at)?;
        if self.body[key] != b'"' {
            return None;
        }
        let key = key..string_end(self.body, key)?;
        let value = value_start(self.body, key.end)?;
        let value = value..value_end(self.body, value)?;
        self.at = value.end;
        Some((key, value))
    }
}

/// Elements of the array that opens at an offset, likewise.
struct Elements<'a> {
    body: &'a [u8],
    at: usize,
}

impl Iterator for Elements<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = after_comma(self.body, self.at)?;
        let element = start..value_end(self.body, start)?;
        self.at = element.end;
        Some(element)
    }
}

fn members(body: &[u8], object: usize) -> Members<'_> {
    // An object has its first member after the brace; anything else has none.
    let at = if body.get(object) == Some(&b'{') {
        object + 1
    } else {
        body.len()
    };
    Members { body, at }
}

fn elements(body: &[u8], array: usize) -> Elements<'_> {
    let at = if body.get(array) == Some(&b'[') {
        array + 1
    } else {
        body.len()
    };
    Elements { body, at }
}

/// The first byte that is neither white space nor a comma.
fn after_comma(body: &[u8], at: usize) -> Option<usize> {
    let rest = body.get(at..)?;
    let skipped = rest
        .iter()
        .position(|byte| !byte.is_ascii_whitespace() && *byte != b',')?;
    (!matches!(rest[skipped], b'}' | b']' | b':')).then_some(at + skipped)
}

/// The offset after the value that begins at `start`; absent where it is cut.
fn value_end(body: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    let mut depth = 0usize;
    loop {
        match body.get(at)? {
            b'"' => at = string_end(body, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' => at += 1,
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => at += scalar_length(&body[at..])?,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The length of a number or word; absent where nothing follows it, since it may be cut.
fn scalar_length(rest: &[u8]) -> Option<usize> {
    rest.iter()
        .position(|byte| byte.is_ascii_whitespace() || b",:]}[{\"".contains(byte))
}

/// Where the body's top-level object opens.
fn opening(body: &[u8]) -> usize {
    body.len() - without_bom(body).trim_ascii_start().len()
}

/// A key may be written with escapes; it is then decoded.
fn is_key(quoted: &[u8], key: &str) -> bool {
    let plain = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    plain == key.as_bytes()
        || (plain.contains(&b'\\') && serde_json::from_slice::<String>(quoted).is_ok_and(|text| text == key))
}

/// The values of a key of the object at `object`: all of them, since parsers differ on which of two equal keys counts.
fn values<'a>(body: &'a [u8], object: usize, key: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    members(body, object)
        .filter(move |(quoted, _)| is_key(&body[quoted.clone()], key))
        .map(|(_, value)| value)
}

/// The text of a string value.
fn text(body: &[u8], value: Range<usize>) -> Option<String> {
    serde_json::from_slice(&body[value]).ok()
}

fn apply(body: &[u8], mut splices: Vec<Splice>) -> Option<Vec<u8>> {
    if splices.is_empty() {
        return None;
    }
    splices.sort_by_key(|(range, _)| range.start);
    let mut edited = Vec::with_capacity(body.len() + 64 * splices.len());
    let mut copied = 0;
    for (range, text) in splices {
        // Places never overlap; a body in which they seem to is left alone.
        edited.extend_from_slice(body.get(copied..range.start)?);
        edited.extend_from_slice(text.as_bytes());
        copied = range.end;
    }
    edited.extend_from_slice(&body[copied..]);
    Some(edited)
}

/// The text under the top-level key `model`, also of a body that is cut after it; absent where it is empty.
pub fn model_named(body: &[u8]) -> Option<String> {
    let value = values(body, opening(body), "model").next()?;
    text(body, value).filter(|model| !model.is_empty())
}

/// A streamed chat or legacy completions request that asks for usage too (`stream_options.include_usage`).
///
/// None where it asks for it already, asks for no stream, or can't be read for certain.
pub fn ask_usage(body: &[u8]) -> Option<Vec<u8>> {
    let object = opening(body);
    let end = value_end(body, object)?;
    let is_whole = body[object] == b'{' && body[end..].trim_ascii().is_empty();
    let only = |object, key| {
        let mut found = values(body, object, key);
        let first = found.next();
        found.next().is_none().then_some(first)
    };
    let streams = only(object, "stream")?.is_some_and(|value| &body[value] == b"true");
    if !is_whole || !streams {
        return None;
    }
    const INCLUDE: &str = r#""include_usage":true"#;
    let splice = match only(object, "stream_options")? {
        None => (object + 1..object + 1, format!(r#""stream_options":{{{INCLUDE}}},"#)),
        Some(options) if &body[options.clone()] == b"null" => (options, format!("{{{INCLUDE}}}")),
        Some(options) if body[options.start] == b'{' => match only(options.start, "include_usage")? {
            Some(asked) if &body[asked.clone()] == b"true" => return None,
            Some(asked) => (asked, "true".to_owned()),
            None => {
                let at = options.start + 1;
                let comma = if members(body, options.start).next().is_some() {
                    ","
                } else {
                    ""
                };
                (at..at, format!("{INCLUDE}{comma}"))
            }
        },
        Some(_) => return None,
    };
    apply(body, vec![splice])
}

/// Replaces the texts and numbers at these places, each a path of keys from the top-level object; `with` is given a place
/// and what stands there, decoded. None where nothing stands at any of them.
pub fn replace_at(body: &[u8], places: &[&[&str]], mut with: impl FnMut(usize, &str) -> String) -> Option<Vec<u8>> {
    let mut splices = Vec::new();
    let paths: Vec<(usize, &[&str])> = places.iter().copied().enumerate().collect();
    at_places(body, opening(body), &paths, &mut |place, value| {
        let raw = &body[value.clone()];
        if raw[0] == b'"' {
            // One with broken escapes is replaced as it stands.
            let said = text(body, value.clone()).unwrap_or_else(|| String::from_utf8_lossy(raw).into_owned());
            splices.push((value, Value::from(with(place, &said)).to_string()));
        } else if raw[0] == b'-' || raw[0].is_ascii_digit() {
            let said = String::from_utf8_lossy(raw);
            let new = Value::from(with(place, &said)).to_string();
            splices.push((value, new));
        }
    });
    apply(body, splices)
}

/// Finds the values at these paths of the object at `object`, in one pass over its members.
fn at_places(body: &[u8], object: usize, paths: &[(usize, &[&str])], found: &mut impl FnMut(usize, Range<usize>)) {
    for (key, value) in members(body, object) {
        let key = &body[key];
        let mut deeper = Vec::new();
        for (place, path) in paths {
            match path.split_first() {
                Some((first, [])) if is_key(key, first) => found(*place, value.clone()),
                Some((first, rest)) if is_key(key, first) => deeper.push((*place, rest)),
                _ => {}
            }
        }
        if !deeper.is_empty() {
            at_places(body, value.start, &deeper, found);
        }
    }
}

/// Whether an event of a chat or legacy completions stream is the one that `include_usage` adds: usage and no choice.
pub fn is_usage_event(data: &[u8]) -> bool {
    let object = opening(data);
    let has = |key, fits: &dyn Fn(&[u8]) -> bool| values(data, object, key).any(|value| fits(&data[value]));
    has("usage", &|value| value.starts_with(b"{"))
        && has("choices", &|value| {
            let inside = value.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
            inside.is_some_and(|inside| inside.trim_ascii().is_empty())
        })
}

/// What is renamed in a candidate's answer.
pub struct Renames<'a> {
    /// The model that the client asked for.
    pub model: Option<&'a str>,
    /// The client's id of a tool call, from the candidate's (empty where it gives none) and the call's place.
    pub tool_call_id: &'a mut dyn FnMut(&str, usize) -> String,
}

impl Renames<'_> {
    /// Renames in an answer of OpenAI chat or Anthropic Messages, whole or one event of a stream, and leaves reasoning out
    /// of a chat's; None where there is nothing to edit.
    pub fn apply(&mut self, api: Api, body: &[u8]) -> Option<Vec<u8>> {
        let object = opening(body);
        let mut splices = Vec::new();
        self.rename_model(body, object, &mut splices);
        match api {
            Api::AnthropicMessages => self.in_messages(body, object, &mut splices),
            _ => self.in_chat(body, object, &mut splices),
        }
        apply(body, splices)
    }

    fn rename_model(&self, body: &[u8], object: usize, splices: &mut Vec<Splice>) {
        let Some(model) = self.model else { return };
        let names = values(body, object, "model").filter(|value| body[value.start] == b'"');
        splices.extend(names.map(|value| (value, Value::from(model).to_string())));
    }

    fn in_chat(&mut self, body: &[u8], object: usize, splices: &mut Vec<Splice>) {
        let answers: Vec<usize> = values(body, object, "choices")
            .flat_map(|choices| elements(body, choices.start))
            .flat_map(|choice| members(body, choice.start))
            .filter(|(key, _)| matches!(&body[key.clone()], b"\"delta\"" | b"\"message\""))
            .map(|(_, answer)| answer.start)
            .collect();
        for answer in &answers {
            leave_out(body, *answer, &REASONING, splices);
        }
        let lists = answers.iter().flat_map(|answer| values(body, *answer, "tool_calls"));
        for list in lists {
            for (place, call) in elements(body, list.start).enumerate() {
                let place = index(body, call.start).unwrap_or(place);
                // Later pieces of a streamed call name neither tool nor id.
                let mut names = values(body, call.start, "function").flat_map(|it| values(body, it.start, "name"));
                let is_first = names.any(|name| text(body, name).is_some_and(|name| !name.is_empty()));
                self.rename_call(body, call.start, (place, is_first), splices);
            }
        }
    }

    fn in_messages(&mut self, body: &[u8], object: usize, splices: &mut Vec<Splice>) {
        for message in values(body, object, "message") {
            self.rename_model(body, message.start, splices);
        }
        let place = index(body, object).unwrap_or(0);
        let started = values(body, object, "content_block").map(|block| (place, block));
        let whole = values(body, object, "content").flat_map(|content| elements(body, content.start).enumerate());
        for (place, block) in started.chain(whole) {
            let mut kind = values(body, block.start, "type");
            if kind.any(|value| &body[value] == b"\"tool_use\"") {
                self.rename_call(body, block.start, (place, true), splices);
            }
        }
    }

    fn rename_call(&mut self, body: &[u8], call: usize, (place, is_first): (usize, bool), splices: &mut Vec<Splice>) {
        let mut has_id = false;
        for value in values(body, call, "id") {
            has_id = true;
            let id = text(body, value.clone()).unwrap_or_default();
            if id.is_empty() && !is_first {
                continue;
            }
            let renamed = (self.tool_call_id)(&id, place);
            if renamed != id {
                splices.push((value, Value::from(renamed).to_string()));
            }
        }
        if is_first && !has_id && body.get(call) == Some(&b'{') {
            let made = Value::from((self.tool_call_id)("", place));
            splices.push((call + 1..call + 1, format!(r#""id":{made},"#)));
        }
    }
}

/// Where dialects of chat put reasoning. A baseline refuses it in a history that it did not write.
const REASONING: [&str; 4] = ["reasoning", "reasoning_content", "reasoning_details", "thinking_blocks"];

/// Takes members of an object out, each with one comma.
fn leave_out(body: &[u8], object: usize, keys: &[&str], splices: &mut Vec<Splice>) {
    let all: Vec<_> = members(body, object).collect();
    let is_out = |key: &Range<usize>| keys.iter().any(|name| is_key(&body[key.clone()], name));
    let mut kept_end = None;
    for (place, (key, value)) in all.iter().enumerate() {
        if !is_out(key) {
            kept_end = Some(value.end);
            continue;
        }
        // Up to the next member, or, where the last is left out, from the end of the one before.
        let range = match (all.get(place + 1), kept_end) {
            (Some((next, _)), _) if all[place + 1..].iter().any(|(key, _)| !is_out(key)) => key.start..next.start,
            (_, Some(end)) => {
                kept_end = Some(value.end);
                end..value.end
            }
            (Some((next, _)), None) => key.start..next.start,
            (None, None) => key.start..value.end,
        };
        splices.push((range, String::new()));
    }
}

fn index(body: &[u8], object: usize) -> Option<usize> {
    let value = values(body, object, "index").next()?;
    serde_json::from_slice(&body[value]).ok()
}

#[cfg(test)]
mod tests;
