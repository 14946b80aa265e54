//! A batch's way into the store: its range is journalled, its rows are put under names that say which they are, and a put
//! that may or may not have happened is made again under the same names.

use super::{Batch, Ingest, IngestError, within};
use crate::erase::sweep_object;
use crate::table::{call_key, call_partition, calls_to_parquet};
use crate::vault;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::AtomicBool;
use understudy_call::record::CallRecord;
use understudy_call::spool::Pending;

impl Ingest {
    /// Journals, puts, and moves on.
    pub(super) fn store_batch(&mut self, finish: &AtomicBool) -> Result<(), IngestError> {
        let numbers = &self.batch.numbers;
        let (first, last) = (numbers.first().unwrap_or(0), numbers.last().unwrap_or(0));
        self.journal.begin_put(Pending {
            from: self.journal.position.offset,
            to: self.batch.end,
            first,
            last,
            numbers: numbers.clone(),
        })?;
        self.put_rows(first, last, finish)?;
        self.forget_batch()
    }

    /// Puts the rows of the batch, one object a partition; rows that the store has already are left out.
    fn put_rows(&mut self, first: u64, last: u64, finish: &AtomicBool) -> Result<(), IngestError> {
        let Some(segment) = self.reading.as_ref().map(|reading| reading.id.clone()) else {
            return Ok(());
        };
        let result = self.put_partitions(&segment, first, last, finish);
        if result.is_err() {
            self.known.doubt(&segment);
        }
        result
    }

    fn put_partitions(&mut self, segment: &str, first: u64, last: u64, finish: &AtomicBool) -> Result<(), IngestError> {
        let look = || {
            self.gauge
                .look(&self.segments, &self.journal.position, &self.batch.rows)
        };
        within(&self.runtime, finish, look, self.tombstones.refresh(&self.store))?;
        self.take_erased();
        let mut meanwhile = || {
            self.gauge
                .look(&self.segments, &self.journal.position, &self.batch.rows)
        };
        if !self.batch.left_out.is_empty() {
            let name = format!("{segment}-{first}-{last}");
            let noted = self.batch.left_out.put(&self.store, &name);
            within(&self.runtime, finish, &mut meanwhile, noted)?;
        }
        let (mut keys, mut vault_keys) = (Vec::new(), Vec::new());
        let mut partitions: BTreeMap<String, Vec<&CallRecord>> = BTreeMap::new();
        for row in &self.batch.rows {
            partitions.entry(call_partition(row)).or_default().push(row);
        }
        for (partition, rows) in partitions {
            let ids: HashSet<&str> = rows.iter().map(|row| row.call_id.as_str()).collect();
            let lines: Vec<&vault::Line> = self
                .batch
                .vault
                .iter()
                .filter(|line| ids.contains(&*line.call_id))
                .collect();
            // First: rows that the store has are not put again.
            if let (Some(row), false) = (rows.first(), lines.is_empty()) {
                let key = vault::key_beside(&call_key(row, segment, first, last));
                let put = self.store.put(&key, vault::to_bytes(lines));
                within(&self.runtime, finish, &mut meanwhile, put)?;
                vault_keys.push(key);
            }
            let known = self.known.in_partition(&self.store, segment, &partition);
            let known = within(&self.runtime, finish, &mut meanwhile, known)?;
            let is_new = |row: &&CallRecord| !known.contains(&row.call_id);
            let new: Vec<&CallRecord> = rows.into_iter().filter(is_new).collect();
            let Some(row) = new.first() else { continue };
            let key = call_key(row, segment, first, last);
            let parquet = calls_to_parquet(&new, self.store.table_keys())?;
            let put = self.store.put(&key, parquet);
            within(&self.runtime, finish, &mut meanwhile, put)?;
            self.metrics.objects.inc();
            keys.push(key);
        }
        // An erasure that was made meanwhile may have looked before the objects were there.
        let outdated = self.tombstones.are_outdated(&self.store);
        if within(&self.runtime, finish, &mut meanwhile, outdated)? {
            let refreshed = self.tombstones.refresh(&self.store);
            within(&self.runtime, finish, &mut meanwhile, refreshed)?;
            for key in keys {
                let swept = sweep_object(&self.store, &key, &self.tombstones);
                self.runtime.block_on(swept).map_err(Box::new)?;
            }
            for key in vault_keys {
                let swept = vault::sweep(&self.store, &key, &self.tombstones);
                within(&self.runtime, finish, &mut meanwhile, swept)?;
            }
        }
        Ok(())
    }

    /// Takes the rows that are erased out of the batch.
    fn take_erased(&mut self) {
        if self.tombstones.is_empty() {
            return;
        }
        let (rows, left_out) = (&mut self.batch.rows, &mut self.batch.left_out);
        let before = rows.len();
        rows.retain(|row| {
            let is_erased = self.tombstones.covers_call(row);
            if is_erased {
                left_out.add(row, &self.tombstones);
            }
            !is_erased
        });
        let erased = (before - rows.len()) as u64;
        if erased > 0 {
            self.metrics.evicted.with_label_values(&["erased"]).inc_by(erased);
            if let Some(drain) = &mut self.draining {
                drain.left_out += erased;
            }
        }
    }

    /// A put that may or may not have happened: the same range is read and put again under the same names.
    pub(super) fn finish_pending(&mut self, pending: &Pending, finish: &AtomicBool) -> Result<(), IngestError> {
        if self.batch.rows.is_empty() && self.batch.left_out.is_empty() {
            match self.read_pending(pending) {
                Err(IngestError::Spool(error)) if error.is_gone() => {
                    self.leave_segment();
                    return Ok(());
                }
                result => result?,
            }
        }
        self.put_rows(pending.first, pending.last, finish)?;
        let again = self.batch.reread;
        self.batch.segment_ended &= !again;
        self.forget_batch()?;
        if again {
            // What else is in the segment comes next.
            self.reading = None;
            self.batch = Batch::default();
        }
        Ok(())
    }

    fn read_pending(&mut self, pending: &Pending) -> Result<(), IngestError> {
        self.reading = None;
        let segment = self.journal.position.segment.clone();
        if !self.open_segment(false)? || self.reading.as_ref().map(|reading| &reading.id) != segment.as_ref() {
            // Another segment was begun: with that the journal forgot this one.
            return Ok(());
        }
        let (from, to) = if pending.numbers.is_empty() {
            (pending.from, Some(pending.to))
        } else {
            (0, None)
        };
        self.batch.end = from;
        self.batch.reread = true;
        while let Some(reading) = &self.reading {
            let from = self.batch.end;
            let mut chunk = self.segments.read(reading, from, to, false)?;
            let end = chunk.end;
            chunk
                .frames
                .retain(|(number, _)| to.is_some() || pending.numbers.contains(*number));
            self.take(chunk);
            if end <= from {
                break;
            }
        }
        Ok(())
    }

    /// The batch is stored. A journal that can't be written just now changes nothing of that: it is at the next step.
    fn forget_batch(&mut self) -> Result<(), IngestError> {
        let journalled = self.journal.end_put(&self.batch.numbers);
        self.metrics.stored.inc_by(self.batch.rows.len() as u64);
        self.batch.rows.iter().for_each(|row| self.metrics.count(row));
        let ended = self.batch.segment_ended;
        self.batch = Batch {
            end: self.batch.end,
            ..Batch::default()
        };
        journalled?;
        if ended { self.next_segment() } else { Ok(()) }
    }
}
