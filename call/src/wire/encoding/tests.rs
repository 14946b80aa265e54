//! Unit tests of content encodings: whole, cut, damaged, stacked, and too long.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

const LIMIT: u64 = 1 << 20;
const NAMES: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn encoded(name: &str, body: &[u8]) -> Vec<u8> {
    match name {
        "gzip" => gzip(body),
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            let mut writer = brotli::CompressorWriter::new(&mut out, 4096, 5, 20);
            writer.write_all(body).unwrap();
            drop(writer);
            out
        }
        "zstd" => zstd::encode_all(body, 3).unwrap(),
        _ => panic!("no encoder"),
    }
}

/// What the body decodes to in pieces of this size, and how that ended.
fn decoded(encoding: &str, body: &[u8], size: usize, limit: u64) -> (Vec<u8>, Result<(), DecodeError>) {
    let mut decoder = Decoder::new(encoding, limit).unwrap().unwrap();
    let mut out = Vec::new();
    let pushed = body.chunks(size).try_for_each(|piece| decoder.push(piece, &mut out));
    (out, pushed.and_then(|()| decoder.finish()))
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|at| b"data: {\"n\":7}\n\n"[at * 7919 % 15]).collect()
}

#[test]
fn every_encoding_comes_back_however_it_is_cut() {
    for length in [0, 1, 100, 100_000] {
        let body = text(length);
        for name in NAMES {
            let whole = encoded(name, &body);
            for size in [1, 7, 1000, whole.len().max(1)] {
                assert_eq!(
                    decoded(name, &whole, size, LIMIT),
                    (body.clone(), Ok(())),
                    "{name}, {length}, {size}"
                );
            }
        }
    }
}

#[test]
fn stacks_are_undone_from_the_outside_in() {
    let body = text(50_000);
    let twice = encoded("br", &gzip(&body));
    assert_eq!(decoded("gzip, br", &twice, 100, LIMIT), (body.clone(), Ok(())));
    assert_eq!(decoded("GZIP ,identity,, Br", &twice, 100, LIMIT).0, body);
    let (_, wrong) = decoded("br, gzip", &twice, 100, LIMIT);
    assert_eq!(wrong, Err(DecodeError::Damaged("gzip")));
}

#[test]
fn nothing_is_undone_of_identity_and_what_is_not_known_is_said() {
    for name in ["", " ", "identity", "Identity, identity"] {
        assert!(Decoder::new(name, LIMIT).unwrap().is_none(), "{name}");
    }
    for (name, unknown) in [
        ("compress", "compress"),
        ("gzip, aes128gcm", "aes128gcm"),
        ("gzip,gzip,gzip,gzip,gzip", "gzip,gzip,gzip,gzip,gzip"),
    ] {
        assert_eq!(Decoder::new(name, LIMIT).err(), Some(UnknownEncoding(unknown.into())));
    }
    let long = "x".repeat(1000);
    assert_eq!(Decoder::new(&long, LIMIT).err(), Some(UnknownEncoding("x".repeat(40))));
    assert!(Decoder::new("x-gzip", LIMIT).unwrap().is_some());
}

#[test]
fn members_of_gzip_and_frames_of_zstd_follow_one_another() {
    let (first, second) = (text(1000), text(20));
    let both = [first.clone(), second.clone()].concat();
    for name in ["gzip", "zstd"] {
        let body = [encoded(name, &first), encoded(name, &second)].concat();
        for size in [1, 13, body.len()] {
            assert_eq!(decoded(name, &body, size, LIMIT), (both.clone(), Ok(())), "{name}");
        }
    }
    let padded = [gzip(&first), vec![0; 9]].concat();
    assert_eq!(decoded("gzip", &padded, 5, LIMIT), (first, Ok(())));
}

#[test]
fn bare_deflate_is_deflate_too() {
    let body = text(3000);
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&body).unwrap();
    let bare = encoder.finish().unwrap();
    assert_eq!(decoded("deflate", &bare, 1, LIMIT), (body, Ok(())));
}

#[test]
fn what_a_flushed_piece_holds_is_given_at_once() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut decoder = Decoder::new("gzip", LIMIT).unwrap().unwrap();
    let (mut out, mut sent) = (Vec::new(), 0);
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        encoder.write_all(event.as_bytes()).unwrap();
        encoder.flush().unwrap();
        decoder.push(&encoder.get_ref()[sent..], &mut out).unwrap();
        sent = encoder.get_ref().len();
        assert!(out.ends_with(event.as_bytes()));
    }
}

#[test]
fn a_truncated_body_gives_what_could_be_decoded() {
    let body = text(100_000);
    for name in NAMES {
        let whole = encoded(name, &body);
        let (out, ended) = decoded(name, &whole[..whole.len() - 1], 64, LIMIT);
        assert_eq!(ended, Err(DecodeError::Truncated(name)));
        assert!(body.starts_with(&out), "{name}");
        let (out, ended) = decoded(name, &whole[..1], 64, LIMIT);
        assert_eq!((out, ended), (Vec::new(), Err(DecodeError::Truncated(name))));
    }
}

#[test]
fn a_damaged_body_gives_what_came_before_and_then_fails_for_good() {
    let body = text(1000);
    let mut whole = gzip(&body);
    let checksum = whole.len() - 8;
    whole[checksum] ^= 1;
    assert_eq!(
        decoded("gzip", &whole, 10, LIMIT),
        (body, Err(DecodeError::Damaged("gzip")))
    );
    for name in NAMES {
        let mut decoder = Decoder::new(name, LIMIT).unwrap().unwrap();
        let mut out = Vec::new();
        let garbage = [0xff_u8; 64];
        assert_eq!(decoder.push(&garbage, &mut out), Err(DecodeError::Damaged(name)));
        assert_eq!(
            decoder.push(&encoded(name, b"x"), &mut out),
            Err(DecodeError::Damaged(name))
        );
        assert_eq!(decoder.finish(), Err(DecodeError::Damaged(name)));
    }
}

#[test]
fn a_bomb_is_stopped_at_the_limit_to_the_byte() {
    let zeros = vec![0; 1 << 20];
    for name in NAMES {
        let bomb = encoded(name, &zeros);
        for limit in [0, 1, 100_000] {
            let (out, ended) = decoded(name, &bomb, bomb.len(), limit);
            assert_eq!(
                (out.len() as u64, ended),
                (limit, Err(DecodeError::TooLong(limit))),
                "{name}"
            );
        }
        assert_eq!(decoded(name, &bomb, 100, 1 << 20).1, Ok(()));
    }
    // Between two encodings too: here nothing ever comes out.
    let empties: Vec<u8> = gzip(b"").repeat(10_000);
    let (out, ended) = decoded("gzip, gzip", &gzip(&empties), 1000, 1000);
    assert_eq!((out.len(), ended), (0, Err(DecodeError::TooLong(1000))));
}

#[test]
fn zstd_windows_beyond_those_of_http_are_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&vec![7; 1 << 16]).unwrap();
    let body = encoder.finish().unwrap();
    assert_eq!(decoded("zstd", &body, 1000, LIMIT).1, Err(DecodeError::Damaged("zstd")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(
        body in prop::collection::vec(any::<u8>(), 0..300),
        encoding in prop::sample::select(vec!["gzip", "deflate", "br", "zstd", "gzip, br", "zstd, deflate"]),
        size in 1usize..50,
    ) {
        let (whole, ended) = decoded(encoding, &body, body.len().max(1), 5000);
        let (pieced, _) = decoded(encoding, &body, size, 5000);
        prop_assert!(whole.len() <= 5000);
        prop_assert!(ended.is_err() || whole == pieced);
    }

    #[test]
    fn damage_anywhere_makes_no_panic(
        name in prop::sample::select(NAMES.to_vec()),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        size in 1usize..50,
    ) {
        let mut body = encoded(name, &text(2000));
        let at = at.index(body.len());
        body[at] ^= flip;
        let (out, _) = decoded(name, &body, size, LIMIT);
        prop_assert!(out.len() as u64 <= LIMIT);
    }
}
