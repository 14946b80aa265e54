//! The operator's page of a running `serve`: the collector's page, handed to the proxy's admin door.

use crate::keys;
use crate::place::verdict_config;
use std::sync::Arc;
use tokio::runtime::Runtime;
use understudy_collector::store::Store;
use understudy_collector::web::{Settings, Web};
use understudy_proxy::admin::{Page, PageFuture, Pages, Role};
use understudy_proxy::config::Config;
use understudy_proxy::proxy::Proxy;
use understudy_proxy::route::Routes;

/// The page, kept fresh for as long as the runtime lives.
pub(crate) fn serve(config: &Config, proxy: &Arc<Proxy>, store: Store, runtime: &Runtime) -> Arc<dyn Pages> {
    // Without the keys of an encrypted store the page says which files it can't read.
    let table_keys = keys::for_command(&config.keys_dir(), config.encrypt_store, false);
    let store = store.with_table_keys(table_keys.unwrap_or_default());
    let (start, proxy) = (settings(config), proxy.clone());
    let source = move || of_routes(&proxy.routes(), start.clone());
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

/// What only the config knows of a report.
pub(crate) fn settings(config: &Config) -> Settings {
    let model = |(name, upstream): (&String, &understudy_client::UpstreamConfig)| {
        let model = upstream.model.clone()?;
        Some((name.clone(), model))
    };
    let settings = Settings {
        verdict: verdict_config(config),
        models: config.upstreams.iter().filter_map(model).collect(),
        ..Settings::default()
    };
    of_routes(&config.routes, settings)
}

/// With the routes that name a task, and their weights.
fn of_routes(routes: &Routes, mut settings: Settings) -> Settings {
    settings.splits.clear();
    settings.routes.clear();
    for route in routes.all() {
        if let Some(task) = &route.matching.task {
            let arms = route.arms.iter().map(|arm| (arm.upstream.clone(), arm.weight));
            // The first route that matches wins.
            settings.splits.entry(task.clone()).or_insert_with(|| arms.collect());
            settings.routes.insert(route.id.clone(), task.clone());
        }
    }
    settings
}
