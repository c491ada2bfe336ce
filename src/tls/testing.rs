//! Certificates, sockets and settings that the tests of this room share.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::LazyLock, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::{TcpListener, TcpStream};

use super::{OwnAddresses, SocketSettings};
use crate::config::CertificateFiles;

pub(super) static SOCKETS: LazyLock<SocketSettings> = LazyLock::new(|| SocketSettings {
    keepalive: Duration::from_secs(60),
    user_timeout: Duration::from_secs(30),
    own: OwnAddresses::default(),
});

/// Two ends of one connection over loopback.
pub(super) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(address));
    (near.unwrap().0, far.unwrap())
}

/// An authority that signs what a test needs.
pub(super) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes `<stem>.pem` and `<stem>.key` for `names`, over whatever stands there.
    pub(super) fn issue(&self, folder: &Path, stem: &str, names: &[&str]) -> CertificateFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.0)
            .unwrap();
        write_pair(folder, stem, &certificate.pem(), &key.serialize_pem())
    }
}

pub(super) fn write_pair(folder: &Path, stem: &str, certificate: &str, key: &str) -> CertificateFiles {
    let files = CertificateFiles {
        certificate: folder.join(format!("{stem}.pem")),
        key: folder.join(format!("{stem}.key")),
    };
    fs::write(&files.certificate, certificate).unwrap();
    fs::write(&files.key, key).unwrap();
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
    files
}

/// Waits for what another thread or the system brings about; panics when it does not come.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tick.tick().await;
    }
    panic!("{what} did not come true within 10 s");
}
