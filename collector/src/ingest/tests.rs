//! Ingest over spools that are damaged, copied or half stored, and stores that fail: every record once, or counted.

mod erasures;
mod model;
mod mutations;

use super::*;
use crate::mask::{Mask, MaskConfig, Rules};
use crate::metrics::REASONS;
use crate::scan::{CallFilter, calls};
use crate::store::StoreErrorKind;
use crate::store::faulty::{Fault, Faulty};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use understudy_call::account::{Account, Written};
use understudy_call::call::Api;
use understudy_call::frame::{self, FrameHead};
use understudy_call::keys::Origins;
use understudy_call::price::PriceTable;
use understudy_call::segment::{HEADER_LENGTH, SegmentWriter};
use understudy_call::spool::{POSITION, WRITER_LOCK};
use uuid::Uuid;

fn key() -> Key {
    Key::new([5; 32])
}

fn row_maker() -> RowMaker {
    let mask = MaskConfig {
        rules: Rules::None,
        ..MaskConfig::default()
    };
    RowMaker {
        mask: Arc::new(Mask::new(&mask, &[3; 32]).unwrap()),
        prices: Arc::new(PriceTable::builtin()),
        store_key: Key::new([4; 32]),
        origins: Arc::new(Origins::new(&Key::new([5; 32]))),
        book: None,
    }
}

/// A spool folder as a proxy writes it, a store, and a collector between them.
struct Stage {
    folder: TempDir,
    store: Faulty,
    runtime: Runtime,
    rows: RowMaker,
    /// The one process that writes, as long as it is held.
    writer_lock: Option<File>,
    account: Account,
    segment: Option<(String, SegmentWriter)>,
    last_id: u128,
}

impl Stage {
    fn new() -> Stage {
        // In memory where that can be had: the journal fsyncs.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        Stage {
            folder: folder.unwrap(),
            store: Faulty::new(),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            rows: row_maker(),
            writer_lock: None,
            account: Account {
                boot_id: "b1".into(),
                sample: 1.0,
                ..Account::default()
            },
            segment: None,
            last_id: 0,
        }
    }

    fn dir(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self, segment: &str) -> PathBuf {
        self.dir().join(format!("{segment}.seg"))
    }

    /// A process holds the writer's lock.
    fn lock_writer(&mut self) {
        let file = File::create(self.dir().join(WRITER_LOCK)).unwrap();
        file.try_lock().unwrap();
        self.writer_lock = Some(file);
    }

    fn append(&self, name: &str, bytes: &[u8]) {
        use std::io::Write;
        let mut file = File::options().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(bytes).unwrap();
    }

    /// Begins a segment; its name.
    fn roll(&mut self) -> String {
        let mut id = Uuid::now_v7().as_u128();
        if id <= self.last_id {
            id = self.last_id + (1 << 80);
        }
        self.last_id = id;
        let id = Uuid::from_u128(id);
        let name = id.simple().to_string();
        let (writer, header) = SegmentWriter::create(*id.as_bytes(), &key()).unwrap();
        self.append(&name, &header);
        self.account
            .segments
            .insert(name.clone(), Written::with_header(&header));
        self.segment = Some((name.clone(), writer));
        name
    }

    /// Writes a call to the current segment; its frame's bytes.
    fn write(&mut self) -> Vec<u8> {
        if self.segment.is_none() {
            self.roll();
        }
        self.account.begun += 1;
        self.account.kept += 1;
        let sequence = self.account.begun;
        let (name, writer) = self.segment.as_mut().unwrap();
        let head = FrameHead {
            call_id: Uuid::now_v7().to_string(),
            boot_id: "b1".into(),
            sequence,
            // Of two hours, so that a batch is of two partitions.
            started_at: 1_763_700_000_000_000 + (sequence as i64 % 2) * 3_600_000_000,
            api: Some(Api::OpenaiChat),
            status: Some(200),
            ..FrameHead::default()
        };
        let mut bytes = Vec::new();
        let request = format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"{sequence}\"}}]}}");
        writer
            .seal::<understudy_call::segment::SegmentError>(&mut bytes, |out| {
                frame::encode(out, &head, [request.as_bytes()], []).unwrap();
                Ok(())
            })
            .unwrap();
        let name = name.clone();
        self.account.segments.get_mut(&name).unwrap().frames += 1;
        self.append(&name, &bytes);
        bytes
    }

    fn write_account(&self) {
        std::fs::write(self.dir().join("b1.account"), self.account.to_line()).unwrap();
    }

    /// A collector that flushes at once.
    fn ingest(&self) -> Ingest {
        self.ingest_with(Duration::ZERO)
    }

    fn ingest_with(&self, flush_after: Duration) -> Ingest {
        let config = IngestConfig {
            reader: None,
            spool_dir: self.dir().to_owned(),
            flush_after,
            flush_bytes: 64 << 20,
            own_writer: false,
        };
        let metrics = Metrics::register(&prometheus::Registry::new(), None).unwrap();
        let handle = self.runtime.handle().clone();
        Ingest::open(
            config,
            vec![key()],
            self.store.store(),
            self.rows.clone(),
            metrics,
            handle,
        )
        .unwrap()
    }

    /// Runs a collector until all is stored; what it counted.
    fn collect(&self) -> Metrics {
        let ingest = self.ingest();
        let metrics = ingest.metrics.clone();
        ingest.run(&AtomicBool::new(true));
        metrics
    }

    /// How often each call is in the store, by its number.
    fn stored(&self) -> BTreeMap<i64, usize> {
        let rows = self
            .runtime
            .block_on(calls(&self.store.store(), &CallFilter::default()))
            .unwrap();
        let mut stored = BTreeMap::new();
        for row in rows {
            *stored.entry(row.sequence.unwrap()).or_insert(0) += 1;
        }
        stored
    }

    /// Asserts that these calls are stored, each once, and that the accounting holds.
    fn assert_stored(&self, numbers: impl IntoIterator<Item = i64>, lost: u64, metrics: &Metrics) {
        let expected: BTreeMap<i64, usize> = numbers.into_iter().map(|number| (number, 1)).collect();
        assert_eq!(self.stored(), expected);
        assert_eq!(
            metrics.evicted.with_label_values(&["corrupt"]).get(),
            lost,
            "records counted as lost"
        );
        assert_eq!(metrics.waiting.get(), 0);
        assert_eq!(
            metrics.recovered.get() as u64,
            metrics.stored.get() + lost,
            "recovered = stored + evicted"
        );
    }

    fn segments(&self) -> usize {
        segments::names_in(self.dir(), "seg").unwrap().len()
    }
}

#[test]
fn calls_are_stored_once_and_their_segments_go() {
    let mut stage = Stage::new();
    for _ in 0..3 {
        stage.roll();
        (0..5).for_each(|_| drop(stage.write()));
    }
    let metrics = stage.collect();
    stage.assert_stored(1..=15, 0, &metrics);
    assert_eq!(
        (stage.segments(), metrics.stored.get(), metrics.recovered.get()),
        (0, 15, 15)
    );
    let again = stage.collect();
    stage.assert_stored(1..=15, 0, &again);
}

#[test]
fn damaged_frames_are_skipped_and_counted_by_their_numbers() {
    let mut stage = Stage::new();
    let name = stage.roll();
    let frames: Vec<Vec<u8>> = (0..6).map(|_| stage.write()).collect();
    let mut bytes = std::fs::read(stage.path(&name)).unwrap();
    // Frames 2 and 3 are zeroed: one stretch, two records.
    let from = HEADER_LENGTH + frames[0].len() + frames[1].len() + 20;
    bytes[from..from + frames[2].len()].fill(0);
    std::fs::write(stage.path(&name), &bytes).unwrap();
    let metrics = stage.collect();
    stage.assert_stored([1, 2, 5, 6], 2, &metrics);
}

#[test]
fn a_torn_tail_was_never_kept_but_a_lost_one_that_the_account_knows_of_was() {
    let mut stage = Stage::new();
    let name = stage.roll();
    let last = (0..3).map(|_| stage.write()).last().unwrap();
    let bytes = std::fs::read(stage.path(&name)).unwrap();
    std::fs::write(stage.path(&name), &bytes[..bytes.len() - last.len() / 2]).unwrap();
    let metrics = stage.collect();
    stage.assert_stored([1, 2], 0, &metrics);

    let mut stage = Stage::new();
    let name = stage.roll();
    let last = (0..3).map(|_| stage.write()).last().unwrap();
    stage.write_account();
    let bytes = std::fs::read(stage.path(&name)).unwrap();
    std::fs::write(stage.path(&name), &bytes[..bytes.len() - last.len()]).unwrap();
    let metrics = stage.collect();
    stage.assert_stored([1, 2], 1, &metrics);
}

#[test]
fn a_damaged_header_is_mended_by_its_copy_and_costs_its_records_without_one() {
    for has_copy in [true, false] {
        let mut stage = Stage::new();
        let name = stage.roll();
        (0..3).for_each(|_| drop(stage.write()));
        stage.roll();
        stage.write();
        if has_copy {
            stage.write_account();
        }
        let mut bytes = std::fs::read(stage.path(&name)).unwrap();
        bytes[50] ^= 1;
        std::fs::write(stage.path(&name), &bytes).unwrap();
        let metrics = stage.collect();
        if has_copy {
            stage.assert_stored(1..=4, 0, &metrics);
        } else {
            stage.assert_stored([4], 3, &metrics);
        }
    }
}

#[test]
fn a_segment_of_another_key_is_left_and_holds_up_nothing() {
    let mut stage = Stage::new();
    let id = Uuid::from_u128(1);
    let (_, header) = SegmentWriter::create(*id.as_bytes(), &Key::new([9; 32])).unwrap();
    stage.append(&id.simple().to_string(), &header);
    stage.write();
    let metrics = stage.collect();
    stage.assert_stored([1], 0, &metrics);
    assert!(stage.path(&id.simple().to_string()).exists());
}

#[test]
fn a_copy_a_returned_and_a_renamed_segment_are_stored_once() {
    let mut stage = Stage::new();
    let name = stage.roll();
    (0..3).for_each(|_| drop(stage.write()));
    let copy = Uuid::now_v7().simple().to_string();
    std::fs::copy(stage.path(&name), stage.path(&copy)).unwrap();
    let saved = std::fs::read(stage.path(&name)).unwrap();
    let metrics = stage.collect();
    stage.assert_stored(1..=3, 0, &metrics);

    std::fs::write(stage.path(&name), &saved).unwrap();
    std::fs::write(stage.path(&copy), &saved).unwrap();
    let metrics = stage.collect();
    stage.assert_stored(1..=3, 0, &metrics);
    assert_eq!(stage.segments(), 0);

    let renamed = stage.roll();
    (0..2).for_each(|_| drop(stage.write()));
    let odd = Uuid::now_v7().simple().to_string();
    std::fs::rename(stage.path(&renamed), stage.path(&odd)).unwrap();
    let metrics = stage.collect();
    stage.assert_stored(1..=5, 0, &metrics);
}

#[test]
fn a_journal_that_is_lost_or_old_doubles_nothing() {
    let mut stage = Stage::new();
    stage.lock_writer();
    (0..4).for_each(|_| drop(stage.write()));
    let finish = AtomicBool::new(false);
    let mut ingest = stage.ingest();
    while ingest.turn(&finish).unwrap() {}
    let old = std::fs::read(stage.dir().join(POSITION)).unwrap();
    (0..4).for_each(|_| drop(stage.write()));
    while ingest.turn(&finish).unwrap() {}
    assert_eq!(stage.stored().len(), 8);
    drop(ingest);
    for journal in [None, Some(old), Some(b"{".to_vec())] {
        match journal {
            Some(bytes) => std::fs::write(stage.dir().join(POSITION), bytes).unwrap(),
            None => std::fs::remove_file(stage.dir().join(POSITION)).unwrap(),
        }
        let mut ingest = stage.ingest();
        while ingest.turn(&finish).unwrap() {}
        assert_eq!(stage.stored(), (1..=8).map(|number| (number, 1)).collect());
    }
}

#[test]
fn a_journal_that_cannot_be_written_doubles_nothing() {
    let mut stage = Stage::new();
    stage.lock_writer();
    let mut ingest = stage.ingest();
    let finish = AtomicBool::new(false);
    stage.write();
    while ingest.turn(&finish).unwrap() {}
    // A folder where the journal's new file would be.
    let in_the_way = stage.dir().join(POSITION).with_extension("json.new");
    for _ in 0..3 {
        std::fs::create_dir(&in_the_way).unwrap();
        for _ in 0..4 {
            stage.write();
            let _ = ingest.turn(&finish);
        }
        // The segment is stored to its end meanwhile, and can't be left.
        stage.roll();
        for _ in 0..4 {
            let _ = ingest.turn(&finish);
        }
        std::fs::remove_dir(&in_the_way).unwrap();
        stage.write();
        while ingest.turn(&finish).unwrap() {}
    }
    stage.writer_lock = None;
    stage.write_account();
    let metrics = ingest.metrics.clone();
    ingest.run(&AtomicBool::new(true));
    assert_eq!(stage.stored(), (1..=16).map(|number| (number, 1)).collect());
    assert_eq!(metrics.stored.get(), 16);
    assert_eq!((metrics.recovered.get(), metrics.waiting.get()), (0, 0));
    assert_eq!(stage.segments(), 0);
}

#[test]
fn an_answer_that_is_lost_and_a_crash_after_it_double_nothing() {
    let mut stage = Stage::new();
    (0..4).for_each(|_| drop(stage.write()));
    let finish = AtomicBool::new(false);
    stage
        .store
        .plan(|verb, _| if verb == "put" { Fault::After } else { Fault::None });
    let mut ingest = stage.ingest();
    while ingest.turn(&finish).is_ok_and(|more| more) {}
    assert!(ingest.journal.position.pending.is_some(), "the put is not journalled");
    drop(ingest);
    stage.store.plan(|_, _| Fault::None);
    let metrics = stage.collect();
    stage.assert_stored(1..=4, 0, &metrics);
}

#[test]
fn a_store_that_hangs_keeps_nobody_from_ending_and_nothing_is_lost() {
    let mut stage = Stage::new();
    (0..4).for_each(|_| drop(stage.write()));
    stage.store.plan(|_, _| Fault::Hang);
    let began = Instant::now();
    stage.collect();
    assert!(began.elapsed() < 3 * FINISH_TRIES, "{:?}", began.elapsed());
    stage.store.plan(|_, _| Fault::None);
    let metrics = stage.collect();
    stage.assert_stored(1..=4, 0, &metrics);
}

#[test]
fn a_collector_that_ends_before_the_writer_leaves_the_open_segment() {
    let mut stage = Stage::new();
    stage.lock_writer();
    (0..4).for_each(|_| drop(stage.write()));
    stage.collect();
    assert_eq!(stage.segments(), 1, "a segment that is written to is deleted");
    (0..4).for_each(|_| drop(stage.write()));
    stage.writer_lock = None;
    let metrics = stage.collect();
    stage.assert_stored(1..=8, 0, &metrics);
}

#[test]
fn a_second_collector_waits() {
    let mut stage = Stage::new();
    (0..4).for_each(|_| drop(stage.write()));
    let finish = AtomicBool::new(false);
    let mut first = stage.ingest_with(Duration::from_secs(60));
    assert!(first.turn(&finish).unwrap());
    let mut second = stage.ingest();
    assert!(!second.turn(&finish).unwrap());
    drop(first);
    while second.turn(&finish).unwrap() {}
    assert_eq!(stage.stored().len(), 4);
}

#[test]
fn a_lock_that_can_not_be_had_is_an_error_and_not_another_collector() {
    let mut stage = Stage::new();
    stage.write();
    std::fs::create_dir(stage.dir().join(COLLECTOR_LOCK)).unwrap();
    let error = stage.ingest().turn(&AtomicBool::new(false)).unwrap_err();
    assert_eq!(error.reason(), "spool");
    assert!(error.to_string().contains(COLLECTOR_LOCK), "{error}");
}

#[test]
fn collectors_of_several_spools_share_a_store() {
    let mut stages = [Stage::new(), Stage::new(), Stage::new()];
    let store = stages[0].store.clone();
    for stage in &mut stages {
        stage.store = store.clone();
        // Same numbers, same hours, within the same millisecond.
        for _ in 0..3 {
            stage.roll();
            (0..4).for_each(|_| drop(stage.write()));
        }
    }
    std::thread::scope(|scope| {
        for stage in &stages {
            scope.spawn(|| stage.collect());
        }
    });
    let expected: BTreeMap<i64, usize> = (1..=12).map(|number| (number, stages.len())).collect();
    assert_eq!(stages[0].stored(), expected);
    for stage in &stages {
        stage.collect();
    }
    assert_eq!(stages[0].stored(), expected);
}

#[test]
fn what_waits_is_known_while_the_store_hangs() {
    let mut stage = Stage::new();
    stage.lock_writer();
    (0..4).for_each(|_| drop(stage.write()));
    stage
        .store
        .plan(|verb, _| if verb == "put" { Fault::Hang } else { Fault::None });
    let ingest = stage.ingest();
    let metrics = ingest.metrics.clone();
    let finish = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| ingest.run(&finish));
        let wait_for = |wanted: i64| {
            let began = Instant::now();
            while metrics.waiting.get() != wanted || metrics.lag.get() == 0.0 {
                assert!(began.elapsed() < FINISH_TRIES, "{} wait", metrics.waiting.get());
                std::thread::sleep(POLL);
            }
        };
        wait_for(4);
        (0..3).for_each(|_| drop(stage.write()));
        wait_for(7);
        finish.store(true, Ordering::Release);
    });
    assert!(metrics.store_errors.with_label_values(&["timeout"]).get() > 0);
}

#[test]
fn every_kind_of_failure_is_counted_by_a_reason_that_is_there() {
    let kinds = [
        StoreErrorKind::NotFound,
        StoreErrorKind::Exists,
        StoreErrorKind::Retryable,
        StoreErrorKind::Timeout,
        StoreErrorKind::Denied,
        StoreErrorKind::Invalid,
        StoreErrorKind::Unsupported,
    ];
    assert!(kinds.iter().all(|kind| REASONS.contains(&kind.as_str())));
}

#[test]
fn what_waits_is_counted_whether_or_not_it_was_read() {
    let mut stage = Stage::new();
    stage.lock_writer();
    for _ in 0..3 {
        stage.roll();
        (0..5).for_each(|_| drop(stage.write()));
    }
    stage
        .store
        .plan(|verb, _| if verb == "put" { Fault::Before } else { Fault::None });
    let finish = AtomicBool::new(false);
    let mut ingest = stage.ingest();
    assert_eq!((ingest.metrics.waiting.get(), ingest.metrics.recovered.get()), (15, 15));
    assert!(ingest.metrics.waiting_bytes.get() > 15 * 60);
    assert!(ingest.metrics.lag.get() >= 0.0);
    for _ in 0..5 {
        let _ = ingest.turn(&finish);
    }
    (0..2).for_each(|_| drop(stage.write()));
    ingest.gauge_now();
    assert_eq!(ingest.metrics.waiting.get(), 17);
    stage.store.plan(|_, _| Fault::None);
    while ingest.turn(&finish).unwrap() {}
    ingest.gauge_now();
    assert_eq!((ingest.metrics.waiting.get(), ingest.metrics.stored.get()), (0, 17));
    assert_eq!(ingest.metrics.waiting_bytes.get(), 0);
    assert_eq!(ingest.metrics.lag.get(), 0.0);
}

#[test]
fn the_account_of_a_boot_that_is_over_is_in_the_store() {
    let mut stage = Stage::new();
    (0..4).for_each(|_| drop(stage.write()));
    stage.account.ended = true;
    stage.write_account();
    stage.collect();
    let stored = stage
        .runtime
        .block_on(stage.store.store().get("accounts/b1.json"))
        .unwrap();
    let stored: Account = serde_json::from_slice(&stored).unwrap();
    assert_eq!((stored.begun, stored.kept, stored.ended), (4, 4, true));
    assert!(!stage.dir().join("b1.account").exists(), "it is told twice");
}
