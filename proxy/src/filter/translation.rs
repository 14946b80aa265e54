//! A candidate's chat stream on its way to the client's API.

use bytes::Bytes;
use understudy_call::translate::{Back, Refusal, Stream};
use understudy_call::wire::splice::model_named;
use understudy_call::wire::sse;

/// The most of a candidate's stream that is read for its model's name.
const MAX_HEAD: usize = 16 << 10;

/// A candidate's chat stream on its way to the client's API.
pub(crate) struct Translation {
    stream: Stream,
    pub(super) model: Option<String>,
    head: Vec<u8>,
}

impl Translation {
    /// Of an answer to a translated request.
    ///
    /// # Errors
    /// Where the API has no translation.
    pub(crate) fn new(back: &Back) -> Result<Translation, Refusal> {
        Ok(Translation {
            stream: back.stream()?,
            model: None,
            head: Vec::new(),
        })
    }

    /// Takes the next piece; the candidate's end mark ends what the client gets, whether or not the connection ends.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Bytes {
        self.look_for_model(piece);
        self.stream.push(piece).into()
    }

    /// What is left when the candidate's stream has ended.
    pub(crate) fn finish(&mut self) -> Bytes {
        self.stream.finish().into()
    }

    /// An error event in the client's API; nothing that says that the answer is complete.
    pub(super) fn broken(&mut self, why: &str) -> Bytes {
        let error = serde_json::json!({"error": {"message": why, "type": "upstream_error"}});
        // The blank line ends the event that was cut off.
        self.stream
            .push(format!("\n\nevent: error\ndata: {error}\n\n").as_bytes())
            .into()
    }

    fn look_for_model(&mut self, piece: &[u8]) {
        if self.model.is_some() || self.head.len() > MAX_HEAD {
            return;
        }
        let room = MAX_HEAD.saturating_sub(self.head.len()) + 1;
        self.head.extend_from_slice(&piece[..piece.len().min(room)]);
        self.model = sse::Events::of_open_stream(&self.head).find_map(|event| model_named(&event.data));
        if self.model.is_some() {
            self.head = Vec::new();
        }
    }
}
