//! The card of a data set: what is in it, what was left out and why, and what may be done with it.

use super::{Counts, ExportConfig, LeftOut, Part};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use understudy_call::record::CallRecord;

/// What may be done with answers that were bought.
const LICENCE: &str = "Answers of a provider's model are subject to that provider's terms: read there whether other models may be \
trained on them. Prompts are yours, or your users': masking, where it was on, lowers the risk to persons and does not remove it.";

/// One file of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CardFile {
    /// Lines.
    pub examples: u64,
    /// Conversations that they are of.
    pub conversations: u64,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// What a card says of where the data comes from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CardOf {
    /// The task's id.
    pub task: String,
    /// Its name.
    pub name: String,
    /// The task book that assigned the calls.
    pub taskbook_version: i32,
    /// What wrote it, with its version: the rules of the mask come with it.
    pub made_by: String,
    /// How text was masked, as far as it is known.
    pub masking: String,
}

/// A data set's card: `card.json`; [`Card::markdown`] is its README.md.
#[derive(Clone, Debug, Serialize)]
pub struct Card {
    /// Where it comes from.
    #[serde(flatten)]
    pub of: CardOf,
    /// What was asked for.
    pub config: ExportConfig,
    /// Digest over all lines and their parts, whatever their order.
    pub digest: String,
    /// Calls of the task that were looked at.
    pub calls: u64,
    /// When the first of the examples' calls began, RFC 3339; null where it is not known.
    pub first_call: Option<String>,
    /// The last one.
    pub last_call: Option<String>,
    /// Whose answers they are: model → examples; `?` = not recorded.
    pub models: BTreeMap<String, u64>,
    /// The files by name.
    pub files: BTreeMap<String, CardFile>,
    /// Calls that are no examples, by reason.
    pub left_out: BTreeMap<LeftOut, u64>,
    /// What may be done with it.
    pub licence: &'static str,
    #[serde(skip)]
    lines: BTreeSet<[u8; 32]>,
    #[serde(skip)]
    range: Option<(i64, i64)>,
}

impl Card {
    /// A card of nothing yet.
    pub fn new(of: CardOf, config: ExportConfig, counts: &Counts) -> Card {
        Card {
            of,
            config,
            digest: String::new(),
            calls: counts.calls,
            first_call: None,
            last_call: None,
            models: BTreeMap::new(),
            files: BTreeMap::new(),
            left_out: counts.left_out.clone(),
            licence: LICENCE,
            lines: BTreeSet::new(),
            range: None,
        }
    }

    /// Takes an example in.
    pub fn add(&mut self, call: &CallRecord, part: Part, line: &str) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(part.as_str().as_bytes()).update(line.as_bytes());
        self.lines.insert(*hasher.finalize().as_bytes());
        let model = call.response_model.as_ref().or(call.request_model.as_ref());
        *self
            .models
            .entry(model.cloned().unwrap_or_else(|| "?".into()))
            .or_default() += 1;
        if let Some(at) = call.started_at {
            let (first, last) = self.range.unwrap_or((at, at));
            self.range = Some((first.min(at), last.max(at)));
        }
    }

    /// Makes digest and dates of what was added.
    pub fn finish(&mut self) {
        let mut hasher = blake3::Hasher::new();
        for line in &self.lines {
            hasher.update(line);
        }
        self.digest = hasher.finalize().to_hex()[..32].to_owned();
        let told = |at: i64| Timestamp::from_microsecond(at).ok().map(|at| at.to_string());
        self.first_call = self.range.and_then(|(first, _)| told(first));
        self.last_call = self.range.and_then(|(_, last)| told(last));
    }

    /// As README.md, with the head by which data hubs find the parts.
    pub fn markdown(&self) -> String {
        let mut text = String::from("---\nlicense: other\nconfigs:\n- config_name: default\n  data_files:\n");
        // A part without examples is no part to a loader.
        for (name, _) in self.files.iter().filter(|(_, file)| file.examples > 0) {
            let part = name.trim_end_matches(".jsonl");
            let _ = writeln!(text, "  - split: {part}\n    path: {name}");
        }
        let CardOf {
            task,
            name,
            taskbook_version,
            made_by,
            masking,
        } = &self.of;
        let _ = writeln!(
            text,
            "---\n{MARK}\n\n# {}\n\nCalls of the task `{task}`, as fine-tuning examples.\n",
            name.replace(['\n', '\r'], " ")
        );
        let _ = writeln!(text, "| file | examples | conversations | sha256 |\n|---|---|---|---|");
        for (name, file) in &self.files {
            let _ = writeln!(
                text,
                "| {name} | {} | {} | `{}` |",
                file.examples, file.conversations, file.sha256
            );
        }
        let unknown = || "?".to_owned();
        let models: Vec<String> = self
            .models
            .iter()
            .map(|(model, count)| format!("{model} ({count})"))
            .collect();
        let _ = writeln!(
            text,
            "\n* Calls looked at: {}, from {} to {}.\n* Answers of: {}.\n* Task book: version {taskbook_version}. Made by: {made_by}.\n\
             * Masking by the present config: {masking}.\n* Digest of all lines: `{}`.\n* Shape: {}; seed {}; held out for testing {}, for validation {}.",
            self.calls,
            self.first_call.clone().unwrap_or_else(unknown),
            self.last_call.clone().unwrap_or_else(unknown),
            if models.is_empty() {
                unknown()
            } else {
                models.join(", ")
            },
            self.digest,
            match self.config.shape {
                super::Shape::Chat => "chat",
                super::Shape::PromptCompletion => "prompt and completion",
            },
            self.config.seed,
            self.config.test_share,
            self.config.validation_share,
        );
        let _ = writeln!(text, "\n## Left out\n");
        for (reason, calls) in &self.left_out {
            let _ = writeln!(text, "* {}: {calls}", reason.as_str());
        }
        if self.left_out.is_empty() {
            let _ = writeln!(text, "Nothing.");
        }
        let _ = writeln!(
            text,
            "\n## Use\n\nA conversation lies whole in one file, and so do equal prompts. Test with test.jsonl; never train on it.\n\n\
             ## Licence\n\n{}",
            self.licence
        );
        text
    }
}

/// By this line a README.md is known to be a card, and may be written anew.
pub const MARK: &str = "<!-- card of a data set, written by understudy -->";
