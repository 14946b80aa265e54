//! Which rows the store has already, of segments that were there before this collector.
//!
//! The journal tells that as a rule. Where it is gone or older than the store (a folder restored from a copy), or where
//! an hour was compacted meanwhile, the store itself is asked: a row is put once, whatever the journal says.

use crate::compact::COMPACTED;
use crate::store::{Store, StoreError};
use crate::table::{Columns, calls_from_parquet_columns};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Call ids that the store has, by segment and partition.
pub(super) struct Known {
    /// Names of files, and ids of segments.
    doubtful: BTreeSet<String>,
    ids: HashMap<(String, String), HashSet<String>>,
}

impl Known {
    /// In doubt are these segments.
    pub(super) fn new(segments: impl IntoIterator<Item = String>) -> Known {
        Known {
            doubtful: segments.into_iter().collect(),
            ids: HashMap::new(),
        }
    }

    /// A segment's file was opened; whether it was there before this collector.
    pub(super) fn opened(&mut self, name: &str, id: &str) -> bool {
        let was_there = self.doubtful.remove(name);
        if was_there {
            self.doubtful.insert(id.to_owned());
        }
        was_there
    }

    /// A put failed: it may have happened all the same, and its hour be merged by the next try.
    pub(super) fn doubt(&mut self, segment: &str) {
        self.doubtful.insert(segment.to_owned());
        self.ids.retain(|(of, _), _| of != segment);
    }

    /// The call ids of a segment's rows that a partition of the store has; none where there is no doubt.
    pub(super) async fn in_partition(
        &mut self,
        store: &Store,
        segment: &str,
        partition: &str,
    ) -> Result<HashSet<String>, StoreError> {
        if !self.doubtful.contains(segment) {
            return Ok(HashSet::new());
        }
        let place = (segment.to_owned(), partition.to_owned());
        if let Some(ids) = self.ids.get(&place) {
            return Ok(ids.clone());
        }
        let mut ids = HashSet::new();
        for object in store.list(partition).await? {
            let name = object.key.rsplit('/').next().unwrap_or_default();
            let is_of_segment = name.strip_prefix(segment).is_some_and(|rest| rest.starts_with('-'));
            if !(is_of_segment || name.starts_with(COMPACTED)) {
                continue;
            }
            let bytes = match store.get(&object.key).await {
                Ok(bytes) => bytes,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            match calls_from_parquet_columns(bytes, &Columns::only(["call_id"]), store.table_keys()) {
                Ok(rows) => ids.extend(rows.into_iter().map(|row| row.call_id)),
                Err(error) => tracing::warn!(%error, key = object.key, "a stored object can't be read"),
            }
        }
        self.ids.insert(place, ids.clone());
        Ok(ids)
    }

    /// A segment is stored to its end.
    pub(super) fn forget(&mut self, segment: &str) {
        self.doubtful.remove(segment);
        self.ids.retain(|(of, _), _| of != segment);
    }
}
