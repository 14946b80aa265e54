//! Reads a chat stream as it comes, in the words of any dialect.
//!
//! What says nothing is left out (comments, padding, events that are no JSON object); what is lost is an error, so that
//! no cut answer looks whole. Calls that come interleaved are told one after the other.

use serde_json::{Map, Value};

use super::super::told::Ends;
use super::order::InOrder;
use super::{Delta, NAMELESS, NO_CALL, gave_up, says_calls};
use crate::call::Usage;
use crate::check::is_failure;
use crate::wire::framing::{Event, MAX_EVENT};
use crate::wire::json::BYTE_ORDER_MARK;
use crate::wire::openai_chat::{Places, part_text, parts, usage};
use crate::wire::{json, sse};

/// Reads a chat stream in pieces of any size.
#[derive(Default)]
pub(in super::super) struct Reader {
    pending: Vec<u8>,
    form: Option<Form>,
    deltas: InOrder,
    created: Option<i64>,
    model: Option<String>,
    ends: Ends,
    has_started: bool,
    is_done: bool,
    places: Places,
    /// By place.
    calls: Vec<Call>,
    /// How many calls were told of.
    told: usize,
    finish: Option<String>,
    /// All text and refusal so far.
    text: String,
    refusal: String,
}

/// What a stream turned out to be.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Events,
    /// One piece of JSON: a few servers answer so although a stream was asked for.
    Json,
}

/// A tool call as far as it has come.
#[derive(Default)]
struct Call {
    /// Its number among those told of; none before its name is known.
    index: Option<usize>,
    id: String,
    /// Arguments that came before the name.
    held: String,
    has_arguments: bool,
}

impl super::super::Reader for Reader {
    fn push(&mut self, piece: &[u8]) -> Vec<Delta> {
        if self.is_done {
            return Vec::new();
        }
        self.pending.extend_from_slice(piece);
        self.tell_form();
        // An event is looked for where one can have ended, so that none is looked at twice.
        let has_ended = self.ends.see(piece);
        if self.form == Some(Form::Events) && has_ended {
            let pending = std::mem::take(&mut self.pending);
            let mut events = sse::Events::resumed(&pending, true);
            for event in events.by_ref() {
                self.take_event(&event);
            }
            self.pending = pending[events.position()..].to_vec();
        }
        if self.pending.len() > 2 * MAX_EVENT {
            self.give_up("an event is too long".into());
        }
        self.deltas.take()
    }

    fn finish(&mut self) -> Vec<Delta> {
        let pending = std::mem::take(&mut self.pending);
        if self.form == Some(Form::Json) {
            self.take_data(&pending, false);
        } else {
            for event in sse::Events::resumed(&pending, false) {
                self.take_event(&event);
            }
        }
        self.end();
        self.deltas.take()
    }

    fn fail(&mut self, error: Value) -> Vec<Delta> {
        self.give_up(error);
        self.deltas.take()
    }

    fn created(&self) -> Option<i64> {
        self.created
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn is_done(&self) -> bool {
        self.is_done
    }
}

impl Reader {
    /// By the first byte that is neither white space nor of a byte order mark, however the stream is cut.
    fn tell_form(&mut self) {
        if self.form.is_some() {
            return;
        }
        let text = json::without_bom(&self.pending);
        let first = text.trim_ascii_start().first();
        if let Some(first) = first.filter(|_| !BYTE_ORDER_MARK.starts_with(text)) {
            self.form = Some(if *first == b'{' { Form::Json } else { Form::Events });
            self.pending = text.to_vec();
        }
    }

    fn take_event(&mut self, event: &Event<'_>) {
        if self.is_done {
        } else if event.oversize {
            self.give_up("an event is too long".into());
        } else if event.data.trim_ascii() == b"[DONE]" {
            self.end();
        } else {
            self.take_data(&event.data, event.name == "error");
        }
    }

    fn take_data(&mut self, data: &[u8], is_error: bool) {
        match json::parse(data) {
            Ok(Value::Object(chunk)) => self.take_chunk(chunk, is_error),
            _ if is_error => self.give_up(String::from_utf8_lossy(data).into()),
            // After the finish word only usage can be lost.
            Err(_) if is_json(data) && self.finish.is_none() => self.give_up("a chunk can't be read".into()),
            _ => {}
        }
    }

    fn take_chunk(&mut self, mut chunk: Map<String, Value>, is_error: bool) {
        let said = |error: Option<Value>| error.filter(|error| !error.is_null());
        let error = said(chunk.remove("error"))
            .or_else(|| said(chunk.get("x_groq").and_then(|groq| groq.get("error")).cloned()));
        let is_error = is_error || chunk.get("object").is_some_and(|object| object == "error");
        let chunk = Value::Object(chunk);
        // A later chunk comes too late: the beginning is written.
        if !self.has_started {
            let created = json::integer(&chunk, "created").filter(|seconds| *seconds > 0);
            self.created = self.created.or(created);
        }
        if self.model.is_none() {
            self.model = json::text(&chunk, "model").map(Into::into);
        }
        if is_error {
            return self.give_up(error.unwrap_or(chunk));
        }
        if let Some(id) = json::text(&chunk, "id").filter(|_| error.is_none()) {
            self.start(id);
        }
        let mut choices = json::list(&chunk, "choices").iter().enumerate();
        let index = |position: usize, choice: &Value| json::integer(choice, "index").unwrap_or(position as i64);
        let choice = choices.find(|(position, choice)| index(*position, choice) == 0);
        let choice = choice.map_or(&Value::Null, |(_, choice)| choice);
        self.take_choice(choice);
        let usage = usage(&chunk, choice);
        if usage != Usage::default() {
            self.tell(Delta::Usage(usage));
        }
        if let Some(error) = error {
            self.give_up(error);
        }
    }

    fn take_choice(&mut self, choice: &Value) {
        let fields = |key: &str| choice.get(key).filter(|fields| fields.is_object());
        match (fields("delta"), fields("message")) {
            (Some(delta), _) => self.take_delta(delta, false),
            (None, Some(message)) => self.take_delta(message, true),
            (None, None) => {}
        }
        match json::text(choice, "finish_reason") {
            Some(word) if is_failure(word) => self.give_up(gave_up(word).into()),
            Some(word) => self.finish = Some(word.into()),
            None => {}
        }
    }

    /// What a choice adds; a `message` mostly repeats all that came before it (the last chunk of MiniMax, say), of which
    /// what is known is not told again.
    fn take_delta(&mut self, delta: &Value, is_whole: bool) {
        let content = parts(delta, "content");
        let text: String = content.iter().filter_map(part_text).collect();
        if let Some(text) = added(&mut self.text, &text, is_whole) {
            self.tell(Delta::Text(text));
        }
        let refusals = content.iter().filter_map(|part| json::text(part, "refusal"));
        let refusal: String = json::text(delta, "refusal").into_iter().chain(refusals).collect();
        if let Some(refusal) = added(&mut self.refusal, &refusal, is_whole) {
            self.tell(Delta::Refusal(refusal));
        }
        if is_whole && !self.calls.is_empty() {
            return;
        }
        for call in json::list(delta, "tool_calls").iter().filter_map(Value::as_object) {
            let place = self.places.of(call);
            let function = call.get("function").or_else(|| call.get("custom"));
            self.take_call(place, call.get("id"), function.unwrap_or(&Value::Null));
        }
        if let Some(function) = delta.get("function_call").filter(|function| function.is_object()) {
            // The one call of the legacy form, under an index that no other has.
            let place = self.places.of(&Map::from_iter([("index".into(), (-1).into())]));
            self.take_call(place, None, function);
        }
    }

    /// The name comes once, though some servers repeat it; arguments come in pieces.
    fn take_call(&mut self, place: usize, id: Option<&Value>, function: &Value) {
        if self.calls.len() <= place {
            self.calls.resize_with(place + 1, Call::default);
        }
        let call = &mut self.calls[place];
        if let Some(id) = id.and_then(Value::as_str).filter(|_| call.id.is_empty()) {
            call.id = id.into();
        }
        let piece = match function.get("arguments").or_else(|| function.get("input")) {
            Some(Value::String(piece)) => piece.clone(),
            None | Some(Value::Null) => String::new(),
            Some(_) if call.has_arguments => String::new(),
            Some(whole) => whole.to_string(),
        };
        call.has_arguments |= !piece.is_empty();
        call.held.push_str(&piece);
        let named = json::text(function, "name").filter(|_| call.index.is_none());
        let begun = named.map(|name| Delta::ToolCall {
            index: *call.index.insert(self.told),
            id: call.id.clone(),
            name: name.into(),
        });
        let more = call
            .index
            .filter(|_| !call.held.is_empty())
            .map(|index| Delta::Arguments {
                index,
                piece: std::mem::take(&mut call.held),
            });
        self.told += usize::from(begun.is_some());
        begun.into_iter().chain(more).for_each(|delta| self.tell(delta));
    }

    fn start(&mut self, id: &str) {
        if !self.has_started {
            self.has_started = true;
            self.deltas.push(Delta::Start { id: id.into() });
        }
    }

    fn tell(&mut self, delta: Delta) {
        if !self.is_done {
            self.start("");
            self.deltas.push(delta);
        }
    }

    /// A call with neither name nor arguments is none: some servers pad their messages with such.
    fn end(&mut self) {
        let is_nameless = |call: &Call| call.index.is_none() && !matches!(call.held.trim(), "" | "{}");
        if self.calls.iter().any(is_nameless) {
            self.give_up(NAMELESS.into());
        }
        let says_calls = self.finish.as_deref().is_some_and(says_calls);
        if says_calls && self.told == 0 && self.text.trim().is_empty() && self.refusal.is_empty() {
            self.give_up(NO_CALL.into());
        }
        self.deltas.close();
        if let Some(word) = self.finish.take() {
            self.tell(Delta::Finish(word));
        }
        self.is_done = true;
    }

    fn give_up(&mut self, error: Value) {
        if !self.is_done {
            self.deltas.close();
            self.deltas.push(Delta::Error(error));
            self.is_done = true;
            self.pending = Vec::new();
        }
    }
}

/// What `text` adds to what is known; none where it adds nothing.
fn added(known: &mut String, text: &str, is_whole: bool) -> Option<String> {
    let new = if is_whole {
        text.strip_prefix(known.as_str()).unwrap_or(text)
    } else {
        text
    };
    known.push_str(new);
    (!new.is_empty()).then(|| new.to_owned())
}

fn is_json(data: &[u8]) -> bool {
    data.trim_ascii_start().starts_with(b"{")
}
