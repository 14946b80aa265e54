//! Masks the strings and numbers of a JSON text, where they stand: all other bytes come out as they went in.
//!
//! Never recurses over the depth of the text; JSON inside strings is followed for a few levels.

mod escape;
mod token;

pub use token::JsonError;

use super::edit::Edit;
use super::scene::Scene;
use escape::{Decoded, push_escaped};
use token::{Token, TokenKind, Tokens};

/// How many levels of JSON inside JSON strings are followed.
const NESTING: usize = 4;
/// Shorter numbers are not sensitive.
const LEAST_DIGITS: usize = 6;

/// What to replace in a text that stands in the JSON.
type Edits<'e> = &'e mut dyn FnMut(Scene<'_>) -> Vec<Edit>;

/// What to replace in `json`, in order; `edits` is asked for each key, string and whole number.
pub(super) fn edits(json: &str, edits: Edits<'_>) -> Result<Vec<Edit>, JsonError> {
    nested_edits(json, NESTING, edits)
}

fn nested_edits(json: &str, levels: usize, edits: Edits<'_>) -> Result<Vec<Edit>, JsonError> {
    let mut tokens = Tokens::new(json);
    let mut all = Vec::new();
    while let Some(token) = tokens.next()? {
        match token.kind {
            TokenKind::Key | TokenKind::Text => string_edits(json, &token, levels, edits, &mut all),
            TokenKind::Number => all.extend(number_edit(json, &token, edits)),
        }
    }
    Ok(all)
}

fn string_edits(json: &str, token: &Token, levels: usize, edits: Edits<'_>, all: &mut Vec<Edit>) {
    let raw = &json[token.range.clone()];
    let label = &json[token.label.clone()];
    if token.is_escaped {
        let decoded = Decoded::new(raw);
        let scene = Scene {
            text: &decoded.text,
            label,
        };
        for mut edit in content_edits(scene, levels, edits) {
            edit.move_to(token.range.start, |place| decoded.raw_place(place));
            all.push(escaped(edit));
        }
    } else {
        for mut edit in content_edits(Scene { text: raw, label }, levels, edits) {
            edit.move_to(token.range.start, |place| place);
            all.push(escaped(edit));
        }
    }
}

fn escaped(mut edit: Edit) -> Edit {
    let text = std::mem::take(&mut edit.replacement);
    push_escaped(&mut edit.replacement, &text);
    edit
}

/// The edits of a string's content: as JSON if it is an object or array, else as text.
fn content_edits(scene: Scene<'_>, levels: usize, edits: Edits<'_>) -> Vec<Edit> {
    let is_json = levels > 0 && scene.text.trim_start().starts_with(['{', '[']);
    if is_json && let Ok(nested) = nested_edits(scene.text, levels - 1, edits) {
        return nested;
    }
    edits(scene)
}

/// A whole number that is sensitive becomes another whole number.
fn number_edit(json: &str, token: &Token, edits: Edits<'_>) -> Option<Edit> {
    let text = &json[token.range.clone()];
    if text.len() < LEAST_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let label = &json[token.label.clone()];
    let mut edit = edits(Scene { text, label })
        .pop()
        .filter(|edit| edit.start == 0 && edit.end == text.len())?;
    let starts_right = edit
        .replacement
        .starts_with(|letter: char| ('1'..='9').contains(&letter));
    let is_number = starts_right && edit.replacement.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        edit.replacement = "0".to_owned();
    }
    edit.move_to(token.range.start, |place| place);
    Some(edit)
}
