//! TLS towards upstreams: rustls, verification always on, web PKI roots plus an operator's own.

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::path::{Path, PathBuf};

/// Why the TLS side of an upstream can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file can't be read, or holds no PEM certificates.
    #[error("reading certificates from {path}: {reason}")]
    CaFile {
        /// The file of `ca_file`.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
    /// The crypto provider has no usable protocol versions.
    #[error("setting up TLS: {0}")]
    Provider(#[from] rustls::Error),
}

/// A client configuration that trusts the web PKI and, if given, the certificates in `ca_file` (PEM).
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = ca_file {
        let fail = |reason: String| TlsError::CaFile {
            path: path.to_owned(),
            reason,
        };
        let certificates: Vec<CertificateDer<'_>> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| fail(error.to_string()))?;
        if certificates.is_empty() {
            return Err(fail("it holds no certificate in PEM form".into()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| fail(error.to_string()))?;
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
