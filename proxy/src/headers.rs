//! Which headers travel: hop-by-hop ones end here, ours are read and removed, all others pass unchanged.

use http::{HeaderMap, HeaderName, header};
use std::collections::BTreeMap;

/// Headers of one hop, by RFC 9110 section 7.6.1. `te` and `trailer` describe the hop's framing.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
];

/// Headers that `connection` may not take away from a request: they are end to end whatever a client says of them.
const END_TO_END: [HeaderName; 6] = [
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::HOST,
    HeaderName::from_static("x-api-key"),
];

/// Takes out the headers of this hop, those that `connection` names included.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::try_from(name.trim()).ok())
            .filter(|name| !END_TO_END.contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// What a client told us by `x-understudy-*` headers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// `x-understudy-conversation`.
    pub conversation: Option<String>,
    /// `x-understudy-tag-<name>`, at most 32 of at most 256 bytes.
    pub tags: BTreeMap<String, String>,
    /// `x-understudy-capture: none`.
    pub no_capture: bool,
    /// `x-understudy-route`.
    pub pin: Option<String>,
}

const OURS: &str = "x-understudy-";
const MAX_TAGS: usize = 32;
const MAX_TAG_BYTES: usize = 256;

/// Reads our headers and takes them out.
pub fn take_ours(headers: &mut HeaderMap) -> Told {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(OURS))
        .cloned()
        .collect();
    let mut told = Told::default();
    for name in names {
        let Some(value) = headers
            .remove(&name)
            .and_then(|value| value.to_str().map(str::to_owned).ok())
        else {
            continue;
        };
        match &name.as_str()[OURS.len()..] {
            "conversation" => told.conversation = Some(value),
            "capture" => told.no_capture = value.eq_ignore_ascii_case("none"),
            "route" => told.pin = Some(value),
            other => {
                if let Some(tag) = other.strip_prefix("tag-")
                    && told.tags.len() < MAX_TAGS
                    && value.len() <= MAX_TAG_BYTES
                {
                    told.tags.insert(tag.to_owned(), value);
                }
            }
        }
    }
    told
}

/// Headers by which known agents name their session.
const SESSION_HEADERS: [&str; 4] = [
    "x-claude-code-session-id",
    "x-session-id",
    "x-conversation-id",
    "session_id",
];

/// The session that a known agent names.
pub fn known_session(headers: &HeaderMap) -> Option<&[u8]> {
    SESSION_HEADERS
        .iter()
        .find_map(|name| headers.get(*name))
        .map(http::HeaderValue::as_bytes)
}

/// Headers that carry a client's credential, in the order in which they are asked for its identity.
const CREDENTIAL_HEADERS: [&str; 5] = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"];

/// The client's credential, for its pseudonym only.
pub fn credential(headers: &HeaderMap) -> Option<&[u8]> {
    CREDENTIAL_HEADERS
        .iter()
        .find_map(|name| headers.get(*name))
        .map(http::HeaderValue::as_bytes)
}

/// The trace id of a W3C `traceparent`.
pub fn trace_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let id = text.split('-').nth(1)?;
    let valid =
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id.bytes().any(|byte| byte != b'0');
    valid.then(|| id.to_owned())
}

/// A header's text, if it has one that is valid.
pub fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn hop_by_hop_headers_end_here_and_end_to_end_ones_cannot_be_taken_away() {
        let mut map = headers(&[
            ("connection", "x-hop, authorization, content-length"),
            ("x-hop", "1"),
            ("authorization", "Bearer k"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("accept-encoding", "gzip"),
        ]);
        remove_hop_by_hop(&mut map);
        let mut left: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept-encoding", "authorization", "content-length"]);
    }

    #[test]
    fn our_headers_are_read_and_removed() {
        let mut map = headers(&[
            ("x-understudy-conversation", "c-1"),
            ("x-understudy-tag-team", "billing"),
            ("x-understudy-capture", "None"),
            ("x-understudy-unknown", "x"),
            ("user-agent", "a"),
        ]);
        let told = take_ours(&mut map);
        assert_eq!(told.conversation.as_deref(), Some("c-1"));
        assert_eq!(told.tags["team"], "billing");
        assert!(told.no_capture);
        assert_eq!(map.len(), 1);
    }

    #[test]
    fn only_whole_trace_ids_are_kept() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let good = headers(&[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]);
        assert_eq!(trace_id(&good).as_deref(), Some(id));
        assert_eq!(
            trace_id(&headers(&[("traceparent", "00-00000000000000000000000000000000-1-01")])),
            None
        );
        assert_eq!(trace_id(&headers(&[("traceparent", "nonsense")])), None);
    }
}
