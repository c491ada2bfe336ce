//! Roles that come from the endpoint's own Postgres.

use tokio_postgres::Config;

use crate::harness::{
    gateway::{Gateway, Setup},
    logs, tls_client,
    wait::until,
};

/// The SQLSTATE of a login as this role; `None`: it was let in.
async fn refusal(gateway: &Gateway, endpoint: &str, role: &str) -> Option<String> {
    let mut config: Config = gateway.config(endpoint);
    config.user(role).password("secret");
    let error = tls_client::connect(&config, &gateway.authority).await.err()?;
    Some(error.code().unwrap().code().to_owned())
}

#[tokio::test]
async fn a_change_that_no_tag_shows_is_known_soon_after_the_first_login_that_fails() {
    let gateway = Setup::new().process("roles-unseen", "").start().await;
    let superuser = gateway.connect("roles-unseen").await;
    let sql = "create function pg_temp.change() returns void language sql \
               as $$ create role unseen login password 'secret' $$";
    superuser.batch_execute(sql).await.unwrap();

    superuser.batch_execute("select pg_temp.change()").await.unwrap();

    let first = refusal(&gateway, "roles-unseen", "unseen").await;
    assert_eq!(first.as_deref(), Some("28P01"));
    until("the role to be known", async || {
        refusal(&gateway, "roles-unseen", "unseen").await.is_none()
    })
    .await;
    drop(superuser);
    gateway.server.stop().await;
}

/// Ordinary roles may set their own passwords, in any form: one made all others send theirs in clear.
#[tokio::test]
async fn what_a_role_does_to_its_own_password_concerns_nobody_else() {
    let gateway = Setup::new().process("roles-own", "").start().await;
    let superuser = gateway.connect("roles-own").await;
    let salt = "A".repeat(800);
    let key = format!("{}=", "A".repeat(43));
    let sql = format!(
        "create role long login password 'SCRAM-SHA-256$4096:{salt}${key}:{key}'; \
         create role rogue login password 'md50123456789abcdef0123456789abcdef'; \
         create role app login password 'secret'"
    );
    superuser.batch_execute(&sql).await.unwrap();

    until("the roles to be known", async || {
        refusal(&gateway, "roles-own", "app").await.is_none()
    })
    .await;
    for role in ["rogue", "long"] {
        let refused = refusal(&gateway, "roles-own", role).await;
        assert_eq!(refused.as_deref(), Some("28P01"), "{role}");
    }

    until("both refusals in the log", async || {
        let lines = logs::access("roles-own");
        let says = |role: &str, text: &str| {
            let mut lines = lines.iter().filter(|line| line.field("role") == role);
            lines.any(|line| line.field("outcome").contains(text))
        };
        says("rogue", "set login = \"password\"") && says("long", "no such role is known")
    })
    .await;
    drop(superuser);
    gateway.server.stop().await;
}
