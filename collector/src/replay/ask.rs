//! Asks one upstream for the answer to one kept call: its own model, bounded retries.

use super::constrain::{Constraint, Form};
use super::judge::Judge;
use super::pace::Pace;
use super::sample::{Drawn, Sample};
use super::{FLOOR, ReplayConfig};
use crate::row::Timing;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use understudy_call::call::{Api, Response};
use understudy_call::keys::hex;
use understudy_call::price::PriceTable;
use understudy_call::record::{Outcome, ScoreRecord};
use understudy_call::translate::{self, Back, Refusal, Translated};
use understudy_call::wire::{self, framing_named};
use understudy_client::{Answer, AskError, Upstream, UpstreamConfig};

/// Fields of a request that steer delivery, name a person, or keep state at the provider; none changes an answer.
const LEFT_OUT: [&str; 9] = [
    "background",
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
/// Why a kept body is not sent.
const NO_OBJECT: &str = "its body is no JSON object";

/// One side of a comparison: an upstream, and what makes it this version of it.
#[derive(Clone)]
pub struct Arm {
    upstream: Arc<Upstream>,
    /// Changes with the model, the URL, and the form that answers are held to.
    pub version: String,
    is_baseline: bool,
    /// What holds its answers to a form, where it is asked so.
    constraint: Option<Constraint>,
    /// Who compares its answers with the recorded ones.
    judge: Option<Judge>,
}

impl Arm {
    /// A candidate: asked for its own model, where it has one.
    pub fn candidate(upstream: Arc<Upstream>) -> Arm {
        let version = version_of(&upstream.config);
        let constraint = upstream.config.constrain.then(Constraint::default);
        Arm {
            version,
            upstream,
            is_baseline: false,
            constraint,
            judge: None,
        }
    }

    /// Where its answers are held to a form and a request says none: that of the recorded answers of `sample`. Asked for such
    /// a form it is another version.
    pub fn with_forms_of(self, sample: &Sample) -> Arm {
        let constraint = self.constraint.as_ref().map(|_| Constraint::of(sample));
        let version = match constraint.as_ref().and_then(Constraint::form) {
            Some(form) => digest(&[&self.version, &form]),
            None => self.version,
        };
        Arm {
            constraint,
            version,
            ..self
        }
    }

    /// Its answers are also judged.
    pub fn with_judge(self, judge: Option<Judge>) -> Arm {
        Arm { judge, ..self }
    }

    /// Who judges its answers.
    pub(super) fn judge(&self) -> Option<&Judge> {
        self.judge.as_ref()
    }

    /// The baseline: asked again for the model that the call asked for.
    pub fn baseline(upstream: Arc<Upstream>) -> Arm {
        let version = format!("{FLOOR}{}", digest(&["", upstream.config.url.as_str()]));
        Arm {
            upstream,
            version,
            is_baseline: true,
            constraint: None,
            judge: None,
        }
    }

    /// The same upstream as the baseline of a call.
    pub(crate) fn as_baseline(&self) -> Arm {
        Arm::baseline(self.upstream.clone())
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
    fn asked_model<'a>(&self, call: &'a Drawn) -> Option<&'a str> {
        match self.model() {
            Some(_) => None,
            None => call.request.model.as_deref(),
        }
    }

    pub(crate) fn max_in_flight(&self) -> Option<usize> {
        self.upstream.config.max_in_flight
    }

    /// A self-hosted upstream costs its machine's time, shared among the answers that it gave meanwhile.
    pub(super) fn share_machine_cost(&self, rows: &mut [(usize, ScoreRecord)], seconds: f64) {
        let Some(price) = self.upstream.config.price else {
            return;
        };
        let answered = rows.iter().filter(|(_, row)| row.outcome == Outcome::Ok).count();
        let each = price.gpu_hour / 3600.0 * seconds / answered.max(1) as f64;
        for (_, row) in rows.iter_mut().filter(|(_, row)| row.outcome == Outcome::Ok) {
            row.cost_usd = Some(each);
        }
    }

    /// What an answer cost, in US dollars: by its tokens, or by the machine's time as if it had worked on nothing else.
    pub(crate) fn cost(&self, call: &Drawn, reply: &Reply, prices: &PriceTable) -> Option<f64> {
        if let (Some(price), Some(milliseconds)) = (self.upstream.config.price, reply.duration_ms) {
            return Some(price.gpu_hour / 3600.0 * milliseconds / 1000.0);
        }
        let Some(answer) = reply.answer.as_ref().filter(|answer| answer.error.is_none()) else {
            // What was not answered is not billed.
            return Some(0.0);
        };
        let models = [answer.model.as_deref(), self.model(), self.asked_model(call)];
        let price = models.into_iter().flatten().find_map(|model| prices.lookup(model));
        price.and_then(|price| price.cost(&answer.usage))
    }

    /// Asks, and asks again where that may help. `None` where the budget is spent before the first try.
    pub(crate) async fn ask(&self, call: &Drawn, config: &ReplayConfig, pace: &Pace) -> Option<Reply> {
        let question = match self.question(call) {
            Ok(question) => question,
            Err(reason) => return Some(Reply::refused(Outcome::Refused, reason)),
        };
        let mut tried = 0;
        let mut last = None;
        loop {
            if !pace.admit().await {
                return last;
            }
            let started = Instant::now();
            let body = question.body.clone();
            let asked = match &question.path {
                Some(path) => self.upstream.ask_at(path, question.api, body, config.deadline).await,
                None => self.upstream.ask(question.api, body, config.deadline).await,
            };
            tried += 1;
            let may_pass = match &asked {
                Ok(answer) => RETRIED.contains(&answer.status),
                Err(error) => error.is_retryable(),
            };
            let mut reply = match asked {
                Ok(answer) => Reply::of_answer(&question, &answer),
                Err(error) => Reply::of_error(&error),
            };
            (reply.started, reply.retries) = (Some(started), tried - 1);
            if !may_pass || tried >= config.tries {
                return Some(reply);
            }
            pace.failed();
            last = Some(reply);
            tokio::time::sleep(pause(config.retry_after, tried, &call.call_id)).await;
        }
    }

    /// The request as this arm takes it: in its own API, with the history and the parameters as recorded.
    fn question(&self, call: &Drawn) -> Result<Question, String> {
        let speaks = match self.is_baseline {
            true => call.api,
            false => self.upstream.config.api.unwrap_or(call.api),
        };
        let is_direct = self.is_baseline || !translate::is_needed(call.api, speaks);
        if is_direct && (self.constraint.is_none() || speaks == Api::OpenaiChat) {
            let body = request_body(&call.request_body, self.model(), call.api);
            let seen_at = call.path.as_deref().map(without_stream);
            let (body, form) = self.shaped(call, call.api, body.ok_or(NO_OBJECT)?);
            return Ok(Question {
                api: call.api,
                path: self.upstream.call_path(call.api).is_none().then_some(seen_at).flatten(),
                body,
                form,
                back: None,
            });
        }
        let (translated, told) = self.translated(call, speaks).map_err(|refusal| refusal.to_string())?;
        let model = self.model().filter(|_| !translate::path_says_model(speaks));
        let body = request_body(&translated.body.to_string(), model, speaks);
        let mut body = body.ok_or(NO_OBJECT)?;
        let streams = call.request.stream;
        match speaks {
            // It streams unless it is told not to.
            Api::Ollama => drop(body.insert("stream".into(), streams.into())),
            Api::AnthropicMessages | Api::OpenaiResponses | Api::CohereChat if streams => {
                body.insert("stream".into(), true.into());
            }
            _ => {}
        }
        let (body, form) = self.shaped(call, speaks, body);
        let model = self.model().unwrap_or(&translated.back.model);
        Ok(Question {
            api: speaks,
            path: self.upstream.path_of(speaks, model, streams),
            body,
            form: if speaks == Api::OpenaiChat { form } else { told },
            back: Some(translated.back),
        })
    }

    /// The request in another API; a form that its answer is held to is told in chat, which lies between.
    fn translated(&self, call: &Drawn, speaks: Api) -> Result<(Translated, Form), Refusal> {
        let seen_at = call.path.as_deref().unwrap_or_default();
        let request = call.request_body.as_bytes();
        let Some(constraint) = self.constraint.as_ref().filter(|_| speaks != Api::OpenaiChat) else {
            let translated = translate::between(call.api, speaks, seen_at, request)?;
            return Ok((translated, Form::Plain));
        };
        let (chat, back) = if call.api == Api::OpenaiChat {
            (serde_json::from_slice(request).unwrap_or_default(), None)
        } else {
            let translated = translate::between(call.api, Api::OpenaiChat, seen_at, request)?;
            (translated.body, Some(translated.back))
        };
        let Value::Object(mut chat) = chat else {
            return Err(Refusal::Unreadable(NO_OBJECT.into()));
        };
        let form = constraint.put(&mut chat);
        let mut translated = translate::request_for(speaks, Value::Object(chat).to_string().as_bytes())?;
        if let Some(back) = back {
            translated.back = Back { spoken: speaks, ..back };
        }
        Ok((translated, form))
    }

    /// A chat that was streamed is streamed again, so that the time of the first token compares; and where this arm's answers
    /// are held to a form, that is asked for.
    fn shaped(&self, call: &Drawn, api: Api, mut body: Map<String, Value>) -> (Bytes, Form) {
        let mut form = Form::Plain;
        if api == Api::OpenaiChat {
            if call.request.stream {
                body.insert("stream".into(), true.into());
                body.insert("stream_options".into(), json!({"include_usage": true}));
            }
            if let Some(constraint) = &self.constraint {
                form = constraint.put(&mut body);
            }
        }
        (Value::Object(body).to_string().into(), form)
    }
}

/// A request on its way to an arm.
struct Question {
    api: Api,
    /// Where it goes, where the API has no one path.
    path: Option<String>,
    body: Bytes,
    /// How the answer is read.
    form: Form,
    /// Brings the answer back to the call's API.
    back: Option<Back>,
}

/// The path at which the same is answered whole.
fn without_stream(path: &str) -> String {
    path.replace(":streamGenerateContent", ":generateContent")
        .replace("/converse-stream", "/converse")
        .replace("/invoke-with-response-stream", "/invoke")
}

/// What came of asking.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    /// The answer, or the error that the upstream answered.
    pub(crate) answer: Option<Response>,
    /// Its body, in the call's API.
    pub(crate) body: Option<String>,
    /// Milliseconds to the first output, where it was streamed.
    pub(crate) first_token_ms: Option<f64>,
    pub(crate) duration_ms: Option<f64>,
    /// When the last try began.
    pub(super) started: Option<Instant>,
    /// Tries before it.
    pub(super) retries: u32,
    /// Why the upstream can't be asked anything, if so.
    pub(crate) refused: Option<String>,
}

impl Reply {
    /// Whether the upstream was asked at all.
    pub(super) fn was_sent(&self) -> bool {
        self.started.is_some()
    }

    fn failed(outcome: Outcome) -> Reply {
        Reply {
            outcome,
            answer: None,
            body: None,
            first_token_ms: None,
            duration_ms: None,
            started: None,
            retries: 0,
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

    fn of_answer(question: &Question, answer: &Answer) -> Reply {
        let (api, back, form) = (question.api, question.back.as_ref(), question.form);
        let text = String::from_utf8_lossy(&answer.body);
        let refused = REFUSED.contains(&answer.status).then(|| {
            let shown: String = text.chars().take(SHOWN).collect();
            format!("it answers with status {}: {}", answer.status, shown.trim())
        });
        let assembled = wire::assemble(api, answer.content_type.as_deref(), &answer.body).ok();
        let mut parsed = assembled
            .as_ref()
            .map(|assembled| wire::parse_response(api, answer.status, assembled).without_padding());
        if let Some(parsed) = &mut parsed {
            form.read(parsed);
        }
        let outcome = match &parsed {
            _ if answer.status >= 400 => Outcome::UpstreamStatus,
            None => Outcome::UpstreamProtocol,
            Some(response) if response.error.is_some() => Outcome::InStreamError,
            Some(response) if response.partial && is_streamed(api, answer) => Outcome::UpstreamTruncated,
            Some(_) => Outcome::Ok,
        };
        let translated = match (back, &parsed) {
            (Some(back), Some(response)) if outcome == Outcome::Ok => {
                back.answer(response.id.as_deref().unwrap_or_default(), response).ok()
            }
            _ => None,
        };
        let body = translated.or(assembled.map(|assembled| assembled.body));
        Reply {
            outcome,
            body: Some(body.map_or(text.into_owned(), |body| body.to_string())),
            answer: parsed,
            first_token_ms: Timing::of(api, answer.content_type.as_deref(), &answer.body, &answer.pieces)
                .first_token_ms
                .filter(|_| is_streamed(api, answer)),
            duration_ms: Some(answer.duration_ms),
            started: None,
            retries: 0,
            refused,
        }
    }
}

/// Whether an answer came as a stream: the time of the first output of another one says nothing.
fn is_streamed(api: Api, answer: &Answer) -> bool {
    framing_named(api, "", answer.content_type.as_deref()).is_some()
}

/// The kept request as it is sent: whole, and with another model where one is given.
pub(super) fn request_body(kept: &str, model: Option<&str>, api: Api) -> Option<Map<String, Value>> {
    let Ok(Value::Object(mut body)) = serde_json::from_str(kept) else {
        return None;
    };
    LEFT_OUT.iter().for_each(|field| drop(body.shift_remove(*field)));
    if let Some(model) = model {
        body.insert("model".into(), model.into());
    }
    // Said by leaving it out, this one keeps the answer.
    if api == Api::OpenaiResponses {
        body.insert("store".into(), false.into());
    }
    Some(body)
}

/// Doubles from try to try, and lies between half and all of that: by the call, so that calls don't come in step.
fn pause(first: Duration, tried: u32, call_id: &str) -> Duration {
    let whole = first.saturating_mul(1 << (tried - 1).min(10)).min(RETRY_MOST);
    let hash = blake3::hash(format!("{call_id}/{tried}").as_bytes());
    whole / 2 + whole.mul_f64(f64::from(hash.as_bytes()[0]) / 512.0)
}

/// The version of a candidate: changes with its model, its URL, its API, and whether its answers are held to a form.
pub fn version_of(candidate: &UpstreamConfig) -> String {
    let model = candidate.model.as_deref().unwrap_or_default();
    let mut parts = vec![model, candidate.url.as_str()];
    if let Some(api) = candidate.api.filter(|api| *api != Api::OpenaiChat) {
        parts.push(api.as_str());
    }
    if candidate.constrain {
        parts.push("constrain: schema");
    }
    digest(&parts)
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
        let sent = Value::Object(request_body(kept, Some("small"), Api::OpenaiChat).unwrap());
        let expected = json!({"model": "small", "temperature": 0, "messages": [{"role": "user", "content": "x"}]});
        assert_eq!(sent, expected);
        assert_eq!(request_body("[]", None, Api::OpenaiChat), None);
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let first = Duration::from_millis(100);
        let pauses: Vec<Duration> = (1..=40).map(|tried| pause(first, tried, "c")).collect();
        assert!(pauses[0] >= first / 2 && pauses[0] <= first);
        assert!(pauses[3] >= first * 4 && pauses.iter().all(|pause| *pause <= RETRY_MOST));
    }
}
