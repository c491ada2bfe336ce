//! `pgwake demo`, as far as it goes wrong; what it does right is shown by `make test-demo`.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::harness::{directories::Directory, programs::Program};

#[tokio::test]
async fn a_demo_that_cannot_work_says_so_instead_of_what_to_paste() {
    let directory = Directory::new();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    // Root gets in and the user of Postgres does not; any other user cannot make anything in it.
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let data = closed.join("data");
    // Certificates are made in the folder that it is started in.
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pgwake"), directory.path().join("pgwake")).unwrap();
    let command = format!(
        "cd {} && ./pgwake demo --listen 127.0.0.1:0 --data {}",
        directory.path().display(),
        data.display()
    );

    let finished = Program::new("/bin/sh").arguments(&["-c", &command]).run().await;

    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.errors.contains(closed.to_str().unwrap()), "{finished:?}");
    assert!(!finished.output.contains("psql"), "{finished:?}");
}
