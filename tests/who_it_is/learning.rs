//! `roles_from = "postgres"` while the compute sleeps: learnt once, remembered, read again before it sleeps.

use super::{log_in, refused, verifier};
use crate::harness::{
    gateway::Setup,
    logs,
    postgres::{PASSWORD, SUPERUSER},
};

#[tokio::test]
async fn a_role_made_just_before_a_suspend_wakes_the_compute() {
    let gateway = Setup::new()
        .process("lrn-suspend", "suspend_after = \"1s\"")
        .start()
        .await;
    let admin = gateway.connect("lrn-suspend").await;
    // Behind a tag that says nothing of roles.
    let sql = "create function make() returns void language sql as
        'create role late login password ''pw'''; select make()";
    admin.batch_execute(sql).await.unwrap();
    drop(admin);
    gateway.asleep("lrn-suspend").await;
    let wakes = gateway.wakes("lrn-suspend");

    log_in(&gateway, "lrn-suspend", "late", "pw").await.unwrap();
    assert_eq!(gateway.wakes("lrn-suspend"), wakes + 1);
}

#[tokio::test]
async fn roles_are_remembered_over_a_restart_while_the_compute_sleeps() {
    let gateway = Setup::new()
        .process("lrn-restart", "suspend_after = \"1s\"")
        .start()
        .await;
    let admin = gateway.connect("lrn-restart").await;
    admin
        .batch_execute("create role kept login password 'pw'")
        .await
        .unwrap();
    drop(admin);
    gateway.asleep("lrn-restart").await;

    let gateway = gateway.restart().await;
    let wrong = refused(&gateway, "lrn-restart", "kept", "wrong").await;
    assert_eq!(wrong.as_deref(), Some("28P01"));
    assert_eq!(gateway.wakes("lrn-restart"), 0, "it was woken to learn again");
    log_in(&gateway, "lrn-restart", "kept", "pw").await.unwrap();
    assert_eq!(gateway.wakes("lrn-restart"), 1);
}

#[tokio::test]
async fn computes_that_were_never_awake_are_started_once_one_after_another() {
    const ENDPOINTS: [&str; 3] = ["lrn-seq-one", "lrn-seq-three", "lrn-seq-two"];
    let mut setup = Setup::new();
    for endpoint in ENDPOINTS {
        setup = setup.process(endpoint, "suspend_after = \"1s\"");
    }
    let gateway = setup.start().await;
    for endpoint in ENDPOINTS {
        gateway.asleep(endpoint).await;
        assert_eq!(gateway.wakes(endpoint), 1, "{endpoint}");
    }
    let lines = logs::with_text("lrn-seq-");
    let told: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (line.field("endpoint"), line.field("message")))
        .filter(|(_, message)| ["waking once to learn its roles", "roles were read"].contains(message))
        .collect();
    let begun: Vec<_> = told
        .iter()
        .filter(|(_, what)| what.starts_with("waking"))
        .collect();
    assert_eq!(begun.len(), 3, "{told:?}");
    for endpoint in begun.windows(2) {
        let place = |wanted: &(&str, &str)| told.iter().position(|line| line == wanted).unwrap();
        let read = place(&(endpoint[0].0, "roles were read"));
        assert!(read < place(endpoint[1]), "two at once: {told:?}");
    }
    for endpoint in ENDPOINTS {
        log_in(&gateway, endpoint, SUPERUSER, PASSWORD).await.unwrap();
    }
}

#[tokio::test]
async fn a_compute_that_pgwake_makes_is_read_without_a_password() {
    let setup = Setup::new();
    let data_dir = setup.data_dir("lrn-made");
    let parent = data_dir.parent().unwrap();
    std::fs::create_dir_all(parent).unwrap();
    if let Some(account) = crate::harness::account::Account::for_postgres() {
        account.own(parent);
    }
    let gateway = setup
        .tenants(&format!(
            "[tenants.acme.endpoints.lrn-made]\n\
             roles.app.verifier = \"{}\"\n\
             roles_from = \"postgres\"\n\
             compute = {{ kind = \"process\", data_dir = \"{}\", database = \"app\" }}\n",
            verifier("first"),
            data_dir.display()
        ))
        .start()
        .await;
    // The cluster was made with the listed verifier, so its key opens the server's door.
    let mut config = gateway.config("lrn-made");
    config.user("app").password("first").dbname("app");
    let client = crate::harness::tls_client::connect(&config, &gateway.authority)
        .await
        .unwrap();
    // From here on Postgres has another one than the configuration.
    client
        .batch_execute("alter role app password 'second'")
        .await
        .unwrap();
    let error = log_in(&gateway, "lrn-made", "app", "first").await.unwrap_err();
    assert_eq!(error.code().code(), "28P01");
    assert!(error.hint().unwrap().contains("rolpassword"), "{error:?}");
    gateway.server.stop().await;
}
