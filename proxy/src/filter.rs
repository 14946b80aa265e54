//! What changes in a streamed answer on its way to the client: nothing, but where a candidate answers (names and ids), is
//! translated, or where we asked for usage that the client did not ask for.
//!
//! Takes pieces of any size. Holds one unfinished event at most, and passes one that is too long as it is.

use bytes::{Bytes, BytesMut};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
pub(crate) use translation::Translation;
use understudy_call::call::Api;
use understudy_call::translate::ids::tool_call_id;
use understudy_call::wire;
use understudy_call::wire::framing::MAX_EVENT;
use understudy_call::wire::splice::{Renames, is_usage_event, model_named};

mod translation;

/// What one piece becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// What the client gets.
    pub(crate) client: Bytes,
    /// What is kept.
    pub(crate) kept: Bytes,
}

impl Passed {
    /// The same for both.
    pub(crate) fn same(bytes: Bytes) -> Passed {
        Passed {
            client: bytes.clone(),
            kept: bytes,
        }
    }
}

/// Changes a stream piece by piece.
pub(crate) enum Filter {
    /// Edits of single events.
    Events(EventFilter),
    /// Another API.
    Translation(Box<Translation>),
}

impl Filter {
    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Passed {
        match self {
            Filter::Events(events) => events.push(piece),
            Filter::Translation(translation) => translation.push(piece),
        }
    }

    /// What is left when the stream has ended.
    pub(crate) fn finish(&mut self) -> Passed {
        match self {
            Filter::Events(events) => events.finish(),
            Filter::Translation(translation) => translation.finish(),
        }
    }

    /// What is left when the stream broke off, and where the client's API differs, the words of why.
    pub(crate) fn broken(&mut self, why: &str) -> Passed {
        match self {
            Filter::Events(events) => events.finish(),
            Filter::Translation(translation) => translation.broken(why),
        }
    }

    /// The model that a candidate named, as soon as it is known.
    pub(crate) fn model(&self) -> Option<&str> {
        match self {
            Filter::Events(events) => events.model.as_deref(),
            Filter::Translation(translation) => translation.model(),
        }
    }
}

/// Edits events of a stream of server-sent events, and leaves all other bytes as they are.
pub(crate) struct EventFilter {
    /// The model that the client asked for, where a candidate answers: names and ids are edited.
    renamed_to: Option<String>,
    /// Set where a candidate answers.
    ids: Option<ClientIds>,
    drops_usage: bool,
    /// The candidate's own name of its model.
    model: Option<String>,
    held: BytesMut,
    /// Where the line begins that is not whole yet.
    line: usize,
    /// How much of `held` has been looked at.
    scanned: usize,
    /// The event is too long: its rest passes as it is.
    oversize: bool,
}

impl EventFilter {
    /// For a candidate's stream in the client's own API, as the answer to `request`: the client gets the model's name that
    /// it asked for, and ids that its baseline takes.
    pub(crate) fn of_candidate(api: Api, request: &[u8], drops_usage: bool) -> EventFilter {
        EventFilter {
            renamed_to: model_named(request),
            ids: Some(ClientIds::new(api, request)),
            ..EventFilter::without_usage(drops_usage)
        }
    }

    /// Takes the event out that `include_usage` adds, where it was asked for by us; the kept copy has it.
    pub(crate) fn without_usage(drops_usage: bool) -> EventFilter {
        EventFilter {
            renamed_to: None,
            ids: None,
            drops_usage,
            model: None,
            held: BytesMut::new(),
            line: 0,
            scanned: 0,
            oversize: false,
        }
    }

    fn push(&mut self, piece: &[u8]) -> Passed {
        self.held.extend_from_slice(piece);
        let mut out = Out::default();
        while let Some(end) = self.event_end() {
            let event = self.held.split_to(end);
            (self.line, self.scanned) = (0, 0);
            if std::mem::take(&mut self.oversize) {
                out.pass(&event);
            } else {
                self.edit(&event, &mut out);
            }
        }
        if self.held.len() > MAX_EVENT {
            let begun = self.held.split();
            // The next line is whole only where this one has ended.
            self.line = if begun.ends_with(b"\n") { 0 } else { usize::MAX };
            self.scanned = 0;
            out.pass(&begun);
            self.oversize = true;
        }
        out.passed()
    }

    fn finish(&mut self) -> Passed {
        let rest = self.held.split();
        let mut out = Out::default();
        if self.oversize {
            out.pass(&rest);
        } else {
            self.edit(&rest, &mut out);
        }
        out.passed()
    }

    /// Where the first event ends: after its blank line.
    fn event_end(&mut self) -> Option<usize> {
        loop {
            let unseen = &self.held[self.scanned..];
            let Some(found) = memchr::memchr2(b'\n', b'\r', unseen) else {
                self.scanned = self.held.len();
                return None;
            };
            let at = self.scanned + found;
            let mut next = at + 1;
            if self.held[at] == b'\r' {
                // Whether a line feed belongs to it shows when the next byte comes.
                let Some(byte) = self.held.get(next) else {
                    self.scanned = at;
                    return None;
                };
                next += usize::from(*byte == b'\n');
            }
            let is_blank = at == self.line;
            (self.line, self.scanned) = (next, next);
            if is_blank {
                return Some(next);
            }
        }
    }

    fn edit(&mut self, event: &[u8], out: &mut Out) {
        let Some(data) = data_of(event) else {
            return out.pass(event);
        };
        let json = &event[data.clone()];
        if self.drops_usage && is_usage_event(json) {
            out.drop(event);
            return;
        }
        let Some(ids) = &mut self.ids else {
            return out.pass(event);
        };
        if self.model.is_none() {
            self.model = model_named(json);
        }
        match ids.rename(self.renamed_to.as_deref(), json) {
            Some(edited) => {
                for part in [&event[..data.start], &edited, &event[data.end..]] {
                    out.pass(part);
                }
            }
            None => out.pass(event),
        }
    }
}

/// A candidate's whole answer to `request` in the client's own API, as the client gets it.
pub(crate) fn renamed(api: Api, request: &[u8], answer: &[u8]) -> Option<Vec<u8>> {
    let model = model_named(request);
    ClientIds::new(api, request).rename(model.as_deref(), answer)
}

/// The ids that a client is given for a candidate's tool calls: in a form that every baseline takes, and none twice in a
/// conversation, since small servers count from 0 in each answer.
struct ClientIds {
    api: Api,
    /// Those in the request's history and those given.
    taken: HashSet<String>,
    /// By the candidate's id and the call's place: some dialects repeat the id in each piece of a call.
    given: HashMap<(String, usize), String>,
}

impl ClientIds {
    fn new(api: Api, request: &[u8]) -> ClientIds {
        // Most requests have no history of calls, and are not read for it.
        let has_calls = memchr::memmem::find(request, b"\"tool_").is_some();
        let parsed = has_calls.then(|| wire::parse_request(api, request).ok()).flatten();
        let messages = parsed.into_iter().flat_map(|request| request.messages);
        let calls = messages.flat_map(|message| message.tool_calls);
        ClientIds {
            api,
            taken: calls.filter_map(|call| call.id).collect(),
            given: HashMap::new(),
        }
    }

    fn rename(&mut self, model: Option<&str>, json: &[u8]) -> Option<Vec<u8>> {
        let api = self.api;
        let mut renames = Renames {
            model,
            tool_call_id: &mut |candidates, place| self.id(candidates, place),
        };
        renames.apply(api, json)
    }

    fn id(&mut self, candidates: &str, place: usize) -> String {
        let key = (candidates.to_owned(), place);
        if let Some(given) = self.given.get(&key) {
            return given.clone();
        }
        let mut id = tool_call_id(candidates, place);
        let mut turn = 0;
        while !self.taken.insert(id.clone()) {
            turn += 1;
            id = tool_call_id(&format!("{candidates}#{turn}"), place);
        }
        self.given.insert(key, id.clone());
        id
    }
}

/// The JSON object of an event's one data line; absent where there is none, or several lines.
fn data_of(event: &[u8]) -> Option<Range<usize>> {
    let mut found = None;
    let mut at = 0;
    while at < event.len() {
        let length = memchr::memchr2(b'\n', b'\r', &event[at..]).unwrap_or(event.len() - at);
        let line = &event[at..at + length];
        if let Some(value) = line.strip_prefix(b"data:") {
            let start = at + line.len() - value.trim_ascii_start().len();
            let end = at + line.trim_ascii_end().len();
            if found.is_some() || event.get(start) != Some(&b'{') {
                return None;
            }
            found = Some(start..end);
        }
        at += length + 1;
    }
    found
}

/// What the events of one piece become.
#[derive(Default)]
struct Out {
    kept: BytesMut,
    dropped: Vec<Range<usize>>,
}

impl Out {
    fn pass(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// Kept, and not given to the client.
    fn drop(&mut self, event: &[u8]) {
        let start = self.kept.len();
        self.kept.extend_from_slice(event);
        self.dropped.push(start..self.kept.len());
    }

    fn passed(self) -> Passed {
        let kept = self.kept.freeze();
        if self.dropped.is_empty() {
            return Passed::same(kept);
        }
        let mut client = BytesMut::with_capacity(kept.len());
        let mut copied = 0;
        for range in self.dropped {
            client.extend_from_slice(&kept[copied..range.start]);
            copied = range.end;
        }
        client.extend_from_slice(&kept[copied..]);
        Passed {
            client: client.freeze(),
            kept,
        }
    }
}

#[cfg(test)]
mod tests;
