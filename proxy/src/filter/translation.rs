//! A candidate's stream on its way to the client's API.

use super::{EventFilter, Passed};
use understudy_call::translate::{Back, Refusal, Stream};

/// A candidate's stream on its way to the client's API.
pub(crate) struct Translation {
    stream: Stream,
    /// Takes the usage out that the client did not ask for.
    usage: Option<EventFilter>,
}

impl Translation {
    /// Of an answer to a translated request.
    ///
    /// # Errors
    /// Where the API has no translation.
    pub(crate) fn new(back: &Back) -> Result<Translation, Refusal> {
        Ok(Translation {
            stream: back.stream()?,
            usage: back.adds_usage().then(|| EventFilter::without_usage(true)),
        })
    }

    /// Takes the next piece; the candidate's end mark ends what the client gets, whether or not the connection ends.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Passed {
        let written = self.stream.push(piece);
        self.passed(written)
    }

    /// What is left when the candidate's stream has ended.
    pub(crate) fn finish(&mut self) -> Passed {
        let written = self.stream.finish();
        self.passed(written)
    }

    /// An error event in the client's API; nothing that says that the answer is complete.
    pub(super) fn broken(&mut self, why: &str) -> Passed {
        let written = self.stream.fail(why);
        self.passed(written)
    }

    /// The model that the candidate named, as soon as it is known.
    pub(super) fn model(&self) -> Option<&str> {
        self.stream.model()
    }

    /// What is written is whole events.
    fn passed(&mut self, written: Vec<u8>) -> Passed {
        match &mut self.usage {
            Some(usage) => usage.push(&written),
            None => Passed::same(written.into()),
        }
    }
}
