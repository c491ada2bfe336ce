//! An authority and a server's certificate for one run: P-256, as browsers' authorities give them.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};

use super::work::Work;

/// What the server is asked for.
const NAMES: [&str; 3] = ["localhost", "*.db.localhost", "127.0.0.1"];

/// Files of a server: its own, which nobody else can read.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What clients trust, and the same certificate twice: for pgwake, and for the servers' user.
#[derive(Debug, Clone)]
pub(super) struct Certificates {
    pub(super) ca: PathBuf,
    pub(super) ours: Certificate,
    pub(super) theirs: Certificate,
}

impl Certificates {
    /// # Errors
    /// The folder takes nothing.
    pub(super) fn make(work: &Work) -> Result<Self, String> {
        let (ca, chain, key) = texts().map_err(|error| format!("no certificate could be made: {error}"))?;
        Ok(Self {
            ca: work.file("ca.pem", &ca)?,
            ours: Certificate {
                certificate: work.own_file("own-server.pem", &chain)?,
                key: work.own_file("own-server.key", &key)?,
            },
            theirs: Certificate {
                certificate: work.file("server.pem", &chain)?,
                key: work.file("server.key", &key)?,
            },
        })
    }
}

fn texts() -> Result<(String, String, String), rcgen::Error> {
    let named = |names: &[&str], common: &str| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut parameters = CertificateParams::new(names)?;
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, common);
        Ok::<_, rcgen::Error>(parameters)
    };
    let mut authority = named(&[], "an authority for one run")?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority_key = KeyPair::generate()?;
    let ca = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let chain = named(&NAMES, "localhost")?.signed_by(&key, &issuer)?.pem();
    Ok((ca, chain, key.serialize_pem()))
}
