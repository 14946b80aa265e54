//! A whole answer to a call that we originate: replay, floor, shadow, judge.

use crate::body::full;
use crate::error::{SendError, SendErrorKind};
use crate::upstream::Upstream;
use bytes::{Bytes, BytesMut};
use http::{Method, Request, header};
use http_body_util::BodyExt;
use std::time::{Duration, Instant};
use understudy_call::call::{Api, Response};
use understudy_call::translate::{self, Refusal};
use understudy_call::wire;

/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 32 << 20;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The response's content type.
    pub content_type: Option<String>,
    /// The whole body.
    pub body: Bytes,
    /// Milliseconds from sending to the first piece of the body.
    pub first_chunk_ms: f64,
    /// Milliseconds from sending to the last byte.
    pub duration_ms: f64,
    /// Bytes of each piece of the body, and microseconds from sending to its arrival.
    pub pieces: Vec<(u32, u64)>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// This upstream's API has no such call.
    #[error("upstream {upstream} can't be asked in {api}")]
    Api {
        /// The upstream.
        upstream: String,
        /// The wire format.
        api: &'static str,
    },
    /// The upstream's API can't say what is asked.
    #[error("asking upstream {upstream}: {source}")]
    Untold {
        /// The upstream.
        upstream: String,
        /// What it can't say.
        source: Refusal,
    },
    /// The body can't be made into a request.
    #[error("making the request: {0}")]
    Request(#[from] http::Error),
    /// It failed on the way.
    #[error("asking upstream {upstream}: {source}")]
    Send {
        /// The upstream.
        upstream: String,
        /// What failed.
        source: SendError,
    },
}

impl AskError {
    /// Whether asking again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, AskError::Send { source, .. } if source.kind() != SendErrorKind::Protocol)
    }

    /// The kind of failure, where it happened on the way.
    pub fn kind(&self) -> Option<SendErrorKind> {
        match self {
            AskError::Send { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

impl Upstream {
    /// Sends `body` (JSON of `api`) with a fresh set of headers and this upstream's own credential, and reads the
    /// whole answer, within `deadline`.
    ///
    /// # Errors
    /// Where there is no whole answer; a status of 400 or above is an answer.
    pub async fn ask(&self, api: Api, body: Bytes, deadline: Duration) -> Result<Answer, AskError> {
        let path = self.call_path(api).ok_or_else(|| AskError::Api {
            upstream: self.name().to_owned(),
            api: api.as_str(),
        })?;
        self.ask_at(path, api, body, deadline).await
    }

    /// As [`Upstream::ask`], at a path that the call was seen at.
    ///
    /// # Errors
    /// As there.
    pub async fn ask_at(&self, path: &str, api: Api, body: Bytes, deadline: Duration) -> Result<Answer, AskError> {
        let uri = self.uri(path)?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(full(body.clone()))?;
        let headers = request.headers_mut();
        headers.extend(self.credential_headers_in(Some(api)));
        if self.signs(headers) {
            self.sign(&Method::POST, &uri, headers, &body);
        }
        let failed = |source| AskError::Send {
            upstream: self.name().to_owned(),
            source,
        };
        match tokio::time::timeout(deadline, self.read_answer(request)).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(failed(SendError::new(
                SendErrorKind::Timeout,
                format!("no whole answer within {deadline:?}"),
            ))),
        }
    }

    /// Puts a chat of our own (a request of OpenAI chat, not streamed) to this upstream in the API that it speaks: the answer,
    /// and what it says, where that is an answer that can be read.
    ///
    /// # Errors
    /// As [`Upstream::ask`], and where its API can't say the request.
    pub async fn ask_chat(
        &self,
        chat: &serde_json::Value,
        deadline: Duration,
    ) -> Result<(Answer, Option<Response>), AskError> {
        let api = self.config.api.unwrap_or(Api::OpenaiChat);
        let untold = |source| AskError::Untold {
            upstream: self.name().to_owned(),
            source,
        };
        let said = chat.to_string();
        let body = if api == Api::OpenaiChat {
            said
        } else {
            let translated = translate::request_for(api, said.as_bytes()).map_err(untold)?;
            translated.body.to_string()
        };
        let model = chat["model"].as_str().unwrap_or_default();
        let path = self
            .path_of(api, model, false)
            .ok_or_else(|| untold(Refusal::Api(api)))?;
        let answer = self.ask_at(&path, api, body.into(), deadline).await?;
        let assembled = wire::assemble(api, answer.content_type.as_deref(), &answer.body).ok();
        let response = assembled.map(|assembled| wire::parse_response(api, answer.status, &assembled));
        let response = response.filter(|response| answer.status < 400 && response.error.is_none());
        Ok((answer, response))
    }

    async fn read_answer(&self, request: Request<crate::RequestBody>) -> Result<Answer, SendError> {
        let started = Instant::now();
        let (head, mut incoming) = self.send(request).await?.into_parts();
        let mut body = BytesMut::new();
        let mut first_chunk_ms = None;
        let mut pieces = Vec::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| SendError::new(SendErrorKind::of_hyper(&error), error.to_string()))?;
            let Some(piece) = frame.data_ref() else { continue };
            first_chunk_ms.get_or_insert_with(|| milliseconds_since(started));
            if body.len() + piece.len() > MAX_ANSWER {
                return Err(SendError::new(
                    SendErrorKind::Protocol,
                    format!("the answer is over {MAX_ANSWER} bytes"),
                ));
            }
            body.extend_from_slice(piece);
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            pieces.push((u32::try_from(piece.len()).unwrap_or(u32::MAX), micros));
        }
        let duration_ms = milliseconds_since(started);
        let content_type = head
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        Ok(Answer {
            status: head.status.as_u16(),
            content_type,
            body: body.freeze(),
            first_chunk_ms: first_chunk_ms.unwrap_or(duration_ms),
            duration_ms,
            pieces,
        })
    }
}

fn milliseconds_since(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1000.0
}
