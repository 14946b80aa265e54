//! A canaried arm answers: with headers of its own, its own credential and model, and in its own API; the client gets the
//! model's name that it asked for, and its own API back.
//!
//! Where it fails before the client has seen a byte, or its answer is found invalid by then, the call goes back with its
//! body, and the baseline answers.
//! Nothing of the client but the body travels here.

use crate::body::ClientBody;
use crate::capture::OpenCall;
use crate::end::End;
use crate::fallback::Fallback;
use crate::filter::{EventFilter, Filter, Translation, renamed};
use crate::headers::expose_server;
use crate::hold::{Judge, Lost};
use crate::proxy::Proxy;
use crate::relay::Relay;
use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::time::{Duration, Instant};
use understudy_call::call::Api;
use understudy_call::check::Demands;
use understudy_call::record::Outcome;
use understudy_call::translate::{Refusal, Translated};
use understudy_call::wire::splice::{ask_usage, model_named};
use understudy_call::wire::{self, replace_model};
use understudy_client::{BoxError, RequestBody, Upstream, full};

/// The longest plain answer of a candidate.
const MAX_ANSWER: usize = 32 << 20;

/// A call on its way to a candidate.
pub(crate) struct Part<'a> {
    /// Who answers.
    pub(crate) candidate: &'a Upstream,
    /// Why it does: the `reason` of its attempt.
    pub(crate) reason: &'static str,
    /// The client's API.
    pub(crate) api: Api,
    /// The client's body.
    pub(crate) body: &'a Bytes,
    /// The request in the candidate's API, where the candidate does not speak the client's API.
    pub(crate) translated: Option<&'a Translated>,
    /// When its answer is not the client's.
    pub(crate) fallback: Fallback,
    /// The time for a valid answer, or for its release.
    pub(crate) time: Option<Duration>,
}

/// What the candidate answered.
enum Reply {
    /// A whole answer, as the client gets it.
    Whole(Parts, Bytes),
    /// A stream, and what was read of it already.
    Stream(Parts, Bytes, Incoming, Box<Filter>),
}

/// Lets a candidate answer a call whose body was read whole.
///
/// # Errors
/// The call back, with the lost attempt noted, where the candidate gave no answer for the client.
pub(crate) async fn answer(
    proxy: &Proxy,
    mut call: OpenCall,
    part: &Part<'_>,
) -> Result<Response<ClientBody>, Box<OpenCall>> {
    call.attempt_begins(part.candidate.name(), Some(part.reason));
    match part.attempt_in_time(proxy, &mut call).await {
        Ok(Reply::Whole(mut parts, answer)) => {
            call.response_piece(&answer, false);
            let written = call.commit(Outcome::Ok);
            call.wait(written).await;
            parts
                .headers
                .insert(header::CONTENT_LENGTH, HeaderValue::from(answer.len()));
            Ok(Response::from_parts(parts, ClientBody::full(answer)))
        }
        Ok(Reply::Stream(parts, first, rest, filter)) => {
            let relay = Relay::new(rest, call, true, part.candidate.idle_timeout())
                .beginning_with(first)
                .with_filter(*filter)
                .with_end(End::new(part.api, None));
            Ok(Response::from_parts(parts, ClientBody::Relay(Box::new(relay))))
        }
        Err(lost) => {
            if let Some(used) = &lost.used {
                let (model, usage) = &**used;
                let model = model.as_deref().or(part.candidate.config.model.as_deref());
                let price = model.and_then(|model| proxy.prices.lookup(model));
                call.attempt_used(usage.output, price.and_then(|price| price.cost(usage)));
            }
            call.falls_back(lost);
            Err(Box::new(call))
        }
    }
}

impl Part<'_> {
    /// The attempt, cancelled where it takes too long.
    async fn attempt_in_time(&self, proxy: &Proxy, call: &mut OpenCall) -> Result<Reply, Lost> {
        let Some(time) = self.time else {
            return self.attempt(proxy, call).await;
        };
        let late = |_| {
            Lost::error(
                Outcome::Timeout,
                format!("no valid answer within {time:?} (fallback.timeout)"),
            )
        };
        tokio::time::timeout(time, self.attempt(proxy, call))
            .await
            .map_err(late)?
    }

    async fn attempt(&self, proxy: &Proxy, call: &mut OpenCall) -> Result<Reply, Lost> {
        let refused = |error: &dyn std::fmt::Display| Lost::error(Outcome::Refused, error.to_string());
        let asked = self.asked();
        let demands = match self.translated {
            Some(translated) => translated.demands.clone(),
            None => Demands::of(self.api, &asked).map_err(|error| refused(&error))?,
        };
        let (request, asks_usage) = self.request(asked).map_err(|error| refused(&error))?;
        let response = self.candidate.send(request).await;
        let response = response.map_err(|error| Lost::error(error.kind().outcome(), error.to_string()))?;
        let (mut parts, mut incoming) = response.into_parts();
        call.response_head(parts.status, &parts.headers);
        if !parts.status.is_success() {
            return Err(Lost::status(parts.status.as_u16()));
        }
        if parts.headers.contains_key(header::CONTENT_ENCODING) {
            let words = "its answer has a content encoding that it was not asked for";
            return Err(Lost::error(Outcome::UpstreamProtocol, words));
        }
        let content_type = call.head.content_type.clone();
        let judge = Judge {
            api: self.spoken(),
            content_type: content_type.as_deref(),
            demands: &demands,
            fallback: self.fallback,
        };
        let is_stream = wire::framing_named(self.spoken(), "", judge.content_type).is_some();
        if self.translated.is_none() && is_stream != demands.stream() {
            let words = "it streams what was asked for in one piece, or the other way round";
            return Err(Lost::error(Outcome::UpstreamProtocol, words));
        }
        self.client_head(proxy, call, &mut parts);
        call.head.response_model = self.model_untold();
        // What was not asked for as a stream is taken whole, and translated whole, however it comes.
        if is_stream && demands.stream() {
            let filter = self.filter(asks_usage)?;
            let idle = self.candidate.idle_timeout();
            let first = match self.fallback.hold {
                Some(limits) => {
                    let began = Instant::now();
                    let held = judge.hold(limits, &mut incoming, idle).await;
                    let route = call.head.route.as_deref().unwrap_or("none");
                    let labels = [route, self.candidate.name()];
                    proxy
                        .metrics
                        .held
                        .with_label_values(&labels)
                        .observe(began.elapsed().as_secs_f64());
                    held?
                }
                None => judge.first_piece(&mut incoming, idle).await?,
            };
            return Ok(Reply::Stream(parts, first, incoming, Box::new(filter)));
        }
        #[expect(clippy::disallowed_methods, reason = "bounded by MAX_ANSWER")]
        let whole = Limited::new(incoming, MAX_ANSWER).collect().await;
        let whole = whole.map_err(|error: BoxError| Lost::error(Outcome::UpstreamTruncated, error.to_string()))?;
        let whole = whole.to_bytes();
        call.attempt_answered();
        judge.judge(&whole)?;
        call.head.response_model = self.model_of(&whole).or(call.head.response_model.take());
        Ok(Reply::Whole(parts, self.client_answer(whole)?))
    }

    /// The API in which the candidate is asked.
    fn spoken(&self) -> Api {
        self.translated.map_or(self.api, |translated| translated.back.spoken)
    }

    /// The client's request, in the candidate's API.
    fn asked(&self) -> Bytes {
        match self.translated {
            Some(translated) => translated.body.to_string().into(),
            None => self.body.clone(),
        }
    }

    /// The request for the candidate: a fresh set of headers, its own credential, its own model; and whether it asks for
    /// usage that the client did not ask for.
    fn request(&self, asked: Bytes) -> Result<(Request<RequestBody>, bool), http::Error> {
        let config = &self.candidate.config;
        let path = match self.translated.map(|translated| &translated.back) {
            Some(back) => {
                let model = config.model.as_deref().unwrap_or(&back.model);
                self.candidate.path_of(back.spoken, model, back.stream)
            }
            None => self.candidate.call_path(self.api).map(Into::into),
        };
        let path = path.as_deref().unwrap_or("/");
        let may_ask = config.ask_usage && self.translated.is_none() && self.api == Api::OpenaiChat;
        let asking = may_ask.then(|| ask_usage(&asked)).flatten().map(Bytes::from);
        let asks_usage = asking.is_some();
        let body = asking.unwrap_or(asked);
        let model = config.model.as_deref().and_then(|model| replace_model(&body, model));
        let body = model.map_or(body, Bytes::from);
        let uri = self.candidate.uri(path)?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(full(body.clone()))?;
        let headers = request.headers_mut();
        headers.extend(self.candidate.credential_headers());
        if self.candidate.signs(headers) {
            self.candidate.sign(&Method::POST, &uri, headers, &body);
        }
        Ok((request, asks_usage))
    }

    /// Of the candidate's own headers the client gets what describes the body, and nothing else.
    fn client_head(&self, proxy: &Proxy, call: &mut OpenCall, parts: &mut Parts) {
        let content_type = match self.translated {
            Some(translated) => {
                let content_type = translated.back.content_type();
                call.head.content_type = Some(content_type.to_owned());
                Some(HeaderValue::from_static(content_type))
            }
            None => parts.headers.get(header::CONTENT_TYPE).cloned(),
        };
        parts.headers = HeaderMap::new();
        parts
            .headers
            .extend(content_type.map(|value| (header::CONTENT_TYPE, value)));
        if proxy.expose_headers {
            expose_server(&mut parts.headers, self.candidate.name());
        }
    }

    fn filter(&self, asks_usage: bool) -> Result<Filter, Lost> {
        match self.translated {
            Some(translated) => {
                let translation = Translation::new(&translated.back);
                let translation = translation.map_err(|refusal| Lost::error(Outcome::Refused, refusal.to_string()))?;
                Ok(Filter::Translation(Box::new(translation)))
            }
            None => Ok(Filter::Events(EventFilter::of_candidate(
                self.api, self.body, asks_usage,
            ))),
        }
    }

    /// The model that was asked for, where answers of the candidate's API name none.
    fn model_untold(&self) -> Option<String> {
        let back = &self.translated?.back;
        let is_untold = matches!(back.spoken, Api::CohereChat | Api::BedrockConverse);
        let asked = || self.candidate.config.model.as_ref().unwrap_or(&back.model).clone();
        is_untold.then(asked)
    }

    /// The candidate's own name of its model.
    fn model_of(&self, answer: &[u8]) -> Option<String> {
        // Not every API names it so.
        let read = || {
            let assembled = wire::assemble(self.spoken(), None, answer).ok()?;
            wire::parse_response(self.spoken(), 200, &assembled).model
        };
        model_named(answer).or_else(read)
    }

    /// A whole answer as the client gets it.
    fn client_answer(&self, answer: Bytes) -> Result<Bytes, Lost> {
        let Some(translated) = self.translated else {
            return Ok(renamed(self.api, self.body, &answer).map_or(answer, Bytes::from));
        };
        let unfit = |_: Refusal| {
            Lost::error(
                Outcome::UpstreamProtocol,
                "its answer can't be said in the client's API",
            )
        };
        let whole = translated.back.response(&answer).map_err(unfit)?;
        if !translated.back.stream {
            return Ok(whole.to_string().into());
        }
        // A few servers answer in one piece although a stream was asked for.
        let mut translation = Translation::new(&translated.back).map_err(unfit)?;
        Ok([translation.push(&answer).client, translation.finish().client]
            .concat()
            .into())
    }
}
