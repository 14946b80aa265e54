//! The streams of candidates that speak another API than chat, as the [`Delta`]s that every writer takes.
//!
//! An API says with [`Events`] what one event tells; [`Pieces`] cuts the stream, in linear time however it comes, and
//! [`Told`] keeps the order of the deltas. What can't be read is an error, so that no cut answer looks whole.

use serde_json::Value;

use super::Reader;
use super::chat::{Delta, NAMELESS, NO_CALL, gave_up, says_calls};
use crate::call::{Api, Response, Usage};
use crate::check::is_failure;
use crate::wire::framing::{Event, MAX_EVENT};
use crate::wire::{self, Assembled, eventstream, json, sse};

/// What one event of an API tells.
pub(super) trait Events: Send {
    /// Reads an event: its name, empty where the stream names none, and its data. One with an `error` never comes here.
    fn event(&mut self, name: &str, data: &Value, told: &mut Told);
}

/// What was told so far.
#[derive(Default)]
pub(super) struct Told {
    ready: Vec<Delta>,
    has_started: bool,
    is_done: bool,
    model: Option<String>,
    created: Option<i64>,
    /// How many calls were begun.
    calls: usize,
    has_text: bool,
    finish: Option<String>,
    usage: Usage,
}

impl Told {
    /// The answer begins; its id.
    pub(super) fn start(&mut self, id: &str) {
        if !self.has_started && !self.is_done {
            self.has_started = true;
            self.ready.push(Delta::Start { id: id.into() });
        }
    }

    /// The model that answers.
    pub(super) fn model(&mut self, model: Option<&str>) {
        if self.model.is_none() {
            self.model = model.map(Into::into);
        }
    }

    /// When the answer was made, in seconds since 1970.
    pub(super) fn created(&mut self, seconds: Option<i64>) {
        if !self.has_started {
            self.created = self.created.or(seconds.filter(|seconds| *seconds > 0));
        }
    }

    /// More text.
    pub(super) fn text(&mut self, piece: &str) {
        if !piece.is_empty() {
            self.has_text |= !piece.trim().is_empty();
            self.tell(Delta::Text(piece.into()));
        }
    }

    /// More of a refusal.
    pub(super) fn refusal(&mut self, piece: &str) {
        if !piece.is_empty() {
            self.has_text = true;
            self.tell(Delta::Refusal(piece.into()));
        }
    }

    /// A tool call begins.
    pub(super) fn call(&mut self, id: &str, name: &str) {
        if name.is_empty() {
            return self.fail(NAMELESS.into());
        }
        let index = self.calls;
        self.calls += 1;
        self.tell(Delta::ToolCall {
            index,
            id: id.into(),
            name: name.into(),
        });
    }

    /// More of the arguments of the call that began last.
    pub(super) fn arguments(&mut self, piece: &str) {
        let Some(index) = self.calls.checked_sub(1) else { return };
        if !piece.is_empty() {
            self.tell(Delta::Arguments {
                index,
                piece: piece.into(),
            });
        }
    }

    /// How the answer ends, and what it used, as far as these are known; a later word takes the place of an earlier one.
    pub(super) fn ends(&mut self, finish: Option<&str>, usage: Usage) {
        match finish {
            Some(word) if is_failure(word) => self.fail(gave_up(word).into()),
            Some(word) => self.finish = Some(word.into()),
            None => {}
        }
        self.usage = usage.or(self.usage);
    }

    /// A whole answer, or what one event of an API adds whose events are small answers.
    pub(super) fn answer(&mut self, answer: &Response) {
        self.model(answer.model.as_deref());
        self.start(answer.id.as_deref().unwrap_or_default());
        self.text(&answer.output_text);
        self.refusal(answer.refusal.as_deref().unwrap_or_default());
        for call in answer.tool_calls.iter().filter(|call| !call.is_padding()) {
            self.call(call.id.as_deref().unwrap_or_default(), &call.name);
            self.arguments(&call.arguments);
        }
        self.ends(answer.finish_reason.as_deref(), answer.usage);
    }

    /// Whether anything was said.
    pub(super) fn is_silent(&self) -> bool {
        !self.has_text && self.calls == 0
    }

    /// The end of the stream.
    pub(super) fn end(&mut self) {
        if self.finish.as_deref().is_some_and(says_calls) && self.is_silent() {
            self.fail(NO_CALL.into());
        }
        if self.usage != Usage::default() {
            self.tell(Delta::Usage(self.usage));
        }
        if let Some(word) = self.finish.take() {
            self.tell(Delta::Finish(word));
        }
        self.is_done = true;
    }

    /// The answer failed: nothing follows.
    pub(super) fn fail(&mut self, error: Value) {
        if !std::mem::replace(&mut self.is_done, true) {
            self.ready.push(Delta::Error(error));
        }
    }

    fn tell(&mut self, delta: Delta) {
        if !self.is_done {
            self.start("");
            self.ready.push(delta);
        }
    }
}

/// What a body of an API says.
pub(super) fn read(api: Api, body: Value) -> Response {
    let assembled = Assembled {
        body,
        ..Assembled::default()
    };
    wire::parse_response(api, 200, &assembled)
}

/// How a stream is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cut {
    /// Server-sent events.
    Events,
    /// Lines of JSON.
    Lines,
    /// AWS's binary messages.
    Messages,
    /// One piece of JSON: a few servers answer so although a stream was asked for.
    Whole,
}

/// Reads a stream in pieces of any size.
pub(super) struct Pieces<E> {
    api: Api,
    cut: Cut,
    events: E,
    told: Told,
    pending: Vec<u8>,
    /// Whether a byte has come that tells the form.
    has_form: bool,
    ends: Ends,
}

impl<E: Events> Pieces<E> {
    /// Of an API, cut so.
    pub(super) fn new(api: Api, cut: Cut, events: E) -> Pieces<E> {
        Pieces {
            api,
            cut,
            events,
            told: Told::default(),
            pending: Vec::new(),
            has_form: false,
            ends: Ends::default(),
        }
    }

    fn tell_form(&mut self) {
        let text = json::without_bom(&self.pending);
        let first = text.trim_ascii_start().first();
        if let Some(first) = first.filter(|_| !json::BYTE_ORDER_MARK.starts_with(text)) {
            self.has_form = true;
            if matches!(self.cut, Cut::Events | Cut::Messages) && *first == b'{' {
                self.cut = Cut::Whole;
            }
            if self.cut != Cut::Messages {
                self.pending = text.to_vec();
            }
        }
    }

    fn take_events(&mut self, is_open: bool) {
        let pending = std::mem::take(&mut self.pending);
        let read = match self.cut {
            Cut::Events => {
                let mut events = sse::Events::resumed(&pending, is_open);
                for event in events.by_ref() {
                    self.take_event(&event);
                }
                events.position()
            }
            Cut::Lines => {
                let end = memchr::memrchr(b'\n', &pending).map_or(0, |end| end + 1);
                let end = if is_open { end } else { pending.len() };
                for line in pending[..end].split(|byte| *byte == b'\n') {
                    self.take_data("", line, line.len() > MAX_EVENT);
                }
                end
            }
            Cut::Messages => {
                let mut messages = eventstream::Messages::new(&pending);
                for message in messages.by_ref() {
                    self.take_message(&message);
                }
                messages.position()
            }
            Cut::Whole => 0,
        };
        self.pending = pending[read..].to_vec();
    }

    fn take_event(&mut self, event: &Event<'_>) {
        // Gateways between OpenAI's API and others send it too.
        if event.data.trim_ascii() != b"[DONE]" {
            self.take_data(&event.name, &event.data, event.oversize);
        }
    }

    fn take_message(&mut self, message: &Event<'_>) {
        match message.exception() {
            Some(exception) => self.told.fail(exception),
            None => self.take_data(&message.name, &message.data, message.oversize),
        }
    }

    fn take_data(&mut self, name: &str, data: &[u8], is_long: bool) {
        if self.told.is_done || (data.trim_ascii().is_empty() && !is_long) {
            return;
        }
        match json::parse(data) {
            _ if is_long => self.told.fail("an event is too long or damaged".into()),
            Ok(data) if data.is_object() => match data.get("error").filter(|error| !error.is_null()) {
                Some(error) => self.told.fail(error.clone()),
                None if name == "error" => self.told.fail(data),
                None => self.events.event(name, &data, &mut self.told),
            },
            _ if name == "error" => self.told.fail(String::from_utf8_lossy(data).into()),
            _ => self.told.fail("an event can't be read".into()),
        }
    }

    fn take_whole(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let Ok(body) = json::parse(&pending) else {
            return self.told.fail("the answer can't be read".into());
        };
        let answer = read(self.api, body);
        match &answer.error {
            Some(error) => self.told.fail(error.clone()),
            None => self.told.answer(&answer),
        }
    }

    fn take(&mut self) -> Vec<Delta> {
        std::mem::take(&mut self.told.ready)
    }
}

impl<E: Events> Reader for Pieces<E> {
    fn push(&mut self, piece: &[u8]) -> Vec<Delta> {
        if self.told.is_done {
            return Vec::new();
        }
        self.pending.extend_from_slice(piece);
        if !self.has_form {
            self.tell_form();
        }
        // An event is looked for where one can have ended, so that none is looked at twice.
        let has_ended = match self.cut {
            Cut::Events => self.ends.see(piece),
            Cut::Lines => memchr::memchr(b'\n', piece).is_some(),
            Cut::Messages => self.has_form && eventstream::begins_whole(&self.pending),
            Cut::Whole => false,
        };
        if has_ended {
            self.take_events(true);
        }
        if self.pending.len() > 2 * MAX_EVENT {
            self.told.fail("an event is too long".into());
        }
        if self.told.is_done {
            self.pending = Vec::new();
        }
        self.take()
    }

    fn finish(&mut self) -> Vec<Delta> {
        if !self.told.is_done {
            match self.cut {
                Cut::Whole => self.take_whole(),
                _ => self.take_events(false),
            }
            self.told.end();
        }
        self.take()
    }

    fn fail(&mut self, error: Value) -> Vec<Delta> {
        self.told.fail(error);
        self.take()
    }

    fn created(&self) -> Option<i64> {
        self.told.created
    }

    fn model(&self) -> Option<&str> {
        self.told.model.as_deref()
    }

    fn is_done(&self) -> bool {
        self.told.is_done
    }
}

/// Sees where server-sent events end: at blank lines, whatever ends a line.
#[derive(Default)]
pub(super) struct Ends {
    /// The line has bytes.
    is_amid: bool,
    after_return: bool,
}

impl Ends {
    /// Whether a blank line ends in `piece`.
    pub(super) fn see(&mut self, piece: &[u8]) -> bool {
        let mut has_ended = false;
        for byte in piece {
            match byte {
                b'\n' if self.after_return => self.after_return = false,
                b'\n' | b'\r' => {
                    has_ended |= !self.is_amid;
                    self.is_amid = false;
                    self.after_return = *byte == b'\r';
                }
                _ => (self.is_amid, self.after_return) = (true, false),
            }
        }
        has_ended
    }
}

/// Events that are small answers: each adds what it says.
pub(super) struct SmallAnswers(pub(super) Api);

impl Events for SmallAnswers {
    fn event(&mut self, _name: &str, data: &Value, told: &mut Told) {
        told.answer(&read(self.0, data.clone()));
        if data.get("done") == Some(&Value::Bool(true)) {
            told.end();
        }
    }
}

#[cfg(test)]
mod tests;
