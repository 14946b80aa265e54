//! Ingest against a model: crashes, faults of the store, lost and old journals and merged hours in any order; in the end
//! every record is stored exactly once.

use super::*;
use crate::compact::{CompactOptions, compact};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Write(usize),
    Roll,
    Turn(usize),
    /// The collector is killed and started again.
    Crash,
    /// As that, and its journal is gone.
    LoseJournal,
    /// The journal is copied.
    SaveJournal,
    /// As a crash, and the copy is put back.
    OldJournal,
    /// What goes wrong with the store's verbs from now on, by dice of this seed.
    Faults(u64),
    /// Nothing any more.
    Heal,
    /// Closed hours are merged.
    Compact,
    /// The proxy is started again.
    Boot,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1usize..4).prop_map(Op::Write),
        2 => Just(Op::Roll),
        6 => (1usize..6).prop_map(Op::Turn),
        1 => Just(Op::Crash),
        1 => Just(Op::LoseJournal),
        1 => Just(Op::SaveJournal),
        1 => Just(Op::OldJournal),
        2 => any::<u64>().prop_map(Op::Faults),
        1 => Just(Op::Heal),
        1 => Just(Op::Compact),
        1 => Just(Op::Boot),
    ]
}

fn run(ops: &[Op]) -> Stage {
    let mut stage = Stage::new();
    stage.lock_writer();
    let finish = AtomicBool::new(false);
    let mut saved = None;
    let journal = stage.dir().join(POSITION);
    let mut ingest = stage.ingest();
    for op in ops {
        match op {
            Op::Write(count) => (0..*count).for_each(|_| drop(stage.write())),
            Op::Roll => drop(stage.roll()),
            Op::Turn(count) => {
                for _ in 0..*count {
                    let _ = ingest.turn(&finish);
                }
            }
            Op::Crash => {
                drop(ingest);
                ingest = stage.ingest();
            }
            Op::LoseJournal => {
                drop(ingest);
                let _ = std::fs::remove_file(&journal);
                ingest = stage.ingest();
            }
            Op::SaveJournal => saved = std::fs::read(&journal).ok(),
            Op::OldJournal => {
                drop(ingest);
                if let Some(bytes) = &saved {
                    std::fs::write(&journal, bytes).unwrap();
                }
                ingest = stage.ingest();
            }
            Op::Faults(seed) => {
                let mut bits = seed | 1;
                stage.store.plan(move |_, _| {
                    bits ^= bits << 13;
                    bits ^= bits >> 7;
                    bits ^= bits << 17;
                    match bits % 5 {
                        0 => Fault::Before,
                        1 => Fault::After,
                        _ => Fault::None,
                    }
                });
            }
            Op::Heal => stage.store.plan(|_, _| Fault::None),
            Op::Compact => {
                let options = CompactOptions {
                    // Long after the calls of the stage.
                    now: 1_763_800_000_000_000,
                    closed_after: Duration::from_secs(3600),
                    bytes: 1 << 30,
                    cut_off_after: Duration::ZERO,
                };
                let _ = stage.runtime.block_on(compact(&stage.store.store(), &options));
            }
            Op::Boot => {
                stage.segment = None;
            }
        }
    }
    drop(ingest);
    stage
}

proptest! {
    #[test]
    fn every_record_is_stored_exactly_once(ops in proptest::collection::vec(op(), 1..60)) {
        let mut stage = run(&ops);
        stage.store.plan(|_, _| Fault::None);
        stage.writer_lock = None;
        let metrics = stage.collect();
        let expected: BTreeMap<i64, usize> = (1..=stage.account.begun as i64).map(|number| (number, 1)).collect();
        prop_assert_eq!(stage.stored(), expected);
        prop_assert_eq!(metrics.recovered.get(), metrics.stored.get() as i64);
        prop_assert_eq!(metrics.evicted.with_label_values(&["corrupt"]).get(), 0);
    }
}
