//! Threads calls into conversations: a call that names an earlier answer continues it, and so does one whose messages
//! extend an earlier call's messages and answer.
//!
//! Keeps keyed digests only, never a message nor a provider's id; bounded, the oldest are forgotten. They are made of the
//! text before it is masked: a name that is learnt late in a conversation changes how what is resent is masked, and must
//! not part it. Of sensitive values it holds those that the conversation told, in memory, so that they are masked where
//! they recur in it. What is forgotten, or seen by another process, starts a new conversation: a lost thread, never a wrong one.

mod told;

use crate::mask::Values;
use std::collections::{HashMap, VecDeque};
use told::Told;
use understudy_call::call::{Message, Request, Response, Role};
use understudy_call::keys::Key;
use understudy_call::record::CallRecord;

/// Digests remembered by default: about 40 MB.
pub const DEFAULT_CAPACITY: usize = 200_000;

type Digest = [u8; 16];

/// Digests of a call's messages, made where the messages are at hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// After each message that an answer may have been; the longest last.
    prefixes: Vec<Digest>,
    /// All messages and the answer: what a continuing call begins with.
    whole: Option<Digest>,
    /// The answer that the request names as the one before it; its history is not in the messages.
    continues: Option<Digest>,
    /// The answer, by the name that a request may call it.
    answer: Option<Digest>,
}

impl Trail {
    /// The trail of a parsed call; empty where the request could not be read.
    pub fn of(key: &Key, request: Option<&Request>, response: Option<&Response>) -> Trail {
        let Some(request) = request else {
            return Trail::default();
        };
        let mut hasher = blake3::Hasher::new_keyed(key.bytes());
        let mut prefixes = Vec::new();
        for message in &request.messages {
            add(&mut hasher, message);
            if message.role == Role::Assistant {
                prefixes.push(short(&hasher));
            }
        }
        let answer = response.filter(|answer| !answer.is_empty() && !request.messages.is_empty());
        let whole = answer.map(|answer| {
            let message = Message {
                tool_calls: answer.tool_calls.clone(),
                ..Message::text(Role::Assistant, answer.output_text.clone())
            };
            add(&mut hasher, &message);
            short(&hasher)
        });
        Trail {
            prefixes,
            whole,
            ..Trail::default()
        }
    }

    /// With the ids by which this API's requests name answers; `upstream` tells equal ids of two providers apart.
    pub fn naming_answers(
        self,
        key: &Key,
        upstream: &str,
        request: Option<&Request>,
        response: Option<&Response>,
    ) -> Trail {
        let named = |id: &str| id_digest(key, upstream, id);
        let previous = request.and_then(|request| request.previous_response_id.as_deref());
        // What broke off can't be gone on from.
        let answer = response.filter(|answer| answer.error.is_none() && !answer.partial);
        Trail {
            continues: previous.map(named),
            answer: answer.and_then(|answer| answer.id.as_deref()).map(named),
            ..self
        }
    }
}

fn id_digest(key: &Key, upstream: &str, id: &str) -> Digest {
    let mut hasher = blake3::Hasher::new_keyed(key.bytes());
    hasher.update(b"answer\0");
    add_text(&mut hasher, upstream);
    add_text(&mut hasher, id);
    short(&hasher)
}

/// Agents resend an answer trimmed, without ids and with arguments written anew, so none of that counts.
fn add(hasher: &mut blake3::Hasher, message: &Message) {
    let role = match message.role {
        Role::System => b's',
        Role::User => b'u',
        Role::Assistant => b'a',
        Role::Tool => b't',
    };
    hasher.update(&[role]);
    add_text(hasher, message.text.trim());
    for call in message.tool_calls.iter().filter(|call| !call.is_padding()) {
        add_text(hasher, &call.name);
        match serde_json::from_str::<serde_json::Value>(&call.arguments) {
            Ok(arguments) => add_text(hasher, &arguments.to_string()),
            Err(_) => add_text(hasher, &call.arguments),
        }
    }
}

fn add_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

fn short(hasher: &blake3::Hasher) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

#[derive(Clone, Debug)]
struct Known {
    call_id: String,
    conversation_id: String,
    step: i32,
}

/// The calls that others may continue.
#[derive(Debug)]
pub struct Threads {
    known: HashMap<Digest, Known>,
    /// In the order they were learnt.
    order: VecDeque<Digest>,
    capacity: usize,
    told: Told,
}

impl Default for Threads {
    fn default() -> Threads {
        Threads::new(DEFAULT_CAPACITY)
    }
}

impl Threads {
    /// Remembers so many digests at most.
    pub fn new(capacity: usize) -> Threads {
        Threads {
            known: HashMap::new(),
            order: VecDeque::new(),
            capacity: capacity.max(1),
            told: Told::default(),
        }
    }

    /// The call that another continues.
    fn parent(&self, trail: &Trail, named: Option<&str>) -> Option<&Known> {
        let by_id = trail.continues.and_then(|answer| self.known.get(&answer));
        let by_messages = || trail.prefixes.iter().rev().find_map(|prefix| self.known.get(prefix));
        by_id
            .or_else(by_messages)
            .filter(|parent| named.is_none_or(|name| parent.conversation_id == name))
            .or_else(|| self.known.get(&named.map(name_digest)?))
    }

    /// What the earlier calls of a call's conversation told the mask; `named` as in [`Threads::place`].
    pub fn told_before(&self, trail: &Trail, named: Option<&str>) -> Option<&Values> {
        self.told.of(&self.parent(trail, named)?.conversation_id)
    }

    /// Remembers what a call told, for the later ones of its conversation.
    pub fn tell(&mut self, conversation_id: &str, values: &Values) {
        self.told.add(conversation_id, values);
    }

    /// Sets conversation, parent and step of a row, and remembers it. `named` is the pseudonym of the conversation that
    /// the client named, if it did; it decides the conversation of a call that continues none.
    pub fn place(&mut self, record: &mut CallRecord, trail: &Trail, named: Option<&str>) {
        match self.parent(trail, named) {
            Some(parent) => {
                record.conversation_id = parent.conversation_id.clone();
                record.parent_call_id = Some(parent.call_id.clone());
                record.step = parent.step.saturating_add(1);
            }
            None => {
                record.conversation_id = named.unwrap_or(&record.call_id).to_owned();
                record.step = 0;
            }
        }
        let known = Known {
            call_id: record.call_id.clone(),
            conversation_id: record.conversation_id.clone(),
            step: record.step,
        };
        for digest in [trail.whole, trail.answer, named.map(name_digest)]
            .into_iter()
            .flatten()
        {
            self.remember(digest, known.clone());
        }
    }

    fn remember(&mut self, digest: Digest, known: Known) {
        if self.known.insert(digest, known).is_some() {
            return;
        }
        self.order.push_back(digest);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Pseudonyms are keyed already; this only brings them into the same map.
fn name_digest(name: &str) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"conversation\0").update(name.as_bytes());
    short(&hasher)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(messages: &[Message]) -> Request {
        Request {
            messages: messages.to_vec(),
            ..Request::default()
        }
    }

    fn answer(text: &str) -> Response {
        Response {
            output_text: text.into(),
            ..Response::default()
        }
    }

    fn place(threads: &mut Threads, id: &str, messages: &[Message], text: &str, named: Option<&str>) -> CallRecord {
        let trail = Trail::of(&Key::new([1; 32]), Some(&request(messages)), Some(&answer(text)));
        let mut record = CallRecord {
            call_id: id.into(),
            conversation_id: id.into(),
            ..CallRecord::default()
        };
        threads.place(&mut record, &trail, named);
        record
    }

    #[test]
    fn a_call_that_resends_messages_and_answer_continues_it() {
        let mut threads = Threads::default();
        let mut messages = vec![Message::text(Role::System, "s"), Message::text(Role::User, "one")];
        place(&mut threads, "c1", &messages, "answer one\n", None);
        messages.push(Message::text(Role::Assistant, "answer one"));
        messages.push(Message::text(Role::User, "two"));
        let second = place(&mut threads, "c2", &messages, "answer two", None);
        assert_eq!((second.conversation_id.as_str(), second.step), ("c1", 1));
        assert_eq!(second.parent_call_id.as_deref(), Some("c1"));
        messages.push(Message::text(Role::Assistant, "answer two"));
        messages.push(Message::text(Role::User, "three"));
        let third = place(&mut threads, "c3", &messages, "x", None);
        assert_eq!((third.conversation_id.as_str(), third.step), ("c1", 2));
        assert_eq!(third.parent_call_id.as_deref(), Some("c2"));
    }

    #[test]
    fn the_same_question_or_another_answer_is_another_conversation() {
        let mut threads = Threads::default();
        let question = [Message::text(Role::User, "one")];
        place(&mut threads, "c1", &question, "answer", None);
        let again = place(&mut threads, "c2", &question, "answer", None);
        assert_eq!((again.conversation_id.as_str(), again.step), ("c2", 0));
        let [asked] = question;
        let other = [
            asked,
            Message::text(Role::Assistant, "not that"),
            Message::text(Role::User, "y"),
        ];
        assert_eq!(place(&mut threads, "c3", &other, "z", None).parent_call_id, None);
    }

    #[test]
    fn a_named_conversation_holds_calls_that_share_no_messages() {
        let mut threads = Threads::default();
        place(
            &mut threads,
            "c1",
            &[Message::text(Role::User, "one")],
            "a",
            Some("name"),
        );
        let second = place(
            &mut threads,
            "c2",
            &[Message::text(Role::User, "two")],
            "b",
            Some("name"),
        );
        assert_eq!((second.conversation_id.as_str(), second.step), ("name", 1));
        let other = place(
            &mut threads,
            "c3",
            &[Message::text(Role::User, "three")],
            "b",
            Some("other"),
        );
        assert_eq!((other.conversation_id.as_str(), other.step), ("other", 0));
    }

    fn place_answer(threads: &mut Threads, upstream: &str, previous: Option<&str>, answer_id: &str) -> CallRecord {
        let key = Key::new([1; 32]);
        let asked = Request {
            previous_response_id: previous.map(Into::into),
            ..request(&[Message::text(Role::User, "and?")])
        };
        let answered = Response {
            id: Some(answer_id.into()),
            ..answer("so")
        };
        let trail = Trail::of(&key, Some(&asked), Some(&answered));
        let trail = trail.naming_answers(&key, upstream, Some(&asked), Some(&answered));
        let mut record = CallRecord {
            call_id: format!("call of {answer_id}"),
            conversation_id: format!("call of {answer_id}"),
            ..CallRecord::default()
        };
        threads.place(&mut record, &trail, None);
        record
    }

    #[test]
    fn a_call_that_names_an_answer_continues_it() {
        let mut threads = Threads::default();
        place_answer(&mut threads, "a", None, "resp_1");
        let second = place_answer(&mut threads, "a", Some("resp_1"), "resp_2");
        assert_eq!(second.parent_call_id.as_deref(), Some("call of resp_1"));
        let third = place_answer(&mut threads, "a", Some("resp_2"), "resp_3");
        assert_eq!((third.conversation_id.as_str(), third.step), ("call of resp_1", 2));
        // Two calls may continue one.
        let branch = place_answer(&mut threads, "a", Some("resp_1"), "resp_4");
        assert_eq!(
            (branch.parent_call_id.as_deref(), branch.step),
            (Some("call of resp_1"), 1)
        );
        for (upstream, previous) in [("a", "resp_9"), ("b", "resp_1")] {
            let lost = place_answer(&mut threads, upstream, Some(previous), "resp_5");
            assert_eq!((lost.parent_call_id, lost.step), (None, 0), "{upstream} {previous}");
        }
    }

    #[test]
    fn no_id_of_a_provider_is_remembered() {
        let mut threads = Threads::default();
        place_answer(&mut threads, "a", Some("resp_secret"), "resp_secret2");
        assert!(!format!("{:?}", threads.known.keys()).contains("resp_"));
        let known = threads
            .known
            .keys()
            .all(|digest| *digest != name_digest("resp_secret2"));
        assert!(known);
        assert!(threads.known.len() == 2, "one for the messages, one for the answer");
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_forgotten() {
        let mut threads = Threads::new(2);
        for number in 0..5 {
            let asked = [Message::text(Role::User, format!("q{number}"))];
            place(&mut threads, &format!("c{number}"), &asked, "a", None);
        }
        assert_eq!((threads.known.len(), threads.order.len()), (2, 2));
        let late = |number: u32| {
            [
                Message::text(Role::User, format!("q{number}")),
                Message::text(Role::Assistant, "a"),
                Message::text(Role::User, "more"),
            ]
        };
        assert_eq!(place(&mut threads, "l0", &late(0), "b", None).parent_call_id, None);
        assert!(place(&mut threads, "l4", &late(4), "b", None).parent_call_id.is_some());
    }
}
