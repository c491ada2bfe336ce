//! Asks clients for a certificate without saying whose: who it belongs to is found out after the handshake.
//!
//! Every client is asked in the same words and none must answer, whatever name it came by: who is trusted depends on
//! the endpoint, and a handshake that depended on it would tell strangers which endpoints exist, and which of them
//! ask. What is checked here is only that the client has the key. Called by `store`; `auth` checks the chain.

use std::{path::Path, sync::Arc};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{
        WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
        verify_tls13_signature_with_raw_key,
    },
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::parse_x509_certificate;

use super::{TlsError, provider};

/// Takes every certificate whose key the client has.
#[derive(Debug)]
pub(super) struct AnyCertificate(WebPkiSupportedAlgorithms);

impl AnyCertificate {
    pub(super) fn new() -> Self {
        Self(provider().signature_verification_algorithms)
    }

    /// Of a certificate that cannot be read as one of version 3 (older ones, and those with unknown critical extensions).
    /// Nobody comes in by it; but who has such a one in libpq's folder shows it to every server that asks, also where
    /// nobody wants one. For TLS 1.3: before that such a handshake fails.
    fn verify_by_key_alone(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Option<HandshakeSignatureValid> {
        let key = key_of(leaf)?;
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.0).ok()
    }
}

fn key_of<'c>(leaf: &'c CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'c>> {
    let (_, leaf) = parse_x509_certificate(leaf).ok()?;
    let key = leaf.tbs_certificate.subject_pki.raw;
    Some(SubjectPublicKeyInfoDer::from(key))
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No authority is named: the list would be one of tenants.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls13_signature(message, leaf, signed, &self.0);
        verified.or_else(|error| self.verify_by_key_alone(message, leaf, signed).ok_or(error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Checks chains of clients against these roots, which are those of `file`.
///
/// # Errors
/// [`TlsError::File`] where none of them can be used.
pub(crate) fn client_verifier(
    file: &Path,
    roots: RootCertStore,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let verifier = verifier.map_err(|error| TlsError::file(file, error.to_string()))?;
    Ok(verifier)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::{collection::vec, prelude::*};
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    static CERTIFICATE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&KeyPair::generate().unwrap());
        certificate.unwrap().der().to_vec()
    });

    proptest! {
        /// Strangers show what they like.
        #[test]
        fn what_is_no_certificate_harms_nothing(
            at in 0..400_usize,
            bytes in vec(any::<u8>(), 0..8),
            length in 0..800_usize,
        ) {
            let mut shown = CERTIFICATE.clone();
            for (place, byte) in shown.iter_mut().skip(at).zip(&bytes) {
                *place = *byte;
            }
            shown.truncate(length);
            key_of(&CertificateDer::from(shown));
            key_of(&CertificateDer::from(bytes));
        }
    }
}
