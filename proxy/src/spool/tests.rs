mod model;
mod model_disk;

use super::*;
use crate::tee::Budget;
use bytes::Bytes;
use model_disk::ModelDisk;
use std::fs;
use understudy_call::account::Account;
use understudy_call::frame;
use understudy_call::segment::{Found, HEADER_LENGTH, SegmentReader, Walk};

fn config(dir: &Path) -> SpoolConfig {
    SpoolConfig {
        dir: dir.to_owned(),
        max: 4 << 30,
        max_age: Duration::from_secs(3600),
        commit_interval: Duration::from_millis(5),
        when_full: WhenFull::DropOldest,
        sample: 1.0,
    }
}

fn metrics() -> Metrics {
    Metrics::register(&prometheus::Registry::new(), "test").unwrap()
}

fn entry(sequence: u64, body: &str) -> Entry {
    let mut request = BodyCopy::new(Budget::new(1 << 20), 1 << 20);
    request.push(&Bytes::copy_from_slice(body.as_bytes()));
    let response = BodyCopy::new(Budget::new(1 << 20), 1 << 20);
    Entry::new(
        FrameHead {
            sequence,
            ..Default::default()
        },
        request,
        response,
    )
}

/// The sequence numbers and requests in all segments, in order.
fn read_back(dir: &Path, key: &Key) -> Vec<(u64, String)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    let mut calls = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path).unwrap();
        let reader = SegmentReader::open(&bytes, key).unwrap();
        for found in Walk::new(&reader, &bytes[HEADER_LENGTH..], HEADER_LENGTH as u64, true) {
            let Found::Frame { plain, .. } = found else {
                panic!("damaged")
            };
            let call = frame::decode(&plain).unwrap();
            calls.push((call.head.sequence, String::from_utf8(call.request).unwrap()));
        }
    }
    calls
}

#[test]
fn entries_are_written_before_the_wait_ends_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let key = Key::new([3; 32]);
    let metrics = metrics();
    let spool = Spool::open(config(dir.path()), key.clone(), metrics.clone()).unwrap();
    metrics.in_flight.set(20);
    for sequence in 0..20 {
        let Submitted::Waiting(written) = spool.submit(entry(sequence, "hello")) else {
            panic!("not waiting")
        };
        written.blocking_recv().unwrap();
        assert_eq!(read_back(dir.path(), &key).len(), sequence as usize + 1);
    }
    spool.close();
    assert_eq!((metrics.kept.get(), metrics.in_flight.get()), (20, 0));
    assert_eq!(read_back(dir.path(), &key)[19], (19, "hello".into()));
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Spool::open(config(dir.path()), Key::new([3; 32]), metrics()).unwrap();
    assert!(matches!(
        Spool::open(config(dir.path()), Key::new([3; 32]), metrics()),
        Err(SpoolError::Locked(_))
    ));
}

#[test]
fn the_oldest_segments_give_way_and_their_frames_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let key = Key::new([3; 32]);
    for sequence in 0..3 {
        let spool = Spool::open(config(dir.path()), key.clone(), metrics()).unwrap();
        spool.submit(entry(sequence, &"x".repeat(1000)));
        spool.close();
    }
    // Room for one of them and the next.
    let sizes = fs::read_dir(dir.path()).unwrap().flatten();
    let longest = sizes
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .max()
        .unwrap();
    let metrics = metrics();
    let spool = Spool::open(
        SpoolConfig {
            max: 2 * longest,
            ..config(dir.path())
        },
        key.clone(),
        metrics.clone(),
    )
    .unwrap();
    spool.submit(entry(9, "new"));
    spool.close();
    let left: Vec<u64> = read_back(dir.path(), &key)
        .into_iter()
        .map(|(sequence, _)| sequence)
        .collect();
    assert_eq!(left, [2, 9]);
    assert_eq!(metrics.evicted.with_label_values(&["spool_full"]).get(), 2);
}

#[test]
fn with_drop_new_a_full_spool_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let key = Key::new([3; 32]);
    let full = SpoolConfig {
        max: 2000,
        when_full: WhenFull::DropNew,
        ..config(dir.path())
    };
    for (sequence, kept) in [(1, 1), (2, 0)] {
        let metrics = metrics();
        let spool = Spool::open(full.clone(), key.clone(), metrics.clone()).unwrap();
        spool.submit(entry(sequence, &"x".repeat(1000)));
        spool.close();
        assert_eq!(metrics.kept.get(), kept);
        assert_eq!(metrics.dropped.with_label_values(&["spool_full"]).get(), 1 - kept);
    }
    assert_eq!(read_back(dir.path(), &key).len(), 1);
}

/// A spool on a model disk.
fn on(disk: &ModelDisk, config: SpoolConfig) -> (Spool, Metrics) {
    let metrics = metrics();
    let spool = Spool::open_on(Arc::new(disk.clone()), config, Key::new([3; 32]), metrics.clone()).unwrap();
    (spool, metrics)
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(10), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_slow_spool_is_not_waited_for_until_a_write_completes() {
    let disk = ModelDisk::default();
    let (spool, metrics) = on(&disk, config(Path::new("/spool")));
    disk.set(|faults| faults.append_hangs = true);
    let Submitted::Waiting(mut first) = spool.submit(entry(1, "x")) else {
        panic!("not waiting")
    };
    std::thread::sleep(Duration::from_millis(20));
    assert!(first.try_recv().is_err(), "a write that hangs is acknowledged");
    spool.is_slow();
    let began = Instant::now();
    for sequence in 2..100 {
        assert!(matches!(spool.submit(entry(sequence, "x")), Submitted::Slow));
    }
    assert!(
        began.elapsed() < Duration::from_millis(100),
        "submitting waits for the disk"
    );
    disk.set(|faults| faults.append_hangs = false);
    eventually("a write completes", || !spool.slow());
    assert!(matches!(spool.submit(entry(100, "x")), Submitted::Waiting(_)));
    spool.close();
    assert_eq!(metrics.kept.get(), 100);
}

#[test]
fn a_writer_that_has_caught_up_is_not_slow_for_good() {
    let disk = ModelDisk::default();
    let (spool, _) = on(&disk, config(Path::new("/spool")));
    // The wait timed out a moment before the write completed.
    spool.is_slow();
    eventually("it is seen that nothing is left to write", || !spool.slow());
}

#[test]
fn an_fsync_that_hangs_holds_up_no_write() {
    let disk = ModelDisk::default();
    let (spool, metrics) = on(&disk, config(Path::new("/spool")));
    disk.set(|faults| faults.sync_hangs = true);
    for sequence in 1..=50 {
        let Submitted::Waiting(written) = spool.submit(entry(sequence, "x")) else {
            panic!("not waiting")
        };
        written.blocking_recv().unwrap();
    }
    assert_eq!((metrics.kept.get(), metrics.synced.get()), (50, 0));
    disk.set(|faults| faults.sync_hangs = false);
    eventually("all is synced", || metrics.synced.get() == 50);
}

#[test]
fn a_disk_that_hangs_does_not_keep_the_process_from_ending() {
    let disk = ModelDisk::default();
    let (spool, _) = on(&disk, config(Path::new("/spool")));
    disk.set(|faults| faults.append_hangs = true);
    spool.submit(entry(1, "x"));
    let began = Instant::now();
    spool.close();
    assert!(began.elapsed() < CLOSE_WAIT + Duration::from_secs(5));
    disk.set(|faults| faults.append_hangs = false);
}

#[test]
fn a_full_disk_sheds_and_counts_and_recovers_without_a_call() {
    let disk = ModelDisk::default();
    let (spool, metrics) = on(&disk, config(Path::new("/spool")));
    disk.set(|faults| faults.room = Some(400));
    for sequence in 1..=1000 {
        if let Submitted::Waiting(written) = spool.submit(entry(sequence, "x")) {
            let _ = written.blocking_recv();
        }
    }
    let dropped = metrics.dropped.with_label_values(&["disk_full"]).get();
    assert_eq!(metrics.kept.get() + dropped, 1000);
    assert!(spool.in_trouble(), "it is not known that the disk is full");
    assert!(disk.files(".seg").len() <= 2, "a full disk is filled with empty files");
    disk.set(|faults| faults.room = None);
    eventually("the disk is tried again", || !spool.in_trouble());
    spool.submit(entry(1001, "x"));
    spool.close();
    assert_eq!(metrics.kept.get() + dropped, 1001);
    let account = disk.files(".account");
    let account = Account::from_lines(&disk.read(&account[0]).unwrap()).unwrap();
    assert_eq!(account.dropped["disk_full"].count, dropped);
    assert_eq!(account.dropped["disk_full"].numbers.len(), dropped);
}

#[test]
fn segments_past_their_age_are_evicted_though_nothing_is_written() {
    let disk = ModelDisk::default();
    let (spool, _) = on(&disk, config(Path::new("/spool")));
    spool.submit(entry(7, "x"));
    spool.close();
    drop(spool);
    let old = disk.files(".seg").remove(0);
    disk.age(&old, Duration::from_secs(3601));
    let (_lock, mut writer, _) = open_parts(
        Arc::new(disk.clone()),
        config(Path::new("/spool")),
        Key::new([3; 32]),
        metrics(),
    )
    .unwrap();
    writer.tidy();
    assert_eq!(disk.files(".seg"), Vec::<PathBuf>::new());
    let account = writer.shared.ledger.whole();
    assert_eq!(account.evicted[""]["age"].numbers.to_string(), "7");
}

#[test]
fn a_clock_that_jumps_evicts_nothing_of_a_running_spool() {
    let disk = ModelDisk::default();
    let parts = open_parts(
        Arc::new(disk.clone()),
        config(Path::new("/spool")),
        Key::new([3; 32]),
        metrics(),
    );
    let (_lock, mut writer, _) = parts.unwrap();
    writer.write(vec![entry(1, "x")]);
    writer.tidy();
    writer.close_segment();
    disk.age(&disk.files(".seg")[0], Duration::from_secs(1 << 32));
    writer.tidy();
    assert_eq!(disk.files(".seg").len(), 1);
}

#[test]
fn names_sort_by_age_though_the_clock_goes_back() {
    let disk = ModelDisk::default();
    let future = "ffffff00-0000-7000-8000-000000000000";
    let future = uuid::Uuid::try_parse(future).unwrap().simple().to_string();
    let there = Path::new("/spool").join(future).with_extension("seg");
    disk.create(&there).unwrap();
    let (spool, _) = on(&disk, config(Path::new("/spool")));
    spool.submit(entry(1, "x"));
    spool.close();
    let names = disk.files(".seg");
    assert_eq!((names.len(), &names[0]), (2, &there), "{names:?}");
}

#[test]
fn a_spool_whose_writer_is_just_ending_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let first = Spool::open(config(dir.path()), Key::new([3; 32]), metrics()).unwrap();
    let ending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(first);
    });
    Spool::open(config(dir.path()), Key::new([3; 32]), metrics()).unwrap();
    ending.join().unwrap();
}

#[test]
fn an_account_that_grows_long_is_written_anew() {
    let disk = ModelDisk::default();
    let parts = open_parts(
        Arc::new(disk.clone()),
        config(Path::new("/spool")),
        Key::new([3; 32]),
        metrics(),
    );
    let (_lock, writer, mut syncer) = parts.unwrap();
    let ledger = writer.shared.ledger.clone();
    let mut longest = 0;
    for number in 1..=12_000 {
        assert_eq!(ledger.begin(), number);
        if number % 3 == 0 {
            ledger.dropped("excluded", number);
        }
        syncer.turn(false);
        longest = longest.max(disk.read(&disk.files(".account")[0]).unwrap().len());
    }
    let bytes = disk.read(&disk.files(".account")[0]).unwrap();
    assert!(bytes.len() < longest, "{} of {longest} bytes", bytes.len());
    let account = Account::from_lines(&bytes).unwrap();
    assert_eq!(
        (account.begun, account.dropped["excluded"].numbers.len()),
        (12_000, 4000)
    );
    assert!(account.mark > 12_000);
}

#[test]
fn further_readers_get_each_segment_and_lose_their_oldest_where_they_do_not_keep_up() {
    let dir = tempfile::tempdir().unwrap();
    let reader = dir.path().join("readers").join("mirror");
    fs::create_dir_all(&reader).unwrap();
    let config = SpoolConfig {
        max: 64 << 10,
        ..config(dir.path())
    };
    let key = Key::new([1; 32]);
    let disk: Arc<dyn Disk> = Arc::new(disk::RealDisk);
    let ledger = Arc::new(ledger::Ledger::new(1.0));
    let mut segments = Segments::open(disk, config, key, ledger, metrics()).unwrap();
    let mut names = Vec::new();
    for _ in 0..12 {
        let id = segments.new_id();
        let (file, name) = segments.create(id, &[7; 100]).unwrap();
        file.append(&[8; 16 << 10]).unwrap();
        // The first reader has stored it.
        segments.discard(&name);
        names.push(format!("{name}.seg"));
    }
    let mut linked: Vec<String> = fs::read_dir(&reader)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    linked.sort();
    assert_eq!(linked, names[names.len() - linked.len()..], "the newest");
    assert!(
        (3..=5).contains(&linked.len()),
        "{} segments of 16 KiB in 64",
        linked.len()
    );
    assert_eq!(
        fs::read(reader.join(&linked[0])).unwrap().len(),
        100 + (16 << 10),
        "as they grow"
    );
}

#[test]
fn a_segment_that_a_collector_asks_for_is_ended_and_no_other() {
    let disk = ModelDisk::default();
    let dir = Path::new("/spool");
    let parts = open_parts(Arc::new(disk.clone()), config(dir), Key::new([3; 32]), metrics());
    let (_lock, mut writer, _) = parts.unwrap();
    let names = || -> Vec<String> {
        let files = disk.files(".seg");
        let name = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        files.iter().map(name).collect()
    };
    let request = dir.join(understudy_call::spool::END_SEGMENT);
    let ask = |name: &str| {
        disk.create(&request).unwrap().append(name.as_bytes()).unwrap();
    };
    writer.write(vec![entry(1, "x")]);
    let first = names().remove(0);
    writer.end_if_asked();
    assert_eq!(names(), [first.as_str()], "nobody asked");
    ask(&first);
    writer.end_if_asked();
    assert_eq!(names().len(), 2, "a newer one tells readers that it is ended");
    assert!(disk.read(&request).is_err(), "what is done is asked for no more");
    writer.write(vec![entry(2, "x")]);
    // A second reader asks for the same; and somebody for what never was.
    for name in [first.as_str(), "no-segment"] {
        ask(name);
        writer.end_if_asked();
        assert_eq!((names().len(), disk.read(&request).is_err()), (2, true), "{name}");
    }
    // One that was ended by its age alone: its readers do not know.
    writer.close_segment();
    let second = names().remove(1);
    ask(&second);
    writer.end_if_asked();
    assert_eq!(names().len(), 3);
    writer.write(vec![entry(3, "x")]);
    assert_eq!(names().len(), 3);
}
