//! Credentials: known formats, private keys, JSON web tokens, and what stands under a label such as `password`.
//!
//! Placeholders (`sk-your-key-here`, `${TOKEN}`, `AKIA…EXAMPLE`) stay, and so do token counts and page tokens.

mod format;
mod label;

use super::heads::{Heads, four};
use super::hit::Hit;
use super::kind::Kind;
use super::letters::Letters;
use super::scene::{Cues, Scene, is_free_before};
use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, Match, MatchKind, StartKind};
use format::{Body, FORMATS, Format};
use memchr::memmem;
use std::sync::LazyLock;

/// Longest token; longer ones are cut there and go on as the next.
const TOKEN_BYTES: usize = 8 * 1024;
/// Longest private key block.
const PEM_BYTES: usize = 32 * 1024;

/// What an anchor of the automaton stands for.
#[derive(Clone, Copy)]
enum Anchor {
    Format(&'static Format),
    /// `-----BEGIN`, of which private keys are taken.
    Pem,
    /// `eyJ`, base64 of `{"`.
    WebToken,
    /// `Bearer `, `Basic `.
    Scheme,
    /// `://`, which may be followed by `user:password@`.
    Url,
    Label(label::Label),
}

/// The search for all anchors.
pub(super) struct Secrets {
    /// The first three bytes of each, whatever the third is of one that has two.
    heads: Heads,
    search: AhoCorasick,
    anchors: Vec<Anchor>,
}

static SHARED: LazyLock<Secrets> = LazyLock::new(Secrets::new);

impl Secrets {
    /// That of this process.
    pub(super) fn shared() -> &'static Secrets {
        &SHARED
    }

    fn new() -> Secrets {
        let mut anchors: Vec<(String, Anchor)> = FORMATS
            .iter()
            .map(|format| (format.prefix.to_owned(), Anchor::Format(format)))
            .collect();
        anchors.push(("-----BEGIN ".to_owned(), Anchor::Pem));
        anchors.push(("eyJ".to_owned(), Anchor::WebToken));
        anchors.push(("://".to_owned(), Anchor::Url));
        for scheme in ["Bearer ", "bearer ", "BEARER ", "Basic ", "basic "] {
            anchors.push((scheme.to_owned(), Anchor::Scheme));
        }
        anchors.extend(label::spellings().map(|(word, label)| (word, Anchor::Label(label))));
        let (words, anchors): (Vec<String>, Vec<Anchor>) = anchors.into_iter().unzip();
        let mut heads = Heads::default();
        for word in &words {
            match *word.as_bytes() {
                [first, second] => (0..=u8::MAX).for_each(|third| heads.add(head(&[first, second, third]))),
                ref longer => heads.add(head(longer)),
            }
        }
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .start_kind(StartKind::Anchored)
            .kind(Some(AhoCorasickKind::DFA))
            .build(&words)
            .expect("there are two hundred short words");
        Secrets { heads, search, anchors }
    }

    pub(super) fn find(&self, scene: &Scene<'_>, hits: &mut Vec<Hit>) {
        let mut done = 0;
        for found in self.anchors_of(scene.text) {
            // Inside a key block that was taken whole there is nothing to look for.
            if found.start() < done {
                continue;
            }
            let hit = match self.anchors[found.pattern().as_usize()] {
                Anchor::Format(format) => token_at(scene.text, found.start(), format)
                    .or_else(|| label_in_prefix(scene.text, found.start(), format)),
                Anchor::Pem => private_key_at(scene.text, found.start()),
                Anchor::WebToken => web_token_at(scene.text, found.start()),
                Anchor::Scheme => after_scheme(scene.text, found.start(), found.end()),
                Anchor::Url => password_in_url(scene.text, found.end()),
                Anchor::Label(label) => label::value_after(scene.text, found.start(), found.end(), label),
            };
            if let Some(hit) = hit {
                done = if hit.end - hit.start > TOKEN_BYTES {
                    hit.end
                } else {
                    done
                };
                hits.push(hit);
            }
        }
        if !scene.label.is_empty() {
            hits.extend(self.whole_text_under_label(scene));
        }
    }

    /// The anchors in a text, the leftmost and longest first, none of which overlap.
    fn anchors_of<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Match> + 't {
        let bytes = text.as_bytes();
        let mut end = 0;
        (0..bytes.len())
            .filter(move |at| self.heads.may_hold(head(&bytes[*at..])))
            .filter_map(move |at| {
                let from = Input::new(text).span(at..text.len()).anchored(Anchored::Yes);
                let found = (at >= end)
                    .then(|| self.search.try_find(from).ok().flatten())
                    .flatten()?;
                end = found.end();
                Some(found)
            })
    }

    /// A JSON string whose key says that it is a credential.
    fn whole_text_under_label(&self, scene: &Scene<'_>) -> Option<Hit> {
        let value = scene.text.trim();
        let may_be_one = (label::LEAST_BYTES..=label::MOST_BYTES).contains(&value.len())
            && !value.contains(char::is_whitespace)
            && value.bytes().any(label::is_telling);
        if !may_be_one || !Letters::of(scene.label).hold_any(&label::LETTERS) {
            return None;
        }
        let found = self
            .anchors_of(scene.label)
            .find_map(|found| match self.anchors[found.pattern().as_usize()] {
                Anchor::Label(label) => Some((found, label)),
                _ => None,
            });
        let (found, label) = found?;
        let start = scene.text.len() - scene.text.trim_start().len();
        let is_label =
            label::names_a_value(scene.label.as_bytes(), found.start(), found.end(), label) == Some(scene.label.len());
        (is_label && label.accepts(value)).then(|| Hit::by_context(start, start + value.len(), Kind::Secret))
    }
}

/// The first three bytes, zeros past the end.
#[inline]
fn head(bytes: &[u8]) -> u32 {
    four(bytes) & 0xff_ffff
}

fn token_at(text: &str, start: usize, format: &Format) -> Option<Hit> {
    let bytes = text.as_bytes();
    if !is_free_before(text, start) && !format.prefix.ends_with('=') {
        return None;
    }
    let body_start = start + format.prefix.len();
    let end = body_start + run_length(&bytes[body_start..], |byte| format.body.holds(byte));
    let end = trim_stop(bytes, body_start, end);
    let body = &text[body_start..end];
    let is_exact = format.body != Body::UpperExact || body.len() == format.least;
    let goes_on = matches!(bytes.get(end), Some(next) if next.is_ascii_alphanumeric());
    // Of sixteen capitals and digits one in twenty-eight has no digit.
    let is_drawn =
        is_random(body) || (format.body == Body::UpperExact && is_varied(body) && !label::is_placeholder(body));
    let is_whole = body.len() >= format.least && is_exact && !goes_on && is_drawn;
    // After `AccountKey=` only the value is secret; a token's prefix is part of it.
    let value_start = if format.prefix.ends_with('=') {
        body_start
    } else {
        start
    };
    is_whole.then(|| Hit::sure(value_start, end, Kind::Secret))
}

/// A prefix that a label may begin with too: `secret_` of `secret_key`.
fn label_in_prefix(text: &str, start: usize, format: &Format) -> Option<Hit> {
    let word = format.prefix.strip_suffix('_').filter(|word| *word == "secret")?;
    label::value_after(text, start, start + word.len(), label::Label::Key)
}

fn run_length(bytes: &[u8], holds: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take(TOKEN_BYTES).take_while(|byte| holds(**byte)).count()
}

/// A full stop at the end ends the sentence, not the token.
fn trim_stop(bytes: &[u8], start: usize, mut end: usize) -> usize {
    while end > start && bytes[end - 1] == b'.' {
        end -= 1;
    }
    end
}

/// From `-----BEGIN … PRIVATE KEY-----` to its end line; without one, as far as base64 goes on.
fn private_key_at(text: &str, start: usize) -> Option<Hit> {
    let bytes = text.as_bytes();
    let line = &bytes[start..bytes.len().min(start + 64)];
    let head = memmem::find(line, b"PRIVATE KEY")? + b"PRIVATE KEY".len();
    if line[..head].contains(&b'\n') {
        return None;
    }
    let body_start = start + head;
    let area = &bytes[body_start..bytes.len().min(body_start + PEM_BYTES)];
    let end = match memmem::find(area, b"-----END ")
        .and_then(|end| Some((end, memmem::find(&area[end + 9..], b"-----")?)))
    {
        Some((end, rest)) if rest < 64 => body_start + end + 9 + rest + 5,
        _ => {
            let goes_on =
                |byte: &&u8| byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+/=-\\:,".contains(byte);
            body_start + area.iter().take_while(goes_on).count()
        }
    };
    Some(Hit::sure(start, end, Kind::Secret))
}

/// Three parts of base64url with dots between (five where encrypted), the first of which is a JSON object.
fn web_token_at(text: &str, start: usize) -> Option<Hit> {
    let bytes = text.as_bytes();
    if !is_free_before(text, start) {
        return None;
    }
    let end = start + run_length(&bytes[start..], |byte| Body::Dotted.holds(byte));
    let end = trim_stop(bytes, start, end);
    let mut parts = text[start..end].split('.');
    let is_head = parts.next().is_some_and(|head| head.len() >= 12);
    let is_payload = parts.next().is_some_and(|payload| payload.len() >= 8);
    (is_head && is_payload).then(|| Hit::sure(start, end, Kind::Secret))
}

/// `Bearer TOKEN`, `Basic BASE64`.
fn after_scheme(text: &str, word: usize, start: usize) -> Option<Hit> {
    let bytes = text.as_bytes();
    let end = start
        + run_length(&bytes[start..], |byte| {
            Body::Dotted.holds(byte) || matches!(byte, b'~' | b'+' | b'/' | b'=')
        });
    let end = trim_stop(bytes, start, end);
    let value = &text[start..end];
    let is_long = value.len() >= 16 || (value.len() >= 8 && follows_authorization(text, word));
    (is_long && is_random(value)).then(|| Hit::by_context(start, end, Kind::Secret))
}

const AUTHORIZATION: &Cues = &Cues::new(&["authorization"]);

fn follows_authorization(text: &str, word: usize) -> bool {
    Scene::new(text, "").follows(word, AUTHORIZATION)
}

/// The password of `scheme://user:password@host`.
fn password_in_url(text: &str, start: usize) -> Option<Hit> {
    let authority = text.as_bytes()[start..].iter().take(256);
    let stops = |byte: &u8| {
        byte.is_ascii_whitespace() || matches!(byte, b'/' | b'"' | b'\'' | b'<' | b'>' | b'`' | b'?' | b'#' | b'\\')
    };
    let length = authority.take_while(|byte| !stops(byte)).count();
    let authority = text.get(start..start + length)?;
    let (user_info, _) = authority.rsplit_once('@')?;
    let Some((user, password)) = user_info.split_once(':') else {
        let is_token = user_info.len() >= 16 && is_random(user_info);
        return is_token.then(|| Hit::by_context(start, start + user_info.len(), Kind::Secret));
    };
    let value_start = start + user.len() + 1;
    let is_value = password.len() >= 3 && !label::is_placeholder(password);
    is_value.then(|| Hit::by_context(value_start, value_start + password.len(), Kind::Secret))
}

/// Whether a token looks drawn at random rather than written: enough different bytes, a digit or both cases, no words.
fn is_random(body: &str) -> bool {
    if label::is_placeholder(body) {
        return false;
    }
    let has_digit = body.bytes().any(|byte| byte.is_ascii_digit());
    let has_both_cases =
        body.bytes().any(|byte| byte.is_ascii_lowercase()) && body.bytes().any(|byte| byte.is_ascii_uppercase());
    is_varied(body) && (has_digit || has_both_cases)
}

/// Whether there are many different bytes in a token.
fn is_varied(body: &str) -> bool {
    let mut seen = [false; 128];
    for byte in body.bytes().filter(u8::is_ascii) {
        seen[usize::from(byte)] = true;
    }
    seen.iter().filter(|seen| **seen).count() >= body.len().min(8)
}

/// Whether a text looks like a token, and whether like what only stands for one.
pub(super) fn looks(value: &str) -> (bool, bool) {
    (is_random(value), label::is_placeholder(value))
}

/// How many bytes of a secret tell only what it is: a known prefix.
pub(super) fn public_prefix(value: &str) -> usize {
    let known = FORMATS
        .iter()
        .find(|format| value.starts_with(format.prefix))
        .map_or(0, |format| format.prefix.len());
    if known == 0 && value.starts_with("eyJ") {
        3
    } else {
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, label: &str) -> Vec<String> {
        let mut hits = Vec::new();
        Secrets::shared().find(&Scene::new(text, label), &mut hits);
        super::super::hit::settle(text, &mut hits);
        hits.iter().map(|hit| text[hit.start..hit.end].to_owned()).collect()
    }

    /// A body made here, so that nothing in this file looks like a credential.
    fn random(length: usize, body: Body) -> String {
        let letters = "k3Jx9QbL2mZr7TfW0aVd5HcN8eYg4Ps6Un1";
        let hex = "3f9a0c7be1d24856";
        let source = match body {
            Body::Hex => hex.to_owned(),
            Body::UpperExact => letters.to_ascii_uppercase(),
            _ => letters.to_owned(),
        };
        source.chars().cycle().take(length).collect()
    }

    #[test]
    fn every_known_format_is_found_and_keeps_its_prefix() {
        for format in FORMATS {
            let body = random(format.least, format.body);
            let token = format!("{}{body}", format.prefix);
            let value = if format.prefix.ends_with('=') {
                body
            } else {
                token.clone()
            };
            assert_eq!(
                found(&format!("use \"{token}\" or not"), ""),
                [value],
                "{}",
                format.prefix
            );
            assert_eq!(&token[..public_prefix(&token)], format.prefix);
        }
    }

    #[test]
    fn every_anchor_is_found_by_its_head() {
        let secrets = Secrets::shared();
        let words = FORMATS.iter().map(|format| format.prefix.to_owned());
        for word in words.chain(label::spellings().map(|(word, _)| word)) {
            assert!(word.len() > 1, "{word}");
            let text = format!("\u{e9}, {word}");
            let ends: Vec<usize> = secrets.anchors_of(&text).map(|found| found.end()).collect();
            assert_eq!(ends, [text.len()], "{word}");
        }
    }

    #[test]
    fn keys_tokens_and_urls() {
        let body = random(64, Body::Alnum);
        let pem = format!(
            "-----BEGIN RSA {0}-----\n{body}\n{body}==\n-----END RSA {0}-----",
            "PRIVATE KEY"
        );
        assert_eq!(found(&format!("key.pem\n{pem}\n"), ""), std::slice::from_ref(&pem));
        assert_eq!(found(&pem[..100], ""), [&pem[..100]]);
        let web_token = format!(
            "ey{}.eyJ{}.{}",
            "JhbGciOiJIUzI1NiJ9",
            random(30, Body::Alnum),
            random(43, Body::Token)
        );
        assert_eq!(
            found(&format!("token {web_token}."), ""),
            std::slice::from_ref(&web_token)
        );
        assert_eq!(
            found(&format!("Authorization: Bearer {body}"), ""),
            std::slice::from_ref(&body)
        );
        assert_eq!(found("postgres://app:pw4prod@db.internal/x", ""), ["pw4prod"]);
    }

    #[test]
    fn a_token_is_found_whatever_letters_it_was_drawn_of() {
        let alnum: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').collect();
        let capitals: Vec<char> = ('A'..='Z').chain('2'..='7').collect();
        let hex: Vec<char> = ('0'..='9').chain('a'..='f').collect();
        let mut state = 2026_u64;
        let mut draw = |letters: &[char], length: usize| -> String {
            let next = |_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                letters[(state % letters.len() as u64) as usize]
            };
            (0..length).map(next).collect()
        };
        for (text, letters, length) in [
            ("use sk-proj-{} here", &alnum, 48),
            ("use ghp_{} here", &alnum, 36),
            ("use AKIA{} here", &capitals, 16),
            ("api_key: {}", &hex, 32),
            ("Authorization: Bearer {}", &alnum, 40),
            ("postgres://app:{}@db.internal/x", &alnum, 12),
        ] {
            let missed = (0..5_000).filter(|_| {
                let token = draw(letters, length);
                !found(&text.replace("{}", &token), "")
                    .iter()
                    .any(|hit| hit.ends_with(&token))
            });
            assert_eq!(missed.count(), 0, "{text}");
        }
        // Words that stand for a value come together by chance, too.
        for word in ["yOUR", "YOUR", "XXXX", "xXxX", "DuMMy"] {
            let token = format!("sk-proj-8UYzwXDoXSYM5nNt5jSS{word}jb9cpH6Mytho3hRBbWI1");
            assert_eq!(found(&token, ""), [&*token]);
        }
        for password in ["$R2ExrDnP0mZ", "%udyo&7O%dBmv", "*aB3<xYz9k", "tIdpyNs6tGakhN%s"] {
            assert!(!found(&format!("password=\"{password}\""), "").is_empty(), "{password}");
        }
    }

    #[test]
    fn labels_say_what_is_secret() {
        let value = random(32, Body::Alnum);
        for text in [
            "api_key = \"{}\"  # no",
            "\"apiKey\": \"{}\"",
            "export DEPLOY_SECRET={}",
            "client-secret: {}",
            "?access_token={}&x",
            "\\\"secret\\\":\\\"{}\\\"",
        ] {
            assert_eq!(
                found(&text.replace("{}", &value), ""),
                std::slice::from_ref(&value),
                "{text}"
            );
        }
        assert_eq!(found("password: hunter2", ""), ["hunter2"]);
        assert_eq!(found("my password is Tr0ub4dor&3.", ""), ["Tr0ub4dor&3"]);
        assert_eq!(found("hunter2", "dbPassword"), ["hunter2"]);
        assert_eq!(found(&value, "client_secret"), [value]);
    }

    #[test]
    fn placeholders_counts_and_ids_stay() {
        let example = format!("AKIA{}", "IOSFODNN7EXAMPLE");
        for text in [
            "sk-your-key-here",
            "AKIAIOSFODNN...",
            &example,
            "max_tokens: 4096",
            "\"token\": \" the\"",
            "password: required",
            "password = os.environ[\"PASSWORD\"]",
            "api_key=${API_KEY}",
            "risk-taking-is-part-of-the-game-in-2024",
            "Bearer token",
            "the secret is out",
            "https://example.com:8080/a@b",
            "next_page_token=CAUQAAxyz123456789",
            "password=<password>",
            "password=%PASSWORD%",
            "password={password}",
            "password=\"$DB_PASSWORD\"",
            "password: \"%s\"",
            "api_key: YOUR_API_KEY_1234567890",
            "sk-your-openai-key-0000000000000000",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "postgres://user:yourpassword1@host/x",
            "id=toolu_01kRQPMQqeRbOGMSnfGUZabc",
            "order_yKiwF02OLn4CEL",
            "-----BEGIN CERTIFICATE-----",
            "basic functionality1",
        ] {
            assert!(found(text, "").is_empty(), "{text}: {:?}", found(text, ""));
        }
        assert!(found("hunter2", "password_hint_id").is_empty());
        assert!(found("gpt-4o-mini-2024-07-18", "tokenizer").is_empty());
    }
}
