//! pgwake's own login to the server: with the key that the client's proof revealed, or a password of its own.

use super::{log_in, startup, verifier};
use crate::harness::{
    certificates::Authority,
    gateway::{Gateway, Setup},
    logs,
    postgres::{PASSWORD, Postgres, Prepared, SUPERUSER, Version},
    tls_client,
    wait::until,
};

/// An endpoint whose configuration lists the role `app`.
async fn gateway(postgres: &Postgres, endpoint: &str, role: &str) -> Gateway {
    Setup::new()
        .tenants(&format!(
            "[tenants.acme.endpoints.{endpoint}]\n\
             roles.app = {role}\n\
             compute = {{ kind = \"fixed\", address = \"{}\" }}\n",
            postgres.socket().display()
        ))
        .start()
        .await
}

async fn with_app() -> (Postgres, String) {
    let postgres = Postgres::start(Version::Debian).await;
    let admin = postgres.connect().await;
    let sql = "create role app login password 'app secret'";
    admin.batch_execute(sql).await.unwrap();
    let sql = "select rolpassword from pg_authid where rolname = 'app'";
    let verifier = admin.query_one(sql, &[]).await.unwrap().get(0);
    (postgres, verifier)
}

#[tokio::test]
async fn a_copied_verifier_logs_in_without_any_password_of_ours() {
    let (postgres, own) = with_app().await;
    let gateway = gateway(&postgres, "srv-copied", &format!("{{ verifier = \"{own}\" }}")).await;
    log_in(&gateway, "srv-copied", "app", "app secret").await.unwrap();
}

#[tokio::test]
async fn logins_to_the_server_go_over_tls_and_are_bound_to_it() {
    let authority = Authority::new();
    for version in [Version::Debian, Version::V18] {
        let postgres = Prepared::new(version)
            .tls(&authority.certify(&["127.0.0.1"]))
            .start()
            .await;
        let endpoint = format!("srv-tls-{version:?}").to_lowercase();
        let setup = Setup::new();
        let ca = setup.path().join("server-ca");
        std::fs::create_dir(&ca).unwrap();
        let gateway = setup
            .tenants(&format!(
                "[tenants.acme.endpoints.{endpoint}]\n\
                 roles_from = {{ role = \"{SUPERUSER}\", password = \"{PASSWORD}\" }}\n\
                 compute = {{ kind = \"fixed\", address = \"127.0.0.1:{}\", tls = \"verify-full\", ca = \"{}\" }}\n",
                postgres.port(),
                authority.write(&ca).display()
            ))
            .start()
            .await;
        let client = gateway.connect(&endpoint).await;
        let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        assert!(client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));
        drop(client);
        gateway.server.stop().await;
    }
}

#[tokio::test]
async fn a_verifier_that_is_not_the_servers_own_is_told_to_both_sides() {
    let (postgres, _) = with_app().await;
    let other = verifier("app secret");
    let gateway = gateway(&postgres, "srv-other", &format!("{{ verifier = \"{other}\" }}")).await;
    let mut client = gateway.raw_to("srv-other").await;
    client.send(&startup("app")).await;
    client.answer("app secret").await;
    client.message().await.authentication(0);
    let refusal = client.message().await.fields();
    client.closed().await;

    assert_eq!((&*refusal[&'S'], &*refusal[&'C']), ("FATAL", "28P01"));
    assert!(refusal[&'H'].contains("rolpassword"), "{refusal:?}");
    assert!(refusal[&'D'].contains("verifier"), "{refusal:?}");
    let access = logs::access_lines("srv-other", 1).await.remove(0);
    assert!(
        refusal[&'D'].contains(access.field("session")),
        "{refusal:?} {access:?}"
    );
    assert_eq!(access.field("sqlstate"), "28P01");
    let told = logs::of_endpoint("srv-other");
    let warned = |line: &&logs::Line| line.level == tracing::Level::WARN;
    let warnings: Vec<_> = told.iter().filter(warned).collect();
    assert_eq!(warnings.len(), 1, "{told:?}");
    let words = format!("{:?}", warnings[0]);
    assert!(words.contains("the server's verifier"), "{words}");
    // No proof was sent: the server has nothing to complain about.
    let log = postgres.log();
    assert!(!log.contains("authentication failed"), "{log}");
}

#[tokio::test]
async fn other_rounds_are_a_difference_too() {
    let (postgres, own) = with_app().await;
    let other = own.replacen("4096:", "4097:", 1);
    let gateway = gateway(&postgres, "srv-rounds", &format!("{{ verifier = \"{other}\" }}")).await;
    // The client computes with what it is told, so its proof is wrong already.
    let error = log_in(&gateway, "srv-rounds", "app", "app secret")
        .await
        .unwrap_err();
    assert_eq!(error.code().code(), "28P01");
}

#[tokio::test]
async fn a_role_may_name_a_password_for_the_server() {
    let (postgres, _) = with_app().await;
    let own = verifier("for pgwake alone");
    let right = format!("{{ verifier = \"{own}\", server_password = \"app secret\" }}");
    let gateway = gateway(&postgres, "srv-named", &right).await;
    log_in(&gateway, "srv-named", "app", "for pgwake alone")
        .await
        .unwrap();
    let error = log_in(&gateway, "srv-named", "app", "app secret")
        .await
        .unwrap_err();
    assert_eq!(error.code().code(), "28P01");
}

#[tokio::test]
async fn a_server_password_that_is_wrong_fails_in_the_servers_words() {
    let (postgres, _) = with_app().await;
    let own = verifier("for pgwake alone");
    let wrong = format!("{{ verifier = \"{own}\", server_password = \"no longer\" }}");
    let gateway = gateway(&postgres, "srv-wrong", &wrong).await;
    let error = log_in(&gateway, "srv-wrong", "app", "for pgwake alone")
        .await
        .unwrap_err();
    assert_eq!(error.code().code(), "28P01");
    // It is the operator's to repair, so it is the operator who hears of it.
    until("the operator is told", async || {
        let lines = logs::of_endpoint("srv-wrong");
        lines.iter().any(|line| line.level == tracing::Level::WARN)
    })
    .await;
}

#[tokio::test]
async fn one_clients_mistake_is_not_its_neighbours() {
    let (postgres, own) = with_app().await;
    let gateway = gateway(&postgres, "srv-apart", &format!("{{ verifier = \"{own}\" }}")).await;
    for _ in 0..3 {
        let mut config = gateway.config("srv-apart");
        config
            .user("app")
            .password("app secret")
            .dbname("no such database");
        let refused = tls_client::connect(&config, &gateway.authority).await;
        let error = refused.err().unwrap();
        assert_eq!(error.code().unwrap().code(), "3D000");
        log_in(&gateway, "srv-apart", "app", "wrong").await.unwrap_err();
        log_in(&gateway, "srv-apart", "app", "app secret").await.unwrap();
    }
}

#[tokio::test]
async fn a_new_password_ends_the_pooled_sessions_of_the_old_one() {
    let (postgres, _) = with_app().await;
    let gateway = Setup::new().fixed("srv-changed", &postgres, "").start().await;
    let admin = postgres.connect().await;
    let sessions = async || -> Vec<i32> {
        let sql = "select pid from pg_stat_activity where usename = 'app' order by pid";
        let rows = admin.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    log_in(&gateway, "srv-changed-pooler", "app", "app secret")
        .await
        .unwrap();
    let old = sessions().await;
    assert_eq!(old.len(), 1, "it does not rest");
    // Behind pgwake's back: no tag tells of it.
    let sql = "alter role app password 'new secret'";
    admin.batch_execute(sql).await.unwrap();
    until("the new password is known", async || {
        log_in(&gateway, "srv-changed-pooler", "app", "new secret")
            .await
            .is_ok()
    })
    .await;
    until("the old session is closed", async || {
        let now = sessions().await;
        now.len() == 1 && now != old
    })
    .await;
}

/// What had been proved was forgotten with the last client that used it: those that had come before it were ended (57P01).
#[tokio::test]
async fn who_is_parked_is_served_with_the_newest_password_that_was_proved_while_it_stayed() {
    const ENDPOINT: &str = "srv-newest-pooler";
    let (postgres, _) = with_app().await;
    let gateway = Setup::new().fixed("srv-newest", &postgres, "").start().await;
    let admin = postgres.connect().await;
    let mut config = gateway.config(ENDPOINT);
    config.user("app").password("app secret");
    let parked = tls_client::connect(&config, &gateway.authority).await.unwrap();
    parked.simple_query("select 1").await.unwrap();
    let changed = async |password: &str| {
        let sql = format!("alter role app password '{password}'");
        admin.batch_execute(&sql).await.unwrap();
    };
    let end_sessions = async || {
        let sql = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'app'";
        admin.query(sql, &[]).await.unwrap();
    };

    changed("new secret").await;
    until("the new password is known", async || {
        log_in(&gateway, ENDPOINT, "app", "new secret").await.is_ok()
    })
    .await;
    end_sessions().await;
    parked.simple_query("select 1").await.unwrap();

    changed("newer secret").await;
    end_sessions().await;
    let ended = parked.simple_query("select 1").await.unwrap_err();
    assert_eq!(
        ended.code().unwrap().code(),
        "57P01",
        "nobody has proved that one"
    );
}
