//! Which upstream answers a call: route, split, and all that keeps a call with its baseline.
//!
//! Pure but for the memory of accepted clients, which it is handed. The same function serves live calls and `explain`.

use crate::accepted::Accepted;
use crate::control::{Controls, Standing, standing};
use crate::easy;
use crate::fallback::Fallback;
use crate::headers::{Told, known_session};
use crate::route::{Facts, Routes, ValidRoute, When};
use crate::split::{self, Arm};
use crate::state;
use http::HeaderMap;
use std::time::{SystemTime, UNIX_EPOCH};
use understudy_call::call::{Api, Operation, Request};
use understudy_call::features::mask_literals;
use understudy_call::keys::Origins;
use understudy_call::taskbook::{Assignment, CompiledBook};
use understudy_call::translate::{self, Refusal, Translated};
use understudy_client::UpstreamConfig;

/// What is known of a call when its upstream is chosen.
pub struct Asked<'a> {
    /// The upstream that the path addresses.
    pub addressed: &'a str,
    /// The wire format.
    pub api: Api,
    /// Path and query below the upstream.
    pub path_and_query: &'a str,
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
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// The route that matched.
    pub route: Option<String>,
    /// The upstream that answers, where it is not the one addressed.
    pub candidate: Option<String>,
    /// The request in the candidate's API, where that is not the call's.
    pub translated: Option<Box<Translated>>,
    /// Whether a split was in play.
    pub split: bool,
    /// When the baseline answers in the candidate's place.
    pub fallback: Option<Fallback>,
    /// Why the call stays with its baseline although the split gave it to a candidate.
    pub not_canaried: Option<&'static str>,
    /// More words on why.
    pub detail: Option<String>,
    /// Whether it is too hard for its route's candidates, whoever's bucket it is in.
    pub is_hard: bool,
    /// The task, where a route asks for tasks.
    pub task: Option<Assignment>,
    /// Version of the task book that was asked.
    pub taskbook_version: Option<i32>,
    /// Decides the bucket.
    pub affinity_key: Option<String>,
    /// The candidate whose bucket it is, and what that may take for now.
    pub bucket: Option<(String, Standing)>,
}

/// Why a call stays with its baseline.
struct Stay {
    reason: &'static str,
    detail: Option<String>,
}

impl Stay {
    fn because(reason: &'static str) -> Stay {
        Stay { reason, detail: None }
    }

    fn of(refusal: &Refusal) -> Stay {
        let reason = match refusal {
            Refusal::StateAtProvider(_) => "state_at_provider",
            _ => "not_translatable",
        };
        Stay {
            reason,
            detail: Some(refusal.to_string()),
        }
    }
}

impl Asked<'_> {
    /// The path without its query.
    fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }
}

/// What choosing needs besides the call.
pub struct Choice<'a> {
    /// Routes in force.
    pub routes: &'a Routes,
    /// Task book in force.
    pub book: Option<&'a CompiledBook>,
    /// Controls in force.
    pub controls: &'a Controls,
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
            path: asked.path(),
            headers: asked.headers,
            model: asked.request.and_then(|request| request.model.as_deref()),
            task: chosen.task.as_ref().map(|assignment| assignment.task.as_str()),
        };
        let route = self.routes.first_match(facts);
        chosen.route = route.map(|route| route.id.clone());
        chosen.fallback = route.map(|route| route.fallback);
        let wanted = match (self.pin(asked), route) {
            (Some(pinned), _) => Some(pinned),
            (None, Some(route)) if !route.arms.is_empty() => {
                chosen.split = true;
                let key = self.affinity_key(asked);
                let arm = split::choose(&route.arms, &key, &route.id);
                let arm =
                    arm.filter(|arm| arm.upstream == asked.addressed || self.keeps(route, arm, &key, &mut chosen));
                chosen.affinity_key = Some(key);
                arm.map(|arm| arm.upstream.clone())
            }
            _ => None,
        };
        let hard = route
            .filter(|_| chosen.split)
            .and_then(|route| self.hard(route, asked, &chosen));
        chosen.is_hard = hard.is_some();
        if let Some(candidate) = wanted.filter(|name| name != asked.addressed) {
            let put = match hard {
                Some(detail) => Err(Stay {
                    reason: "hard",
                    detail: Some(detail),
                }),
                None => self.put_to(asked, &candidate),
            };
            match put {
                Ok(translated) => {
                    chosen.candidate = Some(candidate);
                    chosen.translated = translated;
                }
                Err(stay) => {
                    chosen.not_canaried = Some(stay.reason);
                    chosen.detail = stay.detail;
                }
            }
        }
        chosen
    }

    /// Whether a conversation in a candidate's bucket goes there at the weight in force.
    fn keeps(&self, route: &ValidRoute, arm: &Arm, key: &str, chosen: &mut Chosen) -> bool {
        let task = chosen.task.as_ref().map(|assignment| assignment.task.as_str());
        let task = task.filter(|_| route.matching.task.is_some());
        let standing = standing(route, self.controls.get(&route.id), &arm.upstream, task);
        let keeps = split::keeps(arm, standing.weight, key, &route.id);
        if let Some(trip) = &standing.trip {
            chosen.not_canaried = Some("tripped");
            chosen.detail = Some(trip.why.clone());
        }
        chosen.bucket = Some((arm.upstream.clone(), standing));
        keeps
    }

    /// Why a call is too hard for the candidates of its route, if it is.
    fn hard(&self, route: &ValidRoute, asked: &Asked<'_>, chosen: &Chosen) -> Option<String> {
        let (When::Easy, request) = (route.when?, asked.request?);
        let task = chosen.task.as_ref();
        easy::hard(request, task, task.and_then(|task| self.book?.task(&task.task)))
    }

    fn pin(&self, asked: &Asked<'_>) -> Option<String> {
        let pin = asked.told.pin.as_deref().filter(|_| self.allow_pins)?;
        (self.upstream)(pin)
            .filter(|upstream| upstream.trusted)
            .map(|upstream| upstream.name.clone())
    }

    /// How the call goes to this candidate: translated, or (`None`) as it is; or why it can't.
    fn put_to(&self, asked: &Asked<'_>, candidate: &str) -> Result<Option<Box<Translated>>, Stay> {
        let config = (self.upstream)(candidate).ok_or(Stay::because("unknown_upstream"))?;
        let (Some(body), Some(request)) = (asked.body, asked.request) else {
            return Err(Stay::because("body_not_read"));
        };
        if request.operation != Operation::Chat {
            return Err(Stay::because("not_a_chat"));
        }
        let spoken = config.api.unwrap_or(Api::OpenaiChat);
        let translated = if !translate::is_needed(asked.api, spoken) {
            if state::at_provider(asked.api, body) {
                return Err(Stay::because("state_at_provider"));
            }
            if state::signs_thinking(asked.api, body) {
                return Err(Stay::because("thinking_is_signed"));
            }
            None
        } else {
            let translated = translate::between(asked.api, spoken, asked.path_and_query, body);
            let mut translated = translated.map_err(|refusal| Stay::of(&refusal))?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            translated.back.created = now.as_secs().try_into().unwrap_or(0);
            Some(Box::new(translated))
        };
        // Last, so that the reasons above are told even to clients that are not accepted yet.
        if self.accepted.is_accepted(asked.client_id.unwrap_or_default()) {
            Ok(translated)
        } else {
            Err(Stay::because("client_not_accepted_yet"))
        }
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
            push_lasting_words(&request.system_text(), &mut opening);
            opening.push('\n');
            opening.push_str(request.first_user_text().unwrap_or_default());
        }
        self.origins.pseudonym("opening", opening.as_bytes())
    }
}

/// What of a system prompt stays the same in all calls of one conversation: its words, but for literals and what a clock
/// or calendar put in.
fn push_lasting_words(prompt: &str, out: &mut String) {
    const CALENDAR: &str = " am pm mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec ";
    const FULL_NAMES: &str = " monday tuesday wednesday thursday friday saturday sunday january february march april june july august september october november december ";
    let masked = mask_literals(prompt);
    let words = masked.split(|character: char| !character.is_alphanumeric());
    for word in words.filter(|word| !word.is_empty()) {
        let spaced = format!(" {} ", word.to_ascii_lowercase());
        if word.len() > 9 || !(CALENDAR.contains(&spaced) || FULL_NAMES.contains(&spaced)) {
            out.push_str(word);
            out.push(' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Route;
    use std::collections::BTreeMap;
    use std::time::Duration;
    use understudy_call::keys::Key;
    use url::Url;

    struct World {
        upstreams: BTreeMap<String, UpstreamConfig>,
        routes: Routes,
        controls: Controls,
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
            split,
            ..Route::default()
        };
        let routes = Routes::new(vec![route], &upstreams, "big").unwrap();
        let origins = Origins::new(&Key::new([1; 32]));
        World {
            upstreams,
            routes,
            controls: Controls::new(),
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
                controls: &self.controls,
                accepted: &self.accepted,
                origins: &self.origins,
                upstream: &upstream,
                allow_pins: false,
            };
            choice.choose(&Asked {
                addressed: "big",
                api: Api::OpenaiChat,
                path_and_query: "/v1/chat/completions",
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
    fn what_a_clock_puts_into_a_prompt_does_not_matter_and_its_words_do() {
        let lasting = |prompt: &str| {
            let mut out = String::new();
            push_lasting_words(prompt, &mut out);
            out
        };
        let evening = lasting("You help. Today is Monday, Jan 31 2026, 11:59 PM. Session 0f3a-77. Be brief.");
        let morning = lasting("You help. Today is Tuesday, Feb 1 2026, 0:02 AM. Session 91bc-01. Be brief.");
        assert_eq!(evening, morning);
        assert_eq!(lasting("You help with 7 things."), "You help with n things ");
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
