//! Which kept calls are replayed: a seeded permutation of the task's calls that can be, the first of it.
//!
//! A larger sample by the same seed holds the smaller one, so that a replay can be continued. Sends nothing.

use super::ask::Reply;
use crate::books::for_each_assigned;
use crate::row::is_media_missing_in;
use crate::scan::{CallFilter, ScanError};
use crate::score::LabelSet;
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use understudy_call::call::{Api, Request, Response};
use understudy_call::record::{CallRecord, Outcome};
use understudy_call::taskbook::CompiledBook;
use understudy_call::wire;

/// One call of the sample, masked as it is kept.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Our id.
    pub call_id: String,
    /// Its conversation.
    pub conversation_id: String,
    /// The upstream that answered it; unknown for imported calls.
    pub upstream: Option<String>,
    /// Its wire format.
    pub api: Api,
    /// Its body.
    pub request_body: String,
    /// The same, parsed.
    pub request: Request,
    /// The answer that was recorded.
    pub recorded: Response,
}

impl Drawn {
    /// A recorded call that can be replayed.
    fn of(record: CallRecord) -> Option<Drawn> {
        let is_whole = record.outcome == Outcome::Ok
            && record.error.is_none()
            && record.body_note.is_none()
            && !record.partial
            && !record
                .attempts
                .iter()
                .any(|attempt| attempt.served && attempt.candidate_version.is_some());
        if !is_whole {
            return None;
        }
        let api = Api::from_name(&record.api)?;
        // What was shown to the model can't be shown again.
        let request_body = record.request_body.filter(|body| !is_media_missing_in(body))?;
        let request =
            wire::parse_request_at(api, record.path.as_deref().unwrap_or_default(), request_body.as_bytes()).ok()?;
        let assembled = wire::assemble(api, None, record.response_body?.as_bytes()).ok()?;
        let recorded = wire::parse_response(api, 200, &assembled).without_padding();
        (!recorded.is_empty()).then_some(Drawn {
            call_id: record.call_id,
            conversation_id: record.conversation_id,
            upstream: record.upstream,
            api,
            request_body,
            request,
            recorded,
        })
    }

    /// Whether the model that answered again is the one that answered first, as far as both are known.
    pub(super) fn same_model(&self, reply: &Reply) -> bool {
        let again = reply.answer.as_ref().and_then(|answer| answer.model.as_deref());
        match (self.recorded.model.as_deref(), again) {
            (Some(first), Some(again)) => first == again,
            _ => true,
        }
    }
}

/// The calls to replay, and what was seen of the task while drawing them.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// In the order of the permutation.
    pub calls: Vec<Drawn>,
    /// The task's short answers.
    pub labels: LabelSet,
    /// Calls of the task.
    pub of_task: usize,
    /// Of them, calls that can be replayed.
    pub replayable: usize,
}

/// Draws at most `limit` calls of a task. Holds those, and one batch of the scan.
pub async fn draw(
    store: &Store,
    book: Option<&CompiledBook>,
    task: &str,
    limit: usize,
    seed: u64,
) -> Result<Sample, ScanError> {
    let filter = CallFilter {
        task: Some(task.to_owned()),
        ..CallFilter::default()
    };
    let mut sample = Sample::default();
    let mut drawn: BTreeMap<([u8; 16], String), Drawn> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for_each_assigned(store, &filter, book, |record| {
        sample.of_task += 1;
        let lot = lot(seed, &record.call_id);
        let Some(call) = Drawn::of(record).filter(|call| seen.insert(call.call_id.clone())) else {
            return;
        };
        sample.replayable += 1;
        if call.recorded.tool_calls.is_empty() {
            sample.labels.add(&call.recorded.output_text);
        }
        drawn.insert((lot, call.call_id.clone()), call);
        if drawn.len() > limit {
            drawn.pop_last();
        }
    })
    .await?;
    sample.calls = drawn.into_values().collect();
    Ok(sample)
}

/// The place of a call in a seeded permutation: samples are the first of it, whatever the order of reading.
pub fn lot(seed: u64, call_id: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(call_id.as_bytes());
    let mut lot = [0; 16];
    lot.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    lot
}
