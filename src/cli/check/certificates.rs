//! Files of certificates and keys: whether `pgwake serve` could use what is in them, and what clients would say of it today.
//!
//! That they are there and can be read the configuration has seen; what is in them only `tls` knows.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::auth::{check_authority, key_file_problem};
use crate::config::{
    Compute, Config, Endpoint, Level, Loaded, Origin, Place, Problem, Problems, ServerTls, TokenKeys,
};
use crate::tls::{AskClients, CertificateStore, TlsError, read_certificates};

/// Reads all of them. What is no mistake, and most likely not meant, is returned.
///
/// # Errors
/// [`Problems`]: every file that cannot be used.
pub(super) fn check(loaded: &Loaded) -> Result<Vec<String>, Problems> {
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    let shown = loaded.origins.process.get("tls.certificates");
    for (index, files) in loaded.config.certificates.iter().enumerate() {
        match CertificateStore::prepare(std::slice::from_ref(files), AskClients::Never) {
            Ok(prepared) => notes.extend(prepared.doubts()),
            Err(error) => problems.push(problem(
                shown,
                &format!("tls.certificates[{index}]"),
                &error,
                "name a chain of certificates (PEM, leaf first) and its own key (PEM, not encrypted)",
            )),
        }
    }
    for (key, place, error) in authorities(loaded) {
        let fix = "name a PEM file with the certificates of the authorities";
        let found = problem(place, &key, &error, fix);
        // A tenant's mistake is that of each of its endpoints.
        if !problems.contains(&found) {
            problems.push(found);
        }
    }
    notes.extend(key_files(loaded));
    match Problems::of(problems) {
        Some(problems) => Err(problems),
        None => Ok(notes),
    }
}

/// Those that cannot be used, with key and place.
fn authorities(loaded: &Loaded) -> Vec<(String, Option<&Origin>, TlsError)> {
    let Loaded { config, origins } = loaded;
    let mut found = Vec::new();
    for endpoint in config.endpoints.values() {
        let own = origins.endpoints.get(&endpoint.name);
        let tokens = endpoint.tokens.as_ref().map(|tokens| &tokens.keys);
        let of_clients = endpoint.client_certificates.as_ref().map(|rules| &rules.ca);
        let named = [
            ("compute.ca", server_ca(&endpoint.compute)),
            ("tokens.keys", tokens.and_then(keys_ca)),
        ];
        let read = named
            .into_iter()
            .filter_map(|(key, ca)| Some((key, read_certificates(ca?).err()?)));
        let of_clients =
            of_clients.and_then(|ca| Some(("client_certificates.ca", check_authority(ca).err()?)));
        for (key, error) in read.chain(of_clients) {
            let origin = own.and_then(|own| own.get(key));
            let whole = match origin.map(|origin| origin.level) {
                Some(Level::Defaults) => format!("defaults.{key}"),
                Some(Level::Tenant) => format!("tenants.{}.{key}", endpoint.tenant),
                _ => format!("tenants.{}.endpoints.{}.{key}", endpoint.tenant, endpoint.name),
            };
            found.push((whole, origin, error));
        }
    }
    found.extend(of_control_plane(config).into_iter().map(|(key, error)| {
        let key = format!("control_plane.{key}");
        let origin = origins.process.get(&key);
        (key, origin, error)
    }));
    found
}

/// Files without a key for tokens: nobody would come in by one, until there is one.
fn key_files(loaded: &Loaded) -> BTreeSet<String> {
    let of_endpoint = |endpoint: &Arc<Endpoint>| {
        let problem = key_file_problem(&endpoint.tokens.as_ref()?.keys)?;
        let origin = loaded.origins.endpoints.get(&endpoint.name)?.get("tokens.keys")?;
        Some(format!("{}: tokens.keys: {problem}", origin.place))
    };
    loaded.config.endpoints.values().filter_map(of_endpoint).collect()
}

fn of_control_plane(config: &Config) -> Vec<(&'static str, TlsError)> {
    let Some(rules) = &config.control_plane else {
        return Vec::new();
    };
    let named = [("ca", &rules.ca), ("server_ca", &rules.server_ca)];
    let read = named.map(|(key, ca)| Some((key, read_certificates(ca.as_deref()?).err()?)));
    read.into_iter().flatten().collect()
}

fn server_ca(compute: &Compute) -> Option<&PathBuf> {
    let tls = match compute {
        Compute::Fixed(fixed) => &fixed.tls,
        Compute::Command(command) => command.tls.as_ref()?,
        Compute::Process(_) | Compute::Controlled(_) => return None,
    };
    match tls {
        ServerTls::VerifyCa { ca } | ServerTls::VerifyFull { ca } => Some(ca),
        ServerTls::Disable | ServerTls::Require => None,
    }
}

fn keys_ca(keys: &TokenKeys) -> Option<&PathBuf> {
    match keys {
        TokenKeys::Url { ca, .. } => ca.as_ref(),
        TokenKeys::File(_) => None,
    }
}

/// A key that came with no place stands in no file of its own: that cannot be, since each of these was said.
fn problem(origin: Option<&Origin>, key: &str, error: &TlsError, fix: &str) -> Problem {
    let nowhere = || Place {
        file: Path::new("").into(),
        line: 0,
    };
    Problem {
        place: origin.map_or_else(nowhere, |origin| origin.place.clone()),
        key: key.to_owned(),
        message: error.to_string(),
        fix: fix.to_owned(),
    }
}
