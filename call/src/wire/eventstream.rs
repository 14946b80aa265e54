//! AWS's binary event stream, as Bedrock streams: framed messages with headers and checksums.

use super::framing::Event;

/// Iterator over the messages of a body.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    #[expect(dead_code, reason = "not read yet")]
    body: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The messages of a whole body.
    pub fn new(body: &'a [u8]) -> Messages<'a> {
        Messages { body }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        None
    }
}

/// Whether a body begins with the prelude of a message.
pub(super) fn looks_like(_body: &[u8]) -> bool {
    false
}
