//! A value found, and one answer where several overlap.

use super::kind::Kind;

/// A value found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: Kind,
    /// Found by what stands around it, so that the same value elsewhere may not be found by itself.
    pub(super) by_context: bool,
}

impl Hit {
    pub(super) fn sure(start: usize, end: usize, kind: Kind) -> Hit {
        Hit {
            start,
            end,
            kind,
            by_context: false,
        }
    }

    pub(super) fn by_context(start: usize, end: usize, kind: Kind) -> Hit {
        Hit {
            start,
            end,
            kind,
            by_context: true,
        }
    }
}

/// Sorts hits and parts those that overlap: what any of them covers stays covered. Of one kind they are joined; of two
/// kinds the longer stays whole.
pub(super) fn settle(text: &str, hits: &mut Vec<Hit>) {
    if hits.len() < 2 {
        return;
    }
    hits.sort_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end)));
    let mut settled: Vec<Hit> = Vec::with_capacity(hits.len());
    for mut hit in hits.drain(..) {
        if let Some(last) = settled.last_mut().filter(|last| hit.start < last.end) {
            if hit.end <= last.end || hit.kind == last.kind {
                let is_part = hit.kind != last.kind || hit.end - hit.start < last.end - last.start;
                last.by_context &= hit.by_context || is_part;
                last.end = last.end.max(hit.end);
                continue;
            }
            if last.end - last.start >= hit.end - hit.start {
                hit.start = last.end;
            } else {
                last.end = hit.start;
                if !holds_something(text, last) {
                    settled.pop();
                }
            }
        }
        if holds_something(text, &hit) {
            settled.push(hit);
        }
    }
    *hits = settled;
}

/// Whether a hit, or what is left of it, holds a letter or digit.
fn holds_something(text: &str, hit: &Hit) -> bool {
    hit.start < hit.end && text[hit.start..hit.end].contains(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_of_one_kind_are_joined_and_of_two_kinds_parted() {
        let text = "abcdefghijklmnop";
        let mut hits = vec![
            Hit::sure(8, 12, Kind::Phone),
            Hit::sure(0, 4, Kind::Email),
            Hit::sure(2, 9, Kind::Secret),
            Hit::sure(3, 5, Kind::Person),
            Hit::sure(12, 13, Kind::Iban),
            Hit::sure(13, 15, Kind::Mrn),
            Hit::sure(14, 16, Kind::Mrn),
        ];
        settle(text, &mut hits);
        let expected = [
            Hit::sure(0, 2, Kind::Email),
            Hit::sure(2, 9, Kind::Secret),
            Hit::sure(9, 12, Kind::Phone),
            Hit::sure(12, 13, Kind::Iban),
            Hit::sure(13, 16, Kind::Mrn),
        ];
        assert_eq!(hits, expected);
    }
}
