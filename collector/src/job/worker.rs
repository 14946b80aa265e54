//! One step between two Arrow IPC streams: what Spark, or anything else, pipes rows through.

use super::digest::Digest;
use super::mask::Remask;
use super::rows::{Assigned, Digested, Sum};
use super::stats::Stats;
use super::step::{Assign, Counts, Pipe, Step, StepName, Work};
use crate::erase::Tombstones;
use crate::table::{Columns, RowReader, RowWriter, StreamError, Table};
use serde::Serialize;
use std::io::{Read, Write};
use understudy_call::record::CallRecord;

/// Reads rows of calls from `input`, and writes the step's rows to `output`: as many as came in, but for those that are
/// erased; sums come at the end.
///
/// # Errors
/// The input is no whole stream, lacks a column or holds another type in it; or the output takes no more.
pub fn work(work: &Work, erased: &Tombstones, input: impl Read, output: impl Write) -> Result<Counts, StreamError> {
    match work.clone() {
        Work::Assign(book) => pipe(&Assign(book), erased, input, output),
        Work::Mask(mask) => pipe(&Remask(mask), erased, input, output),
        Work::Stats(book) => pipe(&Stats(book), erased, input, output),
    }
}

fn pipe<S: Step>(step: &S, erased: &Tombstones, input: impl Read, output: impl Write) -> Result<Counts, StreamError> {
    let mut pipe = Pipe::new(step, erased);
    let mut calls = RowReader::<CallRecord, _>::open(input, &pipe.columns(), &pipe.required())?;
    let mut out = RowWriter::<S::Out, _>::new(output)?;
    while let Some(batch) = calls.next()? {
        out.write(&pipe.pass(batch))?;
    }
    let counts = pipe.counts;
    out.write(&pipe.end())?;
    out.finish()?;
    Ok(counts)
}

/// Reads rows that a step gave, and writes one row: how many they are, and their digest.
///
/// # Errors
/// As [`work`].
pub fn digest(step: StepName, input: impl Read, output: impl Write) -> Result<Digest, StreamError> {
    let digest = match step {
        StepName::Assign => digest_of::<Assigned>(input),
        StepName::Mask => digest_of::<CallRecord>(input),
        StepName::Stats => digest_of::<Sum>(input),
    }?;
    let mut out = RowWriter::<Digested, _>::new(output)?;
    out.write(&[digest.row()])?;
    out.finish()?;
    Ok(digest)
}

fn digest_of<R: Table + Serialize>(input: impl Read) -> Result<Digest, StreamError> {
    let columns = R::columns();
    let names: Vec<&str> = columns.iter().map(|column| column.field.name().as_str()).collect();
    let mut rows = RowReader::<R, _>::open(input, &Columns::All, &names)?;
    let mut digest = Digest::default();
    while let Some(batch) = rows.next()? {
        batch.iter().for_each(|row| digest.add(row));
    }
    Ok(digest)
}
