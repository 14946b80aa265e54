//! Where a call goes: the upstream that its path addresses, and the first route that matches it.
//!
//! Pure. Neither `host`, nor an absolute URI, nor a body ever names an upstream: only config does.

use crate::fallback::{Fallback, Given};
use crate::split::Arm;
use http::HeaderMap;
use serde::Deserialize;
use std::collections::BTreeMap;
use understudy_client::UpstreamConfig;

/// What a route takes; all fields given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteMatch {
    /// Task id.
    pub task: Option<String>,
    /// Path, `*` for any run of characters.
    pub path: Option<String>,
    /// Model asked for, `*` likewise.
    pub model: Option<String>,
    /// Headers that have these values.
    pub header: BTreeMap<String, String>,
    /// Upstream addressed.
    pub upstream: Option<String>,
}

/// A route as config gives it.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name, where one is given.
    pub name: Option<String>,
    /// What it takes.
    pub matching: RouteMatch,
    /// Weights by upstream.
    pub split: BTreeMap<String, u32>,
    /// When the baseline answers in a candidate's place.
    pub fallback: Given,
}

/// A route that can't be used.
#[derive(Debug, PartialEq, Eq)]
pub struct RouteError {
    /// Its place in the list, from 0.
    pub index: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

/// One validated route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidRoute {
    /// Its name: given, or made of what it matches. Part of the bucket's hash, and a metric label.
    pub id: String,
    /// What it takes.
    pub matching: RouteMatch,
    /// Its arms; empty where calls just go where they are addressed.
    pub arms: Vec<Arm>,
    /// When the baseline answers in a candidate's place.
    pub fallback: Fallback,
}

/// All routes, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(Vec<ValidRoute>);

/// What is known of a call when it is routed.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The upstream addressed.
    pub upstream: &'a str,
    /// Path below it.
    pub path: &'a str,
    /// Request headers.
    pub headers: &'a HeaderMap,
    /// Model asked for, where the body was read.
    pub model: Option<&'a str>,
    /// Task, where the body was read.
    pub task: Option<&'a str>,
}

impl Routes {
    /// Checks the routes against the upstreams.
    ///
    /// # Errors
    /// The first route that makes no sense.
    pub fn new(
        routes: Vec<Route>,
        upstreams: &BTreeMap<String, UpstreamConfig>,
        default_upstream: &str,
    ) -> Result<Routes, RouteError> {
        let mut valid: Vec<ValidRoute> = Vec::with_capacity(routes.len());
        for (index, route) in routes.into_iter().enumerate() {
            let checked = check(route, upstreams, default_upstream).map_err(|message| RouteError { index, message })?;
            if valid.iter().any(|earlier| earlier.id == checked.id) {
                let message = format!(
                    "the route before it has the same name or match `{}`: it would never be reached",
                    checked.id
                );
                return Err(RouteError { index, message });
            }
            valid.push(checked);
        }
        Ok(Routes(valid))
    }

    /// The routes in order.
    pub fn all(&self) -> &[ValidRoute] {
        &self.0
    }

    /// Whether any route may need the body of a call at this upstream.
    pub fn need_body(&self, upstream: &str) -> bool {
        self.0.iter().any(|route| {
            let here = route.matching.upstream.as_deref().is_none_or(|name| name == upstream);
            here && (route.matching.task.is_some() || route.matching.model.is_some() || !route.arms.is_empty())
        })
    }

    /// Whether any route asks for a task.
    pub fn need_task(&self) -> bool {
        self.0.iter().any(|route| route.matching.task.is_some())
    }

    /// The first route that takes the call.
    pub fn first_match(&self, facts: Facts<'_>) -> Option<&ValidRoute> {
        self.0.iter().find(|route| matches(&route.matching, facts))
    }
}

fn check(
    route: Route,
    upstreams: &BTreeMap<String, UpstreamConfig>,
    default_upstream: &str,
) -> Result<ValidRoute, String> {
    let addressed = route.matching.upstream.as_deref().unwrap_or(default_upstream);
    if !upstreams.contains_key(addressed) {
        return Err(format!("match.upstream: `{addressed}` is not among the upstreams"));
    }
    for (name, weight) in &route.split {
        let upstream = upstreams
            .get(name)
            .ok_or_else(|| format!("split: `{name}` is not among the upstreams"))?;
        if name != addressed && *weight > 0 && !upstream.trusted {
            return Err(format!(
                "split: `{name}` would see unmasked text: set `trusted: true` on it, or take it out"
            ));
        }
    }
    if !route.split.is_empty() && route.split.values().all(|weight| *weight == 0) {
        return Err("split: all weights are 0: give one upstream a weight".into());
    }
    let fallback = Fallback::new(&route.fallback, !route.split.is_empty())?;
    let arms = route
        .split
        .into_iter()
        .map(|(upstream, weight)| Arm { upstream, weight })
        .collect();
    let id = route.name.unwrap_or_else(|| describe(&route.matching));
    Ok(ValidRoute {
        id,
        matching: route.matching,
        arms,
        fallback,
    })
}

/// A name made of what a route matches, e.g. `task:invoice-extract-7f3a`.
fn describe(matching: &RouteMatch) -> String {
    let fields = [
        ("task", &matching.task),
        ("path", &matching.path),
        ("model", &matching.model),
        ("upstream", &matching.upstream),
    ];
    let mut parts: Vec<String> = fields
        .iter()
        .filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}:{value}")))
        .collect();
    parts.extend(
        matching
            .header
            .iter()
            .map(|(name, value)| format!("header:{name}={value}")),
    );
    if parts.is_empty() {
        "all".into()
    } else {
        parts.join(",")
    }
}

fn matches(matching: &RouteMatch, facts: Facts<'_>) -> bool {
    let text = |pattern: &Option<String>, value: Option<&str>| match (pattern, value) {
        (None, _) => true,
        (Some(pattern), Some(value)) => glob(pattern, value),
        (Some(_), None) => false,
    };
    text(&matching.upstream, Some(facts.upstream))
        && text(&matching.path, Some(facts.path))
        && text(&matching.model, facts.model)
        && text(&matching.task, facts.task)
        && headers_match(&matching.header, facts.headers)
}

/// Whether all these headers have these values (`*` stands for any run of characters).
pub fn headers_match(wanted: &BTreeMap<String, String>, headers: &HeaderMap) -> bool {
    wanted.iter().all(|(name, pattern)| {
        headers
            .get_all(name.as_str())
            .iter()
            .any(|value| value.to_str().is_ok_and(|value| glob(pattern, value)))
    })
}

/// Whether `text` fits `pattern`, in which `*` stands for any run of characters. Linear in both for one star,
/// and never worse than their product.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(rest) = text.strip_prefix(pieces.next().unwrap_or_default()) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    let Some(mut rest) = rest.strip_suffix(last) else {
        return false;
    };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    true
}

/// Splits the path of a request into the upstream that its first segment names, if any, and what follows:
/// `/anthropic/v1/messages?x` → `(Some("anthropic"), "/v1/messages?x")`. The rest is kept byte for byte.
pub fn address(path_and_query: &str, is_upstream: impl Fn(&str) -> bool) -> (Option<&str>, &str) {
    let Some(rest) = path_and_query.strip_prefix('/') else {
        return (None, path_and_query);
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (segment, rest) = rest.split_at(end);
    if is_upstream(segment) {
        (Some(segment), if rest.is_empty() { "/" } else { rest })
    } else {
        (None, path_and_query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use url::Url;

    fn upstreams() -> BTreeMap<String, UpstreamConfig> {
        let mut small = UpstreamConfig::new("small", Url::parse("http://s").unwrap());
        small.trusted = true;
        let openai = UpstreamConfig::new("openai", Url::parse("http://o").unwrap());
        [("openai".to_owned(), openai), ("small".to_owned(), small)].into()
    }

    fn route(matching: RouteMatch, split: &[(&str, u32)]) -> Route {
        Route {
            name: None,
            matching,
            split: split.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect(),
            fallback: Given::default(),
        }
    }

    #[test]
    fn first_match_wins_and_all_fields_must_hold() {
        let by_task = RouteMatch {
            task: Some("t".into()),
            ..Default::default()
        };
        let by_model = RouteMatch {
            model: Some("gpt-4*".into()),
            path: Some("/v1/*".into()),
            ..Default::default()
        };
        let routes = Routes::new(
            vec![
                route(by_task, &[("openai", 95), ("small", 5)]),
                route(by_model, &[]),
                route(RouteMatch::default(), &[]),
            ],
            &upstreams(),
            "openai",
        )
        .unwrap();
        let headers = HeaderMap::new();
        let facts = Facts {
            upstream: "openai",
            path: "/v1/x",
            headers: &headers,
            model: None,
            task: None,
        };
        let id = |facts| routes.first_match(facts).unwrap().id.clone();
        assert_eq!(
            id(Facts {
                task: Some("t"),
                ..facts
            }),
            "task:t"
        );
        assert_eq!(
            id(Facts {
                model: Some("gpt-4o"),
                ..facts
            }),
            "path:/v1/*,model:gpt-4*"
        );
        assert_eq!(id(facts), "all");
        assert!(routes.need_body("openai") && routes.need_task());
    }

    #[test]
    fn unknown_upstreams_and_zero_splits_are_refused() {
        let fails = |split: &[(&str, u32)]| {
            Routes::new(vec![route(RouteMatch::default(), split)], &upstreams(), "openai")
                .unwrap_err()
                .message
        };
        assert!(fails(&[("nobody", 5)]).contains("nobody"));
        assert!(fails(&[("openai", 0)]).contains("all weights are 0"));
    }

    #[test]
    fn globs() {
        assert!(glob("a*c", "abbc") && glob("*", "") && glob("a", "a") && glob("*b*d*", "abcde"));
        assert!(!glob("a*c", "ab") && !glob("a", "ab") && !glob("ab*bc", "abc"));
    }

    #[test]
    fn the_first_segment_addresses_an_upstream_and_is_removed() {
        let known = |name: &str| name == "anthropic";
        assert_eq!(
            address("/anthropic/v1/messages?a=/b", known),
            (Some("anthropic"), "/v1/messages?a=/b")
        );
        assert_eq!(address("/v1/messages", known), (None, "/v1/messages"));
        assert_eq!(address("/anthropic", known), (Some("anthropic"), "/"));
        assert_eq!(address("//anthropic/x", known), (None, "//anthropic/x"));
        assert_eq!(address("/anthropic/../admin", known), (Some("anthropic"), "/../admin"));
    }
}
