//! Tables about what clients prove who they are with, beside passwords.
//!
//! What they mean together is `check`'s work. `file` takes them in.

use std::{path::PathBuf, time::Duration};

use crate::config::{
    CertificateName, TokenKeys,
    address::HttpsUrl,
    problem::{Report, Spot, Wrong},
    read::{List, Read, table},
    tree::Node,
};

table! {
    /// `tokens = { … }`; inherited key by key.
    TokensTable {
        /// Where the keys are.
        keys: TokenKeys,
        /// `iss`
        issuer: String,
        /// `aud`
        audiences: List<String>,
        /// The claim that names roles.
        role_claim: String,
        /// The claim that names tenants.
        tenant_claim: String,
        /// How far clocks may differ.
        leeway: Duration,
        /// Whether sessions end with their token.
        end_sessions: bool,
    }
}

table! {
    /// `client_certificates = { … }`; inherited key by key.
    ClientCertificatesTable {
        /// Who signs them.
        ca: PathBuf,
        /// Which name says the role.
        name: CertificateName,
    }
}

table! {
    /// `keys = { … }`
    TokenKeysTable {
        /// A file.
        file: PathBuf,
        /// A URL.
        url: HttpsUrl,
        /// The roots that the URL's server is trusted by.
        ca: PathBuf,
    }
}

impl Read for TokenKeys {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let table = TokenKeysTable::read(node, spot, report)?;
        if table.file.is_refused() || table.url.is_refused() || table.ca.is_refused() {
            return None;
        }
        let ca = table.ca.given();
        match (table.file.given(), table.url.given()) {
            (Some(file), None) if ca.is_none() => Some(Self::File(file.value.clone())),
            (None, Some(url)) => Some(Self::Url {
                url: url.value.0.clone(),
                ca: ca.map(|at| at.value.clone()),
            }),
            _ => {
                let fix = "write { file = \"…\" } or { url = \"https://…\" }, the latter with `ca` where the system does not know it";
                report.add(spot, Wrong::new("keys have either a `file` or a `url`", fix));
                None
            }
        }
    }

    fn keys(path: &str, keys: &mut Vec<String>) {
        keys.push(path.to_owned());
        TokenKeysTable::keys(path, keys);
    }
}
