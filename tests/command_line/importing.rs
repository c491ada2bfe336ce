//! `pgwake import-pgbouncer`, with the files that Debian's package brings, and through to a query.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::pgwake;
use crate::harness::{
    child::Pgwake,
    directories::Directory,
    gateway::Setup,
    postgres::{Postgres, Version},
    psql::psql,
};

/// The example of the package's documentation.
const EXAMPLE: &str = "/usr/share/doc/pgbouncer/examples/pgbouncer.ini";
/// Where a system without documentation has the same.
const INSTALLED: &str = "/etc/pgbouncer/pgbouncer.ini";

fn example() -> String {
    let text = fs::read_to_string(EXAMPLE).or_else(|_| fs::read_to_string(INSTALLED));
    text.unwrap_or_else(|error| panic!("{INSTALLED}: {error}; run .ci/setup tests"))
}

/// Imports these two files, and writes what comes out beside them.
async fn import(folder: &Path, ini: &str, userlist: &str) -> (PathBuf, String) {
    let [ini_file, userlist_file, file] =
        ["pgbouncer.ini", "userlist.txt", "pgwake.toml"].map(|name| folder.join(name));
    fs::write(&ini_file, ini).unwrap();
    fs::write(&userlist_file, userlist).unwrap();
    let arguments = [ini_file.to_str().unwrap(), userlist_file.to_str().unwrap()];
    let imported = pgwake(&["import-pgbouncer"])
        .arguments(&arguments)
        .run()
        .await
        .succeeded();
    fs::write(&file, &imported).unwrap();
    let checked = pgwake(&["check", file.to_str().unwrap()]).run().await;
    assert!(checked.status.success(), "{checked:#?}\n{imported}");
    (file, imported)
}

/// A file's keys that stand behind a `;`, switched on.
fn switched_on(text: &str) -> String {
    let line = |line: &str| {
        let inside = line.strip_prefix(';').map(str::trim_start);
        let is_key = |text: &&str| {
            let (key, _) = text.split_once('=').unwrap_or(("", ""));
            let key = key.trim();
            key == "*"
                || (!key.is_empty()
                    && key
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        };
        inside.filter(is_key).unwrap_or(line).to_owned() + "\n"
    };
    text.lines().map(line).collect()
}

fn keys(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with([';', '#', '[', '%']));
    lines
        .filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned()))
        .collect()
}

#[tokio::test]
async fn what_debian_installs_is_imported() {
    let directory = Directory::new();
    let (_, imported) = import(directory.path(), &example(), "").await;
    for says in [
        "127.0.0.1:6432",
        "/var/run/postgresql/.s.PGSQL.6432",
        "# logfile = ",
        "# pidfile = ",
    ] {
        assert!(imported.contains(says), "no {says:?} in\n{imported}");
    }
}

#[tokio::test]
async fn no_key_of_the_whole_example_is_lost() {
    let directory = Directory::new();
    let ini = switched_on(&example());
    let all = keys(&ini);
    assert!(all.len() > 80, "only {} keys: {all:?}", all.len());
    let userlist = "\"user2\" \"its password\"\n\"stats\" \"md500112233445566778899aabbccddeeff\"\n";
    let (file, imported) = import(directory.path(), &ini, userlist).await;
    // What has a place, and its value there.
    for carried in [
        "clients_max = 100",
        "login_timeout = \"1m\"",
        "connect_timeout = \"15s\"",
        "mode = \"session\"",
        "size = 20",
        "wait_timeout = \"2m\"",
        "lifetime = \"1h\"",
        "idle_time = \"10m\"",
        "address = \"127.0.0.1:6432\"",
        "[admin.roles.user2]",
        "pool.size = 50",
        "default_endpoint = \"fallback\"",
        "address = \"testserver:5432\"",
    ] {
        assert!(imported.contains(carried), "no {carried:?} in\n{imported}");
    }
    let placed = [
        "max_client_conn",
        "client_login_timeout",
        "server_connect_timeout",
        "pool_mode",
        "default_pool_size",
        "query_wait_timeout",
        "server_lifetime",
        "server_idle_timeout",
        "listen_addr",
        "listen_port",
        "unix_socket_dir",
        "auth_file",
        "auth_type",
        "client_tls_sslmode",
        "server_tls_sslmode",
        "server_tls_ca_file",
        "client_tls_key_file",
        "client_tls_cert_file",
        "*",
    ];
    let is_told = |key: &str| {
        let names = [
            format!("# {key} = "),
            format!("# {key} ="),
            format!("# [users] {key} ="),
            format!("PgBouncer's database {key}"),
        ];
        imported.lines().any(|line| {
            names
                .iter()
                .any(|name| line.starts_with(name) || line.ends_with(name))
        })
    };
    let lost: Vec<_> = all
        .iter()
        .filter(|key| !placed.contains(&key.as_str()) && !is_told(key))
        .collect();
    assert!(lost.is_empty(), "{lost:?} are lost in\n{imported}");
    assert!(!imported.contains("password=foo"), "{imported}");
    let shown = pgwake(&["check", file.to_str().unwrap(), "--endpoint", "nondefaultdb"])
        .run()
        .await
        .succeeded();
    assert!(shown.contains("pool.size") && shown.contains("50"), "{shown}");
}

#[tokio::test]
async fn a_client_of_pgbouncer_reaches_its_database_through_what_was_imported() {
    let postgres = Postgres::start(Version::Debian).await;
    let superuser = postgres.connect().await;
    superuser
        .batch_execute(
            "set password_encryption = 'scram-sha-256'; create role shop_app login password 'of the shop'",
        )
        .await
        .unwrap();
    superuser.batch_execute("create database shop").await.unwrap();
    superuser
        .batch_execute("create database \"Old Shop\"")
        .await
        .unwrap();
    let verifier = superuser
        .query_one(
            "select rolpassword from pg_authid where rolname = 'shop_app'",
            &[],
        )
        .await
        .unwrap();
    let verifier: String = verifier.get(0);
    let setup = Setup::new();
    let ini = format!(
        ";; as it was\n[databases]\nshop = host=127.0.0.1 port={port}\n\"Old Shop\" = host={socket} port={port}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = 0\nauth_type = scram-sha-256\npool_mode = transaction\n\
         max_client_conn = 50\ndefault_pool_size = 2\nserver_reset_query = DISCARD ALL\n\
         ignore_startup_parameters = extra_float_digits\n",
        port = postgres.port(),
        socket = postgres.socket_directory().display(),
    );
    let (file, imported) = import(setup.path(), &ini, &format!("\"shop_app\" \"{verifier}\"\n")).await;
    let state = format!("state_dir = \"{}\"", setup.path().join("state").display());
    fs::write(&file, imported.replace("state_dir = \"/var/lib/pgwake\"", &state)).unwrap();

    let serving = pgwake(&["serve", "--config", file.to_str().unwrap()]);
    let pgwake = Pgwake::start_as(serving, &setup).await;

    let connection = |database: &str, more: &str| {
        let port = pgwake.address().port();
        format!(
            "host=127.0.0.1 port={port} user=shop_app password='of the shop' dbname='{database}' sslmode=disable {more}"
        )
    };
    let who = ["-c", "select current_database(), current_user"];
    for database in ["shop", "Old Shop"] {
        let asked = psql(&connection(database, "")).arguments(&who).run().await;
        assert_eq!(asked.succeeded(), format!("{database}|shop_app"));
    }
    // A name that is not listed is answered as if nothing had been named, and a listed one goes to a login.
    let unlisted = psql(&connection("postgres", ""))
        .arguments(&who)
        .run()
        .await
        .failed();
    assert!(unlisted.contains("no endpoint is named"), "{unlisted}");
    let wrong = psql(&connection("shop", "password=sesame"))
        .arguments(&who)
        .run()
        .await
        .failed();
    assert!(wrong.contains("password authentication failed"), "{wrong}");
    let by_option = connection("postgres", "options=endpoint=old-shop");
    assert_eq!(
        psql(&by_option).arguments(&who).run().await.succeeded(),
        "postgres|shop_app"
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_prints_nothing() {
    let missing = pgwake(&["import-pgbouncer", "/nonexistent/pgbouncer.ini"])
        .run()
        .await;
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    assert!(
        missing.output.is_empty() && missing.errors.contains("/nonexistent/pgbouncer.ini"),
        "{missing:?}"
    );
}
