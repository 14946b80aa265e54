//! Asks one upstream for the answer to one kept call: its own model, no stream, bounded retries.

use super::sample::Drawn;
use super::{FLOOR, ReplayConfig};
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use understudy_call::call::{Api, Response};
use understudy_call::keys::hex;
use understudy_call::record::{Outcome, ScoreRecord};
use understudy_call::wire;
use understudy_client::{Answer, AskError, Upstream, UpstreamConfig};

/// Fields of a request that steer delivery, name a person, or keep state at the provider; none changes an answer.
const LEFT_OUT: [&str; 8] = [
    "stream",
    "stream_options",
    "store",
    "metadata",
    "user",
    "safety_identifier",
    "service_tier",
    "prompt_cache_key",
];
/// The longest wait between two tries.
const RETRY_MOST: Duration = Duration::from_secs(20);
/// Statuses that may pass.
const RETRIED: [u16; 8] = [408, 409, 429, 500, 502, 503, 504, 529];
/// Statuses by which an upstream says that it takes no such call at all.
const REFUSED: [u16; 3] = [401, 403, 404];
/// Characters of an error body that are shown.
const SHOWN: usize = 200;

/// One side of a comparison: an upstream, and what makes it this version of it.
#[derive(Clone)]
pub struct Arm {
    upstream: Arc<Upstream>,
    /// Changes with the model and the URL.
    pub version: String,
    is_baseline: bool,
}

/// The version of a candidate that is configured like this.
pub fn candidate_version(config: &UpstreamConfig) -> String {
    digest(&[config.model.as_deref().unwrap_or_default(), config.url.as_str()])
}

impl Arm {
    /// A candidate: asked for its own model, where it has one.
    pub fn candidate(upstream: Arc<Upstream>) -> Arm {
        Arm {
            version: candidate_version(&upstream.config),
            upstream,
            is_baseline: false,
        }
    }

    /// The baseline: asked again for the model that the call asked for.
    pub fn baseline(upstream: Arc<Upstream>) -> Arm {
        let version = format!("{FLOOR}{}", digest(&["", upstream.config.url.as_str()]));
        Arm {
            upstream,
            version,
            is_baseline: true,
        }
    }

    /// The upstream's name.
    pub fn name(&self) -> &str {
        self.upstream.name()
    }

    /// The model that it is asked for, where that is not the call's own.
    pub fn model(&self) -> Option<&str> {
        match self.is_baseline {
            true => None,
            false => self.upstream.config.model.as_deref(),
        }
    }

    /// The model that the call asks for, where this arm is asked for it; it has that one's price.
    pub(super) fn asked_model<'a>(&self, call: &'a Drawn) -> Option<&'a str> {
        match self.model() {
            Some(_) => None,
            None => call.request.model.as_deref(),
        }
    }

    pub(super) fn max_in_flight(&self) -> Option<usize> {
        self.upstream.config.max_in_flight
    }

    /// A self-hosted upstream costs its machine's time, shared among the answers that it gave meanwhile.
    pub(super) fn share_machine_cost(&self, rows: &mut [ScoreRecord], seconds: f64) {
        let Some(price) = self.upstream.config.price else {
            return;
        };
        let answered = rows.iter().filter(|row| row.outcome == Outcome::Ok).count();
        let each = price.gpu_hour / 3600.0 * seconds / answered.max(1) as f64;
        for row in rows.iter_mut().filter(|row| row.outcome == Outcome::Ok) {
            row.cost_usd = Some(each);
        }
    }

    /// Asks, and asks again where that may help.
    pub(super) async fn ask(&self, call: &Drawn, config: &ReplayConfig) -> Reply {
        let speaks = self.upstream.config.api.unwrap_or(call.api);
        if speaks != call.api {
            let reason = format!("it speaks {}, the call {}", speaks.as_str(), call.api.as_str());
            return Reply::refused(Outcome::Refused, reason);
        }
        let Some(body) = request_body(&call.request_body, self.model()) else {
            return Reply::failed(Outcome::Refused);
        };
        let mut tried = 1;
        loop {
            let asked = self.upstream.ask(call.api, body.clone(), config.deadline).await;
            let may_pass = match &asked {
                Ok(answer) => RETRIED.contains(&answer.status),
                Err(error) => error.is_retryable(),
            };
            if !may_pass || tried >= config.tries {
                return match asked {
                    Ok(answer) => Reply::of_answer(call.api, &answer),
                    Err(error) => Reply::of_error(&error),
                };
            }
            tokio::time::sleep(pause(config.retry_after, tried, &call.call_id)).await;
            tried += 1;
        }
    }
}

/// What came of asking.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) outcome: Outcome,
    /// The answer, or the error that the upstream answered.
    pub(super) answer: Option<Response>,
    pub(super) body: Option<String>,
    pub(super) duration_ms: Option<f64>,
    /// Why the upstream can't be asked anything, if so.
    pub(super) refused: Option<String>,
}

impl Reply {
    fn failed(outcome: Outcome) -> Reply {
        Reply {
            outcome,
            answer: None,
            body: None,
            duration_ms: None,
            refused: None,
        }
    }

    fn refused(outcome: Outcome, reason: String) -> Reply {
        Reply {
            refused: Some(reason),
            ..Reply::failed(outcome)
        }
    }

    fn of_error(error: &AskError) -> Reply {
        let outcome = error.kind().map_or(Outcome::Refused, |kind| kind.outcome());
        match outcome {
            Outcome::UpstreamConnect | Outcome::Refused => Reply::refused(outcome, error.to_string()),
            outcome => Reply::failed(outcome),
        }
    }

    fn of_answer(api: Api, answer: &Answer) -> Reply {
        let text = String::from_utf8_lossy(&answer.body);
        let refused = REFUSED.contains(&answer.status).then(|| {
            let shown: String = text.chars().take(SHOWN).collect();
            format!("it answers with status {}: {}", answer.status, shown.trim())
        });
        let assembled = wire::assemble(api, answer.content_type.as_deref(), &answer.body).ok();
        let parsed = assembled
            .as_ref()
            .map(|assembled| wire::parse_response(api, answer.status, assembled).without_padding());
        let outcome = match &parsed {
            _ if answer.status >= 400 => Outcome::UpstreamStatus,
            None => Outcome::UpstreamProtocol,
            Some(response) if response.error.is_some() => Outcome::InStreamError,
            Some(_) => Outcome::Ok,
        };
        Reply {
            outcome,
            body: Some(assembled.map_or(text.into_owned(), |assembled| assembled.body.to_string())),
            answer: parsed,
            duration_ms: Some(answer.duration_ms),
            refused,
        }
    }
}

/// The kept request as it is sent: whole, and with another model where one is given.
fn request_body(kept: &str, model: Option<&str>) -> Option<Bytes> {
    let Ok(Value::Object(mut body)) = serde_json::from_str(kept) else {
        return None;
    };
    LEFT_OUT.iter().for_each(|field| drop(body.shift_remove(*field)));
    if let Some(model) = model {
        body.insert("model".into(), model.into());
    }
    Some(Value::Object(body).to_string().into())
}

/// Doubles from try to try, and lies between half and all of that: by the call, so that calls don't come in step.
fn pause(first: Duration, tried: u32, call_id: &str) -> Duration {
    let whole = first.saturating_mul(1 << (tried - 1).min(10)).min(RETRY_MOST);
    let hash = blake3::hash(format!("{call_id}/{tried}").as_bytes());
    whole / 2 + whole.mul_f64(f64::from(hash.as_bytes()[0]) / 512.0)
}

fn digest(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hex(&hasher.finalize().as_bytes()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_stays_and_delivery_goes() {
        let kept = r#"{"model":"big","stream":true,"stream_options":{"include_usage":true},"user":"u","temperature":0,"messages":[{"role":"user","content":"x"}]}"#;
        let sent: Value = serde_json::from_slice(&request_body(kept, Some("small")).unwrap()).unwrap();
        let expected =
            serde_json::json!({"model": "small", "temperature": 0, "messages": [{"role": "user", "content": "x"}]});
        assert_eq!(sent, expected);
        assert_eq!(request_body("[]", None), None);
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let first = Duration::from_millis(100);
        let pauses: Vec<Duration> = (1..=40).map(|tried| pause(first, tried, "c")).collect();
        assert!(pauses[0] >= first / 2 && pauses[0] <= first);
        assert!(pauses[3] >= first * 4 && pauses.iter().all(|pause| *pause <= RETRY_MOST));
    }
}
