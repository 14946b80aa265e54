use super::*;
use proptest::prelude::*;

/// A segment's header, and each of its frames.
fn parts(frames: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut writer, header) = SegmentWriter::create([9; 16], &key()).unwrap();
    let mut parts = vec![header];
    for frame in frames {
        let mut bytes = Vec::new();
        writer
            .seal::<SegmentError>(&mut bytes, |out| {
                out.extend_from_slice(frame);
                Ok(())
            })
            .unwrap();
        parts.push(bytes);
    }
    assert_eq!(writer.frames() as usize, frames.len());
    parts
}

fn key() -> Key {
    Key::new([1; 32])
}

/// The numbers and bytes of all frames of a closed segment, and how many stretches were passed over.
fn read_all(bytes: &[u8]) -> (Vec<(u64, Vec<u8>)>, usize) {
    let reader = SegmentReader::open(bytes, &key()).unwrap();
    let (mut frames, mut damage) = (Vec::new(), 0);
    for found in Walk::new(&reader, &bytes[HEADER_LENGTH..], HEADER_LENGTH as u64, true) {
        match found {
            Found::Frame { number, plain } => frames.push((number, plain)),
            Found::Damage => damage += 1,
        }
    }
    (frames, damage)
}

#[test]
fn frames_come_back_in_order_and_plain_text_is_not_in_the_file() {
    let bytes = parts(&[b"first canary", b"", b"third"]).concat();
    let expected = [b"first canary".to_vec(), vec![], b"third".to_vec()];
    assert_eq!(read_all(&bytes), ((0..).zip(expected).collect(), 0));
    assert!(memchr::memmem::find(&bytes, b"canary").is_none());
    assert_eq!(frame_numbers(&bytes), [0, 1, 2]);
}

#[test]
fn another_key_is_told_apart_from_damage() {
    let bytes = parts(&[b"x"]).concat();
    assert!(matches!(
        SegmentReader::open(&bytes, &Key::new([2; 32])),
        Err(SegmentError::OtherKey(_))
    ));
    assert!(matches!(
        SegmentReader::open(&bytes[..40], &key()),
        Err(SegmentError::NoHeader)
    ));
    let later = [&MAGIC, &[3][..], &bytes[8..]].concat();
    assert!(matches!(
        SegmentReader::open(&later, &key()),
        Err(SegmentError::BadHeader)
    ));
}

#[test]
fn frames_that_were_swapped_doubled_or_moved_by_a_cut_are_known_by_their_numbers() {
    let parts = parts(&[b"aaaa", b"bbbb", b"cccc"]);
    let numbers = |order: &[usize]| -> Vec<u64> {
        let bytes: Vec<u8> = order.iter().flat_map(|part| parts[*part].clone()).collect();
        let (frames, damage) = read_all(&bytes);
        assert_eq!(damage, 0);
        assert!(
            frames
                .iter()
                .all(|(number, plain)| plain[0] == b'a' + u8::try_from(*number).unwrap())
        );
        frames.into_iter().map(|(number, _)| number).collect()
    };
    assert_eq!(numbers(&[0, 2, 1, 3]), [1, 0, 2], "swapped");
    assert_eq!(numbers(&[0, 1, 1, 2, 3]), [0, 0, 1, 2], "doubled");
    assert_eq!(numbers(&[0, 2, 3]), [1, 2], "one is cut out");
}

#[test]
fn a_frame_of_another_segment_or_with_another_number_is_refused() {
    let (ours, theirs) = (parts(&[b"aaaa"]), parts(&[b"aaaa", b"bbbb"]));
    let (frames, damage) = read_all(&[&ours[0][..], &theirs[1], &ours[1], &theirs[2]].concat());
    assert_eq!((frames, damage), (vec![(0, b"aaaa".to_vec())], 2));
    let mut renumbered = ours.concat();
    let at = HEADER_LENGTH;
    renumbered[at + 12] = 5;
    let checksum = frame_checksum(u32_at(&renumbered, at + 4).unwrap(), &renumbered[at + 12..]);
    renumbered[at + 8..at + 12].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(read_all(&renumbered), (vec![], 1));
}

/// A segment as version 1 wrote it.
fn version_one(frames: &[&[u8]]) -> Vec<u8> {
    let data_key = [3; 32];
    let mut bytes = [&MAGIC[..], &[1], &[9; 16], key().id().as_bytes(), &[7; 12]].concat();
    let mut wrapped = data_key.to_vec();
    cipher(key().bytes())
        .seal_in_place_append_tag(Nonce::assume_unique_for_key([7; 12]), Aad::from([9; 16]), &mut wrapped)
        .unwrap();
    bytes.extend_from_slice(&wrapped);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    for frame in frames {
        let (nonce, aad) = place(&[9; 16], bytes.len() as u64);
        let mut sealed = frame.to_vec();
        cipher(&data_key)
            .seal_in_place_append_tag(nonce, aad, &mut sealed)
            .unwrap();
        let length = sealed.len() as u32;
        bytes.extend_from_slice(&MARKER);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&frame_checksum(length, &sealed).to_le_bytes());
        bytes.extend_from_slice(&sealed);
    }
    bytes
}

#[test]
fn the_previous_version_is_read() {
    let bytes = version_one(&[b"first", b"second"]);
    let offsets = [HEADER_LENGTH as u64, (HEADER_LENGTH + 12 + 5 + TAG) as u64];
    let expected = offsets.into_iter().zip([b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(read_all(&bytes), (expected.collect(), 0));
    assert_eq!(frame_numbers(&bytes), offsets);
}

#[test]
fn a_walk_waits_at_an_incomplete_frame_and_goes_past_it_where_nothing_follows() {
    let parts = parts(&[b"aaaa", b"bbbb"]);
    let reader = SegmentReader::open(&parts[0], &key()).unwrap();
    let torn = [&parts[1][..], &parts[2][..20]].concat();
    let mut walk = Walk::new(&reader, &torn, 96, false);
    assert!(matches!(walk.next(), Some(Found::Frame { number: 0, .. })));
    assert_eq!((walk.next(), walk.offset()), (None, 96 + parts[1].len() as u64));
    let mut walk = Walk::new(&reader, &torn, 96, true);
    assert_eq!(walk.by_ref().filter(|found| *found == Found::Damage).count(), 1);
    assert_eq!(walk.offset(), 96 + torn.len() as u64);
}

#[test]
fn frames_are_counted_as_the_file_grows() {
    let parts = parts(&[b"aaaa", b"bbbb", b"cccc"]);
    let bytes = parts.concat();
    let ends: Vec<usize> = (1..=4).map(|count| parts[..count].iter().map(Vec::len).sum()).collect();
    let mut count = Count::default();
    for length in 1..=bytes.len() {
        count.add(&bytes[usize::try_from(count.offset()).unwrap()..length]);
        let whole = ends.iter().filter(|end| **end <= length).count().saturating_sub(1);
        assert_eq!(count.frames(), whole as u64, "at {length}");
    }
    let mut damaged = bytes;
    damaged[HEADER_LENGTH + 7] = 0x20;
    let mut count = Count::default();
    count.add(&damaged);
    assert_eq!(
        (count.frames(), count.offset()),
        (2, damaged.len() as u64),
        "a length that is damaged"
    );
}

/// What may happen to a file: one fault.
#[derive(Clone, Debug)]
enum Fault {
    Flip(usize, u8),
    Cut(usize, usize),
    Zero(usize, usize),
    End(usize),
    Double(usize),
    Swap(usize, usize),
}

fn fault() -> impl Strategy<Value = Fault> {
    let at = 0usize..1 << 20;
    prop_oneof![
        (at.clone(), 1u8..).prop_map(|(at, bits)| Fault::Flip(at, bits)),
        (at.clone(), 1usize..200).prop_map(|(at, length)| Fault::Cut(at, length)),
        (at.clone(), 1usize..200).prop_map(|(at, length)| Fault::Zero(at, length)),
        at.clone().prop_map(Fault::End),
        at.clone().prop_map(Fault::Double),
        (at.clone(), at).prop_map(|(one, two)| Fault::Swap(one, two)),
    ]
}

/// The segment after the fault, and the numbers of the frames that it touched.
fn damaged(parts: &[Vec<u8>], fault: &Fault) -> (Vec<u8>, Vec<u64>) {
    let header = &parts[0];
    let frames = &parts[1..];
    let mut body = frames.concat();
    let touched = |from: usize, to: usize| -> Vec<u64> {
        let mut begins = 0;
        let mut touched = Vec::new();
        for (number, frame) in (0..).zip(frames) {
            let ends = begins + frame.len();
            if from < ends && begins < to {
                touched.push(number);
            }
            begins = ends;
        }
        touched
    };
    let length = body.len();
    let hit = match *fault {
        Fault::Flip(at, bits) => {
            body[at % length] ^= bits;
            touched(at % length, at % length + 1)
        }
        Fault::Cut(at, count) => {
            let (from, to) = (at % length, (at % length + count).min(length));
            body.drain(from..to);
            touched(from, to)
        }
        Fault::Zero(at, count) => {
            let (from, to) = (at % length, (at % length + count).min(length));
            body[from..to].fill(0);
            touched(from, to)
        }
        Fault::End(at) => {
            body.truncate(at % length);
            touched(at % length, length)
        }
        Fault::Double(at) => {
            let mut all = frames.to_vec();
            all.insert(at % (frames.len() + 1), frames[at % frames.len()].clone());
            body = all.concat();
            Vec::new()
        }
        Fault::Swap(one, two) => {
            let mut all = frames.to_vec();
            all.swap(one % frames.len(), two % frames.len());
            body = all.concat();
            Vec::new()
        }
    };
    ([&header[..], &body].concat(), hit)
}

// 256 cases in a test run; `PROPTEST_CASES=100000` makes it the long one.
proptest! {
    #[test]
    fn one_fault_costs_the_frames_it_touched_and_no_other(
        lengths in proptest::collection::vec(0usize..300, 1..12),
        fault in fault(),
    ) {
        let plain: Vec<Vec<u8>> = lengths.iter().map(|length| vec![*length as u8; *length]).collect();
        let parts = parts(&plain.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let (bytes, touched) = damaged(&parts, &fault);
        let (frames, _) = read_all(&bytes);
        for (number, frame) in &frames {
            prop_assert_eq!(frame, &plain[usize::try_from(*number).unwrap()], "a frame came back changed");
        }
        for number in 0..plain.len() as u64 {
            let came_back = frames.iter().any(|(found, _)| *found == number);
            prop_assert!(came_back || touched.contains(&number), "frame {} is lost by {:?}", number, fault);
        }
    }

    #[test]
    fn any_bytes_are_walked_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let header = parts(&[]).remove(0);
        read_all(&[&header[..], &MARKER, &bytes].concat());
        frame_numbers(&bytes);
    }
}
