//! Requests that are no calls: refused before anything is counted, sent or kept.
//!
//! hyper has refused what it can't parse. What it takes and an upstream could read otherwise is refused here.

use crate::line::Upload;
use crate::proxy::Proxy;
use crate::refusal;
use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body;
use understudy_call::call::Api;

/// The answer to a request that is no call to an upstream, or past a limit.
pub(crate) fn refuse(proxy: &Proxy, request: &Request<Upload>) -> Option<Response<Bytes>> {
    let limits = &proxy.limits;
    let is_http1 = request.version() <= Version::HTTP_11;
    let uri = request.uri();
    let (reason, status, message) = if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        ("method", StatusCode::METHOD_NOT_ALLOWED, "this method is not proxied")
    } else if is_http1 && !has_one_good_host(request.version(), request.headers()) {
        ("framing", StatusCode::BAD_REQUEST, "exactly one valid host header is needed")
    } else if is_http1 && !is_plainly_chunked(request.headers()) {
        ("framing", StatusCode::NOT_IMPLEMENTED, "the only transfer coding is one `chunked`")
    } else if is_only_a_host(uri) {
        ("framing", StatusCode::BAD_REQUEST, "the request's target is no path")
    } else if uri.path_and_query().is_some_and(|path| path.as_str().len() > limits.uri) {
        ("limits", StatusCode::URI_TOO_LONG, "the URI is longer than limits.uri")
    } else if limits.max_body.is_some_and(|limit| request.body().size_hint().lower() > limit) {
        ("limits", StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than limits.max_body")
    } else {
        return None;
    };
    proxy.metrics.rejected.with_label_values(&[reason]).inc();
    let mut response = refusal::policy(Api::Other, status, message);
    // The body was not read: what follows it on this connection must not be taken for a request.
    refusal::close(response.headers_mut());
    Some(response)
}

/// One that names a host and a port and nothing else; HTTP/1.0 may do without.
fn has_one_good_host(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, None) => version < Version::HTTP_11,
        (Some(host), None) => is_host(host),
        _ => false,
    }
}

fn is_host(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    !bytes.contains(&b'@') && Authority::try_from(bytes).is_ok_and(|authority| !authority.host().is_empty())
}

/// hyper takes any list that ends in `chunked` for it, and hides what came before from the upstream.
fn is_plainly_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    }
}

/// `GET word`: hyper reads it as a host, and would have us ask for `/`.
fn is_only_a_host(uri: &Uri) -> bool {
    uri.scheme().is_none() && uri.authority().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let name = http::HeaderName::from_static(name);
        values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn one_valid_host_is_needed_and_none_in_http_1_0() {
        let good = |values: &[&'static str]| has_one_good_host(Version::HTTP_11, &headers("host", values));
        for host in ["h", "api.openai.com:443", "127.0.0.1:1", "[::1]:8080", "under_score"] {
            assert!(good(&[host]), "{host}");
        }
        for hosts in [&["a", "b"][..], &[""], &["a b"], &["a/b"], &["user@a"], &["a:b:c"], &["a,b c"]] {
            assert!(!good(hosts), "{hosts:?}");
        }
        assert!(!good(&[]) && has_one_good_host(Version::HTTP_10, &HeaderMap::new()));
    }

    #[test]
    fn chunked_stands_alone() {
        let plain = |values: &[&'static str]| is_plainly_chunked(&headers("transfer-encoding", values));
        assert!(plain(&[]) && plain(&["chunked"]) && plain(&["CHUNKED"]));
        for codings in [&["identity, chunked"][..], &["gzip, chunked"], &["chunked, chunked"], &["chunked", "chunked"]] {
            assert!(!plain(codings), "{codings:?}");
        }
    }
}
