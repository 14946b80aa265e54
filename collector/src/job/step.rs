//! The steps: what is done to the rows of one batch, knowing nothing of the others.

use super::mask::Remask;
use super::rows::{Assigned, Sum};
use super::stats::{self, Stats};
use crate::books::assign_by;
use crate::erase::{ERASURE_COLUMNS, Tombstones};
use crate::mask::Mask;
use crate::table::{Columns, Table};
use rayon::prelude::*;
use serde::Serialize;
use std::fmt::Write;
use std::sync::Arc;
use understudy_call::record::CallRecord;
use understudy_call::taskbook::CompiledBook;

/// What a task is told by.
pub(super) const REQUEST_COLUMNS: [&str; 4] = ["call_id", "api", "path", "request_body"];
/// What must be there of it.
pub(super) const REQUIRED_OF_REQUEST: [&str; 3] = ["call_id", "api", "request_body"];

/// What is done to rows of calls; cheap to clone.
#[derive(Clone)]
pub enum Work {
    /// The task of each call.
    Assign(Arc<CompiledBook>),
    /// Each call, its texts masked again by the rules of today.
    Mask(Arc<Mask>),
    /// Sums by task, as the book assigns or else as stored.
    Stats(Option<Arc<CompiledBook>>),
}

/// A step's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepName {
    /// The task of each call.
    Assign,
    /// Each call, masked again.
    Mask,
    /// Sums by task.
    Stats,
}

impl StepName {
    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            StepName::Assign => "assign",
            StepName::Mask => "mask",
            StepName::Stats => "stats",
        }
    }

    /// The folder of its results.
    pub fn folder(self) -> &'static str {
        match self {
            StepName::Assign => "assignments",
            StepName::Mask => "calls",
            StepName::Stats => "stats",
        }
    }

    /// The columns of its results, as Spark writes them in SQL.
    pub fn schema(self) -> String {
        match self {
            StepName::Assign => sql_columns::<Assigned>(&Columns::All).join(", "),
            StepName::Mask => sql_columns::<CallRecord>(&Columns::All).join(", "),
            StepName::Stats => sql_columns::<Sum>(&Columns::All).join(", "),
        }
    }
}

impl Work {
    /// Its name.
    pub fn name(&self) -> StepName {
        match self {
            Work::Assign(_) => StepName::Assign,
            Work::Mask(_) => StepName::Mask,
            Work::Stats(_) => StepName::Stats,
        }
    }

    /// The columns that it reads, each as Spark writes it in SQL.
    pub fn columns(&self, erased: &Tombstones) -> Vec<String> {
        let columns = match self.clone() {
            Work::Assign(book) => Pipe::new(&Assign(book), erased).columns(),
            Work::Mask(mask) => Pipe::new(&Remask(mask), erased).columns(),
            Work::Stats(book) => Pipe::new(&Stats(book), erased).columns(),
        };
        sql_columns::<CallRecord>(&columns)
    }
}

/// Rows of calls to rows of another kind.
pub(super) trait Step: Send + Sync + 'static {
    /// What it gives.
    type Out: Table + Serialize + Send;
    /// Whether its rows add up: they are gathered then, and given at the end.
    const GATHERS: bool = false;

    /// The columns it reads.
    fn columns(&self) -> Columns;
    /// Those that must be there.
    fn required(&self) -> Vec<&'static str>;
    /// The rows of these.
    fn apply(&self, calls: Vec<CallRecord>) -> Vec<Self::Out>;
    /// The same in fewer rows.
    fn gather(rows: Vec<Self::Out>) -> Vec<Self::Out> {
        rows
    }
}

/// What a job did with the rows it read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows read.
    pub read: u64,
    /// Of these, left out because they are erased.
    pub erased: u64,
}

impl Counts {
    /// Adds those of another part.
    pub fn merge(&mut self, other: Counts) {
        self.read += other.read;
        self.erased += other.erased;
    }
}

/// Batches through a step: leaves out what is erased, and gathers where the step's rows add up.
pub(super) struct Pipe<'a, S: Step> {
    step: &'a S,
    erased: &'a Tombstones,
    held: Vec<S::Out>,
    pub(super) counts: Counts,
}

impl<'a, S: Step> Pipe<'a, S> {
    pub(super) fn new(step: &'a S, erased: &'a Tombstones) -> Self {
        Pipe {
            step,
            erased,
            held: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// The columns to read.
    pub(super) fn columns(&self) -> Columns {
        match self.step.columns() {
            Columns::Only(names) if !self.erased.is_empty() => {
                let of_erasures = ERASURE_COLUMNS.into_iter().map(str::to_owned);
                Columns::Only(names.into_iter().chain(of_erasures).collect())
            }
            columns => columns,
        }
    }

    /// The columns that must be there.
    pub(super) fn required(&self) -> Vec<&'static str> {
        let mut required = self.step.required();
        if !self.erased.is_empty() {
            required.extend(ERASURE_COLUMNS);
            required.sort_unstable();
            required.dedup();
        }
        required
    }

    /// What can be given by now.
    pub(super) fn pass(&mut self, mut calls: Vec<CallRecord>) -> Vec<S::Out> {
        let read = calls.len();
        calls.retain(|call| !self.erased.covers_call(call));
        self.counts.merge(Counts {
            read: read as u64,
            erased: (read - calls.len()) as u64,
        });
        let rows = self.step.apply(calls);
        if !S::GATHERS {
            return rows;
        }
        self.held.extend(rows);
        self.held = S::gather(std::mem::take(&mut self.held));
        Vec::new()
    }

    /// What was gathered.
    pub(super) fn end(self) -> Vec<S::Out> {
        self.held
    }
}

/// Assigns each call, whatever another book said of it.
pub(super) struct Assign(pub(super) Arc<CompiledBook>);

impl Assign {
    fn one(&self, mut call: CallRecord) -> Assigned {
        assign_by(&mut call, &self.0);
        Assigned {
            call_id: call.call_id,
            task_id: call.task_id,
            task_confidence: call.task_confidence,
            taskbook_version: call.taskbook_version,
        }
    }
}

impl Step for Assign {
    type Out = Assigned;

    fn columns(&self) -> Columns {
        Columns::only(REQUEST_COLUMNS)
    }

    fn required(&self) -> Vec<&'static str> {
        REQUIRED_OF_REQUEST.into()
    }

    fn apply(&self, calls: Vec<CallRecord>) -> Vec<Assigned> {
        calls.into_par_iter().map(|call| self.one(call)).collect()
    }
}

impl Step for Remask {
    type Out = CallRecord;

    fn columns(&self) -> Columns {
        Columns::All
    }

    /// A column that is never null must be there, or its default would be taken for what was kept.
    fn required(&self) -> Vec<&'static str> {
        vec![
            "schema_version",
            "call_id",
            "conversation_id",
            "step",
            "client_id",
            "started_at",
            "api",
            "outcome",
            "streamed",
            "partial",
            "request_body",
            "response_body",
            "output_text",
            "tool_calls",
        ]
    }

    fn apply(&self, calls: Vec<CallRecord>) -> Vec<CallRecord> {
        calls.into_par_iter().map(|call| self.one(call)).collect()
    }
}

impl Step for Stats {
    type Out = Sum;
    const GATHERS: bool = true;

    fn columns(&self) -> Columns {
        Columns::only(self.required().into_iter().chain(["path"]))
    }

    fn required(&self) -> Vec<&'static str> {
        let mut required = stats::COLUMNS.to_vec();
        match &self.0 {
            Some(_) => required.extend(REQUIRED_OF_REQUEST),
            None => required.push("task_id"),
        }
        required
    }

    fn apply(&self, calls: Vec<CallRecord>) -> Vec<Sum> {
        self.sums(calls)
    }

    fn gather(rows: Vec<Sum>) -> Vec<Sum> {
        stats::gather(rows)
    }
}

/// The columns of a row as Spark's SQL names them.
fn sql_columns<R: Table>(wanted: &Columns) -> Vec<String> {
    let columns = R::columns().into_iter();
    let columns = columns.filter(|column| wanted.includes(column.field.name()));
    columns
        .map(|column| format!("{} {}", column.field.name(), sql(column.field.data_type())))
        .collect()
}

fn sql(data_type: &arrow_schema::DataType) -> String {
    use arrow_schema::DataType;
    match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float64 => "double".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::List(element) => format!("array<{}>", sql(element.data_type())),
        DataType::Map(..) => "map<string, string>".into(),
        DataType::Struct(fields) => {
            let mut text = String::new();
            for field in fields {
                let comma = if text.is_empty() { "" } else { ", " };
                let _ = write!(text, "{comma}{}: {}", field.name(), sql(field.data_type()));
            }
            format!("struct<{text}>")
        }
        _ => "string".into(),
    }
}
