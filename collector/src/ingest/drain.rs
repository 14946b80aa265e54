//! What a collector does about an erasure: it has the spool's open segment ended, so that all that waits is stored or left
//! out at once and its bytes go, and says so beside the tombstone.
//!
//! Segments that are ended are read, stored and deleted one after the other as ever; only the last one would be kept until
//! it is full or old. Begun anew by each start, so a crash in between costs nothing. While the store is out of reach
//! nothing is promised: no word is put.

use super::{Ingest, IngestError, within};
use crate::erase::{Collector, Drained, TELL_EVERY};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How often erasures are looked for, and how long the store is asked.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often the spool's writer is asked to end its segment.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long other readers of the spool are waited for.
const OTHERS: Duration = Duration::from_secs(10);
/// Nobody waits for a word on an erasure that is older, in microseconds.
const TOLD_WITHIN: i64 = 24 * 3_600_000_000;

/// A spool on its way to hold nothing of what it held.
#[derive(Default)]
pub(super) struct Drain {
    /// The erasures that wait for a word.
    erasures: BTreeSet<String>,
    /// The newest segment of those that must go.
    through: Option<String>,
    /// Rows left out since.
    pub(super) left_out: u64,
    /// When the writer was asked to end the newest.
    asked: Option<Instant>,
    /// Since when there is none of them.
    emptied: Option<Instant>,
}

impl Ingest {
    /// Looks for new erasures, now and then.
    pub(super) fn look_for_erasures(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        let refresh = self.tombstones.refresh(&self.store);
        match self
            .runtime
            .block_on(async { tokio::time::timeout(LOOK_EVERY, refresh).await })
        {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "erasures could not be looked for"),
            Err(_) => tracing::debug!("the store did not say in time whether something was erased"),
        }
    }

    /// From now on all that is in the spool must go.
    pub(super) fn begin_drain(&mut self, erasures: BTreeSet<String>) -> Result<(), IngestError> {
        let newest = self.segments.newest_of_all()?;
        let drain = self.draining.get_or_insert_default();
        drain.through = newest.max(drain.through.take());
        drain.erasures.extend(erasures);
        drain.emptied = None;
        Ok(())
    }

    /// Sees to it that what must go does, and says so when it has.
    pub(super) fn drain(&mut self, finish: &AtomicBool) -> Result<(), IngestError> {
        if self.tombstones.has_new() {
            // Listed before they are taken note of: where that fails it is tried again.
            self.begin_drain(BTreeSet::new())?;
            let since = jiff::Timestamp::now().as_microsecond().saturating_sub(TOLD_WITHIN);
            let new = self.tombstones.take_new().into_iter();
            let asked = new.filter(|(_, at)| *at > since).map(|(id, _)| id);
            self.draining.get_or_insert_default().erasures.extend(asked);
        }
        let Some(drain) = &mut self.draining else {
            return Ok(());
        };
        let names = self.segments.names()?;
        let through = drain.through.clone();
        let must_go = |name: &&String| through.as_ref().is_some_and(|through| *name <= through);
        let (unreadable, waiting): (Vec<&String>, Vec<&String>) = names
            .iter()
            .filter(must_go)
            .partition(|name| self.segments.is_set_aside(name));
        if let Some(last) = waiting.last() {
            let is_newest = names.last() == Some(last);
            if is_newest && drain.asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
                drain.asked = Some(Instant::now());
                self.segments.ask_to_end(last)?;
            }
            return Ok(());
        }
        let unreadable = unreadable.len() as u64;
        let waiting = |names: Vec<String>| names.iter().filter(must_go).count() as u64;
        let others = self.segments.of_others()?.into_iter();
        let others: BTreeMap<String, u64> = others.map(|(reader, names)| (reader, waiting(names))).collect();
        let emptied = *drain.emptied.get_or_insert_with(Instant::now);
        if others.values().any(|segments| *segments > 0) && emptied.elapsed() < OTHERS {
            return Ok(());
        }
        let word = Drained {
            through: drain.through.clone(),
            left_out: drain.left_out,
            unreadable,
            others,
            collector: self.presence()?,
        };
        for erasure in self.draining.iter().flat_map(|drain| &drain.erasures) {
            within(&self.runtime, finish, || {}, word.tell(&self.store, erasure))?;
        }
        if let Some(drain) = self.draining.take()
            && !drain.erasures.is_empty()
        {
            tracing::info!(
                left_out = drain.left_out,
                "the spool holds nothing any more of what was erased"
            );
        }
        Ok(())
    }

    /// Tells the store that this collector is there, or that it is gone and nothing waits for it.
    pub(super) fn tell_presence(&mut self, finish: &AtomicBool, ends: bool) -> Result<(), IngestError> {
        if self.lock.is_none() || !ends && self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return Ok(());
        }
        self.told = Some(Instant::now());
        let presence = Collector {
            ended: ends,
            ..self.presence()?
        };
        if ends && self.segments.names()?.is_empty() {
            within(&self.runtime, finish, || {}, presence.leave(&self.store))?;
        } else {
            within(&self.runtime, finish, || {}, presence.tell(&self.store))?;
        }
        Ok(())
    }

    fn presence(&mut self) -> Result<Collector, IngestError> {
        let reader = self.config.reader.as_deref();
        Ok(Collector::here(self.journal.id()?, &self.config.spool_dir, reader))
    }

    /// Works until all that waits is stored or left out and gone, so long at most; whether it is. For a spool that no other
    /// collector reads. Blocks; for a thread of its own.
    pub fn drain_within(mut self, limit: Duration) -> bool {
        let (began, finish) = (Instant::now(), AtomicBool::new(false));
        let mut is_drained = false;
        while !is_drained && began.elapsed() < limit {
            match self.turn(&finish) {
                Ok(moved) => {
                    is_drained = self.lock.is_some() && self.tombstones.was_read() && self.draining.is_none();
                    if !moved && !is_drained {
                        std::thread::sleep(super::POLL);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "draining the spool failed: it is tried again");
                    std::thread::sleep(super::RETRY_FIRST);
                }
            }
        }
        self.tell_the_end(&finish);
        is_drained
    }
}
