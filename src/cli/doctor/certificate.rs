//! TLS with whoever answers, and what can be said about the certificate that was shown.
//!
//! The handshake proves that the server has the certificate's key, and trusts nobody: what would be refused is found
//! afterwards, all of it, and before anything secret is sent. Revocation is not looked at, as in libpq's default.

use std::{io, path::Path, sync::Arc};

use rustls::{
    Error, RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    server::ParsedCertificate,
    sign::SingleCertAndKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate};

use super::conninfo::{Roots, SslMode};
use crate::config::ServerTls;
use crate::tls::{Socket, client_config, provider, read_certificates};

/// A name with a certificate that lasts less than this deserves a word.
pub(super) const DAYS_FEW: i64 = 14;
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// What would be refused by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    /// What is wrong.
    pub(super) what: String,
    /// What to do.
    pub(super) advice: String,
    /// The weakest way of checking that refuses it.
    pub(super) refused_by: SslMode,
}

/// What a certificate says, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Findings {
    /// DNS names and addresses.
    pub(super) names: Vec<String>,
    pub(super) issuer: String,
    /// Negative once it has expired.
    pub(super) days_left: i64,
    pub(super) flaws: Vec<Flaw>,
}

/// Whom certificates may come from.
pub(super) struct Trusted {
    roots: RootCertStore,
    /// As they are: a self-signed certificate may be the server's own.
    listed: Vec<CertificateDer<'static>>,
}

impl Trusted {
    /// Reads the roots; `None` where there are none. Blocks on files.
    pub(super) fn read(roots: &Roots) -> Result<Option<Self>, String> {
        let listed = match roots {
            Roots::None => return Ok(None),
            Roots::File(file) => read_certificates(Path::new(file)).map_err(|error| error.to_string())?,
            Roots::System => rustls_native_certs::load_native_certs().certs,
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(listed.iter().cloned());
        Ok(Some(Self { roots, listed }))
    }
}

/// Agrees on TLS with whoever answers, and shows him a certificate if he asks for one.
pub(super) async fn handshake(
    stream: TcpStream,
    name: ServerName<'static>,
    shown: Option<Arc<SingleCertAndKey>>,
) -> io::Result<TlsStream<Socket>> {
    let mut config = client_config(&ServerTls::Require).map_err(io::Error::other)?;
    if let Some(shown) = shown {
        Arc::make_mut(&mut config).client_auth_cert_resolver = shown;
    }
    TlsConnector::from(config)
        .connect(name, Socket::from(stream))
        .await
}

/// What is to be said about a chain, the server's own certificate first. `Err`: it cannot be read.
pub(super) fn examine(
    chain: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    trusted: Option<&Trusted>,
    now: UnixTime,
) -> Result<Findings, String> {
    let (leaf, intermediates) = chain.split_first().ok_or("the server has shown no certificate")?;
    let unreadable = |_| "the server's certificate cannot be read".to_owned();
    let (_, parsed) = parse_x509_certificate(leaf).map_err(|_| unreadable(()))?;
    let for_checks = ParsedCertificate::try_from(leaf).map_err(|_| unreadable(()))?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let left = parsed.validity().not_after.timestamp() - seconds;
    let names = names(&parsed);
    let mut flaws = Vec::new();
    let mut found = |refused_by, what: String, advice: &str| {
        flaws.push(Flaw {
            what,
            advice: advice.to_owned(),
            refused_by,
        });
    };
    if left < 0 {
        let days = -left.div_euclid(SECONDS_PER_DAY);
        let what = format!("the certificate has expired, {days} days ago");
        let advice = "renew it: pgwake takes a new file without a restart; if it is renewed, look why the new one is not served";
        found(SslMode::VerifyCa, what, advice);
    }
    if parsed.validity().not_before.timestamp() > seconds {
        found(
            SslMode::VerifyCa,
            "the certificate is not valid yet".to_owned(),
            "look at the clocks of both machines",
        );
    }
    if verify_server_name(&for_checks, name).is_err() {
        let what = format!(
            "the certificate is for {}, not for {}",
            list(&names),
            name.to_str()
        );
        let advice = "connect to one of its names, or give pgwake a certificate for this one ([tls] certificates); \
                      a wildcard stands for one label";
        found(SslMode::VerifyFull, what, advice);
    }
    if let Some(Trusted { roots, listed }) = trusted.filter(|trusted| !trusted.listed.contains(leaf)) {
        // At a moment when it was valid: that it is not has been told above.
        let then = valid_moment(&parsed, now);
        let algorithms = provider().signature_verification_algorithms.all;
        let checked =
            verify_server_cert_signed_by_trust_anchor(&for_checks, roots, intermediates, then, algorithms);
        if let Err(error) = checked {
            let what = format!(
                "the certificate is not trusted: it comes from {}, and sslrootcert has {} ({})",
                issuer(&parsed),
                list(&listed.iter().filter_map(|root| subject(root)).collect::<Vec<_>>()),
                reason(&error),
            );
            let advice = "sslrootcert has to name the authority's own certificate; the server has to send the \
                          intermediates along (a \"fullchain\" file)";
            found(SslMode::VerifyCa, what, advice);
        }
    }
    Ok(Findings {
        names,
        issuer: issuer(&parsed),
        days_left: left.div_euclid(SECONDS_PER_DAY),
        flaws,
    })
}

fn valid_moment(certificate: &X509Certificate<'_>, now: UnixTime) -> UnixTime {
    let validity = certificate.validity();
    let [begin, end] = [validity.not_before, validity.not_after]
        .map(|time| u64::try_from(time.timestamp()).unwrap_or_default());
    let seconds = now.as_secs().clamp(begin.min(end), end);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

fn reason(error: &Error) -> String {
    use rustls::CertificateError::{BadSignature, UnknownIssuer};
    match error {
        Error::InvalidCertificate(UnknownIssuer) => "unknown issuer".to_owned(),
        Error::InvalidCertificate(BadSignature) => {
            "another authority of the same name, made anew perhaps".to_owned()
        }
        other => other.to_string(),
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.map_or(&[][..], |extension| &extension.value.general_names);
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(four) => Some(std::net::Ipv4Addr::from(four).to_string()),
            Err(_) => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    };
    names.iter().filter_map(name).collect()
}

fn issuer(certificate: &X509Certificate<'_>) -> String {
    let common = certificate
        .issuer()
        .iter_common_name()
        .find_map(|name| name.as_str().ok());
    common.map_or_else(|| certificate.issuer().to_string(), |name| format!("{name:?}"))
}

fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let common = parsed
        .subject()
        .iter_common_name()
        .find_map(|name| name.as_str().ok());
    Some(common.map_or_else(|| parsed.subject().to_string(), |name| format!("{name:?}")))
}

/// The first few.
pub(super) fn list(names: &[String]) -> String {
    const SHOWN: usize = 4;
    match names {
        [] => "no name at all".to_owned(),
        names if names.len() <= SHOWN => names.join(", "),
        names => format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// 2030-01-01.
    const NOW: Duration = Duration::from_secs(1_893_456_000);

    /// A certificate of its own authority for one name, valid from one day to another.
    fn certificate(from: (i32, u8, u8), to: (i32, u8, u8)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["db.example.com".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    fn trusting(listed: &CertificateDer<'static>) -> Trusted {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates([listed.clone()]);
        let listed = vec![listed.clone()];
        Trusted { roots, listed }
    }

    fn found(shown: &CertificateDer<'static>, name: &'static str, trusted: Option<&Trusted>) -> Findings {
        let name = ServerName::try_from(name).unwrap();
        let now = UnixTime::since_unix_epoch(NOW);
        examine(std::slice::from_ref(shown), &name, trusted, now).unwrap()
    }

    fn refused_by(findings: &Findings) -> Vec<SslMode> {
        findings.flaws.iter().map(|flaw| flaw.refused_by).collect()
    }

    #[test]
    fn a_certificate_that_is_listed_itself_is_trusted_and_counted_down() {
        let own = certificate((2029, 1, 1), (2030, 1, 11));
        let findings = found(&own, "db.example.com", Some(&trusting(&own)));
        assert_eq!((findings.days_left, refused_by(&findings)), (10, vec![]));
        assert_eq!(findings.names, ["db.example.com"]);
        assert_eq!(refused_by(&found(&own, "db.example.com", None)), []);
    }

    #[test]
    fn all_that_is_wrong_is_found_with_who_would_refuse_it() {
        let other = trusting(&certificate((2029, 1, 1), (2031, 1, 1)));
        let expired = certificate((2020, 1, 1), (2029, 12, 22));
        let findings = found(&expired, "10.0.0.1", Some(&other));
        assert_eq!(findings.days_left, -10);
        let modes = [SslMode::VerifyCa, SslMode::VerifyFull, SslMode::VerifyCa];
        assert_eq!(refused_by(&findings), modes, "{findings:?}");
        assert!(findings.flaws[0].what.contains("10 days ago"), "{findings:?}");
        assert!(
            findings.flaws[2].what.contains("of the same name"),
            "{findings:?}"
        );
        let early = certificate((2031, 1, 1), (2032, 1, 1));
        let findings = found(&early, "db.example.com", Some(&trusting(&early)));
        assert!(findings.flaws[0].what.contains("not valid yet"), "{findings:?}");
    }
}
