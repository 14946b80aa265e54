//! Bodies on their way to the mask, media left out, and how each is read: the same way before it is masked, for its
//! keyed digests, and after, for all that is kept.

use super::media;
use serde_json::Value;
use std::borrow::Cow;
use understudy_call::call::{Api, Request, Response};
use understudy_call::frame::{BodyNote, FrameHead};
use understudy_call::keys::Key;
use understudy_call::wire::{self, Assembled, WireError};

/// A body as it is to be masked.
pub(super) struct Unmasked<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    form: Form,
}

/// What the bytes are.
enum Form {
    /// As they were sent; a response is parsed already.
    Whole(Option<Assembled>),
    /// The response that a stream made.
    Streamed {
        partial: bool,
        /// As JSON, to be masked by itself.
        error: Option<String>,
        skipped_events: u32,
    },
    /// Of no form that is read.
    Broken(BodyNote),
}

/// What a body says, and what could not be read.
pub(super) struct Read<T> {
    pub(super) parsed: Option<T>,
    pub(super) note: Option<BodyNote>,
}

impl<T> Read<T> {
    fn of(parsed: Result<T, WireError>) -> Read<T> {
        Read {
            note: parsed.as_ref().err().map(note_of),
            parsed: parsed.ok(),
        }
    }
}

fn note_of(error: &WireError) -> BodyNote {
    match error {
        WireError::TooDeep => BodyNote::TooDeep,
        _ => BodyNote::ParseError,
    }
}

impl<'a> Unmasked<'a> {
    /// The body of a request; none where there is none to keep.
    pub(super) fn request(key: &Key, api: Api, body: &'a [u8]) -> Option<Unmasked<'a>> {
        if api == Api::Other || body.is_empty() {
            return None;
        }
        let opened = (api == Api::BedrockConverse)
            .then(|| wire::open_request_to_count(body))
            .flatten();
        let bytes = match opened {
            Some(opened) => Cow::Owned(media::left_out(key, &opened).into_owned()),
            None => media::left_out(key, body),
        };
        Some(Unmasked {
            bytes,
            form: Form::Whole(None),
        })
    }

    /// The body of a response, that of a stream put together.
    pub(super) fn response(key: &Key, api: Api, head: &FrameHead, body: &'a [u8]) -> Option<Unmasked<'a>> {
        if api == Api::Other || body.is_empty() {
            return None;
        }
        let form = match wire::assemble(api, head.content_type.as_deref(), body) {
            Ok(assembled) if assembled.streamed => {
                let text = |value: &Value| media::left_out(key, value.to_string().as_bytes()).into_owned();
                let error = assembled.error.as_ref().map(text);
                return Some(Unmasked {
                    bytes: Cow::Owned(text(&assembled.body)),
                    form: Form::Streamed {
                        partial: assembled.partial,
                        error: error.map(|error| String::from_utf8_lossy(&error).into_owned()),
                        skipped_events: assembled.skipped_events,
                    },
                });
            }
            Ok(assembled) => Form::Whole(Some(assembled)),
            Err(error) => Form::Broken(note_of(&error)),
        };
        Some(Unmasked {
            bytes: media::left_out(key, body),
            form,
        })
    }

    /// The body as text; what is no UTF-8 is replaced, as the mask does.
    pub(super) fn text(&self) -> Cow<'_, str> {
        // The check is much faster than the repair.
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(&self.bytes),
        }
    }

    /// The error that a stream told, to be masked by itself.
    pub(super) fn stream_error(&self) -> Option<&str> {
        match &self.form {
            Form::Streamed { error, .. } => error.as_deref(),
            _ => None,
        }
    }

    /// The response that these bytes are.
    pub(super) fn read_as_is(&self, api: Api, status: Option<u16>) -> Read<(Response, bool)> {
        match (&self.form, &self.bytes) {
            (Form::Whole(Some(assembled)), Cow::Borrowed(_)) => Read {
                parsed: Some((wire::parse_response(api, status.unwrap_or(0), assembled), false)),
                note: None,
            },
            _ => self.read(api, status, &self.text(), self.stream_error()),
        }
    }

    /// The response that `text` is: these bytes, or what masking made of them and of the stream's error. Tells also whether
    /// it was streamed.
    pub(super) fn read(
        &self,
        api: Api,
        status: Option<u16>,
        text: &str,
        stream_error: Option<&str>,
    ) -> Read<(Response, bool)> {
        let status = status.unwrap_or(0);
        match &self.form {
            Form::Whole(_) => {
                let assembled = wire::assemble(api, None, text.as_bytes());
                Read::of(assembled.map(|assembled| (wire::parse_response(api, status, &assembled), false)))
            }
            Form::Broken(note) => Read {
                parsed: None,
                note: Some(*note),
            },
            Form::Streamed {
                partial,
                skipped_events,
                ..
            } => {
                let Ok(body) = serde_json::from_str(text) else {
                    return Read {
                        parsed: None,
                        note: Some(BodyNote::ParseError),
                    };
                };
                let error = stream_error
                    .map(|error| serde_json::from_str(error).unwrap_or_else(|_| Value::String(error.to_owned())));
                let assembled = Assembled {
                    body,
                    streamed: true,
                    partial: *partial,
                    error,
                    skipped_events: *skipped_events,
                };
                Read {
                    parsed: Some((wire::parse_response(api, status, &assembled), true)),
                    note: (*skipped_events > 0).then_some(BodyNote::ParseError),
                }
            }
        }
    }
}

/// The request that a text is.
pub(super) fn read_request(api: Api, head: &FrameHead, text: &str) -> Read<Request> {
    Read::of(wire::parse_request_at(api, &head.path, text.as_bytes()))
}
