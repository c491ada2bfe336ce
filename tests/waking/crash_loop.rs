//! A compute that ends again and again, before or soon after it takes logins: it is started less and less often, clients
//! and operators are told so, nobody beside it waits, and a success makes it forgotten.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use super::refusal;
use crate::harness::{
    gateway::{Gateway, Setup, append},
    processes,
    wait::until,
};

const OPERATE: &str = "operate-token-for-crash-loops";

/// One start at a time: who starts in vain would be in everybody's way.
fn setup() -> Setup {
    Setup::new()
        .admin(&format!("operate_tokens = [\"{OPERATE}\"]"))
        .limit("wakes_at_once_max = 1")
}

async fn shown(gateway: &Gateway, endpoint: &str) -> Value {
    let path = format!("/api/v1/endpoints/{endpoint}");
    gateway.http(OPERATE).get(&path).await.json()
}

/// Comes until the compute has been started for this time; what its DETAIL and HINT say of when the next start may be:
/// words before the time, seconds, seconds of the hint.
async fn told_by_start(gateway: &Gateway, endpoint: &str, number: u64) -> (String, f64, f64) {
    let mut told = None;
    until("it to be started again", async || {
        let before = gateway.wakes(endpoint);
        let fields = refusal(&mut gateway.raw_proved(endpoint).await).await;
        told = (before + 1 == number && gateway.wakes(endpoint) == number).then_some(fields);
        told.is_some()
    })
    .await;
    let told = told.unwrap();
    let (words, seconds) = told[&'D'].rsplit_once(" not started again for ").unwrap();
    // Behind it stands which session it was.
    let seconds = seconds.split_once(" s").unwrap().0.parse().unwrap();
    let hint = told[&'H'].strip_prefix("try again in ").unwrap();
    let (hint, rest) = hint.split_once(" s; ").unwrap();
    assert!(
        rest.starts_with("the operator's log says more under this wake"),
        "{told:?}"
    );
    (words.to_owned(), seconds, hint.parse().unwrap())
}

/// By an order, as soon as that can be obeyed.
async fn is_suspended(gateway: &Gateway, endpoint: &str) {
    until("it to sleep", async || {
        gateway
            .http(OPERATE)
            .post(&format!("/api/v1/endpoints/{endpoint}/suspend"))
            .await;
        shown(gateway, endpoint).await["state"] == "asleep"
    })
    .await;
}

async fn served(gateway: &Gateway, endpoint: &str) {
    let client = gateway.connect(endpoint).await;
    client.query_one("select 1", &[]).await.unwrap();
}

#[tokio::test]
async fn a_compute_that_never_comes_up_is_started_less_often_and_forgiven_at_its_first_success() {
    const ENDPOINT: &str = "loop-start";
    const BESIDE: &str = "loop-start-beside";
    let gateway = setup().listed(ENDPOINT, "").listed(BESIDE, "").start().await;
    let settings = gateway.data_dir(ENDPOINT).join("postgresql.conf");
    let good = fs::read(&settings).unwrap();
    let broken = "shared_preload_libraries = 'a_library_that_is_not_there'";
    append(&settings, broken);
    let why = "postgres ended with exit status 1 before it took logins";

    let (words, mut before, _) = told_by_start(&gateway, ENDPOINT, 1).await;
    assert!(words.starts_with(why) && words.ends_with(");"), "{words}");
    for failures in 2..=3 {
        let (words, seconds, hint) = told_by_start(&gateway, ENDPOINT, failures).await;
        assert!(
            words.ends_with(&format!("; after {failures} failures in a row")),
            "{words}"
        );
        assert!(
            seconds > before && hint >= seconds,
            "{before} s, then {seconds} s, hint {hint} s"
        );
        before = seconds;
        if failures == 2 {
            served(&gateway, BESIDE).await;
        }
    }
    let shows = shown(&gateway, ENDPOINT).await;
    assert_eq!(
        (&shows["state"], &shows["failures_in_a_row"]),
        (&"failed".into(), &3.into()),
        "{shows}"
    );
    assert_eq!(shows["failure"], why);
    assert!(shows["retry_in_ms"].as_u64().is_some(), "{shows}");
    let metrics = gateway.http(OPERATE).get("/metrics").await.body;
    for count in ["{result=\"failed\"} 3", "{result=\"ready\"} 1"] {
        assert!(
            metrics.contains(&format!("pgwake_wakes_total{count}\n")),
            "{metrics}"
        );
    }

    fs::write(&settings, good).unwrap();
    gateway.connect_again(ENDPOINT).await;
    let shows = shown(&gateway, ENDPOINT).await;
    assert_eq!(
        (&shows["failure"], &shows["failures_in_a_row"]),
        (&Value::Null, &0.into()),
        "{shows}"
    );
    append(&settings, broken);
    is_suspended(&gateway, ENDPOINT).await;
    let again = gateway.wakes(ENDPOINT) + 1;
    let (words, ..) = told_by_start(&gateway, ENDPOINT, again).await;
    assert!(!words.contains("in a row"), "it counts from the start: {words}");
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_compute_that_ends_soon_after_each_wake_is_started_less_often_until_it_has_been_suspended() {
    const ENDPOINT: &str = "loop-lives";
    const BESIDE: &str = "loop-lives-beside";
    let gateway = setup().listed(ENDPOINT, "").listed(BESIDE, "").start().await;
    let dies = async || {
        served(&gateway, ENDPOINT).await;
        let data_dir = gateway.data_dir(ENDPOINT);
        processes::signal(processes::postmaster(&data_dir), Signal::KILL);
        until("its end to be noticed", async || !gateway.is_awake(ENDPOINT)).await;
        gateway.asleep(ENDPOINT).await;
    };
    // Anybody may kill a server once or twice.
    for _ in 0..3 {
        dies().await;
    }

    let told = refusal(&mut gateway.raw_proved(ENDPOINT).await).await;

    let why = "it ended soon after its last 3 starts: postgres was ended by signal 9 (SIGKILL)";
    assert!(told[&'D'].starts_with(&format!("{why} (wake ")), "{told:?}");
    assert!(told[&'D'].contains("); not started again for 0."), "{told:?}");
    assert_eq!(gateway.wakes(ENDPOINT), 3);
    served(&gateway, BESIDE).await;
    let shows = shown(&gateway, ENDPOINT).await;
    assert_eq!(
        (&shows["failure"], &shows["failures_in_a_row"]),
        (&why.into(), &1.into()),
        "{shows}"
    );
    gateway.connect_again(ENDPOINT).await;
    dies().await;
    let told = refusal(&mut gateway.raw_proved(ENDPOINT).await).await;
    assert!(told[&'D'].contains("its last 4 starts: "), "{told:?}");
    assert!(
        told[&'D'].contains("); after 2 failures in a row not started again for "),
        "{told:?}"
    );

    gateway.connect_again(ENDPOINT).await;
    is_suspended(&gateway, ENDPOINT).await;
    dies().await;
    served(&gateway, ENDPOINT).await;
    assert_eq!(shown(&gateway, ENDPOINT).await["failures_in_a_row"], 0);
    gateway.server.stop().await;
}
