//! A digest of rows that does not depend on their order, nor on how they are divided over files.

use super::rows::Digested;
use serde::Serialize;
use std::fmt;

/// The sum of the rows' hashes. It compares results of runs; it is no protection against who wants two to look alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// How many rows.
    pub rows: u64,
    sum: u128,
}

impl Digest {
    /// Adds a row.
    pub fn add(&mut self, row: &impl Serialize) {
        let text = serde_json::to_vec(row).expect("a row's keys are all text");
        let hash = blake3::hash(&text);
        let mut half = [0; 16];
        half.copy_from_slice(&hash.as_bytes()[..16]);
        self.merge(Digest {
            rows: 1,
            sum: u128::from_le_bytes(half),
        });
    }

    /// Adds the rows of another.
    pub fn merge(&mut self, other: Digest) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// As a row.
    pub fn row(self) -> Digested {
        Digested {
            rows: i64::try_from(self.rows).unwrap_or(i64::MAX),
            digest: self.to_string(),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.sum)
    }
}
