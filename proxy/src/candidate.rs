//! A canaried arm answers: with headers of its own, its own credential and model, and in its own API; the client gets the
//! model's name that it asked for, and its own API back.
//!
//! Where it fails before the client has seen a byte, the call goes back with its body, and the baseline answers.
//! Nothing of the client but the body travels here.

use crate::body::ClientBody;
use crate::capture::OpenCall;
use crate::end::End;
use crate::filter::{EventFilter, Filter, Translation, renamed};
use crate::proxy::Proxy;
use crate::relay::Relay;
use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use understudy_call::call::Api;
use understudy_call::record::Outcome;
use understudy_call::translate::{Refusal, Translated};
use understudy_call::wire::splice::{ask_usage, model_named};
use understudy_call::wire::{self, replace_model};
use understudy_client::{BoxError, RequestBody, SendErrorKind, Upstream, full};

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
    /// The request in OpenAI chat, where the candidate does not speak the client's API.
    pub(crate) translated: Option<&'a Translated>,
}

/// What the candidate answered.
enum Reply {
    /// A whole answer, as the client gets it.
    Whole(Parts, Bytes),
    /// A stream whose first piece has come.
    Stream(Parts, Bytes, Incoming, Box<Filter>),
}

/// Why the candidate gave no answer.
type Failure = (Outcome, String);

/// Lets a candidate answer a call whose body was read whole.
///
/// # Errors
/// The call back, with the failed attempt noted, where the candidate gave no answer.
pub(crate) async fn answer(
    proxy: &Proxy,
    mut call: OpenCall,
    part: &Part<'_>,
) -> Result<Response<ClientBody>, Box<OpenCall>> {
    call.attempt_begins(part.candidate.name(), Some(part.reason));
    match part.attempt(proxy, &mut call).await {
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
        Err((outcome, reason)) => {
            call.attempt_ends(outcome, false, Some(reason));
            call.permit = None;
            call.head.arm = Some(call.head.upstream.clone());
            call.head.status = None;
            call.head.content_type = None;
            call.head.content_encoding = None;
            call.head.response_model = None;
            call.head.header_usage = None;
            Err(Box::new(call))
        }
    }
}

impl Part<'_> {
    async fn attempt(&self, proxy: &Proxy, call: &mut OpenCall) -> Result<Reply, Failure> {
        let (request, asks_usage) = self.request().map_err(|error| (Outcome::Refused, error.to_string()))?;
        let response = self.candidate.send(request).await;
        let response = response.map_err(|error| (error.kind().outcome(), error.to_string()))?;
        let (mut parts, mut incoming) = response.into_parts();
        call.response_head(parts.status, &parts.headers);
        if !parts.status.is_success() {
            let reason = format!("status {}", parts.status.as_u16());
            return Err((Outcome::UpstreamStatus, reason));
        }
        if parts.headers.contains_key(header::CONTENT_ENCODING) {
            let reason = "its answer has a content encoding that it was not asked for".to_owned();
            return Err((Outcome::UpstreamProtocol, reason));
        }
        let is_stream = wire::framing_named(self.spoken(), "", call.head.content_type.as_deref()).is_some();
        self.client_head(proxy, call, &mut parts);
        // What was not asked for as a stream is taken whole, and translated whole, however it comes.
        if is_stream && self.translated.is_none_or(|translated| translated.back.stream) {
            let filter = self.filter(asks_usage)?;
            let first = self.first_piece(&mut incoming).await?;
            return Ok(Reply::Stream(parts, first, incoming, Box::new(filter)));
        }
        #[expect(clippy::disallowed_methods, reason = "bounded by MAX_ANSWER")]
        let whole = Limited::new(incoming, MAX_ANSWER).collect().await;
        let whole = whole.map_err(|error: BoxError| (Outcome::UpstreamTruncated, error.to_string()))?;
        let whole = whole.to_bytes();
        call.head.response_model = model_named(&whole);
        Ok(Reply::Whole(parts, self.client_answer(whole)?))
    }

    /// The API in which the candidate is asked.
    fn spoken(&self) -> Api {
        if self.translated.is_some() {
            Api::OpenaiChat
        } else {
            self.api
        }
    }

    /// The request for the candidate: a fresh set of headers, its own credential, its own model; and whether it asks for
    /// usage that the client did not ask for.
    fn request(&self) -> Result<(Request<RequestBody>, bool), http::Error> {
        let config = &self.candidate.config;
        let path = self.candidate.call_path(self.spoken()).unwrap_or("/");
        let (body, asks_usage) = match self.translated {
            Some(translated) => (Bytes::from(translated.body.to_string()), false),
            None => {
                let asking = (config.ask_usage && self.api == Api::OpenaiChat).then(|| ask_usage(self.body));
                let asking = asking.flatten().map(Bytes::from);
                let asks_usage = asking.is_some();
                (asking.unwrap_or_else(|| self.body.clone()), asks_usage)
            }
        };
        let model = config.model.as_deref().and_then(|model| replace_model(&body, model));
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.candidate.uri(path)?)
            .header(header::CONTENT_TYPE, "application/json")
            .body(full(model.map_or(body, Bytes::from)))?;
        request.headers_mut().extend(self.candidate.credential_headers());
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
            call.expose(&mut parts.headers, self.candidate.name());
        }
    }

    fn filter(&self, asks_usage: bool) -> Result<Filter, Failure> {
        match self.translated {
            Some(translated) => {
                let translation = Translation::new(&translated.back);
                let translation = translation.map_err(|refusal| (Outcome::Refused, refusal.to_string()))?;
                Ok(Filter::Translation(Box::new(translation)))
            }
            None => Ok(Filter::Events(EventFilter::of_candidate(
                self.api, self.body, asks_usage,
            ))),
        }
    }

    /// The first piece of a stream: until it has come, the baseline can still answer. One that begins with an error is no
    /// answer.
    async fn first_piece(&self, stream: &mut Incoming) -> Result<Bytes, Failure> {
        let wait = self.candidate.idle_timeout();
        let deadline = tokio::time::sleep(wait);
        tokio::pin!(deadline);
        loop {
            let frame = tokio::select! {
                frame = stream.frame() => frame,
                () = &mut deadline => return Err((Outcome::Timeout, format!("no piece of its stream within {wait:?}"))),
            };
            let piece = match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                Some(Ok(Ok(piece))) if !piece.is_empty() => piece,
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err((SendErrorKind::of_hyper(&error).outcome(), error.to_string())),
                None => return Err((Outcome::UpstreamTruncated, "its stream is empty".to_owned())),
            };
            let error = wire::assemble(self.spoken(), Some("text/event-stream"), &piece).ok();
            return match error.and_then(|assembled| assembled.error) {
                Some(error) => Err((
                    Outcome::InStreamError,
                    format!("its stream begins with an error: {error}"),
                )),
                None => Ok(piece),
            };
        }
    }

    /// A whole answer as the client gets it.
    fn client_answer(&self, answer: Bytes) -> Result<Bytes, Failure> {
        let Some(translated) = self.translated else {
            return Ok(renamed(self.api, self.body, &answer).map_or(answer, Bytes::from));
        };
        let unfit = |refusal: Refusal| (Outcome::UpstreamProtocol, refusal.to_string());
        let whole = translated.back.response(&answer).map_err(unfit)?;
        if !translated.back.stream {
            return Ok(whole.to_string().into());
        }
        // A few servers answer in one piece although a stream was asked for.
        let mut translation = Translation::new(&translated.back).map_err(unfit)?;
        Ok([translation.push(&answer), translation.finish()].concat().into())
    }
}
