//! Which headers travel: hop-by-hop ones end here, ours are read and removed, all others pass unchanged.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

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
const END_TO_END: [HeaderName; 10] = [
    header::AUTHORIZATION,
    header::COOKIE,
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("anthropic-version"),
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::HOST,
    HeaderName::from_static("x-api-key"),
];

/// Takes the headers of its hop out of a request, and says again what its client takes of trailers.
pub fn remove_hop_of_request(headers: &mut HeaderMap) {
    let takes_trailers = takes_trailers(headers);
    remove_hop_by_hop(headers);
    // The one thing in `te` that is not of this hop alone: we pass trailers on to a client that takes them.
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
}

/// Makes one of a request's `cookie` lines: HTTP/2 may cut what HTTP/1.1 has in one (RFC 9113, section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, cookie);
    }
}

/// Takes the headers of its hop out of an answer. What of its length is told to the client is what its body has: `length`,
/// where that is known.
pub fn remove_hop_of_answer(headers: &mut HeaderMap, length: Option<u64>) {
    // A coding overrides a length beside it (RFC 9112, section 6.3): the client would take the answer for another one.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
    // The same length twice, or as a list, is one.
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let is_list = lengths.next().is_some_and(|first| first.as_bytes().contains(&b','));
    if (is_list || lengths.next().is_some())
        && let Some(length) = length
    {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
}

/// Takes out the headers of this hop, those that `connection` names included.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
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

fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all(header::TE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(','));
    codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
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

/// The names of our headers.
fn ours(headers: &HeaderMap) -> Vec<HeaderName> {
    let names = headers.keys().filter(|name| name.as_str().starts_with(OURS));
    names.cloned().collect()
}

/// Takes our headers out of an answer: what an upstream says under their names is not our word.
pub fn remove_ours(headers: &mut HeaderMap) {
    for name in ours(headers) {
        headers.remove(name);
    }
}

/// Reads our headers and takes them out.
pub fn take_ours(headers: &mut HeaderMap) -> Told {
    let mut told = Told::default();
    for name in ours(headers) {
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

/// Headers by which known agents and their libraries name a conversation, the most exact first: Claude Code, Codex (which
/// has changed their spelling), OpenCode, and what gateways taught others to send.
const SESSION_HEADERS: [&str; 13] = [
    "x-claude-code-session-id",
    "thread-id",
    "thread_id",
    "conversation_id",
    "conversation-id",
    "x-conversation-id",
    "x-opencode-session",
    "session-id",
    "session_id",
    "x-session-id",
    "x-session-affinity",
    "helicone-session-id",
    "x-litellm-session-id",
];

/// The session that a known agent names.
pub fn known_session(headers: &HeaderMap) -> Option<&[u8]> {
    let rank = |name: &HeaderName| SESSION_HEADERS.iter().position(|known| name.as_str() == *known);
    headers
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, value)| Some((rank(name)?, value.as_bytes())))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, value)| value)
}

/// Headers that carry a client's credential.
const CREDENTIAL_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
/// Query parameters that do, at Google.
const CREDENTIAL_PARAMETERS: [&str; 2] = ["key", "access_token"];

/// The client's credentials, for its pseudonym only: all of them, since which one the upstream asks for is its affair.
/// Cookies count where there is nothing else.
pub fn credential<'a>(headers: &'a HeaderMap, path_and_query: &'a str) -> Option<Cow<'a, [u8]>> {
    let query = path_and_query.split_once('?').map_or("", |(_, query)| query);
    let in_query = query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (CREDENTIAL_PARAMETERS.contains(&name) && !value.is_empty()).then_some(value.as_bytes())
    });
    let given = CREDENTIAL_HEADERS
        .iter()
        .filter_map(|name| headers.get(*name))
        .map(|value| lasting(value.as_bytes()))
        .chain(in_query);
    let joined = given.fold(None, |all: Option<Cow<'a, [u8]>>, one| match all {
        None => Some(Cow::Borrowed(one)),
        Some(all) => Some(Cow::Owned([&all, b"\n".as_slice(), one].concat())),
    });
    joined.or_else(|| headers.get(header::COOKIE).map(|value| Cow::Borrowed(value.as_bytes())))
}

/// An AWS signature is another one for every request: what lasts of it is the access key's id.
fn lasting(credential: &[u8]) -> &[u8] {
    let id = credential.strip_prefix(b"AWS4-HMAC-SHA256 ").and_then(|fields| {
        let at = memchr::memmem::find(fields, b"Credential=")? + b"Credential=".len();
        fields[at..].split(|byte| *byte == b'/').next()
    });
    id.unwrap_or(credential)
}

/// Headers by which SDKs say for how many seconds they wait for an answer: OpenAI's and Anthropic's, Google's.
const TIMEOUT_HEADERS: [&str; 3] = ["x-stainless-timeout", "x-stainless-read-timeout", "x-server-timeout"];

/// How long the client waits for an answer, where it says so.
pub fn client_timeout(headers: &HeaderMap) -> Option<Duration> {
    TIMEOUT_HEADERS
        .iter()
        .filter_map(|name| headers.get(*name)?.to_str().ok()?.trim().parse().ok())
        .filter(|seconds| *seconds > 0.0)
        .filter_map(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .min()
}

/// Says who answered, as `expose_headers` asks.
pub fn expose_server(headers: &mut HeaderMap, upstream: &str) {
    if let Ok(name) = HeaderValue::from_str(upstream) {
        headers.insert("x-understudy-served-by", name);
    }
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
    fn that_trailers_are_taken_is_said_again_and_other_codings_are_not() {
        let mut map = headers(&[("connection", "te"), ("te", "deflate, Trailers;q=0.5")]);
        remove_hop_of_request(&mut map);
        assert_eq!(map.len(), 0, "a weight makes it another coding");
        let mut map = headers(&[("connection", "te"), ("te", "gzip, Trailers")]);
        remove_hop_of_request(&mut map);
        assert_eq!(
            (&map["te"], &map["connection"]),
            (&"trailers".parse().unwrap(), &"te".parse().unwrap())
        );
    }

    #[test]
    fn an_answer_has_one_length_and_none_beside_a_coding() {
        let left = |pairs: &[(&'static str, &'static str)]| {
            let mut map: HeaderMap = HeaderMap::new();
            for &(name, value) in pairs {
                map.append(HeaderName::from_static(name), value.parse().unwrap());
            }
            remove_hop_of_answer(&mut map, Some(5));
            map.iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect::<Vec<_>>()
        };
        let length = ("content-length", "5");
        assert_eq!(left(&[length]), ["content-length: 5"]);
        assert_eq!(left(&[length, length]), ["content-length: 5"]);
        assert_eq!(left(&[("content-length", "5, 5")]), ["content-length: 5"]);
        assert_eq!(left(&[("transfer-encoding", "chunked"), length]), [""; 0]);
        assert_eq!(left(&[("te", "trailers")]), [""; 0], "an answer takes no trailers");
    }

    #[test]
    fn cookies_that_were_cut_are_joined() {
        let mut map = headers(&[("cookie", "a=1")]);
        join_cookies(&mut map);
        assert_eq!(map["cookie"], "a=1");
        map.append(header::COOKIE, HeaderValue::from_static("b=2"));
        join_cookies(&mut map);
        assert_eq!(map.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
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
    fn what_an_upstream_says_under_our_names_is_taken_out() {
        let mut map = headers(&[("x-understudy-served-by", "me"), ("x-request-id", "1")]);
        map.append("x-understudy-served-by", "and me".parse().unwrap());
        remove_ours(&mut map);
        assert_eq!(map, headers(&[("x-request-id", "1")]));
    }

    #[test]
    fn a_client_is_all_its_credentials_and_the_lasting_part_of_a_signature() {
        let of = |pairs: &[(&'static str, &'static str)], path: &str| {
            credential(&headers(pairs), path).map(|bytes| String::from_utf8(bytes.into_owned()).unwrap())
        };
        assert_eq!(of(&[], "/v1/x?alt=sse"), None);
        assert_eq!(
            of(&[("authorization", "Bearer a"), ("cookie", "c")], "/").unwrap(),
            "Bearer a"
        );
        assert_eq!(of(&[("cookie", "c")], "/").unwrap(), "c");
        assert_eq!(of(&[("authorization", "a"), ("x-api-key", "b")], "/").unwrap(), "a\nb");
        assert_eq!(of(&[], "/v1beta/models/m:generateContent?alt=sse&key=k").unwrap(), "k");
        let signed = "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=0f";
        assert_eq!(of(&[("authorization", signed)], "/").unwrap(), "AKID");
    }

    #[test]
    fn sessions_of_known_agents_are_known() {
        assert_eq!(
            known_session(&headers(&[("session_id", ""), ("x-session-id", "s")])),
            Some(&b"s"[..])
        );
        assert_eq!(
            known_session(&headers(&[("session-id", "s"), ("thread-id", "t")])),
            Some(&b"t"[..])
        );
        assert_eq!(known_session(&headers(&[("user-agent", "a")])), None);
    }

    #[test]
    fn the_shortest_time_that_a_client_says_it_waits_counts() {
        let of = |pairs: &[(&'static str, &'static str)]| client_timeout(&headers(pairs));
        assert_eq!(of(&[("user-agent", "a")]), None);
        assert_eq!(
            of(&[("x-stainless-timeout", "600"), ("x-stainless-read-timeout", "2.5")]),
            Some(Duration::from_millis(2500))
        );
        assert_eq!(of(&[("x-server-timeout", "NaN")]), None);
        assert_eq!(of(&[("x-server-timeout", "0")]), None);
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
