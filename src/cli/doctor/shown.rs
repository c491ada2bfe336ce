//! The certificate that a client shows, as libpq finds and checks it
//! (<https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-CLIENTCERT>).
//!
//! It is shown to whoever asks for one in the handshake. Called by the step `tls`.

use std::{os::unix::fs::MetadataExt, path::PathBuf, sync::Arc};

use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use x509_parser::{certificate::Validity, parse_x509_certificate, time::ASN1Time, x509::X509Version};

use super::report::Trouble;
use crate::tls::{provider, read_certificates};

/// Where certificate and key are, if there is a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What is shown, and whose it says it is.
#[derive(Debug)]
pub(super) struct Showing {
    pub(super) key: Arc<SingleCertAndKey>,
    pub(super) subject: String,
    /// Behind that: why no server takes it now, or nothing.
    pub(super) doubt: &'static str,
}

impl Shown {
    /// Reads both; `None`: there is no such certificate, and then libpq shows none, also where it was named. Blocks on
    /// files.
    pub(super) fn read(&self) -> Result<Option<Showing>, Trouble> {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        if !self.certificate.exists() {
            return Ok(None);
        }
        let chain = read_certificates(&self.certificate)
            .map_err(|error| Trouble::new(format!("sslcert: {error}"), "name a certificate as PEM"))?;
        let (subject, doubt) = match parse_x509_certificate(&chain[0]) {
            Ok((_, parsed)) if parsed.version() != X509Version::V3 => {
                return Err(Trouble::new(
                    format!("sslcert: {certificate} is of an older version of X.509 than 3"),
                    "renew it (openssl x509 -req makes one of version 3 with -extfile); or say sslcertmode=disable",
                ));
            }
            Ok((_, parsed)) => (parsed.subject().to_string(), doubt(parsed.validity())),
            Err(_) => {
                return Err(Trouble::new(
                    format!("sslcert: {certificate} cannot be read"),
                    "renew it",
                ));
            }
        };
        self.check_key()?;
        let secret = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| {
            Trouble::new(
                format!("sslkey: {key}: {error}"),
                "it has to be a key as PEM without a password: those with one (sslpassword) are not read here",
            )
        })?;
        let certified = CertifiedKey::from_der(chain, secret, &provider()).map_err(|error| {
            Trouble::new(
                format!("sslkey: {key} does not go with {certificate}: {error}"),
                "name the key that the certificate was made with",
            )
        })?;
        Ok(Some(Showing {
            key: Arc::new(SingleCertAndKey::from(certified)),
            subject,
            doubt,
        }))
    }

    /// libpq takes no key that others can read; one of root's may be read by its group.
    fn check_key(&self) -> Result<(), Trouble> {
        let key = self.key.display();
        let data = self.key.metadata().map_err(|error| {
            Trouble::new(
                format!("sslkey: {key}: {error}"),
                "there is a certificate to be shown (sslcert), and it needs its key; or say sslcertmode=disable",
            )
        })?;
        let barred = if data.uid() == 0 { 0o037 } else { 0o077 };
        if !data.is_file() || data.mode() & barred != 0 {
            return Err(Trouble::new(
                format!("sslkey: others can read {key}, and libpq does not use it then"),
                format!("run `chmod 600 {key}`"),
            ));
        }
        Ok(())
    }
}

fn doubt(validity: &Validity) -> &'static str {
    match ASN1Time::now() {
        now if now > validity.not_after => "; it has expired",
        now if now < validity.not_before => "; it is not valid yet",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn written() -> (tempfile::TempDir, Shown) {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "app");
        let certificate = params.self_signed(&key).unwrap();
        let shown = Shown {
            certificate: folder.path().join("app.crt"),
            key: folder.path().join("app.key"),
        };
        fs::write(&shown.certificate, certificate.pem()).unwrap();
        fs::write(&shown.key, key.serialize_pem()).unwrap();
        fs::set_permissions(&shown.key, fs::Permissions::from_mode(0o600)).unwrap();
        (folder, shown)
    }

    #[test]
    fn a_certificate_is_shown_with_its_key_alone() {
        let (_folder, shown) = written();
        let showing = shown.read().unwrap().unwrap();
        assert!(showing.subject.contains("app"), "{}", showing.subject);

        let (_other, other) = written();
        let mixed = Shown {
            key: other.key,
            ..shown.clone()
        };
        let trouble = mixed.read().unwrap_err();
        assert!(trouble.what.contains("does not go with"), "{trouble:?}");

        fs::set_permissions(&shown.key, fs::Permissions::from_mode(0o644)).unwrap();
        let trouble = shown.read().unwrap_err();
        assert!(trouble.advice[0].contains("chmod 600"), "{trouble:?}");
        fs::remove_file(&shown.key).unwrap();
        assert!(shown.read().unwrap_err().what.contains("sslkey"));
        fs::remove_file(&shown.certificate).unwrap();
        assert!(shown.read().unwrap().is_none());
    }
}
