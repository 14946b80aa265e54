//! One call as captured → the row that is kept: masked first, then parsed, priced and assigned.
//!
//! The one way from bodies to a [`CallRecord`], for live calls and imported ones. Pure: no IO, no clock. Content encodings
//! are undone and media left out first; what is parsed, digested or counted comes from masked text only. What can't be
//! decoded or read is kept as far as it can be, and the row says so.

mod media;
mod plain;
mod timing;

pub(crate) use media::is_missing_in as is_media_missing_in;

use crate::mask::{Counts, Mask};
use crate::thread::Trail;
use plain::Plain;
use std::borrow::Cow;
use std::sync::Arc;
use timing::Timing;
use understudy_call::call::{Api, Request, Response, ToolOffered, Usage};
use understudy_call::frame::{BodyNote, FrameHead, RawCall};
use understudy_call::keys::{Key, keyed_digest};
use understudy_call::price::PriceTable;
use understudy_call::record::{Attempt, CallRecord, Outcome, SCHEMA_VERSION};
use understudy_call::taskbook::CompiledBook;
use understudy_call::wire::{self, Assembled, WireError};

/// What rows are made with; cheap to clone, shared by all threads.
#[derive(Clone)]
pub struct RowMaker {
    /// Masks bodies, errors, paths and tags.
    pub mask: Arc<Mask>,
    /// Prices of models.
    pub prices: Arc<PriceTable>,
    /// Keys the digests.
    pub store_key: Key,
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
}

/// A body, masked, and what it says.
struct Read<T> {
    text: Option<String>,
    parsed: Option<T>,
    /// What could not be read.
    note: Option<BodyNote>,
}

impl<T> Read<T> {
    /// No body, for a reason that is no fault.
    fn nothing() -> Read<T> {
        Read {
            text: None,
            parsed: None,
            note: None,
        }
    }

    /// A body as far as it could be read.
    fn of(parsed: Result<T, WireError>, text: String) -> Read<T> {
        let note = match &parsed {
            Ok(_) => None,
            Err(WireError::TooDeep) => Some(BodyNote::TooDeep),
            Err(_) => Some(BodyNote::ParseError),
        };
        Read {
            text: Some(text),
            parsed: parsed.ok(),
            note,
        }
    }
}

impl RowMaker {
    /// The row of a call.
    pub fn row(&self, raw: &RawCall) -> Row {
        let head = &raw.head;
        let api = head.api.unwrap_or(Api::Other);
        let mut counts = Counts::default();
        let mut record = self.of_head(head, api, &mut counts);
        let asked = Plain::of(&raw.request, head.request_encoding.as_deref(), &[]);
        let answered = Plain::of(&raw.response, head.content_encoding.as_deref(), &head.pieces);
        let request = self.request(api, head, &asked.bytes, &mut counts);
        let response = self.response(api, head, &answered.bytes, &mut counts);
        let note = if asked.at_fault || answered.at_fault {
            Some(BodyNote::Encoding)
        } else {
            request.note.or(response.note)
        };
        record.body_note = head.body_note.or(note).map(|note| note.as_str().to_owned());
        if let Some(request) = &request.parsed {
            self.add_request(&mut record, head, request);
        }
        if let Some((answer, streamed)) = &response.parsed {
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
        let answer = response.parsed.as_ref().map(|(answer, _)| answer);
        let asked = request.parsed.as_ref();
        let mut trail = Trail::of(&self.store_key, asked, answer);
        // Alone of the APIs it lets requests name answers.
        if api == Api::OpenaiResponses {
            trail = trail.naming_answers(&self.store_key, &head.upstream, asked, answer);
        }
        record.request_body = request.text;
        record.response_body = response.text;
        record.masked = counts.into_vec();
        Row { record, trail }
    }

    fn of_head(&self, head: &FrameHead, api: Api, counts: &mut Counts) -> CallRecord {
        let milliseconds = |micros: Option<u64>| micros.map(|micros| micros as f64 / 1000.0);
        let mut masked = |text: &str| self.mask.text(text, counts).into_owned();
        CallRecord {
            schema_version: SCHEMA_VERSION,
            call_id: head.call_id.clone(),
            boot_id: given(&head.boot_id),
            sequence: (head.sequence > 0).then(|| signed(head.sequence)),
            conversation_id: head.call_id.clone(),
            affinity_key: head.affinity_key.clone(),
            client_id: head.client_id.clone(),
            key_id: head.key_id.clone(),
            started_at: (head.started_at > 0).then_some(head.started_at),
            upstream: given(&head.upstream),
            api: api.as_str().to_owned(),
            route: head.route.clone(),
            method: given(&head.method),
            path: given(&head.path).map(|path| masked(&path)),
            request_model: noted_model(head).map(|model| masked(&model)),
            task_id: head.task_id.clone(),
            task_confidence: head.task_confidence,
            taskbook_version: head.taskbook_version,
            arm: head.arm.clone(),
            config_hash: head.config_hash.clone(),
            outcome: head.outcome,
            status: head.status.map(i32::from),
            error: head.error.as_deref().map(&mut masked),
            attempts: head.attempts.clone(),
            first_chunk_ms: milliseconds(head.first_chunk_us),
            duration_ms: milliseconds(head.duration_us),
            overhead_us: head.overhead_us.map(signed),
            request_bytes: Some(signed(head.request_bytes)),
            response_bytes: Some(signed(head.response_bytes)),
            trace_id: head.trace_id.clone(),
            tags: head
                .tags
                .iter()
                .map(|(name, value)| (masked(name), masked(value)))
                .collect(),
            ..CallRecord::default()
        }
    }

    fn request(&self, api: Api, head: &FrameHead, body: &[u8], counts: &mut Counts) -> Read<Request> {
        if api == Api::Other || body.is_empty() {
            return Read::nothing();
        }
        let opened = (api == Api::BedrockConverse)
            .then(|| wire::open_request_to_count(body))
            .flatten();
        let text = self.masked(opened.as_deref().unwrap_or(body), counts);
        Read::of(wire::parse_request_at(api, &head.path, text.as_bytes()), text)
    }

    /// A body's text, without media, masked.
    fn masked(&self, body: &[u8], counts: &mut Counts) -> String {
        let body = media::left_out(&self.store_key, body);
        self.mask.body(&body, counts).text
    }

    /// The response, and whether it was streamed.
    fn response(&self, api: Api, head: &FrameHead, body: &[u8], counts: &mut Counts) -> Read<(Response, bool)> {
        if api == Api::Other || body.is_empty() {
            return Read::nothing();
        }
        let status = head.status.unwrap_or(0);
        match wire::assemble(api, head.content_type.as_deref(), body) {
            Ok(assembled) if assembled.streamed => self.streamed(api, status, assembled, counts),
            Ok(_) => {
                let text = self.masked(body, counts);
                // Parsed again, from masked text: a surrogate is what a candidate will be compared with.
                let parsed = wire::assemble(api, None, text.as_bytes());
                let answer = parsed.map(|assembled| (wire::parse_response(api, status, &assembled), false));
                Read::of(answer, text)
            }
            Err(error) => Read::of(Err(error), self.masked(body, counts)),
        }
    }

    fn streamed(&self, api: Api, status: u16, mut assembled: Assembled, counts: &mut Counts) -> Read<(Response, bool)> {
        let text = self.masked(assembled.body.to_string().as_bytes(), counts);
        let Ok(body) = serde_json::from_str(&text) else {
            return Read {
                text: Some(text),
                parsed: None,
                note: Some(BodyNote::ParseError),
            };
        };
        assembled.body = body;
        assembled.error = assembled.error.map(|error| self.masked_value(&error, counts));
        Read {
            parsed: Some((wire::parse_response(api, status, &assembled), true)),
            text: Some(text),
            note: (assembled.skipped_events > 0).then_some(BodyNote::ParseError),
        }
    }

    fn masked_value(&self, value: &serde_json::Value, counts: &mut Counts) -> serde_json::Value {
        let text = self.masked(value.to_string().as_bytes(), counts);
        serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))
    }

    fn add_request(&self, record: &mut CallRecord, head: &FrameHead, request: &Request) {
        record.request_model = request.model.clone().or(record.request_model.take());
        record.streamed = request.stream;
        record.tools_offered = request.tools.iter().map(|tool| tool.name.clone()).collect();
        let system = request.system_text();
        record.system_digest = (!system.is_empty()).then(|| keyed_digest(&self.store_key, [system.as_bytes()]));
        record.tools_digest = (!request.tools.is_empty()).then(|| tools_digest(&self.store_key, &request.tools));
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
