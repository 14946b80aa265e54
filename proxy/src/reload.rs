//! Reloads routes and exclusions when the config file changes, and the certificate when its files do; a bad file keeps the
//! old ones and says why.
//!
//! Polls the file's content: that also sees a ConfigMap's swapped symlinks, and editors that replace the file.

use crate::certificate::CertificateError;
use crate::config::{Config, Overrides};
use crate::proxy::Proxy;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often the file is read.
const EVERY: Duration = Duration::from_millis(500);

/// Watches the file for as long as the future lives. `read_env` gives environment variables.
pub async fn watch_config(
    proxy: Arc<Proxy>,
    path: PathBuf,
    overrides: Overrides,
    read_env: impl Fn(&str) -> Option<String>,
) {
    // Nothing yet: a change between the start's reading and this one must not be missed.
    let mut seen = None;
    loop {
        tokio::time::sleep(EVERY).await;
        let text = tokio::task::block_in_place(|| std::fs::read_to_string(&path).ok());
        if text == seen {
            continue;
        }
        seen = text;
        let Some(text) = &seen else {
            failed(&proxy, &format!("{} can't be read", path.display()));
            continue;
        };
        match Config::parse(text, &path, &overrides, &read_env) {
            Ok(config) if config.hash == proxy.routing.load().hash => proxy.metrics.reload_failed.set(0),
            Ok(config) => {
                proxy.apply(&config);
                proxy.metrics.reload_failed.set(0);
                proxy.metrics.reloads.with_label_values(&["ok"]).inc();
                tracing::info!(
                    hash = config.hash,
                    routes = config.routes.all().len(),
                    "config reloaded: routes, shadow and capture.exclude are in force, the rest at the next start"
                );
            }
            Err(error) => failed(&proxy, &error.to_string()),
        }
    }
}

/// Watches the listener's certificate, where there is one, for as long as the future lives.
pub async fn watch_certificate(proxy: Arc<Proxy>) {
    let Some(certificate) = &proxy.certificate else { return };
    let told = |result: Result<(), CertificateError>| {
        proxy.metrics.certificate_failed.set(i64::from(result.is_err()));
        match result {
            Ok(()) => tracing::info!("certificate reloaded: new connections are shown the new one"),
            Err(error) => tracing::error!(%error, "certificate not reloaded: the old one stays in force"),
        }
    };
    certificate.watch(told).await;
}

fn failed(proxy: &Proxy, reason: &str) {
    proxy.metrics.reload_failed.set(1);
    proxy.metrics.reloads.with_label_values(&["failed"]).inc();
    tracing::error!(reason, "config not reloaded: the old one stays in force");
}
