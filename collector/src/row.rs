//! One call as captured → the row that is kept: masked first, then parsed, priced and assigned.
//!
//! The one way from bodies to a [`CallRecord`], for live calls and imported ones. Pure: no IO, no clock. Content encodings
//! are undone and media left out first; what is kept or counted comes from masked text only, and of the text before that
//! only keyed digests remain. What can't be decoded or read is kept as far as it can be, and the row says so.

mod masking;
mod media;
mod origin;
mod plain;
mod timing;
mod unmasked;

pub(crate) use media::is_missing_in as is_media_missing_in;
pub(crate) use timing::Timing;

use crate::drift::Look;
use crate::mask::{Mask, Replaced, Values};
use crate::thread::Trail;
use masking::{Bodies, Drafts, Masked};
use plain::Plain;
use std::borrow::Cow;
use std::sync::Arc;
use understudy_call::call::{Api, Request, Response, ToolOffered, Usage};
use understudy_call::frame::{BodyNote, FrameHead, RawCall};
use understudy_call::keys::{Key, Origins, keyed_digest};
use understudy_call::price::PriceTable;
use understudy_call::record::{Attempt, CallRecord, Outcome, SCHEMA_VERSION};
use understudy_call::taskbook::CompiledBook;
use understudy_call::wire;
use unmasked::{Read, Unmasked, read_request};

/// What rows are made with; cheap to clone, shared by all threads.
#[derive(Clone)]
pub struct RowMaker {
    /// Masks bodies, errors, paths and tags.
    pub mask: Arc<Mask>,
    /// Prices of models.
    pub prices: Arc<PriceTable>,
    /// Keys the digests.
    pub store_key: Key,
    /// Makes the pseudonyms of users and sessions that bodies name.
    pub origins: Arc<Origins>,
    /// Assigns calls that no task book has seen yet.
    pub book: Option<Arc<CompiledBook>>,
}

/// A row, and what threads it into its conversation.
#[derive(Clone, Debug)]
pub struct Row {
    /// The row. Its conversation is its own call id until [`crate::thread::Threads::place`] says more.
    pub record: CallRecord,
    /// Digests of its messages.
    pub trail: Trail,
    /// Sensitive values that it told, for the later calls of its conversation.
    pub told: Values,
    /// What was replaced in it, for the vault.
    pub replaced: Replaced,
    /// What a drift of its task is told by, where there is a task book.
    pub look: Option<Look>,
}

/// Keyed digests of a call's text.
struct Digests {
    trail: Trail,
    system: Option<String>,
    tools: Option<String>,
}

impl RowMaker {
    /// The row of a call. `told_before` is asked what the earlier calls of its conversation told the mask.
    pub fn row(&self, raw: &RawCall, told_before: impl FnOnce(&Trail) -> Option<Values>) -> Row {
        let head = &raw.head;
        let api = head.api.unwrap_or(Api::Other);
        let asked = Plain::of(&raw.request, head.request_encoding.as_deref(), &[]);
        let answered = Plain::of(&raw.response, head.content_encoding.as_deref(), &head.pieces);
        let mut asking = Unmasked::request(&self.store_key, api, &asked.bytes);
        let mut answering = Unmasked::response(&self.store_key, api, head, &answered.bytes);
        let mut hide = |body: &mut Unmasked<'_>| origin::hide(&self.origins, &mut body.bytes);
        let user_id = asking.as_mut().and_then(&mut hide);
        answering.as_mut().map(hide);
        // Read before anything is masked: how it is masked may change in the course of a conversation.
        let asked_as = asking.as_ref().map(|body| read_request(api, head, &body.text()));
        let answered_as = answering.as_ref().map(|body| body.read_as_is(api, head.status));
        let digests = self.digests(api, head, asked_as.as_ref(), answered_as.as_ref());

        let model = noted_model(head);
        let bodies = Bodies {
            request: asking.as_ref().map(|body| &*body.bytes),
            response: answering.as_ref().map(|body| &*body.bytes),
            stream_error: answering.as_ref().and_then(Unmasked::stream_error),
        };
        let drafts = Drafts::of(&self.mask, head, model.as_deref(), bodies);
        let told = drafts.told();
        let mut known = told.clone();
        known.add(&told_before(&digests.trail).unwrap_or_default(), usize::MAX);
        let mut masked = drafts.finish(&self.mask, head.client_id.as_deref(), &known);

        let replaced = std::mem::take(&mut masked.replaced);
        // What the mask has left as it was is not read again.
        let request = masked.request.as_deref().zip(asking.as_ref());
        let request = request.and_then(|(text, body)| match *body.bytes == *text.as_bytes() {
            true => asked_as,
            false => Some(read_request(api, head, text)),
        });
        let response = masked.response.as_deref().zip(answering.as_ref());
        let response = response.and_then(|(text, body)| {
            let error = masked.stream_error.as_deref();
            match *body.bytes == *text.as_bytes() && error == body.stream_error() {
                true => answered_as,
                false => Some(body.read(api, head.status, text, error)),
            }
        });
        let notes = request.as_ref().and_then(|read| read.note);
        let note = if asked.at_fault || answered.at_fault {
            Some(BodyNote::Encoding)
        } else {
            notes.or(response.as_ref().and_then(|read| read.note))
        };
        let mut record = of_head(head, api, masked);
        record.body_note = head.body_note.or(note).map(|note| note.as_str().to_owned());
        if user_id.is_some() {
            // An imported call has no other pseudonyms.
            record.key_id.get_or_insert_with(|| self.origins.key_id.clone());
        }
        record.user_id = user_id;
        record.system_digest = digests.system;
        record.tools_digest = digests.tools;
        let request = request.and_then(|read| read.parsed);
        let response = response.and_then(|read| read.parsed);
        if let Some(request) = &request {
            self.add_request(&mut record, head, request);
        }
        if let Some((answer, streamed)) = &response {
            let is_whole = head.body_note.is_none() && !answered.at_fault;
            self.add_response(&mut record, head, answer, *streamed, is_whole);
            if *streamed {
                let content_type = head.content_type.as_deref();
                add_timing(
                    &mut record,
                    &Timing::of(api, content_type, &answered.bytes, &answered.pieces),
                );
            }
        }
        let looked_at = self.book.as_ref().zip(request.as_ref());
        let answer = response.as_ref().map(|(answer, _)| answer);
        Row {
            record,
            trail: digests.trail,
            told,
            replaced,
            look: looked_at.and_then(|(book, request)| Look::at(book, request, answer)),
        }
    }

    fn digests(
        &self,
        api: Api,
        head: &FrameHead,
        request: Option<&Read<Request>>,
        response: Option<&Read<(Response, bool)>>,
    ) -> Digests {
        let request = request.and_then(|read| read.parsed.as_ref());
        let answer = response.and_then(|read| read.parsed.as_ref()).map(|(answer, _)| answer);
        let mut trail = Trail::of(&self.store_key, request, answer);
        // Alone of the APIs it lets requests name answers.
        if api == Api::OpenaiResponses {
            trail = trail.naming_answers(&self.store_key, &head.upstream, request, answer);
        }
        let system = request.map(Request::system_text).filter(|system| !system.is_empty());
        let tools = request.filter(|request| !request.tools.is_empty());
        Digests {
            trail,
            system: system.map(|system| keyed_digest(&self.store_key, [system.as_bytes()])),
            tools: tools.map(|request| tools_digest(&self.store_key, &request.tools)),
        }
    }

    fn add_request(&self, record: &mut CallRecord, head: &FrameHead, request: &Request) {
        record.request_model = request.model.clone().or(record.request_model.take());
        record.streamed = request.stream;
        record.tools_offered = request.tools.iter().map(|tool| tool.name.clone()).collect();
        if head.taskbook_version.is_some() {
            return;
        }
        if let Some(book) = &self.book {
            assign(record, book, request);
        }
    }

    fn add_response(
        &self,
        record: &mut CallRecord,
        head: &FrameHead,
        answer: &Response,
        streamed: bool,
        is_whole: bool,
    ) {
        record.streamed = streamed;
        record.response_model = head.response_model.clone().or_else(|| answer.model.clone());
        record.finish_reason = answer.finish_reason.clone();
        record.output_text = Some(answer.output_text.clone());
        record.tool_calls = answer.tool_calls.clone();
        record.partial = answer.partial && is_whole;
        record.error = answer.error.as_ref().map(error_text).or(record.error.take());
        record.outcome = refined(record.outcome, answer, streamed, is_whole);
        self.add_usage(record, &answer.usage.or(head.header_usage.unwrap_or_default()));
    }

    fn add_usage(&self, record: &mut CallRecord, usage: &Usage) {
        record.input_tokens = usage.input;
        record.cached_tokens = usage.cached;
        record.cache_write_tokens = usage.cache_write;
        record.output_tokens = usage.output;
        record.reasoning_tokens = usage.reasoning;
        // What was asked for says nothing of the price where another upstream answered.
        let by_baseline = record.arm.is_none() || record.arm == record.upstream;
        let asked = record.request_model.as_ref().filter(|_| by_baseline);
        let models = [record.response_model.as_ref(), asked];
        let price = models.into_iter().flatten().find_map(|model| self.prices.lookup(model));
        let cost = price.and_then(|price| price.cost(usage));
        if let Some(served) = record.attempts.iter_mut().find(|attempt| attempt.served) {
            served.output_tokens = usage.output;
            served.cost_usd = cost;
        }
        record.cost_usd = if record.attempts.is_empty() {
            cost
        } else {
            record.attempts.iter().map(attempt_cost).sum()
        };
    }
}

/// The request of a call as its client sent it, its content encoding undone; `None` where it is no whole text.
pub(crate) fn request_text(raw: &RawCall) -> Option<String> {
    let plain = Plain::of(&raw.request, raw.head.request_encoding.as_deref(), &[]);
    let is_whole = !plain.at_fault && raw.head.body_note.is_none();
    String::from_utf8(plain.bytes.into_owned()).ok().filter(|_| is_whole)
}

/// What the head tells, and the masked texts.
fn of_head(head: &FrameHead, api: Api, masked: Masked) -> CallRecord {
    let milliseconds = |micros: Option<u64>| micros.map(|micros| micros as f64 / 1000.0);
    let (in_all, by_column) = (masked.in_all(), masked.by_column());
    CallRecord {
        schema_version: SCHEMA_VERSION,
        call_id: head.call_id.clone(),
        boot_id: given(&head.boot_id),
        sequence: (head.sequence > 0).then(|| signed(head.sequence)),
        conversation_id: head.call_id.clone(),
        affinity_key: head.affinity_key.clone(),
        client_id: head.client_id.clone(),
        address_id: head.address_id.clone(),
        key_id: head.key_id.clone(),
        started_at: (head.started_at > 0).then_some(head.started_at),
        upstream: given(&head.upstream),
        api: api.as_str().to_owned(),
        route: head.route.clone(),
        method: given(&head.method),
        path: given(&masked.path),
        request_model: masked.model,
        task_id: head.task_id.clone(),
        task_confidence: head.task_confidence,
        taskbook_version: head.taskbook_version,
        arm: head.arm.clone(),
        config_hash: head.config_hash.clone(),
        outcome: head.outcome,
        status: head.status.map(i32::from),
        error: masked.error,
        attempts: head.attempts.clone(),
        first_chunk_ms: milliseconds(head.first_chunk_us),
        duration_ms: milliseconds(head.duration_us),
        overhead_us: head.overhead_us.map(signed),
        request_bytes: Some(signed(head.request_bytes)),
        response_bytes: Some(signed(head.response_bytes)),
        trace_id: head.trace_id.clone(),
        tags: masked.tags.into_iter().collect(),
        request_body: masked.request,
        response_body: masked.response,
        masked: in_all,
        masked_in: by_column,
        ..CallRecord::default()
    }
}

/// The model asked for, as far as the head tells.
fn noted_model(head: &FrameHead) -> Option<Cow<'_, str>> {
    let noted = head.request_model.as_deref().map(Cow::Borrowed);
    noted.or_else(|| wire::model_in_path(&head.path))
}

/// Assigns a row to a task of a book; `request` is parsed from masked text.
pub fn assign(record: &mut CallRecord, book: &CompiledBook, request: &Request) {
    let assignment = book.assign(request);
    record.taskbook_version = Some(book.version());
    record.task_confidence = assignment.as_ref().map(|assignment| assignment.confidence);
    record.task_id = assignment.map(|assignment| assignment.task);
}

/// An attempt that got no answer, or an error status, is not billed.
fn attempt_cost(attempt: &Attempt) -> Option<f64> {
    let is_free = attempt.status.is_none_or(|status| status >= 400);
    attempt.cost_usd.or(is_free.then_some(0.0))
}

/// What HTTP called a success, a stream may still tell to be an error or cut.
fn refined(outcome: Outcome, answer: &Response, streamed: bool, is_whole: bool) -> Outcome {
    match outcome {
        Outcome::Ok if streamed && answer.error.is_some() => Outcome::InStreamError,
        Outcome::Ok if streamed && is_whole && answer.partial => Outcome::UpstreamTruncated,
        outcome => outcome,
    }
}

fn add_timing(record: &mut CallRecord, timing: &Timing) {
    record.first_token_ms = timing.first_token_ms;
    record.inter_token_p50_ms = timing.gap_p50_ms;
    record.inter_token_p99_ms = timing.gap_p99_ms;
    record.longest_stall_ms = timing.longest_ms;
}

fn tools_digest(key: &Key, tools: &[ToolOffered]) -> String {
    let texts: Vec<String> = tools
        .iter()
        .flat_map(|tool| {
            [
                tool.name.clone(),
                tool.description.clone().unwrap_or_default(),
                tool.schema.to_string(),
            ]
        })
        .collect();
    keyed_digest(key, texts.iter().map(String::as_bytes))
}

fn error_text(error: &serde_json::Value) -> String {
    match error {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
