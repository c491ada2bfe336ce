//! What is made is what openssl and libpq accept, and nothing that exists is lost.

use std::{
    os::unix::fs::PermissionsExt,
    process::{Command, Output, Stdio},
};

use tempfile::{TempDir, tempdir};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::spawn_blocking,
};

use super::*;
use crate::config::CertificateFiles;
use crate::tls::{CertificateStore, Opening, accept};

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

fn made() -> (DevCertificates, TempDir) {
    let folder = tempdir().unwrap();
    (ensure(&folder.path().join("dev")).unwrap(), folder)
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

fn all(files: &DevCertificates) -> [String; 4] {
    [
        &files.ca,
        &files.ca.with_extension("key"),
        &files.certificate,
        &files.key,
    ]
    .map(|file| read(file))
}

fn openssl_verify(files: &DevCertificates, name: &[&str]) -> Output {
    let mut command = Command::new("openssl");
    command
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
        .arg(&files.ca);
    command.args(name).arg(&files.certificate).output().unwrap()
}

#[test]
fn openssl_accepts_every_name_and_no_other() {
    let (files, _folder) = made();
    let host = |name| ["-verify_hostname", name];
    let good = [
        host("demo-main.db.localhost"),
        host("db.localhost"),
        host("localhost"),
    ];
    for name in good
        .iter()
        .chain(&[["-verify_ip", "127.0.0.1"], ["-verify_ip", "::1"]])
    {
        let output = openssl_verify(&files, name);
        assert!(
            output.status.success(),
            "{name:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(!openssl_verify(&files, &host("demo.example.org")).status.success());
}

#[test]
fn keys_are_the_owners_alone_and_no_draft_is_left() {
    let (files, folder) = made();

    assert_eq!(mode(&files.key), 0o600);
    assert_eq!(mode(&files.ca.with_extension("key")), 0o600);
    assert_eq!(fs::read_dir(folder.path().join("dev")).unwrap().count(), 4);
}

#[test]
fn a_second_run_changes_nothing() {
    let (files, folder) = made();
    let before = all(&files);

    assert_eq!(ensure(&folder.path().join("dev")).unwrap(), files);

    assert_eq!(all(&files), before);
}

#[test]
fn a_certificate_that_runs_out_is_renewed_under_the_same_ca() {
    let (files, folder) = made();
    let [ca, ca_key, server, _] = all(&files);
    let later = |days: u32| SystemTime::now() + DAY * days;

    ensure_at(&folder.path().join("dev"), later(82)).unwrap();
    assert_eq!(read(&files.certificate), server, "8 days are left");

    ensure_at(&folder.path().join("dev"), later(84)).unwrap();
    let [ca_now, ca_key_now, server_now, _] = all(&files);
    assert_ne!(server_now, server, "6 days are left");
    assert_eq!((ca_now, ca_key_now), (ca, ca_key));
}

#[test]
fn a_ca_that_runs_out_is_renewed_with_its_key() {
    let (files, folder) = made();
    let [ca, ca_key, ..] = all(&files);

    ensure_at(&folder.path().join("dev"), SystemTime::now() + DAY * 3648).unwrap();

    let [ca_now, ca_key_now, ..] = all(&files);
    assert_ne!(ca_now, ca);
    assert_eq!(ca_key_now, ca_key);
}

#[test]
fn a_server_certificate_that_does_not_fit_is_made_anew() {
    let (files, folder) = made();
    let other = made();
    let dev = folder.path().join("dev");

    for spoil in [
        &(|| fs::write(&files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap()) as &dyn Fn(),
        &|| fs::write(&files.certificate, "rubbish").unwrap(),
        &|| fs::remove_file(&files.key).unwrap(),
        &|| fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap(),
        &|| {
            // Another CA of the same name.
            fs::copy(&other.0.certificate, &files.certificate).unwrap();
            fs::copy(&other.0.key, &files.key).unwrap();
        },
    ] {
        spoil();
        ensure(&dev).unwrap();
        assert!(
            openssl_verify(&files, &["-verify_hostname", "localhost"])
                .status
                .success()
        );
        assert_eq!(mode(&files.key), 0o600);
        let key = KeyPair::from_pem(&read(&files.key)).unwrap();
        let chain = read_certificates(&files.certificate).unwrap();
        assert!(belongs(&parse(&chain[0]).unwrap(), &key));
    }
}

#[test]
fn a_lost_ca_certificate_comes_back_with_the_same_key() {
    let (files, folder) = made();
    let before = all(&files);
    fs::remove_file(&files.ca).unwrap();

    ensure(&folder.path().join("dev")).unwrap();

    assert_eq!(all(&files)[1..], before[1..]);
    assert!(
        openssl_verify(&files, &["-verify_hostname", "localhost"])
            .status
            .success()
    );
}

#[test]
fn what_this_did_not_make_is_left_alone_and_named() {
    let (files, folder) = made();
    let dev = folder.path().join("dev");
    let ca_key = files.ca.with_extension("key");
    let key = read(&ca_key);

    fs::write(&ca_key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = ensure(&dev).unwrap_err().to_string();
    assert!(
        error.contains("ca.pem: ca.key is not its key; move it away"),
        "{error}"
    );

    fs::write(&ca_key, "mine").unwrap();
    let error = ensure(&dev).unwrap_err().to_string();
    assert!(error.contains("ca.key: it is not a private key"), "{error}");
    assert_eq!(read(&ca_key), "mine");

    fs::remove_file(&ca_key).unwrap();
    let error = ensure(&dev).unwrap_err().to_string();
    assert!(error.contains("ca.pem: its key (ca.key) is not there"), "{error}");

    fs::write(&ca_key, key).unwrap();
    fs::write(&files.ca, "rubbish").unwrap();
    let error = ensure(&dev).unwrap_err().to_string();
    assert!(error.contains("ca.pem: there is no certificate in it"), "{error}");
}

#[test]
fn a_new_key_is_never_written_over_another() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("ca.key");
    fs::write(&file, "mine").unwrap();

    let error = write_new(&file, "other", Reader::OwnerOnly).unwrap_err();

    assert!(
        matches!(error, DevCaError::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    );
    assert_eq!(read(&file), "mine");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// The CA's limits hold: a certificate that it signs for a name elsewhere convinces nobody.
#[test]
fn the_ca_cannot_vouch_for_names_elsewhere() {
    let (files, folder) = made();
    let ca_key = KeyPair::from_pem(&read(&files.ca.with_extension("key"))).unwrap();
    let clock = Clock(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap());
    let key = KeyPair::generate().unwrap();
    let mut params = server_params(clock).unwrap();
    params.subject_alt_names = CertificateParams::new(vec!["bank.example".to_owned()])
        .unwrap()
        .subject_alt_names;
    let forged = params
        .signed_by(&key, &Issuer::from_params(&ca_params(clock), &ca_key))
        .unwrap();
    let file = folder.path().join("forged.pem");
    fs::write(&file, forged.pem()).unwrap();

    let output = openssl_verify(
        &DevCertificates {
            certificate: file,
            ..files
        },
        &["-verify_hostname", "bank.example"],
    );

    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("permitted subtree violation"));
}

#[tokio::test]
async fn psql_accepts_it_with_verify_full() {
    let (files, _folder) = made();
    let pair = CertificateFiles {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
    };
    let store = CertificateStore::load(&[pair]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let line = format!(
        "host=demo-main.db.localhost hostaddr=127.0.0.1 port={port} user=app dbname=app sslmode=verify-full sslrootcert={}",
        files.ca.display()
    );
    let psql = Command::new("psql")
        .arg(line)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    let (mut stream, _) = listener.accept().await.unwrap();
    stream.read_exact(&mut [0; 8]).await.unwrap();
    stream.write_all(b"S").await.unwrap();
    let mut secured = accept(stream, &store, Opening::AfterSslRequest).await.unwrap();
    // What psql says next it says only to a server that it trusts.
    let length = secured.stream.read_u32().await.unwrap();
    let mut startup = vec![0; length as usize - 4];
    secured.stream.read_exact(&mut startup).await.unwrap();
    drop(secured);
    spawn_blocking(move || psql.wait_with_output())
        .await
        .unwrap()
        .unwrap();

    assert_eq!(startup[..4], [0, 3, 0, 0]);
}
