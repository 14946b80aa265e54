//! Where every call of every boot is: stored, waiting, evicted, dropped, in flight, or missing, by number.
//!
//! Reads accounts, spool and store, in this order: records only move that way, so one that moves meanwhile is seen at
//! least once. Changes nothing, and holds nothing of what was said in a call.

use crate::compact::CompactError;
use crate::erase::erased_numbers;
use crate::ingest::ACCOUNTS;
use crate::ingest::segments::{accounts, has_writer, names_in};
use crate::scan::{CallFilter, ScanError, for_each_call};
use crate::store::{Store, StoreError};
use crate::table::Columns;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use understudy_call::account::{Account, Numbers, Tally, in_sample};
use understudy_call::frame;
use understudy_call::keys::Key;
use understudy_call::segment::{Found, HEADER_LENGTH, SegmentReader, Walk};
use understudy_call::spool::{POSITION, Position, SEGMENT_EXTENSION};

/// Why calls can't be audited.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The store's rows can't be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store's merged objects can't be told.
    #[error(transparent)]
    Compact(#[from] CompactError),
    /// The spool can't be read.
    #[error("reading {path}: {source}")]
    Spool {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// How a boot ended, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It runs.
    Running,
    /// As it should.
    Ended,
    /// Without saying so: killed, or its machine lost power.
    Crashed,
    /// Its spool is not here: it may run on another machine.
    Elsewhere,
    /// There is no account of it; only its rows are known.
    Unknown,
}

impl State {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Ended => "ended",
            State::Crashed => "crashed",
            State::Elsewhere => "elsewhere",
            State::Unknown => "unknown",
        }
    }
}

/// The calls of one boot. `calls = in_flight + kept + dropped` and `kept = stored + waiting + evicted` are to hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BootAudit {
    /// The boot.
    pub boot_id: String,
    /// When it began, microseconds since the epoch; null where unknown.
    pub began_at: Option<i64>,
    /// How it ended, if it did.
    pub state: State,
    /// Calls begun; null where unknown.
    pub calls: Option<u64>,
    /// Calls neither kept nor dropped: in flight, or cut when the boot crashed.
    pub in_flight: u64,
    /// Calls written to the spool.
    pub kept: u64,
    /// Calls without a record, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Records in the store.
    pub stored: u64,
    /// Records in the spool; null where the spool is not here.
    pub waiting: Option<u64>,
    /// Records lost after they were kept, by reason.
    pub evicted: BTreeMap<String, u64>,
    /// Numbers of calls that were begun, and are neither found nor known to be dropped, evicted or in flight.
    pub missing: Numbers,
    /// How many of those nothing explains; fewer than named where some were dropped or evicted without a name.
    pub missing_count: u64,
    /// The highest number that may have been given: beyond those known, after a crash.
    pub mark: Option<u64>,
    /// What does not hold, in words; empty where all does.
    pub faults: Vec<String>,
}

/// What is known of one boot.
#[derive(Default)]
struct Evidence {
    account: Option<Account>,
    /// Its spool is here.
    is_here: bool,
    is_running: bool,
    evicted: BTreeMap<String, Tally>,
    stored: Numbers,
    stored_again: Numbers,
    in_spool: Numbers,
}

/// Accounts for all calls of a store and a spool; boots in the order they began.
///
/// # Errors
/// Where the store or the spool can't be read.
pub async fn audit(store: &Store, spool_dir: &Path, spool_keys: &[Key]) -> Result<Vec<BootAudit>, AuditError> {
    let mut boots: BTreeMap<String, Evidence> = BTreeMap::new();
    let local = accounts(spool_dir);
    let running = has_writer(spool_dir);
    let newest = local.iter().map(|account| account.boot_id.clone()).max();
    for account in local {
        let boot = boots.entry(account.boot_id.clone()).or_default();
        boot.is_here = true;
        boot.is_running = running && newest.as_ref() == Some(&account.boot_id) && !account.ended;
        boot.account = Some(account);
    }
    read_spool(spool_dir, spool_keys, &mut boots)?;
    read_store(store, &mut boots).await?;
    note_evicted(spool_dir, &mut boots);
    note_erased(store, &mut boots).await?;
    // Rows that were imported, and records that nobody can read, are of no boot.
    boots.remove("");
    Ok(boots
        .into_iter()
        .map(|(boot_id, evidence)| evidence.judge(boot_id))
        .collect())
}

/// The calls in the spool's segments.
fn read_spool(spool_dir: &Path, keys: &[Key], boots: &mut BTreeMap<String, Evidence>) -> Result<(), AuditError> {
    let io = |path: &Path, source| AuditError::Spool {
        path: path.to_owned(),
        source,
    };
    for name in names_in(spool_dir, SEGMENT_EXTENSION).map_err(|source| io(spool_dir, source))? {
        let path = spool_dir.join(format!("{name}.{SEGMENT_EXTENSION}"));
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            // Stored meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(io(&path, source)),
        };
        let copy = boots
            .values()
            .filter_map(|boot| boot.account.as_ref()?.segments.get(&name)?.header_bytes())
            .next();
        let reader = SegmentReader::open_with(&bytes, keys).ok();
        let Some(reader) = reader.or_else(|| SegmentReader::open_with(&copy?, keys).ok()) else {
            tracing::warn!(
                segment = name,
                "a segment can't be opened: its calls are not in this audit"
            );
            continue;
        };
        let frames = bytes.get(HEADER_LENGTH..).unwrap_or_default();
        for found in Walk::new(&reader, frames, HEADER_LENGTH as u64, true) {
            if let Found::Frame { plain, .. } = found
                && let Ok(head) = frame::decode_head(&plain)
            {
                let boot = boots.entry(head.boot_id).or_default();
                boot.is_here = true;
                boot.in_spool.insert(head.sequence);
            }
        }
    }
    Ok(())
}

/// The accounts and the calls in the store.
async fn read_store(store: &Store, boots: &mut BTreeMap<String, Evidence>) -> Result<(), AuditError> {
    for object in store.list(ACCOUNTS).await? {
        let Ok(account) = serde_json::from_slice::<Account>(&store.get(&object.key).await?) else {
            tracing::warn!(key = object.key, "an account can't be read");
            continue;
        };
        let boot = boots.entry(account.boot_id.clone()).or_default();
        match &mut boot.account {
            Some(local) => local.fold(&account),
            none => *none = Some(account),
        }
    }
    let filter = CallFilter {
        columns: Columns::only(["boot_id", "sequence"]),
        ..CallFilter::default()
    };
    for_each_call(store, &filter, |call| {
        let number = call.sequence.and_then(|number| u64::try_from(number).ok());
        if let (Some(boot_id), Some(number)) = (call.boot_id, number) {
            let boot = boots.entry(boot_id).or_default();
            let again = boot.stored.contains(number);
            let numbers = if again {
                &mut boot.stored_again
            } else {
                &mut boot.stored
            };
            numbers.insert(number);
        }
    })
    .await?;
    Ok(())
}

/// Gives each boot what others, and the collector, say that they evicted of it.
fn note_evicted(spool_dir: &Path, boots: &mut BTreeMap<String, Evidence>) {
    let mut evicted: Vec<(String, String, Tally)> = Vec::new();
    let position = std::fs::read(spool_dir.join(POSITION)).ok();
    let position: Position = position
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default();
    let said = boots.values().filter_map(|boot| boot.account.as_ref());
    for of in said.map(|account| &account.evicted).chain([&position.evicted]) {
        for (boot, reasons) in of {
            let of_boot = reasons
                .iter()
                .map(|(reason, tally)| (boot.clone(), reason.clone(), tally.clone()));
            evicted.extend(of_boot);
        }
    }
    for (boot, reason, tally) in evicted {
        let of_reason = boots.entry(boot).or_default().evicted.entry(reason).or_default();
        // What the collector gave up is in its position first, and in the boot's account later.
        of_reason.count = of_reason.count.max(tally.count);
        of_reason.numbers.extend(&tally.numbers);
    }
}

/// What was erased is accounted for as evicted, with that reason.
async fn note_erased(store: &Store, boots: &mut BTreeMap<String, Evidence>) -> Result<(), AuditError> {
    for (boot_id, numbers) in erased_numbers(store).await? {
        let boot = boots.entry(boot_id).or_default();
        let tally = boot.evicted.entry("erased".into()).or_default();
        tally.numbers.extend(&numbers);
        tally.count = tally.numbers.len();
    }
    Ok(())
}

impl Evidence {
    fn state(&self) -> State {
        match &self.account {
            None => State::Unknown,
            Some(account) if account.ended => State::Ended,
            Some(_) if self.is_running => State::Running,
            Some(account) if self.is_here || account.drained => State::Crashed,
            Some(_) => State::Elsewhere,
        }
    }

    fn judge(self, boot_id: String) -> BootAudit {
        let state = self.state();
        let account = self.account.unwrap_or_default();
        let is_known = state != State::Unknown;
        let mut found = self.stored.clone();
        found.extend(&self.in_spool);
        let waiting = found.len() - self.stored.len();

        let mut evicted_numbers = Numbers::default();
        let mut evicted_unnamed = 0;
        let mut evicted = BTreeMap::new();
        for (reason, tally) in &self.evicted {
            evicted_unnamed += tally.count.saturating_sub(tally.numbers.len());
            evicted_numbers.extend(&tally.numbers);
            evicted.insert(reason.clone(), tally.count.max(tally.numbers.len()));
        }
        let mut gone = Numbers::default();
        for (first, last) in evicted_numbers.ranges() {
            gone.extend(&found.missing(first, last));
        }

        let last = [found.last(), gone.last()].into_iter().flatten();
        let calls = last.chain([account.begun]).max().unwrap_or(0);
        let mut accounted = found.clone();
        accounted.extend(&gone);
        for tally in account.dropped.values() {
            accounted.extend(&tally.numbers);
        }
        let named_drops: u64 = account.dropped.values().map(|tally| tally.numbers.len()).sum();
        let (unaccounted, sampled_out) = in_sample_only(accounted.missing(1, calls), &account);
        let dropped_unnamed = account.dropped_count().saturating_sub(named_drops + sampled_out);
        // Calls that nothing explains but being in flight, or lost.
        let gap = unaccounted.len().saturating_sub(dropped_unnamed + evicted_unnamed);
        let found_or_gone = found.len() + gone.len() + evicted_unnamed;
        let lost = account.kept.saturating_sub(found_or_gone);

        let mut faults = Vec::new();
        let mut in_flight = gap.saturating_sub(lost);
        if is_known && state != State::Elsewhere && lost > 0 {
            faults.push(format!(
                "{lost} records were kept, and are neither stored, waiting nor evicted"
            ));
        }
        if state == State::Ended && in_flight > 0 {
            faults.push(format!(
                "{in_flight} calls were begun, and neither kept nor dropped when the boot ended"
            ));
        }
        if !self.stored_again.is_empty() {
            faults.push(format!("stored more than once: {}", self.stored_again));
        }
        if !is_known {
            in_flight = 0;
        }
        let is_open = matches!(state, State::Running | State::Elsewhere) && faults.is_empty();
        let (missing, missing_count) = if is_open || !is_known || gap == 0 {
            (Numbers::default(), 0)
        } else {
            (unaccounted, gap)
        };
        BootAudit {
            boot_id,
            began_at: is_known.then_some(account.began_at),
            state,
            calls: is_known.then_some(calls),
            in_flight,
            kept: account.kept.max(found_or_gone),
            dropped: account
                .dropped
                .iter()
                .map(|(reason, tally)| (reason.clone(), tally.count))
                .collect(),
            stored: self.stored.len(),
            waiting: (state != State::Elsewhere).then_some(waiting),
            evicted,
            missing,
            missing_count,
            mark: is_known.then_some(account.mark),
            faults,
        }
    }
}

/// The numbers that the boot's sample keeps, and how many others there are.
fn in_sample_only(numbers: Numbers, account: &Account) -> (Numbers, u64) {
    if account.sample >= 1.0 || account.boot_id.is_empty() {
        return (numbers, 0);
    }
    let mut kept = Numbers::default();
    for (first, last) in numbers.ranges() {
        for number in (first..=last).filter(|number| in_sample(&account.boot_id, *number, account.sample)) {
            kept.insert(number);
        }
    }
    let out = numbers.len() - kept.len();
    (kept, out)
}

#[cfg(test)]
mod tests;
