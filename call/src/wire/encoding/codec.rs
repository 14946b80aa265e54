//! One encoding: what each library calls a step, in one shape.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{self, DParameter, InBuffer, Operation, OutBuffer};

/// The largest zstd window, 8 MiB, is that of RFC 9659; larger ones only cost memory.
const ZSTD_WINDOW_LOG: u32 = 23;
const GZIP_WINDOW_BITS: u8 = 15;
const GZIP_FIRST_BYTE: u8 = 0x1f;
/// The low half of the first byte of a zlib stream. A stream of bare deflate never begins so.
const ZLIB_METHOD: u8 = 8;

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// Decodes one encoding.
pub(super) enum Codec {
    Gzip(Inflate),
    /// RFC 9110 means zlib; some senders send bare deflate.
    Deflate(Inflate),
    Br {
        state: Box<Brotli>,
        begun: bool,
        ended: bool,
    },
    Zstd {
        decoder: Box<raw::Decoder<'static>>,
        /// Between frames, or before the first one.
        may_end: bool,
    },
}

/// Where a stream of gzip or deflate stands.
pub(super) enum Inflate {
    /// Nothing came yet.
    Before,
    Within(Box<Decompress>),
    /// A gzip member ended: another may follow.
    Between,
    /// What follows is not looked at.
    Ended,
}

/// What a step took and gave.
#[derive(Default)]
pub(super) struct Step {
    pub(super) read: usize,
    pub(super) written: usize,
    /// What follows can't be decoded.
    pub(super) damaged: bool,
}

impl Codec {
    /// The codec of an encoding's name, in lower case.
    pub(super) fn new(name: &str) -> Option<Codec> {
        match name {
            "gzip" | "x-gzip" => Some(Codec::Gzip(Inflate::Before)),
            "deflate" => Some(Codec::Deflate(Inflate::Before)),
            "br" => Some(Codec::Br {
                state: Box::new(BrotliState::new_strict(
                    StandardAlloc::default(),
                    StandardAlloc::default(),
                    StandardAlloc::default(),
                )),
                begun: false,
                ended: false,
            }),
            "zstd" => {
                let mut decoder = raw::Decoder::new().ok()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).ok()?;
                Some(Codec::Zstd {
                    decoder: Box::new(decoder),
                    may_end: true,
                })
            }
            _ => None,
        }
    }

    /// The encoding's name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Codec::Gzip(_) => "gzip",
            Codec::Deflate(_) => "deflate",
            Codec::Br { .. } => "br",
            Codec::Zstd { .. } => "zstd",
        }
    }

    /// Whether the body may end here. One without a byte may: there is nothing to decode.
    pub(super) fn may_end(&self) -> bool {
        match self {
            Codec::Gzip(inflate) | Codec::Deflate(inflate) => !matches!(inflate, Inflate::Within(_)),
            Codec::Br { begun, ended, .. } => !begun || *ended,
            Codec::Zstd { may_end, .. } => *may_end,
        }
    }

    /// Decodes some of `input` into `out`. Nothing is read and written where more input is needed, or none is wanted.
    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Step {
        match self {
            Codec::Gzip(inflate) => inflate.step(input, out, |first| {
                (first == GZIP_FIRST_BYTE).then(|| Decompress::new_gzip(GZIP_WINDOW_BITS))
            }),
            Codec::Deflate(inflate) => {
                let step = inflate.step(input, out, |first| Some(Decompress::new(first & 0x0f == ZLIB_METHOD)));
                if matches!(inflate, Inflate::Between) {
                    *inflate = Inflate::Ended;
                }
                step
            }
            Codec::Br { state, begun, ended } => {
                *begun |= !input.is_empty();
                if *ended || !*begun {
                    return Step::default();
                }
                let (step, result) = brotli_step(state, input, out);
                *ended = matches!(result, BrotliResult::ResultSuccess);
                step
            }
            Codec::Zstd { decoder, may_end } => {
                if *may_end && input.is_empty() {
                    return Step::default();
                }
                let (mut input, mut output) = (InBuffer::around(input), OutBuffer::around(out));
                let remaining = decoder.run(&mut input, &mut output);
                *may_end = matches!(remaining, Ok(0));
                Step {
                    read: input.pos(),
                    written: output.pos(),
                    damaged: remaining.is_err(),
                }
            }
        }
    }
}

impl Inflate {
    /// `begin` makes a decoder for a stream of this first byte, if it may begin one.
    fn step(&mut self, input: &[u8], out: &mut [u8], begin: impl Fn(u8) -> Option<Decompress>) -> Step {
        if let (Inflate::Before | Inflate::Between, Some(first)) = (&*self, input.first()) {
            *self = match begin(*first) {
                Some(decompress) => Inflate::Within(Box::new(decompress)),
                // Padding after the last member.
                None if matches!(self, Inflate::Between) => Inflate::Ended,
                None => {
                    return Step {
                        damaged: true,
                        ..Step::default()
                    };
                }
            };
        }
        let Inflate::Within(decompress) = self else {
            return Step::default();
        };
        let (read, written) = (decompress.total_in(), decompress.total_out());
        let status = decompress.decompress(input, out, FlushDecompress::None);
        let step = Step {
            read: (decompress.total_in() - read) as usize,
            written: (decompress.total_out() - written) as usize,
            damaged: status.is_err(),
        };
        if matches!(status, Ok(Status::StreamEnd)) {
            *self = Inflate::Between;
        }
        step
    }
}

fn brotli_step(state: &mut Brotli, input: &[u8], out: &mut [u8]) -> (Step, BrotliResult) {
    let (mut available_in, mut read) = (input.len(), 0);
    let (mut available_out, mut written) = (out.len(), 0);
    let mut total = 0;
    let result = BrotliDecompressStream(
        &mut available_in,
        &mut read,
        input,
        &mut available_out,
        &mut written,
        out,
        &mut total,
        state,
    );
    let damaged = matches!(result, BrotliResult::ResultFailure);
    let step = Step { read, written, damaged };
    (step, result)
}
