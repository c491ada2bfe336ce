//! Client certificates: whether a tenant's authority has signed one, and whom it names.
//!
//! That the client has the key was shown by its handshake. Revocation is not checked. Who calls: `auth`.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{CertificateError as Tls, Error, RootCertStore, server::danger::ClientCertVerifier};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::{task::spawn_blocking, time::Instant};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate, x509::X509Version,
};

use crate::config::{CertificateName, ClientCertificates, Config};
use crate::tls::{TlsError, client_verifier, read_certificates};

/// How often an authority's file is looked at.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// What is wrong with a client's certificate. For the log alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    /// It has shown none.
    #[error("the client has shown no certificate")]
    Missing,
    /// Somebody else has signed it.
    #[error("the client's certificate is not signed by the authority of this endpoint")]
    OtherAuthority,
    /// `notAfter`
    #[error("the client's certificate has expired")]
    Expired,
    /// `notBefore`
    #[error("the client's certificate is not valid yet")]
    NotYet,
    /// Before X.509 version 3: it cannot say what it is for.
    #[error(
        "the client's certificate is of an older version of X.509 than 3; OpenSSL makes such ones without -extfile"
    )]
    OldVersion,
    /// Not for clients, or not readable.
    #[error("the client's certificate cannot be used")]
    Unusable,
    /// It names somebody else.
    #[error("the client's certificate does not name this role")]
    OtherRole,
}

/// The authorities of all endpoints.
pub(super) struct AuthorityBook(HashMap<PathBuf, Arc<Authority>>);

/// Who signs certificates of clients.
struct Authority {
    file: PathBuf,
    kept: Mutex<Kept>,
}

struct Kept {
    verifier: Arc<dyn ClientCertVerifier>,
    /// `None`: it could not be looked at.
    state: Option<FileState>,
    looked_at: Instant,
}

/// Changes whenever a file is rewritten or replaced: modification time, length, inode.
type FileState = (i64, i64, u64, u64);

impl AuthorityBook {
    /// Of a configuration. Blocks on files.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(super) fn load(config: &Config) -> Result<Self, TlsError> {
        let rules = config
            .endpoints
            .values()
            .filter_map(|e| e.client_certificates.as_ref());
        let mut authorities = HashMap::new();
        for rule in rules {
            if !authorities.contains_key(&rule.ca) {
                authorities.insert(rule.ca.clone(), Arc::new(Authority::load(&rule.ca)?));
            }
        }
        Ok(Self(authorities))
    }

    /// Whether the authority of these rules is known.
    pub(super) fn has(&self, rules: &ClientCertificates) -> bool {
        self.0.contains_key(&rules.ca)
    }

    /// These and the authority of these rules. Blocks on its file.
    ///
    /// # Errors
    /// It cannot be used.
    pub(super) fn with(&self, rules: Option<&ClientCertificates>) -> Result<Self, TlsError> {
        let mut authorities = self.0.clone();
        if let Some(rules) = rules.filter(|rules| !self.has(rules)) {
            authorities.insert(rules.ca.clone(), Arc::new(Authority::load(&rules.ca)?));
        }
        Ok(Self(authorities))
    }

    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(HashMap::new())
    }

    /// Whether the first certificate of `chain` is one of these rules, and names one of `wanted`. Cancel safe.
    pub(super) async fn check(
        &self,
        rules: &ClientCertificates,
        chain: &[CertificateDer<'static>],
        wanted: &[&str],
    ) -> Result<(), CertificateError> {
        let (leaf, intermediates) = chain.split_first().ok_or(CertificateError::Missing)?;
        let authority = self.0.get(&rules.ca).ok_or(CertificateError::OtherAuthority)?;
        let verifier = Arc::clone(authority).current().await;
        let verified = verifier.verify_client_cert(leaf, intermediates, UnixTime::now());
        verified.map_err(|error| what_is_wrong(&error, leaf))?;
        if names(leaf, rules.name)?
            .iter()
            .any(|name| wanted.contains(&name.as_str()))
        {
            Ok(())
        } else {
            Err(CertificateError::OtherRole)
        }
    }
}

impl Authority {
    fn load(file: &Path) -> Result<Self, TlsError> {
        let state = file_state(file).map_err(|error| TlsError::file(file, error.to_string()))?;
        let kept = Mutex::new(Kept {
            verifier: verifier(file)?,
            state: Some(state),
            looked_at: Instant::now(),
        });
        Ok(Self {
            file: file.to_owned(),
            kept,
        })
    }

    /// What the file holds now, or the last that was right.
    async fn current(self: Arc<Self>) -> Arc<dyn ClientCertVerifier> {
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.looked_at.elapsed() < FRESH_FOR {
                return Arc::clone(&kept.verifier);
            }
            kept.looked_at = Instant::now();
        }
        let looking = Arc::clone(&self);
        // A look that panicked has changed nothing.
        let _ = spawn_blocking(move || looking.look()).await;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&kept.verifier)
    }

    fn look(&self) {
        let state = file_state(&self.file).ok();
        let known = self.kept.lock().unwrap_or_else(PoisonError::into_inner).state;
        if state == known {
            return;
        }
        let read = verifier(&self.file);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.state = state;
        match read {
            Ok(verifier) => {
                tracing::info!(ca = %self.file.display(), "authority of clients reloaded");
                kept.verifier = verifier;
            }
            Err(error) => {
                tracing::error!(%error, "authority of clients not reloaded; the one before still counts")
            }
        }
    }
}

fn file_state(file: &Path) -> io::Result<FileState> {
    let data = fs::metadata(file)?;
    Ok((data.mtime(), data.mtime_nsec(), data.len(), data.ino()))
}

/// Whether an authority's file could be used.
///
/// # Errors
/// [`TlsError::File`].
pub(crate) fn check_authority(file: &Path) -> Result<(), TlsError> {
    verifier(file).map(drop)
}

fn verifier(file: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read_certificates(file)?);
    client_verifier(file, roots)
}

fn what_is_wrong(error: &Error, leaf: &CertificateDer<'_>) -> CertificateError {
    let is_old = |(_, leaf): (_, X509Certificate<'_>)| leaf.version() != X509Version::V3;
    match error {
        Error::InvalidCertificate(Tls::Expired | Tls::ExpiredContext { .. }) => CertificateError::Expired,
        Error::InvalidCertificate(Tls::NotValidYet | Tls::NotValidYetContext { .. }) => {
            CertificateError::NotYet
        }
        Error::InvalidCertificate(Tls::UnknownIssuer | Tls::BadSignature) => CertificateError::OtherAuthority,
        _ if parse_x509_certificate(leaf).is_ok_and(is_old) => CertificateError::OldVersion,
        _ => CertificateError::Unusable,
    }
}

/// The names of one kind, of a certificate whose key may sign.
fn names(leaf: &CertificateDer<'_>, kind: CertificateName) -> Result<Vec<String>, CertificateError> {
    let parsed = parse_x509_certificate(leaf)
        .map_err(|_| CertificateError::Unusable)?
        .1;
    // It has signed the handshake (RFC 8446, section 4.4.2.2), and `client_verifier` does not look. As OpenSSL has it.
    let usage = parsed.key_usage().map_err(|_| CertificateError::Unusable)?;
    if usage.is_some_and(|usage| !usage.value.digital_signature() && !usage.value.key_agreement()) {
        return Err(CertificateError::Unusable);
    }
    if kind == CertificateName::Cn {
        let mut all = parsed.subject().iter_common_name();
        // With two of them, one that is not read here among them, it would depend on the reader who it is.
        return match (all.next(), all.next()) {
            (Some(only), None) => Ok(only.as_str().map(str::to_owned).into_iter().collect()),
            _ => Ok(Vec::new()),
        };
    }
    let alternative = parsed.subject_alternative_name();
    let alternative = alternative.map_err(|_| CertificateError::Unusable)?;
    let all = alternative.map_or(&[][..], |extension| &extension.value.general_names);
    let of_kind = |name: &GeneralName<'_>| match (kind, name) {
        (CertificateName::Dns, GeneralName::DNSName(name))
        | (CertificateName::Uri, GeneralName::URI(name))
        | (CertificateName::Email, GeneralName::RFC822Name(name)) => Some((*name).to_owned()),
        _ => None,
    };
    Ok(all.iter().filter_map(of_kind).collect())
}
