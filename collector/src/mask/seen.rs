//! Long texts that were looked through before: agents send their whole history again with every call.
//!
//! Keeps where the hits were, by a keyed digest of text and label, and no text; bounded, the texts not met for longest are
//! forgotten first.

use super::hit::Hit;
use super::scene::Scene;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shorter texts are looked through about as fast as they are looked up.
const LEAST_BYTES: usize = 1024;
/// Texts of each of two generations.
const MOST: usize = 1 << 15;

/// What is remembered.
pub(super) struct Seen {
    key: [u8; 32],
    generations: Mutex<Generations>,
}

type Digest = [u8; 16];
type Texts = HashMap<Digest, Box<[Hit]>>;

/// A text that is met again becomes young again; when the young are too many, the old are forgotten.
#[derive(Default)]
struct Generations {
    young: Texts,
    old: Texts,
}

impl Seen {
    pub(super) fn new(key: &[u8; 32]) -> Seen {
        Seen {
            key: blake3::derive_key("understudy 2026 digest of texts seen", key),
            generations: Mutex::default(),
        }
    }

    /// The hits in a text, as they were before or as `find` finds them now.
    pub(super) fn hits(&self, scene: &Scene<'_>, find: impl FnOnce() -> Vec<Hit>) -> Vec<Hit> {
        if scene.text.len() < LEAST_BYTES {
            return find();
        }
        let digest = self.digest(scene);
        if let Some(hits) = self.generations().get(digest) {
            return hits;
        }
        let hits = find();
        self.generations().add(digest, hits.clone().into_boxed_slice());
        hits
    }

    fn digest(&self, scene: &Scene<'_>) -> Digest {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher
            .update(&scene.label.len().to_le_bytes())
            .update(scene.label.as_bytes())
            .update(scene.text.as_bytes());
        let mut digest = Digest::default();
        hasher.finalize_xof().fill(&mut digest);
        digest
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn get(&mut self, digest: Digest) -> Option<Vec<Hit>> {
        if let Some(hits) = self.young.get(&digest) {
            return Some(hits.to_vec());
        }
        let hits = self.old.remove(&digest)?;
        let found = hits.to_vec();
        self.add(digest, hits);
        Some(found)
    }

    fn add(&mut self, digest: Digest, hits: Box<[Hit]>) {
        if self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, hits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::kind::Kind;
    use std::cell::Cell;

    #[test]
    fn a_long_text_is_looked_through_once_under_each_label() {
        let (seen, asked) = (Seen::new(&[7; 32]), Cell::new(0));
        let text = "word ".repeat(LEAST_BYTES / 5 + 1);
        let hits = |text: &str, label: &str| {
            seen.hits(&Scene::new(text, label), || {
                asked.set(asked.get() + 1);
                vec![Hit::sure(0, 4, Kind::Person)]
            })
        };
        for (text, label, times) in [
            (&*text, "a", 1),
            (&text, "a", 1),
            (&text, "b", 2),
            ("short", "", 3),
            ("short", "", 4),
        ] {
            assert_eq!(hits(text, label), [Hit::sure(0, 4, Kind::Person)]);
            assert_eq!(asked.get(), times);
        }
    }

    #[test]
    fn what_is_met_again_outlives_what_is_not() {
        let mut generations = Generations::default();
        let digest = |number: usize| (number as u128).to_le_bytes();
        for number in 0..MOST * 2 + 1 {
            generations.add(digest(number), Box::default());
            generations.get(digest(0));
        }
        assert!(generations.get(digest(0)).is_some() && generations.get(digest(1)).is_none());
        assert!(generations.young.len() <= MOST && generations.old.len() <= MOST);
    }
}
