//! `check`: whether `serve` would take a config file.

use crate::output::counted;
use crate::parts;
use std::path::Path;
use std::process::ExitCode;
use understudy_client::{OpenError, Upstream, chain};
use understudy_proxy::certificate::Certificate;
use understudy_proxy::config::{Config, Overrides};
use understudy_proxy::guard::{Unwatched, unwatched};

/// Says on stderr what is wrong, or what the file amounts to.
pub(crate) fn run(file: &Path) -> ExitCode {
    let loaded = Config::load(file, &Overrides::default(), &parts::environment).map_err(anyhow::Error::from);
    let usable = loaded.and_then(|config| {
        config.tls.as_ref().map(Certificate::open).transpose()?;
        parts::dictionaries(&config)?;
        for upstream in config.upstreams.values() {
            match Upstream::open(upstream.clone(), config.timeouts.upstream) {
                // The machine that checks a config need not have the secrets of the one that runs it.
                Err(error @ OpenError::NoCredentials(_)) => eprintln!("warning: {error}"),
                opened => drop(opened?),
            }
        }
        Ok(config)
    });
    match usable {
        Ok(config) => {
            for words in &config.unset_keys {
                eprintln!("warning: {words}");
            }
            for route in config.routes.all() {
                for Unwatched { candidate, why, .. } in unwatched(route, &config) {
                    eprintln!("warning: route {}, {candidate}: {why}", route.id);
                }
            }
            eprintln!(
                "{} is valid: {}, {}, store {}, config {}",
                file.display(),
                counted(config.upstreams.len(), "upstream"),
                counted(config.routes.all().len(), "route"),
                config.data,
                config.hash
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("understudy: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
