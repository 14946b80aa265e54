//! The bounded copy of a body on its way through.
//!
//! One byte budget bounds all copies of the process. A body that does not fit in it is not copied at all, one that is
//! longer than the limit is cut; the true length is known in either case. Never touches the bytes that travel.

use crate::form::ModelScan;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use understudy_call::frame::BodyNote;

/// Pieces below this are copied into one buffer: as clones they would each pin the whole read buffer they lie in.
const CLONE_FROM: usize = 16 * 1024;

/// The bytes that all copies together may hold.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    limit: u64,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(limit: u64) -> Arc<Budget> {
        Arc::new(Budget {
            used: AtomicU64::new(0),
            limit,
        })
    }

    fn take(&self, bytes: u64) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.limit;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes held now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// What is noted of a request's body as it goes by: a copy of it, or the model named in one that is not copied.
#[derive(Debug)]
pub struct RequestCopy {
    /// The copy.
    pub body: BodyCopy,
    /// Looks for the model.
    pub(crate) model: Option<ModelScan>,
}

impl RequestCopy {
    /// Takes note of one piece.
    pub fn push(&mut self, piece: &Bytes) {
        if let Some(scan) = &mut self.model {
            scan.push(piece);
        }
        self.body.push(piece);
    }
}

/// A copy of one body. Gives its bytes back to the budget when dropped.
#[derive(Debug)]
pub struct BodyCopy {
    budget: Arc<Budget>,
    pieces: Vec<Bytes>,
    small: BytesMut,
    held: u64,
    limit: u64,
    seen: u64,
    note: Option<BodyNote>,
}

impl BodyCopy {
    /// An empty copy that keeps `limit` bytes at most; a limit of 0 copies nothing and notes nothing.
    pub fn new(budget: Arc<Budget>, limit: u64) -> BodyCopy {
        BodyCopy {
            budget,
            pieces: Vec::new(),
            small: BytesMut::new(),
            held: 0,
            limit,
            seen: 0,
            note: None,
        }
    }

    /// Takes note of one piece.
    pub fn push(&mut self, piece: &Bytes) {
        self.seen += piece.len() as u64;
        if self.note.is_some() || self.limit == 0 {
            return;
        }
        let room = usize::try_from(self.limit - self.held).unwrap_or(usize::MAX);
        let wanted = piece.len().min(room);
        if !self.budget.take(wanted as u64) {
            self.clear();
            self.note = Some(BodyNote::Budget);
            return;
        }
        self.held += wanted as u64;
        if wanted >= CLONE_FROM {
            self.flush_small();
            self.pieces.push(piece.slice(..wanted));
        } else {
            self.small.extend_from_slice(&piece[..wanted]);
        }
        if wanted < piece.len() {
            self.note = Some(BodyNote::Cut);
        }
    }

    /// Counts bytes that passed without being copied.
    pub fn skip(&mut self, bytes: u64) {
        self.seen += bytes;
    }

    /// The whole body; `None` where it was not copied whole.
    pub(crate) fn whole(&self) -> Option<Vec<Bytes>> {
        let last = (!self.small.is_empty()).then(|| Bytes::copy_from_slice(&self.small));
        (self.note.is_none() && self.held == self.seen).then(|| self.pieces.iter().cloned().chain(last).collect())
    }

    fn flush_small(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }

    /// Lets go of the bytes; the length stays known.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.small = BytesMut::new();
        self.budget.give_back(self.held);
        self.held = 0;
    }

    /// The true length of the body so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Why the copy is not whole, if it is not.
    pub fn note(&self) -> Option<BodyNote> {
        self.note
    }

    /// The copied bytes, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces
            .iter()
            .map(|piece| &piece[..])
            .chain((!self.small.is_empty()).then_some(&self.small[..]))
    }
}

impl Drop for BodyCopy {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(copy: &BodyCopy) -> Vec<u8> {
        copy.slices().flatten().copied().collect()
    }

    #[test]
    fn small_and_large_pieces_stay_in_order() {
        let mut copy = BodyCopy::new(Budget::new(1 << 20), 1 << 20);
        let large = Bytes::from(vec![b'x'; CLONE_FROM]);
        for piece in [
            Bytes::from_static(b"a"),
            Bytes::from_static(b"b"),
            large.clone(),
            Bytes::from_static(b"c"),
        ] {
            copy.push(&piece);
        }
        assert_eq!(whole(&copy), [b"ab".as_slice(), &large, b"c"].concat());
        assert_eq!((copy.seen(), copy.note()), (CLONE_FROM as u64 + 3, None));
    }

    #[test]
    fn a_long_body_is_cut_and_its_true_length_known() {
        let mut copy = BodyCopy::new(Budget::new(100), 5);
        copy.push(&Bytes::from_static(b"abc"));
        copy.push(&Bytes::from_static(b"defg"));
        copy.push(&Bytes::from_static(b"h"));
        assert_eq!(
            (whole(&copy), copy.seen(), copy.note()),
            (b"abcde".to_vec(), 8, Some(BodyNote::Cut))
        );
    }

    #[test]
    fn past_the_budget_nothing_is_held_and_the_bytes_come_back() {
        let budget = Budget::new(6);
        let mut first = BodyCopy::new(budget.clone(), 100);
        first.push(&Bytes::from_static(b"abcd"));
        let mut second = BodyCopy::new(budget.clone(), 100);
        second.push(&Bytes::from_static(b"ab"));
        second.push(&Bytes::from_static(b"c"));
        assert_eq!((whole(&second), second.note()), (vec![], Some(BodyNote::Budget)));
        assert_eq!(budget.used(), 4);
        drop(first);
        assert_eq!(budget.used(), 0);
    }
}
