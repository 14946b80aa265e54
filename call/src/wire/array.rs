//! One JSON array that grows, as Gemini streams without `alt=sse`: each element is an event.
//!
//! Looks for brackets and quotes alone: what an element says, and whether it is JSON at all, is for its reader. Counts
//! the depth, and never recurses.

use std::borrow::Cow;

use memchr::memchr2;

use super::event::{Event, MAX_EVENT};

/// Iterator over the elements of an array, up to its closing bracket.
///
/// An element that the body's end cuts off is yielded as far as it came.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Elements<'a> {
    /// The elements of a whole body.
    pub fn new(body: &'a [u8]) -> Elements<'a> {
        let text = super::json::without_bom(body).trim_ascii_start();
        let text = text.strip_prefix(b"[").unwrap_or(text);
        Elements {
            body,
            at: body.len() - text.len(),
        }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        let rest = self.body.get(self.at..)?;
        let start = rest
            .iter()
            .position(|byte| !byte.is_ascii_whitespace() && *byte != b',')?;
        let rest = &rest[start..];
        if rest[0] == b']' {
            self.at = self.body.len();
            return None;
        }
        let element = &rest[..value_len(rest)];
        self.at += start + element.len();
        let oversize = element.len() > MAX_EVENT;
        Some(Event {
            name: Cow::Borrowed(""),
            data: Cow::Borrowed(if oversize { b"" } else { element }),
            oversize,
            end: self.at,
        })
    }
}

/// The length of the value at the start of `text`; at least 1 where there is any text, and all of it where the value has
/// no end.
fn value_len(text: &[u8]) -> usize {
    match text.first() {
        Some(b'{' | b'[') => nested_len(text),
        Some(b'"') => string_len(text),
        _ => {
            let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']');
            text.iter().position(is_end).unwrap_or(text.len())
        }
    }
}

fn nested_len(text: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at += string_len(&text[at..]);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of the string whose opening quote `text` begins with.
fn string_len(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn all(body: &str) -> Vec<(&str, usize)> {
        let text = |event: Event<'_>| match event.data {
            Cow::Borrowed(data) => (std::str::from_utf8(data).unwrap().to_owned(), event.end),
            Cow::Owned(_) => unreachable!("elements are borrowed"),
        };
        let found: Vec<(String, usize)> = Elements::new(body.as_bytes()).map(text).collect();
        let in_body = |(data, end): (String, usize)| (&body[end - data.len()..end], end);
        found.into_iter().map(in_body).collect()
    }

    fn elements(body: &str) -> Vec<&str> {
        all(body).into_iter().map(|(data, _)| data).collect()
    }

    #[test]
    fn elements_end_where_their_last_bracket_does() {
        let body = "\u{feff} [{\"a\": [1, {}]}\r\n,\r\n{\"b\": 2}\n]\n";
        assert_eq!(all(body), [("{\"a\": [1, {}]}", 19), ("{\"b\": 2}", 32)]);
    }

    #[test]
    fn brackets_and_quotes_inside_strings_do_not_count() {
        let body = r#"[{"a":"}]\"{[","\\":"]"},"x,]","\\"]"#;
        assert_eq!(elements(body), [r#"{"a":"}]\"{[","\\":"]"}"#, r#""x,]""#, r#""\\""#]);
    }

    #[test]
    fn a_cut_element_is_yielded_as_far_as_it_came() {
        for (body, expected) in [
            ("", &[][..]),
            ("[", &[]),
            ("[]", &[]),
            ("[{}\r\n,", &["{}"]),
            ("[{}\r\n,\r\n{\"a\": \"b", &["{}", "{\"a\": \"b"]),
            ("[{}, {\"a\": \"\\", &["{}", "{\"a\": \"\\"]),
            ("[{}, [1, 2", &["{}", "[1, 2"]),
        ] {
            assert_eq!(elements(body), expected, "{body:?}");
        }
    }

    #[test]
    fn what_follows_the_array_and_what_is_no_array_does_no_harm() {
        assert_eq!(elements("[1]{\"a\":2}]["), ["1"]);
        assert_eq!(elements("{\"a\":1}\n{\"b\":2}"), ["{\"a\":1}", "{\"b\":2}"]);
        assert_eq!(elements("[},:,{]1]"), ["}", ":", "{]", "1"]);
    }

    #[test]
    fn depth_costs_no_stack_and_size_no_memory() {
        let deep = format!("[{}{}, 1]", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(elements(&deep).len(), 2);
        let big = format!("[\"{}\", 1]", "x".repeat(MAX_EVENT));
        let events: Vec<Event<'_>> = Elements::new(big.as_bytes()).collect();
        assert!(events[0].oversize && events[0].data.is_empty());
        assert_eq!(
            (events[1].data.as_ref(), events[1].end),
            (b"1".as_slice(), big.len() - 1)
        );
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[\\[\\]{},:\"\\\\ \r\né😀a]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let object = prop::collection::btree_map("[a\"{}\\\\]{0,3}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                object.prop_map(|fields| json!(fields)),
            ]
        })
    }

    proptest! {
        #[test]
        fn elements_are_those_that_a_parser_finds(values in prop::collection::vec(value(), 0..6), compact in any::<bool>()) {
            let text = if compact {
                serde_json::to_string(&values).unwrap()
            } else {
                // As Google prints them: the comma alone on a line, all lines ended by CRLF.
                let printed: Vec<String> = values.iter().map(|value| serde_json::to_string_pretty(value).unwrap()).collect();
                format!("[{}\n]\n", printed.join("\n,\n")).replace('\n', "\r\n")
            };
            let found: Vec<Value> =
                Elements::new(text.as_bytes()).map(|event| serde_json::from_slice(&event.data).unwrap()).collect();
            prop_assert_eq!(found, values);
        }

        #[test]
        fn ends_lie_inside_any_body_and_grow(body in "[\\[\\]{},:\"\\\\ \r\né1a]{0,60}", cut in 0usize..60) {
            let body = body.as_bytes();
            let body = &body[..cut.min(body.len())];
            let mut last = 0;
            for event in Elements::new(body) {
                prop_assert!(last < event.end && event.end <= body.len());
                prop_assert!(!event.data.is_empty());
                last = event.end;
            }
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Elements::new(&body).all(|event| event.end <= body.len()));
        }
    }
}
