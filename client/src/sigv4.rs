//! AWS Signature Version 4, for upstreams that take nothing else: a proxy changes the host, and the host is signed.
//!
//! After AWS's documentation, "Create a signed AWS API request". Signs `host`, `content-type` and all `x-amz-*` headers.
//! Pure: the time is handed in.

use crate::secret::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use percent_encoding::percent_decode_str;
use ring::{digest, hmac};
use std::fmt::Write;
use understudy_call::keys::hex;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// Who signs.
#[derive(Clone, Debug)]
pub struct AwsCredentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: Secret,
    /// Of temporary credentials.
    pub session_token: Option<Secret>,
}

/// How an upstream's calls are signed.
#[derive(Clone, Debug)]
pub struct Signing {
    /// AWS region, e.g. `us-east-1`.
    pub region: String,
    /// AWS service by its signing name, e.g. `bedrock`.
    pub service: String,
    /// Who signs; an upstream without can't be opened.
    pub credentials: Option<AwsCredentials>,
}

impl Signing {
    /// Region and signing name of the service that an AWS host name tells, as in
    /// `bedrock-runtime.us-east-1.amazonaws.com`.
    pub fn of_host(host: &str) -> Option<(String, String)> {
        let labels: Vec<&str> = host.split('.').collect();
        let place = labels.iter().position(|label| is_region(label))?;
        let service = labels[..place].last()?;
        // All of Bedrock's endpoints are signed for one service.
        let service = if service.starts_with("bedrock") {
            "bedrock"
        } else {
            service.trim_end_matches("-fips")
        };
        Some((labels[place].to_owned(), service.to_owned()))
    }

    /// Signs a request at `now`: takes out what its client signed with, and puts a signature of its own in. The `host`
    /// header must be there. Nothing happens without credentials.
    pub fn sign(&self, method: &Method, uri: &Uri, headers: &mut HeaderMap, body: &[u8], now: jiff::Timestamp) {
        let Some(credentials) = &self.credentials else { return };
        for name in [header::AUTHORIZATION, DATE, TOKEN, CONTENT_SHA256] {
            headers.remove(name);
        }
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        insert(headers, DATE, &time);
        if let Some(token) = &credentials.session_token {
            insert(headers, TOKEN, token.expose());
        }
        let (signed, canonical_headers) = canonical_headers(headers);
        let canonical = format!(
            "{method}\n{}\n{}\n{canonical_headers}\n{signed}\n{}",
            canonical_path(uri.path()),
            canonical_query(uri.query().unwrap_or_default()),
            sha256(body),
        );
        let date = &time[..8];
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let key = format!("AWS4{}", credentials.secret_access_key.expose());
        let key = [date, &self.region, &self.service, "aws4_request"]
            .iter()
            .fold(key.into_bytes(), |key, part| hmac(&key, part.as_bytes()));
        let signature = hex(&hmac(&key, to_sign.as_bytes()));
        let id = &credentials.access_key_id;
        let authorization =
            format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}");
        insert(headers, header::AUTHORIZATION, &authorization);
    }
}

/// `us-east-1`, `ap-southeast-2`, `us-gov-west-1`.
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (3..=4).contains(&parts.len()) && parts[0].len() == 2 && parts.last().is_some_and(is_number)
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(mut value) = HeaderValue::from_str(value) {
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hmac(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes)
        .as_ref()
        .to_vec()
}

/// The names of the headers that are signed, and their lines.
fn canonical_headers(headers: &HeaderMap) -> (String, String) {
    let is_signed = |name: &&HeaderName| {
        **name == header::HOST || **name == header::CONTENT_TYPE || name.as_str().starts_with("x-amz-")
    };
    let mut names: Vec<&HeaderName> = headers.keys().filter(is_signed).collect();
    names.sort_unstable_by_key(|name| name.as_str());
    let mut lines = String::new();
    for name in &names {
        let values = headers.get_all(*name).iter().map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
        });
        let _ = writeln!(lines, "{name}:{}", values.collect::<Vec<_>>().join(","));
    }
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    (names.join(";"), lines)
}

/// The path without empty and dot segments, each escaped once more than it travels.
fn canonical_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut canonical = String::new();
    for segment in &segments {
        canonical.push('/');
        escape(segment.as_bytes(), &mut canonical);
    }
    if canonical.is_empty() || path.ends_with('/') {
        canonical.push('/');
    }
    canonical
}

/// The query's parameters, escaped alike and sorted.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let again = |text: &str| {
                let mut escaped = String::new();
                escape(&percent_decode_str(text).collect::<Vec<u8>>(), &mut escaped);
                escaped
            };
            (again(name), again(value))
        })
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn escape(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests;
