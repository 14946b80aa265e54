//! The demo's upstreams: each serves one simulated model as an OpenAI-compatible endpoint on loopback.

use super::model::{Model, Said};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The longest request that a simulated model reads.
const MAX_REQUEST: usize = 1 << 20;

/// Serves a model on a free port, for as long as the runtime lives. `busy_every` answers each n-th call with 429.
pub(super) async fn serve(model: Arc<Model>, busy_every: Option<u64>) -> std::io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let model = model.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(model.clone(), busy_every, request));
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(address)
}

async fn answer(
    model: Arc<Model>,
    busy_every: Option<u64>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    #[expect(clippy::disallowed_methods, reason = "bounded by MAX_REQUEST")]
    let body = Limited::new(request.into_body(), MAX_REQUEST).collect().await;
    let request: Value = body
        .ok()
        .and_then(|body| serde_json::from_slice(&body.to_bytes()).ok())
        .unwrap_or_default();
    let busy = busy_every.is_some_and(|every| model.calls.load(Ordering::Relaxed) % every == every - 1);
    if busy {
        model.calls.fetch_add(1, Ordering::Relaxed);
        let error = json!({"error": {"message": "Rate limit reached, try again", "type": "rate_limit_error", "code": "rate_limit_exceeded"}});
        return Ok(plain(StatusCode::TOO_MANY_REQUESTS, &error));
    }
    tokio::time::sleep(model.first_token).await;
    let said = model.answer(&request);
    let message = message(&said, model.calls.load(Ordering::Relaxed));
    let finish = if matches!(said, Said::Text(_)) {
        "stop"
    } else {
        "tool_calls"
    };
    let usage = usage(&request, &message);
    if request.get("stream").and_then(Value::as_bool) == Some(true) {
        return Ok(stream(model.name, &message, finish, &usage));
    }
    let completion = json!({"id": "chatcmpl-simulated", "object": "chat.completion", "created": 0, "model": model.name,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage});
    Ok(plain(StatusCode::OK, &completion))
}

fn plain(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(
        "content-type",
        hyper::header::HeaderValue::from_static("application/json"),
    );
    response
}

fn message(said: &Said, call: u64) -> Value {
    let (name, arguments) = match said {
        Said::Text(text) => return json!({"role": "assistant", "content": text}),
        Said::Tool { name, arguments } => (name, arguments.to_string()),
        Said::Broken { name, arguments } => (name, arguments.clone()),
    };
    json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": format!("call_{call:08}"), "type": "function", "function": {"name": name, "arguments": arguments}}]})
}

/// About four characters a token, as English has.
fn usage(request: &Value, message: &Value) -> Value {
    let tokens = |value: &Value| value.to_string().len() / 4;
    let (prompt, completion) = (tokens(request), tokens(message));
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

/// The message in pieces, as a stream of chunks.
fn stream(model: &'static str, message: &Value, finish: &str, usage: &Value) -> Response<Body> {
    let chunk = |choices: Value, usage: Value| {
        let event = json!({"id": "chatcmpl-simulated", "object": "chat.completion.chunk", "created": 0, "model": model,
            "choices": choices, "usage": usage});
        format!("data: {event}\n\n")
    };
    let delta = |delta: Value| {
        chunk(
            json!([{"index": 0, "delta": delta, "finish_reason": null}]),
            Value::Null,
        )
    };
    let mut events = vec![delta(json!({"role": "assistant"}))];
    match message.get("content").and_then(Value::as_str) {
        Some(text) => {
            events.extend(text.split_inclusive(' ').map(|word| delta(json!({"content": word}))));
        }
        None => {
            let mut call = message.pointer("/tool_calls/0").cloned().unwrap_or_default();
            let arguments = call
                .pointer("/function/arguments")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            call["index"] = json!(0);
            call["function"]["arguments"] = json!("");
            events.push(delta(json!({"tool_calls": [call]})));
            let middle = arguments.len() / 2;
            let middle = (middle..arguments.len())
                .find(|at| arguments.is_char_boundary(*at))
                .unwrap_or(arguments.len());
            for part in [&arguments[..middle], &arguments[middle..]] {
                events.push(delta(
                    json!({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}),
                ));
            }
        }
    }
    events.push(chunk(
        json!([{"index": 0, "delta": {}, "finish_reason": finish}]),
        Value::Null,
    ));
    events.push(chunk(json!([]), usage.clone()));
    events.push("data: [DONE]\n\n".to_owned());
    let frames = events.into_iter().map(|event| Ok(Frame::data(Bytes::from(event))));
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync());
    response.headers_mut().insert(
        "content-type",
        hyper::header::HeaderValue::from_static("text/event-stream"),
    );
    response
}
