//! `pgwake doctor` and the files that libpq reads: services, passwords, a client's certificate.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use rcgen::date_time_ymd;

use super::doctoring::{assert_says, program, stopped_at};
use crate::harness::{
    certificates::Authority,
    gateway::{DOMAIN, Setup},
    postgres::{PASSWORD, Postgres, SUPERUSER, Version},
};

/// Writes a file that its owner alone can read.
fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn the_files_of_libpq_are_read_as_libpq_would() {
    const ENDPOINT: &str = "doc-files";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let home = gateway.path().join("home");
    fs::create_dir(&home).unwrap();
    let port = gateway.address().port();
    let service = format!(
        "[shop]\nhost={ENDPOINT}.{DOMAIN}\nhostaddr=127.0.0.1\nport={port}\nuser={SUPERUSER}\ndbname=postgres\n\
         sslmode=verify-full\nsslrootcert={}\n",
        gateway.path().join("ca.pem").display()
    );
    write(&home.join(".pg_service.conf"), &service);
    let pgpass = home.join(".pgpass");
    let password = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    write(
        &pgpass,
        &format!("*:1:*:*:sesame\n{ENDPOINT}.{DOMAIN}:{port}:*:{SUPERUSER}:{password}\n"),
    );
    let asked = || program("service=shop").variable("HOME", &home);

    let right = asked().run().await.succeeded();
    let from = format!("the password is that of {}", pgpass.display());
    assert_says(
        &right,
        &[
            "service shop of ",
            &from,
            "by SCRAM-SHA-256-PLUS",
            "everything is right",
        ],
    );
    assert!(!right.contains(PASSWORD) && !right.contains("sesame"), "{right}");

    fs::set_permissions(&pgpass, Permissions::from_mode(0o640)).unwrap();
    let open = asked().run().await;
    assert_eq!(open.status.code(), Some(1), "{open:#?}");
    let why = format!("run `chmod 600 {}`", pgpass.display());
    assert_says(
        &open.output,
        &[
            "is passed over, as by libpq",
            &why,
            "the server asks for a password",
        ],
    );

    let nowhere = program("service=nowhere").variable("HOME", &home).run().await;
    assert_eq!(nowhere.status.code(), Some(2), "{nowhere:#?}");
    assert_says(&nowhere.errors, &["there is no service \"nowhere\""]);
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_wanted() {
    const ENDPOINT: &str = "doc-shown";
    let postgres = Postgres::start(Version::Debian).await;
    let sql = "create role app login password 'for pgwake alone'";
    postgres.connect().await.batch_execute(sql).await.unwrap();
    let (clients, setup) = (Authority::new(), Setup::new());
    let folder = setup.path().join("clients");
    fs::create_dir(&folder).unwrap();
    let endpoint = format!(
        "[tenants.acme.endpoints.{ENDPOINT}]\nlogin = \"certificate\"\nclient_certificates.ca = \"{}\"\n\
         roles.app.server_password = \"for pgwake alone\"\n\
         compute = {{ kind = \"fixed\", address = \"{}\" }}\n",
        clients.write(&folder).display(),
        postgres.socket().display()
    );
    let gateway = setup.tenants(&endpoint).start().await;
    let paths = clients
        .certify_client("app", Vec::new(), |_| ())
        .write(gateway.path(), "client");
    let plain = gateway
        .connection_string(ENDPOINT)
        .replace("user=postgres", "user=app");
    let files = format!(
        "sslcert={} sslkey={}",
        paths.certificate.display(),
        paths.key.display()
    );
    let connection = format!("{plain} {files}");

    let right = program(&connection).run().await.succeeded();
    assert_says(&right, &["client.pem (CN=app) is shown", "everything is right"]);
    stopped_at("login", &format!("{connection} sslcertmode=disable")).await;
    stopped_at("login", &plain).await;
    let old = clients.certify_client("app", Vec::new(), |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let old = old.write(gateway.path(), "old");
    let (certificate, key) = (old.certificate.display(), old.key.display());
    let shown = format!("{plain} password='' sslcert={certificate} sslkey={key}");
    let refused = stopped_at("login", &shown).await;
    assert_says(
        &refused,
        &[
            "old.pem (CN=app) is shown",
            "it has expired",
            "show one that does",
        ],
    );
    fs::set_permissions(&paths.key, Permissions::from_mode(0o644)).unwrap();
    let open = stopped_at("tls", &connection).await;
    assert_says(&open, &["others can read ", "chmod 600 "]);
    gateway.server.stop().await;
}
