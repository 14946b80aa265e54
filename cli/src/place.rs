//! Where a command works: the store, and with a config file its keys, mask, upstreams and verdict settings.

use crate::args::DataArguments;
use crate::{keys, parts};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use understudy_call::keys::Keys;
use understudy_call::price::PriceTable;
use understudy_call::taskbook::{CompiledBook, Task, TaskBook};
use understudy_client::{Timeouts, Upstream, UpstreamConfig};
use understudy_collector::books;
use understudy_collector::mask::Mask;
use understudy_collector::row::RowMaker;
use understudy_collector::store::Store;
use understudy_collector::verdict::VerdictConfig;
use understudy_proxy::config::{Config, KeySource, Overrides};

/// The store where neither flag nor config says one.
const DEFAULT_DATA: &str = "./understudy-data";
/// `store.flush.after` where no config says another.
const FLUSH_AFTER: Duration = Duration::from_secs(60);

/// It was asked for something that makes no sense: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Wrong(pub(crate) String);

/// Where a command works.
pub(crate) struct Place {
    /// The config, where a file was given.
    pub(crate) config: Option<Config>,
    data: String,
}

impl Place {
    /// By the flags.
    pub(crate) fn of(arguments: &DataArguments) -> Result<Place> {
        let overrides = Overrides {
            data: arguments.data.clone(),
            ..Overrides::default()
        };
        let config = match &arguments.config {
            Some(file) => Some(Config::load(file, &overrides, &parts::environment)?),
            None => None,
        };
        let data = config.as_ref().map(|config| config.data.clone());
        Ok(Place {
            data: data.or(overrides.data).unwrap_or_else(|| DEFAULT_DATA.into()),
            config,
        })
    }

    /// The store, made where it is a directory and missing.
    pub(crate) fn store(&self) -> Result<Store> {
        self.open_store(self.directory().is_some())
    }

    fn open_store(&self, may_make_keys: bool) -> Result<Store> {
        let source = self.key_source();
        // Without a config the keys that are there say whether the store is encrypted.
        let encrypt = match &self.config {
            Some(config) => config.encrypt_store,
            None => keys::are_for_tables(&source)?,
        };
        let table_keys = keys::for_command(&source, encrypt, may_make_keys)?;
        let store = Store::open(&self.data).with_context(|| format!("opening the store {}", self.data))?;
        Ok(store.with_table_keys(table_keys))
    }

    /// The store, which must be there: reading makes none.
    pub(crate) fn existing_store(&self) -> Result<Store> {
        if let Some(directory) = self.directory()
            && !directory.exists()
        {
            bail!(
                "there is no data in {}: run `understudy serve` or `understudy import` first, or say --data or --config",
                directory.display()
            );
        }
        self.open_store(false)
    }

    /// The directory of a local store.
    fn directory(&self) -> Option<&Path> {
        match self.data.strip_prefix("file://") {
            Some(path) => Some(Path::new(path)),
            None => (!self.data.contains("://")).then_some(Path::new(&self.data)),
        }
    }

    /// The spool's folder.
    pub(crate) fn spool_dir(&self) -> PathBuf {
        match (&self.config, self.directory()) {
            (Some(config), _) => config.spool_dir(),
            (None, Some(directory)) => directory.join("spool"),
            (None, None) => PathBuf::from(DEFAULT_DATA).join("spool"),
        }
    }

    /// The deployment's keys, which must be there where there is something to read with them.
    pub(crate) fn existing_keys(&self) -> Result<Keys> {
        keys::load(&self.key_source(), false)
    }

    /// The deployment's keys, made where the store is local and they are missing.
    pub(crate) fn keys(&self) -> Result<Keys> {
        keys::load(&self.key_source(), self.directory().is_some())
    }

    /// Where the keys are.
    pub(crate) fn key_source(&self) -> KeySource {
        match (&self.config, self.directory()) {
            (Some(config), _) => config.keys.clone(),
            (None, Some(directory)) => KeySource::Dir(directory.join("keys")),
            (None, None) => KeySource::Dir(PathBuf::from(DEFAULT_DATA).join("keys")),
        }
    }

    /// What masks, by the config's rules and dictionaries, else the built-in ones.
    pub(crate) fn mask(&self) -> Result<Mask> {
        parts::mask(&self.config_or_default()?, &self.keys()?, false)
    }

    /// The same with keys that must be there: with new ones, equal values would get other surrogates than before.
    pub(crate) fn existing_mask(&self) -> Result<Mask> {
        parts::mask(&self.config_or_default()?, &self.existing_keys()?, false)
    }

    /// A short name of all that decides what the mask does.
    pub(crate) fn mask_settings(&self) -> Result<String> {
        let config = self.config_or_default()?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{:?}", config.mask).as_bytes());
        for dictionary in parts::dictionaries(&config)? {
            for entry in dictionary.entries {
                hasher.update(entry.as_bytes()).update(b"\n");
            }
        }
        let key = self.existing_keys()?.surrogate.id();
        let program = env!("CARGO_PKG_VERSION");
        Ok(format!("{key} {program} {}", hasher.finalize().to_hex()))
    }

    /// What makes rows, the current task book included.
    pub(crate) async fn row_maker(&self, store: &Store) -> Result<RowMaker> {
        let book = book(store).await?.map(Arc::new);
        let rows = parts::row_maker(&self.config_or_default()?, &self.keys()?, false)?;
        Ok(RowMaker { book, ..rows })
    }

    /// Prices of models, with the config's own.
    pub(crate) fn prices(&self) -> Result<Arc<PriceTable>> {
        Ok(self.config_or_default()?.prices)
    }

    /// The upstream of the config that a flag names.
    ///
    /// # Errors
    /// There is no config, or no such upstream in it.
    pub(crate) fn upstream(&self, flag: &str, name: &str) -> Result<&UpstreamConfig> {
        let Some(config) = &self.config else {
            return Err(Wrong(format!("{flag} names an upstream of a config file: say --config FILE")).into());
        };
        config.upstreams.get(name).ok_or_else(|| {
            let names: Vec<&str> = config.upstreams.keys().map(String::as_str).collect();
            Wrong(format!(
                "{flag}: `{name}` is not among the upstreams {}",
                names.join(", ")
            ))
            .into()
        })
    }

    /// Opens an upstream, with the config's deadlines.
    ///
    /// # Errors
    /// It can't be used; with its name.
    pub(crate) fn open(&self, upstream: UpstreamConfig) -> Result<Upstream> {
        let timeouts = match &self.config {
            Some(config) => config.timeouts.upstream,
            None => Timeouts::default(),
        };
        let name = upstream.name.clone();
        Upstream::open(upstream, timeouts).with_context(|| format!("opening the upstream {name}"))
    }

    /// The config's trainer.
    pub(crate) fn trainer(&self) -> Option<&str> {
        self.config.as_ref()?.trainer.as_deref()
    }

    /// Settings of verdicts.
    pub(crate) fn verdict(&self) -> VerdictConfig {
        self.config.as_ref().map(verdict_config).unwrap_or_default()
    }

    fn config_or_default(&self) -> Result<Config> {
        match &self.config {
            Some(config) => Ok(config.clone()),
            None => Ok(Config::of_upstream("http://localhost", &Overrides::default())?),
        }
    }
}

/// What is said where no call is stored yet, which is how it looks for a while after the first ones.
pub(crate) fn why_empty(place: &Place) -> String {
    let after = place.config.as_ref().map_or(FLUSH_AFTER, |config| config.flush.after);
    format!(
        "no call is stored yet: calls come here within {after:?} (`store.flush.after`) of being answered; `understudy audit` counts those that wait"
    )
}

/// A config's settings of verdicts.
pub(crate) fn verdict_config(config: &Config) -> VerdictConfig {
    let settings = config.verdict;
    let price = |upstream: &UpstreamConfig| Some((upstream.name.clone(), upstream.price?.gpu_hour));
    VerdictConfig {
        alpha: settings.alpha,
        margin: settings.margin,
        min_conversations: settings.min_conversations as usize,
        min_pairs: settings.min_pairs as usize,
        min_floor: settings.min_floor,
        max_age: settings.max_age,
        gpu_hours: config.upstreams.values().filter_map(price).collect(),
    }
}

/// The current task book, made ready; `None` where there is none yet.
pub(crate) async fn book(store: &Store) -> Result<Option<CompiledBook>> {
    Ok(books::current(store).await?.map(TaskBook::compile))
}

/// The current task book, which there must be.
pub(crate) async fn existing_book(store: &Store) -> Result<CompiledBook> {
    book(store)
        .await?
        .context("there is no task book yet: run `understudy tasks fit` first")
}

/// The task that a person means: by its id, else by its name.
pub(crate) fn task<'a>(book: &'a TaskBook, wanted: &str) -> Result<&'a Task> {
    if let Some(task) = book.task(wanted) {
        return Ok(task);
    }
    let named: Vec<&Task> = book.tasks.iter().filter(|task| task.name == wanted).collect();
    match named.as_slice() {
        [task] => Ok(task),
        [] => Err(Wrong(format!(
            "there is no task `{wanted}`: `understudy tasks list` shows them"
        ))
        .into()),
        _ => Err(Wrong(format!("several tasks are called `{wanted}`: say the id")).into()),
    }
}
