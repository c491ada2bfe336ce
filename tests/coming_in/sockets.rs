//! Listening on Unix sockets, beside TCP or alone.

use std::{fs, os::unix::fs::PermissionsExt};

use super::access_of;
use crate::harness::{
    gateway::Setup,
    postgres::{PASSWORD, Postgres, SUPERUSER, Version},
    psql::psql,
};

#[tokio::test]
async fn psql_comes_in_by_a_unix_socket() {
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new();
    let directory = setup.path().join("run");
    let socket = directory.join(".s.PGSQL.5432");
    fs::create_dir(&directory).unwrap();
    // What a pgwake that was killed leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let gateway = setup
        .listen(&format!(
            "[\"127.0.0.1:0\", {{ unix = \"{}\", mode = \"0642\", default_endpoint = \"soc-default\" }}]",
            socket.display()
        ))
        .fixed("soc-default", &postgres, "")
        .fixed("soc-beside", &postgres, "")
        .start()
        .await;
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o7777,
        0o642
    );

    for (options, endpoint) in [("", "soc-default"), ("endpoint=soc-beside", "soc-beside")] {
        let application = format!("soc-app-{endpoint}");
        let connection = format!(
            "host={} port=5432 user={SUPERUSER} password='{}' dbname=postgres sslmode=prefer options='{options}' \
             application_name={application}",
            directory.display(),
            PASSWORD.replace('\'', "\\'"),
        );
        let said = psql(&connection).arguments(&["-c", "select 6 * 7"]).run().await;
        assert_eq!(said.succeeded(), "42");
        let access = access_of(&application).await;
        assert_eq!(access.field("endpoint"), endpoint);
        assert_eq!(access.field("peer"), "local");
        assert_eq!(access.field("tls"), "off");
    }

    gateway.server.stop().await;
    assert!(!socket.exists(), "the socket is left behind");
}

#[tokio::test]
async fn two_do_not_listen_in_one_place() {
    let first = Setup::new();
    let socket = first.path().join(".s.PGSQL.5432");
    let listen = format!("{{ unix = \"{}\" }}", socket.display());
    let first = first.listen(&listen).start().await;
    let second = Setup::new().listen(&listen).start_untaught().await;
    let error = second.err().unwrap().to_string();
    assert!(error.contains(socket.to_str().unwrap()), "{error}");
    assert!(socket.exists(), "the loser took the socket away");
    first.server.stop().await;
}

#[tokio::test]
async fn what_is_no_socket_is_named_and_left_alone() {
    let place = Setup::new();
    let (file, link) = (place.path().join("file"), place.path().join("link"));
    fs::write(&file, "kept").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [&file, &link] {
        let listen = format!("{{ unix = \"{}\" }}", path.display());
        let refused = Setup::new().listen(&listen).start_untaught().await;
        let error = refused.err().unwrap().to_string();
        let expected = format!(
            "cannot listen on {}: there is something that is no socket",
            path.display()
        );
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(fs::read_to_string(path).unwrap(), "kept");
    }
}
