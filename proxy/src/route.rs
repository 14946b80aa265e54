//! Where a call goes: the upstream that its path addresses, and the first route that matches it.
//!
//! Pure. Neither `host`, nor an absolute URI, nor a body ever names an upstream: only config does.

use crate::fallback::{Fallback, Given};
use crate::split::Arm;
use http::HeaderMap;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use understudy_call::guard::Limits;
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

/// How a candidate's weight grows, in the units of the split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rollout {
    /// A step.
    pub step_weight: u32,
    /// The weight at which it ends.
    pub max_weight: u32,
    /// The shortest time at a step.
    pub interval: Duration,
    /// Fewest canaried calls at a step.
    pub min_calls: u64,
    /// Checks that may fail at a step before it is taken back.
    pub threshold: u32,
    /// Whether steps are taken without a person.
    pub auto: bool,
}

/// What becomes of a split whose task drifts, whose verdict is too old or whose candidate is another version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDrift {
    /// It stays at its weight.
    #[default]
    Freeze,
    /// All goes to the baseline.
    Rollback,
}

/// Which of a route's calls may go to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Those that are easy for their task.
    Easy,
}

/// A route as config gives it.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Its name, where one is given.
    pub name: Option<String>,
    /// What it takes.
    pub matching: RouteMatch,
    /// Weights by upstream.
    pub split: BTreeMap<String, u32>,
    /// When the baseline answers in a candidate's place.
    pub fallback: Given,
    /// What puts the split back.
    pub guard: Option<Limits>,
    /// How weights grow.
    pub rollout: Option<Rollout>,
    /// What becomes of the split when its task drifts.
    pub on_drift: OnDrift,
    /// Which calls may go to a candidate.
    pub when: Option<When>,
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
#[derive(Clone, Debug, PartialEq)]
pub struct ValidRoute {
    /// Its name: given, or made of what it matches. Part of the bucket's hash, and a metric label.
    pub id: String,
    /// What it takes.
    pub matching: RouteMatch,
    /// Its arms at the highest weights that they may have; empty where calls just go where they are addressed.
    pub arms: Vec<Arm>,
    /// When the baseline answers in a candidate's place.
    pub fallback: Fallback,
    /// Weights as config gives them: those of `arms`, but that a rollout begins at them.
    pub split: BTreeMap<String, u32>,
    /// The upstream that its calls are addressed to.
    pub baseline: String,
    /// What puts the split back.
    pub guard: Option<Limits>,
    /// How weights grow.
    pub rollout: Option<Rollout>,
    /// What becomes of the split when its task drifts.
    pub on_drift: OnDrift,
    /// Which calls may go to a candidate.
    pub when: Option<When>,
    /// Hash of split and guard: what was done under other ones does not hold any more.
    pub stamp: String,
}

impl ValidRoute {
    /// The task that it takes, where that is one.
    pub fn task(&self) -> Option<&str> {
        self.matching.task.as_deref().filter(|task| !task.contains('*'))
    }
}

/// All routes, in order.
#[derive(Clone, Debug, Default, PartialEq)]
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
            let parts = !route.arms.is_empty() && route.baseline == upstream;
            here && (route.matching.task.is_some() || route.matching.model.is_some() || parts)
        })
    }

    /// Whether any route asks for a task.
    pub fn need_task(&self) -> bool {
        self.0
            .iter()
            .any(|route| route.matching.task.is_some() || route.when.is_some())
    }

    /// The route of this id.
    pub fn get(&self, id: &str) -> Option<&ValidRoute> {
        self.0.iter().find(|route| route.id == id)
    }

    /// The first route that takes the call.
    pub fn first_match(&self, facts: Facts<'_>) -> Option<&ValidRoute> {
        // A split shares out the calls of its baseline: no other provider's call is sent there.
        let is_of = |route: &ValidRoute| route.arms.is_empty() || route.baseline == facts.upstream;
        self.0
            .iter()
            .find(|route| is_of(route) && matches(&route.matching, facts))
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
        if name != addressed && *weight > 0 && upstream.constrain {
            return Err(format!(
                "split: `{name}` has `constrain`, which holds for rehearsals alone: live calls would be answered otherwise than those that it was judged by"
            ));
        }
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
    if route.split.is_empty()
        && let Some(key) = [
            ("guard", route.guard.is_some()),
            ("rollout", route.rollout.is_some()),
            ("when", route.when.is_some()),
        ]
        .iter()
        .find_map(|(key, given)| given.then_some(key))
    {
        return Err(format!(
            "{key}: the route has no `split` for it: add one, or take it out"
        ));
    }
    let arms = highest_arms(&route, addressed)?;
    let stamp = stamp(&route.split, route.guard.as_ref());
    let baseline = addressed.to_owned();
    let id = route.name.unwrap_or_else(|| describe(&route.matching));
    Ok(ValidRoute {
        id,
        matching: route.matching,
        arms,
        split: route.split,
        baseline,
        guard: route.guard,
        rollout: route.rollout,
        on_drift: route.on_drift,
        when: route.when,
        stamp,
        fallback,
    })
}

/// The arms at the highest weights that a rollout may give the candidates; their sum stays that of the split.
fn highest_arms(route: &Route, baseline: &str) -> Result<Vec<Arm>, String> {
    let arm = |upstream: &str, weight: u32| Arm {
        upstream: upstream.to_owned(),
        weight,
    };
    let given = route.split.iter();
    let Some(rollout) = &route.rollout else {
        return Ok(given.map(|(name, weight)| arm(name, *weight)).collect());
    };
    let sum: u32 = route.split.values().sum();
    let mut arms: Vec<Arm> = given
        .filter(|(name, _)| *name != baseline)
        // 0 is never.
        .map(|(name, weight)| {
            arm(
                name,
                if *weight == 0 {
                    0
                } else {
                    rollout.max_weight.max(*weight)
                },
            )
        })
        .collect();
    let highest: u64 = arms.iter().map(|arm| u64::from(arm.weight)).sum();
    let rest = u32::try_from(u64::from(sum).saturating_sub(highest)).unwrap_or_default();
    if highest > u64::from(sum) {
        return Err(format!(
            "rollout.maxWeight: the candidates' highest weights add up to {highest}, the split's to {sum}: lower it to {}",
            u64::from(sum) / arms.len().max(1) as u64
        ));
    }
    arms.push(arm(baseline, rest));
    arms.sort_by(|one, other| one.upstream.cmp(&other.upstream));
    Ok(arms)
}

/// Hash of what a trip and a rollout happened under. Of the values, so that another layout of the file changes nothing.
fn stamp(split: &BTreeMap<String, u32>, guard: Option<&Limits>) -> String {
    let mut text = String::new();
    for (name, weight) in split {
        text.push_str(&format!("{name}={weight};"));
    }
    if let Some(guard) = guard {
        let limits = [
            ("error", guard.error),
            ("invalid", guard.invalid),
            ("fallback", guard.fallback),
            ("p95_latency", guard.p95_latency),
            ("cost", guard.cost),
            ("agreement", guard.agreement),
        ];
        for (name, limit) in limits {
            text.extend(limit.map(|limit| format!("{name}<{limit};")));
        }
    }
    blake3::hash(text.as_bytes()).to_hex()[..12].to_owned()
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
            matching,
            split: split.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect(),
            ..Route::default()
        }
    }

    #[test]
    fn a_rollout_begins_at_the_splits_weights_and_ends_at_its_own() {
        let rollout = Rollout {
            step_weight: 5,
            max_weight: 50,
            interval: Duration::from_secs(600),
            min_calls: 200,
            threshold: 1,
            auto: true,
        };
        let mut growing = route(RouteMatch::default(), &[("openai", 95), ("small", 5)]);
        let alone = Routes::new(vec![growing.clone()], &upstreams(), "openai").unwrap();
        growing.rollout = Some(rollout);
        let routes = Routes::new(vec![growing.clone()], &upstreams(), "openai").unwrap();
        let weights = |routes: &Routes| -> Vec<(String, u32)> {
            let arms = routes.all()[0].arms.iter();
            arms.map(|arm| (arm.upstream.clone(), arm.weight)).collect()
        };
        assert_eq!(weights(&routes), [("openai".into(), 50), ("small".into(), 50)]);
        assert_eq!(weights(&alone), [("openai".into(), 95), ("small".into(), 5)]);
        assert_eq!(routes.all()[0].split["small"], 5);
        assert_eq!(routes.all()[0].stamp, alone.all()[0].stamp);
        growing.guard = Some(Limits {
            error: Some(0.02),
            ..Limits::default()
        });
        let guarded = Routes::new(vec![growing.clone()], &upstreams(), "openai").unwrap();
        assert_ne!(routes.all()[0].stamp, guarded.all()[0].stamp);
        growing.rollout = Some(Rollout {
            max_weight: 101,
            ..rollout
        });
        let error = Routes::new(vec![growing], &upstreams(), "openai").unwrap_err();
        assert!(error.message.contains("maxWeight"), "{error:?}");
        let mut nothing = route(RouteMatch::default(), &[]);
        nothing.guard = Some(Limits::default());
        let error = Routes::new(vec![nothing], &upstreams(), "openai").unwrap_err();
        assert!(error.message.contains("no `split`"), "{error:?}");
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
    fn a_split_takes_calls_that_are_addressed_to_its_baseline_alone() {
        let split = |upstream: Option<&str>| {
            let matching = RouteMatch {
                upstream: upstream.map(str::to_owned),
                ..RouteMatch::default()
            };
            route(matching, &[("openai", 95), ("small", 5)])
        };
        let mut upstreams = upstreams();
        let other = UpstreamConfig::new("anthropic", Url::parse("http://a").unwrap());
        upstreams.insert("anthropic".into(), other);
        let routes = Routes::new(
            vec![split(None), route(RouteMatch::default(), &[])],
            &upstreams,
            "openai",
        );
        assert!(routes.is_err(), "the second would never be reached by its name");
        let plain = Route {
            name: Some("rest".into()),
            ..Route::default()
        };
        let routes = Routes::new(vec![split(None), plain], &upstreams, "openai").unwrap();
        let headers = HeaderMap::new();
        let of = |upstream| {
            let facts = Facts {
                upstream,
                path: "/v1/x",
                headers: &headers,
                model: None,
                task: None,
            };
            routes.first_match(facts).unwrap().id.clone()
        };
        assert_eq!((of("openai"), of("anthropic")), ("all".into(), "rest".into()));
        assert!(routes.need_body("openai") && !routes.need_body("anthropic"));
        let named = Routes::new(vec![split(Some("openai"))], &upstreams, "anthropic").unwrap();
        assert!(named.need_body("openai") && !named.need_body("anthropic"));
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
