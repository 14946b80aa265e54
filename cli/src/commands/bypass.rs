//! `bypass`: the kill switch. Every route to its baseline and nothing captured, on all replicas within seconds.

use crate::args::{BypassArguments, Switch};
use crate::log;
use crate::place::Place;
use anyhow::Result;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use understudy_collector::store::Store;
use understudy_proxy::proxy::Proxy;

/// The store's folder of the switch; the highest number is in force.
const FOLDER: &str = "bypass";
/// How often a proxy asks.
const EVERY: Duration = Duration::from_secs(1);

/// Turns it on or off.
pub(crate) async fn run(arguments: BypassArguments) -> Result<()> {
    let store = Place::of(&arguments.place)?.existing_store()?;
    let on = arguments.switch == Switch::On;
    // First what is urgent.
    let json = json!({ "on": on }).to_string();
    let number = store.create_numbered(FOLDER, json.into()).await?;
    log::note(&store, "bypass", json!({ "on": on, "number": number })).await?;
    match on {
        true => eprintln!("bypass is on: within seconds every call goes to its baseline, and none is kept"),
        false => eprintln!("bypass is off: within seconds routes and capture are in force again"),
    }
    Ok(())
}

/// Keeps the proxy's switch as the store says, for as long as the future lives. Without the store it stays as it is.
pub(crate) async fn watch(proxy: Arc<Proxy>, store: Store) {
    let mut known = 0;
    loop {
        match newer(&store, known).await {
            Ok(Some((number, on))) => {
                known = number;
                proxy.set_bypass(on);
                tracing::warn!(on, "bypass");
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "asking for the bypass failed"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Whether the switch is on.
///
/// # Errors
/// Where the store does not say.
pub(crate) async fn is_on(store: &Store) -> Result<bool> {
    Ok(newer(store, 0).await?.is_some_and(|(_, on)| on))
}

async fn newer(store: &Store, known: u32) -> Result<Option<(u32, bool)>> {
    let Some((number, key)) = store.latest(FOLDER).await?.filter(|(number, _)| *number > known) else {
        return Ok(None);
    };
    let switch: serde_json::Value = serde_json::from_slice(&store.get(&key).await?)?;
    // What can't be understood was meant to stop something.
    Ok(Some((number, switch["on"].as_bool().unwrap_or(true))))
}
