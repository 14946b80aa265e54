//! Connections to an upstream: straight to it, or through the forward proxy that the environment names for it.
//!
//! `HTTPS_PROXY` (or `ALL_PROXY`) and `NO_PROXY` are read as curl reads them, once, when the upstream is opened; plain
//! `http` upstreams are always connected to directly.

use crate::resolve::Guarded;
use crate::socket::UpstreamSocket;
use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::body::BoxError;

/// Connects to one upstream.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    tcp: HttpConnector<Guarded>,
    tunnel: Option<Tunnel<HttpConnector<Guarded>>>,
    /// For the proxy's answer, once connected to.
    patience: Duration,
}

/// A forward proxy that can't be used: one of another kind than `http://`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownProxy(pub(crate) String);

impl Connect {
    /// Connects to the upstream at `base`; `tcp` is bounded by the deadline `connect`, and so is a proxy's answer.
    pub(crate) fn new(
        base: &Uri,
        tcp: HttpConnector<Guarded>,
        connect: Duration,
        proxies: &Matcher,
    ) -> Result<Connect, UnknownProxy> {
        let is_https = base.scheme() == Some(&Scheme::HTTPS);
        let tunnel = match proxies.intercept(base).filter(|_| is_https) {
            None => None,
            Some(proxy) if proxy.uri().scheme() == Some(&Scheme::HTTP) => {
                // Where the proxy is, is the operator's to say: it may be at an address that no upstream has.
                let mut to_proxy = HttpConnector::new_with_resolver(Guarded::new(true));
                to_proxy.set_nodelay(true);
                to_proxy.set_connect_timeout(Some(connect));
                let tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
                Some(match proxy.basic_auth() {
                    Some(auth) => tunnel.with_auth(auth.clone()),
                    None => tunnel,
                })
            }
            Some(proxy) => {
                let scheme = proxy.uri().scheme_str().unwrap_or_default();
                return Err(UnknownProxy(scheme.to_owned()));
            }
        };
        Ok(Connect {
            tcp,
            tunnel,
            patience: connect,
        })
    }
}

impl Service<Uri> for Connect {
    type Response = TokioIo<UpstreamSocket<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.tunnel {
            Some(tunnel) => tunnel.poll_ready(context).map_err(Into::into),
            None => self.tcp.poll_ready(context).map_err(Into::into),
        }
    }

    fn call(&mut self, upstream: Uri) -> Self::Future {
        let Some(tunnel) = &mut self.tunnel else {
            let connecting = self.tcp.call(upstream);
            return Box::pin(async { Ok(socket(connecting.await?)) });
        };
        let (connecting, patience) = (tunnel.call(upstream), self.patience * 2);
        Box::pin(async move {
            match tokio::time::timeout(patience, connecting).await {
                Ok(Ok(tunnel)) => Ok(socket(tunnel)),
                Ok(Err(error)) => Err(format!("through the proxy of HTTPS_PROXY: {error}").into()),
                Err(_) => Err("the proxy of HTTPS_PROXY does not answer (timeouts.connect)".into()),
            }
        })
    }
}

fn socket(connected: TokioIo<TcpStream>) -> TokioIo<UpstreamSocket<TcpStream>> {
    TokioIo::new(UpstreamSocket::new(connected.into_inner()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_upstreams_go_through_the_proxy_that_the_environment_names() {
        let connect = |base: &'static str, proxies: &Matcher| {
            let tcp = HttpConnector::new_with_resolver(Guarded::new(false));
            Connect::new(&Uri::from_static(base), tcp, Duration::from_secs(5), proxies)
                .map(|connect| connect.tunnel.is_some())
        };
        let proxies = Matcher::builder()
            .https("http://user:pass@proxy.example:3128")
            .no("internal.example,10.0.0.0/8")
            .build();
        assert_eq!(connect("https://api.openai.com", &proxies), Ok(true));
        assert_eq!(connect("https://llm.internal.example", &proxies), Ok(false));
        assert_eq!(connect("https://10.1.2.3:8443", &proxies), Ok(false));
        assert_eq!(
            connect("http://api.openai.com", &proxies),
            Ok(false),
            "plain ones never do"
        );
        assert_eq!(
            connect("https://api.openai.com", &Matcher::builder().build()),
            Ok(false)
        );
        let socks = Matcher::builder().all("socks5://proxy.example:1080").build();
        assert_eq!(
            connect("https://api.openai.com", &socks),
            Err(UnknownProxy("socks5".into()))
        );
    }
}
