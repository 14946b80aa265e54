//! The spool against a model: whatever happens in whatever order, what was acknowledged survives the process, what was
//! synced survives power loss, nothing comes back changed or from nowhere, and everything is counted.

use super::model_disk::ModelDisk;
use super::*;
use crate::spool::{Writer, open_parts};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use understudy_call::account::Account;

const DIR: &str = "/spool";

/// A call: its boot and its number.
type Id = (String, u64);

#[derive(Clone, Debug)]
enum Op {
    /// So many calls of this length end at once.
    Write(usize, usize),
    /// The fsyncing thread takes its turn.
    Flush,
    /// The kernel writes some of it down unasked.
    Writeback(u64),
    /// The process is killed and started again.
    Crash,
    /// The machine loses power and starts again.
    PowerLoss(u64),
    /// The process ends as it should and is started again.
    Restart,
    /// A call is not kept, by config.
    Drop,
    /// The disk has so much room left; `None` = enough.
    Room(Option<u64>),
    /// Writes fail, or no longer.
    AppendFails(bool),
    /// Fsyncs fail, or no longer.
    SyncFails(bool),
    /// Writes are cut short.
    Short(Option<usize>),
    /// The collector has stored the oldest segment.
    Store,
    /// Time passes: after a failure writing is tried again.
    Recover,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1usize..5, 0usize..600).prop_map(|(count, length)| Op::Write(count, length)),
        4 => Just(Op::Flush),
        2 => any::<u64>().prop_map(Op::Writeback),
        1 => Just(Op::Crash),
        1 => any::<u64>().prop_map(Op::PowerLoss),
        1 => Just(Op::Restart),
        1 => Just(Op::Drop),
        1 => proptest::option::of(0u64..2000).prop_map(Op::Room),
        1 => any::<bool>().prop_map(Op::AppendFails),
        1 => any::<bool>().prop_map(Op::SyncFails),
        1 => proptest::option::of(1usize..50).prop_map(Op::Short),
        1 => Just(Op::Store),
        1 => Just(Op::Recover),
    ]
}

/// A small stream of numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

struct Model {
    disk: ModelDisk,
    key: Key,
    config: SpoolConfig,
    metrics: Metrics,
    running: Option<(Box<dyn Send + Sync>, Writer, Syncer)>,
    /// What each call's request was.
    bodies: BTreeMap<Id, String>,
    acknowledged: BTreeSet<Id>,
    /// Claimed to survive power loss.
    synced: BTreeSet<Id>,
    stored: BTreeSet<Id>,
    evicted: BTreeSet<Id>,
    /// What the account of the boot that runs has said of them.
    noted: BTreeSet<Id>,
    /// Dropped by the boot that runs.
    dropped: BTreeSet<u64>,
    begun: u64,
    boot_id: String,
    lost_power: bool,
}

impl Model {
    fn start(config: SpoolConfig) -> Model {
        let mut model = Model {
            disk: ModelDisk::default(),
            key: Key::new([3; 32]),
            config,
            metrics: metrics(),
            running: None,
            bodies: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            synced: BTreeSet::new(),
            stored: BTreeSet::new(),
            evicted: BTreeSet::new(),
            noted: BTreeSet::new(),
            dropped: BTreeSet::new(),
            begun: 0,
            boot_id: String::new(),
            lost_power: false,
        };
        model.open();
        model
    }

    fn open(&mut self) {
        self.metrics = metrics();
        self.dropped.clear();
        self.noted.clear();
        self.begun = 0;
        let disk = Arc::new(self.disk.clone());
        let parts = open_parts(disk, self.config.clone(), self.key.clone(), self.metrics.clone());
        self.running = Some(parts.expect("a spool that was left anyhow opens again"));
        self.boot_id = self.shared().ledger.boot_id().to_owned();
    }

    fn shared(&self) -> Arc<Shared> {
        self.running.as_ref().unwrap().1.shared.clone()
    }

    fn apply(&mut self, op: &Op) {
        let shared = self.shared();
        let (_, writer, _) = self.running.as_mut().unwrap();
        match op {
            Op::Write(count, length) => {
                let mut entries = Vec::new();
                let mut waits = Vec::new();
                for _ in 0..*count {
                    let number = shared.ledger.begin();
                    self.begun = number;
                    let body = format!("{number}").repeat(1 + length);
                    let mut entry = entry(number, &body);
                    entry.head.boot_id = shared.ledger.boot_id().to_owned();
                    self.bodies.insert((entry.head.boot_id.clone(), number), body);
                    let (sender, receiver) = oneshot::channel();
                    entry.written = Some(sender);
                    self.metrics.in_flight.inc();
                    entries.push(entry);
                    waits.push((number, receiver));
                }
                writer.write(entries);
                for (number, mut wait) in waits {
                    match wait.try_recv() {
                        Ok(()) => {
                            self.acknowledged.insert((shared.ledger.boot_id().to_owned(), number));
                        }
                        Err(_) => {
                            self.dropped.insert(number);
                        }
                    }
                }
            }
            Op::Flush => self.flush(false),
            Op::Writeback(seed) => {
                let mut dice = Dice(seed | 1);
                self.disk.write_back(|limit| dice.below(limit));
            }
            Op::Crash => {
                self.note_evicted();
                self.disk.kill();
                self.end();
                self.check_account();
                self.open();
            }
            Op::PowerLoss(seed) => {
                self.lost_power = true;
                self.note_evicted();
                let mut dice = Dice(seed | 1);
                self.disk.lose_power(|limit| dice.below(limit));
                self.end();
                // What was not synced may be gone: what is there is what there is.
                let there = self.read();
                self.acknowledged
                    .retain(|id| there.contains_key(id) || self.synced.contains(id));
                self.open();
            }
            Op::Restart => {
                writer.close_segment();
                self.flush(true);
                self.end();
                self.check_account();
                self.open();
            }
            Op::Drop => {
                let number = shared.ledger.begin();
                self.begun = number;
                shared.ledger.dropped("excluded", number);
                self.metrics.dropped.with_label_values(&["excluded"]).inc();
                self.dropped.insert(number);
            }
            Op::Room(room) => self.disk.set(|faults| faults.room = *room),
            Op::AppendFails(fails) => self.disk.set(|faults| faults.append = *fails),
            Op::SyncFails(fails) => self.disk.set(|faults| faults.sync = *fails),
            Op::Short(short) => self.disk.set(|faults| faults.short = *short),
            Op::Store => self.store(),
            Op::Recover => {
                writer.end_rest();
                writer.recover();
            }
        }
    }

    /// The spool's objects are gone with their process.
    fn end(&mut self) {
        self.running = None;
    }

    /// An fsync, and what it claims.
    fn flush(&mut self, ended: bool) {
        let tails = lock_of(&self.shared().tails).clone();
        self.note_evicted();
        self.running.as_mut().unwrap().2.turn(ended);
        let works = self.disk.works();
        if works {
            self.noted = evicted(&self.shared().ledger.whole());
        }
        for tail in tails {
            let path = Path::new(DIR).join(&tail.name).with_extension("seg");
            let frames = frames(&self.disk, &path, &self.key);
            let synced = tail.synced.load(Ordering::Relaxed);
            self.synced.extend(
                frames
                    .into_iter()
                    .filter(|(number, ..)| *number < synced)
                    .map(|(_, id, _)| id),
            );
        }
    }

    fn store(&mut self) {
        let segments = self.disk.files(".seg");
        // Not the one that is written.
        if let [oldest, .., _] = &segments[..] {
            let frames = frames(&self.disk, oldest, &self.key);
            self.stored.extend(frames.into_iter().map(|(_, id, _)| id));
            self.disk.remove(oldest).unwrap();
        }
    }

    /// All calls in the spool, with how often each is there.
    fn read(&self) -> BTreeMap<Id, usize> {
        let mut there = BTreeMap::new();
        for path in self.disk.files(".seg") {
            for (_, id, body) in frames(&self.disk, &path, &self.key) {
                assert_eq!(
                    self.bodies.get(&id),
                    Some(&body),
                    "{id:?} came back changed or from nowhere"
                );
                *there.entry(id).or_insert(0) += 1;
            }
        }
        there
    }

    /// Notes what the running boot has evicted.
    fn note_evicted(&mut self) {
        self.evicted.extend(evicted(&self.shared().ledger.whole()));
    }

    /// The account of a boot that ended, anyhow: a number that it bounds, and no number that was dropped and is not.
    fn check_account(&self) {
        let path = Path::new(DIR).join(&self.boot_id).with_extension("account");
        let lines = self.disk.read(&path).unwrap_or_default();
        let Some(account) = Account::from_lines(&lines) else {
            return;
        };
        let noted = evicted(&account);
        assert!(
            self.noted.iter().all(|id| noted.contains(id)),
            "an eviction is forgotten"
        );
        assert!(
            account.begun <= self.begun,
            "{} calls begun, of {}",
            account.begun,
            self.begun
        );
        for (first, last) in account
            .dropped
            .values()
            .flat_map(|tally| tally.numbers.ranges().collect::<Vec<_>>())
        {
            assert!(
                (first..=last).all(|number| self.dropped.contains(&number)),
                "{first} to {last} were not dropped"
            );
        }
        if account.ended {
            assert_eq!(account.begun, self.begun);
            assert_eq!(account.dropped_count(), self.dropped.len() as u64);
            assert_eq!(account.kept + account.dropped_count(), account.begun);
        }
    }

    fn check(&mut self) {
        self.note_evicted();
        let there = self.read();
        assert!(there.values().all(|times| *times == 1), "a call is there twice");
        for id in &self.acknowledged {
            let is_found = there.contains_key(id) || self.stored.contains(id) || self.evicted.contains(id);
            assert!(
                is_found,
                "{id:?} was acknowledged and is lost; synced: {}",
                self.synced.contains(id)
            );
        }
        let total: u64 = self
            .disk
            .files(".seg")
            .iter()
            .map(|path| self.disk.read(path).unwrap().len() as u64)
            .sum();
        // Power loss may bring back files that were deleted.
        assert!(
            total <= self.config.max || self.lost_power,
            "{total} bytes in a spool of {}",
            self.config.max
        );
        let dropped: u64 = ["excluded", "disk_full", "spool_error", "spool_full"]
            .iter()
            .map(|reason| self.metrics.dropped.with_label_values(&[reason]).get())
            .sum();
        assert_eq!(dropped, self.dropped.len() as u64, "calls dropped");
        assert_eq!(self.metrics.kept.get() + dropped, self.begun, "calls = kept + dropped");
        assert_eq!(self.metrics.in_flight.get(), 0);
        assert!(self.metrics.synced.get() <= self.metrics.kept.get());
    }
}

/// What an account says was evicted.
fn evicted(account: &Account) -> BTreeSet<Id> {
    let mut evicted = BTreeSet::new();
    for (boot, reasons) in &account.evicted {
        for (first, last) in reasons.values().flat_map(|tally| tally.numbers.ranges()) {
            evicted.extend((first..=last).map(|number| (boot.clone(), number)));
        }
    }
    evicted
}

/// The frames of a segment in the model: number, call, request.
fn frames(disk: &ModelDisk, path: &Path, key: &Key) -> Vec<(u64, Id, String)> {
    let bytes = disk.read(path).unwrap_or_default();
    let Ok(reader) = SegmentReader::open(&bytes, key) else {
        return Vec::new();
    };
    Walk::new(&reader, &bytes[HEADER_LENGTH..], HEADER_LENGTH as u64, true)
        .filter_map(|found| match found {
            Found::Frame { number, plain } => {
                let call = frame::decode(&plain).unwrap();
                let id = (call.head.boot_id, call.head.sequence);
                Some((number, id, String::from_utf8(call.request).unwrap()))
            }
            Found::Damage => None,
        })
        .collect()
}

/// Steps taken by all models.
static STEPS: AtomicU64 = AtomicU64::new(0);

fn run(config: SpoolConfig, ops: &[Op]) {
    let mut model = Model::start(config);
    for op in ops {
        model.apply(op);
        model.check();
    }
    let before = STEPS.fetch_add(ops.len() as u64, Ordering::Relaxed);
    let after = before + ops.len() as u64;
    if before / 10_000 != after / 10_000 {
        eprintln!("{after} steps");
    }
}

fn model_config(max: u64, when_full: WhenFull) -> SpoolConfig {
    SpoolConfig {
        max,
        when_full,
        ..config(Path::new(DIR))
    }
}

// About 10,000 steps in a test run; `PROPTEST_CASES=20000` makes it a million and more.
proptest! {
    #[test]
    fn nothing_acknowledged_is_lost(ops in proptest::collection::vec(op(), 1..80)) {
        run(model_config(1 << 30, WhenFull::DropOldest), &ops);
    }

    #[test]
    fn a_full_spool_counts_what_gives_way(ops in proptest::collection::vec(op(), 1..80), oldest: bool) {
        run(model_config(20_000, if oldest { WhenFull::DropOldest } else { WhenFull::DropNew }), &ops);
    }
}

/// What Vector's disk buffer fails (its pull request 25639): what was written and not fsynced survives the process.
#[test]
fn write_crash_flush_loses_nothing() {
    run(
        model_config(1 << 30, WhenFull::DropOldest),
        &[Op::Write(3, 100), Op::Crash, Op::Flush, Op::Write(1, 1), Op::Crash],
    );
}

#[test]
fn a_failed_fsync_is_never_trusted_again() {
    let mut model = Model::start(model_config(1 << 30, WhenFull::DropOldest));
    for op in [
        Op::Write(2, 10),
        Op::SyncFails(true),
        Op::Flush,
        Op::SyncFails(false),
        Op::Write(2, 10),
        Op::Flush,
    ] {
        model.apply(&op);
        model.check();
    }
    assert_eq!((model.metrics.kept.get(), model.metrics.synced.get()), (4, 2));
    assert_eq!(model.metrics.sync_errors.get(), 1);
    model.apply(&Op::PowerLoss(5));
    model.check();
}
