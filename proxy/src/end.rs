//! Sees the end of an answer go by in a stream, whether or not the stream is encoded.
//!
//! An encoded one is decoded into a scratch buffer, piece by piece and up to a bound; the bytes that travel are left alone.

use understudy_call::call::Api;
use understudy_call::wire::EndMark;
use understudy_call::wire::encoding::Decoder;

/// The most bytes that are decoded of one stream: past them its end is that of the message.
const MAX_DECODED: u64 = 32 << 20;
/// A scratch buffer that has grown larger is given back.
const MAX_SCRATCH: usize = 64 << 10;

/// Looks for the end of one streamed answer.
pub(crate) struct End {
    mark: EndMark,
    decoder: Option<Decoder>,
    scratch: Vec<u8>,
}

impl End {
    /// Of a stream of `api`; absent where that has no end mark, or an encoding that is not known.
    pub(crate) fn new(api: Api, content_encoding: Option<&str>) -> Option<End> {
        let mark = EndMark::new(api);
        let decoder = Decoder::new(content_encoding.unwrap_or_default(), MAX_DECODED).ok()?;
        mark.can_be_seen().then_some(End {
            mark,
            decoder,
            scratch: Vec::new(),
        })
    }

    /// Takes the next piece; true once the end has been seen.
    pub(crate) fn push(&mut self, piece: &[u8]) -> bool {
        let Some(decoder) = &mut self.decoder else {
            return self.mark.push(piece);
        };
        self.scratch.clear();
        self.scratch.shrink_to(MAX_SCRATCH);
        // What is damaged or too long has no end mark that could be seen; what came before it counts.
        let _ = decoder.push(piece, &mut self.scratch);
        self.mark.push(&self.scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_encoding_and_an_api_without_a_mark_have_no_end_to_see() {
        assert!(End::new(Api::OpenaiChat, Some("aes128gcm")).is_none());
        assert!(End::new(Api::Gemini, None).is_none());
        assert!(End::new(Api::OpenaiChat, Some("identity")).is_some_and(|mut end| end.push(b"data: [DONE]\n\n")));
    }

    #[test]
    fn a_bomb_is_not_decoded_to_its_end() {
        let bomb = zstd::encode_all(&vec![b'x'; 40 << 20][..], 1).unwrap();
        let mut end = End::new(Api::OpenaiChat, Some("zstd")).unwrap();
        assert!(!end.push(&bomb));
        assert!(end.scratch.len() as u64 <= MAX_DECODED);
        assert!(!end.push(b"more"));
        assert!(end.scratch.capacity() <= MAX_SCRATCH);
    }
}
