//! One call, top to bottom: address, route, split, upstream, and back.
//!
//! Bytes travel unchanged both ways. Capture rides along and never decides over the call, unless the operator made it
//! `required`.

use crate::baseline::{self, Addressed};
use crate::body::{ClientBody, Held};
use crate::candidate::{self, Part};
use crate::capture::{NotKept, OpenCall};
use crate::choose::{Asked, Choice, Chosen};
use crate::fallback::Fallback;
use crate::gate::refuse;
use crate::guard::Watched;
use crate::headers;
use crate::line::Upload;
use crate::proxy::{Proxy, Routing, is_excluded};
use crate::refusal;
use crate::route;
use crate::tunnel;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use std::sync::Arc;
use std::time::{Duration, Instant};
use understudy_call::call::{Api, Operation};
use understudy_call::record::Outcome;
use understudy_call::wire;

/// What clients are told of their call by `expose_headers`, whoever answers it.
#[derive(Default)]
struct Exposed {
    call: String,
    task: Option<String>,
}

/// Answers one request of a client.
pub(crate) async fn exchange(proxy: Arc<Proxy>, request: Request<Upload>) -> Response<ClientBody> {
    let mut exposed = proxy.expose_headers.then(Exposed::default);
    let mut response = carry(proxy, request, &mut exposed).await;
    let headers = response.headers_mut();
    for (name, value) in exposed.iter().flat_map(Exposed::headers) {
        headers.insert(name, value);
    }
    response
}

async fn carry(proxy: Arc<Proxy>, request: Request<Upload>, exposed: &mut Option<Exposed>) -> Response<ClientBody> {
    let started = Instant::now();
    // Refused before it counts as a call: what is no call to an upstream, or past a limit.
    if let Some(refusal) = refuse(&proxy, &request) {
        return refusal.map(ClientBody::full);
    }
    let (mut parts, body) = request.into_parts();
    let line = body.line().clone();
    let whole_path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let (named, path_and_query) = route::address(&whole_path, |name| proxy.upstreams.contains_key(name));
    let upstream = named
        .map_or(&proxy.default_upstream, |name| &proxy.upstreams[name])
        .clone();
    let path = path_and_query.split('?').next().unwrap_or(path_and_query);
    let api = if parts.method == Method::POST {
        wire::detect(path)
    } else {
        Api::Other
    };

    // From here on it is a call: counted, and kept or dropped with a reason.
    let mut call = proxy.capture.begin(started, upstream.name(), api);
    if let Some(exposed) = exposed {
        exposed.call.clone_from(&call.head.call_id);
    }
    call.head.address_id = line.address_id().map(str::to_owned);
    let told = headers::take_ours(&mut parts.headers);
    let routing = proxy.routing.load_full();
    note_request(&proxy, &mut call, &parts, path_and_query, &told, &routing);
    let is_bypassed = proxy.is_bypassed();
    if is_bypassed {
        call.not_kept = Some(NotKept::Bypassed);
    }
    if tunnel::wanted(&parts) && body.is_end_stream() {
        return tunnel::open(call, &proxy, &upstream, path_and_query, parts, body).await;
    }
    headers::remove_hop_of_request(&mut parts.headers);
    if parts.version > Version::HTTP_11 {
        headers::join_cookies(&mut parts.headers);
    }

    // The body is read only where a route or the upstream's config may need it; otherwise it streams.
    let mut held = Held::Streaming(body);
    let mut chosen = Chosen::default();
    let pinned = proxy.allow_pins && told.pin.is_some();
    let is_routed = !is_bypassed && api != Api::Other && (pinned || routing.need_body(upstream.name()));
    let mut waited = Duration::ZERO;
    if is_routed || baseline::needs_body(&upstream, api, &parts.headers) {
        let waiting = Instant::now();
        held = match held.read(proxy.limits.max_routed_body, &call.request_copy()).await {
            Ok(held) => held,
            Err(error) => return refusal::broken_off(call, api, line.fault(), &*error).await,
        };
        waited = waiting.elapsed();
    }
    if is_routed {
        chosen = choose(
            &proxy,
            &routing,
            &mut call,
            upstream.name(),
            api,
            path_and_query,
            &parts,
            &told,
            &held,
        );
        if let Some(exposed) = exposed {
            exposed.task.clone_from(&call.head.task_id);
        }
    }
    call.add_overhead(started.elapsed().saturating_sub(waited));
    if proxy.capture.required && proxy.capture.is_slow() && call.not_kept.is_none() {
        return refuse_unkept(call, api).await;
    }
    let candidate = chosen.candidate.as_deref().and_then(|name| proxy.upstreams.get(name));
    if let (Some(candidate), Some(body)) = (candidate, held.whole()) {
        let part = Part {
            candidate,
            reason: if chosen.split { "split" } else { "pinned" },
            api,
            body,
            translated: chosen.translated.as_deref(),
            fallback: chosen.fallback.unwrap_or(Fallback::BARE),
            time: chosen.fallback.and_then(|fallback| fallback.time_for(&parts.headers)),
        };
        match candidate::answer(&proxy, call, &part).await {
            Ok(response) => return response,
            // The candidate failed, or its answer was found invalid, before the client saw a byte: the baseline answers.
            Err(lost) => call = *lost,
        }
    }
    let client_id = call.head.client_id.clone().unwrap_or_default();
    let addressed = Addressed {
        upstream: &upstream,
        api,
        path_and_query,
        parts,
        held,
        line,
    };
    let response = addressed.answer(&proxy, call).await;
    if chosen.split || proxy.allow_pins {
        // Only a client whose key the baseline took may be canaried.
        match response.status() {
            status if status.is_success() => proxy.accepted.accept(&client_id),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => proxy.accepted.refuse(&client_id),
            _ => {}
        }
    }
    response
}

impl Exposed {
    fn headers(&self) -> impl Iterator<Item = (&'static str, HeaderValue)> {
        let call = Some(self.call.as_str()).filter(|call| !call.is_empty());
        let told = [("x-understudy-call", call), ("x-understudy-task", self.task.as_deref())];
        told.into_iter()
            .filter_map(|(name, value)| Some((name, HeaderValue::from_str(value?).ok()?)))
    }
}

/// Puts into the record what the head of the request tells.
fn note_request(
    proxy: &Proxy,
    call: &mut OpenCall,
    parts: &Parts,
    path_and_query: &str,
    told: &headers::Told,
    routing: &Routing,
) {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let origins = &proxy.capture.origins;
    let head = &mut call.head;
    head.method = parts.method.as_str().to_owned();
    head.path = path.to_owned();
    head.client_id =
        headers::credential(&parts.headers, path_and_query).map(|credential| origins.pseudonym("client", &credential));
    head.key_id = Some(origins.key_id.clone());
    head.trace_id = headers::trace_id(&parts.headers);
    head.tags = told.tags.clone();
    head.config_hash = Some(routing.hash.clone());
    head.request_encoding = headers::text(&parts.headers, header::CONTENT_ENCODING);
    let named = told
        .conversation
        .as_ref()
        .map(String::as_bytes)
        .or_else(|| headers::known_session(&parts.headers));
    head.conversation = named.map(|name| origins.pseudonym("conversation", name));
    head.affinity_key = head.conversation.clone();
    // Of what is not parsed, the model is noted where it can be seen: a socket's is in its query.
    head.request_model = url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, value)| name == "model" && !value.is_empty() && value.len() <= 256)
        .map(|(_, value)| value.into_owned());
    let excluded = is_excluded(
        &routing.exclude,
        &head.upstream,
        path,
        &parts.headers,
        None,
        head.client_id.as_deref(),
    );
    if told.no_capture || excluded {
        call.not_kept = Some(NotKept::Excluded);
    }
    if call.head.api == Some(Api::Other)
        && let Some(content_type) = headers::text(&parts.headers, header::CONTENT_TYPE)
    {
        call.look_for_model(&content_type);
    }
}

#[expect(clippy::too_many_arguments, reason = "all that is known of the call, each used once")]
fn choose(
    proxy: &Arc<Proxy>,
    routing: &Routing,
    call: &mut OpenCall,
    addressed: &str,
    api: Api,
    path_and_query: &str,
    parts: &Parts,
    told: &headers::Told,
    held: &Held,
) -> Chosen {
    let path = path_and_query.split('?').next().unwrap_or(path_and_query);
    let request = held
        .whole()
        .and_then(|body| wire::parse_request_at(api, path, body).ok());
    let (book, controls) = (proxy.book.load(), proxy.controls.load());
    let upstream = |name: &str| proxy.upstreams.get(name).map(|upstream| &upstream.config);
    let choice = Choice {
        routes: &routing.routes,
        book: book.as_deref(),
        controls: &controls,
        accepted: &proxy.accepted,
        origins: &proxy.capture.origins,
        upstream: &upstream,
        allow_pins: proxy.allow_pins,
    };
    let client_id = call.head.client_id.clone();
    let mut chosen = choice.choose(&Asked {
        addressed,
        api,
        path_and_query,
        headers: &parts.headers,
        told,
        client_id: client_id.as_deref(),
        body: held.whole().map(|body| &body[..]),
        request: request.as_ref(),
    });
    // More calls than the candidate takes are shed to the baseline rather than queued.
    if let Some(slots) = chosen.candidate.as_ref().and_then(|name| proxy.in_flight.get(name)) {
        match slots.clone().try_acquire_owned() {
            Ok(permit) => call.permit = Some(permit),
            Err(_) => {
                chosen.candidate = None;
                chosen.translated = None;
                chosen.not_canaried = Some("candidate_busy");
            }
        }
    }
    let model = request.as_ref().and_then(|request| request.model.as_deref());
    if is_excluded(
        &routing.exclude,
        addressed,
        path,
        &parts.headers,
        model,
        client_id.as_deref(),
    ) {
        call.not_kept = Some(NotKept::Excluded);
    }
    // The guard compares calls that might as well have gone the other way.
    let is_chat = request
        .as_ref()
        .is_some_and(|request| request.operation == Operation::Chat);
    let is_accepted = proxy.accepted.is_accepted(client_id.as_deref().unwrap_or_default());
    let stays = chosen.not_canaried.is_some() || chosen.is_hard;
    if let Some(route) = chosen.route.as_deref().and_then(|id| routing.routes.get(id))
        && chosen.split
        && (chosen.candidate.is_some() || (!stays && is_chat && is_accepted))
    {
        let task = chosen.task.as_ref().map(|assignment| assignment.task.as_str());
        let (candidate, key) = (chosen.candidate.as_deref(), chosen.affinity_key.as_deref());
        if let Some(watched) = Watched::of(proxy, route, task, candidate, key) {
            call.watch(watched, held.whole());
        }
    }
    let arm = chosen.candidate.as_deref().unwrap_or(addressed);
    if chosen.split || chosen.candidate.is_some() {
        call.head.arm = Some(arm.to_owned());
    }
    if let Some(route) = &chosen.route {
        if chosen.split {
            proxy.metrics.split_calls.with_label_values(&[route, arm]).inc();
        }
        if let Some(reason) = chosen.not_canaried {
            proxy.metrics.not_canaried.with_label_values(&[route, reason]).inc();
        }
    }
    call.head.route = chosen.route.clone();
    call.head.task_id = chosen.task.as_ref().map(|assignment| assignment.task.clone());
    call.head.task_confidence = chosen.task.as_ref().map(|assignment| assignment.confidence);
    call.head.taskbook_version = chosen.taskbook_version;
    call.head.affinity_key = chosen.affinity_key.clone().or(call.head.affinity_key.take());
    chosen
}

/// With `capture.mode: required`, a call that could not be kept is refused.
async fn refuse_unkept(mut call: OpenCall, api: Api) -> Response<ClientBody> {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let response = refusal::policy(api, status, "the call can't be kept, and capture.mode is `required`");
    call.head.status = Some(status.as_u16());
    call.commit(Outcome::Refused);
    response.map(ClientBody::full)
}
