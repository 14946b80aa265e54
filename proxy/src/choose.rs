//! Which upstream answers a call: route, split, and all that keeps a call with its baseline.
//!
//! Pure but for the memory of accepted clients, which it is handed. The same function serves live calls and `explain`.

use crate::accepted::Accepted;
use crate::headers::{Told, known_session};
use crate::route::{Facts, Routes, ValidRoute};
use crate::split;
use http::HeaderMap;
use serde_json::Value;
use understudy_call::call::{Api, Operation, Request};
use understudy_call::keys::Origins;
use understudy_call::taskbook::{Assignment, CompiledBook};
use understudy_call::translate;
use understudy_client::UpstreamConfig;

/// What is known of a call when its upstream is chosen.
pub struct Asked<'a> {
    /// The upstream that the path addresses.
    pub addressed: &'a str,
    /// The wire format.
    pub api: Api,
    /// Path below the upstream.
    pub path: &'a str,
    /// Request headers, ours taken out.
    pub headers: &'a HeaderMap,
    /// What our headers told.
    pub told: &'a Told,
    /// The client's pseudonym.
    pub client_id: Option<&'a str>,
    /// The body, where it was read whole.
    pub body: Option<&'a [u8]>,
    /// The body parsed, where it was read and is of a known API.
    pub request: Option<&'a Request>,
}

/// What was chosen, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chosen {
    /// The route that matched.
    pub route: Option<String>,
    /// The upstream that answers, where it is not the one addressed.
    pub candidate: Option<String>,
    /// Whether a split was in play.
    pub split: bool,
    /// Why the call stays with its baseline although the split gave it to a candidate.
    pub not_canaried: Option<&'static str>,
    /// The task, where a route asks for tasks.
    pub task: Option<Assignment>,
    /// Version of the task book that was asked.
    pub taskbook_version: Option<i32>,
    /// Decides the bucket.
    pub affinity_key: Option<String>,
}

/// What choosing needs besides the call.
pub struct Choice<'a> {
    /// Routes in force.
    pub routes: &'a Routes,
    /// Task book in force.
    pub book: Option<&'a CompiledBook>,
    /// Clients that the baseline accepted.
    pub accepted: &'a Accepted,
    /// Makes affinity keys.
    pub origins: &'a Origins,
    /// The upstreams by name.
    pub upstream: &'a dyn Fn(&str) -> Option<&'a UpstreamConfig>,
    /// Whether `x-understudy-route` pins an upstream.
    pub allow_pins: bool,
}

impl Choice<'_> {
    /// The upstream of a call.
    pub fn choose(&self, asked: &Asked<'_>) -> Chosen {
        let mut chosen = Chosen::default();
        if self.routes.need_task()
            && let (Some(book), Some(request)) = (self.book, asked.request)
        {
            chosen.task = book.assign(request);
            chosen.taskbook_version = Some(book.version());
        }
        let facts = Facts {
            upstream: asked.addressed,
            path: asked.path,
            headers: asked.headers,
            model: asked.request.and_then(|request| request.model.as_deref()),
            task: chosen.task.as_ref().map(|assignment| assignment.task.as_str()),
        };
        let route = self.routes.first_match(facts);
        chosen.route = route.map(|route| route.id.clone());
        let wanted = match (self.pin(asked), route) {
            (Some(pinned), _) => Some(pinned),
            (None, Some(route)) if !route.arms.is_empty() => {
                chosen.split = true;
                let key = self.affinity_key(asked);
                let arm = split::choose(&route.arms, &key, &route.id).map(|arm| arm.upstream.clone());
                chosen.affinity_key = Some(key);
                arm
            }
            _ => None,
        };
        if let Some(candidate) = wanted.filter(|name| name != asked.addressed) {
            match self.refusal(asked, &candidate) {
                Some(reason) => chosen.not_canaried = Some(reason),
                None => chosen.candidate = Some(candidate),
            }
        }
        chosen
    }

    fn pin(&self, asked: &Asked<'_>) -> Option<String> {
        let pin = asked.told.pin.as_deref().filter(|_| self.allow_pins)?;
        (self.upstream)(pin)
            .filter(|upstream| upstream.trusted)
            .map(|upstream| upstream.name.clone())
    }

    /// Why the call can't go to this candidate, if it can't.
    fn refusal(&self, asked: &Asked<'_>, candidate: &str) -> Option<&'static str> {
        let Some(config) = (self.upstream)(candidate) else {
            return Some("unknown_upstream");
        };
        let (Some(body), Some(request)) = (asked.body, asked.request) else {
            return Some("body_not_read");
        };
        if request.operation != Operation::Chat {
            return Some("not_a_chat");
        }
        let spoken = config.api.unwrap_or(Api::OpenaiChat);
        if spoken != asked.api
            && (spoken != Api::OpenaiChat || translate::request(asked.api, asked.path, body).is_err())
        {
            return Some("not_translatable");
        }
        if has_state_at_provider(body) {
            return Some("state_at_provider");
        }
        // Last, so that the reasons above are told even to clients that are not accepted yet.
        (!self.accepted.is_accepted(asked.client_id.unwrap_or_default())).then_some("client_not_accepted_yet")
    }

    /// The stateless key of a conversation: what its client calls it, or else who asks, under which system prompt, and
    /// what it asked first.
    fn affinity_key(&self, asked: &Asked<'_>) -> String {
        if let Some(conversation) = &asked.told.conversation {
            return self.origins.pseudonym("conversation", conversation.as_bytes());
        }
        if let Some(session) = known_session(asked.headers) {
            return self.origins.pseudonym("conversation", session);
        }
        let mut opening = String::from(asked.client_id.unwrap_or_default());
        if let Some(request) = asked.request {
            opening.push('\n');
            mask_digits(&request.system_text(), &mut opening);
            opening.push('\n');
            opening.push_str(request.first_user_text().unwrap_or_default());
        }
        self.origins.pseudonym("opening", opening.as_bytes())
    }
}

/// Dates and numbers in a system prompt change between the calls of one conversation: each run becomes one `0`.
fn mask_digits(text: &str, out: &mut String) {
    let mut in_digits = false;
    for character in text.chars() {
        let digit = character.is_ascii_digit();
        if !digit {
            out.push(character);
        } else if !in_digits {
            out.push('0');
        }
        in_digits = digit;
    }
}

/// Whether the provider holds, or is asked to hold, state of the call: such a call can't be answered elsewhere.
fn has_state_at_provider(body: &[u8]) -> bool {
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
        return true;
    };
    let set = |key: &str| {
        body.get(key)
            .is_some_and(|value| !value.is_null() && value != &Value::Bool(false))
    };
    let client_side = |tool: &Value| match tool.get("type").and_then(Value::as_str) {
        None | Some("function" | "custom") => true,
        Some(_) => false,
    };
    let tools_at_provider = body
        .get("tools")
        .and_then(Value::as_array)
        .is_some_and(|tools| !tools.iter().all(client_side));
    [
        "previous_response_id",
        "conversation",
        "store",
        "background",
        "container",
        "mcp_servers",
        "web_search_options",
    ]
    .iter()
    .any(|key| set(key))
        || tools_at_provider
}

/// The shares of a route's arms, for gauges.
pub fn shares(route: &ValidRoute) -> impl Iterator<Item = (&str, f64)> {
    let sum: f64 = route.arms.iter().map(|arm| f64::from(arm.weight)).sum();
    route
        .arms
        .iter()
        .map(move |arm| (arm.upstream.as_str(), f64::from(arm.weight) / sum.max(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Route, RouteMatch};
    use std::collections::BTreeMap;
    use std::time::Duration;
    use understudy_call::keys::Key;
    use url::Url;

    struct World {
        upstreams: BTreeMap<String, UpstreamConfig>,
        routes: Routes,
        accepted: Accepted,
        origins: Origins,
    }

    fn world(split: &[(&str, u32)]) -> World {
        let mut small = UpstreamConfig::new("small", Url::parse("http://s").unwrap());
        small.trusted = true;
        let big = UpstreamConfig::new("big", Url::parse("http://b").unwrap());
        let upstreams = BTreeMap::from([("big".to_owned(), big), ("small".to_owned(), small)]);
        let split = split.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect();
        let route = Route {
            name: None,
            matching: RouteMatch::default(),
            split,
        };
        let routes = Routes::new(vec![route], &upstreams, "big").unwrap();
        let origins = Origins::new(&Key::new([1; 32]));
        World {
            upstreams,
            routes,
            accepted: Accepted::new(Duration::from_secs(60)),
            origins,
        }
    }

    impl World {
        fn choose(&self, body: &str, told: &Told, client: &str) -> Chosen {
            let request = understudy_call::wire::parse_request(Api::OpenaiChat, body.as_bytes()).ok();
            let upstream = |name: &str| self.upstreams.get(name);
            let choice = Choice {
                routes: &self.routes,
                book: None,
                accepted: &self.accepted,
                origins: &self.origins,
                upstream: &upstream,
                allow_pins: false,
            };
            choice.choose(&Asked {
                addressed: "big",
                api: Api::OpenaiChat,
                path: "/v1/chat/completions",
                headers: &HeaderMap::new(),
                told,
                client_id: Some(client),
                body: Some(body.as_bytes()),
                request: request.as_ref(),
            })
        }
    }

    const BODY: &str = r#"{"model":"m","messages":[{"role":"system","content":"Today is 2026-01-02."},{"role":"user","content":"hi"}]}"#;

    #[test]
    fn only_accepted_clients_are_canaried() {
        let world = world(&[("small", 100)]);
        assert_eq!(
            world.choose(BODY, &Told::default(), "c").not_canaried,
            Some("client_not_accepted_yet")
        );
        world.accepted.accept("c");
        assert_eq!(
            world.choose(BODY, &Told::default(), "c").candidate.as_deref(),
            Some("small")
        );
        assert_eq!(world.choose(BODY, &Told::default(), "d").candidate, None);
    }

    #[test]
    fn calls_with_state_at_the_provider_stay() {
        let world = world(&[("small", 100)]);
        world.accepted.accept("c");
        for field in [
            r#""store":true"#,
            r#""previous_response_id":"r""#,
            r#""tools":[{"type":"web_search"}]"#,
        ] {
            let body = BODY.replacen('{', &format!("{{{field},"), 1);
            assert_eq!(
                world.choose(&body, &Told::default(), "c").not_canaried,
                Some("state_at_provider"),
                "{field}"
            );
        }
        let harmless = BODY.replacen(
            '{',
            r#"{"store":false,"tools":[{"type":"function","function":{"name":"f"}}],"#,
            1,
        );
        assert_eq!(world.choose(&harmless, &Told::default(), "c").not_canaried, None);
    }

    #[test]
    fn a_conversation_keeps_its_key_as_it_grows_and_as_days_pass() {
        let world = world(&[("big", 50), ("small", 50)]);
        let first = world.choose(BODY, &Told::default(), "c").affinity_key;
        let grown = BODY.replace(
            "]}",
            r#",{"role":"assistant","content":"a"},{"role":"user","content":"b"}]}"#,
        );
        let later = grown.replace("2026-01-02", "2026-01-03");
        assert_eq!(first, world.choose(&later, &Told::default(), "c").affinity_key);
        assert_ne!(first, world.choose(BODY, &Told::default(), "d").affinity_key);
        let named = Told {
            conversation: Some("x".into()),
            ..Told::default()
        };
        assert_eq!(
            world.choose(BODY, &named, "c").affinity_key,
            world.choose(&later, &named, "d").affinity_key
        );
    }
}
