//! A kept call masked again: what the rules of today find in it is replaced too. What was masked before stays as it is.
//!
//! Sees one call at a time: a value that only an earlier call of the conversation told is found where the request
//! carries that call's words, as agents' histories do. Never takes anything out of a call but what the mask finds.

use crate::mask::{Counts, Draft, Mask, Values};
use std::collections::BTreeMap;
use std::sync::Arc;
use understudy_call::record::{CallRecord, MaskedCount, MaskedIn};

/// How a text is read.
#[derive(Clone, Copy)]
enum Form {
    /// JSON where it is JSON, else as words.
    Body,
    Words,
}

/// Masks calls again.
pub(super) struct Remask(pub(super) Arc<Mask>);

impl Remask {
    pub(super) fn one(&self, mut call: CallRecord) -> CallRecord {
        let mask = &*self.0;
        let mut tags: Vec<(String, String)> = std::mem::take(&mut call.tags).into_iter().collect();
        let taken = texts(&mut call, &mut tags).into_iter();
        let taken: Vec<_> = taken
            .map(|(column, form, text)| (column, form, std::mem::take(text)))
            .collect();
        let drafts = taken.iter().map(|(column, form, text)| match form {
            Form::Body => (*column, mask.draft(text.as_bytes())),
            Form::Words => (*column, mask.draft_of_text(text)),
        });
        let drafts: Vec<(&str, Draft<'_>)> = drafts.collect();
        let known = mask.known(&Values::of_drafts(drafts.iter().map(|(_, draft)| draft)));
        let pen = mask.pen(call.client_id.as_deref());
        let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
        let masked = drafts.into_iter().map(|(column, draft)| {
            let counts = counts.entry(column).or_default();
            pen.finish(draft, &known, counts).text
        });
        let masked: Vec<String> = masked.collect();
        for ((_, _, text), masked) in texts(&mut call, &mut tags).into_iter().zip(masked) {
            *text = masked;
        }
        call.tags = tags.into_iter().collect();
        // What is read from the bodies is counted there.
        if call.request_body.is_some() {
            counts.remove("tools_offered");
        }
        if call.response_body.is_some() {
            for column in ["response_model", "finish_reason", "output_text", "tool_calls"] {
                counts.remove(column);
            }
        }
        for (column, counts) in counts {
            note(&mut call, column, counts);
        }
        call
    }
}

/// All texts of a call that are masked, always in the same order.
fn texts<'c>(call: &'c mut CallRecord, tags: &'c mut [(String, String)]) -> Vec<(&'static str, Form, &'c mut String)> {
    let whole = [
        ("path", Form::Words, &mut call.path),
        ("request_model", Form::Words, &mut call.request_model),
        ("response_model", Form::Words, &mut call.response_model),
        ("finish_reason", Form::Words, &mut call.finish_reason),
        ("error", Form::Body, &mut call.error),
        ("request_body", Form::Body, &mut call.request_body),
        ("response_body", Form::Body, &mut call.response_body),
        ("output_text", Form::Words, &mut call.output_text),
    ];
    let whole = whole
        .into_iter()
        .filter_map(|(column, form, text)| Some((column, form, text.as_mut()?)));
    let calls = call.tool_calls.iter_mut().flat_map(|call| {
        [
            ("tool_calls", Form::Words, &mut call.name),
            ("tool_calls", Form::Body, &mut call.arguments),
        ]
    });
    let offered = call.tools_offered.iter_mut();
    let offered = offered.map(|name| ("tools_offered", Form::Words, name));
    let tags = tags.iter_mut();
    let tags = tags.flat_map(|(name, value)| [("tags", Form::Words, name), ("tags", Form::Words, value)]);
    whole.chain(calls).chain(offered).chain(tags).collect()
}

/// Adds what was found now to what was found before.
fn note(call: &mut CallRecord, column: &str, counts: Counts) {
    for MaskedCount { kind, count } in counts.into_vec() {
        match call.masked.iter_mut().find(|before| before.kind == kind) {
            Some(before) => before.count = before.count.saturating_add(count),
            None => call.masked.push(MaskedCount {
                kind: kind.clone(),
                count,
            }),
        }
        let of_column = |before: &&mut MaskedIn| before.column == column && before.kind == kind;
        match call.masked_in.iter_mut().find(of_column) {
            Some(before) => before.count = before.count.saturating_add(count),
            None => call.masked_in.push(MaskedIn {
                column: column.to_owned(),
                kind,
                count,
            }),
        }
    }
}
