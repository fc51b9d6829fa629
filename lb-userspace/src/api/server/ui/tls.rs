//! TLS for the page: certificate and key from files, that may be renewed while it runs.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::token::Stamp;
use crate::model::TlsFiles;

/// What connections are accepted with.
pub struct Tls {
    files: TlsFiles,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    stamps: [Option<Stamp>; 2],
    config: Arc<ServerConfig>,
}

impl Tls {
    /// # Errors
    /// As [`load`].
    pub fn open(files: &TlsFiles) -> anyhow::Result<Self> {
        let stamps = stamps(files);
        Ok(Tls { files: files.clone(), loaded: Mutex::new(Loaded { stamps, config: load(files)? }) })
    }

    /// With the files as they are now, or as they were when they last fitted together: they are renewed one after the other.
    pub fn acceptor(&self) -> TlsAcceptor {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.files);
        if stamps != loaded.stamps {
            loaded.stamps = stamps;
            match load(&self.files) {
                Ok(config) => {
                    log::info!("the page has another certificate, of {}", self.files.certificate.display());
                    loaded.config = config;
                }
                Err(error) => log::error!("the page goes on with the certificate that it has: {error:#}"),
            }
        }
        TlsAcceptor::from(loaded.config.clone())
    }
}

fn stamps(files: &TlsFiles) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key]
        .map(|file| std::fs::metadata(file).ok().map(|metadata| Stamp::of(&metadata)))
}

/// Certificate and key as one.
///
/// # Errors
/// A file cannot be read or is not PEM, or the key is another certificate's.
pub fn load(files: &TlsFiles) -> anyhow::Result<Arc<ServerConfig>> {
    let TlsFiles { certificate, key } = files;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| unreadable("certificate", certificate))?;
    if chain.is_empty() {
        bail!("{}", unreadable("certificate", certificate));
    }
    let own = PrivateKeyDer::from_pem_file(key).with_context(|| unreadable("private key", key))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, own)
        .with_context(|| format!("{} has no key for {}", key.display(), certificate.display()))?;
    Ok(Arc::new(config))
}

fn unreadable(what: &str, file: &Path) -> String {
    format!("{} has no {what} in PEM that can be read", file.display())
}
