//! The operator's page of a running `serve`: the collector's page, handed to the proxy's admin door.

use crate::keys;
use crate::place::verdict_config;
use std::sync::Arc;
use tokio::runtime::Runtime;
use understudy_call::control::{Control, Trip};
use understudy_collector::store::Store;
use understudy_collector::web::{Arm, Settings, Split, Web};
use understudy_proxy::admin::{Page, PageFuture, Pages, Role};
use understudy_proxy::config::Config;
use understudy_proxy::control::{Controls, standing};
use understudy_proxy::guard::unwatched;
use understudy_proxy::proxy::Proxy;
use understudy_proxy::route::{Routes, ValidRoute};

/// The page, kept fresh for as long as the runtime lives.
pub(crate) fn serve(config: &Config, proxy: &Arc<Proxy>, store: Store, runtime: &Runtime) -> Arc<dyn Pages> {
    // Without the keys of an encrypted store the page says which files it can't read.
    let table_keys = keys::for_command(&config.keys, config.encrypt_store, false);
    let store = store.with_table_keys(table_keys.unwrap_or_default());
    let (start, proxy) = (config.clone(), proxy.clone());
    let source = move || settings(&start, &proxy.routes(), &proxy.controls());
    let web = Web::new(store, Box::new(source));
    runtime.spawn(web.clone().keep_fresh());
    Arc::new(ServedPages(web))
}

struct ServedPages(Arc<Web>);

impl Pages for ServedPages {
    fn page<'a>(&'a self, path: &'a str, role: Role) -> PageFuture<'a> {
        Box::pin(async move {
            let who = format!("{} on the admin port", role.as_str());
            let page = self.0.page(path, role >= Role::Operator, &who).await?;
            Some(Page {
                status: http::StatusCode::from_u16(page.status).ok()?,
                content_type: page.content_type,
                body: page.body,
            })
        })
    }
}

/// What only the config and the controls in force know of a report.
pub(crate) fn settings(config: &Config, routes: &Routes, controls: &Controls) -> Settings {
    let model = |(name, upstream): (&String, &understudy_client::UpstreamConfig)| {
        let model = upstream.model.clone()?;
        Some((name.clone(), model))
    };
    let split = routes.all().iter().filter(|route| !route.arms.is_empty());
    Settings {
        verdict: verdict_config(config),
        models: config.upstreams.iter().filter_map(model).collect(),
        splits: split
            .map(|route| split_of(config, route, controls.get(&route.id)))
            .collect(),
    }
}

fn split_of(config: &Config, route: &ValidRoute, control: Option<&Control>) -> Split {
    let sum = route.arms.iter().map(|arm| arm.weight).sum::<u32>().max(1);
    let share = |weight: u32| f64::from(weight) / f64::from(sum);
    let task = route.task();
    let mut rest = sum;
    let mut arms = Vec::new();
    for arm in route.arms.iter().filter(|arm| arm.upstream != route.baseline) {
        let weight = standing(route, control, &arm.upstream, task).weight;
        rest = rest.saturating_sub(weight);
        arms.push(Arm {
            name: arm.upstream.clone(),
            given: share(route.split.get(&arm.upstream).copied().unwrap_or_default()),
            in_force: share(weight),
            highest: share(arm.weight),
        });
    }
    let given = arms.iter().map(|arm| arm.given).sum::<f64>();
    let baseline = Arm {
        name: route.baseline.clone(),
        given: 1.0 - given,
        in_force: share(rest),
        highest: 1.0,
    };
    arms.insert(0, baseline);
    let trips = control.map_or(&[][..], |control| &control.trips);
    let trips = trips.iter().filter(|trip| trip.stamp == route.stamp);
    let tripped = |trip: &Trip| {
        let other = trip.task.as_ref().filter(|of| Some(of.as_str()) != task);
        let of = other.map_or_else(String::new, |task| format!(" for {task}"));
        format!("{} is out{of}: {}", trip.candidate, trip.why)
    };
    let step = control.filter(|control| control.stamp == route.stamp);
    Split {
        route: route.id.clone(),
        task: route.matching.task.clone(),
        arms,
        step: step.and_then(|control| Some(control.step.as_ref()?.number)),
        tripped: trips.map(tripped).collect(),
        frozen: control.and_then(|control| Some(control.frozen.as_ref()?.why.clone())),
        unwatched: unwatched(route, config)
            .into_iter()
            .map(|one| format!("{} is {}", one.candidate, one.why))
            .collect(),
    }
}
