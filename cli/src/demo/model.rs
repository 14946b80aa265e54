//! The demo's simulated models: not a language model among them. They know the demo's prompts, find the right answer
//! by rule, and err at a stated rate. Wherever their output is shown, it is called simulated.

use super::shop::{ACTIONS, Chance, LABELS, PRODUCTS};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How one simulated model errs.
#[derive(Debug)]
pub(super) struct Model {
    /// What it calls itself.
    pub(super) name: &'static str,
    /// How often a label, a field or an argument is wrong.
    pub(super) wrong: f64,
    /// How often an answer is not even well-formed.
    pub(super) malformed: f64,
    /// Time to its first token.
    pub(super) first_token: Duration,
    /// Whether it rolls anew at each call (as a sampled model does), or always answers one request alike.
    pub(super) sampled: bool,
    /// Calls answered.
    pub(super) calls: AtomicU64,
}

/// An answer of a simulated model.
pub(super) enum Said {
    Text(String),
    Tool {
        name: &'static str,
        arguments: Value,
    },
    /// A tool call whose arguments are not JSON.
    Broken {
        name: &'static str,
        arguments: String,
    },
}

impl Model {
    pub(super) fn new(name: &'static str, wrong: f64, malformed: f64, first_token_ms: u64) -> Model {
        let first_token = Duration::from_millis(first_token_ms);
        Model {
            name,
            wrong,
            malformed,
            first_token,
            sampled: true,
            calls: AtomicU64::new(0),
        }
    }

    /// The answer to a request.
    pub(super) fn answer(&self, request: &Value) -> Said {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let user = last_user_text(request);
        let salt = if self.sampled { call } else { 0 };
        let mut chance = Chance::of_text(&format!("{}\n{user}", self.name), salt);
        let (wrong, malformed) = (chance.happens(self.wrong), chance.happens(self.malformed));
        let seen = Seen::in_text(&user);
        let system = request
            .pointer("/messages/0/content")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if request.get("tools").is_some() {
            return self.tool_call(request, &seen, wrong, malformed);
        }
        if request.get("response_format").is_some() {
            let product = if wrong { Value::Null } else { json!(seen.product) };
            let object = json!({"order_id": seen.order, "product": product, "customer_email": seen.email});
            return Said::Text(if malformed {
                format!("Here you are: {object}")
            } else {
                object.to_string()
            });
        }
        if system.contains("exactly one label") {
            let label = LABELS[(seen.label + usize::from(wrong)) % LABELS.len()];
            return Said::Text(if malformed {
                format!("I think this ticket is about {label}, because of its wording.")
            } else {
                label.to_owned()
            });
        }
        let opening = [
            "Thank you for writing to us.",
            "Thanks for getting in touch!",
            "We are sorry for the trouble.",
        ];
        let next = [
            "You will hear from us within two days.",
            "We will keep you posted by e-mail.",
            "There is nothing more you need to do.",
        ];
        Said::Text(format!(
            "{} Your request about order {} is settled: {}. {}\n\nThe Northwind support team",
            opening[chance.below(3)],
            seen.order,
            [
                "we asked the carrier",
                "your return is open",
                "the charge is refunded",
                "a repair is booked"
            ][seen.label],
            next[chance.below(3)]
        ))
    }

    fn tool_call(&self, request: &Value, seen: &Seen, wrong: bool, malformed: bool) -> Said {
        let last = request
            .get("messages")
            .and_then(Value::as_array)
            .and_then(|messages| messages.last());
        let after_tool = last.and_then(|message| message.get("role")).and_then(Value::as_str) == Some("tool");
        let failed = last
            .and_then(|message| message.get("content"))
            .and_then(Value::as_str)
            .is_some_and(|text| text.contains("try again"));
        let order = if wrong {
            format!("{}0", seen.order)
        } else {
            seen.order.clone()
        };
        // A lookup that failed for the moment is tried again: the retry loop.
        if !after_tool || failed {
            return finish("get_order", json!({"order_id": order}), malformed);
        }
        let arguments = match ACTIONS[seen.label] {
            "open_return" => json!({"order_id": order, "reason": "customer request"}),
            "book_repair" => json!({"order_id": order, "product": seen.product}),
            _ => json!({"order_id": order}),
        };
        finish(ACTIONS[seen.label], arguments, malformed)
    }
}

fn finish(name: &'static str, arguments: Value, malformed: bool) -> Said {
    if malformed {
        let mut text = arguments.to_string();
        text.truncate(text.len() / 2);
        return Said::Broken { name, arguments: text };
    }
    Said::Tool { name, arguments }
}

fn last_user_text(request: &Value) -> String {
    let messages = request
        .get("messages")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let user = messages
        .iter()
        .rev()
        .find(|message| message.get("role").and_then(Value::as_str) == Some("user"));
    user.and_then(|message| message.get("content"))
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// What a ticket says, found by looking at its words.
struct Seen {
    order: String,
    product: String,
    email: String,
    label: usize,
}

impl Seen {
    fn in_text(text: &str) -> Seen {
        let words = text
            .split(|c: char| c.is_whitespace() || "?!,;()".contains(c))
            .map(|word| word.trim_end_matches('.'));
        let find = |fits: &dyn Fn(&str) -> bool| words.clone().find(|word| fits(word)).unwrap_or_default().to_owned();
        let has = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
        let label = if has(&["send it back", "take back", "return", "goes back", "give back"]) {
            1
        } else if has(&["charged", "invoice", "a fee", "billed", "discount", "refund_fee"]) {
            2
        } else if has(&[
            "turn on",
            "noise",
            "connection",
            "screw",
            "blinks",
            "is dead",
            "book_repair",
        ]) {
            3
        } else {
            0
        };
        Seen {
            order: find(&|word| word.starts_with("NW-")),
            product: PRODUCTS
                .into_iter()
                .find(|product| text.contains(product))
                .unwrap_or_default()
                .to_owned(),
            email: find(&|word| word.contains('@')),
            label,
        }
    }
}
