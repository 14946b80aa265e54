//! Masking: finds sensitive values in text and JSON, and puts surrogates in their place.
//!
//! Values are found by prefix, shape and check digit, by the words before them, and by the operator's dictionaries; a
//! value once found by its context is replaced wherever it recurs in the same body. Fails closed: what does not parse is
//! masked as text. Never keeps a value, and never changes a byte outside what it replaces.
//!
//! One file per family of kinds: `email`, `card`, `phone`, `network` (IP addresses), `account` (IBAN, SSN), `secret` read
//! signs; `person`, `birth`, `record` and `street` read words, with what `lexicon` knows of them.

mod account;
mod birth;
mod card;
mod date;
mod dictionary;
mod digits;
mod draft;
mod edit;
mod eight;
mod email;
mod fold;
mod heads;
mod hit;
mod json;
mod kind;
mod learnt;
mod letters;
mod lexicon;
mod network;
mod pattern;
mod person;
mod phone;
mod record;
mod restore;
mod scan;
mod scene;
mod secret;
mod seen;
mod street;
mod surrogate;
mod word;

pub use dictionary::Dictionary;
pub use draft::{Draft, Known, Values};
pub use json::JsonError;
pub use kind::{Counts, Kind, Span, spans_in_code_points};
pub use pattern::Pattern;
pub use restore::{Replaced, Restorer};
pub use surrogate::SurrogateStyle;

use dictionary::Dictionaries;
use draft::Found;
use edit::Edit;
use hit::Hit;
use json::{Leaf, Leaves};
use learnt::Learnt;
use pattern::{Allowed, Patterns};
use scene::Scene;
use secret::Secrets;
use seen::Seen;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use surrogate::Surrogates;
use word::Paper;

/// Which built-in rules apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// All of them.
    #[default]
    Default,
    /// None: dictionaries alone, if there are any.
    None,
}

/// How far equal values get equal surrogates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SurrogateScope {
    /// Throughout the deployment.
    #[default]
    Deployment,
    /// Among the calls of one client.
    Client,
}

/// What to mask.
#[derive(Clone, Debug, Default)]
pub struct MaskConfig {
    /// The built-in rules.
    pub rules: Rules,
    /// Values to mask besides, whatever they look like.
    pub dictionaries: Vec<Dictionary>,
    /// Forms to mask besides.
    pub patterns: Vec<Pattern>,
    /// Values that are never masked, whatever finds them; case is ignored.
    pub allow: Vec<String>,
    /// What stands in a value's place.
    pub surrogates: SurrogateStyle,
    /// How far equal values get equal surrogates.
    pub scope: SurrogateScope,
    /// The text comes off the wire, where nobody has masked it: what looks like a surrogate, as real values do by chance, is
    /// masked like any other. Else it stays, so that masking twice changes nothing.
    pub off_the_wire: bool,
}

/// Why something could not be masked.
#[derive(Debug, thiserror::Error)]
pub enum MaskError {
    /// A dictionary is too large, or a pattern can't be built.
    #[error("building the search for {names}")]
    Dictionary {
        /// The dictionaries.
        names: String,
        /// The automaton's own words.
        source: aho_corasick::BuildError,
    },
    /// A dictionary has more text than can be indexed.
    #[error("the dictionaries {names} are too large: over 1.4 GB")]
    TooLarge {
        /// The dictionaries.
        names: String,
    },
    /// A pattern is no regular expression, or too large.
    #[error("reading the pattern {name}: {source}")]
    Pattern {
        /// The pattern's name.
        name: String,
        /// What is wrong with it.
        source: regex::Error,
    },
    /// The text is not JSON; mask it as text.
    #[error(transparent)]
    Json(#[from] JsonError),
}

/// A body, masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedBody {
    /// The masked text; bytes that are not UTF-8 became U+FFFD.
    pub text: String,
    /// The body was not JSON in UTF-8, and was masked as text.
    pub parse_error: bool,
}

/// Finds and replaces; built once, shared by all threads.
pub struct Mask {
    secrets: Option<&'static Secrets>,
    dictionaries: Dictionaries,
    patterns: Patterns,
    allowed: Allowed,
    surrogates: Surrogates,
    scope: SurrogateScope,
    off_the_wire: bool,
    seen: Seen,
}

/// Surrogates by value, for each kind.
type Made = [HashMap<String, String>; Kind::ALL.len()];

/// Puts surrogates in, those of one client where they are apart by client.
pub struct Pen<'m> {
    surrogates: Cow<'m, Surrogates>,
    /// Those made so far, by kind and value: in a conversation most come again.
    made: RefCell<Made>,
}

/// Text that no built-in rule takes for anything: most keys and many values of JSON.
fn is_plain(scene: &Scene<'_>) -> bool {
    let is_word_byte = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-' | b'.');
    scene.text.len() < 2 || (scene.label.is_empty() && scene.text.len() < 20 && scene.text.bytes().all(is_word_byte))
}

impl Mask {
    /// Builds the search; surrogates are the same for the same key.
    ///
    /// # Errors
    /// A dictionary that is too large for the search, or a pattern that is none.
    pub fn new(config: &MaskConfig, surrogate_key: &[u8; 32]) -> Result<Mask, MaskError> {
        Ok(Mask {
            secrets: (config.rules == Rules::Default).then(Secrets::shared),
            dictionaries: Dictionaries::new(&config.dictionaries)?,
            patterns: Patterns::new(&config.patterns)?,
            allowed: Allowed::new(&config.allow),
            surrogates: Surrogates::new(surrogate_key, config.surrogates),
            scope: config.scope,
            off_the_wire: config.off_the_wire,
            seen: Seen::new(surrogate_key),
        })
    }

    /// Where sensitive values stand, in bytes; sorted, not overlapping.
    pub fn find(&self, text: &str) -> Vec<Span> {
        let draft = self.text_draft(Cow::Borrowed(text));
        let known = self.known(&Values::of([&draft.found]));
        let mut hits = Vec::new();
        for leaf in draft.leaves.iter() {
            draft.found.with_known(leaf.hits.clone(), text, &known, &mut hits);
        }
        let span = |hit: &Hit| Span {
            start: hit.start,
            end: hit.end,
            kind: hit.kind,
        };
        hits.iter().map(span).collect()
    }

    /// The text with surrogates put in; borrowed if nothing was found.
    pub fn text<'a>(&self, text: &'a str, counts: &mut Counts) -> Cow<'a, str> {
        let draft = self.text_draft(Cow::Borrowed(text));
        let known = self.known(&Values::of([&draft.found]));
        let edits = self.pen(None).edits_of(&draft, &known);
        edit::apply(text, &edits, counts)
    }

    /// A JSON text with surrogates put into its strings and whole numbers, which stay strings and whole numbers; borrowed
    /// if nothing was found. Escapes are seen through, and so is JSON inside strings.
    ///
    /// # Errors
    /// [`MaskError::Json`] if it is not JSON: mask it as text.
    pub fn json<'a>(&self, json: &'a str, counts: &mut Counts) -> Result<Cow<'a, str>, MaskError> {
        let draft = self.json_draft(json)?;
        let known = self.known(&Values::of([&draft.found]));
        let edits = self.pen(None).edits_of(&draft, &known);
        Ok(edit::apply(json, &edits, counts))
    }

    /// A body as it came off the wire: as JSON if it is, else as text.
    pub fn body(&self, body: &[u8], counts: &mut Counts) -> MaskedBody {
        let draft = self.draft(body);
        let known = self.known(&Values::of([&draft.found]));
        self.pen(None).finish(draft, &known, counts)
    }

    /// Looks through a body: the first half of [`Mask::body`]. What all texts of a call tell ([`Values::of_drafts`],
    /// [`Mask::known`]) is then replaced in each of them ([`Pen::finish`]).
    pub fn draft<'a>(&self, body: &'a [u8]) -> Draft<'a> {
        let utf8 = std::str::from_utf8(body);
        if let Ok(json) = utf8
            && let Ok(draft) = self.json_draft(json)
        {
            return draft;
        }
        let text = utf8.map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed);
        Draft {
            parse_error: !body.is_empty(),
            ..self.text_draft(text)
        }
    }

    /// Looks through a text that is no body: a path, a tag, an error.
    pub fn draft_of_text<'a>(&self, text: &'a str) -> Draft<'a> {
        self.text_draft(Cow::Borrowed(text))
    }

    /// Values, built for search; those that are never masked are left out.
    pub fn known(&self, values: &Values) -> Known {
        Known(Learnt::new(
            values.iter().filter(|(value, _)| !self.allowed.holds(value)),
        ))
    }

    /// What puts surrogates in; where they are apart by client, those of this one.
    pub fn pen(&self, client: Option<&str>) -> Pen<'_> {
        let client = client.filter(|_| self.scope == SurrogateScope::Client);
        let surrogates = match client {
            Some(client) => Cow::Owned(self.surrogates.within(client)),
            None => Cow::Borrowed(&self.surrogates),
        };
        Pen {
            surrogates,
            made: RefCell::default(),
        }
    }

    fn text_draft<'a>(&self, text: Cow<'a, str>) -> Draft<'a> {
        let mut found = Found::default();
        let scene = Scene::new(&text, "");
        let hits = found.record(&text, self.hits(&scene, &mut Paper::default()));
        Draft {
            leaves: Leaves::of_text(&text, hits),
            text,
            parse_error: false,
            found,
        }
    }

    fn json_draft<'a>(&self, json: &'a str) -> Result<Draft<'a>, MaskError> {
        let (mut found, mut paper) = (Found::default(), Paper::default());
        let leaves = Leaves::of_json(json, &mut |scene| {
            found.record(scene.text, self.hits(&scene, &mut paper))
        })?;
        Ok(Draft {
            text: Cow::Borrowed(json),
            leaves,
            parse_error: false,
            found,
        })
    }

    /// What rules, dictionaries and patterns find, sorted, not overlapping. What was masked before is not found again.
    fn hits(&self, scene: &Scene<'_>, paper: &mut Paper) -> Vec<Hit> {
        self.seen.hits(scene, || self.look(scene, paper))
    }

    fn look(&self, scene: &Scene<'_>, paper: &mut Paper) -> Vec<Hit> {
        let mut hits = Vec::new();
        if let Some(secrets) = self.secrets.filter(|_| !is_plain(scene)) {
            scan::find(scene, secrets, paper, &mut hits);
        }
        self.dictionaries.find(scene, &mut hits);
        self.patterns.find(scene.text, &mut hits);
        if hits.is_empty() {
            return hits;
        }
        hits.retain(|hit| !self.allowed.holds(&scene.text[hit.start..hit.end]));
        let is_surrogate =
            |hit: &&Hit| !self.off_the_wire && self.surrogates.are_at(scene.text, hit.start, hit.end, hit.kind);
        let surrogates: Vec<Hit> = hits.iter().filter(is_surrogate).copied().collect();
        if !surrogates.is_empty() {
            // A longer hit is none for what looks like a surrogate inside it: that may be so by chance.
            let is_of = |hit: &Hit, other: &Hit| {
                hit.start < other.end && other.start < hit.end && hit.end - hit.start <= other.end - other.start
            };
            hits.retain(|hit| !surrogates.iter().any(|surrogate| is_of(hit, surrogate)));
        }
        hit::settle(scene.text, &mut hits);
        hits
    }
}

impl Pen<'_> {
    /// Puts surrogates in for what was found in the body, and for what is known from elsewhere.
    pub fn finish(&self, draft: Draft<'_>, known: &Known, counts: &mut Counts) -> MaskedBody {
        let edits = self.edits_of(&draft, known);
        MaskedBody {
            text: edit::apply(&draft.text, &edits, counts).into_owned(),
            parse_error: draft.parse_error,
        }
    }

    /// What it has replaced.
    pub fn into_replaced(self) -> Replaced {
        Replaced(self.made.into_inner())
    }

    fn edits_of(&self, draft: &Draft<'_>, known: &Known) -> Vec<Edit> {
        let Draft {
            text, leaves, found, ..
        } = draft;
        let (mut edits, mut hits) = (Vec::new(), Vec::new());
        if found.is_empty() && known.is_empty() {
            return edits;
        }
        for leaf in leaves.iter() {
            let part = leaves.text(leaf, text);
            found.with_known(leaf.hits.clone(), part, known, &mut hits);
            if leaf.is_number() {
                // All of it or nothing.
                hits.drain(..hits.len().saturating_sub(1));
                hits.retain(|hit| hit.start == 0 && hit.end == part.len());
            }
            edits.extend(hits.iter().map(|hit| Edit {
                start: leaves.place(leaf, hit.start),
                end: leaves.place(leaf, hit.end),
                kind: hit.kind,
                replacement: self.replacement(leaf, hit.kind, &part[hit.start..hit.end]),
            }));
        }
        edits
    }

    fn replacement(&self, leaf: &Leaf, kind: Kind, value: &str) -> String {
        let surrogate = self.surrogate(kind, value);
        leaf.written(if leaf.is_number() {
            json::whole_number(surrogate)
        } else {
            surrogate
        })
    }

    fn surrogate(&self, kind: Kind, value: &str) -> String {
        let made = &mut self.made.borrow_mut()[kind as usize];
        if let Some(surrogate) = made.get(value) {
            return surrogate.clone();
        }
        let surrogate = self.surrogates.of(kind, value);
        made.insert(value.to_owned(), surrogate.clone());
        surrogate
    }
}

#[cfg(test)]
mod tests;
