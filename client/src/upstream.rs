//! One configured upstream: where it is, what it speaks, and a pool of connections to it.

use crate::body::RequestBody;
use crate::connect::{Connect, UnknownProxy};
use crate::error::{SendError, SendErrorKind};
use crate::resolve::{Guarded, is_refused_url};
use crate::secret::Secret;
use crate::sigv4::Signing;
use crate::socket::Kept;
use crate::tls::{self, TlsError};
use crate::upload::watched;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::path::PathBuf;
use std::time::Duration;
use thread_local::ThreadLocal;
use understudy_call::call::Api;
use understudy_call::translate;
use url::Url;

/// Connects to upstreams, and to nothing that none may be.
type Connector = HttpsConnector<Connect>;

/// What a self-hosted upstream costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelfHosted {
    /// US dollars for one hour of the machine that serves it.
    pub gpu_hour: f64,
}

/// An upstream as config gives it.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// Its name in config, records and metrics.
    pub name: String,
    /// Base URL, http or https; a call's path is appended to its path.
    pub url: Url,
    /// What it speaks, where it is a candidate.
    pub api: Option<Api>,
    /// The model to ask for, where it is a candidate.
    pub model: Option<String>,
    /// Whether streamed calls are made to tell their usage (`stream_options.include_usage`).
    pub ask_usage: bool,
    /// Credential for calls that we originate and for canaried arms.
    pub key: Option<Secret>,
    /// Signs its calls anew, where it is AWS's.
    pub sign: Option<Signing>,
    /// PEM certificates to trust besides the web PKI.
    pub ca_file: Option<PathBuf>,
    /// Whether unmasked text may go there.
    pub trusted: bool,
    /// Whether it may be at a link-local or metadata address.
    pub allow_link_local: bool,
    /// Whether its answers are held to a form (`response_format`) when it is rehearsed.
    pub constrain: bool,
    /// The most calls of ours in flight at once.
    pub max_in_flight: Option<usize>,
    /// Price of a self-hosted upstream.
    pub price: Option<SelfHosted>,
}

impl UpstreamConfig {
    /// An upstream of this name and URL, and nothing else.
    pub fn new(name: impl Into<String>, url: Url) -> UpstreamConfig {
        let name = name.into();
        UpstreamConfig {
            name,
            url,
            api: None,
            model: None,
            ask_usage: false,
            key: None,
            sign: None,
            ca_file: None,
            trusted: false,
            allow_link_local: false,
            constrain: false,
            max_in_flight: None,
            price: None,
        }
    }
}

/// Deadlines towards an upstream.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// From the request sent to the response's head.
    pub first_byte: Duration,
    /// Between two pieces of a response.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let ten_minutes = Duration::from_secs(600);
        Timeouts {
            connect: Duration::from_secs(5),
            first_byte: ten_minutes,
            idle: ten_minutes,
        }
    }
}

/// Why an upstream can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not an http or https URL with a host.
    #[error("upstream {name}: `{url}` is not an http:// or https:// URL with a host")]
    Url {
        /// The upstream.
        name: String,
        /// The URL given.
        url: String,
    },
    /// User or password in the URL.
    #[error("upstream {0}: its URL holds a user or password; give the key by `key_env`")]
    Credentials(String),
    /// Link-local, or a cloud's metadata service.
    #[error(
        "upstream {0}: its address is link-local or a cloud's metadata service; if it is really meant, say `allow_link_local: true`"
    )]
    LinkLocal(String),
    /// Calls are to be signed, and there is nothing to sign them with.
    #[error("upstream {0}: `sign: aws` needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment")]
    NoCredentials(String),
    /// The environment names a forward proxy of a kind that is not spoken.
    #[error(
        "upstream {name}: HTTPS_PROXY names a `{scheme}://` proxy: only `http://` ones are spoken (NO_PROXY exempts upstreams)"
    )]
    Proxy {
        /// The upstream.
        name: String,
        /// What the proxy's URL begins with.
        scheme: String,
    },
    /// TLS can't be set up.
    #[error("upstream {name}: {source}")]
    Tls {
        /// The upstream.
        name: String,
        /// What failed.
        source: TlsError,
    },
}

/// Connections to an upstream, kept apart for each thread that calls it: one is used where it was made, so that no call
/// wakes another thread.
struct Pools {
    connector: Connector,
    of_threads: ThreadLocal<Client<Connector, RequestBody>>,
}

impl Pools {
    fn new(connector: Connector) -> Pools {
        Pools {
            connector,
            of_threads: ThreadLocal::new(),
        }
    }

    /// The pool of this thread.
    fn here(&self) -> &Client<Connector, RequestBody> {
        self.of_threads.get_or(|| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(90))
                .pool_max_idle_per_host(4096)
                // The longest head of a response, and what a stream that its client does not read may hold.
                .http1_max_buf_size(128 * 1024)
                .http1_max_headers(1000)
                // The host header is ours to set: a client's must not choose a virtual host.
                .set_host(false)
                .build(self.connector.clone())
        })
    }
}

/// An upstream that can be called; cheap to share behind an `Arc`.
pub struct Upstream {
    /// As configured.
    pub config: UpstreamConfig,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    base_path: String,
    pools: Pools,
    /// Speaks HTTP/1.1 alone, whatever the upstream offers: only that can be upgraded.
    upgrades: Pools,
    timeouts: Timeouts,
}

impl Upstream {
    /// Sets up the pool; connects only when the first call comes.
    ///
    /// # Errors
    /// Where the URL or `ca_file` can't be used.
    pub fn open(config: UpstreamConfig, timeouts: Timeouts) -> Result<Upstream, OpenError> {
        let bad_url = || OpenError::Url {
            name: config.name.clone(),
            url: config.url.to_string(),
        };
        let scheme = match config.url.scheme() {
            "http" => Scheme::HTTP,
            "https" => Scheme::HTTPS,
            _ => return Err(bad_url()),
        };
        if !config.url.username().is_empty() || config.url.password().is_some() {
            return Err(OpenError::Credentials(config.name.clone()));
        }
        // An address needs no resolving: the connector's resolver never sees it.
        if !config.allow_link_local && is_refused_url(&config.url) {
            return Err(OpenError::LinkLocal(config.name.clone()));
        }
        if config
            .sign
            .as_ref()
            .is_some_and(|signing| signing.credentials.is_none())
        {
            return Err(OpenError::NoCredentials(config.name.clone()));
        }
        let host = config
            .url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(bad_url)?;
        let authority = match config.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let host_header = HeaderValue::from_str(&authority).map_err(|_| bad_url())?;
        let authority = Authority::try_from(authority.as_str()).map_err(|_| bad_url())?;
        let tls = tls::client_config(config.ca_file.as_deref()).map_err(|source| OpenError::Tls {
            name: config.name.clone(),
            source,
        })?;
        let mut tcp = HttpConnector::new_with_resolver(Guarded::new(config.allow_link_local));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(timeouts.connect));
        let base = Uri::builder()
            .scheme(scheme.clone())
            .authority(authority.clone())
            .path_and_query("/");
        let base = base.build().map_err(|_| bad_url())?;
        let connect = Connect::new(&base, tcp, timeouts.connect, &Matcher::from_env());
        let connect = connect.map_err(|UnknownProxy(scheme)| OpenError::Proxy {
            name: config.name.clone(),
            scheme,
        })?;
        let connector = || {
            hyper_rustls::HttpsConnectorBuilder::new()
                .with_tls_config(tls.clone())
                .https_or_http()
                .enable_http1()
        };
        let upgrades = Pools::new(connector().wrap_connector(connect.clone()));
        let pools = Pools::new(connector().enable_http2().wrap_connector(connect));
        let base_path = config.url.path().trim_end_matches('/').to_owned();
        Ok(Upstream {
            config,
            scheme,
            authority,
            host: host_header,
            base_path,
            pools,
            upgrades,
            timeouts,
        })
    }

    /// The upstream's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The URI of a call: `path_and_query` (begins with `/`, kept byte for byte) after the base URL's path.
    ///
    /// # Errors
    /// Where the two together are no URI.
    pub fn uri(&self, path_and_query: &str) -> Result<Uri, http::Error> {
        let path = if self.base_path.is_empty() {
            PathAndQuery::try_from(path_and_query)?
        } else {
            PathAndQuery::try_from(format!("{}{path_and_query}", self.base_path))?
        };
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
    }

    /// Sends a request whose URI came from [`Upstream::uri`], and waits for the response's head for `first_byte` at
    /// most after the last piece of the request. The `host` header is set here. Dropping the future, or the response, cancels the call upstream.
    ///
    /// # Errors
    /// Where no head came, with its kind.
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, SendError> {
        self.send_by(self.pools.here(), request).await
    }

    /// As [`Upstream::send`], for a request that asks to change the protocol of its connection.
    ///
    /// # Errors
    /// As there.
    pub async fn upgrade(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, SendError> {
        self.send_by(self.upgrades.here(), request).await
    }

    async fn send_by(
        &self,
        client: &Client<Connector, RequestBody>,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        request.headers_mut().insert(header::HOST, self.host.clone());
        let (request, uploaded) = watched(request);
        let mut response = std::pin::pin!(client.request(request));
        loop {
            let deadline = uploaded.last() + self.timeouts.first_byte;
            match tokio::time::timeout_at(deadline.into(), response.as_mut()).await {
                Ok(Ok(response)) => {
                    if let Some(kept) = response.extensions().get::<Kept>() {
                        kept.note();
                    }
                    return Ok(response);
                }
                Ok(Err(error)) => return Err(SendError::of_legacy(&error)),
                // An upload that goes on is no silence of the upstream's.
                Err(_) if uploaded.last() + self.timeouts.first_byte > deadline => {}
                Err(_) => {
                    let text = format!(
                        "no response within {:?} (timeouts.first_byte)",
                        self.timeouts.first_byte
                    );
                    return Err(SendError::new(SendErrorKind::Timeout, text));
                }
            }
        }
    }

    /// The longest wait between two pieces of a response.
    pub fn idle_timeout(&self) -> Duration {
        self.timeouts.idle
    }

    /// Whether a call with these headers is to be signed before it is sent: where config says so, and its client brings no
    /// bearer token.
    pub fn signs(&self, headers: &HeaderMap) -> bool {
        let has_bearer = headers.get(header::AUTHORIZATION).is_some_and(|value| {
            let scheme = value.as_bytes().split(|byte| *byte == b' ').next();
            scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
        });
        self.config.sign.is_some() && !has_bearer
    }

    /// Signs a request whose URI came from [`Upstream::uri`] in place of its client's signature.
    pub fn sign(&self, method: &Method, uri: &Uri, headers: &mut HeaderMap, body: &[u8]) {
        if let Some(signing) = &self.config.sign {
            headers.insert(header::HOST, self.host.clone());
            signing.sign(method, uri, headers, body, jiff::Timestamp::now());
        }
    }

    /// The headers that carry this upstream's own credential, for calls that we originate.
    pub fn credential_headers(&self) -> Vec<(http::HeaderName, HeaderValue)> {
        self.credential_headers_in(self.config.api)
    }

    /// The same as an API takes them.
    pub(crate) fn credential_headers_in(&self, api: Option<Api>) -> Vec<(http::HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        let anthropic = api == Some(Api::AnthropicMessages);
        if anthropic {
            headers.push((
                http::HeaderName::from_static("anthropic-version"),
                HeaderValue::from_static("2023-06-01"),
            ));
        }
        let Some(key) = &self.config.key else { return headers };
        let (name, text) = match api {
            Some(Api::AnthropicMessages) => (http::HeaderName::from_static("x-api-key"), key.expose().to_owned()),
            Some(Api::Gemini) => (http::HeaderName::from_static("x-goog-api-key"), key.expose().to_owned()),
            _ => (header::AUTHORIZATION, format!("Bearer {}", key.expose())),
        };
        if let Ok(mut value) = HeaderValue::from_str(&text) {
            value.set_sensitive(true);
            headers.push((name, value));
        }
        headers
    }

    /// Where a translated call goes, below the base URL, which may already end in a version (or, as Vertex', in the
    /// publisher); none where the API has no such path.
    pub fn path_of(&self, api: Api, model: &str, stream: bool) -> Option<String> {
        let path = translate::path(api, model, stream)?;
        let (version, ends) = match api {
            Api::Gemini => ("/v1beta", &["/v1beta", "/v1beta1", "/v1", "/publishers/google"][..]),
            Api::CohereChat => ("/v2", &["/v2"][..]),
            _ => ("/v1", &["/v1"][..]),
        };
        let after = path.strip_prefix(version);
        let is_in_base = ends.iter().any(|end| self.base_path.ends_with(end));
        Some(after.filter(|_| is_in_base).map_or(path.clone(), Into::into))
    }

    /// The path of this API's call below the base URL, which may already end in `/v1`.
    pub fn call_path(&self, api: Api) -> Option<&'static str> {
        let (whole, after_v1) = match api {
            Api::OpenaiChat => ("/v1/chat/completions", "/chat/completions"),
            Api::AnthropicMessages => ("/v1/messages", "/messages"),
            _ => return None,
        };
        Some(if self.base_path.ends_with("/v1") {
            after_v1
        } else {
            whole
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str) -> Result<Upstream, OpenError> {
        Upstream::open(UpstreamConfig::new("u", Url::parse(url).unwrap()), Timeouts::default())
    }

    #[test]
    fn paths_are_appended_byte_for_byte() {
        let upstream = open("https://host:8443/base/").unwrap();
        let uri = upstream.uri("//v1/%2e%2e/x?q=%20").unwrap();
        assert_eq!(uri.to_string(), "https://host:8443/base//v1/%2e%2e/x?q=%20");
        assert_eq!(
            open("http://h").unwrap().uri("/v1/x").unwrap().to_string(),
            "http://h/v1/x"
        );
    }

    #[test]
    fn originated_calls_do_not_double_v1() {
        assert_eq!(
            open("http://h/v1").unwrap().call_path(Api::OpenaiChat),
            Some("/chat/completions")
        );
        assert_eq!(
            open("http://h").unwrap().call_path(Api::OpenaiChat),
            Some("/v1/chat/completions")
        );
    }

    #[test]
    fn translated_calls_go_where_their_api_has_them() {
        let path = |url: &str, api: Api| open(url).unwrap().path_of(api, "a b/../c", true).unwrap();
        assert_eq!(path("http://h", Api::AnthropicMessages), "/v1/messages");
        assert_eq!(path("http://h/v1", Api::OpenaiResponses), "/responses");
        assert_eq!(path("http://h/x", Api::Ollama), "/api/chat");
        for (url, begin) in [
            ("http://h", "/v1beta"),
            ("http://h/v1beta", ""),
            ("http://h/v1/publishers/google", ""),
        ] {
            let expected = format!("{begin}/models/a%20b%2F..%2Fc:streamGenerateContent?alt=sse");
            assert_eq!(path(url, Api::Gemini), expected);
        }
        assert_eq!(path("http://h/v2", Api::CohereChat), "/chat");
        assert_eq!(
            path("http://h", Api::BedrockConverse),
            "/model/a%20b%2F..%2Fc/converse-stream"
        );
        assert_eq!(open("http://h").unwrap().path_of(Api::BedrockInvoke, "m", true), None);
    }

    #[test]
    fn an_address_of_a_metadata_service_is_refused_however_it_is_written() {
        for url in [
            "http://169.254.169.254",
            "http://2852039166/",
            "http://0xa9fea9fe",
            "http://[fe80::1]",
            "http://[::ffff:a9fe:a9fe]",
        ] {
            assert!(matches!(open(url), Err(OpenError::LinkLocal(_))), "{url}");
        }
        let mut config = UpstreamConfig::new("u", Url::parse("http://169.254.1.1").unwrap());
        config.allow_link_local = true;
        assert!(Upstream::open(config, Timeouts::default()).is_ok());
    }

    #[test]
    fn only_http_without_credentials() {
        assert!(matches!(open("ftp://h"), Err(OpenError::Url { .. })));
        assert!(matches!(open("http://user:pass@h"), Err(OpenError::Credentials(_))));
    }
}
