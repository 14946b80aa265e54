//! `store.keep` and `routes[].keep`: the collector erases what is older, at its start and every hour.

use crate::{exports, log};
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use understudy_collector::erase::{Aged, Wanted, erase};
use understudy_collector::store::Store;
use understudy_proxy::config::Config;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(3600);
/// What is kept for long goes day by day, the rest hour by hour: each step is an erasure of its own.
const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// Erases what is too old for as long as the future lives; does nothing where config keeps all for ever.
pub(crate) async fn keep(config: Config, store: Store) {
    if config.keep.is_none() && config.keep_of_routes.is_empty() {
        return;
    }
    loop {
        let now = Timestamp::now().as_microsecond();
        let wanted = Wanted {
            aged: too_old(config.keep, &config.keep_of_routes, now),
            ..Wanted::default()
        };
        if let Err(error) = once(&store, &wanted, now).await {
            tracing::warn!(%error, "what is too old could not be erased: it is tried again in an hour");
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn once(store: &Store, wanted: &Wanted, now: i64) -> anyhow::Result<()> {
    if let Some((mut receipt, calls)) = erase(store, wanted, now, true).await? {
        let (lines, not_reached) = exports::erase(store, &calls).await?;
        receipt.export_lines = lines;
        receipt.not_reached.extend(not_reached);
        let waiting = "what waits in spools: collectors leave it out, and drain them, within seconds of seeing this";
        receipt.not_reached.push(waiting.into());
        receipt.put(store).await?;
        log::note(
            store,
            "erase",
            json!({ "aged": receipt.aged, "erasure": receipt.erasure }),
        )
        .await?;
        let erased = &receipt.erased;
        tracing::info!(
            calls = erased.calls,
            scores = erased.scores,
            "erased what is older than it is kept"
        );
    }
    Ok(())
}

/// The ages of what goes; a route's own age wins over the store's.
fn too_old(keep: Option<Duration>, of_routes: &BTreeMap<String, Duration>, now: i64) -> Vec<Aged> {
    let before = |keep: Duration| {
        let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        let step = if keep > 10 * DAY { DAY } else { HOUR };
        let at = now.saturating_sub(keep);
        at - at.rem_euclid(step)
    };
    let routes = of_routes.iter().map(|(route, keep)| Aged {
        before: before(*keep),
        route: Some(route.clone()),
        except: Vec::new(),
    });
    let all = keep.map(|keep| Aged {
        before: before(keep),
        route: None,
        except: of_routes.keys().cloned().collect(),
    });
    routes.chain(all).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_its_own_age_and_all_else_the_stores() {
        let now = 1_795_244_400_123_456;
        let days = |days: u64| Duration::from_secs(days * 86400);
        let of_routes = BTreeMap::from([("chat".to_owned(), days(1))]);
        let [chat, rest] = <[Aged; 2]>::try_from(too_old(Some(days(90)), &of_routes, now)).unwrap();
        assert_eq!(
            (chat.route.as_deref(), rest.except),
            (Some("chat"), vec!["chat".to_owned()])
        );
        // Never sooner than it is kept, and at most a step later.
        let (asked, step) = (now - DAY, HOUR);
        assert!(chat.before <= asked && chat.before > asked - step);
        let asked = now - 90 * DAY;
        assert!(rest.before <= asked && rest.before > asked - DAY);
        assert!(too_old(None, &BTreeMap::new(), now).is_empty());
    }
}
