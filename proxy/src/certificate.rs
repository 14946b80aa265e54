//! The listener's certificate: read from files, and read anew when they change. A bad one never replaces a good one.

use arc_swap::ArcSwap;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::{self, ServerConfig};

/// How often the files are read.
const EVERY: Duration = Duration::from_millis(500);

/// Where the certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the server's certificate, and those between it and the root.
    pub cert: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read.
    #[error("tls.{key}: reading {path}: {source}")]
    Read {
        /// The key in config.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("tls.{key}: {path}: {reason}")]
    Content {
        /// The key in config.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The two don't go together.
    #[error("tls: {cert} with the key {key}: {source}")]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the TLS library says.
        source: rustls::Error,
    },
}

/// The bytes of both files.
type Read = (Vec<u8>, Vec<u8>);

/// The certificate in force.
pub struct Certificate {
    files: TlsFiles,
    /// What it was made of.
    read: Read,
    in_force: ArcSwap<ServerConfig>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// Where one can't be read, or the two don't make a usable certificate: says which, and why.
    pub fn open(files: &TlsFiles) -> Result<Certificate, CertificateError> {
        let read = read(files)?;
        let config = server_config(files, &read)?;
        Ok(Certificate {
            files: files.clone(),
            read,
            in_force: ArcSwap::from_pointee(config),
        })
    }

    /// For the next handshake.
    pub(crate) fn in_force(&self) -> Arc<ServerConfig> {
        self.in_force.load_full()
    }

    /// Reads the files again and again for as long as the future lives. `told` gets the result of each reading of files
    /// that changed.
    pub async fn watch(&self, told: impl Fn(Result<(), CertificateError>)) {
        let mut seen = Some(self.read.clone());
        loop {
            tokio::time::sleep(EVERY).await;
            let now = tokio::task::block_in_place(|| read(&self.files));
            match now {
                Ok(read) if seen.as_ref() == Some(&read) => {}
                Ok(read) => {
                    told(server_config(&self.files, &read).map(|config| self.in_force.store(Arc::new(config))));
                    seen = Some(read);
                }
                // A file may be away for a moment while it is replaced; said once.
                Err(error) => {
                    if seen.take().is_some() {
                        told(Err(error));
                    }
                }
            }
        }
    }
}

fn read(files: &TlsFiles) -> Result<Read, CertificateError> {
    let read = |key, path: &Path| {
        std::fs::read(path).map_err(|source| CertificateError::Read {
            key,
            path: path.to_owned(),
            source,
        })
    };
    Ok((read("cert", &files.cert)?, read("key", &files.key)?))
}

fn server_config(files: &TlsFiles, (cert, key): &Read) -> Result<ServerConfig, CertificateError> {
    let bad = |name, path: &Path, reason: String| CertificateError::Content {
        key: name,
        path: path.to_owned(),
        reason,
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<_, _>>()
        .map_err(|error| bad("cert", &files.cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(bad("cert", &files.cert, "it holds no certificate in PEM form".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| bad("key", &files.key, format!("no private key in PEM form: {error}")))?;
    let pair = |source| CertificateError::Pair {
        cert: files.cert.clone(),
        key: files.key.clone(),
        source,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
