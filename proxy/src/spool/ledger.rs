//! Numbers the calls of this boot, and notes what becomes of them, for the account beside the spool.
//!
//! Calls only count here, in memory; the thread that fsyncs writes the account down.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use understudy_call::account::{Account, MAX_RANGES, Numbers, Tally, Written, in_sample};
use uuid::Uuid;

/// Numbers that are promised ahead of being given.
const AHEAD: u64 = 8192;

/// The account of this boot as it grows.
pub struct Ledger {
    boot_id: String,
    sample: f64,
    begun: AtomicU64,
    kept: AtomicU64,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// All of it.
    whole: Account,
    /// What is not written down yet: only the collections of it are used.
    fresh: Account,
    ranges: usize,
    /// The last line could not be written.
    behind: bool,
}

impl Ledger {
    /// A new boot, with this share of calls kept.
    pub fn new(sample: f64) -> Ledger {
        let boot_id = Uuid::now_v7().to_string();
        let whole = Account {
            boot_id: boot_id.clone(),
            began_at: micros_now(),
            sample,
            ..Account::default()
        };
        Ledger {
            boot_id,
            sample,
            begun: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            book: Mutex::new(Book {
                whole,
                ..Book::default()
            }),
        }
    }

    /// The boot's id.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// A call begins: its number, from 1.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether the sample keeps the call of this number.
    pub fn in_sample(&self, number: u64) -> bool {
        in_sample(&self.boot_id, number, self.sample)
    }

    /// A call is not kept. Calls that are not in the sample are counted only: the sample itself names them.
    pub fn dropped(&self, reason: &str, number: u64) {
        let named = self.in_sample(number).then_some(number);
        self.with(|book| {
            book.note(named.into_iter().collect(), 1, |account| {
                tally(&mut account.dropped, reason)
            })
        });
    }

    /// Calls are written to the spool.
    pub fn kept(&self, count: u64) {
        self.kept.fetch_add(count, Ordering::Relaxed);
    }

    /// Records of a boot are evicted; as many as are named, or more.
    pub fn evicted(&self, boot_id: &str, reason: &str, numbers: Numbers, count: u64) {
        self.with(|book| {
            book.note(numbers, count, |account| {
                tally(account.evicted.entry(boot_id.to_owned()).or_default(), reason)
            });
        });
    }

    /// A segment begins, with this header.
    pub fn segment_began(&self, name: &str, header: &[u8]) {
        self.with(|book| {
            for account in [&mut book.whole, &mut book.fresh] {
                account.segments.insert(name.to_owned(), Written::with_header(header));
            }
        });
    }

    /// So many whole frames are in a segment.
    pub fn segment_grew(&self, name: &str, frames: u64) {
        self.with(|book| {
            for account in [&mut book.whole, &mut book.fresh] {
                account.segments.entry(name.to_owned()).or_default().frames = frames;
            }
        });
    }

    /// Forgets the segments that are gone.
    pub fn keep_segments(&self, is_there: impl Fn(&str) -> bool) {
        self.with(|book| book.whole.segments.retain(|name, _| is_there(name)));
    }

    /// What is new since the line before; `None` where nothing is. Hand it back with [`Ledger::not_written`] where it
    /// could not be written.
    pub fn line(&self, ended: bool) -> Option<Account> {
        let (begun, kept) = (self.begun.load(Ordering::Relaxed), self.kept.load(Ordering::Relaxed));
        self.with(|book| {
            let fresh = std::mem::take(&mut book.fresh);
            let whole = &mut book.whole;
            let mark_moves = begun + AHEAD / 2 >= whole.mark;
            let nothing_new = !mark_moves
                && !std::mem::take(&mut book.behind)
                && (whole.begun, whole.kept, whole.ended) == (begun, kept, ended)
                && fresh == Account::default();
            if nothing_new {
                return None;
            }
            if mark_moves {
                whole.mark = begun + AHEAD;
            }
            (whole.begun, whole.kept, whole.ended) = (begun, kept, ended);
            whole.at = micros_now();
            Some(Account {
                boot_id: whole.boot_id.clone(),
                began_at: whole.began_at,
                at: whole.at,
                begun,
                mark: whole.mark,
                kept,
                sample: whole.sample,
                ended,
                ..fresh
            })
        })
    }

    /// A line that could not be written is new again.
    pub fn not_written(&self, line: &Account) {
        self.with(|book| {
            book.fresh.fold(&Account {
                dropped: line.dropped.clone(),
                evicted: line.evicted.clone(),
                segments: line.segments.clone(),
                ..Account::default()
            });
            book.behind = true;
        });
    }

    /// The whole account, as one line.
    pub fn whole(&self) -> Account {
        self.with(|book| book.whole.clone())
    }

    fn with<T>(&self, action: impl FnOnce(&mut Book) -> T) -> T {
        action(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Book {
    /// Adds to a tally of both accounts; past the limit numbers are not named.
    fn note(&mut self, numbers: Numbers, count: u64, tally: impl Fn(&mut Account) -> &mut Tally) {
        let named = if self.ranges < MAX_RANGES {
            numbers
        } else {
            Numbers::default()
        };
        let of_whole = tally(&mut self.whole);
        let before = of_whole.numbers.range_count();
        of_whole.numbers.extend(&named);
        of_whole.count += count;
        self.ranges = (self.ranges + of_whole.numbers.range_count()).saturating_sub(before);
        let total = of_whole.count;
        let of_fresh = tally(&mut self.fresh);
        of_fresh.numbers.extend(&named);
        of_fresh.count = total;
    }
}

fn tally<'a>(tallies: &'a mut BTreeMap<String, Tally>, reason: &str) -> &'a mut Tally {
    if !tallies.contains_key(reason) {
        tallies.insert(reason.to_owned(), Tally::default());
    }
    tallies.get_mut(reason).expect("it was put there if it was not")
}

fn micros_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
