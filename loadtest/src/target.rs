//! What is measured: an address with all that a client needs there, and what is known of the process behind it.
//!
//! Read from a JSON file for targets that are there, made by `bench` for those that it starts. The password is
//! never written anywhere.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsConnector;

/// What part a target plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    /// What this is about.
    #[default]
    Subject,
    /// What ratios are told against.
    Baseline,
    /// The server itself, without a proxy.
    Direct,
}

/// One address to be measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// How reports call it.
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) part: Part,
    pub(crate) address: SocketAddr,
    /// The roots that are trusted (PEM); without it, plaintext.
    #[serde(default)]
    pub(crate) ca: Option<PathBuf>,
    /// The name that is asked for and verified in TLS.
    #[serde(default)]
    pub(crate) server_name: Option<String>,
    /// `options` of the startup message: names the endpoint where no server name does.
    #[serde(default)]
    pub(crate) options: Option<String>,
    pub(crate) role: String,
    pub(crate) database: String,
    #[serde(skip_serializing)]
    pub(crate) password: String,
    /// The proxy's process, for its CPU and memory.
    #[serde(default)]
    pub(crate) pid: Option<u32>,
    /// As reports show it.
    #[serde(default)]
    pub(crate) version: String,
    /// As reports show it.
    #[serde(default)]
    pub(crate) configuration: String,
    /// For scenarios about sleep: where it shows that the compute sleeps.
    #[serde(default)]
    pub(crate) sleeper: Option<Sleeper>,
}

/// Where a local compute shows whether it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sleeper {
    /// The endpoint's name in the proxy's log.
    pub(crate) endpoint: String,
    /// `postmaster.pid`: there is none while the compute sleeps.
    pub(crate) pid_file: PathBuf,
    /// The server's own log, which has a line for each start.
    pub(crate) server_log: PathBuf,
    /// The proxy's log as JSON, for the phases of a wake.
    #[serde(default)]
    pub(crate) proxy_log: Option<PathBuf>,
}

impl Sleeper {
    /// Whether no server runs.
    pub(crate) fn sleeps(&self) -> bool {
        !self.pid_file.exists()
    }

    /// How often a server has been started so far, by its own word.
    pub(crate) fn starts(&self) -> usize {
        let log = fs::read_to_string(&self.server_log).unwrap_or_default();
        log.lines()
            .filter(|line| line.contains("starting PostgreSQL"))
            .count()
    }
}

impl Target {
    /// What TLS needs; `None`: plaintext.
    ///
    /// # Errors
    /// The roots cannot be read.
    pub(crate) fn connector(&self) -> Result<Option<TlsConnector>, String> {
        let Some(ca) = &self.ca else { return Ok(None) };
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", ca.display());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| wrong(&error))? {
            roots
                .add(certificate.map_err(|error| wrong(&error))?)
                .map_err(|error| wrong(&error))?;
        }
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Each connect is to be a full handshake, as libpq's are.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Some(TlsConnector::from(Arc::new(config))))
    }

    /// The same without TLS; the endpoint is named by `options` instead.
    pub(crate) fn plain(&self) -> Self {
        Self {
            ca: None,
            ..self.clone()
        }
    }

    /// `tls` or `plain`.
    pub(crate) fn security(&self) -> &'static str {
        if self.ca.is_some() { "tls" } else { "plain" }
    }
}
