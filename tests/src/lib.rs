//! Harness of the integration tests: the real program as a child process, fake upstreams, and HTTP by hand.
//!
//! Never links the proxy: what a test sees of it is what a client, an upstream, a scraper or a reader of its files sees.
//! Everything here panics with a clear message where a test can't go on, and every wait is bounded.

pub mod agents;
pub mod arms;
pub mod calibrate;
pub mod endure;
pub mod fixtures;
pub mod http;
pub mod metrics;
pub mod objects;
pub mod program;
pub mod recordings;
pub mod strict;
pub mod upstream;

use std::time::{Duration, Instant};

/// The longest that a test waits for something that should happen soon: much, as a machine with more to do than cores
/// gives the collector little.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds, and panics where it doesn't within [`PATIENCE`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// SHA-256 as hex digits.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `needle` occurs in `bytes`.
pub fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// A small generator of numbers that are the same in every run (xorshift).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice of this seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number from 0 to `below`, exclusive.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    /// So many letters and digits.
    pub fn word(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        (0..length)
            .map(|_| char::from(LETTERS[self.roll(LETTERS.len() as u64) as usize]))
            .collect()
    }
}
