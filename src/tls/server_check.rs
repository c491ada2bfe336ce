//! Whether a server is the one that the configuration trusts: libpq's `require`, `verify-ca`, `verify-full`.
//!
//! Stricter than libpq in one thing: a certificate without a SAN names no host, its common name is not read.
//! Revocation is not checked. The configurations that come out are remembered. Who calls: `dial`, and `cli` where it
//! looks at whatever certificate a server shows.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::{parse_x509_certificate, time::ASN1Time};

use super::{ALPN_POSTGRESQL, TlsError, provider, read_certificates};
use crate::config::ServerTls;

/// Different `ca` files that are remembered at once; one more and all are forgotten and read again when
/// needed. Deployments have one or a few.
const REMEMBERED_MAX: usize = 64;

static REMEMBERED: LazyLock<Mutex<HashMap<ServerTls, Remembered>>> = LazyLock::new(Mutex::default);

struct Remembered {
    file: Option<FileState>,
    config: Arc<ClientConfig>,
}

/// Changes whenever a file is rewritten or replaced: modification time, length, inode.
type FileState = (i64, i64, u64, u64);

/// How TLS is spoken to servers of this kind. Reads the `ca` file when it is new or has changed; blocks on it.
///
/// # Errors
/// [`TlsError::File`] where that file cannot be used.
pub(crate) fn client_config(tls: &ServerTls) -> Result<Arc<ClientConfig>, TlsError> {
    let ca = match tls {
        ServerTls::Disable | ServerTls::Require => None,
        ServerTls::VerifyCa { ca } | ServerTls::VerifyFull { ca } => Some(ca),
    };
    let file = ca.map(|ca| file_state(ca)).transpose()?;
    let mut remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = remembered.get(tls).filter(|known| known.file == file) {
        return Ok(known.config.clone());
    }
    let config = Arc::new(build(ServerCheck::new(tls)?));
    if remembered.len() >= REMEMBERED_MAX {
        remembered.clear();
    }
    remembered.insert(
        tls.clone(),
        Remembered {
            file,
            config: config.clone(),
        },
    );
    Ok(config)
}

fn file_state(file: &Path) -> Result<FileState, TlsError> {
    let data = fs::metadata(file).map_err(|error| TlsError::file(file, error.to_string()))?;
    Ok((data.mtime(), data.mtime_nsec(), data.len(), data.ino()))
}

fn build(check: ServerCheck) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for tls 1.2 and 1.3")
        .dangerous() // rustls' word for a check of one's own
        .with_custom_certificate_verifier(Arc::new(check))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
    // Postgres does not resume, and every handshake has to show the certificate for its channel binding.
    config.resumption = Resumption::disabled();
    config
}

#[derive(Debug)]
struct ServerCheck {
    demand: Demand,
    roots: RootCertStore,
    /// The `ca` file as it is. A server's self-signed certificate, which Postgres' documentation teaches to
    /// make, is no root for webpki; trusting the file means trusting exactly that certificate.
    listed: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug, PartialEq, Eq)]
enum Demand {
    Nothing,
    Chain,
    ChainAndName,
}

impl ServerCheck {
    fn new(tls: &ServerTls) -> Result<Self, TlsError> {
        let (demand, listed) = match tls {
            ServerTls::Disable | ServerTls::Require => (Demand::Nothing, Vec::new()),
            ServerTls::VerifyCa { ca } => (Demand::Chain, read_certificates(ca)?),
            ServerTls::VerifyFull { ca } => (Demand::ChainAndName, read_certificates(ca)?),
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(listed.iter().cloned());
        Ok(Self {
            demand,
            roots,
            listed,
            algorithms: provider().signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.demand == Demand::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let certificate = ParsedCertificate::try_from(leaf)?;
        if self.listed.contains(leaf) {
            within_validity(leaf, now)?;
        } else {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        if self.demand == Demand::ChainAndName {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn within_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let seconds = i64::try_from(now.as_secs()).map_err(|_| CertificateError::Expired)?;
    let now = ASN1Time::from_timestamp(seconds).map_err(|_| CertificateError::Expired)?;
    let validity = parsed.validity();
    if now < validity.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}
