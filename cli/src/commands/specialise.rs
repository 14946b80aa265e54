//! `specialise`: a task's data set, a recipe, and one run of the user's own trainer, made reproducible.
//!
//! Trains nothing itself. What the model sees is put into the store before it is trained, so that no rehearsal and no
//! verdict counts what it learnt.

use crate::args::{Method, SpecialiseArguments};
use crate::draft::{Draft, Whole};
use crate::keys::make_private;
use crate::output::{counted, print_one};
use crate::place::{Place, Wrong, existing_book, task};
use crate::trainer::{self, Places, quoted, word};
use crate::{dataset, log};
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use understudy_collector::dataset::{Card, ExportConfig, Shape};
use understudy_collector::specialise::{Trained, load};
use understudy_collector::store::Store;

/// What a training is made by: all of it, so that the same recipe on the same data is the same training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recipe {
    /// The name to serve it under.
    model: String,
    base: String,
    method: Method,
    /// Of the low-rank adapters; null of `full`.
    rank: Option<u32>,
    /// What adapters are scaled by, twice the rank.
    alpha: Option<u32>,
    learning_rate: f64,
    epochs: f64,
    batch: u32,
    /// Longer examples are cut by the trainer; null = as its own default says.
    max_tokens: Option<i64>,
    seed: u64,
    task: String,
    /// What the data set was made by.
    data: ExportConfig,
    /// Of the data set's card.
    data_digest: String,
}

/// A file that the trainer left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Artefact {
    bytes: u64,
    sha256: String,
}

/// What a training came to: `manifest.json`, and beside its record in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Manifest {
    recipe: Recipe,
    trainer: String,
    /// RFC 3339.
    began: String,
    seconds: f64,
    exit_code: i32,
    artefacts: BTreeMap<String, Artefact>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Data and recipe are there, nobody trained.
    Written,
    /// Trained by this run.
    Trained,
    /// Trained before.
    AlreadyTrained,
}

impl State {
    /// In words.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Written => "data and recipe are ready",
            State::Trained => "trained",
            State::AlreadyTrained => "trained already",
        }
    }
}

/// What is printed.
#[derive(Serialize)]
pub(crate) struct Specialised {
    task: String,
    pub(crate) model: String,
    pub(crate) state: State,
    folder: PathBuf,
    data_digest: String,
    /// Examples of each file.
    examples: BTreeMap<String, u64>,
    manifest: Option<Manifest>,
    /// To be put into the config.
    config: String,
    /// Commands to go on with.
    next: Vec<String>,
}

/// The folders and files of one training.
struct Folder(PathBuf);

impl Folder {
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Exports, writes the recipe, and trains where there is a trainer.
pub(crate) async fn run(arguments: SpecialiseArguments) -> Result<()> {
    let (told, recipe) = specialise(&arguments).await?;
    print_one(arguments.format, &told, || text(&told, &recipe))
}

/// Does it all, with words on stderr.
pub(crate) async fn specialise(arguments: &SpecialiseArguments) -> Result<(Specialised, Recipe)> {
    let settings = dataset::settings(&arguments.set, 0.1)?;
    let place = Place::of(&arguments.place)?;
    let trainer = arguments.trainer.as_deref().or(place.trainer());
    trainer.map_or(Ok(()), trainer::check)?;
    if let Some(model) = arguments.model.as_deref().filter(|model| file_name(model).is_empty()) {
        return Err(Wrong(format!(
            "--model `{model}` has none of A-Z, a-z, 0-9 and _, which name its folder and its upstream"
        ))
        .into());
    }
    let store = place.existing_store()?;
    let book = existing_book(&store).await?;
    let task = task(book.book(), &arguments.task)?;
    let what = json!({ "command": "specialise", "task": task.id, "folder": std::path::absolute(&arguments.out)? });
    log::note(&store, "export", what).await?;

    let draft = Draft::create(&arguments.out)?;
    let data = draft.path().join("data");
    make_private(&data)?;
    let mut written = dataset::write(&place, &store, &book, task, settings, &data).await?;
    let recipe = recipe(arguments, &task.id, &written.card);
    let folder = Folder(arguments.out.join(file_name(&recipe.model)));
    let train_part = written.card.files.get("train.jsonl");
    if train_part.is_none_or(|file| file.examples == 0) {
        let left_out = written.card.left_out.iter();
        let left_out: String = left_out
            .map(|(reason, calls)| format!("; left out: {calls} {}", reason.as_str()))
            .collect();
        return Err(Wrong(format!(
            "of the {} calls of {} none is an example to train on{left_out}",
            written.card.calls, task.id
        ))
        .into());
    }
    let trained = Trained {
        model: recipe.model.clone(),
        base: recipe.base.clone(),
        task: task.id.clone(),
        data_digest: recipe.data_digest.clone(),
        calls: written.card.calls,
        recipe: serde_json::to_value(&recipe)?,
        learnt: written.learnt,
    };
    register(&store, &trained).await?;
    if !is_there(&folder, &recipe, &written.card)? {
        // Known before it is there: no copy of a call that erasing can't find.
        written.export.folder = std::path::absolute(folder.file("data"))?;
        written.export.put(&store).await?;
        settle(&draft, &folder, &recipe)?;
    }
    drop(draft);
    dataset::say(&written.card, &folder.file("data"));

    let (state, manifest) = train(&folder, &recipe, trainer)?;
    if let Some(manifest) = &manifest {
        store
            .create(&trained.result_key(), serde_json::to_vec(manifest)?.into())
            .await?;
    }
    let config = arguments
        .place
        .config
        .as_deref()
        .unwrap_or(Path::new("understudy.yaml"));
    let name = file_name(&recipe.model);
    let files = written.card.files.iter();
    let told = Specialised {
        task: task.id.clone(),
        state,
        folder: std::path::absolute(&folder.0)?,
        data_digest: recipe.data_digest.clone(),
        examples: files.map(|(name, file)| (name.clone(), file.examples)).collect(),
        manifest,
        config: format!(
            "upstreams:\n  {}:\n    url: http://127.0.0.1:8000\n    api: openai_chat\n    model: {}\n",
            scalar(&name),
            scalar(&recipe.model)
        ),
        next: vec![
            format!(
                "understudy replay --config {} --task {} --to {name}",
                word(&config.to_string_lossy()),
                task.id
            ),
            format!(
                "understudy verdict --config {} --task {}",
                word(&config.to_string_lossy()),
                task.id
            ),
        ],
        model: recipe.model.clone(),
    };
    Ok((told, recipe))
}

/// The command that trains a model of the task anew: by the same recipe, on what the data are now.
pub(crate) fn again(task: &str, recipe: &Recipe, out: &Path) -> Vec<String> {
    let set = &recipe.data;
    let shape = match set.shape {
        Shape::Chat => "chat",
        Shape::PromptCompletion => "prompt-completion",
    };
    let method = match recipe.method {
        Method::Lora => "lora",
        Method::Qlora => "qlora",
        Method::Full => "full",
    };
    let values = [
        ("out", Some(out.to_string_lossy().into_owned())),
        ("base", Some(recipe.base.clone())),
        ("method", Some(method.into())),
        ("rank", recipe.rank.map(|rank| rank.to_string())),
        ("learning-rate", Some(recipe.learning_rate.to_string())),
        ("epochs", Some(recipe.epochs.to_string())),
        ("batch", Some(recipe.batch.to_string())),
        ("training-seed", Some(recipe.seed.to_string())),
        ("as", Some(shape.into())),
        ("seed", Some(set.seed.to_string())),
        ("test-share", Some(set.test_share.to_string())),
        ("validation-share", Some(set.validation_share.to_string())),
        ("limit", set.limit.map(|limit| limit.to_string())),
        ("max-tokens", set.max_tokens.map(|most| most.to_string())),
    ];
    let flags = [("balance", set.balance), ("without-masked", set.without_masked)];
    let mut words = vec!["specialise".to_owned(), task.to_owned()];
    let values = values
        .into_iter()
        .filter_map(|(name, value)| Some(format!("--{name}={}", value?)));
    words.extend(values);
    words.extend(
        flags
            .into_iter()
            .filter(|(_, is_on)| *is_on)
            .map(|(name, _)| format!("--{name}")),
    );
    words
}

fn recipe(arguments: &SpecialiseArguments, task: &str, card: &Card) -> Recipe {
    let wanted = &arguments.recipe;
    let has_adapters = wanted.method != Method::Full;
    let rate = if has_adapters { 2e-4 } else { 1e-5 };
    let mut recipe = Recipe {
        model: String::new(),
        base: arguments.base.clone(),
        method: wanted.method,
        rank: has_adapters.then_some(wanted.rank),
        alpha: has_adapters.then(|| wanted.rank.saturating_mul(2)),
        learning_rate: wanted.learning_rate.unwrap_or(rate),
        epochs: wanted.epochs,
        batch: wanted.batch,
        max_tokens: card.config.max_tokens,
        seed: wanted.training_seed,
        task: task.to_owned(),
        data: card.config,
        data_digest: card.digest.clone(),
    };
    // By what it is made of: another recipe, or other data, is another model.
    let made_of = blake3::hash(format!("{recipe:?}").as_bytes());
    let name = || format!("{task}-{}", &made_of.to_hex()[..8]);
    recipe.model = arguments.model.clone().unwrap_or_else(name);
    recipe
}

/// Tells the store what the model will have seen; a name means one model.
async fn register(store: &Store, trained: &Trained) -> Result<()> {
    for known in load(store).await? {
        // Data that was exported for it by hand has no recipe.
        let is_same = known.recipe == trained.recipe || known.recipe.is_null();
        if known.model == trained.model && !is_same {
            return Err(Wrong(format!(
                "the model `{}` was trained in another way, or with other data: say another --model, since rehearsals tell \
                 versions apart by their name",
                trained.model
            ))
            .into());
        }
    }
    trained.put(store).await?;
    Ok(())
}

/// Puts the draft in its place, where nothing is yet.
fn settle(draft: &Draft, folder: &Folder, recipe: &Recipe) -> Result<()> {
    let mut file = Whole::create(draft.path(), "recipe.json")?;
    file.line(&serde_json::to_string_pretty(recipe)?)?;
    file.finish()?;
    std::fs::rename(draft.path(), &folder.0).with_context(|| format!("making {}", folder.0.display()))
}

/// Whether this very training is in its folder.
fn is_there(folder: &Folder, recipe: &Recipe, card: &Card) -> Result<bool> {
    let known = folder.file("recipe.json");
    if !known.exists() {
        if folder.0.exists() {
            let folder = folder.0.display();
            return Err(Wrong(format!(
                "{folder} is there, and is no training: say another --model or --out"
            ))
            .into());
        }
        return Ok(false);
    }
    let read = std::fs::read(&known).with_context(|| format!("reading {}", known.display()))?;
    let found: Option<Recipe> = serde_json::from_slice(&read).ok();
    if found.as_ref() != Some(recipe) {
        return Err(Wrong(format!(
            "{} is a training by another recipe: say another --model or --out",
            folder.0.display()
        ))
        .into());
    }
    for (name, told) in &card.files {
        let path = folder.file("data").join(name);
        // Of the same lines, perhaps in another order.
        if dataset::sha256(&path)?.0 != told.bytes {
            bail!(
                "{} is not as it was written: an erasure, or an edit. Remove {} and run this again",
                path.display(),
                folder.0.display()
            );
        }
    }
    Ok(true)
}

/// Runs the trainer, unless it did its work before.
fn train(folder: &Folder, recipe: &Recipe, trainer: Option<&str>) -> Result<(State, Option<Manifest>)> {
    let path = folder.file("manifest.json");
    if path.exists() {
        let read = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let manifest: Manifest =
            serde_json::from_slice(&read).with_context(|| format!("{} is no manifest", path.display()))?;
        if trainer.is_some_and(|trainer| trainer != manifest.trainer) {
            return Err(Wrong(format!(
                "{} was trained by another command ({}): say another --model",
                recipe.model, manifest.trainer
            ))
            .into());
        }
        return Ok((State::AlreadyTrained, Some(manifest)));
    }
    let Some(trainer) = trainer else {
        return Ok((State::Written, None));
    };
    let absolute = |name: &str| std::path::absolute(folder.file(name));
    let (recipe_file, data, out) = (absolute("recipe.json")?, absolute("data")?, absolute("out")?);
    let (began, clock) = (Timestamp::now().to_string(), Instant::now());
    let places = Places {
        recipe: &recipe_file,
        data: &data,
        out: &out,
        log: &folder.file("train.log"),
    };
    trainer::run(trainer, &places)?;
    let (mut artefacts, mut odd) = (BTreeMap::new(), Vec::new());
    collect(&out, &out, &mut artefacts, &mut odd);
    for path in &odd {
        eprintln!(
            "{} is no file that can be read, and is not in the manifest",
            path.display()
        );
    }
    if artefacts.is_empty() && odd.is_empty() {
        bail!("the trainer ended well and left nothing in {}", out.display());
    }
    let manifest = Manifest {
        recipe: recipe.clone(),
        trainer: trainer.to_owned(),
        began,
        seconds: clock.elapsed().as_secs_f64(),
        exit_code: 0,
        artefacts,
    };
    let mut file = Whole::create(&folder.0, "manifest.json")?;
    file.line(&serde_json::to_string_pretty(&manifest)?)?;
    file.finish()?;
    Ok((State::Trained, Some(manifest)))
}

/// All files below a folder, by their path in it, and what is none: links, which may lead nowhere or round in a circle,
/// pipes, what can't be read. A training of hours does not fail by them.
fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, Artefact>, odd: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        odd.extend((folder != root).then(|| folder.to_owned()));
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let kind = std::fs::symlink_metadata(&path).map(|about| about.file_type());
        if kind.as_ref().is_ok_and(|kind| kind.is_dir()) {
            collect(root, &path, found, odd);
            continue;
        }
        let is_file = kind.is_ok_and(|kind| kind.is_file());
        match is_file.then(|| dataset::sha256(&path)) {
            Some(Ok((bytes, sha256))) => {
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                found.insert(name, Artefact { bytes, sha256 });
            }
            _ => odd.push(path),
        }
    }
}

/// A model's name as that of a folder, and of an upstream.
fn file_name(model: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    let name: String = model.chars().map(plain).collect();
    name.trim_start_matches(['.', '-']).to_owned()
}

/// A name as YAML reads it as a text: quoted where it is not plain, or might be a number or a word like `true`.
fn scalar(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    match name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(is_plain)
        && !words.contains(&&*name.to_ascii_lowercase())
    {
        true => name.to_owned(),
        false => serde_json::Value::from(name).to_string(),
    }
}

fn text(told: &Specialised, recipe: &Recipe) -> String {
    let folder = |name: &str| quoted(&told.folder.join(name).to_string_lossy());
    let mut text = match (told.state, &told.manifest) {
        (State::Written, _) | (_, None) => by_hand(told, recipe),
        (state, Some(manifest)) => {
            format!(
                "{}: {}, in {:.0} s\n{} in {}\n",
                told.model,
                state.as_str(),
                manifest.seconds,
                counted(manifest.artefacts.len(), "file"),
                folder("out")
            )
        }
    };
    text.push_str(&format!(
        "\nServe it under the name {}, and tell the config:\n\n{}\nThen rehearse it, on calls that it has not seen:\n\n",
        told.model, told.config
    ));
    for command in &told.next {
        // A line of a terminal.
        text.push_str(&format!("  {}\n", command.replace(" --to ", " \\\n    --to ")));
    }
    text
}

/// How to train without a trainer of one's own.
fn by_hand(told: &Specialised, recipe: &Recipe) -> String {
    let folder = |name: &str| quoted(&told.folder.join(name).to_string_lossy());
    let adapters = match recipe.method {
        Method::Lora => " --use_peft",
        Method::Qlora => " --use_peft --load_in_4bit",
        Method::Full => "",
    };
    let rank = recipe
        .rank
        .zip(recipe.alpha)
        .map(|(rank, alpha)| format!(" --lora_r {rank} --lora_alpha {alpha}"));
    format!(
        "{}: data and recipe are ready, nobody trained yet\n\n\
         Train with a tool of your choice, for example with TRL:\n\n  \
         trl sft --model_name_or_path {} \\\n    --dataset_name {} \\\n    --output_dir {} \\\n   {adapters}{} --seed {} \\\n    \
         --learning_rate {} --num_train_epochs {} \\\n    --per_device_train_batch_size {}\n\n\
         or give this command `--trainer 'CMD {{recipe}} {{data}} {{out}}'`: it runs it, and\nkeeps what it leaves \
         (deploy/train/lora.py is a small example).\n",
        told.model,
        quoted(&recipe.base),
        folder("data"),
        folder("out"),
        rank.unwrap_or_default(),
        recipe.seed,
        recipe.learning_rate,
        recipe.epochs,
        recipe.batch,
    )
}
