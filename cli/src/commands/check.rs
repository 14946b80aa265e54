//! `check`: whether `serve` would take a config file.

use crate::serve;
use std::path::Path;
use std::process::ExitCode;
use understudy_proxy::certificate::Certificate;
use understudy_proxy::config::{Config, Overrides};
use understudy_proxy::guard::{Unwatched, unwatched};

/// Says on stderr what is wrong, or what the file amounts to.
pub(crate) fn run(file: &Path) -> ExitCode {
    let loaded = Config::load(file, &Overrides::default(), &serve::environment).map_err(anyhow::Error::from);
    let usable = loaded.and_then(|config| {
        config.tls.as_ref().map(Certificate::open).transpose()?;
        Ok(config)
    });
    match usable {
        Ok(config) => {
            for route in config.routes.all() {
                for Unwatched { candidate, why, .. } in unwatched(route, &config) {
                    eprintln!("warning: route {}, {candidate}: {why}", route.id);
                }
            }
            eprintln!(
                "{} is valid: {} upstreams, {} routes, store {}, config {}",
                file.display(),
                config.upstreams.len(),
                config.routes.all().len(),
                config.data,
                config.hash
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("understudy: {error}");
            ExitCode::FAILURE
        }
    }
}
