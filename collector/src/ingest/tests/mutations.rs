//! One fault in a spool's folder: only what it touched is lost, and that is counted.

use super::*;
use proptest::prelude::*;
use std::sync::atomic::AtomicU64;

#[derive(Clone, Debug)]
enum Fault {
    Flip(usize, u8),
    Zero(usize, usize),
    Cut(usize, usize),
    End(usize),
    DoubleFrame(usize),
    SwapFrames(usize, usize),
    Delete,
    SwapFiles,
    DoubleFile,
    LoseJournal,
    LoseAccount,
    FlipAccount(usize, u8),
}

fn fault() -> impl Strategy<Value = Fault> {
    let at = 0usize..1 << 20;
    prop_oneof![
        4 => (at.clone(), 1u8..).prop_map(|(at, bits)| Fault::Flip(at, bits)),
        2 => (at.clone(), 1usize..5000).prop_map(|(at, length)| Fault::Zero(at, length)),
        2 => (at.clone(), 1usize..2000).prop_map(|(at, length)| Fault::Cut(at, length)),
        2 => at.clone().prop_map(Fault::End),
        1 => at.clone().prop_map(Fault::DoubleFrame),
        1 => (at.clone(), at.clone()).prop_map(|(one, two)| Fault::SwapFrames(one, two)),
        1 => Just(Fault::Delete),
        1 => Just(Fault::SwapFiles),
        1 => Just(Fault::DoubleFile),
        1 => Just(Fault::LoseJournal),
        1 => Just(Fault::LoseAccount),
        1 => (at, 1u8..).prop_map(|(at, bits)| Fault::FlipAccount(at, bits)),
    ]
}

/// The places, in the first segment's frames, that a stretch of its file touches.
fn touched(frames: &[Vec<u8>], from: usize, to: usize) -> Vec<usize> {
    let mut begins = HEADER_LENGTH;
    let mut touched = Vec::new();
    for (place, frame) in frames.iter().enumerate() {
        let ends = begins + frame.len();
        if from < ends && begins < to {
            touched.push(place);
        }
        begins = ends;
    }
    touched
}

/// Does it; the places of the first segment's frames that may be lost.
fn inflict(stage: &Stage, spool: &[(String, Vec<Vec<u8>>); 2], fault: &Fault) -> Vec<usize> {
    let [(name, frames), (other, _)] = spool;
    let path = stage.path(name);
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    let header = bytes[..HEADER_LENGTH].to_vec();
    let mut hit = Vec::new();
    match *fault {
        Fault::Flip(at, bits) => {
            bytes[at % length] ^= bits;
            hit = touched(frames, at % length, at % length + 1);
        }
        Fault::Zero(at, count) => {
            let (from, to) = (at % length, (at % length + count).min(length));
            bytes[from..to].fill(0);
            hit = touched(frames, from, to);
        }
        Fault::Cut(at, count) => {
            let (from, to) = (at % length, (at % length + count).min(length));
            bytes.drain(from..to);
            hit = touched(frames, from, to);
            // A header that is cut shifts what follows: the copy of it does not know where frames begin.
            if from < HEADER_LENGTH {
                hit = (0..frames.len()).collect();
            }
        }
        Fault::End(at) => {
            bytes.truncate(at % length);
            hit = touched(frames, at % length, length);
        }
        Fault::DoubleFrame(at) => {
            let mut all = frames.clone();
            all.insert(at % (frames.len() + 1), frames[at % frames.len()].clone());
            bytes = [header, all.concat()].concat();
        }
        Fault::SwapFrames(one, two) => {
            let mut all = frames.clone();
            all.swap(one % frames.len(), two % frames.len());
            bytes = [header, all.concat()].concat();
        }
        Fault::Delete => {
            std::fs::remove_file(&path).unwrap();
            return (0..frames.len()).collect();
        }
        Fault::SwapFiles => {
            let theirs = std::fs::read(stage.path(other)).unwrap();
            std::fs::write(&path, theirs).unwrap();
            std::fs::write(stage.path(other), bytes).unwrap();
            return Vec::new();
        }
        Fault::DoubleFile => {
            let copy = Uuid::now_v7().simple().to_string();
            std::fs::write(stage.path(&copy), &bytes).unwrap();
        }
        Fault::LoseJournal => drop(std::fs::remove_file(stage.dir().join(POSITION))),
        Fault::LoseAccount => std::fs::remove_file(stage.dir().join("b1.account")).unwrap(),
        Fault::FlipAccount(at, bits) => {
            let path = stage.dir().join("b1.account");
            let mut account = std::fs::read(&path).unwrap();
            let length = account.len();
            account[at % length] ^= bits;
            std::fs::write(path, account).unwrap();
        }
    }
    std::fs::write(&path, bytes).unwrap();
    hit
}

/// Faults inflicted so far.
static FAULTS: AtomicU64 = AtomicU64::new(0);

// 256 in a test run; `PROPTEST_CASES=100000` makes it the long one.
proptest! {
    #[test]
    fn one_fault_costs_what_it_touched_and_is_counted(
        first in 1usize..8,
        second in 1usize..5,
        stored_before in 0usize..8,
        fault in fault(),
    ) {
        let mut stage = Stage::new();
        stage.lock_writer();
        let finish = AtomicBool::new(false);
        // Some of the first segment is stored before.
        let name = stage.roll();
        let mut frames: Vec<Vec<u8>> = (0..first.min(stored_before)).map(|_| stage.write()).collect();
        let mut ingest = stage.ingest();
        while ingest.turn(&finish).unwrap() {}
        drop(ingest);
        let stored_before = frames.len();
        frames.extend((stored_before..first).map(|_| stage.write()));
        let other = stage.roll();
        let others = (0..second).map(|_| stage.write()).collect();
        stage.write_account();
        stage.writer_lock = None;
        let hit = inflict(&stage, &[(name, frames), (other, others)], &fault);
        let metrics = stage.collect();

        let stored = stage.stored();
        prop_assert!(stored.values().all(|times| *times == 1), "{:?}: {:?}", fault, stored);
        let missing: Vec<i64> = (1..=(first + second) as i64).filter(|number| !stored.contains_key(number)).collect();
        for number in &missing {
            let place = usize::try_from(*number - 1).unwrap();
            prop_assert!(place >= stored_before && hit.contains(&place), "{:?} lost call {}", fault, number);
        }
        // What is lost is counted; of a file that is gone nothing can be counted here, only by an audit.
        let counted = metrics.evicted.with_label_values(&["corrupt"]).get();
        let is_countable = !matches!(fault, Fault::Delete);
        if is_countable {
            prop_assert!(counted >= missing.len() as u64, "{:?}: {} counted of {:?}", fault, counted, missing);
            prop_assert!(counted <= hit.len() as u64, "{:?}: {} counted of {:?}", fault, counted, missing);
        }
        prop_assert_eq!(metrics.waiting.get(), 0);
        let faults = FAULTS.fetch_add(1, Ordering::Relaxed) + 1;
        if faults.is_multiple_of(100) {
            eprintln!("{faults} faults");
        }
    }
}
