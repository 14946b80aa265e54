//! Streams with a content encoding: the bytes on the wire are untouched, and the record is written before the end mark is
//! released all the same.

use std::io::Write;
use understudy_call::record::Outcome;
use understudy_tests::fixtures::{CHAT, chat_end, chat_event, chat_request};
use understudy_tests::http::Request;
use understudy_tests::program::Home;
use understudy_tests::upstream::{Step, Upstream, chunk, head};

/// Each event encoded and flushed on its own, as servers that stream do; the encoding never ends.
fn encoded(encoding: &str, events: &[String]) -> Vec<Vec<u8>> {
    /// What was written since the last time.
    fn since(all: &[u8], from: &mut usize) -> Vec<u8> {
        let piece = all[*from..].to_vec();
        *from = all.len();
        piece
    }
    let mut from = 0;
    match encoding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let pieces = events.iter().map(|event| {
                encoder
                    .write_all(event.as_bytes())
                    .and_then(|()| encoder.flush())
                    .expect("memory");
                since(encoder.get_ref(), &mut from)
            });
            pieces.collect()
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 4, 20);
            let pieces = events.iter().map(|event| {
                encoder
                    .write_all(event.as_bytes())
                    .and_then(|()| encoder.flush())
                    .expect("memory");
                since(encoder.get_ref(), &mut from)
            });
            pieces.collect()
        }
        _ => {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("memory");
            let pieces = events.iter().map(|event| {
                encoder
                    .write_all(event.as_bytes())
                    .and_then(|()| encoder.flush())
                    .expect("memory");
                since(encoder.get_ref(), &mut from)
            });
            pieces.collect()
        }
    }
}

#[test]
fn an_encoded_stream_passes_untouched_and_is_kept_before_its_end_mark() {
    let events = [
        chat_event("gpt-4o", "half "),
        chat_event("gpt-4o", "whole"),
        chat_end("gpt-4o"),
    ];
    let sent = events.clone();
    let upstream = Upstream::start(move |seen| {
        let encoding = seen.head.header("accept-encoding").unwrap_or_default().to_owned();
        let headers = [
            ("content-type", "text/event-stream"),
            ("content-encoding", encoding.as_str()),
            ("transfer-encoding", "chunked"),
        ];
        let mut steps = vec![Step::Send(head(200, &headers))];
        steps.extend(encoded(&encoding, &sent).iter().map(|piece| Step::Send(chunk(piece))));
        // The message does not end: only the mark tells that the answer is complete.
        steps.push(Step::Hang);
        steps
    });
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    for encoding in ["gzip", "br", "zstd"] {
        let mut open = Request::post(CHAT, chat_request("gpt-4o", "How are you?", true))
            .header("accept-encoding", encoding)
            .header("x-understudy-tag-case", encoding)
            .open(program.listen);
        assert_eq!(open.head.header("content-encoding"), Some(encoding));
        let expected = encoded(encoding, &events).concat();
        open.read_bytes(expected.len());
        assert!(open.body == expected, "{encoding}: other bytes came");
        drop(open);
        program.scrape_at_rest();
    }
    program.terminate();
    for encoding in ["gzip", "br", "zstd"] {
        let row = home.row(encoding);
        assert_eq!(
            row.outcome,
            Outcome::Ok,
            "{encoding}: a hang-up after the end mark is no fault"
        );
        assert_eq!(row.output_text.as_deref(), Some("half whole"), "{encoding}");
        assert_eq!((row.body_note.as_deref(), row.partial), (None, false), "{encoding}");
    }
}
