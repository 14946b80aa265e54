use super::*;
use crate::tee::Budget;
use bytes::Bytes;
use understudy_call::segment::{Frame, HEADER_LENGTH, SegmentReader};

fn config(dir: &Path) -> SpoolConfig {
    SpoolConfig {
        dir: dir.to_owned(),
        max: 4 << 30,
        max_age: Duration::from_secs(3600),
        commit_interval: Duration::from_millis(5),
        when_full: WhenFull::DropOldest,
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
        let mut at = HEADER_LENGTH;
        while at < bytes.len() {
            let Frame::Plain { plain, length } = reader.read_frame(&bytes[at..], at as u64) else {
                panic!("damaged")
            };
            let call = frame::decode(&plain).unwrap();
            calls.push((call.head.sequence, String::from_utf8(call.request).unwrap()));
            at += length;
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
    let metrics = metrics();
    let spool = Spool::open(
        SpoolConfig {
            max: 2500,
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
        max: 500,
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

#[test]
fn a_slow_spool_is_not_waited_for_until_a_write_completes() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(dir.path()), Key::new([3; 32]), metrics()).unwrap();
    spool.is_slow();
    assert!(matches!(spool.submit(entry(1, "x")), Submitted::Slow));
    while spool.slow() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(matches!(spool.submit(entry(2, "x")), Submitted::Waiting(_)));
}
