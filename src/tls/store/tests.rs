//! Choosing, refusing and reloading certificates.

use std::os::unix::fs::symlink;

use rcgen::{CertificateParams, KeyPair};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::tls::testing::{Ca, write_pair};

/// A store of one certificate per list of names, and what it was made from.
fn store(lists: &[&[&str]]) -> (Arc<CertificateStore>, Ca, TempDir) {
    let (ca, folder) = (Ca::new(), tempdir().unwrap());
    let issue = |(number, names): (usize, &&[&str])| ca.issue(folder.path(), &number.to_string(), names);
    let files: Vec<_> = lists.iter().enumerate().map(issue).collect();
    (CertificateStore::load(&files).unwrap(), ca, folder)
}

fn chosen(store: &CertificateStore, name: Option<&str>) -> Vec<String> {
    store.choose(name).unwrap().names.clone()
}

/// What `load` says about a pair of files.
fn problem(files: CertificateFiles) -> (String, String) {
    match CertificateStore::load(&[files]) {
        Err(TlsError::File { file, problem }) => {
            (file.file_name().unwrap().to_str().unwrap().to_owned(), problem)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_exact_name_comes_before_a_wildcard_before_the_first() {
    let (store, ..) = store(&[
        &["first.example"],
        &["*.db.example"],
        &["demo.db.example"],
        &["Big.Example"],
    ]);

    assert_eq!(chosen(&store, Some("demo.db.example")), ["demo.db.example"]);
    assert_eq!(chosen(&store, Some("other.db.example")), ["*.db.example"]);
    assert_eq!(chosen(&store, Some("big.example")), ["big.example"]);
    assert_eq!(chosen(&store, Some("elsewhere.example")), ["first.example"]);
    assert_eq!(chosen(&store, None), ["first.example"]);
}

#[test]
fn a_wildcard_stands_for_exactly_one_label() {
    let (store, ..) = store(&[&["first.example"], &["*.db.example"]]);

    assert_eq!(chosen(&store, Some("a.b.db.example")), ["first.example"]);
    assert_eq!(chosen(&store, Some("db.example")), ["first.example"]);
}

#[test]
fn of_two_certificates_for_one_name_the_first_is_served() {
    let (store, ..) = store(&[&["a.example", "one.example"], &["a.example", "two.example"]]);

    assert_eq!(chosen(&store, Some("a.example")), ["a.example", "one.example"]);
}

#[test]
fn an_empty_store_serves_nothing() {
    let store = CertificateStore::load(&[]).unwrap();

    assert!(store.is_empty());
    assert!(store.choose(None).is_none());
}

#[test]
fn an_address_is_a_name_too() {
    let (store, ..) = store(&[&["127.0.0.1"]]);

    assert!(!store.is_empty());
    assert!(store.choose(None).is_some());
}

#[test]
fn an_error_names_the_file_and_what_is_wrong_with_it() {
    let (ca, folder) = (Ca::new(), tempdir().unwrap());
    let issue = |stem| ca.issue(folder.path(), stem, &["a.example"]);

    let mut missing = issue("a");
    missing.certificate = folder.path().join("missing.pem");
    let (file, said) = problem(missing);
    assert_eq!(file, "missing.pem");
    assert!(said.contains("No such file"), "{said}");

    let swapped = CertificateFiles {
        certificate: issue("a").certificate,
        key: issue("b").key,
    };
    let (file, said) = problem(swapped);
    assert_eq!(file, "b.key");
    assert!(said.contains("does not belong to the certificate in"), "{said}");

    let mut twice = issue("a");
    twice.certificate = twice.key.clone();
    assert_eq!(
        problem(twice),
        (
            "a.key".into(),
            "there is no certificate in it (`-----BEGIN CERTIFICATE-----`)".into()
        )
    );

    let files = issue("a");
    fs::write(
        &files.key,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let (file, said) = problem(files);
    assert_eq!(file, "a.key");
    assert!(
        said.contains("an encrypted one must be decrypted first"),
        "{said}"
    );

    let files = issue("a");
    fs::write(
        &files.certificate,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let (file, said) = problem(files);
    assert_eq!(file, "a.pem");
    assert!(said.contains("first certificate is not readable"), "{said}");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let (ca, folder) = (Ca::new(), tempdir().unwrap());
    let files = ca.issue(folder.path(), "a", &["a.example"]);
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();

    assert_eq!(
        problem(files.clone()),
        (
            "a.key".into(),
            "others can read it (mode 644); run chmod 600".into()
        )
    );

    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(CertificateStore::load(&[files]).is_ok(), "its group may");
}

#[test]
fn a_certificate_without_a_name_is_refused() {
    let folder = tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let nameless = CertificateParams::new(Vec::new())
        .unwrap()
        .self_signed(&key)
        .unwrap();

    let (file, said) = problem(write_pair(
        folder.path(),
        "a",
        &nameless.pem(),
        &key.serialize_pem(),
    ));

    assert_eq!(file, "a.pem");
    assert!(said.contains("names no host"), "{said}");
}

#[test]
fn a_reload_serves_what_changed_and_keeps_the_rest() {
    let (store, ca, folder) = store(&[&["a.example"], &["b.example"]]);
    let (a, b) = (
        store.choose(Some("a.example")).unwrap(),
        store.choose(Some("b.example")).unwrap(),
    );

    assert!(store.reload().changed.is_empty());
    let files = ca.issue(folder.path(), "1", &["b.example", "c.example"]);
    assert_eq!(store.reload().changed, [files.certificate]);

    assert!(Arc::ptr_eq(&store.choose(Some("a.example")).unwrap(), &a));
    assert!(!Arc::ptr_eq(&store.choose(Some("b.example")).unwrap(), &b));
    assert_eq!(chosen(&store, Some("c.example")), ["b.example", "c.example"]);
}

#[test]
fn a_broken_file_keeps_its_predecessor_is_told_once_and_holds_nobody_up() {
    let (store, ca, folder) = store(&[&["a.example"], &["b.example"]]);
    let a = store.choose(Some("a.example")).unwrap();
    fs::write(folder.path().join("0.pem"), "rubbish").unwrap();
    ca.issue(folder.path(), "1", &["new.example"]);

    let reloaded = store.reload();

    assert_eq!(reloaded.changed, [folder.path().join("1.pem")]);
    let [TlsError::File { file, .. }] = &reloaded.failed[..] else {
        panic!("{reloaded:?}")
    };
    assert_eq!(*file, folder.path().join("0.pem"));
    assert!(Arc::ptr_eq(&store.choose(Some("a.example")).unwrap(), &a));
    assert_eq!(chosen(&store, Some("new.example")), ["new.example"]);

    assert!(store.reload().failed.is_empty(), "the same problem is told once");
    fs::remove_file(folder.path().join("0.pem")).unwrap();
    assert_eq!(store.reload().failed.len(), 1, "a new problem is told");
    assert!(store.reload().failed.is_empty());

    ca.issue(folder.path(), "0", &["a.example"]);
    assert_eq!(store.reload().changed, [folder.path().join("0.pem")]);
    assert!(!Arc::ptr_eq(&store.choose(Some("a.example")).unwrap(), &a));
}

#[test]
fn a_link_to_another_certificate_counts_as_changed() {
    let (ca, folder) = (Ca::new(), tempdir().unwrap());
    let (old, new) = (
        ca.issue(folder.path(), "old", &["old.example"]),
        ca.issue(folder.path(), "new", &["new.example"]),
    );
    let files = CertificateFiles {
        certificate: folder.path().join("live.pem"),
        key: folder.path().join("live.key"),
    };
    symlink(&old.certificate, &files.certificate).unwrap();
    symlink(&old.key, &files.key).unwrap();
    let store = CertificateStore::load(std::slice::from_ref(&files)).unwrap();

    fs::remove_file(&files.certificate).unwrap();
    fs::remove_file(&files.key).unwrap();
    symlink(&new.certificate, &files.certificate).unwrap();
    symlink(&new.key, &files.key).unwrap();

    assert_eq!(store.reload().changed, [files.certificate]);
    assert_eq!(chosen(&store, None), ["new.example"]);
}
