//! A certification authority of a test's own, and certificates of servers and clients for any names.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, SignatureAlgorithm,
};
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore,
    client::{ResolvesClientCert, WantsClientCert},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Signs certificates; clients are told to trust it.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate of a server or a client and its key, as PEM.
pub(crate) struct ServerCertificate {
    chain: String,
    key: String,
}

/// Where a certificate and its key were written.
#[derive(Clone, Debug)]
pub(crate) struct CertificatePaths {
    /// The chain.
    pub(crate) certificate: PathBuf,
    /// The key, readable by its owner alone.
    pub(crate) key: PathBuf,
}

impl Authority {
    /// A fresh one, trusted by nobody.
    pub(crate) fn new() -> Self {
        Self::signing(&rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// One whose signatures, and so its certificates, are of this kind.
    pub(crate) fn signing(algorithm: &'static SignatureAlgorithm) -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "pgwake test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate_for(algorithm).unwrap()).unwrap())
    }

    /// A certificate for host names (wildcards too) and IP addresses.
    pub(crate) fn certify(&self, names: &[&str]) -> ServerCertificate {
        self.certify_with(names, |_| ())
    }

    /// The same, as `change` has it.
    pub(crate) fn certify_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> ServerCertificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        change(&mut params);
        let key = KeyPair::generate_for(self.0.key().algorithm()).unwrap();
        ServerCertificate {
            chain: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// A client's certificate with this common name and these further names, as `change` has it.
    pub(crate) fn certify_client(
        &self,
        common_name: &str,
        names: Vec<SanType>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> ServerCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate_for(self.0.key().algorithm()).unwrap();
        ServerCertificate {
            chain: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// [`Self::client_config`] of a client that shows a certificate where it is asked.
    pub(crate) fn client_config_with(&self, shown: &ServerCertificate) -> ClientConfig {
        let (chain, key) = shown.parts();
        self.trusting().with_client_auth_cert(chain, key).unwrap()
    }

    /// The same with whatever decides what is shown.
    pub(crate) fn client_config_resolving(&self, resolver: Arc<dyn ResolvesClientCert>) -> ClientConfig {
        self.trusting().with_client_cert_resolver(resolver)
    }

    fn trusting(&self) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
    }

    /// Writes the authority's own certificate, for libpq's `sslrootcert`.
    pub(crate) fn write(&self, directory: &Path) -> PathBuf {
        let path = directory.join("ca.pem");
        fs::write(&path, self.0.pem()).unwrap();
        path
    }

    /// What a client needs to trust servers of this authority; `alpn` is `postgresql` for direct TLS, else empty.
    pub(crate) fn client_config(&self, alpn: &[&str]) -> ClientConfig {
        let mut config = self.trusting().with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

impl ServerCertificate {
    /// What a server of the tests' own needs to speak TLS with it.
    pub(crate) fn server_config(&self) -> rustls::ServerConfig {
        let (chain, key) = self.parts();
        rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap()
    }

    fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        (chain.map(Result::unwrap).collect(), key)
    }

    /// Writes `<name>.pem` and `<name>.key`.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> CertificatePaths {
        let paths = CertificatePaths {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
        };
        fs::write(&paths.certificate, &self.chain).unwrap();
        let mut key = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&paths.key)
            .unwrap();
        std::io::Write::write_all(&mut key, self.key.as_bytes()).unwrap();
        paths
    }
}
