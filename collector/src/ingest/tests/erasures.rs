//! What is erased while it waits in a spool goes from there at once, whatever the time that rows are kept for.

use super::*;
use crate::erase::{Aged, Wanted, erase, wait_for_spools};
use understudy_call::spool::{END_SEGMENT, READERS};

/// Between the two hours that a stage's calls are of: those of even numbers are older.
const BETWEEN: i64 = 1_763_700_000_000_000 + 1_800_000_000;

/// Erases the calls of even numbers; the erasure's id.
fn erase_even(stage: &Stage) -> String {
    let wanted = Wanted {
        aged: vec![Aged {
            before: BETWEEN,
            ..Aged::default()
        }],
        ..Wanted::default()
    };
    let now = jiff::Timestamp::now().as_microsecond();
    let erased = stage.runtime.block_on(erase(&stage.store.store(), &wanted, now, false));
    erased.unwrap().unwrap().0.erasure
}

impl Stage {
    /// The segment that is written to.
    fn open(&self) -> String {
        self.segment.as_ref().unwrap().0.clone()
    }
}

/// What is said of the spools of an erasure, without waiting.
fn spools(stage: &Stage, erasure: &str) -> crate::erase::Spools {
    let store = stage.store.store();
    let told = wait_for_spools(&store, erasure, Duration::ZERO);
    stage.runtime.block_on(told).unwrap()
}

/// Turns until there is nothing to do, with the store asked for erasures at once.
fn turn(ingest: &mut Ingest) {
    ingest.looked = None;
    while ingest.turn(&AtomicBool::new(false)).unwrap() {}
}

fn asked(stage: &Stage) -> Option<String> {
    std::fs::read_to_string(stage.dir().join(END_SEGMENT)).ok()
}

#[test]
fn what_waits_is_stored_or_left_out_at_once_and_its_segment_goes() {
    let mut stage = Stage::new();
    stage.lock_writer();
    (0..6).for_each(|_| drop(stage.write()));
    let mut ingest = stage.ingest_with(Duration::from_secs(3600));
    turn(&mut ingest);
    assert!(stage.stored().is_empty(), "nothing is due");
    let erasure = erase_even(&stage);
    let open = stage.open();
    turn(&mut ingest);
    assert_eq!(asked(&stage).as_ref(), Some(&open));
    // The writer has not done so yet: nothing is promised.
    let told = spools(&stage, &erasure);
    assert!(
        told.drained.is_empty() && told.not_reached[0].contains("has not answered"),
        "{told:?}"
    );
    stage.roll();
    turn(&mut ingest);
    assert!(!stage.path(&open).exists(), "what is erased still lies there");
    assert_eq!(stage.stored(), [1, 3, 5].map(|number| (number, 1)).into());
    assert_eq!(ingest.metrics.evicted.with_label_values(&["erased"]).get(), 3);
    let told = spools(&stage, &erasure);
    assert!(told.not_reached.is_empty(), "{told:?}");
    let [drained] = told.drained.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!((drained.left_out, drained.through.as_ref()), (3, Some(&open)));

    // A call that was under way when it was erased: its segment does not wait either.
    std::fs::remove_file(stage.dir().join(END_SEGMENT)).unwrap();
    stage.write();
    turn(&mut ingest);
    assert_eq!(asked(&stage), None, "an odd one is nothing to hurry for");
    stage.write();
    turn(&mut ingest);
    assert!(asked(&stage).is_some());
    stage.roll();
    turn(&mut ingest);
    assert_eq!(stage.stored(), [1, 3, 5, 7].map(|number| (number, 1)).into());
    assert_eq!(stage.segments(), 1);
}

#[test]
fn what_was_stored_before_does_not_stay_in_the_open_segment() {
    let mut stage = Stage::new();
    stage.lock_writer();
    (0..4).for_each(|_| drop(stage.write()));
    let mut ingest = stage.ingest();
    turn(&mut ingest);
    assert_eq!(stage.stored().len(), 4);
    let erasure = erase_even(&stage);
    let open = stage.open();
    turn(&mut ingest);
    stage.roll();
    turn(&mut ingest);
    assert!(!stage.path(&open).exists());
    assert_eq!(spools(&stage, &erasure).drained.len(), 1);
    assert_eq!(stage.stored(), [1, 3].map(|number| (number, 1)).into());
}

#[test]
fn a_crash_or_a_store_that_is_down_only_puts_off_the_word() {
    let mut stage = Stage::new();
    stage.lock_writer();
    (0..4).for_each(|_| drop(stage.write()));
    let mut ingest = stage.ingest_with(Duration::from_secs(3600));
    turn(&mut ingest);
    let erasure = erase_even(&stage);
    turn(&mut ingest);
    stage.roll();
    stage
        .store
        .plan(|verb, _| if verb == "put" { Fault::Before } else { Fault::None });
    for _ in 0..3 {
        let _ = ingest.turn(&AtomicBool::new(false));
    }
    stage.store.plan(|_, _| Fault::None);
    assert!(
        spools(&stage, &erasure).drained.is_empty(),
        "nothing is stored, and nothing promised"
    );
    drop(ingest);
    let mut ingest = stage.ingest_with(Duration::from_secs(3600));
    turn(&mut ingest);
    stage.roll();
    turn(&mut ingest);
    let told = spools(&stage, &erasure);
    assert_eq!(told.drained.len(), 1, "{told:?}");
    assert_eq!(stage.stored(), [1, 3].map(|number| (number, 1)).into());
    assert_eq!(ingest.metrics.evicted.with_label_values(&["corrupt"]).get(), 0);
}

#[test]
fn what_can_not_be_drained_is_named() {
    let mut stage = Stage::new();
    let id = Uuid::from_u128(1);
    let (_, header) = SegmentWriter::create(*id.as_bytes(), &Key::new([9; 32])).unwrap();
    stage.append(&id.simple().to_string(), &header);
    stage.write();
    let mirror = stage.dir().join(READERS).join("mirror");
    std::fs::create_dir_all(&mirror).unwrap();
    let open = stage.open();
    std::fs::hard_link(stage.path(&open), mirror.join(format!("{open}.seg"))).unwrap();
    let erasure = erase_even(&stage);
    let mut ingest = stage.ingest_with(Duration::from_secs(3600));
    turn(&mut ingest);
    assert!(
        spools(&stage, &erasure).drained.is_empty(),
        "the other reader is waited for"
    );
    std::fs::remove_file(mirror.join(format!("{open}.seg"))).unwrap();
    turn(&mut ingest);
    let told = spools(&stage, &erasure);
    let words = told.not_reached.join("\n");
    assert!(
        words.contains("1 segments can't be read") && words.contains("`mirror`"),
        "{words}"
    );
}

#[test]
fn a_collector_is_known_until_it_ends_with_an_empty_spool() {
    let mut stage = Stage::new();
    stage.lock_writer();
    stage.write();
    let known = |stage: &Stage| {
        let store = stage.store.store();
        stage.runtime.block_on(crate::erase::collectors(&store)).unwrap()
    };
    stage.collect();
    let [first] = known(&stage).try_into().unwrap();
    assert!(first.ended, "{first:?}");
    let erasure = erase_even(&stage);
    let words = spools(&stage, &erasure).not_reached.join("\n");
    assert!(
        words.contains("was last heard of at") && words.contains(&first.spool),
        "{words}"
    );
    let mut ingest = stage.ingest();
    turn(&mut ingest);
    let [again] = known(&stage).try_into().unwrap();
    assert_eq!(
        (again.id, again.ended),
        (first.id, false),
        "its id stays with the folder"
    );
    drop(ingest);
    stage.writer_lock = None;
    stage.collect();
    assert_eq!(known(&stage), []);
}
