//! Masking: finds sensitive values in text and JSON, and puts surrogates in their place.
//!
//! Values are found by prefix, shape and check digit, by the words before them, and by the operator's dictionaries; a
//! value once found by its context is replaced wherever it recurs in the same body. Fails closed: what does not parse is
//! masked as text. Never keeps a value, and never changes a byte outside what it replaces.
//!
//! One file per family of kinds: `email`, `card`, `phone`, `network` (IP addresses), `account` (IBAN, SSN), `secret`.

mod account;
mod card;
mod dictionary;
mod digits;
mod edit;
mod email;
mod json;
mod kind;
mod network;
mod phone;
mod scan;
mod scene;
mod secret;
mod surrogate;

pub use dictionary::Dictionary;
pub use json::JsonError;
pub use kind::{Counts, Kind, Span, spans_in_code_points};

use dictionary::{Dictionaries, Learnt};
use edit::Edit;
use scan::Hit;
use scene::Scene;
use secret::Secrets;
use std::borrow::Cow;
use surrogate::Surrogates;

/// Which built-in rules apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// All of them.
    #[default]
    Default,
    /// None: dictionaries alone, if there are any.
    None,
}

/// What to mask.
#[derive(Clone, Debug, Default)]
pub struct MaskConfig {
    /// The built-in rules.
    pub rules: Rules,
    /// Values to mask besides, whatever they look like.
    pub dictionaries: Vec<Dictionary>,
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
    secrets: Option<Secrets>,
    dictionaries: Dictionaries,
    surrogates: Surrogates,
}

/// Text too short for any built-in rule, and short text of plain words: most keys and many values of JSON.
fn is_plain(text: &str) -> bool {
    let is_word_byte = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b' ' | b'_' | b'-' | b'.' | b',');
    text.len() < 6 || (text.len() < 20 && text.bytes().all(is_word_byte))
}

impl Mask {
    /// Builds the search; surrogates are the same for the same key.
    ///
    /// # Errors
    /// A dictionary that is too large for the search.
    pub fn new(config: &MaskConfig, surrogate_key: &[u8; 32]) -> Result<Mask, MaskError> {
        let secrets = match config.rules {
            Rules::Default => Some(Secrets::new()?),
            Rules::None => None,
        };
        let dictionaries = Dictionaries::new(&config.dictionaries)?;
        Ok(Mask {
            secrets,
            dictionaries,
            surrogates: Surrogates::new(surrogate_key),
        })
    }

    /// Where sensitive values stand, in bytes; sorted, not overlapping.
    pub fn find(&self, text: &str) -> Vec<Span> {
        let scene = Scene { text, label: "" };
        let mut hits = self.hits(scene, &Learnt::new(Vec::new()));
        let learnt = Learnt::new(
            hits.iter()
                .filter(|hit| hit.by_context)
                .map(|hit| (text[hit.start..hit.end].to_owned(), hit.kind))
                .collect(),
        );
        if !learnt.is_empty() {
            hits = self.hits(scene, &learnt);
        }
        hits.iter()
            .map(|hit| Span {
                start: hit.start,
                end: hit.end,
                kind: hit.kind,
            })
            .collect()
    }

    /// The text with surrogates put in; borrowed if nothing was found.
    pub fn text<'a>(&self, text: &'a str, counts: &mut Counts) -> Cow<'a, str> {
        let scene = Scene { text, label: "" };
        let mut edits = self.text_edits(scene, &Learnt::new(Vec::new()));
        let learnt = Learnt::new(edit::take_learnt(&mut edits));
        if !learnt.is_empty() {
            edits = self.text_edits(scene, &learnt);
        }
        edit::apply(text, &edits, counts)
    }

    /// A JSON text with surrogates put into its strings and whole numbers, which stay strings and whole numbers; borrowed
    /// if nothing was found. Escapes are seen through, and so is JSON inside strings.
    ///
    /// # Errors
    /// [`MaskError::Json`] if it is not JSON: mask it as text.
    pub fn json<'a>(&self, json: &'a str, counts: &mut Counts) -> Result<Cow<'a, str>, MaskError> {
        let mut edits = json::edits(self, &Learnt::new(Vec::new()), json)?;
        let learnt = Learnt::new(edit::take_learnt(&mut edits));
        if !learnt.is_empty() {
            edits = json::edits(self, &learnt, json)?;
        }
        Ok(edit::apply(json, &edits, counts))
    }

    /// A body as it came off the wire: as JSON if it is, else as text.
    pub fn body(&self, body: &[u8], counts: &mut Counts) -> MaskedBody {
        let utf8 = std::str::from_utf8(body);
        if let Ok(json) = utf8
            && let Ok(masked) = self.json(json, counts)
        {
            return MaskedBody {
                text: masked.into_owned(),
                parse_error: false,
            };
        }
        let text = utf8.map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed);
        MaskedBody {
            text: self.text(&text, counts).into_owned(),
            parse_error: !body.is_empty(),
        }
    }

    /// All hits, sorted, not overlapping.
    fn hits(&self, scene: Scene<'_>, learnt: &Learnt) -> Vec<Hit> {
        let mut hits = Vec::new();
        if let Some(secrets) = self.secrets.as_ref().filter(|_| !is_plain(scene.text)) {
            scan::find(&scene, secrets, &mut hits);
        }
        self.dictionaries.find(&scene, &mut hits);
        learnt.find(&scene, &mut hits);
        scan::settle(&mut hits);
        hits
    }

    fn text_edits(&self, scene: Scene<'_>, learnt: &Learnt) -> Vec<Edit> {
        let hits = self.hits(scene, learnt);
        let edit = |hit: Hit| {
            let value = &scene.text[hit.start..hit.end];
            Edit {
                start: hit.start,
                end: hit.end,
                kind: hit.kind,
                replacement: self.surrogates.of(hit.kind, value),
                learn: hit.by_context.then(|| value.to_owned()),
            }
        };
        hits.into_iter().map(edit).collect()
    }
}

#[cfg(test)]
mod tests;
