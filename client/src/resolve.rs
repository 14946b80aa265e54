//! Names to addresses, without those that no upstream has: link-local ones, where clouds serve a machine's credentials.
//!
//! Looks at what a name resolves to at the moment of connecting, and only that is connected to: a name that changes its
//! address between check and use gains nothing.

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use tower_service::Service;
use url::{Host, Url};

/// Metadata services that are not at a link-local address: Azure's, Alibaba's, Oracle's.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// Amazon's.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// The prefix under which IPv4 addresses are reached through NAT64.
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// Whether an upstream may not be there unless config allows it.
pub(crate) fn is_refused(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || METADATA_V4.contains(&v4),
        IpAddr::V6(v6) => {
            let embedded = v6.to_ipv4_mapped().or_else(|| through_nat64(v6));
            v6.is_unicast_link_local() || v6 == METADATA_V6 || embedded.is_some_and(|v4| is_refused(v4.into()))
        }
    }
}

/// Whether a URL names such an address itself, in whatever spelling.
pub fn is_refused_url(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(v4)) => is_refused(v4.into()),
        Some(Host::Ipv6(v6)) => is_refused(v6.into()),
        _ => false,
    }
}

fn through_nat64(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = v6.segments();
    let [a, b] = [segments[6].to_be_bytes(), segments[7].to_be_bytes()];
    (segments[..6] == NAT64).then(|| Ipv4Addr::new(a[0], a[1], b[0], b[1]))
}

/// A resolver whose answers hold no address that is refused.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<R = GaiResolver> {
    inner: R,
    allow_link_local: bool,
}

impl Guarded {
    /// The system's resolver; `allow_link_local` leaves its answers as they are.
    pub(crate) fn new(allow_link_local: bool) -> Guarded {
        Guarded {
            inner: GaiResolver::new(),
            allow_link_local,
        }
    }
}

type Resolving = Pin<Box<dyn Future<Output = io::Result<std::vec::IntoIter<SocketAddr>>> + Send>>;

impl<R> Service<Name> for Guarded<R>
where
    R: Service<Name, Error = io::Error>,
    R::Response: Iterator<Item = SocketAddr>,
    R::Future: Send + 'static,
{
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Resolving;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let resolving = self.inner.call(name);
        let allow_link_local = self.allow_link_local;
        Box::pin(async move {
            let found: Vec<SocketAddr> = resolving.await?.collect();
            let is_good = |address: &SocketAddr| allow_link_local || !is_refused(address.ip());
            let good: Vec<SocketAddr> = found.iter().copied().filter(is_good).collect();
            if good.is_empty() && !found.is_empty() {
                let message = format!(
                    "{host} is at a link-local or metadata address, where no upstream is expected (`allow_link_local: true` allows it)"
                );
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
            }
            Ok(good.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper_util::client::legacy::connect::HttpConnector;
    use std::error::Error;
    use std::future::ready;

    /// Resolves every name to these.
    #[derive(Clone)]
    struct Always(Vec<SocketAddr>);

    impl Service<Name> for Always {
        type Response = std::vec::IntoIter<SocketAddr>;
        type Error = io::Error;
        type Future = std::future::Ready<io::Result<Self::Response>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Name) -> Self::Future {
            ready(Ok(self.0.clone().into_iter()))
        }
    }

    /// Connects to a name that resolves to these; the error with its causes.
    async fn connect(addresses: &[SocketAddr], allow_link_local: bool) -> Result<(), String> {
        let mut connector = HttpConnector::new_with_resolver(Guarded {
            inner: Always(addresses.to_vec()),
            allow_link_local,
        });
        connector.set_connect_timeout(Some(std::time::Duration::from_millis(300)));
        let uri: http::Uri = "http://upstream.example/".parse().unwrap();
        let connected = connector.call(uri).await;
        connected.map(drop).map_err(|error| {
            let cause = error.source().map(ToString::to_string);
            format!("{error}: {}", cause.unwrap_or_default())
        })
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_refused_address_is_never_connected_to() {
        let metadata: SocketAddr = "169.254.169.254:0".parse().unwrap();
        let error = connect(&[metadata], false).await.unwrap_err();
        assert!(error.contains("link-local or metadata address"), "{error}");
        // Rebinding: beside a good address, only that one is tried.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let both = [metadata, listener.local_addr().unwrap()];
        connect(&both, false).await.unwrap();
        // Allowed: whatever comes of it, it was tried.
        let tried = connect(&[metadata], true).await;
        assert!(tried.is_ok() || !tried.unwrap_err().contains("link-local or metadata"));
    }

    #[test]
    fn link_local_and_metadata_addresses_are_refused_however_they_are_written() {
        let refused = [
            "169.254.169.254",
            "169.254.0.1",
            "168.63.129.16",
            "100.100.100.200",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ];
        for address in refused {
            assert!(is_refused(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "169.253.1.1",
            "::1",
            "fd00::1",
            "2606:4700::1111",
        ] {
            assert!(!is_refused(address.parse().unwrap()), "{address}");
        }
    }
}
