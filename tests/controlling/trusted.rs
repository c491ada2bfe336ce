//! Who is believed: a control plane whose certificate is checked, and computes whose certificates are.

use serde_json::json;
use tokio_postgres::error::SqlState;

use super::{asking, number, plane::Plane, refused};
use crate::harness::{certificates::Authority, directories::Directory, logs, wait::until};

#[tokio::test]
async fn a_control_plane_is_asked_over_tls_and_only_if_it_is_the_one() {
    const ENDPOINT: &str = "cp-tls";
    const DOUBTED: &str = "cp-tls-doubted";
    let (authority, directory) = (Authority::new(), Directory::new());
    let ca = authority.write(directory.path());
    let plane = Plane::start_tls(&authority).await;
    let setup = asking(&plane, &format!("ca = \"{}\"", ca.display()));
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = setup.start().await;
    let client = gateway.connect(ENDPOINT).await;
    assert_eq!(number(&client, "select 1::bigint").await, 1);
    assert_eq!(plane.distrusted(), 0);

    // Signed by somebody else: it is shown no token.
    let elsewhere = Directory::new();
    let stranger = Authority::new().write(elsewhere.path());
    let setup = asking(&plane, &format!("ca = \"{}\"", stranger.display()));
    plane.own(&setup, DOUBTED, json!({}));
    let doubting = setup.start().await;
    let error = refused(&doubting, DOUBTED).await;
    assert_eq!(*error.code(), SqlState::INVALID_PASSWORD);
    assert_eq!(plane.asked(&format!("GET /v1/endpoints/{DOUBTED}")), 0);
    until("the handshakes to have ended", async || plane.distrusted() > 0).await;
    let lines = logs::of_endpoint(DOUBTED);
    let told = lines
        .iter()
        .any(|line| line.field("reason").contains("certificate"));
    assert!(told, "{lines:?}");
}

#[tokio::test]
async fn a_compute_is_checked_by_server_ca_before_anything_is_sent_there() {
    const CHECKED: &str = "cp-ca";
    const UNCHECKED: &str = "cp-ca-unchecked";
    const STRANGER: &str = "cp-ca-stranger";
    const PLAIN: &str = "cp-ca-plain";
    let (authority, directory) = (Authority::new(), Directory::new());
    let ca = authority.write(directory.path());
    let plane = Plane::start().await;
    let setup = asking(&plane, &format!("server_ca = \"{}\"", ca.display()));
    for endpoint in [CHECKED, STRANGER, PLAIN] {
        plane.own(&setup, endpoint, json!({}));
    }
    plane.own(&setup, UNCHECKED, json!({ "tls": "require" }));
    plane.certify(CHECKED, &authority.certify(&["localhost"]));
    for endpoint in [STRANGER, UNCHECKED] {
        plane.certify(endpoint, &Authority::new().certify(&["localhost"]));
    }
    let gateway = setup.start().await;

    for endpoint in [CHECKED, UNCHECKED] {
        let client = gateway.connect_again(endpoint).await;
        let sql = "select count(*) from pg_stat_ssl where pid = pg_backend_pid() and ssl";
        assert_eq!(number(&client, sql).await, 1, "{endpoint}");
    }
    for endpoint in [STRANGER, PLAIN] {
        let error = refused(&gateway, endpoint).await;
        assert_ne!(*error.code(), SqlState::INVALID_PASSWORD, "{endpoint}: {error:?}");
        assert!(!error.message().contains("password"), "{endpoint}: {error:?}");
    }
}
