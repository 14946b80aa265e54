//! The rows that jobs give. Field names are the columns; `None` is null.

use serde::Serialize;

/// What a task book says of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Assigned {
    /// The call.
    pub call_id: String,
    /// Its task; null = none or `other`.
    pub task_id: Option<String>,
    /// How sure the assignment is, 0 to 1.
    pub task_confidence: Option<f64>,
    /// The book's version.
    pub taskbook_version: Option<i32>,
}

/// A sum over calls of a task. Sums of the same task, measure and bucket add up, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Sum {
    /// The task; null = none or `other`.
    pub task_id: Option<String>,
    /// `calls`, `failed_calls`, `input_tokens`, `output_tokens`, `cost_nanousd` (billionths of a US dollar),
    /// `cost_known_calls`, or `duration_us`: so many calls in a bucket.
    pub measure: String,
    /// The bucket of a duration, null for what has none.
    pub bucket: Option<i32>,
    /// The sum.
    pub value: i64,
}

/// The digest of some rows; digests add up as numbers of 128 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Digested {
    /// How many rows.
    pub rows: i64,
    /// 32 hexadecimal digits.
    pub digest: String,
}
