//! Masks the strings and numbers of a JSON text, where they stand: all other bytes come out as they went in.
//!
//! Never recurses over the depth of the text; JSON inside strings is followed for a few levels.

mod escape;
mod token;

pub use token::JsonError;

use super::Mask;
use super::dictionary::Learnt;
use super::edit::Edit;
use super::scene::Scene;
use escape::{Decoded, push_escaped};
use token::{Token, TokenKind, Tokens};

/// How many levels of JSON inside JSON strings are followed.
const NESTING: usize = 4;
/// Shorter numbers are not sensitive.
const LEAST_DIGITS: usize = 6;

/// What to replace in `json`, in order.
pub(super) fn edits(mask: &Mask, learnt: &Learnt, json: &str) -> Result<Vec<Edit>, JsonError> {
    nested_edits(mask, learnt, json, NESTING)
}

fn nested_edits(mask: &Mask, learnt: &Learnt, json: &str, levels: usize) -> Result<Vec<Edit>, JsonError> {
    let mut tokens = Tokens::new(json);
    let mut edits = Vec::new();
    while let Some(token) = tokens.next()? {
        match token.kind {
            TokenKind::Key | TokenKind::Text => string_edits(mask, learnt, json, &token, levels, &mut edits),
            TokenKind::Number => edits.extend(number_edit(mask, learnt, json, &token)),
        }
    }
    Ok(edits)
}

fn string_edits(mask: &Mask, learnt: &Learnt, json: &str, token: &Token, levels: usize, edits: &mut Vec<Edit>) {
    let raw = &json[token.range.clone()];
    let label = &json[token.label.clone()];
    if token.is_escaped {
        let decoded = Decoded::new(raw);
        for mut edit in content_edits(
            mask,
            learnt,
            Scene {
                text: &decoded.text,
                label,
            },
            levels,
        ) {
            edit.move_to(token.range.start, |place| decoded.raw_place(place));
            edits.push(escaped(edit));
        }
    } else {
        for mut edit in content_edits(mask, learnt, Scene { text: raw, label }, levels) {
            edit.move_to(token.range.start, |place| place);
            edits.push(escaped(edit));
        }
    }
}

fn escaped(mut edit: Edit) -> Edit {
    let text = std::mem::take(&mut edit.replacement);
    push_escaped(&mut edit.replacement, &text);
    edit
}

/// The edits of a string's content: as JSON if it is an object or array, else as text.
fn content_edits(mask: &Mask, learnt: &Learnt, scene: Scene<'_>, levels: usize) -> Vec<Edit> {
    let is_json = levels > 0 && scene.text.trim_start().starts_with(['{', '[']);
    if is_json && let Ok(edits) = nested_edits(mask, learnt, scene.text, levels - 1) {
        return edits;
    }
    mask.text_edits(scene, learnt)
}

/// A whole number that is sensitive becomes another whole number.
fn number_edit(mask: &Mask, learnt: &Learnt, json: &str, token: &Token) -> Option<Edit> {
    let text = &json[token.range.clone()];
    if text.len() < LEAST_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut edits = mask.text_edits(
        Scene {
            text,
            label: &json[token.label.clone()],
        },
        learnt,
    );
    let mut edit = edits.pop().filter(|edit| edit.start == 0 && edit.end == text.len())?;
    let is_number = edit.replacement.bytes().all(|byte| byte.is_ascii_digit()) && !edit.replacement.starts_with('0');
    if !is_number {
        edit.replacement = "0".to_owned();
    }
    edit.move_to(token.range.start, |place| place);
    Some(edit)
}
