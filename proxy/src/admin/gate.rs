//! Who may pass the admin door: the right host, the right page, the right token, the right role.
//!
//! Without tokens (on loopback alone) the Host header keeps out pages that rebind a name, and Origin those of other
//! sites; with tokens nobody passes without one. Tokens are kept and compared as MACs, in constant time.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, StatusCode, header};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use understudy_call::keys::hex;
use understudy_client::Secret;

/// The header that a change carries; its value comes from `GET /session`.
pub const CSRF_HEADER: &str = "x-understudy-csrf";

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Look and change.
    Operator,
}

impl Role {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
        }
    }
}

/// A token and what it allows.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// What whoever has it may do.
    pub role: Role,
    /// The token.
    pub token: Secret,
}

/// Why somebody may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) status: StatusCode,
    pub(super) words: &'static str,
}

/// Decides who passes.
pub struct Gate {
    key: hmac::Key,
    tokens: Vec<(Role, hmac::Tag)>,
    csrf: String,
}

impl Gate {
    /// A gate with these tokens; `None` where the system gives no random bytes.
    pub fn new(tokens: &[AdminToken]) -> Option<Gate> {
        let mut random = [0; 64];
        SystemRandom::new().fill(&mut random).ok()?;
        let (key, csrf) = random.split_at(32);
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let tag = |token: &AdminToken| (token.role, hmac::sign(&key, token.token.expose().as_bytes()));
        Some(Gate {
            tokens: tokens.iter().map(tag).collect(),
            csrf: hex(csrf),
            key,
        })
    }

    /// What a change must carry.
    pub(super) fn csrf(&self) -> &str {
        &self.csrf
    }

    /// The role of whoever sends this.
    pub(super) fn pass(&self, method: &Method, headers: &HeaderMap) -> Result<Role, Stopped> {
        let stop = |status, words| Err(Stopped { status, words });
        let host = one(headers, header::HOST.as_str()).unwrap_or_default();
        if self.tokens.is_empty() && !is_loopback_name(host) {
            return stop(
                StatusCode::MISDIRECTED_REQUEST,
                "the admin port is asked by another name than a loopback one\n",
            );
        }
        let is_own = |origin: &str| {
            let authority = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"));
            authority == Some(host)
        };
        let from_elsewhere = headers
            .get_all(header::ORIGIN)
            .iter()
            .any(|origin| !origin.to_str().is_ok_and(is_own));
        let site = one(headers, "sec-fetch-site");
        if from_elsewhere || site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return stop(StatusCode::FORBIDDEN, "this comes from a page of another site\n");
        }
        let Some(role) = self.role(headers) else {
            return stop(
                StatusCode::UNAUTHORIZED,
                "send a token: `authorization: Bearer …`, or as the password of any name\n",
            );
        };
        if matches!(*method, Method::GET | Method::HEAD) {
            return Ok(role);
        }
        if role < Role::Operator {
            return stop(StatusCode::FORBIDDEN, "a viewer looks, and changes nothing\n");
        }
        let csrf = one(headers, CSRF_HEADER).unwrap_or_default();
        let expected = hmac::sign(&self.key, self.csrf.as_bytes());
        if hmac::verify(&self.key, csrf.as_bytes(), expected.as_ref()).is_err() {
            return stop(
                StatusCode::FORBIDDEN,
                "a change carries the header x-understudy-csrf, whose value GET /session says\n",
            );
        }
        Ok(role)
    }

    fn role(&self, headers: &HeaderMap) -> Option<Role> {
        if self.tokens.is_empty() {
            return Some(Role::Operator);
        }
        let token = token(one(headers, header::AUTHORIZATION.as_str())?)?;
        // All are compared, whichever fits.
        let fits = |tag: &hmac::Tag| hmac::verify(&self.key, token.as_bytes(), tag.as_ref()).is_ok();
        let roles = self.tokens.iter().filter(|(_, tag)| fits(tag)).map(|(role, _)| *role);
        roles.max()
    }
}

/// The token of `Bearer <token>`, or of `Basic <base64 of name:token>`, which is all that a browser can be made to send.
fn token(authorization: &str) -> Option<String> {
    let (scheme, rest) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    let pair = scheme
        .eq_ignore_ascii_case("basic")
        .then(|| STANDARD.decode(rest.trim()).ok())??;
    let (_, token) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some(token.to_owned())
}

/// The one value of a header; nothing where there are several.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok()).flatten()
}

/// `localhost`, `127.0.0.1` or `[::1]`, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn status(gate: &Gate, method: Method, pairs: &[(&'static str, &str)]) -> Result<Role, u16> {
        gate.pass(&method, &headers(pairs))
            .map_err(|stopped| stopped.status.as_u16())
    }

    #[test]
    fn on_loopback_only_loopback_names_and_own_pages_pass() {
        let gate = Gate::new(&[]).unwrap();
        for host in [
            "127.0.0.1:4001",
            "localhost",
            "LOCALHOST:4001",
            "[::1]:4001",
            "127.0.0.2",
        ] {
            assert_eq!(
                status(&gate, Method::GET, &[("host", host)]),
                Ok(Role::Operator),
                "{host}"
            );
        }
        for host in [
            "rebound.example:4001",
            "127.0.0.1.example",
            "10.0.0.1",
            "",
            "localhost.example",
        ] {
            assert_eq!(status(&gate, Method::GET, &[("host", host)]), Err(421), "{host}");
        }
        let two = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(status(&gate, Method::GET, &two), Err(421));
        for (origin, expected) in [
            ("http://localhost:4001", Ok(Role::Operator)),
            ("http://localhost:4002", Err(403)),
            ("https://evil.example", Err(403)),
            ("null", Err(403)),
        ] {
            let pairs = [("host", "localhost:4001"), ("origin", origin)];
            assert_eq!(status(&gate, Method::GET, &pairs), expected, "{origin}");
        }
        let cross = [("host", "localhost"), ("sec-fetch-site", "cross-site")];
        assert_eq!(status(&gate, Method::GET, &cross), Err(403));
    }

    #[test]
    fn a_change_takes_an_operator_and_the_csrf_token() {
        let tokens = [(Role::Viewer, "look-look-look"), (Role::Operator, "move-move-move")];
        let tokens = tokens.map(|(role, token)| AdminToken {
            role,
            token: Secret::new(token),
        });
        let gate = Gate::new(&tokens).unwrap();
        let csrf = gate.csrf().to_owned();
        let with = |method: Method, token: &str, csrf: &str| {
            let token = format!("Bearer {token}");
            status(
                &gate,
                method,
                &[
                    ("host", "admin.example"),
                    ("authorization", &token),
                    (CSRF_HEADER, csrf),
                ],
            )
        };
        assert_eq!(status(&gate, Method::GET, &[("host", "admin.example")]), Err(401));
        assert_eq!(with(Method::GET, "wrong", ""), Err(401));
        assert_eq!(with(Method::GET, "look-look-look", ""), Ok(Role::Viewer));
        let browser = |token: &str| {
            let pair = format!("Basic {}", STANDARD.encode(format!("anybody:{token}")));
            status(
                &gate,
                Method::GET,
                &[("host", "admin.example"), ("authorization", &pair)],
            )
        };
        assert_eq!(browser("move-move-move"), Ok(Role::Operator));
        assert_eq!(browser("wrong"), Err(401));
        assert_eq!(with(Method::POST, "look-look-look", &csrf), Err(403));
        assert_eq!(with(Method::POST, "move-move-move", ""), Err(403));
        assert_eq!(with(Method::POST, "move-move-move", &csrf), Ok(Role::Operator));
        assert_ne!(csrf, Gate::new(&tokens).unwrap().csrf());
    }
}
