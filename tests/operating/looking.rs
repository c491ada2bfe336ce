//! What is seen: endpoints with why they are as they are, sessions, wakes, refusals; and nothing that is secret.

use super::{READ, admin, endpoint, items};
use crate::harness::{
    gate::Gate,
    logs,
    postgres::{PASSWORD, SUPERUSER},
    tls_client,
    wait::until,
};

#[tokio::test]
async fn an_endpoint_says_what_it_waits_for_and_why_it_is_awake() {
    const ENDPOINT: &str = "ops-states";
    let setup = admin();
    let mut gate = Gate::new(setup.path());
    gate.close();
    let gateway = setup
        .gated(ENDPOINT, &gate, "suspend_after = \"1s\"")
        .start()
        .await;
    let http = gateway.http(READ);
    let asleep = endpoint(&http, ENDPOINT).await;
    assert_eq!(
        (&asleep["state"], &asleep["why"]),
        (&"asleep".into(), &"nobody needs it".into())
    );

    let mut first = gateway.raw_proved(ENDPOINT).await;
    let mut second = gateway.raw_proved(ENDPOINT).await;
    until("both to be held", async || {
        endpoint(&http, ENDPOINT).await["held"] == 2
    })
    .await;
    let waking = endpoint(&http, ENDPOINT).await;
    assert_eq!(waking["state"], "waking");
    assert_eq!(waking["why"], "2 clients are held for it");
    assert_eq!(
        (&waking["waiting"], &waking["coalesced_wakes"]),
        (&2.into(), &1.into())
    );

    gate.open();
    first.until(b'Z').await;
    second.until(b'Z').await;
    until("both to be idle", async || {
        endpoint(&http, ENDPOINT).await["idle"] == 2
    })
    .await;
    let awake = endpoint(&http, ENDPOINT).await;
    assert_eq!(awake["state"], "awake");
    let wake = &awake["wakes"][0];
    assert_eq!(
        (&wake["state"], &wake["held"]),
        (&"ready".into(), &2.into()),
        "{wake}"
    );
    assert_eq!(wake["sessions"].as_array().unwrap().len(), 2);

    drop((first, second));
    until("it to sleep again", async || {
        endpoint(&http, ENDPOINT).await["state"] == "asleep"
    })
    .await;
    let again = endpoint(&http, ENDPOINT).await;
    assert!(again["awake_ms"].as_u64().unwrap() > 0, "{again}");
    assert_eq!(again["sessions"], 0);
}

#[tokio::test]
async fn one_id_leads_from_a_clients_error_to_its_cause() {
    const ENDPOINT: &str = "ops-incident";
    let nobody = format!(
        "[tenants.acme.endpoints.{ENDPOINT}]\n\
         compute = {{ kind = \"fixed\", address = \"/nowhere/.s.PGSQL.5432\" }}\n\
         roles.{SUPERUSER} = {{ verifier = \"{}\", server_password = \"x\" }}\n",
        super::verifier()
    );
    let gateway = admin().tenants(&nobody).start().await;
    let mut client = gateway.raw_proved(ENDPOINT).await;
    let told = client.message().await.fields();
    let detail = told.get(&'D').cloned().unwrap_or_default();
    let id: String = detail
        .split("session ")
        .nth(1)
        .unwrap_or_else(|| panic!("{told:?}"))
        .chars()
        .take(16)
        .collect();

    let http = gateway.http(READ);
    let mut found = Vec::new();
    until("the refusal to be listed", async || {
        found = items(&http, &format!("/api/v1/refusals?session={id}")).await;
        !found.is_empty()
    })
    .await;

    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["sqlstate"], told[&'C']);
    assert_eq!(found[0]["endpoint"], ENDPOINT);
    let access = logs::access_lines(ENDPOINT, 1).await;
    assert_eq!(access[0].field("session"), id);
}

#[tokio::test]
async fn sessions_show_who_is_here_and_what_he_does_and_wakes_who_waited() {
    const ENDPOINT: &str = "ops-sessions";
    let gateway = admin().listed(ENDPOINT, "").start().await;
    let http = gateway.http(READ);
    let mut config = gateway.config(&format!("{ENDPOINT}-pooler"));
    config.application_name("ops app");
    let client = tls_client::connect(&config, &gateway.authority).await.unwrap();
    let path = format!("/api/v1/sessions?endpoint={ENDPOINT}&application=ops+app");
    until("it to be parked", async || {
        items(&http, &path).await[0]["state"] == "parked"
    })
    .await;
    let parked = &items(&http, &path).await[0];
    assert_eq!(
        (&parked["pooling"], &parked["tls"]),
        (&"transaction".into(), &"TLSv1.3".into())
    );
    let wakes = items(&http, &format!("/api/v1/wakes?endpoint={ENDPOINT}")).await;
    assert_eq!(wakes[0]["sessions"][0]["session"], parked["session"]);

    client.batch_execute("begin; select 1").await.unwrap();
    assert_eq!(items(&http, &path).await[0]["state"], "active");
    client.batch_execute("commit; listen ops_pins").await.unwrap();
    // Whether it is pinned is asked after the client has its answer.
    until("it to be pinned", async || {
        items(&http, &path).await[0]["pins"] == serde_json::json!(["listen"])
    })
    .await;
    // Its transactions were one without an end, and nothing of them was counted before that.
    let statements = || async { items(&http, &path).await[0]["queries"].as_u64().unwrap() };
    let before = statements().await;
    for _ in 0..5 {
        client.batch_execute("select 1").await.unwrap();
    }
    until("its statements to be counted, and it to be idle", async || {
        items(&http, &path).await[0]["state"] == "idle" && statements().await == before + 5
    })
    .await;
    let shown = &items(&http, &format!("/api/v1/endpoints?endpoint={ENDPOINT}")).await[0];
    let why = "one idle session keeps it awake, 1 of them pinned: listen by application \"ops app\"";
    assert_eq!(shown["why"], why, "{shown}");
    client.batch_execute("unlisten *").await.unwrap();
    until("it to be parked again", async || {
        items(&http, &path).await[0]["state"] == "parked"
    })
    .await;
    let back = &items(&http, &path).await[0];
    assert_eq!(back["pins"], serde_json::json!([]));
    assert!(back["bytes_in"].as_u64() > parked["bytes_in"].as_u64(), "{back}");

    drop(client);
    until("it to have left", async || items(&http, &path).await.is_empty()).await;
}

#[tokio::test]
async fn no_answer_has_a_secret_or_the_text_of_a_statement() {
    const ENDPOINT: &str = "ops-secrets";
    let gateway = admin().listed(ENDPOINT, "").start().await;
    let http = gateway.http(READ);
    let client = gateway.connect(ENDPOINT).await;
    client
        .batch_execute("select 'ops-secret-statement'")
        .await
        .unwrap();
    // The server's last words repeat what the client has said.
    let ended = "do $$ begin raise exception 'ops-secret-words' using errcode = '57P01'; end $$";
    drop(client.batch_execute(ended).await);
    let fatal =
        "set session_preload_libraries = 'ops-secret-library'; select pg_terminate_backend(pg_backend_pid())";
    drop(client.batch_execute(fatal).await);
    for path in [
        "endpoints",
        "endpoints/ops-secrets",
        "tenants",
        "pools",
        "sessions",
        "wakes",
        "refusals",
        "config",
        "version",
    ] {
        let body = http.get(&format!("/api/v1/{path}")).await.body;
        for secret in ["ops-secret-", PASSWORD, READ, super::OPERATE, "SCRAM-SHA-256$"] {
            assert!(!body.contains(secret), "{path} has {secret}: {body}");
        }
    }
    let metrics = http.get("/metrics").await.body;
    assert!(!metrics.contains("ops-secret"), "{metrics}");
}

#[tokio::test]
async fn the_dashboard_is_one_page_that_asks_nobody_else_for_anything() {
    let gateway = admin().listed("ops-page", "").start().await;
    let page = gateway.http(None).get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"));
    assert!(page.body.contains("pgwake"));
    for outside in ["http://", "https://", "//cdn", "@import", "src=", "<link"] {
        assert!(
            !page
                .body
                .replace("http://www.w3.org/2000/svg", "")
                .contains(outside),
            "{outside}"
        );
    }
}

#[tokio::test]
async fn limits_are_shown_with_what_is_used_of_them() {
    const ENDPOINT: &str = "ops-quotas";
    let limits = "limits = { per_tenant = { clients_max = 7, operator_reserve = 2, connects = \"60/h\" }, \
                  per_role = { transactions = \"10/h\" } }";
    let gateway = admin()
        .listed(ENDPOINT, "")
        .tenants(&format!("[tenants.acme]\n{limits}"))
        .start()
        .await;
    let http = gateway.http(READ);
    let quota = async |key: &str| {
        let found = items(&http, &format!("/api/v1/quotas?quota={key}")).await;
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        found[0].clone()
    };
    // Nobody has come: what is limited is shown all the same.
    assert_eq!(quota("tenant/acme/clients_max").await["used"], 0);

    let client = gateway.connect(ENDPOINT).await;
    client.batch_execute("select 1").await.unwrap();

    let clients = quota("tenant/acme/clients_max").await;
    assert_eq!(
        (&clients["used"], &clients["max"], &clients["reserved"]),
        (&1.into(), &7.into(), &2.into())
    );
    let connects = quota("tenant/acme/connects").await;
    assert_eq!(
        (&connects["used"], &connects["max"], &connects["per_ms"]),
        (&1.into(), &60.into(), &3_600_000.into())
    );
    let transactions = quota(&format!("role/{ENDPOINT}/postgres/transactions")).await;
    assert_eq!(
        (&transactions["tenant"], &transactions["max"]),
        (&"acme".into(), &10.into())
    );
    until("the transaction to be charged", async || {
        quota(&format!("role/{ENDPOINT}/postgres/transactions")).await["used"] == 1
    })
    .await;
    let process = items(&http, "/api/v1/quotas?scope=process").await;
    assert_eq!(process[0]["quota"], "process/clients_max");
    drop(client);
    until("the place to be free", async || {
        quota("tenant/acme/clients_max").await["used"] == 0
    })
    .await;
}
