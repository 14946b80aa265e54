//! All texts of one call through the mask: looked through first, so that what one of them tells is replaced in each.

use crate::mask::{Counts, Draft, Mask, Replaced, Values};
use std::collections::BTreeMap;
use understudy_call::frame::FrameHead;
use understudy_call::record::{MaskedCount, MaskedIn};

/// All texts of one call, looked through.
pub(super) struct Drafts<'a> {
    path: Draft<'a>,
    model: Option<Draft<'a>>,
    error: Option<Draft<'a>>,
    tags: Vec<(Draft<'a>, Draft<'a>)>,
    request: Option<Draft<'a>>,
    response: Option<Draft<'a>>,
    stream_error: Option<Draft<'a>>,
}

/// The same, masked.
pub(super) struct Masked {
    pub(super) path: String,
    pub(super) model: Option<String>,
    pub(super) error: Option<String>,
    pub(super) tags: Vec<(String, String)>,
    pub(super) request: Option<String>,
    pub(super) response: Option<String>,
    pub(super) stream_error: Option<String>,
    /// What was.
    pub(super) replaced: Replaced,
    /// By column.
    counts: BTreeMap<&'static str, Counts>,
}

impl Masked {
    /// How many values were masked in all of the call.
    pub(super) fn in_all(&self) -> Vec<MaskedCount> {
        let mut all = Counts::default();
        self.counts.values().for_each(|counts| all.merge(counts));
        all.into_vec()
    }

    /// The same, by column.
    pub(super) fn by_column(&self) -> Vec<MaskedIn> {
        let of_column = |(column, counts): (&&str, &Counts)| {
            let column = (*column).to_owned();
            let masked_in = move |one: MaskedCount| MaskedIn {
                column: column.clone(),
                kind: one.kind,
                count: one.count,
            };
            counts.clone().into_vec().into_iter().map(masked_in)
        };
        self.counts.iter().flat_map(of_column).collect()
    }
}

/// Bodies and the error of a stream, as they are to be masked.
#[derive(Clone, Copy, Default)]
pub(super) struct Bodies<'a> {
    pub(super) request: Option<&'a [u8]>,
    pub(super) response: Option<&'a [u8]>,
    pub(super) stream_error: Option<&'a str>,
}

impl<'a> Drafts<'a> {
    pub(super) fn of(mask: &Mask, head: &'a FrameHead, model: Option<&'a str>, bodies: Bodies<'a>) -> Drafts<'a> {
        let text = |text: &'a str| mask.draft_of_text(text);
        let tags = head.tags.iter();
        Drafts {
            path: text(&head.path),
            model: model.map(text),
            error: head.error.as_deref().map(text),
            tags: tags.map(|(name, value)| (text(name), text(value))).collect(),
            request: bodies.request.map(|body| mask.draft(body)),
            response: bodies.response.map(|body| mask.draft(body)),
            stream_error: bodies.stream_error.map(|error| mask.draft(error.as_bytes())),
        }
    }

    /// What they tell.
    pub(super) fn told(&self) -> Values {
        let bodies = [
            &self.model,
            &self.error,
            &self.request,
            &self.response,
            &self.stream_error,
        ];
        let tags = self.tags.iter().flat_map(|(name, value)| [name, value]);
        Values::of_drafts(bodies.into_iter().flatten().chain(tags).chain([&self.path]))
    }

    /// Masks them; `told` is what they and the conversation tell.
    pub(super) fn finish(self, mask: &Mask, client: Option<&str>, told: &Values) -> Masked {
        let (pen, known) = (mask.pen(client), mask.known(told));
        let mut counts: BTreeMap<&'static str, Counts> = BTreeMap::new();
        let mut finish =
            |column: &'static str, draft: Draft<'_>| pen.finish(draft, &known, counts.entry(column).or_default()).text;
        let mut masked = Masked {
            path: finish("path", self.path),
            model: self.model.map(|draft| finish("request_model", draft)),
            error: self.error.map(|draft| finish("error", draft)),
            tags: self
                .tags
                .into_iter()
                .map(|(name, value)| (finish("tags", name), finish("tags", value)))
                .collect(),
            request: self.request.map(|draft| finish("request_body", draft)),
            response: self.response.map(|draft| finish("response_body", draft)),
            stream_error: self.stream_error.map(|draft| finish("error", draft)),
            replaced: Replaced::default(),
            counts,
        };
        masked.replaced = pen.into_replaced();
        masked
    }
}
