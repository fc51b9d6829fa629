//! TLS to a host. Its certificate is not verified: it names services and not addresses of hosts, and a check asks whether the host serves.

use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::{Failure, Steps, Target};

/// Takes any certificate; its key must be the server's all the same.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn config() -> Result<Arc<ClientConfig>, Error> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth();
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

/// A name as in a header may have a port, and an IPv6 address has brackets there.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// The handshake. `host`: the name that is asked for, if any.
pub(super) async fn connect(
    stream: TcpStream,
    target: &Target,
    host: Option<&str>,
    steps: &mut Steps,
) -> Result<TlsStream<TcpStream>, Failure> {
    let config = config().map_err(|error| Failure::Own(format!("no TLS: {error}")))?;
    let name = host.map(|host| without_port(host).to_owned());
    let name = match name.map(ServerName::try_from) {
        Some(Ok(name)) => name,
        Some(Err(error)) => return Err(Failure::Own(format!("{error}"))),
        None => ServerName::from(target.address),
    };
    let stream = TlsConnector::from(config).connect(name, stream).await;
    let stream = stream.map_err(|error| Failure::Host(format!("TLS: {error}")))?;
    steps.say(|| {
        let version = stream.get_ref().1.protocol_version();
        format!("handshake done, {}", version.and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default())
    });
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_headers_are_names_of_servers() {
        for (host, name) in [
            ("x.org", "x.org"),
            ("x.org:8443", "x.org"),
            ("192.0.2.1:8443", "192.0.2.1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:8443", "2001:db8::1"),
        ] {
            assert_eq!(without_port(host), name);
            assert!(ServerName::try_from(name.to_owned()).is_ok(), "{name}");
        }
    }
}
