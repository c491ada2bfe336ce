//! Clients that do not count: exporters, health checks. They neither keep a compute awake nor wake it, and lose nothing that
//! is short.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::harness::{
    beside::beside,
    gate::Gate,
    gateway::{Gateway, Setup},
    postgres::{PASSWORD, SUPERUSER},
    processes,
    raw::{PROTOCOL_3_0, Raw, startup},
    tls_client,
    wait::until,
};

const READ: &str = "read-token-for-ignored";
/// How often a monitor asks: less than `suspend_after` apart.
const EVERY: Duration = Duration::from_millis(50);

/// By what a client is ignored.
#[derive(Clone, Copy, PartialEq, Debug)]
enum By {
    Role,
    ApplicationName,
}

/// An endpoint that ignores the role `monitor` and the application `exporter`.
fn keys(more: &str) -> String {
    let verifier = postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes());
    format!(
        "roles.monitor = {{ verifier = \"{verifier}\", server_password = \"{PASSWORD}\" }}\n\
         idle_ignore = {{ roles = [\"monitor\"], application_names = [\"exporter\"] }}\n{more}"
    )
}

fn setup() -> Setup {
    Setup::new().admin(&format!("read_tokens = [\"{READ}\"]"))
}

/// It is awake by the client that is returned, and knows the role.
async fn awake(gateway: &Gateway, endpoint: &str) -> Client {
    let client = gateway.connect(endpoint).await;
    let create = format!(
        "do $$ begin if to_regrole('monitor') is null then \
         create role monitor login password $p${PASSWORD}$p$; end if; end $$"
    );
    client.batch_execute(&create).await.unwrap();
    client
}

/// A client that does not count, as far as its proof.
async fn proved(gateway: &Gateway, endpoint: &str, by: By) -> Raw {
    let (role, application) = match by {
        By::Role => ("monitor", "psql"),
        By::ApplicationName => (SUPERUSER, "exporter"),
    };
    let parameters = [
        ("user", role),
        ("database", "postgres"),
        ("application_name", application),
    ];
    let mut client = gateway.raw_to(endpoint).await;
    client.prove(&startup(PROTOCOL_3_0, &parameters), PASSWORD).await;
    client.message().await.authentication(0);
    client
}

/// One that may send statements.
async fn served(gateway: &Gateway, endpoint: &str, by: By) -> Raw {
    let mut client = proved(gateway, endpoint, by).await;
    client.until(b'Z').await;
    client
}

/// Asks again and again until it reads an error.
async fn ask_until_error(client: &mut Raw) -> BTreeMap<char, String> {
    let since = Instant::now();
    loop {
        client.query("select 1").await;
        loop {
            let message = client.message().await;
            match message.tag {
                b'E' => return message.fields(),
                b'Z' => break,
                _ => (),
            }
        }
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "it is answered for ever"
        );
        sleep(EVERY).await;
    }
}

/// It sleeps, and was woken so often.
async fn sleeps(gateway: &Gateway, endpoint: &str, wakes: u64) {
    gateway.asleep(endpoint).await;
    assert_eq!(gateway.wakes(endpoint), wakes);
}

/// What it reads who does not wake it.
fn assert_suspended(fields: &BTreeMap<char, String>, endpoint: &str, by: By) {
    let whose = match by {
        By::Role => "this role does not wake it",
        By::ApplicationName => "clients of this application_name do not wake it",
    };
    assert_eq!(fields[&'C'], "57P03", "{fields:?}");
    assert_eq!(
        fields[&'M'],
        format!("compute for endpoint \"{endpoint}\" is suspended")
    );
    assert!(fields[&'D'].contains(whose), "{fields:?}");
    assert!(fields[&'H'].contains("idle_ignore"), "{fields:?}");
}

/// A monitor with a session of its own, ignored by either of its names.
async fn keeps_nothing_awake(endpoint: &str, by: By, more: &str) {
    let keys = keys(&format!("suspend_after = \"500ms\"\n{more}"));
    let gateway = setup().listed(endpoint, &keys).start().await;
    let client = awake(&gateway, endpoint).await;
    let mut monitor = served(&gateway, endpoint, by).await;
    drop(client);

    let end = ask_until_error(&mut monitor).await;

    assert_eq!((&*end[&'S'], &*end[&'C']), ("FATAL", "57P01"), "{end:?}");
    assert!(end[&'M'].contains("is being suspended"), "{end:?}");
    assert!(end[&'H'].contains("idle_ignore"), "{end:?}");
    monitor.closed().await;
    sleeps(&gateway, endpoint, 1).await;
    let mut again = proved(&gateway, endpoint, by).await;
    assert_suspended(&again.message().await.fields(), endpoint, by);
    again.closed().await;
    sleeps(&gateway, endpoint, 1).await;

    let client = awake(&gateway, endpoint).await;
    let mut again = served(&gateway, endpoint, by).await;
    again.query("select 1").await;
    again.until(b'Z').await;
    drop(client);
    sleeps(&gateway, endpoint, 2).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn role_that_asks_all_the_time_keeps_nothing_awake_and_wakes_nothing() {
    keeps_nothing_awake("ignored-role", By::Role, "").await;
}

#[tokio::test]
async fn application_that_asks_all_the_time_keeps_nothing_awake_and_wakes_nothing() {
    keeps_nothing_awake(
        "ignored-application",
        By::ApplicationName,
        "suspend_idle_sessions = true",
    )
    .await;
}

#[tokio::test]
async fn parked_monitor_stays_while_the_compute_sleeps_and_its_statements_wake_nothing() {
    const ENDPOINT: &str = "ignored-parked";
    let keys = keys("suspend_after = \"500ms\"\npool = { mode = \"transaction\" }");
    let gateway = setup().listed(ENDPOINT, &keys).start().await;
    let client = awake(&gateway, ENDPOINT).await;
    let mut monitors = Vec::new();
    for by in [By::Role, By::ApplicationName] {
        monitors.push((served(&gateway, ENDPOINT, by).await, by));
    }
    drop(client);

    for (monitor, by) in &mut monitors {
        assert_suspended(&ask_until_error(monitor).await, ENDPOINT, *by);
        monitor.until(b'Z').await;
        sleeps(&gateway, ENDPOINT, 1).await;
        // One that comes is greeted without it.
        let mut further = served(&gateway, ENDPOINT, *by).await;
        assert_suspended(&ask_until_error(&mut further).await, ENDPOINT, *by);
        sleeps(&gateway, ENDPOINT, 1).await;
    }

    let client = gateway.connect(ENDPOINT).await;
    client.batch_execute("begin; select 1").await.unwrap();
    assert_eq!(gateway.wakes(ENDPOINT), 2);
    for (monitor, _) in &mut monitors {
        monitor.query("select 1").await;
        let answer = monitor.until(b'Z').await;
        assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
    }
    drop(client);
    sleeps(&gateway, ENDPOINT, 2).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn statement_of_a_monitor_is_waited_for_and_what_hangs_is_ended_with_the_reason() {
    const ENDPOINT: &str = "ignored-open";
    let keys = keys("suspend_after = \"300ms\"");
    let gateway = setup().listed(ENDPOINT, &keys).start().await;
    let client = awake(&gateway, ENDPOINT).await;
    let mut short = served(&gateway, ENDPOINT, By::Role).await;
    let mut hangs = served(&gateway, &format!("{ENDPOINT}-pooler"), By::ApplicationName).await;
    hangs.query("begin; create table lost (n int)").await;
    hangs.until(b'Z').await;
    short.query("select 'done' from pg_sleep(2)").await;
    let since = Instant::now();
    drop(client);

    let answer = short.until(b'Z').await;
    let end = short.message().await;
    let cut_off = hangs.message().await;

    assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
    assert_eq!(end.sqlstate(), "57P01");
    let fields = cut_off.fields();
    assert_eq!((&*fields[&'S'], &*fields[&'C']), ("FATAL", "57P01"), "{fields:?}");
    assert!(
        fields[&'D'].contains("was waited for, and is rolled back"),
        "{fields:?}"
    );
    assert!(since.elapsed() >= Duration::from_secs(5), "{:?}", since.elapsed());
    sleeps(&gateway, ENDPOINT, 1).await;
    let client = gateway.connect(ENDPOINT).await;
    let row = client
        .query_one("select to_regclass('lost') is null", &[])
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0));
    gateway.server.stop().await;
}

#[tokio::test]
async fn pinned_monitor_is_ended_at_the_suspend() {
    const ENDPOINT: &str = "ignored-pinned";
    let keys = keys("suspend_after = \"500ms\"\npool = { mode = \"transaction\" }");
    let gateway = setup().listed(ENDPOINT, &keys).start().await;
    let client = awake(&gateway, ENDPOINT).await;
    let mut monitor = served(&gateway, ENDPOINT, By::ApplicationName).await;
    monitor.query("create temp table kept (n int)").await;
    monitor.until(b'Z').await;
    drop(client);

    let end = monitor.message().await;

    assert_eq!(end.sqlstate(), "57P01");
    sleeps(&gateway, ENDPOINT, 1).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn monitor_waits_with_those_for_whom_the_compute_is_woken() {
    const ENDPOINT: &str = "ignored-joins";
    let setup = setup();
    let mut gate = Gate::new(setup.path());
    let gateway = setup
        .gated(ENDPOINT, &gate, &keys("suspend_after = \"1s\""))
        .start()
        .await;
    drop(awake(&gateway, ENDPOINT).await);
    sleeps(&gateway, ENDPOINT, 1).await;
    gate.close();
    let mut client = gateway.raw_proved(ENDPOINT).await;
    until("the wake to begin", async || gateway.wakes(ENDPOINT) == 2).await;

    let mut monitor = proved(&gateway, ENDPOINT, By::Role).await;
    until("both to be held", async || held(&gateway, ENDPOINT) == 2).await;
    assert_eq!(why(&gateway, ENDPOINT).await, "one client is held for it");
    gate.open();
    client.until(b'Z').await;
    monitor.until(b'Z').await;

    gateway.server.stop().await;
}

fn held(gateway: &Gateway, endpoint: &str) -> usize {
    let name = pgwake::ids::EndpointName::parse_any(endpoint).unwrap();
    gateway.server.house().wakes.figures(&name).unwrap().held
}

async fn why(gateway: &Gateway, endpoint: &str) -> String {
    let path = format!("/api/v1/endpoints/{endpoint}");
    let answer = gateway.http(READ).get(&path).await;
    answer.json()["why"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn monitor_is_never_why_it_is_awake_and_is_marked_where_sessions_are_listed() {
    const ENDPOINT: &str = "ignored-seen";
    let gateway = setup()
        .listed(ENDPOINT, &keys("suspend_after = \"1h\""))
        .start()
        .await;
    let client = awake(&gateway, ENDPOINT).await;
    let mut monitors = Vec::new();
    for by in [By::Role, By::ApplicationName] {
        monitors.push(served(&gateway, ENDPOINT, by).await);
    }
    monitors[0].query("begin; select 1").await;
    monitors[0].until(b'Z').await;

    let sessions = gateway.http(READ).get("/api/v1/sessions").await.json();
    let mut sessions = sessions["items"].as_array().unwrap().clone();
    let own = sessions
        .iter()
        .position(|line| line["idle_ignored"].is_null())
        .unwrap();
    let own = sessions.remove(own)["session"].as_str().unwrap().to_owned();
    until("the client to be named", async || {
        why(&gateway, ENDPOINT).await == format!("one idle session keeps it awake: session {own}")
    })
    .await;
    drop(client);
    until("nobody to be named", async || {
        why(&gateway, ENDPOINT).await == "it is suspended soon unless somebody comes"
    })
    .await;
    let mut marks: Vec<_> = sessions
        .iter()
        .map(|line| line["idle_ignored"].as_str())
        .collect();
    marks.sort_unstable();
    assert_eq!(marks, [Some("application_name"), Some("role")]);
    gateway.server.stop().await;
}

#[tokio::test]
async fn monitors_are_no_clients_where_postgres_is_asked() {
    const ENDPOINT: &str = "ignored-veto";
    let keys = keys("suspend_after = \"500ms\"\nsuspend_veto = [\"clients\"]");
    let gateway = setup().listed(ENDPOINT, &keys).start().await;
    let client = awake(&gateway, ENDPOINT).await;
    let direct = beside(&gateway, ENDPOINT, "exporter").await;
    direct.query_one("select 1", &[]).await.unwrap();
    let mut monitor = served(&gateway, ENDPOINT, By::ApplicationName).await;
    // What it calls itself later changes nothing.
    monitor
        .query("set application_name = 'other'; begin; select 1")
        .await;
    monitor.until(b'Z').await;
    drop(client);

    let end = monitor.message().await;

    assert_eq!(end.sqlstate(), "57P01");
    assert!(end.fields()[&'D'].contains("was waited for"), "{end:?}");
    sleeps(&gateway, ENDPOINT, 1).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn who_has_not_proved_who_he_is_cannot_tell_whether_a_name_is_ignored() {
    const ENDPOINT: &str = "ignored-stranger";
    let gateway = setup()
        .listed(ENDPOINT, &keys("suspend_after = \"300ms\""))
        .start()
        .await;
    for role in ["monitor", SUPERUSER, "nobody_here"] {
        let mut stranger = gateway.config(ENDPOINT);
        stranger.user(role).password("wrong").application_name("exporter");
        let refused = tls_client::connect(&stranger, &gateway.authority).await;
        let error = refused.expect_err("nobody has this password");
        assert_eq!(error.code().unwrap().code(), "28P01", "{role}");
    }
    let mut monitor = proved(&gateway, ENDPOINT, By::Role).await;
    assert_eq!(monitor.message().await.sqlstate(), "57P03");
    assert!(processes::in_directory(&gateway.data_dir(ENDPOINT)).is_empty());
    assert_eq!(gateway.wakes(ENDPOINT), 0);
    gateway.server.stop().await;
}
