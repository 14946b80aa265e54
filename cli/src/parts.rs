//! What a config and keys make: the mask, rows of calls, the vault. Starts nothing.

use crate::keys;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::Arc;
use understudy_call::keys::{Keys, Origins};
use understudy_collector::mask::{Dictionary, Kind, Mask, MaskConfig, Pattern, Rules, SurrogateScope, SurrogateStyle};
use understudy_collector::row::RowMaker;
use understudy_collector::vault::Vault;
use understudy_proxy::config::{Config, MaskPattern, MaskRules, MaskScope, MaskSurrogates};

/// An environment variable, for `key_env`.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The vault, where config asks for one.
pub(crate) fn vault(config: &Config, may_create: bool) -> Result<Option<Vault>> {
    if !config.mask.vault {
        return Ok(None);
    }
    Ok(Vault::new(keys::for_vault(&config.keys, may_create)?))
}

/// What makes rows of calls, by config; `off_the_wire` are those that nobody has masked yet.
pub(crate) fn row_maker(config: &Config, keys: &Keys, off_the_wire: bool) -> Result<RowMaker> {
    Ok(RowMaker {
        mask: Arc::new(mask(config, keys, off_the_wire)?),
        prices: config.prices.clone(),
        store_key: keys.store.clone(),
        origins: Arc::new(Origins::new(&keys.origin)),
        book: None,
    })
}

/// The config's dictionaries, of a word or phrase a line.
pub(crate) fn dictionaries(config: &Config) -> Result<Vec<Dictionary>> {
    let read = |path: &PathBuf| {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading the dictionary {}", path.display()))?;
        let entries = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Ok(Dictionary {
            name: name.unwrap_or_default(),
            kind: Kind::Dictionary,
            entries: entries.map(str::to_owned).collect(),
            ignore_case: true,
        })
    };
    config.mask.dictionaries.iter().map(read).collect()
}

/// The mask, by config; of text `off_the_wire`, or of such as may hold surrogates.
pub(crate) fn mask(config: &Config, keys: &Keys, off_the_wire: bool) -> Result<Mask> {
    let rules = match config.mask.rules {
        MaskRules::Default => Rules::Default,
        MaskRules::None => Rules::None,
    };
    let pattern = |pattern: &MaskPattern| Pattern {
        name: pattern.name.clone(),
        regex: pattern.regex.clone(),
    };
    let surrogates = match config.mask.surrogates {
        MaskSurrogates::Consistent => SurrogateStyle::Consistent,
        MaskSurrogates::Label => SurrogateStyle::Label,
        MaskSurrogates::Remove => SurrogateStyle::Remove,
    };
    let scope = match config.mask.scope {
        MaskScope::Deployment => SurrogateScope::Deployment,
        MaskScope::Client => SurrogateScope::Client,
    };
    let mask = MaskConfig {
        rules,
        dictionaries: dictionaries(config)?,
        patterns: config.mask.patterns.iter().map(pattern).collect(),
        allow: config.mask.allow.clone(),
        surrogates,
        scope,
        off_the_wire,
    };
    Mask::new(&mask, keys.surrogate.bytes()).context("building the mask of the config")
}
