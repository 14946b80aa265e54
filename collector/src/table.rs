//! Rows of `calls` and `scores` to Parquet and back.
//!
//! Knows no store, and takes nothing out of a record: what comes in is masked already. Files are zstd, with signed
//! integers, `timestamp(us, UTC)`, and no Arrow schema embedded, so that DuckDB, Spark, Sail, pyarrow, Polars and Trino
//! read them alike. Columns are read by name: one that a file lacks is null, one that we don't know is ignored.

mod cell;
mod columns;
mod crypt;
mod stream;

pub use cell::CellError;
pub(crate) use cell::{Column, Row};
pub use crypt::{CONTENT_COLUMNS, TableKeys};
pub use stream::StreamError;
pub(crate) use stream::{RowReader, RowWriter};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use jiff::Timestamp;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::encryption::decrypt::KeyRetriever;
use parquet::errors::ParquetError;
use parquet::file::column_crypto_metadata::ColumnCryptoMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::borrow::Borrow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use understudy_call::record::{CallRecord, ScoreRecord};

/// A row that is a line of a table of its own.
pub(crate) trait Table: Row {
    /// What an error calls it.
    fn id(&self) -> &str;
    /// Its text, bytes, about.
    fn text_bytes(&self) -> usize;
}

/// Page size of text columns, bytes. History that an agent resends is compressed away only inside one page.
const TEXT_PAGE_BYTES: usize = 8 << 20;
/// Rows between two looks at a page's size; small, because one body can be megabytes.
const WRITE_BATCH_ROWS: usize = 64;
/// Most rows handed to the encoder, or decoded, at once.
const BATCH_ROWS: usize = 256;
/// Most text handed to the encoder at once, bytes: Arrow's offsets end at 2 GiB.
const BATCH_TEXT_BYTES: usize = 256 << 20;
/// Most text of one row, bytes.
const ROW_TEXT_BYTES: usize = 1 << 30;
/// Rows of one row group.
const GROUP_ROWS: usize = 100_000;
/// Columns of long text: no dictionary, no statistics, large pages.
const TEXT_COLUMNS: [&str; 3] = ["request_body", "response_body", "output_text"];

/// Why rows can't be written as Parquet, or read from it.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Parquet can't be made of these rows.
    #[error("could not write rows as parquet: {0}")]
    Write(#[source] ParquetError),
    /// These bytes are no Parquet file, or a damaged one.
    #[error("could not read parquet: {0}")]
    Read(String),
    /// It is encrypted, and the key is not here.
    #[error(
        "{what} is encrypted with the key {key}, which is not among the keys here: give its file, or ask for other columns"
    )]
    Locked {
        /// The file's footer, or a column.
        what: String,
        /// The missing key's public name.
        key: String,
    },
    /// A column's values don't fit it.
    #[error("could not convert column {column}: {source}")]
    Column {
        /// The column's name.
        column: String,
        /// What is wrong with it.
        source: CellError,
    },
    /// A row is larger than a Parquet reader takes.
    #[error("could not write row {row}: it holds {bytes} bytes of text, at most {ROW_TEXT_BYTES} fit")]
    RowTooLarge {
        /// Call id of the row.
        row: String,
        /// Its text, bytes.
        bytes: usize,
    },
}

/// Which columns to read; what is not read is null or empty in the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// All of them.
    #[default]
    All,
    /// All but `request_body` and `response_body`.
    WithoutBodies,
    /// All but [`CONTENT_COLUMNS`]: what the metrics key alone opens.
    Metrics,
    /// These, by name; a name that the file lacks is left out.
    Only(Vec<String>),
}

impl Columns {
    /// These columns alone.
    pub fn only<'a>(names: impl IntoIterator<Item = &'a str>) -> Columns {
        Columns::Only(names.into_iter().map(str::to_owned).collect())
    }

    /// Whether a column is read.
    pub fn includes(&self, name: &str) -> bool {
        match self {
            Columns::All => true,
            Columns::WithoutBodies => !matches!(name, "request_body" | "response_body"),
            Columns::Metrics => !CONTENT_COLUMNS.contains(&name),
            Columns::Only(names) => names.iter().any(|wanted| wanted == name),
        }
    }
}

/// The Arrow schema of `calls`.
pub fn calls_schema() -> SchemaRef {
    schema_of(&CallRecord::columns())
}

/// The Arrow schema of `scores`.
pub fn scores_schema() -> SchemaRef {
    schema_of(&ScoreRecord::columns())
}

/// A Parquet file of these calls, sorted so that the rows of one conversation lie together.
pub fn calls_to_parquet(rows: &[impl Borrow<CallRecord>], keys: &TableKeys) -> Result<Bytes, TableError> {
    let mut sorted: Vec<&CallRecord> = rows.iter().map(Borrow::borrow).collect();
    sorted.sort_by(|left, right| {
        let key = |row: &CallRecord| (row.step, row.started_at);
        left.conversation_id
            .cmp(&right.conversation_id)
            .then_with(|| key(left).cmp(&key(right)))
            .then_with(|| left.call_id.cmp(&right.call_id))
    });
    write(&sorted, keys)
}

/// A Parquet file of these scores, in the order given.
pub fn scores_to_parquet(rows: &[ScoreRecord], keys: &TableKeys) -> Result<Bytes, TableError> {
    write(&rows.iter().collect::<Vec<_>>(), keys)
}

/// All calls of a Parquet file.
pub fn calls_from_parquet(bytes: Bytes, keys: &TableKeys) -> Result<Vec<CallRecord>, TableError> {
    flatten(call_batches(bytes, &Columns::All, keys)?)
}

/// All calls of a Parquet file, of some columns only.
pub fn calls_from_parquet_columns(
    bytes: Bytes,
    columns: &Columns,
    keys: &TableKeys,
) -> Result<Vec<CallRecord>, TableError> {
    flatten(call_batches(bytes, columns, keys)?)
}

/// All scores of a Parquet file, of these columns.
pub fn scores_from_parquet(bytes: Bytes, columns: &Columns, keys: &TableKeys) -> Result<Vec<ScoreRecord>, TableError> {
    flatten(Batches::<ScoreRecord>::open(bytes, columns, keys)?)
}

/// The rows of a Parquet file, some hundred at a time.
pub(crate) fn batches<R: Table>(
    bytes: Bytes,
    columns: &Columns,
    keys: &TableKeys,
) -> Result<impl Iterator<Item = Result<Vec<R>, TableError>> + use<R>, TableError> {
    Batches::<R>::open(bytes, columns, keys)
}

/// The calls of a Parquet file, some hundred at a time: histories unpack to many times the file's size.
pub fn call_batches(
    bytes: Bytes,
    columns: &Columns,
    keys: &TableKeys,
) -> Result<impl Iterator<Item = Result<Vec<CallRecord>, TableError>> + use<>, TableError> {
    Batches::<CallRecord>::open(bytes, columns, keys)
}

/// The object that holds rows `first` to `last` of a spool segment, named for the hour of `record`; all rows of an
/// object belong to one hour ([`call_partition`]).
pub fn call_key(record: &CallRecord, segment: &str, first: u64, last: u64) -> String {
    format!("{}/{segment}-{first}-{last}.parquet", call_partition(record))
}

/// The partition folder of a call, `calls/dt=2026-11-21/hour=h07`, by its start in UTC, else by its id's time.
pub fn call_partition(record: &CallRecord) -> String {
    hour_partition(call_micros(record))
}

/// The partition folder of an hour; `micros` since the epoch, UTC. A time outside the calendar counts as the epoch.
pub fn hour_partition(micros: i64) -> String {
    let time = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("calls/{}", time.strftime("dt=%Y-%m-%d/hour=h%H"))
}

/// When a call began, microseconds since the epoch: `started_at`, else the time in its UUIDv7, else 0.
pub fn call_micros(record: &CallRecord) -> i64 {
    record
        .started_at
        .or_else(|| uuid_micros(&record.call_id))
        .unwrap_or_default()
}

/// The object of the `n`th batch of scores of a job; odd characters of a name become `_`.
pub fn score_key(task: &str, candidate: &str, job: &str, n: u64) -> String {
    format!("{}/{}-{n}.parquet", score_partition(task, Some(candidate)), plain(job))
}

/// The folder of a task's scores, or of one candidate's.
pub fn score_partition(task: &str, candidate: Option<&str>) -> String {
    match candidate {
        Some(candidate) => format!("scores/task={}/candidate={}", plain(task), plain(candidate)),
        None => format!("scores/task={}", plain(task)),
    }
}

/// A name as a part of a key: every reader of partitions takes letters, digits, `-`, `_` and `.` as they are.
fn plain(name: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
            c
        } else {
            '_'
        }
    };
    let plain: String = name.chars().map(keep).collect();
    if plain.trim_matches('.').is_empty() {
        "_".repeat(plain.len().max(1))
    } else {
        plain
    }
}

fn uuid_micros(call_id: &str) -> Option<i64> {
    let (seconds, nanos) = uuid::Uuid::try_parse(call_id).ok()?.get_timestamp()?.to_unix();
    i64::try_from(seconds)
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(i64::from(nanos / 1000))
}

fn schema_of<R: Row>(columns: &[Column<R>]) -> SchemaRef {
    Arc::new(Schema::new(
        columns.iter().map(|column| column.field.clone()).collect::<Vec<_>>(),
    ))
}

fn properties(schema: &Schema, keys: &TableKeys) -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_created_by(concat!("understudy ", env!("CARGO_PKG_VERSION")).into())
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_write_batch_size(WRITE_BATCH_ROWS);
    let is_text = |name: &str| TEXT_COLUMNS.contains(&name) && schema.index_of(name).is_ok();
    for name in TEXT_COLUMNS.into_iter().filter(|name| is_text(name)) {
        let path = ColumnPath::from(name);
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
            .set_column_data_page_row_count_limit(path.clone(), GROUP_ROWS)
            .set_column_data_page_size_limit(path, TEXT_PAGE_BYTES);
    }
    if let Some(encryption) = keys.encryption(schema)? {
        builder = builder.with_file_encryption_properties(encryption);
    }
    Ok(builder.build())
}

fn write<R: Table>(rows: &[&R], keys: &TableKeys) -> Result<Bytes, TableError> {
    let mut writer = TableWriter::new(keys)?;
    writer.write(rows)?;
    writer.finish()
}

/// A Parquet file in the making.
pub(crate) struct TableWriter<R> {
    columns: Vec<Column<R>>,
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
}

impl<R: Table> TableWriter<R> {
    pub(crate) fn new(keys: &TableKeys) -> Result<Self, TableError> {
        let columns = R::columns();
        let schema = schema_of(&columns);
        let options = ArrowWriterOptions::new()
            .with_properties(properties(&schema, keys).map_err(TableError::Write)?)
            .with_skip_arrow_metadata(true);
        let writer =
            ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options).map_err(TableError::Write)?;
        Ok(TableWriter {
            columns,
            schema,
            writer,
        })
    }

    /// Writes rows in pieces that Arrow's 32-bit offsets hold.
    pub(crate) fn write(&mut self, rows: &[&R]) -> Result<(), TableError> {
        for_each_piece(rows, |piece| {
            let batch = batch_of(&self.columns, &self.schema, piece)?;
            self.writer.write(&batch).map_err(TableError::Write)
        })
    }

    pub(crate) fn finish(self) -> Result<Bytes, TableError> {
        self.writer.into_inner().map(Bytes::from).map_err(TableError::Write)
    }
}

/// Hands rows on in pieces that fit one batch.
fn for_each_piece<R: Table>(
    rows: &[&R],
    mut take: impl FnMut(&[&R]) -> Result<(), TableError>,
) -> Result<(), TableError> {
    let mut rest = rows;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(piece_len(rest.iter().map(|row| (row.id(), row.text_bytes())))?);
        take(piece)?;
        rest = after;
    }
    Ok(())
}

/// How many of the first rows fit one batch; at least one.
fn piece_len<'a>(rows: impl Iterator<Item = (&'a str, usize)>) -> Result<usize, TableError> {
    let (mut total, mut len) = (0, 0);
    for (id, bytes) in rows.take(BATCH_ROWS) {
        if bytes > ROW_TEXT_BYTES {
            return Err(TableError::RowTooLarge { row: id.into(), bytes });
        }
        total += bytes;
        if len > 0 && total > BATCH_TEXT_BYTES {
            break;
        }
        len += 1;
    }
    Ok(len)
}

fn batch_of<R: Row>(columns: &[Column<R>], schema: &SchemaRef, rows: &[&R]) -> Result<RecordBatch, TableError> {
    let array = |column: &Column<R>| (column.write)(rows).map_err(|source| column_error(column, source));
    let arrays = columns.iter().map(array).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema.clone(), arrays).map_err(|error| TableError::Write(error.into()))
}

fn column_error<R>(column: &Column<R>, source: CellError) -> TableError {
    TableError::Column {
        column: column.field.name().clone(),
        source,
    }
}

fn flatten<R>(batches: impl Iterator<Item = Result<Vec<R>, TableError>>) -> Result<Vec<R>, TableError> {
    let mut rows = Vec::new();
    for batch in batches {
        rows.extend(batch?);
    }
    Ok(rows)
}

/// The rows of a file, batch by batch; ends after an error.
struct Batches<R> {
    columns: Vec<Column<R>>,
    reader: Option<ParquetRecordBatchReader>,
}

impl<R: Row> Batches<R> {
    fn open(bytes: Bytes, wanted: &Columns, keys: &TableKeys) -> Result<Self, TableError> {
        let columns: Vec<Column<R>> = R::columns()
            .into_iter()
            .filter(|column| wanted.includes(column.field.name()))
            .collect();
        let names: Vec<&str> = columns.iter().map(|column| column.field.name().as_str()).collect();
        Ok(Batches {
            reader: Some(contained(|| open_reader(bytes, &names, keys)).flatten()?),
            columns,
        })
    }
}

fn rows_of<R: Row>(columns: &[Column<R>], batch: &RecordBatch) -> Result<Vec<R>, TableError> {
    let mut rows: Vec<R> = (0..batch.num_rows()).map(|_| R::blank()).collect();
    for column in columns {
        if let Some(array) = batch.column_by_name(column.field.name()) {
            (column.read)(array, &mut rows).map_err(|source| column_error(column, source))?;
        }
    }
    Ok(rows)
}

impl<R: Row> Iterator for Batches<R> {
    type Item = Result<Vec<R>, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = self.reader.take()?;
        let batch = match contained(|| reader.next()) {
            Ok(batch) => batch?.map_err(|error| TableError::Read(error.to_string())),
            Err(error) => Err(error),
        };
        let rows = batch.and_then(|batch| contained(|| rows_of(&self.columns, &batch)).flatten());
        if rows.is_ok() {
            self.reader = Some(reader);
        }
        Some(rows)
    }
}

fn open_reader(bytes: Bytes, names: &[&str], keys: &TableKeys) -> Result<ParquetRecordBatchReader, TableError> {
    let failed = |error: ParquetError| TableError::Read(error.to_string());
    let (decryption, retriever) = keys.decryption().map_err(failed)?;
    let options = ArrowReaderOptions::new()
        .with_skip_arrow_metadata(true)
        .with_file_decryption_properties(decryption);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options)
        .map_err(|error| retriever.locked("the file").unwrap_or_else(|| failed(error)))?;
    let schema = builder.parquet_schema();
    let roots = schema.root_schema().get_fields().iter().enumerate();
    let wanted: Vec<usize> = roots
        .filter(|(_, root)| names.contains(&root.name()))
        .map(|(index, _)| index)
        .collect();
    let mask = ProjectionMask::roots(schema, wanted);
    let chunks = builder.metadata().row_groups().iter().flat_map(|group| group.columns());
    for (chunk, leaf) in chunks.zip((0..schema.num_columns()).cycle()) {
        if mask.leaf_included(leaf)
            && let Some(ColumnCryptoMetaData::ENCRYPTION_WITH_COLUMN_KEY(crypto)) = chunk.crypto_metadata()
            && let Err(error) = retriever.retrieve_key(crypto.key_metadata.as_deref().unwrap_or_default())
        {
            let column = format!("column {}", chunk.column_path().string());
            return Err(retriever.locked(&column).unwrap_or_else(|| failed(error)));
        }
    }
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build();
    reader.map_err(failed)
}

/// Runs a step of decoding: the Parquet library panics on some damaged files, which is to cost that file alone.
fn contained<T>(step: impl FnOnce() -> T) -> Result<T, TableError> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|_| TableError::Read("the file is damaged".into()))
}

#[cfg(test)]
mod tests;
