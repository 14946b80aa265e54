//! What the calls of each conversation told the mask: values that are sensitive though they stand bare.
//!
//! In memory alone and bounded; the conversations that were learnt first are forgotten first.

use crate::mask::Values;
use std::collections::{HashMap, VecDeque};

/// Values remembered of one conversation.
const MOST_VALUES: usize = 512;
/// Bytes of all that is remembered.
const MOST_BYTES: usize = 32 << 20;

/// The values of each conversation, by its id.
#[derive(Debug, Default)]
pub(super) struct Told {
    of: HashMap<String, Values>,
    /// In the order they were learnt.
    order: VecDeque<String>,
    bytes: usize,
}

impl Told {
    pub(super) fn of(&self, conversation: &str) -> Option<&Values> {
        self.of.get(conversation)
    }

    pub(super) fn add(&mut self, conversation: &str, values: &Values) {
        if values.is_empty() {
            return;
        }
        if !self.of.contains_key(conversation) {
            self.order.push_back(conversation.to_owned());
        }
        let known = self.of.entry(conversation.to_owned()).or_default();
        let before = known.bytes();
        known.add(values, MOST_VALUES);
        self.bytes += known.bytes() - before;
        while self.bytes > MOST_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            let forgotten = self.of.remove(&oldest).unwrap_or_default();
            self.bytes -= forgotten.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{Mask, MaskConfig};

    #[test]
    fn the_first_conversations_are_forgotten_first() {
        let mask = Mask::new(&MaskConfig::default(), &[1; 32]).unwrap();
        let long = "x7Kq".repeat(200);
        let mut told = Told::default();
        let mut number = 0;
        while told.bytes + 2_000 < MOST_BYTES {
            let text = format!("password: {number}{long}");
            told.add(&number.to_string(), &Values::of_drafts([&mask.draft_of_text(&text)]));
            number += 1;
        }
        assert!(told.of("0").is_some());
        for extra in 0..9 {
            let text = format!("password: {extra}{long}");
            told.add(
                &format!("new {extra}"),
                &Values::of_drafts([&mask.draft_of_text(&text)]),
            );
        }
        assert!(told.of("0").is_none() && told.of("new 8").is_some() && told.bytes <= MOST_BYTES);
        assert_eq!(told.of.len(), told.order.len());
    }
}
