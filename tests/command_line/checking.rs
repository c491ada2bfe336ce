//! `pgwake check`, and `pgwake serve` on what it would refuse.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::pgwake;
use crate::harness::{directories::Directory, gateway::Setup, programs::Finished};

/// Writes a configuration and checks it.
async fn check(directory: &Directory, text: &str, more: &[&str]) -> (PathBuf, Finished) {
    let file = directory.path().join("pgwake.toml");
    fs::write(&file, text).unwrap();
    let finished = pgwake(&[&["check", file.to_str().unwrap()], more].concat())
        .run()
        .await;
    (file, finished)
}

#[tokio::test]
async fn check_shows_what_holds_and_where_it_comes_from() {
    let setup = Setup::new().tenants(
        "[tenants.acme]\nsuspend_after = \"1m30s\"\n\
         [tenants.acme.endpoints.chk-one]\nhold_timeout = \"7s\"\n\
         roles.app = { verifier = \"SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$\
         AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\", \
         server_password = \"chk-secret\" }\n\
         compute = { kind = \"fixed\", address = \"127.0.0.1:5432\" }\n",
    );
    let file = setup.write();
    let file = file.to_str().unwrap();
    let all = pgwake(&["check", file]).run().await.succeeded();
    assert!(all.contains("chk-one"), "{all}");
    let one = pgwake(&["check", file, "--endpoint", "chk-one"])
        .run()
        .await
        .succeeded();
    for (key, value, from) in [
        ("suspend_after", "1m30s", "pgwake.toml:"),
        ("hold_timeout", "7s", "pgwake.toml:"),
        ("start_timeout", "1m", "built-in"),
    ] {
        let line = one.lines().find(|line| line.contains(key));
        let line = line.unwrap_or_else(|| panic!("no {key}:\n{one}"));
        assert!(line.contains(from), "{line}");
        assert!(line.contains(value), "{line} {value}");
    }
    for text in [&all, &one] {
        assert!(
            !text.contains("chk-secret") && !text.contains("c2FsdHNh"),
            "{text}"
        );
    }
    let unknown = pgwake(&["check", file, "--endpoint", "chk-onee"]).run().await;
    assert_eq!(unknown.status.code(), Some(64));
    assert!(unknown.errors.contains("did you mean"), "{unknown:?}");
    assert!(!setup.path().join("state").exists(), "check has made something");
}

#[tokio::test]
async fn limits_that_can_never_be_reached_are_told_and_start_all_the_same() {
    let directory = Directory::new();
    let endpoint = |name: &str, more: &str| {
        let verifier = postgres_protocol::password::scram_sha_256(b"secret");
        format!(
            "[tenants.demo.endpoints.{name}]\nroles.app.verifier = \"{verifier}\"\n\
             compute = {{ kind = \"fixed\", address = \"127.0.0.1:5432\" }}\n{more}\n"
        )
    };
    let text = [
        "[listen]\npostgres = { address = \"127.0.0.1:0\", tls = \"optional\" }\n\
         [limits]\nserver_sessions_max = 40\n\
         [defaults.limits]\nper_role.clients_max = 500\n\
         [tenants.demo.limits]\nper_tenant.clients_max = 100\n"
            .to_owned(),
        endpoint("chk-inherits", ""),
        endpoint("chk-own", "limits.per_endpoint.clients_max = 200\npool.size = 50"),
        endpoint(
            "chk-small",
            "limits.per_endpoint.clients_max = 50\nlimits.per_role.clients_max = 50",
        ),
    ];

    let (file, checked) = check(&directory, &text.concat(), &[]).await;

    let told: Vec<&str> = checked
        .output
        .lines()
        .filter_map(|line| line.strip_prefix("note: "))
        .collect();
    let here = |line: usize, told: &str| format!("{}:{line}: {told} (endpoint chk-own)", file.display());
    assert_eq!(
        told,
        [
            here(
                16,
                "limits.per_endpoint.clients_max = 200 can never be reached, since limits.per_tenant.clients_max is 100"
            ),
            here(
                17,
                "pool.size = 50 can never be reached, since limits.server_sessions_max is 40"
            ),
        ]
    );
    assert_eq!(checked.status.code(), Some(0));
}

/// `check` found such a configuration right, and `serve` did not start with it.
#[tokio::test]
async fn certificates_that_could_not_be_served_are_problems() {
    let setup = Setup::new().certificate("one", &["one.db.localhost"]);
    let file = setup.write();
    let other = setup
        .authority
        .certify(&["one.db.localhost"])
        .write(setup.path(), "other");
    fs::copy(other.key, setup.path().join("one.key")).unwrap();

    let checked = pgwake(&["check", file.to_str().unwrap()]).run().await;

    assert_eq!(checked.status.code(), Some(64), "{checked:?}");
    for told in [
        "tls.certificates[0]: ",
        "one.key: it does not belong to the certificate",
        "fix: ",
    ] {
        assert!(checked.errors.contains(told), "{checked:?}");
    }
}

#[tokio::test]
async fn authorities_that_could_not_be_used_are_problems() {
    let directory = Directory::new();
    fs::write(directory.path().join("ca.pem"), "").unwrap();
    let text = "[listen]\npostgres = { address = \"127.0.0.1:0\", tls = \"optional\" }\n\
                [tenants.demo]\nlogin = \"certificate\"\nclient_certificates.ca = \"ca.pem\"\n\
                roles.app.server_password = \"secret\"\n\
                [tenants.demo.endpoints.chk-one]\n\
                compute = { kind = \"fixed\", address = \"127.0.0.1:5432\", ca = \"ca.pem\" }\n\
                [tenants.demo.endpoints.chk-two]\n\
                compute = { kind = \"fixed\", address = \"127.0.0.1:5432\" }\n";

    let (file, checked) = check(&directory, text, &[]).await;

    let empty = format!(
        "{}: there is no certificate in it",
        directory.path().join("ca.pem").display()
    );
    for (line, key) in [
        (5, "tenants.demo.client_certificates.ca"),
        (8, "tenants.demo.endpoints.chk-one.compute.ca"),
    ] {
        let told = format!("{}:{line}: {key}: {empty}", file.display());
        assert!(checked.errors.contains(&told), "{told}\n{checked:?}");
    }
    assert!(
        checked.errors.ends_with("2 problems in the configuration\n"),
        "{checked:?}"
    );
}

/// A name that was mistyped was found by the first client that could not come in.
#[tokio::test]
async fn key_files_that_nobody_could_come_in_by_are_told() {
    let directory = Directory::new();
    let text = "[listen]\npostgres = { address = \"127.0.0.1:0\", tls = \"optional\" }\n\
                [tenants.demo]\nlogin = \"token\"\nroles.app.server_password = \"secret\"\n\
                tokens = { keys = { file = \"keys.json\" }, issuer = \"i\", audiences = [\"a\"] }\n\
                [tenants.demo.endpoints.chk-one]\n\
                compute = { kind = \"fixed\", address = \"127.0.0.1:5432\" }\n\
                [tenants.demo.endpoints.chk-two]\n\
                compute = { kind = \"fixed\", address = \"127.0.0.1:5432\" }\n";
    let keys = directory.path().join("keys.json");
    for (written, reason) in [(None, " cannot be read: "), (Some("{}"), ": it is no JWK set")] {
        written.iter().for_each(|text| fs::write(&keys, text).unwrap());

        let (file, checked) = check(&directory, text, &[]).await;

        let told = format!(
            "note: {}:6: tokens.keys: {}{reason}",
            file.display(),
            keys.display()
        );
        assert_eq!(checked.output.matches(&told).count(), 1, "{told}\n{checked:?}");
        assert_eq!(checked.status.code(), Some(0));
    }
}

/// Nobody was told, neither here nor where it was served.
#[tokio::test]
async fn certificates_that_have_expired_are_told() {
    let setup = Setup::new().certificate("one", &["one.db.localhost"]);
    let file = setup.write();
    let old = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let old = setup
        .authority
        .certify_with(&["one.db.localhost"], old)
        .write(setup.path(), "old");
    fs::rename(old.certificate, setup.path().join("one.pem")).unwrap();
    fs::rename(old.key, setup.path().join("one.key")).unwrap();

    let checked = pgwake(&["check", file.to_str().unwrap()]).run().await.succeeded();
    let mut served = pgwake(&["serve", "--config", file.to_str().unwrap()]).start();

    assert!(checked.contains("one.pem has expired, "), "{checked}");
    served
        .hear_error("clients that check this certificate refuse it")
        .await;
    served.hear_error("has expired, ").await;
}

const WRONG: &str = "\
[listen]
postgres = { address = \"127.0.0.1:0\", tls = \"optional\" }
[defaults]
suspend_after = 300
hold_timout = \"30s\"
[tenants.demo.endpoints.demo-main]
roles.app.verifier = \"secret\"
compute = { kind = \"fixed\" }
";

#[tokio::test]
async fn all_problems_are_told_at_once_with_line_key_and_fix() {
    let directory = Directory::new();
    let (file, finished) = check(&directory, WRONG, &[]).await;
    assert_eq!(finished.status.code(), Some(64));
    assert_eq!(finished.output, "");
    for (place, fix) in [
        ("pgwake.toml:4: defaults.suspend_after", "300s"),
        ("pgwake.toml:5: defaults.hold_timout", "hold_timeout"),
        (
            "pgwake.toml:7: tenants.demo.endpoints.demo-main.roles.app.verifier",
            "pgwake hash-password",
        ),
        (
            "pgwake.toml:8: tenants.demo.endpoints.demo-main.compute",
            "address",
        ),
    ] {
        let mut lines = finished.errors.lines();
        let problem = lines.any(|line| line.contains(place));
        assert!(problem, "{place} is missing:\n{}", finished.errors);
        assert!(finished.errors.contains(fix), "{fix}:\n{}", finished.errors);
    }

    let served = pgwake(&["serve", "--config", file.to_str().unwrap()]).run().await;
    assert_eq!(served.status.code(), Some(64));
    assert_eq!(served.errors, finished.errors);
}

#[tokio::test]
async fn a_key_set_twice_names_both_places() {
    let directory = Directory::new();
    let include = |name: &str| {
        let text = "[defaults]\nsuspend_after = \"1m\"\n";
        fs::write(directory.path().join(name), text).unwrap();
    };
    include("a.toml");
    include("b.toml");
    let text = "include = [\"?.toml\"]\n[listen]\npostgres = \"127.0.0.1:0\"\n";
    let (_, finished) = check(&directory, text, &[]).await;
    assert_eq!(finished.status.code(), Some(64));
    for place in ["a.toml:2", "b.toml:2"] {
        assert!(finished.errors.contains(place), "{}", finished.errors);
    }
}

#[tokio::test]
async fn secrets_come_from_private_files_and_the_environment() {
    let directory = Directory::new();
    let secret = directory.path().join("app.secret");
    fs::write(&secret, "pw\n").unwrap();
    let text = "\
        [listen]\npostgres = { address = \"127.0.0.1:0\", tls = \"optional\" }\n\
        [tenants.demo.endpoints.chk-secrets]\n\
        roles_from = { role = \"postgres\", password = { file = \"app.secret\" } }\n\
        roles.app = { verifier = \"md5b6e9ff5d1a6b3c3e2a5a5d9bb4e7fa55\", server_password = { env = \"CHK_PASSWORD\" } }\n\
        compute = { kind = \"fixed\", address = \"127.0.0.1:5432\" }\n";
    let file = directory.path().join("pgwake.toml");
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();

    fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
    let open = pgwake(&["check", file]).run().await;
    assert_eq!(open.status.code(), Some(64));
    assert!(open.errors.contains("chmod 600"), "{}", open.errors);
    assert!(open.errors.contains("CHK_PASSWORD is not set"), "{}", open.errors);

    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let private = pgwake(&["check", file])
        .variable("CHK_PASSWORD", "pw")
        .run()
        .await;
    private.succeeded();
}

#[tokio::test]
async fn a_file_that_is_not_there_is_a_wrong_configuration() {
    for command in [&["check"][..], &["serve", "--config"]] {
        let missing = Path::new("/nonexistent/pgwake.toml").to_str().unwrap();
        let finished = pgwake(&[command, &[missing]].concat()).run().await;
        assert_eq!(finished.status.code(), Some(64));
        assert!(finished.errors.contains(missing), "{finished:?}");
    }
}

#[tokio::test]
async fn three_thousand_endpoints_are_loaded_at_once() {
    let directory = Directory::new();
    let mut text = String::from("[listen]\npostgres = { address = \"127.0.0.1:0\", tls = \"optional\" }\n");
    for number in 0..3000 {
        text.push_str(&format!(
            "[tenants.t{number}.endpoints.chk-{number}]\nroles_from = \"postgres\"\n\
             compute = {{ kind = \"process\", data_dir = \"/var/lib/pgwake/chk-{number}\" }}\n"
        ));
    }
    let began = Instant::now();
    let (_, finished) = check(&directory, &text, &[]).await;
    assert!(finished.succeeded().contains("3000 endpoints"));
    // One second in a release build on a quiet machine; this is neither, and a square of 3,000 takes minutes.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}
