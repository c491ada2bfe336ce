//! A certificate authority for one's own machine, so that the demo speaks verified TLS at once.
//!
//! It can vouch for `localhost`, names below it and the loopback addresses only, even if its key gets about.
//! `demo` calls it; nothing that serves others does. See `certs/README.md`.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
    time::{Duration, SystemTime, SystemTimeError},
};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, date_time_ymd,
};
use rustls::{
    RootCertStore, client::verify_server_cert_signed_by_trust_anchor, crypto::aws_lc_rs,
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate, time::ASN1Time,
};
use zeroize::Zeroizing;

use crate::tls::{TlsError, read_certificates};

/// What the server's certificate is for.
const NAMES: [&str; 5] = ["*.db.localhost", "db.localhost", "localhost", "127.0.0.1", "::1"];
const CA_NAME: &str = "pgwake development CA";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Programs are told once to trust it.
const CA_VALID: Duration = DAY.saturating_mul(3650);
/// As long as public authorities give; renewed by the next start.
const SERVER_VALID: Duration = DAY.saturating_mul(90);
/// A certificate with less than this left is made anew: a demo may run for days.
const RENEW_BEFORE: Duration = DAY.saturating_mul(7);
/// Clocks of virtual machines and containers on this machine may be behind.
const BACKDATED: Duration = DAY;

/// Where the files are. All of them exist and fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevCertificates {
    /// What clients trust (`sslrootcert`).
    pub ca: PathBuf,
    /// The server's certificate, for `tls.certificates`.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why there are no development certificates.
#[derive(Debug, thiserror::Error)]
pub enum DevCaError {
    /// A file or folder that cannot be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// The file or folder.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that is not what this made. It is left as it is.
    #[error("{}: {problem}; move it away to have a new one made", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A certificate file that is no certificate.
    #[error("{0}; move it away to have a new one made")]
    Certificate(#[from] TlsError),
    /// Making a key or certificate failed.
    #[error("a certificate could not be made: {0}")]
    Making(#[from] rcgen::Error),
    /// The clock stands before 1970.
    #[error("the system's clock is wrong: {0}")]
    Clock(#[from] SystemTimeError),
}

/// Makes what is missing in `folder` (`ca.pem`, `ca.key`, `server.pem`, `server.key`) and renews what runs out
/// within a week. The CA's key is made once and never overwritten. Blocks on files.
///
/// # Errors
/// [`DevCaError`] names the file at fault.
pub fn ensure(folder: &Path) -> Result<DevCertificates, DevCaError> {
    ensure_at(folder, SystemTime::now())
}

fn ensure_at(folder: &Path, now: SystemTime) -> Result<DevCertificates, DevCaError> {
    fs::create_dir_all(folder).map_err(|source| file_error(folder, source))?;
    let clock = Clock(now.duration_since(SystemTime::UNIX_EPOCH)?);
    let files = DevCertificates {
        ca: folder.join("ca.pem"),
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
    };
    let ca_key = ensure_ca_key(&folder.join("ca.key"), &files.ca)?;
    let ca_params = ca_params(clock);
    let ca = ensure_ca(&files.ca, &ca_params, &ca_key, clock)?;
    if !server_is_usable(&files, &ca, clock) {
        let key = KeyPair::generate()?;
        let issuer = Issuer::from_params(&ca_params, &ca_key);
        let certificate = server_params(clock)?.signed_by(&key, &issuer)?;
        // The key first: a key without its certificate is noticed and replaced by the next run.
        replace(
            &files.key,
            &Zeroizing::new(key.serialize_pem()),
            Reader::OwnerOnly,
        )?;
        replace(&files.certificate, &certificate.pem(), Reader::Everybody)?;
    }
    Ok(files)
}

/// Since 1970.
#[derive(Clone, Copy)]
struct Clock(Duration);

fn ensure_ca_key(file: &Path, ca: &Path) -> Result<KeyPair, DevCaError> {
    if let Some(key) = read_key(file)? {
        return Ok(key);
    }
    if ca.exists() {
        let problem = "its key (ca.key) is not there";
        return Err(DevCaError::Foreign {
            file: ca.to_owned(),
            problem,
        });
    }
    let key = KeyPair::generate()?;
    write_new(file, &Zeroizing::new(key.serialize_pem()), Reader::OwnerOnly)?;
    Ok(key)
}

/// `None` where there is no such file.
fn read_key(file: &Path) -> Result<Option<KeyPair>, DevCaError> {
    let text = match fs::read_to_string(file) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(file_error(file, source)),
    };
    match KeyPair::from_pem(&text) {
        Ok(key) => Ok(Some(key)),
        Err(_) => Err(DevCaError::Foreign {
            file: file.to_owned(),
            problem: "it is not a private key",
        }),
    }
}

/// The CA's certificate as it stands in its file, made or renewed where needed; always with the same key.
fn ensure_ca(
    file: &Path,
    params: &CertificateParams,
    key: &KeyPair,
    clock: Clock,
) -> Result<CertificateDer<'static>, DevCaError> {
    if file.exists() {
        let certificate = read_certificates(file)?.swap_remove(0);
        let foreign = |problem| DevCaError::Foreign {
            file: file.to_owned(),
            problem,
        };
        let parsed = parse(&certificate).ok_or_else(|| foreign("it is not a certificate"))?;
        if !belongs(&parsed, key) {
            return Err(foreign("ca.key is not its key"));
        }
        if common_name(&parsed) != Some(CA_NAME) {
            return Err(foreign("it is not a development ca of pgwake"));
        }
        if lasts(&parsed, clock) {
            return Ok(certificate);
        }
    }
    let certificate = params.self_signed(key)?;
    replace(file, &certificate.pem(), Reader::Everybody)?;
    Ok(certificate.der().clone())
}

/// Whether the server's certificate comes from this CA, has today's names, its key, and lasts. Where anything
/// about it cannot be read it is not, and is made anew.
fn server_is_usable(files: &DevCertificates, ca: &CertificateDer<'_>, clock: Clock) -> bool {
    let Ok(Some(key)) = read_key(&files.key) else {
        return false;
    };
    let Ok(chain) = read_certificates(&files.certificate) else {
        return false;
    };
    let Some(server) = parse(&chain[0]) else {
        return false;
    };
    let private = fs::metadata(&files.key).is_ok_and(|data| data.mode() & 0o077 == 0);
    private
        && belongs(&server, &key)
        && names(&server) == NAMES
        && vouched_for(&chain, ca, clock.0 + RENEW_BEFORE)
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    parse_x509_certificate(certificate).ok().map(|(_, parsed)| parsed)
}

fn belongs(certificate: &X509Certificate<'_>, key: &KeyPair) -> bool {
    certificate.public_key().raw == key.subject_public_key_info()
}

fn lasts(certificate: &X509Certificate<'_>, clock: Clock) -> bool {
    let then = i64::try_from((clock.0 + RENEW_BEFORE).as_secs()).unwrap_or(i64::MAX);
    ASN1Time::from_timestamp(then).is_ok_and(|then| certificate.validity().is_valid_at(then))
}

/// What clients will check.
fn vouched_for(chain: &[CertificateDer<'_>], ca: &CertificateDer<'_>, then: Duration) -> bool {
    let mut roots = RootCertStore::empty();
    let Ok(server) = ParsedCertificate::try_from(&chain[0]) else {
        return false;
    };
    let algorithms = aws_lc_rs::default_provider()
        .signature_verification_algorithms
        .all;
    let then = UnixTime::since_unix_epoch(then);
    roots.add(ca.clone().into_owned()).is_ok()
        && verify_server_cert_signed_by_trust_anchor(&server, &roots, &chain[1..], then, algorithms).is_ok()
}

fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    certificate.subject().iter_common_name().next()?.as_str().ok()
}

/// The names of its SAN, addresses as text.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|octets| Ipv4Addr::from(octets).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|octets| Ipv6Addr::from(octets).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}

fn ca_params(clock: Clock) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(CA_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("localhost".to_owned()),
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(loopback[0], 8)),
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(loopback[1], 128)),
        ],
        excluded_subtrees: Vec::new(),
    });
    valid_for(params, clock, CA_VALID)
}

fn server_params(clock: Clock) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    params.distinguished_name = named("pgwake development server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(valid_for(params, clock, SERVER_VALID))
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn valid_for(mut params: CertificateParams, clock: Clock, long: Duration) -> CertificateParams {
    let now = date_time_ymd(1970, 1, 1) + clock.0;
    params.not_before = now - BACKDATED;
    params.not_after = now + long;
    params
}

/// Who may read a file.
#[derive(Clone, Copy)]
enum Reader {
    OwnerOnly = 0o600,
    Everybody = 0o644,
}

/// Writes a file that is there whole or not at all.
fn replace(file: &Path, text: &str, reader: Reader) -> Result<(), DevCaError> {
    let draft = write_draft(file, text, reader)?;
    fs::rename(&draft, file).map_err(|source| file_error(file, source))
}

/// The same, but an existing file is an error.
fn write_new(file: &Path, text: &str, reader: Reader) -> Result<(), DevCaError> {
    let draft = write_draft(file, text, reader)?;
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft).map_err(|source| file_error(&draft, source))?;
    linked.map_err(|source| file_error(file, source))
}

fn write_draft(file: &Path, text: &str, reader: Reader) -> Result<PathBuf, DevCaError> {
    let draft = file.with_extension(format!("draft-{}", process::id()));
    let written = (|| {
        // Left by an earlier process of this number, if it is there at all.
        let _ = fs::remove_file(&draft);
        let mut open = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(reader as u32)
            .open(&draft)?;
        open.write_all(text.as_bytes())?;
        open.sync_all()
    })();
    written
        .map_err(|source| file_error(&draft, source))
        .map(|()| draft)
}

fn file_error(file: &Path, source: io::Error) -> DevCaError {
    DevCaError::File {
        file: file.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
