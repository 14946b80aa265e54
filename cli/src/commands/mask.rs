//! `mask`: what masking finds in lines of text, or does to them.

use crate::args::{MaskArguments, MaskFormat};
use crate::output::Out;
use crate::place::Place;
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::ExitCode;
use understudy_collector::mask::{Counts, Mask, spans_in_code_points};

/// The longest line.
const MAX_LINE: u64 = 64 << 20;

#[derive(Deserialize)]
struct Line {
    id: Value,
    text: String,
}

/// Masks line by line; a line that can't be read is named on stderr, and the rest goes on.
pub(crate) fn run(arguments: &MaskArguments) -> Result<ExitCode> {
    let file = arguments.file.as_str();
    let mut input: Box<dyn BufRead> = match file {
        "-" => Box::new(std::io::stdin().lock()),
        path => Box::new(BufReader::new(
            File::open(path).with_context(|| format!("opening {path}"))?,
        )),
    };
    let mask = Place::of(&arguments.place)?.mask()?;
    let (mut out, mut failed, mut number) = (Out::new(), false, 0u64);
    loop {
        let mut line = Vec::new();
        let read = (&mut input).take(MAX_LINE).read_until(b'\n', &mut line);
        if read.with_context(|| format!("reading {file} after line {number}"))? == 0 {
            break;
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Line>(&line) {
            Ok(line) => out.line(&masked(&mask, &line, arguments.format).to_string())?,
            Err(error) => {
                failed = true;
                eprintln!("{file}:{number}: not a line of {{id, text}}: {error}");
            }
        }
    }
    out.finish()?;
    Ok(ExitCode::from(u8::from(failed)))
}

fn masked(mask: &Mask, line: &Line, format: MaskFormat) -> Value {
    match format {
        MaskFormat::Text => json!({"id": line.id, "text": mask.text(&line.text, &mut Counts::default())}),
        MaskFormat::Spans => {
            let spans: Vec<Value> = spans_in_code_points(&line.text, &mask.find(&line.text))
                .iter()
                .map(|span| json!({"start": span.start, "end": span.end, "type": span.kind.as_str()}))
                .collect();
            json!({"id": line.id, "spans": spans})
        }
    }
}
