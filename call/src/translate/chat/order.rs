//! Tool calls one after the other: no other API lets the pieces of two calls mix.

use std::collections::{BTreeMap, VecDeque};

use serde::de::IgnoredAny;

use super::Delta;

/// A queue of deltas that holds back what comes amid a tool call whose arguments are not whole yet.
#[derive(Default)]
pub(super) struct InOrder {
    ready: Vec<Delta>,
    /// What came amid the open call; empty where there is none.
    held: Vec<Delta>,
    open: Option<Open>,
}

/// The tool call that is being told, and its arguments so far.
struct Open {
    index: usize,
    arguments: String,
}

impl Open {
    /// Whether nothing more can come: the arguments are a JSON object.
    fn is_whole(&self) -> bool {
        self.arguments.trim_end().ends_with('}') && serde_json::from_str::<IgnoredAny>(&self.arguments).is_ok()
    }
}

impl InOrder {
    /// Takes the next delta.
    pub(super) fn push(&mut self, delta: Delta) {
        let mut queue = VecDeque::from([delta]);
        while let Some(delta) = queue.pop_front() {
            match (&delta, &mut self.open) {
                (Delta::Start { .. } | Delta::Usage(_) | Delta::Finish(_) | Delta::Error(_), _) => {
                    self.ready.push(delta)
                }
                (Delta::Arguments { index, piece }, Some(open)) if *index == open.index => {
                    open.arguments.push_str(piece);
                    self.ready.push(delta);
                    if !self.held.is_empty() && open.is_whole() {
                        self.open = None;
                        self.held.drain(..).rev().for_each(|held| queue.push_front(held));
                    }
                }
                (_, Some(open)) if !self.held.is_empty() || !open.is_whole() => self.held.push(delta),
                // A call that was whole needs no more.
                (Delta::Arguments { .. }, _) => {}
                (Delta::ToolCall { index, .. }, open) => {
                    *open = Some(Open {
                        index: *index,
                        arguments: String::new(),
                    });
                    self.ready.push(delta);
                }
                (Delta::Text(_) | Delta::Refusal(_), open) => {
                    *open = None;
                    self.ready.push(delta);
                }
            }
        }
    }

    /// All that can be told now.
    pub(super) fn take(&mut self) -> Vec<Delta> {
        std::mem::take(&mut self.ready)
    }

    /// Makes all that is held ready: nothing more comes to any call.
    pub(super) fn close(&mut self) {
        self.open = None;
        let held = std::mem::take(&mut self.held);
        let mut arguments: BTreeMap<usize, String> = BTreeMap::new();
        for delta in &held {
            if let Delta::Arguments { index, piece } = delta {
                arguments.entry(*index).or_default().push_str(piece);
            }
        }
        for delta in held {
            match delta {
                Delta::Arguments { .. } => {}
                Delta::ToolCall { index, .. } => {
                    self.ready.push(delta);
                    let piece = arguments.remove(&index);
                    self.ready.extend(piece.map(|piece| Delta::Arguments { index, piece }));
                }
                delta => self.ready.push(delta),
            }
        }
    }
}
