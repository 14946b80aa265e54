//! Writes a task's data set into a folder: its parts, its card, and in the store which call lies in which line.

use crate::args::{DatasetArguments, DatasetShape};
use crate::draft::Whole;
use crate::exports::{Export, Lines};
use crate::output::count;
use crate::place::{Place, Wrong};
use anyhow::{Context, Result};
use jiff::Timestamp;
use ring::digest::{Context as Sha, SHA256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use understudy_call::keys::hex;
use understudy_call::taskbook::{CompiledBook, Task};
use understudy_collector::books::for_each_assigned;
use understudy_collector::dataset::{Card, CardFile, CardOf, ExportConfig, MARK, Part, Planner, Shape};
use understudy_collector::feedback::truths;
use understudy_collector::scan::CallFilter;
use understudy_collector::specialise::Learnt;
use understudy_collector::store::Store;

/// The card for people.
const README: &str = "README.md";

/// What was written.
pub(crate) struct Written {
    /// Its card.
    pub(crate) card: Card,
    /// What a model sees that is trained with it.
    pub(crate) learnt: Learnt,
    /// Which call lies in which line; the folder is the draft's.
    pub(crate) export: Export,
}

/// The flags as settings.
pub(crate) fn settings(arguments: &DatasetArguments, validation_share: f64) -> Result<ExportConfig> {
    let validation_share = arguments.validation_share.unwrap_or(validation_share);
    for (flag, share) in [
        ("--test-share", arguments.test_share),
        ("--validation-share", validation_share),
    ] {
        if !(0.0..=1.0).contains(&share) {
            return Err(Wrong(format!("{flag} must be from 0 to 1")).into());
        }
    }
    if arguments.test_share + validation_share > 1.0 {
        return Err(Wrong("--test-share and --validation-share are more than 1 together".into()).into());
    }
    Ok(ExportConfig {
        shape: match arguments.shape {
            DatasetShape::Chat => Shape::Chat,
            DatasetShape::PromptCompletion => Shape::PromptCompletion,
        },
        seed: arguments.seed,
        test_share: arguments.test_share,
        validation_share,
        limit: arguments.limit,
        balance: arguments.balance,
        max_tokens: arguments.max_tokens,
        without_masked: arguments.without_masked,
    })
}

/// One file while it is written.
struct Growing {
    file: Whole,
    calls: Vec<String>,
    conversations: BTreeSet<String>,
}

/// Writes the files and the card into an empty folder; what is told of it in the store is the caller's, before the files are
/// put where they stay.
///
/// # Errors
/// Where the store can't be read, or the folder can't be written.
pub(crate) async fn write(
    place: &Place,
    store: &Store,
    book: &CompiledBook,
    task: &Task,
    config: ExportConfig,
    folder: &Path,
) -> Result<Written> {
    let filter = CallFilter {
        task: Some(task.id.clone()),
        ..CallFilter::default()
    };
    let mut planner = Planner::new(config).knowing(truths(store).await?);
    for_each_assigned(store, &filter, Some(book), |call| planner.see(&call)).await?;
    let mut plan = planner.plan();
    let mut card = Card::new(card_of(place, book, task), config, plan.counts());
    let mut files: BTreeMap<Part, Growing> = BTreeMap::new();
    for part in Part::ALL {
        if part != Part::Validation || config.validation_share > 0.0 {
            let file = Growing {
                file: Whole::create(folder, &format!("{}.jsonl", part.as_str()))?,
                calls: Vec::new(),
                conversations: BTreeSet::new(),
            };
            files.insert(part, file);
        }
    }
    let (mut written, mut learnt) = (Ok(()), Learnt::default());
    for_each_assigned(store, &filter, Some(book), |call| {
        let Some(line) = plan.line(&call).filter(|_| written.is_ok()) else {
            return;
        };
        let Some(growing) = files.get_mut(&line.part) else {
            return;
        };
        written = growing.file.line(&line.text);
        card.add(&call, line.part, &line.text);
        growing.calls.push(call.call_id);
        growing.conversations.insert(line.conversation.clone());
        if line.part != Part::Test {
            learnt.conversations.insert(line.conversation);
            learnt.prompts.insert(line.prompt);
        }
    })
    .await?;
    written?;
    let mut export = Export {
        at: Timestamp::now().as_microsecond(),
        task: task.id.clone(),
        folder: std::path::absolute(folder)?,
        ..Export::default()
    };
    for (part, growing) in files {
        let (name, examples) = (format!("{}.jsonl", part.as_str()), growing.calls.len() as u64);
        let path = growing.file.finish()?;
        let (bytes, sha256) = sha256(&path)?;
        card.files.insert(
            name.clone(),
            CardFile {
                examples,
                conversations: growing.conversations.len() as u64,
                bytes,
                sha256,
            },
        );
        export.files.insert(name, Lines::of(&path, growing.calls)?);
    }
    card.finish();
    for (name, text) in [
        ("card.json", serde_json::to_string_pretty(&card)?),
        (README, card.markdown()),
    ] {
        let mut file = Whole::create(folder, name)?;
        file.line(text.trim_end())?;
        file.finish()?;
    }
    Ok(Written { card, learnt, export })
}

/// A folder for a data set, and what an earlier export left in it.
pub(crate) struct Former {
    folder: PathBuf,
    /// Its files, by SHA-256.
    files: BTreeMap<String, String>,
}

impl Former {
    /// Of a folder; a card.json of somebody else's stops us before anything is written.
    pub(crate) fn of(folder: &Path) -> Result<Former> {
        let path = folder.join("card.json");
        let mut files = BTreeMap::new();
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
            Ok(text) => {
                let card: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                let made_by = card["made_by"].as_str().unwrap_or_default();
                if !made_by.starts_with("understudy ") {
                    return Err(Wrong(format!("{} is no card of ours: say another --out", path.display())).into());
                }
                for (name, file) in card["files"].as_object().into_iter().flatten() {
                    let sha256 = file["sha256"].as_str().unwrap_or_default();
                    files.insert(name.clone(), sha256.to_owned());
                }
            }
        }
        let folder = folder.to_owned();
        Ok(Former { folder, files })
    }

    /// Moves a data set from its draft here; a README.md that is somebody's stays.
    pub(crate) fn replace(&self, card: &Card, draft: &Path) -> Result<()> {
        self.clear(card)?;
        let readme = self.folder.join(README);
        let is_ours = match std::fs::read_to_string(&readme) {
            Ok(text) => text.contains(MARK),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        if !is_ours {
            eprintln!(
                "{} is not ours, and stays: the card is card.json alone",
                readme.display()
            );
        }
        let names = card.files.keys().map(String::as_str).chain(["card.json"]);
        for name in names.chain(is_ours.then_some(README)) {
            let path = self.folder.join(name);
            std::fs::rename(draft.join(name), &path).with_context(|| format!("making {}", path.display()))?;
        }
        Ok(())
    }

    /// Removes a part that is none of the new card's, and is as it was written: its examples may be in another part now.
    fn clear(&self, card: &Card) -> Result<()> {
        let parts = Part::ALL.map(|part| format!("{}.jsonl", part.as_str()));
        for name in parts.iter().filter(|name| !card.files.contains_key(*name)) {
            let path = self.folder.join(name);
            let known = self.files.get(name).filter(|_| path.exists());
            match known {
                Some(known) if sha256(&path)?.1 == *known => {
                    std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
                }
                Some(_) => eprintln!(
                    "{} was changed, and stays: it is no part of this data set",
                    path.display()
                ),
                None => {}
            }
        }
        Ok(())
    }
}

fn card_of(place: &Place, book: &CompiledBook, task: &Task) -> CardOf {
    let masking = match &place.config {
        Some(config) => {
            format!("rules {:?}, surrogates {:?}", config.mask.rules, config.mask.surrogates).to_lowercase()
        }
        None => "as the config of `serve` says, by default the built-in rules with consistent surrogates".into(),
    };
    CardOf {
        task: task.id.clone(),
        name: task.name.clone(),
        taskbook_version: book.version(),
        made_by: concat!("understudy ", env!("CARGO_PKG_VERSION")).into(),
        masking,
    }
}

/// What became of the calls, for people.
pub(crate) fn say(card: &Card, folder: &Path) {
    let files = card.files.iter();
    let files: Vec<String> = files
        .map(|(name, file)| format!("{} to {name}", count(file.examples)))
        .collect();
    eprintln!(
        "{} calls: {} in {}",
        count(card.calls),
        files.join(", "),
        folder.display()
    );
    for (reason, calls) in &card.left_out {
        eprintln!("left out: {} {}", count(*calls), reason.as_str());
    }
    let examples = |name: &str| card.files.get(name).map_or(0, |file| file.examples);
    if card.config.test_share > 0.0 && examples("test.jsonl") == 0 && examples("train.jsonl") > 0 {
        eprintln!("nothing is held out for testing: too few conversations, or all begin with the same words");
    }
}

/// Size and SHA-256 of a file.
pub(crate) fn sha256(path: &Path) -> Result<(u64, String)> {
    let read = || -> std::io::Result<(u64, String)> {
        let mut file = File::open(path)?;
        let (mut sha, mut bytes, mut buffer) = (Sha::new(&SHA256), 0, vec![0; 1 << 16]);
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok((bytes, hex(sha.finish().as_ref())));
            }
            sha.update(&buffer[..count]);
            bytes += count as u64;
        }
    };
    read().with_context(|| format!("reading {}", path.display()))
}
