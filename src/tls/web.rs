//! How TLS is spoken to servers of the web, where keys of tokens come from, and to a control plane: always checked, chain
//! and name.
//!
//! It opens no connection. Who calls: `auth` and `control_plane`.

use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, client::Resumption};

use super::{TlsError, provider, read_certificates};

/// HTTP/1.1 alone is spoken.
const ALPN_HTTP: &[u8] = b"http/1.1";

/// Trusts the roots in `ca`, or those of the system. Blocks on files.
///
/// # Errors
/// [`TlsError::File`] where `ca` cannot be used.
pub(crate) fn web_client(ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let trusted = match ca {
        Some(ca) => read_certificates(ca)?,
        // Those that cannot be read are missed where they are needed.
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for tls 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
