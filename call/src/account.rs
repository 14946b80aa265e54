//! What one run of the proxy (a *boot*) says of its calls: how many began, and which were dropped or evicted, by number.
//!
//! The proxy appends lines to a small file beside the spool; folded, they are an [`Account`], by which an audit tells
//! the calls that are accounted for from those that are missing. Lines hold totals, and numbers that are new: folding a
//! line twice changes nothing. Does no IO, and holds nothing of what was said in a call.

mod numbers;

pub use numbers::Numbers;

use crate::keys::{hex, unhex};
use crate::segment::HEADER_LENGTH;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// File extension of a boot's account in the spool's folder.
pub const EXTENSION: &str = "account";
/// The most ranges of numbers that are named; past that, what is new is counted only.
pub const MAX_RANGES: usize = 50_000;

/// Calls that had one fate: how many, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// All of them.
    pub count: u64,
    /// Those that are named; fewer where there were too many to name, or where a rule tells them.
    pub numbers: Numbers,
}

impl Tally {
    fn fold(&mut self, other: &Tally) {
        self.count = self.count.max(other.count);
        self.numbers.extend(&other.numbers);
    }
}

/// What was written to a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Written {
    /// Whole frames: numbers 0 to this, exclusive.
    pub frames: u64,
    /// A copy of the segment's header in hex: with it a segment whose own is damaged can be read.
    pub header: String,
}

impl Written {
    /// The copy of the header, if there is a whole one.
    pub fn header_bytes(&self) -> Option<[u8; HEADER_LENGTH]> {
        unhex(&self.header)
    }

    /// With this header.
    pub fn with_header(header: &[u8]) -> Written {
        Written {
            frames: 0,
            header: hex(header),
        }
    }

    fn fold(&mut self, other: &Written) {
        self.frames = self.frames.max(other.frames);
        if self.header.is_empty() {
            self.header.clone_from(&other.header);
        }
    }
}

/// The account of one boot, or what is new of it since the line before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// The boot.
    pub boot_id: String,
    /// When it began, microseconds since the epoch.
    pub began_at: i64,
    /// When this was said, microseconds since the epoch.
    pub at: i64,
    /// Calls begun: the highest number given.
    pub begun: u64,
    /// No call got a number above this unless the account says so: fsynced ahead of the numbers.
    pub mark: u64,
    /// Calls written to the spool.
    pub kept: u64,
    /// Share of calls kept by `capture.sample`; [`in_sample`] tells which.
    pub sample: f64,
    /// Calls without a record, by reason.
    pub dropped: BTreeMap<String, Tally>,
    /// Records that this boot evicted from the spool, by the boot that they are of and the reason. Those that the collector
    /// gave up are here too, once it has said so.
    pub evicted: BTreeMap<String, BTreeMap<String, Tally>>,
    /// Segments of this boot by name, but those that are gone.
    pub segments: BTreeMap<String, Written>,
    /// Whether the boot ended as it should: every call that it began is kept or dropped.
    pub ended: bool,
    /// Whether the boot is over, and none of its records is in the spool any more; the collector says so.
    pub drained: bool,
}

impl Account {
    /// Adds what another line of the same boot says.
    pub fn fold(&mut self, line: &Account) {
        if self.boot_id.is_empty() {
            self.boot_id.clone_from(&line.boot_id);
            self.began_at = line.began_at;
            self.sample = line.sample;
        }
        self.at = self.at.max(line.at);
        self.begun = self.begun.max(line.begun);
        self.mark = self.mark.max(line.mark);
        self.kept = self.kept.max(line.kept);
        self.ended |= line.ended;
        self.drained |= line.drained;
        for (reason, tally) in &line.dropped {
            self.dropped.entry(reason.clone()).or_default().fold(tally);
        }
        for (boot, reasons) in &line.evicted {
            let of_boot = self.evicted.entry(boot.clone()).or_default();
            for (reason, tally) in reasons {
                of_boot.entry(reason.clone()).or_default().fold(tally);
            }
        }
        for (segment, written) in &line.segments {
            self.segments.entry(segment.clone()).or_default().fold(written);
        }
    }

    /// The line for the file: a checksum, the account as JSON, a line feed.
    pub fn to_line(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        let mut line = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
        line.extend_from_slice(&json);
        line.push(b'\n');
        line
    }

    /// Folds the lines of a file; torn or damaged ones are left out. `None` where no line is whole.
    pub fn from_lines(bytes: &[u8]) -> Option<Account> {
        let mut account = Account::default();
        for line in bytes.split(|byte| *byte == b'\n').filter_map(parse_line) {
            account.fold(&line);
        }
        (!account.boot_id.is_empty()).then_some(account)
    }

    /// All calls dropped.
    pub fn dropped_count(&self) -> u64 {
        self.dropped.values().map(|tally| tally.count).sum()
    }

    /// Whether a number is known to have been dropped.
    pub fn has_dropped(&self, number: u64) -> bool {
        !in_sample(&self.boot_id, number, self.sample)
            || self.dropped.values().any(|tally| tally.numbers.contains(number))
    }
}

fn parse_line(line: &[u8]) -> Option<Account> {
    let (checksum, json) = line.split_at_checked(9)?;
    let checksum = std::str::from_utf8(&checksum[..8]).ok()?;
    if u32::from_str_radix(checksum, 16).ok()? != crc32fast::hash(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Whether `capture.sample` keeps the call of this number: the same answer for the proxy and for an audit.
pub fn in_sample(boot_id: &str, number: u64, sample: f64) -> bool {
    if sample >= 1.0 {
        return true;
    }
    // SplitMix64 over the number, apart by boot.
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(crc32fast::hash(boot_id.as_bytes())) << 32;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    ((bits >> 11) as f64 / (1u64 << 53) as f64) < sample
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(begun: u64, dropped: &[u64]) -> Account {
        let mut tally = Tally::default();
        dropped.iter().for_each(|number| tally.numbers.insert(*number));
        tally.count = begun / 2;
        Account {
            boot_id: "b".into(),
            sample: 1.0,
            begun,
            dropped: [("excluded".to_owned(), tally)].into(),
            ..Account::default()
        }
    }

    #[test]
    fn lines_fold_to_one_account_and_twice_is_once() {
        let bytes = [line(10, &[1, 2]).to_line(), line(20, &[3, 9]).to_line()].concat();
        let account = Account::from_lines(&bytes).unwrap();
        assert_eq!((account.begun, account.dropped_count()), (20, 10));
        assert_eq!(account.dropped["excluded"].numbers.to_string(), "1-3,9");
        assert!(account.has_dropped(3) && !account.has_dropped(4));
        assert_eq!(Account::from_lines(&[&bytes[..], &bytes].concat()).unwrap(), account);
    }

    #[test]
    fn a_torn_or_damaged_line_costs_that_line_alone() {
        let (one, two) = (line(10, &[1]).to_line(), line(20, &[2]).to_line());
        let torn = [&one[..], &two[..two.len() / 2]].concat();
        assert_eq!(Account::from_lines(&torn).unwrap().begun, 10);
        let went_on = [&torn[..], b"\n", &two].concat();
        assert_eq!(Account::from_lines(&went_on).unwrap().begun, 20);
        let mut flipped = [one, two].concat();
        flipped[20] ^= 1;
        assert_eq!(Account::from_lines(&flipped).unwrap().begun, 20);
        assert_eq!(Account::from_lines(b"nothing"), None);
    }

    #[test]
    fn a_copy_of_a_header_comes_back() {
        let header: Vec<u8> = (0..HEADER_LENGTH as u8).collect();
        let written = Written::with_header(&header);
        assert_eq!(written.header_bytes().unwrap()[..], header);
        assert_eq!(Written::default().header_bytes(), None);
    }

    #[test]
    fn a_sample_is_as_large_as_asked_and_told_by_the_number_alone() {
        for sample in [0.1, 0.5, 0.9] {
            let kept = (1..=10_000).filter(|number| in_sample("boot", *number, sample)).count();
            assert!((kept as f64 / 10_000.0 - sample).abs() < 0.02, "{kept} at {sample}");
        }
        assert!((1..=100).all(|number| in_sample("boot", number, 1.0)));
        assert!((1..=100).all(|number| !in_sample("boot", number, 0.0)));
        let differs = (1..=100).any(|number| in_sample("one", number, 0.5) != in_sample("two", number, 0.5));
        assert!(differs, "boots sample alike");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_account_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Account::from_lines(&bytes);
        }
    }
}
