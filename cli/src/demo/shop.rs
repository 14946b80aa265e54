//! The demo's world: a support desk, its tickets, and the five prompts that its agent sends over and over.
//!
//! Everything is made up from a seed, so that a run can be repeated.

use serde_json::{Value, json};

/// The labels of the triage prompt.
pub(super) const LABELS: [&str; 4] = ["shipping", "returns", "billing", "technical"];

/// What the shop sells.
pub(super) const PRODUCTS: [&str; 8] = [
    "desk lamp",
    "standing desk",
    "office chair",
    "monitor arm",
    "keyboard",
    "webcam",
    "headset",
    "cable tray",
];
const FIRST_NAMES: [&str; 8] = ["Ada", "Noor", "Jun", "Eva", "Kofi", "Lena", "Omar", "Ines"];

/// How tickets begin.
const OPENINGS: [&str; 14] = [
    "Hello,",
    "Hi there!",
    "Good morning,",
    "To whom it may concern:",
    "Hey team,",
    "Dear support,",
    "Hi, quick question.",
    "Hello again.",
    "Greetings from Lisbon.",
    "Good evening.",
    "Hi folks,",
    "Sorry to bother you.",
    "Hope you are well.",
    "",
];
/// What the customers want, by label; `{p}` is the product, `{o}` the order.
const WISHES: [[&str; 6]; 4] = [
    [
        "where is my {p}? I ordered it as {o}",
        "{o} says delivered, but no {p} came",
        "when does the {p} of {o} ship",
        "nobody brought the {p} yet, the number is {o}",
        "the carrier lost {o} with my {p}, it seems",
        "still waiting for one {p}, see {o}",
    ],
    [
        "the {p} from {o} is too big, I want to send it back",
        "please take back the {p}, number {o}",
        "I would like to return one {p} from {o}",
        "wrong colour: the {p} of {o} goes back",
        "can I give back a {p} I bought as {o}",
        "my return of the {p} in {o} has no label",
    ],
    [
        "I was charged twice for the {p} in {o}",
        "the invoice of {o} shows a wrong price for the {p}",
        "why is there a fee on {o}? The {p} was on sale",
        "my card was billed again for {o}, one {p}",
        "the discount on the {p} is missing in the bill for {o}",
        "I need a corrected invoice for {o} with the {p}",
    ],
    [
        "the {p} I got with {o} does not turn on",
        "my {p} makes a strange noise ({o})",
        "the {p} from {o} lost its connection again",
        "a screw of the {p} broke, it came with {o}",
        "the {p} blinks red since I unpacked {o}",
        "no sound, no light: the {p} of {o} is dead",
    ],
];
/// What else they tell.
const ASIDES: [&str; 20] = [
    "My neighbour has the same one.",
    "I have been a customer since 2014.",
    "It is a gift for my sister.",
    "The weather here is awful by the way.",
    "We moved last month, the old address is gone.",
    "I called on Tuesday and nobody picked up.",
    "My colleague told me to write here.",
    "The box had a dent on one side.",
    "It worked at the shop.",
    "I read the manual twice.",
    "Our office opens at nine.",
    "The cat is not to blame.",
    "I paid by bank transfer.",
    "There were two parcels that day.",
    "The receipt is somewhere on my desk.",
    "I like the colour very much.",
    "This is for a meeting on Friday.",
    "No hurry, but please do answer.",
    "Last time it went smoothly.",
    "I am away until Thursday.",
];
/// How tickets end.
const CLOSINGS: [&str; 10] = [
    "Thanks,",
    "Kind regards,",
    "Cheers,",
    "Best,",
    "Waiting for your answer,",
    "Many thanks in advance.",
    "Yours,",
    "Bye,",
    "See you,",
    "Regards,",
];

/// A small, fast, repeatable source of chance (SplitMix64).
#[derive(Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// Chance that depends on a text, so that one request always meets the same fate.
    pub(super) fn of_text(text: &str, salt: u64) -> Chance {
        let hash = blake3::hash(text.as_bytes());
        let (first, _) = hash.as_bytes().split_first_chunk::<8>().expect("a hash has 32 bytes");
        Chance(u64::from_le_bytes(*first) ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// True with this probability.
    pub(super) fn happens(&mut self, probability: f64) -> bool {
        (self.next() >> 11) as f64 / ((1u64 << 53) as f64) < probability
    }
}

/// One customer's ticket, and what is true of it.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) text: String,
    pub(super) order: String,
    pub(super) product: &'static str,
    pub(super) label: usize,
}

impl Ticket {
    /// The ticket of a conversation.
    pub(super) fn new(conversation: u64) -> Ticket {
        let mut chance = Chance::new(conversation.wrapping_mul(7919) + 17);
        let label = chance.below(LABELS.len());
        let product = PRODUCTS[chance.below(PRODUCTS.len())];
        let name = FIRST_NAMES[chance.below(FIRST_NAMES.len())];
        let order = format!("NW-{}", 100_000 + chance.below(900_000));
        let email = format!("{}{}@mail.example.net", name.to_lowercase(), chance.below(10_000));
        let wish = WISHES[label][chance.below(6)]
            .replace("{p}", product)
            .replace("{o}", &order);
        let mut sentences = vec![format!("{} {wish}.", OPENINGS[chance.below(OPENINGS.len())])];
        for _ in 0..chance.below(4) {
            sentences.push(ASIDES[chance.below(ASIDES.len())].to_owned());
        }
        sentences.push(format!("Write to {email}."));
        sentences.push(format!("{} {name}", CLOSINGS[chance.below(CLOSINGS.len())]));
        let text = sentences.join(" ").trim().to_owned();
        Ticket {
            text,
            order,
            product,
            label,
        }
    }
}

const TRIAGE: &str = "You are the triage step of Northwind Supply's support desk.\nRead the customer's ticket and answer with exactly one label and nothing else.\nLabels: shipping, returns, billing, technical.";
const EXTRACT: &str = "You extract order details from support tickets of Northwind Supply.\nReturn a JSON object with the fields order_id, product and customer_email, copied from the ticket.\nUse null for what the ticket does not say.";
const AGENT: &str = "You are the support agent of Northwind Supply.\nUse the tools to look up the customer's order before you act on it.\nCall one tool at a time and never guess an order's state.";
const REPLY: &str = "You write the reply that Northwind Supply sends to the customer.\nBe friendly, be short, and say what happens next.\nSign as the Northwind support team.";

fn tool(name: &str, description: &str, arguments: &[&str]) -> Value {
    let properties: serde_json::Map<String, Value> = arguments
        .iter()
        .map(|name| ((*name).to_owned(), json!({"type": "string"})))
        .collect();
    json!({"type": "function", "function": {"name": name, "description": description, "parameters": {
        "type": "object", "properties": properties, "required": arguments, "additionalProperties": false}}})
}

fn tools() -> Value {
    json!([
        tool("get_order", "Look up an order by its id.", &["order_id"]),
        tool("open_return", "Open a return for an order.", &["order_id", "reason"]),
        tool("refund_fee", "Refund a wrong charge on an order.", &["order_id"]),
        tool(
            "book_repair",
            "Book a repair for a product of an order.",
            &["order_id", "product"]
        ),
        tool("trace_parcel", "Ask the carrier where a parcel is.", &["order_id"]),
    ])
}

/// The tool that settles a ticket of each label.
pub(super) const ACTIONS: [&str; 4] = ["trace_parcel", "open_return", "refund_fee", "book_repair"];

/// The model that the agent asks for.
pub(super) const MODEL: &str = "gpt-4o";

pub(super) fn triage(ticket: &Ticket) -> Value {
    json!({"model": MODEL, "temperature": 0, "max_tokens": 8, "messages": [
        {"role": "system", "content": TRIAGE}, {"role": "user", "content": format!("Ticket: {}", ticket.text)}]})
}

pub(super) fn extract(ticket: &Ticket) -> Value {
    let text = json!({"type": ["string", "null"]});
    json!({"model": MODEL, "temperature": 0, "response_format": {"type": "json_schema", "json_schema": {
        "name": "order_details", "strict": true, "schema": {"type": "object", "additionalProperties": false,
            "properties": {"order_id": text, "product": text, "customer_email": text},
            "required": ["order_id", "product", "customer_email"]}}},
        "messages": [{"role": "system", "content": EXTRACT}, {"role": "user", "content": ticket.text}]})
}

pub(super) fn act(ticket: &Ticket) -> Value {
    json!({"model": MODEL, "temperature": 0, "stream": true, "stream_options": {"include_usage": true},
        "tools": tools(), "messages": [
            {"role": "system", "content": AGENT}, {"role": "user", "content": ticket.text}]})
}

/// The conversation of `act` after its first answer, with the tool's result.
pub(super) fn act_on(ticket: &Ticket, first: &Value, result: &Value) -> Value {
    let mut request = act(ticket);
    let id = first.pointer("/tool_calls/0/id").cloned().unwrap_or_default();
    if let Some(messages) = request.get_mut("messages").and_then(Value::as_array_mut) {
        messages.push(first.clone());
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": result.to_string()}));
    }
    request
}

pub(super) fn reply(ticket: &Ticket) -> Value {
    json!({"model": MODEL, "temperature": 0.3, "stream": true, "messages": [
        {"role": "system", "content": REPLY},
        {"role": "user", "content": format!("The ticket was settled by {}.\nCustomer wrote: {}", ACTIONS[ticket.label], ticket.text)}]})
}
