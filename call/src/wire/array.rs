//! One JSON array that grows, as Gemini streams without `alt=sse`: each element is an event.

use super::framing::Event;

/// Iterator over the elements of an array.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    #[expect(dead_code, reason = "not read yet")]
    body: &'a [u8],
}

impl<'a> Elements<'a> {
    /// The elements of a whole body.
    pub fn new(body: &'a [u8]) -> Elements<'a> {
        Elements { body }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        None
    }
}
