//! What makes pgwake read its configuration again: SIGHUP, an editor's rename, a link that Kubernetes swaps.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, symlink},
    time::Duration,
};

use rustix::process::Signal;
use tokio::time::sleep;

use super::{fixed, rewrite};
use crate::harness::{
    child::Pgwake,
    gateway::Setup,
    postgres::{Postgres, Version},
    python::python,
    wait::until,
};

#[tokio::test]
async fn changes_of_the_file_and_swapped_links_are_noticed() {
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new().tenants(&fixed(
        "acme",
        "rel-notice",
        &postgres,
        "limits.per_endpoint.clients_max = 5",
    ));
    let file = setup.write();
    let mut gateway = setup.start().await;
    gateway.server.follow(&file).unwrap();
    let max = |gateway: &crate::harness::gateway::Gateway| {
        let mut endpoints = gateway.server.house().directory.endpoints();
        endpoints.next().unwrap().quotas.per_endpoint.clients_max
    };
    let text = fs::read_to_string(&file).unwrap();
    rewrite(
        gateway.path(),
        &text.replace("clients_max = 5", "clients_max = 6"),
    );
    until("the renamed file holds", async || max(&gateway) == Some(6)).await;

    // In place, in two writes: what stands there in between is wrong, or does not count.
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    fs::write(&file, text.replace("clients_max = 5", "clients_max = 7")).unwrap();
    until("the rewritten file holds", async || max(&gateway) == Some(7)).await;

    // As Kubernetes does: the file is a link into a folder behind a link, and that one is swapped.
    for max in [8, 9] {
        let data = gateway.path().join(format!("data-{max}"));
        fs::create_dir(&data).unwrap();
        fs::write(
            data.join("pgwake.toml"),
            text.replace("clients_max = 5", &format!("clients_max = {max}")),
        )
        .unwrap();
    }
    let swap = |to: &str| {
        let new = gateway.path().join("..new");
        symlink(to, &new).unwrap();
        fs::rename(new, gateway.path().join("..data")).unwrap();
    };
    swap("data-8");
    let link = gateway.path().join("link");
    symlink("..data/pgwake.toml", &link).unwrap();
    fs::rename(&link, &file).unwrap();
    until("the link's file holds", async || max(&gateway) == Some(8)).await;
    swap("data-9");
    until("the swapped file holds", async || max(&gateway) == Some(9)).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn what_has_changed_while_pgwake_began_is_noticed() {
    let postgres = Postgres::start(Version::Debian).await;
    let limit = |max: usize| format!("limits.per_endpoint.clients_max = {max}");
    let setup = Setup::new().tenants(&fixed("acme", "rel-early", &postgres, &limit(5)));
    let file = setup.write();
    let mut gateway = setup.start().await;
    let text = fs::read_to_string(&file).unwrap();
    rewrite(gateway.path(), &text.replace(&limit(5), &limit(6)));

    gateway.server.follow(&file).unwrap();

    until("the file of now holds", async || {
        let mut endpoints = gateway.server.house().directory.endpoints();
        endpoints.next().unwrap().quotas.per_endpoint.clients_max == Some(6)
    })
    .await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_file_that_comes_into_an_included_folder_is_noticed() {
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new().tenants(&fixed("acme", "rel-first", &postgres, ""));
    let file = setup.write();
    let mut gateway = setup.start().await;
    let text = fs::read_to_string(&file).unwrap();
    fs::create_dir(gateway.path().join("tenants.d")).unwrap();
    rewrite(
        gateway.path(),
        &format!("include = [\"tenants.d/*.toml\"]\n{text}"),
    );
    gateway.server.follow(&file).unwrap();
    for name in ["rel-second", "rel-third"] {
        let tenant = gateway.path().join(format!("tenants.d/{name}.toml"));
        fs::write(&tenant, fixed("other", name, &postgres, "")).unwrap();
        let name = pgwake::ids::EndpointName::parse(name).unwrap();
        let directory = &gateway.server.house().directory;
        until("the new file holds", async || directory.endpoint(&name).is_some()).await;
        if name.as_str() == "rel-third" {
            fs::remove_file(&tenant).unwrap();
            until("the file is gone", async || directory.endpoint(&name).is_none()).await;
        }
    }
    gateway.server.stop().await;
}

/// Where it was missing at the start, no change of any file was noticed from then on.
#[tokio::test]
async fn an_included_folder_that_comes_later_is_noticed_and_keeps_no_other_change_from_it() {
    let postgres = Postgres::start(Version::Debian).await;
    let limit = |max: usize| format!("limits.per_endpoint.clients_max = {max}");
    let setup = Setup::new().tenants(&fixed("acme", "rel-before", &postgres, &limit(5)));
    let file = setup.write();
    let mut gateway = setup.start().await;
    let text = fs::read_to_string(&file).unwrap();
    let text = format!("include = [\"later/tenants.d/*.toml\"]\n{text}");
    rewrite(gateway.path(), &text);
    gateway.server.follow(&file).unwrap();

    rewrite(gateway.path(), &text.replace(&limit(5), &limit(6)));
    until("the file holds", async || {
        let mut endpoints = gateway.server.house().directory.endpoints();
        endpoints.next().unwrap().quotas.per_endpoint.clients_max == Some(6)
    })
    .await;

    let folder = gateway.path().join("later/tenants.d");
    fs::create_dir_all(&folder).unwrap();
    for name in ["rel-later", "rel-latest"] {
        let tenant = fixed("other", name, &postgres, "");
        fs::write(folder.join(format!("{name}.toml")), tenant).unwrap();
        let name = pgwake::ids::EndpointName::parse(name).unwrap();
        let directory = &gateway.server.house().directory;
        until("the file of the new folder holds", async || {
            directory.endpoint(&name).is_some()
        })
        .await;
        fs::remove_file(folder.join(format!("{name}.toml"))).unwrap();
        until("the file is gone", async || directory.endpoint(&name).is_none()).await;
    }
    gateway.server.stop().await;
}

/// With its log beside its configuration, pgwake read that again five times a second, and logged each time that it had.
#[tokio::test]
async fn what_is_written_beside_the_files_is_no_change_of_them() {
    let postgres = Postgres::start(Version::Debian).await;
    let one = fixed("acme", "rel-log", &postgres, "");
    let setup = Setup::new().tenants(&one);
    fs::write(setup.path().join("pgwake.log"), "").unwrap();
    let pgwake = Pgwake::start(&setup).await;
    let log = OpenOptions::new()
        .append(true)
        .open(setup.path().join("pgwake.log"));
    let mut log = log.unwrap();
    // Each for itself: what comes together is one change, and would be read with that of the file below.
    for _ in 0..3 {
        log.write_all(b"a line\n").unwrap();
        sleep(Duration::from_millis(600)).await;
    }
    let text = fs::read_to_string(setup.path().join("pgwake.toml")).unwrap();
    // In place: no name comes or goes.
    let two = format!("{text}\n{}", fixed("acme", "rel-log-two", &postgres, ""));
    fs::write(setup.path().join("pgwake.toml"), two).unwrap();
    until("the new endpoint serves", async || {
        pgwake.try_connect("rel-log-two").await.is_ok()
    })
    .await;
    pgwake.signal(Signal::TERM);
    let told = pgwake.end().await.errors;
    assert!(told.contains("configuration reloaded"), "{told}");
    assert!(!told.contains("nothing has changed"), "{told}");
}

#[tokio::test]
async fn sighup_has_the_configuration_read_again() {
    let postgres = Postgres::start(Version::Debian).await;
    let one = fixed("acme", "rel-hup", &postgres, "");
    let setup = Setup::new().tenants(&one);
    let pgwake = Pgwake::start(&setup).await;
    pgwake.connect("rel-hup").await;
    let text = fs::read_to_string(setup.path().join("pgwake.toml")).unwrap();
    rewrite(
        setup.path(),
        &format!("{text}\n{}", fixed("acme", "rel-hup-two", &postgres, "")),
    );
    pgwake.signal(Signal::HUP);
    until("the new endpoint serves", async || {
        pgwake.try_connect("rel-hup-two").await.is_ok()
    })
    .await;
    pgwake.signal(Signal::TERM);
    assert!(pgwake.end().await.status.success());
}

/// A disk that did not answer, under the configuration, kept pgwake from its end: SIGTERM waited for the reload.
#[tokio::test]
async fn a_reload_that_waits_for_its_disk_keeps_pgwake_from_no_end() {
    let setup = Setup::new();
    // What pgwake makes beside its configuration has that read again.
    for folder in ["state", "sockets"] {
        let mut private = fs::DirBuilder::new();
        private.mode(0o700).create(setup.path().join(folder)).unwrap();
    }
    let pgwake = Pgwake::start(&setup).await;
    let file = setup.path().join("pgwake.toml");
    let mut disk = python("slow_file", &[file.to_str().unwrap()]).start();
    disk.hear_error("held").await;
    pgwake.signal(Signal::HUP);
    disk.hear_error("asked").await;

    let log = pgwake.ends_cleanly().await;

    assert!(!log.contains("configuration read again"), "{log}");
}
