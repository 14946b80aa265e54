//! The model that a request names which is not parsed: in a form's field, wherever it stands, or near the beginning of a
//! JSON body.
//!
//! Sees the pieces go by and holds a bounded tail of them; never holds or delays the body.

use memchr::memmem::{self, Finder};
use understudy_call::wire::splice::model_named;

/// The most bytes of a part's headers.
const MAX_PART_HEAD: usize = 1024;
/// The longest name of a model.
const MAX_NAME: usize = 256;
/// The most bytes of a JSON body that are looked at.
const MAX_JSON: usize = 1024;
/// The longest boundary; the standard allows 70.
const MAX_BOUNDARY: usize = 200;

/// Looks for the model in the pieces of one body.
#[derive(Debug)]
pub(crate) enum ModelScan {
    /// `multipart/form-data`.
    Form(Box<FormScan>),
    /// The beginning of a JSON body.
    Json(Vec<u8>),
}

impl ModelScan {
    /// For a body of this media type; absent where no model is looked for.
    pub(crate) fn of(content_type: &str) -> Option<ModelScan> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") {
            return Some(ModelScan::Json(Vec::new()));
        }
        if !essence.eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parameter(content_type, "boundary")?;
        let fits = (1..=MAX_BOUNDARY).contains(&boundary.len());
        fits.then(|| ModelScan::Form(Box::new(FormScan::new(boundary))))
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        match self {
            ModelScan::Form(form) => form.push(piece),
            ModelScan::Json(head) => {
                let room = MAX_JSON.saturating_sub(head.len());
                head.extend_from_slice(&piece[..piece.len().min(room)]);
            }
        }
    }

    /// The model, as far as it was found.
    pub(crate) fn model(&self) -> Option<String> {
        match self {
            ModelScan::Form(form) => form.model.clone(),
            ModelScan::Json(head) => model_named(head).filter(|name| name.len() <= MAX_NAME),
        }
    }
}

/// A parameter of a header's value, quotes taken off.
fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    value.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        let is_it = key.trim().eq_ignore_ascii_case(name);
        is_it.then(|| value.trim().trim_matches('"'))
    })
}

/// Looks for the field `model` of a form.
#[derive(Debug)]
pub(crate) struct FormScan {
    delimiter: Finder<'static>,
    state: State,
    /// The end of the pieces before, or what has come of a part's head or of the value.
    held: Vec<u8>,
    model: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the next delimiter.
    Between,
    /// In a part's headers.
    Head,
    /// In the value of the field.
    Value,
    /// Found, or given up.
    Done,
}

impl FormScan {
    fn new(boundary: &str) -> FormScan {
        FormScan {
            delimiter: Finder::new(format!("--{boundary}").as_bytes()).into_owned(),
            state: State::Between,
            held: Vec::new(),
            model: None,
        }
    }

    fn push(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            piece = match self.state {
                State::Between => self.after_delimiter(piece),
                State::Head => self.after_head(piece),
                State::Value => self.after_value(piece),
                State::Done => return,
            };
        }
    }

    fn enter(&mut self, state: State) {
        self.held.clear();
        self.state = state;
    }

    /// What follows the next delimiter.
    fn after_delimiter<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let length = self.delimiter.needle().len();
        // The seam: a delimiter that began in an earlier piece.
        let before = self.held.len();
        let head = &piece[..piece.len().min(length)];
        self.held.extend_from_slice(head);
        let in_seam = self
            .delimiter
            .find(&self.held)
            .map(|at| (at + length).saturating_sub(before));
        if let Some(end) = in_seam.or_else(|| Some(self.delimiter.find(piece)? + length)) {
            self.enter(State::Head);
            return &piece[end..];
        }
        if piece.len() > length {
            self.held.clear();
            self.held.extend_from_slice(&piece[piece.len() - length..]);
        }
        let surplus = self.held.len().saturating_sub(length - 1);
        self.held.drain(..surplus);
        &[]
    }

    /// What follows a part's headers.
    fn after_head<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let (rest, is_whole) = self.collect(piece, b"\r\n\r\n", MAX_PART_HEAD);
        if is_whole {
            let is_model = names_model(&self.held);
            self.enter(if is_model { State::Value } else { State::Between });
        } else if self.held.len() >= MAX_PART_HEAD {
            self.enter(State::Between);
        }
        rest
    }

    /// What follows the value.
    fn after_value<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let (rest, is_whole) = self.collect(piece, b"\r\n", MAX_NAME + 2);
        if is_whole {
            let value = self.held.strip_suffix(b"\r\n").unwrap_or(&self.held);
            let text = std::str::from_utf8(value).ok().filter(|text| !text.is_empty());
            self.model = text.map(str::to_owned);
        }
        if is_whole || self.held.len() >= MAX_NAME + 2 {
            self.enter(State::Done);
        }
        rest
    }

    /// Holds bytes up to and with `end`, `limit` at most; what follows them, and whether `end` has come.
    fn collect<'a>(&mut self, piece: &'a [u8], end: &[u8], limit: usize) -> (&'a [u8], bool) {
        let before = self.held.len();
        let taken = piece.len().min(limit.saturating_sub(before));
        self.held.extend_from_slice(&piece[..taken]);
        let from = before.saturating_sub(end.len() - 1);
        match memmem::find(&self.held[from..], end) {
            Some(at) => {
                let length = from + at + end.len();
                self.held.truncate(length);
                (&piece[length - before..], true)
            }
            None => (&piece[taken..], false),
        }
    }
}

/// Whether a part's headers are those of the form's field `model`, not of a file.
fn names_model(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    text.lines().any(|line| {
        let Some((name, value)) = line.split_once(':') else {
            return false;
        };
        name.trim().eq_ignore_ascii_case("content-disposition")
            && parameter(value, "name") == Some("model")
            && parameter(value, "filename").is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"x-YZ\"";

    fn found(content_type: &str, body: &[u8], size: usize) -> Option<String> {
        let mut scan = ModelScan::of(content_type)?;
        body.chunks(size).for_each(|piece| scan.push(piece));
        scan.model()
    }

    fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = b"preamble".to_vec();
        for (disposition, value) in parts {
            let head = format!("\r\n--x-YZ\r\nContent-Disposition: form-data; {disposition}\r\nX: y\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(value);
        }
        body.extend_from_slice(b"\r\n--x-YZ--\r\n");
        body
    }

    #[test]
    fn the_field_is_found_wherever_it_stands_and_however_the_body_is_cut() {
        let audio: Vec<u8> = (0..5000u32).map(|number| (number * 7 % 256) as u8).collect();
        let file = ("name=\"file\"; filename=\"model\"", &audio[..]);
        let model = ("name=\"model\"", &b"whisper-1"[..]);
        for body in [
            form(&[file, model]),
            form(&[model, file]),
            form(&[("name=\"x\"", b"model"), model]),
        ] {
            for size in [1, 2, 3, 7, 64, 5000, 100_000] {
                assert_eq!(
                    found(TYPE, &body, size).as_deref(),
                    Some("whisper-1"),
                    "pieces of {size}"
                );
            }
        }
    }

    #[test]
    fn what_only_looks_like_the_field_is_not_taken_for_it() {
        let fake = b"Content-Disposition: form-data; name=\"model\"\r\n\r\nfake\r\n".as_slice();
        let long = "m".repeat(MAX_NAME + 1);
        for body in [
            form(&[("name=\"file\"; filename=\"a\"", fake)]),
            form(&[("name=\"model\"; filename=\"a\"", b"weights")]),
            form(&[("name=\"model\"", long.as_bytes())]),
            form(&[("name=\"models\"", b"no")]),
            b"--x-YZ".repeat(1000),
            b"--x-YZ\r\n".repeat(1000),
        ] {
            for size in [1, 9, 100_000] {
                assert_eq!(found(TYPE, &body, size), None);
            }
        }
        assert_eq!(found("text/plain", fake, 9), None);
        assert_eq!(found("multipart/form-data", fake, 9), None);
    }

    #[test]
    fn a_json_body_is_looked_at_as_far_as_its_beginning() {
        let body = br#"{"model":"tts-1","input":"Hello"}"#;
        assert_eq!(
            found("application/json; charset=utf-8", body, 3).as_deref(),
            Some("tts-1")
        );
        let late = format!("{{\"input\":\"{}\",\"model\":\"tts-1\"}}", "x".repeat(MAX_JSON));
        assert_eq!(found("application/json", late.as_bytes(), 100), None);
    }

    proptest::proptest! {
        #[test]
        fn the_same_is_found_however_a_body_is_cut(
            parts in proptest::collection::vec(r#"--x-YZ|\r\n|\r|--|Content-Disposition: form-data; name="model"|; filename="f"|m-1|\r\n\r\n|x"#, 0..40),
            size in 1usize..40,
        ) {
            let body = parts.concat();
            proptest::prop_assert_eq!(found(TYPE, body.as_bytes(), size), found(TYPE, body.as_bytes(), usize::MAX));
        }
    }
}
