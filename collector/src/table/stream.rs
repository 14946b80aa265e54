//! Rows as an Arrow IPC stream and back: how a worker speaks with Spark.
//!
//! Columns are read by name, as in a file: one that we don't know is ignored, one that is asked for and missing is named.
//! Batches may be of any size, none included. A stream ends with its end mark, and the input with the stream: what was cut
//! where a batch ends is not taken as whole.

use super::{Column, Row};
use super::{Table, TableError, batch_of, contained, for_each_piece, rows_of, schema_of};
use arrow_array::Array;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};
use std::fmt::Display;
use std::io::{Read, Write};

/// Why rows can't be read from an Arrow IPC stream, or written as one.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It has no readable beginning.
    #[error("the input is no Arrow IPC stream: {0}")]
    NoStream(String),
    /// It began well.
    #[error("the Arrow IPC stream is damaged after {rows} rows: {message}")]
    Damaged {
        /// Rows read by then.
        rows: u64,
        /// What is wrong.
        message: String,
    },
    /// Columns are missing.
    #[error("the rows lack {}, which this step reads: select them too", .0.join(", "))]
    Missing(Vec<String>),
    /// A kept call always has it, and a default would be taken for what was kept.
    #[error("column {0} holds null, which no kept call does: select the rows as they are stored")]
    Null(String),
    /// A column holds another type, or a row is too large.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The output took no more.
    #[error("could not write the Arrow IPC stream: {0}")]
    Write(#[source] ArrowError),
}

/// An input, and whether it is known to be over.
struct Input<I> {
    bytes: I,
    is_over: bool,
}

impl<I: Read> Read for Input<I> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.is_over |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

/// The rows of a stream, batch by batch.
pub(crate) struct RowReader<R, I: Read> {
    columns: Vec<Column<R>>,
    /// Columns that must hold no null.
    never_null: Vec<String>,
    stream: StreamReader<Input<I>>,
    rows: u64,
}

impl<R: Row, I: Read> RowReader<R, I> {
    /// Reads the stream's beginning; `required` columns must be there, the others may.
    pub(crate) fn open(input: I, wanted: &super::Columns, required: &[&str]) -> Result<Self, StreamError> {
        let input = Input {
            bytes: input,
            is_over: false,
        };
        let stream = contained(|| StreamReader::try_new(input, None)).map_err(no_stream)?;
        let stream = stream.map_err(no_stream)?;
        let is_missing = |name: &&&str| stream.schema().column_with_name(name).is_none();
        let missing: Vec<String> = required.iter().filter(is_missing).map(|&name| name.into()).collect();
        if !missing.is_empty() {
            return Err(StreamError::Missing(missing));
        }
        let columns = R::columns().into_iter();
        let columns: Vec<Column<R>> = columns.filter(|column| wanted.includes(column.field.name())).collect();
        let is_never_null = |field: &&Field| {
            !field.is_nullable() && *field.data_type() == DataType::Utf8 && required.contains(&field.name().as_str())
        };
        let never_null = columns.iter().map(|column| &column.field).filter(is_never_null);
        Ok(RowReader {
            never_null: never_null.map(|field| field.name().clone()).collect(),
            columns,
            stream,
            rows: 0,
        })
    }

    /// The rows of the next batch; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<R>>, StreamError> {
        let batch = match contained(|| self.stream.next()) {
            Ok(None) => return self.end().map(|()| None),
            Ok(Some(Ok(batch))) => batch,
            Ok(Some(Err(error))) => return Err(self.damaged(&error)),
            Err(error) => return Err(self.damaged(&error)),
        };
        let holds_null = |name: &&String| batch.column_by_name(name).is_some_and(|column| column.null_count() > 0);
        if let Some(name) = self.never_null.iter().find(holds_null) {
            return Err(StreamError::Null(name.clone()));
        }
        let rows = contained(|| rows_of(&self.columns, &batch)).flatten()?;
        self.rows += rows.len() as u64;
        Ok(Some(rows))
    }

    /// Whether the stream is whole: its end mark was read, and nothing comes after.
    fn end(&mut self) -> Result<(), StreamError> {
        if self.stream.get_ref().is_over {
            return Err(self.damaged(&"it was cut off: its end mark is missing"));
        }
        match std::io::copy(&mut (&mut self.stream.get_mut().bytes).take(1), &mut std::io::sink()) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.damaged(&"more bytes come after its end mark")),
            Err(error) => Err(self.damaged(&error)),
        }
    }

    fn damaged(&self, error: &dyn Display) -> StreamError {
        StreamError::Damaged {
            rows: self.rows,
            message: error.to_string(),
        }
    }
}

fn no_stream(error: impl std::error::Error) -> StreamError {
    StreamError::NoStream(error.to_string())
}

/// A stream in the making.
pub(crate) struct RowWriter<R, O: Write> {
    columns: Vec<Column<R>>,
    schema: SchemaRef,
    stream: StreamWriter<O>,
}

impl<R: Table, O: Write> RowWriter<R, O> {
    /// Writes the stream's beginning.
    pub(crate) fn new(output: O) -> Result<Self, StreamError> {
        let columns = R::columns();
        let schema = schema_of(&columns);
        Ok(RowWriter {
            columns,
            stream: StreamWriter::try_new(output, &schema).map_err(StreamError::Write)?,
            schema,
        })
    }

    /// Writes rows, in batches that readers take.
    pub(crate) fn write(&mut self, rows: &[R]) -> Result<(), StreamError> {
        let mut written = Ok(());
        for_each_piece(&rows.iter().collect::<Vec<_>>(), |piece| {
            let batch = batch_of(&self.columns, &self.schema, piece)?;
            if written.is_ok() {
                written = self.stream.write(&batch);
            }
            Ok(())
        })?;
        written.map_err(StreamError::Write)
    }

    /// Writes the end mark.
    pub(crate) fn finish(mut self) -> Result<(), StreamError> {
        self.stream.finish().map_err(StreamError::Write)?;
        self.stream
            .get_mut()
            .flush()
            .map_err(|error| StreamError::Write(error.into()))
    }
}
