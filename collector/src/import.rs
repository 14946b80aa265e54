//! Calls from files: lines of `{id, session?, step?, request, response}` in OpenAI chat shape become kept calls.
//!
//! They go through the same masking and parsing as live calls. A call's id is made of the source's name and the line's
//! id, so the same call again adds nothing, however often, and an import that was cut off is finished by running it
//! again. Holds one batch of lines in memory; never holds up on a line that it can't read.

mod line;
mod lines;

use crate::erase::Tombstones;
use crate::row::RowMaker;
use crate::scan::{CallFilter, ScanError};
use crate::store::{Store, StoreError};
use crate::table::{Columns, TableError, TableKeys, call_batches, call_key, calls_to_parquet};
use bytes::Bytes;
use line::ImportLine;
pub use lines::OpenError;
use lines::{Lines, Taken};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use understudy_call::keys::{Key, keyed_digest};
use understudy_call::record::CallRecord;

/// Bytes of lines in one batch, and so in one object, about.
const BATCH_BYTES: usize = 32 << 20;
/// Lines in one batch, at most.
const BATCH_LINES: usize = 20_000;

/// Why an import stopped; what was put stays, and the next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The input is of no form that is read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The input broke off.
    #[error("could not read on after line {line}: {source}")]
    Read {
        /// The last line that was read whole.
        line: u64,
        /// What the system, or the decompressor, says.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Earlier imports can't be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Rows can't be written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A bug in masking or parsing, contained.
    #[error("could not import the lines after {line}: masking or parsing broke")]
    Broken {
        /// The last line before.
        line: u64,
    },
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Lines read, empty ones aside.
    pub lines: u64,
    /// Calls that are new.
    pub added: u64,
    /// Calls that were there already.
    pub already: u64,
    /// Lines that could not be read.
    pub unreadable: u64,
}

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// From 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads `input` (JSON lines, plain or zstd) into the store. `source` names it: with a line's id it says what is the
/// same call. `report` hears of each line that can't be read.
///
/// # Errors
/// Where reading, or the store, fails; bad lines are no error.
pub async fn import(
    store: &Store,
    rows: &RowMaker,
    source: &str,
    input: Box<dyn Read + Send>,
    mut report: impl FnMut(BadLine),
) -> Result<Imported, ImportError> {
    let names = Names::new(&rows.store_key, source);
    let mut work = Work {
        known: known_calls(store, &names).await?,
        table_keys: store.table_keys().clone(),
        lines: Lines::open(input)?,
        rows: rows.clone(),
        steps: HashMap::new(),
        names,
    };
    let mut total = Imported::default();
    loop {
        let line = work.lines.number();
        let turn = tokio::task::spawn_blocking(move || {
            let batch = work.next_batch();
            (work, batch)
        });
        let (back, batch) = turn.await.map_err(|_| ImportError::Broken { line })?;
        work = back;
        let Some(batch) = batch? else { return Ok(total) };
        batch.bad.into_iter().for_each(&mut report);
        if let Some((key, bytes)) = batch.object {
            store.put(&key, bytes).await?;
        }
        total.lines += batch.counted.lines;
        total.added += batch.counted.added;
        total.already += batch.counted.already;
        total.unreadable += batch.counted.unreadable;
    }
}

/// Names made of the source's name: keyed, since a path may tell something.
struct Names {
    key: Key,
    source: String,
    /// First part of the names of the source's objects.
    object: String,
}

impl Names {
    fn new(key: &Key, source: &str) -> Names {
        let digest = keyed_digest(key, [b"import".as_slice(), source.as_bytes()]);
        Names {
            key: key.clone(),
            source: source.to_owned(),
            object: format!("import-{}", &digest[..16]),
        }
    }

    /// An id in the form of a UUIDv7 of the epoch: when the call was made is not known.
    fn call_id(&self, id: &str) -> String {
        let parts = [b"call".as_slice(), self.source.as_bytes(), id.as_bytes()];
        let digest = blake3::keyed_hash(self.key.bytes(), keyed_digest(&self.key, parts).as_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&digest.as_bytes()[..10]);
        uuid::Builder::from_unix_timestamp_millis(0, &random)
            .into_uuid()
            .to_string()
    }

    fn conversation(&self, session: &str) -> String {
        keyed_digest(
            &self.key,
            [b"session".as_slice(), self.source.as_bytes(), session.as_bytes()],
        )
    }
}

/// The calls of earlier imports of the same source.
async fn known_calls(store: &Store, names: &Names) -> Result<HashSet<String>, ImportError> {
    let mut known = HashSet::new();
    let marker = format!("/{}-", names.object);
    for object in store.list("calls").await? {
        if !object.key.contains(&marker) {
            continue;
        }
        let bytes = store.get(&object.key).await?;
        for batch in call_batches(bytes, &Columns::only(["call_id"]), store.table_keys())? {
            known.extend(batch?.into_iter().map(|record| record.call_id));
        }
    }
    // What was erased does not come back by the same file.
    known.extend(Tombstones::load(store).await?.calls().iter().cloned());
    Ok(known)
}

/// All that is needed from batch to batch.
struct Work {
    lines: Lines,
    rows: RowMaker,
    table_keys: TableKeys,
    names: Names,
    known: HashSet<String>,
    /// Session → the next step, for lines that say none.
    steps: HashMap<String, i32>,
}

/// A line's number, and the line, or why it is passed over.
type TakenLine = (u64, Result<Vec<u8>, String>);

/// What became of one batch of lines.
struct Batch {
    counted: Imported,
    bad: Vec<BadLine>,
    object: Option<(String, Bytes)>,
}

/// A new call: its line's number, what the line says, and its names.
struct New {
    number: u64,
    line: ImportLine,
    call_id: String,
    step: i32,
}

impl Work {
    /// The next lines, made into an object; `None` at the end.
    fn next_batch(&mut self) -> Result<Option<Batch>, ImportError> {
        let Some(taken) = self.take_lines()? else {
            return Ok(None);
        };
        let mut counted = Imported {
            lines: taken.len() as u64,
            ..Imported::default()
        };
        let read: Vec<(u64, Result<ImportLine, String>)> = taken
            .into_par_iter()
            .map(|(number, line)| (number, line.and_then(|bytes| ImportLine::parse(&bytes))))
            .collect();
        let (mut bad, mut new) = (Vec::new(), Vec::new());
        for (number, line) in read {
            match line {
                Ok(line) => new.extend(self.unless_known(number, line)),
                Err(reason) => bad.push(BadLine { line: number, reason }),
            }
        }
        counted.unreadable = bad.len() as u64;
        counted.added = new.len() as u64;
        counted.already = counted.lines - counted.unreadable - counted.added;
        Ok(Some(Batch {
            object: self.object(new)?,
            counted,
            bad,
        }))
    }

    fn take_lines(&mut self) -> Result<Option<Vec<TakenLine>>, ImportError> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES && taken.len() < BATCH_LINES {
            let line = self.lines.number();
            match self.lines.take().map_err(|source| ImportError::Read { line, source })? {
                Taken::Line(line) => {
                    bytes += line.len();
                    taken.push((self.lines.number(), Ok(line)));
                }
                Taken::TooLong(limit) => {
                    let reason = format!("the line is longer than {} MiB", limit >> 20);
                    taken.push((self.lines.number(), Err(reason)));
                }
                Taken::End => break,
            }
        }
        Ok((!taken.is_empty()).then_some(taken))
    }

    fn unless_known(&mut self, number: u64, line: ImportLine) -> Option<New> {
        let next = line
            .session
            .as_ref()
            .map(|session| self.steps.entry(session.clone()).or_default());
        let step = line.step.or(next.as_deref().copied()).unwrap_or(0);
        if let Some(next) = next {
            *next = step.saturating_add(1);
        }
        let call_id = self.names.call_id(&line.id);
        self.known.insert(call_id.clone()).then_some(New {
            number,
            line,
            call_id,
            step,
        })
    }

    fn object(&self, new: Vec<New>) -> Result<Option<(String, Bytes)>, ImportError> {
        let (Some(first), Some(last)) = (new.first().map(|new| new.number), new.last().map(|new| new.number)) else {
            return Ok(None);
        };
        let records: Vec<CallRecord> = {
            let (rows, names) = (&self.rows, &self.names);
            new.into_par_iter().map(|new| record(rows, names, new)).collect()
        };
        let key = call_key(&records[0], &self.names.object, first, last);
        Ok(Some((key, calls_to_parquet(&records, &self.table_keys)?)))
    }
}

fn record(rows: &RowMaker, names: &Names, new: New) -> CallRecord {
    let New {
        line, call_id, step, ..
    } = new;
    let conversation = line.session.as_ref().map(|session| names.conversation(session));
    let (id, model, streamed) = (line.id.clone(), line.model.clone(), line.stream);
    let record = rows.row(&line.into_raw(call_id), |_| None).record;
    CallRecord {
        conversation_id: conversation.unwrap_or_else(|| record.call_id.clone()),
        step,
        external_id: Some(id),
        request_model: record.request_model.or(model),
        streamed: streamed.unwrap_or(record.streamed),
        // Nothing of it went over a wire that we saw.
        request_bytes: None,
        response_bytes: None,
        ..record
    }
}

/// The filter that finds imported calls: they have no start, and so the epoch's hour.
pub fn imported() -> CallFilter {
    CallFilter {
        until: Some(1),
        ..CallFilter::default()
    }
}

#[cfg(test)]
mod tests;
