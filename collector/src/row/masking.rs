//! All texts of one call through the mask: looked through first, so that what one of them tells is replaced in each.

use crate::mask::{Counts, Draft, Mask, Values};
use understudy_call::frame::FrameHead;

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
    pub(super) counts: Counts,
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
        let mut counts = Counts::default();
        let mut finish = |draft: Draft<'_>| pen.finish(draft, &known, &mut counts).text;
        Masked {
            path: finish(self.path),
            model: self.model.map(&mut finish),
            error: self.error.map(&mut finish),
            tags: self
                .tags
                .into_iter()
                .map(|(name, value)| (finish(name), finish(value)))
                .collect(),
            request: self.request.map(&mut finish),
            response: self.response.map(&mut finish),
            stream_error: self.stream_error.map(&mut finish),
            counts,
        }
    }
}
