//! What of a request tells its task: the words of its leading prompt, its tools, its place in the agent's loop.
//!
//! Features are of the request only, never of the response, and mask-invariant: literals are placeholders before
//! anything is hashed. Time and memory are bounded whatever the size of the request. Hashes are stable: task books
//! hold them, so a change here needs a new [`crate::taskbook::SCHEMA`].

mod tokens;

use crate::call::{Message, Request, ResponseFormat, Role};
use serde_json::Value;
use tokens::{Kind, scan};

/// Bytes read at the head and at the tail of a long message.
const HEAD: usize = 3072;
/// See [`HEAD`].
const TAIL: usize = 1536;
/// Bytes read of all leading messages together.
const BUDGET: usize = 10 * 1024;
/// How many leading messages are read.
const LEADING: usize = 8;
/// How many tools are read.
const TOOLS: usize = 64;
/// Bytes of the last message in which its last line is looked for.
const LAST_LINE: usize = 96;
/// A last line of more words is content.
const TAIL_WORDS: usize = 4;

/// The features of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Hashes of the three-word phrases of the leading prompt (system and user messages before the first answer), in
    /// order, literals masked; may hold duplicates.
    pub phrases: Vec<u32>,
    /// Hashes of tool names, answer format and top-level schema fields.
    pub marks: Vec<u32>,
    /// Who spoke last; `None` for a request without messages.
    pub last: Option<Role>,
    /// Hash of the last message's last line, where it is short and ends with a colon (`Thought 3:`).
    pub cue: Option<u32>,
}

/// The features of `request`; linear in its size up to a bound, then constant.
pub fn features(request: &Request) -> Features {
    let mut phrases = Phrases {
        hashes: Vec::with_capacity(1024),
        window: [0; 2],
    };
    let mut budget = BUDGET;
    for message in leading(request) {
        phrases.window = [hash_role(message.role), 0];
        for part in windows(message.text.as_bytes(), &mut budget) {
            scan(part, |token| phrases.push(token.hash));
        }
    }
    Features {
        phrases: phrases.hashes,
        marks: marks(request),
        last: request.messages.last().map(|message| message.role),
        cue: request.messages.last().and_then(|message| cue(message.text.as_bytes())),
    }
}

/// The lines of the leading prompt, literals shown as placeholders, with the phrases that each line completes. For
/// showing what a task's template is; costs more than [`features`].
pub fn lines(request: &Request) -> Vec<(String, Vec<u32>)> {
    let mut phrases = Phrases {
        hashes: Vec::new(),
        window: [0; 2],
    };
    let mut budget = BUDGET;
    let mut lines = Vec::new();
    for message in leading(request) {
        phrases.window = [hash_role(message.role), 0];
        for part in windows(message.text.as_bytes(), &mut budget) {
            for line in part.split(|byte| *byte == b'\n') {
                let mut shown = Vec::new();
                let mut kept = 0;
                scan(line, |token| {
                    phrases.push(token.hash);
                    if token.kind != Kind::Word {
                        shown.extend_from_slice(&line[kept..token.start]);
                        shown.extend_from_slice(token.kind.placeholder().as_bytes());
                        kept = token.end;
                    }
                });
                shown.extend_from_slice(&line[kept..]);
                let completed = std::mem::take(&mut phrases.hashes);
                lines.push((String::from_utf8_lossy(&shown).trim().to_owned(), completed));
            }
        }
    }
    lines
}

/// The hashes of the three-word phrases of a text, wherever it stands in a prompt; none for a text of fewer words.
pub fn phrases_of(text: &str) -> Vec<u32> {
    let mut phrases = Phrases {
        hashes: Vec::new(),
        window: [0; 2],
    };
    scan(text.as_bytes(), |token| phrases.push(token.hash));
    // The first two hold what stands before the text.
    phrases.hashes.drain(..phrases.hashes.len().min(2));
    phrases.hashes
}

/// A text with its literals (numbers, addresses, quoted values) shown as placeholders; linear in its size.
pub fn mask_literals(text: &str) -> String {
    let mut shown = Vec::with_capacity(text.len());
    let mut copied = 0;
    scan(text.as_bytes(), |token| {
        if token.kind != Kind::Word {
            shown.extend_from_slice(&text.as_bytes()[copied..token.start]);
            shown.extend_from_slice(token.kind.placeholder().as_bytes());
            copied = token.end;
        }
    });
    shown.extend_from_slice(&text.as_bytes()[copied..]);
    String::from_utf8_lossy(&shown).into_owned()
}

/// Whether a word has the form of those that the mask puts in the place of names; features leave them out.
pub fn is_surrogate_word(word: &str) -> bool {
    tokens::is_surrogate(word.as_bytes())
}

/// The mark of a tool of this name.
pub fn tool_mark(name: &str) -> u32 {
    fold(0x746f_6f6c, tokens::hash(name.as_bytes()))
}

/// System and user messages before the first answer: the instruction, without the history that agents resend.
fn leading(request: &Request) -> impl Iterator<Item = &Message> {
    let prompt = |message: &&Message| matches!(message.role, Role::System | Role::User);
    request.messages.iter().take_while(prompt).take(LEADING)
}

/// The head of a text and, where it is long, its tail from the next space on.
fn windows<'a>(text: &'a [u8], budget: &mut usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let (head, tail): (&[u8], &[u8]) = if text.len() <= (HEAD + TAIL).min(*budget) {
        (text, &[])
    } else {
        let head = HEAD.min(*budget);
        let tail = TAIL.min(*budget - head).min(text.len() - head);
        let rest = &text[text.len() - tail..];
        let word = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(0);
        (&text[..head], &rest[word..])
    };
    *budget -= (head.len() + tail.len()).min(*budget);
    [head, tail].into_iter().filter(|part| !part.is_empty())
}

/// A sliding window of three words.
struct Phrases {
    hashes: Vec<u32>,
    window: [u64; 2],
}

impl Phrases {
    fn push(&mut self, word: u64) {
        let [first, second] = self.window;
        self.window = [second, word];
        if [first, second, word].contains(&tokens::SURROGATE) {
            return;
        }
        let pair = first.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ second;
        self.hashes.push(fold(pair, word));
    }
}

/// Mixes two hashes into 32 bits.
fn fold(left: u64, right: u64) -> u32 {
    let mixed = (left.rotate_left(29) ^ right).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32) as u32
}

fn hash_role(role: Role) -> u64 {
    match role {
        Role::System => 1,
        _ => 2,
    }
}

fn marks(request: &Request) -> Vec<u32> {
    let mut marks: Vec<u32> = request
        .tools
        .iter()
        .take(TOOLS)
        .map(|tool| tool_mark(&tool.name))
        .collect();
    match &request.response_format {
        ResponseFormat::Text => {}
        ResponseFormat::JsonObject => marks.push(fold(0x6a73_6f6e, 0)),
        ResponseFormat::JsonSchema(schema) => {
            // Some APIs wrap the schema in an object beside its name.
            let schema = schema.get("schema").unwrap_or(schema);
            let fields = schema.get("properties").and_then(Value::as_object);
            let names = fields.into_iter().flat_map(|fields| fields.keys()).take(TOOLS);
            marks.extend(names.map(|name| fold(0x6669_656c, tokens::hash(name.as_bytes()))));
            marks.push(fold(0x6a73_6f6e, 1));
        }
    }
    marks.sort_unstable();
    marks.dedup();
    marks
}

fn cue(text: &[u8]) -> Option<u32> {
    let text = text.trim_ascii_end();
    if text.last() != Some(&b':') {
        return None;
    }
    let window = &text[text.len().saturating_sub(LAST_LINE)..];
    let start = memchr::memrchr(b'\n', window).map(|newline| newline + 1);
    let line = match start {
        Some(start) => &window[start..],
        None if window.len() == text.len() => window,
        None => return None,
    };
    let (mut words, mut hash) = (0, 0);
    scan(line, |token| {
        words += if token.hash == tokens::SURROGATE { TAIL_WORDS } else { 0 } + 1;
        hash = fold(u64::from(hash), token.hash);
    });
    (1..=TAIL_WORDS).contains(&words).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::ToolOffered;

    fn request(system: &str, user: &str) -> Request {
        let messages = vec![Message::text(Role::System, system), Message::text(Role::User, user)];
        Request {
            messages,
            ..Request::default()
        }
    }

    #[test]
    fn literals_do_not_matter_and_words_do() {
        let one = features(&request(
            "Extract the total.",
            "Invoice 4711 for ann@example.org, \"Ann\"",
        ));
        let other = features(&request(
            "Extract the total.",
            "Invoice 9 for bo.lee@example.com, \"Bo Lee\"",
        ));
        assert_eq!(one, other);
        assert_ne!(
            one,
            features(&request(
                "Extract the sum.",
                "Invoice 4711 for ann@example.org, \"Ann\""
            ))
        );
    }

    #[test]
    fn history_does_not_matter_but_its_last_speaker_does() {
        let mut call = request("Help.", "Where is my order?");
        let first = features(&call);
        call.messages.push(Message::text(Role::Assistant, "Let me look."));
        call.messages.push(Message::text(Role::Tool, "{\"order\": 1}"));
        let second = features(&call);
        assert_eq!(first.phrases, second.phrases);
        assert_eq!((first.last, second.last), (Some(Role::User), Some(Role::Tool)));
    }

    #[test]
    fn a_cue_is_a_short_last_line_with_a_colon() {
        let cue = |text: &str| features(&request("", text)).cue;
        assert_eq!(cue("Question: why?\nThought 3:"), cue("Question: how?\nThought 14: "));
        assert_ne!(cue("Thought 3:"), cue("Action 3:"));
        assert!(cue("Thought 3:").is_some());
        assert_eq!(cue("Thought 3: I should look"), None);
        assert_eq!(cue("this line is far too long to be a cue of a loop:"), None);
    }

    #[test]
    fn tools_are_marks_whatever_their_order() {
        let tool = |name: &str| ToolOffered {
            name: name.into(),
            description: None,
            schema: Value::Null,
        };
        let one = Request {
            tools: vec![tool("find"), tool("book")],
            ..Request::default()
        };
        let other = Request {
            tools: vec![tool("book"), tool("find")],
            ..Request::default()
        };
        assert_eq!(features(&one).marks, features(&other).marks);
        assert_eq!(features(&one).marks.len(), 2);
    }

    #[test]
    fn work_is_bounded_for_huge_prompts() {
        let huge = features(&request(
            &"all work and no play ".repeat(50_000),
            &"x ".repeat(1_000_000),
        ));
        assert!(huge.phrases.len() < BUDGET);
    }

    #[test]
    fn masked_text_keeps_its_words() {
        let text = "You have 7 items of \"stock\", é; ask ann@example.org";
        assert_eq!(mask_literals(text), "You have <n> items of <quoted>, é; ask <address>");
    }

    #[test]
    fn lines_hold_the_phrases_of_features() {
        let call = request("You are a clerk.\nReport 7 items of \"stock\".", "Now 8:\nok");
        let shown = lines(&call);
        assert_eq!(lines(&request("On 2024-05-15 15:00.", ""))[0].0, "On <n>.");
        assert_eq!(shown[1].0, "Report <n> items of <quoted>.");
        let phrases: Vec<u32> = shown.into_iter().flat_map(|(_, phrases)| phrases).collect();
        assert_eq!(phrases, features(&call).phrases);
    }
}
