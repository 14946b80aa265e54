//! Changes of a text by whole lines, and the unified diff that they make, which `patch` takes. Pure.

/// Lines of context in a diff.
const CONTEXT: usize = 3;

/// Lines that others take the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    /// The first line, from 0.
    pub(super) at: usize,
    /// How many lines go.
    pub(super) gone: usize,
    /// What comes.
    pub(super) new: Vec<String>,
}

impl Edit {
    fn end(&self) -> usize {
        self.at + self.gone
    }
}

/// The text with these changes, which are in order and apart.
pub(super) fn apply(text: &str, edits: &[Edit]) -> String {
    let old: Vec<&str> = text.lines().collect();
    let mut lines: Vec<&str> = Vec::new();
    let mut from = 0;
    for edit in edits {
        lines.extend(&old[from..edit.at]);
        lines.extend(edit.new.iter().map(String::as_str));
        from = edit.end();
    }
    lines.extend(&old[from..]);
    lines.join("\n") + "\n"
}

/// The unified diff of these changes, which are in order and apart.
pub(super) fn diff(name: &str, text: &str, edits: &[Edit]) -> String {
    let old: Vec<&str> = text.lines().collect();
    // As git has them: `git apply` takes one folder off, and so does `patch -p1`.
    let mut out = format!("--- a/{name}\n+++ b/{name}\n");
    let mut grown = 0;
    // Changes whose context would meet share a hunk.
    for hunk in edits.chunk_by(|one, next| next.at <= one.end() + 2 * CONTEXT) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else {
            continue;
        };
        let from = first.at.saturating_sub(CONTEXT);
        let to = (last.end() + CONTEXT).min(old.len());
        let (gone, come) = hunk
            .iter()
            .fold((0, 0), |(gone, come), edit| (gone + edit.gone, come + edit.new.len()));
        let (length, new_length) = (to - from, to - from - gone + come);
        let start = |from: usize, length: usize| from + usize::from(length > 0);
        out.push_str(&format!(
            "@@ -{},{length} +{},{new_length} @@\n",
            start(from, length),
            start(from + grown, new_length)
        ));
        let mut push = |mark: char, line: &str| out.push_str(&format!("{mark}{line}\n"));
        let mut at = from;
        for edit in hunk {
            old[at..edit.at].iter().for_each(|line| push(' ', line));
            old[edit.at..edit.end()].iter().for_each(|line| push('-', line));
            edit.new.iter().for_each(|line| push('+', line));
            at = edit.end();
        }
        old[at..to].iter().for_each(|line| push(' ', line));
        grown = grown + come - gone;
    }
    out
}
