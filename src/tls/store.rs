//! Our own certificates: read, checked, chosen by the name that a client asks for, exchanged while serving.
//!
//! One `rustls` configuration per certificate, so that the certificate which was served, and with it the
//! channel binding, is known. Two certificates for one name: the one listed first is served. `server` loads
//! the store, `accept` chooses from it, `watch` reloads it.

mod validity;

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{self, SHA256};
use rustls::{ServerConfig, server::NoServerSessionStorage};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};
use zeroize::Zeroizing;

use validity::Validity;

use super::{ALPN_POSTGRESQL, TlsError, client_check::AnyCertificate, end_point::end_point, server_provider};
use crate::config::CertificateFiles;

/// All certificates, by the names they are for. Shared through [`Arc`]; what it holds is swapped as a whole.
#[derive(Debug)]
pub struct CertificateStore {
    chosen_from: ArcSwap<ByName>,
    /// Locked while files are read, so that reloads do not overtake.
    slots: Mutex<Slots>,
}

/// In the order of the configuration.
#[derive(Debug)]
struct Slots {
    ask: AskClients,
    slots: Vec<Slot>,
}

/// Certificates that have been read and checked, and are not served yet.
#[derive(Debug)]
pub struct Prepared(Slots);

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AskClients {
    /// No endpoint needs one.
    #[default]
    Never,
    /// All are asked, whatever name they come by, and none must have one.
    Always,
}

/// One certificate as it is served.
#[derive(Debug)]
pub struct Served {
    pub(super) config: Arc<ServerConfig>,
    pub(super) end_point: Option<Arc<[u8]>>,
    /// Lowercase; wildcards as written.
    names: Vec<String>,
    validity: Validity,
}

/// What a reload found.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// Certificates that are served anew, by their file.
    pub changed: Vec<PathBuf>,
    /// Files that changed and cannot be used; what they held before is still served.
    pub failed: Vec<TlsError>,
}

#[derive(Debug)]
struct Slot {
    files: CertificateFiles,
    served: Arc<Served>,
    /// What the files last held, good or bad: a problem is told once.
    seen: Result<Fingerprint, String>,
}

/// SHA-256 of certificate file and key file.
type Fingerprint = [u8; 32];

#[derive(Debug, Default)]
struct ByName {
    default: Option<Arc<Served>>,
    exact: HashMap<String, Arc<Served>>,
    /// `*.example.org` under `example.org`.
    wildcard: HashMap<String, Arc<Served>>,
}

impl CertificateStore {
    /// Reads and checks all certificates. None at all is fine; then nothing can be accepted.
    ///
    /// # Errors
    /// [`TlsError::File`] names the first file that cannot be used and what is wrong with it.
    pub fn load(files: &[CertificateFiles]) -> Result<Arc<Self>, TlsError> {
        Self::load_and_ask(files, AskClients::Never)
    }

    /// The same, for endpoints that may ask their clients for certificates.
    ///
    /// # Errors
    /// As [`CertificateStore::load`].
    pub fn load_and_ask(files: &[CertificateFiles], ask: AskClients) -> Result<Arc<Self>, TlsError> {
        let Prepared(slots) = Self::prepare(files, ask)?;
        slots.slots.iter().for_each(Slot::tell_doubt);
        Ok(Arc::new(Self {
            chosen_from: ArcSwap::from_pointee(ByName::index(&slots.slots)),
            slots: Mutex::new(slots),
        }))
    }

    /// Reads and checks certificates, so that they can be served. Blocks on files.
    ///
    /// # Errors
    /// As [`CertificateStore::load`].
    pub fn prepare(files: &[CertificateFiles], ask: AskClients) -> Result<Prepared, TlsError> {
        let load = |files| Slot::load(files, ask);
        let slots = files.iter().map(load).collect::<Result<_, _>>()?;
        Ok(Prepared(Slots { ask, slots }))
    }

    /// Serves these from the next handshake on, and no others.
    pub fn replace(&self, Prepared(prepared): Prepared) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        self.chosen_from.store(Arc::new(ByName::index(&prepared.slots)));
        prepared.slots.iter().for_each(Slot::tell_doubt);
        *slots = prepared;
    }

    /// Whether there is no certificate: an SSLRequest is answered with `N` then.
    pub fn is_empty(&self) -> bool {
        self.chosen_from.load().default.is_none()
    }

    /// The certificate for a name (lowercase): one that has exactly this name, else one with a wildcard for its
    /// first label, else the first of all. Clients that connect to an address send no name.
    pub fn choose(&self, server_name: Option<&str>) -> Option<Arc<Served>> {
        let by_name = self.chosen_from.load();
        let named = server_name.and_then(|name| {
            by_name.exact.get(name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                by_name.wildcard.get(parent)
            })
        });
        named.or(by_name.default.as_ref()).cloned()
    }

    /// Reads all files again and serves what has changed from the next handshake on; running connections keep
    /// what they have. A certificate that cannot be used keeps its predecessor and does not hold up the others.
    /// Both are logged here, each change once. Blocks on files.
    pub fn reload(&self) -> Reloaded {
        let mut guard = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let Slots { ask, slots } = &mut *guard;
        let mut reloaded = Reloaded::default();
        for slot in slots.iter_mut() {
            let file = slot.files.certificate.clone();
            match slot.reload(*ask) {
                Ok(false) => (),
                Ok(true) => {
                    tracing::info!(certificate = %file.display(), names = ?slot.served.names, "certificate reloaded");
                    slot.tell_doubt();
                    reloaded.changed.push(file);
                }
                Err(error) => {
                    tracing::error!(%error, "certificate not reloaded; the one before is still served");
                    reloaded.failed.push(error);
                }
            }
        }
        if !reloaded.changed.is_empty() {
            self.chosen_from.store(Arc::new(ByName::index(slots)));
        }
        reloaded
    }

    /// Every certificate's file, and when what is served from it ends (Unix time).
    pub fn expiries(&self) -> Vec<(PathBuf, i64)> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let expiry = |slot: &Slot| (slot.files.certificate.clone(), slot.served.validity.until);
        slots.slots.iter().map(expiry).collect()
    }

    /// Every certificate and key file.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let both = |slot: &Slot| [slot.files.certificate.clone(), slot.files.key.clone()];
        slots.slots.iter().flat_map(both).collect()
    }
}

impl ByName {
    fn index(slots: &[Slot]) -> Self {
        let mut by_name = Self {
            default: slots.first().map(|slot| slot.served.clone()),
            ..Self::default()
        };
        for served in slots.iter().map(|slot| &slot.served) {
            for name in &served.names {
                let (map, key) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut by_name.wildcard, parent),
                    None => (&mut by_name.exact, name.as_str()),
                };
                map.entry(key.to_owned()).or_insert_with(|| served.clone());
            }
        }
        by_name
    }
}

impl Slot {
    fn load(files: &CertificateFiles, ask: AskClients) -> Result<Self, TlsError> {
        let contents = Contents::read(files)?;
        Ok(Self {
            files: files.clone(),
            served: Arc::new(contents.check(files, ask)?),
            seen: Ok(contents.fingerprint()),
        })
    }

    /// Whether it serves something new; the error only when the files changed since the last look.
    fn reload(&mut self, ask: AskClients) -> Result<bool, TlsError> {
        let contents = match Contents::read(&self.files) {
            Ok(contents) => contents,
            Err(error) => {
                let seen = Err(error.to_string());
                let known = self.seen == seen;
                self.seen = seen;
                return if known { Ok(false) } else { Err(error) };
            }
        };
        let seen = Ok(contents.fingerprint());
        if self.seen == seen {
            return Ok(false);
        }
        self.seen = seen;
        self.served = Arc::new(contents.check(&self.files, ask)?);
        Ok(true)
    }
}

/// The bytes of both files.
struct Contents {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Contents {
    fn read(files: &CertificateFiles) -> Result<Self, TlsError> {
        let unreadable = |error: std::io::Error| TlsError::file(&files.key, error.to_string());
        let mode = fs::metadata(&files.key).map_err(unreadable)?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(TlsError::file(
                &files.key,
                format!("others can read it (mode {:o}); run chmod 600", mode & 0o777),
            ));
        }
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: Zeroizing::new(read(&files.key)?),
        })
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut context = digest::Context::new(&SHA256);
        context.update(&(self.certificate.len() as u64).to_be_bytes());
        context.update(&self.certificate);
        context.update(&self.key);
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }

    fn check(&self, files: &CertificateFiles, ask: AskClients) -> Result<Served, TlsError> {
        let chain = certificates(&files.certificate, &self.certificate)?;
        let mut keys = pem_sections::<PrivateKeyDer<'static>>(&files.key, &self.key)?;
        if keys.is_empty() {
            let problem = "there is no private key in it; an encrypted one must be decrypted first";
            return Err(TlsError::file(&files.key, problem));
        }
        let names = names(&files.certificate, &chain[0])?;
        let validity = Validity::of(&chain[0]);
        let end_point = end_point(&chain[0]).map(Arc::from);
        let config = Arc::new(server_config(files, chain, keys.swap_remove(0), ask)?);
        Ok(Served {
            config,
            end_point,
            names,
            validity,
        })
    }
}

/// The DNS names of a certificate's SAN, lowercase. An IP address there counts as a name that no client asks for.
fn names(file: &Path, leaf: &CertificateDer<'_>) -> Result<Vec<String>, TlsError> {
    let unreadable =
        |problem: String| TlsError::file(file, format!("its first certificate is not readable: {problem}"));
    let (_, parsed) = parse_x509_certificate(leaf).map_err(|error| unreadable(error.to_string()))?;
    let alternative = parsed
        .subject_alternative_name()
        .map_err(|error| unreadable(error.to_string()))?;
    let all = alternative
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    if !all
        .iter()
        .any(|name| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_)))
    {
        let problem =
            "its first certificate names no host (subject alternative name); clients would refuse it";
        return Err(TlsError::file(file, problem));
    }
    let dns = all.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    Ok(dns.collect())
}

fn server_config(
    files: &CertificateFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ask: AskClients,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(server_provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for tls 1.2 and 1.3");
    let builder = match ask {
        AskClients::Never => builder.with_no_client_auth(),
        AskClients::Always => builder.with_client_cert_verifier(Arc::new(AnyCertificate::new())),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let problem = format!(
                    "it does not belong to the certificate in {}",
                    files.certificate.display()
                );
                TlsError::file(&files.key, problem)
            }
            rustls::Error::InvalidCertificate(problem) => TlsError::file(
                &files.certificate,
                format!("its first certificate cannot be used: {problem}"),
            ),
            other => TlsError::file(&files.key, format!("the private key cannot be used: {other}")),
        })?;
    config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
    // Clients list AES-256 first because OpenSSL does, not because they mind.
    config.ignore_client_order = true;
    // No resumption: tickets cost, bind to certificates that are gone, and libpq never resumes.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// [`TlsError::File`].
pub(crate) fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(file, &read(file)?)
}

fn certificates(file: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = pem_sections::<CertificateDer<'static>>(file, text)?;
    if chain.is_empty() {
        return Err(TlsError::file(
            file,
            "there is no certificate in it (`-----BEGIN CERTIFICATE-----`)",
        ));
    }
    Ok(chain)
}

// With rustls-pki-types, because rustls-pemfile was archived in August 2025 in its favour (RUSTSEC-2025-0134).
fn pem_sections<T: PemObject>(file: &Path, text: &[u8]) -> Result<Vec<T>, TlsError> {
    let sections = T::pem_slice_iter(text).collect::<Result<_, _>>();
    sections.map_err(|error| TlsError::file(file, format!("it is not readable as pem: {error}")))
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|error| TlsError::file(file, error.to_string()))
}

#[cfg(test)]
mod tests;
