//! Which kept calls are replayed: the first of a seeded order of the task's calls that can be.
//!
//! The order is stratified: first one call of every conversation, then a second one of those that have it, and so on;
//! within each round every day has its share from the beginning on. It depends on no answer, and a larger sample by the
//! same seed holds the smaller one, so that a replay can be continued. Sends nothing.

use super::ask::{Reply, request_body};
use crate::books::for_each_assigned;
use crate::row::is_media_missing_in;
use crate::scan::{CallFilter, ScanError};
use crate::score::LabelSet;
use crate::specialise::Seen;
use crate::store::Store;
use crate::table::call_micros;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use understudy_call::call::{Api, Request, Response};
use understudy_call::record::{CallRecord, Outcome};
use understudy_call::taskbook::CompiledBook;
use understudy_call::wire;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// Answers to one request that are held as twins.
const MAX_TWINS: usize = 64;

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
    /// The path that it was sent to, where it was recorded.
    pub path: Option<String>,
    /// Its body.
    pub request_body: String,
    /// The same, parsed.
    pub request: Request,
    /// The answer that was recorded.
    pub recorded: Response,
}

impl Drawn {
    /// A call that the baseline answered, and that can be replayed.
    pub(crate) fn of(record: CallRecord) -> Option<Drawn> {
        if record.is_by_candidate() {
            None
        } else {
            Drawn::whole(record)
        }
    }

    /// A call that a candidate answered; `recorded` is the candidate's answer.
    pub(crate) fn of_candidate(record: CallRecord) -> Option<Drawn> {
        if record.is_by_candidate() {
            Drawn::whole(record)
        } else {
            None
        }
    }

    fn whole(record: CallRecord) -> Option<Drawn> {
        let is_whole =
            record.outcome == Outcome::Ok && record.error.is_none() && record.body_note.is_none() && !record.partial;
        if !is_whole {
            return None;
        }
        let api = Api::from_name(&record.api)?;
        // What was shown to the model can't be shown again.
        let request_body = record.request_body.filter(|body| !is_media_missing_in(body))?;
        if has_state_at_provider(&request_body) {
            return None;
        }
        let path = record.path.as_deref().unwrap_or_default();
        let request = wire::parse_request_at(api, path, request_body.as_bytes()).ok()?;
        let assembled = wire::assemble(api, None, record.response_body?.as_bytes()).ok()?;
        let recorded = wire::parse_response(api, 200, &assembled).without_padding();
        // Tools that the provider runs would be run once more.
        let is_comparable = !recorded.is_empty() && recorded.server_tool_calls.is_empty();
        is_comparable.then_some(Drawn {
            call_id: record.call_id,
            conversation_id: record.conversation_id,
            upstream: record.upstream,
            api,
            path: record.path,
            request_body,
            request,
            recorded,
        })
    }

    /// Whether the model that answered again is the one that answered first, as far as both are known.
    pub(crate) fn same_model(&self, reply: &Reply) -> bool {
        let again = reply.answer.as_ref().and_then(|answer| answer.model.as_deref());
        is_same_model(self.recorded.model.as_deref(), again)
    }

    fn twin_key(&self) -> [u8; 16] {
        twin_key(self.api, &self.request_body)
    }
}

/// Equal for calls that ask the same, however they are delivered.
pub(crate) fn twin_key(api: Api, body: &str) -> [u8; 16] {
    let asked = request_body(body, None, api).map(|body| Value::Object(body).to_string());
    digest(&[api.as_str().as_bytes(), asked.as_deref().unwrap_or(body).as_bytes()])
}

fn is_same_model(first: Option<&str>, again: Option<&str>) -> bool {
    first.zip(again).is_none_or(|(first, again)| first == again)
}

/// The text by which a call tells of its task's labels: what the baseline answered, whole and without calling a tool.
pub(crate) fn label_told(record: &CallRecord) -> Option<&str> {
    let is_whole = record.outcome == Outcome::Ok && record.error.is_none() && !record.partial;
    let is_text = is_whole && record.tool_calls.is_empty() && !record.is_by_candidate();
    record.output_text.as_deref().filter(|_| is_text)
}

/// Whether a request continues what only the provider holds.
fn has_state_at_provider(body: &str) -> bool {
    const KEYS: [&str; 9] = [
        "previous_response_id",
        "conversation",
        "container",
        "prompt",
        "mcp_servers",
        "web_search_options",
        "search_parameters",
        "cachedContent",
        "cached_content",
    ];
    if !KEYS.iter().any(|key| body.contains(key)) {
        return false;
    }
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    // Legacy completions have a text there: they are no chats, and not replayed.
    KEYS.iter().any(|key| !body[*key].is_null())
}

fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

/// The calls to replay, and what was seen of the task while drawing them.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// In the order of the permutation.
    pub calls: Vec<Arc<Drawn>>,
    /// The task's short answers.
    pub labels: LabelSet,
    /// Calls of the task.
    pub of_task: usize,
    /// Of them, calls that can be replayed.
    pub replayable: usize,
    /// Calls that could be, but that the candidate was trained on.
    pub trained_on: usize,
    /// Another answer of the baseline to the same request, seen in the traffic, by call id: a floor pair for free.
    pub twins: HashMap<String, Response>,
}

/// What decides a call's place.
struct Ticket {
    conversation: [u8; 16],
    day: i64,
    lot: [u8; 16],
    /// See [`twin_key`].
    key: [u8; 16],
}

/// Draws at most `limit` calls of a task. Holds those, and some 70 bytes for each other call of the task.
pub async fn draw(
    store: &Store,
    book: Option<&CompiledBook>,
    task: &str,
    limit: usize,
    seed: u64,
) -> Result<Sample, ScanError> {
    draw_unseen(store, book, task, (limit, seed), &Seen::default()).await
}

/// [`draw`], for a candidate that has seen some calls in its training: those are left out. The rest keeps its order.
pub async fn draw_unseen(
    store: &Store,
    book: Option<&CompiledBook>,
    task: &str,
    (limit, seed): (usize, u64),
    trained_on: &Seen,
) -> Result<Sample, ScanError> {
    let filter = CallFilter {
        task: Some(task.to_owned()),
        ..CallFilter::default()
    };
    let mut sample = Sample::default();
    let (mut tickets, mut seen) = (Vec::new(), HashSet::new());
    for_each_assigned(store, &filter, book, |record| {
        sample.of_task += 1;
        let (lot, day) = (lot(seed, &record.call_id), call_micros(&record).div_euclid(DAY));
        if !seen.insert(lot) {
            return;
        }
        if let Some(text) = label_told(&record) {
            sample.labels.add(text);
        }
        let is_trained_on = trained_on.covers(&record);
        let Some(call) = Drawn::of(record) else { return };
        if is_trained_on {
            sample.trained_on += 1;
            return;
        }
        sample.replayable += 1;
        tickets.push(Ticket {
            conversation: digest(&[call.conversation_id.as_bytes()]),
            day,
            lot,
            key: call.twin_key(),
        });
    })
    .await?;
    let mut repeated: HashMap<[u8; 16], usize> = HashMap::new();
    tickets
        .iter()
        .for_each(|ticket| *repeated.entry(ticket.key).or_default() += 1);
    let places: HashMap<[u8; 16], usize> = in_order(tickets, limit).into_iter().zip(0..).collect();
    let mut drawn: BTreeMap<usize, Arc<Drawn>> = BTreeMap::new();
    let mut answers: HashMap<[u8; 16], Vec<(String, Response)>> = HashMap::new();
    for_each_assigned(store, &filter, book, |record| {
        let place = places.get(&lot(seed, &record.call_id)).copied();
        if place.is_none() && repeated.len() == sample.replayable {
            return;
        }
        let Some(call) = Drawn::of(record) else { return };
        let key = call.twin_key();
        if repeated.get(&key).is_some_and(|times| *times > 1) {
            let answers = answers.entry(key).or_default();
            if answers.len() < MAX_TWINS && answers.iter().all(|(id, _)| *id != call.call_id) {
                answers.push((call.call_id.clone(), call.recorded.clone()));
            }
        }
        if let Some(place) = place {
            drawn.insert(place, Arc::new(call));
        }
    })
    .await?;
    sample.calls = drawn.into_values().collect();
    for call in &sample.calls {
        let same = answers.get(&call.twin_key());
        if let Some(twin) = same.and_then(|answers| twin_of(call, answers)) {
            sample.twins.insert(call.call_id.clone(), twin.clone());
        }
    }
    Ok(sample)
}

/// The answer of the next call of the same request, in a circle, by the same model.
fn twin_of<'a>(call: &Drawn, answers: &'a [(String, Response)]) -> Option<&'a Response> {
    let own = answers
        .iter()
        .position(|(id, _)| *id == call.call_id)
        .unwrap_or(answers.len());
    let others = answers.iter().skip(own + 1).chain(answers.iter().take(own));
    let model = call.recorded.model.as_deref();
    others
        .map(|(_, answer)| answer)
        .find(|answer| is_same_model(model, answer.model.as_deref()))
}

/// The lots of the first `limit` tickets in the stratified order.
fn in_order(mut tickets: Vec<Ticket>, limit: usize) -> Vec<[u8; 16]> {
    tickets.sort_by_key(|ticket| (ticket.conversation, ticket.lot));
    let mut round = 0;
    let mut before = None;
    let mut rounds: Vec<(usize, Ticket)> = Vec::with_capacity(tickets.len());
    for ticket in tickets {
        round = if before == Some(ticket.conversation) {
            round + 1
        } else {
            0
        };
        before = Some(ticket.conversation);
        rounds.push((round, ticket));
    }
    rounds.sort_by_key(|(round, ticket)| (*round, ticket.day, ticket.lot));
    // Where a call stands among those of its round and day, from 0 to 1: a part of the round has that part of each day.
    let mut placed: Vec<(usize, f64, [u8; 16])> = Vec::with_capacity(rounds.len());
    for stratum in rounds.chunk_by(|(round, ticket), (other, next)| round == other && ticket.day == next.day) {
        for (place, (round, ticket)) in stratum.iter().enumerate() {
            placed.push((*round, (place as f64 + 0.5) / stratum.len() as f64, ticket.lot));
        }
    }
    placed.sort_by(|left, right| {
        let by_round = left.0.cmp(&right.0).then(left.1.total_cmp(&right.1));
        by_round.then(left.2.cmp(&right.2))
    });
    placed.into_iter().take(limit).map(|(.., lot)| lot).collect()
}

/// The place of a call in a seeded permutation: samples are the first of it, whatever the order of reading.
pub fn lot(seed: u64, call_id: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(call_id.as_bytes());
    let mut lot = [0; 16];
    lot.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    lot
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(conversation: u8, day: i64, lot_of: u32) -> Ticket {
        Ticket {
            conversation: [conversation; 16],
            day,
            lot: lot(0, &lot_of.to_string()),
            key: [0; 16],
        }
    }

    #[test]
    fn every_conversation_and_every_day_has_its_share_from_the_beginning() {
        // A conversation of 100 calls beside 40 of one call each, over 4 days of unlike sizes.
        let tickets = || {
            let long = (0..100).map(|number| ticket(0, 0, number));
            let short =
                (1..=40u8).map(|number| ticket(number, i64::from(number % 8 / 2).min(2), 1000 + u32::from(number)));
            long.chain(short).collect::<Vec<_>>()
        };
        let all = tickets();
        let of = |lot: &[u8; 16]| all.iter().find(|ticket| ticket.lot == *lot).unwrap();
        let first = in_order(tickets(), 41);
        let conversations: HashSet<[u8; 16]> = first.iter().map(|lot| of(lot).conversation).collect();
        assert_eq!(conversations.len(), 41, "one call of each before a second of any");
        let half = in_order(tickets(), 20);
        assert_eq!(half[..], first[..20], "a larger sample holds the smaller one");
        for day in 0..3 {
            let on_day = |lots: &[[u8; 16]]| lots.iter().filter(|lot| of(lot).day == day).count() as f64;
            let (part, whole) = (on_day(&half) / 20.0, on_day(&first) / 41.0);
            assert!((part - whole).abs() < 0.08, "day {day}: {part} of {whole}");
        }
    }
}
